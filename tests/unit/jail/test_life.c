/* SPDX-License-Identifier: Apache-2.0 */
/* A jail in operation: limits, killing, freezing, losing its parent, its network and its seccomp listener. */
#include "fixture.h"

#include "common/gate.h"
#include "common/netrules.h"
#include "common/util.h"
#include "worker/sandbox/cgroup.h"
#include "worker/sandbox/notify.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#define PATIENCE_MS 60000 /* for what comes at once unless the machine is busy */

static void start(const struct plan *plan, fixture_fn fn, struct jail *j) {
        struct crew_err err = CREW_ERR_NULL;

        if (fixture_spawn(plan, fn, j, &err) < 0)
                fail_msg("%s", err.msg);
}

static bool readable_within(int fd, int ms) {
        struct pollfd p = {.fd = fd, .events = POLLIN};
        return poll(&p, 1, ms) == 1;
}

static bool wait_until_gone(pid_t pid) {
        for (int i = 0; i * 10 < PATIENCE_MS; i++) {
                if (kill(pid, 0) < 0 && errno == ESRCH)
                        return true;
                usleep(10000);
        }
        return false;
}

static void wait_for_processes(const struct jail *j, uint32_t n) {
        struct spawn_stats s;

        for (int i = 0; i * 10 < PATIENCE_MS; i++) {
                jail_stats(j, &s);
                if (s.processes >= n)
                        return;
                usleep(10000);
        }
        fail_msg("only %u of %u processes", s.processes, n);
}

/* --- killing --- */

/* Daemons of the worst kind: own sessions, all signals ignored, reparented. */
static int many_daemons(const struct jail_child *c) {
        for (int i = 0; i < 60; i++) {
                if (fork() == 0) {
                        setsid();
                        if (fork() == 0) {
                                for (int s = 1; s < 32; s++)
                                        signal(s, SIG_IGN);
                                for (;;)
                                        pause();
                        }
                        for (;;)
                                pause();
                }
        }
        while (pause() < 0)
                ;
        return 0;
}

static void a_kill_takes_the_whole_tree(void **state) {
        const struct plan *plan = fixture_standard(0);
        struct spawn_exit ex;
        struct jail j;

        start(plan, many_daemons, &j);
        wait_for_processes(&j, 121);
        pid_t pid = j.pid;
        bool grouped = j.cgroup[0] != '\0'; /* else the count is bounded in time */
        assert_int_equal(jail_kill(&j, &ex), 0);
        assert_int_equal(ex.signal, SIGKILL);
        assert_int_equal(ex.code, -1);
        assert_true(ex.processes == 121 || (!grouped && ex.processes > 0 && ex.processes < 121));
        assert_true(ex.kill_ns > 0);
        assert_true(wait_until_gone(pid));
        plan_close(plan);
}

static int exits_with_three(const struct jail_child *c) {
        return 3;
}

static void an_exit_is_not_a_kill(void **state) {
        const struct plan *plan = fixture_standard(0);
        struct spawn_exit ex;
        struct jail j;

        start(plan, exits_with_three, &j);
        assert_int_equal(jail_reap(&j, true, &ex), 0);
        assert_int_equal(ex.code, 3);
        assert_int_equal(ex.signal, 0);
        assert_int_equal(ex.processes, 0);
        assert_int_equal(ex.kill_ns, 0);
        plan_close(plan);
}

static int spins(const struct jail_child *c) {
        volatile unsigned long n = 1;

        while (n)
                n |= 1;
        return 0;
}

static uint64_t cpu_of(const struct jail *j) {
        struct spawn_stats s;
        jail_stats(j, &s);
        return s.cpu_ns;
}

/* Waits until it has used more than this: it is counted in ticks, and the machine may be busy with others. */
static void wait_for_cpu(const struct jail *j, uint64_t more_than) {
        for (int i = 0; i * 10 < PATIENCE_MS && cpu_of(j) <= more_than; i++)
                usleep(10000);
        assert_true(cpu_of(j) > more_than);
}

static void a_frozen_jail_stands_still_and_still_dies(void **state) {
        const struct plan *plan = fixture_standard(0);
        struct spawn_exit ex;
        struct jail j;

        start(plan, spins, &j);
        wait_for_cpu(&j, 0);
        fixture_freeze(&j);
        usleep(50000);
        uint64_t before = cpu_of(&j);
        usleep(100000);
        assert_true(cpu_of(&j) - before < 5000000);
        assert_int_equal(jail_thaw(&j), 0);
        wait_for_cpu(&j, before + 5000000);
        fixture_freeze(&j);
        assert_int_equal(jail_kill(&j, &ex), 0);
        assert_int_equal(ex.signal, SIGKILL);
        plan_close(plan);
}

static _Atomic bool hogs;

