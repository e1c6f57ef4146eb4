/* SPDX-License-Identifier: Apache-2.0 */
/* What every supervisor unit test needs: cmocka's includes, and random numbers that repeat. */
#pragma once

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* xorshift64*: the same trace for the same seed, everywhere. */
static inline uint32_t test_random(uint64_t *seed, uint32_t below) {
        *seed ^= *seed >> 12;
        *seed ^= *seed << 25;
        *seed ^= *seed >> 27;
        return (uint32_t)((*seed * 0x2545f4914f6cdd1dull) >> 33) % below;
}
