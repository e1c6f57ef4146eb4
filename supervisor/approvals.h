/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Connections that wait for the operator (network.on_unlisted: ask): who is asked, who is told, what was decided.
 *
 * The gateway holds the connections and forgets them by itself (time-out, the client gave up, the instance is gone); here
 * is the list that `crewctl approvals` shows and the one place that decides.  An ask is named by the gateway's number,
 * which is unique for the life of one gateway; a new gateway starts anew, hence approvals_on_gateway_gone().
 *
 * Who is asked: an ask is held while a client follows the approvals, or always when the crew file says `approvals:
 * operator`; otherwise it is refused at once, "nobody to ask".  One that is held stays so when the last follower leaves: an
 * operator may be on the way back.  What no answer comes to is refused.  Loopback, link-local and the metadata service are
 * refused without asking anybody.
 */
#pragma once

#include "common/gate.h"
#include "crew.pb-c.h"

struct agent;
struct approvals;
struct crewd;

struct approvals *approvals_new(void);
struct approvals *approvals_free(struct approvals *p);

/* GATE_ASK: m->ask waits; again: m->count connections wait for it now.  m's strings are terminated and bounded, and
 * hostile. Decided with gateway_answer(). */
void approvals_on_ask(struct crewd *c, struct agent *a, const struct gate_msg *m);
/* GATE_ASK_GONE: nobody waits any more; m->text says why.  An answer from now on is stale. */
void approvals_on_gone(struct crewd *c, struct agent *a, const struct gate_msg *m);
/* The gateway died: every pending ask is gone, and numbers start anew. */
void approvals_on_gateway_gone(struct crewd *c);
/* The instance has ended. */
void approvals_agent_gone(struct crewd *c, const struct agent *a);

/* ListApprovals and AnswerApproval of a client, answered or refused. */
void approvals_list(struct crewd *c, uint64_t client, const Crew__Envelope *e);
void approvals_answer(struct crewd *c, uint64_t client, const Crew__Envelope *e);

/* Those whose time is over and which the gateway has said nothing of. */
void approvals_expire(struct crewd *c, uint64_t now_ns);
uint64_t approvals_next_deadline(const struct crewd *c);
