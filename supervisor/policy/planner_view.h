/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The grants behind a plan: every path that is to be in the view, resolved on the host, with what may be done there.
 * Between the policy (what was written) and the plan (mounts and rules, which are both made from this one list).
 */
#pragma once

#include "arena.h"
#include "common/plan.h"
#include "planner.h"

#include <limits.h>
#include <sys/stat.h>

enum grant_kind {
        GRANT_RUNTIME,      /* read and execute, everybody */
        GRANT_RUNTIME_READ, /* read, everybody */
        GRANT_LINK,         /* a link of the runtime that leads into the runtime: the same link in the view */
        GRANT_COPY,         /* a small file of the runtime: its bytes go into the plan, for a mount costs more */
        GRANT_READ,
        GRANT_WRITE,
        GRANT_EXEC,
        GRANT_READ_ONLY, /* inside a write tree */
        GRANT_PIN,       /* a directory on the way to a hole or read-only part of a write tree: it must not be renamed */
        GRANT_FILE,      /* a file of one program: read */
        GRANT_TOOL,      /* a tool's own executable: read and execute, in its layer only */
        GRANT_KIND_N,
};

#define GRANT_EVERYBODY (-1)

struct grant {
        enum grant_kind kind;
        const char *src; /* real host path */
        const char *dst; /* path in the view */
        bool dir, missing, optional;
        bool covered; /* another grant's mount shows it already */
        int program;  /* GRANT_EVERYBODY, 0 the agent, 1.. the tools */
        uint32_t disk_uid, disk_gid;
        uint32_t line;
        const char *bytes; /* GRANT_COPY */
        size_t n_bytes;
};

#define BASE_ETC_N 4
#define BASE_ROOT_N 6

struct view {
        const struct planner_input *in;
        struct arena arena;
        struct grant *grants; /* in the arena; sorted by dst once view_settle() has run */
        size_t n_grants;
        struct planner_crew *together; /* the input's or own; NULL: no crew */
        struct planner_crew *own;
        const char **hostile; /* real paths of every write tree of the crew: what agents may have put links into */
        size_t n_hostile;
        const char **holes; /* paths in the view */
        size_t n_holes;
        char walked[PATH_MAX];               /* a directory known to be reached through no link; see planner_resolve.c */
        const char *root_links[BASE_ROOT_N]; /* where /bin, /lib, ... lead; NULL: no link */
        struct stat etc[BASE_ETC_N];         /* of base_etc[]; st_mode 0: not on this host */
        struct crew_err *err;
};

/* --- planner_resolve.c --- */
enum { RESOLVE_FOUND, RESOLVE_MISSING };
/* The real path of `path`, following links one by one; a link inside a hostile tree is -ELOOP.  What is missing is
 * appended as written (RESOLVE_MISSING). */
int view_resolve(struct view *v, const char *path, char out[PATH_MAX], struct crew_err *err);
/* "what" names the path in a message: policies/x.yaml:5: ... */
int view_fail(const struct view *v, uint32_t line, int code, const char *fmt, ...) __attribute__((format(printf, 4, 5)));
/* dir's suffix of path ("" or "/..."), or NULL when path is not below. */
const char *view_suffix(const char *dir, const char *path);

/* --- planner_view.c --- */
void view_forget(struct view *v);
/* Collects what the policy grants. */
int view_collect(struct view *v);
/* Adds one file of a program; the path is absolute. */
int view_add_file(struct view *v, enum grant_kind kind, const char *path, int program);
/* Sorts, finds what is covered, adds pins, maps holes.  No grant is added after it. */
int view_settle(struct view *v);
/* Whether a real host path is executable for the agent by the runtime or filesystem.exec. */
bool view_may_execute(const struct view *v, const char *real);
/* The path in the view under which a real host path is visible to the agent, or NULL. */
const char *view_path_of(struct view *v, const char *real);

/* --- planner_base.c --- */
#define STATE_DIR "/home/agent/state"       /* planner_input.state_dir */
#define CA_BUNDLE "/run/crew/ca-bundle.pem" /* where planner_input.ca_bundle is in the view */
int base_collect(struct view *v);           /* the runtime's grants */
int base_add_mounts(struct view *v, struct plan_builder *b);
int base_add_rules(struct view *v, struct plan_builder *b, enum plan_layer_kind layer);
int base_add_decoys(struct view *v, struct plan_builder *b);
/* Why nothing may be granted at this path (real or as written), or NULL. */
const char *base_refuses(const char *path, bool write);
/* Part of the base, which is there without a policy's asking. */
bool base_has(const char *path);
/* Through /bin, /lib and the like where those are links into /usr. */
bool base_is_linked(const struct view *v, const char *path);
/* Inside one of the private tmpfs trees of the view. */
bool base_is_private(const char *path);

/* --- planner_mounts.c --- */
int mounts_add(struct view *v, struct plan_builder *b);
int layers_add(struct view *v, struct plan_builder *b, size_t n_programs);
