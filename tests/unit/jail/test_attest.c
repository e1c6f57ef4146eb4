/* SPDX-License-Identifier: Apache-2.0 */
/* Children that say they are sealed and are not: what the look from outside sees of it. */
#include "fixture.h"

#include "common/util.h"
#include "worker/sandbox/attest.h"
#include "worker/sandbox/privs.h"

#include <fcntl.h>
#include <grp.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define NAMESPACES (CLONE_NEWUSER | CLONE_NEWPID | CLONE_NEWNS | CLONE_NEWIPC | CLONE_NEWUTS | CLONE_NEWNET)

/* What the child leaves out. */
struct lie {
        const char *says; /* part of the refusal; NULL: none, it is sealed */
        unsigned long without_ns;
        bool caps, privs, groups, other_uid;
        unsigned filters;
        uint32_t plan_flags;
};

static int add_filter(void) {
        struct sock_filter allow = BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
        struct sock_fprog prog = {.len = 1, .filter = &allow};

        return prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &prog);
}

static _Noreturn void pretend(const struct lie *lie, int mapped, int sealed) {
        struct crew_err err = CREW_ERR_NULL;
        gid_t group = 1000;
        char c;
        bool ok = read(mapped, &c, 1) == 1;

        if (geteuid() == 0 || lie->groups)
                (void)!setgroups(lie->groups ? 1 : 0, &group);
        ok = ok && setresgid(1000, 1000, 1000) == 0 && setresuid(1000, 1000, 1000) == 0;
        ok = ok && (lie->caps || (privs_empty_bounding_set(&err) == 0 && privs_drop_caps(&err) == 0)) &&
             (lie->privs || privs_no_new(&err) == 0);
        for (unsigned i = 0; ok && i < lie->filters; i++)
                ok = add_filter() == 0;
        (void)!write(sealed, ok ? "s" : "f", 1);
        for (;;)
                pause();
}

static void put(pid_t pid, const char *file, const char *text) {
        char path[64];

        snprintf(path, sizeof(path), "/proc/%d/%s", pid, file);
        _cleanup_close_ int fd = open(path, O_WRONLY | O_CLOEXEC);
        assert_true(fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text));
}

static int look_at(const struct lie *lie, struct crew_err *err) {
        bool root = geteuid() == 0;
        struct plan plan = {.flags = lie->plan_flags | (root ? PLAN_ROOT_MODE : 0)};
        struct spawn_attestation att = {0};
        int mapped[2], sealed[2], own_filters;
        char path[32], map[32], c = 0;

        plan.host_uid = root ? FIXTURE_UID : geteuid();
        plan.host_gid = root ? FIXTURE_UID : getegid();
        assert_int_equal(pipe(mapped), 0);
        assert_int_equal(pipe(sealed), 0);
        pid_t pid = (pid_t)syscall(SYS_clone, (NAMESPACES & ~lie->without_ns) | SIGCHLD, NULL, NULL, NULL, NULL);
        if (pid == 0)
                pretend(lie, mapped[0], sealed[1]);
        assert_true(pid > 0);
        if (!root)
                put(pid, "setgroups", "deny");
        snprintf(map, sizeof(map), "1000 %u 1", plan.host_uid);
        put(pid, "uid_map", map);
        snprintf(map, sizeof(map), "1000 %u 1", plan.host_gid);
        put(pid, "gid_map", map);
        assert_int_equal(write(mapped[1], "m", 1), 1);
        assert_int_equal(read(sealed[0], &c, 1), 1);
        assert_int_equal(c, 's');
        snprintf(path, sizeof(path), "/proc/%d", pid);
        int proc = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
        plan.host_uid += lie->other_uid;
        int r = attest_own_filters(&own_filters, err);
        if (r == 0)
                r = attest_child(proc, &plan, own_filters, &att, err);
        kill(pid, SIGKILL);
        waitpid(pid, NULL, 0);
        for (size_t i = 0; i < 2; i++)
                close(mapped[i]), close(sealed[i]);
        close(proc);
        return r;
}

static void what_is_missing_is_seen_from_outside(void **state) {
        static const struct lie lies[] = {
                {.filters = 1},
                {.filters = 2, .plan_flags = PLAN_NOTIFY},
                {.says = "no seccomp filter", .filters = 0},
                /* The listener's own filter alone makes the kernel say "mode 2". */
                {.says = "1 system call filters, must be 2", .filters = 1, .plan_flags = PLAN_NOTIFY},
                {.says = "2 system call filters, must be 1", .filters = 2},
                {.says = "is not empty", .filters = 1, .caps = true},
                {.says = "Uid is ", .filters = 1, .other_uid = true},
                {.says = "ns/pid is shared", .filters = 1, .without_ns = CLONE_NEWPID},
                {.says = "ns/net is shared", .filters = 1, .without_ns = CLONE_NEWNET},
                {.says = "ns/mnt is shared", .filters = 1, .without_ns = CLONE_NEWNS},
                {.says = "ns/ipc is shared", .filters = 1, .without_ns = CLONE_NEWIPC},
                {.says = "ns/uts is shared", .filters = 1, .without_ns = CLONE_NEWUTS},
        };

        for (size_t i = 0; i < ELEMENTSOF(lies); i++) {
                struct crew_err err = CREW_ERR_NULL;
                int r = look_at(&lies[i], &err);
                if (!lies[i].says && r < 0)
                        fail_msg("lie %zu: %s", i, err.msg);
                if (lies[i].says && (r == 0 || !strstr(err.msg, lies[i].says)))
                        fail_msg("lie %zu: '%s', expected '%s'", i, r == 0 ? "accepted" : err.msg, lies[i].says);
        }
}

/* A filter needs no_new_privs or a capability. */
static void privileges_to_gain_are_seen_from_outside(void **state) {
        const struct lie lie = {.says = "", .filters = 1, .caps = true, .privs = true};
        struct crew_err err = CREW_ERR_NULL;

        assert_true(look_at(&lie, &err) < 0);
}

static void groups_are_seen_from_outside(void **state) {
        const struct lie lie = {.filters = 1, .groups = true};
        struct crew_err err = CREW_ERR_NULL;

        if (geteuid() != 0)
                return; /* the kernel does not let an unprivileged one set or drop them */
        assert_true(look_at(&lie, &err) < 0);
        assert_non_null(strstr(err.msg, "supplementary groups"));
}

int main(int argc, char **argv) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(what_is_missing_is_seen_from_outside),
                cmocka_unit_test(privileges_to_gain_are_seen_from_outside),
                cmocka_unit_test(groups_are_seen_from_outside),
        };

        return fixture_main("attest", tests, ELEMENTSOF(tests), argc, argv);
}
