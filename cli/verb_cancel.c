/* SPDX-License-Identifier: Apache-2.0 */
/* crewctl cancel: one task of a running crew is called off; its agent stays. */
#include "cli.h"

#include "cancel.h"
#include "common/util.h"
#include "jsonout.h"

#include <string.h>

struct options {
        const char *crew, *reason;
        bool json;
};

static const struct cli_option options[] = {
        {"reason", 'r', CLI_STRING, offsetof(struct options, reason), "TEXT", "why; goes into the audit and the outcome",
         CLI_COMPLETE_NONE},
        CLI_OPTION_CREW(struct options),
        CLI_OPTION_JSON(struct options),
};

static void print_text(const Crew__TaskCancelled *t) {
        printf("Task %s (%s) cancelled.\n", t->task_id, t->task);
        if (t->frozen)
                printf("  agent %s is frozen, and hears of it when it is thawed\n", t->agent);
        else if (t->running)
                printf("  agent %s was working on it: told, and killed in 2 s if it goes on\n", t->agent);
        else
                printf("  it was waiting for agent %s\n", t->agent);
}

static int run(const struct cli_verb *self, int argc, char **argv) {
        struct options o = {0};
        struct cli_problem problem = CLI_PROBLEM_NULL;
        _cleanup_client_ struct client *c = NULL;
        const Crew__TaskCancelled *t = NULL;
        struct cli_operands rest;
        int status;

        if (!cli_parse(self, argc, argv, &o, &rest, &status))
                return status;
        if (rest.n != 1 || !*rest.items[0])
                return cli_fail(o.json, CLI_USAGE, "usage", "which task? crewctl cancel TASK, its id or its name");
        if (client_open(o.crew, &c, &problem) < 0 || cancel_call(c, rest.items[0], o.reason, &t, &problem) < 0)
                return cli_report(&problem, o.json);
        if (o.json)
                jsonout_print(json_pack("{s:s, s:o, s:o, s:o, s:s, s:b}", "crew", client_crew(c), "task_id",
                                        jsonout_text(t->task_id), "task", jsonout_text(t->task), "agent",
                                        jsonout_text(t->agent), "was", t->running ? "running" : "waiting", "frozen",
                                        (int)t->frozen));
        else
                print_text(t);
        return CLI_OK;
}

const struct cli_verb verb_cancel = {
        .name = "cancel",
        .synopsis = "TASK [--reason TEXT] [--crew NAME] [--json]",
        .summary = "call off a task that waits or runs; its agent stays",
        .details = "TASK is its id (t-7), or its name in the crew file while one of that name waits or runs.\n"
                   "One that waits is over at once.  Of one that runs the agent is told, and killed if it does not end\n"
                   "it within 2 s.  The outcome is \"cancelled\", and tasks that need its result are skipped.\n"
                   "\n"
                   "  crewctl cancel t-7\n"
                   "  crewctl cancel collect --reason \"wrong symbols\"\n",
        .options = options,
        .n_options = ELEMENTSOF(options),
        .operands = CLI_COMPLETE_TASK,
        .run = run,
};
