/* SPDX-License-Identifier: Apache-2.0 */
/* Making a jail: what a sealed child has, when the jail refuses to be made, and that a failure at any step leaves nothing.
 */
#include "fixture.h"

#include "common/util.h"
#include "worker/sandbox/jail_internal.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>

static int nothing(const struct jail_child *c) {
        return 0;
}

static void a_sealed_child_has_nothing(void **state) {
        const struct plan *plan = fixture_standard(0);
        struct crew_err err = CREW_ERR_NULL;
        struct spawn_exit ex;
        struct jail j;

        if (fixture_spawn(plan, nothing, &j, &err) < 0)
                fail_msg("%s", err.msg);
        assert_int_equal(j.att.pid, j.pid);
        assert_int_equal(j.att.host_uid, plan->host_uid);
        assert_int_equal(j.att.seccomp_mode, 2);
        assert_int_equal(j.att.no_new_privs, 1);
        assert_int_equal(j.att.cap_eff | j.att.cap_prm | j.att.cap_inh | j.att.cap_bnd | j.att.cap_amb, 0);
        assert_int_equal(j.att.degraded, 0);
        assert_int_equal(j.att.tripwires, 2);
        assert_true(j.att.selftests >= 18);
        assert_true(j.att.landlock_abi >= 1);
        assert_int_equal(jail_reap(&j, true, &ex), 0);
        assert_int_equal(ex.code, 0);
        plan_close(plan);
}

static int is_pid_one(const struct jail_child *c) {
        char name[65];
        int fds = 0;

        if (getpid() != 1 || getppid() != 0 || getuid() != 1000 || getgid() != 1000)
                return 1;
        if (gethostname(name, sizeof(name)) < 0 || strcmp(name, "tester") != 0)
                return 2;
        for (int fd = 0; fd < 1024; fd++)
                fds += fcntl(fd, F_GETFD) >= 0;
        if (fds != 3)
                return 3;
        return prctl(PR_GET_DUMPABLE, 0, 0, 0, 0) == 0 ? 0 : 4;
}

static void the_child_is_alone(void **state) {
        const struct plan *plan = fixture_standard(0);

        assert_int_equal(fixture_run(plan, is_pid_one), 0);
        plan_close(plan);
}

static void refuses(const struct plan *plan, int code, const char *step, const char *text) {
        struct crew_err err = CREW_ERR_NULL;
        struct jail j;
        int r = fixture_spawn(plan, nothing, &j, &err);

        if (r != -code)
                fail_msg("%d (%s), must be %d", r, err.msg, -code);
        assert_string_equal(j.step, step);
        if (strncmp(err.msg, step, strlen(step)) != 0 || !strstr(err.msg, text))
                fail_msg("'%s': must begin with '%s' and hold '%s'", err.msg, step, text);
        assert_int_equal(j.pid, -1);
        assert_int_equal(j.pidfd, -1);
        plan_close(plan);
}

static struct plan *copy_of(const struct plan *plan) {
        struct plan *copy = malloc(plan->total_bytes);

        memcpy(copy, plan, plan->total_bytes);
        plan_close(plan);
        return copy;
}

static void an_identity_that_is_not_ours_is_refused(void **state) {
        bool root = geteuid() == 0;
        struct plan *p = copy_of(fixture_standard(0));
        struct crew_err err = CREW_ERR_NULL;
        struct jail j;

        if (root) {
                p->flags &= ~(uint32_t)PLAN_ROOT_MODE;
                assert_int_equal(fixture_spawn(p, nothing, &j, &err), -EPERM);
                p->flags |= PLAN_ROOT_MODE;
                p->host_uid = 1000;
        } else {
                p->host_uid++;
        }
        assert_int_equal(fixture_spawn(p, nothing, &j, &err), -EPERM);
        assert_string_equal(j.step, "plan");
        free(p);
}

