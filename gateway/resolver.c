/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Queries and their answers.  A query given up still counts against its agent until the resolver has answered it, or
 * cannot any more: otherwise an agent could keep every thread of the resolver busy.
 */
#include "resolver.h"

#include "hub.h"

#include "common/util.h"

#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <string.h>
#include <sys/epoll.h>

#define SLOTS 1024u
#define BUDGET 64
#define SWEEP_MS 1000u
#define GIVE_UP_NS 10000000000ull /* the connection's whole patience */
#define FORGET_NS 40000000000ull  /* no resolver works on it any more */

struct slot {
        struct resolver_quota *quota; /* NULL: the slot is free, or its agent is gone */
        struct resolver_query *query; /* NULL: given up */
        uint64_t asked_ns;
        uint32_t turn; /* with the index it makes an id that is not used twice */
        bool used;
};

struct resolver {
        struct hub *hub;
        struct hub_source source;
        struct hub_deadline sweep;
        int fd;
        unsigned n_used;
        struct slot slots[SLOTS];
};

static void unlink_query(struct resolver_query *q) {
        if (!q->prev)
                return;
        *q->prev = q->next;
        if (q->next)
                q->next->prev = q->prev;
        else if (q->quota->last == &q->next)
                q->quota->last = q->prev;
        q->prev = NULL;
}

static int send_ask(struct resolver *r, uint32_t i, struct resolver_query *q) {
        struct resolver_ask ask = {.id = r->slots[i].turn * SLOTS + i};

        memcpy(ask.name, q->name, sizeof(ask.name));
        ssize_t n = crew_send_fds(r->fd, &ask, sizeof(ask), NULL, 0);
        return n < 0 ? (int)n : 0;
}

static bool start(struct resolver *r, struct resolver_quota *quota, struct resolver_query *q) {
        uint32_t i = 0;

        while (i < SLOTS && r->slots[i].used)
                i++;
        if (i == SLOTS || send_ask(r, i, q) < 0)
                return false;
        struct slot *s = &r->slots[i];
        *s = (struct slot){.quota = quota, .query = q, .asked_ns = crew_now_ns(), .turn = s->turn, .used = true};
        q->slot = i + 1;
        quota->in_flight++;
        if (r->n_used++ == 0)
                hub_deadline_set(r->hub, &r->sweep, SWEEP_MS);
        return true;
}

static void start_waiting(struct resolver *r, struct resolver_quota *quota) {
        while (quota->first && quota->in_flight < RESOLVER_PER_AGENT) {
                struct resolver_query *q = quota->first;
                if (!start(r, quota, q))
                        return; /* the next answer or sweep tries again */
                unlink_query(q);
        }
}

static void free_slot(struct resolver *r, struct slot *s) {
        struct resolver_quota *quota = s->quota;

        *s = (struct slot){.turn = (s->turn + 1) % (UINT32_MAX / SLOTS)};
        r->n_used--;
        if (!quota)
                return;
        quota->in_flight--;
        start_waiting(r, quota);
}

static bool answer_ok(const struct resolver_answer *a) {
        if (a->n > RESOLVER_ADDRS_MAX)
                return false;
        for (uint32_t i = 0; i < a->n; i++) {
                if (a->addrs[i].family != AF_INET && a->addrs[i].family != AF_INET6)
                        return false;
        }
        return true;
}

static void take_answer(struct resolver *r, const struct resolver_answer *a) {
        struct slot *s = &r->slots[a->id % SLOTS];

        if (!s->used || s->turn != a->id / SLOTS)
                return;
        struct resolver_query *q = s->query;
        free_slot(r, s);
        if (!q)
                return;
        q->slot = 0;
        q->on_answer(q, answer_ok(a) ? a : NULL);
}

static void on_readable(struct hub_source *source, uint32_t events) {
        struct resolver *r = (struct resolver *)((char *)source - offsetof(struct resolver, source));

        (void)events;
        for (int i = 0; i < BUDGET; i++) {
                struct resolver_answer a;
                size_t none = 0;
                ssize_t n = crew_recv_fds(r->fd, &a, sizeof(a), NULL, &none, MSG_DONTWAIT);
                if (n == -EAGAIN)
                        return;
                /* The keeper is gone as well, so nobody starts it again.  crewd starts another gateway. */
                if (n != (ssize_t)sizeof(a))
                        return hub_stop(r->hub, "the resolver's keeper is gone");
                take_answer(r, &a);
        }
}

static void on_sweep(struct hub_deadline *d) {
        struct resolver *r = (struct resolver *)((char *)d - offsetof(struct resolver, sweep));
        uint64_t now = crew_now_ns();

        for (uint32_t i = 0; i < SLOTS; i++) {
                struct slot *s = &r->slots[i];
                struct resolver_query *q = s->query;
                if (q && now - s->asked_ns > GIVE_UP_NS) {
                        s->query = NULL;
                        q->slot = 0;
                        q->on_answer(q, NULL);
                }
                if (s->used && now - s->asked_ns > FORGET_NS)
                        free_slot(r, s);
        }
        if (r->n_used > 0)
                hub_deadline_set(r->hub, d, SWEEP_MS);
}

void resolver_query(struct resolver *r, struct resolver_quota *quota, struct resolver_query *q) {
        if (!quota->last)
                quota->last = &quota->first;
        q->quota = quota;
        q->slot = 0;
        q->next = NULL;
        q->prev = quota->last;
        *quota->last = q;
        quota->last = &q->next;
        start_waiting(r, quota);
}

void resolver_cancel(struct resolver *r, struct resolver_query *q) {
        unlink_query(q);
        if (q->slot)
                r->slots[q->slot - 1].query = NULL;
        q->slot = 0;
}

void resolver_forget(struct resolver *r, const struct resolver_quota *quota) {
        for (uint32_t i = 0; i < SLOTS; i++) {
                if (r->slots[i].quota == quota)
                        r->slots[i].quota = NULL;
        }
}

int resolver_open(struct hub *h, int fd, struct resolver **out, struct crew_err *err) {
        struct resolver *r = calloc(1, sizeof(*r));
        int rc = r ? 0 : -ENOMEM;

        if (rc == 0 && fcntl(fd, F_SETFL, O_NONBLOCK) < 0)
                rc = -errno;
        if (rc == 0) {
                r->hub = h;
                r->source.on_event = on_readable;
                r->sweep.on_deadline = on_sweep;
                r->fd = fd;
                rc = hub_watch_level(h, fd, &r->source, EPOLLIN);
        }
        if (rc < 0) {
                free(r);
                close(fd);
                return crew_fail(err, -rc, "cannot watch the resolver: %s", strerror(-rc));
        }
        *out = r;
        return 0;
}

struct resolver *resolver_free(struct resolver *r) {
        if (r) {
                hub_deadline_clear(&r->sweep);
                close(r->fd);
        }
        free(r);
        return NULL;
}
