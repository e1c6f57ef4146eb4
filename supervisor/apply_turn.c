/* SPDX-License-Identifier: Apache-2.0 */
/* One agent's part in an application: its instance ends gracefully, and the next one is as the file says. */
#include "apply_internal.h"

#include "common/plan.h"
#include "common/util.h"
#include "crewd.h"
#include "death.h"
#include "health.h"
#include "hold.h"
#include "scheduler.h"

#include <string.h>

#define SETTLE_NS 250000000ull

static bool is_up(const struct agent *a) {
        return (a->state == AGENT_READY || a->state == AGENT_WORKING) && !health_starting(a);
}

static bool is_down(const struct agent *a) {
        return a->state == AGENT_TERMINATED || a->state == AGENT_FAILED;
}

/* --- ending --- */

static void drain(struct apply *x, struct agent *a, uint64_t now_ns) {
        struct apply_agent *t = &x->agents[a->index];

        a->draining = true;
        t->by_ns = now_ns + x->grace_ns;
        t->turn = TURN_DRAINS;
}

/* Its task is over, or has had its time.  What somebody has frozen meanwhile is waited for: it is his to thaw or to kill.
 */
static bool is_drained(const struct apply *x, const struct agent *a) {
        if (!agent_state_live(a->state) || a->in.death.decided)
                return true;
        return !hold_is_on(a) &&
               (!scheduler_job_of(x->crewd->scheduler, a->index) || x->crewd->heard_ns >= x->agents[a->index].by_ns);
}

/* A task that has had its time is not asked again: what it would answer is that it was ended, and it is to be run again. */
static uint64_t grace_of(const struct apply *x, const struct agent *a) {
        return scheduler_job_of(x->crewd->scheduler, a->index) ? 0 : x->grace_ns / 1000000u;
}

static const char *reason_of(const struct apply *x) {
        return x->step == APPLY_UNDO_AGENTS ? "the changed crew file did not work out" : "the crew file has changed";
}

/* --- renewing --- */

static void await(struct apply *x, struct agent *a) {
        x->agents[a->index].turn = TURN_COMES;
        x->agents[a->index].by_ns = 0;
}

static bool by_somebody(const struct death *d) {
        return d->cause == CREW__CAUSE__CAUSE_OPERATOR || d->cause == CREW__CAUSE__CAUSE_ORCHESTRATOR;
}

/* The instance that was there when this began was ended by somebody else, and nothing follows it: so it is to be. */
static bool is_left(const struct apply *x, const struct agent *a) {
        return x->agents[a->index].left && is_down(a);
}

static void leave_it(struct apply *x, struct agent *a) {
        a->draining = a->on_trial = false;
        x->agents[a->index].lived = false;
        x->agents[a->index].turn = TURN_OVER;
}

static void begin_end(struct apply *x, struct agent *a, bool trial, uint64_t now_ns) {
        struct apply_agent *t = &x->agents[a->index];

        t->turn = TURN_ENDS;
        t->touched = true;
        if (!a->next) { /* it died, and came back as the file says, before its turn */
                await(x, a);
                a->on_trial = trial;
        } else if (agent_state_live(a->state)) {
                t->left = a->in.death.decided && by_somebody(&a->in.death) && x->step != APPLY_UNDO_AGENTS;
                if (!a->in.death.decided) /* else it ends as whoever ends it wants it to */
                        death_renew(a, grace_of(x, a), x->by, reason_of(x));
        } else if (t->lived && x->step != APPLY_UNDO_AGENTS && is_down(a) && a->last && by_somebody(&a->last->death)) {
                leave_it(x, a);
        } else {
                a->on_trial = trial;
                agent_start(a, now_ns);
        }
}

/* It is dead and its successor is not there yet, or is there already. */
static void go_on(struct apply *x, struct agent *a, bool trial, uint64_t now_ns) {
        if (!a->next) {
                await(x, a);
        } else if (is_left(x, a)) {
                leave_it(x, a);
        } else if (!agent_state_live(a->state)) {
                a->on_trial = trial;
                agent_start(a, now_ns);
        }
}

/* Long enough up to be believed: a program that lives as long as its agent may end as soon as it has begun. */
static bool is_settled(struct apply *x, const struct agent *a, uint64_t now_ns) {
        struct apply_agent *t = &x->agents[a->index];
        bool long_lived = a->decl->driver == PLAN_DRIVER_STDIO_RPC && a->decl->health.kind == CREW_HEALTH_NONE;

        if (t->by_ns == 0)
                t->by_ns = now_ns + (long_lived ? SETTLE_NS : 0);
        return !long_lived || x->crewd->heard_ns >= t->by_ns;
}

/* One that is not on trial is started again after a failure, by and by: nobody waits for that. */
static bool has_ended(const struct agent *a) {
        return is_down(a) || (a->state == AGENT_RESTARTING && !a->on_trial);
}

bool turn_come(struct apply *x, struct agent *a, uint64_t now_ns, char why[400]) {
        struct apply_agent *t = &x->agents[a->index];

        bool ended = has_ended(a);

        why[0] = '\0';
        if (t->turn == TURN_OVER)
                return true;
        if (!is_up(a))
                t->by_ns = 0; /* what is not up yet, or not any more, has no time running */
        if (!ended && !(is_up(a) && is_settled(x, a, now_ns)))
                return false;
        if (ended)
                snprintf(why, 400, "agent %s did not start: %.300s", agent_name(a),
                         a->start_error[0] ? a->start_error
                         : a->last         ? a->last->death.reason
                                           : "unknown");
        a->on_trial = a->draining = false;
        t->turn = TURN_OVER;
        return true;
}

bool turn_renew(struct apply *x, struct agent *a, const struct crew_file *to, bool trial, uint64_t now_ns, char why[400]) {
        struct apply_agent *t = &x->agents[a->index];

        why[0] = '\0';
        if (t->turn == TURN_WAITS) {
                a->next = to;
                drain(x, a, now_ns);
        }
        if (t->turn == TURN_DRAINS && is_drained(x, a))
                begin_end(x, a, trial, now_ns);
        if (t->turn == TURN_ENDS)
                go_on(x, a, trial, now_ns);
        return t->turn >= TURN_COMES && turn_come(x, a, now_ns, why);
}

/* --- for good --- */

bool turn_stop(struct apply *x, struct agent *a, uint64_t now_ns) {
        struct apply_agent *t = &x->agents[a->index];

        if (t->turn == TURN_WAITS)
                drain(x, a, now_ns);
        if (t->turn == TURN_DRAINS && is_drained(x, a)) {
                t->turn = TURN_ENDS;
                t->touched = true;
                if (agent_state_live(a->state) && !a->in.death.decided)
                        death_stop(a, grace_of(x, a), x->by, reason_of(x));
        }
        if (t->turn == TURN_ENDS && !agent_state_live(a->state)) {
                death_kill(a, CREW__CAUSE__CAUSE_OPERATOR, x->by, reason_of(x)); /* a restart that is due */
                a->draining = false;
                t->turn = TURN_OVER;
        }
        return t->turn == TURN_OVER;
}
