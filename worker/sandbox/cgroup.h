/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One control group per jail: crewd/<crew>-<owner pid>.<owner start time>-<n> below our own group.
 *
 * Version 2, hybrid (controllers on version 1, killing and freezing on the unified tree), version 1 alone, or none at
 * all; found out once per process.  A process is never moved by writing its pid into a version 1 group: that waits for
 * an RCU grace period (10 ms here).  The child is born in its version 2 group (CLONE_INTO_CGROUP) and joins the others
 * by writing "0" into `tasks`, which does not (0.01 ms).
 */
#pragma once

#include "common/plan.h"
#include "common/spawn.h"

#include <stdbool.h>

#define CGROUP_NAME_MAX 128
#define CGROUP_V1_N 4 /* memory, pids, cpu, freezer */

enum { CGROUP_MEMORY = 1, CGROUP_PIDS = 2, CGROUP_CPU = 4, CGROUP_RLIMITS = 8 }; /* spawn_attestation.limits_by */

struct cgroup {
        char name[CGROUP_NAME_MAX]; /* "": none here */
        int into;                   /* version 2 directory for CLONE_INTO_CGROUP, -1 */
        int join[CGROUP_V1_N];      /* version 1 `tasks` files, -1 */
        uint32_t limits_by;
};
#define CGROUP_NULL ((struct cgroup){.into = -1, .join = {-1, -1, -1, -1}})

/* Makes the group with the plan's limits (crewctl sandbox: only where a limit needs it, for nobody freezes or counts it),
 * in two halves: the version 2 tree, which the child is born into, and the version 1 trees, which it joins by itself and
 * which can be made meanwhile.  Without usable cgroups name is "" and limits_by CGROUP_RLIMITS.  On failure nothing of
 * the group is left. */
int cgroup_begin(struct cgroup *g, const struct plan *plan, struct crew_err *err);
/* One tree for everything: the child must be born into its group, so that is begun before the clone. */
bool cgroup_unified(void);
int cgroup_complete(struct cgroup *g, const struct plan *plan, struct crew_err *err);
/* In the child. */
int cgroup_join(const struct cgroup *g, struct crew_err *err);
void cgroup_close(struct cgroup *g); /* the descriptors; the group stays */

/* By name, in any process of the same owner.  An empty name is a no-op. */
/* An order, which stays in force: each task stops on its own way out of the kernel.  -EOPNOTSUPP: no tree here can. */
int cgroup_freeze(const char *name, bool on);
bool cgroup_is_frozen(const char *name); /* all of it stands still */
bool cgroup_can_freeze(const char *name);
/* Whom its quota of processor time holds back comes to that way only in the next period, or a later one.  NULL: there is
 * none, or no memory. */
struct cgroup_quota;
struct cgroup_quota *cgroup_lift_quota(const char *name);
int cgroup_put_quota_back(struct cgroup_quota *q); /* frees it; q NULL: 0 */
/* Processor time of all that is and was in it, exact; false: no tree here knows. */
bool cgroup_cpu_ns(const char *name, uint64_t *out);
/* Other limits for a group that runs: those of limits_by.  The first that cannot be set ends it: -EBUSY, more is in use. */
int cgroup_limit(const char *name, uint32_t limits_by, const struct spawn_limits *l);
/* What cgroup_kill() writes to, of a group whose descriptors are open still: a kill need not look for it.  -1: none here.
 */
int cgroup_kill_open(const struct cgroup *g);
/* SIGKILL to all in it, as far as one write can.  fd: cgroup_kill_open()'s, or -1.  By all means: also where the kernel has
 * no such write, and what a version 1 freezer keeps from dying is thawed. */
void cgroup_kill(const char *name, int fd, bool by_all_means);
int cgroup_count(const char *name); /* tasks, or -1 when no cgroup counts them */
void cgroup_stats(const char *name, struct spawn_stats *out);
int cgroup_remove(const char *name); /* waits for the last task to go, at most a second */

struct cgroup_leftovers {
        unsigned groups, processes;
        char names[400];
};
/* Kills and removes groups whose owner no longer lives. */
void cgroup_sweep(struct cgroup_leftovers *out);
