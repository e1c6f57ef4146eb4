/* SPDX-License-Identifier: Apache-2.0 */
/*
 * on_supervisor_loss: hold.  What crewd knows, where the next crewd finds it: a memfd that the spawner holds too.
 *
 * Written once a turn of the loop, whole, beside the one before, and made the valid one by a single write of a few bytes.
 * Nothing that follows from a turn (a line in an audit stream, a frame to a worker, a word to the spawner, an answer to a
 * client) leaves before that: killed at any moment,
 * crewd has either done all of a turn or, to everybody else, nothing of it.  What came in and was not done comes again,
 * what was to go out and may not have gone goes again, and both ends know by the numbers what is a repetition.
 * It need not reach a disk: agents do not outlive the host.
 */
#pragma once

#include "common/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct crewd;
struct agent;
struct bytes_in;

struct checkpoint;
/* fd: of the crewd before, or -1; owned. */
int checkpoint_open(struct crewd *c, int fd, struct checkpoint **out, struct crew_err *err);
void checkpoint_close(struct checkpoint *k);
/* The end of a turn: state down, then the audit, then everything else out.  k NULL: the crew has none. */
void checkpoint_commit(struct checkpoint *k);
/* The crew is up: from now on its agents are held.  And, from the end of this turn on, no more: it stops. */
int checkpoint_arm(struct checkpoint *k, struct crew_err *err);
void checkpoint_armed(struct checkpoint *k); /* by the crewd before */
bool checkpoint_is_armed(const struct checkpoint *k);
void checkpoint_disarm(struct checkpoint *k);
/* The end of an instance is dealt with: once that is written down the spawner may forget it. */
void checkpoint_forget(struct checkpoint *k, uint32_t id);

/* The state in fd; malloc'd.  -EBADMSG: none is there. */
int checkpoint_read(int fd, uint8_t **out, size_t *n, struct crew_err *err);
/* Was it written by a crewd like this one, for this crew file and these policies?  0, or -ESTALE and why. */
int checkpoint_fits(const struct crewd *c, const uint8_t *p, size_t n, struct crew_err *err);
/* Completes the audit streams of its agents, before they are opened: what that crewd had decided and not come to write. */
int checkpoint_put_on_record(const struct crewd *c, const uint8_t *p, size_t n, struct crew_err *err);
/* Fills the parts of a crewd that has just made them; pid: of the one before. */
int checkpoint_load(struct crewd *c, const uint8_t *p, size_t n, int *pid, struct crew_err *err);
