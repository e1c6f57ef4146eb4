/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the stream says of the agent's last instance: whether it was ever said to have ended, and what it had begun.
 *
 * This is how a crewd finds what one before it left unsaid because it was killed, or the host lost power.
 */
#pragma once

#include "audit.h"

struct audit_life {
        bool open;                  /* it was spawned, and no end of it is on record */
        uint32_t incarnation;       /* the rest is of an open one only */
        uint64_t spawned_ms;        /* since 1970 */
        uint64_t spawned_seq;       /* of that record */
        bool effects;               /* a tool was let run, or a message went out */
        char task[64], task_id[24]; /* begun and not finished; "": none */
        uint32_t attempt;           /* of that task */
};
/* Reads back from the end of the stream to the record that decides; the stream goes on being written as before. */
int audit_last_life(const struct audit_stream *s, struct audit_life *out, struct crew_err *err);
