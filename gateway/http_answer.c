/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a server answers: one answer to each request that went to it, its head written anew, secrets masked.  What nobody
 * asked for is not passed on.
 */
#include "http_conn_internal.h"

#include "redact.h"

#include "common/util.h"

#include <errno.h>
#include <string.h>

#define INTERIM_MAX 64 /* 1xx answers to one request */

static struct http_head head; /* never alive across a return to the loop */

/* Instead of an answer that does not come, or not in a form that can go on. */
static bool fail_answer(struct http_conn *c, const char *why) {
        const struct refused f = {.verdict = c->verdict,
                                  .status = 502,
                                  .text = c->text,
                                  .why = why,
                                  .error = why,
                                  .to_head = c->to_head,
                                  .step = "this is a fault of the server or of the way to it, not of the policy"};

        return http_refuse(c, &f, true) ? http_finish(c) : false;
}

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
                return sent == -EAGAIN ? false : http_over(c, "crewd cannot be told");
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
                return http_finish(c);
        else if (c->peer.eof)
                snprintf(text, sizeof(text), "the server ended the connection without an answer");
        else
                return false;
        return fail_answer(c, text);
}

/* The answer is complete. */
static bool answer_done(struct http_conn *c) {
        if (c->close || c->request != REQUEST_SENT)
                return http_finish(c);
        c->request = REQUEST_HEAD;
        c->answer = ANSWER_NONE;
        return true;
}

static bool answer_body(struct http_conn *c) {
        const char *why = NULL;
        const bool moved = http_pass_body(c, &c->down, &c->peer, &c->jail, &why);

        if (why)
                return http_over(c, why);
        if (http_body_done(&c->down))
                return answer_done(c);
        if (!c->peer.eof || c->peer.in_at != c->peer.in_end)
                return moved;
        if (c->down.framing == HTTP_UNTIL_CLOSE && !c->peer.truncated && !c->peer.failed)
                return answer_done(c);
        return http_over(c, "the server ended in the middle of an answer");
}

bool http_on_answer(struct http_conn *c) {
        switch (c->answer) {
        case ANSWER_NONE:
                /* With a failed server every request is answered by us. */
                if (!c->ending && (c->peer.in_at != c->peer.in_end || (c->peer.eof && !c->peer.failed)))
                        return http_finish(c);
                break;
        case ANSWER_HEAD:
                return answer_head(c);
        case ANSWER_BODY:
                return answer_body(c);
        }
        return false;
}
