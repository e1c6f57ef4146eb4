/* SPDX-License-Identifier: Apache-2.0 */
/* Results on disk.  Not evidence (that is the audit, with their digests), so nothing waits for the disk here. */
#include "results.h"

#include "common/util.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>

static const char suffix[] = ".json";

static bool is_result(const char *name) {
        size_t n = strlen(name), k = sizeof(suffix) - 1;

        return n > k && strcmp(name + n - k, suffix) == 0;
}

static int open_dir(const char *dir, struct crew_err *err) {
        int fd = open(dir, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

        return fd < 0 ? crew_fail_errno(err, "cannot open %s", dir) : fd;
}

int results_begin(const char *dir, struct crew_err *err) {
        int r = crew_mkdir_p(dir, 0700, err);
        int fd = r < 0 ? r : open_dir(dir, err);

        if (fd < 0)
                return fd;
        DIR *d = fdopendir(fd);
        if (!d) {
                r = crew_fail_errno(err, "cannot read %s", dir);
                close(fd);
                return r;
        }
        for (struct dirent *e = readdir(d); e; e = readdir(d)) {
                if (is_result(e->d_name) && unlinkat(fd, e->d_name, 0) < 0 && errno != ENOENT)
                        r = crew_fail_errno(err, "cannot remove %s/%s", dir, e->d_name);
        }
        closedir(d);
        return r;
}

int results_store(const char *dir, const char *task, const char *json, size_t n, struct crew_err *err) {
        char name[80], temporary[80];
        _cleanup_close_ int at = open_dir(dir, err);

        if (at < 0)
                return at;
        if (!crew_name_ok(task))
                return crew_fail(err, EINVAL, "'%s' is not a task's name", task);
        snprintf(name, sizeof(name), "%s%s", task, suffix);
        snprintf(temporary, sizeof(temporary), ".%s%s", task, suffix);
        _cleanup_close_ int fd = openat(at, temporary, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0600);
        if (fd < 0)
                return crew_fail_errno(err, "cannot write %s/%s", dir, name);
        int r = crew_write_full(fd, json, n);
        if (r == 0 && renameat(at, temporary, at, name) < 0)
                r = -errno;
        if (r < 0) {
                unlinkat(at, temporary, 0);
                return crew_fail(err, -r, "cannot write %s/%s: %s", dir, name, strerror(-r));
        }
        return 0;
}
