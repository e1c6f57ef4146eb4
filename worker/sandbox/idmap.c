/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A namespace is made by a short-lived child (it has to live until its maps are written) and kept by a descriptor.  The
 * cache is worth it: every restart of an agent asks for the same pair again, and a namespace costs 0.2 ms.
 */
#include "idmap.h"

#include "common/util.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>

struct entry {
        uid_t disk_uid, host_uid;
        gid_t disk_gid, host_gid;
        int fd;
};
#define ENTRIES 64
static struct entry cache[ENTRIES];
static unsigned n_cached, next_victim;

static int write_map(pid_t pid, const char *which, unsigned inside, unsigned outside) {
        char path[64], text[64];
        int n = snprintf(text, sizeof(text), "%u %u 1", inside, outside);

        snprintf(path, sizeof(path), "/proc/%d/%s", pid, which);
        _cleanup_close_ int fd = open(path, O_WRONLY | O_CLOEXEC);
        if (fd < 0 || write(fd, text, (size_t)n) != n)
                return -errno;
        return 0;
}

static int open_userns(pid_t pid) {
        char path[64];

        snprintf(path, sizeof(path), "/proc/%d/ns/user", pid);
        int fd = open(path, O_RDONLY | O_CLOEXEC);
        return fd < 0 ? -errno : fd;
}

static int make(uid_t disk_uid, gid_t disk_gid, uid_t host_uid, gid_t host_gid) {
        long pid = syscall(SYS_clone, CLONE_NEWUSER | SIGCHLD, NULL, NULL, NULL, NULL);

        if (pid == 0) {
                for (;;)
                        pause();
        }
        if (pid < 0)
                return -errno;
        int r = write_map((pid_t)pid, "uid_map", disk_uid, host_uid);
        if (r == 0)
                r = write_map((pid_t)pid, "gid_map", disk_gid, host_gid);
        if (r == 0)
                r = open_userns((pid_t)pid);
        kill((pid_t)pid, SIGKILL);
        while (waitpid((pid_t)pid, NULL, 0) < 0 && errno == EINTR)
                ;
        return r;
}

int idmap_userns(uid_t disk_uid, gid_t disk_gid, uid_t host_uid, gid_t host_gid, struct crew_err *err) {
        for (unsigned i = 0; i < n_cached; i++) {
                const struct entry *e = &cache[i];
                if (e->disk_uid == disk_uid && e->disk_gid == disk_gid && e->host_uid == host_uid &&
                    e->host_gid == host_gid)
                        return e->fd;
        }
        int fd = make(disk_uid, disk_gid, host_uid, host_gid);
        if (fd < 0)
                return crew_fail(err, -fd, "cannot make the id mapping %u -> %u: %s", disk_uid, host_uid, strerror(-fd));
        struct entry *e = n_cached < ENTRIES ? &cache[n_cached++] : &cache[next_victim++ % ENTRIES];
        if (e->fd > 0)
                close(e->fd);
        *e = (struct entry){disk_uid, host_uid, disk_gid, host_gid, fd};
        return fd;
}
