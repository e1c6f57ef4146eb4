/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Everything about /sys/fs/cgroup.  Trusts the kernel's files and the names it made itself; a directory it finds counts
 * as ours only when its name parses and its owner is gone.
 */
#include "cgroup.h"

#include "common/util.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/magic.h>
#include <signal.h>
#include <stdarg.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <time.h>

#define TOP "crewd"
#define ANCESTORS_MAX 16
#define MOVE_ROUNDS 16
#define OWN_MOVED_MAX 64 /* processes of our own that are moved aside to free a version 2 group for controllers */

enum tree { V2, V1_MEMORY, V1_PIDS, V1_CPU, V1_FREEZER, TREE_N };
static const char *const v1_names[TREE_N] = {
        [V1_MEMORY] = "memory", [V1_PIDS] = "pids", [V1_CPU] = "cpu", [V1_FREEZER] = "freezer"};

static struct host {
        bool known;
        char base[TREE_N][PATH_MAX]; /* ".../crewd" of each tree that we may use, "" otherwise */
        char v2_mount[512];
        uint32_t v2_limits; /* controllers the version 2 tree gives us, CGROUP_* */
        pid_t family;       /* it and what it started are ours to move */
} host;

/* --- small files --- */

static int put_file(const char *dir, const char *file, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
static int put_file(const char *dir, const char *file, const char *fmt, ...) {
        char path[PATH_MAX], text[64];
        va_list ap;

        if ((size_t)snprintf(path, sizeof(path), "%s/%s", dir, file) >= sizeof(path))
                return -ENAMETOOLONG;
        va_start(ap, fmt);
        int n = vsnprintf(text, sizeof(text), fmt, ap);
        va_end(ap);
        _cleanup_close_ int fd = open(path, O_WRONLY | O_CLOEXEC);
        if (fd < 0 || write(fd, text, (size_t)n) != n)
                return -errno;
        return 0;
}

/* NUL-terminated, cut at room.  Length or -errno. */
static ssize_t get_file(const char *dir, const char *file, char *buf, size_t room) {
        char path[PATH_MAX];

        if ((size_t)snprintf(path, sizeof(path), "%s/%s", dir, file) >= sizeof(path))
                return -ENAMETOOLONG;
        _cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC);
        ssize_t n = fd < 0 ? -1 : read(fd, buf, room - 1);
        if (n < 0)
                return -errno;
        buf[n] = '\0';
        return n;
}

/* The first number of a file, or after "key " in a flat-keyed one; 0 when there is none ("max" included). */
static uint64_t get_number(const char *dir, const char *file, const char *key) {
        char buf[4096] = "", *at = buf;

        if (get_file(dir, file, buf, sizeof(buf)) < 0)
                return 0;
        while (key) {
                size_t n = strlen(key);
                if (strncmp(at, key, n) == 0 && at[n] == ' ') {
                        at += n + 1;
                        break;
                }
                if (!(at = strchr(at, '\n')))
                        return 0;
                at++;
        }
        return strtoull(at, NULL, 10);
}

/* --- finding what this host has --- */

/* Our path in the hierarchy with this controller ("" for version 2), from /proc/self/cgroup. */
static bool own_path(const char *cgroups, const char *controller, char *out, size_t room) {
        for (const char *line = cgroups; *line; line = strchr(line, '\n') ? strchr(line, '\n') + 1 : "") {
                const char *list = strchr(line, ':'), *path = list ? strchr(list + 1, ':') : NULL;
                if (!path)
                        continue;
                size_t n = (size_t)(path - list - 1), want = strlen(controller);
                bool match = n == want && strncmp(list + 1, controller, n) == 0;
                for (const char *w = list + 1; !match && want && w < path; w += strcspn(w, ",:") + 1)
                        match = strcspn(w, ",:") == want && strncmp(w, controller, want) == 0;
                if (match) {
                        snprintf(out, room, "%.*s", (int)strcspn(path + 1, "\n"), path + 1);
                        return true;
                }
        }
        return false;
}

