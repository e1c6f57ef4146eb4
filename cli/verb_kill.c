/* SPDX-License-Identifier: Apache-2.0 */
/*
 * crewctl kill: ends agents, whole trees, and shows how the others are; or freezes them, or looks at them first.
 *
 * With --snapshot every agent meant is frozen before the first byte of it is written, and none is killed before the archive
 * is on disk: if that fails, or a signal ends it, they stay frozen, and that is said.
 */
#include "cli.h"

#include "client.h"
#include "common/util.h"
#include "held.h"
#include "interrupt.h"
#include "jsonout.h"
#include "kill_frozen.h"
#include "term.h"

#include <errno.h>
#include <string.h>

#define KILL_MS 60000

static const struct cli_option options[] = {
        {"agent", 'a', CLI_STRING, offsetof(struct kill_options, agent), "AGENT", "the agent to end", CLI_COMPLETE_AGENT},
        {"all-of-role", 0, CLI_STRING, offsetof(struct kill_options, role), "ROLE",
         "every agent with that role or policy file", CLI_COMPLETE_NONE},
        {"task", 0, CLI_STRING, offsetof(struct kill_options, task), "ID", "whichever agent works on that task now",
         CLI_COMPLETE_TASK},
        {"freeze", 0, CLI_FLAG, offsetof(struct kill_options, freeze), NULL,
         "stop it without killing; crewctl thaw lets it go on", CLI_COMPLETE_NONE},
        {"snapshot", 0, CLI_STRING, offsetof(struct kill_options, snapshot), "FILE.tar",
         "first write what there is to see of it", CLI_COMPLETE_FILE},
        {"reason", 'r', CLI_STRING, offsetof(struct kill_options, reason), "TEXT", "why; goes into the audit and to hooks",
         CLI_COMPLETE_NONE},
        CLI_OPTION_CREW(struct kill_options),
        CLI_OPTION_JSON(struct kill_options),
};

static const char *reason_of(const struct kill_options *o) {
        return o->reason ? o->reason : "";
}

/* --- who --- */

static int choose(struct kill_doing *d, struct cli_problem *p) {
        if (d->o->role)
                return agents_of_role(d->c, d->o->role, &d->names, p);
        if (!d->o->agent)
                return 0;
        if (strlen(d->o->agent) >= KILL_NAME_MAX)
                return cli_problem_set(p, CLI_ABSENT, "unknown-agent", "no agent '%.80s' in crew %s", d->o->agent,
                                       client_crew(d->c));
        return kill_note_name(&d->names, d->o->agent, p);
}

/* --- killing --- */

static int ask_to_kill(struct kill_doing *d, const char *agent, const char *task, uint64_t *seq, struct cli_problem *p) {
        Crew__Envelope e = CREW__ENVELOPE__INIT;
        Crew__KillAgent request = CREW__KILL_AGENT__INIT;

        request.agent = (char *)agent;
        request.task = (char *)task;
        request.reason = (char *)reason_of(d->o);
        e.body_case = CREW__ENVELOPE__BODY_KILL_AGENT;
        e.kill_agent = &request;
        return client_send(d->c, &e, seq, p);
}

static int take_answer(struct kill_doing *d, const Crew__Envelope *answer, bool last, struct cli_problem *p) {
        if (answer->body_case == CREW__ENVELOPE__BODY_REFUSED)
                return client_refused(answer->refused, p);
        if (answer->body_case != CREW__ENVELOPE__BODY_KILLED || !answer->killed->terminated)
                return cli_problem_set(p, CLI_INTERNAL, "protocol", "crewd did not say what became of the agent");
        d->n_killed++;
        if (d->o->json)
                json_array_append_new(d->killed, killed_json(answer->killed));
        else
                killed_print(&d->t, answer->killed, "terminated", last && !d->o->role);
        return 0;
}

/* Of several each answer leaves out one that is killed: so everybody is asked for when all are dead. */
static int show_crew(struct kill_doing *d, struct cli_problem *p) {
        const Crew__Status *status = NULL;

        if (d->o->json || !d->o->role)
                return 0;
        if (client_status(d->c, &status, p) < 0)
                return -1;
        killed_print_crew(&d->t, status->agents, status->n_agents);
        return 0;
}

/* Who the request of that number, from the first on, was about. */
static const char *answer_agent(const struct kill_doing *d, uint64_t i) {
        return i < d->names.n ? d->names.items[i].name : "";
}

