/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Bytes from one socket to another without copying: socket -> pipe -> socket by splice(2).  A direction holds a pipe only
 * while bytes are in flight; an idle connection has none.
 *
 * Where a stream pauses, the next RELAY_SMALL bytes of it are received and sent: for a small message that is two calls
 * against three, and no pages change hands.  A stream that fills them goes on by splice until it pauses again.
 */
#pragma once

#include "hub.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

/* A socket, and what is known about it: edge-triggered, so true until a call says EAGAIN. */
struct relay_end {
        int fd;
        bool readable, writable;
        bool ended;  /* its stream has, behind what can still be read */
        bool gapped; /* that, or an urgent mark is in it: a short read does not mean that no more is there */
        bool failed;
        bool spent; /* its stream was passed on whole, and its end */
};
/* What the two sockets of a connection need, before they are connected (a listener's are inherited).  The kernel resets
 * them when the gateway dies: half a stream must not look like a whole one. */
void relay_set_options(int fd);
/* reset: else what is unsent still goes out, and then the end of the stream. */
void relay_close(int *fd, bool reset);
/* News of epoll's. */
void relay_note(struct relay_end *e, uint32_t epoll_events);

struct relay_way {
        int pipe[2];
        uint32_t in_pipe; /* bytes */
        bool end_seen;    /* the source has ended its stream */
        bool end_passed;  /* and so has the destination's */
        bool bulk;        /* more than a small message in a row */
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
#define RELAY_SMALL 4096u

/* Moves what can be moved, at most RELAY_TURN bytes; *allowance is what may still be read from the source, and is reduced.
 * At the end of the stream the destination is shut down for writing, unless it is spent too: both are to be closed then.
 * An enum relay, or -errno of a broken socket. */
int relay_move(struct hub *h, struct relay_way *w, struct relay_end *from, struct relay_end *to, uint64_t *allowance);
/* The same for exactly n bytes that are still to arrive, some of them perhaps in the pipe; an end of the stream is not
 * passed on.  Bytes that arrived, 0 at the end of the stream, -EAGAIN, -EMFILE (no pipe), or what broke. */
ssize_t relay_some(struct hub *h, struct relay_way *w, struct relay_end *from, struct relay_end *to, uint64_t n,
                   uint64_t *allowance);
void relay_way_fini(struct hub *h, struct relay_way *w);
