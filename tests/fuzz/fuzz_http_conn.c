/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A whole connection under HTTP rules, or of plain HTTP without, between an agent and a server that both say anything.
 * The first byte says which; the rest is a list of pieces: who says it (or ends), how long it is, the bytes.  Whatever
 * reaches the server must be a sequence of whole requests (the last may be cut short), read again from its bytes, that the
 * rules allow, or that are for the name that was dialled.
 */
#include "common/util.h"
#include "gateway/http_body.h"
#include "gateway/http_conn.h"
#include "gateway/http_path.h"
#include "gateway/http_plain.h"

#include <errno.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

struct conn {
        struct {
                const uint8_t *p;
                size_t n;
        } in[CONN_SIDE_N];
        bool end[CONN_SIDE_N], blocked, gone, again;
        char out[1 << 16]; /* to the server */
        size_t out_n;
        void *state;
        const struct conn_taker *taker;
};

static struct conn c;
static const struct netpolicy_head *policy;

const char *conn_name(const struct conn *x) {
        return "api.test";
}
uint16_t conn_port(const struct conn *x) {
        return 80;
}
const struct netpolicy_head *conn_policy(const struct conn *x) {
        return policy;
}
const struct netpolicy_rule *conn_rule(const struct conn *x) {
        return netpolicy_rule_at(policy, 0);
}
ssize_t conn_recv(struct conn *x, enum conn_side from, void *buf, size_t n) {
        n = MIN_OF(n, x->in[from].n);
        if (n == 0)
                return x->end[from] ? 0 : -EAGAIN;
        memcpy(buf, x->in[from].p, n);
        x->in[from].p += n;
        x->in[from].n -= n;
        return (ssize_t)n;
}
ssize_t conn_send(struct conn *x, enum conn_side to, const void *buf, size_t n) {
        crew_assert(!x->gone);
        if (x->blocked)
                return -EAGAIN;
        if (to == CONN_PEER) {
                n = MIN_OF(n, sizeof(x->out) - x->out_n);
                memcpy(x->out + x->out_n, buf, n);
                x->out_n += n;
        }
        return n ? (ssize_t)n : -EPIPE;
}
ssize_t conn_splice(struct conn *x, enum conn_side from, uint64_t n) {
        char buf[4096];
        ssize_t k = conn_recv(x, from, buf, MIN_OF(n, (uint64_t)sizeof(buf)));

        crew_assert(n > 0);
        return x->blocked ? -EAGAIN : k > 0 ? conn_send(x, !from, buf, (size_t)k) : k;
}
void conn_shutdown(struct conn *x, enum conn_side to) {
}
void conn_again(struct conn *x) {
        x->again = true;
}
void conn_deadline(struct conn *x, uint32_t ms) {
}
int conn_report_http(struct conn *x, enum gate_verdict verdict, const char *text, const char *why, unsigned status) {
        crew_assert(text && text[0] && (verdict != GATE_REFUSE || why));
        return 0;
}
void conn_end(struct conn *x, const char *why) {
        crew_assert(!x->gone);
        x->gone = true;
        x->taker->gone(x->state);
}
void conn_release(struct conn *x) {
        crew_assert(x->taker == &http_plain_taker);
        conn_end(x, NULL);
}

static void make_policy(void) {
        static const char *const methods[] = {"GET", "POST"}, *const paths[] = {"/v1/**"};
        const struct netpolicy_spec_rule rule = {
                .fixed = {.kind = NETPOLICY_NAME, .flags = NETPOLICY_HTTP, .port = 80},
                .host = "api.test",
                .where = "x.yaml:1",
                .methods = methods,
                .paths = paths,
                .n_methods = 2,
                .n_paths = 1,
        };
        const struct netpolicy_spec spec = {
                .fixed = {.generation = 1, .max_conns = 1, .max_half_open = 1, .max_dns_per_s = 1},
                .where = "x.yaml:0",
                .rules = &rule,
                .n_rules = 1};
        struct crew_err err;
        _cleanup_close_ int fd = netpolicy_build(&spec, &err);

        crew_assert(fd >= 0 && netpolicy_open(fd, &policy, &err) == 0);
}

