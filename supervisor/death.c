/* SPDX-License-Identifier: Apache-2.0 */
/* Kill, burial, restart.  Order is the contract; see death.h. */
#include "death.h"

#include "approvals.h"
#include "checkpoint.h"
#include "common/util.h"
#include "control.h"
#include "crewd.h"
#include "events.h"
#include "evidence_client.h"
#include "execs.h"
#include "hold.h"
#include "hooks.h"
#include "instance.h"
#include "journal.h"
#include "link.h"
#include "manager.h"
#include "requests.h"
#include "router.h"
#include "scheduler.h"
#include "starters.h"
#include "status.h"
#include "text.h"
#include "toolgate.h"
#include "webhook.h"

#include <signal.h>
#include <string.h>

#define HEAR_NS 10000000000ull  /* for what a worker said before its end; its link's, a few milliseconds away, ends that */
#define FORGET_NS 1000000000ull /* how long evidence of a dead instance may still come in */

void death_decide(struct agent *a, Crew__Cause cause, const char *initiator, const char *reason) {
        struct death *d = &a->in.death;

        if (d->decided)
                return;
        d->decided = true;
        d->cause = cause;
        text_copy(d->initiator, sizeof(d->initiator), initiator, SIZE_MAX);
        text_copy(d->reason, sizeof(d->reason), reason, SIZE_MAX);
}

/* No instance to bury: nothing of it runs, and now nothing will. */
static void kill_before_start(struct agent *a, Crew__Cause cause, const char *initiator, const char *reason) {
        struct death d = {.cause = cause};

        text_copy(d.initiator, sizeof(d.initiator), initiator, SIZE_MAX);
        text_copy(d.reason, sizeof(d.reason), reason, SIZE_MAX);
        snprintf(a->start_error, sizeof(a->start_error), "killed before its start, by %s: %.400s", d.initiator, d.reason);
        a->called_off = cause;
        journal_kill(a, &d);
        agent_event(a, AGENT_EV_KILL);
        manager_agent_gone(a->crewd, a, SCHED_NOBODY);
}

void death_kill(struct agent *a, Crew__Cause cause, const char *initiator, const char *reason) {
        if (a->state == AGENT_RESTARTING || a->state == AGENT_DECLARED)
                return kill_before_start(a, cause, initiator, reason);
        if (!agent_state_live(a->state) || a->in.kill_sent || a->in.exited)
                return;
        struct death asked = {.cause = cause};
        text_copy(asked.initiator, sizeof(asked.initiator), initiator, SIZE_MAX);
        text_copy(asked.reason, sizeof(asked.reason), reason, SIZE_MAX);
        death_decide(a, cause, initiator, reason);
        /* Who kills is on record, also where another has begun the end.  A stream that cannot be written must not keep an
         * agent alive. */
        journal_kill(a, &asked);
        agent_event(a, AGENT_EV_KILL);
}

void death_overstayed(struct agent *a, const char *reason) {
        struct death asked = {.cause = CREW__CAUSE__CAUSE_CRASH, .initiator = "crewd"};

        if (!agent_state_live(a->state) || a->in.kill_sent || a->in.exited)
                return;
        text_copy(asked.reason, sizeof(asked.reason), reason, SIZE_MAX);
        a->in.overstayed = reason;
        journal_kill(a, &asked);
        agent_event(a, AGENT_EV_KILL);
}

void death_limit(struct agent *a, const char *limit, const char *reason) {
        if (!a->in.death.decided)
                a->in.death.limit = limit;
        death_kill(a, CREW__CAUSE__CAUSE_LIMIT, "crewd", reason);
}

static void end(struct agent *a, uint64_t grace_ms, Crew__Cause cause, const char *initiator, const char *reason) {
        if (grace_ms == 0)
                return death_kill(a, cause, initiator, reason);
        uint64_t by_ns = crew_now_ns() + grace_ms * 1000000u;
        if (a->in.kill_sent || (a->in.death.decided && by_ns >= a->in.stop_by_ns))
                return; /* it is ending already */
        death_decide(a, cause, initiator, reason);
        journal_stop(a, initiator, reason, grace_ms);
        a->in.stop_by_ns = by_ns;
        agent_event(a, AGENT_EV_STOP); /* the second time without an effect */
}

