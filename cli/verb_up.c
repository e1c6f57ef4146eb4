/* SPDX-License-Identifier: Apache-2.0 */
/* crewctl up: starts a crew and leaves the tasks to others, in the foreground or detached; or changes one that runs. */
#include "cli.h"

#include "common/util.h"
#include "crews.h"
#include "grace.h"
#include "jsonout.h"
#include "plan.h"
#include "session.h"
#include "upgrade.h"

#include <errno.h>
#include <limits.h>
#include <string.h>

#define GRACE_MS 2000

struct options {
        const char *plan;
        uint64_t grace_ns;
        bool json, detach, locked, restart, dry_run;
};

static const struct cli_option options[] = {
        {"detach", 'd', CLI_FLAG, offsetof(struct options, detach), NULL, "return when the agents are up",
         CLI_COMPLETE_NONE},
        {"dry-run", 'n', CLI_FLAG, offsetof(struct options, dry_run), NULL,
         "of a crew that runs: show what would be done, as crewctl plan does", CLI_COMPLETE_NONE},
        {"plan", 0, CLI_STRING, offsetof(struct options, plan), "DIGEST",
         "of a crew that runs: only if the plan is still the one that crewctl plan has shown", CLI_COMPLETE_NONE},
        {"restart", 0, CLI_FLAG, offsetof(struct options, restart), NULL,
         "of a crew that runs: stop and start all of it when a change needs that", CLI_COMPLETE_NONE},
        {"grace", 'g', CLI_DURATION, offsetof(struct options, grace_ns), "TIME",
         "what a task, and then its agent, gets to end when the agent has to (default 30s)", CLI_COMPLETE_NONE},
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

/* Exit status; -1 with a problem; UPGRADE_START: there is none that runs, or not any more. */
static int change_running(const struct options *o, const char *path, struct former *former, struct cli_problem *p) {
        struct crew_paths paths;
        struct crew_err err = CREW_ERR_NULL;
        char file[PATH_MAX], name[64] = "";

        if (crew_paths_init(&paths, &err) < 0)
                return cli_problem_set(p, CLI_FAILED, "paths", "%s", err.msg);
        _cleanup_names_ struct crew_names running = {0};
        if (!o->plan && !o->dry_run && crews_running(&paths, &running) == 0 && running.n == 0)
                return UPGRADE_START; /* the usual case: the file is read once */
        if (!realpath(path, file))
                return cli_problem_set(p, CLI_USAGE, "bad-file", "%s: %s", path, strerror(errno));
        if (plan_name_crew(path, o->locked, name, sizeof(name), p) < 0)
                return -1;
        _cleanup_close_ int fd = crew_connect(&paths, name, 0);
        bool runs = fd >= 0 || fd == -EAGAIN;
        if (!runs && (o->plan || o->dry_run)) {
                cli_problem_set(p, CLI_ABSENT, "not-running", "crew %s does not run: there is nothing to compare with",
                                name);
                cli_problem_hint(p, "crewctl up %s starts it", path);
                return -1;
        }
        if (!runs)
                return UPGRADE_START;
        crew_close(&fd);
        const struct upgrade u = {.file = file,
                                  .crew = name,
                                  .plan = o->plan,
                                  .grace_ms = o->grace_ns / 1000000u,
                                  .locked = o->locked,
                                  .restart = o->restart,
                                  .dry_run = o->dry_run,
                                  .json = o->json};
        return upgrade(&u, former, p);
}

static int run(const struct cli_verb *self, int argc, char **argv) {
        struct options o = {.grace_ns = GRACE_DEFAULT_NS};
        struct session s = SESSION_NULL;
        struct cli_problem problem = CLI_PROBLEM_NULL;
        struct former former = {0};
        struct cli_operands rest;
        int status;

        if (!cli_parse(self, argc, argv, &o, &rest, &status))
                return status;
        if (rest.n != 1)
                return cli_fail(o.json, CLI_USAGE, "usage",
                                rest.n ? "one crew file at a time" : "which crew? crewctl up CREW.yaml");
        status = change_running(&o, rest.items[0], &former, &problem);
        if (status != UPGRADE_START)
                return status < 0 ? cli_report(&problem, o.json) : status;
        const struct session_args args = {
                .crew_file = rest.items[0], .own = !o.detach, .stderr_up = !o.detach, .quiet = o.json, .locked = o.locked};
        status = session_open(&s, &args, &problem);
        if (status < 0 && *former.file)
                former_restore(&former, o.json, &problem);
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
        .synopsis = "[--detach] [--locked] [--dry-run] [--plan DIGEST] [--restart] [--grace TIME] [--json] CREW.yaml",
        .summary = "start a crew, or put a changed crew file in force in one that runs",
        .details =
                "In the foreground until Ctrl-C or `crewctl down`; crewd's messages appear on standard error.\n"
                "With --detach they go to crewd.log beside the audit.\n"
                "When the crew runs already, what the file changes is shown (crewctl plan) and applied with the least\n"
                "restarts: unchanged agents go on with their tasks.  What does not work out is taken back: exit 1, and\n"
                "everything is as it was.  --restart of a crew that then does not start starts the former file again, if\n"
                "that is still on disk as it ran.\n"
                "\n"
                "  crewctl up crew.yaml --detach && crewctl status\n"
                "  crewctl plan crew.yaml; crewctl up --plan DIGEST crew.yaml\n",
        .options = options,
        .n_options = ELEMENTSOF(options),
        .operands = CLI_COMPLETE_FILE,
        .run = run,
};
