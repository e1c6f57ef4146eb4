/* SPDX-License-Identifier: Apache-2.0 */
/* crewctl policy reload: changed policy files into a running crew, and what became of each section. */
#include "cli.h"

#include "client.h"
#include "common/util.h"
#include "jsonout.h"
#include "policy_reload.h"
#include "term.h"
#include "text.h"

#include <string.h>

struct options {
        const char *crew, *agent;
        bool restart, json;
};

static const struct cli_option options[] = {
        {"agent", 'a', CLI_STRING, offsetof(struct options, agent), "AGENT", "its policy alone (default: all)",
         CLI_COMPLETE_AGENT},
        {"restart", 0, CLI_FLAG, offsetof(struct options, restart), NULL,
         "start agents again whose change needs it; a task they had goes to the new instance or fails", CLI_COMPLETE_NONE},
        CLI_OPTION_CREW(struct options),
        CLI_OPTION_JSON(struct options),
};

static const struct {
        const char *name, *text;
        enum term_style style;
} states[] = {
        [CREW__SECTION_STATE__SECTION_STATE_UNSET] = {"unknown", "unknown", TERM_PLAIN},
        [CREW__SECTION_STATE__SECTION_UNCHANGED] = {"unchanged", "unchanged", TERM_DIM},
        [CREW__SECTION_STATE__SECTION_APPLIED] = {"applied", "applied", TERM_GREEN},
        [CREW__SECTION_STATE__SECTION_NEEDS_RESTART] = {"needs-restart", "needs restart", TERM_YELLOW},
        [CREW__SECTION_STATE__SECTION_RESTARTED] = {"restarting", "restarting", TERM_GREEN},
};

static bool is_changed(const Crew__AgentReload *a) {
        for (size_t i = 0; i < a->n_sections; i++) {
                if (a->sections[i]->state != CREW__SECTION_STATE__SECTION_UNCHANGED)
                        return true;
        }
        return false;
}

static bool needs_restart(const Crew__AgentReload *a) {
        for (size_t i = 0; i < a->n_sections; i++) {
                if (a->sections[i]->state == CREW__SECTION_STATE__SECTION_NEEDS_RESTART)
                        return true;
        }
        return false;
}

static void print_section(const struct term *t, const Crew__AgentReload *a, const Crew__SectionReload *s) {
        size_t state = (size_t)s->state < ELEMENTSOF(states) ? (size_t)s->state : 0;
        bool network = strcmp(s->section, "network") == 0;

        fprintf(t->out, "  %-11s %s%s%s", s->section, term_on(t, states[state].style), states[state].text,
                term_off(t, states[state].style));
        if (*s->detail) {
                fprintf(t->out, "%*s", (int)(15 - strlen(states[state].text)), "");
                term_put(t, s->detail);
        }
        if (network && a->closed > 0)
                fprintf(t->out, "%s%u connection%s closed", term_dot(t), a->closed, a->closed == 1 ? "" : "s");
        fputc('\n', t->out);
}

static void print_agent(const struct term *t, const Crew__AgentReload *a) {
        fprintf(t->out, "%s%s%s   ", term_on(t, TERM_BOLD), a->agent, term_off(t, TERM_BOLD));
        term_put(t, a->file);
        if (*a->error) {
                fprintf(t->out, "   %snot taken over%s: ", term_on(t, TERM_RED), term_off(t, TERM_RED));
                term_put(t, a->error);
                fputs("; the former policy stays\n", t->out);
                return;
        }
        if (strcmp(a->old_sha256, a->new_sha256) == 0) {
                fprintf(t->out, "   %.8s\n", a->new_sha256);
        } else {
                fprintf(t->out, "   %.8s -> %.8s%s\n", a->old_sha256, a->new_sha256,
                        a->running ? "" : "   not running: in force when it starts");
        }
        for (size_t i = 0; i < a->n_sections; i++)
                print_section(t, a, a->sections[i]);
}

/* Agents that nothing has changed for are one word each. */
static void print_result(const struct term *t, const Crew__PolicyReloaded *r, const struct options *o) {
        size_t same = 0, restart = 0;
        const char *one = NULL;
        char took[TEXT_WORD];

        for (size_t i = 0; i < r->n_agents; i++) {
                const Crew__AgentReload *a = r->agents[i];
                if (needs_restart(a) && !*a->error) {
                        restart++;
                        one = a->agent;
                }
                if (o->agent || is_changed(a) || *a->error)
                        print_agent(t, a);
                else
                        same++;
        }
        for (size_t i = 0, shown = 0; same > 0 && i < r->n_agents; i++) {
                const Crew__AgentReload *a = r->agents[i];
                if (!is_changed(a) && !*a->error)
                        fprintf(t->out, "%s%s", shown++ ? ", " : "unchanged: ", a->agent);
        }
        fprintf(t->out, "%sin %s\n", same > 0 ? "\n" : "", text_duration(r->duration_us * 1000u, took));
        if (restart > 0)
                fprintf(t->out, "%zu agent%s to be started again for it: crewctl policy reload%s%s --restart\n", restart,
                        restart == 1 ? " needs" : "s need", restart == 1 ? " --agent " : "", restart == 1 ? one : "");
}