static bool has_word(const char *list, const char *word, const char *separators) {
        size_t n = strlen(word);

        while (*list) {
                size_t len = strcspn(list, separators);
                if (len == n && strncmp(list, word, n) == 0)
                        return true;
                list += len + (list[len] != '\0');
        }
        return false;
}

struct mount_line {
        char root[512], point[512], type[32], super[512];
};

/* "36 35 0:30 /root /point opts ... - type source super" */
static bool parse_mount(const char *line, struct mount_line *m) {
        const char *dash = strstr(line, " - ");

        return dash && sscanf(line, "%*u %*u %*s %511s %511s", m->root, m->point) == 2 &&
               sscanf(dash + 3, "%31s %*s %511s", m->type, m->super) == 2;
}

/* What follows the mount's root in our path, which is given from the top.  "" also where the mount shows another part of
 * the tree, or we are outside of what it shows ("/.."): then there is nothing but its top. */
static const char *below_mount(const char *own, const char *root) {
        size_t n = strcmp(root, "/") == 0 ? 0 : strlen(root);

        if (strncmp(own, root, n) != 0 || (own[n] != '/' && own[n] != '\0'))
                return "";
        own += n;
        return strcmp(own, "/") == 0 || strncmp(own, "/..", 3) == 0 ? "" : own;
}

static void use_mount(const struct mount_line *m, const char *cgroups) {
        for (int t = 0; t < TREE_N; t++) {
                char own[PATH_MAX];
                bool v2 = t == V2;
                if (strcmp(m->type, v2 ? "cgroup2" : "cgroup") != 0 || host.base[t][0])
                        continue;
                if (!v2 && !has_word(m->super, v1_names[t], ","))
                        continue;
                if (!own_path(cgroups, v2 ? "" : v1_names[t], own, sizeof(own)))
                        continue;
                if (v2)
                        memcpy(host.v2_mount, m->point, sizeof(host.v2_mount));
                int n = snprintf(host.base[t], PATH_MAX, "%s%s", m->point, below_mount(own, m->root));
                if (n < 0 || n >= PATH_MAX)
                        host.base[t][0] = '\0';
        }
}

static void find_mounts(void) {
        _cleanup_free_ char *mounts = NULL, *cgroups = NULL;
        _cleanup_close_ int fd = open("/proc/self/mountinfo", O_RDONLY | O_CLOEXEC);
        _cleanup_close_ int cg = open("/proc/self/cgroup", O_RDONLY | O_CLOEXEC);

        if (fd < 0 || cg < 0 || crew_read_fd(fd, 4u << 20, &mounts, NULL, NULL) < 0 ||
            crew_read_fd(cg, 1u << 20, &cgroups, NULL, NULL) < 0)
                return;
        for (char *line = mounts; *line;) {
                struct mount_line m;
                char *end = line + strcspn(line, "\n");
                bool last = *end == '\0';
                *end = '\0';
                if (parse_mount(line, &m))
                        use_mount(&m, cgroups);
                line = last ? end : end + 1;
        }
}

/* Parent of a process, 0 when it is gone. */
static pid_t parent_of(pid_t pid) {
        char dir[32], buf[512];

        snprintf(dir, sizeof(dir), "/proc/%d", pid);
        if (get_file(dir, "stat", buf, sizeof(buf)) < 0)
                return 0;
        const char *close = strrchr(buf, ')');
        int ppid = 0;
        return close && sscanf(close + 1, " %*c %d", &ppid) == 1 ? ppid : 0;
}

static bool below_process(pid_t pid, pid_t ancestor) {
        for (int i = 0; pid > 1 && i < ANCESTORS_MAX; i++, pid = parent_of(pid)) {
                if (pid == ancestor)
                        return true;
        }
        return false;
}

/* Of one family with us.  The spawner's is crewd, all that it started, and the crewctl that waits for it; crewctl sandbox's
 * is itself, for what started that is a shell with jobs of its own. */
static bool is_ours(pid_t pid) {
        char dir[32], comm[32] = "";

        if (below_process(pid, host.family))
                return true;
        snprintf(dir, sizeof(dir), "/proc/%d", pid);
        return host.family == getppid() && pid == parent_of(host.family) && get_file(dir, "comm", comm, sizeof(comm)) > 0 &&
               strcmp(comm, "crewctl\n") == 0;
}

