/* SPDX-License-Identifier: Apache-2.0 */
/* crewd <-> its hook runner, a process of the same program.  At most HOOKS_AT_ONCE requests without their reply. */
#pragma once

#include "hooks.h"
#include "termination.h"

struct hook_msg {
        uint64_t id;
        int32_t status; /* reply: exit code, 128 + signal, -1: timed out, -2: could not be started */
        uint32_t n;
        char json[TERMINATION_JSON_MAX];
};

/* Runs hooks until the other end closes.  In hook_runner.c. */
_Noreturn void hook_runner(int fd, const char *const *command);
