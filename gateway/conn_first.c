/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a client's first bytes are.  TLS: a whole ClientHello, whose server name must be the dialled one, and a second one
 * when the server asks for it: nothing behind the first goes out before it has answered.  HTTP to a name: taken, for each
 * request names a host.  Anything else is a relay.  Only of a first line that is still open do bytes go out before that is
 * known.
 */
#include "conn_internal.h"

#include "hello.h"

#include "common/util.h"

#include <assert.h>
#include <errno.h>
#include <string.h>
#include <sys/socket.h>

#define HELLO_MS 10000u
static_assert(CONN_FIRST_MAX == HELLO_MAX, "what is judged is handed over whole");

static void judge_name(struct conn *c, const char *sni, size_t end) {
        char canonical[NETPOLICY_NAME_MAX], text[GATE_TEXT_MAX];

        if (!c->by_name)
                return conn_go(c);
        netpolicy_canonical(sni, canonical);
        if (strcmp(canonical, c->name) == 0) {
                c->hello_end = c->second || conn_needs_taker(c) ? 0 : (uint32_t)end;
                return conn_go(c);
        }
        snprintf(text, sizeof(text), "SNI is %.60s, dialled %.60s", sni, c->name);
        conn_deny(c, text);
}

/* Plain bytes to a name: HTTP is taken, for its requests name a host; anything else is nobody's business. */
static void judge_line(struct conn *c) {
        const enum http_first is = http_first_read(&c->line, c->head + c->line_read, c->head_n - c->line_read);

        c->line_read = c->head_n;
        if (is == HTTP_FIRST_OPEN)
                return;
        if (is == HTTP_FIRST_YES && c->line_cut)
                return conn_deny(c, "an HTTP request line of more than 16 KiB");
        if (is == HTTP_FIRST_YES && !conn_taker_plain)
                return conn_deny(c, "the host of its requests cannot be checked by this gateway");
        conn_go(c);
}

static void judge(struct conn *c, enum hello what, const char *sni, size_t end) {
        switch (what) {
        case HELLO_MORE:
                if (!c->half_open) {
                        conn_set_half_open(c, true);
                        hub_deadline_set(c->agent->hub, &c->deadline, HELLO_MS);
                }
                return;
        case HELLO_PLAIN:
                return c->by_name && !conn_needs_taker(c) ? judge_line(c) : conn_go(c);
        case HELLO_NAMED:
                return judge_name(c, sni, end);
        case HELLO_UNNAMED:
                return c->by_name ? conn_deny(c, "TLS without SNI") : conn_go(c);
        case HELLO_BAD:
                return conn_deny(c, "malformed TLS ClientHello");
        }
}

/* The bytes so far and what is there now, so many as the bandwidth lets be: they may be those of many connections.  Returns
 * as recv(2). */
static ssize_t read_head(struct conn *c, uint64_t allowance) {
        static uint8_t scratch[HELLO_MAX];
        struct relay_end *from = &c->end[CONN_JAIL];
        size_t room = MIN_OF((uint64_t)(HELLO_MAX - c->head_n), allowance);
        ssize_t n = recv(from->fd, scratch, room, MSG_DONTWAIT);

        if (n <= 0)
                return n;
        uint8_t *grown = realloc(c->head, c->head_n + (size_t)n);
        if (!grown) {
                errno = ENOMEM;
                return -1;
        }
        memcpy(grown + c->head_n, scratch, (size_t)n);
        c->head = grown;
        c->head_n += (uint32_t)n;
        if ((size_t)n < room && !from->gapped)
                from->readable = false; /* there is nothing behind a short read */
        agent_moved(c->agent, (uint64_t)n);
        return n;
}

static void judge_first(struct conn *c) {
        char sni[HELLO_NAME_MAX];
        size_t end = 0;

        if (c->line_read || c->line_cut)
                return judge_line(c); /* it is not TLS, that much is known */
        enum hello what =
                c->second ? hello_parse_second(c->head, c->head_n, sni) : hello_parse(c->head, c->head_n, sni, &end);
        judge(c, what, sni, end);
}

