/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Why an instance ended that nobody had decided to end.  Pure: from what the spawner saw of the jail's pid 1, and what the
 * worker last said of its long-lived program, which is as true as the jail is intact: a worker can lie about its own
 * end, but only with a cause that is its own.
 */
#pragma once

#include "crew.pb-c.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define CAUSE_TEXT_MAX 512u

struct cause_told { /* AgentEnded */
        bool told;
        Crew__AgentEnd end;
        int code, signal;
        char detail[CAUSE_TEXT_MAX];
};

struct cause {
        Crew__Cause cause;
        const char *initiator;
        const char *limit; /* which one, when one is the reason; else NULL */
        int code, signal;  /* of the program where that is known, else of pid 1 */
        char reason[CAUSE_TEXT_MAX];
};

/* code, signal: of pid 1, -1 and 0 as struct spawn_exit has them; oom: the kernel has just killed something of
 * the jail for memory. */
void cause_find(const struct cause_told *told, int code, int signal, bool oom, struct cause *out);
const char *cause_name(Crew__Cause cause);