void death_stop(struct agent *a, uint64_t grace_ms, const char *initiator, const char *reason) {
        a->in.stopped = true;
        end(a, grace_ms, CREW__CAUSE__CAUSE_OPERATOR, initiator, reason);
}

void death_retire(struct agent *a, uint64_t grace_ms, const char *initiator, const char *reason) {
        a->in.stopped = true;
        /* What is frozen cannot be told, and must not run once more. */
        end(a, a->hold.on ? 0 : grace_ms, CREW__CAUSE__CAUSE_ORCHESTRATOR, initiator, reason);
}

void death_renew(struct agent *a, uint64_t grace_ms, const char *initiator, const char *reason) {
        a->restart_asked = true;
        end(a, grace_ms, CREW__CAUSE__CAUSE_OPERATOR, initiator, reason);
}

/* --- what it was --- */

static void name_call(const char *text, void *user) {
        struct termination *t = user;

        if (t->n_calls < AGENT_CALLS_NAMED_MAX)
                snprintf(t->calls[t->n_calls++], sizeof(t->calls[0]), "%s", text);
}

struct death_missed death_keep_outside(struct agent *a, const struct termination *t) {
        return (struct death_missed){.hook = !hooks_keep(a->crewd->hooks, a, t),
                                     .webhook = !webhook_keep(a->crewd->webhook, a, t)};
}

void death_sync_outside(struct crewd *c) {
        webhook_sync(c->webhook);
        hooks_sync(c->hooks);
}

void death_say_missed(struct agent *a, struct death_missed m) {
        if (m.hook)
                hooks_missed(a);
        if (m.webhook)
                webhook_missed(a);
}

void death_tell_outside(struct agent *a) {
        if (!a->untold || !a->last)
                return;
        a->untold = false;
        death_say_missed(a, death_keep_outside(a, a->last));
        death_sync_outside(a->crewd);
        hooks_run(a->crewd->hooks);
}

static struct termination *termination_of(struct agent *a) {
        death_tell_outside(a); /* the record of the death before is replaced */
        struct termination *t = a->last ? a->last : malloc(sizeof(*t));

        if (!t)
                return NULL;
        memset(t, 0, sizeof(*t));
        a->last = t;
        return t;
}

static void conclude(struct agent *a, const struct spawn_exit *x) {
        struct cause found = {.code = x->code, .signal = x->signal};
        struct termination *t;
        bool oom = usage_oom_at_end(a, x->oom_kills);

        if (a->in.overstayed && x->signal == SIGKILL && !oom)
                death_decide(a, CREW__CAUSE__CAUSE_CRASH, "crewd", a->in.overstayed);
        if (!a->in.death.decided) {
                cause_find(&a->in.told, x->code, x->signal, oom, &found);
                if (found.cause == CREW__CAUSE__CAUSE_OOM && !usage_by_group(a, USAGE_MEMORY))
                        found.initiator = "crewd"; /* not the kernel, which does not count there */
                death_decide(a, found.cause, found.initiator, found.reason);
                a->in.death.limit = found.limit;
        }
        usage_ended(a, &x->last);
        if ((t = termination_of(a))) {
                t->exit_code = found.code;
                t->signal = found.signal;
                t->processes = x->processes;
                t->kill_us = x->kill_ns / 1000u;
        }
        a->in.stats = x->last;
        agent_event(a, AGENT_EV_EXITED);
}

/* The spawner is often faster than the link, and the last frames say why it ended; after a stop in order, what it had
 * done by then. */
void death_on_exited(struct agent *a, const struct spawn_exit *x) {
        struct instance *in = &a->in;

        if (migrate_on_exited(a, x))
                return;
        if (in->kill_sent || !in->greeted || in->hung_up || in->cut)
                return conclude(a, x);
        in->exited = true;
        in->exit = *x;
        if (hold_is_on(a) && in->link) /* it has said all that it will, and is not read while it is frozen */
                link_pause(in->link, false);
        in->heard_by_ns = crew_now_ns() + HEAR_NS;
}

void death_heard_out(struct agent *a) {
        const struct spawn_exit x = a->in.exit;

        if (a->in.exited)
                conclude(a, &x);
}

