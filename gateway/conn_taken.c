/* SPDX-License-Identifier: Apache-2.0 */
/* The seam of conn.h: what a taker may ask and do.  It holds no socket; every byte is moved, and counted, here. */
#include "conn_internal.h"

#include "held.h"

#include "common/util.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>

#define LINGER_MS 2000u
#define DRAIN_TURN (256u * 1024)

void conn_take(struct conn *c) {
        struct crew_err err = CREW_ERR_NULL;
        const struct conn_first first = {.bytes = c->head,
                                         .n = c->head_n,
                                         .tls = c->head_n > 1 && c->head[0] == 0x16 && c->head[1] == 3,
                                         .sent = c->head_sent};
        uint8_t *head = c->head;
        void *state = NULL;

        c->head = NULL;
        c->head_n = c->head_sent = 0;
        c->taker = conn_needs_taker(c) ? conn_taker_rules : conn_taker_plain;
        c->state = CONN_TAKEN;
        int r = c->taker->take(c, &first, &state, &err);
        free(head);
        if (r < 0)
                return conn_finish(c, err.msg[0] ? err.msg : "cannot be proxied");
        crew_assert(state);
        c->taken = state;
        c->taker->on_ready(c->taken);
}

void conn_taken_ready(struct conn *c) {
        if (c->taken)
                c->taker->on_ready(c->taken);
}

void conn_taken_gone(struct conn *c) {
        void *state = c->taken;

        c->taken = NULL;
        if (state)
                c->taker->gone(state);
}

const char *conn_name(const struct conn *c) {
        return c->name;
}

uint16_t conn_port(const struct conn *c) {
        return c->port;
}

const char *conn_peer(const struct conn *c) {
        return c->peer;
}

uint64_t conn_id(const struct conn *c) {
        return c->id;
}

const struct netpolicy_head *conn_policy(const struct conn *c) {
        return c->agent->policy;
}

const struct netpolicy_rule *conn_rule(const struct conn *c) {
        return c->rule;
}

/* What the agent's bandwidth lets be read now. */
static uint64_t allowance(struct conn *c) {
        uint64_t level = agent_allowance(c->agent);

        if (level == 0)
                conn_throttle(c);
        return level;
}

ssize_t conn_recv(struct conn *c, enum conn_side from, void *buf, size_t n) {
        struct relay_end *e = &c->end[from];
        uint64_t level = e->readable ? allowance(c) : 0;

        if (level == 0)
                return -EAGAIN;
        ssize_t got = recv(e->fd, buf, (size_t)MIN_OF((uint64_t)n, level), MSG_DONTWAIT);
        if (got < 0 && errno == EAGAIN)
                e->readable = false;
        if (got < 0)
                return -errno;
        agent_moved(c->agent, (uint64_t)got);
        return got;
}

ssize_t conn_send(struct conn *c, enum conn_side to, const void *buf, size_t n) {
        struct relay_end *e = &c->end[to];
        struct relay_way *w = &c->way[!to];

        if (w->in_pipe > 0)
                return -EBUSY;
        if (!e->writable)
                return -EAGAIN;
        ssize_t put = send(e->fd, buf, n, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (put < 0 && errno == EAGAIN)
                e->writable = false;
        if (put < 0)
                return -errno;
        w->bytes += (uint64_t)put;
        return put;
}

void conn_shutdown(struct conn *c, enum conn_side to) {
        c->way[!to].end_passed = true;
        shutdown(c->end[to].fd, SHUT_WR);
}

void conn_again(struct conn *c) {
        hub_later(c->agent->hub, &c->again);
}

void conn_deadline(struct conn *c, uint32_t ms) {
        if (ms)
                hub_deadline_set(c->agent->hub, &c->deadline, ms);
        else
                hub_deadline_clear(&c->deadline);
}

ssize_t conn_splice(struct conn *c, enum conn_side from, uint64_t n) {
        uint64_t level = allowance(c), left = level;
        ssize_t put = relay_some(c->agent->hub, &c->way[from], &c->end[from], &c->end[!from], n, &left);

        agent_moved(c->agent, level - left);
        if (put != -EMFILE)
                return put;
        conn_throttle(c); /* no pipe to be had: in a moment */
        return -EAGAIN;
}

void conn_release(struct conn *c) {
        conn_taken_gone(c);
        hub_deadline_clear(&c->deadline);
        c->state = CONN_RELAYING;
        hub_later(c->agent->hub, &c->again);
}

static void put_printable(char *out, size_t out_size, const char *text) {
        size_t n = 0;

        for (; text && *text && n + 1 < out_size; text++)
                out[n++] = (*text >= ' ' && *text < 0x7f) ? *text : '?';
        out[n] = '\0';
}

int conn_report_http(struct conn *c, enum gate_verdict verdict, const char *text, const char *why, unsigned status) {
        struct gate_msg m = {.op = GATE_HTTP, .proto = GATE_TCP, .port = c->port, .count = 1, .conn = c->id};
        const struct netpolicy_head *p = c->agent->policy;
        const char *where = netpolicy_text(p, c->rule ? c->rule->where : p->where);

        /* A queue of them would have no bound: the taker waits, and is called when there is room. */
        if (report_behind(&c->agent->hub->report)) {
                conn_throttle(c);
                return -EAGAIN;
        }
        m.verdict = verdict;
        m.status = status;
        snprintf(m.name, sizeof(m.name), "%s", c->name);
        snprintf(m.where, sizeof(m.where), "%s", where ? where : "");
        put_printable(m.text, sizeof(m.text), text);
        put_printable(m.why, sizeof(m.why), why);
        return agent_report(c->agent, &m, NULL, NULL) < 0 ? -EPIPE : 0;
}

/* Closing a socket with unread bytes in it resets the connection and may cost the client the answer. */
void conn_linger(struct conn *c) {
        static char scratch[16 * 1024];

        for (size_t drained = 0; drained < DRAIN_TURN;) {
                ssize_t n = recv(c->end[CONN_JAIL].fd, scratch, sizeof(scratch), MSG_DONTWAIT);
                if (n < 0 && errno == EAGAIN)
                        return;
                if (n <= 0)
                        return conn_finish(c, NULL);
                drained += (size_t)n;
        }
        hub_later(c->agent->hub, &c->again);
}

void conn_end(struct conn *c, const char *why) {
        if (why)
                return conn_finish(c, why);
        conn_taken_gone(c);
        c->source[CONN_PEER].dead = true;
        relay_close(&c->end[CONN_PEER].fd, false);
        shutdown(c->end[CONN_JAIL].fd, SHUT_WR);
        c->state = CONN_LINGERING;
        hub_deadline_set(c->agent->hub, &c->deadline, LINGER_MS);
        hub_later(c->agent->hub, &c->again);
}
