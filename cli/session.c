/* SPDX-License-Identifier: Apache-2.0 */
/* A crew that we started and watch. */
#include "session.h"

#include "common/util.h"
#include "crews.h"
#include "supervisor/policy/lock.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/signalfd.h>

#define TICK_MS 100
#define STOP_SLACK_MS 15000

/* --- opening --- */

static int load(struct session *s, const char *path, bool quiet, struct cli_problem *p) {
        struct policy_report report = {0};
        struct crew_err err = CREW_ERR_NULL;
        int r = crew_load(path, &s->crew, &report, &err);
        size_t errors = report.errors, warnings = report.warnings;
        struct term t;

        term_init(&t, stderr);
        if (r < 0 && errors > 0)
                policy_report_print(&report, stderr, t.colour);
        policy_report_fini(&report);
        if (r < 0 && errors == 0)
                return cli_problem_set(p, CLI_USAGE, "bad-file", "%s", err.msg);
        if (r < 0) {
                cli_problem_set(p, CLI_USAGE, "bad-file", "%s cannot be run: %zu error%s", path, errors,
                                errors == 1 ? "" : "s");
                p->told = true;
                return -1;
        }
        if (warnings > 0 && !quiet)
                fprintf(stderr, "%zu warning%s; crewctl policy check %s shows them\n", warnings, warnings == 1 ? "" : "s",
                        path);
        return 0;
}

/* crewd checks too, with what it has read itself; this is for the person who reads it. */
static int check_lock(struct session *s, struct cli_problem *p) {
        struct policy_report report = {0};
        struct crew_err err = CREW_ERR_NULL;
        int r = crew_lock_verify(s->crew, NULL, &report, &err);
        struct term t;

        term_init(&t, stderr);
        if (r < 0) {
                policy_report_print(&report, stderr, t.colour);
                cli_problem_set(p, CLI_REFUSED, "locked", "%s", err.msg);
                p->told = true;
        }
        policy_report_fini(&report);
        return r < 0 ? -1 : 0;
}

static int refuse_second(struct session *s, struct cli_problem *p) {
        _cleanup_close_ int fd = crew_connect(&s->paths, s->crew->name, 0);

        if (fd < 0 && fd != -EAGAIN)
                return 0;
        cli_problem_set(p, CLI_FAILED, "already-running", "crew %s is running already", s->crew->name);
        cli_problem_hint(p, "look at it: crewctl status --crew %s   stop it: crewctl down --crew %s", s->crew->name,
                         s->crew->name);
        return -1;
}

static int take_signals(struct session *s, struct cli_problem *p) {
        sigset_t set;

        sigemptyset(&set);
        sigaddset(&set, SIGINT);
        sigaddset(&set, SIGTERM);
        sigaddset(&set, SIGHUP);
        sigprocmask(SIG_BLOCK, &set, NULL);
        signal(SIGPIPE, SIG_IGN); /* a pager that quits must not take the crew with it */
        s->signal_fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
        if (s->signal_fd < 0)
                return cli_problem_set(p, CLI_INTERNAL, "io", "signalfd: %s", strerror(errno));
        return 0;
}

/* True when a signal has come since the last look. */
static bool saw_signal(struct session *s) {
        struct signalfd_siginfo info;
        bool seen = false;

        while (read(s->signal_fd, &info, sizeof(info)) == (ssize_t)sizeof(info)) {
                s->signal = (int)info.ssi_signo;
                seen = true;
        }
        return seen;
}

static int interrupted(struct session *s, struct cli_problem *p) {
        return cli_problem_set(p, 128 + s->signal, "interrupted", "interrupted");
}

static int await_ready(struct session *s, struct cli_problem *p) {
        for (;;) {
                int r = launch_ready(&s->launch, TICK_MS, p);
                if (r != 0) {
                        progress_end(s->progress);
                        return r > 0 ? 0 : -1;
                }
                if (saw_signal(s)) {
                        progress_end(s->progress);
                        return interrupted(s, p);
                }
                progress_starting(s->progress, crew_now_ns());
        }
}

static int subscribe(struct session *s, struct cli_problem *p) {
        Crew__Envelope e = CREW__ENVELOPE__INIT;
        Crew__Subscribe request = CREW__SUBSCRIBE__INIT;

        request.since_seq = 1; /* what crewd found at its start is news, too */
        e.body_case = CREW__ENVELOPE__BODY_SUBSCRIBE;
        e.subscribe = &request;
        return client_send(s->client, &e, NULL, p);
}

static int start(struct session *s, const struct session_args *a, struct cli_problem *p) {
        const struct launch_args launch = {
                .crew_file = a->crew_file,
                .crew = s->crew->name,
                .paths = &s->paths,
                .own = a->own,
                .locked = a->locked,
                .stderr_up = a->stderr_up,
        };
        const Crew__Status *status = NULL;

        if (launch_start(&s->launch, &launch, p) < 0 || await_ready(s, p) < 0 ||
            client_open(s->crew->name, &s->client, p) < 0 || client_status(s->client, &status, p) < 0)
                return -1;
        progress_agents(s->progress, status);
        return subscribe(s, p);
}