/* Of its processor nothing is left for others for longer than anybody would wait in one piece. */
static void *hog(void *unused) {
        uint64_t until = crew_now_ns() + 400000000u;

        while (crew_now_ns() < until)
                hogs = true;
        hogs = false;
        return NULL;
}

static bool begin_to_hog(pthread_t *thread, const cpu_set_t *where) {
        const struct sched_param first = {.sched_priority = 1};
        pthread_attr_t attr;

        pthread_attr_init(&attr);
        pthread_attr_setinheritsched(&attr, PTHREAD_EXPLICIT_SCHED);
        pthread_attr_setschedpolicy(&attr, SCHED_FIFO);
        pthread_attr_setschedparam(&attr, &first);
        pthread_attr_setaffinity_np(&attr, sizeof(*where), where);
        int r = pthread_create(thread, &attr, hog, NULL);
        pthread_attr_destroy(&attr);
        while (r == 0 && !hogs)
                usleep(100);
        return r == 0;
}

/* It is not given up, and not undone. */
static void a_jail_that_cannot_run_is_frozen_when_it_can(void **state) {
        const struct plan *plan = fixture_standard(0);
        cpu_set_t all, last;
        struct spawn_exit ex;
        pthread_t thread;
        struct jail j;

        assert_int_equal(sched_getaffinity(0, sizeof(all), &all), 0);
        CPU_ZERO(&last);
        for (int i = CPU_SETSIZE - 1; i >= 0 && CPU_COUNT(&last) == 0; i--) {
                if (CPU_ISSET(i, &all))
                        CPU_SET(i, &last);
        }
        assert_int_equal(sched_setaffinity(0, sizeof(last), &last), 0);
        start(plan, spins, &j);
        assert_int_equal(sched_setaffinity(0, sizeof(all), &all), 0);
        wait_for_cpu(&j, 0);
        bool hogged = begin_to_hog(&thread, &last);
        fixture_freeze(&j);
        print_message("# %s\n", !hogged ? "no real-time scheduling here" : hogs ? "it took no time" : "it took its time");
        if (hogged)
                pthread_join(thread, NULL);
        uint64_t before = cpu_of(&j);
        usleep(100000);
        assert_true(cpu_of(&j) - before < 5000000);
        assert_int_equal(jail_kill(&j, &ex), 0);
        plan_close(plan);
}

/* Held by a freezer that nobody here wrote to: the signal alone is not enough on version 1. */
static void a_jail_frozen_by_another_dies_too(void **state) {
        const struct plan *plan = fixture_standard(0);
        struct spawn_exit ex;
        struct jail j;
        int r = 0;

        start(plan, spins, &j);
        if (j.cgroup[0])
                r = cgroup_freeze(j.cgroup, true);
        assert_int_equal(r, 0);
        usleep(20000);
        assert_int_equal(jail_kill(&j, &ex), 0);
        assert_int_equal(ex.signal, SIGKILL);
        plan_close(plan);
}

/* Spawns a jail, tells its pid, and waits to be killed. */
static pid_t orphan_maker(pid_t *maker, char name[CGROUP_NAME_MAX]) {
        const struct plan *plan = fixture_standard(0);
        struct {
                pid_t pid;
                char name[CGROUP_NAME_MAX];
        } told = {0};
        int p[2];

        assert_int_equal(pipe2(p, O_CLOEXEC), 0);
        *maker = fork();
        if (*maker == 0) {
                struct jail j;
                start(plan, many_daemons, &j);
                wait_for_processes(&j, 121);
                told.pid = j.pid;
                memcpy(told.name, j.cgroup, sizeof(told.name));
                if (write(p[1], &told, sizeof(told)) < 0)
                        _exit(1);
                for (;;)
                        pause();
        }
        assert_int_equal(crew_read_full(p[0], &told, sizeof(told)), 0);
        close(p[0]);
        close(p[1]);
        plan_close(plan);
        memcpy(name, told.name, sizeof(told.name));
        return told.pid;
}

static void a_jail_dies_with_the_process_that_made_it(void **state) {
        char name[CGROUP_NAME_MAX], text[512];
        pid_t maker;

        _cleanup_close_ int alone = fixture_hold_sweeps(true);
        (void)alone;
        /* The orphans are reparented to us or to init; either way the pid must go. */
        assert_int_equal(prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0), 0);
        pid_t jail = orphan_maker(&maker, name);
        kill(maker, SIGKILL);
        waitpid(maker, NULL, 0);
        waitpid(jail, NULL, 0);
        assert_true(wait_until_gone(jail));
        /* What is left is an empty group, which the next start finds and names. */
        unsigned n = jail_sweep(text, sizeof(text));
        if (name[0]) {
                assert_true(n >= 1);
                assert_non_null(strstr(text, name));
        }
        assert_int_equal(jail_sweep(text, sizeof(text)), 0);
        assert_string_equal(text, "");
}

