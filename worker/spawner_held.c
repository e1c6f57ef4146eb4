/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The spawner without a crewd: jails live on until another one comes for them, or their time is over.
 *
 * Guarantees: bounded by SPAWN_HOLD's time from the hang-up on, whatever visitors do; an end is kept until a crewd has said
 * that it knows it for good.  A visitor is of our own uid and knows a token that only files of that uid hold; what else it
 * sends is one message of fixed size, and it gets one second for it.
 */
#include "spawner_internal.h"

#include "common/util.h"

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/time.h>

#define VISIT_S 1
#define DEATHS_NS 1000000000ull

void spawner_on_hold(struct spawner *s, const struct spawn_msg *m, int *fds, size_t n_fds) {
        struct held *h = &s->held;

        crew_close(&h->listener);
        crew_close(&h->state);
        crew_close(&h->notes);
        h->for_ns = 0;
        if (m->hold.ms == 0 || n_fds < 2 || n_fds > 3)
                return;
        h->listener = crew_steal_fd(&fds[0]);
        h->state = crew_steal_fd(&fds[1]);
        h->notes = n_fds == 3 ? crew_steal_fd(&fds[2]) : -1;
        h->for_ns = MIN_OF(m->hold.ms, (uint64_t)UINT32_MAX) * 1000000u;
        memcpy(h->token, m->hold.token, sizeof(h->token));
}

void spawner_on_relink(struct spawner *s, const struct spawn_msg *m, int *fds, size_t n_fds) {
        const struct instance *i = spawner_find(s, m->id);

        (void)fds, (void)n_fds;
        if (i && memchr(m->text, '\0', sizeof(m->text)))
                (void)jail_relink(&i->jail, m->text); /* crewd waits for the worker, and not for ever */
}

/* --- ends --- */

void spawner_keep_exit(struct spawner *s, const struct spawn_msg *m) {
        struct kept_exit *k = s->held.for_ns ? malloc(sizeof(*k)) : NULL;

        if (k) {
                *k = (struct kept_exit){.m = *m, .next = s->held.exits};
                s->held.exits = k;
        }
}

void spawner_on_forget(struct spawner *s, const struct spawn_msg *m, int *fds, size_t n_fds) {
        (void)fds, (void)n_fds;
        for (struct kept_exit **p = &s->held.exits; *p;) {
                struct kept_exit *k = *p;
                if (k->m.id != m->id) {
                        p = &k->next;
                        continue;
                }
                *p = k->next;
                free(k);
        }
}

/* --- alone --- */

/* Whoever has come while crewd was there does not know better than crewd did. */
static void turn_away(const struct held *h) {
        for (int fd; (fd = accept4(h->listener, NULL, NULL, SOCK_CLOEXEC)) >= 0;)
                close(fd);
}

void spawner_lost(struct spawner *s) {
        struct held *h = &s->held;

        s->hearing_out = false;
        if (s->sock >= 0) {
                epoll_ctl(s->epoll, EPOLL_CTL_DEL, s->sock, NULL);
                crew_close(&s->sock);
        }
        if (!h->for_ns || !s->instances || spawner_watch(s, h->listener, h) < 0) {
                s->done = true;
                return;
        }
        spawner_finish_starts(s);
        if (!h->lost_ns)
                h->lost_ns = crew_now_ns();
        turn_away(h);
        /* What is not to be held, and what was being killed, ends now. */
        for (struct instance *i = s->instances; i; i = i->next) {
                if (!i->held)
                        jail_kill_begin(&i->jail);
        }
        spawner_press_later(s);
}

void spawner_has_crewd(struct spawner *s) {
        s->held.lost_ns = 0;
}

static bool time_is_over(const struct spawner *s, uint64_t now_ns) {
        return now_ns >= s->held.lost_ns + s->held.for_ns;
}

static bool alone(const struct spawner *s) {
        return s->held.lost_ns && s->sock < 0;
}

int spawner_held_wait_ms(const struct spawner *s) {
        const struct held *h = &s->held;
        uint64_t now = crew_now_ns();

        if (!alone(s))
                return -1;
        if (time_is_over(s, now))
                return 0;
        return (int)MIN_OF((h->lost_ns + h->for_ns - now) / 1000000u + 1, (uint64_t)INT_MAX);
}

