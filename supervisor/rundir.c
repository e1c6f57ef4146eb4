/* SPDX-License-Identifier: Apache-2.0 */
#include "rundir.h"

#include "common/util.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

struct rundir {
        char path[PATH_MAX], links[PATH_MAX];
        int lock; /* owned */
        pid_t predecessor;
        char found[256];
};

static void read_pid(int fd, pid_t *pid) {
        char text[32] = "";
        uint64_t v;

        if (pread(fd, text, sizeof(text) - 1, 0) <= 0)
                return;
        text[strcspn(text, "\n")] = '\0';
        if (crew_parse_u64(text, &v) == 0 && v > 0 && v <= INT_MAX)
                *pid = (pid_t)v;
}

static int take_lock(struct rundir *r, const char *crew, struct crew_err *err) {
        char path[PATH_MAX + 8];
        pid_t pid = 0;

        snprintf(path, sizeof(path), "%s/pid", r->path);
        r->lock = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
        if (r->lock < 0)
                return crew_fail_errno(err, "cannot open %s", path);
        if (flock(r->lock, LOCK_EX | LOCK_NB) == 0) {
                read_pid(r->lock, &r->predecessor);
                return RUNDIR_TAKEN;
        }
        if (errno != EWOULDBLOCK)
                return crew_fail_errno(err, "cannot lock %s", path);
        read_pid(r->lock, &pid);
        crew_fail(err, EBUSY, "crew %s is running already, as process %d (crewctl status; crewctl down stops it)", crew,
                  (int)pid);
        return RUNDIR_BUSY;
}

/* Removes what is not a directory in dir; how many there were. */
static unsigned empty(const char *dir) {
        DIR *d = opendir(dir);
        unsigned n = 0;

        if (!d)
                return 0;
        for (struct dirent *e = readdir(d); e; e = readdir(d)) {
                if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0 && unlinkat(dirfd(d), e->d_name, 0) == 0)
                        n++;
        }
        closedir(d);
        return n;
}

static void sweep(struct rundir *r) {
        char socket[PATH_MAX + 16];

        unsigned links = empty(r->links);
        snprintf(socket, sizeof(socket), "%s/control.sock", r->path);
        bool control = unlink(socket) == 0;
        if (!r->predecessor)
                return;
        snprintf(r->found, sizeof(r->found),
                 "crewd process %d did not end in order; it left %s%u link socket%s, now removed", (int)r->predecessor,
                 control ? "its control socket and " : "", links, links == 1 ? "" : "s");
}

static int write_pid(struct rundir *r, struct crew_err *err) {
        char text[32];
        int n = snprintf(text, sizeof(text), "%d\n", (int)getpid());

        if (ftruncate(r->lock, 0) < 0 || pwrite(r->lock, text, (size_t)n, 0) != n)
                return crew_fail_errno(err, "cannot write %s/pid", r->path);
        return 0;
}

static int make_dirs(struct rundir *r, const char *run, const char *crew, struct crew_err *err) {
        struct stat st;
        int n;

        if ((size_t)snprintf(r->path, sizeof(r->path), "%s/%s", run, crew) >= sizeof(r->path) - 16)
                return crew_fail(err, ENAMETOOLONG, "path too long: %s/%s", run, crew);
        snprintf(r->links, sizeof(r->links), "%.*s/links", (int)sizeof(r->links) - 16, r->path);
        if ((n = crew_mkdir_p(run, 0755, err)) < 0 || (n = crew_mkdir_p(r->path, 0700, err)) < 0 ||
            (n = crew_mkdir_p(r->links, 0700, err)) < 0)
                return n;
        if (stat(r->path, &st) < 0)
                return crew_fail_errno(err, "cannot stat %s", r->path);
        if (st.st_uid != geteuid() || (st.st_mode & 022))
                return crew_fail(err, EPERM, "%s must belong to this user and be writable by nobody else", r->path);
        return 0;
}

int rundir_open(const char *run, const char *crew, struct rundir **out, struct crew_err *err) {
        struct rundir *r = calloc(1, sizeof(*r));

        if (!r)
                return crew_fail(err, ENOMEM, "out of memory");
        r->lock = -1;
        int n = make_dirs(r, run, crew, err);
        if (n == 0)
                n = take_lock(r, crew, err);
        if (n == RUNDIR_TAKEN) {
                sweep(r);
                n = write_pid(r, err);
        }
        if (n != 0) {
                crew_close(&r->lock);
                free(r);
                return n;
        }
        *out = r;
        return RUNDIR_TAKEN;
}

