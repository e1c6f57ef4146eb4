/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The orders of the manager of a hierarchical crew: what it may ask is in the message table (role: manager), whom it may
 * address is in its policy, how much is in the crew file.  Each order is on record before it has an effect, each refusal
 * too.  Whoever takes the manager over gets this and nothing more.
 */
#pragma once

#include "agent.h"
#include "ipc-schema/ipc.h"
#include "scheduler.h"

struct job;
struct manager;

/* NULL in *out when the crew has none. */
int manager_new(struct crewd *c, struct manager **out, struct crew_err *err);
struct manager *manager_free(struct manager *m);

bool manager_is(const struct agent *a);
/* A checked frame of the manager's worker; answers it. */
void manager_order(struct agent *a, const Crew__Envelope *e);
/* An order of a worker that is not the manager's: refused by the message table, and answered. */
void manager_refuse(struct agent *a, const char *body, uint64_t seq);
/* An agent is dead: the manager is told before anything that follows from it, if it may address that agent or was that
 * agent itself; and again in each further instance of its, until it acknowledges it. */
void manager_tell(struct crewd *c, const struct agent *dead, const struct termination *t);
/* It can be told again what it has missed: a new instance is up, or it was thawed.  Nothing for other agents. */
void manager_up(struct crewd *c, const struct agent *a);
/* A job has its outcome. */
void manager_job_done(struct crewd *c, const struct job *j);
/* An instance is dead.  If the manager's task ends with it, what it handed out is called off; if nobody follows, the
 * further instances that it had made end too. */
void manager_agent_gone(struct crewd *c, const struct agent *a, enum sched_after after);
void manager_expire(struct manager *m, uint64_t now_ns);
uint64_t manager_next_deadline(const struct manager *m);
