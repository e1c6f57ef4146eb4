/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What an agent may ask of the kernel, and why not the rest.  Read together with crew-sandbox(7).
 *
 * The list holds what python, node, a JVM, shells, git, curl and compilers use; it is not the place for a call that one
 * program wants: that is a profile.
 */
#include "filter_build.h"

#include "common/util.h"

#include <fcntl.h>
#include <linux/prctl.h>
#include <linux/seccomp.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>

#ifndef MFD_NOEXEC_SEAL
#define MFD_NOEXEC_SEAL 0x0008U
#endif
#ifndef SECCOMP_FILTER_FLAG_NEW_LISTENER
#define SECCOMP_FILTER_FLAG_NEW_LISTENER (1UL << 3)
#endif
#ifndef SO_ATTACH_REUSEPORT_EBPF
#define SO_ATTACH_REUSEPORT_EBPF 52
#endif

/* clone(2) only: CLONE_NEWTIME shares its bit with the exit signal there and cannot be asked for. */
#define CLONE_NEW_ALL                                                                                                      \
        (CLONE_NEWNS | CLONE_NEWCGROUP | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWUSER | CLONE_NEWPID | CLONE_NEWNET)
#define TMPFILE_BIT (O_TMPFILE & ~O_DIRECTORY)

#define INT_EQ(a, v)                                                                                                       \
        { .arg = (a), .mask = FILTER_INT, .value = (uint32_t)(v) }
#define BITS(a, m, v)                                                                                                      \
        { .arg = (a), .mask = (m), .value = (v) }
#define NOT_NULL(a)                                                                                                        \
        { .arg = (a), .not_equal = true, .mask = UINT64_MAX, .value = 0 }

/* --- stage 1: refused whatever else is allowed --- */

/*
 * Set-user-ID and set-group-ID bits: the jail's mounts are nosuid, the host's are not.  In root mode a write tree is
 * idmapped onto the operator, so a set-user-ID file made by an agent would be one of the operator's, outside.
 */
#define NO_SETID(call, mode_arg)                                                                                           \
        {call, 0, EPERM, false, {BITS(mode_arg, S_ISUID, S_ISUID)}}, {                                                     \
                call, 0, EPERM, false, {                                                                                   \
                        BITS(mode_arg, S_ISGID, S_ISGID)                                                                   \
                }                                                                                                          \
        }
#define NO_SETID_OPEN(call, flags_arg, mode_arg)                                                                           \
        {call, 0, EPERM, false, {BITS(flags_arg, O_CREAT, O_CREAT), BITS(mode_arg, S_ISUID, S_ISUID)}},                    \
                {call, 0, EPERM, false, {BITS(flags_arg, O_CREAT, O_CREAT), BITS(mode_arg, S_ISGID, S_ISGID)}},            \
                {call, 0, EPERM, false, {BITS(flags_arg, TMPFILE_BIT, TMPFILE_BIT), BITS(mode_arg, S_ISUID, S_ISUID)}}, {  \
                call, 0, EPERM, false, {                                                                                   \
                        BITS(flags_arg, TMPFILE_BIT, TMPFILE_BIT), BITS(mode_arg, S_ISGID, S_ISGID)                        \
                }                                                                                                          \
        }
#define NO_SOCKOPT(level, opt)                                                                                             \
        {                                                                                                                  \
                "setsockopt", 0, EPERM, false, {                                                                           \
                        INT_EQ(1, level), INT_EQ(2, opt)                                                                   \
                }                                                                                                          \
        }

