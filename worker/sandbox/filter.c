/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Looks a profile up and takes the built-in program when the file says what was built in.  Trusts the directories the
 * profiles lie in: they are the administrator's, or the operator's own.
 */
#include "filter.h"

#include "filter_build.h"

#include "common/paths.h"
#include "common/util.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

const char *const *filter_builtin_names(void) {
        static const char *names[32];

        for (size_t i = 0; i + 1 < ELEMENTSOF(names) && filter_builtins[i].name; i++)
                names[i] = filter_builtins[i].name;
        return names;
}

static const struct filter_builtin *builtin_find(const char *name) {
        for (const struct filter_builtin *b = filter_builtins; b->name; b++) {
                if (strcmp(b->name, name) == 0)
                        return b;
        }
        return NULL;
}

static int copy_out(const struct sock_filter *insns, size_t n, struct sock_filter **out, size_t *out_n,
                    struct crew_err *err) {
        struct sock_filter *copy = malloc(n * sizeof(*copy));

        if (!copy)
                return crew_fail(err, ENOMEM, "seccomp: out of memory");
        memcpy(copy, insns, n * sizeof(*copy));
        *out = copy;
        *out_n = n;
        return 0;
}

/* -ENOENT when dir has no such profile. */
static int read_profile(const char *dir, const char *name, char path[PATH_MAX], char **text, size_t *n,
                        struct crew_err *err) {
        if ((size_t)snprintf(path, PATH_MAX, "%s/seccomp/%s.profile", dir, name) >= PATH_MAX)
                return crew_fail(err, ENAMETOOLONG, "path too long: %s/seccomp/%s.profile", dir, name);
        if (access(path, F_OK) < 0 && errno == ENOENT)
                return -ENOENT; /* the usual case, for which nobody wants to have a text made */
        return crew_read_file(path, FILTER_PROFILE_BYTES_MAX, text, n, err);
}

static int find_profile(const char *name, char path[PATH_MAX], char **text, size_t *n, struct crew_err *err) {
        struct crew_paths paths;
        char data[PATH_MAX];
        int r = -ENOENT;

        if (crew_paths_init(&paths, NULL) == 0)
                r = read_profile(paths.config, name, path, text, n, err);
        if (r == -ENOENT && crew_data_dir(data, NULL) == 0)
                r = read_profile(data, name, path, text, n, err);
        return r;
}

static int no_such_profile(const char *name, struct crew_err *err) {
        char known[256] = "";
        size_t at = 0;

        for (const struct filter_builtin *b = filter_builtins; b->name && at < sizeof(known); b++)
                at += (size_t)snprintf(known + at, sizeof(known) - at, "%s%s", at ? ", " : "", b->name);
        return crew_fail(err, ENOENT, "no seccomp profile '%s'; known: %s", name, known);
}

int filter_compile(const char *profile, struct sock_filter **insns, size_t *n_insns, struct crew_err *err) {
        const struct filter_builtin *b = builtin_find(profile);
        _cleanup_free_ char *text = NULL;
        char path[PATH_MAX];
        size_t n = 0;

        if (!crew_name_ok(profile))
                return no_such_profile(profile, err);
        int r = find_profile(profile, path, &text, &n, err);
        if (r < 0 && r != -ENOENT)
                return r;
        if (r == -ENOENT && !b)
                return no_such_profile(profile, err);
        if (b && (r == -ENOENT || (text && n == b->text_len && memcmp(text, b->text, n) == 0)))
                return copy_out(b->insns, b->n_insns, insns, n_insns, err);

        static struct filter_program program;
        struct filter_profile parsed;
        if ((r = filter_profile_parse(path, text, n, &parsed, err)) < 0 || (r = filter_build(&parsed, &program, err)) < 0)
                return r;
        return copy_out(program.insns, program.n, insns, n_insns, err);
}
