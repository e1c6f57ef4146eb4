/* SPDX-License-Identifier: Apache-2.0 */
#include "notify.h"

#include "common/util.h"
#include "outbox.h"
#include "parse.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <linux/seccomp.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>

#ifndef SECCOMP_IOCTL_NOTIF_SET_FLAGS
#define SECCOMP_IOCTL_NOTIF_SET_FLAGS SECCOMP_IOW(4, __u64)
#define SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP (1UL << 0) /* since Linux 6.6 */
#endif

#define PAGE 4096u
#define FLAG_ARG_OPEN 1 /* of open; one more for openat */

/* One running program: the file and the mount it was executed through. */
struct program {
        uint32_t dev_major, dev_minor;
        uint64_t ino, mount; /* 0: not known */
};

struct listener {
        struct source source;
        struct server *server;
        uint32_t instance;
        struct program worker;
        size_t n_paths;
        char *paths; /* NUL-terminated each */
};

static const struct call {
        int number;
        int8_t dir_arg, path_arg;
        char what;
} calls[] = {
#define ROW(number, dir, path, what) {number, dir, path, what},
        EVIDENCE_NOTIFY_CALLS(ROW)
#undef ROW
};

static const struct call *call_of(int number) {
        for (size_t i = 0; i < ELEMENTSOF(calls); i++)
                if (calls[i].number == number)
                        return &calls[i];
        return NULL;
}

static struct program program_of(int32_t pid) {
        char path[32];
        struct statx sx;

        snprintf(path, sizeof(path), "/proc/%d/exe", pid);
        if (statx(AT_FDCWD, path, 0, STATX_INO | STATX_MNT_ID, &sx) < 0 || !(sx.stx_mask & STATX_MNT_ID))
                return (struct program){0};
        return (struct program){sx.stx_dev_major, sx.stx_dev_minor, sx.stx_ino, sx.stx_mnt_id};
}

/* The worker, and what it forked and has not yet become another program, walk to the places of Landlock rules.  An agent
 * may find that program in its view too and run it, but only through a mount of the view: the worker was executed on the
 * host's, before there was a view.  Rootless all of this is hidden from us, and so is what they open. */
static bool is_worker(const struct listener *l, int32_t pid) {
        struct program p = l->worker.ino ? program_of(pid) : (struct program){0};

        return p.ino && p.ino == l->worker.ino && p.dev_major == l->worker.dev_major &&
               p.dev_minor == l->worker.dev_minor && p.mount == l->worker.mount;
}

/* What every view has and every program opens: of no interest, whether allowed or not. */
static bool is_runtime(const char *path, size_t n) {
        static const char *const trees[] = {"/usr",   "/bin",    "/sbin", "/lib",     "/lib32",
                                            "/lib64", "/libx32", "/dev",  "/run/crew"};
        static const char *const files[] = {"/etc/ld.so.cache", "/etc/ld.so.preload", "/etc/localtime",
                                            "/etc/passwd",      "/etc/group",         "/etc/hosts",
                                            "/etc/resolv.conf", "/etc/nsswitch.conf", "/etc/mime.types"};
        static const char *const more[] = {"/etc/ssl",          "/etc/alternatives", "/proc/self/maps", "/proc/self/status",
                                           "/proc/filesystems", "/proc/meminfo",     "/proc/cpuinfo",   "/proc/stat",
                                           "/proc/self/stat",   "/proc/version"};

        if (parse_within("/dev/fd", 7, path, n)) /* what is behind a link there can be anything */
                return n <= 8 || !memchr(path + 8, '/', n - 8);
        for (size_t i = 0; i < ELEMENTSOF(trees); i++)
                if (parse_within(trees[i], strlen(trees[i]), path, n))
                        return true;
        for (size_t i = 0; i < ELEMENTSOF(files); i++)
                if (n == strlen(files[i]) && memcmp(files[i], path, n) == 0)
                        return true;
        for (size_t i = 0; i < ELEMENTSOF(more); i++)
                if (parse_within(more[i], strlen(more[i]), path, n))
                        return true;
        return false;
}

static bool is_private(const char *path, size_t n) {
        return parse_within("/tmp", 4, path, n) || parse_within("/home/agent", 11, path, n);
}

static bool is_watched(const struct listener *l, const char *path, size_t n) {
        for (size_t at = 0; at < l->n_paths; at += strlen(l->paths + at) + 1)
                if (parse_within(l->paths + at, strlen(l->paths + at), path, n))
                        return true;
        return false;
}

