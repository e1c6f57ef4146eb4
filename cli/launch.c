/* SPDX-License-Identifier: Apache-2.0 */
/* Starting crewd. */
#include "launch.h"

#include "common/util.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#define LOG_TAIL 1024
#define END_MS 5000

/* What the child needs, prepared before the fork. */
struct child {
        const char *program, *crew_file;
        char ready[16], owner[16];
        int ready_fd, owner_fd, log_fd, null_fd; /* -1: none */
        bool locked;
};

static void keep_on_exec(int fd) {
        if (fd >= 0)
                (void)fcntl(fd, F_SETFD, 0);
}

static _Noreturn void child_main(const struct child *c) {
        const char *argv[8] = {c->program, "--ready-fd", c->ready};
        size_t n = 3;
        sigset_t none;

        setsid();
        if (c->owner_fd >= 0) {
                argv[n++] = "--owner-fd";
                argv[n++] = c->owner;
        }
        if (c->locked)
                argv[n++] = "--locked";
        argv[n++] = c->crew_file;
        keep_on_exec(c->ready_fd);
        keep_on_exec(c->owner_fd);
        dup2(c->null_fd, STDIN_FILENO);
        if (c->log_fd >= 0)
                dup2(c->log_fd, STDERR_FILENO);
        dup2(STDERR_FILENO, STDOUT_FILENO); /* standard output is for what we print */
        signal(SIGPIPE, SIG_DFL);
        sigemptyset(&none);
        sigprocmask(SIG_SETMASK, &none, NULL);
        execv(c->program, (char *const *)argv);
        dprintf(c->ready_fd, "error: cannot execute %s: %s\n", c->program, strerror(errno));
        _exit(127);
}

/* <state>/<crew>/crewd.log; the one of the run before is kept as crewd.log.1. */
static int open_log(struct launch *l, const struct launch_args *a, struct cli_problem *p) {
        char old[PATH_MAX + 4];
        struct crew_err err = CREW_ERR_NULL;
        int n = snprintf(l->log, sizeof(l->log), "%s/%s", a->paths->state, a->crew);

        if (n < 0 || (size_t)n + sizeof("/crewd.log") > sizeof(l->log))
                return cli_problem_set(p, CLI_FAILED, "paths", "path too long: %s", a->paths->state);
        if (crew_mkdir_p(a->paths->state, 0755, &err) < 0 || crew_mkdir_p(l->log, 0700, &err) < 0) {
                cli_problem_set(p, CLI_FAILED, "state-dir", "%s", err.msg);
                cli_problem_hint(p, "the audit and the log go there; CREWD_HOME=DIR chooses another place");
                return -1;
        }
        strcat(l->log, "/crewd.log");
        snprintf(old, sizeof(old), "%s.1", l->log);
        rename(l->log, old);
        int fd = open(l->log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW, 0600);
        if (fd < 0)
                return cli_problem_set(p, CLI_FAILED, "state-dir", "cannot write %s: %s", l->log, strerror(errno));
        return fd;
}

static int start(struct launch *l, struct child *c, bool own, struct cli_problem *p) {
        int ready[2] = {-1, -1}, owner[2] = {-1, -1};

        if (pipe2(ready, O_CLOEXEC) < 0 || (own && pipe2(owner, O_CLOEXEC) < 0)) {
                crew_close(&ready[0]);
                crew_close(&ready[1]);
                return cli_problem_set(p, CLI_INTERNAL, "io", "cannot make a pipe: %s", strerror(errno));
        }
        c->ready_fd = ready[1];
        c->owner_fd = owner[0];
        snprintf(c->ready, sizeof(c->ready), "%d", c->ready_fd);
        snprintf(c->owner, sizeof(c->owner), "%d", c->owner_fd);
        l->pid = fork();
        if (l->pid == 0)
                child_main(c);
        int saved = errno;
        close(ready[1]);
        crew_close(&owner[0]);
        l->ready_fd = ready[0];
        l->owner_fd = owner[1];
        if (l->pid < 0)
                return cli_problem_set(p, CLI_INTERNAL, "io", "cannot fork: %s", strerror(saved));
        l->pidfd = (int)syscall(SYS_pidfd_open, l->pid, 0);
        return 0;
}

