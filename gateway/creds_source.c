/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Runs before the gateway confines itself, with the operator's rights.  Trusts the credentials file, which only the
 * operator can write; never the length or content of what a source gives.
 */
#include "creds_source.h"

#include "creds.h"

#include "common/nofile.h"
#include "common/util.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

static int open_private(const char *path, struct crew_err *err) {
        _cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY);
        struct stat st;

        if (fd < 0 && errno == ELOOP)
                return crew_fail(err, ELOOP, "is a symbolic link");
        if (fd < 0 || fstat(fd, &st) < 0)
                return crew_fail_errno(err, "cannot be opened");
        if (!S_ISREG(st.st_mode))
                return crew_fail(err, EINVAL, "is not a regular file");
        if (st.st_uid != geteuid())
                return crew_fail(err, EPERM, "belongs to uid %u, not to uid %u that starts the crew", (unsigned)st.st_uid,
                                 (unsigned)geteuid());
        if (st.st_mode & 077)
                return crew_fail(err, EPERM, "has mode %04o: others than its owner may use it (chmod 600)",
                                 (unsigned)st.st_mode & 07777);
        return crew_steal_fd(&fd);
}

/* Until end of file or room bytes; a last byte more than max is a fault of its own for the caller to see. */
static int read_all(int fd, char *out, size_t room, size_t *n) {
        *n = 0;
        while (*n < room) {
                ssize_t got = read(fd, out + *n, room - *n);
                if (got < 0 && errno == EINTR)
                        continue;
                if (got < 0)
                        return -errno;
                if (got == 0)
                        break;
                *n += (size_t)got;
        }
        return 0;
}

int cred_private_file(const char *path, size_t max_bytes, char **out, size_t *n, struct crew_err *err) {
        _cleanup_close_ int fd = open_private(path, err);
        _cleanup_free_ char *text = NULL;
        int r;

        if (fd < 0)
                return fd;
        text = malloc(max_bytes + 2);
        if (!text)
                return crew_fail(err, ENOMEM, "out of memory");
        if ((r = read_all(fd, text, max_bytes + 1, n)) < 0)
                return crew_fail(err, -r, "cannot be read: %s", strerror(-r));
        if (*n > max_bytes)
                return crew_fail(err, EFBIG, "is larger than %zu bytes", max_bytes);
        text[*n] = '\0';
        *out = crew_steal_ptr(&text);
        return 0;
}

static int from_file(const struct cred_spec *s, const char *dir, char *out, size_t room, size_t *n, struct crew_err *err) {
        char path[PATH_MAX];
        int len = s->from[0] == '/' ? snprintf(path, sizeof(path), "%s", s->from)
                                    : snprintf(path, sizeof(path), "%s/%s", dir, s->from);

        if (len < 0 || (size_t)len >= sizeof(path))
                return crew_fail(err, ENAMETOOLONG, "its file's path is too long");
        _cleanup_close_ int fd = open_private(path, err);
        if (fd < 0) {
                crew_err_add(err, "its file");
                return fd;
        }
        int r = read_all(fd, out, room, n);
        return r < 0 ? crew_fail(err, -r, "its file cannot be read: %s", strerror(-r)) : 0;
}

static int from_env(const struct cred_spec *s, char *out, size_t room, size_t *n, struct crew_err *err) {
        const char *v = getenv(s->from);

        if (!v)
                return crew_fail(err, ENOENT, "its environment variable is not set");
        *n = MIN_OF(strlen(v), room);
        memcpy(out, v, *n);
        return 0;
}

void cred_source_forget(const struct cred_spec *s) {
        char *v = s->source == CRED_ENV ? getenv(s->from) : NULL;

        if (!v)
                return;
        explicit_bzero(v, strlen(v)); /* what /proc/PID/environ shows too */
        unsetenv(s->from);
}

