/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Tool runs: a ToolGrant becomes a fresh process in the tool's own layer, and exactly one ToolReturn.
 * At most MAX_TOOL_RUNS run at once; MAX_TOOL_WAITING wait.
 */
#pragma once

#include "program.h"

void tools_init(struct worker *w);
void tool_grant(struct worker *w, uint64_t corr, const Crew__ToolGrant *g);
