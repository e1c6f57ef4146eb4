/* SPDX-License-Identifier: Apache-2.0 */
/* The sliding window and the restart policy, on a clock of their own. */
#include "supervisor/restart.h"

#include "test.h"

#define S 1000000000ull

static void the_window_counts_only_its_period(void **state) {
        struct rate r;
        (void)state;
        rate_init(&r, 2, 10 * S);
        assert_false(rate_exceeded_by(&r, 100 * S));
        assert_false(rate_exceeded_by(&r, 105 * S));
        assert_true(rate_exceeded_by(&r, 109 * S));
        /* Exactly one period later the first no longer counts. */
        assert_false(rate_exceeded_by(&r, 110 * S));
        assert_int_equal(rate_count(&r, 110 * S), 2);
        assert_int_equal(rate_count(&r, 1000 * S), 0);
}

static void the_window_is_what_a_naive_count_says(void **state) {
        uint64_t seed = 99, at[4000];
        (void)state;
        for (uint32_t max = 0; max <= 6; max++) {
                struct rate r;
                size_t n = 0;
                uint64_t now = S;
                rate_init(&r, max, 7 * S);
                for (int i = 0; i < 500; i++) {
                        uint32_t recent = 0;
                        now += test_random(&seed, 4) * S;
                        for (size_t k = 0; k < n; k++)
                                recent += now - at[k] < 7 * S;
                        bool exceeded = rate_exceeded_by(&r, now);
                        assert_int_equal(exceeded, recent >= max);
                        if (!exceeded)
                                at[n++] = now;
                }
        }
}

static void no_restart_without_a_policy(void **state) {
        struct restart r;
        uint64_t delay = 1;
        (void)state;
        restart_init(&r, 0, 60 * S, 1);
        assert_false(restart_take(&r, S, &delay));
        assert_int_equal(r.total, 0);
}

static void the_fourth_death_within_the_period_gives_up(void **state) {
        struct restart r;
        uint64_t delay, now = 1000 * S;
        (void)state;
        restart_init(&r, 3, 60 * S, 1);
        for (int i = 0; i < 3; i++)
                assert_true(restart_take(&r, now + (uint64_t)i * S, &delay));
        assert_false(restart_take(&r, now + 3 * S, &delay));
        assert_int_equal(r.total, 3);
        /* One that was asked for is told, and held against nobody. */
        restart_free_of_charge(&r);
        assert_int_equal(r.total, 4);
        assert_false(restart_take(&r, now + 59 * S, &delay));
        assert_true(restart_take(&r, now + 60 * S, &delay));
}

static void the_back_off_doubles_and_forgets(void **state) {
        struct restart r;
        uint64_t delay, now = 1000 * S;
        (void)state;
        restart_init(&r, 20, 60 * S, 1);
        uint64_t most = RESTART_BACKOFF_FIRST_NS;
        for (int i = 0; i < 12; i++) {
                assert_true(restart_take(&r, now, &delay));
                assert_true(delay >= most / 2 && delay <= most);
                most = most * 2 > RESTART_BACKOFF_MAX_NS ? RESTART_BACKOFF_MAX_NS : most * 2;
        }
        assert_true(restart_take(&r, now + 80 * S, &delay)); /* it was back after 10 at most, and lived for 60 */
        assert_true(delay <= RESTART_BACKOFF_FIRST_NS);
}

/* Its restarts leave the window before they are too many. */
static void the_back_off_grows_beyond_a_short_period(void **state) {
        struct restart r;
        uint64_t delay = 0, now = 1000 * S;
        (void)state;
        restart_init(&r, 20, 1 * S, 1);
        for (int i = 0; i < 30; i++) {
                assert_true(restart_take(&r, now, &delay));
                now += delay + S / 100;
        }
        assert_true(delay >= RESTART_BACKOFF_MAX_NS / 2);
        assert_true(restart_take(&r, now + 2 * S, &delay));
        assert_true(delay <= RESTART_BACKOFF_FIRST_NS);
}

static void those_that_die_together_do_not_come_back_together(void **state) {
        uint64_t delays[64], sum = 0, spread = 0;
        (void)state;
        for (uint64_t i = 0; i < 64; i++) {
                struct restart r;
                restart_init(&r, 3, 60 * S, i * 0x9e3779b97f4a7c15ull);
                assert_true(restart_take(&r, S, &delays[i]));
                sum += delays[i] / 64;
        }
        for (int i = 0; i < 64; i++)
                spread += delays[i] > sum ? delays[i] - sum : sum - delays[i];
        assert_true(spread / 64 > RESTART_BACKOFF_FIRST_NS / 16);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(the_window_counts_only_its_period),
                cmocka_unit_test(the_window_is_what_a_naive_count_says),
                cmocka_unit_test(no_restart_without_a_policy),
                cmocka_unit_test(the_fourth_death_within_the_period_gives_up),
                cmocka_unit_test(the_back_off_doubles_and_forgets),
                cmocka_unit_test(the_back_off_grows_beyond_a_short_period),
                cmocka_unit_test(those_that_die_together_do_not_come_back_together),
        };
        cmocka_set_message_output(CM_OUTPUT_TAP);
        return cmocka_run_group_tests(tests, NULL, NULL);
}
