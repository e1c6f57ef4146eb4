/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the running kernel can enforce, found out by trying it.
 *
 * Shared by doctor, status and crewd.  A probe changes nothing that outlives it: what needs a namespace is tried in a
 * short-lived child.  Results are those of the calling user: run as root they say nothing about rootless use, which
 * is why crew_kernel_probe_as() exists.
 */
#pragma once

#include "err.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

enum crew_probe {
        CREW_PROBE_LANDLOCK,       /* the ABI is in crew_kernel.landlock_abi */
        CREW_PROBE_SECCOMP,        /* filters */
        CREW_PROBE_SECCOMP_NOTIFY, /* the user notification action */
        CREW_PROBE_USERNS,         /* a user namespace that may mount: what AppArmor and sysctls restrict */
        CREW_PROBE_NETNS,
        CREW_PROBE_NFTABLES, /* a redirect rule in a fresh user and network namespace */
        CREW_PROBE_PIDFD,
        CREW_PROBE_IDMAP,    /* idmapped mounts; root only */
        CREW_PROBE_AUDIT,    /* NETLINK_AUDIT may be switched on and read; root only */
        CREW_PROBE_FANOTIFY, /* mount marks; root only */
        CREW_PROBE_CGROUP_MEMORY,
        CREW_PROBE_CGROUP_PIDS,
        CREW_PROBE_CGROUP_CPU,
        CREW_PROBE_CGROUP_KILL,
        CREW_PROBE_N,
};
extern const char *const crew_probe_names[CREW_PROBE_N]; /* "landlock", "seccomp", ... */

enum crew_cgroup_mode { CREW_CGROUP_NONE, CREW_CGROUP_V1, CREW_CGROUP_HYBRID, CREW_CGROUP_V2, CREW_CGROUP_MODE_N };
extern const char *const crew_cgroup_mode_names[CREW_CGROUP_MODE_N]; /* "none" "v1" "hybrid v1" "v2" */

/* Switches of the distribution that forbid user namespaces to ordinary users. */
enum crew_restriction {
        CREW_RESTRICT_APPARMOR = 1u << 0,   /* kernel.apparmor_restrict_unprivileged_userns = 1 */
        CREW_RESTRICT_SYSCTL = 1u << 1,     /* kernel.unprivileged_userns_clone = 0 */
        CREW_RESTRICT_MAX_USERNS = 1u << 2, /* user.max_user_namespaces = 0 */
        CREW_RESTRICT_MAX_NETNS = 1u << 3,  /* user.max_net_namespaces = 0 */
};

struct crew_kernel {
        char release[65];
        int landlock_abi; /* 0: none */
        int cgroup_mode;  /* enum crew_cgroup_mode */
        uint32_t restrictions;
        int result[CREW_PROBE_N]; /* 0: usable; otherwise -errno of what was tried */
};

/* The Landlock ABI, 0 when there is none (errno: ENOSYS not built, EOPNOTSUPP switched off at boot). */
int crew_landlock_abi(void);
/* One probe.  0 or -errno. */
int crew_probe(enum crew_probe which);
/* All of them. */
void crew_kernel_probe(struct crew_kernel *k);
/* All of them in a child that first becomes uid:gid without groups or capabilities; for root asking about rootless. */
int crew_kernel_probe_as(uid_t uid, gid_t gid, struct crew_kernel *k, struct crew_err *err);
