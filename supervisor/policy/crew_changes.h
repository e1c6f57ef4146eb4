/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What differs between two crew files of one crew, and what each difference asks for.  Only meaning counts: order,
 * comments, layout and quotes are no change.  Policies are compared by changes.h.
 *
 * A key that no table lists asks for the most: a key that is new here is never taken too lightly.
 */
#pragma once

#include "arena.h"
#include "crew_file.h"

enum crew_effect { /* the more, the later */
                   CREW_UNCHANGED,
                   CREW_RELOAD,  /* can be taken over by what runs */
                   CREW_RESTART, /* the agent has to be started again */
                   CREW_START,   /* the agent is new */
                   CREW_STOP,    /* the agent is gone */
                   CREW_WHOLE,   /* the whole crew has to be started again */
                   CREW_EFFECT_N,
};

#define CREW_CHANGE_DETAIL 400
struct crew_change {
        const char *agent;  /* whom it is about; NULL: the crew */
        const char *key;    /* "command", "health.every", "tools.csv.timeout"; "" for a start or stop */
        const char *detail; /* "30s -> 5s", "+ [..]", "- x", cut with "..." */
        enum crew_effect effect;
};

struct crew_changes { /* all zero is empty; names are of the two crews */
        struct arena arena;
        struct crew_change *items;
        size_t n;
};
/* Both were loaded without errors.  0 or -errno. */
int crew_changes_make(const struct crew_file *from, const struct crew_file *to, struct crew_changes *out,
                      struct crew_err *err);
void crew_changes_fini(struct crew_changes *c);
