/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The yardstick: the least code that makes a comparable jail, with nothing of ours in it.
 *
 * clone3 with six namespaces and a pidfd, uid and gid maps, a tmpfs root with read-only /usr, proc, dev and private
 * /tmp, pivot_root, lo up, capabilities dropped, 20 Landlock paths, a linear 80-rule seccomp filter, exec of /bin/true,
 * wait.  One process per round, no attestation, no link, no limits.  Prints microseconds as JSON; works with and
 * without root.   usage: bench-recipe [ROUNDS]
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/landlock.h>
#include <linux/sched.h>
#include <linux/seccomp.h>
#include <net/if.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define RULES 80
#define NAMESPACES (CLONE_NEWUSER | CLONE_NEWPID | CLONE_NEWNS | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS)

static void need(int ok, const char *what) {
        if (!ok) {
                fprintf(stderr, "bench-recipe: %s: %s\n", what, strerror(errno));
                _exit(111);
        }
}

static void put(const char *path, const char *text) {
        int fd = open(path, O_WRONLY | O_CLOEXEC);
        need(fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text), path);
        close(fd);
}

static void bind_at(const char *src, const char *dst, unsigned long flags) {
        need(mount(src, dst, NULL, MS_BIND | MS_REC, NULL) == 0, src);
        need(mount(NULL, dst, NULL, MS_REMOUNT | MS_BIND | MS_REC | MS_NOSUID | flags, NULL) == 0, dst);
}