const struct filter_row filter_refused_if[] = {
        NO_SETID("chmod", 1),
        NO_SETID("fchmod", 1),
        NO_SETID("fchmodat", 2),
        {"fchmodat2", 452, EPERM, false, {BITS(2, S_ISUID, S_ISUID)}},
        {"fchmodat2", 452, EPERM, false, {BITS(2, S_ISGID, S_ISGID)}},
        NO_SETID("creat", 1),
        NO_SETID_OPEN("open", 1, 2),
        NO_SETID_OPEN("openat", 2, 3),
        /* Typing into a terminal that is shared with somebody else; line disciplines are kernel surface. */
        {"ioctl", 0, EPERM, false, {INT_EQ(1, TIOCSTI)}},
        {"ioctl", 0, EPERM, false, {INT_EQ(1, TIOCLINUX)}},
        {"ioctl", 0, EPERM, false, {INT_EQ(1, TIOCSETD)}},
        /*
         * A lease makes whoever opens the file outside wait for the agent, up to lease-break-time (45 s); without
         * waiting it cannot be read at all, for a snapshot say.  F_NOTIFY: what others do in a directory, by signal.
         */
        {"fcntl", 0, EPERM, false, {INT_EQ(1, F_SETLEASE)}},
        {"fcntl", 0, EPERM, false, {INT_EQ(1, F_NOTIFY)}},
        /* RLIMIT_CORE is 1, the one value with which a core_pattern pipe is not started either.  It must stay 1. */
        {"setrlimit", 0, EPERM, false, {INT_EQ(0, RLIMIT_CORE)}},
        {"prlimit64", 0, EPERM, false, {INT_EQ(1, RLIMIT_CORE), NOT_NULL(2)}},
        /* A second listener would see the arguments of everything below it. */
        {"seccomp",
         0,
         EPERM,
         false,
         {INT_EQ(0, SECCOMP_SET_MODE_FILTER), BITS(1, SECCOMP_FILTER_FLAG_NEW_LISTENER, SECCOMP_FILTER_FLAG_NEW_LISTENER)}},
        /* Programs attached to sockets, and upper layer protocols (kTLS): kernel surface without a customer here. */
        NO_SOCKOPT(SOL_SOCKET, SO_ATTACH_FILTER),
        NO_SOCKOPT(SOL_SOCKET, SO_ATTACH_BPF),
        NO_SOCKOPT(SOL_SOCKET, SO_ATTACH_REUSEPORT_CBPF),
        NO_SOCKOPT(SOL_SOCKET, SO_ATTACH_REUSEPORT_EBPF),
        NO_SOCKOPT(IPPROTO_TCP, TCP_ULP),
};
const size_t filter_refused_if_n = ELEMENTSOF(filter_refused_if);

/* --- stage 2: allowed --- */

#define SOCKET_ROW(family, type, protocol)                                                                                 \
        {                                                                                                                  \
                "socket", 0, 0, false, {                                                                                   \
                        INT_EQ(0, family), BITS(1, 0xf, type), INT_EQ(2, protocol)                                         \
                }                                                                                                          \
        }
#define PRCTL_ROW(option)                                                                                                  \
        {                                                                                                                  \
                "prctl", 0, 0, false, {                                                                                    \
                        INT_EQ(0, option)                                                                                  \
                }                                                                                                          \
        }

