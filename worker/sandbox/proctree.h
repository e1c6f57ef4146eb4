/* SPDX-License-Identifier: Apache-2.0 */
/* Counting a jail's processes through /proc where no cgroup does it: exact while nothing forks, bounded always. */
#pragma once

#include "common/spawn.h"

#include <stdbool.h>
#include <sys/types.h>

/* Comes before a kill, so it gives up after half a millisecond: then at least so many. */
uint32_t proctree_count(pid_t root);
/* cpu time, resident memory and processes of root and all below it.  Pages that several of them map count for each; only
 * when that comes to more than suspicious_bytes (0: never) they are divided among those that map them, which costs a walk
 * through their memory. */
void proctree_stats(pid_t root, uint64_t suspicious_bytes, struct spawn_stats *out);
/* SIGSTOP to root and all below it, again and again until none is left that could fork another; or SIGCONT.  -ETIMEDOUT:
 * something still runs after wait_ns. */
int proctree_stop(pid_t root, bool on, uint64_t wait_ns);
/* Open descriptors of the process of the tree that has most of them. */
uint32_t proctree_most_files(pid_t root);
