/* SPDX-License-Identifier: Apache-2.0 */
/*
 * crewctl exec: runs a command inside a live agent's jail, its streams attached, its exit status ours.
 *
 * Standard input is read only while nothing waits to be sent, and crewd's words only while little output waits here for a
 * slow reader: the command is then held back, as by a pipe.  With --json it is kept, up to a bound, and printed at the end.
 */
#include "cli.h"

#include "client.h"
#include "common/util.h"
#include "jsonout.h"
#include "outq.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/signalfd.h>

#define INPUT_MAX 32768
#define OUTPUT_WAITS ((size_t)1 << 20)

struct options {
        const char *crew, *agent;
        bool json;
};

static const struct cli_option options[] = {
        {"agent", 'a', CLI_STRING, offsetof(struct options, agent), "AGENT", "in whose jail", CLI_COMPLETE_AGENT},
        CLI_OPTION_CREW(struct options),
        CLI_OPTION_JSON(struct options),
};

struct exec {
        struct client *client;
        uint64_t seq; /* of the request: everything about the command carries it */
        int signal_fd;
        bool input_open, json, cut;
        bool ended;
        int code, signal;
        char error[513];
        struct outq out[2]; /* stdout, stderr */
};

static int send_input(struct exec *x, const void *bytes, size_t n, bool eof, int signal, struct cli_problem *p) {
        Crew__Envelope e = CREW__ENVELOPE__INIT;
        Crew__ExecInput input = CREW__EXEC_INPUT__INIT;

        input.data.data = (uint8_t *)bytes;
        input.data.len = n;
        input.eof = eof;
        input.send_signal = signal;
        e.corr = x->seq;
        e.body_case = CREW__ENVELOPE__BODY_EXEC_INPUT;
        e.exec_input = &input;
        return client_send(x->client, &e, NULL, p);
}

static int forward_input(struct exec *x, struct cli_problem *p) {
        char buf[INPUT_MAX];
        ssize_t n = read(STDIN_FILENO, buf, sizeof(buf));

        if (n < 0 && (errno == EINTR || errno == EAGAIN))
                return 0;
        x->input_open = n > 0;
        return send_input(x, buf, n > 0 ? (size_t)n : 0, n <= 0, 0, p);
}

static int forward_signals(struct exec *x, struct cli_problem *p) {
        struct signalfd_siginfo info;

        while (read(x->signal_fd, &info, sizeof(info)) == (ssize_t)sizeof(info)) {
                if (send_input(x, "", 0, false, (int)info.ssi_signo, p) < 0)
                        return -1;
        }
        return 0;
}

static int put_output(struct exec *x, const Crew__ExecOutput *o, struct cli_problem *p) {
        int r = outq_put(&x->out[o->stream == 2], o->data.data, o->data.len);

        if (r == -ENOMEM)
                return cli_problem_set(p, CLI_INTERNAL, "memory", "out of memory");
        if (r == -ENOBUFS && !x->json)
                return cli_problem_set(p, CLI_FAILED, "slow-reader",
                                       "the command was ended: its output came faster than it was read");
        x->cut = x->cut || r == -ENOBUFS;
        return 0;
}

/* Somebody who no longer reads our output ends the command as a broken pipe would. */
static int write_output(struct exec *x, struct outq *q, struct cli_problem *p) {
        return outq_write(q) < 0 ? send_input(x, "", 0, true, SIGPIPE, p) : 0;
}

static void ended(struct exec *x, const Crew__Done *d) {
        x->ended = true;
        x->code = d->exit_code;
        x->signal = d->term_signal;
        snprintf(x->error, sizeof(x->error), "%s", d->text);
}

/* One frame about the command. */
static int on_frame(struct exec *x, const Crew__Envelope *e, struct cli_problem *p) {
        if (e->corr != x->seq)
                return 0;
        switch (e->body_case) {
        case CREW__ENVELOPE__BODY_EXEC_OUTPUT:
                return put_output(x, e->exec_output, p);
        case CREW__ENVELOPE__BODY_DONE:
                ended(x, e->done);
                return 0;
        case CREW__ENVELOPE__BODY_REFUSED:
                return client_refused(e->refused, p);
        default: /* nothing else concerns us */
                return 0;
        }
}

static int take_frames(struct exec *x, struct cli_problem *p) {
        const Crew__Envelope *e = NULL;
        int r = 0;

        while (!x->ended && (r = client_take(x->client, &e, p)) > 0) {
                if (on_frame(x, e, p) < 0)
                        return -1;
        }
        return r;
}

static int pump(struct exec *x, struct cli_problem *p) {
        int r = client_pump(x->client, p);
        struct cli_problem ignored = CLI_PROBLEM_NULL;

        if (r < 0) /* the last frames came before the hang-up */
                return take_frames(x, &ignored) < 0 || !x->ended ? -1 : 0;
        return 0;
}

static bool reader_behind(const struct exec *x) {
        return !x->json && (x->out[0].used > OUTPUT_WAITS || x->out[1].used > OUTPUT_WAITS);
}