static void a_plan_without_walls_is_refused(void **state) {
        struct plan *p = copy_of(fixture_standard(0));
        struct crew_err err = CREW_ERR_NULL;
        struct jail j;
        uint32_t n = p->n_bpf;

        p->n_bpf = 0;
        assert_int_equal(fixture_spawn(p, nothing, &j, &err), -EINVAL);
        assert_non_null(strstr(err.msg, "no seccomp filter"));
        p->n_bpf = n;
        p->n_layers = 0;
        assert_int_equal(fixture_spawn(p, nothing, &j, &err), -EINVAL);
        assert_non_null(strstr(err.msg, "no Landlock layer"));
        free(p);
}

/* The self-test is the judge, so it must notice when a wall is not there. */
static void a_wall_that_lets_through_refuses_to_start(void **state) {
        static const struct sock_filter allow[] = {BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)};
        struct plan_builder *b = fixture_builder(0, "default", NULL, 0, 1);

        fixture_view(b);
        fixture_layers(b);
        plan_set_bpf(b, allow, 1);
        refuses(fixture_plan(b), EPERM, "self-test", "unshare a user namespace: succeeded, must fail with EPERM");

        b = fixture_builder(0, "default", NULL, 0, 1);
        fixture_view(b);
        plan_add_layer(b, PLAN_LAYER_OUTER);
        plan_add_rule(b, "/", 12, 0);
        plan_add_layer(b, PLAN_LAYER_AGENT);
        refuses(fixture_plan(b), EPERM, "self-test", "open a file that no rule grants: succeeded");
}

/* --- a kernel without Landlock, by a filter in front of our own call --- */

static void pretend_no_landlock(int errno_) {
        struct sock_filter f[] = {
                BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
                BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_landlock_create_ruleset, 0, 1),
                BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | (uint32_t)errno_),
                BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
        };
        struct sock_fprog prog = {.len = ELEMENTSOF(f), .filter = f};

        /* As root no_new_privs would do no harm here either, but the child inherits it: attestation must not rely on it. */
        assert_int_equal(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
        assert_int_equal(syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &prog), 0);
}

static const struct plan *degraded_plan(uint32_t allow, uint32_t abi_min) {
        struct plan_builder *b = fixture_builder(0, "default", NULL, allow, abi_min);

        fixture_view(b);
        fixture_layers(b);
        return fixture_plan(b);
}

static int without_landlock(int errno_, const char *text) {
        const struct plan *strict = degraded_plan(0, 1), *lax = degraded_plan(1u << PLAN_FEATURE_LANDLOCK, 1);
        struct crew_err err = CREW_ERR_NULL;
        struct spawn_exit ex;
        struct jail j;

        pretend_no_landlock(errno_);
        if (fixture_spawn(strict, nothing, &j, &err) != -EOPNOTSUPP || !strstr(err.msg, text))
                return 1;
        if (fixture_spawn(lax, nothing, &j, &err) < 0 || j.att.degraded != 1u << PLAN_FEATURE_LANDLOCK)
                return 2;
        return jail_reap(&j, true, &ex) < 0 || ex.code != 0 ? 3 : 0;
}

