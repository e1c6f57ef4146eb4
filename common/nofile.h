/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The limit of open files.  Programs of ours that hold descriptors for every agent raise the soft one to the hard one;
 * programs that are not ours get the one that was there before: some close every possible descriptor, one by one, or use
 * select(2).
 */
#pragma once

#include <stdint.h>

void nofile_raise(void);
/* Before an exec, in the child: what nofile_raise() found.  Async-signal-safe. */
void nofile_lower(void);
/* How many this process may have open now. */
uint64_t nofile_limit(void);
