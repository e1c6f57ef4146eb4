/* SPDX-License-Identifier: Apache-2.0 */
#include "tree.h"

#include "util.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>

#define REMOVE_DEPTH_MAX 64u /* deeper ones are moved up and begun anew */

static void closedirp(DIR **d) {
        if (*d)
                closedir(*d);
}

static bool is_dots(const char *name) {
        return strcmp(name, ".") == 0 || strcmp(name, "..") == 0;
}

/* --- opening --- */

/* By a descriptor: another could take the name's place before its mode is changed. */
static int open_shut(int at, const char *name, mode_t kind, mode_t more) {
        char path[32];
        struct stat st;

        _cleanup_close_ int pin = openat(at, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
        if (pin < 0 || fstat(pin, &st) < 0)
                return -errno;
        if ((st.st_mode & S_IFMT) != kind || st.st_uid != geteuid())
                return -EACCES;
        snprintf(path, sizeof(path), "/proc/self/fd/%d", pin);
        if (chmod(path, (st.st_mode & 07777) | more) < 0)
                return -errno;
        int fd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC), r = fd < 0 ? -errno : fd;
        if (kind != S_IFDIR)
                (void)chmod(path, st.st_mode & 07777);
        return r;
}

int tree_open_dir(int at, const char *name) {
        struct stat st;

        _cleanup_close_ int fd = openat(at, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        /* The dot is looked up in there, which another bit allows than reading. */
        if (fd >= 0 && fstatat(fd, ".", &st, 0) == 0)
                return crew_steal_fd(&fd);
        return errno == EACCES ? open_shut(at, name, S_IFDIR, 0700) : -errno;
}

int tree_open_file(int at, const char *name) {
        int fd = openat(at, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);

        if (fd >= 0)
                return fd;
        return errno == EACCES ? open_shut(at, name, S_IFREG, 0400) : -errno;
}

/* errno is why not. */
static DIR *open_dir(int at, const char *name) {
        int fd = tree_open_dir(at, name);
        DIR *d = fd < 0 ? NULL : fdopendir(fd);

        if (fd < 0)
                errno = -fd;
        else if (!d)
                close(fd);
        return d;
}

/* --- walking --- */

struct walk {
        const struct tree_visitor *v;
        char *path; /* TREE_PATH_MAX */
};

static int miss(struct walk *w, int error) {
        return w->v->on_missed ? w->v->on_missed(w->path, error, w->v->user) : 0;
}

static int walk_dir(struct walk *w, DIR *d, size_t used, unsigned depth);

static int walk_item(struct walk *w, int at, const char *name, size_t used, unsigned depth) {
        struct tree_item item = {.dirfd = at, .name = name, .path = w->path};

        if (fstatat(at, name, &item.st, AT_SYMLINK_NOFOLLOW) < 0)
                return errno == ENOENT ? 0 : miss(w, errno);
        int r = w->v->on_item(&item, w->v->user);
        if (r != 0 || !S_ISDIR(item.st.st_mode))
                return r;
        if (depth + 1 >= TREE_DEPTH_MAX)
                return miss(w, ELOOP);
        _cleanup_(closedirp) DIR *d = open_dir(at, name);
        return d ? walk_dir(w, d, used, depth + 1) : miss(w, errno);
}

static int walk_dir(struct walk *w, DIR *d, size_t used, unsigned depth) {
        int r = 0;

        for (struct dirent *e; r == 0 && (e = readdir(d));) {
                size_t n = strlen(e->d_name), at = used + (used > 0);
                if (is_dots(e->d_name) || at + n + 1 > TREE_PATH_MAX)
                        continue;
                if (used > 0)
                        w->path[used] = '/';
                memcpy(w->path + at, e->d_name, n + 1);
                r = walk_item(w, dirfd(d), e->d_name, at + n, depth);
        }
        w->path[used] = '\0';
        return r;
}

int tree_walk(int top, const struct tree_visitor *v) {
        _cleanup_(closedirp) DIR *d = open_dir(top, ".");
        _cleanup_free_ char *path = malloc(TREE_PATH_MAX);
        struct walk w = {.v = v, .path = path};

        if (!d || !path)
                return d ? -ENOMEM : -errno;
        path[0] = '\0';
        return walk_dir(&w, d, 0, 0);
}

/* --- measuring --- */

struct measuring {
        struct tree_size *size;
        uint64_t entries_max;
};

static int measure_item(const struct tree_item *item, void *user) {
        const struct measuring *m = user;
        struct tree_size *s = m->size;

        if (m->entries_max && s->entries >= m->entries_max)
                return 1;
        s->entries++;
        s->bytes += (uint64_t)item->st.st_blocks * 512;
        if (S_ISREG(item->st.st_mode))
                s->files++;
        else if (!S_ISDIR(item->st.st_mode))
                s->others++;
        s->changed = MAX_OF(s->changed, (int64_t)item->st.st_mtime);
        return 0;
}

static int measure_missed(const char *path, int error, void *user) {
        const struct measuring *m = user;

        (void)path, (void)error;
        m->size->missed++;
        return 0;
}

int tree_measure(int top, uint64_t entries_max, struct tree_size *out) {
        struct measuring m = {.size = out, .entries_max = entries_max};
        const struct tree_visitor v = {.on_item = measure_item, .on_missed = measure_missed, .user = &m};

        *out = (struct tree_size){0};
        return tree_walk(top, &v);
}

/* --- removing --- */

struct removal {
        int top; /* where what lies too deep is moved to */
        unsigned moved;
};

static int remove_item(struct removal *r, int at, const char *name, unsigned depth);

/* Passes over a directory until one finds nothing: what a reader sees of a directory that shrinks is not all of it. */
static int empty_dir(struct removal *r, DIR *d, unsigned depth) {
        for (;;) {
                unsigned gone = 0;
                rewinddir(d);
                for (struct dirent *e; (e = readdir(d));) {
                        if (is_dots(e->d_name))
                                continue;
                        int n = remove_item(r, dirfd(d), e->d_name, depth);
                        if (n < 0)
                                return n;
                        gone++;
                }
                if (gone == 0)
                        return 0;
        }
}

static int move_up(struct removal *r, int at, const char *name) {
        char deep[32];

        for (;;) {
                snprintf(deep, sizeof(deep), ".deep-%u", r->moved++);
                if (faccessat(r->top, deep, F_OK, AT_SYMLINK_NOFOLLOW) < 0 && errno == ENOENT)
                        return renameat(at, name, r->top, deep) < 0 ? -errno : 0;
        }
}

static int remove_item(struct removal *r, int at, const char *name, unsigned depth) {
        struct stat st;

        if (fstatat(at, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
                return errno == ENOENT ? 0 : -errno;
        if (!S_ISDIR(st.st_mode))
                return unlinkat(at, name, 0) < 0 && errno != ENOENT ? -errno : 0;
        if ((st.st_mode & 0700) != 0700 && fchmodat(at, name, 0700, 0) < 0)
                return -errno;
        if (depth >= REMOVE_DEPTH_MAX)
                return move_up(r, at, name);
        _cleanup_(closedirp) DIR *d = open_dir(at, name);
        int n = d ? empty_dir(r, d, depth + 1) : -errno;
        if (n < 0)
                return n;
        return unlinkat(at, name, AT_REMOVEDIR) < 0 && errno != ENOENT ? -errno : 0;
}

int tree_remove(int at, const char *name) {
        struct stat st;

        if (fstatat(at, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
                return errno == ENOENT ? 0 : -errno;
        if (!S_ISDIR(st.st_mode))
                return unlinkat(at, name, 0) < 0 ? -errno : 0;
        if (fchmodat(at, name, 0700, 0) < 0)
                return -errno;
        _cleanup_(closedirp) DIR *d = open_dir(at, name);
        if (!d)
                return -errno;
        struct removal r = {.top = dirfd(d)};
        int n = empty_dir(&r, d, 0);
        return n < 0 ? n : unlinkat(at, name, AT_REMOVEDIR) < 0 ? -errno : 0;
}
