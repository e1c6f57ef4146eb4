/* SPDX-License-Identifier: Apache-2.0 */
/* Freezing and thawing an agent. */
#pragma once

#include "client.h"

struct hold_call {
        const char *agent, *task; /* one of the two; NULL: the other */
        const char *reason;       /* NULL: none */
        bool thaw;
};
/* *out is valid until the next frame is asked for. */
int hold_call(struct client *c, const struct hold_call *call, const Crew__AgentHeld **out, struct cli_problem *problem);
