/* SPDX-License-Identifier: Apache-2.0 */
/* Programs: start, pipes, end.  Owners embed struct program and are told by their ops. */
#include "program.h"

#include "common/util.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/wait.h>

#define READ_BYTES 4096u
#define STDERR_FRAMES 16u /* at once, then quiet for a moment */
#define STDERR_QUIET_MS 10u
#define DRAIN_READS 512u /* a pipe holds at most 1 MiB */

/* ---- pipes ---- */

/* True while there may be more. */
static bool read_stdout(struct program *p) {
        char buf[READ_BYTES], *where = buf;
        size_t room = sizeof(buf);

        if (!p->ops->on_stdout) {
                room = MIN_OF(room, p->max_output + 1 - p->output.n);
                where = strbuf_room(&p->output, room);
        }
        ssize_t r = where ? read(p->out.fd, where, room) : -1;
        if (r < 0 && where && (errno == EAGAIN || errno == EINTR))
                return errno == EINTR;
        if (r <= 0) {
                watch_close(&p->w->loop, &p->out);
                return false;
        }
        bool ok = true;
        if (p->ops->on_stdout) {
                ok = p->ops->on_stdout(p, buf, (size_t)r);
        } else {
                strbuf_added(&p->output, (size_t)r);
                ok = p->output.n <= p->max_output;
        }
        if (!ok) {
                program_stop(p, PROGRAM_TOO_MUCH, 0); /* before the pipe breaks, which it could survive */
                watch_close(&p->w->loop, &p->out);
        }
        return ok;
}

static void keep_tail(struct program *p, const char *data, size_t n) {
        if (n >= sizeof(p->tail)) {
                memcpy(p->tail, data + n - sizeof(p->tail), sizeof(p->tail));
                p->n_tail = sizeof(p->tail);
                return;
        }
        size_t keep = MIN_OF(p->n_tail, sizeof(p->tail) - n);
        memmove(p->tail, p->tail + p->n_tail - keep, keep);
        memcpy(p->tail + keep, data, n);
        p->n_tail = keep + n;
}

static void send_stderr(struct program *p, const char *data, size_t n) {
        Crew__Stderr body = CREW__STDERR__INIT;

        body.source = (char *)p->source;
        body.text = (ProtobufCBinaryData){n, (uint8_t *)data};
        body.dropped = p->stderr_dropped;
        p->stderr_dropped = 0;
        worker_send(p->w, &ENVELOPE(STDERR_TEXT, .stderr_text = &body));
}

static void take_stderr(struct program *p, const char *data, size_t n) {
        size_t fits = MIN_OF(n, p->stderr_left);

        keep_tail(p, data, n);
        p->stderr_left -= fits;
        if (fits)
                send_stderr(p, data, fits);
        p->stderr_dropped += n - fits;
}

static bool read_stderr(struct program *p) {
        char buf[STDERR_FRAME];
        ssize_t r = read(p->err.fd, buf, sizeof(buf));

        if (r < 0 && (errno == EAGAIN || errno == EINTR))
                return errno == EINTR;
        if (r <= 0) {
                watch_close(&p->w->loop, &p->err);
                return false;
        }
        if (p->ops->on_stderr)
                p->ops->on_stderr(p, buf, (size_t)r);
        else
                take_stderr(p, buf, (size_t)r);
        return true;
}

/* What makes frames of its output waits while the link is slow; the program then blocks on its pipe. */
static void watch_output(struct program *p) {
        bool wait = uplink_busy(&p->w->up) || p->held_back, quiet = list_linked(&p->quiet.link);

        (void)watch_set(&p->w->loop, &p->err, wait || quiet ? 0 : EPOLLIN);
        (void)watch_set(&p->w->loop, &p->out, wait && p->ops->on_stderr ? 0 : EPOLLIN);
}

static void on_stdout_ready(struct watch *w, uint32_t events) {
        struct program *p = container_of(w, struct program, out);

        read_stdout(p);
        watch_output(p);
}