void death_on_start_failed(struct agent *a, const char *reason) {
        death_decide(a, CREW__CAUSE__CAUSE_START_FAILED, "crewd", reason);
        struct termination *t = termination_of(a);
        if (t)
                t->exit_code = -1; /* nothing ran */
        agent_event(a, AGENT_EV_SPAWN_FAILED);
}

/* The same wherever and however often it is told, and no other's; also of another crewd's, unless the clock was set back.
 * Below 2^53: a hook may read it with a parser that has only doubles. */
static uint64_t new_id(struct crewd *c) {
        uint64_t id = (crew_realtime_ns() / 1000000u) << 8;

        c->last_termination_id = MAX_OF(id, c->last_termination_id + 1);
        return c->last_termination_id;
}

static void fill(struct agent *a, struct termination *t) {
        const struct job *j = scheduler_job_of(a->crewd->scheduler, a->index);

        t->id = new_id(a->crewd);
        t->incarnation = a->incarnation;
        t->death = a->in.death;
        if (t->death.cause == CREW__CAUSE__CAUSE_DEADLINE &&
            (j ? j->timeout_ns / 1000000u >= usage_max(a, USAGE_WALL_TIME) : a->ran_out))
                t->death.limit = usage_limit_names[USAGE_WALL_TIME];
        t->effects = a->in.effects;
        t->attempt = j ? j->attempt : 0;
        t->time_ms = crew_realtime_ns() / 1000000u;
        if (j)
                snprintf(t->task, sizeof(t->task), "%s", j->name);
        router_describe(a->crewd->router, a->index, name_call, t);
        toolgate_describe(a->crewd->tools, a->index, name_call, t);
        if (a->in.stderr_tail)
                text_copy(t->stderr_tail, sizeof(t->stderr_tail), a->in.stderr_tail, a->in.stderr_used);
}

/* --- what becomes of it --- */

/* A manager may waste tasks, not agents: one that ends because it did not stop in time for it is there again. */
static bool ended_by_its_manager(const struct agent *a) {
        const struct job *j = scheduler_job_of(a->crewd->scheduler, a->index);

        return j && j->by && j->stop != JOB_GOES_ON && a->in.death.cause == CREW__CAUSE__CAUSE_DEADLINE;
}

static enum supervision_why why_of(const struct agent *a) {
        if (a->in.stopped || a->on_trial)
                return SUPERVISION_RETIRED;
        if (a->in.death.together)
                return SUPERVISION_TOGETHER;
        if (a->in.death.cause == CREW__CAUSE__CAUSE_SUPERVISOR_SHUTDOWN)
                return SUPERVISION_RETIRED;
        if (a->in.death.cause == CREW__CAUSE__CAUSE_POLICY_VIOLATION)
                return SUPERVISION_VIOLATION;
        return a->restart_asked || ended_by_its_manager(a) ? SUPERVISION_ASKED : SUPERVISION_ACCIDENT;
}

static struct supervision_verdict judge(struct agent *a, struct termination *t) {
        const struct supervision_death d = {.why = why_of(a), .action = a->decl->on_terminated, .attempt = t->attempt};
        struct supervision_verdict v = supervision_decide(&a->crewd->supervision, &a->restart, &d, crew_now_ns());

        a->restart_asked = false;
        t->restartable = v.event == AGENT_EV_RESTART;
        const struct scheduler *s = a->crewd->scheduler;
        bool task_again = v.task_again && (!scheduler_job_of(s, a->index) || scheduler_would_go_on(s, a->index));
        t->action = t->restartable ? (task_again ? "reassign" : "restart")
                    : v.stop_crew  ? "stop_crew"
                    : v.gave_up    ? "give_up"
                                   : "fail_task";
        return v;
}

static void come_back(struct agent *a, const struct supervision_verdict *v) {
        uint64_t now = crew_now_ns();

        if (v->gave_up)
                crewd_log(a->crewd, "agent %s: more than %u restarts within %llu s, giving up", agent_name(a),
                          a->decl->restart_max, (unsigned long long)(a->decl->restart_within_ms / 1000u));
        if (v->event != AGENT_EV_RESTART)
                return;
        a->restart_at_ns = now + v->delay_ns;
        if (a->in.death.together)
                a->restart_at_ns = MAX_OF(now, a->crewd->together_at_ns);
        journal_restart(a, a->restart_at_ns - now);
        /* Not now: whoever else has just died is told of first. */
        a->prepare_at_ns = v->delay_ns > 0 ? now + v->delay_ns / 2 : 0;
}

