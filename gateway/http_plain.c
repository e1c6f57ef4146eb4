/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Trusts neither side.  The strict parser finds where requests begin and end, so that no server finds one more in between;
 * what it cannot read is refused.  Memory: a buffer for a head, none while bodies and answers are spliced.
 */
#include "http_plain.h"

#include "http_body.h"
#include "http_half.h"
#include "http_rules.h"
#include "refusal.h"

#include "common/util.h"

#include <errno.h>
#include <string.h>
#include <strings.h>

#define BUDGET (1u << 20)           /* bytes a wake-up */
#define HEAD_MS 30000u              /* for a whole head, from its first byte */
#define SPLICE_MIN (64u << 10)      /* shorter runs of a body are copied */
#define ANSWERS (UINT64_C(1) << 62) /* as many bytes as they are */

enum state { HEAD, BODY, ANSWER, SWITCHED, REFUSED };

struct plain {
        struct conn *conn;
        struct half jail, peer;
        enum state state;
        bool first;     /* no request went before */
        bool switching; /* the request under way asks for another protocol */
        bool splicing;  /* its body: nothing of that is in our buffers */
        bool partial;   /* a head that is not whole yet */
        bool up_ended, down_ended;
        size_t scanned, answer_scanned;
        size_t gone_ahead; /* bytes of the first head that the server has already */
        struct http_body body;
        size_t budget;
        uint64_t deadline_ns; /* 0: none */
        bool over;
        char why[GATE_TEXT_MAX]; /* with over: "" is an orderly end */
};

/* Large, and never alive across a return to the loop. */
static struct http_head head;
static struct http_target target;

/* Each step is true when something moved. */

static bool over(struct plain *p, const char *why) {
        p->over = true;
        snprintf(p->why, sizeof(p->why), "%s", why ? why : "");
        return false;
}

/* --- the judgement --- */

static bool is_name(const struct plain *p, struct http_span s) {
        const uint16_t port = conn_port(p->conn);

        return http_authority_is(head.bytes + s.at, s.n, conn_name(p->conn), port, port);
}

/* "http://a?@b/": a host and a query to the standard, user information and a host to others. */
static bool url_has_path(const struct http_span authority) {
        const size_t end = (size_t)authority.at + authority.n;

        return end == (size_t)head.target.at + head.target.n || head.bytes[end] == '/';
}

/* NULL, or why this request does not go on. */
static const char *judge(const struct plain *p, char why[static GATE_TEXT_MAX]) {
        const struct http_span t = head.target;
        struct http_span named = head.host;
        const char *text;

        if (strcmp(head.method, "CONNECT") == 0)
                return "CONNECT is never let through";
        if (is_name(p, named)) {
                if (head.bytes[t.at] == '/' || http_span_is(&head, t, "*"))
                        return NULL;
                http_target_parse(head.bytes + t.at, t.n, head.method, &target, &text);
                if (!target.absolute || target.tls)
                        return "a target that is neither a path nor a URL of this host";
                named = (struct http_span){.at = (uint16_t)(t.at + target.authority.at), .n = target.authority.n};
                if (is_name(p, named))
                        return url_has_path(named) ? NULL : "a URL without a path";
        }
        snprintf(why, GATE_TEXT_MAX, "Host is %.*s, dialled %.60s", (int)MIN_OF(named.n, 60u), head.bytes + named.at,
                 conn_name(p->conn));
        return why;
}

/* Protocols in which a request for another host could go by unread. */
static bool names_hosts(struct http_span upgrade) {
        static const char *const names[] = {"h2", "h3", "http", "tls"};
        const char *v = head.bytes + upgrade.at;

        for (size_t at = 0; at < upgrade.n; at++) {
                for (size_t i = 0; i < ELEMENTSOF(names); i++) {
                        const size_t n = strlen(names[i]);
                        if (upgrade.n - at >= n && (at == 0 || !http_token_ok(v + at - 1, 1)) &&
                            strncasecmp(v + at, names[i], n) == 0)
                                return true;
                }
        }
        return false;
}