static void on_quiet_over(struct timer *t) {
        watch_output(container_of(t, struct program, quiet));
}

/* A frame is a record in crewd's audit: a program that writes byte by byte must not make one of each. */
static void on_stderr_ready(struct watch *w, uint32_t events) {
        struct program *p = container_of(w, struct program, err);
        unsigned frames = p->ops->on_stderr ? 1 : STDERR_FRAMES;

        while (frames-- > 0 && !uplink_busy(&p->w->up) && read_stderr(p))
                ;
        if (!p->ops->on_stderr)
                timer_start(&p->w->loop, &p->quiet, STDERR_QUIET_MS, on_quiet_over);
        watch_output(p);
}

static void close_stdin(struct program *p) {
        watch_close(&p->w->loop, &p->in);
        strbuf_fini(&p->input);
        p->input_sent = 0;
}

static void feed_stdin(struct program *p) {
        size_t left = p->input.n - p->input_sent;

        if (p->in.fd < 0)
                return;
        if (left > 0) {
                ssize_t r = write(p->in.fd, p->input.p + p->input_sent, left);
                if (r < 0 && errno != EAGAIN && errno != EINTR) {
                        close_stdin(p); /* it does not read; not our concern */
                        return;
                }
                p->input_sent += r > 0 ? (size_t)r : 0;
                left = p->input.n - p->input_sent;
        }
        if (left == 0) {
                strbuf_drop(&p->input, p->input_sent);
                p->input_sent = 0;
        }
        if (left == 0 && !p->keep_stdin)
                close_stdin(p);
        else
                (void)watch_set(&p->w->loop, &p->in, left ? EPOLLOUT : 0);
}

static void on_stdin_ready(struct watch *w, uint32_t events) {
        feed_stdin(container_of(w, struct program, in));
}

bool program_write(struct program *p, const char *data, size_t n, size_t max_waiting) {
        if (p->input_sent > p->input.n / 2) {
                strbuf_drop(&p->input, p->input_sent);
                p->input_sent = 0;
        }
        if (p->input.n - p->input_sent + n > max_waiting)
                return false;
        if (p->in.fd < 0)
                return true;
        p->input.max = SIZE_MAX / 2;
        strbuf_put(&p->input, data, n);
        feed_stdin(p);
        return !p->input.failed;
}

void program_end_stdin(struct program *p) {
        p->keep_stdin = false;
        feed_stdin(p);
}

/* ---- start ---- */

static int make_pipe(struct watch *ours, int *theirs, bool we_read, void (*on_ready)(struct watch *, uint32_t)) {
        int fds[2];

        if (pipe2(fds, O_CLOEXEC) < 0)
                return -errno;
        *ours = (struct watch){.fd = fds[we_read ? 0 : 1], .on_ready = on_ready};
        *theirs = fds[we_read ? 1 : 0];
        return fcntl(ours->fd, F_SETFL, O_NONBLOCK) < 0 ? -errno : 0;
}

/* The names that depend on the program; the plan's environment never brings them. */
static bool is_ours(const char *word) {
        static const char *const names[] = {"CREW_AGENT=", "CREW_SOCKET=", "CREW_TASK="};

        for (size_t i = 0; i < ELEMENTSOF(names); i++)
                if (strncmp(word, names[i], strlen(names[i])) == 0)
                        return true;
        return false;
}

struct environment {
        const char **words; /* owned */
        char agent[80], socket[128], task[80];
};

