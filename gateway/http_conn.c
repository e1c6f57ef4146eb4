/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Trusts neither side.  A request reaches the server only whole-headed, judged and reported; what follows an answer that
 * nobody asked for, or a message whose end cannot be told, ends the connection.  Memory: one buffer each way and side.
 */
#include "http_conn.h"

#include "http_body.h"
#include "http_half.h"
#include "http_rules.h"
#include "http_setup.h"
#include "redact.h"
#include "refusal.h"

#include "common/util.h"

#include <errno.h>
#include <string.h>

#define BUDGET (256u << 10)    /* bytes a wake-up */
#define HEAD_MS 30000          /* for the TLS handshakes and a request's head, from its first byte */
#define IDLE_MS 120000         /* between requests */
#define END_MS 2000            /* for the agent to read its last answer */
#define SPLICE_MIN (64u << 10) /* shorter runs of plain bytes are copied */
#define INTERIM_MAX 64         /* 1xx answers to one request */

enum request_state { REQUEST_HEAD, REQUEST_BODY, REQUEST_SENT, REQUEST_STOP };
enum answer_state { ANSWER_NONE, ANSWER_HEAD, ANSWER_BODY };
enum phase { PHASE_NONE, PHASE_IDLE, PHASE_HEAD, PHASE_BUSY, PHASE_END };

struct http_conn {
        struct conn *conn;
        struct half jail, peer;
        bool tls;
        enum request_state request;
        enum answer_state answer;
        size_t request_scanned, answer_scanned;
        struct http_body up, down;
        bool splicing[CONN_SIDE_N]; /* from this side: its bytes are in the connection's pipe, not in our buffer */
        size_t budget;
        /* of the request under way */
        bool to_head, old, close;
        unsigned interim;
        enum gate_verdict verdict;
        char text[GATE_TEXT_MAX], why[sizeof(((struct http_verdict *)0)->why)];
        /* whose secrets the server knows */
        const struct cred *creds[CREDS_PER_HOST_MAX];
        size_t n_creds;
        uint64_t requests; /* that went to the server */
        bool ending;       /* what is in jail.out goes out, then the agent's side is shut, then it ends */
        bool closed, shut; /* close_notify, and the socket */
        bool over;         /* conn_end() once nothing of ours is on the stack */
        char over_why[GATE_TEXT_MAX], end_why[GATE_TEXT_MAX];
        enum phase phase;
        uint64_t deadline_ns;
};

/* Large, and never alive across a return to the loop. */
static struct http_head head;
static struct http_target target;

static bool over(struct http_conn *c, const char *why) {
        c->over = true;
        snprintf(c->over_why, sizeof(c->over_why), "%s", why ? why : "");
        return false;
}

/* No more requests; the last answer is delivered first. */
static bool finish(struct http_conn *c) {
        c->request = REQUEST_STOP;
        c->answer = ANSWER_NONE;
        return c->ending = true;
}

/* --- refusing --- */

struct refused {
        enum gate_verdict verdict;
        unsigned status;
        const char *text, *why, *error, *step, *rule;
        bool to_head;
};

/* False: crewd or the agent is slow, the same again later. */
static bool answer_refusal(struct http_conn *c, const struct refused *f, bool close) {
        struct refusal r = {.status = f->status,
                            .error = f->error,
                            .rule = f->rule,
                            .next_steps = {f->step && f->step[0] ? f->step : NULL},
                            .close = close,
                            .to_head = f->to_head};
        char *out;

        if (!half_sent(&c->jail) || half_room(&c->jail, &out) < REFUSAL_MAX)
                return false;
        if (f->status == 403)
                r.next_steps[1] = "ask the operator to allow this in the agent's policy";
        int sent = conn_report_http(c->conn, f->verdict, f->text, f->why, f->status);
        if (sent == -EAGAIN)
                return false;
        if (sent < 0)
                return over(c, "crewd cannot be told");
        half_put(&c->jail, refusal_write(&r, out));
        return true;
}

static bool refuse_malformed(struct http_conn *c, const char *why) {
        char error[256];
        const struct refused f = {
                .status = 400, .text = "- -", .why = why, .error = error, .step = "send one well-formed HTTP/1.1 request"};

        snprintf(error, sizeof(error), "the request cannot be read: %s", why);
        return answer_refusal(c, &f, true) ? finish(c) : false;
}