/* Moves those that it lists now.  Their number, or -EBUSY: not all are ours. */
static int move_ours(const char *from, const char *to) {
        char buf[1024], *save = NULL;
        pid_t pids[OWN_MOVED_MAX];
        int n = 0;

        if (get_file(from, "cgroup.procs", buf, sizeof(buf)) < 0)
                return -EACCES;
        for (char *w = strtok_r(buf, "\n", &save); w; w = strtok_r(NULL, "\n", &save)) {
                pid_t pid = (pid_t)strtol(w, NULL, 10);
                if (n == OWN_MOVED_MAX || !is_ours(pid))
                        return -EBUSY;
                pids[n++] = pid;
        }
        for (int i = 0; i < n; i++) {
                int r = put_file(to, "cgroup.procs", "%d", pids[i]);
                if (r < 0 && r != -ESRCH)
                        return r;
        }
        return n;
}

/* A version 2 group with controllers may hold no processes.  If all in it are ours, move them into a leaf: again until none
 * is left, for they fork meanwhile. */
static int empty_own_group(const char *own) {
        char leaf[PATH_MAX];
        int r = -EBUSY;

        if ((size_t)snprintf(leaf, sizeof(leaf), "%s/crewd.self", own) >= sizeof(leaf))
                return -ENAMETOOLONG;
        if (mkdir(leaf, 0755) < 0 && errno != EEXIST)
                return -errno;
        for (int i = 0; i < MOVE_ROUNDS; i++) {
                if ((r = move_ours(own, leaf)) <= 0)
                        break;
        }
        if (r != 0)
                (void)rmdir(leaf); /* unless some of us are in it */
        return r > 0 ? -EBUSY : r;
}

/* Whoever owns a group kills and freezes all that is below, so it is root or we.  And it is a group: what is mounted may
 * lie under something else by now. */
static int check_group(const char *dir) {
        struct statfs fs;
        struct stat st;

        if (statfs(dir, &fs) < 0 || stat(dir, &st) < 0)
                return -errno;
        if (fs.f_type != CGROUP2_SUPER_MAGIC && fs.f_type != CGROUP_SUPER_MAGIC)
                return -ENOTDIR;
        return st.st_uid == 0 || st.st_uid == geteuid() ? 0 : -EPERM;
}

static int make_top(const char *own, char top[PATH_MAX]) {
        int r = check_group(own);

        if (r < 0)
                return r;
        if ((size_t)snprintf(top, PATH_MAX, "%s/" TOP, own) >= PATH_MAX)
                return -ENAMETOOLONG;
        if (mkdir(top, 0755) < 0 && errno != EEXIST)
                return -errno;
        if ((r = check_group(top)) < 0)
                return r;
        return access(top, W_OK) < 0 ? -errno : 0;
}

static const struct {
        const char *name;
        uint32_t bit;
} v2_controllers[] = {{"memory", CGROUP_MEMORY}, {"pids", CGROUP_PIDS}, {"cpu", CGROUP_CPU}};

/* Which of the controllers we use a file of names lists. */
static uint32_t listed_controllers(const char *dir, const char *file) {
        char have[512];
        uint32_t bits = 0;

        if (get_file(dir, file, have, sizeof(have)) < 0)
                return 0;
        for (size_t i = 0; i < ELEMENTSOF(v2_controllers); i++) {
                if (has_word(have, v2_controllers[i].name, " \n"))
                        bits |= v2_controllers[i].bit;
        }
        return bits;
}

/* Turns the controllers on for the groups below dir; returns those that are. */
static uint32_t enable_controllers(const char *dir) {
        uint32_t can = listed_controllers(dir, "cgroup.controllers"),
                 on = listed_controllers(dir, "cgroup.subtree_control");

        for (size_t i = 0; i < ELEMENTSOF(v2_controllers); i++) {
                uint32_t bit = v2_controllers[i].bit;
                if ((can & ~on & bit) && put_file(dir, "cgroup.subtree_control", "+%s", v2_controllers[i].name) == 0)
                        on |= bit;
        }
        return on;
}

