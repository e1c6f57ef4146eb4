/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a changed crew file would start, stop, restart or reload, agent by agent, and why: for `crewctl plan`, which shows
 * it, and for `crewctl up`, which applies it.  Both are given the same value, made in one place, and its digest.
 *
 * crewd reads the file itself, with the loader that has read it at the start: what is compared is what is in force here,
 * and whether a change needs a restart depends on what a jail was made with.  Whoever may name a file (our own user, and
 * root) could start a crewd with it.
 */
#pragma once

#include "common/digest.h"
#include "ipc-schema/ipc.h"
#include "supervisor/policy/crew_changes.h"

struct crewd;
struct crew_lock;
struct crewplan_line;
struct crewplan_program;

struct crewplan_agent { /* in the place that the agent has, or will have */
        bool listed;    /* it runs, or will */
        enum crew_effect effect;
        bool network;         /* its endpoints, or where they are, change */
        size_t line, n_lines; /* of this agent */
};

struct crewplan { /* all zero is empty */
        struct crewd *crewd;
        char file[PATH_MAX];
        struct crew_file *to;        /* owned */
        struct crew_lock *lock;      /* owned; NULL: not locked */
        struct crew_changes changes; /* owned, as all below */
        struct policy_report report;
        struct crewplan_line *lines;
        size_t n_lines, room;
        struct crewplan_agent *agents;     /* to->n_agents */
        struct crewplan_program *programs; /* owned */
        size_t n_programs;
        size_t crew_line;        /* from here on they are of no single agent */
        enum crew_effect effect; /* the most of all */
        char digest[CREW_SHA256_HEX];
};

/* file "": the one in force.  -EINVAL: it does not check, report says why; other faults are in err. */
int crewplan_make(struct crewd *c, const char *file, bool locked, struct crewplan *out, struct crew_err *err);
void crewplan_fini(struct crewplan *p);
/* PlanCrew: answered with CrewPlan, or refused. */
void crewplan_answer(struct crewd *c, uint64_t client, const Crew__Envelope *e);

/* The first of what was reported, as it goes into a frame.  How many. */
#define CREWPLAN_PROBLEMS_MAX 64u
struct crewplan_problems {
        Crew__PolicyProblem items[CREWPLAN_PROBLEMS_MAX], *pointers[CREWPLAN_PROBLEMS_MAX];
};
size_t crewplan_problems(const struct crewplan *p, struct crewplan_problems *out);
extern const Crew__PlanEffect crewplan_effects[CREW_EFFECT_N];
