/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Facts into audit records.  A stream that cannot be written freezes its agent: nothing it does would be evidence any
 * more, so it does nothing more.
 */
#include "journal.h"

#include "apply.h"
#include "attest.h"
#include "common/plan.h"
#include "common/util.h"
#include "consensus.h"
#include "crewd.h"
#include "death.h"
#include "events.h"
#include "gateway_client.h"
#include "scheduler.h"
#include "spawner.h"
#include "supervisor/audit/audit_digest.h"
#include "supervisor/policy/lock.h"
#include "supervisor/policy/policy.h"

#include <errno.h>
#include <string.h>

void journal_freeze(struct agent *a, int error) {
        if (a->frozen)
                return;
        a->frozen = true;
        if (agent_state_live(a->state) && a->in.id && !a->in.kill_sent)
                spawner_hold(a->crewd->spawner, a->in.id, true, SPAWN_UNRECORDED);
        crewd_log(a->crewd, "agent %s is frozen: its audit stream %s cannot be written: %s", agent_name(a),
                  audit_path(a->audit), strerror(-error));
}

/* The text form, without the time: events carry their own. */
static void announce_denial(struct agent *a, const struct record *r, uint32_t count) {
        static const char zeros[] = "0000000000000000000000000000000000000000000000000000000000000000";
        struct record_head head = {.crew = a->crewd->file->name,
                                   .agent = agent_name(a),
                                   .incarnation = a->incarnation,
                                   .seq = audit_seq(a->audit),
                                   .prev_hex = zeros};
        _cleanup_free_ char *line = malloc(RECORD_LINE_MAX), *text = malloc(RECORD_TEXT_MAX);
        char whole[2048];

        if (!line || !text || !meter_take(&a->alerts, 1, crew_now_ns())) {
                a->unalerted += count;
                return;
        }
        size_t n = record_format(r, &head, line, RECORD_LINE_MAX);
        if (record_render(line, n, text, RECORD_TEXT_MAX) < 0)
                return;
        const char *after = strstr(text, "] ");
        int used = snprintf(whole, sizeof(whole) - 64, "%s: %s", agent_name(a), after ? after + 2 : text);
        if (a->unalerted > 0)
                snprintf(whole + MIN_OF((size_t)used, sizeof(whole) - 65), 64, " (and %llu more before it)",
                         (unsigned long long)a->unalerted);
        a->unalerted = 0;
        events_text(a->crewd->events, "denied", whole);
}

static int written(struct agent *a, const struct record *r, int result, uint32_t denied) {
        a->audit_dirty = true;
        crewd_mark_dirty(a->crewd);
        if (result < 0) {
                journal_freeze(a, result);
                return result;
        }
        if (denied) {
                a->denied += denied;
                announce_denial(a, r, denied);
        }
        return 0;
}

static int write_one(struct agent *a, const struct record *r, bool durable, bool denied, uint64_t *seq) {
        uint64_t ignored;

        int result = (durable ? audit_append_durable : audit_append)(a->audit, r, seq ? seq : &ignored);

        return written(a, r, result, denied);
}

int journal_write(struct agent *a, const struct record *r, bool durable) {
        return write_one(a, r, durable, false, NULL);
}

int journal_observe(struct agent *a, const struct record *r, uint32_t count, bool denied) {
        return written(a, r, audit_observe(a->audit, r, count), denied ? count : 0);
}

void journal_flush(struct agent *a) {
        int r = audit_fold_flush(a->audit);

        if (r < 0)
                journal_freeze(a, r);
}

bool journal_release(struct agent *a, bool go_on) {
        int r = audit_release(a->audit, go_on);

        if (r < 0)
                journal_freeze(a, r);
        if (r > 0) {
                a->audit_dirty = true;
                crewd_mark_dirty(a->crewd);
        }
        return r >= 0;
}

/* --- lifecycle --- */

int journal_health(struct agent *a, const char *why, uint32_t failures) {
        struct record r;

        record_init(&r, RECORD_HEALTH, "crewd");
        record_str(&r, "verdict", why ? "failed" : "passed");
        if (why)
                record_int(&r, "failures", failures);
        record_str(&r, "reason", why);
        return journal_write(a, &r, false);
}

