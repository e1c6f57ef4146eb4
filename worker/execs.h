/* SPDX-License-Identifier: Apache-2.0 */
/* `crewctl exec`: a command of the operator in the agent's layer, its streams as frames.  One ExecExit for each start. */
#pragma once

#include "program.h"

void execs_init(struct worker *w);
void exec_start(struct worker *w, uint64_t seq, const Crew__ExecStart *s);
void exec_input(struct worker *w, uint64_t corr, const Crew__ExecInput *i);
