/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Connections that wait for the operator (network.on_unlisted: ask): what is pending, who is told, what was decided.
 *
 * The gateway holds the connections and forgets them by itself (time-out, the client gave up, the instance is gone); here
 * is the list that `crewctl approvals` shows and the one place that decides.  An ask is named by the gateway's number,
 * which is unique for the life of one gateway; a new gateway starts anew, hence approvals_on_gateway_gone().
 */
#pragma once

#include "common/gate.h"

struct agent;
struct crewd;

/* GATE_ASK: m->ask waits (again: m->count more wait for the same).  m's strings are terminated and bounded, and hostile.
 * Decided with gateway_answer(). */
void approvals_on_ask(struct crewd *c, struct agent *a, const struct gate_msg *m);
/* GATE_ASK_GONE: nobody waits any more; m->text says why.  An answer from now on is stale. */
void approvals_on_gone(struct crewd *c, struct agent *a, const struct gate_msg *m);
/* The gateway died: every pending ask is gone, and numbers start anew. */
void approvals_on_gateway_gone(struct crewd *c);
