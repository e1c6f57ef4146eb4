/* SPDX-License-Identifier: Apache-2.0 */
/*
 * <state>/<crew>/state/<agent>/: what an agent keeps between its runs, in its jail as /home/agent/state.
 *
 * <agent>.lock beside it is held from before an instance is made until it is buried, so that crewctl state import and reset
 * never meet a running one.  `state: fresh` begins each instance with an empty directory; what the one before left is put
 * aside by a rename and removed on a thread of its own, for an agent may have made any number of files.
 */
#pragma once

#include "agent.h"

#include <uv.h>

/* Names of the directories; makes <state>/<crew>/state.  c->states_dir is a path without links. */
int state_dirs_init(struct crewd *c, struct crew_err *err);
/* Removes what a crewd before this one had put aside. */
void state_dirs_sweep(struct crewd *c);
/* No removal and no measurement is under way. */
bool state_dirs_idle(const struct crewd *c);
/* Somebody else has it: crewctl state, or what a crewd before this one has left. */
bool state_dir_in_use(const struct agent *a);
/* Against crewctl state import and reset; -EBUSY: one of them has it. */
int state_dir_lock(struct agent *a, struct crew_err *err);
/* Before a start: locked, there, and empty if it is to be.  -EBUSY: crewctl has it. */
int state_dir_take(struct agent *a, struct crew_err *err);
/* Looks how much a live one keeps, on a thread of its own, unless that was done just now; more than `state_max` of the crew
 * file ends it. */
void state_dir_measure(struct agent *a);
/* uv_queue_work() for what has to do with them.  Counts as c->removals are the caller's. */
int state_dir_queue(struct crewd *c, uv_work_t *work, uv_work_cb run, uv_after_work_cb after);
/* Removes a directory beside those of the agents, on a thread of its own. */
void state_dir_discard(struct crewd *c, const char *name);
/* A new name for one that the next crewd removes, should this one not come to it. */
void state_dir_aside_name(const struct agent *a, char *out, size_t size);
/* After the end. */
void state_dir_release(struct agent *a);
/* Where it is, whether or not it is there; NULL: the agent has none. */
const char *state_dir_path(const struct agent *a);
