/* SPDX-License-Identifier: Apache-2.0 */
/* A line of a plan: shared by crewplan.c, which finds it, and crewplan_answer.c, which tells it. */
#pragma once

#include "crewplan.h"
#include "supervisor/policy/lock.h"
#include "text.h"

#define CREWPLAN_OWN_LINES 4u /* beyond what the files say */

struct crewplan_program { /* whose bytes are not those of the lock that counts now */
        const struct lock_file *file;
        bool named; /* by some agent; else it is what others need, and counts for all */
};

struct crewplan_line { /* the texts are its own, for they may hold what a frame must not */
        char key[320], detail[512];
        enum crew_effect effect;
};
