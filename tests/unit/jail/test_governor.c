/* SPDX-License-Identifier: Apache-2.0 */
/* Who would get more than its limits where no control group holds it, and whom that must not hit. */
#include "fixture.h"

#include "common/util.h"
#include "worker/sandbox/governor.h"
#include "worker/sandbox/proctree.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define MIB (1ull << 20)
#define SECOND_NS 1000000000ull
#define DEEP 500

static _Atomic uint64_t *rounds; /* what the jail has done, in memory that it shares with us */

static struct jail last = JAIL_NULL;

static void end(struct jail *j) {
        struct spawn_exit ex;

        if (j->pidfd >= 0)
                assert_int_equal(jail_kill(j, &ex), 0);
}

static void start_limited(uint64_t memory_bytes, uint32_t cpu_milli, fixture_fn fn, struct jail *j) {
        const struct plan_limits l = {
                .processes = 800, .open_files = 256, .memory_bytes = memory_bytes, .cpu_milli = cpu_milli};
        struct plan_builder *b = fixture_builder(0, "default", &l, 0, 1);
        struct crew_err err = CREW_ERR_NULL;

        fixture_view(b);
        fixture_layers(b);
        const struct plan *plan = fixture_plan(b);
        end(j); /* of a test that failed */
        *rounds = 0;
        if (fixture_spawn(plan, fn, j, &err) < 0)
                fail_msg("%s", err.msg);
        plan_close(plan);
}

static struct governor_counts counts_of(const struct jail *j) {
        return j->governor ? governor_counts(j->governor) : (struct governor_counts){0};
}

static uint64_t own_time_ns(void) {
        struct timespec t;

        clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
        return (uint64_t)t.tv_sec * SECOND_NS + (uint64_t)t.tv_nsec;
}

/* As the spawner does, until it is enough or the time is over.  The longest look, by our own processor time: what else the
 * machine does is not its doing. */
static uint64_t govern_until(struct jail *j, uint64_t ns, bool (*enough)(const struct jail *j)) {
        uint64_t now = crew_now_ns(), until = now + ns, longest = 0;

        do { /* at least once, whenever we get to run */
                uint64_t began = own_time_ns(), next = MIN_OF(jail_govern(j, now), until), done = crew_now_ns();
                longest = MAX_OF(longest, own_time_ns() - began);
                if (next > done)
                        usleep((useconds_t)((next - done) / 1000 + 1));
                now = crew_now_ns();
        } while (now < until && !(enough && enough(j)));
        return longest;
}

static uint64_t govern(struct jail *j, uint64_t ns) {
        return govern_until(j, ns, NULL);
}

/* On a busy machine each process of a chain waits for its turn: as long as it goes on, it is waited for. */
static void await_rounds(uint64_t n) {
        uint64_t seen = 0, now;

        for (int i = 0; i < 3000 && (now = *rounds) < n; i++) {
                if (now > seen)
                        i = 0;
                seen = now;
                usleep(10000);
        }
        assert_in_range(*rounds, n, UINT64_MAX);
}

static bool by_group(const struct jail *j, uint32_t bit) {
        return j->att.limits_by & bit;
}

static void touch(uint64_t bytes) {
        volatile char *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

        for (uint64_t i = 0; p != MAP_FAILED && i < bytes; i += 4096)
                p[i] = 1;
}

/* --- a process whose first thread has ended --- */

static void *works(void *bytes) {
        touch(*(uint64_t *)bytes);
        for (;;)
                ++*rounds;
        return NULL;
}

static int without_a_leader(uint64_t bytes) {
        static uint64_t n;
        pthread_t t;

        n = bytes;
        if (fork() == 0) {
                if (pthread_create(&t, NULL, works, &n) != 0)
                        _exit(1);
                syscall(SYS_exit, 0);
        }
        for (;;)
                pause();
        return 0;
}

static int holds_too_much_without_a_leader(const struct jail_child *c) {
        return without_a_leader(100 * MIB);
}

static int spins_without_a_leader(const struct jail_child *c) {
        return without_a_leader(4096);
}

static void memory_of_one_without_a_leader_counts(void **state) {

        start_limited(64 * MIB, 0, holds_too_much_without_a_leader, &last);
        if (!by_group(&last, 1)) {
                await_rounds(1);
                govern(&last, SECOND_NS / 2);
                assert_int_equal(counts_of(&last).kills, 1);
        }
        end(&last);
}

