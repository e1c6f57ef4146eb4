/* SPDX-License-Identifier: Apache-2.0 */
/*
 * From a frozen policy to the spawn plan of one instance: the view, the Landlock layers, the programs, the limits.
 * Pure but for lstat(2) and readlink(2) of the paths it grants and of the runtime's links.
 */
#pragma once

#include "crew_file.h"
#include "policy.h"

/* What the policies of a crew say together, for as many plans of it as are to be made. */
struct planner_crew;
struct planner_crew *planner_crew_new(void);
struct planner_crew *planner_crew_free(struct planner_crew *p); /* NULL is fine; NULL */

struct planner_input {
        const struct policy_image *policy;
        const struct crew_file *crew;    /* NULL for crewctl sandbox */
        struct planner_crew *together;   /* of that crew; NULL: found out for this plan alone */
        const struct crew_agent *agent;  /* NULL for crewctl sandbox */
        const char *const *sandbox_argv; /* crewctl sandbox: the command */
        size_t n_sandbox_argv;
        const char *const *sandbox_env; /* crewctl sandbox: NAME=VALUE, beyond the fixed ones */
        size_t n_sandbox_env;
        const char *crew_dir;      /* crewctl sandbox: what ${CREW_DIR} meant, or NULL */
        const char *cwd;           /* crewctl sandbox: start here if the view has it; NULL: in the private home */
        const char *operator_home; /* its secrets get tripwires; NULL: /root alone has them */
        /* A file of the host that takes the place of the system's certificates, and that programs are told of; NULL: none.
         */
        const char *ca_bundle;
        const char
                *state_dir; /* a directory of the host, without links on its way, that outlives the instance; NULL: none */
        const struct crew_migrate *migrate; /* the jail is for bringing that directory up to date, and no program starts by
                                               itself; NULL: for the agent */
        uint32_t migrate_from;              /* its version */
        const char *crew_call; /* the program bound into every agent's PATH; NULL: the one beside the running program */
        uint32_t incarnation;
        bool root_mode;
        uint32_t host_uid, host_gid;   /* root mode: from the range; rootless: the operator's */
        uint32_t owner_uid, owner_gid; /* whom a directory made at start belongs to: the operator */
        bool netrules, notify, landlock_log;
        bool hold; /* it outlives its crewd for a while; PLAN_HOLD */
};

/* Outcomes: the plan was not made because of the command, not because of the policy; err says which. */
enum planner_outcome {
        PLANNER_OK,
        PLANNER_COMMAND_ABSENT,  /* the program is not there */
        PLANNER_COMMAND_REFUSED, /* it is there, but neither in the runtime nor in filesystem.exec */
};

/* *block is malloc'd; put it in a sealed memfd and give it to the spawner.  Outcome, or -errno with err filled. */
int planner_make(const struct planner_input *in, void **block, size_t *n, struct crew_err *err);