/* Is it one that processes with memory limits can be born into?  Below a group that has both processes and controllers it
 * is not, whoever turned those on. */
static bool use_top(const char *top) {
        char type[32] = "";

        if (get_file(top, "cgroup.type", type, sizeof(type)) < 0 || strcmp(type, "domain\n") != 0)
                return false;
        host.v2_limits = enable_controllers(top);
        snprintf(host.base[V2], PATH_MAX, "%s", top);
        return true;
}

/* Uses own group when its processes are all ours, else (root only) the top of the tree, where no such rule holds. */
static void open_v2(void) {
        char own[PATH_MAX], top[PATH_MAX];

        snprintf(own, sizeof(own), "%s", host.base[V2]);
        host.base[V2][0] = '\0';
        uint32_t can = listed_controllers(own, "cgroup.controllers");
        if (make_top(own, top) == 0) {
                /* Emptied first: cpu and pids can be had beside processes, but make a threaded group of it, which has no
                 * memory. */
                if (can && listed_controllers(own, "cgroup.subtree_control") != can && empty_own_group(own) == 0)
                        enable_controllers(own);
                if (use_top(top) && (!can || host.v2_limits)) /* a tree without controllers still kills and freezes */
                        return;
                host.base[V2][0] = '\0';
                (void)rmdir(top); /* unless another crew of this group is at work there */
        }
        if (geteuid() == 0 && make_top(host.v2_mount, top) == 0) {
                enable_controllers(host.v2_mount);
                (void)use_top(top);
        }
}

/*
 * crewctl sandbox uses the trees whose limits it needs and no other: processes are limited by RLIMIT_NPROC, which counts
 * per user namespace, the pid namespace kills, and nobody freezes or counts.
 */
static void drop_trees(const struct plan_limits *l) {
        const bool keep[TREE_N] = {
                [V2] = !host.base[V1_MEMORY][0], [V1_MEMORY] = l->memory_bytes != 0, [V1_CPU] = l->cpu_milli != 0};

        for (int t = 0; t < TREE_N; t++)
                if (!keep[t])
                        host.base[t][0] = '\0';
}

/* only: see drop_trees(); NULL: all that there are. */
static const struct host *find_host_for(const struct plan_limits *only) {
        if (host.known)
                return &host;
        host.known = true;
        host.family = only ? getpid() : getppid();
        find_mounts();
        if (only)
                drop_trees(only);
        for (int t = V1_MEMORY; t < TREE_N; t++) {
                char top[PATH_MAX];
                bool usable = host.base[t][0] && make_top(host.base[t], top) == 0;
                snprintf(host.base[t], PATH_MAX, "%s", usable ? top : "");
        }
        if (host.base[V2][0])
                open_v2();
        if (host.base[V2][0])
                host.base[V1_FREEZER][0] = '\0'; /* the version 2 freezer lets SIGKILL through */
        return &host;
}

static const struct host *find_host(void) {
        return find_host_for(NULL);
}

/* --- making one --- */

static bool tree_dir(enum tree t, const char *name, char dir[PATH_MAX]) {
        const struct host *h = find_host();
        return name[0] && h->base[t][0] && (size_t)snprintf(dir, PATH_MAX, "%s/%s", h->base[t], name) < PATH_MAX;
}

/* Start time of a process in clock ticks since boot: with the pid it names one process for good. */
static unsigned long long start_time(pid_t pid) {
        char dir[32], buf[1024];
        unsigned long long t = 0;

        snprintf(dir, sizeof(dir), "/proc/%d", pid);
        if (get_file(dir, "stat", buf, sizeof(buf)) < 0)
                return 0;
        const char *close = strrchr(buf, ')');
        if (!close ||
            sscanf(close + 1, " %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %*u %*u %*d %*d %*d %*d %*d %*d %llu", &t) != 1)
                return 0;
        return t;
}

