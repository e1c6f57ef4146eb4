/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Messages and asks from other agents, until a program of this one takes them.
 *
 * A message goes to a program that waits in crew/receive, else to a stdio-rpc agent's stdin, else into the inbox (256
 * letters, 16 MiB).  A notice of another agent's end is a message of crewd's and goes the same way.  An ask goes the same
 * way, except that for an exec-json agent a process is started for it when nobody waits. Exactly one AskAnswer for every
 * ask that was delivered.
 */
#pragma once

#include "client.h"
#include "program.h"

void inbox_init(struct worker *w);
/* A Deliver or a TerminationNotice. */
void inbox_deliver(struct worker *w, const Crew__Envelope *e);
/* The next letter as JSON into b.  False: nothing is there. */
bool inbox_take(struct worker *w, struct strbuf *b);
/* Answers an ask that was taken; payload or error is set.  False: no such ask is open. */
bool inbox_answer_taken(struct worker *w, uint64_t seq, const char *payload, const char *error);
void inbox_answer(struct worker *w, uint64_t seq, const char *payload, const char *error);
/* The last program may have ended: what it took and did not answer is answered for it. */
void inbox_programs_ended(struct worker *w);
/* The agent is to end: says so to a stdio-rpc agent and to those that wait in crew/receive, whose calls get that letter
 * from now on.  True when somebody was told. */
bool inbox_tell_stop(struct worker *w);
/* The crew is stopping. */
void inbox_close(struct worker *w);