void spawner_held_expire(struct spawner *s) {
        if (alone(s) && (time_is_over(s, crew_now_ns()) || !s->instances))
                s->done = true;
}

void spawner_held_fini(struct spawner *s) {
        struct held *h = &s->held;

        while (h->exits) {
                struct kept_exit *k = h->exits;
                h->exits = k->next;
                free(k);
        }
        crew_close(&h->listener);
        crew_close(&h->state);
        crew_close(&h->notes);
}

/* --- visitors --- */

static bool of_our_uid(int fd, uid_t *uid) {
        const struct timeval patience = {.tv_sec = VISIT_S};
        struct ucred cred;
        socklen_t n = sizeof(cred);

        if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &n) < 0)
                return false;
        *uid = cred.uid;
        return cred.uid == geteuid() && setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience)) == 0 &&
               setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience)) == 0;
}

/* In a time that says nothing about where they differ. */
static bool knows_token(const struct spawner *s, const struct spawn_msg *m) {
        uint8_t differs = 0;

        for (size_t i = 0; i < SPAWN_TOKEN_BYTES; i++)
                differs |= (uint8_t)(s->held.token[i] ^ m->hold.token[i]);
        return differs == 0;
}

static int send_held(const struct instance *i, int fd) {
        struct spawn_msg m = {.op = SPAWN_HELD, .id = i->id, .errno_ = (int32_t)i->killed_uid, .att = i->jail.att};
        int fds[4 + 1 + SPAWN_LOCKS_MAX];
        size_t n = 0;

        snprintf(m.text, sizeof(m.text), "%s", i->killed_why);
        if (i->jail.listeners[0] >= 0) {
                m.cookie |= SPAWN_FD_LISTENERS;
                for (size_t k = 0; k < ELEMENTSOF(i->jail.listeners); k++)
                        fds[n++] = i->jail.listeners[k];
        }
        if (i->jail.notify_fd >= 0) {
                m.cookie |= SPAWN_FD_NOTIFY;
                fds[n++] = i->jail.notify_fd;
        }
        for (size_t k = 0; k < SPAWN_LOCKS_MAX && i->locks[k] >= 0; k++) {
                m.cookie |= SPAWN_FD_LOCKS;
                fds[n++] = i->locks[k];
        }
        ssize_t r = crew_send_fds(fd, &m, sizeof(m), fds, n);
        return r < 0 ? (int)r : 0;
}

/* As long as its pidfd is not readable, something of it is there. */
static bool lives(const struct instance *i) {
        struct pollfd p = {.fd = i->jail.pidfd, .events = POLLIN};

        return poll(&p, 1, 0) == 0;
}

static bool is_meant(const struct instance *i, const char *agent) {
        return !*agent || strcmp(agent, i->agent) == 0;
}

static int send_end(const struct spawner *s, int fd, uint32_t killed, const char *agent, bool with_state) {
        const struct held *h = &s->held;
        uint64_t now = crew_now_ns(), end = h->lost_ns + h->for_ns;
        struct spawn_msg m = {.op = SPAWN_HELD_END,
                              .id = killed,
                              .hold = {.ms = now < end ? (end - now) / 1000000u : 0,
                                       .lost_ms = (now - h->lost_ns) / 1000000u,
                                       .pid = getpid()}};

        for (const struct instance *i = s->instances; i; i = i->next) {
                m.cookie += !i->jail.kill_sent_ns;
                m.errno_ += i->jail.kill_sent_ns && is_meant(i, agent) && lives(i);
        }
        ssize_t r = crew_send_fds(fd, &m, sizeof(m), &h->state, with_state ? 1 : 0);
        return r < 0 ? (int)r : 0;
}

/* From here on as with the crewd that started us: one that is slow is waited for. */
static int make_ours(int fd) {
        const struct timeval for_ever = {0};
        const int room = 4 << 20; /* the kernel cuts it to what it allows */

        setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &room, sizeof(room));
        return setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &for_ever, sizeof(for_ever)) == 0 &&
                               setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &for_ever, sizeof(for_ever)) == 0
                       ? 0
                       : -errno;
}

