/* SPDX-License-Identifier: Apache-2.0 */
#include "supervisor/meter.h"

#include "test.h"

#define SECOND 1000000000ull

static void a_burst_is_taken_at_once_and_not_more(void **state) {
        struct meter m;

        meter_init(&m, 10, 5, SECOND);
        for (int i = 0; i < 10; i++)
                assert_true(meter_take(&m, 1, SECOND));
        assert_false(meter_take(&m, 1, SECOND));
}

static void tokens_come_at_the_rate_however_often_one_asks(void **state) {
        struct meter m;
        int taken = 0;

        meter_init(&m, 10, 7, 0);
        assert_true(meter_take(&m, 10, 0));
        for (uint64_t now = 0; now <= 100 * SECOND; now += 10000000u + 7)
                taken += meter_take(&m, 1, now);
        assert_in_range(taken, 698, 700);
}

static void a_long_rest_fills_it_and_does_not_overflow(void **state) {
        struct meter m;

        meter_init(&m, 4 << 20, 1u << 20, 0);
        assert_true(meter_take(&m, 4 << 20, 0));
        assert_true(meter_take(&m, 4 << 20, UINT64_MAX - 1));
        assert_false(meter_take(&m, 1, UINT64_MAX - 1));
}

static void a_clock_that_stands_or_goes_back_gives_nothing(void **state) {
        struct meter m;

        meter_init(&m, 1, 1000, 5 * SECOND);
        assert_true(meter_take(&m, 1, 5 * SECOND));
        assert_false(meter_take(&m, 1, 5 * SECOND));
        assert_false(meter_take(&m, 1, SECOND));
}

static void what_is_spent_in_advance_is_paid_back_first(void **state) {
        struct meter m;

        meter_init(&m, 10, 10, 0);
        assert_true(meter_spend(&m, 1, 0));
        assert_false(meter_spend(&m, 29, 0));
        assert_false(meter_spend(&m, 0, 2 * SECOND));
        assert_true(meter_spend(&m, 0, 2 * SECOND + SECOND / 10));
        meter_fill(&m);
        assert_true(meter_take(&m, 10, 2 * SECOND + SECOND / 10));
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(a_burst_is_taken_at_once_and_not_more),
                cmocka_unit_test(tokens_come_at_the_rate_however_often_one_asks),
                cmocka_unit_test(a_long_rest_fills_it_and_does_not_overflow),
                cmocka_unit_test(a_clock_that_stands_or_goes_back_gives_nothing),
                cmocka_unit_test(what_is_spent_in_advance_is_paid_back_first),
        };

        cmocka_set_message_output(CM_OUTPUT_TAP);
        return cmocka_run_group_tests(tests, NULL, NULL);
}