/* The directory a relative path starts from, as the view names it. */
static size_t directory_of(pid_t pid, const struct call *c, const struct seccomp_data *d, char *out, size_t room) {
        int dirfd = c->dir_arg >= 0 ? (int)d->args[c->dir_arg] : AT_FDCWD;
        char link[48];

        if (dirfd == AT_FDCWD)
                snprintf(link, sizeof(link), "/proc/%d/cwd", pid);
        else
                snprintf(link, sizeof(link), "/proc/%d/fd/%d", pid, dirfd);
        ssize_t n = readlink(link, out, room);
        return n > 0 ? (size_t)n : 0;
}

/* A path that begins at one of the caller's own links in /proc, as /dev/fd/3/x does: the directory, and *skip, how much of
 * the path that was.  0: it does not. */
static size_t own_link(pid_t pid, const char *path, char *out, size_t room, size_t *skip) {
        static const struct {
                const char *prefix, *link;
                bool number;
        } rows[] = {
                {"/dev/fd/", "fd/", true},
                {"/proc/self/fd/", "fd/", true},
                {"/proc/thread-self/fd/", "fd/", true},
                {"/proc/self/root", "root", false},
                {"/proc/self/cwd", "cwd", false},
        };
        char link[64];

        for (size_t i = 0; i < ELEMENTSOF(rows); i++) {
                size_t k = strlen(rows[i].prefix), digits = 0;
                if (strncmp(path, rows[i].prefix, k) != 0)
                        continue;
                if (rows[i].number)
                        digits = strspn(path + k, "0123456789");
                if (path[k + digits] != '/' || digits > 10)
                        return 0;
                snprintf(link, sizeof(link), "/proc/%d/%s%.*s", pid, rows[i].link, (int)digits, path + k);
                ssize_t n = readlink(link, out, room);
                *skip = k + digits + 1;
                return n > 0 ? (size_t)n : 0;
        }
        return 0;
}

/* A C string of the caller; -1 when it cannot be read or has no end. */
static ssize_t read_string(pid_t pid, uint64_t address, char *out, size_t room) {
        size_t first = PAGE - (size_t)(address % PAGE);
        struct iovec local = {.iov_base = out, .iov_len = room};
        struct iovec remote[2] = {
                {.iov_base = (void *)(uintptr_t)address, .iov_len = MIN_OF(first, room)},
                {.iov_base = (void *)(uintptr_t)(address + first), .iov_len = room - MIN_OF(first, room)},
        };
        ssize_t n = process_vm_readv(pid, &local, 1, remote, 2, 0);
        const char *end = n > 0 ? memchr(out, '\0', (size_t)n) : NULL;

        return end ? end - out : -1;
}

static const char *access_of(const struct call *c, const struct seccomp_data *d) {
        if (c->what == 'x')
                return "exec";
        if (c->what == 'w')
                return "write";
        int flags = (int)d->args[c->path_arg + FLAG_ARG_OPEN];
        return (flags & O_ACCMODE) != O_RDONLY || (flags & (O_CREAT | O_TRUNC)) ? "write" : "read";
}

/* Where a path of the caller's view leads when links are followed; 0 when nowhere. */
static size_t resolve(pid_t pid, const char *path, size_t n, char *out, size_t room) {
        struct open_how how = {.flags = O_PATH | O_CLOEXEC, .resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS};
        char link[48], text[EVIDENCE_PATH_MAX + 1];

        snprintf(link, sizeof(link), "/proc/%d/root", pid);
        memcpy(text, path, n);
        text[n] = '\0';
        _cleanup_close_ int root = open(link, O_PATH | O_DIRECTORY | O_CLOEXEC);
        _cleanup_close_ int fd = root < 0 ? -1 : (int)syscall(SYS_openat2, root, text, &how, sizeof(how));
        if (fd < 0)
                return 0;
        snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
        ssize_t len = readlink(link, out, room);
        return len > 0 ? (size_t)len : 0;
}

/* Below the private directories the agent may make links: what counts is where they lead. */
static bool is_of_interest(const struct listener *l, pid_t pid, const char **path, size_t *n, char *room) {
        if (is_watched(l, *path, *n))
                return true;
        if (is_runtime(*path, *n))
                return false;
        if (!is_private(*path, *n))
                return true;
        size_t len = resolve(pid, *path, *n, room, EVIDENCE_PATH_MAX);
        if (len == 0 || is_private(room, len) || is_runtime(room, len))
                return false;
        *path = room;
        *n = len;
        return true;
}

static void report(struct listener *l, const struct seccomp_notif *nt, const char *access, const char *path, size_t n) {
        struct instance *in = server_instance(l->server, l->instance);
        const struct event ev = {
                .source = EVIDENCE_NOTIFY,
                .what = EVIDENCE_ATTEMPT,
                .pid = (int32_t)nt->pid,
                .time_ns = crew_realtime_ns(),
                .count = 1,
                .access = access,
                .path = path,
                .path_len = n,
        };

        if (in)
                outbox_add(in->outbox, &ev);
}

