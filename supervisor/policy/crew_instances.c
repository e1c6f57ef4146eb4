/* SPDX-License-Identifier: Apache-2.0 */
/*
 * `max_instances`: an agent that the manager may have more than one of.  The further ones are agents of their own, NAME#2,
 * NAME#3 ..., behind all that are declared: each has its index, and with it its jail, uid, audit stream, limits and kill
 * switch, whether it runs or not.  They are not compared with each other or locked: they are what the first is.
 */
#include "crew_draft.h"

#include "common/util.h"

#include <errno.h>
#include <string.h>

#define NAME_MAX_BYTES (63u - 3u) /* with #16 behind it */

static bool writes(const struct policy_image *p) {
        for (size_t i = 0; i < policy_n_paths(p); i++) {
                if (policy_path_at(p, i).kind == POLICY_WRITE)
                        return true;
        }
        return false;
}

static void check_one(struct crew_draft *d, size_t i) {
        const struct crew_agent *a = &d->c->agents[i];
        const struct node *at = d->agents[i].instances->key;

        if (d->c->process != CREW_HIERARCHICAL)
                bind_error(&d->b, at, "process: hierarchical",
                           "'max_instances' is for crews with a manager: nobody else asks for one");
        else if (a->orchestrator)
                bind_error(&d->b, at, "", "'max_instances' without 'command': agent '%s' has no program", a->name);
        else if (i == d->c->manager.index)
                bind_error(&d->b, at, "", "agent '%s' is the manager, and a crew has one", a->name);
        else if (strlen(a->name) > NAME_MAX_BYTES)
                bind_error(&d->b, at, "a name of at most 60 characters", "'%s#%u' is too long a name", a->name,
                           a->max_instances);
        else if (writes(a->policy))
                bind_warning(&d->b, at, "",
                             "all instances of agent '%s' write the same trees: each may change what another wrote",
                             a->name);
}

/* Said once, where it begins to be too many. */
static void check_number(struct crew_draft *d) {
        size_t n = 0, i = 0;

        while (i < d->c->n_agents && (n += d->c->agents[i].max_instances) <= CREW_AGENTS_MAX)
                i++;
        if (i < d->c->n_agents)
                bind_error(&d->b, d->agents[i].instances ? d->agents[i].instances->key : d->agents[i].node->key, "",
                           "with agent '%s' there are more than %u agents, every further instance counted",
                           d->c->agents[i].name, CREW_AGENTS_MAX);
}

void crew_check_instances(struct crew_draft *d) {
        for (size_t i = 0; i < d->c->n_agents; i++) {
                if (d->c->agents[i].max_instances > 1)
                        check_one(d, i);
        }
        check_number(d);
}

/* Nothing of a life before is its own: any of them may have been told to go, and another comes. */
static int add(struct crew_draft *d, size_t from, uint32_t number) {
        struct crew_file *c = d->c;
        struct crew_agent *a = &c->agents[c->n_agents];

        *a = c->agents[from];
        a->name = arena_printf(d->b.arena, "%s#%u", c->agents[from].name, number);
        a->policy = policy_image_ref(a->policy);
        a->instance = number;
        a->instance_of = (uint32_t)from;
        a->state = CREW_STATE_FRESH;
        for (size_t k = 0; k < c->n_memory; k++)
                c->memory[k].rights[c->n_agents] = c->memory[k].rights[from];
        c->n_agents++;
        return a->name ? 0 : -ENOMEM;
}

static int make_room(struct crew_draft *d, size_t n) {
        struct crew_file *c = d->c;
        struct crew_agent *agents = arena_alloc(d->b.arena, n * sizeof(*agents));

        if (!agents)
                return -ENOMEM;
        memcpy(agents, c->agents, c->n_agents * sizeof(*agents));
        c->agents = agents;
        for (size_t k = 0; k < c->n_memory; k++) {
                uint8_t *rights = arena_alloc(d->b.arena, n);
                if (!rights)
                        return -ENOMEM;
                memcpy(rights, c->memory[k].rights, c->n_agents);
                c->memory[k].rights = rights;
        }
        return 0;
}

int crew_add_instances(struct crew_draft *d) {
        size_t declared = d->c->n_agents, n = declared;
        int r = 0;

        for (size_t i = 0; i < declared; i++)
                n += d->c->agents[i].max_instances - 1;
        if (n > declared)
                r = make_room(d, n);
        for (size_t i = 0; r == 0 && i < declared; i++) {
                for (uint32_t k = 2; r == 0 && k <= d->c->agents[i].max_instances; k++)
                        r = add(d, i, k);
        }
        return r;
}

const char *crew_policy_name(const struct crew_file *c, const char *name) {
        const struct crew_agent *a = strchr(name, '#') ? crew_find_agent(c, name) : NULL;

        return a && a->instance ? c->agents[a->instance_of].name : name;
}
