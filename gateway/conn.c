/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The life of a connection: limits, decision, relay, end.
 *
 * Trusts crewd's policy and nothing of what the jail or the server sends.  Whatever goes wrong ends this connection and
 * no other.  It keeps its place in the agent's limits until its last message to crewd was written.
 */
#include "conn_internal.h"

#include "addr.h"
#include "held.h"

#include "common/util.h"

#include <errno.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>

const struct conn_taker *conn_taker_rules, *conn_taker_plain;

void conn_set_takers(const struct conn_taker *rules, const struct conn_taker *plain) {
        conn_taker_rules = rules;
        conn_taker_plain = plain;
}

/* --- lists and counts --- */

void conn_set_half_open(struct conn *c, bool half_open) {
        if (c->half_open == half_open)
                return;
        c->half_open = half_open;
        c->agent->n_half_open += half_open ? 1 : -1u;
}

void conn_throttle_clear(struct conn *c) {
        if (!c->throttled_prev)
                return;
        *c->throttled_prev = c->throttled_next;
        if (c->throttled_next)
                c->throttled_next->throttled_prev = c->throttled_prev;
        c->throttled_prev = NULL;
}

void conn_throttle(struct conn *c) {
        struct agent *a = c->agent;

        if (c->throttled_prev)
                return;
        c->throttled_next = a->throttled;
        c->throttled_prev = &a->throttled;
        if (c->throttled_next)
                c->throttled_next->throttled_prev = &c->throttled_next;
        a->throttled = c;
        if (!a->more_bandwidth.prev)
                hub_deadline_set(a->hub, &a->more_bandwidth, 0);
}

static void bury(struct hub_grave *g) {
        struct conn *c = (struct conn *)((char *)g - offsetof(struct conn, grave));
        struct agent *a = c->agent;

        free(c->head);
        free(c);
        agent_unref(a);
}

static void release(void *user) {
        struct conn *c = user;
        struct agent *a = c->agent;

        *c->prev = c->next;
        if (c->next)
                c->next->prev = c->prev;
        a->n_conns--;
        hub_retire(a->hub, &c->grave, bury);
}

/* --- reports --- */

static void message(const struct conn *c, enum gate_op op, struct gate_msg *m) {
        const struct netpolicy_head *p = c->agent->policy;
        const char *where = NULL;

        *m = (struct gate_msg){.op = op, .proto = GATE_TCP, .port = c->port, .count = 1, .conn = c->id};
        snprintf(m->name, sizeof(m->name), "%s", c->name);
        snprintf(m->peer, sizeof(m->peer), "%s", c->peer);
        if (p)
                where = netpolicy_text(p, c->rule ? c->rule->where : p->where);
        snprintf(m->where, sizeof(m->where), "%s", where ? where : "");
}

static void on_announced(void *user) {
        struct conn *c = user;

        c->announce_written = true;
        if (c->state != CONN_ENDED)
                conn_step(c);
}

void conn_announce(struct conn *c) {
        struct gate_msg m;

        if (c->announced)
                return;
        c->announced = true;
        message(c, GATE_ALLOWED, &m);
        m.verdict = c->grant == GRANT_AUDIT ? GATE_WOULD_REFUSE : GATE_LET;
        if (c->grant == GRANT_APPROVED)
                snprintf(m.text, sizeof(m.text), "approved by the operator");
        if (agent_report(c->agent, &m, on_announced, c) == 0)
                c->announce_written = true;
}

static void report_end(struct conn *c, const char *why) {
        struct gate_msg m;

        message(c, GATE_CLOSED, &m);
        m.up = c->way[CONN_JAIL].bytes;
        m.down = c->way[CONN_PEER].bytes;
        m.duration_us = (crew_now_ns() - c->started_ns) / 1000;
        snprintf(m.text, sizeof(m.text), "%s", why ? why : "");
        if (agent_report(c->agent, &m, release, c) <= 0)
                release(c);
}

