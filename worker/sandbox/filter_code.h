/* SPDX-License-Identifier: Apache-2.0 */
/*
 * From rules to instructions of classic BPF, laid out backwards: what is jumped to stands already when the jump to it is
 * made, so every distance is known.  A place is counted from the end.  A condition reaches 255 instructions; what lies
 * further gets a relay on the way.
 */
#pragma once

#include "filter_build.h"

/* One look at 32 bits of struct seccomp_data. */
struct filter_test {
        uint32_t word; /* offset */
        uint32_t not_equal;
        uint32_t mask, value; /* (word & mask) == value, or != */
};

struct filter_rule { /* every test holds: go to verdict, a place */
        uint32_t n;
        struct filter_test tests[2 * FILTER_CONDS_MAX];
        uint32_t verdict;
};
#define FILTER_RULES_MAX 64 /* for one call */

struct filter_run { /* the numbers from .first to the next run's go to target, a place */
        uint32_t first, target;
};

struct filter_code {
        size_t n;
        bool full;                                  /* sticky: it did not fit */
        uint16_t relay[FILTER_MAX_INSNS + 1];       /* by place: the nearest instruction that leads there, 0: itself */
        struct sock_filter insns[FILTER_MAX_INSNS]; /* the last n of them */
};

/* Each puts itself in front of what is there, and returns its place. */
uint32_t filter_code_return(struct filter_code *c, uint32_t action);
/* The first rule that holds, else otherwise. */
uint32_t filter_code_rules(struct filter_code *c, const struct filter_rule *rules, size_t n, uint32_t otherwise);
/* A search tree over the number of the call.  The first run begins at 0. */
uint32_t filter_code_search(struct filter_code *c, const struct filter_run *runs, size_t n);
/* The beginning of all: kill what is not of this architecture, load the number, go to start. */
void filter_code_begin(struct filter_code *c, uint32_t arch, uint32_t kill, uint32_t start);
