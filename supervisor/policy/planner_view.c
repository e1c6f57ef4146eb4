/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Collects the grants of a policy and settles how they overlap.
 *
 * Rules of overlap: a path granted twice has the union of its rights; what another grant's mount shows with at least
 * the same rights is not mounted again; a hole beats every grant; read_only beats the write tree around it.  Directories
 * between a write tree and a hole or read-only part in it are pinned (mounted onto themselves), for a rename of one of
 * them would move the protected part away from its path.
 *
 * What a policy grants is granted under its real path: a symbolic link on the way was an error when the policy was loaded
 * and is one here.  Only the runtime's paths and the commands may go through links, none of them in a write tree.
 */
#include "planner_view.h"

#include "common/util.h"
#include "path.h"
#include "planner_crew.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>

static const char *const section_names[POLICY_PATH_KIND_N] = {
        [POLICY_READ] = "filesystem.read",
        [POLICY_WRITE] = "filesystem.write",
        [POLICY_EXEC] = "filesystem.exec",
        [POLICY_DENY] = "filesystem.deny",
        [POLICY_READ_ONLY] = "filesystem.read_only",
        [POLICY_RUNTIME] = "filesystem.runtime",
        [POLICY_RUNTIME_READ] = "filesystem.runtime",
};

static const enum grant_kind grant_of[POLICY_PATH_KIND_N] = {
        [POLICY_READ] = GRANT_READ,           [POLICY_WRITE] = GRANT_WRITE,     [POLICY_EXEC] = GRANT_EXEC,
        [POLICY_READ_ONLY] = GRANT_READ_ONLY, [POLICY_RUNTIME] = GRANT_RUNTIME, [POLICY_RUNTIME_READ] = GRANT_RUNTIME_READ,
};

static bool is_runtime(enum policy_path_kind kind) {
        return kind == POLICY_RUNTIME || kind == POLICY_RUNTIME_READ;
}

static struct grant *new_grant(struct view *v) {
        if (arena_grow(&v->arena, &v->grants, v->n_grants, sizeof(*v->grants)) < 0)
                return NULL;
        struct grant *g = &v->grants[v->n_grants++];
        *g = (struct grant){.program = GRANT_EVERYBODY};
        return g;
}

static int put_grant(struct view *v, const struct grant *from) {
        struct grant *g = new_grant(v);

        if (g) {
                *g = *from;
                g->src = arena_strndup(&v->arena, from->src, strlen(from->src));
                g->dst = arena_strndup(&v->arena, from->dst, strlen(from->dst));
        }
        return g && g->src && g->dst ? 0 : crew_fail(v->err, ENOMEM, "out of memory");
}

static int put_hostile(struct view *v, const char *real) {
        if (arena_grow(&v->arena, &v->hostile, v->n_hostile, sizeof(*v->hostile)) < 0)
                return crew_fail(v->err, ENOMEM, "out of memory");
        v->hostile[v->n_hostile++] = real;
        return 0;
}

static int add_own_trees(struct view *v) {
        for (size_t i = 0; i < policy_n_paths(v->in->policy); i++) {
                struct policy_path pp = policy_path_at(v->in->policy, i);
                char real[PATH_MAX], *copy;
                if (pp.kind != POLICY_WRITE || !pp.tree)
                        continue;
                struct view plain = {.in = v->in}; /* nothing is hostile yet */
                int r = view_resolve(&plain, pp.path, real, v->err);
                if (r < 0)
                        return r;
                if (!(copy = arena_strndup(&v->arena, real, strlen(real))))
                        return crew_fail(v->err, ENOMEM, "out of memory");
                if ((r = put_hostile(v, copy)) < 0)
                        return r;
        }
        return 0;
}

static int collect_hostile(struct view *v) {
        size_t n = 0;
        int r = add_own_trees(v);

        if (r < 0 || !v->in->crew)
                return r;
        v->together = v->in->together;
        if (!v->together && !(v->together = v->own = planner_crew_new()))
                return crew_fail(v->err, ENOMEM, "out of memory");
        if ((r = planner_crew_gather(v->together, v)) < 0)
                return r;
        const char *const *trees = planner_crew_hostile(v->together, &n);
        for (size_t i = 0; r == 0 && i < n; i++)
                r = put_hostile(v, trees[i]);
        return r;
}

void view_forget(struct view *v) {
        v->own = planner_crew_free(v->own);
        arena_fini(&v->arena);
}

static bool in_write_tree(const struct view *v, const char *real) {
        for (size_t i = 0; i < v->n_hostile; i++)
                if (path_within(v->hostile[i], real))
                        return true;
        return false;
}

