/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One connection of a jail, from accept to close.
 *
 *   HELD ------> RESOLVING -> DIALLING -> CLASSIFYING -> RELAYING ---> ENDED
 *   (GATE_ASK)                                       \-> TAKEN ------/
 *
 * Every state may end in ENDED.  The destination is decided before anything is resolved; the address is checked before it
 * is dialled; no byte of the client goes out before its first bytes were judged and GATE_ALLOWED was written to crewd.
 *
 * A connection under HTTP rules (NETPOLICY_HTTP, NETPOLICY_INSPECT) is not spliced but taken: see struct conn_taker.  So is
 * one by name without such rules whose client speaks plain HTTP, for its requests name a host.
 */
#pragma once

#include "hub.h"

#include "common/err.h"
#include "common/gate.h"
#include "common/netpolicy.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct agent;
struct conn;

enum conn_side { CONN_JAIL, CONN_PEER, CONN_SIDE_N };

/* --- for the agent --- */

/* Takes fd, a fresh connection of the jail that was dialled to this address.  Never fails: what cannot go on is reset. */
void conn_start(struct agent *a, int fd, const struct sockaddr *to);
/* Reset both ways now.  why is for GATE_CLOSED, when it was let through before. */
void conn_abort(struct conn *c, const char *why);
/* Held: the answer is there, or nobody gives one. */
void conn_answered(struct conn *c, bool let, const char *why);
/* The agent has a new policy, the former is not unmapped yet.  False: the new one forbids this connection, the caller
 * aborts it. */
bool conn_still_allowed(struct conn *c, const struct netpolicy_head *former);

/* --- the seam: who speaks for a connection with HTTP --- */

/*
 * Called when both sockets are connected (the peer's address was checked, no byte was sent to it), the client's first
 * bytes are there and were judged as for any connection (a whole ClientHello whose SNI is the name, when it is TLS), and
 * GATE_ALLOWED was written.  The connection keeps both sockets, the limits, the counts and the reports; the taker moves
 * the bytes.  A connection that needs a taker is refused while there is none.
 *
 * Sockets are watched edge-triggered: after -EAGAIN from conn_recv() or conn_send(), on_ready() comes when that changes.
 * A taker that stops before -EAGAIN (its buffer is full, a budget is spent) goes on by itself from a later on_ready() or
 * asks for one with conn_again().  So: on_ready() tries everything that can move until nothing does, at most some 256 KiB.
 */
struct conn_first {
        const uint8_t *bytes; /* read from the jail's socket already: the start of its stream; gone after take() */
        size_t n;             /* at least 1, at most CONN_FIRST_MAX */
        bool tls;             /* a whole TLS ClientHello is in there */
        size_t sent;          /* of bytes, to the server already: part of a first line whose end was not seen then */
};
#define CONN_FIRST_MAX (16u * 1024 + 5)

struct conn_taker {
        /* 0 with *state (never NULL), or negative with err: the connection is reset and err->msg is GATE_CLOSED's text.
         * conn_end() and conn_abort() may not be called in here; on_ready() follows at once. */
        int (*take)(struct conn *c, const struct conn_first *first, void **state, struct crew_err *err);
        void (*on_ready)(void *state);
        /* The connection is at its end (conn_end(), removal, reload): free state, touch neither it nor c again.  Called
         * exactly once for each take() that returned 0; never from within conn_recv(), conn_send(), conn_deadline(). */
        void (*gone)(void *state);
};
/* Set once, before the loop runs: for connections under HTTP rules, and for plain HTTP by name without them.  NULL: such
 * connections are refused. */
void conn_set_takers(const struct conn_taker *rules, const struct conn_taker *plain);

/* What the taker may ask and do.  c is valid from take() to gone(). */
const char *conn_name(const struct conn *c); /* canonical host name, or the address in text */
uint16_t conn_port(const struct conn *c);
const char *conn_peer(const struct conn *c); /* "203.0.113.7:443": what was dialled */
uint64_t conn_id(const struct conn *c);
/* The rule and policy in force now.  A reload replaces both and frees the former: ask again for each request, keep no
 * pointer across a return to the loop.  A reload that takes the rule away, or changes whether it inspects, ends the
 * connection instead, so under HTTP rules neither is ever NULL here.  Without, there may be no rule: approved, or audited.
 */
const struct netpolicy_head *conn_policy(const struct conn *c);
const struct netpolicy_rule *conn_rule(const struct conn *c);

/* Bytes moved; 0 at the orderly end of that side's stream (recv only); -EAGAIN: not now (also when the agent's
 * bandwidth is used up); other negatives are final.  Counted in .up and .down of GATE_CLOSED. */
ssize_t conn_recv(struct conn *c, enum conn_side from, void *buf, size_t n);
ssize_t conn_send(struct conn *c, enum conn_side to, const void *buf, size_t n);
/* Half-close: no more bytes to that side. */
void conn_shutdown(struct conn *c, enum conn_side to);
/* on_ready() once more from the loop, after others had their turn. */
void conn_again(struct conn *c);
/* on_ready() after ms at the latest, once; 0 takes it back.  A new call replaces the former. */
void conn_deadline(struct conn *c, uint32_t ms);
/* At most n bytes from a plain socket to the other side without copying; what was taken and not yet passed on is kept by
 * the connection and goes first.  Returns bytes that arrived at the other side, 0 at the end of stream, -EAGAIN as above.
 * The taker has to have sent all it holds for that side before; a conn_send() there is refused (-EBUSY) while such bytes
 * are under way. */
ssize_t conn_splice(struct conn *c, enum conn_side from, uint64_t n);
/* From now on an ordinary relay both ways (a protocol upgrade): gone() is called, nothing is reported any more but the
 * end.  The taker has to have sent all it holds. */
void conn_release(struct conn *c);
/* One request under HTTP rules: .verdict .text (made printable) .why (NULL: none) .status of GATE_HTTP.  Requests that are
 * let through are reported before their first byte goes out, with status 0, and once more with the status of their answer.
 * -EAGAIN: crewd is slow; try again from on_ready(). */
int conn_report_http(struct conn *c, enum gate_verdict verdict, const char *text, const char *why, unsigned status);
/* Done: both sockets are closed (what was sent is still delivered; why != NULL: reset instead), GATE_CLOSED is sent, and
 * gone() is called from here: nothing of state may be used after. */
void conn_end(struct conn *c, const char *why);