int journal_policy(struct agent *a, const uint8_t *network_sha256) {
        struct record r;

        record_init(&r, RECORD_POLICY, "crewd");
        record_str(&r, "file", a->decl->policy_file);
        record_hex(&r, "sha256", policy_image_sha256(a->decl->policy), CREW_SHA256_BYTES);
        record_str(&r, "crew_file", a->file == a->crewd->file ? a->crewd->crew_path : a->file->path);
        record_hex(&r, "crew_sha256", a->file->sha256, sizeof(a->file->sha256));
        if (apply_lock(a))
                record_hex(&r, "lock_sha256", apply_lock(a)->sha256, CREW_SHA256_BYTES);
        if (network_sha256)
                record_hex(&r, "network_sha256", network_sha256, CREW_SHA256_BYTES);
        record_str(&r, "mode", a->crewd->root_mode ? "root" : "rootless");
        record_str(&r, "version", CREW_VERSION);
        return journal_write(a, &r, false);
}

static void put_degraded(struct record *r, uint32_t degraded) {
        struct spawn_attestation att = {.degraded = degraded};
        char text[256];

        if (degraded == 0)
                return;
        attest_walls(&att, text, sizeof(text));
        record_str(r, "degraded", text + strlen("without "));
}

static void put_limits(struct record *r, uint32_t by) {
        static const char *const names[] = {"cgroup-memory", "cgroup-pids", "cgroup-cpu", "rlimits"};
        char text[64] = "";

        for (size_t i = 0; i < ELEMENTSOF(names); i++) {
                size_t n = strlen(text);
                if (by & 1u << i)
                        snprintf(text + n, sizeof(text) - n, "%s%s", n ? " " : "", names[i]);
        }
        record_str(r, "limits_by", text);
}

int journal_spawned(struct agent *a, bool good) {
        const struct spawn_attestation *att = &a->in.att;
        struct record r;

        record_init(&r, RECORD_SPAWNED, "spawner");
        record_int(&r, "pid", att->pid);
        record_int(&r, "uid", att->host_uid);
        record_int(&r, "gid", att->host_gid);
        record_int(&r, "seccomp", att->seccomp_mode);
        record_int(&r, "no_new_privs", att->no_new_privs);
        record_int(&r, "cap_eff", (int64_t)att->cap_eff);
        record_int(&r, "cap_bnd", (int64_t)att->cap_bnd);
        record_int(&r, "landlock_abi", att->landlock_abi);
        record_int(&r, "selftests", att->selftests);
        record_int(&r, "tripwires", att->tripwires);
        put_degraded(&r, att->degraded);
        put_limits(&r, att->limits_by);
        record_int(&r, "spawn_us", (int64_t)(att->spawn_ns / 1000u));
        record_int(&r, "ns_user", (int64_t)att->ns_user);
        record_int(&r, "ns_pid", (int64_t)att->ns_pid);
        record_int(&r, "ns_mnt", (int64_t)att->ns_mnt);
        record_int(&r, "ns_net", (int64_t)att->ns_net);
        record_int(&r, "ns_ipc", (int64_t)att->ns_ipc);
        record_int(&r, "ns_uts", (int64_t)att->ns_uts);
        record_bool(&r, "accepted", good);
        record_bool(&r, "gateway", gateway_up(a->crewd->gateway));
        /* Every record that must be on disk before its effect takes this one along.  In the file at once all the same: by
         * it the next crewd knows of an instance that died with this one. */
        int result = journal_write(a, &r, false);
        return result < 0 ? result : written(a, &r, audit_write(a->audit), 0);
}

int journal_ready(struct agent *a) {
        struct record r;

        record_init(&r, RECORD_READY, "crewd");
        record_int(&r, "spawn_us", (int64_t)((a->in.ready_ns - a->in.spawn_ns) / 1000u));
        return journal_write(a, &r, false);
}

int journal_kill(struct agent *a, const struct death *d) {
        struct record r;

        record_init(&r, RECORD_KILL, "crewd");
        record_str(&r, "cause", cause_name(d->cause));
        record_str(&r, "initiator", d->initiator);
        record_str(&r, "reason", d->reason);
        return journal_write(a, &r, true);
}

int journal_stop(struct agent *a, const char *initiator, const char *reason, uint64_t grace_ms) {
        struct record r;

        record_init(&r, RECORD_STOP, "crewd");
        record_str(&r, "initiator", initiator);
        record_str(&r, "reason", reason);
        record_int(&r, "grace_ms", (int64_t)grace_ms);
        return journal_write(a, &r, true);
}