static void make_name(char name[CGROUP_NAME_MAX], const char *crew) {
        static unsigned counter;
        static unsigned long long started;
        static pid_t owner;

        if (owner != getpid()) {
                owner = getpid();
                started = start_time(owner);
        }
        snprintf(name, CGROUP_NAME_MAX, "%s-%d.%llx-%u", *crew ? crew : "sandbox", owner, started, ++counter);
}

static int set_v2(const char *dir, const struct plan_limits *l, uint32_t can) {
        int r = 0;

        if ((can & CGROUP_MEMORY) && l->memory_bytes) {
                r = put_file(dir, "memory.max", "%llu", (unsigned long long)l->memory_bytes);
                put_file(dir, "memory.swap.max", "0"); /* absent without swap accounting */
        }
        if (r == 0 && (can & CGROUP_PIDS) && l->processes)
                r = put_file(dir, "pids.max", "%u", l->processes + 1);
        if (r == 0 && (can & CGROUP_CPU) && l->cpu_milli)
                r = put_file(dir, "cpu.max", "%u 100000", MAX_OF(l->cpu_milli * 100, 1000u));
        return r;
}

static int set_v1(enum tree t, const char *dir, const struct plan_limits *l) {
        switch (t) {
        case V1_MEMORY:
                if (!l->memory_bytes)
                        return 0;
                int r = put_file(dir, "memory.limit_in_bytes", "%llu", (unsigned long long)l->memory_bytes);
                put_file(dir, "memory.memsw.limit_in_bytes", "%llu", (unsigned long long)l->memory_bytes);
                return r;
        case V1_PIDS:
                return l->processes ? put_file(dir, "pids.max", "%u", l->processes + 1) : 0;
        case V1_CPU:
                return l->cpu_milli ? put_file(dir, "cpu.cfs_quota_us", "%u", MAX_OF(l->cpu_milli * 100, 1000u)) : 0;
        default:
                return 0;
        }
}

static int make_v2(struct cgroup *g, const struct plan_limits *l) {
        char dir[PATH_MAX];

        if (!tree_dir(V2, g->name, dir))
                return 0;
        if (mkdir(dir, 0755) < 0)
                return -errno;
        int r = set_v2(dir, l, host.v2_limits);
        if (r < 0)
                return r;
        g->into = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        g->limits_by |= host.v2_limits;
        return g->into < 0 ? -errno : 0;
}

static int make_v1(struct cgroup *g, enum tree t, const struct plan_limits *l) {
        static const uint32_t bits[TREE_N] = {[V1_MEMORY] = CGROUP_MEMORY, [V1_PIDS] = CGROUP_PIDS, [V1_CPU] = CGROUP_CPU};
        char dir[PATH_MAX], tasks[PATH_MAX];

        if (!tree_dir(t, g->name, dir))
                return 0;
        if (mkdir(dir, 0755) < 0)
                return -errno;
        int r = set_v1(t, dir, l);
        if (r < 0)
                return r;
        if ((size_t)snprintf(tasks, sizeof(tasks), "%s/tasks", dir) >= sizeof(tasks))
                return -ENAMETOOLONG;
        int fd = open(tasks, O_WRONLY | O_CLOEXEC);
        if (fd < 0)
                return -errno;
        g->join[t - V1_MEMORY] = fd;
        g->limits_by |= bits[t];
        return 0;
}

static int give_up(struct cgroup *g, int r, struct crew_err *err) {
        r = crew_fail(err, -r, "control group %s: %s", g->name, strerror(-r));
        cgroup_close(g);
        cgroup_remove(g->name);
        return r;
}

int cgroup_begin(struct cgroup *g, const struct plan *plan, struct crew_err *err) {
        const struct host *h = find_host_for(plan->flags & PLAN_SANDBOX ? &plan->limits : NULL);
        bool any = false;

        *g = CGROUP_NULL;
        for (int t = 0; t < TREE_N; t++)
                any |= h->base[t][0] != '\0';
        if (any)
                make_name(g->name, plan->crew);
        int r = make_v2(g, &plan->limits);
        return r < 0 ? give_up(g, r, err) : 0;
}

bool cgroup_unified(void) {
        struct statfs fs;

        return statfs("/sys/fs/cgroup", &fs) == 0 && fs.f_type == CGROUP2_SUPER_MAGIC;
}