/* Those that the strategy starts again with it; each comes here by its own death, and waits for the last of them. */
static void end_others(struct agent *a) {
        struct crewd *c = a->crewd;
        char why[200];

        snprintf(why, sizeof(why), "ended to be started again together with agent %s (%s)", agent_name(a),
                 crew_strategy_names[c->supervision.strategy]);
        c->together_at_ns = MAX_OF(c->together_at_ns, a->restart_at_ns);
        for (uint32_t i = 0; i < c->n_agents; i++) {
                struct agent *o = &c->agents[i];
                if (!supervision_ends(&c->supervision, a->decl->order, o->decl->order) || !agent_state_live(o->state) ||
                    o->in.death.decided)
                        continue;
                o->in.death.together = true;
                c->n_together++;
                death_kill(o, CREW__CAUSE__CAUSE_SUPERVISOR_SHUTDOWN, "crewd", why);
        }
}

static void end_crew(struct agent *a, const struct termination *t, const struct supervision_verdict *v) {
        const struct death *d = &t->death;
        char text[sizeof(d->reason) + 200];

        snprintf(text, sizeof(text), "agent %s terminated (%s: %s): %s", agent_name(a), cause_name(d->cause), d->reason,
                 v->why);
        crewd_give_up(a->crewd, text);
}

void death_tell(struct agent *a, const struct termination *t) {
        struct termination_message m;
        Crew__Event e = CREW__EVENT__INIT;

        death_message(a, t, &m);
        e.kind = (char *)"terminated";
        e.terminated = &m.pb;
        events_add(a->crewd->events, &e);
}

static void settle_everything(struct agent *a, enum sched_after after) {
        struct crewd *c = a->crewd;
        char why[sizeof(a->in.death.reason) + 64];

        snprintf(why, sizeof(why), "terminated (%s: %.400s)", cause_name(a->in.death.cause), a->in.death.reason);
        router_agent_gone(c->router, a->index, why);
        toolgate_agent_gone(c->tools, a->index);
        execs_agent_gone(c->execs, a->index, why);
        char text[sizeof(why) + 80];
        snprintf(text, sizeof(text), "agent %s %s", agent_name(a), why);
        bool had_task = scheduler_job_of(c->scheduler, a->index) != NULL;
        a->task_reassigned = scheduler_agent_gone(c->scheduler, a->index, after, text, crew_now_ns());
        if (had_task && after != SCHED_NOBODY) /* what became of it, not what would of any */
                after = a->task_reassigned ? SCHED_TASK_AGAIN : SCHED_ANOTHER;
        manager_agent_gone(c, a, after);
}

/* Forgets the instance, and says what is next. */
static void leave(struct agent *a, const struct supervision_verdict *v) {
        a->crewd->n_together -= a->in.death.together;
        checkpoint_forget(a->crewd->checkpoint, a->in.id);
        instance_clear(a);
        if (v->event != AGENT_EVENT_N)
                agent_event(a, v->event);
        else
                status_announce_agent(a);
}

/* --- the burial --- */

/* Into the outboxes, which must have it before the audit does: what is on record is missed by no hook. */
static void keep_for_outside(struct agent *a) {
        struct termination *t = a->dying.t;

        if (a->in.stderr_cut)
                journal_stderr(a, "agent", "", 0, a->in.stderr_cut);
        journal_flush(a);
        t->audit_seq = audit_seq(a->audit) + 1; /* what the record gets next */
        if (a->dying.planned)
                return;
        if (t == a->last && checkpoint_is_armed(a->crewd->checkpoint))
                a->untold = true; /* once the state that says so is down */
        else
                a->dying.missed = death_keep_outside(a, t);
}

static void tell(struct agent *a) {
        death_tell(a, a->dying.t);
        if (!a->dying.planned)
                manager_tell(a->crewd, a, a->dying.t);
}

