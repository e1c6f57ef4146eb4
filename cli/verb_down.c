/* SPDX-License-Identifier: Apache-2.0 */
/* crewctl down: stops a running crew and waits until nothing of it is left. */
#include "cli.h"

#include "client.h"
#include "common/util.h"
#include "grace.h"
#include "held.h"
#include "jsonout.h"
#include "text.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/syscall.h>

#define SLACK_MS 30000

struct options {
        const char *crew, *reason;
        uint64_t grace_ns;
        bool json;
};

static const struct cli_option options[] = {
        {"grace", 'g', CLI_DURATION, offsetof(struct options, grace_ns), "TIME", "what agents get to end (default 30s)",
         CLI_COMPLETE_NONE},
        {"reason", 'r', CLI_STRING, offsetof(struct options, reason), "TEXT", "why; goes into the audit",
         CLI_COMPLETE_NONE},
        CLI_OPTION_CREW(struct options),
        CLI_OPTION_JSON(struct options),
};

static int count_living(struct client *c, size_t *n, struct cli_problem *problem) {
        const Crew__Status *s = NULL;

        if (client_status(c, &s, problem) < 0)
                return -1;
        for (size_t i = 0; i < s->n_agents; i++)
                *n += s->agents[i]->pid != 0;
        return 0;
}

/* crewd says it is done and then exits; wait for the exit, so that the same crew can be started at once. */
static void await_exit(int pidfd) {
        struct pollfd fd = {.fd = pidfd, .events = POLLIN};

        while (pidfd >= 0 && poll(&fd, 1, SLACK_MS) < 0 && errno == EINTR)
                ;
}

static int stop(struct client *c, const struct options *o, struct cli_problem *problem) {
        Crew__Envelope e = CREW__ENVELOPE__INIT;
        Crew__StopCrew request = CREW__STOP_CREW__INIT;
        const Crew__Envelope *answer = NULL;
        char what[96];
        uint64_t grace_ms = o->grace_ns / 1000000u;
        pid_t pid = (pid_t)client_server_pid(c);
        _cleanup_close_ int pidfd = pid > 0 ? (int)syscall(SYS_pidfd_open, pid, 0) : -1;

        request.grace_ms = grace_ms;
        request.reason = (char *)(o->reason ? o->reason : "crewctl down");
        e.body_case = CREW__ENVELOPE__BODY_STOP_CREW;
        e.stop_crew = &request;
        snprintf(what, sizeof(what), "crew %s", client_crew(c));
        const struct grace g = {.what = what, .grace_ms = grace_ms, .quiet = o->json};
        if (grace_call(c, &e, &g, &answer, problem) < 0 && strcmp(problem->code, "closed") != 0)
                return -1;
        await_exit(pidfd);
        return 0;
}

/* Its crewd is gone: its agents are ended by their spawner, and with them all of it. */
static bool end_held(const struct options *o, int *status) {
        struct crew_paths paths;
        struct held_state s;
        char crew[CREW_NAME_MAX];

        if (crew_paths_init(&paths, NULL) < 0 || !held_choose(&paths, o->crew, crew, &s))
                return false;
        int n = held_end(&paths, crew, "", o->reason ? o->reason : "crewctl down");
        if (n < 0) {
                struct cli_problem p = CLI_PROBLEM_NULL;
                if (n == -EBUSY)
                        cli_problem_set(&p, CLI_FAILED, "busy",
                                        "the agents of crew %s were killed, and it has a crewd again", crew);
                else if (n == -ETIMEDOUT)
                        cli_problem_set(&p, CLI_FAILED, "timeout",
                                        "the agents of crew %s were killed, and something of them has not ended yet", crew);
                else
                        cli_problem_set(&p, CLI_FAILED, "held", "the agents of crew %s are held and cannot be ended: %s",
                                        crew, strerror(-n));
                *status = cli_report(&p, o->json);
        } else if (o->json) {
                *status = CLI_OK;
                jsonout_print(json_pack("{s:s, s:s, s:i}", "crew", crew, "state", "stopped", "agents", n));
        } else {
                *status = CLI_OK;
                printf("crew %s stopped: its crewd was gone, %d held agent%s ended\n", crew, n, n == 1 ? "" : "s");
        }
        return true;
}

static int run(const struct cli_verb *self, int argc, char **argv) {
        struct options o = {.grace_ns = GRACE_DEFAULT_NS};
        struct cli_problem problem = CLI_PROBLEM_NULL;
        _cleanup_client_ struct client *c = NULL;
        struct cli_operands rest;
        char took[TEXT_WORD];
        size_t living = 0;
        int status;

        if (!cli_parse(self, argc, argv, &o, &rest, &status) || !cli_no_operands(self, &rest, o.json, &status))
                return status;
        uint64_t start = crew_now_ns();
        if (client_open(o.crew, &c, &problem) < 0)
                return strcmp(problem.code, "held") == 0 && end_held(&o, &status) ? status : cli_report(&problem, o.json);
        if (count_living(c, &living, &problem) < 0 || stop(c, &o, &problem) < 0)
                return cli_report(&problem, o.json);
        uint64_t ns = crew_now_ns() - start;
        if (o.json)
                jsonout_print(json_pack("{s:s, s:s, s:I, s:I}", "crew", client_crew(c), "state", "stopped", "agents",
                                        (json_int_t)living, "duration_us", (json_int_t)(ns / 1000u)));
        else
                printf("crew %s stopped: %zu agent%s, %s\n", client_crew(c), living, living == 1 ? "" : "s",
                       text_duration(ns, took));
        return CLI_OK;
}

const struct cli_verb verb_down = {
        .name = "down",
        .synopsis = "[--grace TIME] [--reason TEXT] [--crew NAME] [--json]",
        .summary = "stop a running crew; returns when nothing of it is left",
        .details = "Every agent is told, its programs get SIGTERM, and what is left after the grace is killed.\n"
                   "\n"
                   "  crewctl down\n"
                   "  crewctl down --crew financial-analysis --grace 5s\n",
        .options = options,
        .n_options = ELEMENTSOF(options),
        .run = run,
};
