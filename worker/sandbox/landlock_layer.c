/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which rights exist at which ABI is one table.  The attribute structure is ours, for the headers may be older than the
 * kernel; a kernel ignores no byte it does not know, so the size given is the one of its ABI.
 */
#include "landlock_layer.h"

#include "view.h"

#include "common/landlock.h"
#include "common/util.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#ifndef LANDLOCK_ACCESS_NET_BIND_TCP
#define LANDLOCK_ACCESS_NET_BIND_TCP (1ULL << 0) /* ABI 4 */
#define LANDLOCK_ACCESS_NET_CONNECT_TCP (1ULL << 1)
#endif
#ifndef LANDLOCK_SCOPE_SIGNAL
#define LANDLOCK_SCOPE_ABSTRACT_UNIX_SOCKET (1ULL << 0) /* ABI 6 */
#define LANDLOCK_SCOPE_SIGNAL (1ULL << 1)
#endif
#ifndef LANDLOCK_RESTRICT_SELF_LOG_NEW_EXEC_ON
#define LANDLOCK_RESTRICT_SELF_LOG_SAME_EXEC_OFF (1U << 0) /* ABI 7 */
#define LANDLOCK_RESTRICT_SELF_LOG_NEW_EXEC_ON (1U << 1)
#endif

struct ruleset_attr {
        uint64_t handled_access_fs, handled_access_net, scoped;
};

static const struct abi_row {
        uint64_t fs, net, scoped; /* what exists at this ABI */
        size_t attr_size;
} abis[] = {
        [1] = {(1ULL << 13) - 1, 0, 0, 8},  [2] = {(1ULL << 14) - 1, 0, 0, 8}, /* REFER */
        [3] = {(1ULL << 15) - 1, 0, 0, 8},                                     /* TRUNCATE */
        [4] = {(1ULL << 15) - 1, 3, 0, 16},                                    /* TCP ports */
        [5] = {(1ULL << 16) - 1, 3, 0, 16},                                    /* IOCTL_DEV */
        [6] = {(1ULL << 16) - 1, 3, 3, 24},                                    /* scopes */
        [7] = {(1ULL << 16) - 1, 3, 3, 24},                                    /* log flags */
};
#define ABI_KNOWN (ELEMENTSOF(abis) - 1)
#define FILE_RIGHTS                                                                                                        \
        (LANDLOCK_ACCESS_FS_EXECUTE | LANDLOCK_ACCESS_FS_WRITE_FILE | LANDLOCK_ACCESS_FS_READ_FILE |                       \
         LANDLOCK_ACCESS_FS_TRUNCATE | LANDLOCK_ACCESS_FS_IOCTL_DEV)

static const struct abi_row *abi_row(unsigned abi) {
        return &abis[MIN_OF(abi, (unsigned)ABI_KNOWN)];
}

/* What lets our calls through once programs see no Landlock (landlock_hide.h); for the kernel there is no such argument. */
static uint64_t pass;

void landlock_layer_pass(uint64_t number) {
        pass = number;
}

static long call(long nr, uintptr_t a, uintptr_t b, uintptr_t c, uintptr_t d) {
        return syscall(nr, a, b, c, d, 0, pass);
}

unsigned landlock_abi(int *why) {
        long abi = call(SYS_landlock_create_ruleset, 0, 0, LANDLOCK_CREATE_RULESET_VERSION, 0);

        *why = abi < 0 ? errno : 0;
        return abi < 0 ? 0 : (unsigned)abi;
}

int landlock_check(const struct plan *plan, unsigned abi, uint32_t *degraded, struct crew_err *err) {
        uint32_t none = 1u << PLAN_FEATURE_LANDLOCK, old = 1u << PLAN_FEATURE_LANDLOCK_ABI;
        int why;

        if (abi == 0) {
                landlock_abi(&why);
                *degraded |= none;
                if (plan->allow_degraded & none)
                        return 0;
                return crew_fail(err, EOPNOTSUPP, "Landlock is missing: %s",
                                 why == EOPNOTSUPP
                                         ? "switched off at boot; add landlock to lsm= on the kernel command line"
                                         : "this kernel was built without it (CONFIG_SECURITY_LANDLOCK, 5.13 or later)");
        }
        if (abi >= plan->landlock_abi_min)
                return 0;
        *degraded |= old;
        if (plan->allow_degraded & old)
                return 0;
        return crew_fail(err, EOPNOTSUPP,
                         "Landlock ABI %u here, the policy needs %u; a newer kernel, or allow_degraded: [%s]", abi,
                         plan->landlock_abi_min, plan_feature_names[PLAN_FEATURE_LANDLOCK_ABI]);
}