/* The client ended its stream before it was known what that is. */
static void judge_end(struct conn *c) {
        const bool line = c->line_read || c->line_cut;

        if (c->head_n > 0 && !line)
                return conn_deny(c, "TLS ClientHello cut off");
        if (conn_needs_taker(c))
                return conn_finish(c, NULL); /* no request: there is nothing to do */
        c->way[CONN_JAIL].end_seen = true;
        conn_go(c);
}

/* An open line goes on as it comes (http_first.h). */
void conn_pump_line(struct conn *c) {
        if (!c->line_read || c->head_sent == c->head_n)
                return;
        conn_announce(c);
        if (!c->announce_written || c->state == CONN_ENDED)
                return;
        int r = conn_push_head(c, c->head_n);
        if (r < 0 && r != -EAGAIN)
                return conn_finish(c, conn_broken_text(r));
        if (c->head_n == HELLO_MAX && c->head_sent == c->head_n) {
                c->head_n = c->head_sent = c->line_read = 0;
                c->line_cut = true;
                hub_later(c->agent->hub, &c->again);
        }
}

void conn_classify(struct conn *c) {
        while (c->state == CONN_CLASSIFYING && c->end[CONN_JAIL].readable && c->head_n < HELLO_MAX) {
                const uint64_t allowance = agent_allowance(c->agent);
                if (allowance == 0)
                        return conn_throttle(c);
                ssize_t n = read_head(c, allowance);
                if (n < 0 && errno == EAGAIN) {
                        c->end[CONN_JAIL].readable = false;
                        return;
                }
                if (n < 0)
                        return conn_finish(c, conn_broken_text(-errno));
                if (n == 0)
                        return judge_end(c);
                judge_first(c);
        }
}

/* --- the answer to a hello --- */

static enum hello_answer read_answer(struct conn *c) {
        struct relay_end *e = &c->end[CONN_PEER];
        uint8_t bytes[HELLO_ANSWER_BYTES];
        ssize_t n = e->readable ? recv(e->fd, bytes, sizeof(bytes), MSG_PEEK | MSG_DONTWAIT) : (errno = EAGAIN, -1);

        if (n < 0 && errno != EAGAIN)
                return HELLO_ANSWER_OTHER; /* the relay finds what is broken */
        const enum hello_answer is = hello_answer_parse(bytes, n > 0 ? (size_t)n : 0);
        if (is != HELLO_ANSWER_MORE)
                return is;
        e->readable = e->ended; /* until more comes; at its end there is no more */
        return e->ended ? HELLO_ANSWER_OTHER : HELLO_ANSWER_MORE;
}

/* The client will not say anything else: what the server answers does not matter. */
static bool said_all(const struct conn *c) {
        const struct relay_end *e = &c->end[CONN_JAIL];
        char next;

        return e->ended && c->head_n == c->hello_end && recv(e->fd, &next, 1, MSG_PEEK | MSG_DONTWAIT) == 0;
}

static void expect_second(struct conn *c) {
        c->head_n -= c->hello_end;
        memmove(c->head, c->head + c->hello_end, c->head_n);
        c->head_sent = c->hello_end = 0;
        c->second = true;
        c->state = CONN_CLASSIFYING;
        if (c->head_n > 0)
                judge_first(c);
        conn_step(c);
}

void conn_greet(struct conn *c) {
        const int r = conn_push_head(c, c->hello_end);

        if (r == -EAGAIN)
                return;
        if (r < 0)
                return conn_finish(c, conn_broken_text(r));
        const enum hello_answer is = said_all(c) ? HELLO_ANSWER_OTHER : read_answer(c);
        if (is == HELLO_ANSWER_MORE)
                return;
        if (is == HELLO_ANSWER_RETRY)
                return expect_second(c);
        c->state = CONN_RELAYING;
        conn_step(c);
}
