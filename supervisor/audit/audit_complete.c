/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The rest of what a process that is no more had accepted.  Appends only: what is in the file already must be the beginning
 * of it, to the byte, or is behind all of it.
 */
#include "audit.h"

#include "common/util.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>

/* How many of the n bytes are there; -EBADMSG: others are. */
static ssize_t compare(int fd, const char *lines, size_t n, uint64_t at, uint64_t size) {
        size_t there = size < at ? 0 : (size_t)MIN_OF(size - at, (uint64_t)n);
        char buf[4096];

        if (size < at)
                return -EBADMSG;
        for (size_t done = 0; done < there;) {
                ssize_t r = pread(fd, buf, MIN_OF(there - done, sizeof(buf)), (off_t)(at + done));
                if (r < 0 && errno == EINTR)
                        continue;
                if (r <= 0)
                        return r < 0 ? -errno : -EIO;
                if (memcmp(buf, lines + done, (size_t)r) != 0)
                        return -EBADMSG;
                done += (size_t)r;
        }
        return (ssize_t)there;
}

static int append(int fd, const char *p, size_t n) {
        while (n > 0) {
                ssize_t r = write(fd, p, n);
                if (r < 0 && errno == EINTR)
                        continue;
                if (r <= 0)
                        return r < 0 ? -errno : -EIO;
                p += r;
                n -= (size_t)r;
        }
        return fdatasync(fd) < 0 ? -errno : 0;
}

int audit_complete(const char *dir, const char *agent, const char *lines, size_t n, uint64_t at, struct crew_err *err) {
        char path[PATH_MAX];
        struct stat st;

        if (n == 0)
                return 0;
        if (!crew_agent_name_ok(agent) ||
            (size_t)snprintf(path, sizeof(path), "%s/%s/log.jsonl", dir, agent) >= sizeof(path))
                return crew_fail(err, EINVAL, "bad audit stream");
        _cleanup_close_ int fd = open(path, O_RDWR | O_APPEND | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
        if (fd < 0 || fstat(fd, &st) < 0)
                return crew_fail_errno(err, "cannot open %s", path);
        if (!S_ISREG(st.st_mode) || st.st_uid != geteuid())
                return crew_fail(err, EINVAL, "%s is not a file of our own", path);
        if (flock(fd, LOCK_EX | LOCK_NB) < 0)
                return crew_fail_errno(err, "cannot lock %s", path);
        ssize_t there = compare(fd, lines, n, at, (uint64_t)st.st_size);
        if (there == -EBADMSG)
                return crew_fail(err, EBADMSG,
                                 "%s is not as the crewd before left it; check it with 'crewctl audit verify'", path);
        int r = there < 0 ? (int)there : (size_t)there < n ? append(fd, lines + there, n - (size_t)there) : 0;
        return r < 0 ? crew_fail(err, -r, "cannot complete %s: %s", path, strerror(-r)) : 0;
}
