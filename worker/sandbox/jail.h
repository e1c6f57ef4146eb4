/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The jail: from a checked plan to a sealed process, in one ordered table of steps, each fatal on failure.
 *
 * Used by the spawner (crews) and by crewctl sandbox (one command, no daemon).  The caller is single-threaded.
 */
#pragma once

#include "netpool.h"

#include "common/plan.h"
#include "common/spawn.h"

#include <sched.h>
#include <sys/types.h>

#define JAIL_GROUPS_MAX 4 /* memory, pids, cpu, freezer */

/* What the sealed child runs; never returns.  In the child: pid 1 of its pid namespace, sealed, link_fd connected (or
 * -1), listeners in the order of SPAWN_READY (or -1). */
struct jail_child {
        const struct plan *plan;
        int link_fd;
        int stdio[3]; /* sandbox: what the command gets */
        /* Sandbox: version 1 groups that the command joins, and pid 1 does not, so that they are empty when it has ended;
         * -1: none.  And where its status is said, one byte, when nothing of the command lives any more; the end of file
         * there says that pid 1 may end. */
        int groups[JAIL_GROUPS_MAX];
        int status_fd;
        const cpu_set_t *cpus; /* what the caller of jail_spawn() may run on, when pid 1 was moved away from it; NULL */
        int lifeline;          /* PLAN_HOLD: where the spawner hands over another link, as jail_relink() does; else -1 */
};
typedef void (*jail_main_fn)(const struct jail_child *c, void *user);

/*
 * For a process that makes one jail and dies: a child that is already there, and makes its network namespace, while the
 * caller still reads policies and plans.  Only for plans with PLAN_SANDBOX.
 */
struct jail_ahead;
/* 0, or negative with nothing left.  Signals meant for the command must be blocked before. */
int jail_ahead_open(jail_main_fn main, void *user, struct jail_ahead **out, struct crew_err *err);
/* Kills and reaps a child that no jail_spawn() took over.  NULL is fine. */
void jail_ahead_close(struct jail_ahead *a);

struct jail_spawn_args {
        const struct plan *plan;
        const char *link_path; /* NULL: no link */
        int stdio[3];          /* sandbox; -1: none */
        jail_main_fn main;
        void *user;
        /* Made ahead (netpool.h), for a plan with PLAN_NETRULES; NULL: the jail makes its own.  jail_spawn() takes the
         * listeners out of it; the namespace stays the caller's to close. */
        struct netpool_entry *net;
        int own_net_ns; /* with net: where to come back to */
        /* Consumed, whatever the outcome; main and user are those it was opened with.  NULL: the child is made now. */
        struct jail_ahead *ahead;
};

struct jail { /* owned by the caller; JAIL_NULL */
        pid_t pid;
        int pidfd;
        int listeners[4]; /* tcp4 tcp6 udp4 udp6; -1 when the plan has no netrules */
        int notify_fd;    /* -1 when the plan has no notify */
        int tmp_dir;      /* its /tmp, to see how full that is; -1 */
        int mnt_ns;       /* keeps the mounts until jail_fini(): taking them down is not part of dying */
        int kill_fd;      /* cgroup_kill_open()'s; -1 */
        struct spawn_attestation att;
        char step[32];               /* the last step; after a failure the one that failed */
        char cgroup[128];            /* name below our cgroup root, "" when none */
        uint64_t kill_sent_ns;       /* jail_kill_begin: when, 0 never */
        uint32_t kill_processes;     /* ... and how many lived */
        int lifeline;                /* the other end of jail_child.lifeline; -1 */
        int status_fd;               /* sandbox: the other end of jail_child.status_fd; -1 */
        bool born_in_group;          /* pid 1 itself is in it */
        uint64_t freeze_ns;          /* jail_freeze(): when, 0: it runs */
        bool stopped;                /* ... by signals */
        struct cgroup_quota *lifted; /* ... owned; what was in its way, NULL: nothing */
        bool kill_pressed;           /* jail_kill_press() was called */
        struct governor *governor;   /* owned; NULL: control groups do it all */
};
#define JAIL_NULL                                                                                                          \
        ((struct jail){.pid = -1,                                                                                          \
                       .pidfd = -1,                                                                                        \
                       .listeners = {-1, -1, -1, -1},                                                                      \
                       .notify_fd = -1,                                                                                    \
                       .tmp_dir = -1,                                                                                      \
                       .mnt_ns = -1,                                                                                       \
                       .kill_fd = -1,                                                                                      \
                       .status_fd = -1,                                                                                    \
                       .lifeline = -1})

