/* SPDX-License-Identifier: Apache-2.0 */
/* See fixture.h.  The plan is made with the same builder as crewd's. */
#include "fixture.h"

#include "common/landlock.h"
#include "common/util.h"
#include "worker/sandbox/filter.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <string.h>
#include <sys/file.h>
#include <sys/wait.h>
#include <unistd.h>

#define READ_EXEC (LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_READ_DIR | LANDLOCK_ACCESS_FS_EXECUTE)
#define ALL_FS ((1ULL << 16) - 1)

struct plan_builder *fixture_builder(uint32_t flags, const char *profile, const struct plan_limits *limits,
                                     uint32_t allow_degraded, uint32_t abi_min) {
        bool root = geteuid() == 0;
        struct plan head = {
                .flags = flags | (root ? PLAN_ROOT_MODE : 0),
                .crew = "unit",
                .agent = "tester",
                .incarnation = 1,
                .host_uid = root ? FIXTURE_UID : geteuid(),
                .host_gid = root ? FIXTURE_UID : getegid(),
                .inner_uid = 1000,
                .inner_gid = 1000,
                .landlock_abi_min = abi_min,
                .allow_degraded = allow_degraded,
                .limits = limits ? *limits : (struct plan_limits){.processes = 800, .open_files = 256},
        };
        struct plan_builder *b = plan_builder_new(&head);
        struct sock_filter *insns;
        struct crew_err err = CREW_ERR_NULL;
        size_t n;

        assert_non_null(b);
        if (filter_compile(profile, &insns, &n, &err) < 0)
                fail_msg("%s", err.msg);
        plan_set_bpf(b, insns, n);
        free(insns);
        plan_set_workdir(b, "/home/agent");
        return b;
}

void fixture_view(struct plan_builder *b) {
        static const char *const links[][2] = {
                {"usr/bin", "/bin"}, {"usr/sbin", "/sbin"}, {"usr/lib", "/lib"}, {"usr/lib64", "/lib64"}};
        static const char passwd[] = "agent:x:1000:1000::/home/agent:/bin/sh\n";

        plan_add_mount(b, PLAN_MOUNT_BIND, PLAN_MOUNT_RO | PLAN_MOUNT_FOLLOW, "/usr", "/usr", 0, 0, 0, 0);
        for (size_t i = 0; i < ELEMENTSOF(links); i++)
                plan_add_mount(b, PLAN_MOUNT_SYMLINK, 0, links[i][0], links[i][1], 0, 0, 0, 0);
        plan_add_file(b, "/etc/passwd", passwd, sizeof(passwd) - 1, 0444);
        plan_add_mount(b, PLAN_MOUNT_BIND, PLAN_MOUNT_RO | PLAN_MOUNT_FOLLOW | PLAN_MOUNT_OPTIONAL, "/etc/ld.so.cache",
                       "/etc/ld.so.cache", 0, 0, 0, 0);
        plan_add_mount(b, PLAN_MOUNT_BIND, PLAN_MOUNT_RO | PLAN_MOUNT_FOLLOW | PLAN_MOUNT_OPTIONAL, "/etc/alternatives",
                       "/etc/alternatives", 0, 0, 0, 0);
        plan_add_mount(b, PLAN_MOUNT_DEV, 0, NULL, "/dev", 0, 0, 0, 0);
        plan_add_mount(b, PLAN_MOUNT_PROC, 0, NULL, "/proc", 0, 0, 0, 0);
        plan_add_mount(b, PLAN_MOUNT_TMPFS, PLAN_MOUNT_NOEXEC, NULL, "/tmp", 0700, 16u << 20, 0, 0);
        plan_add_mount(b, PLAN_MOUNT_TMPFS, PLAN_MOUNT_NOEXEC, NULL, "/home/agent", 0700, 4u << 20, 0, 0);
        plan_add_mount(b, PLAN_MOUNT_DECOY_FILE, 0, NULL, "/etc/shadow", 0, 0, 0, 0);
        plan_add_mount(b, PLAN_MOUNT_DECOY_DIR, 0, NULL, "/root/.ssh", 0, 0, 0, 0);
        plan_add_env(b, "PATH", "/usr/bin:/bin");
        plan_add_env(b, "HOME", "/home/agent");
}

static void runtime_rules(struct plan_builder *b) {
        const uint64_t rw = ALL_FS & ~LANDLOCK_ACCESS_FS_EXECUTE;

        plan_add_rule(b, "/usr", READ_EXEC, 0);
        plan_add_rule(b, "/etc/passwd", LANDLOCK_ACCESS_FS_READ_FILE, 0);
        plan_add_rule(b, "/etc/ld.so.cache", LANDLOCK_ACCESS_FS_READ_FILE, PLAN_MOUNT_OPTIONAL);
        plan_add_rule(b, "/etc/alternatives", READ_EXEC, PLAN_MOUNT_OPTIONAL);
        plan_add_rule(b, "/proc", LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_READ_DIR, 0);
        plan_add_rule(b, "/dev", LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_WRITE_FILE | LANDLOCK_ACCESS_FS_READ_DIR,
                      0);
        plan_add_rule(b, "/tmp", rw, 0);
        plan_add_rule(b, "/home/agent", rw, 0);
}

