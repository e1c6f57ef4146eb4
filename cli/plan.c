/* SPDX-License-Identifier: Apache-2.0 */
#include "plan.h"

#include "common/util.h"
#include "policy_reload.h"
#include "supervisor/policy/crew_file.h"
#include "supervisor/policy/lock.h"
#include "term.h"

#include <string.h>

#define PLAN_MS 60000

static const struct {
        const char *name, *mark;
        enum term_style style;
} effects[] = {
        [CREW__PLAN_EFFECT__PLAN_EFFECT_UNSET] = {"unknown", "?", TERM_PLAIN},
        [CREW__PLAN_EFFECT__PLAN_UNCHANGED] = {"unchanged", "=", TERM_DIM},
        [CREW__PLAN_EFFECT__PLAN_RELOAD] = {"reload", "~", TERM_GREEN},
        [CREW__PLAN_EFFECT__PLAN_RESTART] = {"restart", "!", TERM_YELLOW},
        [CREW__PLAN_EFFECT__PLAN_START] = {"start", "+", TERM_GREEN},
        [CREW__PLAN_EFFECT__PLAN_STOP] = {"stop", "-", TERM_RED},
        [CREW__PLAN_EFFECT__PLAN_CREW] = {"whole-crew", "!", TERM_RED},
};

static size_t effect_of(Crew__PlanEffect e) {
        return (size_t)e < ELEMENTSOF(effects) ? (size_t)e : 0;
}

/* --- text --- */

static void print_changes(const struct term *t, Crew__PlanChange *const *changes, size_t n) {
        for (size_t i = 0; i < n; i++) {
                const Crew__PlanChange *c = changes[i];
                size_t e = effect_of(c->effect);
                if (!*c->key)
                        continue;
                fprintf(t->out, "    %s%-10s%s ", term_on(t, effects[e].style), effects[e].name,
                        term_off(t, effects[e].style));
                term_put(t, c->key);
                fputs("   ", t->out);
                term_put(t, c->detail);
                fputc('\n', t->out);
        }
}

static void print_agent(const struct term *t, const Crew__AgentPlan *a) {
        size_t e = effect_of(a->effect);

        fprintf(t->out, "  %s%s %s%s   %s\n", term_on(t, effects[e].style), effects[e].mark, a->agent,
                term_off(t, effects[e].style), effects[e].name);
        if (a->effect != CREW__PLAN_EFFECT__PLAN_START && a->effect != CREW__PLAN_EFFECT__PLAN_STOP)
                print_changes(t, a->changes, a->n_changes);
}

static void print_totals(const struct term *t, const Crew__CrewPlan *p) {
        size_t counts[ELEMENTSOF(effects)] = {0};

        for (size_t i = 0; i < p->n_agents; i++)
                counts[effect_of(p->agents[i]->effect)]++;
        fprintf(t->out, "%zu to start, %zu to stop, %zu to restart, %zu to reload, %zu unchanged\n",
                counts[CREW__PLAN_EFFECT__PLAN_START], counts[CREW__PLAN_EFFECT__PLAN_STOP],
                counts[CREW__PLAN_EFFECT__PLAN_RESTART], counts[CREW__PLAN_EFFECT__PLAN_RELOAD],
                counts[CREW__PLAN_EFFECT__PLAN_UNCHANGED]);
}

/* What carries it out. */
static void print_advice(const struct term *t, const Crew__CrewPlan *p) {
        if (p->effect == CREW__PLAN_EFFECT__PLAN_UNCHANGED)
                return;
        fputs("plan ", t->out);
        term_put(t, p->digest);
        fputs(p->effect == CREW__PLAN_EFFECT__PLAN_CREW ? "\nthe whole crew has to be started again: crewctl up --restart "
                                                        : "\nto apply it: crewctl up ",
              t->out);
        term_put(t, p->file);
        fputs(p->effect == CREW__PLAN_EFFECT__PLAN_CREW ? "\n" : "   (this and nothing else: --plan DIGEST)\n", t->out);
}

void plan_print(const Crew__CrewPlan *p, const char *crew, bool advise) {
        struct term t;

        term_init(&t, stdout);
        fprintf(t.out, "crew %s%s%s   ", term_on(&t, TERM_BOLD), crew, term_off(&t, TERM_BOLD));
        term_put(&t, p->file);
        fputc('\n', t.out);
        for (size_t i = 0; i < p->n_agents; i++)
                print_agent(&t, p->agents[i]);
        if (p->n_crew > 0)
                fputs("  crew\n", t.out);
        print_changes(&t, p->crew, p->n_crew);
        print_totals(&t, p);
        if (advise)
                print_advice(&t, p);
}

