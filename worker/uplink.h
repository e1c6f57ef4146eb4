/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The worker's end of its link to crewd: the nng pair1 wire on an inherited descriptor, one checked Envelope a frame.
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
        /* The peer is gone (why NULL) or broke the protocol; nothing more is delivered. */
        void (*on_down)(struct uplink *u, const char *why);
};

struct uplink {
        struct loop *loop;
        const struct uplink_callbacks *cb;
        struct watch watch;
        struct spwire_in in;
        struct ipc_arena *arena;
        struct list out;
        size_t queued;
        uint64_t seq_out, seq_in;
        bool was_busy, down;
};

/* Takes over fd and sends the transport's greeting. */
int uplink_init(struct uplink *u, struct loop *l, int fd, const struct uplink_callbacks *cb, struct crew_err *err);
void uplink_fini(struct uplink *u);
/* Fills version and sequence number of e and queues it; the number, or 0 when e breaks a rule or memory is out. */
uint64_t uplink_send(struct uplink *u, Crew__Envelope *e);
static inline bool uplink_busy(const struct uplink *u) {
        return u->queued > UPLINK_BUSY_BYTES;
}
/* Blocks, at most until the deadline, until all is sent: for a last word before exit. */
void uplink_flush(struct uplink *u, uint64_t timeout_ms);