static _Noreturn void exec_command(const struct cred_spec *s, int out) {
        char words[CRED_TEXT_MAX], *argv[CRED_WORDS_MAX + 1], *rest = words;
        size_t n = 0;
        sigset_t none;
        int null = open("/dev/null", O_RDWR);

        prctl(PR_SET_PDEATHSIG, SIGKILL);
        setsid();
        sigemptyset(&none);
        sigprocmask(SIG_SETMASK, &none, NULL);
        signal(SIGPIPE, SIG_DFL);
        nofile_lower();
        strcpy(words, s->from);
        for (char *w; n < CRED_WORDS_MAX && (w = strsep(&rest, " "));) {
                if (*w)
                        argv[n++] = w;
        }
        argv[n] = NULL;
        if (null < 0 || n == 0 || rest || dup2(null, 0) < 0 || dup2(out, 1) < 0 || dup2(null, 2) < 0 ||
            syscall(SYS_close_range, 3, ~0u, 0) < 0)
                _exit(126);
        execv(argv[0], argv);
        _exit(127);
}

/* 0 at end of file, -ETIME, or what failed. */
static int read_until(int fd, uint64_t deadline_ns, char *out, size_t room, size_t *n) {
        for (*n = 0; *n < room;) {
                struct pollfd p = {.fd = fd, .events = POLLIN};
                const uint64_t now = crew_now_ns();
                if (now >= deadline_ns)
                        return -ETIME;
                int r = poll(&p, 1, (int)((deadline_ns - now) / 1000000 + 1));
                if (r < 0 && errno != EINTR)
                        return -errno;
                if (r <= 0)
                        continue;
                ssize_t got = read(fd, out + *n, room - *n);
                if (got < 0 && errno != EINTR)
                        return -errno;
                if (got == 0)
                        return 0;
                *n += got > 0 ? (size_t)got : 0;
        }
        return 0;
}

/* Its whole session goes; a program that closed its output and stays is not waited for either. */
static int reap(pid_t pid, uint64_t deadline_ns, int *status) {
        _cleanup_close_ int pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
        struct pollfd p = {.fd = pidfd, .events = POLLIN};
        const uint64_t now = crew_now_ns();
        const bool in_time = pidfd >= 0 && now < deadline_ns && poll(&p, 1, (int)((deadline_ns - now) / 1000000 + 1)) == 1;

        if (!in_time) {
                kill(-pid, SIGKILL);
                kill(pid, SIGKILL);
        }
        while (waitpid(pid, status, 0) < 0 && errno == EINTR)
                ;
        return in_time ? 0 : -ETIME;
}

static int from_command(const struct cred_spec *s, char *out, size_t room, size_t *n, struct crew_err *err) {
        const uint64_t deadline = crew_now_ns() + CRED_COMMAND_MS * 1000000ull;
        int fds[2], status = 0;

        if (pipe2(fds, O_CLOEXEC) < 0)
                return crew_fail_errno(err, "cannot make a pipe for its command");
        pid_t pid = fork();
        if (pid == 0)
                exec_command(s, fds[1]);
        close(fds[1]);
        int r = pid < 0 ? -errno : read_until(fds[0], deadline, out, room, n);
        close(fds[0]);
        if (pid < 0)
                return crew_fail(err, -r, "cannot run its command: %s", strerror(-r));
        int ended = reap(pid, r < 0 ? 0 : deadline, &status);
        if (r < 0 || ended < 0)
                return crew_fail(err, ETIME, "its command did not end within %d s", CRED_COMMAND_MS / 1000);
        if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
                return crew_fail(err, EINVAL, "its command failed (%s %d)", WIFEXITED(status) ? "status" : "signal",
                                 WIFEXITED(status) ? WEXITSTATUS(status) : WTERMSIG(status));
        return 0;
}

int cred_source_read(const struct cred_spec *s, const char *dir, char *out, size_t room, size_t *n, struct crew_err *err) {
        *n = 0;
        switch (s->source) {
        case CRED_FILE:
                return from_file(s, dir, out, room, n, err);
        case CRED_ENV:
                return from_env(s, out, room, n, err);
        case CRED_COMMAND:
                return from_command(s, out, room, n, err);
        case CRED_NONE:
                break;
        }
        return crew_fail(err, EINVAL, "has no source");
}
