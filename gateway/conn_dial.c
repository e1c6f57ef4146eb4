/* SPDX-License-Identifier: Apache-2.0 */
/*
 * From a decision to a connected socket: the name is looked up once, every address is checked, those that may be dialled
 * are tried in order.  What is dialled is the address that was checked, never the name.
 */
#include "conn_internal.h"

#include "addr.h"
#include "resolver.h"

#include "common/util.h"

#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>

#define WHOLE_MS 10000u /* for looking up and dialling together */
#define TRY_MS 3000u    /* for one address while there are others */

struct dialling {
        struct conn *conn;
        struct resolver_query query;
        enum addr_word word;
        uint16_t port;
        uint64_t until_ms;
        int last_error; /* of the address tried before */
        uint32_t n, next;
        struct sockaddr_storage addrs[RESOLVER_ADDRS_MAX];
};

static void set_addr(struct sockaddr_storage *out, uint32_t family, const uint8_t bytes[16], uint16_t port) {
        struct sockaddr_in *v4 = (struct sockaddr_in *)out;
        struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)out;

        memset(out, 0, sizeof(*out));
        if (family == AF_INET) {
                v4->sin_family = AF_INET;
                v4->sin_port = htons(port);
                memcpy(&v4->sin_addr, bytes, 4);
        } else {
                v6->sin6_family = AF_INET6;
                v6->sin6_port = htons(port);
                memcpy(&v6->sin6_addr, bytes, 16);
        }
}

static void close_peer(struct conn *c) {
        c->source[CONN_PEER].dead = true;
        crew_close(&c->end[CONN_PEER].fd);
        c->end[CONN_PEER] = (struct relay_end){.fd = -1};
}

static int make_socket(int family) {
        static const int one = 1;
        int fd = socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

        if (fd < 0)
                return -errno;
        relay_set_options(fd);
        setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &one, sizeof(one));
        return fd;
}

void conn_dial_provide(struct hub *h) {
        if (h->spare < 0)
                h->spare = make_socket(AF_INET); /* without it the next dial makes its own */
}

/* 0: connecting; -errno: not with this address. */
static int dial_one(struct conn *c, const struct sockaddr *to) {
        struct hub *h = c->agent->hub;
        const bool made = to->sa_family == AF_INET && h->spare >= 0;
        _cleanup_close_ int fd = made ? crew_steal_fd(&h->spare) : make_socket(to->sa_family);

        if (fd < 0)
                return fd;
        if (connect(fd, to, addr_len(to)) < 0 && errno != EINPROGRESS)
                return -errno;
        c->source[CONN_PEER].dead = false;
        int r = hub_watch(h, fd, &c->source[CONN_PEER]);
        if (r == 0)
                c->end[CONN_PEER].fd = crew_steal_fd(&fd);
        return r;
}

static void dial_next(struct conn *c) {
        struct dialling *d = c->dialling;
        uint64_t now = c->agent->hub->now_ms;
        char why[GATE_TEXT_MAX];

        while (d->next < d->n && now < d->until_ms) {
                const struct sockaddr *to = (const void *)&d->addrs[d->next++];
                addr_text_port(to, c->peer, sizeof(c->peer));
                d->last_error = dial_one(c, to);
                if (d->last_error < 0)
                        continue;
                uint64_t left = d->until_ms - now;
                hub_deadline_set(c->agent->hub, &c->deadline, d->next < d->n ? MIN_OF(left, (uint64_t)TRY_MS) : left);
                return;
        }
        snprintf(why, sizeof(why), "cannot connect: %s", strerror(d->last_error < 0 ? -d->last_error : ETIMEDOUT));
        conn_finish(c, why);
}

void conn_dial_ready(struct conn *c) {
        int error = 0;
        socklen_t n = sizeof(error);

        if (!c->end[CONN_PEER].writable)
                return;
        if (c->end[CONN_PEER].failed && getsockopt(c->end[CONN_PEER].fd, SOL_SOCKET, SO_ERROR, &error, &n) < 0)
                error = errno;
        if (error == 0) {
                conn_dial_fini(c);
                return conn_connected(c);
        }
        c->dialling->last_error = -error;
        close_peer(c);
        dial_next(c);
}

