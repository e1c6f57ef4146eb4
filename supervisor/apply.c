/* SPDX-License-Identifier: Apache-2.0 */
/*
 *   starts -> reloads -> restarts -> (the file counts) -> stops -> idle
 *      |         |          |
 *      +---------+----------+--> undo reloads -> undo agents -> idle
 */
#include "apply.h"

#include "apply_internal.h"
#include "common/util.h"
#include "control.h"
#include "crewd.h"
#include "death.h"
#include "hold.h"
#include "reload.h"
#include "supervisor/policy/lock.h"
#include "text.h"

#include <errno.h>
#include <string.h>

#define GRACE_MAX_MS 3600000u

struct apply *apply_new(struct crewd *c) {
        struct apply *x = calloc(1, sizeof(*x));

        if (x)
                x->crewd = c;
        return x;
}

static void clear(struct apply *x) {
        crewplan_fini(&x->plan);
        free(crew_steal_ptr(&x->agents));
        free(crew_steal_ptr(&x->reloads));
        x->to = NULL;
        x->n = 0;
        x->reloaded = false;
        x->step = APPLY_IDLE;
        x->error[0] = '\0';
}

/* Everything that refers to a file is gone by now. */
struct apply *apply_free(struct apply *x) {
        if (!x)
                return NULL;
        clear(x);
        while (x->former) {
                struct former *f = x->former;
                x->former = f->next;
                crew_file_free(f->file);
                free(f);
        }
        free(x);
        return NULL;
}

bool apply_is_active(const struct apply *x) {
        return x->step != APPLY_IDLE;
}

struct crew_lock *apply_lock(const struct agent *a) {
        const struct crewd *c = a->crewd;

        return c->apply && a->file != c->file && a->file == c->apply->plan.to ? c->apply->plan.lock : c->lock;
}

/* --- the end --- */

static void log_end(const struct apply *x, bool done) {
        bool whole = true;

        for (size_t i = 0; i < x->n; i++) {
                if (x->agents[i].error[0])
                        crewd_log(x->crewd, "taking it back: %s", x->agents[i].error);
                whole &= !x->agents[i].error[0];
        }
        crewd_log(x->crewd, "crew file %s %s%s", x->plan.file,
                  done    ? "applied"
                  : whole ? "not applied, everything is as it was: "
                          : "not applied, and not everything is as it was: ",
                  done ? "" : x->error);
}

static void end(struct apply *x, Crew__ApplyOutcome outcome) {
        bool done = outcome == CREW__APPLY_OUTCOME__APPLY_DONE;

        apply_record(x, done ? NULL : x->error);
        log_end(x, done);
        apply_answer(x, outcome);
        if (x->plan.to) /* agents that were to come are still described by it */
                apply_keep(x, crew_steal_ptr(&x->plan.to));
        clear(x);
        apply_sweep(x);
}

void apply_crew_stops(struct apply *x) {
        if (!apply_is_active(x))
                return;
        control_refuse(x->crewd->control, x->client, x->corr, "stopping", "",
                       "the crew was stopped while its changed file was being applied");
        x->step = APPLY_IDLE; /* what agents refer to stays until they are gone */
}

/* --- taking it back --- */

static void undo_agents(struct apply *x) {
        struct crewd *c = x->crewd;

        x->step = APPLY_UNDO_AGENTS;
        for (uint32_t i = 0; i < c->n_agents && i < x->n; i++) {
                struct agent *a = &c->agents[i];
                struct apply_agent *t = &x->agents[i];
                a->on_trial = a->draining = false;
                a->next = NULL;
                t->turn = t->touched ? TURN_WAITS : TURN_OVER;
                if (t->effect == CREW_START)
                        a->gone = true;
        }
        crewd_progress(c);
}