static int make_environment(struct worker *w, const struct program_spec *s, struct environment *e) {
        size_t n = 0;

        e->words = calloc(w->plan->n_env + 4u, sizeof(char *));
        if (!e->words)
                return -ENOMEM;
        for (uint32_t i = 0; i < w->plan->n_env; i++) {
                const char *word = plan_string_at(w->plan, w->plan->first_env + i);
                if (!is_ours(word))
                        e->words[n++] = word;
        }
        snprintf(e->agent, sizeof(e->agent), "CREW_AGENT=%s", w->plan->agent);
        e->words[n++] = e->agent;
        if (s->program->kind == PLAN_PROGRAM_TOOL)
                return 0; /* a tool answers; it does not speak for the agent */
        snprintf(e->socket, sizeof(e->socket), "CREW_SOCKET=%s", w->cfg->socket_path);
        e->words[n++] = e->socket;
        if (s->task) {
                snprintf(e->task, sizeof(e->task), "CREW_TASK=%s", s->task);
                e->words[n++] = e->task;
        }
        return 0;
}

static const char **make_argv(struct worker *w, const struct program_spec *s) {
        const struct plan_program *p = s->program;
        const char **argv = calloc(p->n_args + 1u, sizeof(char *));

        for (uint32_t i = 0; argv && i < p->n_args; i++)
                argv[i] = plan_string_at(w->plan, p->first_arg + i);
        return argv;
}

static void observe_exec(struct worker *w, const char *source, const char *const *argv) {
        char line[256];
        size_t n = 0;

        for (size_t i = 0; argv[i] && n < sizeof(line) - 1; i++)
                n += (size_t)snprintf(line + n, sizeof(line) - n, "%s%s", i ? " " : "", argv[i]);
        worker_observe(w, "exec", "%s: %s", source, line);
}

/* Forks; theirs[] are the program's ends. */
static int launch(struct worker *w, struct program *p, const struct program_spec *s, const int theirs[3]) {
        struct environment env = {0};
        const char **argv = s->argv ? NULL : make_argv(w, s);
        int r = make_environment(w, s, &env);

        if (r == 0 && !s->argv && !argv)
                r = -ENOMEM;
        if (r == 0) {
                const struct jail_exec x = {
                        .layer = s->program->layer,
                        .argv = s->argv ? s->argv : argv,
                        .envp = env.words,
                        .stdio = {theirs[0], theirs[1], theirs[2]},
                        .new_session = true,
                };
                p->started_ns = crew_now_ns();
                r = w->cfg->exec(w->plan, &x);
                if (r > 0)
                        observe_exec(w, s->source, x.argv);
        }
        free(argv);
        free(env.words);
        return r;
}

static void on_deadline(struct timer *t) {
        struct program *p = container_of(t, struct program, deadline);

        program_stop(p, PROGRAM_TIMED_OUT, TERM_GRACE_MS);
        worker_observe(p->w, "limit-wall", "%s: no end after %llu ms", p->source, (unsigned long long)p->timeout_ms);
}

static void close_all(struct program *p) {
        close_stdin(p);
        watch_close(&p->w->loop, &p->out);
        watch_close(&p->w->loop, &p->err);
}

int program_start(struct worker *w, struct program *p, const struct program_spec *s, struct crew_err *err) {
        int theirs[3] = {-1, -1, -1};

        *p = (struct program){.w = w,
                              .ops = s->ops,
                              .source = s->source,
                              .in = WATCH_NULL,
                              .out = WATCH_NULL,
                              .err = WATCH_NULL,
                              .max_output = s->max_output,
                              .keep_stdin = s->keep_stdin,
                              .timeout_ms = s->timeout_ms,
                              .stderr_left = STDERR_BUDGET};
        p->output = STRBUF_MAX(s->max_output + 2); /* one to see too much, one for a NUL */
        if (s->input) {
                p->input = *s->input;
                *s->input = STRBUF_MAX(0);
        }
        int r = make_pipe(&p->in, &theirs[0], false, on_stdin_ready);
        if (r == 0)
                r = make_pipe(&p->out, &theirs[1], true, on_stdout_ready);
        if (r == 0)
                r = make_pipe(&p->err, &theirs[2], true, on_stderr_ready);
        if (r == 0)
                r = p->pid = launch(w, p, s, theirs);
        for (int i = 0; i < 3; i++)
                crew_close(&theirs[i]);
        if (r < 0) {
                close_all(p);
                return crew_fail(err, -r, "cannot start: %s", strerror(-r));
        }
        list_append(&w->programs, &p->link);
        w->max_pid = MAX_OF(w->max_pid, p->pid);
        if (s->timeout_ms)
                timer_start(&w->loop, &p->deadline, s->timeout_ms, on_deadline);
        feed_stdin(p);
        watch_output(p);
        return 0;
}

