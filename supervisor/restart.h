/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How often and how soon one agent may be started again: OTP's restart intensity with an exponential back-off and jitter.
 * Whether it is wanted at all is supervision.h's question.  Pure, on an injected clock, with a generator of its own.
 */
#pragma once

#include "rate.h"

#define RESTART_BACKOFF_FIRST_NS                                                                                           \
        100000000ull /* 100 ms, doubled for each instance in a row that did not live for the period */
#define RESTART_BACKOFF_MAX_NS 10000000000ull /* 10 s */

struct restart {
        struct rate rate;
        uint32_t total; /* restarts so far, for status */
        uint64_t seed;
        uint32_t in_a_row;
        uint64_t back_ns; /* when the last one was due */
};

/* max 0: never.  seed: any number; agents that die together should not come back together. */
void restart_init(struct restart *r, uint32_t max, uint64_t within_ns, uint64_t seed);
/* One instance has died and is to be replaced.  True: *delay_ns is filled, between half of the back-off and all of it, and
 * the restart is counted.  False: there were as many as may be. */
bool restart_take(struct restart *r, uint64_t now_ns, uint64_t *delay_ns);
/* One that is not the agent's own doing: at once, and not held against it. */
void restart_free_of_charge(struct restart *r);
