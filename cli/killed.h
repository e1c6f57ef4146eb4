/* SPDX-License-Identifier: Apache-2.0 */
/* What kill and stop have in common: which agents are meant, and how the end of one is told. */
#pragma once

#include "client.h"
#include "term.h"

#include <jansson.h>

#define KILL_NAME_MAX 64

struct agent_meant {
        char name[KILL_NAME_MAX];
        Crew__AgentState state; /* when it was chosen; UNSET: it was named */
        bool frozen;            /* by this call */
};
struct agents_meant {
        struct agent_meant *items; /* owned */
        size_t n;
};
void agents_meant_fini(struct agents_meant *l);

/* Does an agent belong to this role: the text of its `role`, the name of its policy file, or that without .yaml? */
bool agent_has_role(const Crew__AgentStatus *a, const char *role);
/* The agents of a role that run, or will unless somebody ends them: all but those that have ended for good.  -1 with a
 * problem when nobody has that role or all of it have ended. */
int agents_of_role(struct client *c, const char *role, struct agents_meant *out, struct cli_problem *problem);

/* How those agents are. */
void killed_print_crew(const struct term *t, Crew__AgentStatus *const *others, size_t n);
void killed_print(const struct term *t, const Crew__Killed *k, const char *verb, bool others);
json_t *killed_json(const Crew__Killed *k);
