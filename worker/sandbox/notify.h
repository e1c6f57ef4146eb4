/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Rootless evidence: a seccomp filter that reports opens, execs and connects to a listener outside.  The answer is always
 * "go on": it observes, it does not decide, for what it sees can change before the kernel looks again.
 */
#pragma once

#include "common/err.h"

/* In the child, before the main filter (which refuses a second listener).  fd or -errno. */
int notify_install(struct crew_err *err);
/* Outside, while the child still seals itself: lets one reported call go on.  0 or -errno. */
int notify_pass(int fd);