/* What does not take its former policy again is started again by it. */
static void on_reload_undone(struct crewd *c, const char *error) {
        struct apply *x = c->apply;

        if (x->step != APPLY_UNDO_RELOADS)
                return; /* the crew is stopping */
        if (*error)
                crewd_log(c, "a policy could not be taken back from a running agent: %s", error);
        for (size_t i = 0; i < x->n && *error; i++)
                x->agents[i].touched |= x->reloads[i];
        undo_agents(x);
}

static void undo(struct apply *x, const char *why) {
        snprintf(x->error, sizeof(x->error), "%s", why);
        if (!x->reloaded)
                return undo_agents(x);
        x->step = APPLY_UNDO_RELOADS;
        reload_for_file(x->crewd->reload, x->crewd->file, x->reloads, x->by, on_reload_undone);
}

static void undo_state(struct apply *x, struct agent *a) {
        struct apply_agent *t = &x->agents[a->index];
        struct crew_err err = CREW_ERR_NULL;

        if (migrate_take_back(a, &err) < 0)
                snprintf(t->error, sizeof(t->error), "agent %s: its state directory stays migrated: %.250s", agent_name(a),
                         err.msg);
}

/* An agent that was dead before, and is not wanted alive, stays dead. */
static bool undo_agent(struct apply *x, struct agent *a, uint64_t now_ns) {
        char why[400];

        if (x->agents[a->index].turn == TURN_OVER)
                return true;
        if (a->gone || !x->agents[a->index].lived) {
                if (!turn_stop(x, a, now_ns))
                        return false;
                undo_state(x, a);
                if (!a->gone)
                        agent_take_file(a, x->crewd->file);
                return true;
        }
        if (!turn_renew(x, a, x->crewd->file, false, now_ns, why))
                return false;
        text_copy(x->agents[a->index].error, sizeof(x->agents[a->index].error), why, SIZE_MAX);
        return true;
}

static void undo_step(struct apply *x, uint64_t now_ns) {
        bool over = true;

        for (uint32_t i = 0; i < x->crewd->n_agents && i < x->n; i++)
                over &= undo_agent(x, &x->crewd->agents[i], now_ns);
        if (over)
                end(x, CREW__APPLY_OUTCOME__APPLY_UNDONE);
}

/* --- stops --- */

static void stops(struct apply *x, uint64_t now_ns) {
        bool over = true;

        for (uint32_t i = 0; i < x->n; i++) {
                if (x->agents[i].effect == CREW_STOP)
                        over &= turn_stop(x, &x->crewd->agents[i], now_ns);
        }
        if (over)
                end(x, CREW__APPLY_OUTCOME__APPLY_DONE);
}

/* --- restarts --- */

static void count(struct apply *x) {
        if (apply_commit(x) < 0)
                return undo(x, "out of memory");
        x->step = APPLY_STOPS;
}

/* One at a time: the others work meanwhile. */
static void restarts(struct apply *x, uint64_t now_ns) {
        char why[400];

        for (uint32_t i = 0; i < x->n; i++) {
                struct agent *a = &x->crewd->agents[i];
                if (x->agents[i].effect != CREW_RESTART || x->agents[i].turn == TURN_OVER || a->state == AGENT_POLICY_ONLY)
                        continue;
                if (!turn_renew(x, a, x->to, true, now_ns, why))
                        return;
                if (*why)
                        return undo(x, why);
        }
        count(x);
}

/* --- reloads --- */

static void on_reloaded(struct crewd *c, const char *error) {
        struct apply *x = c->apply;

        if (x->step != APPLY_RELOADS)
                return; /* the crew is stopping */
        x->reloaded = true;
        if (*error)
                return undo(x, error);
        x->step = APPLY_RESTARTS;
        crewd_progress(c);
}

static void reloads(struct apply *x) {
        struct crewd *c = x->crewd;

        if (reload_is_active(c->reload))
                return; /* under way, maybe this one */
        for (uint32_t i = 0; i < x->n; i++)
                x->reloads[i] = i < c->n_agents && x->agents[i].effect == CREW_RELOAD && x->plan.agents[i].network &&
                                agent_state_live(c->agents[i].state);
        reload_for_file(c->reload, x->to, x->reloads, x->by, on_reloaded);
}

