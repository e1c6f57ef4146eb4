/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What goes into an agent's audit stream, one function a fact.  All return 0, or a negative errno after the agent has
 * been frozen because its stream cannot be written; the caller then does not do what it was about to do.
 */
#pragma once

#include "agent.h"
#include "supervisor/policy/policy.h"

struct consensus_tally;
struct crew_tool;
struct job;

/* The way every record takes: append, freeze on failure, count and announce denials. */
int journal_write(struct agent *a, const struct record *r, bool durable);
/* Kernel evidence: folded when it repeats. */
int journal_observe(struct agent *a, const struct record *r, uint32_t count, bool denied);

/* network_sha256: of what the gateway gets; NULL: there is none. */
/* why NULL: it passes, for the first time or again. */
int journal_health(struct agent *a, const char *why, uint32_t failures);
int journal_policy(struct agent *a, const uint8_t *network_sha256);
int journal_spawned(struct agent *a, bool good);
int journal_ready(struct agent *a);
int journal_kill(struct agent *a, const struct death *d);
/* An operator's stop, freeze and thaw; durable, before it takes effect. */
int journal_stop(struct agent *a, const char *initiator, const char *reason, uint64_t grace_ms);
int journal_start(struct agent *a, const char *initiator, const char *reason);
/* What a changed crew file did to it, or was to do; why: it did not work out. */
struct journal_applied {
        const char *effect, *file, *plan, *initiator, *why;
        const struct crew_file *from, *to;
        const char *old_sha256, *sha256; /* of the policies; "": none */
};
void journal_applied(struct agent *a, const struct journal_applied *x);
int journal_hold(struct agent *a, bool thaw, const char *initiator, const char *reason);
int journal_hold_failed(struct agent *a, bool thaw, int error);
/* By the crewd after: the one before, process pid, was lost so long ago; and the agent is in its hands, with so many frames
 * to come again and to go out again. */
int journal_supervisor_lost(struct agent *a, int pid, uint64_t ago_ms);
int journal_adopted(struct agent *a, uint64_t again_in, uint64_t again_out);
int journal_terminated(struct agent *a, struct termination *t); /* durable; fills t->audit_seq */
int journal_restart(struct agent *a, uint64_t delay_ns);

int journal_task_started(struct agent *a, const struct job *j, const char *input, size_t input_len);
/* "ok", "failed", ...; NULL for a number that is none. */
const char *journal_outcome_name(Crew__Outcome outcome);
/* An attempt failed, and another follows. */
int journal_task_retried(struct agent *a, const struct job *j, Crew__Outcome outcome, const char *error);
int journal_task_finished(struct agent *a, const struct job *j);
/* A client calls it off; durable, before it takes effect. */
int journal_task_cancel(struct agent *a, const struct job *j, const char *initiator, const char *reason);
/* Of a crewd before this one. */
int journal_task_lost(struct agent *a, const char *task, const char *task_id, const char *reason);

struct journal_call {
        const char *tool; /* any bytes the agent sent */
        uint64_t seq;     /* of the ToolCall */
        const char *value;
        size_t value_len;
        bool full; /* the value itself too */
};
int journal_tool_call(struct agent *a, const struct journal_call *call, const struct policy_verdict *v);
int journal_tool_refused(struct agent *a, const struct journal_call *call, const char *rule, const char *text);
int journal_tool_return(struct agent *a, const struct journal_call *call, const char *outcome, const char *error,
                        uint64_t duration_us);

/* What the manager asked for: what has an effect is durable before it, what it only looked at is folded. */
struct journal_order {
        const char *to, *task, *task_id, *key; /* any bytes; NULL: none */
        const char *rule, *reason, *next_step; /* next_step: for the answer alone */
};
int journal_order(struct agent *a, const char *verb, const struct journal_order *what);
int journal_manager_told(struct agent *a, const char *dead, uint64_t id);
int journal_manager_untold(struct agent *a, uint32_t n); /* too many wait */
int journal_order_read(struct agent *a, const char *verb, const char *task_id);
int journal_order_refused(struct agent *a, const char *verb, const struct journal_order *what);

/* One vote, in its voter's stream; and what they came to, in the proposer's, before it counts. */
int journal_vote(struct agent *a, const struct job *j, const char *vote, uint32_t weight, const char *reason);
int journal_tally(struct agent *a, const struct job *j, const char *rule, const struct consensus_tally *t,
                  const char *votes);

/* Shared memory: a put before it can be read; what was only looked at, and refusals, are folded. */
struct journal_memory {
        const char *verb, *space, *key;
        const char *value; /* NULL: none */
        size_t value_len;
        bool denied;
        const char *rule, *reason;
};
int journal_memory(struct agent *a, const struct journal_memory *what);
/* An agent asked for a tool; granted: durable before it has it. */
int journal_tool_request(struct agent *a, const char *tool, const char *why, bool granted, const char *rule,
                         const char *reason);

int journal_message(struct agent *a, bool sent, const char *peer, bool ask, const char *payload, uint64_t seq);
int journal_message_denied(struct agent *a, const char *target, const struct policy_verdict *v);
/* One whose sender hears nothing was not delivered, and why. */
int journal_message_lost(struct agent *a, const char *target, const char *why);
/* A frame, or part of one, that was not accepted. */
int journal_rejected(struct agent *a, const char *body, const char *field, const char *rule);
int journal_stderr(struct agent *a, const char *source, const void *text, size_t n, uint64_t dropped);
/* crewctl exec: by whom, and the words; durable, before it runs. */
int journal_exec(struct agent *a, const char *client, const char *words);
/* A worker ran into a limit of crewd's own. */
struct journal_limit {
        const char *limit, *text;
        uint64_t value, max; /* 0: not said */
        uint64_t count;      /* at least 1 */
};
int journal_limit(struct agent *a, const struct journal_limit *l);
/* Of its state directory; failed: why, NULL: it was done.  Durable. */
int journal_migrate(struct agent *a, uint32_t from, uint32_t to, uint64_t took_ns, const char *failed);
/* The same of what was done or taken back otherwise than by a migration that just ended; how says which. */
int journal_migrate_told(struct agent *a, uint32_t from, uint32_t to, const char *how);
int journal_observed(struct agent *a, const char *what, const char *detail);
/* The gateway has taken a new network policy, or (refused: why) not. */
int journal_network_policy(struct agent *a, uint32_t generation, const uint8_t *was_sha256, const uint8_t *sha256,
                           uint32_t closed, const char *refused);
int journal_gateway_restarted(struct agent *a, const char *cause, unsigned attempt, uint64_t after_ns);
int journal_evidence_lost(struct agent *a, const char *src, uint32_t count, const char *text);
/* The crew's hook has run (or not) for this agent's termination. */
int journal_hook(struct agent *a, const char *command, int status, const char *text);
/* Counts that are still being folded become records now: those after it must come after them. */
void journal_flush(struct agent *a);
/* What was decided is in its stream now, and on disk where it must be; audit_release(). */
bool journal_release(struct agent *a, bool go_on);
/* Flushes what is younger than 100 ms: on disk on return, or written now and waited for by the syncer; journal_disk.c. */
void journal_sync(struct agent *a);
void journal_sync_later(struct agent *a);
/* The last checkpoint, before the stream is closed and after the syncer. */
void journal_sign_last(struct agent *a);
/* Its stream cannot be written. */
void journal_freeze(struct agent *a, int error);
