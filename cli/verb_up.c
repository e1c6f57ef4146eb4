/* SPDX-License-Identifier: Apache-2.0 */
/* crewctl up: starts a crew and leaves the tasks to others; in the foreground, or detached. */
#include "cli.h"

#include "common/util.h"
#include "jsonout.h"
#include "session.h"

#include <string.h>

#define GRACE_MS 2000

struct options {
        bool json, detach, locked;
};

static const struct cli_option options[] = {
        {"detach", 'd', CLI_FLAG, offsetof(struct options, detach), NULL, "return when the agents are up",
         CLI_COMPLETE_NONE},
        CLI_OPTION_LOCKED(struct options),
        CLI_OPTION_JSON(struct options),
};

static bool on_frame(const Crew__Envelope *e, void *user) {
        return false;
}

/* Until a signal comes or somebody stops the crew. */
static int stay(struct session *s, struct cli_problem *p) {
        int r = session_wait(s, on_frame, NULL, p);

        progress_end(s->progress);
        if (r == 0) {
                progress_note(s->progress, TERM_WAIT, "stopping the crew; Ctrl-C again ends it at once");
                session_stop(s, GRACE_MS, "crewctl up was interrupted");
                return CLI_OK;
        }
        if (strcmp(p->code, "closed") != 0) {
                session_stop(s, 0, "crewctl up failed");
                return -1;
        }
        /* crewctl down, or a death: its exit status tells. */
        if (launch_ended(&s->launch, GRACE_MS * 10) && launch_status(&s->launch) == 0) {
                progress_note(s->progress, TERM_WAIT, "crew %s was stopped", s->crew->name);
                return CLI_OK;
        }
        session_died(s, p);
        return -1;
}

static int show_up(struct session *s, const struct options *o, struct cli_problem *p) {
        const Crew__Status *status = NULL;

        if (o->json) {
                if (client_status(s->client, &status, p) < 0)
                        return -1;
                jsonout_print(jsonout_status(status));
        } else if (o->detach) {
                printf("crew %s is up; crewctl status --crew %s, crewctl down --crew %s\n", s->crew->name, s->crew->name,
                       s->crew->name);
        } else {
                printf("crew %s is up; Ctrl-C stops it\n", s->crew->name);
        }
        fflush(stdout);
        return 0;
}

static int run(const struct cli_verb *self, int argc, char **argv) {
        struct options o = {0};
        struct session s = SESSION_NULL;
        struct cli_problem problem = CLI_PROBLEM_NULL;
        struct cli_operands rest;
        int status;

        if (!cli_parse(self, argc, argv, &o, &rest, &status))
                return status;
        if (rest.n != 1)
                return cli_fail(o.json, CLI_USAGE, "usage",
                                rest.n ? "one crew file at a time" : "which crew? crewctl up CREW.yaml");
        const struct session_args args = {
                .crew_file = rest.items[0], .own = !o.detach, .stderr_up = !o.detach, .quiet = o.json, .locked = o.locked};
        status = session_open(&s, &args, &problem);
        if (status == 0)
                status = show_up(&s, &o, &problem);
        if (status == 0 && !o.detach)
                status = stay(&s, &problem);
        if (status < 0)
                status = cli_report(&problem, o.json);
        session_close(&s);
        return status;
}

const struct cli_verb verb_up = {
        .name = "up",
        .synopsis = "[--detach] [--locked] [--json] CREW.yaml",
        .summary = "start a crew; programs and frameworks send the tasks",
        .details = "In the foreground until Ctrl-C or `crewctl down`; crewd's messages appear on standard error.\n"
                   "With --detach they go to crewd.log beside the audit.\n"
                   "\n"
                   "  crewctl up crew.yaml --detach && crewctl status\n",
        .options = options,
        .n_options = ELEMENTSOF(options),
        .operands = CLI_COMPLETE_FILE,
        .run = run,
};