/* --- starts --- */

static int add_agent(struct apply *x, uint32_t place, uint64_t now_ns, struct crew_err *err) {
        struct crewd *c = x->crewd;
        struct agent *a = &c->agents[place];

        if (place >= c->n_agents) {
                int r = agent_init(a, c, x->to, place, err);
                if (r < 0) {
                        agent_fini(a);
                        return r;
                }
                c->n_agents = place + 1;
        } else {
                agent_take_file(a, x->to);
                a->gone = false;
        }
        x->agents[place].touched = true;
        a->on_trial = true;
        x->agents[place].turn = TURN_COMES;
        if (a->state != AGENT_POLICY_ONLY)
                agent_start(a, now_ns);
        return 0;
}

static void add_agents(struct apply *x, uint64_t now_ns) {
        struct crew_err err = CREW_ERR_NULL;
        char why[400];

        for (uint32_t i = 0; i < x->n; i++) {
                if (x->agents[i].effect != CREW_START || add_agent(x, i, now_ns, &err) == 0)
                        continue;
                snprintf(why, sizeof(why), "agent %s did not start: %.300s", x->to->agents[i].name, err.msg);
                return undo(x, why);
        }
}

static void starts(struct apply *x, uint64_t now_ns) {
        bool all = true;
        char why[400];

        for (uint32_t i = 0; i < x->n; i++) {
                struct agent *a = &x->crewd->agents[i];
                if (x->agents[i].effect != CREW_START || a->state == AGENT_POLICY_ONLY)
                        continue;
                bool over = turn_come(x, a, now_ns, why);
                if (over && *why)
                        return undo(x, why);
                all &= over;
        }
        if (all)
                x->step = APPLY_RELOADS;
}

/* --- going on --- */

void apply_poke(struct apply *x, uint64_t now_ns) {
        enum apply_step before;

        do {
                before = x->step;
                switch (x->step) {
                case APPLY_IDLE:
                case APPLY_UNDO_RELOADS:
                        break;
                case APPLY_STARTS:
                        starts(x, now_ns);
                        break;
                case APPLY_RELOADS:
                        reloads(x);
                        break;
                case APPLY_RESTARTS:
                        restarts(x, now_ns);
                        break;
                case APPLY_STOPS:
                        stops(x, now_ns);
                        break;
                case APPLY_UNDO_AGENTS:
                        undo_step(x, now_ns);
                        break;
                }
        } while (x->step != before);
}

uint64_t apply_next_deadline(const struct apply *x) {
        uint64_t next = UINT64_MAX;

        for (size_t i = 0; apply_is_active(x) && i < x->n; i++) {
                const struct apply_agent *t = &x->agents[i];
                bool runs = t->turn == TURN_COMES || (t->turn == TURN_DRAINS && !hold_is_on(&x->crewd->agents[i]));
                if (runs && t->by_ns)
                        next = MIN_OF(next, t->by_ns);
        }
        return next;
}

void apply_expire(struct apply *x, uint64_t now_ns) {
        if (now_ns >= apply_next_deadline(x))
                crewd_progress(x->crewd);
}

/* --- the beginning --- */

static void put_digest(const struct policy_image *p, char hex[CREW_SHA256_HEX]) {
        if (p)
                crew_hex(policy_image_sha256(p), CREW_SHA256_BYTES, hex);
}

static int take_plan(struct apply *x) {
        struct crewd *c = x->crewd;

        x->to = x->plan.to;
        x->n = x->to->n_agents;
        x->agents = calloc(MAX_OF(x->n, (size_t)1), sizeof(*x->agents));
        x->reloads = calloc(MAX_OF(x->n, (size_t)1), sizeof(*x->reloads));
        if (!x->agents || !x->reloads)
                return -ENOMEM;
        for (size_t i = 0; i < x->n; i++) {
                struct apply_agent *t = &x->agents[i];
                t->effect = x->plan.agents[i].effect;
                t->lived = i < c->n_agents && (agent_state_live(c->agents[i].state) || agent_coming(&c->agents[i]));
                if (i < c->n_agents && !c->agents[i].gone)
                        put_digest(c->agents[i].decl->policy, t->old_hex);
                put_digest(x->to->agents[i].policy, t->new_hex);
        }
        return 0;
}

