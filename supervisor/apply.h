/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A changed crew file for a crew that runs: `crewctl up`.
 *
 * What is applied is a plan (crewplan.h), made by the same code as the one that is shown; whoever gives the digest of the
 * one he saw gets that one, or nothing.  Order: what can fail first, and what cannot be taken back last.
 *
 *   new agents come up -> policies and endpoints of those that go on -> changed agents, one by one: no new task, the
 *   running one may end, stopped gracefully, started again -> the crew file counts (tasks, tools, who is in the crew)
 *   -> agents that are gone are stopped
 *
 * Until the crew file counts, any failure takes everything back: agents that were changed are started again as they were.
 * Each agent knows which file it lives by (agent.file); one that a running task or call still needs stays in memory.
 */
#pragma once

#include "agent.h"
#include "ipc-schema/ipc.h"

struct apply;
struct crew_lock;

struct apply *apply_new(struct crewd *c);
struct apply *apply_free(struct apply *x);
bool apply_is_active(const struct apply *x);
/* ApplyCrew: answered with CrewApplied when all of it is over, or refused. */
void apply_begin(struct crewd *c, uint64_t client, const Crew__Envelope *e);
/* Goes on, if something it waits for has come. */
void apply_poke(struct apply *x, uint64_t now_ns);
void apply_expire(struct apply *x, uint64_t now_ns);
uint64_t apply_next_deadline(const struct apply *x);
/* The crew is stopping: nothing is applied, and nothing is taken back, any more. */
void apply_crew_stops(struct apply *x);
/* What the programs of its instance must be; NULL: nobody has locked them. */
struct crew_lock *apply_lock(const struct agent *a);
