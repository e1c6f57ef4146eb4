/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Starts, a few at a time: two for each CPU.  More at once would not be done earlier, and each would be late for its own
 * limit of time, which counts from when it is given to the spawner.
 *
 * Guarantees: first come, first served, and a crew's first starts in the order of its file; a start gives its place to the
 * next one when its agent is ready, or is to end, or START_TURN_NS after it was sealed: who takes long to get ready keeps
 * nobody waiting.  An agent that waits here is in the state it waits in, declared or restarting; a stop or a kill ends the
 * wait.  Whose state directory somebody else has lets others go first: what a killed crewd has left dies soon, and crewctl
 * state takes a moment.  After STARTS_IN_USE_NS the start goes ahead, and fails if that is still so.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct agent;
struct crewd;

#define STARTS_MIN 4u
#define STARTS_MAX 64u
#define STARTS_TURN_NS 250000000ull
#define STARTS_IN_USE_NS 10000000000ull
#define STARTS_LOOK_NS 20000000ull /* how often that is looked at */

struct starts {
        struct agent *first, *last; /* who waits */
        uint32_t max, n;            /* places; taken */
};
/* Of an agent. */
struct start {
        struct agent *before, *after;
        bool waiting, placed;
        uint64_t until_ns;           /* until when it keeps its place; 0: until something happens */
        uint64_t look_ns, in_use_ns; /* its state directory: when to look again, since when it is in use; 0: not */
};

/* How many go at a time on this host. */
uint32_t starts_places(void);
void starts_init(struct starts *s);
/* Its start is due. */
void starts_want(struct agent *a);
/* It is not any more; fine for one that does not wait. */
void starts_unwant(struct agent *a);
/* A start that goes ahead, in its turn or out of turn, has a place; sealed, for a limited time; then the next may come. */
void starts_take_place(struct agent *a);
void starts_sealed(struct agent *a, uint64_t now_ns);
void starts_leave_place(struct agent *a);
/* Lets those go whose turn it is. */
void starts_poke(struct crewd *c, uint64_t now_ns);

void starts_expire(struct agent *a, uint64_t now_ns);
uint64_t starts_next_deadline(const struct agent *a);
