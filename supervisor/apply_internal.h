/* SPDX-License-Identifier: Apache-2.0 */
/* One application while it is under way: shared by apply.c, which orders it, apply_turn.c, which does it agent by agent,
 * apply_commit.c, which makes it count, and apply_answer.c, which tells it. */
#pragma once

#include "apply.h"
#include "common/digest.h"
#include "crewplan.h"

enum apply_step {
        APPLY_IDLE,
        APPLY_STARTS,
        APPLY_RELOADS,
        APPLY_RESTARTS,
        APPLY_STOPS, /* the file counts */
        APPLY_UNDO_RELOADS,
        APPLY_UNDO_AGENTS,
};

/* How far one agent is. */
enum apply_turn {
        TURN_WAITS,
        TURN_DRAINS, /* gets no new task; the running one may end */
        TURN_ENDS,
        TURN_COMES,
        TURN_OVER,
};

struct apply_agent {
        enum crew_effect effect;
        enum apply_turn turn;
        bool lived;   /* when this began */
        bool touched; /* it is not, or will not be, the instance that it was */
        bool left;    /* somebody else has ended that, and is to have his way */
        uint64_t by_ns;
        char old_hex[CREW_SHA256_HEX], new_hex[CREW_SHA256_HEX]; /* "": none */
        char error[400];                                         /* taken back, and not up as it was */
};

struct former { /* a crew file that counts no more */
        struct former *next;
        struct crew_file *file; /* owned */
};

struct apply {
        struct crewd *crewd;
        enum apply_step step;
        struct crewplan plan;       /* owned */
        struct crew_file *to;       /* the plan's, and then the crewd's */
        struct apply_agent *agents; /* owned; n, by place */
        bool *reloads;              /* owned; n */
        size_t n;
        bool reloaded;         /* policies and endpoints are taken over */
        struct former *former; /* owned */
        uint64_t client, corr, began_ns, grace_ns;
        char by[160], error[512];
};

/* --- apply_turn.c --- */

/* Starts one that has no process now. */
/* True when a start is over: it is up, or nothing of it is left and nothing comes by itself (why is filled). */
bool turn_come(struct apply *x, struct agent *a, uint64_t now_ns, char why[400]);
/* Another instance, by the file `to`; true as for turn_come().  trial: the first failure is the last. */
bool turn_renew(struct apply *x, struct agent *a, const struct crew_file *to, bool trial, uint64_t now_ns, char why[400]);
/* No other instance; true when nothing of it is left. */
bool turn_stop(struct apply *x, struct agent *a, uint64_t now_ns);

/* --- apply_commit.c --- */

/* -ENOMEM: nothing has changed. */
int apply_commit(struct apply *x);
/* Files that nothing refers to any more. */
void apply_sweep(struct apply *x);
/* A file that may be referred to for a while; -ENOMEM: it stays for good. */
void apply_keep(struct apply *x, struct crew_file *file);

/* --- apply_answer.c --- */

/* why NULL: it is applied. */
void apply_record(struct apply *x, const char *why);
void apply_answer(const struct apply *x, Crew__ApplyOutcome outcome);
