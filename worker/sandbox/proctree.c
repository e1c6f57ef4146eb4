/* SPDX-License-Identifier: Apache-2.0 */
/* Walks /proc/PID/task/TID/children.  A process that vanishes meanwhile is simply not counted. */
#include "proctree.h"

#include "common/util.h"

#include <dirent.h>
#include <stdlib.h>
#include <string.h>

#define TREE_MAX 4096
#define COUNT_NS 500000u

struct walk {
        size_t n;
        pid_t pids[TREE_MAX];
};

static void add_children(struct walk *w, pid_t pid, const char *tid) {
        char path[96];
        int child;

        snprintf(path, sizeof(path), "/proc/%d/task/%.20s/children", pid, tid);
        _cleanup_fclose_ FILE *f = fopen(path, "re");
        while (f && w->n < TREE_MAX && fscanf(f, "%d", &child) == 1)
                w->pids[w->n++] = child;
}

/* One walk at a time: we are single-threaded. */
static const struct walk *walk_tree(pid_t root, uint64_t deadline_ns) {
        static struct walk walk;
        struct walk *w = &walk;

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
        return (uint32_t)walk_tree(root, crew_now_ns() + COUNT_NS)->n;
}

static void add_process(pid_t pid, struct spawn_stats *out) {
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
                return;
        out->processes++;
        out->cpu_ns += (utime + stime + (unsigned long)cutime + (unsigned long)cstime) *
                       (1000000000ull / (unsigned long)sysconf(_SC_CLK_TCK));
        out->memory_bytes += (uint64_t)rss * (uint64_t)sysconf(_SC_PAGESIZE);
}

void proctree_stats(pid_t root, struct spawn_stats *out) {
        const struct walk *w = walk_tree(root, UINT64_MAX);

        for (size_t i = 0; i < w->n; i++)
                add_process(w->pids[i], out);
        out->memory_peak = MAX_OF(out->memory_peak, out->memory_bytes);
}
