/* SPDX-License-Identifier: Apache-2.0 */
/* A connection as its own files see it: conn.c (its life), conn_first.c, conn_dial.c, conn_taken.c (the seam), held.c
 * (asks). */
#pragma once

#include "agent.h"
#include "conn.h"
#include "http_first.h"
#include "relay.h"

enum conn_state {
        CONN_HELD,
        CONN_RESOLVING,
        CONN_DIALLING,
        CONN_GREETING,    /* a TLS hello has gone out by name, and nothing behind it; the server has not answered */
        CONN_CLASSIFYING, /* connected; the client has not spoken, or not enough */
        CONN_ANNOUNCING,  /* judged; crewd is slow to take GATE_ALLOWED */
        CONN_RELAYING,
        CONN_TAKEN,
        CONN_LINGERING, /* all is sent; waits for the client to close */
        CONN_ENDED,
};

/* Why it is let through. */
enum conn_grant { GRANT_NONE, GRANT_RULE, GRANT_APPROVED, GRANT_AUDIT };

struct conn {
        struct agent *agent;
        struct conn *next, **prev;
        uint64_t id, started_ns;
        enum conn_state state;
        enum conn_grant grant;
        const struct netpolicy_rule *rule; /* with GRANT_RULE */
        bool by_name;
        bool half_open;
        bool denied;
        bool announced, announce_written;
        uint16_t port;
        char name[NETPOLICY_NAME_MAX]; /* canonical, or what was dialled as text */
        char peer[64];
        struct sockaddr_storage to; /* what the jail dialled */

        struct hub_source source[CONN_SIDE_N];
        struct relay_end end[CONN_SIDE_N];
        struct relay_way way[CONN_SIDE_N]; /* from that side */
        enum conn_side moves_first;
        struct hub_task again;
        struct hub_deadline deadline;
        struct hub_grave grave;

        uint8_t *head; /* the client's first bytes, before anything else of its stream */
        uint32_t head_n, head_sent;
        uint32_t hello_end;          /* bytes of head: a TLS hello by name, whose answer is looked at; 0: none */
        bool second;                 /* what is judged is the hello that a HelloRetryRequest asked for */
        struct http_first_line line; /* by name, without HTTP rules: is it HTTP? */
        uint32_t line_read;          /* bytes of head */
        bool line_cut;               /* its beginning is not in head any more */

        struct dialling *dialling; /* while RESOLVING and DIALLING */
        struct held *held;         /* while HELD */
        struct conn *held_next, **held_prev;
        struct conn *throttled_next, **throttled_prev;
        const struct conn_taker *taker;
        void *taken; /* while TAKEN: the taker's state */
};

/* --- conn.c --- */
/* Ends it and frees it when everything about it is written. why: NULL, or a reset and the text of GATE_CLOSED. */
void conn_finish(struct conn *c, const char *why);
/* Refused: reported and reset. */
void conn_deny(struct conn *c, const char *text);
/* Everything that can be done now. */
void conn_step(struct conn *c);
void conn_set_half_open(struct conn *c, bool half_open);
/* Reading is over for now: the agent's bandwidth is used up. */
void conn_throttle(struct conn *c);
void conn_throttle_clear(struct conn *c);
bool conn_needs_taker(const struct conn *c);
/* The policy speaks: the rule, and with which grant. */
const struct netpolicy_rule *conn_match(const struct conn *c);
/* Where it is dialled: its rule, or the place of what no rule lists; NULL: where its name leads. */
const struct netpolicy_rule *conn_way(const struct conn *c);

/* GATE_ALLOWED, once; .announce_written is set when crewd has it. */
void conn_announce(struct conn *c);
/* Judged: from here on everything moves. */
void conn_go(struct conn *c);
/* The client's first bytes, so many of them, to the server: 0, -EAGAIN while there is more of them, or what broke. */
int conn_push_head(struct conn *c, uint32_t n);
const char *conn_broken_text(int error);

/* --- conn_first.c --- */
void conn_classify(struct conn *c);
void conn_greet(struct conn *c);
/* An open line goes on as it comes (http_first.h). */
void conn_pump_line(struct conn *c);

/* --- conn_dial.c --- */
void conn_dial(struct conn *c);
void conn_dial_ready(struct conn *c); /* the socket being dialled has news */
void conn_dial_late(struct conn *c);
void conn_dial_fini(struct conn *c);
/* Makes ready what the next dial needs, now that nobody waits for it. */
void conn_dial_provide(struct hub *h);
/* conn.c: it is connected */
void conn_connected(struct conn *c);

/* --- conn_taken.c --- */
extern const struct conn_taker *conn_taker_rules, *conn_taker_plain; /* NULL: none */
void conn_take(struct conn *c);
void conn_taken_ready(struct conn *c);
void conn_taken_gone(struct conn *c);
void conn_linger(struct conn *c);
