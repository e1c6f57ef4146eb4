/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Frames from a worker: accepted by the pipeline of ipc-schema, checked for sequence, then handed to their handler.
 * Everything here comes out of a jail.
 */
#pragma once

#include "agent.h"

/* The end of a task, checked as a frame but for its task. */
void dispatch_task_result(struct agent *a, const Crew__TaskResult *r);
void dispatch_frame(struct agent *a, const uint8_t *bytes, size_t n);
/* Something this agent's worker sent cannot be right: recorded; the fifth in ten seconds, or a fatal one, kills. */
void dispatch_violation(struct agent *a, const char *body, const char *field, const char *rule, bool fatal);
