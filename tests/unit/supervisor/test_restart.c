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
        restart_init(&r, 0, 60 * S);
        assert_false(restart_wanted(&r));
        assert_false(restart_possible(&r, S));
        assert_int_equal(restart_decide(&r, S, &delay), RESTART_NEVER);
}

static void the_fourth_death_within_the_period_gives_up(void **state) {
        struct restart r;
        uint64_t delay, now = 1000 * S;
        (void)state;
        restart_init(&r, 3, 60 * S);
        for (int i = 0; i < 3; i++) {
                assert_true(restart_possible(&r, now + (uint64_t)i * S));
                assert_int_equal(restart_decide(&r, now + (uint64_t)i * S, &delay), RESTART_AFTER);
        }
        assert_false(restart_possible(&r, now + 3 * S));
        assert_int_equal(restart_decide(&r, now + 3 * S, &delay), RESTART_GIVE_UP);
        assert_int_equal(r.total, 3);
}

static void the_back_off_doubles_and_forgets(void **state) {
        struct restart r;
        uint64_t delay, now = 1000 * S;
        (void)state;
        restart_init(&r, 20, 60 * S);
        uint64_t want = RESTART_BACKOFF_FIRST_NS;
        for (int i = 0; i < 12; i++) {
                assert_int_equal(restart_decide(&r, now, &delay), RESTART_AFTER);
                assert_int_equal(delay, want);
                want = want * 2 > RESTART_BACKOFF_MAX_NS ? RESTART_BACKOFF_MAX_NS : want * 2;
        }
        assert_int_equal(restart_decide(&r, now + 60 * S, &delay), RESTART_AFTER);
        assert_int_equal(delay, RESTART_BACKOFF_FIRST_NS);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(the_window_counts_only_its_period),
                cmocka_unit_test(the_window_is_what_a_naive_count_says),
                cmocka_unit_test(no_restart_without_a_policy),
                cmocka_unit_test(the_fourth_death_within_the_period_gives_up),
                cmocka_unit_test(the_back_off_doubles_and_forgets),
        };
        cmocka_set_message_output(CM_OUTPUT_TAP);
        return cmocka_run_group_tests(tests, NULL, NULL);
}
