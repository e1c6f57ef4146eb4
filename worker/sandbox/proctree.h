/* SPDX-License-Identifier: Apache-2.0 */
/* Counting a jail's processes through /proc where no cgroup does it: exact while nothing forks, bounded always. */
#pragma once

#include "common/spawn.h"

#include <sys/types.h>

/* Comes before a kill, so it gives up after half a millisecond: then at least so many. */
uint32_t proctree_count(pid_t root);
/* cpu time, resident memory and processes of root and all below it. */
void proctree_stats(pid_t root, struct spawn_stats *out);
