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

#define EVIDENCE_PATH_MAX 4096

enum evidence_op {
        /* crewd -> crew-evidence */
        EVIDENCE_WATCH = 1, /* an instance is up.  root: .pid, .uid and watch paths in .path (each NUL-terminated);
                               rootless: one fd, the seccomp listener */
        EVIDENCE_FORGET,    /* instance .id is gone: flush what is known, then EVIDENCE_FORGOTTEN */
        /* crew-evidence -> crewd */
        EVIDENCE_HELLO = 64, /* .flags: which sources work here */
        EVIDENCE_EVENT,
        EVIDENCE_LOST,     /* .count records lost by the kernel for .id (0: unknown whose) */
        EVIDENCE_FORGOTTEN,
};

enum evidence_source { EVIDENCE_LANDLOCK = 1, EVIDENCE_FANOTIFY = 2, EVIDENCE_NOTIFY = 4 };

enum evidence_what {
        EVIDENCE_FILE_OPEN_READ = 1,
        EVIDENCE_FILE_OPEN_WRITE,
        EVIDENCE_FILE_MODIFIED, /* closed after writing */
        EVIDENCE_FILE_DENIED,   /* .access: the Landlock right names, as the kernel prints them */
        EVIDENCE_NET_DENIED,
        EVIDENCE_SCOPE_DENIED,
        EVIDENCE_EXEC,
        EVIDENCE_ATTEMPT, /* rootless: an open, exec or connect was attempted; outcome not known */
};

struct evidence_msg {
        uint32_t op;
        uint32_t id; /* instance, as in spawn_msg */
        uint32_t source;
        uint32_t what;
        uint32_t flags;
        int32_t pid; /* host pid; 0 unknown */
        uint32_t uid;
        uint32_t count; /* identical events folded into this one, at least 1 */
        uint64_t time_ns; /* CLOCK_REALTIME */
        char access[64];
        char comm[16];
        uint32_t path_len; /* bytes used in path, without a NUL; raw bytes, any value */
        char path[EVIDENCE_PATH_MAX];
};
