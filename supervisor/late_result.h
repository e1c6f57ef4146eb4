/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The result of a task whose program was killed, which waits until it is known whether for memory.
 *
 * The worker cannot tell: it sees a SIGKILL.  The spawner can, so it is asked, and answers in a fraction of a millisecond.
 * What the limit has to do with it is on record, and in the error of the task, before the task is over.  An agent that ends
 * meanwhile takes the task with it, as any other in flight; a crewd that takes over asks again.
 */
#pragma once

#include "crew.pb-c.h"

#include <stdbool.h>
#include <stdint.h>

struct agent;

#define LATE_RESULT_COOKIE 1u /* of the question to the spawner */

/* In the instance; plain bytes, saved with it.  "": none waits. */
struct late_result {
        char task_id[64];
        char error[512]; /* as much as is kept of it */
        bool asked;
};

/* True: it waits.  False: it is to be taken as it is. */
bool late_result_hold(struct agent *a, const Crew__TaskResult *r);
/* The spawner's answer is there; usage_seen() has it. */
void late_result_settle(struct agent *a);
/* A crewd before asked, or was about to. */
void late_result_ask_again(struct agent *a);