/* --- refusals --- */

static bool refuse(struct plain *p, unsigned status, const char *request, const char *why) {
        char error[512], step[192], *out;
        struct refusal r = {.status = status, .error = error, .next_steps = {step}, .close = true};
        int sent = conn_report_http(p->conn, GATE_REFUSE, request, why, p->first ? status : 0);

        if (sent < 0)
                return sent == -EAGAIN ? false : over(p, "crewd cannot be told");
        if (!p->first || half_room(&p->jail, &out) < REFUSAL_MAX)
                return over(p, why);
        const struct netpolicy_rule *rule = conn_rule(p->conn);
        r.rule = rule ? netpolicy_text(conn_policy(p->conn), rule->where) : NULL;
        r.to_head = status == 403 && strcmp(head.method, "HEAD") == 0;
        snprintf(error, sizeof(error), "%s on %s:%u: %s", request, conn_name(p->conn), conn_port(p->conn), why);
        snprintf(step, sizeof(step), "send one HTTP/1.1 request with \"Host: %s\"", conn_name(p->conn));
        half_put(&p->jail, refusal_write(&r, out));
        p->state = REFUSED;
        return true;
}

static bool refuse_unread(struct plain *p, const char *why, const char *bytes, size_t n) {
        char text[GATE_TEXT_MAX];

        if (n >= 4 && memcmp(bytes, "PRI ", 4) == 0)
                why = "HTTP/2 without TLS, whose requests are not read here";
        snprintf(text, sizeof(text), "the request cannot be read: %s", why);
        return refuse(p, 400, "- -", text);
}

/* --- requests --- */

/* The head without the wish for another protocol. */
static size_t without_upgrade(char *out, size_t room) {
        static char wire[HTTP_HEAD_MAX];
        const struct http_request_out o = {.wire = wire};

        memcpy(wire, head.bytes + head.target.at, head.target.n);
        wire[head.target.n] = '\0';
        return http_forward_request(&head, &o, out, room);
}

static bool forward(struct plain *p) {
        const bool wish = head.upgrade.n > 0, let = wish && p->first && !names_hosts(head.upgrade);
        char *out;
        size_t n = head.n;

        if (!half_sent(&p->peer) || half_room(&p->peer, &out) < HALF_OUT)
                return false;
        if (wish && !let)
                n = without_upgrade(out, HALF_OUT);
        else
                memcpy(out, head.bytes, n);
        if (n < p->gone_ahead)
                return over(p, "a request that cannot go on");
        half_put(&p->peer, n);
        p->peer.out_at += p->gone_ahead; /* of the request line, which is the same either way */
        half_take(&p->jail, head.n);
        http_body_init(&p->body, &head, true);
        p->scanned = p->gone_ahead = 0;
        p->first = false;
        p->switching = let;
        p->state = BODY;
        return true;
}

static bool on_head(struct plain *p) {
        const char *why = NULL;
        char *bytes, own[GATE_TEXT_MAX], text[GATE_TEXT_MAX];
        size_t end, n = half_in(&p->jail, &bytes);
        enum http_parse r = n ? http_head_find(bytes, n, &p->scanned, &end, &why) : HTTP_MORE;

        if (r == HTTP_OK) {
                p->scanned = end - 1; /* where it is found again, when it has to wait */
                r = http_parse_request(bytes, end, &head, &why);
        }
        p->partial = r == HTTP_MORE && n > 0;
        if (r == HTTP_BAD)
                return refuse_unread(p, why, bytes, n);
        if (r == HTTP_MORE)
                return false;
        if (!(why = judge(p, own)))
                return forward(p);
        http_request_text(&head, text, sizeof(text));
        return refuse(p, 403, text, why);
}

