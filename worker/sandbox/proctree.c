/* SPDX-License-Identifier: Apache-2.0 */
/* Walks /proc/PID/task/TID/children.  A process that vanishes meanwhile is simply not counted. */
#include "proctree.h"

#include "common/util.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/kcmp.h>
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

static bool read_stat(const char *path, struct proctree_process *out) {
        unsigned long utime = 0, stime = 0, tick_ns = 1000000000ul / (unsigned long)sysconf(_SC_CLK_TCK);
        long cutime = 0, cstime = 0, threads = 0, rss = 0;
        unsigned long long started = 0;
        char buf[1024];
        int parent = 0;

        _cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC);
        ssize_t n = fd < 0 ? -1 : read(fd, buf, sizeof(buf) - 1);
        buf[MAX_OF(n, 0)] = '\0';
        const char *close = strrchr(buf, ')'); /* the name before it may hold anything */
        *out = (struct proctree_process){.state = 'X'};
        if (!close ||
            sscanf(close + 1, " %c %d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu %ld %ld %*d %*d %ld %*d %llu %*u %ld",
                   &out->state, &parent, &utime, &stime, &cutime, &cstime, &threads, &started, &rss) != 9)
                return false;
        out->parent = parent;
        out->threads = (uint32_t)threads;
        out->started_ticks = started;
        out->cpu_ns = (utime + stime) * tick_ns;
        out->children_ns = (unsigned long)(cutime + cstime) * tick_ns;
        out->resident_bytes = (uint64_t)rss * (uint64_t)sysconf(_SC_PAGESIZE);
        return true;
}

/* Its first thread has ended and is told of as dead, with no memory; the others go on. */
static void look_at_others(pid_t pid, struct proctree_process *out) {
        struct proctree_process t;
        char path[96];
        struct dirent *e;

        snprintf(path, sizeof(path), "/proc/%d/task", pid);
        DIR *d = opendir(path);
        while (d && strchr("ZX", out->state) && (e = readdir(d))) {
                snprintf(path, sizeof(path), "/proc/%d/task/%.20s/stat", pid, e->d_name);
                if (e->d_name[0] == '.' || !read_stat(path, &t))
                        continue;
                out->state = t.state;
                out->resident_bytes = t.resident_bytes;
        }
        if (d)
                closedir(d);
}