/* --- the end --- */

static void close_end(struct conn *c, enum conn_side side, bool reset) {
        struct relay_end *e = &c->end[side];

        c->source[side].dead = true;
        if (e->fd < 0)
                return;
        relay_close(&e->fd, reset);
}

void conn_finish(struct conn *c, const char *why) {
        if (c->state == CONN_ENDED)
                return;
        /* Its name was looked up, or it was dialled: that is on record also when nothing came of it. */
        bool let = c->grant != GRANT_NONE && !c->denied;

        conn_taken_gone(c);
        conn_dial_fini(c);
        if (c->held)
                held_leave(c);
        c->state = CONN_ENDED;
        hub_not_later(c->agent->hub, &c->again);
        hub_deadline_clear(&c->deadline);
        conn_throttle_clear(c);
        conn_set_half_open(c, false);
        for (int side = 0; side < CONN_SIDE_N; side++) {
                uint64_t bytes = c->way[side].bytes;
                close_end(c, side, why != NULL);
                relay_way_fini(c->agent->hub, &c->way[side]);
                c->way[side].bytes = bytes;
        }
        if (let)
                conn_announce(c);
        conn_dial_provide(c->agent->hub);
        if (c->announced)
                report_end(c, why);
        else
                release(c);
}

void conn_abort(struct conn *c, const char *why) {
        conn_finish(c, why);
}

void conn_deny(struct conn *c, const char *text) {
        if (c->state == CONN_ENDED)
                return;
        agent_denied(c->agent, GATE_TCP, c->name, c->port, GATE_REFUSE, text);
        c->denied = true;
        conn_finish(c, text);
}

/* --- the decision --- */

const struct netpolicy_rule *conn_match(const struct conn *c) {
        const struct netpolicy_head *p = c->agent->policy;

        if (!p)
                return NULL;
        return c->by_name ? netpolicy_match_name(p, c->name, c->port) : netpolicy_match_addr(p, (const void *)&c->to);
}

static const struct netpolicy_rule *place_in(const struct netpolicy_head *p, const struct conn *c) {
        if (!p)
                return NULL;
        return c->by_name ? netpolicy_place_name(p, c->name, c->port) : netpolicy_place_addr(p, (const void *)&c->to);
}

const struct netpolicy_rule *conn_way(const struct conn *c) {
        return c->rule ? c->rule : place_in(c->agent->policy, c);
}

bool conn_needs_taker(const struct conn *c) {
        return c->rule && c->rule->flags & (NETPOLICY_HTTP | NETPOLICY_INSPECT);
}

/* NULL, or why no approval can let this through. */
static const char *never(const struct conn *c) {
        if (c->by_name)
                return addr_name_never(c->name) ? "a name of this host or of a metadata service is never approved" : NULL;
        return addr_may_dial((const void *)&c->to, ADDR_WORD_APPROVAL) ? NULL : "such an address is never approved";
}

static void let_through(struct conn *c, enum conn_grant grant) {
        c->grant = grant;
        conn_dial(c);
}

static void decide_unlisted(struct conn *c) {
        struct agent *a = c->agent;
        uint32_t flags = a->policy ? a->policy->flags : 0;
        const char *why = never(c);

        if (!(flags & (NETPOLICY_ASK | NETPOLICY_AUDIT_ALL)))
                return conn_deny(c, "not in allowed_endpoints");
        if (why)
                return conn_deny(c, why);
        if (flags & NETPOLICY_AUDIT_ALL) {
                agent_denied(a, GATE_TCP, c->name, c->port, GATE_WOULD_REFUSE, "not in allowed_endpoints");
                return let_through(c, GRANT_AUDIT);
        }
        switch (held_known(a, c->name, c->port)) {
        case HELD_LET:
                return let_through(c, GRANT_APPROVED);
        case HELD_REFUSED:
                return conn_deny(c, "refused by the operator");
        case HELD_UNKNOWN:
                break;
        }
        c->state = CONN_HELD;
        if (held_join(c) < 0)
                conn_deny(c, "not in allowed_endpoints, and too many wait for an answer already");
}

