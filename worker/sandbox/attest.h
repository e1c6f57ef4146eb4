/* SPDX-License-Identifier: Apache-2.0 */
/* What can be seen of a jail from outside: the kernel's word, not the child's. */
#pragma once

#include "common/plan.h"
#include "common/spawn.h"

/* What the jail has from us: how many system call filters we are under (-1: the kernel does not say).  It may be asked once
 * the jail is cloned. */
int attest_own_filters(int *out, struct crew_err *err);
/* Reads the facts about pid (proc_dir: its open /proc directory) and refuses a jail that is not what the plan says. */
int attest_child(int proc_dir, const struct plan *plan, int own_filters, struct spawn_attestation *att,
                 struct crew_err *err);