static int in_child(int (*fn)(int, const char *), int a, const char *b) {
        int status;
        pid_t pid = fork();

        if (pid == 0)
                _exit(fn(a, b));
        waitpid(pid, &status, 0);
        return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static void missing_landlock_is_named_and_refused_unless_allowed(void **state) {
        assert_int_equal(in_child(without_landlock, ENOSYS, "built without it"), 0);
        assert_int_equal(in_child(without_landlock, EOPNOTSUPP, "switched off at boot"), 0);
}

static void an_old_landlock_is_named_and_refused_unless_allowed(void **state) {
        struct crew_err err = CREW_ERR_NULL;
        struct spawn_exit ex;
        struct jail j;

        refuses(degraded_plan(0, 1000), EOPNOTSUPP, "plan", "the policy needs 1000");
        const struct plan *lax = degraded_plan(1u << PLAN_FEATURE_LANDLOCK_ABI, 1000);
        assert_int_equal(fixture_spawn(lax, nothing, &j, &err), 0);
        assert_int_equal(j.att.degraded, 1u << PLAN_FEATURE_LANDLOCK_ABI);
        jail_reap(&j, true, &ex);
        plan_close(lax);
}

/* --- faults --- */

static unsigned count_entries(const char *dir, const char *having) {
        DIR *d = opendir(dir);
        struct dirent *e;
        unsigned n = 0;

        while (d && (e = readdir(d)))
                n += !having || strstr(e->d_name, having) != NULL;
        if (d)
                closedir(d);
        return n;
}

static unsigned count_lines(const char *path) {
        FILE *f = fopen(path, "re");
        unsigned n = 0;
        int ch;

        while (f && (ch = fgetc(f)) != EOF)
                n += ch == '\n';
        if (f)
                fclose(f);
        return n;
}

struct traces {
        unsigned fds, mounts, groups;
};

static struct traces traces_now(void) {
        char me[32];

        snprintf(me, sizeof(me), "-%d.", getpid());
        return (struct traces){
                .fds = count_entries("/proc/self/fd", NULL),
                .mounts = count_lines("/proc/self/mountinfo"),
                .groups = count_entries("/sys/fs/cgroup/unified/crewd", me) +
                          count_entries("/sys/fs/cgroup/pids/crewd", me) + count_entries("/sys/fs/cgroup/crewd", me),
        };
}

typedef int (*spawn_fn)(const struct plan *plan, fixture_fn fn, struct jail *j, struct crew_err *err);

static void fails_at(spawn_fn spawn, const struct plan *plan, const char *step, const char *name) {
        struct traces before = traces_now();
        struct crew_err err = CREW_ERR_NULL;
        struct jail j;

        jail_test_fail_step = step;
        int r = spawn(plan, nothing, &j, &err);
        jail_test_fail_step = NULL;
        if (r >= 0 || strncmp(err.msg, name, strlen(name)) != 0)
                fail_msg("fault at %s: %d, %s", step, r, err.msg);
        /* No child, not even a zombie; no descriptor, mount or group. */
        assert_int_equal(waitpid(-1, NULL, WNOHANG), -1);
        assert_int_equal(errno, ECHILD);
        struct traces after = traces_now();
        if (memcmp(&before, &after, sizeof(before)) != 0)
                fail_msg("fault at %s: descriptors %u -> %u, mounts %u -> %u, groups %u -> %u", step, before.fds, after.fds,
                         before.mounts, after.mounts, before.groups, after.groups);
}

static void fails_everywhere(spawn_fn spawn, const struct plan *plan, const char *const *outer, size_t n) {
        assert_int_equal(fixture_run(plan, nothing), 0); /* fills the caches that keep descriptors */
        for (size_t i = 0; i < n; i++)
                fails_at(spawn, plan, outer[i], outer[i]);
        /* The last one comes after "go": its failure is the main function's not being called, tested below. */
        for (uint32_t i = 0; i + 1 < jail_child_steps(); i++) {
                char death[40];
                fails_at(spawn, plan, jail_child_step_name(i), jail_child_step_name(i));
                snprintf(death, sizeof(death), "!%s", jail_child_step_name(i));
                fails_at(spawn, plan, death, jail_child_step_name(i));
        }
}

static void a_fault_at_any_step_leaves_nothing(void **state) {
        static const char *const outer[] = {"plan",    "directories", "group",       "channel", "clone",       "groups",
                                            "sources", "id-maps",     "handed-over", "sealing", "attestation", "release"};
        const struct plan *plan = fixture_standard(0);

        fails_everywhere(fixture_spawn, plan, outer, ELEMENTSOF(outer));
        plan_close(plan);
}

static void a_fault_in_a_jail_made_ahead_leaves_nothing(void **state) {
        static const char *const outer[] = {"plan",        "directories", "sources",     "id-maps", "groups",
                                            "handed-over", "sealing",     "attestation", "release"};
        const struct plan *plan = fixture_standard(PLAN_SANDBOX);

        fails_everywhere(fixture_spawn_ahead, plan, outer, ELEMENTSOF(outer));
        plan_close(plan);
}

static int own_cpus; /* that we may use, which may be fewer than there are */

/* Process 1 may be kept away from its parent's CPU; what it starts is not. */
static int every_cpu(const struct jail_child *c) {
        char want[16];
        const char *const argv[] = {"sh", "-c", "test \"$(nproc)\" = \"$0\"", want, NULL};

        snprintf(want, sizeof(want), "%d", own_cpus);
        return getpid() == 1 ? fixture_exec(c, argv) : 99;
}

static void a_jail_made_ahead_is_like_any_other(void **state) {
        const struct plan *plan = fixture_standard(PLAN_SANDBOX);
        struct crew_err err = CREW_ERR_NULL;
        struct spawn_exit ex;
        struct jail j;

        cpu_set_t set;

        assert_int_equal(sched_getaffinity(0, sizeof(set), &set), 0);
        own_cpus = CPU_COUNT(&set);
        if (fixture_spawn_ahead(plan, every_cpu, &j, &err) < 0)
                fail_msg("%s", err.msg);
        assert_int_equal(jail_reap(&j, true, &ex), 0);
        assert_int_equal(ex.code, 0);
        plan_close(plan);
}

/* The policy turned out to be wrong, say. */
static void a_jail_made_ahead_and_not_wanted_leaves_nothing(void **state) {
        struct crew_err err = CREW_ERR_NULL;
        struct jail_ahead *ahead;
        struct traces before = traces_now();

        assert_int_equal(jail_ahead_open(NULL, NULL, &ahead, &err), 0);
        jail_ahead_close(ahead);
        struct traces after = traces_now();
        assert_memory_equal(&before, &after, sizeof(before));
        assert_int_equal(waitpid(-1, NULL, WNOHANG), -1);
}

static void a_jail_made_ahead_takes_no_plan_with_a_network(void **state) {
        const struct plan *plan = fixture_standard(0);
        struct crew_err err = CREW_ERR_NULL;
        struct jail j;

        int r = fixture_spawn_ahead(plan, nothing, &j, &err);
        if (cgroup_unified()) { /* there it was not made ahead */
                struct spawn_exit ex;
                assert_int_equal(r, 0);
                assert_int_equal(jail_reap(&j, true, &ex), 0);
                assert_int_equal(ex.code, 0);
        } else {
                assert_int_equal(r, -EINVAL);
        }
        plan_close(plan);
}

static void a_fault_after_release_never_reaches_the_program(void **state) {
        const struct plan *plan = fixture_standard(0);
        struct spawn_exit ex;
        struct jail j;

        jail_test_fail_step = "dumpable";
        assert_int_equal(fixture_spawn(plan, nothing, &j, NULL), 0);
        jail_test_fail_step = NULL;
        assert_int_equal(jail_reap(&j, true, &ex), 0);
        assert_int_equal(ex.code, 125);
        plan_close(plan);
}

int main(int argc, char **argv) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(a_sealed_child_has_nothing),
                cmocka_unit_test(the_child_is_alone),
                cmocka_unit_test(an_identity_that_is_not_ours_is_refused),
                cmocka_unit_test(a_plan_without_walls_is_refused),
                cmocka_unit_test(a_wall_that_lets_through_refuses_to_start),
                cmocka_unit_test(missing_landlock_is_named_and_refused_unless_allowed),
                cmocka_unit_test(an_old_landlock_is_named_and_refused_unless_allowed),
                cmocka_unit_test(a_fault_at_any_step_leaves_nothing),
                cmocka_unit_test(a_fault_after_release_never_reaches_the_program),
                cmocka_unit_test(a_fault_in_a_jail_made_ahead_leaves_nothing),
                cmocka_unit_test(a_jail_made_ahead_is_like_any_other),
                cmocka_unit_test(a_jail_made_ahead_and_not_wanted_leaves_nothing),
                cmocka_unit_test(a_jail_made_ahead_takes_no_plan_with_a_network),
        };
        /* What others mount meanwhile is none of our traces. */
        if (geteuid() == 0 && unshare(CLONE_NEWNS) == 0)
                (void)!mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL);
        return fixture_main("jail", tests, ELEMENTSOF(tests), argc, argv);
}