/* What a path that is not there means.  1: leave it out, 0: grant it (made at start), -errno. */
static int missing_grant(struct view *v, const struct policy_path *pp, struct grant *g) {
        if (pp->optional)
                return 1;
        if (pp->kind == POLICY_WRITE && pp->tree) {
                g->missing = g->dir = true;
        } else if (pp->kind == POLICY_READ && in_write_tree(v, g->src)) {
                g->missing = true;
                g->dir = pp->tree;
                g->optional = !pp->tree; /* a file cannot be made for its writer: seen once it is there at a start */
        } else {
                return view_fail(v, pp->mark.line, ENOENT,
                                 "%s: %s does not exist; create it, or write {path: %s, optional: true}",
                                 section_names[pp->kind], pp->path, pp->path);
        }
        g->disk_uid = v->in->owner_uid;
        g->disk_gid = v->in->owner_gid;
        return 0;
}

static int check_type(struct view *v, const struct policy_path *pp, struct grant *g) {
        const char *section = section_names[pp->kind];
        struct stat st;

        if (lstat(g->src, &st) < 0)
                return view_fail(v, pp->mark.line, errno, "%s: %s: %s", section, g->src, strerror(errno));
        g->dir = S_ISDIR(st.st_mode);
        g->disk_uid = st.st_uid;
        g->disk_gid = st.st_gid;
        g->n_bytes = (size_t)st.st_size;
        if (!g->dir && !S_ISREG(st.st_mode))
                return view_fail(
                        v, pp->mark.line, EINVAL,
                        "%s: %s is neither a regular file nor a directory; sockets, devices and pipes are not granted",
                        section, pp->path);
        if (is_runtime(pp->kind) || pp->kind == POLICY_READ_ONLY)
                return 0;
        if (g->dir && !pp->tree)
                return view_fail(v, pp->mark.line, EISDIR, "%s: %s is a directory; write '%s/' to grant the whole tree",
                                 section, pp->path, pp->path);
        if (!g->dir && pp->tree)
                return view_fail(v, pp->mark.line, ENOTDIR, "%s: %s is a file; write it without the trailing '/'", section,
                                 pp->path);
        return 0;
}

static int check_place(struct view *v, const struct policy_path *pp, const char *real) {
        const bool write = pp->kind == POLICY_WRITE;
        const char *why = base_refuses(pp->path, write);

        if (!why)
                why = base_refuses(real, write);
        if (why)
                return view_fail(v, pp->mark.line, EPERM, "%s: %s cannot be granted: %s", section_names[pp->kind], pp->path,
                                 why);
        return 0;
}

#define COPY_MAX 16384u

/* view_resolve, with what a policy path may not do. */
static int resolve_policy(struct view *v, const struct policy_path *pp, char real[PATH_MAX]) {
        int state = view_resolve(v, pp->path, real, v->err);

        if (state < 0)
                crew_err_add(v->err, "%s:%u: %s", policy_file(v->in->policy), pp->mark.line, section_names[pp->kind]);
        else if (!is_runtime(pp->kind) && strcmp(real, pp->path) != 0)
                state = view_fail(v, pp->mark.line, ELOOP, "%s: %s is reached through a symbolic link; write %s",
                                  section_names[pp->kind], pp->path, real);
        return state;
}

/* Small files of the runtime are taken into the plan; what cannot be read (or has just grown) is mounted as it is. */
static void copy_small(struct view *v, struct grant *g) {
        _cleanup_free_ char *bytes = NULL;
        size_t n;

        if (g->kind != GRANT_RUNTIME_READ || g->dir || g->n_bytes > COPY_MAX)
                return;
        if (crew_read_file(g->src, COPY_MAX, &bytes, &n, NULL) < 0 || !(g->bytes = arena_strndup(&v->arena, bytes, n)))
                return;
        g->kind = GRANT_COPY;
        g->n_bytes = n;
}

static int collect_one(struct view *v, const struct policy_path *pp) {
        struct grant g = {.kind = grant_of[pp->kind], .program = GRANT_EVERYBODY, .line = pp->mark.line};
        char real[PATH_MAX];
        int state = resolve_policy(v, pp, real);

        if (state < 0)
                return state;
        int r = check_place(v, pp, real);
        if (r < 0)
                return r;
        g.src = g.dst = real;
        if (pp->kind == POLICY_RUNTIME_READ && strcmp(real, pp->path) != 0 && view_may_execute(v, real)) {
                g.kind = GRANT_LINK;
                g.dst = pp->path;
                return state == RESOLVE_MISSING ? 0 : put_grant(v, &g);
        }
        if (is_runtime(pp->kind) && !base_is_linked(v, pp->path))
                g.dst = pp->path; /* else: /lib/x is /usr/lib/x in the view too */
        r = state == RESOLVE_MISSING ? missing_grant(v, pp, &g) : check_type(v, pp, &g);
        if (r == 0)
                copy_small(v, &g);
        return r < 0 ? r : r == 1 ? 0 : put_grant(v, &g);
}

