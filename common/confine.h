/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How our own long-lived programs (crewd, crew-evidence, crew-gateway) give up what they do not need, after they have
 * opened what they do: identity, capabilities, file system, system calls.  Each step is fatal on failure.
 * Call while single-threaded.  Agents' jails are made elsewhere (worker/sandbox).
 */
#pragma once

#include "err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct confine {
        uid_t uid; /* switch to this uid and gid, dropping groups; 0 keeps the current identity */
        gid_t gid;
        uint64_t keep_caps; /* bits of CAP_* to keep, permitted and effective; the bounding set is cut to them */
        bool no_files;      /* Landlock: no path can be opened any more (skipped on kernels without Landlock) */
        /* Landlock: only below these paths, NULL-terminated, and only reading; those that do not exist are left out */
        const char *const *read_only;
        const int *syscalls; /* allow-list of numbers; NULL installs deny-list below instead */
        size_t n_syscalls;
        const int *denied; /* with syscalls == NULL: these fail with EPERM, all else is allowed */
        size_t n_denied;
        bool unix_sockets_only; /* socket(2) for any other family fails with EAFNOSUPPORT */
        bool inet_sockets_only; /* the same, for AF_INET and AF_INET6 */
};

/* no_new_privs, dumpable 0, no core dumps, then the fields above in order, the filter last.  A call outside the
 * allow-list fails with EPERM; a foreign architecture kills the process. */
int confine_self(const struct confine *c, struct crew_err *err);

#define CONFINE_NOBODY 65534u /* whom a program of ours becomes that was started as root and owns nothing */

/* The same for our programs that look names up with the system's own means (getaddrinfo, certificates): nobody when it was
 * root, reads the system's configuration and libraries alone, no program, and no call that no such thing needs. */
int confine_self_to_lookups(struct crew_err *err);