static int open_rule(const struct plan_rule *rule, const char *path) {
        struct open_how how = {.flags = O_PATH | O_CLOEXEC};

        if (!(rule->flags & PLAN_MOUNT_FOLLOW))
                how.resolve = RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS;
        long fd = syscall(SYS_openat2, AT_FDCWD, path, &how, sizeof(how));
        if (fd >= 0 || errno != ENOSYS)
                return fd < 0 ? -errno : (int)fd;
        /* Sealed: the filter knows no openat2. */
        if (!(rule->flags & PLAN_MOUNT_FOLLOW))
                return view_open_plain(path);
        fd = open(path, O_PATH | O_CLOEXEC);
        return fd < 0 ? -errno : (int)fd;
}

static int add_rule(int ruleset, const struct plan *plan, const struct plan_rule *rule, const struct abi_row *row,
                    struct crew_err *err) {
        const char *path = plan_str(plan, rule->path);
        _cleanup_close_ int fd = open_rule(rule, path);
        struct landlock_path_beneath_attr attr = {.allowed_access = rule->access & row->fs, .parent_fd = fd};
        struct stat st;
        int r;

        if (fd < 0 && (rule->flags & PLAN_MOUNT_OPTIONAL))
                return 0;
        if (fd < 0)
                return crew_fail(err, -fd, "rule for %s: %s", path, strerror(-fd));
        if (attr.allowed_access == 0)
                return 0;
        r = (int)call(SYS_landlock_add_rule, (uintptr_t)ruleset, LANDLOCK_RULE_PATH_BENEATH, (uintptr_t)&attr, 0);
        /* The kernel takes no rights of directories for a file; seldom asked for, so found out this way. */
        if (r < 0 && errno == EINVAL && fstat(fd, &st) == 0 && !S_ISDIR(st.st_mode)) {
                attr.allowed_access &= FILE_RIGHTS;
                if (attr.allowed_access == 0)
                        return 0;
                r = (int)call(SYS_landlock_add_rule, (uintptr_t)ruleset, LANDLOCK_RULE_PATH_BENEATH, (uintptr_t)&attr, 0);
        }
        return r < 0 ? crew_fail_errno(err, "rule for %s", path) : 0;
}

int landlock_layer_open(const struct plan *plan, uint32_t layer, unsigned abi, struct crew_err *err) {
        const struct plan_layer *l = plan_layer_at(plan, layer);
        const struct abi_row *row = abi_row(abi);
        /*
         * With capture listeners every address of the jail's own network leads to the gateway, which refuses and records;
         * a refusal by port number here would come first and know no name.  In crewctl sandbox the network ends at the
         * loopback device, and what listens there is the command's own.
         */
        struct ruleset_attr attr = {
                .handled_access_fs = row->fs,
                .handled_access_net = plan->flags & (PLAN_NETRULES | PLAN_SANDBOX) ? 0 : row->net,
                .scoped = row->scoped,
        };

        if (!l || abi == 0)
                return crew_fail(err, EINVAL, "no layer %u", layer);
        /* The rights that no rule ever gives and the outer layer refuses too: only the domain is new. */
        if (l->flags & PLAN_LAYER_AS_OUTER)
                attr.handled_access_fs = LANDLOCK_ACCESS_FS_MAKE_CHAR | LANDLOCK_ACCESS_FS_MAKE_BLOCK;
        _cleanup_close_ int fd = (int)call(SYS_landlock_create_ruleset, (uintptr_t)&attr, row->attr_size, 0, 0);
        if (fd < 0)
                return crew_fail_errno(err, "cannot create a Landlock ruleset");
        for (uint32_t i = 0; i < l->n_rules; i++) {
                int r = add_rule(fd, plan, plan_rule_at(plan, l->first_rule + i), row, err);
                if (r < 0)
                        return r;
        }
        return crew_steal_fd(&fd);
}

int landlock_layer_enter(int ruleset_fd, const struct plan *plan, unsigned abi) {
        uint32_t flags = 0;

        /* Our own code is silent, so that the self-test leaves no record; programs started later are not, if asked for. */
        if (abi >= 7)
                flags = LANDLOCK_RESTRICT_SELF_LOG_SAME_EXEC_OFF;
        if (abi >= 7 && (plan->flags & PLAN_LANDLOCK_LOG))
                flags |= LANDLOCK_RESTRICT_SELF_LOG_NEW_EXEC_ON;
        return call(SYS_landlock_restrict_self, (uintptr_t)ruleset_fd, flags, 0, 0) < 0 ? -errno : 0;
}
