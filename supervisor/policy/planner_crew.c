/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Gathered from the policies' images, whose digests say later whether it is still true.  The paths' own state on disk is
 * looked at once a second at most; whoever mounts looks again.
 */
#include "planner_crew.h"

#include "common/digest.h"
#include "common/util.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define FRESH_NS 1000000000u

struct entry {
        struct reach reach;
        size_t order;
};

struct planner_crew {
        struct arena arena;
        struct reach *reach;
        size_t n_reach;
        const char **hostile;
        size_t n_hostile;
        uint8_t (*digests)[CREW_SHA256_BYTES]; /* of the agents' policies */
        size_t n_digests;
        uint64_t gathered_ns; /* 0: nothing is */
};

struct planner_crew *planner_crew_new(void) {
        return calloc(1, sizeof(struct planner_crew));
}

struct planner_crew *planner_crew_free(struct planner_crew *p) {
        if (p)
                arena_fini(&p->arena);
        free(p);
        return NULL;
}

/* A place without a policy is one without an agent. */
static const uint8_t *digest_of(const struct crew_file *crew, size_t i) {
        static const uint8_t none[CREW_SHA256_BYTES];

        return crew->agents[i].policy ? policy_image_sha256(crew->agents[i].policy) : none;
}

static bool is_current(const struct planner_crew *p, const struct crew_file *crew) {
        if (!p->gathered_ns || crew_now_ns() - p->gathered_ns > FRESH_NS || p->n_digests != crew->n_agents)
                return false;
        for (size_t i = 0; i < crew->n_agents; i++)
                if (memcmp(p->digests[i], digest_of(crew, i), CREW_SHA256_BYTES) != 0)
                        return false;
        return true;
}

/* --- the paths --- */

static int by_path(const void *a, const void *b) {
        const struct entry *x = a, *y = b;
        int r = strcmp(x->reach.path, y->reach.path);

        return r ? r : (x->order > y->order) - (x->order < y->order);
}

static int by_order(const void *a, const void *b) {
        const struct entry *x = a, *y = b;

        return (x->order > y->order) - (x->order < y->order);
}

static size_t list_all(const struct crew_file *crew, struct entry *out) {
        size_t n = 0;

        for (size_t i = 0; i < crew->n_agents; i++) {
                const struct policy_image *image = crew->agents[i].policy;
                for (size_t k = 0; image && k < policy_n_paths(image); k++) {
                        struct policy_path pp = policy_path_at(image, k);
                        if (pp.kind != POLICY_READ && pp.kind != POLICY_WRITE && pp.kind != POLICY_EXEC)
                                continue;
                        if (out)
                                out[n] = (struct entry){.order = n,
                                                        .reach = {.path = pp.path,
                                                                  .holder = (uint32_t)i,
                                                                  .tree = pp.tree,
                                                                  .write_tree = pp.kind == POLICY_WRITE && pp.tree}};
                        n++;
                }
        }
        return n;
}

static size_t merge(struct entry *e, size_t n) {
        size_t used = 0;

        qsort(e, n, sizeof(*e), by_path);
        for (size_t i = 0; i < n; i++) {
                struct reach *last = used ? &e[used - 1].reach : NULL;
                if (!last || strcmp(last->path, e[i].reach.path) != 0) {
                        e[used++] = e[i];
                        continue;
                }
                last->write_tree |= e[i].reach.write_tree;
                if (last->holder != e[i].reach.holder)
                        last->holder = REACH_SEVERAL;
        }
        qsort(e, used, sizeof(*e), by_order);
        return used;
}

static int take_paths(struct planner_crew *p, const struct crew_file *crew) {
        size_t n = list_all(crew, NULL);
        _cleanup_free_ struct entry *all = calloc(MAX_OF(n, (size_t)1), sizeof(*all));

        if (!all)
                return -ENOMEM;
        list_all(crew, all);
        n = merge(all, n);
        p->reach = arena_alloc(&p->arena, MAX_OF(n, (size_t)1) * sizeof(*p->reach));
        for (size_t i = 0; p->reach && i < n; i++) {
                struct reach *r = &p->reach[i];
                *r = all[i].reach;
                r->path = arena_strndup(&p->arena, r->path, strlen(r->path));
                if (!r->path)
                        return -ENOMEM;
        }
        p->n_reach = n;
        return p->reach ? 0 : -ENOMEM;
}

/* --- what may be hostile --- */

static int resolve_trees(struct planner_crew *p, struct view *v) {
        struct view plain = {.in = v->in}; /* nothing is hostile yet */
        char real[PATH_MAX];

        p->hostile = arena_alloc(&p->arena, MAX_OF(p->n_reach, (size_t)1) * sizeof(*p->hostile));
        if (!p->hostile)
                return crew_fail(v->err, ENOMEM, "out of memory");
        for (size_t i = 0; i < p->n_reach; i++) {
                if (!p->reach[i].write_tree)
                        continue;
                int r = view_resolve(&plain, p->reach[i].path, real, v->err);
                if (r < 0)
                        return r;
                if (!(p->hostile[p->n_hostile] = arena_strndup(&p->arena, real, strlen(real))))
                        return crew_fail(v->err, ENOMEM, "out of memory");
                p->n_hostile++;
        }
        return 0;
}

static int take_digests(struct planner_crew *p, const struct crew_file *crew) {
        p->digests = arena_alloc(&p->arena, MAX_OF(crew->n_agents, (size_t)1) * sizeof(*p->digests));
        for (size_t i = 0; p->digests && i < crew->n_agents; i++)
                memcpy(p->digests[i], digest_of(crew, i), CREW_SHA256_BYTES);
        p->n_digests = crew->n_agents;
        return p->digests ? 0 : -ENOMEM;
}

int planner_crew_gather(struct planner_crew *p, struct view *v) {
        const struct crew_file *crew = v->in->crew;

        if (is_current(p, crew))
                return 0;
        arena_fini(&p->arena);
        *p = (struct planner_crew){0};
        if (take_paths(p, crew) < 0 || take_digests(p, crew) < 0)
                return crew_fail(v->err, ENOMEM, "out of memory");
        int r = resolve_trees(p, v);
        if (r == 0)
                p->gathered_ns = crew_now_ns();
        return r;
}

const struct reach *planner_crew_reach(const struct planner_crew *p, size_t *n) {
        *n = p->n_reach;
        return p->reach;
}

const char *const *planner_crew_hostile(const struct planner_crew *p, size_t *n) {
        *n = p->n_hostile;
        return p->hostile;
}
