/* SPDX-License-Identifier: Apache-2.0 */
/* What a crew file says about the directory that an agent keeps: `state`. */
#include "common/state_version.h"
#include "common/util.h"
#include "crew_draft.h"

#include <stddef.h>

#define DAY_MS (24ull * 3600 * 1000)

const char *const crew_state_names[CREW_STATE_N] = {[CREW_STATE_KEEP] = "keep", [CREW_STATE_FRESH] = "fresh"};

struct state_out {
        struct crew_agent *a;
        struct agent_draft *d;
        const struct node *version, *timeout;
};

static int state_version(struct bind *b, const struct node *v, const struct bind_field *f, void *out) {
        struct state_out *o = out;

        o->version = v;
        return bind_u32(b, v, f, &o->a->migrate.version);
}

static int state_migrate(struct bind *b, const struct node *v, const struct bind_field *f, void *out) {
        struct state_out *o = out;

        o->a->migrate.mark = v->key->mark;
        return crew_bind_command(b, v, &o->d->migrate_command, &o->a->migrate.command, &o->a->migrate.n_command);
}

static int state_timeout(struct bind *b, const struct node *v, const struct bind_field *f, void *out) {
        struct state_out *o = out;

        o->timeout = v;
        return bind_duration(b, v, f, &o->a->migrate.timeout_ms);
}

static const struct bind_field fields[] = {
        {"version", state_version, .required = true, .min = 1, .max = STATE_VERSION_MAX},
        {"migrate", state_migrate},
        {"timeout", state_timeout, .min = 100, .max = DAY_MS},
};
static const struct bind_table table = {"under state", fields, ELEMENTSOF(fields)};

int crew_bind_state(struct bind *b, const struct node *v, const struct bind_field *f, struct crew_agent *a,
                    struct agent_draft *d) {
        const struct bind_field of = {f->key, .arg = &(const struct bind_names){crew_state_names, CREW_STATE_N}};
        struct state_out o = {.a = a, .d = d};
        uint32_t choice = CREW_STATE_KEEP;

        d->state = v;
        int r = v->kind == NODE_MAP ? bind_map(b, v, &table, &o) : bind_enum(b, v, &of, &choice);
        a->state = (enum crew_state)choice;
        if (o.timeout && !d->migrate_command)
                bind_error(b, o.timeout->key, "", "'timeout' without 'migrate' limits nothing");
        return r;
}