static bool copy_body(struct plain *p) {
        const char *why = NULL;
        char *bytes, *out;
        bool data;
        const size_t n = half_in(&p->jail, &bytes), room = half_room(&p->peer, &out);

        if (n == 0 || room == 0)
                return false;
        ssize_t k = http_body_take(&p->body, bytes, MIN_OF(n, room), &data, &why);
        if (k < 0)
                return over(p, why);
        memcpy(out, bytes, (size_t)k);
        half_put(&p->peer, (size_t)k);
        half_take(&p->jail, (size_t)k);
        return k > 0;
}

static bool splice_body(struct plain *p) {
        ssize_t n = p->budget ? conn_splice(p->conn, CONN_JAIL, http_body_run(&p->body)) : -EAGAIN;

        if (n == -EAGAIN)
                return false;
        if (n <= 0)
                return over(p, n == 0 ? "the agent ended in the middle of a request" : strerror((int)-n));
        http_body_passed(&p->body, (uint64_t)n);
        p->budget -= MIN_OF(p->budget, (size_t)n);
        p->splicing = http_body_run(&p->body) > 0;
        return true;
}

static bool on_body(struct plain *p) {
        char *bytes;

        if (http_body_done(&p->body)) {
                p->state = p->switching ? ANSWER : HEAD;
                return true;
        }
        if (!p->splicing)
                p->splicing = http_body_run(&p->body) >= SPLICE_MIN && half_in(&p->jail, &bytes) == 0 &&
                              half_sent(&p->peer) && !p->jail.eof;
        return p->splicing ? splice_body(p) : copy_body(p);
}

/* --- answers --- */

static bool pass(struct half *from, struct half *to, size_t most) {
        char *bytes, *out;
        const size_t n = MIN_OF(half_in(from, &bytes), MIN_OF(half_room(to, &out), most));

        if (n == 0)
                return false;
        memcpy(out, bytes, n);
        half_put(to, n);
        half_take(from, n);
        return true;
}

/* The answer to the wish.  One that cannot be read is not a yes. */
static bool on_answer(struct plain *p) {
        const char *why = NULL;
        char *bytes, *out;
        size_t end, n = half_in(&p->peer, &bytes);
        enum http_parse r = n ? http_head_find(bytes, n, &p->answer_scanned, &end, &why) : HTTP_MORE;

        if (r == HTTP_MORE && !p->peer.eof)
                return false;
        if (r == HTTP_OK && half_room(&p->jail, &out) < end)
                return false;
        if (r == HTTP_OK && http_parse_response(bytes, end, false, &head, &why) == HTTP_OK && head.status < 200) {
                p->answer_scanned = 0;
                p->state = head.status == 101 ? SWITCHED : ANSWER;
                return pass(&p->peer, &p->jail, end);
        }
        p->switching = false;
        p->state = HEAD;
        return true;
}

/* What the server says goes to the agent as it is. */
static bool splice_answers(struct plain *p) {
        ssize_t n;

        if (p->first || p->switching || p->down_ended)
                return false;
        if (pass(&p->peer, &p->jail, SIZE_MAX)) /* what was read while an answer was awaited */
                return true;
        if (!half_sent(&p->jail))
                return false;
        if (p->peer.eof)
                n = 0;
        else
                n = p->budget ? conn_splice(p->conn, CONN_PEER, ANSWERS) : -EAGAIN;
        if (n == -EAGAIN)
                return false;
        if (n < 0)
                return over(p, n == -ECONNRESET || n == -EPIPE ? "reset" : strerror((int)-n));
        p->budget -= MIN_OF(p->budget, (size_t)n);
        if (n == 0) {
                p->down_ended = true;
                conn_shutdown(p->conn, CONN_JAIL);
        }
        return true;
}

/* --- ends --- */

