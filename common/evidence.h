/* SPDX-License-Identifier: Apache-2.0 */
/*
 * crewd <-> crew-evidence: fixed-layout messages over one SOCK_SEQPACKET pair.
 *
 * crew-evidence reads what the kernel says about the jails: Landlock audit records (NETLINK_AUDIT) and fanotify marks
 * in root mode, seccomp notifications rootless.  It keeps the privileges those need, parses only kernel output, and
 * reports facts; what they mean for a policy is decided in crewd.
 */
#pragma once

#include <stdint.h>
#include <sys/syscall.h>

#define EVIDENCE_PATH_MAX 4096
/* Those that live and those that are being forgotten: two for each agent that a crew may have. */
#define EVIDENCE_INSTANCES_MAX 8192u

enum evidence_op {
        /* crewd -> crew-evidence */
        EVIDENCE_WATCH = 1, /* an instance is up.  .pid: its pid 1; .uid; watch paths in .path (each NUL-terminated; repeat
                               the message for more); rootless: one fd, the seccomp listener */
        EVIDENCE_FORGET,    /* instance .id is gone: flush what is known, then EVIDENCE_FORGOTTEN */
        /* crew-evidence -> crewd */
        EVIDENCE_HELLO = 64, /* .flags: which sources work here */
        EVIDENCE_EVENT,
        EVIDENCE_LOST,      /* .count records lost by the kernel for .id (id 0: unknown whose; count 0: unknown how many) */
        EVIDENCE_FORGOTTEN, /* nothing more of .id will come */
};

enum evidence_source { EVIDENCE_LANDLOCK = 1, EVIDENCE_FANOTIFY = 2, EVIDENCE_NOTIFY = 4 };

enum evidence_what {
        EVIDENCE_FILE_OPEN_READ = 1,
        EVIDENCE_FILE_OPEN_WRITE,
        EVIDENCE_FILE_MODIFIED, /* closed after being open for writing */
        EVIDENCE_FILE_DENIED,   /* .access: the Landlock right names, as the kernel prints them */
        EVIDENCE_NET_DENIED,    /* .path: address:port; .access as above */
        EVIDENCE_SCOPE_DENIED,  /* signal, abstract socket or ptrace out of the jail; .path: what the kernel names */
        EVIDENCE_EXEC,
        EVIDENCE_ATTEMPT, /* rootless: .access "read", "write" or "exec" of .path was attempted; outcome not known */
};

/* Instead of a path: so many different ones that only their number is known. */
#define EVIDENCE_OTHER_PATHS "(other paths)"

struct evidence_msg {
        uint32_t op;
        uint32_t id; /* instance, as in spawn_msg */
        uint32_t source;
        uint32_t what;
        uint32_t flags;
        int32_t pid; /* host pid; 0 unknown */
        uint32_t uid;
        uint32_t count;   /* identical events folded into this one, at least 1 */
        uint64_t time_ns; /* CLOCK_REALTIME of the first */
        char access[64];
        char comm[16];     /* empty: unknown */
        uint32_t path_len; /* bytes used in path, without a NUL; raw bytes, any value */
        char path[EVIDENCE_PATH_MAX];
};

/*
 * Rootless evidence: the calls whose filter verdict is SECCOMP_RET_USER_NOTIF instead of allow.  X(number, index of the
 * argument that is the directory or -1, index of the path, what is attempted: read by open flags "o", "w" or "x").
 * With all opens notified `python3 -c pass` is slower by 4-8 %; the filter must be installed with
 * SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV.  Calls an architecture does not have are left out.
 */
#ifdef SYS_open
#define EVIDENCE_NOTIFY_OLD(X)                                                                                             \
        X(SYS_open, -1, 0, 'o')                                                                                            \
        X(SYS_creat, -1, 0, 'w')                                                                                           \
        X(SYS_unlink, -1, 0, 'w')                                                                                          \
        X(SYS_rmdir, -1, 0, 'w')                                                                                           \
        X(SYS_mkdir, -1, 0, 'w')                                                                                           \
        X(SYS_rename, -1, 1, 'w')                                                                                          \
        X(SYS_renameat, 2, 3, 'w')                                                                                         \
        X(SYS_link, -1, 1, 'w')                                                                                            \
        X(SYS_symlink, -1, 1, 'w')
#else
#define EVIDENCE_NOTIFY_OLD(X)
#endif
#define EVIDENCE_NOTIFY_CALLS(X)                                                                                           \
        EVIDENCE_NOTIFY_OLD(X)                                                                                             \
        X(SYS_openat, 0, 1, 'o')                                                                                           \
        X(SYS_execve, -1, 0, 'x')                                                                                          \
        X(SYS_execveat, 0, 1, 'x')                                                                                         \
        X(SYS_truncate, -1, 0, 'w')                                                                                        \
        X(SYS_unlinkat, 0, 1, 'w')                                                                                         \
        X(SYS_mkdirat, 0, 1, 'w')                                                                                          \
        X(SYS_renameat2, 2, 3, 'w')                                                                                        \
        X(SYS_linkat, 2, 3, 'w')                                                                                           \
        X(SYS_symlinkat, 1, 2, 'w')
