/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What an agent asks: nothing of it reaches the server before the whole head was read, judged and reported.
 */
#include "http_conn_internal.h"

#include "refusal.h"

#include "common/util.h"

#include <errno.h>
#include <string.h>

/* Large, and never alive across a return to the loop. */
static struct http_head head;
static struct http_target target;

/* False: crewd or the agent is slow, the same again later. */
bool http_refuse(struct http_conn *c, const struct refused *f, bool close) {
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
                return http_over(c, "crewd cannot be told");
        half_put(&c->jail, refusal_write(&r, out));
        return true;
}

static bool refuse_malformed(struct http_conn *c, const char *why) {
        char error[256];
        const struct refused f = {
                .status = 400, .text = "- -", .why = why, .error = error, .step = "send one well-formed HTTP/1.1 request"};

        snprintf(error, sizeof(error), "the request cannot be read: %s", why);
        return http_refuse(c, &f, true) ? http_finish(c) : false;
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
        if (!http_refuse(c, &f, close))
                return false;
        half_take(&c->jail, head.n);
        c->request_scanned = 0;
        c->phase = PHASE_NONE;
        return close ? http_finish(c) : true;
}

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
                return sent == -EAGAIN ? false : http_over(c, "crewd cannot be told");
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
                return http_finish(c);
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
        return c->jail.eof ? http_finish(c) : false;
}

static bool request_body(struct http_conn *c) {
        const char *why = NULL;
        const bool moved = http_pass_body(c, &c->up, &c->jail, &c->peer, &why);

        if (why)
                return http_over(c, why);
        if (http_body_done(&c->up))
                c->request = REQUEST_SENT;
        else if (c->jail.eof && c->jail.in_at == c->jail.in_end)
                return http_over(c, "the agent ended in the middle of a request");
        return moved;
}

bool http_on_request(struct http_conn *c) {
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