/* The parsed request in head, whose text is in c->text.  A refused body is not waited for. */
static bool refuse(struct http_conn *c, unsigned status, const char *why, const char *step, const char *rule) {
        const bool close = head.close || head.framing != HTTP_NO_BODY;
        char error[512];
        const struct refused f = {.status = status,
                                  .text = c->text,
                                  .why = why,
                                  .error = error,
                                  .step = step,
                                  .rule = rule,
                                  .to_head = strcmp(head.method, "HEAD") == 0};

        snprintf(error, sizeof(error), "%s on %s:%u: %s", c->text, conn_name(c->conn), conn_port(c->conn), why);
        if (!answer_refusal(c, &f, close))
                return false;
        half_take(&c->jail, head.n);
        c->request_scanned = 0;
        c->phase = PHASE_NONE;
        return close ? finish(c) : true;
}

/* Instead of an answer that does not come, or not in a form that can go on. */
static bool fail_answer(struct http_conn *c, const char *why) {
        const struct refused f = {.verdict = c->verdict,
                                  .status = 502,
                                  .text = c->text,
                                  .why = why,
                                  .error = why,
                                  .to_head = c->to_head,
                                  .step = "this is a fault of the server or of the way to it, not of the policy"};

        return answer_refusal(c, &f, true) ? finish(c) : false;
}

/* --- requests --- */

/* The credential that goes along.  False: the rule names one that is not there. */
static bool find_credential(struct http_conn *c, const struct http_verdict *v, struct http_request_out *o) {
        const char *name = netpolicy_text(conn_policy(c->conn), v->rule->credential);
        const struct cred *k = name ? creds_find(http_creds(), name) : NULL;

        if (!k)
                return !name;
        o->drop = cred_header(k);
        if (v->credential && cred_bound(k, conn_name(c->conn), conn_port(c->conn), target.path, c->tls)) {
                o->inject = (struct http_inject){.header = cred_header(k), .prefix = cred_prefix(k)};
                o->inject.secret = cred_secret(k, &o->inject.secret_n);
        }
        return true;
}

static bool forward(struct http_conn *c, const struct http_verdict *v, const struct http_request_out *o) {
        char *out;
        const size_t room = half_room(&c->peer, &out);
        int sent;

        if (!half_sent(&c->peer) || room < HALF_OUT)
                return false;
        sent = conn_report_http(c->conn, v->verdict, c->text, v->why[0] ? v->why : NULL, 0);
        if (sent < 0)
                return sent == -EAGAIN ? false : over(c, "crewd cannot be told");
        half_put(&c->peer, http_forward_request(&head, o, out, room));
        half_take(&c->jail, head.n);
        http_body_init(&c->up, &head, true);
        c->request_scanned = c->interim = 0;
        c->phase = PHASE_NONE;
        c->requests++;
        c->verdict = v->verdict;
        snprintf(c->why, sizeof(c->why), "%s", v->why);
        c->to_head = strcmp(head.method, "HEAD") == 0;
        c->old = head.minor == 0;
        c->close = head.close;
        c->request = http_body_done(&c->up) ? REQUEST_SENT : REQUEST_BODY;
        c->answer = ANSWER_HEAD;
        return true;
}

static bool judge(struct http_conn *c) {
        const struct netpolicy_head *p = conn_policy(c->conn);
        const struct http_scope s = {p, conn_rule(c->conn), conn_name(c->conn), conn_port(c->conn), c->tls};
        struct http_request_out o = {.wire = target.wire, .uncompressed = c->n_creds > 0};
        struct http_verdict v;

        http_request_text(&head, c->text, sizeof(c->text));
        http_judge(&s, &head, &target, &v);
        const char *rule = netpolicy_text(p, v.rule->where);
        if (v.verdict == GATE_REFUSE)
                return refuse(c, v.status, v.why, v.step, rule);
        if (!find_credential(c, &v, &o))
                return refuse(c, 502, "the gateway does not have the credential that the rule names",
                              "ask the operator to add it to the credentials file", rule);
        if (c->peer.failed)
                return refuse(c, 502, c->peer.error, "this is a fault of the server or of the way to it, not of the policy",
                              rule);
        /* As any server may: it has had enough of this connection, and the client makes another. */
        if (c->peer.eof && c->requests)
                return finish(c);
        return half_ready(&c->peer) ? forward(c, &v, &o) : false;
}