const struct filter_row filter_allowed_if[] = {
        /* Processes and threads, but no namespace. */
        {"clone", 0, 0, false, {BITS(0, CLONE_NEW_ALL, 0)}},
        /* Nothing raw, no netlink, packet, vsock, alg, bluetooth; no ICMP, SCTP, MPTCP (it passes Landlock's TCP rules). */
        SOCKET_ROW(AF_UNIX, SOCK_STREAM, 0),
        SOCKET_ROW(AF_UNIX, SOCK_DGRAM, 0),
        SOCKET_ROW(AF_UNIX, SOCK_SEQPACKET, 0),
        SOCKET_ROW(AF_INET, SOCK_STREAM, 0),
        SOCKET_ROW(AF_INET, SOCK_STREAM, IPPROTO_TCP),
        SOCKET_ROW(AF_INET, SOCK_DGRAM, 0),
        SOCKET_ROW(AF_INET, SOCK_DGRAM, IPPROTO_UDP),
        SOCKET_ROW(AF_INET6, SOCK_STREAM, 0),
        SOCKET_ROW(AF_INET6, SOCK_STREAM, IPPROTO_TCP),
        SOCKET_ROW(AF_INET6, SOCK_DGRAM, 0),
        SOCKET_ROW(AF_INET6, SOCK_DGRAM, IPPROTO_UDP),
        {"socketpair", 0, 0, false, {INT_EQ(0, AF_UNIX)}},
        /* A memfd that could be executed would be a program no Landlock rule knows. */
        {"memfd_create", 0, 0, false, {BITS(1, MFD_NOEXEC_SEAL, MFD_NOEXEC_SEAL)}},
        /* mkfifo(3); device nodes are refused. */
        {"mknod", 0, 0, false, {BITS(1, S_IFMT | S_ISUID | S_ISGID, S_IFIFO)}},
        {"mknodat", 0, 0, false, {BITS(2, S_IFMT | S_ISUID | S_ISGID, S_IFIFO)}},
        /* Query, and the ordinary one. */
        {"personality", 0, 0, false, {INT_EQ(0, 0)}},
        {"personality", 0, 0, false, {INT_EQ(0, 0xffffffff)}},
        {"seccomp", 0, 0, false, {INT_EQ(0, SECCOMP_SET_MODE_STRICT)}},
        {"seccomp", 0, 0, false, {INT_EQ(0, SECCOMP_SET_MODE_FILTER)}},
        {"seccomp", 0, 0, false, {INT_EQ(0, SECCOMP_GET_ACTION_AVAIL)}},
        /* Names, death signals, self-restriction, hints.  Not: PR_SET_MM, core scheduling, same-page merging, call
           dispatch. */
        /* Nothing but SIGKILL: a hostile process 1 must not talk itself out of dying with its spawner. */
        {"prctl", 0, 0, false, {INT_EQ(0, PR_SET_PDEATHSIG), BITS(1, UINT64_MAX, SIGKILL)}},
        PRCTL_ROW(PR_GET_PDEATHSIG),
        PRCTL_ROW(PR_GET_DUMPABLE),
        PRCTL_ROW(PR_SET_DUMPABLE),
        PRCTL_ROW(PR_GET_KEEPCAPS),
        PRCTL_ROW(PR_SET_KEEPCAPS),
        PRCTL_ROW(PR_GET_TIMING),
        PRCTL_ROW(PR_SET_NAME),
        PRCTL_ROW(PR_GET_NAME),
        PRCTL_ROW(PR_GET_SECCOMP),
        PRCTL_ROW(PR_SET_SECCOMP),
        PRCTL_ROW(PR_CAPBSET_READ),
        PRCTL_ROW(PR_GET_SECUREBITS),
        PRCTL_ROW(PR_SET_TIMERSLACK),
        PRCTL_ROW(PR_GET_TIMERSLACK),
        PRCTL_ROW(PR_SET_CHILD_SUBREAPER),
        PRCTL_ROW(PR_GET_CHILD_SUBREAPER),
        PRCTL_ROW(PR_SET_NO_NEW_PRIVS),
        PRCTL_ROW(PR_GET_NO_NEW_PRIVS),
        PRCTL_ROW(PR_GET_TID_ADDRESS),
        PRCTL_ROW(PR_SET_THP_DISABLE),
        PRCTL_ROW(PR_GET_THP_DISABLE),
        PRCTL_ROW(PR_CAP_AMBIENT),
        PRCTL_ROW(PR_GET_SPECULATION_CTRL),
        PRCTL_ROW(PR_SET_SPECULATION_CTRL),
        PRCTL_ROW(PR_SET_PTRACER),
        PRCTL_ROW(0x53564d41), /* PR_SET_VMA: names of anonymous memory */
        PRCTL_ROW(65),         /* PR_SET_MDWE, PR_GET_MDWE: refuse oneself writable code */
        PRCTL_ROW(66),
        PRCTL_ROW(0x41555856), /* PR_GET_AUXV */
#ifdef __aarch64__
        PRCTL_ROW(PR_SVE_SET_VL),
        PRCTL_ROW(PR_SVE_GET_VL),
        PRCTL_ROW(PR_PAC_RESET_KEYS),
        PRCTL_ROW(PR_SET_TAGGED_ADDR_CTRL),
        PRCTL_ROW(PR_GET_TAGGED_ADDR_CTRL),
#endif
        /* Newer than libseccomp's table. */
        {"fchmodat2", 452, 0, false, {}},
        {"mseal", 462, 0, false, {}},
};
const size_t filter_allowed_if_n = ELEMENTSOF(filter_allowed_if);