static void decide(struct conn *c) {
        c->rule = conn_match(c);
        if (!c->rule)
                return decide_unlisted(c);
        if (conn_needs_taker(c) && !conn_taker_rules)
                return conn_deny(c, "its HTTP rules cannot be enforced by this gateway");
        let_through(c, GRANT_RULE);
}

void conn_answered(struct conn *c, bool yes, const char *why) {
        if (!yes)
                return conn_deny(c, why);
        c->rule = conn_match(c); /* a reload may have listed it */
        if (conn_needs_taker(c) && !conn_taker_rules)
                return conn_deny(c, "its HTTP rules cannot be enforced by this gateway");
        let_through(c, c->rule ? GRANT_RULE : GRANT_APPROVED);
}

/* --- a new policy --- */

/* Either may be NULL: dialled where its name leads. */
static bool same_target(const struct netpolicy_head *p, const struct netpolicy_rule *r, const struct netpolicy_head *q,
                        const struct netpolicy_rule *s) {
        const char *a = r ? netpolicy_text(p, r->to_host) : NULL, *b = s ? netpolicy_text(q, s->to_host) : NULL;

        if (!a || !b)
                return !a && !b;
        return r->to_port == s->to_port && strcmp(a, b) == 0;
}

bool conn_still_allowed(struct conn *c, const struct netpolicy_head *former) {
        const struct netpolicy_head *p = c->agent->policy;
        const struct netpolicy_rule *was = c->rule, *is = conn_match(c);
        const struct netpolicy_rule *from = was ? was : place_in(former, c), *to = is ? is : place_in(p, c);
        const uint32_t how = NETPOLICY_HTTP | NETPOLICY_INSPECT;

        c->rule = NULL; /* of the former image */
        if (c->state == CONN_ENDED || c->state == CONN_LINGERING || c->state == CONN_HELD)
                return true; /* nothing more goes out, or held_reload() decides */
        if (!same_target(former, from, p, to))
                return false;
        if (!is) {
                if (c->grant == GRANT_RULE || was)
                        return false;
                return p->flags & (c->grant == GRANT_AUDIT ? NETPOLICY_AUDIT_ALL : NETPOLICY_ASK);
        }
        if ((was ? was->flags & how : 0u) != (is->flags & how))
                return false;
        c->rule = is;
        c->grant = GRANT_RULE;
        return true;
}

/* --- the relay --- */

/* 0, -EAGAIN while there is more of it, or what broke. */
int conn_push_head(struct conn *c, uint32_t n) {
        struct relay_end *to = &c->end[CONN_PEER];

        while (c->head_sent < n) {
                ssize_t k = to->writable
                                    ? send(to->fd, c->head + c->head_sent, n - c->head_sent, MSG_NOSIGNAL | MSG_DONTWAIT)
                                    : (errno = EAGAIN, -1);
                if (k < 0 && errno == EAGAIN)
                        to->writable = false;
                if (k < 0)
                        return -errno;
                c->head_sent += (uint32_t)k;
                c->way[CONN_JAIL].bytes += (uint64_t)k;
        }
        return 0;
}

static int send_head(struct conn *c) {
        int r = conn_push_head(c, c->head_n);

        if (r < 0)
                return r;
        free(crew_steal_ptr(&c->head));
        c->head_n = c->head_sent = 0;
        return 0;
}

/* An enum relay, or negative when the connection is broken. */
static int move_way(struct conn *c, enum conn_side from) {
        struct agent *a = c->agent;
        uint64_t level = agent_allowance(a), left = level;
        int r = 0;

        if (from == CONN_JAIL && c->head && (r = send_head(c)) < 0)
                return r == -EAGAIN ? RELAY_WAITS : r;
        r = relay_move(a->hub, &c->way[from], &c->end[from], &c->end[!from], &left);
        agent_moved(a, level - left);
        return r;
}

