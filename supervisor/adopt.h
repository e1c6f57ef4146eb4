/* SPDX-License-Identifier: Apache-2.0 */
/*
 * on_supervisor_loss: hold.  Taking over the agents of a crewd that is gone; docs/HOLD.md has the whole picture.
 *
 *   held --found, of this crew file--> adopted --Resume of its worker--> as it was
 *     |                                   +--none in time, or a wrong one--> killed
 *     +--not as it was written down (half started, being killed, reloaded)--> killed, and what follows from a death
 */
#pragma once

#include "agent.h"

struct crew_file;
struct rundir;

struct legacy; /* what the spawner has handed over */

/* Before the rights are dropped.  0: *out, or NULL: nobody is held.  -ESTALE: somebody is, but not for this crew file. */
int adopt_find(const struct rundir *rundir, const struct crew_file *file, struct legacy **out, struct crew_err *err);
struct legacy *legacy_free(struct legacy *l);
/* A pidfd of the spawner, for who wants to see its end; the caller's. */
int legacy_watch_spawner(const struct legacy *l);
/* Our end of the spawner's channel; the caller's from now on. */
int legacy_take_spawner(struct legacy *l);
int legacy_take_state(struct legacy *l);

/* Before the audit streams are opened: they get what was decided, and not written. */
int adopt_put_on_record(const struct crewd *c, const struct legacy *l, struct crew_err *err);
/* The parts are made: they get what they knew.  Before anything can ask them. */
int adopt_load(struct crewd *c, struct legacy *l, struct crew_err *err);
/* The helpers are up: the crew runs; workers are still to come back. */
void adopt_take(struct crewd *c, struct legacy *l);
/* True: nobody is waited for any more. */
bool adopt_settled(const struct crewd *c);
/* The first frame of a worker that has been adopted. */
void adopt_on_resume(struct agent *a, const Crew__Envelope *e);
