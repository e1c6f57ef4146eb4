/* SPDX-License-Identifier: Apache-2.0 */
/* Kill, burial, restart.  Order is the contract; see death.h. */
#include "death.h"

#include "approvals.h"
#include "common/util.h"
#include "crewd.h"
#include "events.h"
#include "evidence_client.h"
#include "execs.h"
#include "hooks.h"
#include "instance.h"
#include "journal.h"
#include "manager.h"
#include "requests.h"
#include "router.h"
#include "scheduler.h"
#include "status.h"
#include "text.h"
#include "toolgate.h"

#include <assert.h>
#include <signal.h>
#include <string.h>

#define FORGET_NS 1000000000ull /* how long evidence of a dead instance may still come in */

static const char *const cause_names[] = {
        [CREW__CAUSE__CAUSE_UNSET] = "unknown",
        [CREW__CAUSE__CAUSE_OPERATOR] = "operator",
        [CREW__CAUSE__CAUSE_ORCHESTRATOR] = "orchestrator",
        [CREW__CAUSE__CAUSE_POLICY_VIOLATION] = "policy violation",
        [CREW__CAUSE__CAUSE_SIGSYS] = "forbidden system call",
        [CREW__CAUSE__CAUSE_OOM] = "out of memory",
        [CREW__CAUSE__CAUSE_DEADLINE] = "deadline",
        [CREW__CAUSE__CAUSE_LIMIT] = "limit",
        [CREW__CAUSE__CAUSE_CRASH] = "crash",
        [CREW__CAUSE__CAUSE_EXIT] = "exit",
        [CREW__CAUSE__CAUSE_HEARTBEAT] = "heartbeat lost",
        [CREW__CAUSE__CAUSE_SUPERVISOR_SHUTDOWN] = "supervisor shutdown",
        [CREW__CAUSE__CAUSE_START_FAILED] = "start failed",
        [CREW__CAUSE__CAUSE_HEALTH] = "unhealthy",
};
static_assert(ELEMENTSOF(cause_names) == CREW__CAUSE__CAUSE_HEALTH + 1, "a name for each cause");

const char *death_cause_name(Crew__Cause cause) {
        return (size_t)cause < ELEMENTSOF(cause_names) ? cause_names[cause] : cause_names[0];
}

void death_decide(struct agent *a, Crew__Cause cause, const char *initiator, const char *reason) {
        struct death *d = &a->in.death;

        if (d->decided)
                return;
        d->decided = true;
        d->cause = cause;
        text_copy(d->initiator, sizeof(d->initiator), initiator, SIZE_MAX);
        text_copy(d->reason, sizeof(d->reason), reason, SIZE_MAX);
}

void death_kill(struct agent *a, Crew__Cause cause, const char *initiator, const char *reason) {
        if (a->state == AGENT_RESTARTING) {
                agent_event(a, AGENT_EV_KILL);
                return;
        }
        if (!agent_state_live(a->state) || a->in.kill_sent)
                return;
        death_decide(a, cause, initiator, reason);
        /* A stream that cannot be written must not keep an agent alive. */
        journal_kill(a, &a->in.death);
        agent_event(a, AGENT_EV_KILL);
}

void death_stop(struct agent *a, uint64_t grace_ms, const char *initiator, const char *reason) {
        a->in.stopped = true;
        if (grace_ms == 0)
                return death_kill(a, CREW__CAUSE__CAUSE_OPERATOR, initiator, reason);
        if (a->in.death.decided || a->in.kill_sent)
                return; /* it is ending already */
        death_decide(a, CREW__CAUSE__CAUSE_OPERATOR, initiator, reason);
        journal_stop(a, grace_ms);
        a->in.stop_by_ns = crew_now_ns() + grace_ms * 1000000u;
        agent_event(a, AGENT_EV_STOP);
}

/* --- what it was --- */

static void infer_cause(struct agent *a, const struct spawn_exit *x) {
        char text[96];

        if (x->signal == SIGSYS) {
                death_decide(a, CREW__CAUSE__CAUSE_SIGSYS, "kernel", "a forbidden system call");
        } else if (x->oom_kills > 0) {
                death_decide(a, CREW__CAUSE__CAUSE_OOM, "kernel", "the memory limit was hit");
        } else if (x->signal) {
                snprintf(text, sizeof(text), "the worker died of signal %d (%s)", x->signal, sigdescr_np(x->signal) ?: "?");
                death_decide(a, CREW__CAUSE__CAUSE_CRASH, "kernel", text);
        } else {
                snprintf(text, sizeof(text), "exited by itself with code %d", x->code);
                death_decide(a, CREW__CAUSE__CAUSE_EXIT, "agent", text);
        }
}

static void name_call(const char *text, void *user) {
        struct termination *t = user;

        if (t->n_calls < AGENT_CALLS_NAMED_MAX)
                snprintf(t->calls[t->n_calls++], sizeof(t->calls[0]), "%s", text);
}

static struct termination *termination_of(struct agent *a) {
        /* The record of the death before is replaced: it has been told. */
        struct termination *t = a->last ? a->last : malloc(sizeof(*t));

