/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Probes: each tries the very thing it is named after and reports the errno.
 *
 * A probe that needs other credentials or namespaces runs in a child made by fork(2) that only makes system calls and
 * leaves with _exit, so it is safe in a program that has threads.
 */
#include "kernel.h"

#include "kernel_nft.h"
#include "landlock.h"
#include "util.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/audit.h>
#include <linux/magic.h>
#include <linux/mount.h>
#include <linux/netlink.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/fanotify.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <sys/vfs.h>
#include <sys/wait.h>

const char *const crew_probe_names[CREW_PROBE_N] = {
        [CREW_PROBE_LANDLOCK] = "landlock",
        [CREW_PROBE_SECCOMP] = "seccomp",
        [CREW_PROBE_SECCOMP_NOTIFY] = "seccomp-notify",
        [CREW_PROBE_USERNS] = "userns",
        [CREW_PROBE_NETNS] = "netns",
        [CREW_PROBE_NFTABLES] = "nftables",
        [CREW_PROBE_PIDFD] = "pidfd",
        [CREW_PROBE_IDMAP] = "idmapped-mounts",
        [CREW_PROBE_AUDIT] = "kernel-audit",
        [CREW_PROBE_FANOTIFY] = "fanotify",
        [CREW_PROBE_CGROUP_MEMORY] = "cgroup-memory",
        [CREW_PROBE_CGROUP_PIDS] = "cgroup-pids",
        [CREW_PROBE_CGROUP_CPU] = "cgroup-cpu",
        [CREW_PROBE_CGROUP_KILL] = "cgroup-kill",
};

const char *const crew_cgroup_mode_names[CREW_CGROUP_MODE_N] = {
        [CREW_CGROUP_NONE] = "none",
        [CREW_CGROUP_V1] = "v1",
        [CREW_CGROUP_HYBRID] = "hybrid v1",
        [CREW_CGROUP_V2] = "v2",
};

/* Runs fn in a child; its result (0 or -errno) comes back as the exit status. */
static int in_child(int (*fn)(void)) {
        int status;
        pid_t pid = fork();

        if (pid < 0)
                return -errno;
        if (pid == 0)
                _exit(-fn() & 0xff);
        while (waitpid(pid, &status, 0) < 0)
                if (errno != EINTR)
                        return -errno;
        return WIFEXITED(status) ? -WEXITSTATUS(status) : -ECANCELED;
}

int crew_landlock_abi(void) {
        long abi = syscall(SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_CREATE_RULESET_VERSION);
        return abi < 0 ? 0 : (int)abi;
}

static int probe_landlock(void) {
        return crew_landlock_abi() > 0 ? 0 : -errno;
}

static int probe_seccomp(void) {
        uint32_t action = SECCOMP_RET_KILL_PROCESS;
        return syscall(SYS_seccomp, SECCOMP_GET_ACTION_AVAIL, 0, &action) < 0 ? -errno : 0;
}

static int probe_seccomp_notify(void) {
        uint32_t action = SECCOMP_RET_USER_NOTIF;
        return syscall(SYS_seccomp, SECCOMP_GET_ACTION_AVAIL, 0, &action) < 0 ? -errno : 0;
}

/* AppArmor may let the namespace be made and then take its capabilities away: so the mount matters. */
static int userns_in_child(void) {
        if (unshare(CLONE_NEWUSER) < 0 || unshare(CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWIPC | CLONE_NEWUTS) < 0)
                return -errno;
        return mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ? -errno : 0;
}

static int probe_userns(void) {
        return in_child(userns_in_child);
}

static int netns_in_child(void) {
        return unshare(CLONE_NEWUSER) < 0 || unshare(CLONE_NEWNET) < 0 ? -errno : 0;
}

static int probe_netns(void) {
        return in_child(netns_in_child);
}

static int nftables_in_child(void) {
        int r = netns_in_child();
        return r < 0 ? r : kernel_nft_try();
}

static int probe_nftables(void) {
        return in_child(nftables_in_child);
}

static int probe_pidfd(void) {
        _cleanup_close_ int fd = (int)syscall(SYS_pidfd_open, getpid(), 0);
        return fd < 0 ? -errno : 0;
}

/* A user namespace without both maps is refused as an idmapping. */
static int write_map(pid_t pid, const char *name) {
        static const char map[] = "0 200000 1";
        char path[64];

        snprintf(path, sizeof(path), "/proc/%d/%s", pid, name);
        _cleanup_close_ int fd = open(path, O_WRONLY | O_CLOEXEC);
        return fd < 0 ? -errno : crew_write_full(fd, map, sizeof(map) - 1);
}

