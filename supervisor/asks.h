/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The table of connections that wait for the operator, and what became of the last of them.  Pure: no sockets, the clock
 * is given.
 *
 * An id is four characters by chance, so that one typed from an old list, or from before crewd was started again, names
 * nothing instead of something else.  An id is decided once; the last ASKS_REMEMBERED decided ones are kept to say how.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#define ASKS_PER_AGENT 64u
#define ASKS_REMEMBERED 64u
#define ASK_ID_MAX 8

enum ask_state { ASK_WAITING, ASK_GRANTED, ASK_REFUSED, ASK_EXPIRED, ASK_GONE, ASK_STATE_N };
enum ask_scope { ASK_NO_SCOPE, ASK_ONCE, ASK_SESSION, ASK_ALWAYS, ASK_SCOPE_N };
extern const char *const ask_state_names[ASK_STATE_N]; /* "waiting", "granted", ... */
extern const char *const ask_scope_names[ASK_SCOPE_N]; /* "", "once", "session", "always" */

struct ask {
        char id[ASK_ID_MAX];
        uint32_t agent, incarnation;
        uint32_t number; /* the gateway's */
        char host[256];
        uint16_t port;
        uint32_t waiting; /* connections */
        uint64_t asked_ns, expires_ns;
        enum ask_state state;
        enum ask_scope scope;
        char by[160]; /* who decided */
        uint64_t ended_ns;
};

struct asks;
struct asks *asks_new(void);
struct asks *asks_free(struct asks *t);

enum asks_added {
        ASKS_NEW,
        ASKS_MORE, /* the same number: as many wait for it now */
        ASKS_FULL, /* the agent has as many as it may, or out of memory */
};
/* want: agent, incarnation, number, host, port, waiting, expires_ns.  *out: the one in the table, unless full. */
enum asks_added asks_add(struct asks *t, const struct ask *want, uint64_t now_ns, struct ask **out);

enum asks_found {
        ASKS_WAITS,
        ASKS_DECIDED, /* or expired, or gone: *out says what */
        ASKS_UNKNOWN,
};
enum asks_found asks_find(struct asks *t, const char *id, struct ask **out);
/* The one with the gateway's number, or NULL. */
struct ask *asks_by_number(struct asks *t, uint32_t agent, uint32_t incarnation, uint32_t number);
/* Moves one that waits to those that are remembered.  Valid until the next call that ends one. */
const struct ask *asks_end(struct asks *t, struct ask *a, enum ask_state state, enum ask_scope scope, const char *by,
                           uint64_t now_ns);
/* Those that wait, oldest first: NULL begins, NULL ends.  The one before may have been ended. */
struct ask *asks_next(struct asks *t, uint64_t *cursor);
uint32_t asks_waiting(const struct asks *t);

/* Why a connection to host can never be approved ("loopback"), or NULL.  host: a name or a literal address, any case. */
const char *ask_never(const char *host);
