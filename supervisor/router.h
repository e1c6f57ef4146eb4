/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Messages between agents.  Every edge is asked of the sender's policy; a payload is strict JSON or it is refused; each
 * message holds a charge on its receiver until it is dealt with.
 *
 * Invariants (tests/unit/supervisor/test_router.c runs random traces against them):
 *  - every router_send() is answered by exactly one reply, unless its sender dies first; then by none;
 *  - one that is to be unanswered gets none; that it is lost, for another reason than that one, is told by lost();
 *  - nothing of a sender is delivered after router_agent_gone(sender);
 *  - a receiver is never handed more than its quota of unanswered asks.
 * Pure: the world is behind callbacks, the clock is injected.
 */
#pragma once

#include "common/err.h"
#include "supervisor/policy/policy.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* JSON-RPC error codes agents read; PROTOCOL.md lists them. */
enum call_code {
        CALL_DENIED = -32001,
        CALL_BAD_ARGUMENTS = -32002,
        CALL_TOOL_FAILED = -32003,
        CALL_BAD_RESULT = -32004,
        CALL_TIMED_OUT = -32005,
        CALL_QUEUE_FULL = -32006,
        CALL_NOT_RUNNING = -32007,
        CALL_TERMINATED = -32008,
        CALL_REJECTED = -32009,
};

/* The terminal message of one call. */
struct call_reply {
        bool ok;
        const char *result; /* JSON when ok */
        enum call_code code;
        const char *message, *rule, *next_step; /* may be NULL when ok */
};

enum router_presence {
        ROUTER_UNKNOWN,  /* no such agent */
        ROUTER_GONE,     /* not running, and nothing is coming */
        ROUTER_STARTING, /* messages wait in the queue */
        ROUTER_UP,
};

struct router_peer {
        enum router_presence presence;
        uint32_t index, incarnation;
};

struct router_message {
        uint32_t from, to;
        bool ask;
        const char *payload; /* valid JSON */
        uint64_t deadline_ns;
};

struct router_callbacks {
        struct policy_verdict (*permit)(uint32_t from, const char *target, void *user);
        struct router_peer (*find)(const char *target, void *user);
        const char *(*name)(uint32_t agent, void *user);
        /* Hands the message to the receiver's link; *work_seq is what an answer will carry.  -EAGAIN: its queue is full;
         * any other fault: it is going away. */
        int (*deliver)(const struct router_message *m, uint64_t *work_seq, void *user);
        void (*reply)(uint32_t to, uint64_t corr, const struct call_reply *reply, void *user);
        /* What became of an unanswered one that was not delivered; a verdict of permit() is not told again. */
        void (*lost)(uint32_t from, const char *target, const struct call_reply *why, void *user);
};

#define ROUTER_OPEN_MAX 64u  /* unanswered sends of one agent */
#define ROUTER_OWED_MAX 256u /* undealt messages of one receiver */
#define ROUTER_OWED_BYTES (8u << 20)
#define ROUTER_TIMEOUT_NS 60000000000ull       /* when the sender names no deadline */
#define ROUTER_TIMEOUT_MAX_NS 3600000000000ull /* what it may name at most */

struct router;
struct router *router_new(uint32_t n_agents, const struct router_callbacks *cb, void *user);
struct router *router_free(struct router *r);

struct router_send {
        uint32_t from, incarnation;
        uint64_t seq; /* of the SendMessage frame */
        const char *target;
        bool ask;
        bool unanswered; /* of a send */
        const char *payload;
        size_t payload_len;
        uint64_t timeout_ns; /* 0: ROUTER_TIMEOUT_NS */
};
void router_send(struct router *r, const struct router_send *s, uint64_t now_ns);

enum router_answer_outcome {
        ROUTER_ANSWERED,
        ROUTER_ANSWERED_LATE, /* the asker has had its timeout; dropped */
        ROUTER_NO_SUCH_ASK,   /* this agent owes no such answer: a violation */
        ROUTER_BAD_ANSWER,    /* no valid JSON; the asker gets CALL_REJECTED, err says why */
};
enum router_answer_outcome router_answer(struct router *r, uint32_t from, uint64_t corr, bool ok, const char *payload,
                                         size_t payload_len, const char *error, struct crew_err *err);

void router_agent_up(struct router *r, uint32_t agent, uint64_t now_ns);
/* The instance is dead.  why: "terminated: operator".  Its undelivered messages vanish, those who wait for it are told. */
void router_agent_gone(struct router *r, uint32_t agent, const char *why);
void router_expire(struct router *r, uint64_t now_ns);
uint64_t router_next_deadline(const struct router *r);
/* "ask to report-writer" for each call this agent waits for or owes. */
void router_describe(struct router *r, uint32_t agent, void (*fn)(const char *text, void *user), void *user);
/* For the next crewd: messages that wait, and answers that are owed.  0, -EBADMSG or -ENOMEM. */
struct bytes_out;
struct bytes_in;
void router_save(struct router *r, struct bytes_out *b);
int router_load(struct router *r, struct bytes_in *b);
/* All deadlines move by that much. */
void router_put_off(struct router *r, int64_t ns);
/* Calls fn for every agent that waits for this one's answer to an ask, directly or by others that ask in between; each
 * once.
 */
void router_each_asker(struct router *r, uint32_t agent, void (*fn)(uint32_t asker, void *user), void *user);
uint32_t router_open(const struct router *r, uint32_t agent);
uint32_t router_owes(const struct router *r, uint32_t agent);
