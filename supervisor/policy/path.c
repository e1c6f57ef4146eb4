/* SPDX-License-Identifier: Apache-2.0 */
/* Policy paths.  path_look() alone asks the file system; it never opens what it looks at. */
#include "path.h"

#include "common/util.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/openat2.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>

const char *const path_search[PATH_SEARCH_N] = {"/usr/local/bin", "/usr/bin", "/bin"};

bool path_within(const char *dir, const char *path) {
        size_t n = strlen(dir);

        if (n == 1 && dir[0] == '/')
                return path[0] == '/';
        return strncmp(dir, path, n) == 0 && (path[n] == '\0' || path[n] == '/');
}

bool path_covers(const struct policy_path *grant, const char *path) {
        return grant->tree ? path_within(grant->path, path) : strcmp(grant->path, path) == 0;
}

bool path_overlaps(const char *a, const char *b) {
        return path_within(a, b) || path_within(b, a);
}

bool path_normalise(const char *in, char *out, size_t size) {
        size_t n = 0;

        if (in[0] != '/' || size < 2)
                return false;
        while (*in) {
                in += strspn(in, "/");
                size_t k = strcspn(in, "/");
                if (k == 2 && strncmp(in, "..", 2) == 0) {
                        while (n > 0 && out[--n] != '/')
                                ;
                } else if (k > 0 && !(k == 1 && in[0] == '.')) {
                        if (n + k + 2 > size)
                                return false;
                        out[n++] = '/';
                        memcpy(out + n, in, k);
                        n += k;
                }
                in += k;
        }
        if (n == 0)
                out[n++] = '/';
        out[n] = '\0';
        return true;
}

/* Why text cannot be a path of a policy, or NULL. */
static const char *path_fault(const char *text, const char **hint) {
        *hint = "";
        if (!*text)
                return "an empty path";
        if (text[0] == '~') {
                *hint = "write the directory in full";
                return "'~' is not expanded";
        }
        if (text[0] != '/') {
                *hint = "start it with '/' or ${CREW_DIR}/";
                return "not an absolute path";
        }
        for (const char *c = text; *c; c++)
                if ((unsigned char)*c < 0x20 || *c == 0x7f)
                        return "a control character in a path";
        if (strchr(text, '*')) {
                *hint = "a path that ends in '/' grants the whole tree";
                return "wildcards are not accepted in a path";
        }
        for (const char *c = text; (c = strstr(c, "/.")); c += 2) {
                size_t dots = c[2] == '.' ? 2 : 1;
                if (c[1 + dots] == '/' || c[1 + dots] == '\0')
                        return "'.' and '..' are not accepted in a path";
        }
        return NULL;
}

int path_parse(struct bind *b, const struct node *at, const char *text, struct policy_path *out) {
        const char *full, *hint;
        char norm[PATH_MAX];
        int r = bind_expand(b, at, text, &full);

        if (r != 0)
                return r;
        const char *fault = path_fault(full, &hint);
        if (!fault && !path_normalise(full, norm, sizeof(norm)))
                fault = "a path that is too long";
        if (fault) {
                bind_error(b, at, hint, "%s: '%.200s'", fault, text);
                return 1;
        }
        out->tree = full[strlen(full) - 1] == '/';
        out->mark = at->mark;
        out->path = arena_strndup(b->arena, norm, strlen(norm));
        return out->path ? 0 : -ENOMEM;
}

/* realpath(3) of the longest leading part that exists, the rest appended as written. */
static int real_prefix(const char *path, char *real) {
        char part[PATH_MAX];
        size_t n = strlen(path);

        if (n >= sizeof(part))
                return -ENAMETOOLONG;
        memcpy(part, path, n + 1);
        for (;;) {
                struct stat st;
                if (realpath(part, real))
                        break;
                /* A dangling link is no missing path: what it will lead to is not ours to decide. */
                if (errno == ENOENT && lstat(part, &st) == 0)
                        return -ELOOP;
                if (errno != ENOENT)
                        return -errno;
                char *slash = strrchr(part, '/');
                slash[slash == part] = '\0';
        }
        const char *rest = path + strlen(part);
        rest += strspn(rest, "/");
        size_t k = strlen(real);
        if (*rest && (size_t)snprintf(real + k, PATH_MAX - k, "%s%s", k > 1 ? "/" : "", rest) >= PATH_MAX - k)
                return -ENAMETOOLONG;
        return 0;
}

/* One look without following any link; -ELOOP when there is one on the way. */
static int look_directly(const char *path) {
        struct open_how how = {.flags = O_PATH | O_CLOEXEC, .resolve = RESOLVE_NO_SYMLINKS};
        _cleanup_close_ int fd = (int)syscall(SYS_openat2, AT_FDCWD, path, &how, sizeof(how));
        struct stat st;

        if (fd < 0 && errno == ENOENT)
                return PATH_MISSING;
        if (fd < 0 || fstat(fd, &st) < 0)
                return -errno;
        return S_ISREG(st.st_mode) ? PATH_FILE : S_ISDIR(st.st_mode) ? PATH_DIRECTORY : PATH_OTHER;
}

int path_look(const char *path, char *real) {
        int state = look_directly(path);

        if (state != -ELOOP)
                return state;
        int r = real_prefix(path, real);
        return r < 0 ? r : PATH_SYMLINKED;
}