/* ---- end ---- */

void program_signal(struct program *p, int sig) {
        if (p->reaped)
                return;
        /* Its group is its session's first one; before its setsid() there is only the process. */
        if (kill(-p->pid, sig) < 0 || sig == SIGKILL)
                (void)kill(p->pid, sig);
}

static void on_kill(struct timer *t) {
        program_signal(container_of(t, struct program, kill), SIGKILL);
}

void program_stop(struct program *p, enum program_end why, uint64_t grace_ms) {
        if (p->end == PROGRAM_BY_ITSELF)
                p->end = why;
        timer_stop(&p->deadline);
        if (!grace_ms) {
                program_signal(p, SIGKILL);
        } else if (!list_linked(&p->kill.link)) {
                program_signal(p, SIGTERM);
                program_signal(p, SIGCONT);
                timer_start(&p->w->loop, &p->kill, grace_ms, on_kill);
        }
}

static void finish(struct program *p) {
        struct worker *w = p->w;

        timer_stop(&p->deadline);
        timer_stop(&p->kill);
        timer_stop(&p->quiet);
        list_remove(&p->link);
        strays_kill(w);
        for (unsigned i = 0; i < DRAIN_READS && p->out.fd >= 0 && read_stdout(p); i++)
                ;
        for (unsigned i = 0; i < DRAIN_READS && p->err.fd >= 0 && read_stderr(p); i++)
                ;
        close_all(p);
        if (p->stderr_dropped)
                send_stderr(p, NULL, 0);
        if (p->end == PROGRAM_TOO_MUCH)
                worker_observe(w, "limit-output", "%s: over %zu bytes", p->source, p->max_output);
        else if (WIFSIGNALED(p->status) && WTERMSIG(p->status) == SIGXFSZ)
                worker_observe(w, "limit-output", "%s: wrote a file larger than limits.output", p->source);
        p->ops->on_end(p);
}

void programs_reap(struct worker *w) {
        int status;
        pid_t pid;

        while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
                list_for_each(it, &w->programs) {
                        struct program *p = container_of(it, struct program, link);
                        if (p->pid != pid)
                                continue;
                        p->reaped = true;
                        p->status = status;
                        break;
                }
        }
}

static struct program *first_reaped(struct worker *w) {
        list_for_each(it, &w->programs) {
                struct program *p = container_of(it, struct program, link);
                if (p->reaped)
                        return p;
        }
        return NULL;
}

static void on_children(struct watch *watch, uint32_t events) {
        struct worker *w = container_of(watch, struct worker, children);
        struct signalfd_siginfo si;
        struct program *p;

        while (read(watch->fd, &si, sizeof(si)) > 0)
                ;
        programs_reap(w);
        while (!w->loop.done && (p = first_reaped(w)))
                finish(p);
        worker_stop_if_empty(w);
}

int programs_init(struct worker *w, struct crew_err *err) {
        sigset_t set;

        list_init(&w->programs);
        sigemptyset(&set);
        sigaddset(&set, SIGCHLD);
        sigaddset(&set, SIGPIPE); /* a program that closes its stdin must not end us */
        if (sigprocmask(SIG_BLOCK, &set, NULL) < 0 || signal(SIGCHLD, SIG_DFL) == SIG_ERR)
                return crew_fail_errno(err, "cannot set up signals");
        sigdelset(&set, SIGPIPE);
        w->children = (struct watch){.fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK), .on_ready = on_children};
        if (w->children.fd < 0)
                return crew_fail_errno(err, "signalfd");
        int r = watch_set(&w->loop, &w->children, EPOLLIN);
        return r < 0 ? crew_fail(err, -r, "cannot watch children") : 0;
}