static void one_without_a_leader_is_frozen(void **state) {

        start_limited(0, 0, spins_without_a_leader, &last);
        await_rounds(1);
        fixture_freeze(&last);
        usleep(20000);
        uint64_t before = *rounds;
        usleep(100000);
        assert_int_equal(*rounds, before);
        assert_int_equal(jail_thaw(&last), 0);
        await_rounds(before + 1);
        end(&last);
}

static void one_without_a_leader_is_held(void **state) {

        start_limited(0, 100, spins_without_a_leader, &last);
        await_rounds(1);
        govern(&last, 2 * SECOND_NS);
        assert_false(counts_of(&last).unheld);
        end(&last);
}

/* --- one that somebody continues --- */

static int spins(const struct jail_child *c) {
        if (fork() == 0) {
                for (;;)
                        ++*rounds;
        }
        for (;;)
                pause();
        return 0;
}

static void continue_all(const struct jail *j) {
        const struct proctree *w = proctree_walk(j->pid, UINT64_MAX);

        for (size_t i = 0; i < w->n; i++)
                kill(w->pids[i], SIGCONT);
}

/* By its state: one that the machine gives no time does nothing either. */
static bool is_stopped(const struct jail *j) {
        const struct proctree *w = proctree_walk(j->pid, UINT64_MAX);
        struct proctree_process p;

        for (size_t i = 0; i < w->n; i++) {
                if (!proctree_look(w->pids[i], &p) || p.state != 'T')
                        return false;
        }
        return w->n > 1;
}

/* Time is made here, and hardly passes: the one hold lasts as long as we look. */
static void one_that_is_continued_stands_still_again(void **state) {
        uint64_t now = crew_now_ns();

        start_limited(0, 100, spins, &last);
        await_rounds(1);
        for (int i = 0; i < 1000 && !by_group(&last, 4) && counts_of(&last).holds == 0; i++, usleep(10000))
                (void)jail_govern(&last, now += 1000000);
        for (int times = 0; times < 3 && last.governor && !governor_holds_group(last.governor); times++) {
                continue_all(&last);
                await_rounds(*rounds + 1);
                for (int i = 0; i < 1000 && !is_stopped(&last); i++, usleep(1000))
                        (void)jail_govern(&last, now += 1000);
                assert_true(is_stopped(&last));
                assert_int_equal(counts_of(&last).holds, 1);
        }
        end(&last);
}

/* --- memory that two have as one --- */

static int borrows(void *unused) {
        for (;; usleep(1000))
                ++*rounds;
        return 0;
}

/* As a program is, which a worker is not: else what it shares is not to be seen. */
static void be_a_program(void) {
        prctl(PR_SET_DUMPABLE, 1);
}

static int holds_and_lends(const struct jail_child *c) {
        static char stack[65536] __attribute__((aligned(16)));

        if (fork() == 0) {
                be_a_program();
                touch(40 * MIB);
                clone(borrows, stack + sizeof(stack), CLONE_VM | CLONE_VFORK | SIGCHLD, NULL);
        }
        for (;;)
                pause();
        return 0;
}

static void memory_that_is_borrowed_counts_once(void **state) {

        start_limited(64 * MIB, 0, holds_and_lends, &last);
        await_rounds(1);
        govern(&last, SECOND_NS / 2);
        assert_int_equal(counts_of(&last).kills, 0);
        end(&last);
}

static void one_that_is_given_limits_while_it_is_frozen_stays_as_it_is(void **state) {
        const struct spawn_limits l = {.memory_bytes = 8 * MIB, .cpu_milli = 10};

        start_limited(0, 0, holds_and_lends, &last);
        await_rounds(1);
        fixture_freeze(&last);
        last.att.limits_by = 0; /* as where groups freeze and do nothing else */
        assert_int_equal(jail_limit(&last, &l), 0);
        govern(&last, SECOND_NS / 10);
        assert_non_null(last.governor);
        assert_int_equal(counts_of(&last).kills, 0);
        assert_int_equal(jail_is_frozen(&last), 0);
        assert_int_equal(jail_thaw(&last), 0);
        for (int i = 0; i < 1000 && counts_of(&last).kills == 0; i++)
                govern(&last, SECOND_NS / 20);
        assert_true(counts_of(&last).kills > 0);
        end(&last);
}

/* --- one that is another process all the time --- */

static char hop_stacks[2][65536] __attribute__((aligned(16)));

static int hop_loops = 20000;

static int hops(void *which) {
        size_t i = (size_t)which;

        for (volatile int k = 0; k < hop_loops; k = k + 1)
                ;
        ++*rounds;
        clone(hops, hop_stacks[1 - i] + sizeof(hop_stacks[0]), CLONE_VM | CLONE_PARENT | SIGCHLD, (void *)(1 - i));
        syscall(SYS_exit_group, 0);
        return 0;
}

