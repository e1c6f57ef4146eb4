/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Trusts neither side.  A request reaches the server only whole-headed, judged and reported; what follows an answer that
 * nobody asked for, or a message whose end cannot be told, ends the connection.  Memory: one buffer each way and side.
 */
#include "http_conn.h"

#include "http_conn_internal.h"

#include "common/util.h"

#include <errno.h>
#include <string.h>

#define BUDGET (256u << 10) /* bytes a wake-up */
#define HEAD_MS 30000       /* for the TLS handshakes and a request's head, from its first byte */
#define IDLE_MS 120000      /* between requests */
#define END_MS 2000         /* for the agent to read its last answer */

bool http_over(struct http_conn *c, const char *why) {
        c->over = true;
        snprintf(c->over_why, sizeof(c->over_why), "%s", why ? why : "");
        return false;
}

bool http_finish(struct http_conn *c) {
        c->request = REQUEST_STOP;
        c->answer = ANSWER_NONE;
        return c->ending = true;
}

/* After the last answer: wait until the agent has it, so that unread bytes of its request do not destroy it. */
static void go_to_end(struct http_conn *c, size_t *budget) {
        if (!c->closed && c->jail.out_at == c->jail.out_end) {
                if (c->jail.tls && !c->jail.deaf)
                        tls_close(c->jail.tls);
                c->closed = true;
                half_flush(&c->jail);
        }
        if (!c->closed || !half_sent(&c->jail))
                return;
        if (!c->shut)
                conn_shutdown(c->conn, CONN_JAIL);
        c->shut = true;
        if (half_drain(&c->jail, budget) != -EAGAIN)
                http_over(c, c->end_why[0] ? c->end_why : NULL);
}

static void set_phase(struct http_conn *c) {
        static const uint32_t ms[] = {
                [PHASE_IDLE] = IDLE_MS, [PHASE_HEAD] = HEAD_MS, [PHASE_BUSY] = 0, [PHASE_END] = END_MS};
        const bool nothing = c->jail.in_at == c->jail.in_end && half_ready(&c->jail);
        enum phase now = c->ending                    ? PHASE_END
                         : c->request != REQUEST_HEAD ? PHASE_BUSY
                         : nothing                    ? PHASE_IDLE
                                                      : PHASE_HEAD;
        if (now == c->phase)
                return;
        c->phase = now;
        c->deadline_ns = ms[now] ? crew_now_ns() + ms[now] * 1000000ull : 0;
        conn_deadline(c->conn, ms[now]);
}

/* The time of a phase is over. */
static void on_late(struct http_conn *c) {
        if (c->phase == PHASE_END || c->phase == PHASE_IDLE)
                http_over(c, c->end_why[0] ? c->end_why : NULL);
        else if (half_ready(&c->jail) && !c->tls)
                http_over(c, "no whole request within 30 s");
        else
                http_over(c, half_ready(&c->jail) ? "neither a whole request nor a TLS handshake of the server within 30 s"
                                                  : "no TLS handshake within 30 s");
}

/* A TLS alert that says why is on its way: it is not to be overtaken by a reset. */
static void jail_failed(struct http_conn *c) {
        half_flush(&c->jail);
        if (c->jail.lost) {
                http_over(c, c->jail.error[0] ? c->jail.error : "the agent is gone");
                return;
        }
        snprintf(c->end_why, sizeof(c->end_why), "%s", c->jail.error);
        http_finish(c);
}

/* What is spliced is not read; a run to be spliced is begun when nothing of it is in our buffers. */
static bool fill(struct http_conn *c, struct half *h) {
        bool *splicing = &c->splicing[h->side];

        if (!*splicing && h == &c->jail && c->request == REQUEST_BODY)
                *splicing = http_can_splice(c, &c->up, &c->jail, &c->peer);
        if (!*splicing && h == &c->peer && c->answer == ANSWER_BODY)
                *splicing = http_can_splice(c, &c->down, &c->peer, &c->jail);
        return !*splicing && half_fill(h, &c->budget);
}

static void pump(struct http_conn *c) {
        bool moved = true;

        c->budget = BUDGET;
        while (moved && !c->over && !c->ending) {
                moved = fill(c, &c->jail);
                if (c->jail.failed || c->jail.lost) {
                        jail_failed(c);
                        break;
                }
                /* Over TLS nobody ends one direction and waits on the other. */
                if (c->jail.eof && c->tls && c->request == REQUEST_SENT) {
                        http_over(c, "the agent hung up before it had its answer");
                        break;
                }
                moved = http_on_request(c) || moved;
                moved = fill(c, &c->peer) || moved;
                moved = (!c->over && http_on_answer(c)) || moved;
                moved = half_flush(&c->peer) || moved;
                moved = half_flush(&c->jail) || moved;
        }
        if (c->ending && !c->over) {
                half_flush(&c->jail);
                go_to_end(c, &c->budget);
        }
        if (c->budget == 0 && !c->over)
                conn_again(c->conn);
}

static void on_ready(void *state) {
        struct http_conn *c = state;

        if (c->deadline_ns && crew_now_ns() >= c->deadline_ns)
                on_late(c);
        if (!c->over)
                pump(c);
        if (c->over) {
                char why[sizeof(c->over_why)]; /* gone() frees c while it is still needed */
                memcpy(why, c->over_why, sizeof(why));
                conn_end(c->conn, why[0] ? why : NULL);
                return;
        }
        half_trim(&c->jail);
        half_trim(&c->peer);
        set_phase(c);
}

static void gone(void *state) {
        struct http_conn *c = state;

        half_fini(&c->jail);
        half_fini(&c->peer);
        free(c);
}

static int start_tls(struct http_conn *c, struct crew_err *err) {
        const struct netpolicy_head *p = conn_policy(c->conn);
        const struct netpolicy_rule *r = conn_rule(c->conn);
        const char *ca = r->ca ? (const char *)p + r->ca : NULL;
        int e;

        if (!http_tls())
                return crew_fail(err, ENOTSUP, "the gateway was started without inspection");
        if ((e = tls_accept(http_tls(), conn_name(c->conn), &c->jail.tls, err)) < 0)
                return e;
        return tls_connect(http_tls(), conn_name(c->conn), ca, r->ca_bytes, &c->peer.tls, err);
}

static int take(struct conn *conn, const struct conn_first *first, void **state, struct crew_err *err) {
        const bool inspect = conn_rule(conn)->flags & NETPOLICY_INSPECT;
        struct http_conn *c;
        int r = 0;

        if (first->tls != inspect)
                return crew_fail(err, EPROTO, "%s",
                                 inspect ? "not TLS on an endpoint with tls: inspect"
                                         : "TLS on an endpoint with HTTP rules but without tls: inspect");
        c = calloc(1, sizeof(*c));
        if (!c)
                return crew_fail(err, ENOMEM, "out of memory");
        c->conn = conn;
        c->tls = first->tls;
        half_init(&c->jail, conn, CONN_JAIL, NULL);
        half_init(&c->peer, conn, CONN_PEER, NULL);
        c->n_creds = creds_of(http_creds(), conn_name(conn), conn_port(conn), c->creds);
        if (c->tls)
                r = start_tls(c, err);
        if (r == 0 && (r = half_begin(&c->jail, first->bytes, first->n)) < 0)
                crew_fail(err, -r, "out of memory");
        if (r < 0) {
                gone(c);
                return r;
        }
        *state = c;
        return 0;
}

const struct conn_taker http_taker = {.take = take, .on_ready = on_ready, .gone = gone};
