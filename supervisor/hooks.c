/* SPDX-License-Identifier: Apache-2.0 */
/* The side of crewd: JSON out, outcome into the log and the agent's audit. */
#include "hooks.h"

#include "channel.h"
#include "common/util.h"
#include "crewd.h"
#include "death.h"
#include "hooks_wire.h"
#include "journal.h"
#include "jsontext.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>

struct hooks {
        struct crewd *crewd;
        struct channel *channel;
        uint32_t waiting;
};

int hooks_start_runner(const char *const *command, struct crew_err *err) {
        int pair[2], room = 4 << 20;

        if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
                return crew_fail_errno(err, "cannot make a socket pair for hooks");
        setsockopt(pair[0], SOL_SOCKET, SO_SNDBUF, &room, sizeof(room));
        setsockopt(pair[1], SOL_SOCKET, SO_SNDBUF, &room, sizeof(room));
        pid_t pid = fork();
        if (pid == 0) {
                hook_runner(pair[1], command);
        }
        close(pair[1]);
        if (pid < 0) {
                close(pair[0]);
                return crew_fail_errno(err, "cannot start the hook runner");
        }
        return pair[0];
}

static void on_message(const void *bytes, int *fds, size_t n_fds, void *user) {
        const struct hook_msg *m = bytes;
        struct hooks *h = user;
        struct crewd *c = h->crewd;
        char text[256];

        (void)fds;
        (void)n_fds;
        h->waiting -= h->waiting > 0;
        if (m->agent >= c->n_agents)
                return;
        struct agent *a = &c->agents[m->agent];
        if (m->status == 0)
                snprintf(text, sizeof(text), "on_agent_terminated ran");
        else if (m->status == -1)
                snprintf(text, sizeof(text), "on_agent_terminated was killed after %llu s",
                         HOOKS_TIMEOUT_NS / 1000000000ull);
        else if (m->status == -2)
                snprintf(text, sizeof(text), "on_agent_terminated could not be started");
        else
                snprintf(text, sizeof(text), "on_agent_terminated ended with status %d", m->status);
        journal_hook(a, c->file->hook_terminated[0], m->status, text);
        if (m->status != 0)
                crewd_log(c, "hook %s for agent %s", text, agent_name(a));
        crewd_progress(c);
}

static void on_hangup(void *user) {
        struct hooks *h = user;
        struct crewd *c = h->crewd;

        crewd_log(c, "the hook runner is gone: no hook runs any more");
        c->hooks = NULL;
        hooks_close(h);
        crewd_progress(c);
}

int hooks_open(struct crewd *c, int fd, struct hooks **out, struct crew_err *err) {
        static const struct channel_callbacks cb = {.on_message = on_message, .on_hangup = on_hangup};
        struct hooks *h = calloc(1, sizeof(*h));

        if (!h) {
                close(fd);
                return crew_fail(err, ENOMEM, "out of memory");
        }
        h->crewd = c;
        int r = channel_open(&c->loop, fd, sizeof(struct hook_msg), &cb, h, &h->channel, err);
        if (r < 0) {
                free(h);
                return r;
        }
        *out = h;
        return 0;
}

void hooks_close(struct hooks *h) {
        if (!h)
                return;
        channel_close(h->channel);
        free(h);
}

bool hooks_idle(const struct hooks *h) {
        return !h || h->waiting == 0;
}

static void put_strings(struct json_text *t, const char *key, const char (*items)[128], size_t n) {
        json_key(t, key);
        json_open(t, '[');
        for (size_t i = 0; i < n; i++)
                json_str(t, items[i]);
        json_close(t, ']');
}

/* Version 1 of the termination record, field for field what AgentTerminated carries. */
static void write_json(struct json_text *t, const struct agent *a, const struct termination *d) {
        json_open(t, '{');
        json_key(t, "version"), json_int(t, 1);
        json_key(t, "event"), json_str(t, "agent-terminated");
        json_key(t, "id"), json_int(t, (int64_t)d->id);
        json_key(t, "crew"), json_str(t, a->crewd->file->name);
        json_key(t, "agent"), json_str(t, agent_name(a));
        json_key(t, "incarnation"), json_int(t, d->incarnation);
        json_key(t, "cause"), json_str(t, death_cause_name(d->death.cause));
        json_key(t, "exit_code"), json_int(t, d->exit_code);
        json_key(t, "term_signal"), json_int(t, d->signal);
        json_key(t, "initiator"), json_str(t, d->death.initiator);
        json_key(t, "reason"), json_str(t, d->death.reason);
        json_key(t, "task"), json_str(t, d->task[0] ? d->task : NULL);
        put_strings(t, "calls_in_flight", d->calls, d->n_calls);
        json_key(t, "side_effects_possible"), json_bool(t, d->effects);
        json_key(t, "restartable"), json_bool(t, d->restartable);
        json_key(t, "attempt"), json_int(t, d->attempt);
        json_key(t, "audit_seq"), json_int(t, (int64_t)d->audit_seq);
        json_key(t, "audit_path"), json_str(t, audit_path(a->audit));
        json_key(t, "stderr_tail"), json_str(t, d->stderr_tail);
        json_key(t, "processes_killed"), json_int(t, d->processes);
        json_key(t, "kill_us"), json_int(t, (int64_t)d->kill_us);
        json_key(t, "time_ms"), json_int(t, (int64_t)d->time_ms);
        json_close(t, '}');
}

void hooks_terminated(struct hooks *h, struct agent *a, const struct termination *t) {
        struct json_text text = JSON_TEXT(HOOKS_JSON_MAX);
        _cleanup_free_ struct hook_msg *m = NULL;
        _cleanup_free_ char *json = NULL;
        size_t n = 0;

        if (!h)
                return;
        write_json(&text, a, t);
        if (h->waiting >= HOOKS_WAITING_MAX || json_text_take(&text, &json, &n) < 0 || !(m = calloc(1, sizeof(*m)))) {
                json_text_fini(&text);
                journal_hook(a, h->crewd->file->hook_terminated[0], -2, "on_agent_terminated was not run: too many wait");
                return;
        }
        m->id = t->id;
        m->agent = a->index;
        m->n = (uint32_t)n;
        memcpy(m->json, json, n);
        if (channel_send(h->channel, m, NULL, 0) == 0)
                h->waiting++;
}
