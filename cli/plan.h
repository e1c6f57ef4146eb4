/* SPDX-License-Identifier: Apache-2.0 */
/* What a changed crew file would do, as crewd says, and how that is shown; for plan and up. */
#pragma once

#include "client.h"
#include "jsonout.h"

/* The crew that a file is of; a file that does not check, or (locked) is not what its crew.lock names, has none: -1. */
int plan_name_crew(const char *file, bool locked, char *name, size_t size, struct cli_problem *problem);
/* file "": the one in force, else absolute.  0 and *out (valid until the next frame is asked for); -1 with a problem. */
int plan_ask(struct client *c, const char *file, bool locked, const Crew__CrewPlan **out, struct cli_problem *problem);

void plan_print(const Crew__CrewPlan *p, const char *crew, bool advise);
json_t *plan_json(const Crew__CrewPlan *p, const char *crew);
const char *plan_effect_name(Crew__PlanEffect e);
/* As `policy check` shows them. */
void plan_print_problems(Crew__PolicyProblem **problems, size_t n);
json_t *plan_problems_json(Crew__PolicyProblem *const *problems, size_t n);
