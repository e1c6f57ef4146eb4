/* SPDX-License-Identifier: Apache-2.0 */
/* crewctl stop: one agent ends in order: it is told, then SIGTERM, then a time to end in, then a kill. */
#include "cli.h"

#include "client.h"
#include "common/util.h"
#include "grace.h"
#include "jsonout.h"
#include "killed.h"
#include "term.h"

struct options {
        const char *crew, *agent, *reason;
        uint64_t grace_ns;
        bool json;
};

static const struct cli_option options[] = {
        {"agent", 'a', CLI_STRING, offsetof(struct options, agent), "AGENT", "the agent to stop", CLI_COMPLETE_AGENT},
        {"grace", 'g', CLI_DURATION, offsetof(struct options, grace_ns), "TIME", "what it gets to end (default 30s)",
         CLI_COMPLETE_NONE},
        {"reason", 'r', CLI_STRING, offsetof(struct options, reason), "TEXT", "why; told to the agent, and in the audit",
         CLI_COMPLETE_NONE},
        CLI_OPTION_CREW(struct options),
        CLI_OPTION_JSON(struct options),
};

static int stop_agent(struct client *c, const struct options *o, struct cli_problem *problem) {
        Crew__Envelope e = CREW__ENVELOPE__INIT;
        Crew__StopAgent request = CREW__STOP_AGENT__INIT;
        const Crew__Envelope *answer = NULL;
        char what[128];
        struct term t;

        snprintf(what, sizeof(what), "agent %.63s", o->agent);
        const struct grace g = {.what = what, .grace_ms = o->grace_ns / 1000000u, .quiet = o->json};
        request.agent = (char *)o->agent;
        request.reason = (char *)(o->reason ? o->reason : "crewctl stop");
        request.grace_ms = g.grace_ms;
        e.body_case = CREW__ENVELOPE__BODY_STOP_AGENT;
        e.stop_agent = &request;
        if (grace_call(c, &e, &g, &answer, problem) < 0)
                return -1;
        if (answer->body_case != CREW__ENVELOPE__BODY_KILLED || !answer->killed->terminated)
                return cli_problem_set(problem, CLI_INTERNAL, "protocol", "crewd did not say what became of %s", o->agent);
        term_init(&t, stdout);
        if (o->json)
                jsonout_print(killed_json(answer->killed));
        else
                killed_print(&t, answer->killed,
                             answer->killed->terminated->kill_us ? "did not end and was killed" : "stopped", true);
        return 0;
}

static int run(const struct cli_verb *self, int argc, char **argv) {
        struct options o = {.grace_ns = GRACE_DEFAULT_NS};
        struct cli_problem problem = CLI_PROBLEM_NULL;
        _cleanup_client_ struct client *c = NULL;
        struct cli_operands rest;
        int status;

        if (!cli_parse(self, argc, argv, &o, &rest, &status) || !cli_no_operands(self, &rest, o.json, &status))
                return status;
        if (!o.agent || !*o.agent)
                return cli_fail(o.json, CLI_USAGE, "usage", "which agent? crewctl stop --agent AGENT");
        if (client_open(o.crew, &c, &problem) < 0 || stop_agent(c, &o, &problem) < 0)
                return cli_report(&problem, o.json);
        return CLI_OK;
}

const struct cli_verb verb_stop = {
        .name = "stop",
        .synopsis = "--agent AGENT [--grace TIME] [--reason TEXT] [--crew NAME] [--json]",
        .summary = "let one agent end in order; killed when it does not",
        .details = "The agent is told, then its programs get SIGTERM, and what is left after the grace is killed.\n"
                   "It is not started again, whatever the crew file's restart says; its state directory is kept.\n"
                   "\n"
                   "  crewctl stop --agent report-writer\n"
                   "  crewctl stop --agent report-writer --grace 2m\n",
        .options = options,
        .n_options = ELEMENTSOF(options),
        .run = run,
};
