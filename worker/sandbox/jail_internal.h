/* SPDX-License-Identifier: Apache-2.0 */
/* Between the outside of a jail (jail.c) and its inside (jail_child.c), one process each, one socket pair. */
#pragma once

#include "cgroup.h"
#include "jail.h"
#include "view.h"

#include "common/util.h"

#include <sched.h>

enum jail_msg_kind {
        /* child -> spawner */
        JAIL_FAILED = 1, /* .errno_, .step, .text */
        JAIL_LISTENER,   /* fd: the seccomp listener; its calls must be passed on until JAIL_SEALED */
        JAIL_SEALED,     /* fds: the capture listeners; .selftests, .tripwires */
        /* spawner -> child */
        JAIL_PLAN, /* to a child made ahead; fds: the plan's memfd, then the standard streams it has (.stdio: bits 0-2) */
        JAIL_SOURCES, /* root mode; fds: prepared mounts, .numbers says which; any number of these before JAIL_MAPPED */
        JAIL_MAPPED,  /* ids are mapped */
        JAIL_GROUPS,  /* .limits_by; fds: the version 1 groups to join */
        JAIL_RELINK,  /* PLAN_HOLD, any time after JAIL_GO; fd: a connection that is the worker's link from now on */
        JAIL_GO,      /* attested: nothing of the agent's runs before; crewctl sandbox does without */
};

struct jail_msg {
        uint32_t kind;
        int32_t errno_;
        uint32_t selftests, tripwires;
        uint32_t limits_by;
        uint32_t stdio;
        char step[32];
        union {
                char text[512];
                uint16_t numbers[CREW_FDS_MAX];
        };
};

/* What the child inherits; lives on the spawner's stack, copied by the clone. */
struct jail_birth {
        const struct jail_spawn_args *args;
        const struct plan *plan; /* NULL in a child made ahead, until it is told */
        int sync;                /* the child's end */
        unsigned landlock_abi;
        struct cgroup group;
        struct view view; /* root mode: prepared by the spawner while the child makes its network */
        bool spread;      /* over two CPUs: the child works on .others; .cpus is what it, or its command, gets back */
        cpu_set_t cpus, others;
        volatile uint32_t *progress; /* shared: the child's current step, for when it dies without a word */
};

/* Runs the step table, reports, waits for the word, then args->main.  In the child. */
_Noreturn void jail_child_run(struct jail_birth *b);
/* Name of a child step, for the progress word. */
const char *jail_child_step_name(uint32_t i);
uint32_t jail_child_steps(void);

/* For the fault tests only: the step with this name fails (inside or outside), or with "!" in front the child dies
 * there without a word. */
extern const char *jail_test_fail_step;