static void a_sweep_leaves_the_living_alone(void **state) {
        const struct plan *plan = fixture_standard(0);
        _cleanup_close_ int others = fixture_hold_sweeps(false);
        char text[512];
        struct spawn_exit ex;
        struct jail j;

        (void)others;
        start(plan, many_daemons, &j);
        jail_sweep(text, sizeof(text));
        assert_int_equal(kill(j.pid, 0), 0);
        jail_kill(&j, &ex);
        plan_close(plan);
}

/* --- limits --- */

static const struct plan *limited(const struct plan_limits *l) {
        struct plan_builder *b = fixture_builder(0, "default", l, 0, 1);

        fixture_view(b);
        fixture_layers(b);
        return fixture_plan(b);
}

static int forks_without_end(const struct jail_child *c) {
        for (int n = 0; n < 1000; n++) {
                pid_t pid = fork();
                if (pid == 0)
                        for (;;)
                                pause();
                if (pid < 0)
                        return errno == EAGAIN ? n : 255;
        }
        return 254;
}

static void a_fork_bomb_stops_at_the_limit(void **state) {
        const struct plan_limits l = {.processes = 20, .open_files = 64};
        const struct plan *plan = limited(&l);

        assert_int_equal(fixture_run(plan, forks_without_end), 20);
        plan_close(plan);
}

static int opens_without_end(const struct jail_child *c) {
        int n = 0;

        while (open("/dev/null", O_RDONLY) >= 0)
                n++;
        return errno == EMFILE && n == 64 - 3 ? 0 : 1;
}

static void descriptors_stop_at_the_limit(void **state) {
        const struct plan_limits l = {.processes = 20, .open_files = 64};
        const struct plan *plan = limited(&l);

        assert_int_equal(fixture_run(plan, opens_without_end), 0);
        plan_close(plan);
}

static int fills_tmp(const struct jail_child *c) {
        static char block[1 << 16];
        int fd = open("/tmp/big", O_CREAT | O_WRONLY | O_CLOEXEC, 0600), inodes = 0;

        while (write(fd, block, sizeof(block)) > 0)
                ;
        if (errno != ENOSPC)
                return 1;
        for (; inodes < 100000; inodes++) {
                char name[32];
                snprintf(name, sizeof(name), "/tmp/%d", inodes);
                if (mknod(name, S_IFIFO | 0600, 0) < 0)
                        break;
        }
        return errno == ENOSPC && inodes < 10000 ? 0 : 2;
}

static void private_tmp_is_bounded_in_bytes_and_names(void **state) {
        const struct plan *plan = fixture_standard(0);

        assert_int_equal(fixture_run(plan, fills_tmp), 0);
        plan_close(plan);
}

static int eats_memory(const struct jail_child *c) {
        for (int i = 0; i < 256; i++) {
                char *p = mmap(NULL, 1 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
                if (p == MAP_FAILED)
                        return errno == ENOMEM ? 42 : 1;
                memset(p, 1, 1 << 20);
        }
        return 2;
}

static void memory_stops_at_the_limit(void **state) {
        const struct plan_limits l = {.processes = 20, .open_files = 64, .memory_bytes = 32u << 20};
        const struct plan *plan = limited(&l);
        struct spawn_exit ex;
        struct jail j;

        start(plan, eats_memory, &j);
        uint32_t by = j.att.limits_by;
        assert_int_equal(jail_reap(&j, true, &ex), 0);
        if (by & CGROUP_MEMORY) {
                assert_int_equal(ex.signal, SIGKILL);
                assert_true(ex.oom_kills >= 1);
        } else {
                assert_int_equal(by, CGROUP_RLIMITS);
                assert_int_equal(ex.code, 42);
        }
        plan_close(plan);
}

static void missing_cgroups_are_named_where_the_policy_lets_them_go(void **state) {
        const uint32_t all =
                1u << PLAN_FEATURE_CGROUP_MEMORY | 1u << PLAN_FEATURE_CGROUP_PIDS | 1u << PLAN_FEATURE_CGROUP_CPU;
        struct plan_builder *b = fixture_builder(0, "default", NULL, all, 1);
        struct spawn_exit ex;
        struct jail j;

        fixture_view(b);
        fixture_layers(b);
        const struct plan *plan = fixture_plan(b);
        start(plan, exits_with_three, &j);
        assert_int_equal(j.att.degraded, j.att.limits_by == CGROUP_RLIMITS ? all : 0);
        jail_reap(&j, true, &ex);
        plan_close(plan);
}

/* --- network --- */

static const struct plan *captured(void) {
        struct plan_builder *b = fixture_builder(PLAN_NETRULES, "default", NULL, 0, 1);

        fixture_view(b);
        fixture_layers(b);
        plan_set_netrules(b, crew_netrules, crew_netrules_bytes);
        return fixture_plan(b);
}

static int dials_out(const struct jail_child *c) {
        struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(443), .sin_addr = {inet_addr("192.0.2.7")}};
        struct sockaddr_in6 a6 = {.sin6_family = AF_INET6, .sin6_port = htons(443)};
        struct sockaddr_in own = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
        int s = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), u = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
        int s6 = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0), x = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

        inet_pton(AF_INET6, "2001:db8::1", &a6.sin6_addr);
        own.sin_port = htons(GATE_TCP_PORT);
        if (bind(x, (struct sockaddr *)&own, sizeof(own)) == 0)
                return 1; /* the capture port is privileged and taken */
        if (connect(s, (struct sockaddr *)&a, sizeof(a)) < 0 || connect(s6, (struct sockaddr *)&a6, sizeof(a6)) < 0)
                return 2;
        a.sin_port = htons(53);
        if (sendto(u, "query", 5, 0, (struct sockaddr *)&a, sizeof(a)) != 5)
                return 3;
        a.sin_port = htons(123);
        (void)sendto(u, "ntp", 3, 0, (struct sockaddr *)&a, sizeof(a)); /* rejected, now or at the next call */
        while (pause() < 0)
                ;
        return 0;
}

