/* SPDX-License-Identifier: Apache-2.0 */
/* How agents and tasks look from outside. */
#pragma once

#include "agent.h"

struct crewd;
struct job;

/* The strings point into a, its crew file, and text. */
struct status_agent {
        Crew__AgentStatus pb;
        char walls[256], cause[256], role[256], policy[256], health[256], reason[256];
        Crew__LimitUse limits[USAGE_LIMIT_N];
        Crew__LimitUse *limit_pointers[USAGE_LIMIT_N];
};
struct status_task {
        Crew__TaskStatus pb;
};
void status_agent(const struct agent *a, struct status_agent *out);
void status_task(const struct crewd *c, const struct job *j, struct status_task *out);

void status_announce_agent(struct agent *a);
void status_announce_task(struct crewd *c, const struct job *j);

struct status_lists {
        struct status_agent *agents; /* owned */
        struct status_task *tasks;   /* owned */
        Crew__AgentStatus **agent_pointers;
        Crew__TaskStatus **task_pointers;
        size_t n_agents, n_tasks;
};
/* except: an agent to leave out, or NULL.  whole: each with what it uses of its limits, and submitted tasks that are not
 * over.  0 or -ENOMEM. */
int status_lists_make(struct crewd *c, const struct agent *except, bool whole, struct status_lists *out);
void status_lists_fini(struct status_lists *l);