/* --- JSON --- */

static json_t *changes_json(Crew__PlanChange *const *changes, size_t n) {
        json_t *out = json_array();

        for (size_t i = 0; i < n; i++)
                json_array_append_new(out, json_pack("{s:o, s:o, s:s}", "key", jsonout_text(changes[i]->key), "detail",
                                                     jsonout_text(changes[i]->detail), "effect",
                                                     effects[effect_of(changes[i]->effect)].name));
        return out;
}

json_t *plan_problems_json(Crew__PolicyProblem *const *problems, size_t n) {
        json_t *out = json_array();

        for (size_t i = 0; i < n; i++) {
                const Crew__PolicyProblem *x = problems[i];
                json_array_append_new(out, json_pack("{s:s, s:o, s:I, s:I, s:o, s:o}", "severity",
                                                     x->warning ? "warning" : "error", "file", jsonout_text(x->file),
                                                     "line", (json_int_t)x->line, "column", (json_int_t)x->column, "text",
                                                     jsonout_text(x->text), "hint", jsonout_text(x->hint)));
        }
        return out;
}

const char *plan_effect_name(Crew__PlanEffect e) {
        return effects[effect_of(e)].name;
}

json_t *plan_json(const Crew__CrewPlan *p, const char *crew) {
        json_t *agents = json_array();

        for (size_t i = 0; i < p->n_agents; i++) {
                const Crew__AgentPlan *a = p->agents[i];
                json_array_append_new(agents, json_pack("{s:o, s:s, s:o}", "agent", jsonout_text(a->agent), "effect",
                                                        effects[effect_of(a->effect)].name, "changes",
                                                        changes_json(a->changes, a->n_changes)));
        }
        return json_pack("{s:s, s:o, s:b, s:s, s:s, s:o, s:o, s:o}", "crew", crew, "file", jsonout_text(p->file), "ok",
                         (int)p->ok, "effect", effects[effect_of(p->effect)].name, "digest", p->digest, "agents", agents,
                         "changes", changes_json(p->crew, p->n_crew), "problems",
                         plan_problems_json(p->problems, p->n_problems));
}

/* --- asking --- */

void plan_print_problems(Crew__PolicyProblem **problems, size_t n) {
        Crew__PolicyReloaded as = CREW__POLICY_RELOADED__INIT;

        as.problems = problems;
        as.n_problems = n;
        policy_reload_print_problems(&as, stderr);
}

int plan_name_crew(const char *file, bool locked, char *name, size_t size, struct cli_problem *p) {
        struct policy_report report = {0};
        struct crew_err err = CREW_ERR_NULL;
        struct crew_file *crew = NULL;
        struct term t;
        int r = crew_load(file, &crew, &report, &err);

        term_init(&t, stderr);
        bool refused = r == 0 && locked && crew_lock_verify(crew, NULL, &report, &err) < 0;
        if (r < 0 || refused) {
                if (report.errors > 0)
                        policy_report_print(&report, stderr, t.colour);
                cli_problem_set(p, refused ? CLI_REFUSED : CLI_USAGE, refused ? "locked" : "bad-file", "%s", err.msg);
                p->told = report.errors > 0;
        } else {
                snprintf(name, size, "%s", crew->name);
        }
        policy_report_fini(&report);
        crew_file_free(crew);
        return r < 0 || refused ? -1 : 0;
}

int plan_ask(struct client *c, const char *file, bool locked, const Crew__CrewPlan **out, struct cli_problem *p) {
        Crew__Envelope e = CREW__ENVELOPE__INIT;
        Crew__PlanCrew body = CREW__PLAN_CREW__INIT;
        const Crew__Envelope *answer = NULL;

        body.file = (char *)file;
        body.locked = locked;
        e.body_case = CREW__ENVELOPE__BODY_PLAN_CREW;
        e.plan_crew = &body;
        if (client_call(c, &e, PLAN_MS, &answer, p) < 0)
                return -1;
        if (answer->body_case != CREW__ENVELOPE__BODY_CREW_PLAN)
                cli_problem_set(p, CLI_INTERNAL, "protocol", "crewd answered something else than was asked");
        else
                *out = answer->crew_plan;
        return *out ? 0 : -1;
}
