/* SPDX-License-Identifier: Apache-2.0 */
/* crewctl submit: one task for a running crew, and its result; or its end, when we are interrupted. */
#include "cli.h"

#include "cancel.h"
#include "common/util.h"
#include "jsonout.h"
#include "names.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/signalfd.h>
#include <unistd.h>

#define ACCEPT_MS 30000
#define INPUT_MAX 4128768u
#define RETRIES_MAX 10u

struct options {
        const char *crew, *agent, *description, *input, *key;
        uint64_t retries, timeout_ns;
        bool json;
};

static const struct cli_option options[] = {
        {"agent", 'a', CLI_STRING, offsetof(struct options, agent), "AGENT", "who does it, instead of a task's name",
         CLI_COMPLETE_AGENT},
        {"description", 'd', CLI_STRING, offsetof(struct options, description), "TEXT", "what to do, for --agent",
         CLI_COMPLETE_NONE},
        {"input", 'i', CLI_STRING, offsetof(struct options, input), "FILE", "JSON for it; - is standard input",
         CLI_COMPLETE_FILE},
        {"key", 'k', CLI_STRING, offsetof(struct options, key), "KEY", "the same again with this key is not done again",
         CLI_COMPLETE_NONE},
        {"retries", 0, CLI_U64, offsetof(struct options, retries), "N", "attempts after one that failed, at most 10",
         CLI_COMPLETE_NONE},
        {"timeout", 't', CLI_DURATION, offsetof(struct options, timeout_ns), "TIME", "for each attempt", CLI_COMPLETE_NONE},
        CLI_OPTION_CREW(struct options),
        CLI_OPTION_JSON(struct options),
};

static int read_input(const char *file, char **text, struct cli_problem *p) {
        struct crew_err err = CREW_ERR_NULL;
        size_t n = 0;
        int r = strcmp(file, "-") == 0 ? crew_read_fd(STDIN_FILENO, INPUT_MAX, text, &n, &err)
                                       : crew_read_file(file, INPUT_MAX, text, &n, &err);

        if (r == -EFBIG)
                return cli_problem_set(p, CLI_USAGE, "bad-file", "%s: larger than %u bytes", file, INPUT_MAX);
        if (r < 0)
                return cli_problem_set(p, CLI_USAGE, "bad-file", "%s", err.msg);
        if (strlen(*text) != n)
                return cli_problem_set(p, CLI_USAGE, "bad-file", "%s: not JSON: it holds a NUL byte", file);
        return 0;
}

/* --- waiting, with a hand on it --- */

struct waiting {
        struct client *c;
        uint64_t submit, cancel; /* the requests; cancel 0: not asked for */
        char task_id[64];        /* "": not accepted yet */
        int signal_fd, signal;   /* signal 0: none has come */
};

/* What whoever started us does not want us to hear of (nohup, a shell's background job) stays so. */
static int take_signals(struct waiting *w, struct cli_problem *p) {
        static const int numbers[] = {SIGINT, SIGTERM};
        struct sigaction now;
        sigset_t set;

        sigemptyset(&set);
        for (size_t i = 0; i < ELEMENTSOF(numbers); i++) {
                if (sigaction(numbers[i], NULL, &now) == 0 && now.sa_handler != SIG_IGN)
                        sigaddset(&set, numbers[i]);
        }
        sigprocmask(SIG_BLOCK, &set, NULL);
        w->signal_fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
        return w->signal_fd < 0 ? cli_problem_set(p, CLI_INTERNAL, "io", "signalfd: %s", strerror(errno)) : 0;
}

static int cancel(struct waiting *w, struct cli_problem *p) {
        char reason[64];

        snprintf(reason, sizeof(reason), "crewctl submit was interrupted (%s)", w->signal == SIGINT ? "SIGINT" : "SIGTERM");
        fprintf(stderr, "crewctl: cancelling task %s; once more does not wait for it\n", w->task_id);
        return cancel_send(w->c, w->task_id, reason, &w->cancel, p);
}