int view_collect(struct view *v) {
        int r = collect_hostile(v);

        if (r == 0)
                r = base_collect(v);
        for (size_t i = 0; r == 0 && i < policy_n_paths(v->in->policy); i++) {
                struct policy_path pp = policy_path_at(v->in->policy, i);
                if (pp.kind != POLICY_DENY && !(is_runtime(pp.kind) && base_has(pp.path)))
                        r = collect_one(v, &pp);
        }
        return r;
}

int view_add_file(struct view *v, enum grant_kind kind, const char *path, int program) {
        struct grant g = {.kind = kind, .dst = path, .program = program};
        char real[PATH_MAX];
        struct stat st;
        int r = view_resolve(v, path, real, v->err);

        if (r < 0)
                return r;
        if (r == RESOLVE_MISSING || lstat(real, &st) < 0 || !S_ISREG(st.st_mode))
                return 0;
        if (in_write_tree(v, real)) {
                if (program == 0)
                        return 0; /* it has the rights of its agent and no more */
                return crew_fail(v->err, EPERM, "%s belongs to a tool and lies where an agent may write", path);
        }
        g.src = real;
        g.disk_uid = st.st_uid;
        g.disk_gid = st.st_gid;
        return put_grant(v, &g);
}

/* --- overlaps --- */

static const struct {
        bool exec, write;
} shows[GRANT_KIND_N] = {
        [GRANT_RUNTIME] = {.exec = true}, [GRANT_EXEC] = {.exec = true}, [GRANT_TOOL] = {.exec = true},
        [GRANT_WRITE] = {.write = true},  [GRANT_PIN] = {.write = true},
};

/* Does the mount of h show g at its path with at least g's rights? */
static bool shows_it(const struct grant *h, const struct grant *g) {
        const char *dst = h->dir ? view_suffix(h->dst, g->dst) : strcmp(h->dst, g->dst) == 0 ? "" : NULL;
        const char *src = h->dir ? view_suffix(h->src, g->src) : strcmp(h->src, g->src) == 0 ? "" : NULL;

        if (!dst || !src || strcmp(dst, src) != 0)
                return false;
        if (g->kind == GRANT_READ_ONLY || g->kind == GRANT_PIN || g->kind == GRANT_TOOL || g->kind == GRANT_LINK)
                return false; /* these are there for their mount */
        return (shows[h->kind].exec || !shows[g->kind].exec) && (shows[h->kind].write || !shows[g->kind].write);
}

/* The innermost mount around a grant, of those sorted before it. */
static const struct grant *mount_around(const struct view *v, size_t i) {
        const struct grant *g = &v->grants[i], *best = NULL;

        for (size_t j = 0; j < i; j++) {
                const struct grant *h = &v->grants[j];
                if (!h->covered && path_within(h->dst, g->dst) && (!best || strlen(h->dst) >= strlen(best->dst)))
                        best = h;
        }
        return best;
}

static void find_covered(struct view *v) {
        for (size_t i = 0; i < v->n_grants; i++) {
                struct grant *g = &v->grants[i];
                const struct grant *h = mount_around(v, i);
                g->covered = h && (shows_it(h, g) || (h->kind == g->kind && strcmp(h->dst, g->dst) == 0));
        }
}

static int by_dst(const void *a, const void *b) {
        const struct grant *x = a, *y = b;
        int c = strcmp(x->dst, y->dst);
        return c ? c : (int)y->kind - (int)x->kind; /* the wider right first: exec, write, read, runtime */
}

static const struct grant *write_tree_of(const struct view *v, const char *dst) {
        const struct grant *best = NULL;

        for (size_t i = 0; i < v->n_grants; i++) {
                const struct grant *g = &v->grants[i];
                if (g->kind == GRANT_WRITE && g->dir && path_within(g->dst, dst) &&
                    (!best || strlen(g->dst) > strlen(best->dst)))
                        best = g;
        }
        return best;
}

static bool pinned(const struct view *v, const char *dst) {
        for (size_t i = 0; i < v->n_grants; i++)
                if (strcmp(v->grants[i].dst, dst) == 0 && !v->grants[i].covered)
                        return true;
        return false;
}

/* Pins every directory strictly between the write tree around dst and dst. */
static int add_pins(struct view *v, const char *dst) {
        const struct grant *found = write_tree_of(v, dst);

        if (!found)
                return 0;
        const struct grant tree = *found; /* the array moves when it grows */
        char part[PATH_MAX], src[PATH_MAX];
        for (const char *c = dst + strlen(tree.dst) + 1; (c = strchr(c, '/')); c++) {
                snprintf(part, sizeof(part), "%.*s", (int)(c - dst), dst);
                snprintf(src, sizeof(src), "%s%s", tree.src, view_suffix(tree.dst, part));
                struct grant pin = tree;
                pin.kind = GRANT_PIN;
                pin.dst = part;
                pin.src = src;
                pin.missing = false;
                int r = pinned(v, part) ? 0 : put_grant(v, &pin);
                if (r < 0)
                        return r;
        }
        return 0;
}

