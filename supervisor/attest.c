/* SPDX-License-Identifier: Apache-2.0 */
#include "attest.h"

#include "common/plan.h"
#include "common/util.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>

static const struct {
        const char *name;
        size_t offset;
} namespaces[] = {
        {"user", offsetof(struct spawn_attestation, ns_user)}, {"pid", offsetof(struct spawn_attestation, ns_pid)},
        {"mnt", offsetof(struct spawn_attestation, ns_mnt)},   {"net", offsetof(struct spawn_attestation, ns_net)},
        {"ipc", offsetof(struct spawn_attestation, ns_ipc)},   {"uts", offsetof(struct spawn_attestation, ns_uts)},
};

static uint64_t inode_of(const struct spawn_attestation *att, size_t i) {
        uint64_t v;

        memcpy(&v, (const char *)att + namespaces[i].offset, sizeof(v));
        return v;
}

int attest_own(struct spawn_attestation *out, struct crew_err *err) {
        for (size_t i = 0; i < ELEMENTSOF(namespaces); i++) {
                char path[64];
                struct stat st;
                snprintf(path, sizeof(path), "/proc/self/ns/%s", namespaces[i].name);
                if (stat(path, &st) < 0)
                        return crew_fail_errno(err, "cannot stat %s", path);
                uint64_t ino = st.st_ino;
                memcpy((char *)out + namespaces[i].offset, &ino, sizeof(ino));
        }
        return 0;
}

int attest_check(const struct spawn_attestation *att, const struct attest_want *want, struct crew_err *err) {
        uint32_t landlock = 1u << PLAN_FEATURE_LANDLOCK | 1u << PLAN_FEATURE_LANDLOCK_ABI;

        if (att->pid <= 0 || att->pid != want->peer_pid)
                return crew_fail(err, EPERM, "the link was opened by process %d, the jail is process %d",
                                 (int)want->peer_pid, (int)att->pid);
        if (att->host_uid != want->host_uid || att->host_gid != want->host_gid)
                return crew_fail(err, EPERM, "the jail runs as %u:%u, not %u:%u", att->host_uid, att->host_gid,
                                 want->host_uid, want->host_gid);
        if (att->seccomp_mode != 2)
                return crew_fail(err, EPERM, "no system call filter is in force (mode %u)", att->seccomp_mode);
        if (att->no_new_privs != 1)
                return crew_fail(err, EPERM, "no_new_privs is not set");
        if (att->cap_eff | att->cap_prm | att->cap_inh | att->cap_bnd | att->cap_amb)
                return crew_fail(err, EPERM, "the jail holds capabilities (effective %llx, bounding %llx)",
                                 (unsigned long long)att->cap_eff, (unsigned long long)att->cap_bnd);
        for (size_t i = 0; i < ELEMENTSOF(namespaces); i++) {
                if (inode_of(att, i) == 0 || inode_of(att, i) == inode_of(&want->own, i))
                        return crew_fail(err, EPERM, "the jail has no %s namespace of its own", namespaces[i].name);
        }
        if (att->degraded & ~want->allow_degraded)
                return crew_fail(err, EPERM, "protections are missing that the policy does not let go");
        if (att->landlock_abi < want->landlock_abi_min && !(want->allow_degraded & landlock))
                return crew_fail(err, EPERM, "Landlock ABI %u is in force, the policy needs %u", att->landlock_abi,
                                 want->landlock_abi_min);
        return 0;
}

void attest_text(const struct spawn_attestation *att, char *out, size_t out_size) {
        snprintf(out, out_size, "landlock %u · seccomp · netns · uid %u", att->landlock_abi, att->host_uid);
}

void attest_walls(const struct spawn_attestation *att, char *out, size_t out_size) {
        size_t n = (size_t)snprintf(out, out_size, "%s", att->degraded ? "without " : "full");
        const char *separator = "";

        for (unsigned i = 0; i < PLAN_FEATURE_N && n < out_size; i++) {
                if (!(att->degraded & 1u << i))
                        continue;
                n += (size_t)snprintf(out + n, out_size - n, "%s%s", separator, plan_feature_names[i]);
                separator = ", ";
        }
}
