/* SPDX-License-Identifier: Apache-2.0 */
/* Walks /proc/PID/task/TID/children.  A process that vanishes meanwhile is simply not counted. */
#include "proctree.h"

#include "common/util.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define COUNT_NS 500000u
#define COUNT_FILES_NS 5000000u /* no process more is begun after that */

static void add_children(struct proctree *w, pid_t pid, const char *tid) {
        char path[96];
        int child;

        snprintf(path, sizeof(path), "/proc/%d/task/%.20s/children", pid, tid);
        _cleanup_fclose_ FILE *f = fopen(path, "re");
        while (f && w->n < PROCTREE_MAX && fscanf(f, "%d", &child) == 1)
                w->pids[w->n++] = child;
}

const struct proctree *proctree_walk(pid_t root, uint64_t deadline_ns) {
        static struct proctree tree;
        struct proctree *w = &tree;

        w->n = 1;
        w->pids[0] = root;
        for (size_t i = 0; i < w->n && crew_now_ns() < deadline_ns; i++) {
                char path[64];
                struct dirent *e;
                snprintf(path, sizeof(path), "/proc/%d/task", w->pids[i]);
                DIR *d = opendir(path);
                while (d && (e = readdir(d))) {
                        if (e->d_name[0] != '.')
                                add_children(w, w->pids[i], e->d_name);
                }
                if (d)
                        closedir(d);
        }
        return w;
}

uint32_t proctree_count(pid_t root) {
        return (uint32_t)proctree_walk(root, crew_now_ns() + COUNT_NS)->n;
}

bool proctree_look(pid_t pid, struct proctree_process *out) {
        unsigned long utime = 0, stime = 0, tick_ns = 1000000000ul / (unsigned long)sysconf(_SC_CLK_TCK);
        long cutime = 0, cstime = 0, rss = 0;
        char path[64], buf[1024];
        int parent = 0;

        snprintf(path, sizeof(path), "/proc/%d/stat", pid);
        _cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC);
        ssize_t n = fd < 0 ? -1 : read(fd, buf, sizeof(buf) - 1);
        buf[MAX_OF(n, 0)] = '\0';
        const char *close = strrchr(buf, ')'); /* the name before it may hold anything */
        *out = (struct proctree_process){.state = 'X'};
        if (!close ||
            sscanf(close + 1, " %c %d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu %ld %ld %*d %*d %*d %*d %*u %*u %ld",
                   &out->state, &parent, &utime, &stime, &cutime, &cstime, &rss) != 7)
                return false;
        out->parent = parent;
        out->cpu_ns = (utime + stime) * tick_ns;
        out->children_ns = (unsigned long)(cutime + cstime) * tick_ns;
        out->resident_bytes = (uint64_t)rss * (uint64_t)sysconf(_SC_PAGESIZE);
        return true;
}

/* Its resident memory in bytes. */
static uint64_t add_process(pid_t pid, struct spawn_stats *out) {
        struct proctree_process p;

        if (!proctree_look(pid, &p))
                return 0;
        out->processes++;
        out->cpu_ns += p.cpu_ns + p.children_ns;
        return p.resident_bytes;
}

uint64_t proctree_share(pid_t pid) {
        unsigned long long kib;
        char path[64], line[256];
        struct proctree_process now;

        snprintf(path, sizeof(path), "/proc/%d/smaps_rollup", pid);
        _cleanup_fclose_ FILE *f = fopen(path, "re");
        while (f && fgets(line, sizeof(line), f)) {
                if (sscanf(line, "Pss: %llu kB", &kib) == 1)
                        return kib * 1024;
        }
        return proctree_look(pid, &now) ? now.resident_bytes : 0;
}

void proctree_stats(pid_t root, uint64_t suspicious_bytes, struct spawn_stats *out) {
        static uint64_t resident[PROCTREE_MAX];
        const struct proctree *w = proctree_walk(root, UINT64_MAX);

        for (size_t i = 0; i < w->n; i++)
                out->memory_bytes += resident[i] = add_process(w->pids[i], out);
        if (suspicious_bytes && out->memory_bytes > suspicious_bytes) {
                out->memory_bytes = 0;
                for (size_t i = 0; i < w->n; i++)
                        out->memory_bytes += MIN_OF(resident[i], proctree_share(w->pids[i]));
        }
        out->memory_peak = MAX_OF(out->memory_peak, out->memory_bytes);
}

/* Orphans of a jail are children of its pid 1, so that each of it has that among its ancestors and nobody else has.  0: not
 * to be had. */
static pid_t parent_of(pid_t pid) {
        struct proctree_process p;

        return proctree_look(pid, &p) ? p.parent : 0;
}

static bool is_below(pid_t pid, pid_t root) {
        for (unsigned i = 0; i < PROCTREE_MAX && pid > 1 && pid != root; i++)
                pid = parent_of(pid);
        return pid == root;
}

int proctree_signal(pid_t root, pid_t pid, int sig, int *pidfd) {
        _cleanup_close_ int fd = (int)syscall(SYS_pidfd_open, pid, 0);

        if (fd < 0)
                return -errno;
        /* Looked at with the descriptor in hand, which is of one process for good. */
        if (!is_below(pid, root))
                return -ESRCH;
        if (syscall(SYS_pidfd_send_signal, fd, sig, NULL, 0) < 0)
                return -errno;
        if (pidfd)
                *pidfd = crew_steal_fd(&fd);
        return 0;
}

static bool stop_pass(pid_t root, bool on) {
        const struct proctree *w = proctree_walk(root, UINT64_MAX);
        bool still = w->n < PROCTREE_MAX;

        for (size_t i = 0; i < w->n; i++) {
                struct proctree_process p = {.state = 'T'};
                if (on)
                        (void)proctree_look(w->pids[i], &p);
                if (!on || !strchr("TtZX", p.state))
                        (void)proctree_signal(root, w->pids[i], on ? SIGSTOP : SIGCONT, NULL);
                /* Whoever waits in the kernel ('D': a vfork whose child stands still) stops on its way out of there, and a
                 * fork is given up for a signal. */
                if (!strchr("TtZXD", p.state))
                        still = false;
        }
        return still;
}

int proctree_stop(pid_t root, bool on, uint64_t wait_ns) {
        const struct timespec nap = {.tv_nsec = 500000};
        uint64_t until = crew_now_ns() + wait_ns;

        while (!stop_pass(root, on) && on) {
                if (crew_now_ns() >= until)
                        return -ETIMEDOUT;
                nanosleep(&nap, NULL);
        }
        return 0;
}

static uint32_t count_entries(const char *path) {
        DIR *d = opendir(path);
        struct dirent *e;
        uint32_t n = 0;

        while (d && (e = readdir(d)))
                n += e->d_name[0] != '.';
        if (d)
                closedir(d);
        return n;
}

uint32_t proctree_most_files(pid_t root) {
        const struct proctree *w = proctree_walk(root, crew_now_ns() + COUNT_NS);
        uint64_t until = crew_now_ns() + COUNT_FILES_NS;
        uint32_t most = 0;

        for (size_t i = 0; i < w->n; i++) {
                struct stat st;
                char path[64];
                snprintf(path, sizeof(path), "/proc/%d/fd", w->pids[i]);
                if (stat(path, &st) < 0)
                        continue;
                /* The size of that directory is their number, since Linux 6.2; before it is 0, and they are counted. */
                uint64_t n = st.st_size > 0 ? (uint64_t)st.st_size : crew_now_ns() < until ? count_entries(path) : 0;
                most = MAX_OF(most, (uint32_t)MIN_OF(n, (uint64_t)UINT32_MAX));
        }
        return most;
}