static int idmap_with(pid_t holder) {
        struct mount_attr attr = {.attr_set = MOUNT_ATTR_IDMAP};
        char path[64];
        int r = write_map(holder, "uid_map");

        if (r == 0)
                r = write_map(holder, "gid_map");
        if (r < 0)
                return r;
        snprintf(path, sizeof(path), "/proc/%d/ns/user", holder);
        _cleanup_close_ int ns = open(path, O_RDONLY | O_CLOEXEC);
        if (ns < 0)
                return -errno;
        _cleanup_close_ int tree = (int)syscall(SYS_open_tree, AT_FDCWD, "/", OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);
        if (tree < 0)
                return -errno;
        attr.userns_fd = (uint64_t)ns;
        return syscall(SYS_mount_setattr, tree, "", AT_EMPTY_PATH, &attr, sizeof(attr)) < 0 ? -errno : 0;
}

static int probe_idmap(void) {
        int ready[2], status, r;
        char byte;

        if (pipe2(ready, O_CLOEXEC) < 0)
                return -errno;
        pid_t pid = fork();
        if (pid == 0) {
                prctl(PR_SET_PDEATHSIG, SIGKILL);
                if (unshare(CLONE_NEWUSER) < 0 || write(ready[1], "", 1) != 1)
                        _exit(1);
                for (;;)
                        pause();
        }
        close(ready[1]);
        r = pid < 0 ? -errno : read(ready[0], &byte, 1) == 1 ? idmap_with(pid) : -EPERM;
        close(ready[0]);
        if (pid > 0) {
                kill(pid, SIGKILL);
                while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
                        ;
        }
        return r;
}

/* AUDIT_GET needs CAP_AUDIT_CONTROL and changes nothing; joining the group needs CAP_AUDIT_READ. */
static int probe_audit(void) {
        _cleanup_close_ int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_AUDIT);
        struct sockaddr_nl addr = {.nl_family = AF_NETLINK, .nl_groups = 1u << (AUDIT_NLGRP_READLOG - 1)};
        struct nlmsghdr get = {.nlmsg_len = NLMSG_LENGTH(0), .nlmsg_type = AUDIT_GET, .nlmsg_flags = NLM_F_REQUEST};
        struct {
                struct nlmsghdr head;
                union {
                        struct nlmsgerr error;
                        char bytes[512];
                };
        } answer;

        struct timeval limit = {.tv_usec = 300000}; /* the answer is sent by a kernel thread */

        if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit)) < 0)
                return -errno;
        if (bind(fd, (struct sockaddr *)&addr, sizeof(addr)) < 0)
                return -errno;
        addr.nl_groups = 0;
        if (sendto(fd, &get, sizeof(get), 0, (struct sockaddr *)&addr, sizeof(addr)) < 0)
                return -errno;
        for (int i = 0; i < 64; i++) { /* records of others may come first */
                ssize_t n = recv(fd, &answer, sizeof(answer), 0);
                if (n < (ssize_t)sizeof(struct nlmsghdr))
                        return n < 0 ? -errno : -EPROTO;
                if (answer.head.nlmsg_type == AUDIT_GET)
                        return 0;
                if (answer.head.nlmsg_type == NLMSG_ERROR && n >= (ssize_t)NLMSG_LENGTH(sizeof(struct nlmsgerr)))
                        return answer.error.error;
        }
        return -ENODATA;
}

static int probe_fanotify(void) {
        _cleanup_close_ int fd = fanotify_init(FAN_CLASS_NOTIF | FAN_CLOEXEC | FAN_NONBLOCK, O_RDONLY | O_CLOEXEC);
        if (fd < 0)
                return -errno;
        return fanotify_mark(fd, FAN_MARK_ADD | FAN_MARK_MOUNT, FAN_OPEN, AT_FDCWD, "/") < 0 ? -errno : 0;
}

static int cgroup_mode(void) {
        struct statfs fs;

        if (statfs("/sys/fs/cgroup", &fs) < 0)
                return CREW_CGROUP_NONE;
        if (fs.f_type == CGROUP2_SUPER_MAGIC)
                return CREW_CGROUP_V2;
        if (statfs("/sys/fs/cgroup/unified", &fs) == 0 && fs.f_type == CGROUP2_SUPER_MAGIC)
                return CREW_CGROUP_HYBRID;
        if (statfs("/sys/fs/cgroup/memory", &fs) == 0 || statfs("/sys/fs/cgroup/pids", &fs) == 0)
                return fs.f_type == CGROUP_SUPER_MAGIC ? CREW_CGROUP_V1 : CREW_CGROUP_NONE;
        return CREW_CGROUP_NONE;
}