/* The path, if the caller is still in the call when it has been read: else the pid may be another process's by now. */
static void look_at(struct listener *l, const struct seccomp_notif *nt) {
        char given[EVIDENCE_PATH_MAX], dir[EVIDENCE_PATH_MAX], joined[EVIDENCE_PATH_MAX];
        const struct call *c = call_of(nt->data.nr);
        size_t dir_len = 0, skip = 0;

        if (!c || is_worker(l, (int32_t)nt->pid))
                return;
        ssize_t n = read_string((pid_t)nt->pid, nt->data.args[c->path_arg], given, sizeof(given));
        if (n <= 0)
                return; /* no path, no file: the call fails, or is about its directory descriptor itself */
        if (given[0] != '/')
                dir_len = directory_of((pid_t)nt->pid, c, &nt->data, dir, sizeof(dir));
        else if ((dir_len = own_link((pid_t)nt->pid, given, dir, sizeof(dir), &skip)) == 0)
                skip = 0;
        size_t len = parse_join(dir, dir_len, given + skip, (size_t)n - skip, joined, sizeof(joined));
        const char *path = len ? joined : given;
        len = len ? len : (size_t)n;
        const char *access = access_of(c, &nt->data);
        bool wanted = access[0] == 'e' || is_of_interest(l, (pid_t)nt->pid, &path, &len, dir);
        if (wanted && ioctl(l->source.fd, SECCOMP_IOCTL_NOTIF_ID_VALID, &nt->id) == 0)
                report(l, nt, access, path, len);
}

/* EPOLLIN says that one notification waits; receiving that one cannot block, not even if its process has died. */
static void on_ready(struct source *s, uint32_t events) {
        struct listener *l = (struct listener *)s;
        union {
                struct seccomp_notif notif;
                char room[256]; /* the kernel's structure may be larger than ours */
        } in = {.room = ""};
        struct seccomp_notif_resp out = {.flags = SECCOMP_USER_NOTIF_FLAG_CONTINUE};

        if (!(events & EPOLLIN)) {
                if (events & (EPOLLHUP | EPOLLERR)) /* nobody is left who could call */
                        server_remove(l->server, s);
                return;
        }
        if (ioctl(s->fd, SECCOMP_IOCTL_NOTIF_RECV, &in) < 0)
                return;
        look_at(l, &in.notif);
        out.id = in.notif.id;
        (void)ioctl(s->fd, SECCOMP_IOCTL_NOTIF_SEND, &out);
}

bool listener_works_here(void) {
        const uint32_t action = SECCOMP_RET_USER_NOTIF;
        struct seccomp_notif_sizes sizes;

        return syscall(SYS_seccomp, SECCOMP_GET_ACTION_AVAIL, 0, &action) == 0 &&
               syscall(SYS_seccomp, SECCOMP_GET_NOTIF_SIZES, 0, &sizes) == 0 && sizes.seccomp_notif <= 256 &&
               sizes.seccomp_notif_resp <= sizeof(struct seccomp_notif_resp);
}

struct listener *listener_open(struct server *sv, struct instance *in, int fd, struct crew_err *err) {
        struct listener *l = calloc(1, sizeof(*l));

        if (!l) {
                close(fd);
                (void)crew_fail(err, ENOMEM, "out of memory");
                return NULL;
        }
        l->server = sv;
        l->instance = in->id;
        if (sv->root)
                l->worker = program_of(in->pid);
        l->source = (struct source){.fd = fd, .on_ready = on_ready};
        /* Without it (before 6.6) a notified call costs 42 us instead of 8. */
        (void)ioctl(fd, SECCOMP_IOCTL_NOTIF_SET_FLAGS, SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP);
        return server_add(sv, &l->source, EPOLLIN, err) < 0 ? listener_close(l) : l;
}

int listener_add_paths(struct listener *l, const char *paths, size_t n, struct crew_err *err) {
        if (n == 0)
                return 0;
        if (paths[n - 1] != '\0')
                return crew_fail(err, EPROTO, "bad watch path");
        char *grown = realloc(l->paths, l->n_paths + n);
        if (!grown)
                return crew_fail(err, ENOMEM, "out of memory");
        memcpy(grown + l->n_paths, paths, n);
        l->paths = grown;
        l->n_paths += n;
        return 0;
}

struct listener *listener_close(struct listener *l) {
        if (!l)
                return NULL;
        if (l->source.fd >= 0)
                server_remove(l->server, &l->source);
        free(l->paths);
        free(l);
        return NULL;
}
