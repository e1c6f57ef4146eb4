/* SPDX-License-Identifier: Apache-2.0 */
/*
 * <run>/<crew>/: the lock that lets one crewd run a crew, its pid, and the private directory of the links.
 *
 * The lock is an flock, so it dies with its holder; the pid in the file is what a second start names.  A pid left behind
 * by a crewd that did not end in order is how the next start knows that there is something to sweep.
 */
#pragma once

#include "common/err.h"

#include <stdint.h>
#include <sys/types.h>

struct rundir;
enum rundir_outcome { RUNDIR_TAKEN, RUNDIR_BUSY };

/* RUNDIR_BUSY: err says which pid runs the crew. */
int rundir_open(const char *run, const char *crew, struct rundir **out, struct crew_err *err);
const char *rundir_path(const struct rundir *r);
const char *rundir_links(const struct rundir *r); /* 0700, empty */
/* The crewd that ended out of order, 0: none; and what of it was found, as text. */
pid_t rundir_predecessor(const struct rundir *r);
const char *rundir_found(const struct rundir *r);
/* on_supervisor_loss: hold.  A socket, 0600, by which the next crewd finds the spawner, and a token for it that only files
 * of ours hold.  The descriptor, listening, or -errno. */
int rundir_listen(struct rundir *r, uint8_t token[32], struct crew_err *err);
/* To whoever listens there: the descriptor, or -errno; and the token it wants. */
int rundir_connect(const struct rundir *r);
int rundir_token(const struct rundir *r, uint8_t token[32]);
/* Nobody is held there: both go. */
void rundir_unlisten(struct rundir *r);
/* The end in order: control socket and pid gone, lock released; the way to agents that are held stays.  NULL. */
struct rundir *rundir_close(struct rundir *r);
