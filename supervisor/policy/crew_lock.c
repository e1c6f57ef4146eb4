/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which files a crew consists of.  What the loader has read is in its list already; here the programs are added: those that
 * commands name, wherever the jail would look for them, with the interpreters that scripts among them name.
 */
#include "crew_draft.h"

#include "common/digest.h"
#include "common/util.h"
#include "data_file.h"
#include "lock.h"
#include "path.h"

#include <errno.h>
#include <limits.h>
#include <string.h>
#include <sys/stat.h>

#define INTERPRETERS_MAX 4u /* of an interpreter of an interpreter */
#define SHEBANG_MAX 256u

struct crew_lock *crew_lock_free(struct crew_lock *l) {
        if (l)
                arena_fini(&l->arena);
        free(l);
        return NULL;
}

/* --- programs --- */

struct taking {
        const struct crew_file *c;
        struct lock_list *l;
        struct crew_err *err;
};

static int take_program(struct taking *t, enum lock_kind kind, const char *path, unsigned depth);

/* A command without a slash is searched for when the jail is made; each file that may be found is part of the crew. */
static int take_searched(struct taking *t, enum lock_kind kind, const char *word, unsigned depth) {
        char path[PATH_MAX], real[PATH_MAX], before[PATH_SEARCH_N][PATH_MAX];
        size_t n = 0;
        int r = 0;

        if (strcmp(word, "crew-call") == 0)
                return 0; /* ours: the one that is installed */
        for (size_t i = 0; r == 0 && i < PATH_SEARCH_N; i++) {
                bool known = false;
                if ((size_t)snprintf(path, sizeof(path), "%s/%s", path_search[i], word) >= sizeof(path) ||
                    !realpath(path, real))
                        continue;
                for (size_t k = 0; k < n; k++)
                        known = known || strcmp(before[k], real) == 0;
                memcpy(before[n++], real, sizeof(real));
                if (!known)
                        r = take_program(t, kind, path, depth);
        }
        return r;
}

/* "#!/usr/bin/env python3", "#!/bin/sh -e" */
static int take_interpreter(struct taking *t, enum lock_kind kind, const char *path, unsigned depth) {
        char line[SHEBANG_MAX + 1], *rest = NULL;
        _cleanup_fclose_ FILE *f = fopen(path, "re");
        size_t n = f ? fread(line, 1, SHEBANG_MAX, f) : 0;

        line[n] = '\0';
        line[strcspn(line, "\n")] = '\0';
        if (strncmp(line, "#!", 2) != 0 || depth == INTERPRETERS_MAX)
                return 0;
        const char *program = strtok_r(line + 2, " \t", &rest), *word = strtok_r(NULL, " \t", &rest);
        if (!program || program[0] != '/')
                return 0;
        const char *base = strrchr(program, '/') + 1;
        int r = take_program(t, kind, program, depth + 1);
        if (r == 0 && strcmp(base, "env") == 0 && word && strcmp(word, "-S") == 0)
                word = strtok_r(NULL, " \t", &rest);
        if (r == 0 && strcmp(base, "env") == 0 && word && word[0] != '-' && !strpbrk(word, "/="))
                r = take_searched(t, kind, word, depth + 1);
        return r;
}

static int take_program(struct taking *t, enum lock_kind kind, const char *path, unsigned depth) {
        struct stat st;

        if (stat(path, &st) < 0 || !S_ISREG(st.st_mode))
                return 0; /* not there: whoever wants to run it says so */
        int r = lock_note_program(t->l, kind, path, t->err);
        return r < 0 ? r : take_interpreter(t, kind, path, depth);
}

static int take_command(struct taking *t, enum lock_kind kind, const char *const *words, size_t n) {
        char own[PATH_MAX];
        int r = 0;

        for (size_t i = 0; r == 0 && i < n; i++) {
                if (crew_own_file(t->c, words[i], own))
                        r = take_program(t, kind, own, 0);
                else if (i == 0 && words[0][0] == '/')
                        r = take_program(t, kind, words[0], 0);
                else if (i == 0)
                        r = take_searched(t, kind, words[0], 0);
        }
        return r;
}

