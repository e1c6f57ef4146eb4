/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the policies of a crew reach, together.  Each agent's plan needs it (tripwires stand where others may go, and no
 * link is followed where any may write), so for many plans in a row it is gathered once.
 */
#pragma once

#include "planner_view.h"

struct reach {
        const char *path; /* as written */
        uint32_t holder;  /* the agent whose policy lists it, or REACH_SEVERAL */
        bool tree, write_tree;
};
#define REACH_SEVERAL UINT32_MAX

/* Paths of read, write and exec, each once, in the order of the crew file. */
const struct reach *planner_crew_reach(const struct planner_crew *p, size_t *n);
/* Makes it fit the crew as it is: anew when a policy is another one, or when it is older than a second.  p is v's own, or
 * the one its input names. */
int planner_crew_gather(struct planner_crew *p, struct view *v);
/* Real paths of the write trees among them. */
const char *const *planner_crew_hostile(const struct planner_crew *p, size_t *n);
