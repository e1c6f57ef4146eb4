/* SPDX-License-Identifier: Apache-2.0 */
/* crewd <-> its hook runner, a process of the same program.  At most HOOKS_HANDED_OUT requests without their reply.
 * A message ends with its text: a datagram of all that there is room for would cost as much as the hook does. */
#pragma once

#include "hooks.h"
#include "termination.h"

struct hook_msg {
        uint64_t id;
        int32_t status; /* reply: exit code, 128 + signal, -1: timed out, -2: could not be started */
        uint32_t n;
        char json[TERMINATION_JSON_MAX];
};
#define HOOK_MSG_HEAD offsetof(struct hook_msg, json)

/* Runs hooks until the other end closes.  In hook_runner.c. */
_Noreturn void hook_runner(int fd, const char *const *command);
