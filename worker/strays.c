/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a program leaves behind when it ends, and how pid 1 finds it.
 *
 * With no other program running, kill(-1) takes everything in the namespace at once.  Otherwise every pid is looked at:
 * a process stays when its session is a running program's, or an ancestor is one.  Neither can be forged: a process joins
 * no foreign session, and an orphan's parent is pid 1.  So a daemon that left both its session and its parents is
 * killed when any program of the agent ends; nothing survives the last one.
 *
 * Pids come from probing, not from /proc: a process that is not dumpable is invisible there.  It then has no parents we
 * can see, and stays only by its session.
 */
#include "common/util.h"
#include "program.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/wait.h>

#define PID_MAX 4194304
#define ROUNDS 8
#define AGAIN_MS 20
#define MAX_ANCESTORS 256

static bool is_program(const struct worker *w, pid_t pid) {
        list_for_each(it, &w->programs) {
                const struct program *p = container_of(it, struct program, link);
                if (p->pid == pid && !p->reaped)
                        return true;
        }
        return false;
}

/* From /proc/PID/stat, behind the name (which may hold any byte, but is followed by the last ')').  0: not known. */
static pid_t parent_of(pid_t pid) {
        char path[40], buf[512], *p;

        snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
        _cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC);
        ssize_t n = fd < 0 ? -1 : read(fd, buf, sizeof(buf) - 1);
        if (n <= 0)
                return 0;
        buf[n] = '\0';
        p = strrchr(buf, ')');
        return p && strlen(p) > 4 ? (pid_t)strtol(p + 4, NULL, 10) : 0;
}

static bool is_claimed(const struct worker *w, pid_t pid) {
        for (int i = 0; pid > 1 && i < MAX_ANCESTORS; i++) {
                pid_t session = getsid(pid);
                if (session > 0 && is_program(w, session))
                        return true;
                if (is_program(w, pid))
                        return true;
                pid = parent_of(pid);
        }
        return false;
}

/* Pids are handed out in ascending order, so a fresh one bounds all others until they wrap around. */
static void find_max_pid(struct worker *w) {
        pid_t pid = fork();

        if (pid == 0)
                _exit(0);
        if (pid < 0) {
                w->max_pid = MIN_OF(w->max_pid + 65536, PID_MAX); /* no process to spare: look further */
                return;
        }
        while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
                ;
        w->max_pid = pid < w->last_pid ? PID_MAX : MAX_OF(w->max_pid, pid);
        w->last_pid = pid;
}

static unsigned kill_unclaimed(struct worker *w) {
        unsigned killed = 0;

        for (pid_t pid = 2; pid <= w->max_pid; pid++) {
                if (getsid(pid) < 0 || is_claimed(w, pid))
                        continue;
                killed += kill(pid, SIGKILL) == 0;
        }
        return killed;
}

static void on_sweep(struct timer *t) {
        strays_kill(container_of(t, struct worker, sweep));
}

void strays_kill(struct worker *w) {
        crew_assert(getpid() == 1);
        if (list_empty(&w->programs)) {
                timer_stop(&w->sweep);
                (void)kill(-1, SIGKILL);
                return;
        }
        for (int i = 0; i < ROUNDS; i++) {
                programs_reap(w);
                find_max_pid(w);
                if (kill_unclaimed(w) == 0)
                        return;
        }
        timer_start(&w->loop, &w->sweep, AGAIN_MS, on_sweep); /* dying takes a moment, or something forks on */
}
