/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The hook runner: forked from crewd before it has anything worth inheriting.  Reads one request, runs one command, says
 * how it ended.  When crewd closes the channel (or is killed) the command that still runs is killed too.
 */
#include "hooks_wire.h"

#include "common/nofile.h"
#include "common/util.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>

static _Noreturn void run_command(const char *const *command, int in) {
        int null = open("/dev/null", O_RDWR | O_CLOEXEC);

        setpgid(0, 0);
        if (null < 0 || dup2(in, 0) < 0 || dup2(null, 1) < 0 || dup2(null, 2) < 0)
                _exit(126);
        if (syscall(SYS_close_range, 3, ~0u, 0) < 0)
                _exit(126);
        nofile_lower();
        execvp(command[0], (char *const *)command);
        _exit(127);
}

static pid_t start(const char *const *command, const struct hook_msg *m) {
        int pipe_fd[2];

        if (pipe2(pipe_fd, O_CLOEXEC) < 0)
                return -1;
        pid_t pid = fork();
        if (pid == 0)
                run_command(command, pipe_fd[0]);
        close(pipe_fd[0]);
        /* A pipe holds 64 KiB: this never waits for the hook to read. */
        if (pid > 0) {
                setpgid(pid, pid);
                (void)!crew_write_full(pipe_fd[1], m->json, MIN_OF(m->n, TERMINATION_JSON_MAX));
        }
        close(pipe_fd[1]);
        return pid;
}

/* Waits for pid, at most the timeout, and only while crewd lives.  False: crewd is gone. */
static bool supervise(int fd, pid_t pid, int *status) {
        uint64_t deadline = crew_now_ns() + HOOKS_TIMEOUT_NS;
        int pidfd = (int)syscall(SYS_pidfd_open, pid, 0), raw = 0;
        bool alive = true, ended = false;

        while (pidfd >= 0 && alive && !ended) {
                uint64_t now = crew_now_ns();
                /* No POLLIN on the channel: the next request waits; only its end matters here. */
                struct pollfd p[2] = {{.fd = pidfd, .events = POLLIN}, {.fd = fd, .events = 0}};
                if (now >= deadline)
                        break;
                if (poll(p, 2, (int)((deadline - now) / 1000000u) + 1) < 0 && errno != EINTR)
                        break;
                ended = p[0].revents != 0;
                alive = !(p[1].revents & (POLLHUP | POLLERR));
        }
        /* Its group too: a hook must not leave background children that outlive crewd's word for them. */
        kill(-pid, SIGKILL);
        kill(pid, SIGKILL);
        while (waitpid(pid, &raw, 0) < 0 && errno == EINTR)
                ;
        crew_close(&pidfd);
        *status = !ended ? -1 : WIFEXITED(raw) ? WEXITSTATUS(raw) : 128 + WTERMSIG(raw);
        return alive;
}

_Noreturn void hook_runner(int fd, const char *const *command) {
        static struct hook_msg m;
        bool alive = true;

        prctl(PR_SET_NAME, "crewd-hooks");
        prctl(PR_SET_DUMPABLE, 0); /* it has the operator's environment; its commands begin anew */
        setsid();
        /* Whoever waits for the end of one of crewd's descriptors must not wait for this process too. */
        if (dup2(fd, 3) < 0 || fcntl(3, F_SETFD, FD_CLOEXEC) < 0 || syscall(SYS_close_range, 4, ~0u, 0) < 0)
                _exit(1);
        fd = 3;
        while (alive) {
                ssize_t n = crew_recv_fds(fd, &m, sizeof(m), NULL, NULL, 0);
                if (n != (ssize_t)sizeof(m))
                        break;
                pid_t pid = start(command, &m);
                if (pid < 0)
                        m.status = -2;
                else
                        alive = supervise(fd, pid, &m.status);
                m.n = 0;
                if (alive && crew_send_fds(fd, &m, sizeof(m), NULL, 0) < 0)
                        break;
        }
        _exit(0);
}