static size_t skip_body(const struct http_head *h, const char *p, size_t n) {
        struct http_body b;
        size_t at = 0;

        http_body_init(&b, h, true);
        while (at < n && !http_body_done(&b)) {
                bool data;
                const char *why;
                ssize_t k = http_body_take(&b, p + at, n - at, &data, &why);
                crew_assert(k > 0);
                at += (size_t)k;
        }
        return at;
}

static void check_target(const char *p, const struct http_head *h) {
        static struct http_target target;
        const char *why = "";
        const bool ok = http_target_parse(p + h->target.at, h->target.n, h->method, &target, &why);

        if (c.taker == &http_plain_taker) {
                crew_assert(!target.absolute || http_authority_is(p + h->target.at + target.authority.at,
                                                                  target.authority.n, "api.test", 80, 80));
                crew_assert(strcmp(h->method, "CONNECT") != 0);
                return;
        }
        crew_assert(ok && !target.absolute);
        crew_assert(netpolicy_http_decide(policy, conn_rule(&c), h->method, target.path) == NETPOLICY_HTTP_OK);
}

static void check_requests(const char *p, size_t n) {
        while (n > 0) {
                struct http_head h;
                const char *why = "";
                size_t scanned = 0, end;
                enum http_parse r = http_head_find(p, n, &scanned, &end, &why);
                if (r == HTTP_MORE || (r == HTTP_BAD && strstr(why, "16 KiB")))
                        return;
                crew_assert(r == HTTP_OK && http_parse_request(p, end, &h, &why) == HTTP_OK);
                crew_assert(http_authority_is(p + h.host.at, h.host.n, "api.test", 80, 80));
                /* What follows the wish for another protocol is that protocol's, if the server said yes. */
                if (c.taker == &http_plain_taker && h.upgrade.n)
                        return;
                check_target(p, &h);
                end += skip_body(&h, p + end, n - end);
                p += end;
                n -= end;
        }
}

static void ready(void) {
        for (int i = 0; i < 8 && !c.gone; i++) {
                c.again = false;
                c.taker->on_ready(c.state);
                if (!c.again)
                        break;
        }
}

/* One piece: a byte of who and what, two of length, the bytes. */
static size_t piece(const uint8_t *data, size_t n) {
        const enum conn_side who = data[0] & 1 ? CONN_PEER : CONN_JAIL;
        const size_t want = n < 3 ? 0 : (size_t)data[1] | (size_t)(data[2] & 31) << 8;
        const size_t head = MIN_OF(n, (size_t)3), len = MIN_OF(want, n - head);

        c.blocked = data[0] & 2;
        if (c.end[who] || c.in[who].n > 0) /* what was not taken is lost: a piece of the stream missing is a stream too */
                return head + len;
        c.in[who].p = data + head;
        c.in[who].n = len;
        c.end[who] = data[0] & 4;
        ready();
        c.blocked = false;
        if (!c.gone)
                ready();
        return head + len;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
        struct conn_first first = {.bytes = (const uint8_t *)"G", .n = 1};
        struct crew_err err;

        if (!policy)
                make_policy();
        memset(&c, 0, sizeof(c));
        c.taker = n && data[0] & 1 ? &http_plain_taker : &http_taker;
        if (n && (data[0] & 3) == 3) { /* a part of the request line went ahead */
                first.sent = c.out_n = 1;
                c.out[0] = 'G';
        }
        crew_assert(c.taker->take(&c, &first, &c.state, &err) == 0);
        ready();
        for (size_t at = 1; at < n && !c.gone;)
                at += piece(data + at, n - at);
        check_requests(c.out, c.out_n);
        if (!c.gone)
                c.taker->gone(c.state);
        return 0;
}