static int add_hole(struct view *v, const char *dst) {
        for (size_t i = 0; i < v->n_holes; i++)
                if (strcmp(v->holes[i], dst) == 0)
                        return 0;
        if (arena_grow(&v->arena, &v->holes, v->n_holes, sizeof(*v->holes)) < 0 ||
            !(v->holes[v->n_holes] = arena_strndup(&v->arena, dst, strlen(dst))))
                return crew_fail(v->err, ENOMEM, "out of memory");
        v->n_holes++;
        return add_pins(v, dst);
}

static int map_hole(struct view *v, const struct policy_path *pp) {
        char real[PATH_MAX];
        int state = resolve_policy(v, pp, real);

        if (state < 0)
                return state;
        if (state == RESOLVE_MISSING && pp->optional)
                return 0;
        if (state == RESOLVE_MISSING)
                return view_fail(v, pp->mark.line, ENOENT, "filesystem.deny: %s does not exist, so it cannot be covered",
                                 pp->path);
        return add_hole(v, pp->path);
}

static int map_holes(struct view *v) {
        int r = 0;

        for (size_t i = 0; r == 0 && i < policy_n_paths(v->in->policy); i++) {
                struct policy_path pp = policy_path_at(v->in->policy, i);
                if (pp.kind == POLICY_DENY)
                        r = map_hole(v, &pp);
        }
        return r;
}

/* What lies in a hole is not mounted at all; its rules would name nothing. */
static void drop_in_holes(struct view *v) {
        size_t kept = 0;

        for (size_t i = 0; i < v->n_grants; i++) {
                bool in = false;
                for (size_t k = 0; k < v->n_holes && !in; k++)
                        in = path_within(v->holes[k], v->grants[i].dst) || path_within(v->holes[k], v->grants[i].src);
                if (!in)
                        v->grants[kept++] = v->grants[i];
        }
        v->n_grants = kept;
}

/* A hole that no tree shows any more covers nothing. */
static void drop_empty_holes(struct view *v) {
        size_t kept = 0;

        for (size_t k = 0; k < v->n_holes; k++) {
                bool shown = false;
                for (size_t i = 0; i < v->n_grants && !shown; i++)
                        shown = v->grants[i].dir && path_within(v->grants[i].dst, v->holes[k]);
                for (size_t j = 0; j < kept && shown; j++) /* inside another hole */
                        shown = !path_within(v->holes[j], v->holes[k]);
                if (shown)
                        v->holes[kept++] = v->holes[k];
        }
        v->n_holes = kept;
}

static int by_text(const void *a, const void *b) {
        return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static int pin_read_only(struct view *v) {
        for (size_t i = 0, n = v->n_grants; i < n; i++) {
                const struct grant g = v->grants[i];
                if (g.kind != GRANT_READ_ONLY)
                        continue;
                if (!write_tree_of(v, g.dst))
                        return view_fail(v, g.line, EINVAL,
                                         "filesystem.read_only: %s lies in no write tree; use filesystem.read", g.dst);
                int r = add_pins(v, g.dst);
                if (r < 0)
                        return r;
        }
        return 0;
}

int view_settle(struct view *v) {
        qsort(v->grants, v->n_grants, sizeof(*v->grants), by_dst);
        find_covered(v);
        int r = pin_read_only(v);
        if (r == 0)
                r = map_holes(v);
        if (r < 0)
                return r;
        drop_in_holes(v);
        if (v->n_holes > 0)
                qsort(v->holes, v->n_holes, sizeof(*v->holes), by_text);
        drop_empty_holes(v);
        qsort(v->grants, v->n_grants, sizeof(*v->grants), by_dst);
        return 0;
}

bool view_may_execute(const struct view *v, const char *real) {
        for (size_t i = 0; i < v->n_grants; i++) {
                const struct grant *g = &v->grants[i];
                if ((g->kind == GRANT_RUNTIME || g->kind == GRANT_EXEC) &&
                    (g->dir ? path_within(g->src, real) : strcmp(g->src, real) == 0))
                        return true;
        }
        return false;
}

const char *view_path_of(struct view *v, const char *real) {
        const struct grant *best = NULL;

        for (size_t i = 0; i < v->n_grants; i++) {
                const struct grant *g = &v->grants[i];
                if (g->dir && g->program == GRANT_EVERYBODY && path_within(g->src, real) &&
                    (!best || strlen(g->src) > strlen(best->src)))
                        best = g;
        }
        return best ? arena_printf(&v->arena, "%s%s", best->dst, view_suffix(best->src, real)) : NULL;
}
