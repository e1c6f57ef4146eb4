/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Calls in flight: who waits for an answer, and who owes it.
 *
 * An ask between agents and a tool call are the same thing here: a caller (its frame's seq) that must get exactly one
 * terminal message, and a callee that owes exactly one answer.  The two ends settle separately: a caller whose deadline
 * has passed is settled at once, while the callee's debt (and its charge) stays until it answers or dies, so that a late
 * answer is recognised and an agent that never answers runs into its own quota, not into everybody's memory.
 * Pure, on an injected clock.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct inflight_end {
        uint32_t agent; /* index in the roster */
        uint32_t incarnation;
        uint64_t seq; /* caller: its frame, corr of the terminal message; callee: what its answer carries as corr */
};

struct inflight_call {
        struct inflight_end caller, callee;
        uint64_t started_ns, deadline_ns;
        size_t bytes;                      /* charged to the callee */
        const void *what;                  /* the tool; NULL for an ask */
        bool settled;                      /* the caller has had its terminal message, or is gone */
        struct inflight_call *next, *prev; /* of the same callee */
};

struct inflight_limits {
        uint32_t per_caller; /* unsettled calls of one caller */
        uint32_t per_callee; /* answers one callee owes */
        size_t callee_bytes;
};

struct inflight;
struct inflight *inflight_new(uint32_t n_agents, const struct inflight_limits *limits);
struct inflight *inflight_free(struct inflight *f);

enum inflight_outcome { INFLIGHT_ADDED, INFLIGHT_CALLER_FULL, INFLIGHT_CALLEE_FULL };
/* 0 and *out, an outcome when a quota is used up, -ENOMEM.  callee.seq may be filled in by the caller afterwards. */
int inflight_add(struct inflight *f, const struct inflight_call *call, struct inflight_call **out);
/* One that stood in a table before, settled or not: quotas were asked for then.  0 or -ENOMEM. */
int inflight_restore(struct inflight *f, const struct inflight_call *call, struct inflight_call **out);
/* A call without what only this process can point to: `what` is the caller's. */
struct bytes_out;
struct bytes_in;
void inflight_save(const struct inflight_call *call, struct bytes_out *b);
void inflight_load(struct inflight_call *call, struct bytes_in *b);
/* Calls fn for every call, in an order that inflight_restore() keeps. */
void inflight_all(struct inflight *f, void (*fn)(const struct inflight_call *call, void *user), void *user);
/* The call that callee's answer with corr seq belongs to, settled or not; NULL: it owes no such answer. */
struct inflight_call *inflight_owed(struct inflight *f, uint32_t callee, uint64_t seq);
/* True when the call of this caller and seq is still unsettled; marks it settled. */
bool inflight_settle(struct inflight *f, struct inflight_call *call);
/* The callee has answered (or never got it): the charge is released, call is freed. */
void inflight_drop(struct inflight *f, struct inflight_call *call);
/* The first unsettled call past its deadline, or NULL. */
struct inflight_call *inflight_overdue(struct inflight *f, uint64_t now_ns);
uint64_t inflight_next_deadline(const struct inflight *f); /* UINT64_MAX: none */
/* Deadlines of all that callee owes move by that much. */
void inflight_put_off(struct inflight *f, uint32_t callee, int64_t ns);
/* Any call that has this agent at that end; to walk away what a dead agent leaves. */
struct inflight_call *inflight_any_by_callee(struct inflight *f, uint32_t agent);
struct inflight_call *inflight_any_by_caller(struct inflight *f, uint32_t agent); /* unsettled only */
uint32_t inflight_open(const struct inflight *f, uint32_t caller);
uint32_t inflight_owes(const struct inflight *f, uint32_t callee);
size_t inflight_owed_bytes(const struct inflight *f, uint32_t callee);
/* Calls fn for every call either of whose ends is agent. */
void inflight_each(struct inflight *f, uint32_t agent, void (*fn)(const struct inflight_call *call, void *user),
                   void *user);
