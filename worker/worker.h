/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What runs in a sealed jail as pid 1: one agent's programs and tools, its socket, and the link to crewd.
 *
 * Everything it does to the outside goes through the link as a checked frame; everything its programs do is on the other
 * side of a pipe or a socket.  It is the same jail as theirs, so crewd trusts nothing that comes from here.
 */
#pragma once

#include "worker/sandbox/jail.h"

#define WORKER_SOCKET "/run/crew/agent.sock"

/* Exit codes of pid 1 when crewd did not ask for the end; the agent's own status when a stdio-rpc agent ended. */
#define WORKER_EXIT_BROKEN 70 /* internal: no memory, no socket */
#define WORKER_EXIT_LINK 71   /* crewd's frames broke the protocol */

struct worker_config {
        const struct plan *plan;
        int lifeline;            /* where the spawner hands over another link; -1: it never does */
        int link_fd;             /* connected; owned by the worker from now on */
        const char *socket_path; /* where agents connect */
        /* Starts a program of the plan; jail_exec_program, or in tests something that only forks. */
        pid_t (*exec)(const struct plan *plan, const struct jail_exec *x);
        int (*take_link)(int lifeline); /* jail_take_link; NULL without a lifeline */
};

/* Runs until crewd is gone or says so; the exit code.  Refuses to run as anything but pid 1: it kills by namespace. */
int worker_run(const struct worker_config *c);
