/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The capture listeners of one jail: whatever its programs dial or ask a name server arrives here.  Identity is the
 * channel; nothing the peer sends is believed about who it is.
 */
#pragma once

#include "agent.h"

#include "common/err.h"

/* Takes the GATE_LISTENERS listeners over: tcp4, tcp6, udp4, udp6; fds[] is -1 where it did, on failure too.  Holds a
 * reference on the agent until its memory goes. */
int capture_open(struct agent *a, int *fds, struct capture **out, struct crew_err *err);
/* NULL is fine; the memory goes at the end of the turn. */
void capture_close(struct capture *c);