static json_t *agent_json(const Crew__AgentReload *a) {
        json_t *sections = json_object();

        for (size_t i = 0; i < a->n_sections; i++) {
                const Crew__SectionReload *s = a->sections[i];
                json_t *line = json_pack("{s:s}", "state",
                                         states[(size_t)s->state < ELEMENTSOF(states) ? (size_t)s->state : 0].name);
                if (*s->detail)
                        json_object_set_new(line, "detail", jsonout_text(s->detail));
                json_object_set_new(sections, s->section, line);
        }
        json_t *o = json_pack("{s:o, s:o, s:s, s:s, s:o, s:I, s:I, s:b, s:b}", "agent", jsonout_text(a->agent), "file",
                              jsonout_text(a->file), "old_sha256", a->old_sha256, "sha256", a->new_sha256, "sections",
                              sections, "generation", (json_int_t)a->generation, "closed", (json_int_t)a->closed, "running",
                              (int)a->running, "restarting", (int)a->restarting);
        if (*a->error)
                json_object_set_new(o, "error", jsonout_text(a->error));
        return o;
}

static json_t *result_json(const Crew__PolicyReloaded *r) {
        json_t *agents = json_array(), *problems = json_array();

        for (size_t i = 0; i < r->n_agents; i++)
                json_array_append_new(agents, agent_json(r->agents[i]));
        for (size_t i = 0; i < r->n_problems; i++) {
                const Crew__PolicyProblem *p = r->problems[i];
                json_array_append_new(problems, json_pack("{s:s, s:o, s:I, s:I, s:o, s:o}", "severity",
                                                          p->warning ? "warning" : "error", "file", jsonout_text(p->file),
                                                          "line", (json_int_t)p->line, "column", (json_int_t)p->column,
                                                          "text", jsonout_text(p->text), "hint", jsonout_text(p->hint)));
        }
        return json_pack("{s:b, s:o, s:o, s:I}", "ok", (int)r->ok, "agents", agents, "problems", problems, "duration_us",
                         (json_int_t)r->duration_us);
}

static int verdict(const Crew__PolicyReloaded *r) {
        if (!r->ok)
                return CLI_USAGE;
        for (size_t i = 0; i < r->n_agents; i++) {
                if (*r->agents[i]->error)
                        return CLI_FAILED;
        }
        return CLI_OK;
}

static int run(const struct cli_verb *self, int argc, char **argv) {
        struct options o = {0};
        struct cli_problem problem = CLI_PROBLEM_NULL;
        _cleanup_client_ struct client *c = NULL;
        const Crew__PolicyReloaded *r = NULL;
        struct cli_operands rest;
        struct term t;
        int status;

        if (!cli_parse(self, argc, argv, &o, &rest, &status) || !cli_no_operands(self, &rest, o.json, &status))
                return status;
        if (client_open(o.crew, &c, &problem) < 0 || policy_reload(c, o.agent, o.restart, &r, &problem) < 0)
                return cli_report(&problem, o.json);
        if (o.json) {
                jsonout_print(result_json(r));
                return verdict(r);
        }
        policy_reload_print_problems(r, stderr);
        if (!r->ok)
                return cli_fail(false, CLI_USAGE, "bad-file", "nothing was changed: the policies in force stay");
        term_init(&t, stdout);
        print_result(&t, r, &o);
        return verdict(r);
}

const struct cli_verb verb_policy_reload = {
        .group = "policy",
        .name = "reload",
        .synopsis = "[--agent AGENT] [--restart] [--crew NAME] [--json]",
        .summary = "put changed policy files in force without stopping the crew",
        .details = "Every policy file of the crew is read and checked again by crewd; one error, and nothing changes.\n"
                   "network, tools, ipc, limits and audit apply to running agents at once, and connections that are no\n"
                   "longer allowed are closed.  What a jail is made with (filesystem, syscalls, memory and such) needs\n"
                   "the agent to be started again.  Exit 2 when a file does not check.\n"
                   "\n"
                   "  crewctl policy reload\n"
                   "  crewctl policy reload --agent data-collector --restart\n",
        .options = options,
        .n_options = ELEMENTSOF(options),
        .run = run,
};