/* The agent says no more: that is passed on behind what it said. */
static bool end_of_requests(struct plain *p) {
        char *bytes;

        if (p->up_ended || !p->jail.eof || (p->state != HEAD && p->state != BODY) || !half_sent(&p->peer))
                return false;
        if (p->first)
                return over(p, NULL); /* not one whole request: the server was told nothing */
        if (p->state == BODY && (p->splicing || half_in(&p->jail, &bytes) > 0))
                return false;
        p->up_ended = true;
        conn_shutdown(p->conn, CONN_PEER);
        return true;
}

static bool lost(struct plain *p) {
        const struct half *h = p->jail.lost ? &p->jail : &p->peer;

        if (!h->lost)
                return false;
        over(p, h->error[0] ? h->error : "reset");
        return true;
}

static void set_deadline(struct plain *p) {
        const bool needed = p->state == REFUSED || (p->state == HEAD && p->partial);

        if (needed == (p->deadline_ns != 0))
                return;
        p->deadline_ns = needed ? crew_now_ns() + HEAD_MS * 1000000ull : 0;
        conn_deadline(p->conn, needed ? HEAD_MS : 0);
}

static bool step(struct plain *p) {
        switch (p->state) {
        case HEAD:
                return on_head(p);
        case BODY:
                return on_body(p);
        case ANSWER:
                return on_answer(p);
        case SWITCHED:
                return pass(&p->jail, &p->peer, SIZE_MAX) || pass(&p->peer, &p->jail, SIZE_MAX);
        case REFUSED:
                break;
        }
        return false;
}

static bool move(struct plain *p) {
        bool moved = false;

        if (!p->splicing && p->state != SWITCHED && p->state != REFUSED)
                moved |= half_fill(&p->jail, &p->budget);
        if (p->state == ANSWER)
                moved |= half_fill(&p->peer, &p->budget);
        moved |= step(p);
        moved |= half_flush(&p->peer);
        moved |= half_flush(&p->jail);
        if (p->over || lost(p))
                return false;
        moved |= splice_answers(p);
        moved |= end_of_requests(p);
        return moved && !p->over;
}

/* Everything of ours was sent. */
static bool empty(struct plain *p) {
        char *bytes;

        return half_sent(&p->jail) && half_sent(&p->peer) && half_in(&p->jail, &bytes) == 0 &&
               half_in(&p->peer, &bytes) == 0;
}

static void on_ready(void *state) {
        struct plain *p = state;
        char why[GATE_TEXT_MAX];

        p->budget = BUDGET;
        if (p->deadline_ns && crew_now_ns() >= p->deadline_ns)
                over(p, "no whole request within 30 s");
        while (!p->over && move(p))
                ;
        if (!p->over && ((p->state == REFUSED && half_sent(&p->jail)) || (p->up_ended && p->down_ended)))
                over(p, NULL);
        if (p->over) {
                memcpy(why, p->why, sizeof(why)); /* gone() frees p while it is still needed */
                return conn_end(p->conn, why[0] ? why : NULL);
        }
        if (p->state == SWITCHED && empty(p))
                return conn_release(p->conn);
        if (p->budget == 0)
                conn_again(p->conn);
        set_deadline(p);
        half_trim(&p->jail);
        half_trim(&p->peer);
}

static void gone(void *state) {
        struct plain *p = state;

        half_fini(&p->jail);
        half_fini(&p->peer);
        free(p);
}

static int take(struct conn *conn, const struct conn_first *first, void **state, struct crew_err *err) {
        struct plain *p = calloc(1, sizeof(*p));

        if (!p)
                return crew_fail(err, ENOMEM, "out of memory");
        p->conn = conn;
        p->first = true;
        p->gone_ahead = first->sent;
        half_init(&p->jail, conn, CONN_JAIL, NULL);
        half_init(&p->peer, conn, CONN_PEER, NULL);
        if (half_begin(&p->jail, first->bytes, first->n) < 0) {
                gone(p);
                return crew_fail(err, ENOMEM, "out of memory");
        }
        *state = p;
        return 0;
}

const struct conn_taker http_plain_taker = {.take = take, .on_ready = on_ready, .gone = gone};