int journal_start(struct agent *a, const char *initiator, const char *reason) {
        struct record r;

        record_init(&r, RECORD_START, "crewd");
        record_str(&r, "initiator", initiator);
        record_str(&r, "reason", reason);
        return journal_write(a, &r, true);
}

void journal_applied(struct agent *a, const struct journal_applied *x) {
        struct record r;

        record_init(&r, RECORD_CREW_APPLIED, "crewd");
        record_str(&r, "effect", x->effect);
        record_str(&r, "crew_file", x->file);
        record_hex(&r, "old_crew_sha256", x->from->sha256, sizeof(x->from->sha256));
        record_hex(&r, "crew_sha256", x->to->sha256, sizeof(x->to->sha256));
        record_str(&r, "old_sha256", x->old_sha256[0] ? x->old_sha256 : NULL);
        record_str(&r, "sha256", x->sha256[0] ? x->sha256 : NULL);
        record_str(&r, "plan", x->plan);
        record_str(&r, "initiator", x->initiator);
        record_str(&r, "verdict", x->why ? "undone" : NULL);
        record_str(&r, "reason", x->why);
        journal_write(a, &r, true);
}

int journal_hold(struct agent *a, bool thaw, const char *initiator, const char *reason) {
        struct record r;

        journal_flush(a); /* who freezes it to look at it finds what was before */
        record_init(&r, thaw ? RECORD_THAWED : RECORD_FROZEN, "crewd");
        record_str(&r, "initiator", initiator);
        record_str(&r, "reason", reason);
        if (thaw)
                record_int(&r, "ms", (int64_t)((crew_now_ns() - a->hold.since_ns) / 1000000u));
        return journal_write(a, &r, true);
}

int journal_hold_failed(struct agent *a, bool thaw, int error) {
        struct record r;

        record_init(&r, thaw ? RECORD_THAWED : RECORD_FROZEN, "crewd");
        record_str(&r, "verdict", "failed");
        record_str(&r, "reason", strerror(error));
        return journal_write(a, &r, false);
}

int journal_supervisor_lost(struct agent *a, int pid, uint64_t ago_ms) {
        struct record r;

        record_init(&r, RECORD_SUPERVISOR_LOST, "crewd");
        record_int(&r, "pid", pid);
        record_int(&r, "ms", (int64_t)ago_ms);
        return journal_write(a, &r, true);
}

int journal_adopted(struct agent *a, uint64_t again_in, uint64_t again_out) {
        struct record r;

        record_init(&r, RECORD_SUPERVISOR_ADOPTED, "crewd");
        record_int(&r, "frames_in", (int64_t)again_in);
        record_int(&r, "frames_out", (int64_t)again_out);
        return journal_write(a, &r, true);
}

int journal_terminated(struct agent *a, struct termination *t) {
        struct record r;

        record_init(&r, RECORD_TERMINATED, "crewd");
        record_str(&r, "cause", cause_name(t->death.cause));
        record_str(&r, "limit", t->death.limit);
        if (t->signal)
                record_int(&r, "signal", t->signal);
        else if (t->exit_code >= 0)
                record_int(&r, "code", t->exit_code);
        record_str(&r, "initiator", t->death.initiator);
        record_str(&r, "reason", t->death.reason);
        if (t->kill_us > 0) { /* else it ended by itself */
                record_int(&r, "processes", t->processes);
                record_int(&r, "kill_us", (int64_t)t->kill_us);
        }
        record_str(&r, "task", t->task[0] ? t->task : NULL);
        record_int(&r, "id", (int64_t)t->id);
        record_bool(&r, "effects", t->effects);
        record_bool(&r, "restartable", t->restartable);
        record_str(&r, "action", t->action);
        return write_one(a, &r, true, false, &t->audit_seq);
}

int journal_restart(struct agent *a, uint64_t delay_ns) {
        struct record r;

        record_init(&r, RECORD_RESTART, "crewd");
        record_int(&r, "attempt", a->restart.total);
        record_int(&r, "delay_ms", (int64_t)(delay_ns / 1000000u));
        record_str(&r, "cause", a->last ? cause_name(a->last->death.cause) : NULL);
        return journal_write(a, &r, false);
}

