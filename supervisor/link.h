/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The supervisor's end of one worker's link: pair1 over nng's ipc:// on a private path, one accept, path unlinked.
 *
 * The only file that includes nng.  A link lives exactly as long as one worker instance: never reused, so a frame queued
 * for a dead peer can reach nobody.  Frames come in on the loop thread through on_frame, complete and within max_frame.
 */
#pragma once

#include "common/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <uv.h>

struct link;
struct link_callbacks {
        void (*on_up)(struct link *l, pid_t peer_pid, uid_t peer_uid, void *user); /* first and only peer, at connect(2) */
        void (*on_frame)(struct link *l, const uint8_t *bytes, size_t n, void *user);
        /* why: 0 the peer is gone; -EPROTO, -EMSGSIZE it broke the wire (before on_up: in the greeting); else a fault on
         * this side.  Nothing more will be delivered.  link_close() is still due. */
        void (*on_down)(struct link *l, int why, void *user);
};
/* path: where to listen, absolute, shorter than 108 bytes; its directory is 0700 and ours.  It is unlinked when the peer
 * connects, or at the end.  Call before the worker is spawned.  The first call starts nng's threads (13 on two CPUs). */
int link_listen(uv_loop_t *loop, const char *path, size_t max_frame, const struct link_callbacks *cb, void *user,
                struct link **out, struct crew_err *err);
/* Sends a frame, or queues what the socket does not take at once, bounded by LINK_MAX_QUEUED_BYTES (an empty queue takes
 * one frame of any size).  0, -EAGAIN (queue full), -EPIPE (no peer yet, or none any more).  Never waits.  What is queued
 * when the peer goes is dropped. */
int link_send(struct link *l, const uint8_t *bytes, size_t n);
/* Stops at once, also from inside a callback, and delivers nothing more; *on_closed (may be NULL) runs on the loop when
 * the memory is gone.  Idempotent until then. */
void link_close(struct link *l, void (*on_closed)(void *user), void *user);
/* Bytes and (when frames is not NULL) frames that are queued: the peer has not made room for them yet. */
size_t link_queued(const struct link *l, size_t *frames);
/* While paused nothing is read; the socket fills up and the peer waits.  To be called from on_frame or the loop. */
void link_pause(struct link *l, bool paused);
/* From now on nothing of it is heard, not its end either; the peer may still be told, and the connection stays until
 * link_close(). */
void link_deafen(struct link *l);
/* Frames taken, and time spent on them, per wake-up before other work gets a turn. */
#define LINK_BUDGET 32
#define LINK_BUDGET_NS 2000000u
#define LINK_MAX_QUEUED_BYTES (8u << 20)
