/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Each of many has its turn once a period, some at a time, so that no moment has all of them.  On an injected clock.
 *
 *      for (uint32_t k = rounds_due(&r, n, now); k > 0 && there is room; k--)
 *              look at rounds_take(&r, n)
 *      rounds_paused(&r, now)
 *
 * Who has had no turn for want of room is the first of the next step; the round is longer then.  n may change at any time.
 */
#pragma once

#include <stdint.h>

#define ROUNDS_STEPS 20u

/* Zeroed but for period_ns and at_ns. */
struct rounds {
        uint64_t period_ns;
        uint64_t at_ns;   /* the next step */
        uint64_t over_ns; /* of the next round */
        uint32_t turn, left;
};

/* How many have their turn now; 0: nobody yet. */
uint32_t rounds_due(struct rounds *r, uint32_t n, uint64_t now_ns);
/* Which: below n, which is not 0. */
uint32_t rounds_take(struct rounds *r, uint32_t n);
/* A step that was due is over. */
void rounds_paused(struct rounds *r, uint64_t now_ns);
