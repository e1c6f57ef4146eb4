/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A rule into an agent's policy file: made, checked by the loader, shown as a diff, and only then written, in one step,
 * with the mode and owner the file had.  What cannot be done cleanly is refused with the line to add by hand.
 */
#pragma once

#include "cli.h"
#include "term.h"

#include <limits.h>
#include <sys/stat.h>

struct policy_rule { /* POLICY_RULE_NULL */
        char file[PATH_MAX];
        char *before, *after; /* owned; after NULL: it is listed already */
        size_t n_before, n_after;
        uint32_t line; /* of the rule */
        struct stat st;
};
#define POLICY_RULE_NULL ((struct policy_rule){.before = NULL})
void policy_rule_fini(struct policy_rule *r);

struct policy_rule_want {
        const char *file, *agent; /* whose document */
        const char *endpoint;     /* "host:port" */
        const char *crew_dir;
};
/* Nothing is written.  0, or -1 with a problem. */
int policy_rule_make(const struct policy_rule_want *want, struct policy_rule *out, struct cli_problem *problem);
/* The lines around the change, removed ones with '-', new ones with '+'. */
void policy_rule_show(const struct policy_rule *r, const struct term *t);
/* Replaces the file, unless somebody has changed it meanwhile. */
int policy_rule_write(struct policy_rule *r, struct cli_problem *problem);
/* Puts back what was there before, unless somebody has changed it meanwhile. */
int policy_rule_undo(struct policy_rule *r, struct cli_problem *problem);