/* --- tasks, tools, messages --- */

static void put_digest(struct record *r, const char *key, const char *value, size_t n) {
        char hex[CREW_SHA256_HEX];

        audit_digest_hex(value ? value : "", value ? n : 0, hex);
        record_str(r, key, hex);
}

int journal_task_started(struct agent *a, const struct job *j, const char *input, size_t input_len) {
        struct record r;

        record_init(&r, RECORD_TASK_STARTED, "crewd");
        record_str(&r, "task", j->name);
        record_str(&r, "task_id", j->id);
        record_int(&r, "attempt", j->attempt);
        record_str(&r, "by", j->by);
        record_str(&r, "key", j->key[0] ? j->key : NULL);
        put_digest(&r, "input_sha256", input, input_len);
        return journal_write(a, &r, true);
}

const char *journal_outcome_name(Crew__Outcome outcome) {
        static const char *const names[] = {
                [CREW__OUTCOME__OUTCOME_OK] = "ok",
                [CREW__OUTCOME__OUTCOME_FAILED] = "failed",
                [CREW__OUTCOME__OUTCOME_TIMEOUT] = "timeout",
                [CREW__OUTCOME__OUTCOME_CANCELLED] = "cancelled",
                [CREW__OUTCOME__OUTCOME_TERMINATED] = "terminated",
                [CREW__OUTCOME__OUTCOME_REFUSED] = "refused",
        };

        return (size_t)outcome < ELEMENTSOF(names) ? names[outcome] : NULL;
}

/* Why it did not go well; nothing when it did. */
static void put_cause(struct record *r, Crew__Outcome outcome) {
        if (outcome != CREW__OUTCOME__OUTCOME_OK)
                record_str(r, "cause", journal_outcome_name(outcome));
}

int journal_task_retried(struct agent *a, const struct job *j, Crew__Outcome outcome, const char *error) {
        struct record r;

        record_init(&r, RECORD_TASK_RETRIED, "crewd");
        record_str(&r, "task", j->name);
        record_str(&r, "task_id", j->id);
        record_int(&r, "attempt", j->attempt);
        put_cause(&r, outcome);
        record_str(&r, "reason", error);
        return journal_write(a, &r, false);
}

int journal_task_finished(struct agent *a, const struct job *j) {
        struct record r;

        record_init(&r, RECORD_TASK_FINISHED, "crewd");
        record_str(&r, "task", j->name);
        record_str(&r, "task_id", j->id);
        record_str(&r, "outcome", j->state == JOB_DONE ? "ok" : "failed");
        if (j->state != JOB_DONE)
                put_cause(&r, j->outcome);
        record_str(&r, "reason", j->error[0] ? j->error : NULL);
        if (j->started_ns)
                record_int(&r, "ms", (int64_t)((j->ended_ns - j->started_ns) / 1000000u));
        if (j->result)
                put_digest(&r, "result_sha256", j->result, j->result_len);
        return journal_write(a, &r, false);
}

int journal_task_cancel(struct agent *a, const struct job *j, const char *initiator, const char *reason) {
        struct record r;

        record_init(&r, RECORD_TASK_CANCEL, "crewd");
        record_str(&r, "task", j->name);
        record_str(&r, "task_id", j->id);
        record_str(&r, "initiator", initiator);
        record_str(&r, "reason", reason);
        return journal_write(a, &r, true);
}

int journal_task_lost(struct agent *a, const char *task, const char *task_id, const char *reason) {
        struct record r;

        record_init(&r, RECORD_TASK_FINISHED, "crewd");
        record_str(&r, "task", task);
        record_str(&r, "task_id", task_id);
        record_str(&r, "outcome", "failed");
        put_cause(&r, CREW__OUTCOME__OUTCOME_TERMINATED);
        record_str(&r, "reason", reason);
        return journal_write(a, &r, false);
}

static void tool_call_head(struct record *r, const struct journal_call *call) {
        record_init(r, RECORD_TOOL_CALL, "crewd");
        record_str(r, "tool", call->tool);
        record_int(r, "call", (int64_t)call->seq);
        put_digest(r, "args_sha256", call->value, call->value_len);
        if (call->full)
                record_bytes(r, "args", call->value, call->value_len);
}

