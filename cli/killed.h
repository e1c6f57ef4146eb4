/* SPDX-License-Identifier: Apache-2.0 */
/* What kill and stop have in common: which agents are meant, and how the end of one is told. */
#pragma once

#include "client.h"
#include "term.h"

#include <jansson.h>

#define KILL_AGENTS_MAX 4096
#define KILL_NAME_MAX 64

struct agent_names { /* owned */
        char (*items)[KILL_NAME_MAX];
        size_t n;
};
void agent_names_fini(struct agent_names *l);
#define _cleanup_agent_names_ _cleanup_(agent_names_fini)

/* Does an agent belong to this role: the text of its `role`, the name of its policy file, or that without .yaml? */
bool agent_has_role(const Crew__AgentStatus *a, const char *role);
/* The agents of a role that have a process.  -1 with a problem when nobody has that role or none of them runs. */
int agents_of_role(struct client *c, const char *role, struct agent_names *out, struct cli_problem *problem);

/* How those agents are. */
void killed_print_crew(const struct term *t, Crew__AgentStatus *const *others, size_t n);
void killed_print(const struct term *t, const Crew__Killed *k, const char *verb, bool others);
json_t *killed_json(const Crew__Killed *k);