        if (!t)
                return NULL;
        memset(t, 0, sizeof(*t));
        a->last = t;
        return t;
}

void death_on_exited(struct agent *a, const struct spawn_exit *x) {
        struct termination *t;

        infer_cause(a, x);
        if ((t = termination_of(a))) {
                t->exit_code = x->code;
                t->signal = x->signal;
                t->processes = x->processes;
                t->kill_us = x->kill_ns / 1000u;
        }
        a->in.stats = x->last;
        agent_event(a, AGENT_EV_EXITED);
}

void death_on_start_failed(struct agent *a, const char *reason) {
        death_decide(a, CREW__CAUSE__CAUSE_START_FAILED, "crewd", reason);
        struct termination *t = termination_of(a);
        if (t)
                t->exit_code = -1; /* nothing ran */
        agent_event(a, AGENT_EV_SPAWN_FAILED);
}

static void fill(struct agent *a, struct termination *t) {
        const struct job *j = scheduler_job_of(a->crewd->scheduler, a->index);

        t->id = (uint64_t)a->in.id << 20 | (crew_realtime_ns() / 1000000000u & 0xfffff);
        t->incarnation = a->incarnation;
        t->death = a->in.death;
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

/* A worker that broke the protocol gets no second go; a planned end needs none. */
static bool may_return(struct agent *a) {
        enum crewd_phase phase = a->crewd->phase;
        Crew__Cause cause = a->in.death.cause;

        return phase == CREWD_RUNNING && !a->in.stopped && cause != CREW__CAUSE__CAUSE_POLICY_VIOLATION &&
               cause != CREW__CAUSE__CAUSE_SUPERVISOR_SHUTDOWN;
}

static bool schedule_restart(struct agent *a) {
        uint64_t now = crew_now_ns(), delay;
        bool asked = a->restart_asked;

        a->restart_asked = false;
        if (!may_return(a))
                return false;
        if (asked) {
                a->restart_at_ns = now;
                journal_restart(a, 0);
                return true;
        }
        switch (restart_decide(&a->restart, now, &delay)) {
        case RESTART_AFTER:
                a->restart_at_ns = now + delay;
                journal_restart(a, delay);
                instance_plan_ahead(a);
                return true;
        case RESTART_GIVE_UP:
                crewd_log(a->crewd, "agent %s: more than %u restarts within %llu s, giving up", agent_name(a),
                          a->decl->restart_max, (unsigned long long)(a->decl->restart_within_ms / 1000u));
                return false;
        case RESTART_NEVER:
                return false;
        }
        return false;
}

static void tell_clients(struct agent *a, const struct termination *t) {
        struct termination_message m;
        Crew__Event e = CREW__EVENT__INIT;

        death_message(a, t, &m);
        e.kind = (char *)"terminated";
        e.terminated = &m.pb;
        events_add(a->crewd->events, &e);
}

static void settle_everything(struct agent *a, bool again) {
        struct crewd *c = a->crewd;
        char why[sizeof(a->in.death.reason) + 64];

        snprintf(why, sizeof(why), "terminated (%s: %.400s)", death_cause_name(a->in.death.cause), a->in.death.reason);
        router_agent_gone(c->router, a->index, why);
        toolgate_agent_gone(c->tools, a->index);
        execs_agent_gone(c->execs, a->index, why);
        char text[sizeof(why) + 80];
        snprintf(text, sizeof(text), "agent %s %s", agent_name(a), why);
        a->task_reassigned = scheduler_agent_gone(c->scheduler, a->index, again, text, crew_now_ns());
        manager_agent_gone(c, a, again);
}

void death_bury(struct agent *a) {
        struct crewd *c = a->crewd;
        bool again;
        struct termination spare = {0}, *t;

        instance_cut(a);
        if (a->in.attested && evidence_forget(c->evidence, a->in.id) == 0) {
                a->forgetting = true;
                a->forget_by_ns = crew_now_ns() + FORGET_NS;
        }
        t = a->last ? a->last : &spare; /* out of memory: the death is told all the same */
        fill(a, t);
        again = may_return(a) && (a->restart_asked || restart_possible(&a->restart, crew_now_ns()));
        t->restartable = again;
        if (a->in.stderr_cut)
                journal_stderr(a, "agent", "", 0, a->in.stderr_cut);
        journal_flush(a);
        journal_terminated(a, t);
        tell_clients(a, t);
        again = schedule_restart(a);
        approvals_agent_gone(c, a);
        settle_everything(a, again);
        bool planned = t->death.cause == CREW__CAUSE__CAUSE_SUPERVISOR_SHUTDOWN, stopped = a->in.stopped;
        instance_clear(a);
        if (again)
                agent_event(a, AGENT_EV_RESTART);
        else if (restart_wanted(&a->restart) && !planned && !stopped)
                agent_event(a, AGENT_EV_GIVE_UP);
        else
                status_announce_agent(a);
        requests_agent_dead(c, a, t);
        if (!planned)
                hooks_terminated(c->hooks, a, t);
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