/* Our own cgroup in the hierarchy whose line of /proc/self/cgroup has this controller ("" for v2). */
static int own_cgroup(const char *controller, char *out, size_t n) {
        _cleanup_fclose_ FILE *f = fopen("/proc/self/cgroup", "re");
        char line[4096];

        if (!f)
                return -errno;
        while (fgets(line, sizeof(line), f)) {
                char *list = strchr(line, ':'), *path = list ? strchr(list + 1, ':') : NULL, *save = NULL;
                if (!path)
                        continue;
                *path++ = '\0';
                path[strcspn(path, "\n")] = '\0';
                bool hit = list[1] == '\0' && controller[0] == '\0';
                for (char *w = strtok_r(list + 1, ",", &save); w && !hit; w = strtok_r(NULL, ",", &save))
                        hit = strcmp(w, controller) == 0;
                if (hit)
                        return snprintf(out, n, "%s", path) < (int)n ? 0 : -ENAMETOOLONG;
        }
        return -ENOENT;
}

static int writable_directory(const char *path) {
        return faccessat(AT_FDCWD, path, W_OK | X_OK, AT_EACCESS) < 0 ? -errno : 0;
}

static int v2_has(const char *dir, const char *controller) {
        _cleanup_free_ char *text = NULL;
        char path[4200], *save = NULL;

        snprintf(path, sizeof(path), "%s/cgroup.controllers", dir);
        if (crew_read_file(path, 4096, &text, NULL, NULL) < 0)
                return -ENOENT;
        for (char *w = strtok_r(text, " \n", &save); w; w = strtok_r(NULL, " \n", &save))
                if (strcmp(w, controller) == 0)
                        return writable_directory(dir);
        return -ENOENT;
}

/* A group that gives controllers to groups of its own holds no processes.  crewd moves its own aside, and nobody else's. */
static int v2_is_ours_alone(const char *dir) {
        _cleanup_free_ char *procs = NULL, *mine = NULL;
        char path[4200], *save = NULL;

        snprintf(path, sizeof(path), "%s/cgroup.procs", dir);
        if (crew_read_file(path, 1 << 20, &procs, NULL, NULL) < 0 ||
            crew_read_file("/proc/self/comm", 64, &mine, NULL, NULL) < 0)
                return -EACCES;
        for (char *w = strtok_r(procs, "\n", &save); w; w = strtok_r(NULL, "\n", &save)) {
                _cleanup_free_ char *comm = NULL;
                if (strcmp(w, "0") == 0) /* of a pid namespace that we cannot see into */
                        return -EBUSY;
                snprintf(path, sizeof(path), "/proc/%.16s/comm", w);
                if (crew_read_file(path, 64, &comm, NULL, NULL) == 0 && strcmp(comm, mine) != 0)
                        return -EBUSY;
        }
        return 0;
}

/* Our own group, or (root only) one at the top of the tree, where the rule about processes does not hold. */
static int probe_v2(const char *own, const char *controller) {
        char dir[4096];

        snprintf(dir, sizeof(dir), "/sys/fs/cgroup%s", own);
        int r = v2_has(dir, controller);
        if (r == 0)
                r = v2_is_ours_alone(dir);
        return r < 0 && geteuid() == 0 ? v2_has("/sys/fs/cgroup", controller) : r;
}

static int probe_cgroup(const char *controller) {
        char own[2048], dir[4096];
        int mode = cgroup_mode(), r;

        if (mode == CREW_CGROUP_NONE)
                return -ENOENT;
        r = own_cgroup(mode == CREW_CGROUP_V2 ? "" : controller, own, sizeof(own));
        if (r < 0)
                return r;
        if (mode == CREW_CGROUP_V2)
                return probe_v2(own, controller);
        snprintf(dir, sizeof(dir), "/sys/fs/cgroup/%s%s", controller, own);
        r = writable_directory(dir);
        if (r == -ENOENT) { /* a container sees its own cgroup as the top of the mount */
                snprintf(dir, sizeof(dir), "/sys/fs/cgroup/%s", controller);
                r = writable_directory(dir);
        }
        return r;
}

static int probe_cgroup_memory(void) {
        return probe_cgroup("memory");
}

static int probe_cgroup_pids(void) {
        return probe_cgroup("pids");
}

static int probe_cgroup_cpu(void) {
        return probe_cgroup("cpu");
}