static void go_on_later(struct conn *c, int r) {
        if (r == RELAY_MORE)
                hub_later(c->agent->hub, &c->again);
        else if (r == RELAY_DRY || r == RELAY_POOR)
                conn_throttle(c);
}

const char *conn_broken_text(int r) {
        return r == -ECONNRESET || r == -EPIPE ? "reset" : strerror(-r);
}

static void pump(struct conn *c) {
        const enum conn_side first = c->moves_first;
        int one = move_way(c, first);
        int other = one < 0 ? one : move_way(c, !first);

        if (one < 0 || other < 0)
                return conn_finish(c, conn_broken_text(one < 0 ? one : other));
        if (c->way[CONN_JAIL].end_passed && c->way[CONN_PEER].end_passed)
                return conn_finish(c, NULL);
        if (c->agent->bytes.rate)
                c->moves_first = !first; /* or it would use up what both may have */
        go_on_later(c, one);
        go_on_later(c, other);
}

/* Before the client has spoken only the server's bytes move. */
static void pump_down(struct conn *c) {
        if (conn_needs_taker(c) || (!c->end[CONN_PEER].readable && c->way[CONN_PEER].in_pipe == 0))
                return;
        conn_announce(c);
        if (!c->announce_written || c->state == CONN_ENDED)
                return;
        int r = move_way(c, CONN_PEER);
        if (r < 0)
                return conn_finish(c, conn_broken_text(r));
        go_on_later(c, r);
}

/* --- judged --- */

void conn_go(struct conn *c) {
        hub_deadline_clear(&c->deadline);
        conn_set_half_open(c, false);
        c->state = CONN_ANNOUNCING;
        conn_announce(c);
        if (!c->announce_written || c->state == CONN_ENDED)
                return;
        if (conn_needs_taker(c) || c->line.is == HTTP_FIRST_YES)
                return conn_take(c);
        c->state = c->hello_end ? CONN_GREETING : CONN_RELAYING;
        conn_step(c);
}

void conn_connected(struct conn *c) {
        hub_deadline_clear(&c->deadline);
        conn_set_half_open(c, false);
        c->state = CONN_CLASSIFYING;
        conn_step(c);
}

/* --- events --- */

/* Whoever ends its stream while it waits for the operator has given up, unless what it said is a whole plain request. */
static void held_ready(struct conn *c, uint32_t events) {
        uint8_t first;

        if (events & (EPOLLERR | EPOLLHUP))
                return conn_finish(c, "given up");
        if (!(events & EPOLLRDHUP))
                return;
        if (recv(c->end[CONN_JAIL].fd, &first, 1, MSG_PEEK | MSG_DONTWAIT) != 1 || first == 0x16)
                conn_finish(c, "given up");
}

void conn_step(struct conn *c) {
        switch (c->state) {
        case CONN_HELD:
        case CONN_RESOLVING:
        case CONN_ENDED:
                return;
        case CONN_DIALLING:
                return conn_dial_ready(c);
        case CONN_GREETING:
                return conn_greet(c);
        case CONN_CLASSIFYING:
                conn_classify(c);
                if (c->state == CONN_CLASSIFYING)
                        conn_pump_line(c);
                if (c->state == CONN_CLASSIFYING)
                        pump_down(c);
                return;
        case CONN_ANNOUNCING:
                if (c->announce_written)
                        conn_go(c);
                return;
        case CONN_RELAYING:
                return pump(c);
        case CONN_TAKEN:
                return conn_taken_ready(c);
        case CONN_LINGERING:
                return conn_linger(c);
        }
}

/* Whose stream has ended comes after those of this turn who begin or still talk: they are waited for. */
static void step_or_end(struct conn *c, enum conn_side side) {
        if (c->end[side].ended)
                hub_later(c->agent->hub, &c->again);
        else
                conn_step(c);
}

