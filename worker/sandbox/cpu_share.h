/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How long a jail may run: a bucket that its share of the processors fills and its use empties.
 *
 * What it has used too much is owed: it stands still until that is filled up again, so its share holds over any longer
 * time, however coarse the looks are.  A tenth of a second's worth can be saved up, as in the period of a control group.
 */
#pragma once

#include <stdint.h>

#define CPU_SHARE_PERIOD_NS 100000000u
/* Never longer at a time: what serves the jail must get to answer crewd's pings. */
#define CPU_SHARE_STOP_MAX_NS 2000000000u

struct cpu_share {
        uint32_t milli; /* thousandths of a core; 0: no bound */
        int64_t left_ns;
        uint64_t at_ns;
};

void cpu_share_init(struct cpu_share *s, uint32_t milli, uint64_t now_ns);
/* It has used so much since the call before.  How long from now on it must stand still; 0: it goes on. */
uint64_t cpu_share_use(struct cpu_share *s, uint64_t used_ns, uint64_t now_ns);
/* How soon a jail that runs on so many processors must be looked at, to be stopped in time. */
uint64_t cpu_share_look_ns(const struct cpu_share *s, unsigned cpus);
