/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Self-confinement of our own programs.  A hand-made linear filter is enough here: the lists are short, fixed at
 * compile time and checked by each program's own tests; the agents' allow-list is libseccomp's work.
 */
#include "confine.h"

#include "sanitized.h"
#include "util.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/audit.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>

#if defined(__x86_64__)
#define NATIVE_ARCH AUDIT_ARCH_X86_64
#define X32_BIT 0x40000000u
#elif defined(__aarch64__)
#define NATIVE_ARCH AUDIT_ARCH_AARCH64
#define X32_BIT 0xffffffffu /* no such numbers */
#else
#error "unsupported architecture"
#endif

#define FILTER_MAX 512

struct filter {
        struct sock_filter insns[FILTER_MAX];
        unsigned short n;
        bool full;
};

static void put(struct filter *f, struct sock_filter insn) {
        if (f->n == FILTER_MAX)
                f->full = true;
        else
                f->insns[f->n++] = insn;
}

static void put_ret(struct filter *f, uint32_t action) {
        put(f, (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, action));
}

/* if (nr == number) return action */
static void put_match(struct filter *f, int number, uint32_t action) {
        put(f, (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)number, 0, 1));
        put_ret(f, action);
}

static void put_head(struct filter *f) {
        put(f, (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, arch)));
        put(f, (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, NATIVE_ARCH, 1, 0));
        put_ret(f, SECCOMP_RET_KILL_PROCESS);
        put(f, (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)));
        put(f, (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, X32_BIT, 0, 1));
        put_ret(f, SECCOMP_RET_KILL_PROCESS);
}

/* if (nr == socket && family != a && family != b) return EAFNOSUPPORT; leaves nr in the accumulator. */
static void put_families(struct filter *f, uint32_t a, uint32_t b) {
        put(f, (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, __NR_socket, 0, 5));
        put(f, (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[0])));
        put(f, (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, a, 2, 0));
        put(f, (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, b, 1, 0));
        put_ret(f, SECCOMP_RET_ERRNO | EAFNOSUPPORT);
        put(f, (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)));
}

static int install_filter(const struct confine *c, struct crew_err *err) {
        struct filter f = {.n = 0};

        put_head(&f);
        if (c->unix_sockets_only)
                put_families(&f, AF_UNIX, AF_UNIX);
        if (c->inet_sockets_only)
                put_families(&f, AF_INET, AF_INET6);
        for (size_t i = 0; c->syscalls && i < c->n_syscalls; i++)
                put_match(&f, c->syscalls[i], SECCOMP_RET_ALLOW);
        for (size_t i = 0; i < c->n_denied; i++)
                put_match(&f, c->denied[i], SECCOMP_RET_ERRNO | EPERM);
        put_ret(&f, c->syscalls ? SECCOMP_RET_ERRNO | EPERM : SECCOMP_RET_ALLOW);
        if (f.full)
                return crew_fail(err, E2BIG, "system call list too long for the filter");
        struct sock_fprog prog = {.len = f.n, .filter = f.insns};
        if (syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &prog) < 0)
                return crew_fail_errno(err, "cannot install the system call filter");
        return 0;
}

static int switch_user(const struct confine *c, struct crew_err *err) {
        if (c->uid == 0)
                return 0;
        if (c->keep_caps && prctl(PR_SET_KEEPCAPS, 1) < 0)
                return crew_fail_errno(err, "cannot keep capabilities");
        if (setgroups(0, NULL) < 0 || setresgid(c->gid, c->gid, c->gid) < 0 || setresuid(c->uid, c->uid, c->uid) < 0)
                return crew_fail_errno(err, "cannot switch to uid %u", (unsigned)c->uid);
        return 0;
}

static int drop_caps(uint64_t keep, struct crew_err *err) {
        struct __user_cap_header_struct head = {.version = _LINUX_CAPABILITY_VERSION_3};
        struct __user_cap_data_struct now[2], want[2] = {0};

        if (syscall(SYS_capget, &head, now) < 0)
                return crew_fail_errno(err, "cannot read capabilities");
        /* CAP_SETPCAP is what cutting the bounding set needs; without it there is nothing to regain through exec
         * either, because no_new_privs is set. */
        if (now[0].effective & (1u << CAP_SETPCAP)) {
                for (int cap = 0; cap <= 63; cap++) {
                        if (!(keep & (1ull << cap)) && prctl(PR_CAPBSET_DROP, cap) < 0 && errno != EINVAL)
                                return crew_fail_errno(err, "cannot drop capability %d from the bounding set", cap);
                }
        }
        if (prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) < 0 && errno != EINVAL)
                return crew_fail_errno(err, "cannot clear ambient capabilities");
        for (int i = 0; i < 2; i++) {
                want[i].permitted = now[i].permitted & (uint32_t)(keep >> (32 * i));
                want[i].effective = want[i].permitted;
        }
        if (syscall(SYS_capset, &head, want) < 0)
                return crew_fail_errno(err, "cannot drop capabilities");
        return 0;
}