const char filter_allowed[][FILTER_NAME_MAX] = {
        /* bytes */
        "read",
        "write",
        "readv",
        "writev",
        "pread64",
        "pwrite64",
        "preadv",
        "pwritev",
        "preadv2",
        "pwritev2",
        "lseek",
        "close",
        "close_range",
        "dup",
        "dup2",
        "dup3",
        "fcntl",
        "flock",
        "ioctl",
        "fsync",
        "fdatasync",
        "sync_file_range",
        "truncate",
        "ftruncate",
        "fallocate",
        "copy_file_range",
        "sendfile",
        "splice",
        "tee",
        "readahead",
        "fadvise64",
        /* files: what they reach is the view's and Landlock's business.  Not openat2: its mode cannot be inspected. */
        "open",
        "openat",
        "creat",
        "stat",
        "lstat",
        "fstat",
        "newfstatat",
        "statx",
        "statfs",
        "fstatfs",
        "access",
        "faccessat",
        "faccessat2",
        "readlink",
        "readlinkat",
        "getdents",
        "getdents64",
        "getcwd",
        "chdir",
        "fchdir",
        "mkdir",
        "mkdirat",
        "rmdir",
        "unlink",
        "unlinkat",
        "rename",
        "renameat",
        "renameat2",
        "link",
        "linkat",
        "symlink",
        "symlinkat",
        "chmod",
        "fchmod",
        "fchmodat",
        "chown",
        "fchown",
        "lchown",
        "fchownat",
        "utime",
        "utimes",
        "utimensat",
        "futimesat",
        "umask",
        "getxattr",
        "lgetxattr",
        "fgetxattr",
        "setxattr",
        "lsetxattr",
        "fsetxattr",
        "listxattr",
        "llistxattr",
        "flistxattr",
        "removexattr",
        "lremovexattr",
        "fremovexattr",
        "inotify_init",
        "inotify_init1",
        "inotify_add_watch",
        "inotify_rm_watch",
        /* memory */
        "mmap",
        "munmap",
        "mprotect",
        "mremap",
        "brk",
        "madvise",
        "msync",
        "mincore",
        "mlock",
        "mlock2",
        "munlock",
        "mlockall",
        "munlockall",
        "membarrier",
        "pkey_alloc",
        "pkey_free",
        "pkey_mprotect",
        "get_mempolicy",
        /* processes and threads */
        "fork",
        "vfork",
        "execve",
        "execveat",
        "exit",
        "exit_group",
        "wait4",
        "waitid",
        "getpid",
        "gettid",
        "getppid",
        "getpgid",
        "setpgid",
        "getpgrp",
        "getsid",
        "setsid",
        "kill",
        "tkill",
        "tgkill",
        "pidfd_open",
        "pidfd_send_signal",
        "arch_prctl",
        "set_tid_address",
        "set_robust_list",
        "get_robust_list",
        "rseq",
        "futex",
        "futex_waitv",
        "restart_syscall",
        "sched_yield",
        "sched_getaffinity",
        "sched_setaffinity",
        "sched_getparam",
        "sched_setparam",
        "sched_getscheduler",
        "sched_setscheduler",
        "sched_get_priority_max",
        "sched_get_priority_min",
        "sched_rr_get_interval",
        "sched_getattr",
        "sched_setattr",
        "getpriority",
        "setpriority",
        "ioprio_get",
        "ioprio_set",
        "getrlimit",
        "setrlimit",
        "prlimit64",
        "getrusage",
        "times",
        "sysinfo",
        "uname",
        "getcpu",
        "getrandom",
        /* identity: without capabilities these can only give up */
        "getuid",
        "geteuid",
        "getgid",
        "getegid",
        "getresuid",
        "getresgid",
        "getgroups",
        "setuid",
        "setgid",
        "setreuid",
        "setregid",
        "setresuid",
        "setresgid",
        "setfsuid",
        "setfsgid",
        "setgroups",
        "capget",
        "capset",
        "landlock_create_ruleset",
        "landlock_add_rule",
        "landlock_restrict_self",
        /* signals and time */
        "rt_sigaction",
        "rt_sigprocmask",
        "rt_sigpending",
        "rt_sigtimedwait",
        "rt_sigqueueinfo",
        "rt_tgsigqueueinfo",
        "rt_sigsuspend",
        "rt_sigreturn",
        "sigaltstack",
        "signalfd",
        "signalfd4",
        "pause",
        "alarm",
        "getitimer",
        "setitimer",
        "timer_create",
        "timer_settime",
        "timer_gettime",
        "timer_getoverrun",
        "timer_delete",
        "timerfd_create",
        "timerfd_settime",
        "timerfd_gettime",
        "nanosleep",
        "clock_nanosleep",
        "clock_gettime",
        "clock_getres",
        "gettimeofday",
        "time",
        /* waiting, pipes */
        "poll",
        "ppoll",
        "select",
        "pselect6",
        "epoll_create",
        "epoll_create1",
        "epoll_ctl",
        "epoll_wait",
        "epoll_pwait",
        "epoll_pwait2",
        "eventfd",
        "eventfd2",
        "pipe",
        "pipe2",
        /* sockets, once made */
        "bind",
        "connect",
        "listen",
        "accept",
        "accept4",
        "getsockname",
        "getpeername",
        "sendto",
        "recvfrom",
        "sendmsg",
        "recvmsg",
        "sendmmsg",
        "recvmmsg",
        "setsockopt",
        "getsockopt",
        "shutdown",
        /* System V and POSIX ipc: each jail has an ipc namespace of its own */
        "shmget",
        "shmat",
        "shmdt",
        "shmctl",
        "semget",
        "semop",
        "semtimedop",
        "semctl",
        "msgget",
        "msgsnd",
        "msgrcv",
        "msgctl",
        "mq_open",
        "mq_unlink",
        "mq_timedsend",
        "mq_timedreceive",
        "mq_notify",
        "mq_getsetattr",
        "",
};

