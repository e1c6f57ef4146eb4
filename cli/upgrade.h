/* SPDX-License-Identifier: Apache-2.0 */
/* crewctl up for a crew that runs already: a changed crew file is put in force. */
#pragma once

#include "former.h"

struct upgrade {
        const char *file; /* absolute */
        const char *crew; /* that it is of, and that runs */
        const char *plan; /* digest of the plan that was agreed to; NULL: whatever it is now */
        uint64_t grace_ms;
        bool locked, restart, dry_run, json;
};
#define UPGRADE_START (-2)
/* Exit status; -1 with a problem; UPGRADE_START: the crew, as former says, was stopped, and is to be started with the file.
 */
int upgrade(const struct upgrade *u, struct former *former, struct cli_problem *problem);
