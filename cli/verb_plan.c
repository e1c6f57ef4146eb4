/* SPDX-License-Identifier: Apache-2.0 */
/* crewctl plan: what a changed crew file would do to a crew that runs.  Nothing is done. */
#include "cli.h"

#include "common/util.h"
#include "plan.h"

#include <errno.h>
#include <limits.h>
#include <string.h>

struct options {
        const char *crew;
        bool locked, json;
};

static const struct cli_option options[] = {
        CLI_OPTION_LOCKED(struct options),
        CLI_OPTION_CREW(struct options),
        CLI_OPTION_JSON(struct options),
};

static int show(const struct client *c, const Crew__CrewPlan *p, bool json) {
        if (json)
                jsonout_print(plan_json(p, client_crew(c)));
        else
                plan_print_problems(p->problems, p->n_problems);
        if (!p->ok)
                return json ? CLI_USAGE : cli_fail(false, CLI_USAGE, "bad-file", "%s does not check", p->file);
        if (!json)
                plan_print(p, client_crew(c), true);
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
        if (rest.n == 1 && !o.crew && plan_name_crew(rest.items[0], o.locked, name, sizeof(name), &problem) < 0)
                return cli_report(&problem, o.json);
        if (client_open(o.crew    ? o.crew
                        : name[0] ? name
                                  : NULL,
                        &c, &problem) < 0 ||
            plan_ask(c, file, o.locked, &p, &problem) < 0)
                return cli_report(&problem, o.json);
        return show(c, p, o.json);
}

const struct cli_verb verb_plan = {
        .name = "plan",
        .synopsis = "[--locked] [--crew NAME] [--json] [CREW.yaml]",
        .summary = "show what a changed crew file would start, stop, restart or reload",
        .details = "Compares the crew file (by default the one that is in force, as it is now), its policies and schemas\n"
                   "with what is in force in the running crew.  Nothing is done: crewctl up applies it.  The digest it\n"
                   "prints is of this plan; crewctl up --plan DIGEST applies that one or none.\n"
                   "Exit 0 when nothing would change, 5 when something would, 2 when the file does not check.\n"
                   "\n"
                   "  crewctl plan\n"
                   "  crewctl plan --json new.yaml | jq '.agents[] | select(.effect != \"unchanged\")'\n",
        .options = options,
        .n_options = ELEMENTSOF(options),
        .operands = CLI_COMPLETE_FILE,
        .run = run,
};