/* --- stage 3: otherwise --- */

#define REFUSE(call)                                                                                                       \
        {                                                                                                                  \
                call, 0, EPERM, true, {                                                                                    \
                }                                                                                                          \
        }
#define ABSENT(call)                                                                                                       \
        {                                                                                                                  \
                call, 0, ENOSYS, true, {                                                                                   \
                }                                                                                                          \
        }

/* EPERM where programs know the call and take a no; ENOSYS (also for all that is not named) where they fall back on it. */
const struct filter_row filter_otherwise[] = {
        /* Argument-checked in stage 2; reached with the wrong ones. */
        REFUSE("clone"),
        {"socket", 0, EAFNOSUPPORT, true, {}},
        {"socketpair", 0, EAFNOSUPPORT, true, {}},
        {"memfd_create", 0, EACCES, false, {}}, /* as with vm.memfd_noexec=2 */
        REFUSE("mknod"),
        REFUSE("mknodat"),
        {"personality", 0, EPERM, false, {}},
        {"prctl", 0, EINVAL, true, {}}, /* as an option the kernel does not know */
        {"seccomp", 0, EINVAL, true, {}},
        /* Their flags are behind a pointer: no filter can look at them.  libc falls back on clone and openat. */
        ABSENT("clone3"),
        ABSENT("openat2"),
        /* Namespaces and mounts: what the jail is made of. */
        REFUSE("unshare"),
        REFUSE("setns"),
        REFUSE("mount"),
        REFUSE("umount2"),
        REFUSE("pivot_root"),
        REFUSE("chroot"),
        REFUSE("fsopen"),
        REFUSE("fsconfig"),
        REFUSE("fsmount"),
        REFUSE("fspick"),
        REFUSE("move_mount"),
        REFUSE("open_tree"),
        REFUSE("mount_setattr"),
        {"open_tree_attr", 467, EPERM, true, {}},
        /* Files by handle pass every path rule (name_to_handle_at makes the handles). */
        REFUSE("open_by_handle_at"),
        REFUSE("name_to_handle_at"),
        REFUSE("fanotify_init"),
        REFUSE("fanotify_mark"),
        /* Other processes' memory and descriptors.  The debug profile allows the first three, below Landlock's domain
           check. */
        {"ptrace", 0, EPERM, false, {}},
        {"process_vm_readv", 0, EPERM, false, {}},
        {"process_vm_writev", 0, EPERM, false, {}},
        {"kcmp", 0, EPERM, false, {}},
        REFUSE("pidfd_getfd"),
        REFUSE("process_madvise"),
        REFUSE("move_pages"),
        REFUSE("migrate_pages"),
        /* Kernel surface. */
        REFUSE("bpf"),
        REFUSE("perf_event_open"),
        REFUSE("userfaultfd"),
        ABSENT("io_uring_setup"),
        ABSENT("io_uring_enter"),
        ABSENT("io_uring_register"),
        ABSENT("memfd_secret"),
        ABSENT("modify_ldt"),
        ABSENT("vmsplice"),
        /* Keys: the session keyring is fresh, the user's are the namespace's. */
        REFUSE("keyctl"),
        REFUSE("add_key"),
        REFUSE("request_key"),
        /* The host's own business; all need capabilities that are gone. */
        REFUSE("kexec_load"),
        REFUSE("kexec_file_load"),
        REFUSE("init_module"),
        REFUSE("finit_module"),
        REFUSE("delete_module"),
        REFUSE("reboot"),
        REFUSE("swapon"),
        REFUSE("swapoff"),
        REFUSE("settimeofday"),
        REFUSE("clock_settime"),
        REFUSE("clock_adjtime"),
        REFUSE("adjtimex"),
        REFUSE("sethostname"),
        REFUSE("setdomainname"),
        REFUSE("acct"),
        REFUSE("quotactl"),
        REFUSE("quotactl_fd"),
        REFUSE("syslog"),
        REFUSE("vhangup"),
        REFUSE("iopl"),
        REFUSE("ioperm"),
        REFUSE("lookup_dcookie"),
};
const size_t filter_otherwise_n = ELEMENTSOF(filter_otherwise);
