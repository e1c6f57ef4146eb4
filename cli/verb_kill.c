/* SPDX-License-Identifier: Apache-2.0 */
/* crewctl kill: ends one agent, whole tree, and shows how the others are. */
#include "cli.h"

#include "client.h"
#include "common/util.h"
#include "jsonout.h"
#include "names.h"
#include "term.h"
#include "text.h"

#include <string.h>

#define KILL_MS 60000

struct options {
        const char *crew, *agent, *reason;
        bool json;
};

static const struct cli_option options[] = {
        {"agent", 'a', CLI_STRING, offsetof(struct options, agent), "AGENT", "the agent to end", CLI_COMPLETE_AGENT},
        {"reason", 'r', CLI_STRING, offsetof(struct options, reason), "TEXT", "why; goes into the audit and to hooks",
         CLI_COMPLETE_NONE},
        CLI_OPTION_CREW(struct options),
        CLI_OPTION_JSON(struct options),
};

static void print_others(const struct term *t, Crew__AgentStatus *const *others, size_t n) {
        if (n == 0)
                return;
        fputs("Crew status: ", t->out);
        for (size_t i = 0; i < n; i++)
                fprintf(t->out, "%s%s (%s)", i ? ", " : "", others[i]->name, name_agent_state(others[i]->state));
        fputc('\n', t->out);
}

static void print_killed(const struct term *t, const Crew__Killed *k) {
        const Crew__AgentTerminated *end = k->terminated;
        const char *dot = term_dot(t);
        char took[TEXT_WORD];

        fprintf(t->out, "Agent %s terminated. Sandbox destroyed.\n", end->agent);
        fprintf(t->out, "  %u process%s, %s", end->processes_killed, end->processes_killed == 1 ? "" : "es",
                text_duration(end->kill_us * 1000u, took));
        if (k->task[0]) {
                fprintf(t->out, "%stask ", dot);
                term_put(t, k->task);
                fprintf(t->out, k->task_reassigned ? " goes to a new instance" : " failed (%s)", name_cause(end->cause));
        }
        fprintf(t->out, "%saudit record %llu\n", dot, (unsigned long long)end->audit_seq);
        if (end->side_effects_possible)
                fputs("  it was in the middle of something: side effects are possible\n", t->out);
        print_others(t, k->others, k->n_others);
}

static json_t *killed_json(const Crew__Killed *k) {
        json_t *others = json_array();

        for (size_t i = 0; i < k->n_others; i++)
                json_array_append_new(others, jsonout_agent(k->others[i]));
        return json_pack("{s:o, s:o, s:o, s:b}", "terminated", jsonout_terminated(k->terminated), "others", others, "task",
                         jsonout_text(k->task), "task_reassigned", (int)k->task_reassigned);
}

static int kill_agent(struct client *c, const struct options *o, struct cli_problem *problem) {
        Crew__Envelope e = CREW__ENVELOPE__INIT;
        Crew__KillAgent request = CREW__KILL_AGENT__INIT;
        const Crew__Envelope *answer = NULL;
        struct term t;

        request.agent = (char *)o->agent;
        request.reason = (char *)(o->reason ? o->reason : "");
        e.body_case = CREW__ENVELOPE__BODY_KILL_AGENT;
        e.kill_agent = &request;
        if (client_call(c, &e, KILL_MS, &answer, problem) < 0)
                return -1;
        if (answer->body_case != CREW__ENVELOPE__BODY_KILLED || !answer->killed->terminated)
                return cli_problem_set(problem, CLI_INTERNAL, "protocol", "crewd did not say what became of %s", o->agent);
        term_init(&t, stdout);
        if (o->json)
                jsonout_print(killed_json(answer->killed));
        else
                print_killed(&t, answer->killed);
        return 0;
}

static int run(const struct cli_verb *self, int argc, char **argv) {
        struct options o = {0};
        struct cli_problem problem = CLI_PROBLEM_NULL;
        _cleanup_client_ struct client *c = NULL;
        struct cli_operands rest;
        int status;

        if (!cli_parse(self, argc, argv, &o, &rest, &status) || !cli_no_operands(self, &rest, o.json, &status))
                return status;
        if (!o.agent || !*o.agent)
                return cli_fail(o.json, CLI_USAGE, "usage", "which agent? crewctl kill --agent AGENT");
        if (client_open(o.crew, &c, &problem) < 0 || kill_agent(c, &o, &problem) < 0)
                return cli_report(&problem, o.json);
        return CLI_OK;
}

const struct cli_verb verb_kill = {
        .name = "kill",
        .synopsis = "--agent AGENT [--reason TEXT] [--crew NAME] [--json]",
        .summary = "end one agent and everything it started; the others go on",
        .details = "Its network and its link are cut first.  A task it had fails, or goes to a new instance when\n"
                   "the crew file's restart allows.  The crew's hook and attached programs are told.\n"
                   "\n"
                   "  crewctl kill --agent portfolio-analyzer --reason \"odd queries\"\n",
        .options = options,
        .n_options = ELEMENTSOF(options),
        .run = run,
};