int launch_start(struct launch *l, const struct launch_args *a, struct cli_problem *p) {
        _cleanup_close_ int log_fd = -1, null_fd = open("/dev/null", O_RDWR | O_CLOEXEC);
        struct crew_err err = CREW_ERR_NULL;
        char program[PATH_MAX];

        *l = LAUNCH_NULL;
        if (crew_program_path("crewd", program, &err) < 0)
                return cli_problem_set(p, CLI_INTERNAL, "install", "%s", err.msg);
        if (!a->stderr_up && (log_fd = open_log(l, a, p)) < 0)
                return -1;
        struct child c = {
                .program = program, .crew_file = a->crew_file, .log_fd = log_fd, .null_fd = null_fd, .locked = a->locked};
        fflush(NULL);
        return start(l, &c, a->own, p);
}

static int failed(struct launch *l, struct cli_problem *p) {
        const char *text = strncmp(l->said, "error: ", 7) == 0 ? l->said + 7 : l->said;
        size_t n = strcspn(text, "\n");

        if (!launch_ended(l, END_MS))
                launch_kill(l);
        int status = launch_status(l);
        int ours = status == CLI_USAGE || status == CLI_KERNEL || status == CLI_ABSENT || status == CLI_REFUSED
                           ? status
                           : CLI_FAILED;
        if (n > 0) {
                cli_problem_set(p, ours, "start-failed", "%.*s", (int)n, text);
        } else {
                cli_problem_set(p, ours, "start-failed", "crewd ended before the crew was up (%s %d)",
                                status > 128 ? "signal" : "status", status > 128 ? status - 128 : status);
                launch_add_log(l, p);
        }
        if (ours == CLI_KERNEL)
                cli_problem_hint(p, "crewctl doctor shows what this kernel can enforce and the fixes");
        return -1;
}

int launch_ready(struct launch *l, int timeout_ms, struct cli_problem *p) {
        struct pollfd fd = {.fd = l->ready_fd, .events = POLLIN};
        int r = poll(&fd, 1, timeout_ms);

        if (r <= 0)
                return 0;
        ssize_t n = read(l->ready_fd, l->said + l->said_n, sizeof(l->said) - 1 - l->said_n);
        if (n < 0 && (errno == EINTR || errno == EAGAIN))
                return 0;
        if (n > 0)
                l->said_n += (size_t)n;
        l->said[l->said_n] = '\0';
        if (n > 0 && !strchr(l->said, '\n') && l->said_n < sizeof(l->said) - 1)
                return 0;
        if (strncmp(l->said, "ready\n", 6) == 0)
                return 1;
        return failed(l, p);
}

bool launch_ended(struct launch *l, int timeout_ms) {
        struct pollfd fd = {.fd = l->pidfd, .events = POLLIN};

        if (l->pid <= 0)
                return true;
        return poll(&fd, 1, timeout_ms) > 0;
}

int launch_status(struct launch *l) {
        int status = 0;
        pid_t r;

        if (l->pid <= 0)
                return -1;
        do
                r = waitpid(l->pid, &status, 0);
        while (r < 0 && errno == EINTR);
        l->pid = -1;
        if (r < 0)
                return -1;
        return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

void launch_add_log(const struct launch *l, struct cli_problem *p) {
        char tail[LOG_TAIL + 1];
        _cleanup_close_ int fd = l->log[0] ? open(l->log, O_RDONLY | O_CLOEXEC) : -1;
        struct stat st;

        if (fd < 0 || fstat(fd, &st) < 0 || st.st_size == 0)
                return;
        off_t at = st.st_size > LOG_TAIL ? st.st_size - LOG_TAIL : 0;
        ssize_t n = pread(fd, tail, LOG_TAIL, at);
        if (n <= 0)
                return;
        tail[n] = '\0';
        const char *text = at > 0 && strchr(tail, '\n') ? strchr(tail, '\n') + 1 : tail;
        cli_problem_hint(p, "from %s:\n%s", l->log, text);
}

void launch_kill(struct launch *l) {
        if (l->pid <= 0)
                return;
        crew_close(&l->owner_fd);
        kill(l->pid, SIGTERM);
        if (!launch_ended(l, END_MS))
                kill(l->pid, SIGKILL);
        launch_ended(l, END_MS);
}

void launch_fini(struct launch *l) {
        crew_close(&l->ready_fd);
        crew_close(&l->owner_fd);
        crew_close(&l->pidfd);
}