static int has_one_that_hops(const struct jail_child *c) {
        if (fork() == 0) {
                signal(SIGCHLD, SIG_IGN); /* so that nobody need wait for them */
                clone(hops, hop_stacks[0] + sizeof(hop_stacks[0]), CLONE_VM | SIGCHLD, (void *)0);
                for (;;)
                        pause();
        }
        for (;;)
                pause();
        return 0;
}

static void one_that_hops_is_frozen_or_it_is_said(void **state) {

        start_limited(0, 0, has_one_that_hops, &last);
        await_rounds(1);
        for (int i = 0; i < 20; i++) {
                int r = -EAGAIN;
                assert_int_equal(jail_freeze(&last), 0);
                for (int looks = 0; looks < 100 && r == -EAGAIN; looks++, usleep(500))
                        r = jail_is_frozen(&last);
                assert_true(r == 0 || r == -EAGAIN);
                usleep(2000);
                uint64_t before = *rounds;
                usleep(20000);
                assert_true(r != 0 || *rounds == before);
                assert_int_equal(jail_thaw(&last), 0);
                await_rounds(before + 1);
        }
        end(&last);
}

static bool is_held_back(const struct jail *j) {
        return counts_of(j).unheld || counts_of(j).holds >= 5;
}

static void hold_back(uint32_t cpu_milli) {
        start_limited(0, cpu_milli, has_one_that_hops, &last); /* less than it gets, whatever else the machine does */
        if (!by_group(&last, 4)) {
                await_rounds(1000);
                govern_until(&last, 60 * SECOND_NS, is_held_back);
                print_message("# held %u times, unheld %d\n", counts_of(&last).holds, counts_of(&last).unheld);
                assert_true(is_held_back(&last));
        }
        end(&last);
}

static void one_that_hops_is_held_back(void **state) {
        hold_back(20);
}

/* Where those that look have to share it with those that are looked at, none of these ends during a look. */
static void so_it_is_on_one_processor(void **state) {
        cpu_set_t all, one;

        assert_int_equal(sched_getaffinity(0, sizeof(all), &all), 0);
        CPU_ZERO(&one);
        for (int i = 0; i < CPU_SETSIZE && CPU_COUNT(&one) == 0; i++) {
                if (CPU_ISSET(i, &all))
                        CPU_SET(i, &one);
        }
        assert_int_equal(sched_setaffinity(0, sizeof(one), &one), 0);
        hop_loops = 2000; /* of those that live longer fewer are missed */
        hold_back(5);
        hop_loops = 20000;
        assert_int_equal(sched_setaffinity(0, sizeof(all), &all), 0);
}

/* --- one with many threads --- */

static void *ends(void *unused) {
        return NULL;
}

static uint64_t process_time_ns(void) {
        struct timespec t;

        clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
        return (uint64_t)t.tv_sec * SECOND_NS + (uint64_t)t.tv_nsec;
}

/* Takes a third of a processor, all of it in an account; one that is waited for tells the number again and again. */
static int makes_threads(const struct jail_child *c) {
        for (;; ++*rounds) {
                uint64_t began = process_time_ns(), used;
                pthread_t t;
                while ((used = process_time_ns() - began) < 3000000) {
                        if (pthread_create(&t, NULL, ends, NULL) != 0 || pthread_join(t, NULL) != 0)
                                return 1;
                }
                pid_t pid = fork();
                usleep((useconds_t)(used / 500));
                if (pid == 0)
                        _exit(0);
                waitpid(pid, NULL, 0);
        }
        return 0;
}

static void one_that_makes_threads_is_not_held(void **state) {
        start_limited(0, 700, makes_threads, &last);
        if (!by_group(&last, 4)) {
                await_rounds(1);
                govern(&last, 3 * SECOND_NS);
                assert_int_equal(counts_of(&last).holds, 0);
        }
        end(&last);
}

/* --- many of them --- */

static int nests_deep(const struct jail_child *c) {
        pid_t pid = 0;

        for (int i = 0; i < DEEP && (pid = fork()) == 0; i++)
                ++*rounds;
        if (pid < 0)
                dprintf(2, "# fork: %s\n", strerror(errno));
        while (*rounds < DEEP)
                pause();
        for (;;)
                ++*rounds;
        return 0;
}

