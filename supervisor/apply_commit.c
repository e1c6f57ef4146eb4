/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The moment from which a changed crew file counts.  Everything happens in one turn of the loop, and the one allocation
 * that can fail comes first.
 */
#include "apply_internal.h"

#include "common/util.h"
#include "crewd.h"
#include "memory.h"
#include "migrate.h"
#include "scheduler.h"
#include "supervisor/policy/lock.h"
#include "toolgate.h"
#include "voting.h"

#include <string.h>

/* --- files that count no more --- */

static bool is_needed(const struct crewd *c, const struct crew_file *file) {
        bool needed = scheduler_needs(c->scheduler, file) || toolgate_needs(c->tools, file);

        for (uint32_t i = 0; i < c->n_agents && !needed; i++)
                needed = c->agents[i].file == file || c->agents[i].next == file;
        return needed;
}

void apply_sweep(struct apply *x) {
        for (struct former **at = &x->former; *at;) {
                struct former *f = *at;
                if (is_needed(x->crewd, f->file)) {
                        at = &f->next;
                        continue;
                }
                *at = f->next;
                crew_file_free(f->file);
                free(f);
        }
}

static void keep(struct apply *x, struct former *f, struct crew_file *file) {
        f->file = file;
        f->next = x->former;
        x->former = f;
}

void apply_keep(struct apply *x, struct crew_file *file) {
        struct former *f = malloc(sizeof(*f));

        if (f)
                keep(x, f, file);
}

/* --- the agents --- */

/* Its jail was made with the policy that counts no more, which lives on with the instance. */
static void keep_jail_policy(struct agent *a, struct crew_file *from, const struct crew_file *to) {
        struct policy_image **now = &from->agents[a->index].policy;

        if (!agent_state_live(a->state) || a->jail_policy ||
            memcmp(policy_image_sha256(*now), policy_image_sha256(to->agents[a->index].policy), CREW_SHA256_BYTES) == 0)
                return;
        a->jail_policy = *now;
        *now = NULL;
}

static void move_agent(struct agent *a, struct crew_file *from, const struct crew_file *to) {
        if (to->agents[a->index].absent) {
                a->gone = true;
                return;
        }
        if (a->file != to) {
                if (a->file == from)
                        keep_jail_policy(a, from, to);
                agent_take_file(a, to);
        }
        a->next = NULL;
}

static void move_lock(struct apply *x) {
        struct crewd *c = x->crewd;

        if (!x->plan.lock)
                return;
        crew_lock_free(c->lock);
        c->lock = crew_steal_ptr(&x->plan.lock);
}

int apply_commit(struct apply *x) {
        struct crewd *c = x->crewd;
        struct crew_file *from = c->file, *to = x->to;
        struct former *f = malloc(sizeof(*f));
        int r = f ? scheduler_take_file(c->scheduler, to, crew_now_ns()) : -ENOMEM;

        if (r < 0) {
                free(f);
                return r;
        }
        for (uint32_t i = 0; i < c->n_agents; i++) {
                if (!c->agents[i].gone)
                        move_agent(&c->agents[i], from, to);
                migrate_let_go(&c->agents[i]);
        }
        memory_take_file(c->memory, to);
        voting_take_file(c->voting, to);
        move_lock(x);
        c->file = crew_steal_ptr(&x->plan.to);
        memcpy(c->crew_path, x->plan.file, sizeof(c->crew_path));
        keep(x, f, from);
        crewd_progress(c);
        return 0;
}