static int ask_for_all(struct kill_doing *d, size_t n, uint64_t *first, uint64_t *last, struct cli_problem *p) {
        for (size_t i = 0; i < n; i++) {
                const char *agent = d->names.n ? d->names.items[i].name : "", *task = d->names.n ? "" : d->o->task;
                if (ask_to_kill(d, agent, task, last, p) < 0)
                        return -1;
                *first = *first ? *first : *last;
        }
        return 0;
}

/* The next answer to one of ours, within the time. */
static int next_answer(struct kill_doing *d, uint64_t until, uint64_t first, uint64_t last, const Crew__Envelope **answer,
                       struct cli_problem *p) {
        for (;;) {
                uint64_t now = crew_now_ns();
                int r = client_next(d->c, now < until ? (int)((until - now) / 1000000u) : 0, answer, p);
                if (r < 0)
                        return r;
                if (r == 0)
                        return cli_problem_set(p, CLI_FAILED, "timeout", "crewd of crew %s does not answer",
                                               client_crew(d->c));
                if ((*answer)->corr >= first && (*answer)->corr <= last &&
                    (*answer)->body_case != CREW__ENVELOPE__BODY_EVENT)
                        return 0;
        }
}

/* All are asked for at once and die at the same time; of those that cannot be killed the first is the problem told.  One of
 * a role that has ended by itself meanwhile is none, unless all have. */
static int kill_all(struct kill_doing *d, struct cli_problem *p) {
        size_t n = MAX_OF(d->names.n, (size_t)1);
        uint64_t until = crew_now_ns() + KILL_MS * 1000000ull, first = 0, last = 0;
        struct cli_problem ended = CLI_PROBLEM_NULL;
        int result = ask_for_all(d, n, &first, &last, p);

        interrupt_unwatch();
        if (result < 0)
                return -1;
        for (size_t left = n; left > 0; left--) {
                const Crew__Envelope *answer = NULL;
                struct cli_problem problem = CLI_PROBLEM_NULL;
                if (next_answer(d, until, first, last, &answer, p) < 0)
                        return -1;
                if (take_answer(d, answer, left == 1, &problem) == 0)
                        continue;
                if (d->o->role && problem.status == CLI_ABSENT) {
                        kill_pass_over(d, answer_agent(d, answer->corr - first), problem.text);
                        ended = problem;
                } else if (result == 0) {
                        *p = problem;
                        result = -1;
                }
        }
        if (result < 0 || d->n_killed > 0)
                return result;
        *p = ended;
        return -1;
}

/* --- all of it --- */

static int carry_out(struct kill_doing *d, struct cli_problem *p) {
        bool freezes = d->o->freeze || d->o->snapshot;

        if (choose(d, p) < 0 || kill_prepare(d, p) < 0)
                return -1;
        if (freezes)
                interrupt_watch();
        if ((freezes && kill_freeze(d, p) < 0) || (d->o->snapshot && kill_write_down(d, p) < 0))
                return -1;
        if (d->o->freeze)
                return 0;
        return kill_all(d, p) < 0 ? -1 : show_crew(d, p);
}

/* One agent killed is one object, as it always was; everything else is lists. */
static void print_json(struct kill_doing *d) {
        bool one = !d->o->freeze && !d->o->role && json_array_size(d->killed) == 1;
        json_t *o = one ? json_incref(json_array_get(d->killed, 0)) : json_object();

        if (!one && !d->o->freeze)
                json_object_set(o, "killed", d->killed);
        if (d->o->freeze)
                json_object_set(o, "frozen", d->frozen);
        if (d->o->role)
                json_object_set(o, "passed_over", d->passed);
        if (d->o->snapshot && d->snapshot.bytes)
                json_object_set_new(o, "snapshot",
                                    json_pack("{s:o, s:I, s:I, s:I}", "file", jsonout_text(d->o->snapshot), "bytes",
                                              (json_int_t)d->snapshot.bytes, "processes", (json_int_t)d->snapshot.processes,
                                              "left_out", (json_int_t)d->snapshot.left_out));
        jsonout_print(o);
}

