/* SPDX-License-Identifier: Apache-2.0 */
/*
 * From a frozen policy to the spawn plan of one instance: the view, the Landlock layers, the programs, the limits.
 * Pure but for stat(2) of the paths it grants and readlink(2) of the runtime's links.
 */
#pragma once

#include "crew_file.h"
#include "policy.h"

struct planner_input {
        const struct policy_image *policy;
        const struct crew_file *crew;   /* NULL for crewctl sandbox */
        const struct crew_agent *agent; /* NULL for crewctl sandbox */
        const char *const *sandbox_argv; /* crewctl sandbox: the command */
        size_t n_sandbox_argv;
        uint32_t incarnation;
        bool root_mode;
        uint32_t host_uid, host_gid; /* root mode: from the range; rootless: the operator's */
        bool netrules, notify, landlock_log;
};
/* *block is malloc'd; put it in a sealed memfd and give it to the spawner. */
int planner_make(const struct planner_input *in, void **block, size_t *n, struct crew_err *err);