/* filesystem.exec: single files; the programs of a tree are not listed. */
static int take_exec(struct taking *t, const struct policy_image *p) {
        int r = 0;

        for (size_t i = 0; r == 0 && i < policy_n_paths(p); i++) {
                struct policy_path at = policy_path_at(p, i);
                if (at.kind == POLICY_EXEC && !at.tree)
                        r = take_program(t, LOCK_PROGRAM, at.path, 0);
        }
        return r;
}

/* Read anew for each plan, so it counts as a program. */
static int take_profile(struct taking *t, const struct policy_image *p) {
        const char *name = policy_syscall_profile(p);
        char path[PATH_MAX];

        if (!data_file(&data_profiles, name, path))
                return 0; /* the built-in one */
        int r = lock_note_program(t->l, LOCK_SECCOMP, path, t->err);
        if (r == 0 && !(t->l->items[t->l->n - 1].name = arena_strndup(t->l->arena, name, strlen(name))))
                r = crew_fail(t->err, ENOMEM, "out of memory");
        return r;
}

static int take_programs(struct taking *t) {
        const struct crew_file *c = t->c;
        int r = take_command(t, LOCK_HOOK, (const char *const *)c->hook_terminated, c->n_hook_terminated);

        if (r == 0 && c->webhook.ca_file)
                r = lock_note_program(t->l, LOCK_CA, c->webhook.ca_file, t->err);
        for (size_t i = 0; r == 0 && i < c->n_tools; i++)
                r = take_command(t, LOCK_TOOL, (const char *const *)c->tools[i].command, c->tools[i].n_command);
        for (size_t i = 0; r == 0 && i < c->n_agents; i++) {
                const struct crew_agent *a = &c->agents[i];
                if (a->absent || a->instance)
                        continue;
                r = take_command(t, LOCK_PROGRAM, (const char *const *)a->command, a->n_command);
                if (r == 0)
                        r = take_command(t, LOCK_PROGRAM, (const char *const *)a->health.command, a->health.n_command);
                if (r == 0)
                        r = take_command(t, LOCK_PROGRAM, (const char *const *)a->migrate.command, a->migrate.n_command);
                if (r == 0)
                        r = take_exec(t, a->policy);
                if (r == 0)
                        r = take_profile(t, a->policy);
        }
        return r;
}

/* --- who runs what --- */

static bool is_run(enum lock_kind kind) {
        return kind == LOCK_PROGRAM || kind == LOCK_TOOL || kind == LOCK_SECCOMP;
}

const struct lock_file *crew_lock_changed(const struct crew_lock *from, const struct crew_lock *to, size_t *at) {
        while (*at < to->files.n) {
                const struct lock_file *f = &to->files.items[(*at)++];
                for (size_t i = 0; is_run(f->kind) && i < from->files.n; i++) {
                        const struct lock_file *was = &from->files.items[i];
                        if (was->kind == f->kind && strcmp(was->name, f->name) == 0 &&
                            memcmp(was->sha256, f->sha256, sizeof(f->sha256)) != 0)
                                return f;
                }
        }
        return NULL;
}

static bool names_file(const struct crew_file *c, const char *const *words, size_t n, const char *path) {
        const char *base = strrchr(path, '/');
        char own[PATH_MAX];

        for (size_t i = 0; i < n; i++) {
                if (crew_own_file(c, words[i], own)
                            ? strcmp(own, path) == 0
                            : i == 0 && (strcmp(words[0], path) == 0 || (base && strcmp(words[0], base + 1) == 0)))
                        return true;
        }
        return false;
}

bool crew_lock_uses(const struct crew_file *c, const struct crew_agent *a, const struct lock_file *f) {
        if (f->kind == LOCK_SECCOMP)
                return strcmp(policy_syscall_profile(a->policy), f->name) == 0;
        if (names_file(c, (const char *const *)a->command, a->n_command, f->path) ||
            names_file(c, (const char *const *)a->health.command, a->health.n_command, f->path))
                return true;
        for (size_t i = 0; i < c->n_tools; i++) {
                const struct crew_tool *t = &c->tools[i];
                if (names_file(c, (const char *const *)t->command, t->n_command, f->path) &&
                    policy_decide(a->policy, POLICY_DO_TOOL, t->name).allowed)
                        return true;
        }
        return false;
}

