/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The table of calls in flight: one list a callee, counters a caller.  Every list is bounded by the callee's quota, so a
 * search is too.
 */
#include "inflight.h"

#include "bytes.h"
#include "common/util.h"

#include <assert.h>
#include <errno.h>

struct slot {
        struct inflight_call *owed; /* list head */
        uint32_t open;              /* as caller, unsettled */
        uint32_t owes;              /* as callee */
        size_t bytes;
};

struct inflight {
        struct inflight_limits limits;
        uint32_t n_agents;
        uint32_t n_open;   /* unsettled, over all */
        uint64_t earliest; /* no unsettled call is due before; a lower bound */
        struct slot slots[];
};

struct inflight *inflight_new(uint32_t n_agents, const struct inflight_limits *limits) {
        struct inflight *f = calloc(1, sizeof(*f) + n_agents * sizeof(f->slots[0]));

        if (!f)
                return NULL;
        f->limits = *limits;
        f->n_agents = n_agents;
        f->earliest = UINT64_MAX;
        return f;
}

struct inflight *inflight_free(struct inflight *f) {
        if (!f)
                return NULL;
        for (uint32_t i = 0; i < f->n_agents; i++) {
                while (f->slots[i].owed)
                        inflight_drop(f, f->slots[i].owed);
        }
        free(f);
        return NULL;
}

/* Into the callee's list, with its charge. */
static int enter(struct inflight *f, const struct inflight_call *call, struct inflight_call **out) {
        struct slot *from = &f->slots[call->caller.agent], *to = &f->slots[call->callee.agent];
        struct inflight_call *c = malloc(sizeof(*c));

        if (!c)
                return -ENOMEM;
        *c = *call;
        c->settled = false;
        c->prev = NULL;
        c->next = to->owed;
        if (c->next)
                c->next->prev = c;
        to->owed = c;
        to->owes++;
        to->bytes += c->bytes;
        from->open++;
        f->n_open++;
        f->earliest = MIN_OF(f->earliest, c->deadline_ns);
        *out = c;
        return 0;
}

int inflight_add(struct inflight *f, const struct inflight_call *call, struct inflight_call **out) {
        crew_assert(call->caller.agent < f->n_agents && call->callee.agent < f->n_agents);
        struct slot *from = &f->slots[call->caller.agent], *to = &f->slots[call->callee.agent];

        if (from->open >= f->limits.per_caller)
                return INFLIGHT_CALLER_FULL;
        if (to->owes >= f->limits.per_callee || call->bytes > f->limits.callee_bytes - to->bytes)
                return INFLIGHT_CALLEE_FULL;
        return enter(f, call, out) < 0 ? -ENOMEM : INFLIGHT_ADDED;
}

int inflight_restore(struct inflight *f, const struct inflight_call *call, struct inflight_call **out) {
        if (call->caller.agent >= f->n_agents || call->callee.agent >= f->n_agents)
                return -EINVAL;
        int r = enter(f, call, out);
        if (r == 0 && call->settled)
                inflight_settle(f, *out);
        return r;
}

/* A member more changes the size: see checkpoint.c. */
static_assert(sizeof(void *) != 8 || sizeof(struct inflight_call) == 88, "see clear_pointers()");
static void clear_pointers(struct inflight_call *c) {
        c->what = NULL;
        c->next = c->prev = NULL;
}

void inflight_save(const struct inflight_call *call, struct bytes_out *b) {
        struct inflight_call bare = *call;

        clear_pointers(&bare);
        BYTES_PUT(b, bare);
}

void inflight_load(struct inflight_call *call, struct bytes_in *b) {
        BYTES_GET(b, *call);
        bytes_bool(&call->settled);
        clear_pointers(call);
}

void inflight_all(struct inflight *f, void (*fn)(const struct inflight_call *call, void *user), void *user) {
        for (uint32_t i = 0; i < f->n_agents; i++) {
                const struct inflight_call *c = f->slots[i].owed;
                while (c && c->next)
                        c = c->next;
                for (; c; c = c->prev)
                        fn(c, user);
        }
}

struct inflight_call *inflight_owed(struct inflight *f, uint32_t callee, uint64_t seq) {
        for (struct inflight_call *c = f->slots[callee].owed; c; c = c->next) {
                if (c->callee.seq == seq)
                        return c;
        }
        return NULL;
}

bool inflight_settle(struct inflight *f, struct inflight_call *call) {
        if (call->settled)
                return false;
        call->settled = true;
        f->slots[call->caller.agent].open--;
        if (--f->n_open == 0)
                f->earliest = UINT64_MAX;
        return true;
}

void inflight_drop(struct inflight *f, struct inflight_call *call) {
        struct slot *to = &f->slots[call->callee.agent];

        inflight_settle(f, call);
        if (call->prev)
                call->prev->next = call->next;
        else
                to->owed = call->next;
        if (call->next)
                call->next->prev = call->prev;
        to->owes--;
        to->bytes -= call->bytes;
        free(call);
}

struct inflight_call *inflight_overdue(struct inflight *f, uint64_t now_ns) {
        uint64_t earliest = UINT64_MAX;

        if (now_ns < f->earliest)
                return NULL;
        for (uint32_t i = 0; i < f->n_agents; i++) {
                for (struct inflight_call *c = f->slots[i].owed; c; c = c->next) {
                        if (c->settled)
                                continue;
                        if (now_ns >= c->deadline_ns)
                                return c;
                        earliest = MIN_OF(earliest, c->deadline_ns);
                }
        }
        f->earliest = earliest;
        return NULL;
}

uint64_t inflight_next_deadline(const struct inflight *f) {
        return f->earliest;
}

void inflight_put_off(struct inflight *f, uint32_t callee, int64_t ns) {
        for (struct inflight_call *c = f->slots[callee].owed; c; c = c->next) {
                c->deadline_ns += (uint64_t)ns;
                if (!c->settled)
                        f->earliest = MIN_OF(f->earliest, c->deadline_ns);
        }
}

struct inflight_call *inflight_any_by_callee(struct inflight *f, uint32_t agent) {
        return f->slots[agent].owed;
}

struct inflight_call *inflight_any_by_caller(struct inflight *f, uint32_t agent) {
        if (f->slots[agent].open == 0)
                return NULL;
        for (uint32_t i = 0; i < f->n_agents; i++) {
                for (struct inflight_call *c = f->slots[i].owed; c; c = c->next) {
                        if (!c->settled && c->caller.agent == agent)
                                return c;
                }
        }
        return NULL;
}

uint32_t inflight_open(const struct inflight *f, uint32_t caller) {
        return f->slots[caller].open;
}

uint32_t inflight_owes(const struct inflight *f, uint32_t callee) {
        return f->slots[callee].owes;
}

size_t inflight_owed_bytes(const struct inflight *f, uint32_t callee) {
        return f->slots[callee].bytes;
}

void inflight_each(struct inflight *f, uint32_t agent, void (*fn)(const struct inflight_call *call, void *user),
                   void *user) {
        for (uint32_t i = 0; i < f->n_agents; i++) {
                for (struct inflight_call *c = f->slots[i].owed; c; c = c->next) {
                        if (c->caller.agent == agent || c->callee.agent == agent)
                                fn(c, user);
                }
        }
}