static void a_deep_tree_does_not_hold_us_up(void **state) {

        start_limited(0, 500, nests_deep, &last);
        await_rounds(DEEP);
        uint64_t longest = govern(&last, SECOND_NS);
        print_message("# longest look: %llu us\n", (unsigned long long)longest / 1000);
        assert_true(longest < SECOND_NS / 4);
        end(&last);
}

static int shares_much(const struct jail_child *c) {
        volatile char *p = mmap(NULL, 60 * MIB, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

        for (uint64_t i = 0; i < 60 * MIB; i += 4096)
                p[i] = 1;
        be_a_program();
        for (int i = 0; i < 200; i++) {
                if (fork() == 0) {
                        for (uint64_t k = 0; k < 60 * MIB; k += 4096)
                                (void)p[k];
                        for (++*rounds;; usleep(20000))
                                ;
                }
        }
        for (;;)
                pause();
        return 0;
}

static void many_that_share_do_not_hold_us_up(void **state) {

        start_limited(200 * MIB, 0, shares_much, &last);
        if (!by_group(&last, 1)) {
                await_rounds(200);
                uint64_t longest = govern(&last, 2 * SECOND_NS);
                print_message("# longest look: %llu us\n", (unsigned long long)longest / 1000);
                assert_int_equal(counts_of(&last).kills, 0);
                assert_true(longest < SECOND_NS / 8);
        }
        end(&last);
}

static int bombs(const struct jail_child *c) {
        for (int i = 0; i < 100; i++) {
                if (fork() == 0) {
                        touch(20 * MIB);
                        for (++*rounds;; usleep(20000))
                                ;
                }
        }
        for (;;)
                pause();
        return 0;
}

static bool is_within_its_memory(const struct jail *j) {
        struct spawn_stats s;

        jail_stats(j, &s);
        return s.memory_bytes <= 64 * MIB;
}

static void many_that_hold_too_much_are_killed_at_once(void **state) {
        struct spawn_stats s;

        start_limited(64 * MIB, 0, bombs, &last);
        if (!by_group(&last, 1)) {
                await_rounds(100);
                govern(&last, 0);
                assert_in_range(counts_of(&last).kills, 97, 98);           /* of a hundred, at the first look */
                govern_until(&last, 60 * SECOND_NS, is_within_its_memory); /* they have much to give back */
                jail_stats(&last, &s);
                print_message("# %llu MiB, %u processes\n", (unsigned long long)(s.memory_bytes / MIB), s.processes);
                assert_true(s.memory_bytes <= 64 * MIB && s.processes > 1);
        }
        end(&last);
}

/* --- long ways out of the kernel --- */

/* For some tenths of a second each time, however fast the machine gives memory. */
static int populates(const struct jail_child *c) {
        for (uint64_t bytes = 25 * MIB;;) {
                uint64_t began = own_time_ns();
                void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
                bool short_way = own_time_ns() - began < SECOND_NS / 10;
                munmap(p, bytes);
                if (short_way && bytes < 400 * MIB)
                        bytes *= 2;
                ++*rounds;
        }
        return 0;
}

static void who_is_long_in_the_kernel_is_not_one_that_runs_on(void **state) {

        start_limited(0, 500, populates, &last);
        govern(&last, 12 * SECOND_NS);
        assert_true(*rounds > 0);
        assert_false(counts_of(&last).unheld);
        end(&last);
}

int main(int argc, char **argv) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(memory_of_one_without_a_leader_counts),
                cmocka_unit_test(one_without_a_leader_is_frozen),
                cmocka_unit_test(one_without_a_leader_is_held),
                cmocka_unit_test(one_that_is_continued_stands_still_again),
                cmocka_unit_test(memory_that_is_borrowed_counts_once),
                cmocka_unit_test(one_that_is_given_limits_while_it_is_frozen_stays_as_it_is),
                cmocka_unit_test(one_that_hops_is_frozen_or_it_is_said),
                cmocka_unit_test(one_that_hops_is_held_back),
                cmocka_unit_test(so_it_is_on_one_processor),
                cmocka_unit_test(one_that_makes_threads_is_not_held),
                cmocka_unit_test(a_deep_tree_does_not_hold_us_up),
                cmocka_unit_test(many_that_share_do_not_hold_us_up),
                cmocka_unit_test(many_that_hold_too_much_are_killed_at_once),
                cmocka_unit_test(who_is_long_in_the_kernel_is_not_one_that_runs_on),
        };
        rounds = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
        return rounds == MAP_FAILED ? 1 : fixture_main("governor", tests, ELEMENTSOF(tests), argc, argv);
}