int journal_tool_call(struct agent *a, const struct journal_call *call, const struct policy_verdict *v) {
        struct record r;

        tool_call_head(&r, call);
        record_str(&r, "verdict", v->allowed ? "allowed" : "denied");
        record_str(&r, "rule", v->rule[0] ? v->rule : NULL);
        record_str(&r, "reason", !v->allowed && v->text[0] ? v->text : NULL);
        /* An allowed call must be on disk before it has an effect; a denied one has none, and a flood of them is folded. */
        return v->allowed ? write_one(a, &r, true, false, NULL) : journal_observe(a, &r, 1, true);
}

int journal_tool_refused(struct agent *a, const struct journal_call *call, const char *rule, const char *text) {
        struct record r;

        tool_call_head(&r, call);
        record_str(&r, "verdict", "invalid");
        record_str(&r, "rule", rule);
        record_str(&r, "reason", text);
        return journal_observe(a, &r, 1, false);
}

int journal_tool_return(struct agent *a, const struct journal_call *call, const char *outcome, const char *error,
                        uint64_t duration_us) {
        struct record r;

        record_init(&r, RECORD_TOOL_RETURN, "crewd");
        record_str(&r, "tool", call->tool);
        record_int(&r, "call", (int64_t)call->seq);
        record_str(&r, "outcome", strcmp(outcome, "ok") == 0 ? "ok" : "failed");
        if (strcmp(outcome, "ok") != 0)
                record_str(&r, "cause", outcome);
        record_str(&r, "reason", error);
        record_int(&r, "ms", (int64_t)(duration_us / 1000u));
        if (call->value)
                put_digest(&r, "result_sha256", call->value, call->value_len);
        if (call->full && call->value)
                record_bytes(&r, "result", call->value, call->value_len);
        return journal_write(a, &r, false);
}

static void order_head(struct record *r, const char *verb, const struct journal_order *what) {
        record_init(r, RECORD_MANAGER_ORDER, "crewd");
        record_str(r, "verb", verb);
        record_str(r, "to", what->to);
        record_str(r, "task", what->task);
        record_str(r, "task_id", what->task_id);
        record_str(r, "key", what->key && *what->key ? what->key : NULL);
        record_str(r, "rule", what->rule && *what->rule ? what->rule : NULL);
        record_str(r, "reason", what->reason);
}

int journal_order(struct agent *a, const char *verb, const struct journal_order *what) {
        struct record r;

        order_head(&r, verb, what);
        record_str(&r, "verdict", "allowed");
        return journal_write(a, &r, true);
}

int journal_order_read(struct agent *a, const char *verb, const char *task_id) {
        struct record r;

        order_head(&r, verb, &(struct journal_order){.task_id = task_id});
        record_str(&r, "verdict", "allowed");
        return journal_observe(a, &r, 1, false);
}

int journal_order_refused(struct agent *a, const char *verb, const struct journal_order *what) {
        struct record r;

        order_head(&r, verb, what);
        record_str(&r, "verdict", "denied");
        return journal_observe(a, &r, 1, true);
}

int journal_manager_told(struct agent *a, const char *dead, uint64_t id) {
        struct record r;

        record_init(&r, RECORD_MANAGER_TOLD, "crewd");
        record_str(&r, "verdict", "told");
        record_str(&r, "about", dead);
        record_int(&r, "id", (int64_t)id);
        return journal_write(a, &r, false);
}

int journal_manager_untold(struct agent *a, uint32_t n) {
        struct record r;

        record_init(&r, RECORD_MANAGER_TOLD, "crewd");
        record_str(&r, "verdict", "lost");
        record_str(&r, "about", "ends that were never acknowledged");
        record_int(&r, "lost", n);
        return journal_write(a, &r, false);
}

int journal_vote(struct agent *a, const struct job *j, const char *vote, uint32_t weight, const char *reason) {
        struct record r;

        record_init(&r, RECORD_TASK_VOTE, "crewd");
        record_str(&r, "task", j->name);
        record_str(&r, "task_id", j->id);
        record_str(&r, "vote", vote);
        record_int(&r, "weight", weight);
        record_str(&r, "reason", reason);
        put_digest(&r, "proposal_sha256", j->result, j->result_len);
        return journal_write(a, &r, false);
}

