/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The agents' seccomp program: an allow-list, compiled from tables (filter_table.c) plus a named profile.
 *
 * Three stages, in this order, for the native architecture; every other architecture, int 0x80 and x32 kill the process:
 *   1. refused-if: argument combinations that are refused whatever else is allowed (TIOCSTI, set-user-ID modes, ...)
 *   2. allowed:    the list, some calls only with certain arguments, plus what the profile adds
 *   3. otherwise:  the errno by call; ENOSYS for everything unknown, so that programs fall back as on an older kernel
 *
 * The profiles in policies/seccomp are compiled at build time, for libseccomp needs several milliseconds each; a file
 * that is not byte for byte what was built in, or is not built in at all, is compiled when it is used.
 */
#pragma once

#include "common/err.h"

#include <linux/filter.h>
#include <stddef.h>

#define FILTER_DEFAULT_PROFILE "default"

/*
 * The program of a profile: NAME.profile in <config>/seccomp, then in <data>/seccomp, then the built-in of that name.
 * *insns is malloc'd.  -ENOENT: no such profile, err lists the known ones.  -EINVAL: err has file:line and what is wrong.
 */
int filter_compile(const char *profile, struct sock_filter **insns, size_t *n_insns, struct crew_err *err);

/* Names of the built-in profiles, NULL-terminated. */
const char *const *filter_builtin_names(void);
