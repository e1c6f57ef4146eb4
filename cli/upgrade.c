/* SPDX-License-Identifier: Apache-2.0 */
/* The plan is shown first; what is applied is that one, by its digest, or nothing. */
#include "upgrade.h"

#include "common/util.h"
#include "grace.h"
#include "plan.h"
#include "term.h"
#include "text.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/syscall.h>

#define LOOK_MS 250
#define EXIT_MS 30000

/* --- the whole crew --- */

static int stop_crew(struct client *c, const struct upgrade *u, struct cli_problem *p) {
        Crew__Envelope e = CREW__ENVELOPE__INIT;
        Crew__StopCrew request = CREW__STOP_CREW__INIT;
        const Crew__Envelope *answer = NULL;
        pid_t pid = (pid_t)client_server_pid(c);
        _cleanup_close_ int pidfd = pid > 0 ? (int)syscall(SYS_pidfd_open, pid, 0) : -1;
        struct pollfd end = {.fd = pidfd, .events = POLLIN};
        char what[96];

        request.grace_ms = u->grace_ms;
        request.reason = (char *)"crewctl up --restart";
        e.body_case = CREW__ENVELOPE__BODY_STOP_CREW;
        e.stop_crew = &request;
        snprintf(what, sizeof(what), "crew %s", client_crew(c));
        const struct grace g = {.what = what, .grace_ms = u->grace_ms, .quiet = u->json};
        if (grace_call(c, &e, &g, &answer, p) < 0 && strcmp(p->code, "closed") != 0)
                return -1;
        *p = CLI_PROBLEM_NULL;
        while (pidfd >= 0 && poll(&end, 1, EXIT_MS) < 0 && errno == EINTR)
                ;
        return UPGRADE_START;
}

static int needs_crew(const struct upgrade *u, struct cli_problem *p) {
        cli_problem_set(p, CLI_FAILED, "whole-crew",
                        "some of the changes need the whole crew to be started again: nothing was done");
        cli_problem_hint(p, "crewctl up --restart %s stops and starts it", u->file);
        return -1;
}

/* --- the application --- */

static void show_wait(struct term *t, const struct upgrade *u, uint64_t started_ns) {
        uint64_t now = crew_now_ns();
        char line[160], passed[TEXT_WORD];

        if (!t->moves || u->json)
                return;
        text_duration_short((now - started_ns) / 1000000u * 1000000u, passed);
        snprintf(line, sizeof(line), "applying it to crew %s: %s", u->crew, passed);
        term_live_clear(t);
        term_live_line(t, TERM_YELLOW, term_spinner(t, now), line);
        fflush(t->out);
}

/* However long agents take to end and to come up: crewd bounds each step, and its end is seen. */
static int await(struct client *c, uint64_t seq, const struct upgrade *u, const Crew__CrewApplied **out,
                 struct cli_problem *p) {
        uint64_t started = crew_now_ns();
        const Crew__Envelope *e = NULL;
        struct term t;
        int r;

        term_init(&t, stdout);
        while ((r = client_next(c, LOOK_MS, &e, p)) >= 0) {
                show_wait(&t, u, started);
                if (r == 0 || e->corr != seq || e->body_case == CREW__ENVELOPE__BODY_EVENT)
                        continue;
                break;
        }
        term_live_clear(&t);
        if (r < 0)
                return -1;
        if (e->body_case == CREW__ENVELOPE__BODY_REFUSED)
                return client_refused(e->refused, p);
        if (e->body_case != CREW__ENVELOPE__BODY_CREW_APPLIED)
                return cli_problem_set(p, CLI_INTERNAL, "protocol", "crewd answered something else than was asked");
        *out = e->crew_applied;
        return 0;
}

static int apply(struct client *c, const struct upgrade *u, const char *digest, const Crew__CrewApplied **out,
                 struct cli_problem *p) {
        Crew__Envelope e = CREW__ENVELOPE__INIT;
        Crew__ApplyCrew body = CREW__APPLY_CREW__INIT;
        uint64_t seq = 0;

        body.file = (char *)u->file;
        body.plan = (char *)digest;
        body.grace_ms = u->grace_ms;
        body.locked = u->locked;
        e.body_case = CREW__ENVELOPE__BODY_APPLY_CREW;
        e.apply_crew = &body;
        return client_send(c, &e, &seq, p) < 0 ? -1 : await(c, seq, u, out, p);
}

/* --- showing --- */

static const struct {
        const char *name;
        int status;
} outcomes[] = {
        [CREW__APPLY_OUTCOME__APPLY_OUTCOME_UNSET] = {"unknown", CLI_INTERNAL},
        [CREW__APPLY_OUTCOME__APPLY_NOTHING] = {"unchanged", CLI_OK},
        [CREW__APPLY_OUTCOME__APPLY_DONE] = {"applied", CLI_OK},
        [CREW__APPLY_OUTCOME__APPLY_UNDONE] = {"undone", CLI_FAILED},
        [CREW__APPLY_OUTCOME__APPLY_INVALID] = {"invalid", CLI_USAGE},
};

