/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Whether a dead agent gets another instance, and when: OTP's restart intensity with an exponential back-off.
 * Pure, on an injected clock.
 */
#pragma once

#include "rate.h"

#define RESTART_BACKOFF_FIRST_NS 100000000ull /* 100 ms, doubled for each restart within the period */
#define RESTART_BACKOFF_MAX_NS 10000000000ull /* 10 s */

struct restart {
        struct rate rate;
        uint32_t total; /* restarts so far, for status */
};

enum restart_outcome { RESTART_NEVER, RESTART_GIVE_UP, RESTART_AFTER };

/* max 0: never. */
void restart_init(struct restart *r, uint32_t max, uint64_t within_ns);
bool restart_wanted(const struct restart *r);
/* Would one more be allowed now?  Changes nothing but forgetting what is out of the window. */
bool restart_possible(struct restart *r, uint64_t now_ns);
/* One instance has died.  RESTART_AFTER fills *delay_ns and counts the restart. */
enum restart_outcome restart_decide(struct restart *r, uint64_t now_ns, uint64_t *delay_ns);
