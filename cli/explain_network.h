/* SPDX-License-Identifier: Apache-2.0 */
/* What a policy lets out, as a list; and what the presets add. */
#pragma once

#include "cli.h"
#include "supervisor/policy/policy.h"

/* Every endpoint that the policy allows, with the rule that does, and what happens to all others. */
void explain_network(const struct policy_image *p, bool json);
/* The endpoints of the named presets; n 0: the presets there are.  Exit status, or -1 with problem. */
int explain_presets(const char *const *names, size_t n, bool json, struct cli_problem *problem);
