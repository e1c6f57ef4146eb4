/* SPDX-License-Identifier: Apache-2.0 */
/* Plain arithmetic: no clock is read here. */
#include "cpu_share.h"

#include "common/util.h"

#define LOOK_MIN_NS 2000000u
#define LOOK_MAX_NS 20000000u
#define ELAPSED_MAX_NS (3600ull * 1000000000u) /* what comes later fills no more than that */
#define OWED_MAX_NS (1ll << 60)

static uint64_t worth(const struct cpu_share *s, uint64_t elapsed_ns) {
        return MIN_OF(elapsed_ns, ELAPSED_MAX_NS) / 1000u * s->milli;
}

void cpu_share_init(struct cpu_share *s, uint32_t milli, uint64_t now_ns) {
        *s = (struct cpu_share){.milli = milli, .at_ns = now_ns};
        s->left_ns = (int64_t)worth(s, CPU_SHARE_PERIOD_NS);
}

uint64_t cpu_share_use(struct cpu_share *s, uint64_t used_ns, uint64_t now_ns) {
        if (s->milli == 0)
                return 0;
        int64_t most = (int64_t)worth(s, CPU_SHARE_PERIOD_NS);
        int64_t filled = s->left_ns + (int64_t)worth(s, now_ns - MIN_OF(s->at_ns, now_ns));
        s->left_ns = MIN_OF(filled, most) - (int64_t)MIN_OF(used_ns, (uint64_t)OWED_MAX_NS);
        s->left_ns = MAX_OF(s->left_ns, -OWED_MAX_NS);
        s->at_ns = now_ns;
        if (s->left_ns >= 0)
                return 0;
        return MIN_OF((uint64_t)-s->left_ns / s->milli * 1000u + 1000u, (uint64_t)CPU_SHARE_STOP_MAX_NS);
}

uint64_t cpu_share_look_ns(const struct cpu_share *s, unsigned cpus) {
        uint64_t ns = worth(s, CPU_SHARE_PERIOD_NS) / MAX_OF(cpus, 1u);

        return s->milli == 0 ? LOOK_MAX_NS : MIN_OF(MAX_OF(ns, (uint64_t)LOOK_MIN_NS), (uint64_t)LOOK_MAX_NS);
}
