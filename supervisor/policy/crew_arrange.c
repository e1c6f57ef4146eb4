/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An agent's index is its name to much of crewd, and outlives a crew file.  So the agents of a newly loaded one take the
 * places that crewd has for their names, those that are new come behind them, and who is gone leaves an absent one.
 */
#include "crew_draft.h"

#include "common/util.h"

#include <errno.h>
#include <string.h>

struct arranging {
        struct crew_file *c;
        struct arena *arena;
        struct crew_agent *places; /* the new order */
        uint32_t *to;              /* old index -> place */
        size_t n;
};

static size_t place_of(const struct crew_places *p, const char *name) {
        size_t i = 0;

        while (i < p->n && strcmp(p->names[i], name) != 0)
                i++;
        return i;
}

static int take_places(struct arranging *x, const struct crew_places *p) {
        x->places = arena_alloc(x->arena, (p->n + x->c->n_agents) * sizeof(*x->places) + 1);
        x->to = arena_alloc(x->arena, x->c->n_agents * sizeof(*x->to) + 1);
        if (!x->places || !x->to)
                return -ENOMEM;
        for (x->n = 0; x->n < p->n; x->n++) {
                const char *name = p->names[x->n];
                struct crew_agent *gone = &x->places[x->n];
                *gone = (struct crew_agent){.name = arena_strndup(x->arena, name, strlen(name)), .absent = true};
                if (!gone->name)
                        return -ENOMEM;
        }
        for (size_t i = 0; i < x->c->n_agents; i++) {
                size_t at = place_of(p, x->c->agents[i].name);
                if (at == p->n)
                        at = x->n++;
                x->places[at] = x->c->agents[i];
                x->to[i] = (uint32_t)at;
        }
        for (size_t i = 0; i < x->n; i++) {
                if (x->places[i].instance)
                        x->places[i].instance_of = x->to[x->places[i].instance_of];
        }
        return 0;
}

static int move_rights(struct arranging *x, struct crew_memory *m) {
        uint8_t *rights = arena_alloc(x->arena, x->n + 1);

        if (!rights)
                return -ENOMEM;
        for (size_t i = 0; i < x->c->n_agents; i++)
                rights[x->to[i]] = m->rights[i];
        m->rights = rights;
        return 0;
}

static int move_votes(struct arranging *x, struct crew_consensus *k) {
        uint32_t *weights = arena_alloc(x->arena, x->n * sizeof(*weights) + 1);

        if (!weights)
                return -ENOMEM;
        for (size_t i = 0; i < x->c->n_agents; i++)
                weights[x->to[i]] = k->weights[i];
        k->weights = weights;
        if (k->tie == CREW_TIE_AGENT)
                k->tie_agent = x->to[k->tie_agent];
        return 0;
}

/* Whatever names an agent by its index. */
static int move_indices(struct arranging *x) {
        struct crew_file *c = x->c;
        int r = c->consensus.weights ? move_votes(x, &c->consensus) : 0;

        for (size_t i = 0; r == 0 && i < c->n_memory; i++)
                r = move_rights(x, &c->memory[i]);
        for (size_t i = 0; i < c->n_tasks; i++)
                c->tasks[i].agent_index = x->to[c->tasks[i].agent_index];
        if (c->manager.agent)
                c->manager.index = x->to[c->manager.index];
        return r;
}

int crew_arrange(struct crew_file *c, const struct crew_places *places) {
        struct arranging x = {.c = c, .arena = &((struct crew_own *)c)->arena};
        int r = take_places(&x, places);

        if (r == 0)
                r = move_indices(&x);
        if (r < 0)
                return r; /* places hold copies: c still owns its policies */
        c->agents = x.places;
        c->n_agents = x.n;
        return 0;
}
