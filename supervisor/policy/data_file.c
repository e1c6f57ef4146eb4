/* SPDX-License-Identifier: Apache-2.0 */
/* Looking up named files, beside the operator's configuration first.  Names are checked, so no path is ever built of one
 * that leads elsewhere. */
#include "data_file.h"

#include "common/paths.h"
#include "common/util.h"

#include <dirent.h>
#include <string.h>

const struct data_kind data_runtimes = {"runtime", "runtimes", ".yaml"};
const struct data_kind data_presets = {"preset", "presets", ".yaml"};
const struct data_kind data_profiles = {"seccomp profile", "seccomp", ".profile"};

/* The directory number i (0: configuration, 1: installation) of that kind; false when there is none. */
static bool data_dir(const struct data_kind *k, unsigned i, char out[PATH_MAX]) {
        struct crew_paths paths;

        if (i == 0 ? crew_paths_init(&paths, NULL) < 0 : crew_data_dir(out, NULL) < 0)
                return false;
        if (i == 0)
                memcpy(out, paths.config, PATH_MAX);
        if (strlen(out) + strlen(k->dir) + 2 > PATH_MAX)
                return false;
        strcat(strcat(out, "/"), k->dir);
        return true;
}

bool data_file(const struct data_kind *k, const char *name, char out[PATH_MAX]) {
        for (unsigned i = 0; i < 2; i++) {
                if (!crew_name_ok(name) || !data_dir(k, i, out) ||
                    strlen(out) + strlen(name) + strlen(k->ext) + 2 > PATH_MAX)
                        continue;
                strcat(strcat(strcat(out, "/"), name), k->ext);
                if (access(out, R_OK) == 0)
                        return true;
        }
        return false;
}

/* Keeps names sorted; one that is there already, or that is no name, is left out. */
static size_t insert_name(const char *names[DATA_NAMES_MAX], size_t n, const char *name) {
        size_t i = 0;

        while (i < n && strcmp(names[i], name) < 0)
                i++;
        if (n == DATA_NAMES_MAX || !crew_name_ok(name) || (i < n && strcmp(names[i], name) == 0))
                return n;
        memmove(names + i + 1, names + i, (n - i) * sizeof(*names));
        names[i] = name;
        return n + 1;
}

size_t data_names(struct arena *a, const struct data_kind *k, const char *names[DATA_NAMES_MAX]) {
        char path[PATH_MAX];
        size_t n = 0;

        for (unsigned i = 0; i < 2; i++) {
                DIR *d = data_dir(k, i, path) ? opendir(path) : NULL;
                for (struct dirent *e; d && (e = readdir(d));) {
                        const char *dot = strrchr(e->d_name, '.');
                        const char *name = dot && strcmp(dot, k->ext) == 0
                                                   ? arena_strndup(a, e->d_name, (size_t)(dot - e->d_name))
                                                   : NULL;
                        if (name)
                                n = insert_name(names, n, name);
                }
                if (d)
                        closedir(d);
        }
        return n;
}

void data_unknown(struct bind *b, const struct node *at, const struct data_kind *k, const char *name) {
        const char *names[DATA_NAMES_MAX];
        char hint[256];
        size_t n = data_names(b->arena, k, names);

        bind_error(b, at, n ? bind_suggest(hint, sizeof(hint), name, names, n) : "is the installation complete?",
                   "there is no %s '%.60s'", k->what, name);
}
