/* SPDX-License-Identifier: Apache-2.0 */
/* What crewd demands of the spawner's look at a sealed jail before one frame from it is handled.  Pure. */
#pragma once

#include "common/err.h"
#include "common/spawn.h"

#include <sys/types.h>

struct attest_want {
        uint32_t host_uid, host_gid;
        uint32_t landlock_abi_min;
        uint32_t allow_degraded;      /* bit set of enum plan_feature */
        pid_t peer_pid;               /* who connected to the link */
        struct spawn_attestation own; /* ns_*: crewd's own namespaces */
};

/* Fills out->ns_* with this process's namespaces. */
int attest_own(struct spawn_attestation *out, struct crew_err *err);
/* 0, or -EPERM with the first thing that is not as it must be. */
int attest_check(const struct spawn_attestation *att, const struct attest_want *want, struct crew_err *err);
/* "landlock 7 · seccomp · netns · uid 200001" */
void attest_text(const struct spawn_attestation *att, char *out, size_t out_size);
/* "full", or "without cgroup-memory, evidence". */
void attest_walls(const struct spawn_attestation *att, char *out, size_t out_size);