static void follow(struct agent *a) {
        struct supervision_verdict v = a->dying.verdict;
        struct termination *t = a->dying.t;
        struct crewd *c = a->crewd;

        if (a->in.stopped) { /* perhaps by what followed from another */
                v.event = AGENT_EVENT_N;
                v.task_again = false;
        }
        come_back(a, &v);
        approvals_agent_gone(c, a);
        settle_everything(a, v.task_again ? SCHED_TASK_AGAIN : v.event == AGENT_EV_RESTART ? SCHED_ANOTHER : SCHED_NOBODY);
        leave(a, &v);
        requests_agent_dead(c, a, t);
        if (v.others)
                end_others(a);
        if (v.stop_crew)
                end_crew(a, t, &v);
        starters_look(a);
}

static void for_each_dying(struct agent *a, void (*fn)(struct agent *a)) {
        while (a) {
                struct agent *next = a->dying.next;
                fn(a);
                a = next;
        }
}

static void put_on_record(struct agent *a) {
        journal_terminated(a, a->dying.t);
        death_say_missed(a, a->dying.missed);
}

/* Step by step for all of them, not one after the other: who died last is told of before anything follows from who died
 * first, and one sync of the outbox is for all. */
void death_settle(struct crewd *c) {
        struct agent *first = crew_steal_ptr(&c->dying);

        if (!first)
                return;
        c->last_dying = NULL;
        webhook_wait(c->webhook);
        for_each_dying(first, keep_for_outside);
        death_sync_outside(c);
        for_each_dying(first, put_on_record);
        webhook_let_go(c->webhook);
        for_each_dying(first, tell);
        if (!c->checkpoint) /* else not before the state that says so is down */
                control_flush(c->control);
        hooks_run(c->hooks);
        for_each_dying(first, follow);
}

static void add_dying(struct agent *a, struct termination *t) {
        struct crewd *c = a->crewd;

        a->dying.next = NULL;
        a->dying.t = t;
        a->dying.missed = (struct death_missed){0};
        a->dying.planned = a->in.death.cause == CREW__CAUSE__CAUSE_SUPERVISOR_SHUTDOWN && !a->in.death.together;
        fill(a, t);
        a->dying.verdict = judge(a, t);
        *(c->last_dying ? &c->last_dying->dying.next : &c->dying) = a;
        c->last_dying = a;
}

/* Where one death is the end of others, those that have died by themselves are not to be taken for more of the same. */
static bool may_wait(const struct agent *a) {
        return a->crewd->deaths_together && a->last && a->crewd->supervision.strategy == CREW_ONE_FOR_ONE;
}

void death_bury(struct agent *a) {
        struct crewd *c = a->crewd;
        struct termination spare = {0};

        instance_cut(a);
        if (a->in.attested && evidence_forget(c->evidence, a->in.id) == 0) {
                a->forgetting = true;
                a->forget_by_ns = crew_now_ns() + FORGET_NS;
        }
        add_dying(a, a->last ? a->last : &spare); /* out of memory: the death is told all the same */
        if (!may_wait(a))
                death_settle(c);
}

void death_message(const struct agent *a, const struct termination *t, struct termination_message *out) {
        Crew__AgentTerminated *pb = &out->pb;

        crew__agent_terminated__init(pb);
        pb->id = t->id;
        pb->crew = (char *)a->crewd->file->name;
        pb->agent = (char *)agent_name(a);
        pb->incarnation = t->incarnation;
        pb->cause = t->death.cause;
        pb->exit_code = t->exit_code;
        pb->term_signal = t->signal;
        pb->initiator = (char *)t->death.initiator;
        pb->reason = (char *)t->death.reason;
        pb->limit = (char *)(t->death.limit ? t->death.limit : "");
        out->tasks[0] = (char *)t->task;
        pb->tasks_in_flight = out->tasks;
        pb->n_tasks_in_flight = t->task[0] ? 1 : 0;
        for (size_t i = 0; i < t->n_calls; i++)
                out->calls[i] = (char *)t->calls[i];
        pb->calls_in_flight = out->calls;
        pb->n_calls_in_flight = t->n_calls;
        pb->side_effects_possible = t->effects;
        pb->restartable = t->restartable;
        pb->attempt = t->attempt;
        pb->audit_seq = t->audit_seq;
        pb->stderr_tail = (char *)t->stderr_tail;
        pb->processes_killed = t->processes;
        pb->kill_us = t->kill_us;
        pb->time_ms = t->time_ms;
}
