/* SPDX-License-Identifier: Apache-2.0 */
/*
 * crewctl kill, the part that comes before the kill: freezing those who are meant, and writing down what there is to see.
 *
 * Whatever ends it, a fault or a signal, the problem says who is frozen and how they go on.
 */
#pragma once

#include "killed.h"
#include "snapshot.h"

struct kill_options {
        const char *crew, *agent, *role, *task, *reason, *snapshot;
        bool freeze, json;
};

struct kill_doing {
        const struct kill_options *o;
        struct client *c;
        struct agents_meant names; /* owned; who is meant; none: whoever has the task */
        struct term t;
        json_t *frozen, *killed, *passed; /* owned; with --json */
        struct snapshot *into;            /* owned; with --snapshot, until it is written */
        struct snapshot_totals snapshot;
        size_t n_killed;
};

/* The file, before anything else: a name that is taken or cannot be had changes nothing. */
int kill_prepare(struct kill_doing *d, struct cli_problem *p);
/* All of them; of a role those that are not up are named and passed over. */
int kill_freeze(struct kill_doing *d, struct cli_problem *p);
/* Of all that are frozen, onto the disk. */
int kill_write_down(struct kill_doing *d, struct cli_problem *p);
/* One of a role that is not done with the others; the text says why. */
void kill_pass_over(struct kill_doing *d, const char *agent, const char *text);
int kill_note_name(struct agents_meant *l, const char *name, struct cli_problem *p);
