/* SPDX-License-Identifier: Apache-2.0 */
#include "uids.h"

#include "util.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <sys/file.h>

int uids_take(const char *run_dir, uint32_t *uid, int *lock_fd, struct crew_err *err) {
        char dir[PATH_MAX], path[PATH_MAX + 16];

        if ((size_t)snprintf(dir, sizeof(dir), "%s/uids", run_dir) >= sizeof(dir))
                return crew_fail(err, ENAMETOOLONG, "path too long: %s/uids", run_dir);
        int r = crew_mkdir_p(dir, 0700, err);
        if (r < 0)
                return r;
        for (uint32_t i = 1; i < UIDS_N; i++) {
                snprintf(path, sizeof(path), "%s/%u", dir, UIDS_FIRST + i);
                _cleanup_close_ int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
                if (fd < 0)
                        return crew_fail_errno(err, "cannot open %s", path);
                if (flock(fd, LOCK_EX | LOCK_NB) == 0) {
                        *uid = UIDS_FIRST + i;
                        *lock_fd = crew_steal_fd(&fd);
                        return 0;
                }
                if (errno != EWOULDBLOCK)
                        return crew_fail_errno(err, "cannot lock %s", path);
        }
        return crew_fail(err, EAGAIN, "all %u host uids for agents are taken", UIDS_N);
}