/* The first one cancels the task, as soon as there is one; those that come together are one.  After that we leave. */
static int on_signal(struct waiting *w, struct cli_problem *p) {
        struct signalfd_siginfo info;
        int came = 0;

        while (read(w->signal_fd, &info, sizeof(info)) == (ssize_t)sizeof(info))
                came = (int)info.ssi_signo;
        if (came && w->signal)
                return cli_problem_set(p, 128 + came, "interrupted", "interrupted; the task %s",
                                       w->cancel ? "is being cancelled" : "may have been taken");
        if (came)
                w->signal = came;
        return w->signal && w->task_id[0] && !w->cancel ? cancel(w, p) : 0;
}

/* 1: *out is how it ended. */
static int on_frame(struct waiting *w, const Crew__Envelope *e, const Crew__TaskDone **out, struct cli_problem *p) {
        if (e->body_case == CREW__ENVELOPE__BODY_REFUSED && w->cancel && e->corr == w->cancel) {
                /* It has just ended, or ends for another reason; and if not, a person should know. */
                if (strcmp(e->refused->code, "failed") == 0)
                        cli_fail(false, 0, "failed", "%s", e->refused->message);
                return 0;
        }
        if (e->corr != w->submit)
                return 0;
        if (e->body_case == CREW__ENVELOPE__BODY_REFUSED)
                return client_refused(e->refused, p);
        if (e->body_case == CREW__ENVELOPE__BODY_TASK_ACCEPTED) {
                snprintf(w->task_id, sizeof(w->task_id), "%s", e->task_accepted->task_id);
                if (isatty(STDERR_FILENO) && !w->signal)
                        fprintf(stderr, "task %s accepted; Ctrl-C cancels it\n", w->task_id);
                return on_signal(w, p);
        }
        if (e->body_case != CREW__ENVELOPE__BODY_TASK_DONE)
                return 0;
        *out = e->task_done;
        return 1;
}

static int take_frames(struct waiting *w, const Crew__TaskDone **out, struct cli_problem *p) {
        const Crew__Envelope *e = NULL;
        int r;

        while ((r = client_take(w->c, &e, p)) > 0) {
                r = on_frame(w, e, out, p);
                if (r != 0)
                        return r;
        }
        return r;
}

/* Milliseconds until crewd should have accepted it; -1: it has. */
static int patience(const struct waiting *w, uint64_t until_ns) {
        uint64_t now = crew_now_ns();

        return w->task_id[0] ? -1 : now >= until_ns ? 0 : (int)((until_ns - now) / 1000000u) + 1;
}

static int wait_done(struct waiting *w, const Crew__TaskDone **out, struct cli_problem *p) {
        uint64_t until_ns = crew_now_ns() + ACCEPT_MS * 1000000ull;

        for (;;) {
                int r = take_frames(w, out, p);
                if (r != 0)
                        return r < 0 ? -1 : 0;
                struct pollfd fds[] = {
                        {.fd = client_fd(w->c), .events = (short)(POLLIN | (client_wants_write(w->c) ? POLLOUT : 0))},
                        {.fd = w->signal_fd, .events = POLLIN},
                };
                int ms = patience(w, until_ns);
                if (ms == 0)
                        return cli_problem_set(p, CLI_FAILED, "timeout", "crewd of crew %s (pid %u) does not answer",
                                               client_crew(w->c), client_server_pid(w->c));
                if (poll(fds, ELEMENTSOF(fds), ms) < 0 && errno != EINTR)
                        return cli_problem_set(p, CLI_INTERNAL, "io", "poll: %s", strerror(errno));
                if (on_signal(w, p) < 0)
                        return -1;
                if (fds[0].revents && client_pump(w->c, p) < 0) {
                        struct cli_problem end = *p; /* what came before the hang-up still counts */
                        r = take_frames(w, out, p);
                        if (r == 0)
                                *p = end;
                        return r == 1 ? 0 : -1;
                }
        }
}

static int submit(struct waiting *w, const struct options *o, const char *task, const char *input, struct cli_problem *p) {
        Crew__Envelope e = CREW__ENVELOPE__INIT;
        Crew__SubmitTask b = CREW__SUBMIT_TASK__INIT;

        b.task = (char *)task;
        b.agent = (char *)(o->agent ? o->agent : "");
        b.description = (char *)(o->description ? o->description : "");
        b.input = (char *)input;
        b.key = (char *)(o->key ? o->key : "");
        b.retries = (uint32_t)o->retries;
        b.timeout_ms = o->timeout_ns / 1000000u;
        e.body_case = CREW__ENVELOPE__BODY_SUBMIT_TASK;
        e.submit_task = &b;
        return client_send(w->c, &e, &w->submit, p);
}

