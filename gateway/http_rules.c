/* SPDX-License-Identifier: Apache-2.0 */
#include "http_rules.h"

#include "common/util.h"

#include <string.h>

struct judge {
        const struct http_scope *s;
        const struct http_head *h;
        struct http_target *target;
        struct http_verdict *v;
        const char *target_why; /* the target cannot be read */
};

#define SAY(v, field, ...) snprintf((v)->field, sizeof((v)->field), __VA_ARGS__)

/* Each returns false after saying why. */

static bool method_can_pass(struct judge *j) {
        /* TRACE makes the server send back what we put in. */
        if (strcmp(j->h->method, "CONNECT") != 0 && strcmp(j->h->method, "TRACE") != 0)
                return true;
        SAY(j->v, why, "%s is never let through", j->h->method);
        SAY(j->v, step, "connect to the server directly; no proxy is needed in here");
        return false;
}

static bool upgrade_can_pass(struct judge *j) {
        /* A server may ignore the wish for HTTP/2, and so do we; any other protocol would be beyond the rules. */
        if (j->h->upgrade.n == 0 || http_span_is(j->h, j->h->upgrade, "h2c"))
                return true;
        SAY(j->v, why, "a protocol upgrade is not let through under HTTP rules");
        SAY(j->v, step, "use plain requests, or ask the operator for this endpoint without HTTP rules");
        return false;
}

static bool host_is_dialled(struct judge *j) {
        const struct http_scope *s = j->s;
        const uint16_t default_port = s->tls ? 443 : 80;
        const struct http_span host = j->h->host, at = j->target->authority;
        const char *bytes = j->h->bytes;

        if (!http_authority_is(bytes + host.at, host.n, s->name, s->port, default_port))
                SAY(j->v, why, "Host is not %s:%u, which was dialled", s->name, s->port);
        else if (j->target->absolute &&
                 (j->target->tls != s->tls ||
                  !http_authority_is(bytes + j->h->target.at + at.at, at.n, s->name, s->port, default_port)))
                SAY(j->v, why, "the target names another host than %s:%u, which was dialled", s->name, s->port);
        else
                return true;
        if (s->port == default_port)
                SAY(j->v, step, "send \"Host: %s\"", s->name);
        else
                SAY(j->v, step, "send \"Host: %s:%u\"", s->name, s->port);
        return false;
}

/* What follows is a matter of the rules, and overlooked in audit mode. */

static bool target_is_plain(struct judge *j) {
        if (!j->target_why)
                return true;
        SAY(j->v, why, "%s", j->target_why);
        SAY(j->v, step, "send the path in its plain form: no \".\", \"..\" or empty segments, no encoded slashes");
        return false;
}

/* Some frameworks take method or path from a header instead. */
static bool nothing_renamed(struct judge *j) {
        static const char *const names[] = {"x-http-method-override", "x-http-method", "x-method-override",
                                            "x-original-url",         "x-rewrite-url", "x-original-uri"};
        for (size_t i = 0; i < ELEMENTSOF(names); i++) {
                if (!http_field_find(j->h, names[i]))
                        continue;
                SAY(j->v, why, "the header %s, which could stand for another method or path", names[i]);
                SAY(j->v, step, "send the request without this header");
                return false;
        }
        return true;
}

static void put_list(const struct netpolicy_head *p, uint32_t list, uint32_t n, char *out, size_t room) {
        size_t at = strlen(out);

        for (uint32_t i = 0; i < n && at < room; i++)
                at += (size_t)snprintf(out + at, room - at, "%s%s", i ? ", " : "", netpolicy_listed(p, list, i));
        if (n == 0)
                snprintf(out + at, room - at, "any");
}

static bool policy_allows(struct judge *j) {
        const struct http_scope *s = j->s;
        struct http_verdict *v = j->v;

        switch (netpolicy_http_decide(s->policy, s->rule, j->h->method, j->target->path)) {
        case NETPOLICY_HTTP_OK:
                v->rule = netpolicy_http_rule(s->policy, s->rule, j->h->method, j->target->path);
                return true;
        case NETPOLICY_HTTP_METHOD:
                SAY(v, why, "%s is not in methods", j->h->method);
                SAY(v, step, "methods of this rule: ");
                put_list(s->policy, s->rule->methods, s->rule->n_methods, v->step, sizeof(v->step));
                return false;
        case NETPOLICY_HTTP_PATH:
                SAY(v, why, "the path is not in paths");
                SAY(v, step, "paths of this rule: ");
                put_list(s->policy, s->rule->paths, s->rule->n_paths, v->step, sizeof(v->step));
                return false;
        }
        SAY(v, why, "no decision"); /* not reached */
        return false;
}

/* What audit mode sends on although it cannot be read: as it came, if it is a path at all. */
static bool raw_target(struct judge *j) {
        const char *p = j->h->bytes + j->h->target.at;
        const size_t n = j->h->target.n;

        if (p[0] != '/' || n >= sizeof(j->target->wire))
                return false;
        memcpy(j->target->wire, p, n);
        j->target->wire[n] = '\0';
        j->target->path[0] = '\0';
        return true;
}

void http_judge(const struct http_scope *s, const struct http_head *h, struct http_target *target, struct http_verdict *v) {
        static bool (*const always[])(struct judge *) = {method_can_pass, upgrade_can_pass, host_is_dialled};
        static bool (*const rules[])(struct judge *) = {target_is_plain, nothing_renamed, policy_allows};
        struct judge j = {.s = s, .h = h, .target = target, .v = v};

        *v = (struct http_verdict){.verdict = GATE_REFUSE, .status = 403, .rule = s->rule};
        if (!http_target_parse(h->bytes + h->target.at, h->target.n, h->method, target, &j.target_why))
                target->absolute = false;
        for (size_t i = 0; i < ELEMENTSOF(always); i++) {
                if (!always[i](&j))
                        return;
        }
        for (size_t i = 0; i < ELEMENTSOF(rules); i++) {
                if (rules[i](&j))
                        continue;
                if ((s->rule->flags & NETPOLICY_AUDIT) && (!j.target_why || raw_target(&j)))
                        v->verdict = GATE_WOULD_REFUSE;
                return;
        }
        v->verdict = GATE_LET;
        v->credential = true;
}

void http_request_text(const struct http_head *h, char *out, size_t room) {
        const char *p = h->bytes + h->target.at;
        const char *query = memchr(p, '?', h->target.n);
        const size_t n = query ? (size_t)(query - p) : h->target.n;

        snprintf(out, room, "%s %.*s", h->method, (int)n, p);
}