void programs_stop_all(struct worker *w, uint64_t grace_ms) {
        list_for_each(it, &w->programs) program_stop(container_of(it, struct program, link), PROGRAM_STOPPED, grace_ms);
}

void program_resume(struct program *p) {
        watch_output(p);
}

void programs_resume(struct worker *w) {
        list_for_each(it, &w->programs) program_resume(container_of(it, struct program, link));
}

/* ---- what to say about it ---- */

bool program_succeeded(const struct program *p) {
        return p->end == PROGRAM_BY_ITSELF && WIFEXITED(p->status) && WEXITSTATUS(p->status) == 0;
}

int program_exit_code(const struct program *p) {
        return WIFEXITED(p->status) ? WEXITSTATUS(p->status) : -1;
}

int program_term_signal(const struct program *p) {
        return WIFSIGNALED(p->status) ? WTERMSIG(p->status) : 0;
}

uint64_t program_duration_us(const struct program *p) {
        return (crew_now_ns() - p->started_ns) / 1000u;
}

Crew__Outcome program_outcome(const struct program *p) {
        static const Crew__Outcome outcomes[] = {
                [PROGRAM_BY_ITSELF] = CREW__OUTCOME__OUTCOME_FAILED,
                [PROGRAM_TIMED_OUT] = CREW__OUTCOME__OUTCOME_TIMEOUT,
                [PROGRAM_CANCELLED] = CREW__OUTCOME__OUTCOME_CANCELLED,
                [PROGRAM_TOO_MUCH] = CREW__OUTCOME__OUTCOME_FAILED,
                [PROGRAM_STOPPED] = CREW__OUTCOME__OUTCOME_CANCELLED,
        };
        return program_succeeded(p) ? CREW__OUTCOME__OUTCOME_OK : outcomes[p->end];
}

static void describe_status(const struct program *p, char *out, size_t room) {
        int sig = program_term_signal(p);
        const char *name = sig ? sigabbrev_np(sig) : NULL;

        if (!sig)
                snprintf(out, room, "exited with status %d", program_exit_code(p));
        else if (sig == SIGSYS)
                snprintf(out, room, "killed by SIGSYS: a system call its profile does not allow");
        else if (sig == SIGXFSZ)
                snprintf(out, room, "killed by SIGXFSZ: it wrote a file larger than limits.output");
        else if (sig == SIGKILL)
                snprintf(out, room, "killed by SIGKILL, not by us: perhaps limits.memory");
        else
                snprintf(out, room, "killed by signal %d (SIG%s)", sig, name ? name : "?");
}

/* The last line that says something. */
static void add_tail(const struct program *p, char *out, size_t room) {
        size_t n = strlen(out), end = p->n_tail;
        char line[STDERR_TAIL + 1];

        while (end > 0 && (p->tail[end - 1] == '\n' || p->tail[end - 1] == ' '))
                end--;
        size_t from = end;
        while (from > 0 && p->tail[from - 1] != '\n')
                from--;
        text_clean(p->tail + from, end - from, line, sizeof(line));
        if (line[0])
                snprintf(out + n, room - n, ": %s", line);
}

void program_describe(const struct program *p, char *out, size_t room) {
        switch (p->end) {
        case PROGRAM_BY_ITSELF:
                describe_status(p, out, room);
                break;
        case PROGRAM_TIMED_OUT:
                snprintf(out, room, "timed out after %llu ms", (unsigned long long)p->timeout_ms);
                break;
        case PROGRAM_CANCELLED:
                snprintf(out, room, "cancelled");
                break;
        case PROGRAM_TOO_MUCH:
                snprintf(out, room, "wrote more than %zu bytes to stdout", p->max_output);
                return;
        case PROGRAM_STOPPED:
                snprintf(out, room, "its agent was told to end");
                return;
        }
        add_tail(p, out, room);
}
