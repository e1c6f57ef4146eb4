/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Bytes from one socket to another without copying: socket -> pipe -> socket by splice(2).  A direction holds a pipe only
 * while bytes are in flight; an idle connection has none.
 */
#pragma once

#include "hub.h"

#include <stdbool.h>
#include <stdint.h>

/* A socket, and what is known about it: edge-triggered, so true until a call says EAGAIN. */
struct relay_end {
        int fd;
        bool readable, writable;
        bool ended; /* its stream has, behind what can still be read */
};

struct relay_way {
        int pipe[2];
        uint32_t in_pipe; /* bytes */
        bool end_seen;    /* the source has ended its stream */
        bool end_passed;  /* and so has the destination's */
        uint64_t bytes;   /* that arrived at the destination */
};
#define RELAY_WAY_NULL ((struct relay_way){.pipe = {-1, -1}})

enum relay {
        RELAY_WAITS, /* for one of the sockets */
        RELAY_MORE,  /* its turn is over, there is more to do */
        RELAY_DRY,   /* the allowance is used up */
        RELAY_POOR,  /* no descriptor for a pipe: later */
};
#define RELAY_TURN (1u << 20) /* bytes in one turn */

/* Moves what can be moved, at most RELAY_TURN bytes; *allowance is what may still be read from the source, and is reduced.
 * At the end of the stream the destination is shut down for writing.  An enum relay, or -errno of a broken socket. */
int relay_move(struct hub *h, struct relay_way *w, struct relay_end *from, struct relay_end *to, uint64_t *allowance);
/* The same for exactly n bytes that are still to arrive, some of them perhaps in the pipe; an end of the stream is not
 * passed on.  Bytes that arrived, 0 at the end of the stream, -EAGAIN, -EMFILE (no pipe), or what broke. */
ssize_t relay_some(struct hub *h, struct relay_way *w, struct relay_end *from, struct relay_end *to, uint64_t n,
                   uint64_t *allowance);
void relay_way_fini(struct hub *h, struct relay_way *w);