/* Clones, seals, checks from outside.  0: sealed and attested.  On failure nothing of it is left; err->msg begins with the
 * failed step and ": ", out->step is that step. */
int jail_spawn(const struct jail_spawn_args *args, struct jail *out, struct crew_err *err);
/*
 * The same in two halves, for an event loop that makes several at a time: jail_begin() clones the child and does what is
 * ours to do; when jail_start_fd() is readable, or at jail_start_by(), jail_finish() takes its word, looks at it from
 * outside, and ends the start whatever the outcome.  Neither the plan (plan_open()'s, to be kept until then) nor anything
 * else of the one is in the memory of the other.  out stays where it is until the end; no listener is left in args->net.
 */
struct jail_start;
int jail_begin(const struct jail_spawn_args *args, struct jail *out, struct jail_start **start, struct crew_err *err);
int jail_start_fd(const struct jail_start *s);
uint64_t jail_start_by(const struct jail_start *s);
int jail_finish(struct jail_start *s, struct crew_err *err);
/* Without jail_finish(), for a jail that the caller kills or has killed, before or after. */
void jail_start_forget(struct jail_start *s);
/* Kills the whole tree, reaps pid 1, removes the cgroup. */
int jail_kill(struct jail *j, struct spawn_exit *out);
/* The same in two halves, for an event loop: SIGKILL to everything in it; then, when pidfd is readable, jail_reap(). */
void jail_kill_begin(struct jail *j);
/* When it still lives JAIL_KILL_PATIENCE_MS later: once more by all means, for what somebody else froze.  Not done at once,
 * because a walk through the group takes the very locks that the dying need. */
#define JAIL_KILL_PATIENCE_MS 20
void jail_kill_press(struct jail *j);
/* Reaps pid 1 (the kernel lets it go only after all others), fills out, removes the cgroup, closes all descriptors.
 * -EAGAIN: it still runs (only when !wait). */
int jail_reap(struct jail *j, bool wait, struct spawn_exit *out);
/* After pid 1 has been reaped by the caller (waitid on pidfd): removes cgroup and descriptors. */
void jail_fini(struct jail *j);
/* Sandbox, after a status was said: the same without waiting for pid 1, which has nothing left to do but to end, where that
 * is possible (its group is empty); else it is waited for.  status_fd stays open then: pid 1 ends when the caller has,
 * because what the kernel does to take its namespaces down holds up every process that ends beside it. */
void jail_leave(struct jail *j);

/* Connects to path and gives the worker that connection as its link.  -errno. */
int jail_relink(const struct jail *j, const char *path);

/* By the freezer of its control group, else with signals: the order, which stays in force until jail_thaw().  On a busy
 * machine it takes its time until all of it stands still. */
int jail_freeze(struct jail *j);
int jail_is_frozen(struct jail *j); /* 0, -EAGAIN: not yet, -ESRCH: it is being killed, or another error */
int jail_thaw(struct jail *j);
/* Other limits: by control groups where the jail has them (att.limits_by), memory and processors else by its governor. */
int jail_limit(struct jail *j, const struct spawn_limits *l);
/* To be called at that time and then when it says: see governor_look().  UINT64_MAX: not again, until it is frozen or
 * limited anew. */
uint64_t jail_govern(struct jail *j, uint64_t now_ns);
/* By cgroup where there is one, else by walking the process tree. */
void jail_stats(const struct jail *j, struct spawn_stats *out);

/*
 * Removes what an earlier owner that died left behind: control groups and processes in them.  (Namespaces and mounts go
 * with the last process.)  text gets one line for the log, "" when there was nothing.  Number of leftovers.
 */
unsigned jail_sweep(char *text, size_t room);

/* In the sealed child: takes what jail_relink() sent.  The connection; -EAGAIN: nothing there; another error: the spawner
 * is gone. */
int jail_take_link(int lifeline);

/* In the sealed child: fork, enter a further Landlock layer, exec a program of the plan.  Returns pid or -errno. */
struct jail_exec {
        uint32_t layer;
        const char *const *argv; /* NULL-terminated */
        const char *const *envp;
        int stdio[3];
        bool new_session;  /* setsid; a terminal on stdio[0] becomes its controlling terminal */
        const int *groups; /* version 1 `tasks` files that it joins first; -1: skipped */
        size_t n_groups;
        const cpu_set_t *cpus; /* NULL: those of the caller */
};
/* argv[0] without a slash is looked up in the PATH of envp.  An exec that fails is -errno here, not a dead child.
 * The layer's ruleset is made at its first use and kept. */
pid_t jail_exec_program(const struct plan *plan, const struct jail_exec *x);
