/* SPDX-License-Identifier: Apache-2.0 */
/* The sliding window.  An event exactly one period old no longer counts. */
#include "rate.h"

#include "common/util.h"

#include <string.h>

void rate_init(struct rate *r, uint32_t max, uint64_t period_ns) {
        *r = (struct rate){.period_ns = period_ns, .max = MIN_OF(max, RATE_MAX)};
}

bool rate_fits(const struct rate *r) {
        return r->max <= RATE_MAX && r->n <= RATE_MAX;
}

uint32_t rate_count(struct rate *r, uint64_t now_ns) {
        uint32_t old = 0;

        while (old < r->n && now_ns >= r->at_ns[old] && now_ns - r->at_ns[old] >= r->period_ns)
                old++;
        if (old > 0) {
                r->n -= old;
                memmove(r->at_ns, r->at_ns + old, r->n * sizeof(r->at_ns[0]));
        }
        return r->n;
}

bool rate_exceeded_by(struct rate *r, uint64_t now_ns) {
        if (rate_count(r, now_ns) >= r->max)
                return true;
        r->at_ns[r->n++] = now_ns;
        return false;
}
