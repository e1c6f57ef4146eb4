/* SPDX-License-Identifier: Apache-2.0 */
/* The JSON a task starts with, and its frames. */
#pragma once

#include "agent.h"

struct job;

/* Records task.started durably, then sends TaskStart.  0 or -errno with err. */
int taskstart_send(struct agent *a, struct job *j, struct crew_err *err);
void taskstart_cancel(struct agent *a, struct job *j, const char *reason);
