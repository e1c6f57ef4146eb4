/* SPDX-License-Identifier: Apache-2.0 */
#include "rounds.h"

#include "common/util.h"

uint32_t rounds_due(struct rounds *r, uint32_t n, uint64_t now_ns) {
        if (n == 0 || now_ns < r->at_ns)
                return 0;
        if (r->left == 0) {
                r->left = n;
                r->over_ns = now_ns + r->period_ns;
        }
        return MIN_OF(r->left, (n + ROUNDS_STEPS - 1) / ROUNDS_STEPS);
}

uint32_t rounds_take(struct rounds *r, uint32_t n) {
        r->left -= r->left > 0;
        r->turn = (r->turn + 1) % n;
        return r->turn;
}

void rounds_paused(struct rounds *r, uint64_t now_ns) {
        if (now_ns >= r->at_ns)
                r->at_ns = r->left > 0 ? now_ns + r->period_ns / ROUNDS_STEPS : r->over_ns;
}
