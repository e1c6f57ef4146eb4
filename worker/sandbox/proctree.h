/* SPDX-License-Identifier: Apache-2.0 */
/* A jail's processes as /proc has them, where no cgroup knows: exact while nothing forks, bounded always. */
#pragma once

#include "common/spawn.h"

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#define PROCTREE_MAX 32770u /* the most that limits.processes may be, and pid 1 */
struct proctree {
        size_t n; /* at least root, whether it lives or not */
        pid_t pids[PROCTREE_MAX];
};
/* Root and all below it, parents first, as far as they were found until deadline_ns.  Valid until the next walk: one at a
 * time, in a single thread. */
const struct proctree *proctree_walk(pid_t root, uint64_t deadline_ns);

/* One process.  False: it is gone. */
struct proctree_process {
        pid_t parent;
        char state; /* as in /proc/PID/stat; 'T', 't', 'Z', 'X': stopped, traced, dead.  Of a thread that lives, if any */
        uint32_t threads;
        uint64_t started_ticks;
        uint64_t cpu_ns, children_ns; /* its own, and of children that it has waited for; in ticks of 10 ms */
        uint64_t resident_bytes;
};
bool proctree_look(pid_t pid, struct proctree_process *out);
/* Its number in the jail's namespace, a child of ours, where each that is made gets the next one; 0: it is gone. */
pid_t proctree_number(pid_t pid);
/* What of it is swapped out, in bytes. */
uint64_t proctree_swapped(pid_t pid);
/* What it takes if all that it shares is divided among those that share it, which costs a walk through its memory; nothing
 * if that is its parent's as a whole.  One that hides that takes all it has, one that died since takes nothing. */
uint64_t proctree_share(pid_t pid);
/* Only if it is root or below it: a pid that was seen may be another process's by now.  root: pid 1 of a pid namespace, a
 * child of ours that is not reaped.  -errno. */
int proctree_signal(pid_t root, pid_t pid, int sig);

/* Comes before a kill, so it gives up after half a millisecond: then at least so many. */
uint32_t proctree_count(pid_t root);
/* cpu time, resident memory and processes of root and all below it.  Pages that several of them map count for each. */
void proctree_stats(pid_t root, struct spawn_stats *out);
/* SIGSTOP to root and all below it that runs.  root: as in proctree_signal().  False: something ran, and may have forked
 * another meanwhile: once more. */
bool proctree_stop(pid_t root);
void proctree_continue(pid_t root); /* SIGCONT */
/* Something of the tree has been killed, and whoever waits for it does not know it yet. */
bool proctree_dying(pid_t root);
/* Open descriptors of the process of the tree that has most of them. */
uint32_t proctree_most_files(pid_t root);
