/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Starting crewd and holding on to it: its readiness, its log, its end.
 *
 * crewd runs in a session of its own, so a Ctrl-C reaches only us.  While we own it (owner pipe) it cannot outlive us.
 */
#pragma once

#include "cli.h"
#include "common/paths.h"

#include <sys/types.h>

struct launch { /* LAUNCH_NULL */
        pid_t pid;
        int pidfd, ready_fd, owner_fd; /* owned */
        char log[PATH_MAX];            /* where its messages go; "" when they come to our standard error */
        char said[1024];               /* read from ready_fd so far */
        size_t said_n;
};
#define LAUNCH_NULL ((struct launch){.pid = -1, .pidfd = -1, .ready_fd = -1, .owner_fd = -1})

struct launch_args {
        const char *crew_file, *crew; /* path and name */
        const struct crew_paths *paths;
        bool own;       /* it ends when we do */
        bool locked;    /* crewd checks crew.lock itself */
        bool stderr_up; /* its messages come to our standard error instead of the log file */
};
int launch_start(struct launch *l, const struct launch_args *args, struct cli_problem *problem);
/* 1: the agents are up; 0: not yet, timeout_ms has passed; -1: it could not, problem says why (it is reaped). */
int launch_ready(struct launch *l, int timeout_ms, struct cli_problem *problem);
/* True when it has ended within timeout_ms (-1: for ever). */
bool launch_ended(struct launch *l, int timeout_ms);
/* Exit status of crewd after launch_ended(): code, or 128 + signal; -1 when unknown. */
int launch_status(struct launch *l);
/* Adds the end of its log to a problem. */
void launch_add_log(const struct launch *l, struct cli_problem *problem);
/* Tells it to end at once, then makes it. */
void launch_kill(struct launch *l);
/* Lets go of it; it runs on unless it is owned. */
void launch_fini(struct launch *l);
