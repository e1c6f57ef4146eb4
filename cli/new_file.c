/* SPDX-License-Identifier: Apache-2.0 */
#include "new_file.h"

#include "common/util.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

static int exists(const char *path, struct crew_err *err) {
        return crew_fail(err, EEXIST, "%s is there already", path);
}

/* The directory that it is to be in. */
static int open_parent(const char *path, int flags) {
        char dir[PATH_MAX];
        const char *slash = strrchr(path, '/');

        if (!slash)
                return open(".", flags, 0600);
        snprintf(dir, sizeof(dir), "%.*s", slash == path ? 1 : (int)(slash - path), path);
        return open(dir, flags, 0600);
}

int new_file_open(struct new_file *f, const char *path, struct crew_err *err) {
        struct stat st;

        *f = NEW_FILE_NULL;
        if ((size_t)snprintf(f->path, sizeof(f->path), "%s", path) >= sizeof(f->path))
                return crew_fail(err, ENAMETOOLONG, "the name of the file is too long");
        if (lstat(path, &st) == 0)
                return exists(path, err);
        f->fd = open_parent(path, O_WRONLY | O_TMPFILE | O_CLOEXEC);
        if (f->fd < 0 && (errno == EOPNOTSUPP || errno == EISDIR || errno == EINVAL)) {
                snprintf(f->part, sizeof(f->part), "%s.part-XXXXXX", path);
                f->fd = mkostemp(f->part, O_CLOEXEC); /* 0600 */
        }
        if (f->fd < 0) {
                f->part[0] = '\0';
                return crew_fail_errno(err, "cannot make %s", path);
        }
        return 0;
}

/* Neither a link nor a rename that replaces nothing can be raced for the name. */
static int put_name(struct new_file *f) {
        char self[32];

        if (!f->part[0]) {
                snprintf(self, sizeof(self), "/proc/self/fd/%d", f->fd);
                return linkat(AT_FDCWD, self, AT_FDCWD, f->path, AT_SYMLINK_FOLLOW);
        }
        int r = renameat2(AT_FDCWD, f->part, AT_FDCWD, f->path, RENAME_NOREPLACE);
        if (r < 0 && (errno == EINVAL || errno == ENOSYS)) {
                r = link(f->part, f->path);
                if (r == 0)
                        unlink(f->part);
        }
        return r;
}

int new_file_finish(struct new_file *f, struct crew_err *err) {
        if (fsync(f->fd) < 0)
                return crew_fail_errno(err, "cannot write %s", f->path);
        if (put_name(f) < 0)
                return errno == EEXIST ? exists(f->path, err) : crew_fail_errno(err, "cannot write %s", f->path);
        f->part[0] = '\0';
        _cleanup_close_ int dir = open_parent(f->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (dir < 0 || fsync(dir) < 0)
                return crew_fail_errno(err, "cannot write the directory of %s", f->path);
        return 0;
}

void new_file_close(struct new_file *f) {
        if (f->part[0])
                unlink(f->part);
        f->part[0] = '\0';
        crew_close(&f->fd);
}
