/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Named runtime sets and seccomp profiles, in runtimes/ and seccomp/ of the operator's configuration, then of the
 * installation's policies/.
 *
 * A set lists host paths, with glob patterns where versions differ; what this host does not have is left out.  The
 * files belong to the operator and are trusted, but read with the same strictness as a policy.
 */
#include "draft.h"

#include "common/util.h"
#include "data_file.h"
#include "lock.h"
#include "path.h"

#include <errno.h>
#include <glob.h>
#include <limits.h>
#include <string.h>

#define INCLUDES_MAX 4

struct set { /* one set being added */
        struct bind b;
        struct draft *draft;
        const struct node *at; /* in the policy */
        struct bind *policy;
        unsigned depth;
        const char *name;
};

static int add_at(struct set *s, enum policy_path_kind kind, const char *path, bool tree) {
        struct policy_path p = {.kind = kind, .tree = tree, .optional = true, .mark = s->at->mark};
        char norm[PATH_MAX];

        if (!path_normalise(path, norm, sizeof(norm)))
                return 0;
        for (size_t i = 0; i < s->draft->n_paths; i++) {
                const struct policy_path *have = &s->draft->paths[i];
                if (have->kind == kind && strcmp(have->path, norm) == 0)
                        return 0;
        }
        p.path = arena_strndup(s->b.arena, norm, strlen(norm));
        return p.path ? draft_add_path(s->policy, s->draft, &p) : -ENOMEM;
}

/* What the pattern matches here; a literal path that is missing is kept (optional), a pattern without match is not. */
static int add_pattern(struct set *s, enum policy_path_kind kind, const char *pattern) {
        glob_t g = {0};
        int r = 0;

        if (!strpbrk(pattern, "*?["))
                return add_at(s, kind, pattern, pattern[strlen(pattern) - 1] == '/');
        int found = glob(pattern, GLOB_MARK, NULL, &g);
        for (size_t i = 0; found == 0 && r == 0 && i < g.gl_pathc; i++)
                r = add_at(s, kind, g.gl_pathv[i], g.gl_pathv[i][strlen(g.gl_pathv[i]) - 1] == '/');
        globfree(&g);
        return found == GLOB_NOSPACE ? -ENOMEM : r;
}

/* f->min: enum policy_path_kind */
static int bind_set_paths(struct bind *b, const struct node *v, const struct bind_field *f, void *out) {
        if (!bind_is(b, v, NODE_LIST, "a list of paths"))
                return 0;
        for (const struct node *e = v->first; e; e = e->next) {
                if (!bind_is(b, e, NODE_SCALAR, "a path"))
                        continue;
                if (e->text[0] != '/') {
                        bind_error(b, e, "", "not an absolute path: '%.200s'", e->text);
                        continue;
                }
                int r = add_pattern(out, (enum policy_path_kind)f->min, e->text);
                if (r < 0)
                        return r;
        }
        return 0;
}

static int add_set(struct set *s);

static int bind_includes(struct bind *b, const struct node *v, const struct bind_field *f, void *out) {
        struct set *s = out;

        if (!bind_is(b, v, NODE_LIST, "a list of runtime sets"))
                return 0;
        for (const struct node *e = v->first; e; e = e->next) {
                if (!bind_is(b, e, NODE_SCALAR, "the name of a runtime set"))
                        continue;
                struct set inner = {
                        .draft = s->draft, .at = s->at, .policy = s->policy, .depth = s->depth + 1, .name = e->text};
                int r = add_set(&inner);
                if (r < 0)
                        return r;
        }
        return 0;
}

static int bind_set_name(struct bind *b, const struct node *v, const struct bind_field *f, void *out) {
        const struct set *s = out;

        if (bind_is(b, v, NODE_SCALAR, "a name") && strcmp(v->text, s->name) != 0)
                bind_error(b, v, "", "runtime '%.60s' in the file of '%s'", v->text, s->name);
        return 0;
}

static int bind_ignored_text(struct bind *b, const struct node *v, const struct bind_field *f, void *out) {
        bind_is(b, v, NODE_SCALAR, "text");
        return 0;
}

static const struct bind_field set_fields[] = {
        {"runtime", bind_set_name, .required = true},
        {"description", bind_ignored_text},
        {"includes", bind_includes},
        {"exec", bind_set_paths, .min = POLICY_RUNTIME},
        {"read", bind_set_paths, .min = POLICY_RUNTIME_READ},
};
static const struct bind_table set_table = {"in a runtime set", set_fields, ELEMENTSOF(set_fields)};

static int read_set(struct set *s, const char *file) {
        struct policy_report *report = s->policy->report;
        struct crew_err err = CREW_ERR_NULL;
        _cleanup_free_ char *bytes = NULL;
        struct node *doc;
        size_t n;

        s->b = (struct bind){.file = file, .arena = s->policy->arena, .report = report};
        int r = crew_read_file(file, NODE_MAX_BYTES, &bytes, &n, &err);
        if (r < 0) {
                bind_error(s->policy, s->at, "", "runtime '%s': %s", s->name, err.msg);
                return 0;
        }
        if ((r = lock_note(s->policy->used, LOCK_RUNTIME, s->name, file, bytes, n)) < 0)
                return r;
        r = node_parse(file, bytes, n, s->b.arena, &doc, report, NULL);
        if (r < 0 || !doc)
                return r == -ENOMEM ? r : 0;
        return bind_map(&s->b, doc, &set_table, s);
}

/* Sets include each other; each is read once. */
static int remember_set(struct set *s, bool *known) {
        struct draft_list *l = &s->draft->sets;

        for (size_t i = 0; i < l->n; i++)
                if (strcmp(l->items[i].name, s->name) == 0) {
                        *known = true;
                        return 0;
                }
        int r = arena_grow(s->policy->arena, &l->items, l->n, sizeof(*l->items));
        if (r == 0)
                l->items[l->n++] = (struct policy_name){.name = s->name, .mark = s->at->mark};
        return r;
}

static int add_set(struct set *s) {
        char path[PATH_MAX];
        bool known = false;
        int r = remember_set(s, &known);

        if (r < 0 || known)
                return r;
        if (s->depth > INCLUDES_MAX) {
                bind_error(s->policy, s->at, "", "runtime sets include each other more than %d levels deep", INCLUDES_MAX);
                return 0;
        }
        if (!data_file(&data_runtimes, s->name, path)) {
                data_unknown(s->policy, s->at, &data_runtimes, s->name);
                return 0;
        }
        const char *file = arena_strndup(s->policy->arena, path, strlen(path));
        return file ? read_set(s, file) : -ENOMEM;
}

int runtime_add(struct bind *b, struct draft *d, const struct node *at, const char *name) {
        struct set s = {.draft = d, .at = at, .policy = b, .name = name};

        return add_set(&s);
}

int profile_check(struct bind *b, const struct node *at, const char *name) {
        char path[PATH_MAX];

        if (strcmp(name, "default") != 0 && !data_file(&data_profiles, name, path))
                data_unknown(b, at, &data_profiles, name);
        return 0;
}
