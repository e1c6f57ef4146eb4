/* SPDX-License-Identifier: Apache-2.0 */
/* From tables and a profile to instructions: shared by the run-time compiler and the build-time generator. */
#pragma once

#include "common/err.h"

#include <errno.h>
#include <linux/filter.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Compares one argument: (arg & mask) == value, or != for FILTER_NE.  The kernel ignores the upper half of arguments it
 * declares as int, so a rule about such an argument must mask it, or setting bit 32 would slip past. */
struct filter_cond {
        uint8_t arg;
        bool not_equal; /* mask must be all ones */
        uint64_t mask, value;
};
#define FILTER_INT 0xffffffffu /* mask of an int argument */

#define FILTER_CONDS_MAX 3
#define FILTER_NAME_MAX 28
struct filter_row {
        char name[FILTER_NAME_MAX];                 /* not a pointer: nothing in these tables is written when we start */
        int number;                                 /* for calls newer than libseccomp; 0: look the name up */
        int errno_;                                 /* refused-if and otherwise */
        bool never;                                 /* otherwise: no profile may allow it */
        struct filter_cond conds[FILTER_CONDS_MAX]; /* mask 0 ends */
};

extern const struct filter_row filter_refused_if[], filter_allowed_if[], filter_otherwise[];
extern const size_t filter_refused_if_n, filter_allowed_if_n, filter_otherwise_n;
extern const char filter_allowed[][FILTER_NAME_MAX]; /* unconditionally; "" ends */

#define FILTER_PROFILE_CALLS_MAX 128
#define FILTER_PROFILE_BYTES_MAX 65536
struct filter_profile {
        size_t n;
        int numbers[FILTER_PROFILE_CALLS_MAX];
};
/* Lines "allow NAME", "#" starts a comment.  -EINVAL with file:line. */
int filter_profile_parse(const char *file, const char *text, size_t n, struct filter_profile *out, struct crew_err *err);

#define FILTER_MAX_INSNS 4096
struct filter_program {
        size_t n;
        struct sock_filter insns[FILTER_MAX_INSNS];
};
int filter_build(const struct filter_profile *profile, struct filter_program *out, struct crew_err *err);

/* Made by filter_gen.c from policies/seccomp at build time; ends with name NULL. */
struct filter_builtin {
        const char *name;
        const char *text; /* of the profile file */
        size_t text_len;
        const struct sock_filter *insns;
        size_t n_insns;
};
extern const struct filter_builtin filter_builtins[];
