/* SPDX-License-Identifier: Apache-2.0 */
/* crewctl thaw: what `kill --freeze` stopped goes on. */
#include "cli.h"

#include "client.h"
#include "common/util.h"
#include "hold.h"
#include "jsonout.h"

struct options {
        const char *crew, *agent, *reason;
        bool json;
};

static const struct cli_option options[] = {
        {"agent", 'a', CLI_STRING, offsetof(struct options, agent), "AGENT", "the frozen agent", CLI_COMPLETE_AGENT},
        {"reason", 'r', CLI_STRING, offsetof(struct options, reason), "TEXT", "why; goes into the audit",
         CLI_COMPLETE_NONE},
        CLI_OPTION_CREW(struct options),
        CLI_OPTION_JSON(struct options),
};

static int run(const struct cli_verb *self, int argc, char **argv) {
        struct options o = {0};
        struct cli_problem problem = CLI_PROBLEM_NULL;
        _cleanup_client_ struct client *c = NULL;
        const Crew__AgentHeld *held = NULL;
        struct cli_operands rest;
        int status;

        if (!cli_parse(self, argc, argv, &o, &rest, &status) || !cli_no_operands(self, &rest, o.json, &status))
                return status;
        if (!o.agent || !*o.agent)
                return cli_fail(o.json, CLI_USAGE, "usage", "which agent? crewctl thaw --agent AGENT");
        const struct hold_call call = {.agent = o.agent, .reason = o.reason, .thaw = true};
        if (client_open(o.crew, &c, &problem) < 0 || hold_call(c, &call, &held, &problem) < 0)
                return cli_report(&problem, o.json);
        if (o.json)
                jsonout_print(json_pack("{s:o}", "agent", jsonout_agent(held->agent)));
        else
                printf("Agent %s goes on.\n", held->agent->name);
        return CLI_OK;
}

const struct cli_verb verb_thaw = {
        .name = "thaw",
        .synopsis = "--agent AGENT [--reason TEXT] [--crew NAME] [--json]",
        .summary = "let a frozen agent go on",
        .details = "What kill --freeze has stopped goes on where it stood.  The time it stood still does not count\n"
                   "against its task.\n"
                   "\n"
                   "  crewctl thaw --agent portfolio-analyzer\n",
        .options = options,
        .n_options = ELEMENTSOF(options),
        .run = run,
};
