/* SPDX-License-Identifier: Apache-2.0 */
/* crewctl plan: what a changed crew file would do to a crew that runs.  Nothing is done. */
#include "cli.h"

#include "client.h"
#include "common/util.h"
#include "jsonout.h"
#include "policy_reload.h"
#include "supervisor/policy/crew_file.h"
#include "term.h"

#include <errno.h>
#include <limits.h>
#include <string.h>

#define PLAN_MS 60000

struct options {
        const char *crew;
        bool json;
};

static const struct cli_option options[] = {
        CLI_OPTION_CREW(struct options),
        CLI_OPTION_JSON(struct options),
};

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

static bool only_policies(Crew__PlanChange *const *changes, size_t n) {
        for (size_t i = 0; i < n; i++) {
                if (strncmp(changes[i]->key, "policy: ", 8) != 0)
                        return false;
        }
        return true;
}

/* What carries it out. */
static void print_advice(const struct term *t, const Crew__CrewPlan *p, const char *crew) {
        bool policies = p->n_crew == 0;

        for (size_t i = 0; i < p->n_agents; i++)
                policies = policies && only_policies(p->agents[i]->changes, p->agents[i]->n_changes);
        if (p->effect == CREW__PLAN_EFFECT__PLAN_UNCHANGED)
                return;
        if (policies)
                fprintf(t->out, "only policies: crewctl policy reload%s --crew %s does it\n",
                        p->effect == CREW__PLAN_EFFECT__PLAN_RESTART ? " --restart" : "", crew);
        else
                fprintf(t->out, "in force once the crew is started again: crewctl down --crew %s, crewctl up\n", crew);
}

static void print_plan(const Crew__CrewPlan *p, const char *crew) {
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
        print_advice(&t, p, crew);
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

static json_t *plan_json(const Crew__CrewPlan *p, const char *crew) {
        json_t *agents = json_array(), *problems = json_array();

        for (size_t i = 0; i < p->n_agents; i++) {
                const Crew__AgentPlan *a = p->agents[i];
                json_array_append_new(agents, json_pack("{s:o, s:s, s:o}", "agent", jsonout_text(a->agent), "effect",
                                                        effects[effect_of(a->effect)].name, "changes",
                                                        changes_json(a->changes, a->n_changes)));
        }
        for (size_t i = 0; i < p->n_problems; i++) {
                const Crew__PolicyProblem *x = p->problems[i];
                json_array_append_new(problems, json_pack("{s:s, s:o, s:I, s:I, s:o, s:o}", "severity",
                                                          x->warning ? "warning" : "error", "file", jsonout_text(x->file),
                                                          "line", (json_int_t)x->line, "column", (json_int_t)x->column,
                                                          "text", jsonout_text(x->text), "hint", jsonout_text(x->hint)));
        }
        return json_pack("{s:s, s:o, s:b, s:s, s:o, s:o, s:o}", "crew", crew, "file", jsonout_text(p->file), "ok",
                         (int)p->ok, "effect", effects[effect_of(p->effect)].name, "agents", agents, "changes",
                         changes_json(p->crew, p->n_crew), "problems", problems);
}

/* --- asking --- */

static void print_problems(const Crew__CrewPlan *p) {
        Crew__PolicyReloaded as = CREW__POLICY_RELOADED__INIT;

        as.problems = p->problems;
        as.n_problems = p->n_problems;
        policy_reload_print_problems(&as, stderr);
}

/* The crew a file is of; a file that does not check has none. */
static int name_crew(const char *file, char *name, size_t size, struct cli_problem *p) {
        struct policy_report report = {0};
        struct crew_err err = CREW_ERR_NULL;
        struct crew_file *crew = NULL;
        struct term t;
        int r = crew_load(file, &crew, &report, &err);

        term_init(&t, stderr);
        if (r < 0) {
                if (report.errors > 0)
                        policy_report_print(&report, stderr, t.colour);
                cli_problem_set(p, CLI_USAGE, "bad-file", "%s", err.msg);
                p->told = report.errors > 0;
        } else {
                snprintf(name, size, "%s", crew->name);
        }
        policy_report_fini(&report);
        crew_file_free(crew);
        return r < 0 ? -1 : 0;
}

static int ask(struct client *c, const char *file, const Crew__CrewPlan **out, struct cli_problem *p) {
        Crew__Envelope e = CREW__ENVELOPE__INIT;
        Crew__PlanCrew body = CREW__PLAN_CREW__INIT;
        const Crew__Envelope *answer = NULL;

        body.file = (char *)file;
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

static int show(const struct client *c, const Crew__CrewPlan *p, bool json) {
        if (json)
                jsonout_print(plan_json(p, client_crew(c)));
        else
                print_problems(p);
        if (!p->ok)
                return json ? CLI_USAGE : cli_fail(false, CLI_USAGE, "bad-file", "%s does not check", p->file);
        if (!json)
                print_plan(p, client_crew(c));
        return p->effect == CREW__PLAN_EFFECT__PLAN_UNCHANGED ? CLI_OK : CLI_CHANGES;
}

static int run(const struct cli_verb *self, int argc, char **argv) {
        struct options o = {0};
        struct cli_problem problem = CLI_PROBLEM_NULL;
        _cleanup_client_ struct client *c = NULL;
        const Crew__CrewPlan *p = NULL;
        char file[PATH_MAX] = "", name[64] = "";
        struct cli_operands rest;
        int status;

        if (!cli_parse(self, argc, argv, &o, &rest, &status))
                return status;
        if (rest.n > 1)
                return cli_fail(o.json, CLI_USAGE, "usage", "one crew file at a time");
        if (rest.n == 1 && !realpath(rest.items[0], file))
                return cli_fail(o.json, CLI_USAGE, "bad-file", "%s: %s", rest.items[0], strerror(errno));
        if (rest.n == 1 && !o.crew && name_crew(rest.items[0], name, sizeof(name), &problem) < 0)
                return cli_report(&problem, o.json);
        if (client_open(o.crew ? o.crew : name[0] ? name : NULL, &c, &problem) < 0 || ask(c, file, &p, &problem) < 0)
                return cli_report(&problem, o.json);
        return show(c, p, o.json);
}

const struct cli_verb verb_plan = {
        .name = "plan",
        .synopsis = "[--crew NAME] [--json] [CREW.yaml]",
        .summary = "show what a changed crew file would start, stop, restart or reload",
        .details = "Compares the crew file (by default the one the crew was started with, as it is now), its policies and\n"
                   "schemas with what is in force in the running crew.  Nothing is done.\n"
                   "Exit 0 when nothing would change, 5 when something would, 2 when the file does not check.\n"
                   "\n"
                   "  crewctl plan\n"
                   "  crewctl plan --json new.yaml | jq '.agents[] | select(.effect != \"unchanged\")'\n",
        .options = options,
        .n_options = ELEMENTSOF(options),
        .operands = CLI_COMPLETE_FILE,
        .run = run,
};
