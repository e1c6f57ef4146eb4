/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Landlock layers of a plan, at the highest ABI of the running kernel: every right it knows is handled, so what no rule
 * grants is denied.  The only user of Landlock's system calls.
 */
#pragma once

#include "common/plan.h"

/* The running ABI, 0 when there is none: then *why is ENOSYS (not built) or EOPNOTSUPP (switched off at boot). */
unsigned landlock_abi(int *why);
/*
 * Does the plan accept this kernel?  0, with *degraded naming what is missing and allowed to be; -EOPNOTSUPP with the
 * missing thing in err otherwise.
 */
int landlock_check(const struct plan *plan, unsigned abi, uint32_t *degraded, struct crew_err *err);
/* A ruleset with the rules of one layer, evaluated against the current root.  fd or -errno. */
int landlock_layer_open(const struct plan *plan, uint32_t layer, unsigned abi, struct crew_err *err);
/* Restricts the calling thread; needs no_new_privs.  0 or -errno.  Async-signal-safe. */
int landlock_layer_enter(int ruleset_fd, const struct plan *plan, unsigned abi);
/* Goes into an argument that these calls do not have, for the filter that refuses them to everybody else (landlock_hide.h).
 */
void landlock_layer_pass(uint64_t number);