static bool usage_ok(const struct kill_options *o, int *status) {
        int ways = (o->agent != NULL) + (o->role != NULL) + (o->task != NULL);

        if (ways == 1 && *(o->agent ? o->agent : o->role ? o->role : o->task) && (!o->snapshot || *o->snapshot))
                return true;
        if (ways > 1)
                *status = cli_fail(o->json, CLI_USAGE, "usage", "--agent, --all-of-role and --task exclude each other");
        else if (ways == 0)
                *status = cli_fail(o->json, CLI_USAGE, "usage", "which agent? crewctl kill --agent AGENT");
        else
                *status = cli_fail(o->json, CLI_USAGE, "usage", "an empty name");
        return false;
}

/* Its crewd is gone: the spawner ends it, and the next crewd puts that on record. */
static bool kill_held(const struct kill_options *o, int *status) {
        struct cli_problem p = CLI_PROBLEM_NULL;
        struct crew_paths paths;
        struct held_state s;
        char crew[CREW_NAME_MAX];

        if (!o->agent || o->freeze || o->snapshot || crew_paths_init(&paths, NULL) < 0 ||
            !held_choose(&paths, o->crew, crew, &s))
                return false;
        int n = held_end(&paths, crew, o->agent, o->reason);
        if (n > 0) {
                *status = CLI_OK;
                if (o->json)
                        jsonout_print(json_pack("{s:s, s:s, s:b}", "crew", crew, "agent", o->agent, "held", 1));
                else
                        printf("Agent %s terminated. Sandbox destroyed. (The crewd of crew %s is gone.)\n", o->agent, crew);
                return true;
        }
        if (n == 0)
                cli_problem_set(&p, CLI_ABSENT, "unknown-agent", "no agent '%.80s' of crew %s is held", o->agent, crew);
        else if (n == -EBUSY)
                cli_problem_set(&p, CLI_FAILED, "busy",
                                "agent %.80s was killed, and crew %s has a crewd again: see crewctl status", o->agent,
                                crew);
        else if (n == -ETIMEDOUT)
                cli_problem_set(&p, CLI_FAILED, "timeout", "agent %.80s was killed, and something of it has not ended yet",
                                o->agent);
        else
                cli_problem_set(&p, CLI_FAILED, "held", "agent %.80s is held and cannot be ended: %s", o->agent,
                                strerror(-n));
        *status = cli_report(&p, o->json);
        return true;
}

static int run(const struct cli_verb *self, int argc, char **argv) {
        struct kill_options o = {0};
        struct cli_problem problem = CLI_PROBLEM_NULL;
        _cleanup_client_ struct client *c = NULL;
        struct cli_operands rest;
        int status;

        if (!cli_parse(self, argc, argv, &o, &rest, &status) || !cli_no_operands(self, &rest, o.json, &status) ||
            !usage_ok(&o, &status))
                return status;
        if (client_open(o.crew, &c, &problem) < 0)
                return strcmp(problem.code, "held") == 0 && kill_held(&o, &status) ? status : cli_report(&problem, o.json);
        struct kill_doing d = {.o = &o, .c = c, .frozen = json_array(), .killed = json_array(), .passed = json_array()};
        term_init(&d.t, stdout);
        int r = carry_out(&d, &problem);
        if (r == 0 && o.json)
                print_json(&d);
        json_decref(d.frozen);
        json_decref(d.killed);
        json_decref(d.passed);
        snapshot_free(d.into);
        agents_meant_fini(&d.names);
        return r < 0 ? cli_report(&problem, o.json) : CLI_OK;
}

const struct cli_verb verb_kill = {
        .name = "kill",
        .synopsis = "--agent AGENT | --all-of-role ROLE | --task ID [--freeze] [--snapshot FILE.tar] [--reason TEXT]",
        .summary = "end agents and everything they started; the others go on",
        .details = "Its network and its link are cut first.  A task it had fails, or goes to a new instance when\n"
                   "the crew file's restart allows.  The crew's hook and attached programs are told.\n"
                   "--freeze stops it without killing: no process of it runs until crewctl thaw.\n"
                   "--snapshot freezes it, writes status, processes, connections, the last records and the state\n"
                   "directory, and only then kills.\n"
                   "\n"
                   "  crewctl kill --agent portfolio-analyzer --reason \"odd queries\"\n"
                   "  crewctl kill --all-of-role researcher\n"
                   "  crewctl kill --task collect --snapshot collect.tar\n"
                   "  crewctl kill --agent portfolio-analyzer --freeze\n",
        .options = options,
        .n_options = ELEMENTSOF(options),
        .run = run,
};