static json_t *applied_json(const struct upgrade *u, const Crew__CrewApplied *a, size_t outcome) {
        json_t *agents = json_array();

        for (size_t i = 0; i < a->n_agents; i++) {
                const Crew__AgentApplied *x = a->agents[i];
                json_array_append_new(agents,
                                      json_pack("{s:o, s:s, s:b, s:s, s:s, s:o}", "agent", jsonout_text(x->agent), "effect",
                                                plan_effect_name(x->effect), "applied", (int)x->applied, "old_sha256",
                                                x->old_sha256, "sha256", x->new_sha256, "error", jsonout_text(x->error)));
        }
        return json_pack("{s:s, s:o, s:s, s:o, s:s, s:o, s:o, s:I}", "crew", u->crew, "file", jsonout_text(a->file),
                         "outcome", outcomes[outcome].name, "error", jsonout_text(a->error), "digest", a->digest, "agents",
                         agents, "problems", plan_problems_json(a->problems, a->n_problems), "duration_us",
                         (json_int_t)a->duration_us);
}

static int show_undone(const Crew__CrewApplied *a, struct cli_problem *p) {
        size_t n = 0;

        for (size_t i = 0; i < a->n_agents; i++) {
                if (!*a->agents[i]->error)
                        continue;
                fprintf(stderr, "crewctl: taking it back: %s\n", a->agents[i]->error);
                n++;
        }
        if (n == 0)
                return cli_problem_set(p, CLI_FAILED, "undone", "%s: everything is as it was", a->error);
        cli_problem_set(p, CLI_FAILED, "undone", "%s: taken back, but %zu agent%s not as before", a->error, n,
                        n == 1 ? " is" : "s are");
        cli_problem_hint(p, "crewctl status; crewctl logs --agent AGENT");
        return -1;
}

static int show(const struct upgrade *u, const Crew__CrewApplied *a, struct cli_problem *p) {
        size_t outcome = (size_t)a->outcome < ELEMENTSOF(outcomes) ? (size_t)a->outcome : 0, n = 0;
        char took[TEXT_WORD];

        if (u->json) {
                jsonout_print(applied_json(u, a, outcome));
                return outcomes[outcome].status;
        }
        plan_print_problems(a->problems, a->n_problems);
        if (a->outcome == CREW__APPLY_OUTCOME__APPLY_INVALID)
                return cli_problem_set(p, CLI_USAGE, "bad-file", "%s does not check: nothing was done", a->file);
        if (a->outcome == CREW__APPLY_OUTCOME__APPLY_UNDONE)
                return show_undone(a, p);
        if (a->outcome == CREW__APPLY_OUTCOME__APPLY_NOTHING) {
                printf("crew %s is as the file says: nothing to do\n", u->crew);
                return CLI_OK;
        }
        for (size_t i = 0; i < a->n_agents; i++)
                n += a->agents[i]->applied;
        printf("applied to crew %s in %s: %zu agent%s changed, %zu as before\n", u->crew,
               text_duration(a->duration_us * 1000u, took), n, n == 1 ? "" : "s", a->n_agents - n);
        return CLI_OK;
}

/* What is said when there is no need to ask for anything; -1: go on. */
static int show_plan(const struct client *c, const struct upgrade *u, const Crew__CrewPlan *plan) {
        bool same = plan->effect == CREW__PLAN_EFFECT__PLAN_UNCHANGED;

        if (u->json && (u->dry_run || !plan->ok))
                jsonout_print(plan_json(plan, client_crew(c)));
        if (!u->json)
                plan_print_problems(plan->problems, plan->n_problems);
        if (!plan->ok)
                return u->json ? CLI_USAGE
                               : cli_fail(false, CLI_USAGE, "bad-file", "%s does not check: nothing was done", plan->file);
        if (!u->json)
                plan_print(plan, client_crew(c), u->dry_run);
        return u->dry_run ? (same ? CLI_OK : CLI_CHANGES) : -1;
}

int upgrade(const struct upgrade *u, struct former *former, struct cli_problem *p) {
        _cleanup_client_ struct client *c = NULL;
        const Crew__CrewPlan *plan = NULL;
        const Crew__CrewApplied *applied = NULL;
        char digest[65];

        if (client_open(u->crew, &c, p) < 0 || plan_ask(c, u->file, u->locked, &plan, p) < 0)
                return -1;
        int status = show_plan(c, u, plan);
        if (status >= 0)
                return status;
        bool whole = plan->effect == CREW__PLAN_EFFECT__PLAN_CREW;
        snprintf(digest, sizeof(digest), "%s", u->plan ? u->plan : plan->digest);
        if (whole && strcmp(digest, plan->digest) == 0)
                return !u->restart ? needs_crew(u, p) : former_look(c, former, p) < 0 ? -1 : stop_crew(c, u, p);
        if (apply(c, u, digest, &applied, p) < 0)
                return -1;
        crew_assert(applied);
        return show(u, applied, p);
}
