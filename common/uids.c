/* SPDX-License-Identifier: Apache-2.0 */
/* Taking a host uid: the first free one after the last this process took, so that a uid is not used again at once. */
#include "uids.h"

#include "util.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/file.h>

/* 1: taken, 0: somebody else's, or a fault. */
static int take_one(uint32_t uid, int *lock_fd, struct crew_err *err) {
        char path[sizeof(UIDS_DIR) + 16];

        snprintf(path, sizeof(path), UIDS_DIR "/%u", uid);
        _cleanup_close_ int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
        if (fd < 0)
                return crew_fail_errno(err, "cannot open %s", path);
        if (flock(fd, LOCK_EX | LOCK_NB) < 0)
                return errno == EWOULDBLOCK ? 0 : crew_fail_errno(err, "cannot lock %s", path);
        *lock_fd = crew_steal_fd(&fd);
        return 1;
}

int uids_take(uint32_t *uid, int *lock_fd, struct crew_err *err) {
        static uint32_t last;
        int r = crew_mkdir_p(UIDS_DIR, 0700, err);

        if (r < 0)
                return r;
        for (uint32_t i = 0; i < UIDS_N; i++) {
                uint32_t slot = (last + 1 + i) % UIDS_N;
                if (slot == 0)
                        continue;
                r = take_one(UIDS_FIRST + slot, lock_fd, err);
                if (r < 0)
                        return r;
                if (r == 1) {
                        last = slot;
                        *uid = UIDS_FIRST + slot;
                        return 0;
                }
        }
        return crew_fail(err, EAGAIN, "all %u host uids for agents are taken", UIDS_N - 1);
}
