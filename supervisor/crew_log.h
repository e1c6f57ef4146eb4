/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The crew's own stream: what the checkpoints of its agents said, in a chain and a tree of its own, so that whoever cuts
 * one agent's log contradicts another file.  It has the key that all of them are signed with.
 *
 * What it says is on disk before it says it, so it is never held back (on_supervisor_loss), and a fault of it stops nobody:
 * it is logged, and the stream opened anew.
 */
#pragma once

#include "supervisor/audit/audit.h"

struct crewd;
struct crew_log;

/* Before any other stream, and after everything that crewd forks. */
int crew_log_open(struct crewd *c, struct crew_log **out, struct crew_err *err);
void crew_log_close(struct crew_log *l); /* after all others, and after the syncer; NULL is fine */
const struct sign_key *crew_log_key(const struct crew_log *l);
/* That checkpoint of an agent is on disk. */
void crew_log_add(struct crew_log *l, const char *agent, const struct note *checkpoint);
/* What is younger than 100 ms, and its checkpoint when that is due. */
void crew_log_sync_later(struct crew_log *l);