static bool request_head(struct http_conn *c) {
        const char *why = NULL;
        char *p;
        size_t end, n = half_in(&c->jail, &p);

        enum http_parse r = n ? http_head_find(p, n, &c->request_scanned, &end, &why) : HTTP_MORE;

        if (r == HTTP_OK) {
                c->request_scanned = end - 1; /* where it is found again, when it has to wait */
                r = http_parse_request(p, end, &head, &why);
        }
        if (r == HTTP_BAD)
                return refuse_malformed(c, why);
        if (r == HTTP_OK)
                return judge(c);
        return c->jail.eof ? finish(c) : false;
}

/* Passes on what it can of a body; secrets are masked on the way to the agent. */
static bool move_body(struct http_conn *c, struct http_body *b, struct half *from, struct half *to, const char **why) {
        bool moved = false, data;
        char *p, *out;

        while (!http_body_done(b)) {
                const size_t have = half_in(from, &p), room = half_room(to, &out);
                const uint64_t run = http_body_run(b);
                size_t n = MIN_OF(have, room);
                if (run) {
                        const size_t window = (size_t)MIN_OF((uint64_t)have, run);
                        size_t hold = from == &c->peer ? redact(c->creds, c->n_creds, p, window) : 0;
                        n = MIN_OF(n, window == run || from->eof ? window : window - hold);
                }
                if (n == 0)
                        break;
                ssize_t k = http_body_take(b, p, n, &data, why);
                if (k < 0)
                        return false;
                memcpy(out, p, (size_t)k);
                half_put(to, (size_t)k);
                half_take(from, (size_t)k);
                moved = true;
        }
        return moved;
}

/* A long run of plain bytes that nobody needs to look at; once begun, to its end. */
static bool can_splice(const struct http_conn *c, const struct http_body *b, struct half *from, struct half *to) {
        char *p;

        return http_body_run(b) >= SPLICE_MIN && !c->tls && half_in(from, &p) == 0 && half_sent(to) && !from->eof &&
               !to->deaf && (from == &c->jail || c->n_creds == 0);
}

static bool splice_body(struct http_conn *c, struct http_body *b, struct half *from, struct half *to) {
        ssize_t n = c->budget ? conn_splice(c->conn, from->side, http_body_run(b)) : -EAGAIN;

        if (n == -EAGAIN)
                return false;
        if (n > 0) {
                http_body_passed(b, (uint64_t)n);
                c->budget -= MIN_OF(c->budget, (size_t)n);
        } else if (n == 0) {
                from->eof = true;
        } else if (to == &c->peer) {
                to->deaf = true; /* it may have answered all the same */
        } else {
                return over(c, "a connection broke in the middle of an answer");
        }
        c->splicing[from->side] = n > 0 && http_body_run(b) > 0;
        return true;
}

static bool pass_body(struct http_conn *c, struct http_body *b, struct half *from, struct half *to, const char **why) {
        return c->splicing[from->side] ? splice_body(c, b, from, to) : move_body(c, b, from, to, why);
}

static bool request_body(struct http_conn *c) {
        const char *why = NULL;
        const bool moved = pass_body(c, &c->up, &c->jail, &c->peer, &why);

        if (why)
                return over(c, why);
        if (http_body_done(&c->up))
                c->request = REQUEST_SENT;
        else if (c->jail.eof && c->jail.in_at == c->jail.in_end)
                return over(c, "the agent ended in the middle of a request");
        return moved;
}

/* True when something moved. */
static bool on_request(struct http_conn *c) {
        switch (c->request) {
        case REQUEST_HEAD:
                return request_head(c);
        case REQUEST_BODY:
                return request_body(c);
        case REQUEST_SENT:
        case REQUEST_STOP:
                break;
        }
        return false;
}

/* --- answers --- */

static bool forward_interim(struct http_conn *c, char *out, size_t room) {
        if (head.status == 101)
                return fail_answer(c, "the server's answer changes the protocol, which nobody asked for");
        if (++c->interim > INTERIM_MAX)
                return fail_answer(c, "the server's answer does not come to its end");
        half_take(&c->peer, head.n);
        c->answer_scanned = 0;
        if (!c->old)
                half_put(&c->jail, http_forward_response(&head, false, out, room));
        return true;
}