int session_open(struct session *s, const struct session_args *a, struct cli_problem *p) {
        struct crew_err err = CREW_ERR_NULL;

        *s = SESSION_NULL;
        if (crew_paths_init(&s->paths, &err) < 0)
                return cli_problem_set(p, CLI_FAILED, "paths", "%s", err.msg);
        if (load(s, a->crew_file, a->quiet, p) < 0 || (a->locked && check_lock(s, p) < 0) || refuse_second(s, p) < 0 ||
            take_signals(s, p) < 0)
                return -1;
        s->progress = progress_new(s->crew, a->quiet);
        if (!s->progress)
                return cli_problem_set(p, CLI_INTERNAL, "memory", "out of memory");
        if (start(s, a, p) < 0) {
                launch_kill(&s->launch);
                return -1;
        }
        return 0;
}

void session_close(struct session *s) {
        s->client = client_free(s->client);
        launch_fini(&s->launch);
        s->progress = progress_free(s->progress);
        s->crew = crew_file_free(s->crew);
        crew_close(&s->signal_fd);
}

/* --- waiting --- */

/* Every frame that is there.  1: on_frame wants no more. */
static int take_frames(struct session *s, bool (*on_frame)(const Crew__Envelope *e, void *user), void *user,
                       struct cli_problem *p) {
        const Crew__Envelope *e = NULL;
        int r;

        while ((r = client_take(s->client, &e, p)) > 0) {
                if (e->body_case == CREW__ENVELOPE__BODY_EVENT)
                        progress_event(s->progress, e->event, crew_now_ns());
                else if (on_frame(e, user))
                        return 1;
        }
        return r;
}

int session_wait(struct session *s, bool (*on_frame)(const Crew__Envelope *e, void *user), void *user,
                 struct cli_problem *p) {
        for (;;) {
                int r = take_frames(s, on_frame, user, p);
                if (r != 0)
                        return r;
                struct pollfd fds[] = {
                        {.fd = client_fd(s->client),
                         .events = (short)(POLLIN | (client_wants_write(s->client) ? POLLOUT : 0))},
                        {.fd = s->signal_fd, .events = POLLIN},
                };
                if (poll(fds, ELEMENTSOF(fds), progress_live(s->progress) ? TICK_MS : -1) < 0 && errno != EINTR)
                        return cli_problem_set(p, CLI_INTERNAL, "io", "poll: %s", strerror(errno));
                if (saw_signal(s))
                        return 0;
                if (fds[0].revents && client_pump(s->client, p) < 0) {
                        struct cli_problem ignored = CLI_PROBLEM_NULL; /* what came before the hang-up still counts */
                        return take_frames(s, on_frame, user, &ignored) == 1 ? 1 : -1;
                }
                progress_tick(s->progress, crew_now_ns());
        }
}

/* --- stopping --- */

static bool is_end(const Crew__Envelope *e, void *user) {
        return e->body_case == CREW__ENVELOPE__BODY_DONE && e->corr == *(uint64_t *)user;
}

static int ask_stop(struct session *s, uint64_t grace_ms, const char *reason, uint64_t *seq) {
        struct cli_problem ignored = CLI_PROBLEM_NULL;
        Crew__Envelope e = CREW__ENVELOPE__INIT;
        Crew__StopCrew request = CREW__STOP_CREW__INIT;

        request.grace_ms = grace_ms;
        request.reason = (char *)reason;
        e.body_case = CREW__ENVELOPE__BODY_STOP_CREW;
        e.stop_crew = &request;
        return s->client ? client_send(s->client, &e, seq, &ignored) : -1;
}

/* Until crewd has ended; false when a signal says that it takes too long, or the time is up. */
static bool await_end(struct session *s, uint64_t wait_ms) {
        uint64_t until = crew_now_ns() + wait_ms * 1000000u;

        while (!launch_ended(&s->launch, TICK_MS)) {
                progress_tick(s->progress, crew_now_ns());
                if (saw_signal(s) || crew_now_ns() > until)
                        return false;
        }
        return true;
}

void session_stop(struct session *s, uint64_t grace_ms, const char *reason) {
        struct cli_problem ignored = CLI_PROBLEM_NULL;
        uint64_t seq = 0;

        progress_stopping(s->progress);
        bool clean = ask_stop(s, grace_ms, reason, &seq) == 0;

        /* Read on: crewd must be able to write its last events. */
        if (clean && session_wait(s, is_end, &seq, &ignored) == 0)
                clean = false;
        if (!clean || !await_end(s, grace_ms + STOP_SLACK_MS))
                launch_kill(&s->launch);
        progress_end(s->progress);
        launch_status(&s->launch);
}

void session_died(struct session *s, struct cli_problem *p) {
        progress_end(s->progress);
        if (!launch_ended(&s->launch, STOP_SLACK_MS))
                launch_kill(&s->launch);
        int status = launch_status(&s->launch);
        cli_problem_set(p, CLI_FAILED, "crewd-died", "crewd of crew %s ended unexpectedly (%s %d)", s->crew->name,
                        status > 128 ? "signal" : "status", status > 128 ? status - 128 : status);
        launch_add_log(&s->launch, p);
}
