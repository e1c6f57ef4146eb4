/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Paths in the copy are opened without following: what is in there was made here, in the order of the walk.  A directory
 * gets its mode at the end, for it may not let its owner write.
 */
#include "tree_copy.h"

#include "tree.h"
#include "util.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/fs.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#define CHUNK (1u << 20)

struct copying {
        int to;
        uint64_t left; /* bytes on disk */
        struct crew_err *err;
};

static int problem(struct copying *c, const struct tree_item *item, int error) {
        return crew_fail(c->err, error, "cannot copy %.200s: %s", item->path, strerror(error));
}

/* The directory of the copy that it belongs into; *name is its name there. */
static int parent_of(struct copying *c, const struct tree_item *item, const char **name) {
        const char *slash = strrchr(item->path, '/');
        char path[PATH_MAX];

        *name = item->name;
        if (!slash)
                return fcntl(c->to, F_DUPFD_CLOEXEC, 3);
        if ((size_t)(slash - item->path) >= sizeof(path))
                return -ENAMETOOLONG;
        memcpy(path, item->path, (size_t)(slash - item->path));
        path[slash - item->path] = '\0';
        return crew_open_beneath(c->to, path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW, 0);
}

static int set_times(int fd, const struct stat *st) {
        const struct timespec times[2] = {st->st_atim, st->st_mtim};

        return futimens(fd, times) < 0 ? -errno : 0;
}

/* From offset `from` to `end`, which is data. */
static int copy_range(int in, int out, off_t from, off_t end) {
        while (from < end) {
                off_t to = from;
                ssize_t n = copy_file_range(in, &from, out, &to, MIN_OF((size_t)(end - from), (size_t)CHUNK), 0);
                if (n < 0 && errno != EINTR)
                        return -errno;
                if (n == 0)
                        return 0; /* it has become shorter */
        }
        return 0;
}

static int copy_data(int in, int out, off_t size) {
        off_t data = 0, hole = 0;

        if (ioctl(out, FICLONE, in) == 0)
                return 0;
        while (hole < size && (data = lseek(in, hole, SEEK_DATA)) >= 0) {
                if ((hole = lseek(in, data, SEEK_HOLE)) < 0)
                        return -errno;
                int r = copy_range(in, out, data, MIN_OF(hole, size));
                if (r < 0)
                        return r;
        }
        if (data < 0 && errno != ENXIO)
                return -errno;
        return ftruncate(out, size) < 0 ? -errno : 0;
}

static int copy_file(const struct tree_item *item, int parent, const char *name) {
        struct stat st;

        _cleanup_close_ int in = openat(item->dirfd, item->name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
        if (in < 0 || fstat(in, &st) < 0)
                return -errno;
        if (!S_ISREG(st.st_mode))
                return -EINVAL;
        _cleanup_close_ int out = openat(parent, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
        if (out < 0)
                return -errno;
        int r = copy_data(in, out, st.st_size);
        if (r == 0 && fchmod(out, st.st_mode & 0777) < 0)
                r = -errno;
        return r < 0 ? r : set_times(out, &st);
}

static int copy_link(const struct tree_item *item, int parent, const char *name) {
        char target[PATH_MAX];
        ssize_t n = readlinkat(item->dirfd, item->name, target, sizeof(target) - 1);

        if (n < 0)
                return -errno;
        target[n] = '\0';
        return symlinkat(target, parent, name) < 0 ? -errno : 0;
}

static int copy_item(const struct tree_item *item, void *user) {
        struct copying *c = user;
        const char *name;
        uint64_t bytes = (uint64_t)item->st.st_blocks * 512;
        int r;

        if (S_ISFIFO(item->st.st_mode) || S_ISSOCK(item->st.st_mode))
                return 0;
        if (bytes > c->left)
                return crew_fail(c->err, EFBIG, "a copy would hold more than state_max; raise that, or remove hard links");
        c->left -= bytes;
        _cleanup_close_ int parent = parent_of(c, item, &name);
        if (parent < 0)
                return problem(c, item, -parent);
        if (S_ISDIR(item->st.st_mode))
                r = mkdirat(parent, name, 0700) < 0 ? -errno : 0;
        else if (S_ISREG(item->st.st_mode))
                r = copy_file(item, parent, name);
        else if (S_ISLNK(item->st.st_mode))
                r = copy_link(item, parent, name);
        else
                r = -EINVAL;
        return r < 0 ? problem(c, item, -r) : 0;
}

static int missed(const char *path, int error, void *user) {
        struct copying *c = user;

        return crew_fail(c->err, error, "cannot copy %.200s: %s", path, strerror(error));
}

/* The same walk again: what it meets was all made by the one before. */
static int dress_item(const struct tree_item *item, void *user) {
        struct copying *c = user;

        if (!S_ISDIR(item->st.st_mode))
                return 0;
        _cleanup_close_ int dir = crew_open_beneath(c->to, item->path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW, 0);
        if (dir < 0)
                return problem(c, item, -dir);
        if (fchmod(dir, item->st.st_mode & 0777) < 0)
                return problem(c, item, errno);
        return 0;
}

int tree_copy(int from, int to, uint64_t bytes_max, struct crew_err *err) {
        struct copying c = {.to = to, .left = bytes_max, .err = err};
        const struct tree_visitor copy = {.on_item = copy_item, .on_missed = missed, .user = &c};
        const struct tree_visitor dress = {.on_item = dress_item, .on_missed = missed, .user = &c};
        int r = tree_walk(from, &copy);

        return r < 0 ? r : tree_walk(from, &dress);
}
