/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What there is to see of an agent from outside, as a tar: status, processes, connections, the last records, its state
 * directory.  The agent is frozen meanwhile.  Nothing it controls is followed or believed: names and texts of it are data.
 */
#pragma once

#include "client.h"

struct snapshot;
/* It is not there before snapshot_end(), and replaces nothing; mode 0600.  A signal that interrupt.h has seen ends the
 * writing as a failure. */
int snapshot_begin(const char *file, const char *crew, const char *reason, struct snapshot **out,
                   struct cli_problem *problem);
/* Everything of one agent below AGENT/. */
int snapshot_agent(struct snapshot *s, const Crew__AgentStatus *a, struct cli_problem *problem);
struct snapshot_totals {
        uint64_t bytes, left_out; /* of the archive; files that are not in it */
        uint32_t processes;
};
/* On disk under its name. */
int snapshot_end(struct snapshot *s, struct snapshot_totals *totals, struct cli_problem *problem);
struct snapshot *snapshot_free(struct snapshot *s); /* an unfinished one is removed */
static inline void snapshot_freep(struct snapshot **s) {
        snapshot_free(*s);
}
#define _cleanup_snapshot_ _cleanup_(snapshot_freep)