static void make_view(void) {
        static const char *const links[][2] = {
                {"usr/bin", "bin"}, {"usr/sbin", "sbin"}, {"usr/lib", "lib"}, {"usr/lib64", "lib64"}};
        static const char *const devices[] = {"null", "zero", "full", "random", "urandom"};
        static const char *const dirs[] = {"usr", "proc", "dev", "tmp", "etc"};

        need(mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0, "private");
        need(mount("tmpfs", "/tmp", "tmpfs", MS_NOSUID | MS_NODEV, "mode=0755,size=4m") == 0, "root");
        need(chdir("/tmp") == 0, "chdir");
        for (size_t i = 0; i < sizeof(dirs) / sizeof(dirs[0]); i++)
                need(mkdir(dirs[i], 0755) == 0, dirs[i]);
        for (size_t i = 0; i < sizeof(links) / sizeof(links[0]); i++)
                need(symlink(links[i][0], links[i][1]) == 0, links[i][1]);
        bind_at("/usr", "usr", MS_RDONLY | MS_NODEV);
        for (size_t i = 0; i < sizeof(devices) / sizeof(devices[0]); i++) {
                char src[32], dst[32];
                snprintf(src, sizeof(src), "/dev/%s", devices[i]);
                snprintf(dst, sizeof(dst), "dev/%s", devices[i]);
                close(open(dst, O_CREAT | O_WRONLY | O_CLOEXEC, 0666));
                need(mount(src, dst, NULL, MS_BIND, NULL) == 0, src);
        }
        need(mount("proc", "proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, "hidepid=2") == 0, "proc");
        need(mount("tmpfs", "tmp", "tmpfs", MS_NOSUID | MS_NODEV, "size=16m") == 0, "tmp");
        need(syscall(SYS_pivot_root, ".", ".") == 0 && umount2(".", MNT_DETACH) == 0 && chdir("/") == 0, "pivot_root");
        need(mount(NULL, "/", NULL, MS_REMOUNT | MS_BIND | MS_RDONLY | MS_NOSUID | MS_NODEV, NULL) == 0, "root read-only");
}

static void lo_up(void) {
        struct ifreq ifr = {.ifr_name = "lo", .ifr_flags = IFF_UP | IFF_RUNNING};
        int s = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
        need(s >= 0 && ioctl(s, SIOCSIFFLAGS, &ifr) == 0, "lo");
        close(s);
}

static void drop_caps(void) {
        struct __user_cap_header_struct h = {.version = _LINUX_CAPABILITY_VERSION_3};
        struct __user_cap_data_struct d[2] = {0};
        for (int c = 0; c <= 40; c++)
                prctl(PR_CAPBSET_DROP, c, 0, 0, 0);
        need(syscall(SYS_capset, &h, d) == 0 && prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0, "capabilities");
}

static void landlock(void) {
        static const char *const paths[] = {"/usr", "/usr/bin", "/usr/lib",  "/usr/share", "/usr/sbin",
                                            "/tmp", "/dev",     "/dev/null", "/dev/zero",  "/proc"};
        struct landlock_ruleset_attr attr = {.handled_access_fs = (1ull << 13) - 1};
        int rs = (int)syscall(SYS_landlock_create_ruleset, &attr, sizeof(attr), 0);

        need(rs >= 0, "landlock");
        for (size_t i = 0; i < 20; i++) {
                struct landlock_path_beneath_attr rule = {
                        .allowed_access = LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_EXECUTE,
                        .parent_fd = open(paths[i % 10], O_PATH | O_CLOEXEC),
                };
                need(syscall(SYS_landlock_add_rule, rs, LANDLOCK_RULE_PATH_BENEATH, &rule, 0) == 0, paths[i % 10]);
                close(rule.parent_fd);
        }
        need(syscall(SYS_landlock_restrict_self, rs, 0) == 0, "landlock_restrict_self");
        close(rs);
}

static void seccomp_filter(void) {
        struct sock_filter f[RULES * 2 + 2];
        unsigned short n = 0;

        f[n++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr));
        for (unsigned i = 0; i < RULES; i++) { /* refuse 80 numbers that /bin/true does not use */
                f[n++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 340 + i, 0, 1);
                f[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | ENOSYS);
        }
        f[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
        struct sock_fprog prog = {.len = n, .filter = f};
        need(syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &prog) == 0, "seccomp");
}

static _Noreturn void child(int maps_done) {
        char c;

        need(read(maps_done, &c, 1) == 1, "maps");
        need(setresgid(1000, 1000, 1000) == 0 && setresuid(1000, 1000, 1000) == 0, "setresuid");
        make_view();
        lo_up();
        drop_caps();
        landlock();
        seccomp_filter();
        execl("/bin/true", "true", (char *)NULL);
        need(0, "exec");
        _exit(111);
}

static double once(void) {
        struct timespec a, b;
        int p[2], pidfd = -1, status;
        char path[64], map[64];

        need(pipe2(p, O_CLOEXEC) == 0, "pipe");
        clock_gettime(CLOCK_MONOTONIC, &a);
        struct clone_args args = {.flags = NAMESPACES | CLONE_PIDFD, .pidfd = (uintptr_t)&pidfd, .exit_signal = SIGCHLD};
        pid_t pid = (pid_t)syscall(SYS_clone3, &args, sizeof(args));
        need(pid >= 0, "clone3");
        if (pid == 0)
                child(p[0]);
        unsigned host = geteuid() == 0 ? 200000 : geteuid(), group = geteuid() == 0 ? 200000 : getegid();
        snprintf(path, sizeof(path), "/proc/%d/setgroups", pid);
        put(path, "deny");
        snprintf(path, sizeof(path), "/proc/%d/uid_map", pid);
        snprintf(map, sizeof(map), "1000 %u 1", host);
        put(path, map);
        snprintf(path, sizeof(path), "/proc/%d/gid_map", pid);
        snprintf(map, sizeof(map), "1000 %u 1", group);
        put(path, map);
        need(write(p[1], "x", 1) == 1, "go");
        need(waitpid(pid, &status, 0) == pid && WIFEXITED(status) && WEXITSTATUS(status) == 0, "the jailed command");
        clock_gettime(CLOCK_MONOTONIC, &b);
        close(p[0]);
        close(p[1]);
        close(pidfd);
        return (double)(b.tv_sec - a.tv_sec) * 1e6 + (double)(b.tv_nsec - a.tv_nsec) / 1e3;
}

static int by_value(const void *a, const void *b) {
        double x = *(const double *)a, y = *(const double *)b;
        return (x > y) - (x < y);
}

int main(int argc, char **argv) {
        int n = argc > 1 ? atoi(argv[1]) : 200;
        double *us = n > 0 ? calloc((size_t)n, sizeof(*us)) : NULL;

        if (!us) {
                fputs("usage: bench-recipe [ROUNDS]\n", stderr);
                return 2;
        }
        for (int i = 0; i < 5; i++)
                once();
        double all = 0;
        for (int i = 0; i < n; i++)
                all += us[i] = once();
        qsort(us, (size_t)n, sizeof(*us), by_value);
        printf("{\"bench\": \"recipe\", \"rounds\": %d, \"min_us\": %.1f, \"median_us\": %.1f, \"p90_us\": %.1f, "
               "\"per_s\": %.1f}\n",
               n, us[0], us[n / 2], us[n * 9 / 10], n / all * 1e6);
        free(us);
        return 0;
}
