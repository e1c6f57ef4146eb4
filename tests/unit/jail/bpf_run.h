/* SPDX-License-Identifier: Apache-2.0 */
/* An interpreter of classic BPF as seccomp uses it, and what the tests of seccomp programs share. */
#pragma once

#include "common/err.h"
#include "worker/sandbox/filter_build.h"

#include <linux/seccomp.h>
#include <stddef.h>
#include <stdint.h>

struct program {
        struct sock_filter *insns;
        size_t n;
};

/* The verdict.  A jump or an opcode outside of classic BPF is a failed test. */
uint32_t bpf_run(const struct program *p, const struct seccomp_data *data);

/* The same tables and profile, compiled by libseccomp. */
int filter_reference(const struct filter_profile *profile, struct filter_program *out, struct crew_err *err);
