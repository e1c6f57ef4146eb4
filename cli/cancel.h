/* SPDX-License-Identifier: Apache-2.0 */
/* Calling a task off: crewctl cancel, and crewctl submit when it is interrupted. */
#pragma once

#include "client.h"

/* task: its id, or its name in the crew file.  Answered by TaskCancelled or Refused; *seq is what they carry as corr. */
int cancel_send(struct client *c, const char *task, const char *reason, uint64_t *seq, struct cli_problem *problem);
/* The same, and waits for the answer. */
int cancel_call(struct client *c, const char *task, const char *reason, const Crew__TaskCancelled **out,
                struct cli_problem *problem);
