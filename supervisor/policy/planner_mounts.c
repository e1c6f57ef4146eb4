/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The settled grants as the plan's mounts and as the rules of its Landlock layers.  Both come from one list, so a path
 * cannot be shown without a rule that says what may be done with it.
 */
#include "planner_view.h"

#include "common/landlock.h"
#include "common/util.h"
#include "path.h"

#include <errno.h>
#include <limits.h>
#include <string.h>

#define READ_FILE LANDLOCK_ACCESS_FS_READ_FILE
#define READ_TREE (READ_FILE | LANDLOCK_ACCESS_FS_READ_DIR)
#define WRITE_FILE (READ_FILE | LANDLOCK_ACCESS_FS_WRITE_FILE | LANDLOCK_ACCESS_FS_TRUNCATE)
/* No sockets and no pipes: through a tree that two agents see they would be a channel that nobody checks. */
#define WRITE_TREE                                                                                                         \
        (READ_TREE | WRITE_FILE | LANDLOCK_ACCESS_FS_MAKE_REG | LANDLOCK_ACCESS_FS_MAKE_DIR |                              \
         LANDLOCK_ACCESS_FS_MAKE_SYM | LANDLOCK_ACCESS_FS_REMOVE_FILE | LANDLOCK_ACCESS_FS_REMOVE_DIR |                    \
         LANDLOCK_ACCESS_FS_REFER)

static const struct {
        uint32_t flags;      /* of the mount */
        bool policy;         /* idmapped in root mode */
        uint64_t file, tree; /* rights; 0: none of its own */
        bool agent, tool;    /* whose layer has the rule, if the grant is for everybody */
} rows[GRANT_KIND_N] = {
        [GRANT_RUNTIME] = {PLAN_MOUNT_RO | PLAN_MOUNT_FOLLOW, false, READ_FILE | LANDLOCK_ACCESS_FS_EXECUTE,
                           READ_TREE | LANDLOCK_ACCESS_FS_EXECUTE, true, true},
        [GRANT_RUNTIME_READ] = {PLAN_MOUNT_RO | PLAN_MOUNT_NOEXEC | PLAN_MOUNT_FOLLOW, false, READ_FILE, READ_TREE, true,
                                true},
        [GRANT_COPY] = {0, false, READ_FILE, READ_FILE, true, true},
        [GRANT_READ] = {PLAN_MOUNT_RO | PLAN_MOUNT_NOEXEC | PLAN_MOUNT_WATCH, true, READ_FILE, READ_TREE, true, true},
        [GRANT_WRITE] = {PLAN_MOUNT_NOEXEC | PLAN_MOUNT_WATCH, true, WRITE_FILE, WRITE_TREE, true, true},
        [GRANT_EXEC] = {PLAN_MOUNT_RO | PLAN_MOUNT_WATCH, true, READ_FILE | LANDLOCK_ACCESS_FS_EXECUTE,
                        READ_TREE | LANDLOCK_ACCESS_FS_EXECUTE, true, false},
        [GRANT_READ_ONLY] = {PLAN_MOUNT_RO | PLAN_MOUNT_NOEXEC | PLAN_MOUNT_WATCH, true, 0, 0, false, false},
        [GRANT_PIN] = {PLAN_MOUNT_NOEXEC | PLAN_MOUNT_WATCH, true, 0, 0, false, false},
        [GRANT_FILE] = {PLAN_MOUNT_RO | PLAN_MOUNT_NOEXEC, true, READ_FILE, READ_FILE, false, false},
        [GRANT_TOOL] = {PLAN_MOUNT_RO, true, READ_FILE | LANDLOCK_ACCESS_FS_EXECUTE, READ_FILE | LANDLOCK_ACCESS_FS_EXECUTE,
                        false, false},
};

static void add_mount(const struct view *v, struct plan_builder *b, const struct grant *g) {
        uint32_t flags = rows[g->kind].flags;

        if (g->kind == GRANT_LINK) {
                plan_add_mount(b, PLAN_MOUNT_SYMLINK, 0, g->src, g->dst, 0, 0, 0, 0);
                return;
        }
        if (g->kind == GRANT_COPY) {
                plan_add_file(b, g->dst, g->bytes, g->n_bytes, 0444);
                return;
        }
        if (rows[g->kind].policy && v->in->root_mode)
                flags |= PLAN_MOUNT_IDMAP;
        if (g->missing && g->dir)
                flags |= PLAN_MOUNT_CREATE;
        if (g->optional)
                flags |= PLAN_MOUNT_OPTIONAL;
        plan_add_mount(b, PLAN_MOUNT_BIND, flags, g->src, g->dst, 0700, 0, g->disk_uid, g->disk_gid);
}

