/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What ran before `crewctl up --restart`, for when the changed crew does not start.  crewd has the former file in memory
 * only, so what can be started again is what is on disk and still the same, byte for byte: the former file when the changed
 * one is another, or when only something beside it made the start fail.
 */
#pragma once

#include "client.h"

struct former { /* all zero: there is none */
        char crew[64], file[PATH_MAX];
        bool intact; /* nothing that it is made of has changed on disk */
        bool locked;
};
/* Asks the crew that is about to be stopped. */
int former_look(struct client *c, struct former *out, struct cli_problem *problem);
/* The changed crew did not start, as problem says: starts the former one, detached, and adds to problem what runs now. */
void former_restore(const struct former *f, bool quiet, struct cli_problem *problem);