void conn_dial_late(struct conn *c) {
        if (c->state == CONN_RESOLVING)
                return conn_finish(c, "cannot resolve: timed out");
        c->dialling->last_error = -ETIMEDOUT;
        close_peer(c);
        dial_next(c);
}

/* Keeps those that may be dialled.  Returns one that may not, or NULL when there was none. */
static const struct sockaddr *check_all(struct dialling *d, struct sockaddr_storage *refused) {
        const struct sockaddr *bad = NULL;
        uint32_t kept = 0;

        for (uint32_t i = 0; i < d->n; i++) {
                if (addr_may_dial((const void *)&d->addrs[i], d->word)) {
                        d->addrs[kept++] = d->addrs[i];
                        continue;
                }
                *refused = d->addrs[i];
                bad = (const void *)refused;
        }
        d->n = kept;
        return bad;
}

static void dial_checked(struct conn *c) {
        struct dialling *d = c->dialling;
        struct sockaddr_storage refused;
        const struct sockaddr *bad = check_all(d, &refused);
        char text[GATE_TEXT_MAX], addr[ADDR_TEXT_MAX];

        if (d->n > 0) {
                c->state = CONN_DIALLING;
                return dial_next(c);
        }
        if (!bad)
                return conn_finish(c, "cannot resolve: no address");
        addr_text(bad, addr);
        snprintf(text, sizeof(text), c->by_name ? "resolves to %s (%s), which no rule lists" : "%s (%s) may not be dialled",
                 addr, addr_class_text(addr_classify(bad)));
        conn_deny(c, text);
}

static void on_answer(struct resolver_query *q, const struct resolver_answer *answer) {
        struct dialling *d = (struct dialling *)((char *)q - offsetof(struct dialling, query));
        struct conn *c = d->conn;
        char why[GATE_TEXT_MAX];

        if (!answer || answer->error) {
                snprintf(why, sizeof(why), "cannot resolve: %s", answer ? gai_strerror(answer->error) : "timed out");
                return conn_finish(c, why);
        }
        d->n = answer->n;
        for (uint32_t i = 0; i < answer->n; i++)
                set_addr(&d->addrs[i], answer->addrs[i].family, answer->addrs[i].addr, d->port);
        dial_checked(c);
}

static void look_up(struct conn *c, const char *name, enum addr_word word) {
        struct dialling *d = c->dialling;

        d->word = word;
        snprintf(d->query.name, sizeof(d->query.name), "%s", name);
        d->query.on_answer = on_answer;
        resolver_query(c->agent->hub->resolver, &c->agent->lookups, &d->query);
}

static void dial_literal(struct conn *c, enum addr_word word) {
        c->dialling->word = word;
        c->dialling->n = 1;
        dial_checked(c);
}

void conn_dial(struct conn *c) {
        const struct netpolicy_rule *r = conn_way(c);
        struct dialling *d = calloc(1, sizeof(*d));

        if (!d)
                return conn_finish(c, "the gateway is out of memory");
        conn_set_half_open(c, true);
        c->state = CONN_RESOLVING;
        c->dialling = d;
        d->conn = c;
        d->port = r && r->flags & NETPOLICY_TO ? r->to_port : c->port;
        d->until_ms = c->agent->hub->now_ms + WHOLE_MS;
        hub_deadline_set(c->agent->hub, &c->deadline, WHOLE_MS);
        if (r && r->flags & NETPOLICY_TO) {
                if (r->to_kind == NETPOLICY_NAME)
                        return look_up(c, netpolicy_text(c->agent->policy, r->to_host), ADDR_WORD_TO_NAME);
                set_addr(&d->addrs[0], r->to_kind == NETPOLICY_ADDR4 ? AF_INET : AF_INET6, r->to_addr, d->port);
                return dial_literal(c, ADDR_WORD_LITERAL);
        }
        if (c->by_name)
                return look_up(c, c->name, ADDR_WORD_NAME);
        d->addrs[0] = c->to;
        dial_literal(c, r ? ADDR_WORD_LITERAL : ADDR_WORD_APPROVAL);
}

void conn_dial_fini(struct conn *c) {
        struct dialling *d = c->dialling;

        if (!d)
                return;
        c->dialling = NULL;
        if (d->query.quota)
                resolver_cancel(c->agent->hub->resolver, &d->query);
        free(d);
}