int cgroup_complete(struct cgroup *g, const struct plan *plan, struct crew_err *err) {
        int r = 0;

        for (int t = V1_MEMORY; r == 0 && t < TREE_N; t++)
                r = make_v1(g, (enum tree)t, &plan->limits);
        if (r < 0)
                return give_up(g, r, err);
        if (!(g->limits_by & (CGROUP_MEMORY | CGROUP_PIDS | CGROUP_CPU)))
                g->limits_by = CGROUP_RLIMITS;
        return 0;
}

int cgroup_join(const struct cgroup *g, struct crew_err *err) {
        for (size_t i = 0; i < CGROUP_V1_N; i++) {
                if (g->join[i] >= 0 && write(g->join[i], "0", 1) != 1)
                        return crew_fail_errno(err, "cannot join the %s group", v1_names[V1_MEMORY + i]);
        }
        return 0;
}

void cgroup_close(struct cgroup *g) {
        crew_close(&g->into);
        for (size_t i = 0; i < CGROUP_V1_N; i++)
                crew_close(&g->join[i]);
}

/* --- using one --- */

/* The tree that freezes it. */
static bool freezer_dir(const char *name, char dir[PATH_MAX], bool *unified) {
        *unified = tree_dir(V2, name, dir);
        return *unified || tree_dir(V1_FREEZER, name, dir);
}

bool cgroup_can_freeze(const char *name) {
        char dir[PATH_MAX];
        bool unified;

        return freezer_dir(name, dir, &unified);
}

int cgroup_freeze(const char *name, bool on) {
        char dir[PATH_MAX];
        bool unified;

        if (!freezer_dir(name, dir, &unified))
                return -EOPNOTSUPP;
        return unified ? put_file(dir, "cgroup.freeze", "%d", on)
                       : put_file(dir, "freezer.state", "%s", on ? "FROZEN" : "THAWED");
}

bool cgroup_is_frozen(const char *name) {
        char dir[PATH_MAX], buf[32] = "";
        bool unified;

        if (!freezer_dir(name, dir, &unified))
                return false;
        if (unified)
                return get_number(dir, "cgroup.events", "frozen") == 1;
        return get_file(dir, "freezer.state", buf, sizeof(buf)) > 0 && strncmp(buf, "FROZEN", 6) == 0;
}

struct cgroup_quota {
        char dir[PATH_MAX];
        const char *file;
        char was[64];
};

struct cgroup_quota *cgroup_lift_quota(const char *name) {
        bool unified = host.v2_limits & CGROUP_CPU;
        struct cgroup_quota *q = calloc(1, sizeof(*q));

        if (!q)
                return NULL;
        q->file = unified ? "cpu.max" : "cpu.cfs_quota_us";
        if (tree_dir(unified ? V2 : V1_CPU, name, q->dir) && get_file(q->dir, q->file, q->was, sizeof(q->was)) > 0 &&
            put_file(q->dir, q->file, "%s", unified ? "max" : "-1") == 0)
                return q;
        free(q);
        return NULL;
}

int cgroup_put_quota_back(struct cgroup_quota *q) {
        int r = q ? put_file(q->dir, q->file, "%s", q->was) : 0;

        free(q);
        return r;
}

/* "max" of version 2 and "-1" of version 1 are no limit. */
static const char *number(uint64_t n, const char *none, char out[24]) {
        if (n == 0)
                return none;
        snprintf(out, 24, "%llu", (unsigned long long)n);
        return out;
}

static int limit_v2(const char *dir, uint32_t which, const struct spawn_limits *l) {
        char text[24];
        int r = 0;

        if (which & CGROUP_MEMORY)
                r = put_file(dir, "memory.max", "%s", number(l->memory_bytes, "max", text));
        if (r == 0 && (which & CGROUP_PIDS))
                r = put_file(dir, "pids.max", "%s", number(l->processes ? l->processes + 1ull : 0, "max", text));
        if (r == 0 && (which & CGROUP_CPU))
                r = put_file(dir, "cpu.max", "%s 100000",
                             number(l->cpu_milli ? MAX_OF(l->cpu_milli * 100, 1000u) : 0, "max", text));
        return r;
}

