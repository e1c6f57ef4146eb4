/* SPDX-License-Identifier: Apache-2.0 */
/* What a crew file says about deaths: `defaults`, `supervision`, and of each agent `restart` and `on_agent_terminated`. */
#include "common/util.h"
#include "crew_draft.h"

#include <assert.h>
#include <stddef.h>

#define DAY_MS (24ull * 3600 * 1000)

const char *const crew_death_names[] = {
        [CREW_DEATH_FAIL_TASK] = "fail_task",
        [CREW_DEATH_REASSIGN] = "reassign",
        [CREW_DEATH_RESTART] = "restart",
        [CREW_DEATH_STOP_CREW] = "stop_crew",
};
static_assert(ELEMENTSOF(crew_death_names) == CREW_DEATH_N, "a name for each action");

const char *const crew_strategy_names[] = {
        [CREW_ONE_FOR_ONE] = "one_for_one",
        [CREW_REST_FOR_ONE] = "rest_for_one",
        [CREW_ONE_FOR_ALL] = "one_for_all",
};
static_assert(ELEMENTSOF(crew_strategy_names) == CREW_STRATEGY_N, "a name for each strategy");

static const struct bind_names actions = {crew_death_names, CREW_DEATH_N};
static const struct bind_names strategies = {crew_strategy_names, CREW_STRATEGY_N};

/* --- of an agent --- */

static const struct bind_field restart_fields[] = {
        {"max", bind_u32, offsetof(struct crew_agent, restart_max), .required = true, .min = 0, .max = CREW_RESTART_MAX},
        {"within", bind_duration, offsetof(struct crew_agent, restart_within_ms), .min = 1000, .max = DAY_MS},
};
static const struct bind_table restart_table = {"under restart", restart_fields, ELEMENTSOF(restart_fields)};

int crew_bind_restart(struct bind *b, const struct node *v, struct crew_agent *a, struct agent_draft *d) {
        d->restart = v;
        return bind_map(b, v, &restart_table, a);
}

int crew_bind_on_terminated(struct bind *b, const struct node *v, const struct bind_field *f, struct crew_agent *a,
                            struct agent_draft *d) {
        const struct bind_field of = {f->key, .arg = &actions};
        uint32_t choice = CREW_DEATH_FAIL_TASK;
        int r = bind_enum(b, v, &of, &choice);

        d->on_terminated = v;
        a->on_terminated = (enum crew_death)choice;
        return r;
}

/* --- of the crew --- */

static const struct bind_field default_fields[] = {
        {"on_agent_terminated", bind_enum, offsetof(struct crew_draft, default_action), .required = true, .arg = &actions},
};
static const struct bind_table default_table = {"under defaults", default_fields, ELEMENTSOF(default_fields)};

int crew_bind_defaults(struct bind *b, const struct node *v, const struct bind_field *f, void *out) {
        struct crew_draft *d = out;

        (void)f;
        d->default_on_terminated = v;
        return bind_map(b, v, &default_table, d);
}

struct supervision_out {
        uint32_t strategy, intensity;
        uint64_t period_ms;
        const struct node *intensity_at, *period_at;
};

static int supervision_intensity(struct bind *b, const struct node *v, const struct bind_field *f, void *out) {
        struct supervision_out *o = out;

        o->intensity_at = v;
        return bind_u32(b, v, f, &o->intensity);
}

static int supervision_period(struct bind *b, const struct node *v, const struct bind_field *f, void *out) {
        struct supervision_out *o = out;

        o->period_at = v;
        return bind_duration(b, v, f, &o->period_ms);
}

static const struct bind_field supervision_fields[] = {
        {"strategy", bind_enum, offsetof(struct supervision_out, strategy), .arg = &strategies},
        {"intensity", supervision_intensity, .min = 0, .max = CREW_RESTART_MAX},
        {"period", supervision_period, .min = 1000, .max = DAY_MS},
};
static const struct bind_table supervision_table = {"under supervision", supervision_fields,
                                                    ELEMENTSOF(supervision_fields)};

int crew_bind_supervision(struct bind *b, const struct node *v, const struct bind_field *f, void *out) {
        struct crew_draft *d = out;
        struct supervision_out o = {.period_ms = CREW_RESTART_WITHIN_MS};
        int r = bind_map(b, v, &supervision_table, &o);

        (void)f;
        if (o.period_at && !o.intensity_at)
                bind_error(b, o.period_at->key, "add intensity: N", "'period' without 'intensity' limits nothing");
        d->supervision = v;
        d->c->supervision = (struct crew_supervision){.strategy = (enum crew_strategy)o.strategy,
                                                      .limited = o.intensity_at != NULL,
                                                      .intensity = o.intensity,
                                                      .period_ms = o.period_ms};
        return r;
}

/* --- together --- */

static bool starts_again(enum crew_death action) {
        return action == CREW_DEATH_RESTART || action == CREW_DEATH_REASSIGN;
}

/* `restart` alone is older than `on_agent_terminated` and means what it always meant: a new instance goes on. */
static enum crew_death implied(const struct crew_agent *a, const struct agent_draft *ad, enum crew_death by_default) {
        if (!ad->restart)
                return by_default;
        if (a->restart_max > 0)
                return starts_again(by_default) ? by_default : CREW_DEATH_REASSIGN;
        return starts_again(by_default) ? CREW_DEATH_FAIL_TASK : by_default;
}

static void settle(struct crew_draft *d, struct crew_agent *a, struct agent_draft *ad) {
        if (ad->on_terminated && a->orchestrator) {
                bind_error(&d->b, ad->on_terminated->key, "", "agent '%s' has no program that could terminate", a->name);
                return;
        }
        if (!ad->on_terminated)
                a->on_terminated = implied(a, ad, (enum crew_death)d->default_action);
        else if (starts_again(a->on_terminated) && ad->restart && a->restart_max == 0)
                bind_error(&d->b, ad->on_terminated, "", "'%s' needs a restart, and 'restart' allows none",
                           crew_death_names[a->on_terminated]);
        else if (!starts_again(a->on_terminated) && a->restart_max > 0)
                bind_error(&d->b, ad->on_terminated, "write restart or reassign, or leave one of the two out",
                           "'restart' means nothing with on_agent_terminated: %s", crew_death_names[a->on_terminated]);
        if (starts_again(a->on_terminated) && !ad->restart)
                a->restart_max = CREW_RESTART_DEFAULT;
}

void crew_settle_supervision(struct crew_draft *d) {
        bool any = false;

        for (size_t i = 0; i < d->c->n_agents; i++) {
                struct crew_agent *a = &d->c->agents[i];
                settle(d, a, &d->agents[i]);
                any = any || (!a->orchestrator && starts_again(a->on_terminated));
        }
        if (d->supervision && !any && d->c->n_agents > 0)
                bind_warning(&d->b, d->supervision->key, "see on_agent_terminated",
                             "'supervision' has no effect: no agent is ever started again");
}
