/* SPDX-License-Identifier: Apache-2.0 */
/* Whole tokens only; the time that makes less than one stays on the clock. */
#include "meter.h"

#include "common/util.h"

#define SECOND_NS 1000000000u

void meter_init(struct meter *m, int64_t max, uint64_t rate, uint64_t now_ns) {
        *m = (struct meter){.tokens = max, .max = max, .rate = rate, .at_ns = now_ns};
}

static void earn(struct meter *m, uint64_t now_ns) {
        if (now_ns <= m->at_ns)
                return;
        /* An hour fills any bucket, and its product fits. */
        uint64_t passed = MIN_OF(now_ns - m->at_ns, 3600ull * SECOND_NS), earned = passed * m->rate / SECOND_NS;

        if (earned == 0)
                return;
        m->tokens = MIN_OF(m->tokens + (int64_t)earned, m->max);
        m->at_ns = m->tokens == m->max ? now_ns : m->at_ns + earned * SECOND_NS / m->rate;
}

bool meter_take(struct meter *m, int64_t n, uint64_t now_ns) {
        earn(m, now_ns);
        if (m->tokens < n)
                return false;
        m->tokens -= n;
        return true;
}

bool meter_spend(struct meter *m, int64_t n, uint64_t now_ns) {
        earn(m, now_ns);
        m->tokens -= n;
        return m->tokens > 0;
}

void meter_fill(struct meter *m) {
        m->tokens = m->max;
}