void fixture_layers(struct plan_builder *b) {
        assert_int_equal(plan_add_layer(b, PLAN_LAYER_OUTER), 0);
        runtime_rules(b);
        assert_int_equal(plan_add_layer(b, PLAN_LAYER_AGENT), 1);
        runtime_rules(b);
}

const struct plan *fixture_plan(struct plan_builder *b) {
        struct crew_err err = CREW_ERR_NULL;
        const struct plan *plan = NULL;
        void *block = NULL;
        size_t n;

        if (plan_builder_finish(b, &block, &n, &err) < 0)
                fail_msg("%s", err.msg);
        plan_builder_free(b);
        int fd = crew_sealed_memfd("plan", block, n, &err);
        free(block);
        if (fd < 0 || plan_open(fd, &plan, &err) < 0)
                fail_msg("%s", err.msg);
        close(fd);
        return plan;
}

const struct plan *fixture_standard(uint32_t flags) {
        struct plan_builder *b = fixture_builder(flags, "default", NULL, 0, 1);

        fixture_view(b);
        fixture_layers(b);
        return fixture_plan(b);
}

static void call(const struct jail_child *c, void *user) {
        fixture_fn fn;

        memcpy(&fn, user, sizeof(fn));
        _exit(fn(c));
}

int fixture_spawn(const struct plan *plan, fixture_fn fn, struct jail *j, struct crew_err *err) {
        struct jail_spawn_args args = {.plan = plan, .stdio = {-1, 2, 2}, .main = call, .user = &fn};
        return jail_spawn(&args, j, err);
}

int fixture_spawn_ahead(const struct plan *plan, fixture_fn fn, struct jail *j, struct crew_err *err) {
        struct jail_spawn_args args = {.plan = plan, .stdio = {-1, 2, 2}};
        int r = jail_ahead_open(call, &fn, &args.ahead, err);

        args.main = call; /* on a unified tree there is nobody ahead, and these count */
        args.user = &fn;
        return r < 0 ? r : jail_spawn(&args, j, err);
}

int fixture_run(const struct plan *plan, fixture_fn fn) {
        struct crew_err err = CREW_ERR_NULL;
        struct spawn_exit ex;
        struct jail j;

        if (fixture_spawn(plan, fn, &j, &err) < 0)
                fail_msg("%s", err.msg);
        assert_int_equal(jail_reap(&j, true, &ex), 0);
        return ex.signal ? 128 + ex.signal : ex.code;
}

int fixture_exec(const struct jail_child *c, const char *const *argv) {
        const char *envp[64];
        struct jail_exec x = {
                .layer = 1, .argv = argv, .envp = envp, .stdio = {-1, 1, 2}, .new_session = true, .cpus = c->cpus};
        int status;

        for (uint32_t i = 0; i < c->plan->n_env; i++)
                envp[i] = plan_string_at(c->plan, c->plan->first_env + i);
        envp[c->plan->n_env] = NULL;
        pid_t pid = jail_exec_program(c->plan, &x);
        if (pid < 0)
                return pid;
        if (waitpid(pid, &status, 0) < 0)
                return -errno;
        return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

void fixture_freeze(struct jail *j) {
        uint64_t until = crew_now_ns() + 60000000000u;
        int r;

        assert_int_equal(jail_freeze(j), 0);
        while ((r = jail_is_frozen(j)) == -EAGAIN && crew_now_ns() < until)
                usleep(500);
        assert_int_equal(r, 0);
}

int fixture_hold_sweeps(bool alone) {
        int fd = open("/sys/fs/cgroup", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

        while (fd >= 0 && flock(fd, alone ? LOCK_EX : LOCK_SH) < 0 && errno == EINTR)
                ;
        return fd;
}

/* Becomes nobody for good, in a child; its TAP lines follow ours. */
static int run_as_nobody(const char *name, char **argv) {
        fflush(stdout);
        pid_t pid = fork();
        if (pid == 0) {
                if (setgroups(0, NULL) < 0 || setresgid(65534, 65534, 65534) < 0 || setresuid(65534, 65534, 65534) < 0)
                        _exit(99);
                setenv("HOME", "/nonexistent", 1); /* root's may not be looked into */
                execl("/proc/self/exe", argv[0], name, (char *)NULL);
                _exit(98);
        }
        int status = 0;
        waitpid(pid, &status, 0);
        return WIFEXITED(status) ? WEXITSTATUS(status) : 99;
}

int fixture_main(const char *name, const struct CMUnitTest *tests, size_t n, int argc, char **argv) {
        cmocka_set_message_output(CM_OUTPUT_TAP);
        /* meson starts the program once a mode: with the argument "rootless" it gives root up first. */
        if (argc > 1 && strcmp(argv[1], "rootless") == 0 && geteuid() == 0)
                return run_as_nobody("rootless", argv);
        if (argc > 1 && strcmp(argv[1], "root") == 0 && geteuid() != 0) {
                puts("1..0 # SKIP needs root");
                return 0;
        }
        return _cmocka_run_group_tests(name, tests, n, NULL, NULL);
}