/* cgroup.kill came with Linux 5.14 and needs a v2 tree; the file is not there in the root cgroup. */
static int probe_cgroup_kill(void) {
        int mode = cgroup_mode(), major = 0, minor = 0;
        struct utsname u;

        if (mode != CREW_CGROUP_V2 && mode != CREW_CGROUP_HYBRID)
                return -ENOENT;
        if (uname(&u) < 0 || sscanf(u.release, "%d.%d", &major, &minor) != 2)
                return -ENOSYS;
        if (major < 5 || (major == 5 && minor < 14))
                return -ENOSYS;
        char own[2048], dir[4096];
        int r = own_cgroup("", own, sizeof(own));
        if (r < 0)
                return r;
        snprintf(dir, sizeof(dir), "/sys/fs/cgroup%s%s", mode == CREW_CGROUP_V2 ? "" : "/unified", own);
        r = writable_directory(dir);
        return r < 0 && geteuid() == 0 && mode == CREW_CGROUP_V2 ? writable_directory("/sys/fs/cgroup") : r;
}

static int (*const probes[CREW_PROBE_N])(void) = {
        [CREW_PROBE_LANDLOCK] = probe_landlock,
        [CREW_PROBE_SECCOMP] = probe_seccomp,
        [CREW_PROBE_SECCOMP_NOTIFY] = probe_seccomp_notify,
        [CREW_PROBE_USERNS] = probe_userns,
        [CREW_PROBE_NETNS] = probe_netns,
        [CREW_PROBE_NFTABLES] = probe_nftables,
        [CREW_PROBE_PIDFD] = probe_pidfd,
        [CREW_PROBE_IDMAP] = probe_idmap,
        [CREW_PROBE_AUDIT] = probe_audit,
        [CREW_PROBE_FANOTIFY] = probe_fanotify,
        [CREW_PROBE_CGROUP_MEMORY] = probe_cgroup_memory,
        [CREW_PROBE_CGROUP_PIDS] = probe_cgroup_pids,
        [CREW_PROBE_CGROUP_CPU] = probe_cgroup_cpu,
        [CREW_PROBE_CGROUP_KILL] = probe_cgroup_kill,
};

int crew_probe(enum crew_probe which) {
        crew_assert((unsigned)which < CREW_PROBE_N);
        return probes[which]();
}

static bool sysctl_is(const char *path, char want) {
        _cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC);
        char text[16] = "";

        return fd >= 0 && read(fd, text, sizeof(text) - 1) > 0 && text[0] == want && (text[1] == '\n' || !text[1]);
}

static uint32_t restrictions(void) {
        static const struct {
                const char *path;
                char value;
                uint32_t bit;
        } rows[] = {
                {"/proc/sys/kernel/apparmor_restrict_unprivileged_userns", '1', CREW_RESTRICT_APPARMOR},
                {"/proc/sys/kernel/unprivileged_userns_clone", '0', CREW_RESTRICT_SYSCTL},
                {"/proc/sys/user/max_user_namespaces", '0', CREW_RESTRICT_MAX_USERNS},
                {"/proc/sys/user/max_net_namespaces", '0', CREW_RESTRICT_MAX_NETNS},
        };
        uint32_t bits = 0;

        for (size_t i = 0; i < ELEMENTSOF(rows); i++)
                if (sysctl_is(rows[i].path, rows[i].value))
                        bits |= rows[i].bit;
        return bits;
}

void crew_kernel_probe(struct crew_kernel *k) {
        struct utsname u;

        *k = (struct crew_kernel){0};
        if (uname(&u) == 0)
                snprintf(k->release, sizeof(k->release), "%s", u.release);
        k->landlock_abi = crew_landlock_abi();
        k->cgroup_mode = cgroup_mode();
        k->restrictions = restrictions();
        for (size_t i = 0; i < CREW_PROBE_N; i++)
                k->result[i] = probes[i]();
}

int crew_kernel_probe_as(uid_t uid, gid_t gid, struct crew_kernel *k, struct crew_err *err) {
        int pair[2], status;

        if (pipe2(pair, O_CLOEXEC) < 0)
                return crew_fail_errno(err, "pipe");
        pid_t pid = fork();
        if (pid == 0) {
                if (setgroups(0, NULL) < 0 || setresgid(gid, gid, gid) < 0 || setresuid(uid, uid, uid) < 0)
                        _exit(1);
                /* setuid made us undumpable, and /proc/self would belong to root */
                prctl(PR_SET_DUMPABLE, 1);
                struct crew_kernel mine;
                crew_kernel_probe(&mine);
                _exit(crew_write_full(pair[1], &mine, sizeof(mine)) < 0);
        }
        close(pair[1]);
        int r = pid < 0 ? -errno : crew_read_full(pair[0], k, sizeof(*k));
        close(pair[0]);
        while (pid > 0 && waitpid(pid, &status, 0) < 0 && errno == EINTR)
                ;
        return r < 0 ? crew_fail(err, -r, "cannot probe as uid %u: %s", uid, strerror(-r)) : 0;
}