static void on_jail(struct hub_source *s, uint32_t events) {
        struct conn *c = (struct conn *)((char *)s - offsetof(struct conn, source[CONN_JAIL]));

        relay_note(&c->end[CONN_JAIL], events);
        if (c->state == CONN_HELD)
                return held_ready(c, events);
        if (events & (EPOLLERR | EPOLLHUP) && c->state < CONN_CLASSIFYING)
                return conn_finish(c, "given up");
        if (c->state != CONN_DIALLING)
                step_or_end(c, CONN_JAIL);
}

static void on_peer(struct hub_source *s, uint32_t events) {
        struct conn *c = (struct conn *)((char *)s - offsetof(struct conn, source[CONN_PEER]));

        relay_note(&c->end[CONN_PEER], events);
        step_or_end(c, CONN_PEER);
}

static void on_again(struct hub_task *t) {
        conn_step((struct conn *)((char *)t - offsetof(struct conn, again)));
}

static void on_deadline(struct hub_deadline *d) {
        struct conn *c = (struct conn *)((char *)d - offsetof(struct conn, deadline));

        if (c->state == CONN_RESOLVING || c->state == CONN_DIALLING)
                return conn_dial_late(c);
        if (c->state == CONN_CLASSIFYING && c->half_open)
                return conn_deny(c, "no whole TLS ClientHello in time");
        if (c->state == CONN_LINGERING)
                return conn_finish(c, NULL);
        conn_step(c);
}

/* --- the beginning --- */

static void refuse_unborn(struct agent *a, int fd, const struct sockaddr *to, const char *text) {
        const char *name = agent_dialled_name(a, to);
        char literal[ADDR_TEXT_MAX];

        addr_text(to, literal);
        relay_close(&fd, true);
        agent_denied(a, GATE_TCP, name ? name : literal, addr_port(to), GATE_REFUSE, text);
}

static struct conn *conn_new(struct agent *a, int fd, const struct sockaddr *to) {
        struct conn *c = calloc(1, sizeof(*c));
        const char *name = agent_dialled_name(a, to);

        if (!c)
                return NULL;
        c->agent = a;
        c->id = ++a->hub->last_conn;
        c->started_ns = crew_now_ns();
        memcpy(&c->to, to, addr_len(to));
        c->port = addr_port(to);
        c->by_name = name != NULL;
        if (name)
                snprintf(c->name, sizeof(c->name), "%s", name);
        else
                addr_text(to, c->name);
        c->source[CONN_JAIL].on_event = on_jail;
        c->source[CONN_PEER].on_event = on_peer;
        c->again.run = on_again;
        c->deadline.on_deadline = on_deadline;
        c->end[CONN_JAIL].fd = fd;
        c->end[CONN_PEER].fd = -1;
        c->way[CONN_JAIL] = c->way[CONN_PEER] = RELAY_WAY_NULL;
        c->next = a->conns;
        c->prev = &a->conns;
        if (c->next)
                c->next->prev = &c->next;
        a->conns = c;
        a->n_conns++;
        agent_ref(a);
        return c;
}

void conn_start(struct agent *a, int fd, const struct sockaddr *to) {
        if (!a->policy)
                return refuse_unborn(a, fd, to, "not in allowed_endpoints");
        if (a->n_conns >= a->policy->max_conns)
                return refuse_unborn(a, fd, to, "limits.connections");
        if (a->n_half_open >= a->policy->max_half_open)
                return refuse_unborn(a, fd, to, "limits.half_open");
        struct conn *c = conn_new(a, fd, to);
        if (!c)
                return refuse_unborn(a, fd, to, "the gateway is out of memory");
        /* Decided before the first event, so that a refusal is immediate. */
        decide(c);
        if (c->state != CONN_ENDED && hub_watch(a->hub, fd, &c->source[CONN_JAIL]) < 0)
                conn_finish(c, "the gateway cannot watch it");
}
