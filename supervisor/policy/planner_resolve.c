/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Real paths of what a policy grants.  realpath(3) would follow any link; here a link that lies where an agent of the
 * crew may write ends the resolution, for it would let that agent choose what another one is given.
 */
#include "planner_view.h"

#include "common/util.h"
#include "path.h"

#include <errno.h>
#include <stdarg.h>
#include <string.h>
#include <sys/stat.h>

#define LINKS_MAX 40

int view_fail(const struct view *v, uint32_t line, int code, const char *fmt, ...) {
        char text[CREW_ERR_MSG_MAX];
        va_list ap;

        va_start(ap, fmt);
        vsnprintf(text, sizeof(text), fmt, ap);
        va_end(ap);
        if (line == 0)
                return crew_fail(v->err, code, "%s: %s", policy_file(v->in->policy), text);
        return crew_fail(v->err, code, "%s:%u: %s", policy_file(v->in->policy), line, text);
}

const char *view_suffix(const char *dir, const char *path) {
        if (!path_within(dir, path))
                return NULL;
        return strcmp(dir, "/") == 0 ? path : path + strlen(dir);
}

static const char *hostile_tree(const struct view *v, const char *path) {
        for (size_t i = 0; i < v->n_hostile; i++)
                if (path_within(v->hostile[i], path) && strcmp(v->hostile[i], path) != 0)
                        return v->hostile[i];
        return NULL;
}

static void drop_last(char *out) {
        char *slash = strrchr(out, '/');
        if (slash)
                *slash = '\0';
}

/* Puts the link's text in front of what is still to be walked. */
static int follow(char *out, char *todo, const char *link, size_t n_link) {
        char joined[PATH_MAX];

        if ((size_t)snprintf(joined, sizeof(joined), "%.*s/%s", (int)n_link, link, todo) >= sizeof(joined))
                return -ENAMETOOLONG;
        strcpy(todo, joined);
        if (link[0] == '/')
                out[0] = '\0';
        else
                drop_last(out);
        return 0;
}

/* One component appended to out; then a link there is followed.  RESOLVE_*, or -errno. */
static int step(const struct view *v, char *out, char *todo, unsigned *links, struct crew_err *err) {
        char link[PATH_MAX];
        ssize_t n = readlink(out, link, sizeof(link));

        if (n < 0 && errno == EINVAL) /* there, and no link */
                return RESOLVE_FOUND;
        if (n < 0)
                return errno == ENOENT ? RESOLVE_MISSING : crew_fail_errno(err, "%s", out);
        const char *tree = hostile_tree(v, out);
        if (tree)
                return crew_fail(err, ELOOP, "%s is a symbolic link inside %s/, where an agent may write", out, tree);
        if (++*links > LINKS_MAX || n == 0 || follow(out, todo, link, (size_t)n) < 0)
                return crew_fail(err, ELOOP, "%s: too many symbolic links", out);
        return RESOLVE_FOUND;
}

/* Many paths share a directory: one that was walked last, without meeting a link, is not walked again. */
static void start_walk(const struct view *v, const char *path, char *out, char *todo) {
        const char *rest = v->walked[0] ? view_suffix(v->walked, path) : NULL;

        strcpy(out, rest ? v->walked : "");
        strcpy(todo, rest ? rest : path);
}

static void end_walk(struct view *v, const char *path, const char *real, bool found) {
        if (!found || strcmp(path, real) != 0)
                return;
        strcpy(v->walked, real);
        drop_last(v->walked);
}

/* Takes the next word off todo; false when there is none. */
static bool next_word(char *todo, char word[NAME_MAX + 1], int *r) {
        size_t blank = strspn(todo, "/"), n = strcspn(todo + blank, "/");

        if (n > NAME_MAX)
                *r = -ENAMETOOLONG;
        if (n == 0 || n > NAME_MAX)
                return false;
        memcpy(word, todo + blank, n);
        word[n] = '\0';
        memmove(todo, todo + blank + n, strlen(todo + blank + n) + 1);
        return true;
}

int view_resolve(struct view *v, const char *path, char out[PATH_MAX], struct crew_err *err) {
        char todo[PATH_MAX], word[NAME_MAX + 1];
        unsigned links = 0;
        int state = RESOLVE_FOUND;

        if (strlen(path) >= sizeof(todo))
                return crew_fail(err, ENAMETOOLONG, "%s: path too long", path);
        start_walk(v, path, out, todo);
        while (state >= 0 && next_word(todo, word, &state)) {
                if (strcmp(word, ".") == 0)
                        continue;
                if (strcmp(word, "..") == 0) {
                        drop_last(out);
                        continue;
                }
                if (strlen(out) + strlen(word) + 2 > PATH_MAX) {
                        state = -ENAMETOOLONG;
                        break;
                }
                strcat(strcat(out, "/"), word);
                if (state == RESOLVE_FOUND && (state = step(v, out, todo, &links, err)) < 0)
                        return state;
        }
        if (state < 0)
                return crew_fail(err, -state, "%s: path too long", path);
        if (!out[0])
                strcpy(out, "/");
        end_walk(v, path, out, state == RESOLVE_FOUND);
        return state;
}
