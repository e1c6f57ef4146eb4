/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A role policy between YAML and the frozen image: bound, then checked, then compiled.  Lives in the loader's arena.
 */
#pragma once

#include "bind.h"
#include "image.h"

struct draft {
        const char *agent;
        struct policy_path *paths; /* as written, then what the runtime sets add */
        size_t n_paths;
        struct draft_endpoint {
                struct policy_endpoint e;
                const char *const *methods, *const *paths;
        } * endpoints; /* as written, then what the presets add */
        size_t n_endpoints;
        const struct node *presets; /* its list */
        struct policy_network network;
        struct draft_list {
                struct policy_name *items;
                size_t n;
        } names[POLICY_LIST_N];
        struct policy_mark sections[IMAGE_SECTION_N]; /* where `read:`, `allowed:`, ... stand; line 0: not there */
        struct policy_limits limits;
        uint32_t audit_files; /* enum policy_audit_files */
        const char *profile;
        const struct node *deny_all; /* its node when it is true */
        const struct node *on_unlisted, *enforcement, *ask_timeout;
        bool runtime_given;
        struct draft_list sets; /* runtime sets that were added */
        const struct node *profile_at;
};

/* Binds one document (defaults are filled in).  Problems go to b->report. */
int draft_bind(struct bind *b, const struct node *doc, struct draft *d);
/* What must hold of a policy on its own: overlaps, holes, places nobody may be granted, what stands on disk. */
int draft_check(struct bind *b, struct draft *d, struct crew_err *err);
int draft_add_path(struct bind *b, struct draft *d, const struct policy_path *p);

/* The network section: its keys, and once they are all read, its presets. */
extern const struct bind_table network_table;
int network_finish(struct bind *b, struct draft *d);
/* What must hold of the section as a whole. */
void network_check(struct bind *b, const struct draft *d);
/* A list of endpoints.  preset: whose file it stands in, and where the policy names that; NULL: the policy itself. */
struct preset_ref {
        const char *name;
        struct policy_mark listed;
};
int endpoints_bind(struct bind *b, const struct node *list, struct draft *d, const struct preset_ref *preset);
/* Adds the endpoints of a named preset, as if written at `at`. */
int preset_add(struct bind *b, struct draft *d, const struct node *at, const char *name);

/* Adds the paths of a named runtime set, as if written at `at`. */
int runtime_add(struct bind *b, struct draft *d, const struct node *at, const char *name);
/* Is there a seccomp profile of that name?  Reports when not. */
int profile_check(struct bind *b, const struct node *at, const char *name);
