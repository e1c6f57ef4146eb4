/* SPDX-License-Identifier: Apache-2.0 */
/* Policies read again, and how that is told; for policy reload and approve --always. */
#pragma once

#include "client.h"
#include "term.h"

/* agent NULL: all.  0 and *out (valid until the next frame is asked for); -1 with a problem. */
int policy_reload(struct client *c, const char *agent, bool restart, const Crew__PolicyReloaded **out,
                  struct cli_problem *problem);
/* What went wrong with files, as `policy check` shows it. */
void policy_reload_print_problems(const Crew__PolicyReloaded *r, FILE *f);
/* The first error in a line: "policies/x.yaml:4:3: unknown key 'filesytem'"; or an agent's; "" when there is none. */
void policy_reload_error(const Crew__PolicyReloaded *r, char *out, size_t n);