int journal_tally(struct agent *a, const struct job *j, const char *rule, const struct consensus_tally *t,
                  const char *votes) {
        struct record r;

        record_init(&r, RECORD_TASK_TALLY, "crewd");
        record_str(&r, "task", j->name);
        record_str(&r, "task_id", j->id);
        record_str(&r, "outcome", t->accepted ? "accepted" : "rejected");
        record_str(&r, "by_rule", rule);
        record_int(&r, "approve", t->votes[VOTE_APPROVE]);
        record_int(&r, "reject", t->votes[VOTE_REJECT]);
        record_int(&r, "abstain", t->votes[VOTE_ABSTAIN]);
        record_int(&r, "quorum", t->quorum);
        record_str(&r, "votes", votes);
        record_str(&r, "reason", t->text);
        put_digest(&r, "proposal_sha256", j->result, j->result_len);
        return journal_write(a, &r, true);
}

int journal_memory(struct agent *a, const struct journal_memory *what) {
        struct record r;

        record_init(&r, RECORD_MEMORY, "crewd");
        record_str(&r, "verb", what->verb);
        record_str(&r, "space", what->space);
        record_str(&r, "key", what->key && *what->key ? what->key : NULL);
        record_str(&r, "verdict", what->denied ? "denied" : "allowed");
        record_str(&r, "rule", what->rule);
        record_str(&r, "reason", what->reason);
        if (what->value) {
                record_int(&r, "bytes", (int64_t)what->value_len);
                put_digest(&r, "sha256", what->value, what->value_len);
        }
        if (!what->denied && strcmp(what->verb, "put") == 0)
                return journal_write(a, &r, false);
        return journal_observe(a, &r, 1, what->denied);
}

int journal_tool_request(struct agent *a, const char *tool, const char *why, bool granted, const char *rule,
                         const char *reason) {
        struct record r;

        record_init(&r, RECORD_TOOL_REQUEST, "crewd");
        record_str(&r, "tool", tool);
        record_str(&r, "asked_for", *why ? why : NULL);
        record_str(&r, "verdict", granted ? "granted" : "denied");
        record_str(&r, "rule", rule && *rule ? rule : NULL);
        record_str(&r, "reason", reason);
        return granted && !reason ? journal_write(a, &r, true) : journal_observe(a, &r, 1, !granted);
}

int journal_message(struct agent *a, bool sent, const char *peer, bool ask, const char *payload, uint64_t seq) {
        size_t n = strlen(payload);
        _not_cleared_ struct record r;

        record_init(&r, sent ? RECORD_MESSAGE_SENT : RECORD_MESSAGE_RECEIVED, "crewd");
        record_str(&r, sent ? "to" : "from", peer);
        record_bool(&r, "ask", ask);
        record_int(&r, "bytes", (int64_t)n);
        record_int(&r, "frame", (int64_t)seq);
        put_digest(&r, "sha256", payload, n);
        return journal_write(a, &r, false);
}

int journal_message_denied(struct agent *a, const char *target, const struct policy_verdict *v) {
        struct record r;

        record_init(&r, RECORD_MESSAGE_SENT, "crewd");
        record_str(&r, "to", target);
        record_str(&r, "verdict", "denied");
        record_str(&r, "rule", v->rule[0] ? v->rule : NULL);
        record_str(&r, "reason", v->text);
        return journal_observe(a, &r, 1, true);
}

int journal_message_lost(struct agent *a, const char *target, const char *why) {
        struct record r;

        record_init(&r, RECORD_MESSAGE_SENT, "crewd");
        record_str(&r, "to", target);
        record_str(&r, "verdict", "lost");
        record_str(&r, "reason", why);
        return journal_observe(a, &r, 1, false);
}

int journal_rejected(struct agent *a, const char *body, const char *field, const char *rule) {
        struct record r;

        record_init(&r, RECORD_MESSAGE_REJECTED, "crewd");
        record_str(&r, "type", body);
        record_str(&r, "field", *field ? field : NULL);
        record_str(&r, "rule", rule);
        return write_one(a, &r, false, true, NULL);
}

/* --- what others saw --- */

int journal_stderr(struct agent *a, const char *source, const void *text, size_t n, uint64_t dropped) {
        struct record r;

        record_init(&r, RECORD_STDERR, "worker");
        record_bytes(&r, "text", text, n);
        if (*source && strcmp(source, "agent") != 0)
                record_str(&r, "tool", source);
        if (dropped)
                record_int(&r, "dropped", (int64_t)dropped);
        return journal_write(a, &r, false);
}

