/* SPDX-License-Identifier: Apache-2.0 */
/*
 * "At most MAX in PERIOD": a sliding window over the last events, on an injected clock.  Counts protocol violations and
 * restarts.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#define RATE_MAX 64u

struct rate {
        uint64_t period_ns;
        uint32_t max; /* at most RATE_MAX; 0: the first event already exceeds */
        uint32_t n;   /* events held, newest last */
        uint64_t at_ns[RATE_MAX];
};

/* One as another process has left it: it can be used. */
bool rate_fits(const struct rate *r);
void rate_init(struct rate *r, uint32_t max, uint64_t period_ns);
/* Events of the last period. */
uint32_t rate_count(struct rate *r, uint64_t now_ns);
/* Notes one event; true when there are now more than max within the period (it is not held then). */
bool rate_exceeded_by(struct rate *r, uint64_t now_ns);
