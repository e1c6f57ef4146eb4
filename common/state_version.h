/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The version of an agent's state directory, in <agent>.version beside it, where no agent reaches.
 *
 * A migrated directory takes the place of the former one together with its version, or not at all, whenever it is cut
 * short: what is about to happen is written down first, with the inode that tells afterwards whether it did.
 */
#pragma once

#include "err.h"

#include <stdint.h>

#define STATE_VERSION_MAX 1000000000u

/* at: of the directories.  0: there is none.  Whoever holds the agent's lock settles what was cut short. */
int state_version_settle(int at, const char *agent, uint32_t *out, struct crew_err *err);
/* The same for looking on, without a lock: nothing is written. */
int state_version_read(int at, const char *agent, uint32_t *out, struct crew_err *err);
/* Durable; 0 removes it. */
int state_version_write(int at, const char *agent, uint32_t version, struct crew_err *err);
/* at/fresh and at/agent change places, durably: the former one has the other's name then. */
int state_version_swap(int at, const char *agent, const char *fresh, uint32_t from, uint32_t to, struct crew_err *err);
/* The same, but it is under way until it is settled: whoever settles it has it on record before. */
int state_version_swap_unsaid(int at, const char *agent, const char *fresh, uint32_t from, uint32_t to,
                              struct crew_err *err);
/* 1: such a one has taken place, from that version to that, and nobody has settled it; 0: none. */
int state_version_unsaid(int at, const char *agent, uint32_t *from, uint32_t *to, struct crew_err *err);
/* For tests: the swap stops, as if the program had ended there, before step N from 1. */
extern unsigned state_version_stop_before;
