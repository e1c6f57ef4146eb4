/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Holds a jail to its memory and its share of the processors where no control group does, from outside.
 *
 * A process of the jail can be seen to have done nothing by its processor time alone, and who has done nothing has
 * neither forked nor touched memory: an idle jail costs one clock_gettime(2) for each process.  One that runs is looked
 * at through /proc, every 20 ms or more often.
 *
 * Memory: what its processes hold together; the largest is killed, as the kernel's killer does it in a control group.
 * Processors: who has used more than its share stands still until that is made up for; by the freezer of its group where
 * there is one, else by SIGSTOP, to all of it, again whenever something of it has run meanwhile.  Time that a jail hides
 * (children that nobody waits for are counted by nobody) makes it count as if it had used every processor.
 *
 * Trusts what the kernel tells of a process of that pid namespace, and nothing that the process says.
 */
#pragma once

#include "common/spawn.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct governor;

/* root: pid 1 of the jail.  cgroup: its group's name, kept by the caller, "" none.  l: what no group limits, 0 for what
 * one does.  NULL: errno. */
struct governor *governor_new(pid_t root, const char *cgroup, const struct spawn_limits *l);
struct governor *governor_free(struct governor *g); /* NULL; the jail is left as it is */
void governor_limit(struct governor *g, const struct spawn_limits *l);
/* Looks, and acts.  When to look next; UINT64_MAX: nothing is to be seen to. */
uint64_t governor_look(struct governor *g, uint64_t now_ns);
/* Somebody else holds the jail, or has let it go.  by_signals: it is to be looked at whether it stays so. */
void governor_frozen(struct governor *g, bool on, bool by_signals);
/* A version 1 freezer keeps it from dying. */
bool governor_holds_group(const struct governor *g);

struct governor_counts {
        uint32_t kills;        /* for memory */
        uint32_t holds;        /* for using too much of the processors */
        uint64_t memory_bytes; /* at the last look, with what is shared divided; 0: there was no need to */
        bool unheld;           /* it ran on although it was stopped: it is not to be held to its share, only to be ended */
};
struct governor_counts governor_counts(const struct governor *g);
