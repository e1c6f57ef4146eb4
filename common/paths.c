/* SPDX-License-Identifier: Apache-2.0 */
#include "paths.h"

#include "util.h"

#include <errno.h>
#include <string.h>

static int put(char out[PATH_MAX], struct crew_err *err, const char *a, const char *b) {
        if ((size_t)snprintf(out, PATH_MAX, "%s%s", a, b) >= PATH_MAX)
                return crew_fail(err, ENAMETOOLONG, "path too long: %s%s", a, b);
        return 0;
}

/* $var/crewd, else $HOME + fallback + /crewd. */
static int xdg(char out[PATH_MAX], const char *var, const char *fallback, struct crew_err *err) {
        const char *dir = getenv(var), *home = getenv("HOME");
        char base[PATH_MAX];

        if (dir && dir[0] == '/')
                return put(out, err, dir, "/crewd");
        if (!home || home[0] != '/')
                return crew_fail(err, ENOENT, "neither %s nor HOME is set; set CREWD_HOME to a directory of yours", var);
        int r = put(base, err, home, fallback);
        return r < 0 ? r : put(out, err, base, "/crewd");
}

int crew_paths_init(struct crew_paths *p, struct crew_err *err) {
        const char *home = getenv("CREWD_HOME");
        int r;

        if (home && *home) {
                char full[PATH_MAX];
                if (home[0] != '/')
                        return crew_fail(err, EINVAL, "CREWD_HOME must be an absolute path, got '%s'", home);
                if ((r = put(full, err, home, "")) < 0 || (r = put(p->config, err, full, "/etc")) < 0 ||
                    (r = put(p->run, err, full, "/run")) < 0)
                        return r;
                return put(p->state, err, full, "/lib");
        }
        if (geteuid() == 0) {
                strcpy(p->config, "/etc/crewd");
                strcpy(p->run, "/run/crewd");
                strcpy(p->state, "/var/lib/crewd");
                return 0;
        }
        if ((r = xdg(p->config, "XDG_CONFIG_HOME", "/.config", err)) < 0 ||
            (r = xdg(p->run, "XDG_RUNTIME_DIR", "/.cache", err)) < 0)
                return r;
        return xdg(p->state, "XDG_STATE_HOME", "/.local/state", err);
}

static int own_dir(char out[PATH_MAX], struct crew_err *err) {
        ssize_t n = readlink("/proc/self/exe", out, PATH_MAX - 1);

        if (n < 0)
                return crew_fail_errno(err, "cannot read /proc/self/exe");
        out[n] = '\0';
        char *slash = strrchr(out, '/');
        if (slash)
                *slash = '\0';
        return 0;
}

int crew_program_path(const char *name, char out[PATH_MAX], struct crew_err *err) {
        static const char *const near[] = {"",           "/../cli",     "/../supervisor", "/../supervisor/evidence",
                                           "/../worker", "/../gateway", "/../../worker",  "/../../supervisor"};
        char dir[PATH_MAX];
        int r = own_dir(dir, err);

        if (r < 0)
                return r;
        for (size_t i = 0; i < ELEMENTSOF(near); i++) {
                char beside[PATH_MAX];
                /* Without the "..": plans take normalised paths only. */
                if ((size_t)snprintf(beside, sizeof(beside), "%s%s/%s", dir, near[i], name) < sizeof(beside) &&
                    access(beside, X_OK) == 0 && realpath(beside, out))
                        return 0;
        }
        if ((size_t)snprintf(out, PATH_MAX, "%s/%s", CREW_LIBEXECDIR, name) < PATH_MAX && access(out, X_OK) == 0)
                return 0;
        return crew_fail(err, ENOENT, "cannot find %s beside %s nor in %s; is the installation complete?", name, dir,
                         CREW_LIBEXECDIR);
}

int crew_data_dir(char out[PATH_MAX], struct crew_err *err) {
        static const char *const near[] = {"/../policies", "/../../policies"};
        char dir[PATH_MAX];
        int r = own_dir(dir, err);

        if (r < 0)
                return r;
        for (size_t i = 0; i < ELEMENTSOF(near); i++) {
                if ((size_t)snprintf(out, PATH_MAX, "%s%s/runtimes", dir, near[i]) < PATH_MAX && access(out, R_OK) == 0) {
                        *strrchr(out, '/') = '\0';
                        return 0;
                }
        }
        if ((size_t)snprintf(out, PATH_MAX, "%s/policies", CREW_DATADIR) < PATH_MAX && access(out, R_OK) == 0)
                return 0;
        return crew_fail(err, ENOENT, "cannot find policies/ near %s nor in %s; is the installation complete?", dir,
                         CREW_DATADIR);
}
