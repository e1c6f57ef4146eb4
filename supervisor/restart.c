/* SPDX-License-Identifier: Apache-2.0 */
#include "restart.h"

#include "common/util.h"

void restart_init(struct restart *r, uint32_t max, uint64_t within_ns) {
        *r = (struct restart){0};
        rate_init(&r->rate, max, within_ns);
}

bool restart_wanted(const struct restart *r) {
        return r->rate.max > 0;
}

bool restart_possible(struct restart *r, uint64_t now_ns) {
        return rate_count(&r->rate, now_ns) < r->rate.max;
}

enum restart_outcome restart_decide(struct restart *r, uint64_t now_ns, uint64_t *delay_ns) {
        if (!restart_wanted(r))
                return RESTART_NEVER;
        uint32_t recent = rate_count(&r->rate, now_ns);
        if (rate_exceeded_by(&r->rate, now_ns))
                return RESTART_GIVE_UP;
        uint64_t delay = recent < 16 ? RESTART_BACKOFF_FIRST_NS << recent : RESTART_BACKOFF_MAX_NS;
        *delay_ns = MIN_OF(delay, RESTART_BACKOFF_MAX_NS);
        r->total++;
        return RESTART_AFTER;
}
