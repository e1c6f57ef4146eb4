/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Further instances of an agent, at the manager's word.  Each has its place from the start (policy/crew_instances.c), so
 * what a manager can have is what the crew file says, however it asks; a place is free when nothing is in it or on its way.
 * An instance is as its agent's policy is at that moment, and ends when it is retired, when it had nothing to do for its
 * time, or when its manager is gone for good.
 */
#include "manager_internal.h"

#include "apply.h"
#include "common/util.h"
#include "crewd.h"
#include "death.h"
#include "journal.h"
#include "jsontext.h"
#include "scheduler.h"

#include <string.h>

#define IDLE_NS 300000000000ull
#define RETIRE_GRACE_MS 3000u

static bool is_of(const struct agent *a, const struct crew_agent *decl) {
        return a->decl->instance && &a->crewd->file->agents[a->decl->instance_of] == decl;
}

/* The agent it names, or NULL after answering. */
static const struct crew_agent *base_of(const struct order *o, const char *name) {
        const struct crew_file *f = o->m->crewd->file;
        const struct crew_agent *decl = crew_find_agent(f, name);
        char rule[PATH_MAX + 32], text[160];

        if (!decl || decl->instance) {
                manager_deny_text(o, CALL_BAD_ARGUMENTS, "no agent '%s' in crew %s", name, f->name);
                return NULL;
        }
        if (decl->max_instances > 1)
                return decl;
        snprintf(rule, sizeof(rule), "%.600s:%u", f->path, decl->mark.line);
        snprintf(text, sizeof(text), "agent '%s' has no max_instances: there is one of it", name);
        manager_deny(o, CALL_DENIED, &(struct journal_order){.to = name, .rule = rule, .reason = text});
        return NULL;
}

static struct agent *place_for(const struct order *o, const struct crew_agent *decl) {
        struct crewd *c = o->m->crewd;
        char rule[PATH_MAX + 32], text[160];

        for (uint32_t i = 0; i < c->n_agents; i++) {
                if (is_of(&c->agents[i], decl) && !agent_present(&c->agents[i]))
                        return &c->agents[i];
        }
        snprintf(rule, sizeof(rule), "%.600s:%u", c->file->path, decl->max_instances_mark.line);
        snprintf(text, sizeof(text), "there are %u of agent '%s', which is max_instances", decl->max_instances, decl->name);
        manager_deny(o, CALL_QUEUE_FULL, &(struct journal_order){.to = decl->name, .rule = rule, .reason = text});
        return NULL;
}

/* As its first is now, which may have been reloaded; and with all its restarts. */
static void renew(struct agent *a) {
        struct crew_file *f = a->crewd->file;
        struct crew_agent *decl = &f->agents[a->index];

        policy_image_free(decl->policy);
        decl->policy = policy_image_ref(f->agents[decl->instance_of].policy);
        restart_init(&a->restart, decl->restart_max, decl->restart_within_ms * 1000000u,
                     crew_realtime_ns() ^ (uint64_t)a->index << 40);
}

static void start(struct agent *a) {
        renew(a);
        if (a->state == AGENT_DECLARED) {
                agent_event(a, AGENT_EV_START);
                return;
        }
        a->restart_at_ns = crew_now_ns();
        agent_event(a, AGENT_EV_RESTART);
}

static void answer(const struct order *o, const struct agent *a) {
        struct json_text j = JSON_TEXT(MANAGER_ANSWER_MAX);

        manager_put_agent(&j, a);
        manager_send_json(o->a, o->e->seq, &j);
}

void manager_on_spawn(const struct order *o) {
        const Crew__SpawnInstance *b = o->e->spawn_instance;
        const struct crew_agent *decl;
        struct agent *a;

        if (!manager_permitted(o, b->agent) || !(decl = base_of(o, b->agent)))
                return;
        if (o->m->crewd->phase != CREWD_RUNNING && o->m->crewd->phase != CREWD_STARTING)
                return manager_deny_text(o, CALL_TERMINATED, "the crew is stopping");
        if (apply_is_active(o->m->crewd->apply))
                return manager_deny_text(o, CALL_QUEUE_FULL, "the crew file is being changed: try again in a moment");
        if (rate_exceeded_by(&o->m->spawns, crew_now_ns()))
                return manager_deny_text(o, CALL_QUEUE_FULL, "more than %u instances were asked for within a minute",
                                         RATE_MAX);
        if (!(a = place_for(o, decl)))
                return;
        if (journal_order(o->a, crew_verbs[o->verb].name, &(struct journal_order){.to = agent_name(a)}) < 0)
                return manager_no_audit(o);
        a->idle_max_ns = b->idle_ms ? b->idle_ms * 1000000u : IDLE_NS;
        start(a);
        answer(o, a);
}

static void retire(struct agent *a, const char *initiator, const char *reason) {
        if (agent_state_live(a->state))
                death_retire(a, RETIRE_GRACE_MS, initiator, reason);
        else if (a->state == AGENT_RESTARTING)
                agent_event(a, AGENT_EV_KILL); /* it is not coming */
        else if (a->in.id)
                a->in.stopped = true; /* it died in the same moment, and nothing has followed from that yet (death.c) */
}

void manager_on_retire(const struct order *o) {
        const Crew__RetireInstance *b = o->e->retire_instance;
        struct agent *a;

        if (!manager_permitted(o, b->agent))
                return;
        a = crewd_agent_by_name(o->m->crewd, b->agent);
        if (!a || !a->decl->instance)
                return manager_deny_text(o, CALL_BAD_ARGUMENTS, "'%s' is no instance that was started by this manager",
                                         b->agent);
        if (journal_order(o->a, crew_verbs[o->verb].name,
                          &(struct journal_order){.to = b->agent, .reason = *b->reason ? b->reason : NULL}) < 0)
                return manager_no_audit(o);
        retire(a, agent_name(o->a), *b->reason ? b->reason : "retired by its manager");
        answer(o, a);
}

/* --- by themselves --- */

/* When this one will have had nothing to do for its time; UINT64_MAX: it has, or is no further instance. */
static uint64_t idle_until(const struct agent *a) {
        if (!a->decl->instance || a->state != AGENT_READY || a->in.death.decided ||
            scheduler_queued(a->crewd->scheduler, a->index) > 0)
                return UINT64_MAX;
        return a->in.idle_ns + a->idle_max_ns;
}

void manager_instances_expire(struct manager *m, uint64_t now_ns) {
        char text[96];

        for (uint32_t i = 0; i < m->crewd->n_agents; i++) {
                struct agent *a = &m->crewd->agents[i];
                if (now_ns < idle_until(a))
                        continue;
                snprintf(text, sizeof(text), "had nothing to do for %.1f s", (double)a->idle_max_ns / 1e9);
                retire(a, "crewd", text);
        }
}

uint64_t manager_instances_next(const struct manager *m) {
        uint64_t next = UINT64_MAX;

        for (uint32_t i = 0; i < m->crewd->n_agents; i++)
                next = MIN_OF(next, idle_until(&m->crewd->agents[i]));
        return next;
}

void manager_instances_end(struct crewd *c, const char *reason) {
        for (uint32_t i = 0; i < c->n_agents; i++) {
                if (c->agents[i].decl->instance)
                        retire(&c->agents[i], "crewd", reason);
        }
}
