/* SPDX-License-Identifier: Apache-2.0 */
/* Giving up.  Nothing here can be undone later, by kernel design; the self-test and the attestation look at the result. */
#include "privs.h"

#include "common/util.h"

#include <errno.h>
#include <linux/capability.h>
#include <linux/keyctl.h>
#include <linux/securebits.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>

#define BY_CGROUP_MEMORY 1u
#define BY_CGROUP_PIDS 2u
/* More than the control group lets it have: the group is asked after this one, and counts how often it refuses. */
#define SECOND_WALL 16u
/* Memory likewise: what is held is looked at from outside, and who holds too much is killed (governor.h), which is known;
 * an allocation that fails is not.  Twice as much bounds what a process can have got between two looks. */

int privs_limit(const struct plan *plan, uint32_t limits_by, struct crew_err *err) {
        const struct plan_limits *l = &plan->limits;
        const struct {
                const char *name;
                uint64_t value;
                int which;
                bool set;
        } rows[] = {
                /* 1, not 0: the one value with which the kernel does not start a core_pattern pipe on the host. */
                {"core", 1, RLIMIT_CORE, true},
                {"open files", l->open_files, RLIMIT_NOFILE, l->open_files},
                /* Counted in the jail's own user namespace, so no other agent's processes weigh in.  One is the worker. */
                {"processes", l->processes + 1ull + (limits_by & BY_CGROUP_PIDS ? SECOND_WALL : 0), RLIMIT_NPROC,
                 l->processes},
                {"file size", l->output_bytes, RLIMIT_FSIZE, l->output_bytes},
                {"data", l->memory_bytes * 2, RLIMIT_DATA, l->memory_bytes && !(limits_by & BY_CGROUP_MEMORY)},
                {"locked memory", 8u << 20, RLIMIT_MEMLOCK, true},
                {"message queues", 800u << 10, RLIMIT_MSGQUEUE, true},
                {"pending signals", 4096, RLIMIT_SIGPENDING, true},
                /* An operator with real-time rights does not pass them on. */
                {"real-time priority", 0, RLIMIT_RTPRIO, true},
                {"nice", 0, RLIMIT_NICE, true},
        };

        for (size_t i = 0; i < ELEMENTSOF(rows); i++) {
                struct rlimit have, want = {rows[i].value, rows[i].value};
                if (!rows[i].set)
                        continue;
                if (getrlimit((__rlimit_resource_t)rows[i].which, &have) < 0)
                        return crew_fail_errno(err, "limit of %s", rows[i].name);
                want.rlim_cur = want.rlim_max = MIN_OF(want.rlim_max, have.rlim_max); /* never above our own */
                if (setrlimit((__rlimit_resource_t)rows[i].which, &want) < 0)
                        return crew_fail_errno(err, "limit of %s", rows[i].name);
        }
        return 0;
}

static int by_number(const void *a, const void *b) {
        return *(const int *)a - *(const int *)b;
}

int privs_close_others(const int *keep, size_t n, struct crew_err *err) {
        int sorted[16];
        unsigned from = 3;

        crew_assert(n <= ELEMENTSOF(sorted));
        if (n > 0)
                memcpy(sorted, keep, n * sizeof(*keep));
        qsort(sorted, n, sizeof(*sorted), by_number);
        for (size_t i = 0; i < n; i++) {
                unsigned fd = (unsigned)sorted[i];
                if (sorted[i] < 0 || fd < from)
                        continue;
                if (fd > from && close_range(from, fd - 1, 0) < 0)
                        return crew_fail_errno(err, "cannot close descriptors");
                from = fd + 1;
        }
        return close_range(from, ~0u, 0) < 0 ? crew_fail_errno(err, "cannot close descriptors") : 0;
}

int privs_empty_bounding_set(struct crew_err *err) {
        for (unsigned long cap = 0;; cap++) {
                if (prctl(PR_CAPBSET_DROP, cap, 0, 0, 0) == 0)
                        continue;
                if (errno == EINVAL && cap > CAP_AUDIT_READ)
                        return 0; /* past the last one of this kernel */
                return crew_fail_errno(err, "cannot drop capability %lu from the bounding set", cap);
        }
}

int privs_drop_caps(struct crew_err *err) {
        struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
        struct __user_cap_data_struct none[2] = {0};
        const unsigned long bits = SECBIT_NOROOT | SECBIT_NOROOT_LOCKED | SECBIT_NO_SETUID_FIXUP |
                                   SECBIT_NO_SETUID_FIXUP_LOCKED | SECBIT_KEEP_CAPS_LOCKED | SECBIT_NO_CAP_AMBIENT_RAISE |
                                   SECBIT_NO_CAP_AMBIENT_RAISE_LOCKED;

        if (prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) < 0)
                return crew_fail_errno(err, "cannot clear ambient capabilities");
        if (prctl(PR_SET_SECUREBITS, bits, 0, 0, 0) < 0)
                return crew_fail_errno(err, "cannot lock securebits");
        if (syscall(SYS_capset, &header, none) < 0)
                return crew_fail_errno(err, "cannot drop capabilities");
        return 0;
}

int privs_no_new(struct crew_err *err) {
        return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 ? crew_fail_errno(err, "no_new_privs") : 0;
}

int privs_new_keyring(struct crew_err *err) {
        /* A kernel without keys (ENOSYS) has none to share. */
        if (syscall(SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, NULL) < 0 && errno != ENOSYS)
                return crew_fail_errno(err, "cannot join a new session keyring");
        return 0;
}
