/* SPDX-License-Identifier: Apache-2.0 */
/* /proc/PID/status and the namespace links, compared with what must be.  Trusts the kernel only. */
#include "attest.h"

#include "common/util.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#define NS_N 6
static const char *const ns_names[NS_N] = {"ns/user", "ns/pid", "ns/mnt", "ns/net", "ns/ipc", "ns/uts"};

static int read_ns(int proc_dir, uint64_t out[NS_N], struct crew_err *err) {
        for (size_t i = 0; i < NS_N; i++) {
                struct stat st;
                if (fstatat(proc_dir, ns_names[i], &st, 0) < 0)
                        return crew_fail_errno(err, "cannot see %s", ns_names[i]);
                out[i] = st.st_ino;
        }
        return 0;
}

static int own_ns(const uint64_t **out, struct crew_err *err) {
        static uint64_t own[NS_N];
        static bool known;

        if (!known) {
                _cleanup_close_ int self = open("/proc/self", O_PATH | O_DIRECTORY | O_CLOEXEC);
                int r = self < 0 ? crew_fail_errno(err, "cannot open /proc/self") : read_ns(self, own, err);
                if (r < 0)
                        return r;
                known = true;
        }
        *out = own;
        return 0;
}

/* "Key:\tvalue" of /proc/PID/status. */
static const char *status_value(const char *text, const char *key) {
        size_t n = strlen(key);

        for (const char *line = text; line; line = strchr(line, '\n') ? strchr(line, '\n') + 1 : NULL) {
                if (strncmp(line, key, n) == 0 && line[n] == ':')
                        return line + n + 1;
        }
        return NULL;
}

/* Whole, for the line of groups alone may be long (65,536 of them): what stands behind it must not be cut off. */
static int read_status(int proc_dir, char *buf, size_t room, struct crew_err *err) {
        _cleanup_close_ int fd = openat(proc_dir, "status", O_RDONLY | O_CLOEXEC);
        size_t used = 0;
        ssize_t n;

        do {
                n = fd < 0 ? -1 : read(fd, buf + used, room - 1 - used);
                if (n < 0)
                        return crew_fail_errno(err, "cannot read a status in /proc");
                used += (size_t)n;
        } while (n > 0 && used < room - 1);
        buf[used] = '\0';
        return n == 0 ? 0 : crew_fail(err, EFBIG, "a status in /proc has over %zu bytes", room);
}

/* All four ids must be the one the plan names. */
static int check_ids(const char *text, const char *key, uint32_t want, struct crew_err *err) {
        const char *v = status_value(text, key);
        unsigned id[4] = {0};

        if (!v || sscanf(v, "%u %u %u %u", &id[0], &id[1], &id[2], &id[3]) != 4)
                return crew_fail(err, EPROTO, "the child's status has no %s", key);
        for (size_t i = 0; i < 4; i++) {
                if (id[i] != want)
                        return crew_fail(err, EPERM, "%s is %u, must be %u", key, id[i], want);
        }
        return 0;
}

static int check_status(const char *text, struct spawn_attestation *att, struct crew_err *err) {
        const struct {
                const char *key;
                int base;
                uint64_t want, *out;
        } rows[] = {
                {"CapEff", 16, 0, &att->cap_eff}, {"CapPrm", 16, 0, &att->cap_prm}, {"CapInh", 16, 0, &att->cap_inh},
                {"CapBnd", 16, 0, &att->cap_bnd}, {"CapAmb", 16, 0, &att->cap_amb},
        };
        const char *v;

        for (size_t i = 0; i < ELEMENTSOF(rows); i++) {
                if (!(v = status_value(text, rows[i].key)))
                        return crew_fail(err, EPROTO, "the child's status has no %s", rows[i].key);
                *rows[i].out = strtoull(v, NULL, rows[i].base);
                if (*rows[i].out != rows[i].want)
                        return crew_fail(err, EPERM, "%s is not empty", rows[i].key);
        }
        if (!(v = status_value(text, "Seccomp")) || (att->seccomp_mode = (uint32_t)strtoul(v, NULL, 10)) != 2)
                return crew_fail(err, EPERM, "the child has no seccomp filter");
        if (!(v = status_value(text, "NoNewPrivs")) || (att->no_new_privs = (uint32_t)strtoul(v, NULL, 10)) != 1)
                return crew_fail(err, EPERM, "the child may gain privileges");
        return 0;
}

static int filters_of(const char *text) {
        const char *v = status_value(text, "Seccomp_filters");
        return v ? atoi(v) : -1; /* since Linux 5.9 */
}

int attest_own_filters(int *out, struct crew_err *err) {
        static char text[1u << 20]; /* touched as far as it is filled */
        _cleanup_close_ int self = open("/proc/self", O_PATH | O_DIRECTORY | O_CLOEXEC);
        int r = self < 0 ? crew_fail_errno(err, "cannot open /proc/self") : read_status(self, text, sizeof(text), err);

        if (r == 0)
                *out = filters_of(text);
        return r;
}

/* Mode 2 says that there is a filter, not that it is ours: the listener of PLAN_NOTIFY is one too. */
static int check_filters(const char *text, int inherited, const struct plan *plan, struct crew_err *err) {
        int want = inherited + 1 + (plan->flags & PLAN_NOTIFY ? 1 : 0), have = filters_of(text);
        return inherited < 0 || have == want
                       ? 0
                       : crew_fail(err, EPERM, "the child has %d system call filters, must be %d", have, want);
}

/* Rootless, the kernel does not let them be dropped. */
static int check_groups(const char *text, const struct plan *plan, struct crew_err *err) {
        const char *v = status_value(text, "Groups");

        if (!(plan->flags & PLAN_ROOT_MODE))
                return 0;
        return v && v[strspn(v, " \t")] == '\n' ? 0 : crew_fail(err, EPERM, "the child is in supplementary groups");
}

int attest_child(int proc_dir, const struct plan *plan, int own_filters, struct spawn_attestation *att,
                 struct crew_err *err) {
        const uint64_t *own = NULL;
        uint64_t ns[NS_N] = {0};
        static char text[1u << 20];
        int r = own_ns(&own, err);

        if (r < 0 || (r = read_ns(proc_dir, ns, err)) < 0 || (r = read_status(proc_dir, text, sizeof(text), err)) < 0)
                return r;
        for (size_t i = 0; i < NS_N; i++) {
                if (ns[i] == own[i])
                        return crew_fail(err, EPERM, "%s is shared with the spawner", ns_names[i]);
        }
        if ((r = check_ids(text, "Uid", plan->host_uid, err)) < 0 || (r = check_ids(text, "Gid", plan->host_gid, err)) < 0)
                return r;
        att->host_uid = plan->host_uid;
        att->host_gid = plan->host_gid;
        att->ns_user = ns[0];
        att->ns_pid = ns[1];
        att->ns_mnt = ns[2];
        att->ns_net = ns[3];
        att->ns_ipc = ns[4];
        att->ns_uts = ns[5];
        if ((r = check_status(text, att, err)) < 0 || (r = check_filters(text, own_filters, plan, err)) < 0)
                return r;
        return check_groups(text, plan, err);
}