const char *rundir_path(const struct rundir *r) {
        return r->path;
}

const char *rundir_links(const struct rundir *r) {
        return r->links;
}

pid_t rundir_predecessor(const struct rundir *r) {
        return r->predecessor;
}

const char *rundir_found(const struct rundir *r) {
        return r->found;
}

/* --- the way to the spawner --- */

#define TOKEN_BYTES 32u

/* Through a descriptor: the path may be longer than a socket address. */
static int held_socket(const struct rundir *r, int flags, int *at, struct sockaddr_un *addr) {
        *at = open(r->path, O_PATH | O_DIRECTORY | O_CLOEXEC);
        if (*at < 0)
                return -errno;
        *addr = (struct sockaddr_un){.sun_family = AF_UNIX};
        snprintf(addr->sun_path, sizeof(addr->sun_path), "/proc/self/fd/%d/held.sock", *at);
        int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | flags, 0);
        return fd < 0 ? -errno : fd;
}

static int write_token(int at, const uint8_t token[TOKEN_BYTES]) {
        if (unlinkat(at, "held.token", 0) < 0 && errno != ENOENT)
                return -errno;
        _cleanup_close_ int dir = openat(at, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        _cleanup_close_ int fd = openat(dir, "held.token", O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
        return fd < 0 ? -errno : crew_write_full(fd, token, TOKEN_BYTES);
}

void rundir_unlisten(struct rundir *r) {
        static const char *const files[] = {"held.sock", "held.token"};
        char path[PATH_MAX + 16];

        for (size_t i = 0; i < ELEMENTSOF(files); i++) {
                snprintf(path, sizeof(path), "%s/%s", r->path, files[i]);
                unlink(path);
        }
}

int rundir_listen(struct rundir *r, uint8_t token[32], struct crew_err *err) {
        struct sockaddr_un addr;
        _cleanup_close_ int at = -1;
        _cleanup_close_ int fd = held_socket(r, SOCK_NONBLOCK, &at, &addr);
        int f = fd < 0 ? fd : 0;

        if (f == 0 && getrandom(token, TOKEN_BYTES, 0) != TOKEN_BYTES)
                f = -EIO;
        if (f == 0)
                f = write_token(at, token);
        if (f == 0 && unlinkat(at, "held.sock", 0) < 0 && errno != ENOENT)
                f = -errno;
        mode_t before = umask(0177);
        if (f == 0 && (bind(fd, (struct sockaddr *)&addr, sizeof(addr)) < 0 || listen(fd, 4) < 0))
                f = -errno;
        umask(before);
        return f < 0 ? crew_fail(err, -f, "cannot make %s/held.sock: %s", r->path, strerror(-f)) : crew_steal_fd(&fd);
}

int rundir_connect(const struct rundir *r) {
        struct sockaddr_un addr;
        _cleanup_close_ int at = -1;
        _cleanup_close_ int fd = held_socket(r, 0, &at, &addr);

        if (fd >= 0 && connect(fd, (struct sockaddr *)&addr, sizeof(addr)) < 0)
                return -errno;
        return fd < 0 ? fd : crew_steal_fd(&fd);
}

int rundir_token(const struct rundir *r, uint8_t token[32]) {
        char path[PATH_MAX + 16];

        snprintf(path, sizeof(path), "%s/held.token", r->path);
        _cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
        if (fd < 0)
                return -errno;
        return read(fd, token, TOKEN_BYTES) == (ssize_t)TOKEN_BYTES ? 0 : -EBADMSG;
}

struct rundir *rundir_close(struct rundir *r) {
        char path[PATH_MAX + 16];

        if (!r)
                return NULL;
        empty(r->links);
        rmdir(r->links);
        snprintf(path, sizeof(path), "%s/control.sock", r->path);
        unlink(path);
        /* Emptied, not removed: another start may have it open already, and two files would be two locks.  If that
         * fails, the next start merely reports a sweep that finds nothing. */
        (void)!ftruncate(r->lock, 0);
        crew_close(&r->lock);
        free(r);
        return NULL;
}