static void every_connection_ends_at_the_capture_listeners(void **state) {
        const struct plan *plan = captured();
        struct spawn_exit ex;
        char buf[16];
        struct jail j;

        start(plan, dials_out, &j);
        for (size_t i = 0; i < 4; i++)
                assert_true(j.listeners[i] >= 0);
        assert_true(readable_within(j.listeners[0], PATIENCE_MS));
        assert_true(readable_within(j.listeners[1], PATIENCE_MS));
        assert_true(readable_within(j.listeners[2], PATIENCE_MS));
        assert_int_equal(recv(j.listeners[2], buf, sizeof(buf), 0), 5);
        struct sockaddr_in orig;
        socklen_t len = sizeof(orig);
        _cleanup_close_ int conn = accept(j.listeners[0], NULL, NULL);
        assert_int_equal(getsockopt(conn, SOL_IP, 80 /* SO_ORIGINAL_DST */, &orig, &len), 0);
        assert_int_equal(orig.sin_addr.s_addr, inet_addr("192.0.2.7"));
        assert_int_equal(ntohs(orig.sin_port), 443);
        assert_false(readable_within(j.listeners[2], 100)); /* port 123 went nowhere */
        jail_kill(&j, &ex);
        plan_close(plan);
}

/* --- observed calls --- */

static int opens_a_file(const struct jail_child *c) {
        return open("/etc/passwd", O_RDONLY | O_CLOEXEC) < 0 ? errno : 0;
}

static void observed_calls_wait_for_the_observer(void **state) {
        const struct plan *plan = fixture_standard(PLAN_NOTIFY);
        struct spawn_exit ex;
        struct jail j;

        start(plan, opens_a_file, &j);
        assert_true(j.notify_fd >= 0);
        assert_true(readable_within(j.notify_fd, PATIENCE_MS));
        assert_int_equal(jail_reap(&j, false, &ex), -EAGAIN);
        assert_int_equal(notify_pass(j.notify_fd), 0);
        assert_int_equal(jail_reap(&j, true, &ex), 0);
        assert_int_equal(ex.code, 0);
        /* Without an observer nothing is let through unseen. */
        start(plan, opens_a_file, &j);
        crew_close(&j.notify_fd);
        assert_int_equal(jail_reap(&j, true, &ex), 0);
        assert_int_equal(ex.code, ENOSYS);
        plan_close(plan);
}

int main(int argc, char **argv) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(a_kill_takes_the_whole_tree),
                cmocka_unit_test(an_exit_is_not_a_kill),
                cmocka_unit_test(a_frozen_jail_stands_still_and_still_dies),
                cmocka_unit_test(a_jail_that_cannot_run_is_frozen_when_it_can),
                cmocka_unit_test(a_jail_frozen_by_another_dies_too),
                cmocka_unit_test(a_jail_dies_with_the_process_that_made_it),
                cmocka_unit_test(a_sweep_leaves_the_living_alone),
                cmocka_unit_test(a_fork_bomb_stops_at_the_limit),
                cmocka_unit_test(descriptors_stop_at_the_limit),
                cmocka_unit_test(private_tmp_is_bounded_in_bytes_and_names),
                cmocka_unit_test(memory_stops_at_the_limit),
                cmocka_unit_test(missing_cgroups_are_named_where_the_policy_lets_them_go),
                cmocka_unit_test(every_connection_ends_at_the_capture_listeners),
                cmocka_unit_test(observed_calls_wait_for_the_observer),
        };
        return fixture_main("life", tests, ELEMENTSOF(tests), argc, argv);
}
