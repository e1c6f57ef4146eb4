/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Starting a program of the plan inside a sealed jail: fork, one more Landlock layer, exec.  The agent and each tool get
 * a layer of their own below the worker's, so that the agent can not even read a tool's file and a tool can not read
 * another's.
 *
 * The child shares our memory until its exec (as vfork and posix_spawn do): no page tables are copied, and the errno of
 * a failed exec is simply there.  Until then it makes only async-signal-safe calls, on a stack of its own.
 */
#include "jail.h"

#include "landlock_hide.h"
#include "landlock_layer.h"

#include "common/util.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>

/* Rulesets by layer, made once: the plan never changes and neither does the view. */
static int rulesets[PLAN_MAX_LAYERS];
static const struct plan *rulesets_of;
static unsigned abi;

/* fd, or -errno; -1 with abi 0 (the plan allows a start without Landlock). */
static int layer_ruleset(const struct plan *plan, uint32_t layer) {
        if (rulesets_of != plan) {
                int why;
                for (size_t i = 0; i < ELEMENTSOF(rulesets); i++)
                        rulesets[i] = -1;
                rulesets_of = plan;
                abi = landlock_abi(&why);
        }
        if (layer == 0 || layer >= plan->n_layers)
                return -EINVAL;
        if (abi > 0 && rulesets[layer] < 0)
                rulesets[layer] = landlock_layer_open(plan, layer, abi, NULL);
        return rulesets[layer];
}

static const char *env_value(const char *const *envp, const char *name) {
        size_t n = strlen(name);

        for (; envp && *envp; envp++) {
                if (strncmp(*envp, name, n) == 0 && (*envp)[n] == '=')
                        return *envp + n + 1;
        }
        return NULL;
}

static int set_stdio(const int stdio[3]) {
        int fd[3];

        for (int i = 0; i < 3; i++) { /* out of the way of each other first */
                fd[i] = stdio[i] >= 0 ? fcntl(stdio[i], F_DUPFD_CLOEXEC, 3) : open("/dev/null", O_RDWR | O_CLOEXEC);
                if (fd[i] >= 0 && fd[i] < 3) {
                        int moved = fcntl(fd[i], F_DUPFD_CLOEXEC, 3);
                        close(fd[i]);
                        fd[i] = moved;
                }
                if (fd[i] < 0)
                        return -errno;
        }
        for (int i = 0; i < 3; i++) {
                if (dup2(fd[i], i) < 0)
                        return -errno;
        }
        return 0;
}

static void reset_signals(void) {
        sigset_t none;

        /* The ones that cannot be set stay as they are; nobody here touches the real-time ones. */
        for (int s = 1; s < __SIGRTMIN; s++)
                signal(s, SIG_DFL);
        sigemptyset(&none);
        sigprocmask(SIG_SETMASK, &none, NULL);
}

/* As execvpe, with the PATH the program will see; only returns on failure. */
static int exec_in_path(const struct jail_exec *x) {
        const char *name = x->argv[0], *path = env_value(x->envp, "PATH");
        char *const *argv = (char *const *)x->argv, *const *envp = (char *const *)x->envp;
        char full[PATH_MAX];
        int r = -ENOENT;

        if (strchr(name, '/') || !path) {
                execve(name, argv, envp);
                return -errno;
        }
        while (*path) {
                size_t n = strcspn(path, ":");
                if (n > 0 && (size_t)snprintf(full, sizeof(full), "%.*s/%s", (int)n, path, name) < sizeof(full)) {
                        execve(full, argv, envp);
                        if (errno != ENOENT && errno != ENOTDIR)
                                r = -errno; /* a file that may not be run says more than one that is not there */
                }
                path += n + (path[n] == ':');
        }
        return r;
}

static int join_groups(const struct jail_exec *x) {
        for (size_t i = 0; i < x->n_groups; i++)
                if (x->groups[i] >= 0 && write(x->groups[i], "0", 1) != 1)
                        return -errno;
        return 0;
}

static int become(const struct plan *plan, const struct jail_exec *x, int ruleset) {
        int r = join_groups(x);

        if (r < 0 || (r = set_stdio(x->stdio)) < 0)
                return r;
        if (x->cpus && sched_setaffinity(0, sizeof(*x->cpus), x->cpus) < 0)
                return -errno;
        reset_signals();
        if (x->new_session) {
                if (setsid() < 0)
                        return -errno;
                if (isatty(0) && ioctl(0, TIOCSCTTY, 0) < 0)
                        return -errno;
        }
        if (ruleset >= 0 && (r = landlock_layer_enter(ruleset, plan, abi)) < 0)
                return r;
        if (close_range(3, ~0u, CLOSE_RANGE_CLOEXEC) < 0)
                return -errno;
        return exec_in_path(x);
}

struct start {
        const struct plan *plan;
        const struct jail_exec *x;
        int ruleset;
        int result; /* the child's -errno; 0 once it has exec'd */
};

static int child_main(void *arg) {
        struct start *s = arg;

        s->result = become(s->plan, s->x, s->ruleset);
        _exit(127);
}

pid_t jail_exec_program(const struct plan *plan, const struct jail_exec *x) {
        static char stack[64 * 1024] __attribute__((aligned(16))); /* one child at a time: CLONE_VFORK holds us */
        struct start s = {.plan = plan, .x = x, .ruleset = layer_ruleset(plan, x->layer)};
        sigset_t all, before;

        if (s.ruleset < 0 && abi > 0)
                return s.ruleset;
        int hidden = plan->flags & PLAN_LANDLOCK_LOG ? landlock_hide() : 0;
        if (hidden < 0)
                return hidden;
        if (!x->argv || !x->argv[0])
                return -EINVAL;
        /* No handler of ours may run in the child. */
        sigfillset(&all);
        sigprocmask(SIG_SETMASK, &all, &before);
        pid_t pid = clone(child_main, stack + sizeof(stack), CLONE_VM | CLONE_VFORK | SIGCHLD, &s);
        int r = pid < 0 ? -errno : s.result;
        sigprocmask(SIG_SETMASK, &before, NULL);
        if (r < 0 && pid > 0) {
                while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
                        ;
        }
        return r < 0 ? r : pid;
}