/* All of it or nothing: a crewd that dies in the middle leaves us as we were, and the time goes on. */
static void hand_over(struct spawner *s, int *fd) {
        struct held *h = &s->held;
        int r = 0;

        for (const struct instance *i = s->instances; i && r == 0; i = i->next)
                r = send_held(i, *fd);
        for (const struct kept_exit *k = h->exits; k && r == 0; k = k->next) {
                ssize_t n = crew_send_fds(*fd, &k->m, sizeof(k->m), NULL, 0);
                r = n < 0 ? (int)n : 0;
        }
        if (r == 0)
                r = send_end(s, *fd, 0, "", true);
        if (r < 0 || make_ours(*fd) < 0 || spawner_watch(s, *fd, NULL) < 0)
                return;
        epoll_ctl(s->epoll, EPOLL_CTL_DEL, h->listener, NULL);
        s->sock = crew_steal_fd(fd);
}

/* Nobody else is kept waiting: there is no crewd.  Whoever asked is told who has not ended by then, and asks again. */
static void await_deaths(struct spawner *s) {
        uint64_t until = crew_now_ns() + DEATHS_NS;

        for (struct instance *i = s->instances; i; i = i->next) {
                struct pollfd p = {.fd = i->jail.pidfd, .events = POLLIN};
                if (!i->jail.kill_sent_ns || poll(&p, 1, JAIL_KILL_PATIENCE_MS) != 0)
                        continue;
                jail_kill_press(&i->jail);
                uint64_t now = crew_now_ns();
                (void)poll(&p, 1, now < until ? (int)((until - now) / 1000000u) + 1 : 0);
        }
}

/* On one line, and none too long; the crewd that reads it sees to the rest. */
static void put_reason(struct instance *i, const char *reason) {
        snprintf(i->killed_why, sizeof(i->killed_why), "%s", *reason ? reason : "killed while no crewd was there");
        for (char *p = i->killed_why; *p; p++)
                *p = ((unsigned char)*p < 0x20 || *p == 0x7f) ? ' ' : *p;
        size_t n = strlen(i->killed_why);
        while (n > 0 && !crew_utf8_ok(i->killed_why, n)) /* it was cut within a character */
                i->killed_why[--n] = '\0';
}

/* How many that were not being killed already. */
static uint32_t kill_held(struct spawner *s, const char *agent, const char *reason, uid_t uid) {
        uint32_t n = 0;

        for (struct instance *i = s->instances; i; i = i->next) {
                if (i->jail.kill_sent_ns || !is_meant(i, agent))
                        continue;
                put_reason(i, reason);
                i->killed_uid = (uint32_t)uid;
                jail_kill_begin(&i->jail);
                if (s->held.notes >= 0) /* should nobody come who is told; what cannot be noted happens all the same */
                        (void)held_note_add(s->held.notes, i->id, i->killed_uid, i->agent, i->killed_why);
                n++;
        }
        if (n > 0 && s->held.notes >= 0)
                (void)fdatasync(s->held.notes);
        spawner_press_later(s);
        await_deaths(s);
        return n;
}

static const char *reason_of(const struct spawn_msg *m) {
        const char *reason = m->text + strlen(m->text) + 1, *end = m->text + sizeof(m->text);

        return reason < end && memchr(reason, '\0', (size_t)(end - reason)) ? reason : "";
}

void spawner_on_visitor(struct spawner *s) {
        _cleanup_close_ int fd = accept4(s->held.listener, NULL, NULL, SOCK_CLOEXEC);
        struct spawn_msg m;
        uid_t uid;

        if (fd < 0 || !of_our_uid(fd, &uid) || crew_recv_fds(fd, &m, sizeof(m), NULL, NULL, 0) != (ssize_t)sizeof(m) ||
            !knows_token(s, &m) || !memchr(m.text, '\0', sizeof(m.text)))
                return;
        if (m.op == SPAWN_ADOPT)
                return hand_over(s, &fd);
        if (m.op == SPAWN_HELD_KILL || m.op == SPAWN_HELD_ASK)
                (void)send_end(s, fd, m.op == SPAWN_HELD_KILL ? kill_held(s, m.text, reason_of(&m), uid) : 0, m.text,
                               false);
}