static int print_done(const Crew__TaskDone *d, bool json) {
        bool ok = d->outcome == CREW__OUTCOME__OUTCOME_OK;

        if (json) {
                json_t *v = json_pack("{s:o,s:s,s:I}", "task_id", jsonout_text(d->task_id), "outcome",
                                      name_outcome(d->outcome), "duration_us", (json_int_t)d->duration_us);
                json_object_set_new(v, ok ? "result" : "error", ok ? jsonout_value(d->result) : jsonout_text(d->error));
                if (d->terminated)
                        json_object_set_new(v, "terminated", jsonout_terminated(d->terminated));
                jsonout_print(v);
                return ok ? CLI_OK : CLI_FAILED;
        }
        if (ok)
                puts(d->result);
        else
                cli_fail(false, CLI_FAILED, "failed", "task %s: %s: %s", d->task_id, name_outcome(d->outcome), d->error);
        return ok ? CLI_OK : CLI_FAILED;
}

/* NULL: it is complete. */
static const char *lacks(const struct options *o, const struct cli_operands *rest) {
        if (rest->n > 1 || (rest->n == 1) == (o->agent != NULL))
                return "name either a task of the crew file or --agent AGENT";
        if (o->description && !o->agent)
                return "--description goes with --agent: a task of the crew file has its own";
        if (o->retries > RETRIES_MAX)
                return "--retries is at most 10";
        return NULL;
}

/* Interrupted or not: one that had its result before it could be cancelled has succeeded. */
static int status_of(const struct waiting *w, const Crew__TaskDone *d, bool json) {
        int status = print_done(d, json);

        return w->signal && d->outcome == CREW__OUTCOME__OUTCOME_CANCELLED ? 128 + w->signal : status;
}

static int run(const struct cli_verb *self, int argc, char **argv) {
        struct options o = {0};
        struct cli_problem problem = CLI_PROBLEM_NULL;
        _cleanup_client_ struct client *c = NULL;
        _cleanup_free_ char *input = NULL;
        const Crew__TaskDone *done = NULL;
        struct cli_operands rest;
        int status;

        if (!cli_parse(self, argc, argv, &o, &rest, &status))
                return status;
        const char *wrong = lacks(&o, &rest);
        if (wrong)
                return cli_fail(o.json, CLI_USAGE, "usage", "%s", wrong);
        if ((o.input && read_input(o.input, &input, &problem) < 0) || client_open(o.crew, &c, &problem) < 0)
                return cli_report(&problem, o.json);
        struct waiting w = {.c = c};
        if (take_signals(&w, &problem) < 0 ||
            submit(&w, &o, rest.n ? rest.items[0] : "", input ? input : "", &problem) < 0 ||
            wait_done(&w, &done, &problem) < 0)
                return cli_report(&problem, o.json);
        crew_assert(done);
        return status_of(&w, done, o.json);
}

const struct cli_verb verb_submit = {
        .name = "submit",
        .synopsis = "TASK | --agent AGENT [--description TEXT] [--input FILE] [--key KEY] [options]",
        .summary = "hand a running crew one task, and print its result",
        .details =
                "Waits for the task and prints its result, which is JSON, on standard output.  TASK is one of the crew\n"
                "file, with its results so far as context; --input goes before the crew file's.\n"
                "\n"
                "Ctrl-C (or SIGTERM) cancels the task, and the outcome is waited for; a second one does not wait.\n"
                "\n"
                "With --key the task is done once: the same command with the key again, also while it runs, or after this\n"
                "one lost crewd, prints the outcome of the first; Ctrl-C in any of them cancels it for all, and\n"
                "\"cancelled\" is its outcome.  The key with another task is refused.\n"
                "\n"
                "  crewctl submit collect\n"
                "  crewctl submit --agent report-writer --description 'Summarise' --input notes.json --key week-47\n",
        .options = options,
        .n_options = ELEMENTSOF(options),
        .run = run,
};
