/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of a connection under HTTP rules share; the overview is in http_conn.h. */
#pragma once

#include "http_body.h"
#include "http_conn.h"
#include "http_half.h"
#include "http_rules.h"
#include "http_setup.h"

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
        size_t budget;              /* bytes that may still be read or spliced in this turn */
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

/* Each step is true when something moved, and false when it has to wait (or the connection is over). */

/* To be ended by conn_end() with this reason, NULL: orderly; false. */
bool http_over(struct http_conn *c, const char *why);
/* No more requests; the last answer is delivered first.  True. */
bool http_finish(struct http_conn *c);
bool http_on_request(struct http_conn *c);
bool http_on_answer(struct http_conn *c);
/* Passes on what it can of a body; secrets are masked on the way to the agent.  *why is set when its framing is broken. */
bool http_pass_body(struct http_conn *c, struct http_body *b, struct half *from, struct half *to, const char **why);
/* A run of bytes begins that neither side's buffers hold and nobody needs to look at. */
bool http_can_splice(const struct http_conn *c, const struct http_body *b, struct half *from, struct half *to);

struct refused {
        enum gate_verdict verdict;
        unsigned status;
        const char *text, *why, *error, *step, *rule;
        bool to_head;
};

/* Reports and answers it; close: the connection ends with that. */
bool http_refuse(struct http_conn *c, const struct refused *f, bool close);
