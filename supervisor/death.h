/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How an instance ends.  A kill is recorded durably, then link and network are cut, then the tree is killed; when the
 * spawner says that all of it is reaped, the termination is recorded and told at once: to clients first, to the manager and
 * the hook, and then to everybody who waits for something of the dead agent.  Only then follows what comes of it.
 */
#pragma once

#include "agent.h"

/* Sets cause and reason if nobody has yet. */
void death_decide(struct agent *a, Crew__Cause cause, const char *initiator, const char *reason);
/* Kills a live instance, or takes back a restart that is due.  Harmless when it is being killed already. */
void death_kill(struct agent *a, Crew__Cause cause, const char *initiator, const char *reason);
/* The same, for it came to this limit (a constant). */
void death_limit(struct agent *a, const char *limit, const char *reason);
/* Asks a live instance to end by itself within grace_ms, for good; killed when it does not. */
void death_stop(struct agent *a, uint64_t grace_ms, const char *initiator, const char *reason);
/* The same at the word of the crew's manager. */
void death_retire(struct agent *a, uint64_t grace_ms, const char *initiator, const char *reason);
/* As death_stop(), and another instance follows. */
void death_renew(struct agent *a, uint64_t grace_ms, const char *initiator, const char *reason);
/* Hooks and webhook get the last termination, if they have yet to; checkpoint.h. */
void death_tell_outside(struct agent *a);
/* Into the outboxes, before it is on record; on disk with death_sync_outside().  Who will not be told: said once it is. */
struct death_missed death_keep_outside(struct agent *a, const struct termination *t);
void death_sync_outside(struct crewd *c);
void death_say_missed(struct agent *a, struct death_missed m);
/* From the spawner: the whole tree is reaped. */
void death_on_exited(struct agent *a, const struct spawn_exit *x);
/* Its link has hung up, or took too long about it: nothing more will be heard of an instance that has exited. */
/* It ought to have ended and seems not to: killed.  If it was only slow, its end is what it would have been.  reason: a
 * constant. */
void death_overstayed(struct agent *a, const char *reason);
void death_heard_out(struct agent *a);
/* There never was a tree, or the spawner has taken back what there was. */
void death_on_start_failed(struct agent *a, const char *reason);
/* AGENT_DO_BURY.  Those that the spawner tells of in one turn are buried together, by death_settle(); any other at once. */
void death_bury(struct agent *a);
void death_settle(struct crewd *c);
/* As the AgentTerminated message; the pointers are into t and a. */
struct termination_message {
        Crew__AgentTerminated pb;
        char *tasks[1];
        char *calls[AGENT_CALLS_NAMED_MAX];
};
void death_message(const struct agent *a, const struct termination *t, struct termination_message *out);
/* To the clients that are attached, and to those that ask later for what has happened. */
void death_tell(struct agent *a, const struct termination *t);