int journal_exec(struct agent *a, const char *client, const char *words) {
        struct record r;

        record_init(&r, RECORD_EXEC, "crewd");
        record_str(&r, "path", words);
        record_str(&r, "verdict", "operator");
        record_str(&r, "reason", "crewctl exec");
        record_str(&r, "initiator", client);
        return journal_write(a, &r, true);
}

int journal_limit(struct agent *a, const struct journal_limit *l) {
        struct record r;

        record_init(&r, RECORD_LIMIT, "crewd");
        record_str(&r, "limit", l->limit);
        if (l->value)
                record_int(&r, "value", (int64_t)MIN_OF(l->value, (uint64_t)INT64_MAX));
        if (l->max)
                record_int(&r, "max", (int64_t)MIN_OF(l->max, (uint64_t)INT64_MAX));
        record_str(&r, "reason", l->text);
        return journal_observe(a, &r, (uint32_t)MIN_OF(l->count, (uint64_t)UINT32_MAX), false);
}

int journal_migrate(struct agent *a, uint32_t from, uint32_t to, uint64_t took_ns, const char *failed) {
        struct record r;

        record_init(&r, failed ? RECORD_MIGRATE_FAILED : RECORD_MIGRATED, "crewd");
        record_int(&r, "version", from);
        record_int(&r, "to_version", to);
        record_int(&r, "ms", (int64_t)(took_ns / 1000000u));
        record_str(&r, "reason", failed);
        return journal_write(a, &r, true);
}

int journal_migrate_told(struct agent *a, uint32_t from, uint32_t to, const char *how) {
        struct record r;

        record_init(&r, RECORD_MIGRATED, "crewd");
        record_int(&r, "version", from);
        record_int(&r, "to_version", to);
        record_str(&r, "reason", how);
        return journal_write(a, &r, true);
}

int journal_observed(struct agent *a, const char *what, const char *detail) {
        bool limit = strncmp(what, "limit-", 6) == 0;
        struct record r;

        record_init(&r, limit ? RECORD_LIMIT : RECORD_EXEC, "worker");
        if (limit) {
                record_str(&r, "limit", what + 6);
                record_str(&r, "reason", detail);
        } else {
                record_str(&r, "path", detail);
                record_str(&r, "verdict", "allowed");
                if (strcmp(what, "exec") != 0)
                        record_str(&r, "reason", what);
        }
        return journal_observe(a, &r, 1, false);
}

int journal_network_policy(struct agent *a, uint32_t generation, const uint8_t *was_sha256, const uint8_t *sha256,
                           uint32_t closed, const char *refused) {
        struct record r;

        record_init(&r, RECORD_NETWORK_POLICY, "gateway");
        record_int(&r, "generation", generation);
        record_hex(&r, "old_sha256", was_sha256, CREW_SHA256_BYTES);
        record_hex(&r, "sha256", sha256, CREW_SHA256_BYTES);
        if (closed)
                record_int(&r, "closed", closed);
        record_str(&r, "verdict", refused ? "rejected" : NULL);
        record_str(&r, "reason", refused);
        return journal_write(a, &r, false);
}

int journal_gateway_restarted(struct agent *a, const char *cause, unsigned attempt, uint64_t after_ns) {
        struct record r;

        record_init(&r, RECORD_GATEWAY_RESTARTED, "crewd");
        record_str(&r, "cause", *cause ? cause : NULL);
        record_int(&r, "attempt", attempt);
        record_int(&r, "after_ms", (int64_t)(after_ns / 1000000u));
        return journal_write(a, &r, false);
}

int journal_evidence_lost(struct agent *a, const char *src, uint32_t count, const char *text) {
        struct record r;

        record_init(&r, RECORD_EVIDENCE_LOST, "crewd");
        record_str(&r, "source", src);
        if (count)
                record_int(&r, "count", count);
        record_str(&r, "reason", text);
        return journal_write(a, &r, true);
}

int journal_hook(struct agent *a, const char *command, int status, const char *text) {
        struct record r;

        record_init(&r, RECORD_EXEC, "crewd");
        record_str(&r, "path", command);
        record_str(&r, "verdict", status == 0 ? "hook" : "hook failed");
        record_int(&r, "status", status);
        record_str(&r, "reason", text);
        return journal_write(a, &r, false);
}