#ifndef SYS_landlock_create_ruleset
#define SYS_landlock_create_ruleset 444
#define SYS_landlock_add_rule 445
#define SYS_landlock_restrict_self 446
#endif
#define LANDLOCK_READ ((1u << 2) | (1u << 3)) /* LANDLOCK_ACCESS_FS_READ_FILE, _READ_DIR */

static int let_read(int ruleset, const char *path, struct crew_err *err) {
        _cleanup_close_ int fd = open(path, O_PATH | O_CLOEXEC);
        struct {
                uint64_t allowed;
                int32_t parent_fd;
        } __attribute__((packed)) rule = {.allowed = LANDLOCK_READ, .parent_fd = fd};

        if (fd < 0)
                return errno == ENOENT ? 0 : crew_fail_errno(err, "cannot open %s", path);
        if (syscall(SYS_landlock_add_rule, ruleset, 1 /* LANDLOCK_RULE_PATH_BENEATH */, &rule, 0) < 0)
                return crew_fail_errno(err, "cannot let %s be read", path);
        return 0;
}

/* A ruleset that handles every ABI 1 file right and grants none, or reading below a few paths.  Kernels without Landlock
 * answer ENOSYS or EOPNOTSUPP; the other steps stand on their own there. */
static int close_files(const char *const *read_only, struct crew_err *err) {
        const uint64_t handled_fs = (1u << 13) - 1;
        _cleanup_close_ int fd = (int)syscall(SYS_landlock_create_ruleset, &handled_fs, sizeof(handled_fs), 0);

        if (fd < 0 && (errno == ENOSYS || errno == EOPNOTSUPP))
                return 0;
        for (; fd >= 0 && read_only && *read_only; read_only++) {
                int r = let_read(fd, *read_only, err);
                if (r < 0)
                        return r;
        }
        if (fd < 0 || syscall(SYS_landlock_restrict_self, fd, 0) < 0)
                return crew_fail_errno(err, "cannot close the file system");
        return 0;
}

int confine_self(const struct confine *c, struct crew_err *err) {
        const struct rlimit none = {0, 0};
        int r;

        if (CREW_SANITIZED) /* the leak checker traces its own process at exit; such a build is for tests only */
                return 0;
        if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 || setrlimit(RLIMIT_CORE, &none) < 0)
                return crew_fail_errno(err, "cannot set no_new_privs");
        if ((r = switch_user(c, err)) < 0 || (r = drop_caps(c->keep_caps, err)) < 0)
                return r;
        /* After the identity change, which sets it anew. */
        if (prctl(PR_SET_DUMPABLE, 0) < 0)
                return crew_fail_errno(err, "cannot become undumpable");
        if ((c->no_files || c->read_only) && (r = close_files(c->read_only, err)) < 0)
                return r;
        if (c->syscalls || c->n_denied || c->unix_sockets_only || c->inet_sockets_only)
                return install_filter(c, err);
        return 0;
}

/* --- what looks names up --- */

static const char *const lookup_paths[] = {"/etc",    "/usr", "/lib",          "/lib32", "/lib64",
                                           "/libx32", "/run", "/var/lib/misc", NULL};

static const int lookup_denied[] = {
        SYS_execve,
        SYS_execveat,
        SYS_ptrace,
        SYS_process_vm_readv,
        SYS_process_vm_writev,
        SYS_pidfd_getfd,
        SYS_bpf,
        SYS_perf_event_open,
        SYS_userfaultfd,
        SYS_io_uring_setup,
        SYS_keyctl,
        SYS_add_key,
        SYS_request_key,
        SYS_mount,
        SYS_umount2,
        SYS_pivot_root,
        SYS_chroot,
        SYS_unshare,
        SYS_setns,
        SYS_init_module,
        SYS_finit_module,
        SYS_delete_module,
        SYS_kexec_load,
        SYS_personality,
        SYS_listen,
        SYS_accept,
        SYS_accept4,
        SYS_memfd_create,
        SYS_fsopen,
        SYS_open_tree,
        SYS_move_mount,
        SYS_mount_setattr,
        SYS_open_by_handle_at,
        SYS_kill,
        SYS_tkill,
};

int confine_self_to_lookups(struct crew_err *err) {
        const bool root = geteuid() == 0;
        const struct confine c = {
                .uid = root ? CONFINE_NOBODY : 0,
                .gid = root ? CONFINE_NOBODY : 0,
                .read_only = lookup_paths,
                .denied = lookup_denied,
                .n_denied = ELEMENTSOF(lookup_denied),
        };
        return confine_self(&c, err);
}