/* Memory with swap can never be less than memory alone, so which of them goes first depends on the direction. */
static int limit_v1_memory(const char *dir, const struct spawn_limits *l) {
        char text[24];
        const char *bytes = number(l->memory_bytes, "-1", text);

        (void)!put_file(dir, "memory.memsw.limit_in_bytes", "%s", bytes); /* absent without swap accounting */
        int r = put_file(dir, "memory.limit_in_bytes", "%s", bytes);
        (void)!put_file(dir, "memory.memsw.limit_in_bytes", "%s", bytes);
        return r;
}

static int limit_v1(enum tree t, const char *dir, const struct spawn_limits *l) {
        char text[24];

        switch (t) {
        case V1_MEMORY:
                return limit_v1_memory(dir, l);
        case V1_PIDS:
                return put_file(dir, "pids.max", "%s", number(l->processes ? l->processes + 1ull : 0, "max", text));
        case V1_CPU:
                return put_file(dir, "cpu.cfs_quota_us", "%s",
                                number(l->cpu_milli ? MAX_OF(l->cpu_milli * 100, 1000u) : 0, "-1", text));
        default:
                return 0;
        }
}

int cgroup_limit(const char *name, uint32_t limits_by, const struct spawn_limits *l) {
        static const struct {
                enum tree tree;
                uint32_t bit;
        } trees[] = {{V1_MEMORY, CGROUP_MEMORY}, {V1_PIDS, CGROUP_PIDS}, {V1_CPU, CGROUP_CPU}};
        char dir[PATH_MAX];
        int r = 0;

        if (!name[0])
                return -EOPNOTSUPP;
        if (tree_dir(V2, name, dir))
                r = limit_v2(dir, limits_by & host.v2_limits, l);
        for (size_t i = 0; r == 0 && i < ELEMENTSOF(trees); i++) {
                if ((limits_by & ~host.v2_limits & trees[i].bit) && tree_dir(trees[i].tree, name, dir))
                        r = limit_v1(trees[i].tree, dir, l);
        }
        return r;
}

/* SIGKILL to every task of a group that still lists some.  Number signalled. */
static unsigned kill_listed(const char *dir, const char *file) {
        char path[PATH_MAX];
        unsigned n = 0;
        int pid;

        if ((size_t)snprintf(path, sizeof(path), "%s/%s", dir, file) >= sizeof(path))
                return 0;
        _cleanup_fclose_ FILE *f = fopen(path, "re");
        while (f && fscanf(f, "%d", &pid) == 1) {
                if (pid > 0 && kill(pid, SIGKILL) == 0)
                        n++;
        }
        return n;
}

int cgroup_kill_open(const struct cgroup *g) {
        return g->into < 0 ? -1 : openat(g->into, "cgroup.kill", O_WRONLY | O_CLOEXEC);
}

void cgroup_kill(const char *name, int fd, bool by_all_means) {
        char dir[PATH_MAX];

        bool told = fd >= 0 && write(fd, "1", 1) == 1;
        if (!told && tree_dir(V2, name, dir) && put_file(dir, "cgroup.kill", "1") < 0 && by_all_means)
                kill_listed(dir, "cgroup.procs"); /* before 5.14 */
        if (by_all_means && tree_dir(V1_FREEZER, name, dir))
                put_file(dir, "freezer.state", "THAWED"); /* a version 1 frozen task does not die of SIGKILL */
}

int cgroup_count(const char *name) {
        static const enum tree order[] = {V2, V1_PIDS};
        char dir[PATH_MAX], buf[32];

        for (size_t i = 0; i < ELEMENTSOF(order); i++) {
                if (tree_dir(order[i], name, dir) && get_file(dir, "pids.current", buf, sizeof(buf)) > 0)
                        return atoi(buf);
        }
        return -1;
}

bool cgroup_cpu_ns(const char *name, uint64_t *out) {
        char dir[PATH_MAX];

        if (!tree_dir(V2, name, dir))
                return false;
        *out = get_number(dir, "cpu.stat", "usage_usec") * 1000;
        return *out > 0;
}