static int converse(struct exec *x, struct cli_problem *p) {
        while (!x->ended) {
                if (take_frames(x, p) < 0)
                        return -1;
                if (x->ended)
                        return 0;
                bool busy = client_wants_write(x->client);
                struct pollfd fds[] = {
                        {.fd = client_fd(x->client),
                         .events = (short)((reader_behind(x) ? 0 : POLLIN) | (busy ? POLLOUT : 0))},
                        {.fd = x->signal_fd, .events = POLLIN},
                        {.fd = x->input_open && !busy ? STDIN_FILENO : -1, .events = POLLIN},
                        {.fd = x->out[0].used && !x->json ? STDOUT_FILENO : -1, .events = POLLOUT},
                        {.fd = x->out[1].used && !x->json ? STDERR_FILENO : -1, .events = POLLOUT},
                };
                if (poll(fds, ELEMENTSOF(fds), -1) < 0 && errno != EINTR)
                        return cli_problem_set(p, CLI_INTERNAL, "io", "poll: %s", strerror(errno));
                if (fds[0].revents && pump(x, p) < 0)
                        return -1;
                if (fds[1].revents && forward_signals(x, p) < 0)
                        return -1;
                if (!x->ended && fds[2].revents && forward_input(x, p) < 0)
                        return -1;
                for (int i = 0; i < 2; i++) {
                        if (fds[3 + i].revents && write_output(x, &x->out[i], p) < 0)
                                return -1;
                }
        }
        return 0;
}

static int request(struct exec *x, const char *agent, const struct cli_operands *command, struct cli_problem *p) {
        Crew__Envelope e = CREW__ENVELOPE__INIT;
        Crew__ClientExec exec = CREW__CLIENT_EXEC__INIT;
        sigset_t set;

        sigemptyset(&set);
        sigaddset(&set, SIGINT);
        sigaddset(&set, SIGTERM);
        sigaddset(&set, SIGHUP);
        sigaddset(&set, SIGQUIT);
        sigprocmask(SIG_BLOCK, &set, NULL);
        signal(SIGPIPE, SIG_IGN);
        x->signal_fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
        exec.agent = (char *)agent;
        exec.argv = command->items;
        exec.n_argv = command->n;
        e.body_case = CREW__ENVELOPE__BODY_CLIENT_EXEC;
        e.client_exec = &exec;
        return client_send(x->client, &e, &x->seq, p);
}

static json_t *kept_json(struct outq *q) {
        return outq_put(q, "", 1) == 0 && q->buf ? jsonout_text(q->buf + q->head) : json_string("");
}

static void print_json(struct exec *x, const char *agent) {
        json_t *o =
                json_pack("{s:o, s:i, s:i, s:o, s:o, s:b}", "agent", jsonout_text(agent), "exit_code", x->code, "signal",
                          x->signal, "stdout", kept_json(&x->out[0]), "stderr", kept_json(&x->out[1]), "cut", (int)x->cut);

        if (x->error[0])
                json_object_set_new(o, "error", jsonout_text(x->error));
        jsonout_print(o);
}

static int finish(struct exec *x, const char *agent, const char *command) {
        if (x->json) {
                print_json(x, agent);
        } else {
                outq_flush(&x->out[0]);
                outq_flush(&x->out[1]);
                if (x->error[0])
                        cli_fail(false, 0, "exec", "%s: %s", command, x->error);
        }
        return x->signal > 0 ? 128 + x->signal : x->code;
}

static int run(const struct cli_verb *self, int argc, char **argv) {
        struct options o = {0};
        struct exec x = {.signal_fd = -1, .input_open = true, .out = {{.fd = STDOUT_FILENO}, {.fd = STDERR_FILENO}}};
        struct cli_problem problem = CLI_PROBLEM_NULL;
        _cleanup_client_ struct client *c = NULL;
        struct cli_operands command;
        int status;

        if (!cli_parse(self, argc, argv, &o, &command, &status))
                return status;
        if (!o.agent || command.n == 0)
                return cli_fail(o.json, CLI_USAGE, "usage", "%s; crewctl exec --agent AGENT -- COMMAND...",
                                o.agent ? "which command?" : "which agent?");
        if (client_open(o.crew, &c, &problem) < 0)
                return cli_report(&problem, o.json);
        x.client = c;
        x.json = o.json;
        if (request(&x, o.agent, &command, &problem) < 0 || converse(&x, &problem) < 0)
                status = cli_report(&problem, o.json);
        else
                status = finish(&x, o.agent, command.items[0]);
        outq_fini(&x.out[0]);
        outq_fini(&x.out[1]);
        crew_close(&x.signal_fd);
        return status;
}

const struct cli_verb verb_exec = {
        .name = "exec",
        .synopsis = "--agent AGENT [--crew NAME] [--json] [--] COMMAND...",
        .summary = "run a command inside a live agent's jail, under the same walls",
        .details = "Standard streams are attached, SIGINT and SIGTERM are passed on, and the command's exit status\n"
                   "(128 + signal when it was killed) is crewctl's.  What it does is in the agent's audit.\n"
                   "\n"
                   "  crewctl exec --agent data-collector -- ls -la /tmp\n"
                   "  echo hello | crewctl exec --agent data-collector -- sh -c 'cat > /tmp/note'\n",
        .options = options,
        .n_options = ELEMENTSOF(options),
        .operands = CLI_COMPLETE_COMMAND,
        .command = true,
        .run = run,
};
