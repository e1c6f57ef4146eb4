/* SPDX-License-Identifier: Apache-2.0 */
#include "spawner.h"

#include "channel.h"
#include "common/util.h"

#include <errno.h>
#include <string.h>

struct spawner {
        struct channel *channel;
        struct spawner_callbacks cb;
        void *user;
};

static void on_message(const void *bytes, int *fds, size_t n_fds, void *user) {
        struct spawner *s = user;
        struct spawn_msg m;

        memcpy(&m, bytes, sizeof(m));
        m.step[sizeof(m.step) - 1] = m.text[sizeof(m.text) - 1] = '\0';
        switch (m.op) {
        case SPAWN_HELLO:
                s->cb.on_hello(m.text, s->user);
                break;
        case SPAWN_READY:
                s->cb.on_ready(m.id, &m.att, fds, n_fds, s->user);
                break;
        case SPAWN_FAILED:
                s->cb.on_failed(m.id, m.errno_, m.step, m.text, s->user);
                break;
        case SPAWN_EXITED:
                s->cb.on_exited(m.id, &m.exit, s->user);
                break;
        case SPAWN_STATS_REPLY:
                s->cb.on_stats(m.id, m.cookie, &m.stats, s->user);
                break;
        case SPAWN_LIMITS_REPLY:
                s->cb.on_limits(m.id, m.cookie, m.errno_, s->user);
                break;
        case SPAWN_FREEZE_REPLY:
                s->cb.on_held(m.id, m.cookie, m.errno_, s->user);
                break;
        default:
                break; /* a newer spawner's word: not ours to act on */
        }
}

static void on_turn(bool begins, void *user) {
        struct spawner *s = user;

        s->cb.on_turn(begins, s->user);
}

static void on_hangup(void *user) {
        struct spawner *s = user;

        s->cb.on_gone(s->user);
}

int spawner_open(uv_loop_t *loop, int fd, const struct spawner_callbacks *cb, void *user, struct spawner **out,
                 struct crew_err *err) {
        static const struct channel_callbacks channel_cb = {
                .on_message = on_message, .on_hangup = on_hangup, .on_turn = on_turn};
        struct spawner *s = calloc(1, sizeof(*s));

        if (!s) {
                close(fd);
                return crew_fail(err, ENOMEM, "out of memory");
        }
        s->cb = *cb;
        s->user = user;
        int r = channel_open(loop, fd, sizeof(struct spawn_msg), &channel_cb, s, &s->channel, err);
        if (r < 0) {
                free(s);
                return r;
        }
        *out = s;
        return 0;
}

void spawner_close(struct spawner *s) {
        if (!s)
                return;
        channel_close(s->channel);
        free(s);
}

void spawner_wait(struct spawner *s) {
        channel_hold(s->channel);
}

void spawner_let_go(struct spawner *s, bool go_on) {
        channel_release(s->channel, go_on);
}

int spawner_keep(struct spawner *s, const struct spawn_hold *hold, int listener, int state, int notes) {
        const struct spawn_msg m = {.op = SPAWN_HOLD, .hold = *hold};
        const int fds[] = {listener, state, notes};

        return channel_send(s->channel, &m, fds, hold->ms ? 3 : 0);
}

int spawner_relink(struct spawner *s, uint32_t id, const char *link_path) {
        struct spawn_msg m = {.op = SPAWN_RELINK, .id = id};

        snprintf(m.text, sizeof(m.text), "%s", link_path);
        return channel_send(s->channel, &m, NULL, 0);
}

int spawner_start(struct spawner *s, uint32_t id, const int *fds, size_t n_fds, const char *link_path,
                  struct crew_err *err) {
        struct spawn_msg m = {.op = SPAWN_START, .id = id};

        if (strlen(link_path) >= sizeof(m.text))
                return crew_fail(err, ENAMETOOLONG, "link path too long: %s", link_path);
        strcpy(m.text, link_path);
        int r = channel_send(s->channel, &m, fds, n_fds);
        if (r < 0)
                return crew_fail(err, -r, "cannot reach the spawner: %s", strerror(-r));
        return 0;
}

int spawner_ask(struct spawner *s, uint32_t id, enum spawn_op op) {
        struct spawn_msg m = {.op = op, .id = id};

        return channel_send(s->channel, &m, NULL, 0);
}

int spawner_hold(struct spawner *s, uint32_t id, bool freeze, uint32_t cookie) {
        struct spawn_msg m = {.op = freeze ? SPAWN_FREEZE : SPAWN_THAW, .id = id, .cookie = cookie};

        return channel_send(s->channel, &m, NULL, 0);
}

int spawner_stats(struct spawner *s, uint32_t id, uint32_t cookie) {
        struct spawn_msg m = {.op = SPAWN_STATS, .id = id, .cookie = cookie};

        return channel_send(s->channel, &m, NULL, 0);
}

int spawner_limit(struct spawner *s, uint32_t id, const struct spawn_limits *l, uint32_t cookie) {
        struct spawn_msg m = {.op = SPAWN_LIMITS, .id = id, .cookie = cookie, .limits = *l};

        return channel_send(s->channel, &m, NULL, 0);
}
