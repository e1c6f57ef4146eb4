/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A bucket of tokens on an injected clock: a burst of max, then rate a second.  For what an agent can cause at will and
 * honest ones cause rarely.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct meter {
        int64_t tokens; /* negative: spent in advance, by one that was larger than what was there */
        int64_t max;
        uint64_t rate, at_ns;
};

void meter_init(struct meter *m, int64_t max, uint64_t rate, uint64_t now_ns);
/* Takes n tokens if there are so many. */
bool meter_take(struct meter *m, int64_t n, uint64_t now_ns);
/* Takes n tokens, there or not; false when none is left. */
bool meter_spend(struct meter *m, int64_t n, uint64_t now_ns);
void meter_fill(struct meter *m);
