/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Programs see a kernel without Landlock where the kernel's record of denials is evidence: a domain of their own below
 * ours, made with the log switched off, would make every denial after it silent.  (ENOSYS is what programs that confine
 * themselves know how to take.)
 *
 * One filter does that for all programs of a worker; on each it would cost as much as a third of its exec.  What the worker
 * has to do with Landlock after that is let through by a number that only it knows, in an argument that these calls do not
 * have.  Nobody below can read our memory, a filter, or the arguments of others.
 */
#pragma once

#include <linux/filter.h>
#include <stdint.h>

#define LANDLOCK_HIDE_INSNS 12

/* For this process and whatever it starts from now on; once, and needs no_new_privs.  0 or -errno: nothing is hidden. */
int landlock_hide(void);

/* Takes as long for a number that is half right as for any other: who can time a call must not find one half, and then the
 * other. */
void landlock_hide_filter(uint64_t pass, struct sock_filter out[LANDLOCK_HIDE_INSNS]);
