/* SPDX-License-Identifier: Apache-2.0 */
/* Bodies under way: copied from one side's buffer to the other's, or spliced past both. */
#include "http_conn_internal.h"

#include "redact.h"

#include "common/util.h"

#include <errno.h>
#include <string.h>

#define SPLICE_MIN (64u << 10) /* shorter runs of plain bytes are copied */

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
bool http_can_splice(const struct http_conn *c, const struct http_body *b, struct half *from, struct half *to) {
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
                return http_over(c, "a connection broke in the middle of an answer");
        }
        c->splicing[from->side] = n > 0 && http_body_run(b) > 0;
        return true;
}

bool http_pass_body(struct http_conn *c, struct http_body *b, struct half *from, struct half *to, const char **why) {
        return c->splicing[from->side] ? splice_body(c, b, from, to) : move_body(c, b, from, to, why);
}
