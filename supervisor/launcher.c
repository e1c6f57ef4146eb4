/* SPDX-License-Identifier: Apache-2.0 */
#include "launcher.h"

#include "common/nofile.h"
#include "common/paths.h"
#include "common/util.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#define CHANNEL 3
#define END_PATIENCE_MS 2000

struct launcher {
        const char *path;
        const struct launcher_args *args;
        pid_t pid; /* of the program; 0: none */
        int pidfd;
};

static _Noreturn void exec_program(const struct launcher *l, int fd) {
        char number[16];
        const char *argv[3 + LAUNCHER_WORDS_MAX + 1] = {l->path, "--fd", number};
        size_t n = 3;
        sigset_t none;

        /* Dies with the launcher whatever happens; checked again, for it may be dead already. */
        if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0 || getppid() == 1)
                _exit(126);
        sigemptyset(&none);
        sigprocmask(SIG_SETMASK, &none, NULL);
        nofile_lower(); /* it raises its own, and knows then what its commands are to have */
        snprintf(number, sizeof(number), "%d", fd);
        for (size_t i = 0; i < LAUNCHER_WORDS_MAX && l->args->words[i]; i++)
                argv[n++] = l->args->words[i];
        if (fcntl(fd, F_SETFD, 0) == 0)
                execve(l->path, (char *const *)argv, l->args->env ? (char *const *)l->args->env : environ);
        _exit(127);
}

static int tell(enum launch_op op, pid_t pid, int status) {
        const struct launch_msg m = {.op = op, .pid = pid, .status = status};
        ssize_t n = crew_send_fds(CHANNEL, &m, sizeof(m), NULL, 0);

        return n < 0 ? (int)n : 0;
}

/* The program has ended or is made to. */
static int bury(struct launcher *l) {
        pid_t pid = l->pid;
        int status = 0;

        if (pid == 0)
                return 0;
        kill(pid, SIGKILL);
        while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
                ;
        crew_close(&l->pidfd);
        l->pid = 0;
        return tell(LAUNCH_ENDED, pid, status);
}

static int start(struct launcher *l, int fd) {
        pid_t pid = fork();

        if (pid == 0)
                exec_program(l, fd);
        if (pid < 0)
                return tell(LAUNCH_FAILED, 0, errno);
        l->pid = pid;
        l->pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
        if (l->pidfd < 0) /* unwatched, it could not be told from a dead one */
                return bury(l);
        fcntl(l->pidfd, F_SETFD, FD_CLOEXEC);
        return tell(LAUNCH_STARTED, pid, 0);
}

static int on_request(struct launcher *l) {
        struct launch_msg m;
        int fds[1] = {-1};
        size_t n_fds = 1;
        ssize_t n = crew_recv_fds(CHANNEL, &m, sizeof(m), fds, &n_fds, 0);
        int r = -EPROTO;

        if (n == (ssize_t)sizeof(m) && m.op == LAUNCH_START && n_fds == 1) {
                r = bury(l);
                if (r == 0)
                        r = start(l, fds[0]);
        }
        if (n_fds == 1 && n > 0)
                close(fds[0]);
        return r;
}

/* crewd is gone, and with it the program's socket: it ends by itself, or it is ended. */
static void end(struct launcher *l) {
        struct pollfd p = {.fd = l->pidfd, .events = POLLIN};

        if (l->pid != 0) {
                poll(&p, 1, END_PATIENCE_MS);
                bury(l);
        }
}

static _Noreturn void run(int fd, const char *path, const struct launcher_args *args) {
        struct launcher l = {.path = path, .args = args, .pidfd = -1};
        const struct rlimit none = {0, 0};
        bool alive = true;

        prctl(PR_SET_NAME, "crewd-launcher");
        /* It may hold the operator's environment.  The limit is the program's too. */
        prctl(PR_SET_DUMPABLE, 0);
        setrlimit(RLIMIT_CORE, &none);
        setsid();
        signal(SIGPIPE, SIG_IGN);
        if (dup2(fd, CHANNEL) < 0 || fcntl(CHANNEL, F_SETFD, FD_CLOEXEC) < 0 ||
            syscall(SYS_close_range, CHANNEL + 1, ~0u, 0) < 0)
                _exit(1);
        while (alive) {
                struct pollfd p[2] = {{.fd = CHANNEL, .events = POLLIN}, {.fd = l.pidfd, .events = POLLIN}};
                if (poll(p, 2, -1) < 0 && errno != EINTR)
                        break;
                if (p[1].revents)
                        alive = bury(&l) == 0;
                else if (p[0].revents)
                        alive = on_request(&l) == 0;
        }
        end(&l);
        _exit(0);
}

int launcher_start(const struct launcher_args *args, pid_t *pid, struct crew_err *err) {
        char path[PATH_MAX];
        int pair[2], r = crew_program_path(args->program, path, err);

        if (r < 0)
                return r;
        if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
                return crew_fail_errno(err, "cannot make a socket pair for the launcher of %s", args->program);
        *pid = fork();
        if (*pid == 0)
                run(pair[1], path, args);
        close(pair[1]);
        if (*pid < 0) {
                close(pair[0]);
                return crew_fail_errno(err, "cannot start the launcher of %s", args->program);
        }
        return pair[0];
}