void cgroup_stats(const char *name, struct spawn_stats *out) {
        char dir[PATH_MAX];
        int n = cgroup_count(name);

        if (n >= 0)
                out->processes = (uint32_t)n;
        if (tree_dir(V2, name, dir)) {
                out->cpu_ns = get_number(dir, "cpu.stat", "usage_usec") * 1000;
                if (host.v2_limits & CGROUP_CPU)
                        out->periods_throttled = (uint32_t)get_number(dir, "cpu.stat", "nr_throttled");
                if (host.v2_limits & CGROUP_PIDS)
                        out->forks_refused = (uint32_t)get_number(dir, "pids.events", "max");
                if (host.v2_limits & CGROUP_MEMORY) {
                        out->memory_bytes = get_number(dir, "memory.current", NULL);
                        out->memory_peak = get_number(dir, "memory.peak", NULL);
                        out->oom_kills = (uint32_t)get_number(dir, "memory.events", "oom_kill");
                }
        }
        if (tree_dir(V1_MEMORY, name, dir)) {
                out->memory_bytes = get_number(dir, "memory.usage_in_bytes", NULL);
                out->memory_peak = get_number(dir, "memory.max_usage_in_bytes", NULL);
                out->oom_kills = (uint32_t)get_number(dir, "memory.oom_control", "oom_kill");
        }
        if (tree_dir(V1_PIDS, name, dir))
                out->forks_refused = (uint32_t)get_number(dir, "pids.events", "max");
        if (tree_dir(V1_CPU, name, dir))
                out->periods_throttled = (uint32_t)get_number(dir, "cpu.stat", "nr_throttled");
}

static int remove_dir(const char *dir) {
        const struct timespec nap = {.tv_nsec = 500000};

        for (int i = 0; i < 2000; i++) {
                if (rmdir(dir) == 0 || errno == ENOENT)
                        return 0;
                if (errno != EBUSY)
                        break;
                nanosleep(&nap, NULL);
        }
        return -errno;
}

int cgroup_remove(const char *name) {
        char dir[PATH_MAX];
        int r = 0;

        for (int t = 0; t < TREE_N; t++) {
                int k = tree_dir((enum tree)t, name, dir) ? remove_dir(dir) : 0;
                r = r < 0 ? r : k;
        }
        return r;
}

/* --- what an earlier run left --- */

/* "<crew>-<pid>.<start>-<n>": is it ours by form, and does the owner live? */
static bool is_orphan(const char *name) {
        const char *last = strrchr(name, '-');
        unsigned long long started = 0;
        int pid = 0, used = 0;

        if (!last || last == name || !isdigit((unsigned char)last[1]))
                return false;
        const char *owner = last - 1;
        while (owner > name && *owner != '-')
                owner--;
        if (*owner != '-' || sscanf(owner, "-%d.%llx%n", &pid, &started, &used) != 2 || owner + used != last)
                return false;
        return pid > 0 && start_time(pid) != started;
}

static void sweep_group(enum tree t, const char *name, struct cgroup_leftovers *out) {
        char dir[PATH_MAX];

        if (!tree_dir(t, name, dir))
                return;
        cgroup_kill(name, -1, true);
        out->processes += kill_listed(dir, "cgroup.procs");
        if (remove_dir(dir) < 0 || strstr(out->names, name))
                return;
        size_t n = strlen(out->names);
        snprintf(out->names + n, sizeof(out->names) - n, "%s%s", n ? " " : "", name);
        out->groups++;
}

void cgroup_sweep(struct cgroup_leftovers *out) {
        const struct host *h = find_host();

        *out = (struct cgroup_leftovers){0};
        for (int t = 0; t < TREE_N; t++) {
                DIR *d = h->base[t][0] ? opendir(h->base[t]) : NULL;
                struct dirent *e;
                while (d && (e = readdir(d))) {
                        if (e->d_type == DT_DIR && is_orphan(e->d_name))
                                sweep_group((enum tree)t, e->d_name, out);
                }
                if (d)
                        closedir(d);
        }
}
