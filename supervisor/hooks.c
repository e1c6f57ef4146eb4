/* SPDX-License-Identifier: Apache-2.0 */
/* The side of crewd: JSON out, outcome into the log and the agent's audit. */
#include "hooks.h"

#include "channel.h"
#include "common/util.h"
#include "crewd.h"
#include "death.h"
#include "hook_outbox.h"
#include "hooks_wire.h"
#include "journal.h"
#include "termination.h"

#include <errno.h>
#include <limits.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>

struct hooks {
        struct crewd *crewd;
        struct channel *channel; /* NULL: the runner is gone */
        struct hook_outbox *outbox;
        unsigned running;    /* of the outbox: handed out */
        uint64_t tidy_at_ns; /* 0: the outbox is empty on disk, or something waits in it */
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

/* NULL: the crew file has lost that agent since. */
static struct agent *agent_of(struct crewd *c, const struct hook_outbox_item *i) {
        return crewd_agent_by_name(c, i->agent);
}

static void describe(int status, char *text, size_t size) {
        if (status == 0)
                snprintf(text, size, "on_agent_terminated ran");
        else if (status == -1)
                snprintf(text, size, "on_agent_terminated was killed after %llu s", HOOKS_TIMEOUT_NS / 1000000000ull);
        else if (status == -2)
                snprintf(text, size, "on_agent_terminated could not be started");
        else
                snprintf(text, size, "on_agent_terminated ended with status %d", status);
}

/* Recorded first, acknowledged then: in between is a repeat, the other way round a loss. */
static void on_message(const void *bytes, int *fds, size_t n_fds, void *user) {
        const struct hook_msg *m = bytes;
        struct hooks *h = user;
        struct crewd *c = h->crewd;
        const struct hook_outbox_item *i = hook_outbox_find(h->outbox, m->id);
        char text[256];

        (void)fds;
        (void)n_fds;
        if (!i || !i->running)
                return;
        h->running--;
        describe(m->status, text, sizeof(text));
        struct agent *a = agent_of(c, i);
        if (a)
                journal_hook(a, c->file->hook_terminated[0], m->status, text);
        if (m->status != 0)
                crewd_log(c, "hook %s for agent %s", text, i->agent);
        hook_outbox_ack(h->outbox, m->id);
        hooks_run(h);
        h->tidy_at_ns = hook_outbox_count(h->outbox) == 0 ? crew_now_ns() + HOOKS_QUIET_NS : 0;
        crewd_progress(c);
}

/* What waits, and what still comes, is for the next crewd of this crew. */
static void on_hangup(void *user) {
        struct hooks *h = user;

        crewd_log(h->crewd, "the hook runner is gone: no hook runs before the next start");
        channel_close(crew_steal_ptr(&h->channel));
        crewd_progress(h->crewd);
}

static int open_outbox(struct hooks *h, struct crew_err *err) {
        struct crewd *c = h->crewd;
        char path[PATH_MAX];
        uint32_t dropped;

        snprintf(path, sizeof(path), "%.*s/%s/hooks.outbox", PATH_MAX - 128, c->paths.state, c->file->name);
        int r = hook_outbox_open(path, &h->outbox, &dropped, err);
        if (r < 0)
                return r;
        size_t n = hook_outbox_count(h->outbox);
        if (n > 0)
                crewd_log(c, "%zu termination%s that the hook was not told of before crewd ended", n, n == 1 ? "" : "s");
        if (dropped > 0)
                crewd_log(c, "%s: %u lines had no meaning, or were cut off", path, dropped);
        return 0;
}

int hooks_open(struct crewd *c, int fd, struct hooks **out, struct crew_err *err) {
        static const struct channel_callbacks cb = {
                .on_message = on_message, .on_hangup = on_hangup, .head_bytes = HOOK_MSG_HEAD};
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
        if ((r = open_outbox(h, err)) < 0) {
                hooks_close(h);
                return r;
        }
        *out = h;
        return 0;
}

void hooks_close(struct hooks *h) {
        if (!h)
                return;
        if (h->channel)
                channel_close(h->channel);
        hook_outbox_close(h->outbox);
        free(h);
}

uint64_t hooks_next_deadline(const struct hooks *h) {
        return h && h->tidy_at_ns ? h->tidy_at_ns : UINT64_MAX;
}

void hooks_expire(struct hooks *h, uint64_t now_ns) {
        if (!h || !h->tidy_at_ns || now_ns < h->tidy_at_ns)
                return;
        h->tidy_at_ns = 0;
        hook_outbox_tidy(h->outbox);
}

bool hooks_idle(const struct hooks *h) {
        return !h || !h->channel || hook_outbox_count(h->outbox) == 0;
}

void hooks_missed(struct agent *a) {
        journal_hook(a, a->crewd->file->hook_terminated[0], -2, "on_agent_terminated was not run: too many wait");
}

bool hooks_keep(struct hooks *h, struct agent *a, const struct termination *t) {
        struct crew_err err = CREW_ERR_NULL;
        _cleanup_free_ char *json = NULL;
        size_t n = 0;

        if (!h)
                return true;
        h->tidy_at_ns = 0;
        int r = termination_json(a, t, TERMINATION_OUTSIDE, &json, &n);
        if (r == 0)
                r = hook_outbox_add(h->outbox, t->id, agent_name(a), json, n, &err);
        if (r == -ENOBUFS || !json)
                return false;
        if (r < 0)
                crewd_log(h->crewd, "the hook's outbox: %s", err.msg);
        return true;
}

void hooks_forget(struct hooks *h, bool (*which)(const char *json, void *user), void *user) {
        const struct hook_outbox_item *i = h ? hook_outbox_first(h->outbox) : NULL;

        while (i) {
                const struct hook_outbox_item *next = i->next;
                if (which(i->json, user))
                        hook_outbox_ack(h->outbox, i->id);
                i = next;
        }
}

void hooks_sync(struct hooks *h) {
        struct crew_err err = CREW_ERR_NULL;

        if (h && hook_outbox_sync(h->outbox, &err) < 0)
                crewd_log(h->crewd, "the hook's outbox: %s", err.msg);
}

static int run(struct hooks *h, struct hook_outbox_item *i, struct hook_msg *m) {
        m->id = i->id;
        m->status = 0;
        m->n = (uint32_t)i->n;
        memcpy(m->json, i->json, i->n);
        int r = channel_send_part(h->channel, m, HOOK_MSG_HEAD + i->n);
        i->running = r == 0;
        h->running += i->running;
        return r;
}

void hooks_run(struct hooks *h) {
        _cleanup_free_ struct hook_msg *m = NULL;
        struct hook_outbox_item *i;

        while (h && h->channel && h->running < HOOKS_HANDED_OUT && (i = hook_outbox_next(h->outbox))) {
                if (i->n > TERMINATION_JSON_MAX) /* nothing of ours is that long; a file may be anybody's */
                        hook_outbox_ack(h->outbox, i->id);
                else if ((!m && !(m = malloc(sizeof(*m)))) || run(h, i, m) < 0)
                        return;
        }
}
