/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Preloaded into one of our programs: makes one chosen library call fail.
 *
 *   CREWD_FAULT_PROGRAM  short name of the program it acts in; in all others it does nothing
 *   CREWD_FAULT_CALL     a name of the table below; "malloc" is every way to allocate
 *   CREWD_FAULT_NTH      which call of that name fails, from 1; 0: none, they are only counted
 *   CREWD_FAULT_FOREVER  set: all calls from that one on fail
 *   CREWD_FAULT_OWN      set: calls of the program itself only, not of the libraries it is linked with
 *   CREWD_FAULT_LOG      an existing file: gets a line for the first call that failed, and one with the count at exit
 *
 * Calls that libc makes inside itself (fopen's open) are not seen; those that it allocates with are.
 */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

enum call { MALLOC, SOCKET, ACCEPT, OPEN, WRITE, FSYNC, FALLOCATE, FORK, THREAD, RECV, SEND, CALL_N };

static const struct {
        const char *name;
        int error;
} calls[CALL_N] = {
        [MALLOC] = {"malloc", ENOMEM},       [SOCKET] = {"socket", EMFILE}, [ACCEPT] = {"accept", EMFILE},
        [OPEN] = {"open", EMFILE},           [WRITE] = {"write", ENOSPC},   [FSYNC] = {"fsync", EIO},
        [FALLOCATE] = {"fallocate", ENOSPC}, [FORK] = {"fork", EAGAIN},     [THREAD] = {"thread", EAGAIN},
        [RECV] = {"recv", ENOMEM},           [SEND] = {"send", ENOBUFS},
};

static enum call chosen = CALL_N;
static long nth;
static bool forever, own;
static int log_fd = -1;
static atomic_long count;

/* Where in which file the failing call came from, for `addr2line -e FILE OFFSET`. */
static void say(const char *what, long n, const void *from) {
        char line[256];
        Dl_info where = {0};

        if (from)
                (void)dladdr(from, &where);
        const char *slash = where.dli_fname ? strrchr(where.dli_fname, '/') : NULL;
        int k = snprintf(line, sizeof(line), "%s %ld %s+0x%lx\n", what, n, slash ? slash + 1 : "-",
                         from ? (unsigned long)((const char *)from - (const char *)where.dli_fbase) : 0);
        (void)syscall(SYS_write, log_fd, line, (size_t)k);
}

static bool is_own(const void *from) {
        Dl_info where;

        return dladdr(from, &where) && where.dli_fname && strstr(where.dli_fname, program_invocation_short_name);
}

static bool fails(enum call which, const void *from) {
        if (which != chosen || (own && !is_own(from)))
                return false;
        long n = atomic_fetch_add(&count, 1) + 1;
        if (nth == 0 || n < nth || (n > nth && !forever))
                return false;
        if (n == nth)
                say("failed", n, from);
        errno = calls[which].error;
        return true;
}

__attribute__((constructor)) static void begin(void) {
        const char *program = getenv("CREWD_FAULT_PROGRAM"), *call = getenv("CREWD_FAULT_CALL"),
                   *at = getenv("CREWD_FAULT_NTH");
        const char *log = getenv("CREWD_FAULT_LOG");

        if (!program || !call || !at || !log || strcmp(program, program_invocation_short_name) != 0)
                return;
        log_fd = (int)syscall(SYS_openat, AT_FDCWD, log, O_WRONLY | O_APPEND | O_CLOEXEC, 0);
        nth = strtol(at, NULL, 10);
        forever = getenv("CREWD_FAULT_FOREVER") != NULL;
        own = getenv("CREWD_FAULT_OWN") != NULL;
        for (int i = 0; i < CALL_N; i++) {
                if (strcmp(call, calls[i].name) == 0)
                        chosen = (enum call)i;
        }
}

__attribute__((destructor)) static void end(void) {
        if (chosen != CALL_N)
                say("count", atomic_load(&count), NULL);
}

/* --- the calls --- */

#define FROM __builtin_return_address(0)

/* The next one of that name; looked up at first use, for some are called before begin(). */
#define REAL(ret, name, ...)                                                                                               \
        static ret (*real)(__VA_ARGS__);                                                                                   \
        if (!real)                                                                                                         \
        *(void **)&real = dlsym(RTLD_NEXT, #name)

void *__libc_malloc(size_t n);
void *__libc_calloc(size_t n, size_t size);
void *__libc_realloc(void *p, size_t n);

void *malloc(size_t n) {
        return fails(MALLOC, FROM) ? NULL : __libc_malloc(n);
}
void *calloc(size_t n, size_t size) {
        return fails(MALLOC, FROM) ? NULL : __libc_calloc(n, size);
}
void *realloc(void *p, size_t n) {
        return fails(MALLOC, FROM) ? NULL : __libc_realloc(p, n);
}
void *reallocarray(void *p, size_t n, size_t size) {
        size_t all;

        if (__builtin_mul_overflow(n, size, &all)) {
                errno = ENOMEM;
                return NULL;
        }
        return fails(MALLOC, FROM) ? NULL : __libc_realloc(p, all);
}
int posix_memalign(void **p, size_t align, size_t n) {
        REAL(int, posix_memalign, void **, size_t, size_t);
        return fails(MALLOC, FROM) ? ENOMEM : real(p, align, n);
}
void *mmap(void *at, size_t n, int prot, int flags, int fd, off_t offset) {
        REAL(void *, mmap, void *, size_t, int, int, int, off_t);
        return fails(MALLOC, FROM) ? MAP_FAILED : real(at, n, prot, flags, fd, offset);
}

int socket(int family, int type, int protocol) {
        REAL(int, socket, int, int, int);
        return fails(SOCKET, FROM) ? -1 : real(family, type, protocol);
}
int socketpair(int family, int type, int protocol, int pair[2]) {
        REAL(int, socketpair, int, int, int, int[2]);
        return fails(SOCKET, FROM) ? -1 : real(family, type, protocol, pair);
}
int accept4(int fd, struct sockaddr *addr, socklen_t *n, int flags) {
        REAL(int, accept4, int, struct sockaddr *, socklen_t *, int);
        return fails(ACCEPT, FROM) ? -1 : real(fd, addr, n, flags);
}
int bind(int fd, const struct sockaddr *addr, socklen_t n) {
        REAL(int, bind, int, const struct sockaddr *, socklen_t);
        return fails(SOCKET, FROM) ? -1 : real(fd, addr, n);
}
int listen(int fd, int backlog) {
        REAL(int, listen, int, int);
        return fails(SOCKET, FROM) ? -1 : real(fd, backlog);
}

#define OPENS(name)                                                                                                        \
        int name(const char *path, int flags, ...) {                                                                       \
                REAL(int, name, const char *, int, ...);                                                                   \
                va_list ap;                                                                                                \
                va_start(ap, flags);                                                                                       \
                mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(ap, mode_t) : 0;                                      \
                va_end(ap);                                                                                                \
                return fails(OPEN, FROM) ? -1 : real(path, flags, mode);                                                   \
        }
#define OPENATS(name)                                                                                                      \
        int name(int dir, const char *path, int flags, ...) {                                                              \
                REAL(int, name, int, const char *, int, ...);                                                              \
                va_list ap;                                                                                                \
                va_start(ap, flags);                                                                                       \
                mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(ap, mode_t) : 0;                                      \
                va_end(ap);                                                                                                \
                return fails(OPEN, FROM) ? -1 : real(dir, path, flags, mode);                                              \
        }
OPENS(open)
OPENS(open64)
OPENATS(openat)
OPENATS(openat64)

int __open_2(const char *path, int flags);
int __open_2(const char *path, int flags) {
        REAL(int, __open_2, const char *, int);
        return fails(OPEN, FROM) ? -1 : real(path, flags);
}
int __open64_2(const char *path, int flags);
int __open64_2(const char *path, int flags) {
        REAL(int, __open64_2, const char *, int);
        return fails(OPEN, FROM) ? -1 : real(path, flags);
}
int memfd_create(const char *name, unsigned flags) {
        REAL(int, memfd_create, const char *, unsigned);
        return fails(OPEN, FROM) ? -1 : real(name, flags);
}
long syscall(long number, ...) {
        REAL(long, syscall, long, ...);
        long a[6];
        va_list ap;

        va_start(ap, number);
        for (int i = 0; i < 6; i++)
                a[i] = va_arg(ap, long);
        va_end(ap);
        if ((number == SYS_openat2 || number == SYS_pidfd_open) && fails(OPEN, FROM))
                return -1;
        return real(number, a[0], a[1], a[2], a[3], a[4], a[5]);
}

static bool is_file(int fd) {
        struct stat st;
        int kept = errno;
        bool yes = fstat(fd, &st) == 0 && S_ISREG(st.st_mode);

        errno = kept;
        return yes;
}
ssize_t write(int fd, const void *p, size_t n) {
        REAL(ssize_t, write, int, const void *, size_t);
        return is_file(fd) && fails(WRITE, FROM) ? -1 : real(fd, p, n);
}
ssize_t pwrite(int fd, const void *p, size_t n, off_t at) {
        REAL(ssize_t, pwrite, int, const void *, size_t, off_t);
        return is_file(fd) && fails(WRITE, FROM) ? -1 : real(fd, p, n, at);
}
int ftruncate(int fd, off_t n) {
        REAL(int, ftruncate, int, off_t);
        return fails(WRITE, FROM) ? -1 : real(fd, n);
}
int mkdir(const char *path, mode_t mode) {
        REAL(int, mkdir, const char *, mode_t);
        return fails(WRITE, FROM) ? -1 : real(path, mode);
}
int rename(const char *from, const char *to) {
        REAL(int, rename, const char *, const char *);
        return fails(WRITE, FROM) ? -1 : real(from, to);
}
int renameat(int from_dir, const char *from, int to_dir, const char *to) {
        REAL(int, renameat, int, const char *, int, const char *);
        return fails(WRITE, FROM) ? -1 : real(from_dir, from, to_dir, to);
}
int fsync(int fd) {
        REAL(int, fsync, int);
        return fails(FSYNC, FROM) ? -1 : real(fd);
}
int fdatasync(int fd) {
        REAL(int, fdatasync, int);
        return fails(FSYNC, FROM) ? -1 : real(fd);
}
int fallocate(int fd, int mode, off_t at, off_t n) {
        REAL(int, fallocate, int, int, off_t, off_t);
        return fails(FALLOCATE, FROM) ? -1 : real(fd, mode, at, n);
}

pid_t fork(void) {
        REAL(pid_t, fork, void);
        return fails(FORK, FROM) ? -1 : real();
}
int pthread_create(pthread_t *t, const pthread_attr_t *attr, void *(*run)(void *), void *arg) {
        REAL(int, pthread_create, pthread_t *, const pthread_attr_t *, void *(*)(void *), void *);
        return fails(THREAD, FROM) ? EAGAIN : real(t, attr, run, arg);
}

ssize_t recvmsg(int fd, struct msghdr *m, int flags) {
        REAL(ssize_t, recvmsg, int, struct msghdr *, int);
        return fails(RECV, FROM) ? -1 : real(fd, m, flags);
}
ssize_t sendmsg(int fd, const struct msghdr *m, int flags) {
        REAL(ssize_t, sendmsg, int, const struct msghdr *, int);
        return fails(SEND, FROM) ? -1 : real(fd, m, flags);
}
/* Programs built for large files call these; the types are the same on 64 bits. */
void *mmap64(void *at, size_t n, int prot, int flags, int fd, off64_t offset) __attribute__((alias("mmap")));
ssize_t pwrite64(int fd, const void *p, size_t n, off64_t at) __attribute__((alias("pwrite")));
int ftruncate64(int fd, off64_t n) __attribute__((alias("ftruncate")));
int fallocate64(int fd, int mode, off64_t at, off64_t n) __attribute__((alias("fallocate")));
