/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Is an agent well?  What its crew file's `health:` says is done every so often: a command in its jail, by the worker's
 * exec path, or a sign of life asked of its program (stdio-rpc).  The answer comes out of the jail: it tells what is
 * broken, not what is hostile.
 *
 *   STARTING --passed--> PASSING --failed--> FAILING --passed--> PASSING
 *      |                                        |
 *      +-- not within its start time            +-- `failures` times in a row: killed, CAUSE_HEALTH
 *          killed, CAUSE_START_FAILED
 *
 * While it is STARTING it gets no tasks, and the crew is not up.
 */
#pragma once

#include "agent.h"

/* The instance is ready: its first check is due. */
void health_begin(struct agent *a);
void health_expire(struct agent *a, uint64_t now_ns);
/* So long nobody was there to hear of it. */
void health_put_off(struct agent *a, uint64_t ns);
uint64_t health_next_deadline(const struct agent *a);
/* Declared, and never passed by this instance. */
bool health_starting(const struct agent *a);
/* From the worker; false: not of a check. */
bool health_output(struct agent *a, const Crew__Envelope *e);
bool health_exit(struct agent *a, const Crew__Envelope *e);
void health_pong(struct agent *a, const Crew__Envelope *e);
/* "" (none declared), "starting", "passing", "failing 2 of 3: exit status 1: no space left" */
#define HEALTH_TEXT_MAX 256
void health_text(const struct agent *a, char out[HEALTH_TEXT_MAX]);
