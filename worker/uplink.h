/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The worker's end of its link to crewd: the nng pair1 wire on an inherited descriptor, one checked Envelope a frame.
 *
 * Where the agent outlives its crewd (PLAN_HOLD), frames are kept until crewd has acknowledged them; when the link breaks
 * it is away, until uplink_resume() goes on over another one: from the first frame that the next crewd has not seen, so
 * that none is lost and none comes twice.
 *
 * Guarantees: frames from crewd pass ipc_accept and carry the next sequence number, or the link is down; frames to crewd
 * pass ipc_pack.  What waits to be sent is counted: above UPLINK_BUSY_BYTES every producer that can wait must.
 */
#pragma once

#include "common/spwire.h"
#include "ipc-schema/ipc.h"
#include "loop.h"

#define LINK_PROTOCOL 1u
#define UPLINK_BUSY_BYTES (256u << 10)
#define UPLINK_ROOM_BYTES (64u << 10) /* resume below */

struct uplink;
struct uplink_callbacks {
        void (*on_frame)(struct uplink *u, const Crew__Envelope *e);
        void (*on_room)(struct uplink *u); /* no longer busy */
        /* The link is broken, and what is sent from now on waits for uplink_resume(). */
        void (*on_away)(struct uplink *u);
        /* ... and goes on. */
        void (*on_back)(struct uplink *u);
        /* The peer is gone (why NULL) or broke the protocol; nothing more is delivered. */
        void (*on_down)(struct uplink *u, const char *why);
};

struct uplink {
        struct loop *loop;
        const struct uplink_callbacks *cb;
        struct watch watch;
        struct spwire_in in;
        struct ipc_arena *arena;
        struct list out;  /* to be sent */
        struct list kept; /* sent, and not acknowledged */
        size_t queued;    /* bytes in both */
        uint64_t seq_out, seq_in;
        size_t unacked_bytes; /* of what came in since the last frame that went out */
        unsigned unacked;
        uint32_t incarnation;
        bool keeps;    /* frames, and itself when the link breaks */
        bool away;     /* there is no link */
        bool resuming; /* Resume is out, its answer is not here */
        bool was_busy, down;
};

/* Takes over fd and sends the transport's greeting. */
int uplink_init(struct uplink *u, struct loop *l, int fd, const struct uplink_callbacks *cb, struct crew_err *err);
void uplink_fini(struct uplink *u);
/* From now on frames are kept; incarnation: of the agent, for Resume. */
void uplink_keep(struct uplink *u, uint32_t incarnation);
/* Takes over fd: the link from now on.  Whatever the link before still had to say is asked for again. */
void uplink_resume(struct uplink *u, int fd);
/* Fills version and sequence number of e and queues it; the number, or 0 when e breaks a rule or memory is out. */
uint64_t uplink_send(struct uplink *u, Crew__Envelope *e);
static inline bool uplink_busy(const struct uplink *u) {
        return u->queued > UPLINK_BUSY_BYTES;
}
/* Blocks, at most until the deadline, until all is sent: for a last word before exit. */
void uplink_flush(struct uplink *u, uint64_t timeout_ms);
