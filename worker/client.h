/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Connections to $CREW_SOCKET: lines in, lines out, and the calls that wait for crewd.
 *
 * Guarantees: at most MAX_CLIENTS connections, lines of at most RPC_MAX_LINE, MAX_CALLS open calls, and bounded output
 * that a client does not read; each limit that is hit is answered with an error that says so.  Every request gets one
 * answer, or its connection is gone.  Trusts nothing a client sends.
 */
#pragma once

#include "jsonrpc.h"
#include "runtime.h"

enum call_kind { CALL_TOOL, CALL_SEND, CALL_ASK, CALL_LIST, CALL_RECEIVE, CALL_VERB };

struct client {
        struct list link;
        struct worker *w;
        struct watch watch;
        struct strbuf in, out;
        size_t scanned;      /* bytes of in that hold no line end */
        size_t sent;         /* bytes of out that are gone */
        struct strbuf tools; /* the rendered tools/list, once it was asked for */
        unsigned n_calls;
        bool eof, closing, dead;
};

/* A request that waits; of a client, or of nobody when that has gone (crewd still answers). */
struct call {
        struct list link; /* worker.calls */
        struct worker *w;
        struct client *client;
        enum call_kind kind;
        uint64_t seq; /* of the frame that crewd will answer; 0: none */
        uint64_t timeout_ms;
        struct timer timer;
        size_t n_id;
        char id[RPC_MAX_ID];
};

int clients_listen(struct worker *w, struct crew_err *err);
void clients_close(struct worker *w);
/* The link takes frames again. */
void clients_resume(struct worker *w);

/* Remembers a request; NULL when too many wait (the error is already written). */
struct call *call_new(struct client *c, enum call_kind kind, struct json_span id, uint64_t timeout_ms);
static inline struct json_span call_id(const struct call *k) {
        return (struct json_span){k->id, k->n_id};
}
void call_free(struct call *k);
/* The call with this sequence number, or NULL. */
struct call *call_find(struct worker *w, uint64_t seq);
/* Answered: sends what was written to its client and forgets it. */
void call_finish(struct call *k);
/* The client gave up on it (notifications/cancelled). */
void call_cancel(struct client *c, struct json_span id);

/* True when some connection is blocked in crew/receive; gives it the next letter. */
bool client_waits(const struct worker *w);
void client_letter(struct worker *w);
