/* SPDX-License-Identifier: Apache-2.0 */
/* Walks /proc/PID/task/TID/children.  A process that vanishes meanwhile is simply not counted. */
#include "proctree.h"

#include "common/util.h"

#include <dirent.h>
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
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

struct taken {
        uint64_t cpu_ns, resident_bytes;
};

static bool taken_by(pid_t pid, struct taken *out) {
        unsigned long utime = 0, stime = 0;
        long cutime = 0, cstime = 0, rss = 0;
        char path[64], buf[1024];

        snprintf(path, sizeof(path), "/proc/%d/stat", pid);
        _cleanup_fclose_ FILE *f = fopen(path, "re");
        size_t n = f ? fread(buf, 1, sizeof(buf) - 1, f) : 0;
        buf[n] = '\0';
        const char *close = strrchr(buf, ')'); /* the name before it may hold anything */
        if (!close ||
            sscanf(close + 1, " %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu %ld %ld %*d %*d %*d %*d %*u %*u %ld",
                   &utime, &stime, &cutime, &cstime, &rss) != 5)
                return false;
        out->cpu_ns = (utime + stime + (unsigned long)cutime + (unsigned long)cstime) *
                      (1000000000ull / (unsigned long)sysconf(_SC_CLK_TCK));
        out->resident_bytes = (uint64_t)rss * (uint64_t)sysconf(_SC_PAGESIZE);
        return true;
}

/* Its resident memory in bytes. */
static uint64_t add_process(pid_t pid, struct spawn_stats *out) {
        struct taken t;

        if (!taken_by(pid, &t))
                return 0;
        out->processes++;
        out->cpu_ns += t.cpu_ns;
        return t.resident_bytes;
}

/* What the process takes if all that it shares is divided among those that share it.  One that hides that takes all it has,
 * one that died since it was looked at takes nothing. */
static uint64_t share_of(pid_t pid) {
        unsigned long long kib;
        char path[64], line[256];
        struct taken now;

        snprintf(path, sizeof(path), "/proc/%d/smaps_rollup", pid);
        _cleanup_fclose_ FILE *f = fopen(path, "re");
        while (f && fgets(line, sizeof(line), f)) {
                if (sscanf(line, "Pss: %llu kB", &kib) == 1)
                        return kib * 1024;
        }
        return taken_by(pid, &now) ? now.resident_bytes : 0;
}

void proctree_stats(pid_t root, uint64_t suspicious_bytes, struct spawn_stats *out) {
        static uint64_t resident[PROCTREE_MAX];
        const struct proctree *w = proctree_walk(root, UINT64_MAX);

        for (size_t i = 0; i < w->n; i++)
                out->memory_bytes += resident[i] = add_process(w->pids[i], out);
        if (suspicious_bytes && out->memory_bytes > suspicious_bytes) {
                out->memory_bytes = 0;
                for (size_t i = 0; i < w->n; i++)
                        out->memory_bytes += MIN_OF(resident[i], share_of(w->pids[i]));
        }
        out->memory_peak = MAX_OF(out->memory_peak, out->memory_bytes);
}

/* 'T', 't', 'Z', 'X': stopped, traced, dead. */
static char state_of(pid_t pid) {
        char path[64], buf[1024], state = 'X';

        snprintf(path, sizeof(path), "/proc/%d/stat", pid);
        _cleanup_fclose_ FILE *f = fopen(path, "re");
        size_t n = f ? fread(buf, 1, sizeof(buf) - 1, f) : 0;
        buf[n] = '\0';
        const char *close = strrchr(buf, ')');
        if (close)
                sscanf(close + 1, " %c", &state);
        return state;
}

static bool stop_pass(pid_t root, bool on) {
        const struct proctree *w = proctree_walk(root, UINT64_MAX);
        bool still = w->n < PROCTREE_MAX;

        for (size_t i = 0; i < w->n; i++) {
                char state = on ? state_of(w->pids[i]) : 'T';
                if (!on || !strchr("TtZX", state))
                        (void)kill(w->pids[i], on ? SIGSTOP : SIGCONT);
                /* Whoever waits in the kernel ('D': a vfork whose child stands still) stops on its way out of there, and a
                 * fork is given up for a signal. */
                if (!strchr("TtZXD", state))
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
