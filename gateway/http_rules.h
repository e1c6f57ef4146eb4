/* SPDX-License-Identifier: Apache-2.0 */
/*
 * May this request go to the server?  A pure function of the policy and the request's head.
 */
#pragma once

#include "http_path.h"

#include "common/gate.h"
#include "common/netpolicy.h"

struct http_scope {
        const struct netpolicy_head *policy;
        const struct netpolicy_rule *rule; /* of the connection */
        const char *name;                  /* what was dialled */
        uint16_t port;
        bool tls;
};

struct http_verdict {
        enum gate_verdict verdict;
        unsigned status;                   /* of the refusal */
        char why[192];                     /* "" when it is let through */
        char step[192];                    /* what the agent can do about it; "" */
        const struct netpolicy_rule *rule; /* that allows it; the connection's when none does */
        bool credential;                   /* the rule's credential goes along: nothing was overlooked in audit mode */
};

/*
 * target is filled in; where the target cannot be read but audit mode lets it pass, .wire is as it came and .path "".
 * In audit mode methods, paths and headers that rename them are only noted.  Never let through, because the gateway could
 * not stand for what follows: another Host, a protocol upgrade, CONNECT, TRACE.
 */
void http_judge(const struct http_scope *s, const struct http_head *h, struct http_target *target, struct http_verdict *v);
/* "GET /v1/quotes" for GATE_HTTP: method and path as they were sent, without the query. */
void http_request_text(const struct http_head *h, char *out, size_t room);
