/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The instance of an agent, from the spawn plan to Ready: plan, link, jail, attestation, first frames.
 */
#pragma once

#include "agent.h"

/* Starts what the first link would start (nng's threads, tried out in a child first), while the helpers come up. */
void instance_warm_up(struct crewd *c);
/* Makes the plan of the next instance while there is time; instance_spawn() makes it itself when that did not happen or
 * went wrong. */
void instance_plan_ahead(struct agent *a);
/* The same, and all else that a start needs from us: for an agent whose start is due soon. */
void instance_prepare_ahead(struct agent *a);
void instance_forget_ahead(struct agent *a);
/* AGENT_DO_SPAWN: a new incarnation.  A failure on our side is fed back as AGENT_EV_SPAWN_FAILED. */
void instance_spawn(struct agent *a);
/* With what migrate_begin() held up. */
void instance_go_on(struct agent *a);
/* AGENT_DO_KILL: network and link first, then the tree. */
void instance_kill(struct agent *a);
/* Stops listening to it and takes the network away; idempotent. */
void instance_cut(struct agent *a);
/* Forgets everything of an instance that is gone. */
void instance_clear(struct agent *a);

/* The instance of a crewd that was lost: a new link for it, and whoever watches it told again.  which: bits of enum
 * spawn_fd; fds stay the caller's. */
int instance_adopt(struct agent *a, uint32_t which, int *fds, struct crew_err *err);
/* Its worker, if it has not come back since, gets its time for that. */
void instance_expect_back(struct agent *a);

/* From the spawner. */
void instance_on_spawned(struct agent *a, const struct spawn_attestation *att, int *fds, size_t n_fds);
void instance_on_spawn_failed(struct agent *a, int err, const char *step, const char *text);
/* The worker says that its program is over: it should end by itself now. */
void instance_on_program_ended(struct agent *a);
/* Ready frame seen. */
void instance_on_ready(struct agent *a);
/* Spawn time-out, lost link, stop grace, due restart.  And when that is next. */
void instance_expire(struct agent *a, uint64_t now_ns);
uint64_t instance_next_deadline(const struct agent *a);
void instance_ping(struct agent *a);

/* The id that names this instance to spawner, gateway and evidence, and the agent index in it. */
#define INSTANCE_INDEX_BITS 12u
static inline uint32_t instance_id(uint32_t index, uint32_t incarnation) {
        return incarnation << INSTANCE_INDEX_BITS | index;
}