/* --- the whole --- */

static int copy_read(struct lock_list *l, const struct lock_list *from) {
        for (size_t i = 0; i < from->n; i++) {
                const struct lock_file *f = &from->items[i];
                if (arena_grow(l->arena, &l->items, l->n, sizeof(*l->items)) < 0)
                        return -ENOMEM;
                struct lock_file *to = &l->items[l->n];
                *to = *f;
                to->name = arena_strndup(l->arena, f->name, strlen(f->name));
                to->path = arena_strndup(l->arena, f->path, strlen(f->path));
                if (!to->name || !to->path)
                        return -ENOMEM;
                l->n++;
        }
        return 0;
}

int crew_lock_take(const struct crew_file *c, struct crew_lock **out, struct crew_err *err) {
        const struct crew_own *own = (const struct crew_own *)c;
        struct crew_lock *l = calloc(1, sizeof(*l));
        struct taking t = {.c = c, .l = l ? &l->files : NULL, .err = err};

        *out = NULL;
        if (!l)
                return crew_fail(err, ENOMEM, "out of memory");
        l->files.arena = &l->arena;
        l->files.dir = arena_strndup(&l->arena, c->dir, strlen(c->dir));
        int r = !l->files.dir || copy_read(&l->files, &own->used) < 0 ? crew_fail(err, ENOMEM, "out of memory")
                                                                      : take_programs(&t);
        if (r < 0) {
                crew_lock_free(l);
                return r;
        }
        lock_sort(&l->files);
        *out = l;
        return 0;
}

int crew_lock_path(const struct crew_file *c, char *out, size_t size) {
        return (size_t)snprintf(out, size, "%s/" LOCK_FILE, c->dir) >= size ? -ENAMETOOLONG : 0;
}

static int read_lock(const struct crew_file *c, const char *path, struct crew_lock *want, struct policy_report *report,
                     struct crew_err *err) {
        _cleanup_free_ char *text = NULL;
        struct crew_err why = CREW_ERR_NULL;
        size_t n = 0;
        int r = crew_read_file(path, LOCK_MAX_BYTES, &text, &n, &why);

        if (r < 0) {
                policy_report_add(report, false, path, 0, 0, r == -ENOENT ? "crewctl lock CREW.yaml makes one" : "",
                                  "cannot be read: %s", r == -EFBIG ? "it is larger than 1 MiB" : strerror(-r));
                return r;
        }
        crew_sha256(text, n, want->sha256);
        want->files.arena = &want->arena;
        return lock_parse(&want->files, path, c->name, text, n, report, err);
}

int crew_lock_verify(const struct crew_file *c, struct crew_lock **out, struct policy_report *report,
                     struct crew_err *err) {
        struct crew_lock want = {0}, *have = NULL;
        char path[PATH_MAX];
        size_t before = report->errors;

        if (out)
                *out = NULL;
        int r = crew_lock_path(c, path, sizeof(path));
        if (r == 0)
                r = read_lock(c, path, &want, report, err);
        if (r == 0)
                r = crew_lock_take(c, &have, err);
        if (r == 0)
                lock_compare(&want.files, &have->files, path, report);
        else if (report->errors == before)
                policy_report_add(report, false, path, 0, 0, "", "cannot be checked: %s", err ? err->msg : strerror(-r));
        arena_fini(&want.arena);
        if (report->errors != before || !have) {
                crew_lock_free(have);
                return crew_fail(err, EKEYREJECTED, "the files of crew %s are not those of %s", c->name, path);
        }
        memcpy(have->sha256, want.sha256, sizeof(want.sha256));
        if (out)
                *out = crew_steal_ptr(&have);
        crew_lock_free(have);
        return 0;
}