/* An agent that is to end, and stands still. */
static const struct agent *frozen_one(const struct crewd *c, const struct crewplan *p) {
        for (uint32_t i = 0; i < c->n_agents && i < p->to->n_agents; i++) {
                enum crew_effect e = p->agents[i].effect;
                if ((e == CREW_RESTART || e == CREW_STOP) && hold_is_on(&c->agents[i]))
                        return &c->agents[i];
        }
        return NULL;
}

/* What an answer, and no application, follows from.  True: answered. */
static bool settle(struct apply *x, const Crew__ApplyCrew *b, int r, const struct crew_err *err) {
        struct control *k = x->crewd->control;
        const struct agent *a;

        if (r == -EINVAL)
                apply_answer(x, CREW__APPLY_OUTCOME__APPLY_INVALID);
        else if (r < 0)
                control_refuse(k, x->client, x->corr, "failed", "", "%s", err->msg);
        else if (*b->plan && strcmp(b->plan, x->plan.digest) != 0)
                control_refuse(k, x->client, x->corr, "stale", "crewctl plan shows what it would do now",
                               "the plan has changed since it was shown: nothing was done");
        else if (x->plan.effect == CREW_WHOLE)
                control_refuse(k, x->client, x->corr, "whole-crew",
                               "crewctl up --restart CREW.yaml stops and starts the crew",
                               "some of the changes need the whole crew to be started again: nothing was done");
        else if (x->plan.effect == CREW_UNCHANGED)
                apply_answer(x, CREW__APPLY_OUTCOME__APPLY_NOTHING);
        else if ((a = frozen_one(x->crewd, &x->plan)))
                control_refuse(k, x->client, x->corr, "busy", "crewctl thaw, or kill it",
                               "agent %s is frozen: nothing was done", agent_name(a));
        else
                return false;
        return true;
}

static bool may_begin(struct crewd *c, uint64_t client, const Crew__Envelope *e) {
        const char *file = e->apply_crew->file;

        if (c->phase != CREWD_RUNNING)
                control_refuse(c->control, client, e->seq, c->phase == CREWD_STARTING ? "busy" : "stopping", "",
                               "the crew is %s", c->phase == CREWD_STARTING ? "still starting" : "stopping");
        else if (apply_is_active(c->apply) || reload_is_active(c->reload))
                control_refuse(c->control, client, e->seq, "busy", "", "%s",
                               apply_is_active(c->apply) ? "a changed crew file is being applied already"
                                                         : "policies are being reloaded");
        else if (*file && file[0] != '/')
                control_refuse(c->control, client, e->seq, "bad-frame", "", "the file's path must be absolute");
        else
                return true;
        return false;
}

void apply_begin(struct crewd *c, uint64_t client, const Crew__Envelope *e) {
        const Crew__ApplyCrew *b = e->apply_crew;
        struct apply *x = c->apply;
        struct crew_err err = CREW_ERR_NULL;

        if (!may_begin(c, client, e))
                return;
        x->client = client;
        x->corr = e->seq;
        x->began_ns = crew_now_ns();
        x->grace_ns = MIN_OF(b->grace_ms, GRACE_MAX_MS) * 1000000u;
        snprintf(x->by, sizeof(x->by), "%s", control_client_name(c->control, client));
        int r = crewplan_make(c, b->file, b->locked, &x->plan, &err);
        if (settle(x, b, r, &err))
                return clear(x);
        if (take_plan(x) < 0) {
                control_refuse(c->control, client, e->seq, "failed", "", "out of memory");
                return clear(x);
        }
        x->step = APPLY_STARTS;
        add_agents(x, x->began_ns);
        crewd_progress(c);
}
