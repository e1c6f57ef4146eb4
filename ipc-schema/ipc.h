/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The accept pipeline: from hostile bytes to a checked Envelope, or a named refusal.
 *
 * Order: size cap -> unpack into a capped bump arena -> no unknown fields at any level -> version -> row of the message
 * table (may this side send it? in this state?) -> size cap of the type -> field rules -> canonical check (packing it again
 * gives the same bytes).  Nothing after a failed step runs; nothing here aborts, recurses unboundedly or allocates
 * outside the arena.
 */
#pragma once

#include "common/err.h"
#include "crew.pb-c.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define IPC_MAX_FRAME (16u << 20) /* the largest max_bytes of any type */

enum ipc_side { IPC_WORKER, IPC_SUPERVISOR, IPC_CLIENT, IPC_SIDE_N };

/* Bits of the states named in (rules.m).states. */
enum {
        IPC_STATE_SPAWNING = 1u << 0,
        IPC_STATE_READY = 1u << 1,
        IPC_STATE_WORKING = 1u << 2,
        IPC_STATE_STOPPING = 1u << 3,
        IPC_STATE_NEW = 1u << 4,  /* client before ClientHello */
        IPC_STATE_OPEN = 1u << 5, /* client after */
        /* A role beside the state: the worker is that of the crew's manager. */
        IPC_STATE_MANAGER = 1u << 8,
        IPC_STATE_ANY = 0xffffffffu,
};

/* One per reader, or one for all readers of a thread; reset by each ipc_accept.  Grows on demand up to max_bytes
 * (ipc_max_frame[sender] + 128 KiB takes every legal frame; a frame is refused before that when it would unpack to much
 * more than its own size), and keeps 16 KiB after a reset. */
struct ipc_arena;
struct ipc_arena *ipc_arena_new(size_t max_bytes);
struct ipc_arena *ipc_arena_free(struct ipc_arena *a);
/* Gives the memory of the last frame back early; its envelope is gone. */
void ipc_arena_reset(struct ipc_arena *a);

/* Outcomes; 0 is accepted. */
enum ipc_reject {
        IPC_ACCEPTED,
        IPC_TOO_LARGE,
        IPC_MALFORMED,
        IPC_UNKNOWN_FIELD,
        IPC_BAD_VERSION,
        IPC_WRONG_SENDER,
        IPC_WRONG_STATE,
        IPC_WRONG_ROLE,
        IPC_FIELD_RULE,
        IPC_NOT_CANONICAL,
        IPC_REJECT_N,
};
extern const char *const ipc_reject_names[IPC_REJECT_N];

struct ipc_refusal {
        enum ipc_reject why;
        char field[96]; /* "tool_call.tool" */
        char rule[96];  /* "max_len 63" */
};

/* The largest max_bytes of any type this side may send: the transport's frame cap. */
extern const uint32_t ipc_max_frame[IPC_SIDE_N];

/* state: of the agent (sender worker) or of the client; IPC_STATE_ANY for frames from the supervisor.
 * *out lives in the arena until the next ipc_accept or ipc_arena_free.  Returns IPC_ACCEPTED or the reason, with
 * *refusal filled.  Sequence numbers are the caller's to check (ipc_seq_next). */
enum ipc_reject ipc_accept(struct ipc_arena *a, enum ipc_side sender, uint32_t state, const uint8_t *bytes, size_t n,
                           const Crew__Envelope **out, struct ipc_refusal *refusal);

/* Packs into a malloc'd buffer; the same field rules are checked, so a bug of ours is an error here, not at the peer.
 * reserve bytes are left free in front (for a transport header); *n is without them.  Strings may be NULL (empty).
 * -EINVAL: a rule is broken; -EMSGSIZE: larger than its type may be; -ENOMEM. */
int ipc_pack(const Crew__Envelope *e, size_t reserve, uint8_t **out, size_t *n, struct crew_err *err);
/* True when seq is the one after *last, which it then becomes; a gap or a repeat is a violation. */
static inline bool ipc_seq_next(uint64_t *last, uint64_t seq) {
        return seq == *last + 1 && (*last = seq, true);
}
/* Body name for logs: "tool_call". */
const char *ipc_body_name(const Crew__Envelope *e);
