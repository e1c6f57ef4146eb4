/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Clients that want an agent started which has ended, or waits for its restart.
 *
 * Guarantees: on record before anything is begun; each gets one answer: AgentStarted when the instance is up (and has
 * passed its health check, should it have one), or Refused when that instance has ended, or will not come.  An agent that
 * is started by hand has no back-off, and all its restarts again.
 */
#pragma once

#include "agent.h"

/* StartAgent. */
void starters_ask(struct crewd *c, uint64_t client, const Crew__Envelope *e);
/* Its state has changed. */
void starters_look(struct agent *a);
/* Its instance is buried, whatever follows. */
void starters_failed(struct agent *a);