int mounts_add(struct view *v, struct plan_builder *b) {
        /* The runtime first: it lies below nothing, and the links of the base lead into it. */
        for (size_t i = 0; i < v->n_grants; i++)
                if (v->grants[i].kind == GRANT_RUNTIME && !v->grants[i].covered)
                        add_mount(v, b, &v->grants[i]);
        int r = base_add_mounts(v, b);
        for (size_t i = 0; i < v->n_grants; i++)
                if (v->grants[i].kind != GRANT_RUNTIME && !v->grants[i].covered)
                        add_mount(v, b, &v->grants[i]);
        for (size_t i = 0; i < v->n_holes; i++)
                plan_add_mount(b, PLAN_MOUNT_HOLE, 0, NULL, v->holes[i], 0, 0, 0, 0);
        return r < 0 ? r : base_add_decoys(v, b);
}

static uint64_t rights(const struct grant *g) {
        return g->dir ? rows[g->kind].tree : rows[g->kind].file;
}

/* program: whose layer; -1 the outer one, which has everything. */
static bool in_layer(const struct grant *g, int program) {
        if (rights(g) == 0)
                return false;
        if (program < 0)
                return true;
        if (g->program != GRANT_EVERYBODY)
                return g->program == program;
        return program == 0 ? rows[g->kind].agent : rows[g->kind].tool;
}

/* A rule around it in the same layer that gives all of its rights makes it superfluous. */
static bool implied(const struct view *v, const struct grant *g, int program) {
        for (size_t i = 0; i < v->n_grants; i++) {
                const struct grant *h = &v->grants[i];
                if (h == g || !in_layer(h, program) || (rights(h) & rights(g)) != rights(g))
                        continue;
                if (h->dir ? path_within(h->dst, g->dst) && (strcmp(h->dst, g->dst) != 0 || h < g)
                           : strcmp(h->dst, g->dst) == 0 && h < g)
                        return true;
        }
        return base_is_private(g->dst) && !(rights(g) & LANDLOCK_ACCESS_FS_EXECUTE);
}

/* Interpreters list the directory of the script they run (Python's sys.path[0]).  In the view only granted things are
 * there, so the listing tells nothing, and refusing it would fill the audit with denials that nobody attempted. */
static void add_listing(struct plan_builder *b, const struct grant *g) {
        char dir[PATH_MAX];
        const char *slash = strrchr(g->dst, '/');

        if ((g->kind != GRANT_FILE && g->kind != GRANT_TOOL) || slash == g->dst)
                return;
        snprintf(dir, sizeof(dir), "%.*s", (int)(slash - g->dst), g->dst);
        plan_add_rule(b, dir, LANDLOCK_ACCESS_FS_READ_DIR, g->optional ? PLAN_MOUNT_OPTIONAL : 0);
}

static int add_layer(struct view *v, struct plan_builder *b, enum plan_layer_kind kind, int program) {
        int layer = plan_add_layer(b, kind);

        base_add_rules(v, b, kind);
        for (size_t i = 0; i < v->n_grants; i++) {
                const struct grant *g = &v->grants[i];
                if (!in_layer(g, program) || implied(v, g, program))
                        continue;
                plan_add_rule(b, g->dst, rights(g), g->optional ? PLAN_MOUNT_OPTIONAL : 0);
                add_listing(b, g);
        }
        return layer < 0 ? layer : 0;
}

int layers_add(struct view *v, struct plan_builder *b, size_t n_programs) {
        add_layer(v, b, PLAN_LAYER_OUTER, -1);
        if (!v->in->crew) {
                /* Nothing is kept from the command but our pid 1 itself. */
                plan_add_layer(b, PLAN_LAYER_AGENT);
                return plan_set_layer_flags(b, PLAN_LAYER_AS_OUTER);
        }
        add_layer(v, b, PLAN_LAYER_AGENT, 0);
        for (size_t i = 1; i < n_programs; i++)
                add_layer(v, b, PLAN_LAYER_TOOL, (int)i);
        return 0;
}
