/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The hook runner: forked from crewd before it has anything worth inheriting.  Starts a command for each request, a few at
 * a time, and says how it ended.  When crewd closes the channel (or is killed) the commands that still run are killed too.
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

struct run {
        uint64_t id, deadline_ns;
        pid_t pid;
        int pidfd; /* owned; -1: the slot is free */
        bool late; /* killed for its time */
};

struct runner {
        int fd;
        const char *const *command;
        struct run runs[HOOKS_AT_ONCE];
        struct hook_msg msg; /* the one in hand */
};

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
                (void)!crew_write_full(pipe_fd[1], m->json, m->n);
        }
        close(pipe_fd[1]);
        return pid;
}

static struct run *free_run(struct runner *r) {
        for (size_t i = 0; i < ELEMENTSOF(r->runs); i++) {
                if (r->runs[i].pidfd < 0)
                        return &r->runs[i];
        }
        return NULL;
}

/* Its group too: a hook must not leave background children that outlive crewd's word for them. */
static void kill_all_of(pid_t pid) {
        kill(-pid, SIGKILL);
        kill(pid, SIGKILL);
}

static int reap(pid_t pid) {
        int raw = 0;

        while (waitpid(pid, &raw, 0) < 0 && errno == EINTR)
                ;
        return WIFEXITED(raw) ? WEXITSTATUS(raw) : 128 + WTERMSIG(raw);
}

/* False: crewd is gone. */
static bool say(struct runner *r, uint64_t id, int status) {
        struct hook_msg *m = &r->msg;

        m->id = id;
        m->status = status;
        m->n = 0;
        return crew_send_fds(r->fd, m, HOOK_MSG_HEAD, NULL, 0) >= 0;
}

/* Takes a request for a slot that is free.  False: crewd is gone. */
static bool begin(struct runner *r, struct run *run) {
        ssize_t n = crew_recv_fds(r->fd, &r->msg, sizeof(r->msg), NULL, NULL, 0);
        if (n < (ssize_t)HOOK_MSG_HEAD || (size_t)n != HOOK_MSG_HEAD + r->msg.n)
                return false;
        pid_t pid = start(r->command, &r->msg);
        int pidfd = pid < 0 ? -1 : (int)syscall(SYS_pidfd_open, pid, 0);
        if (pidfd < 0) {
                if (pid > 0) {
                        kill_all_of(pid);
                        reap(pid);
                }
                return say(r, r->msg.id, -2);
        }
        *run = (struct run){.id = r->msg.id, .deadline_ns = crew_now_ns() + HOOKS_TIMEOUT_NS, .pid = pid, .pidfd = pidfd};
        return true;
}

static bool finish(struct runner *r, struct run *run) {
        kill_all_of(run->pid); /* it is not reaped yet: the number is still its own */
        int status = reap(run->pid);
        crew_close(&run->pidfd);
        return say(r, run->id, run->late ? -1 : status);
}

/* It may be we who are late: whoever has ended by now is not killed for it. */
static bool runs(const struct run *run) {
        struct pollfd p = {.fd = run->pidfd, .events = POLLIN};

        return poll(&p, 1, 0) == 0;
}

/* Who is late ends by and by, and the others do not wait for it. */
static int kill_late(struct runner *r) {
        uint64_t now = crew_now_ns(), next = UINT64_MAX;

        for (size_t i = 0; i < ELEMENTSOF(r->runs); i++) {
                struct run *run = &r->runs[i];
                if (run->pidfd < 0 || run->late)
                        continue;
                if (now < run->deadline_ns) {
                        next = MIN_OF(next, run->deadline_ns);
                } else if (runs(run)) {
                        kill_all_of(run->pid);
                        run->late = true;
                }
        }
        return next == UINT64_MAX ? -1 : (int)((next - now) / 1000000u) + 1;
}

/* One turn.  False: crewd is gone. */
static bool serve(struct runner *r) {
        struct run *free_one = free_run(r);
        struct pollfd p[HOOKS_AT_ONCE + 1];
        int ms = kill_late(r);

        for (size_t i = 0; i < HOOKS_AT_ONCE; i++)
                p[i] = (struct pollfd){.fd = r->runs[i].pidfd, .events = POLLIN};
        /* Without a slot the next request waits; only crewd's end matters then. */
        p[HOOKS_AT_ONCE] = (struct pollfd){.fd = r->fd, .events = free_one ? POLLIN : 0};
        if (poll(p, ELEMENTSOF(p), ms) < 0)
                return errno == EINTR;
        if (p[HOOKS_AT_ONCE].revents & (POLLHUP | POLLERR))
                return false;
        for (size_t i = 0; i < HOOKS_AT_ONCE; i++) {
                if (r->runs[i].pidfd >= 0 && p[i].revents && !finish(r, &r->runs[i]))
                        return false;
        }
        return !(p[HOOKS_AT_ONCE].revents & POLLIN) || begin(r, free_one);
}

static void kill_everything(struct runner *r) {
        for (size_t i = 0; i < ELEMENTSOF(r->runs); i++) {
                if (r->runs[i].pidfd >= 0)
                        kill_all_of(r->runs[i].pid);
        }
}

_Noreturn void hook_runner(int fd, const char *const *command) {
        static struct runner r = {.fd = 3};

        prctl(PR_SET_NAME, "crewd-hooks");
        prctl(PR_SET_DUMPABLE, 0); /* it has the operator's environment; its commands begin anew */
        setsid();
        /* Whoever waits for the end of one of crewd's descriptors must not wait for this process too. */
        if (dup2(fd, r.fd) < 0 || fcntl(r.fd, F_SETFD, FD_CLOEXEC) < 0 || syscall(SYS_close_range, 4, ~0u, 0) < 0)
                _exit(1);
        r.command = command;
        for (size_t i = 0; i < ELEMENTSOF(r.runs); i++)
                r.runs[i].pidfd = -1;
        while (serve(&r))
                ;
        kill_everything(&r);
        _exit(0);
}