bool proctree_look(pid_t pid, struct proctree_process *out) {
        char path[64];

        snprintf(path, sizeof(path), "/proc/%d/stat", pid);
        if (!read_stat(path, out))
                return false;
        if (strchr("ZX", out->state) && out->threads > 1)
                look_at_others(pid, out);
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

/* Until it executes a program, the child of a vfork runs in the memory of its parent. */
static bool is_its_parents(pid_t pid, pid_t parent) {
        return parent > 0 && syscall(SYS_kcmp, pid, parent, KCMP_VM, 0, 0) == 0;
}

/* The sum of those lines of a file that begin so, in bytes; *any: there was one. */
static uint64_t sum_of(const char *path, const char *const *names, size_t n, bool *any) {
        unsigned long long kib, sum = 0;
        char line[256];

        _cleanup_fclose_ FILE *f = fopen(path, "re");
        *any = false;
        while (f && fgets(line, sizeof(line), f)) {
                for (size_t i = 0; i < n; i++) {
                        size_t len = strlen(names[i]);
                        if (strncmp(line, names[i], len) != 0 || sscanf(line + len, " %llu kB", &kib) != 1)
                                continue;
                        sum += kib;
                        *any = true;
                }
        }
        return sum * 1024;
}

pid_t proctree_number(pid_t pid) {
        char path[64], line[256];
        pid_t number = 0;

        snprintf(path, sizeof(path), "/proc/%d/status", pid);
        _cleanup_fclose_ FILE *f = fopen(path, "re");
        while (f && fgets(line, sizeof(line), f)) {
                if (sscanf(line, "NSpid: %*d %d", &number) == 1) /* ours, theirs, and those within theirs */
                        break;
        }
        return number;
}

uint64_t proctree_swapped(pid_t pid) {
        static const char *const names[] = {"VmSwap:"};
        char path[64];
        bool any;

        snprintf(path, sizeof(path), "/proc/%d/status", pid);
        return sum_of(path, names, ELEMENTSOF(names), &any);
}

uint64_t proctree_share(pid_t pid) {
        static const char *const names[] = {"Pss:", "SwapPss:"};
        char path[64];
        struct proctree_process now;

        if (!proctree_look(pid, &now))
                return 0;
        bool borrowed = is_its_parents(pid, now.parent); /* first: who has no memory at all is not believed */
        snprintf(path, sizeof(path), "/proc/%d/smaps_rollup", pid);
        bool any;
        uint64_t bytes = sum_of(path, names, ELEMENTSOF(names), &any);
        if (any)
                return borrowed ? 0 : bytes;
        return proctree_look(pid, &now) ? now.resident_bytes : 0;
}

void proctree_stats(pid_t root, struct spawn_stats *out) {
        const struct proctree *w = proctree_walk(root, UINT64_MAX);

        for (size_t i = 0; i < w->n; i++)
                out->memory_bytes += add_process(w->pids[i], out);
        out->memory_peak = MAX_OF(out->memory_peak, out->memory_bytes);
}

/* Who has been found to be below root.  In a deep tree every way up would else be walked again and again. */
#define KNOWN_BELOW 4096u
static struct {
        pid_t root, pid;
        uint64_t started_ticks; /* another process of that pid has another */
} below[KNOWN_BELOW];

static bool is_known(pid_t pid, pid_t root, uint64_t started_ticks) {
        unsigned at = (unsigned)pid % KNOWN_BELOW;

        return below[at].pid == pid && below[at].root == root && below[at].started_ticks == started_ticks;
}

/* Orphans of a jail are children of its pid 1, so that each of it has that among its ancestors and nobody else has. */
static bool is_below(pid_t pid, pid_t root) {
        struct proctree_process p, first = {0};
        pid_t at = pid;

        for (unsigned i = 0; i < PROCTREE_MAX && at > 1 && at != root; i++, at = p.parent) {
                if (!proctree_look(at, &p))
                        return false;
                if (i == 0)
                        first = p;
                if (is_known(at, root, p.started_ticks)) {
                        at = root;
                        break;
                }
        }
        if (at == root && pid != root) {
                below[(unsigned)pid % KNOWN_BELOW].root = root;
                below[(unsigned)pid % KNOWN_BELOW].pid = pid;
                below[(unsigned)pid % KNOWN_BELOW].started_ticks = first.started_ticks;
        }
        return at == root;
}

int proctree_signal(pid_t root, pid_t pid, int sig) {
        _cleanup_close_ int fd = (int)syscall(SYS_pidfd_open, pid, 0);

        if (fd < 0)
                return -errno;
        /* Looked at with the descriptor in hand, which is of one process for good. */
        if (!is_below(pid, root))
                return -ESRCH;
        return syscall(SYS_pidfd_send_signal, fd, sig, NULL, 0) < 0 ? -errno : 0;
}

bool proctree_stop(pid_t root) {
        const struct proctree *w = proctree_walk(root, UINT64_MAX);
        bool still = w->n < PROCTREE_MAX;

        for (size_t i = 0; i < w->n; i++) {
                struct proctree_process p;
                if (!proctree_look(w->pids[i], &p)) {
                        still = false; /* who ends now may have left a child */
                        continue;
                }
                if (!strchr("TtZX", p.state))
                        (void)proctree_signal(root, w->pids[i], SIGSTOP);
                /* Whoever waits in the kernel ('D': a vfork whose child stands still) stops on its way out of there, and a
                 * fork is given up for a signal. */
                if (!strchr("TtZXD", p.state))
                        still = false;
        }
        return still;
}

void proctree_continue(pid_t root) {
        const struct proctree *w = proctree_walk(root, UINT64_MAX);

        for (size_t i = 0; i < w->n; i++)
                (void)proctree_signal(root, w->pids[i], SIGCONT);
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

struct life {
        char state;
        pid_t parent;
        bool killed; /* SIGKILL is pending: it is on its way out */
};

static bool look_at_life(pid_t pid, struct life *out) {
        const unsigned long long kill_bit = 1ull << (SIGKILL - 1);
        unsigned long long pending;
        char path[64], line[256];

        *out = (struct life){.state = 'X'};
        snprintf(path, sizeof(path), "/proc/%d/status", pid);
        _cleanup_fclose_ FILE *f = fopen(path, "re");
        while (f && fgets(line, sizeof(line), f)) {
                (void)!sscanf(line, "State: %c", &out->state);
                (void)!sscanf(line, "PPid: %d", &out->parent);
                if (sscanf(line, "SigPnd: %llx", &pending) == 1 || sscanf(line, "ShdPnd: %llx", &pending) == 1)
                        out->killed |= pending & kill_bit;
        }
        return f;
}

/* A parent that sleeps beside its dead child does not wait for it, and perhaps never will. */
static bool is_waited_for(pid_t root, pid_t parent) {
        struct life l;

        return parent == root || !look_at_life(parent, &l) || l.state != 'S';
}

bool proctree_dying(pid_t root) {
        uint64_t until = crew_now_ns() + COUNT_FILES_NS;
        const struct proctree *w = proctree_walk(root, until);
        struct life l;

        for (size_t i = 0; i < w->n && crew_now_ns() < until; i++) {
                if (!look_at_life(w->pids[i], &l) || l.killed || (strchr("ZX", l.state) && is_waited_for(root, l.parent)))
                        return true;
        }
        return crew_now_ns() >= until; /* not all of them were seen */
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
