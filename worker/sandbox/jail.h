/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The jail: from a checked plan to a sealed process, in one ordered table of steps, each fatal on failure.
 *
 * Used by the spawner (crews) and by crewctl sandbox (one command, no daemon).  The caller is single-threaded.
 */
#pragma once

#include "common/plan.h"
#include "common/spawn.h"

#include <sys/types.h>

/* What the sealed child runs; never returns.  In the child: pid 1 of its pid namespace, sealed, link_fd connected (or
 * -1), listeners in the order of SPAWN_READY (or -1). */
struct jail_child {
        const struct plan *plan;
        int link_fd;
        int stdio[3]; /* sandbox: what the command gets */
};
typedef void (*jail_main_fn)(const struct jail_child *c, void *user);

struct jail_spawn_args {
        const struct plan *plan;
        const char *link_path; /* NULL: no link */
        int stdio[3];          /* sandbox; -1: none */
        jail_main_fn main;
        void *user;
};

struct jail { /* owned by the caller; JAIL_NULL */
        pid_t pid;
        int pidfd;
        int listeners[4]; /* tcp4 tcp6 udp4 udp6; -1 when the plan has no netrules */
        int notify_fd;    /* -1 when the plan has no notify */
        struct spawn_attestation att;
        char cgroup[128]; /* name below our cgroup root, "" when none */
};
#define JAIL_NULL ((struct jail){.pid = -1, .pidfd = -1, .listeners = {-1, -1, -1, -1}, .notify_fd = -1})

/* Clones, seals, checks from outside.  0: sealed and attested.  On failure nothing of it is left, err names the step. */
int jail_spawn(const struct jail_spawn_args *args, struct jail *out, struct crew_err *err);
/* Kills the whole tree, reaps pid 1, removes the cgroup. */
int jail_kill(struct jail *j, struct spawn_exit *out);
/* After pid 1 has been reaped by the caller (waitid on pidfd): removes cgroup and descriptors. */
void jail_fini(struct jail *j);

/* In the sealed child: fork, enter a further Landlock layer, exec a program of the plan.  Returns pid or -errno. */
struct jail_exec {
        uint32_t layer;
        const char *const *argv; /* NULL-terminated */
        const char *const *envp;
        int stdio[3];
        bool new_session;
};
pid_t jail_exec_program(const struct plan *plan, const struct jail_exec *x);
