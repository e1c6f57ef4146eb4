/* SPDX-License-Identifier: Apache-2.0 */
#include "supervisor/rounds.h"

#include "test.h"

#define PERIOD 1000000u
#define STEP (PERIOD / ROUNDS_STEPS)

/* One step with room for max of them; how many had their turn. */
static uint32_t step(struct rounds *r, uint32_t n, uint64_t now, uint32_t max, uint32_t *turns) {
        uint32_t took = 0;

        for (uint32_t k = rounds_due(r, n, now); k > 0 && took < max; k--, took++)
                turns[rounds_take(r, n)]++;
        rounds_paused(r, now);
        return took;
}

static void each_has_one_turn_a_period(void **state) {
        static const uint32_t sizes[] = {1, 2, 19, 20, 21, 64, 1000};
        (void)state;
        for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
                struct rounds r = {.period_ns = PERIOD, .at_ns = 77};
                uint32_t turns[1000] = {0}, n = sizes[i], most = 0;
                assert_int_equal(step(&r, n, 76, n, turns), 0);
                for (uint64_t now = 77; now < 77 + 3 * PERIOD; now += STEP / 4) {
                        uint32_t took = step(&r, n, now, n, turns);
                        most = took > most ? took : most;
                }
                for (uint32_t k = 0; k < n; k++)
                        assert_int_equal(turns[k], 3);
                assert_int_equal(most, (n + ROUNDS_STEPS - 1) / ROUNDS_STEPS);
        }
}

static void what_found_no_room_is_next(void **state) {
        struct rounds r = {.period_ns = PERIOD};
        uint32_t turns[100] = {0};
        uint64_t now = 1;
        (void)state;
        for (uint32_t k = 0; k < 100; k++, now = r.at_ns) {
                assert_int_equal(step(&r, 100, now, 1, turns), 1);
                assert_true(r.at_ns >= now + STEP || k == 99);
        }
        for (uint32_t k = 0; k < 100; k++)
                assert_int_equal(turns[k], 1);
}

static void nobody_and_fewer_and_more(void **state) {
        struct rounds r = {.period_ns = PERIOD};
        uint32_t turns[100] = {0};
        uint64_t now = 1;
        (void)state;
        assert_int_equal(step(&r, 0, now, 9, turns), 0);
        for (uint32_t k = 0; k < 10; k++, now += STEP)
                step(&r, 100, now, 100, turns);
        for (uint32_t k = 0; k < 100; k++, now += STEP)
                step(&r, 3, now, 100, turns);
        for (uint32_t k = 0; k < 3; k++)
                assert_true(turns[k] >= 3);
        for (uint32_t k = 0; k < 100; k++, now += STEP)
                step(&r, 100, now, 100, turns);
        for (uint32_t k = 0; k < 100; k++)
                assert_true(turns[k] >= 3);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(each_has_one_turn_a_period),
                cmocka_unit_test(what_found_no_room_is_next),
                cmocka_unit_test(nobody_and_fewer_and_more),
        };

        cmocka_set_message_output(CM_OUTPUT_TAP);
        return cmocka_run_group_tests(tests, NULL, NULL);
}
