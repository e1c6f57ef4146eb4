/* SPDX-License-Identifier: Apache-2.0 */
/*
 * crewd <-> spawner: fixed-layout messages over one SOCK_SEQPACKET pair made before crewd starts anything else.
 *
 * The spawner is crew-worker run as `crew-worker --spawner FD`: small, single-threaded, in root mode the only
 * privileged process.  It validates each plan, clones the jail, checks it from outside, watches the pidfd, kills and
 * reaps.  One reply SPAWN_READY or SPAWN_FAILED per SPAWN_START; one SPAWN_EXITED per SPAWN_READY.
 * When crewd's end closes, the spawner kills every jail, removes its cgroups and exits; unless SPAWN_HOLD told it to wait,
 * for so long, for one who comes to the listening socket it was given and knows the token: another crewd, which says
 * SPAWN_ADOPT and is its crewd from then on, or crewctl, which asks and kills.  One at a time; of its own uid.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

/* The .cookie of a SPAWN_FREEZE for want of a record: it must not run, and is never thawed for taking too long to stop. */
#define SPAWN_UNRECORDED UINT32_MAX
enum spawn_op {
        /* crewd -> spawner */
        SPAWN_START = 1, /* fds: plan memfd, then up to SPAWN_LOCKS_MAX that are kept as long as .id is; link path in
                            .text */
        SPAWN_KILL,      /* kill the whole tree of .id now */
        SPAWN_FREEZE,    /* all of .id stands still; one SPAWN_FREEZE_REPLY with its .cookie, when that is so */
        SPAWN_THAW,      /* it goes on; the same */
        SPAWN_STATS,     /* ask for struct spawn_stats of .id; .cookie */
        SPAWN_LIMITS,    /* .limits of the running .id; one SPAWN_LIMITS_REPLY with its .cookie */
        SPAWN_HOLD,      /* fds: a listening SOCK_SEQPACKET socket, the memfd of crewd's state, maybe a file for notes
                            (held_note.h); .hold.  .hold.ms 0: no more */
        SPAWN_RELINK,    /* .id's worker gets a connection to the link path in .text; no reply: it comes or not */
        SPAWN_FORGET,    /* the end of .id is known for good; while there is a SPAWN_HOLD, ends are kept until then */
        /* whoever connects -> spawner whose crewd is gone; each with .hold.token */
        SPAWN_ADOPT,     /* one SPAWN_HELD per live jail, one SPAWN_EXITED per end not forgotten, then SPAWN_HELD_END */
        SPAWN_HELD_ASK,  /* one SPAWN_HELD_END; .text: an agent's name, "" all */
        SPAWN_HELD_KILL, /* .text: the agent's name, "" all, and behind its NUL the reason; then as SPAWN_HELD_ASK */
        /* spawner -> crewd */
        SPAWN_READY = 64, /* fds: pidfd, then the capture listeners (tcp4, tcp6, udp4, udp6) if PLAN_NETRULES, then the
                             seccomp listener if PLAN_NOTIFY */
        SPAWN_FAILED,     /* .errno_, .step, .text; nothing of the jail is left */
        SPAWN_EXITED,     /* whole tree reaped, cgroup removed; .text: why somebody had it killed while no crewd was there,
                             "" nobody; .cookie: the uid of that one */
        SPAWN_STATS_REPLY,
        SPAWN_HELLO, /* first message, unasked: .text says what a crew that died left behind and was removed, "" nothing */
        SPAWN_LIMITS_REPLY, /* .errno_: 0, or why not all of them could be set */
        SPAWN_FREEZE_REPLY, /* .errno_: 0, or why it is not as asked, and as before, but for SPAWN_UNRECORDED; .cookie */
        /* .att; fds as in .cookie (bits of enum spawn_fd) and in that order; .text: why it was killed by SPAWN_HELD_KILL
         * and has not ended, "" it was not; .errno_: by which uid */
        SPAWN_HELD,
        /* .cookie: jails that live; .id: how many were killed by that word; .errno_: how many of those asked for were
         * killed, by whatever word, and have not ended; .hold.ms: how long they will still be held; .hold.lost_ms: since
         * when; to SPAWN_ADOPT, fd: the state */
        SPAWN_HELD_END,
};

#define SPAWN_LOCKS_MAX 2
enum spawn_fd { SPAWN_FD_LISTENERS = 1 /* four */, SPAWN_FD_NOTIFY = 2, SPAWN_FD_LOCKS = 4 /* as many as there were */ };

#define SPAWN_TOKEN_BYTES 32
struct spawn_hold {
        uint64_t ms, lost_ms;
        int32_t pid; /* of the spawner: SO_PEERCRED would name whoever made the socket */
        uint8_t token[SPAWN_TOKEN_BYTES];
};

/* What the spawner saw from outside after the worker reported itself sealed. */
struct spawn_attestation {
        int32_t pid; /* in crewd's pid namespace */
        uint32_t host_uid, host_gid;
        uint32_t seccomp_mode; /* 2 = filter */
        uint32_t no_new_privs;
        uint64_t cap_eff, cap_prm, cap_inh, cap_bnd, cap_amb;
        uint64_t ns_user, ns_pid, ns_mnt, ns_net, ns_ipc, ns_uts; /* inodes; each differs from the spawner's */
        uint32_t landlock_abi;
        uint32_t selftests; /* checks passed inside after sealing */
        uint32_t degraded;  /* bit set of enum plan_feature that are missing here and were allowed to be */
        uint32_t limits_by; /* bit set: 1 cgroup memory, 2 cgroup pids, 4 cgroup cpu, 8 none of them.  What no group
                               limits is by design, and needs no allow_degraded: memory and cpu are then held to by the
                               spawner, from outside, processes by an rlimit, which counts in the jail alone. */
        uint32_t tripwires;
        uint64_t spawn_ns; /* clone to sealed */
};

struct spawn_stats {
        uint64_t cpu_ns, memory_bytes, memory_peak;
        uint32_t processes;
        uint32_t oom_kills;  /* by the kernel in its group, or by the spawner */
        uint32_t open_files; /* of the process that has most of them; 0: not known */
        /* Since the start.  By the control group that limits it (0 without one), and how often it was held back: periods
         * of a group, or stops by the spawner. */
        uint32_t forks_refused, periods_throttled;
        uint64_t tmp_bytes; /* in its private trees, with what crewd put there */
        bool tmp_full;
        bool unheld; /* it ran on although the spawner stopped it */
        bool dying;  /* of those counted in oom_kills one may not be gone yet, or its parent may not know */
};

/* What can change while a jail runs.  0: no limit. */
struct spawn_limits {
        uint64_t memory_bytes;
        uint32_t processes, cpu_milli;
};

struct spawn_exit {
        int32_t code;       /* exit code of the jail's pid 1, -1 when signalled */
        int32_t signal;     /* terminating signal, 0 when exited */
        uint32_t processes; /* alive when the kill was sent, 0 when it exited by itself */
        uint32_t oom_kills;
        uint64_t kill_ns; /* kill sent to all reaped; 0 when it exited by itself */
        struct spawn_stats last;
};

struct spawn_msg {
        uint32_t op;
        uint32_t id; /* chosen by crewd, unique per spawner lifetime */
        int32_t errno_;
        uint32_t cookie; /* SPAWN_STATS, SPAWN_LIMITS, SPAWN_FREEZE, SPAWN_THAW: comes back */
        char step[32];
        char text[512];
        union {
                struct spawn_attestation att;
                struct spawn_stats stats;
                struct spawn_exit exit;
                struct spawn_limits limits;
                struct spawn_hold hold;
        };
};
