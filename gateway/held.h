/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Connections that wait for the operator, and what was decided.  One ask stands for all connections of an instance to the
 * same host and port.  It lives until it is answered or its time is up, also when the client has given up meanwhile: an
 * answer then holds for its next try.
 */
#pragma once

#include "common/gate.h"

#include <stdbool.h>
#include <stdint.h>

struct agent;
struct conn;

#define HELD_ASKS_MAX 64u /* of one instance at once */
#define GRANTS_MAX 256u

enum held_known { HELD_UNKNOWN, HELD_LET, HELD_REFUSED };
/* What the operator has said about this destination; an answer for once is used up by this. */
enum held_known held_known(struct agent *a, const char *name, uint16_t port);
/* 0, or -ENOSPC/-ENOMEM: nothing is asked. */
int held_join(struct conn *c);
void held_leave(struct conn *c);
/* GATE_ANSWER; a number that is not known any more is ignored. */
void held_answer(struct agent *a, uint32_t ask, enum gate_verdict verdict, enum gate_scope scope, const char *why);
/* A new policy: what it allows goes on, what it does not even ask about is refused. */
void held_reload(struct agent *a);
/* The instance goes: its connections were ended before. */
void held_fini(struct agent *a);
