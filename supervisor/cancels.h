/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Clients that call a task off, one of a run or one that was submitted, whoever submitted it.
 *
 * Guarantees: on record in its agent's stream before it has an effect, and then its one outcome is `cancelled`, whatever
 * the agent still says.  One that waits is over at once; of one that runs the agent is told, and killed two seconds later
 * if it does not end it.  The client has its answer before whoever submitted the task has the outcome.
 */
#pragma once

#include "agent.h"

/* CancelTask. */
void cancels_ask(struct crewd *c, uint64_t client, const Crew__Envelope *e);
