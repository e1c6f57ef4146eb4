/* SPDX-License-Identifier: Apache-2.0 */
#include "bucket.h"

#include "common/util.h"

#define SECOND 1000000000ull

void bucket_init(struct bucket *b, uint64_t rate, uint64_t burst, uint64_t now_ns) {
        burst = burst ? burst : rate;
        *b = (struct bucket){.rate = rate, .burst = burst, .level = burst, .last_ns = now_ns};
}

uint64_t bucket_level(struct bucket *b, uint64_t now_ns) {
        if (b->rate == 0)
                return UINT64_MAX;
        uint64_t passed = now_ns > b->last_ns ? now_ns - b->last_ns : 0;
        if (passed >= SECOND * (b->burst / b->rate + 1)) {
                b->level = b->burst;
                b->last_ns = now_ns;
                return b->level;
        }
        __extension__ unsigned __int128 product = (unsigned __int128)b->rate * passed;
        uint64_t more = (uint64_t)(product / SECOND);
        if (more > 0) { /* the clock moves by whole tokens only, so that fractions are not lost */
                b->level = MIN_OF(b->burst, b->level + more);
                b->last_ns += (uint64_t)((unsigned __int128)more * SECOND / b->rate);
        }
        return b->level;
}

void bucket_change(struct bucket *b, uint64_t rate, uint64_t burst, uint64_t now_ns) {
        uint64_t level = bucket_level(b, now_ns);

        bucket_init(b, rate, burst, now_ns);
        b->level = MIN_OF(b->level, level);
}

void bucket_take(struct bucket *b, uint64_t n) {
        if (b->rate)
                b->level -= MIN_OF(b->level, n);
}