static bool forward_answer(struct http_conn *c) {
        char *out;
        const size_t room = half_room(&c->jail, &out);

        if (!half_sent(&c->jail) || room < HALF_OUT)
                return false;
        if (head.status < 200)
                return forward_interim(c, out, room);
        if (c->old && head.framing == HTTP_CHUNKED)
                return fail_answer(c, "the server's answer is chunked, to a request of HTTP/1.0");
        int sent = conn_report_http(c->conn, c->verdict, c->text, c->why[0] ? c->why : NULL, head.status);
        if (sent < 0)
                return sent == -EAGAIN ? false : over(c, "crewd cannot be told");
        c->close = c->close || head.close || head.framing == HTTP_UNTIL_CLOSE;
        half_put(&c->jail, http_forward_response(&head, c->close, out, room));
        half_take(&c->peer, head.n);
        http_body_init(&c->down, &head, false);
        c->answer_scanned = 0;
        c->answer = ANSWER_BODY;
        return true;
}

static bool answer_head(struct http_conn *c) {
        const char *why = NULL;
        char *p, text[160];
        size_t end, n = half_in(&c->peer, &p);
        enum http_parse r = n ? http_head_find(p, n, &c->answer_scanned, &end, &why) : HTTP_MORE;

        if (r == HTTP_OK) {
                c->answer_scanned = end - 1;
                redact(c->creds, c->n_creds, p, end);
                r = http_parse_response(p, end, c->to_head, &head, &why);
        }
        if (r == HTTP_OK)
                return forward_answer(c);
        if (r == HTTP_BAD)
                snprintf(text, sizeof(text), "the server's answer cannot be read: %s", why);
        else if (c->peer.eof && n == 0 && c->requests > 1)
                return finish(c);
        else if (c->peer.eof)
                snprintf(text, sizeof(text), "the server ended the connection without an answer");
        else
                return false;
        return fail_answer(c, text);
}

/* The answer is complete. */
static bool answer_done(struct http_conn *c) {
        if (c->close || c->request != REQUEST_SENT)
                return finish(c);
        c->request = REQUEST_HEAD;
        c->answer = ANSWER_NONE;
        return true;
}

static bool answer_body(struct http_conn *c) {
        const char *why = NULL;
        const bool moved = pass_body(c, &c->down, &c->peer, &c->jail, &why);

        if (why)
                return over(c, why);
        if (http_body_done(&c->down))
                return answer_done(c);
        if (!c->peer.eof || c->peer.in_at != c->peer.in_end)
                return moved;
        if (c->down.framing == HTTP_UNTIL_CLOSE && !c->peer.truncated && !c->peer.failed)
                return answer_done(c);
        return over(c, "the server ended in the middle of an answer");
}

static bool on_answer(struct http_conn *c) {
        switch (c->answer) {
        case ANSWER_NONE:
                /* With a failed server every request is answered by us. */
                if (!c->ending && (c->peer.in_at != c->peer.in_end || (c->peer.eof && !c->peer.failed)))
                        return finish(c);
                break;
        case ANSWER_HEAD:
                return answer_head(c);
        case ANSWER_BODY:
                return answer_body(c);
        }
        return false;
}

/* --- the event loop --- */

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
                over(c, c->end_why[0] ? c->end_why : NULL);
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
                over(c, c->end_why[0] ? c->end_why : NULL);
        else if (half_ready(&c->jail) && !c->tls)
                over(c, "no whole request within 30 s");
        else
                over(c, half_ready(&c->jail) ? "neither a whole request nor a TLS handshake of the server within 30 s"
                                             : "no TLS handshake within 30 s");
}

/* A TLS alert that says why is on its way: it is not to be overtaken by a reset. */
static void jail_failed(struct http_conn *c) {
        half_flush(&c->jail);
        if (c->jail.lost) {
                over(c, c->jail.error);
                return;
        }
        snprintf(c->end_why, sizeof(c->end_why), "%s", c->jail.error);
        finish(c);
}

/* What is spliced is not read; a run to be spliced is begun when nothing of it is in our buffers. */
static bool fill(struct http_conn *c, struct half *h) {
        bool *splicing = &c->splicing[h->side];

        if (!*splicing && h == &c->jail && c->request == REQUEST_BODY)
                *splicing = can_splice(c, &c->up, &c->jail, &c->peer);
        if (!*splicing && h == &c->peer && c->answer == ANSWER_BODY)
                *splicing = can_splice(c, &c->down, &c->peer, &c->jail);
        return !*splicing && half_fill(h, &c->budget);
}

static void pump(struct http_conn *c) {
        bool moved = true;

        c->budget = BUDGET;
        while (moved && !c->over && !c->ending) {
                moved = fill(c, &c->jail);
                if (c->jail.failed) {
                        jail_failed(c);
                        break;
                }
                moved = on_request(c) || moved;
                moved = fill(c, &c->peer) || moved;
                moved = (!c->over && on_answer(c)) || moved;
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
