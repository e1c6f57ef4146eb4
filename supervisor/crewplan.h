/* SPDX-License-Identifier: Apache-2.0 */
/*
 * `crewctl plan`: what a changed crew file would start, stop, restart or reload, agent by agent, and why.  Nothing is done.
 *
 * crewd reads the file itself, with the loader that has read it at the start: what is compared is what is in force here,
 * and whether a change needs a restart depends on what a jail was made with.  Whoever may name a file (our own user, and
 * root) could start a crewd with it.
 */
#pragma once

#include "ipc-schema/ipc.h"

struct crewd;

/* PlanCrew: answered with CrewPlan, or refused. */
void crewplan_answer(struct crewd *c, uint64_t client, const Crew__Envelope *e);
