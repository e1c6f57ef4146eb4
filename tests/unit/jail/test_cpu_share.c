/* SPDX-License-Identifier: Apache-2.0 */
/* A jail's share of the processors: over any longer time it holds, whatever the looks and the bursts are. */
#include "worker/sandbox/cpu_share.h"

#include "common/util.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

#define MS 1000000ull
#define START (1000 * MS)

static void a_period_can_be_saved_up_and_no_more(void **state) {
        struct cpu_share s;

        cpu_share_init(&s, 500, START);
        assert_int_equal(cpu_share_use(&s, 50 * MS, START), 0); /* a tenth of a second of half a core */
        assert_true(cpu_share_use(&s, 1 * MS, START) > 0);
        cpu_share_init(&s, 500, START);
        assert_int_equal(cpu_share_use(&s, 0, START + 3600 * 1000 * MS), 0);
        assert_int_equal(cpu_share_use(&s, 50 * MS, START + 3600 * 1000 * MS), 0);
        assert_in_range(cpu_share_use(&s, 10 * MS, START + 3600 * 1000 * MS), 20 * MS, 20 * MS + 2000);
}

static void what_is_owed_is_waited_for(void **state) {
        struct cpu_share s;

        cpu_share_init(&s, 250, START);
        uint64_t wait = cpu_share_use(&s, 125 * MS, START); /* 25 ms were there */
        assert_in_range(wait, 400 * MS, 400 * MS + 2000);
        assert_true(cpu_share_use(&s, 0, START + wait / 2) > 0);
        assert_int_equal(cpu_share_use(&s, 0, START + wait + MS), 0);
}

static void no_stop_is_longer_than_the_pings_allow_but_the_rest_is_still_owed(void **state) {
        struct cpu_share s;
        uint64_t now = START;

        cpu_share_init(&s, 10, now);
        uint64_t wait = cpu_share_use(&s, 1000 * MS, now), waited = 0;
        while (wait > 0) {
                assert_in_range(wait, 1, CPU_SHARE_STOP_MAX_NS);
                waited += wait;
                wait = cpu_share_use(&s, 0, now += wait);
        }
        assert_in_range(waited, 99000 * MS, 100100 * MS); /* 1 s of a hundredth of a core */
}

static void no_bound_never_stops(void **state) {
        struct cpu_share s;

        cpu_share_init(&s, 0, START);
        assert_int_equal(cpu_share_use(&s, UINT64_MAX, START + MS), 0);
}

static void numbers_out_of_any_range_are_survived(void **state) {
        struct cpu_share s;

        cpu_share_init(&s, 1024000, START);
        for (unsigned i = 0; i < 100; i++)
                assert_true(cpu_share_use(&s, UINT64_MAX, START + i) > 0);
        assert_true(cpu_share_use(&s, UINT64_MAX, 0) > 0); /* a clock that goes back */
        assert_true(cpu_share_use(&s, 0, UINT64_MAX) <= CPU_SHARE_STOP_MAX_NS);
}

/* Some 10,000 runs of a jail that takes all it can get, looked at at random. */
static void it_holds_over_any_longer_time(void **state) {
        srandom(7);
        for (unsigned run = 0; run < 10000; run++) {
                uint32_t milli = 10u + (uint32_t)random() % 3000u;
                unsigned cpus = 1 + (unsigned)random() % 8;
                uint64_t now = START, used = 0, most = 0;
                struct cpu_share s;

                cpu_share_init(&s, milli, now);
                for (unsigned look = 0; look < 200; look++) {
                        uint64_t passed = 1 + (uint64_t)random() % (40 * MS), burst = passed * cpus;
                        now += passed;
                        used += burst;
                        most = MAX_OF(most, burst);
                        for (uint64_t wait = cpu_share_use(&s, burst, now); wait > 0; wait = cpu_share_use(&s, 0, now))
                                now += wait;
                }
                uint64_t may = (now - START) / 1000 * milli + 100 * MS / 1000 * milli;
                assert_true(used <= may + most);
        }
}

static void a_small_share_is_looked_at_sooner(void **state) {
        struct cpu_share s;

        cpu_share_init(&s, 10, START);
        assert_int_equal(cpu_share_look_ns(&s, 64), 2 * MS);
        cpu_share_init(&s, 1000, START);
        assert_int_equal(cpu_share_look_ns(&s, 2), 20 * MS);
        cpu_share_init(&s, 100, START);
        assert_int_equal(cpu_share_look_ns(&s, 1), 10 * MS);
        assert_int_equal(cpu_share_look_ns(&s, 0), 10 * MS);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(a_period_can_be_saved_up_and_no_more),
                cmocka_unit_test(what_is_owed_is_waited_for),
                cmocka_unit_test(no_stop_is_longer_than_the_pings_allow_but_the_rest_is_still_owed),
                cmocka_unit_test(no_bound_never_stops),
                cmocka_unit_test(numbers_out_of_any_range_are_survived),
                cmocka_unit_test(it_holds_over_any_longer_time),
                cmocka_unit_test(a_small_share_is_looked_at_sooner),
        };
        cmocka_set_message_output(CM_OUTPUT_TAP);
        return cmocka_run_group_tests(tests, NULL, NULL);
}
