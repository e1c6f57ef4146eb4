/* SPDX-License-Identifier: Apache-2.0 */
#include "restart.h"

#include "common/util.h"

void restart_init(struct restart *r, uint32_t max, uint64_t within_ns, uint64_t seed) {
        *r = (struct restart){.seed = seed | 1};
        rate_init(&r->rate, max, within_ns);
}

/* xorshift64*; nobody has to be kept from guessing it. */
static uint64_t next_random(uint64_t *seed) {
        *seed ^= *seed >> 12;
        *seed ^= *seed << 25;
        *seed ^= *seed >> 27;
        return *seed * 0x2545f4914f6cdd1dull >> 11;
}

bool restart_take(struct restart *r, uint64_t now_ns, uint64_t *delay_ns) {
        /* The period alone would forget those whose back-off is as long as it. */
        if (now_ns >= r->back_ns && now_ns - r->back_ns >= r->rate.period_ns)
                r->in_a_row = 0;
        if (rate_exceeded_by(&r->rate, now_ns))
                return false;
        uint64_t most = r->in_a_row < 16 ? RESTART_BACKOFF_FIRST_NS << r->in_a_row : RESTART_BACKOFF_MAX_NS;
        most = MIN_OF(most, RESTART_BACKOFF_MAX_NS);
        r->in_a_row++;
        *delay_ns = most / 2 + next_random(&r->seed) % (most / 2 + 1);
        r->back_ns = now_ns + *delay_ns;
        r->total++;
        return true;
}

void restart_free_of_charge(struct restart *r) {
        r->total++;
}
