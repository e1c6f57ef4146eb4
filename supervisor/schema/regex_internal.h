/* SPDX-License-Identifier: Apache-2.0 */
/* The program that regex_compile() makes and regex_search() runs. */
#pragma once

#include "regex.h"

#include <stdbool.h>

#define REGEX_MAX_RANGES 4096u

enum regex_op { REGEX_SET, REGEX_SPLIT, REGEX_JUMP, REGEX_BEGIN, REGEX_END, REGEX_ACCEPT };

struct regex_range {
        uint32_t lo, hi;
};

struct regex_inst {
        uint8_t op;
        bool negate;       /* SET */
        uint16_t x, y;     /* SPLIT, JUMP: targets */
        uint16_t first, n; /* SET: ranges */
};

struct regex {
        uint32_t n_insts, n_ranges;
        struct regex_inst insts[REGEX_MAX_PROGRAM];
        struct regex_range ranges[REGEX_MAX_RANGES];
};
