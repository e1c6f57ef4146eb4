/* SPDX-License-Identifier: Apache-2.0 */
/* The loop rests while there is much that nobody waits for, and not a moment longer. */
#include "test.h"

#include "supervisor/coalesce.h"

#define START 1000000000u

static void come(struct coalesce *c, unsigned n) {
        for (unsigned i = 0; i < n; i++)
                coalesce_note(c, false);
}

static void a_few_are_taken_one_by_one(void **state) {
        struct coalesce c = {0};

        for (unsigned window = 0; window < 8; window++) {
                assert_int_equal(coalesce_rest_ns(&c, START + window * COALESCE_WINDOW_NS), 0);
                come(&c, COALESCE_MANY - 1);
        }
}

static void many_make_it_rest(void **state) {
        struct coalesce c = {0};

        assert_int_equal(coalesce_rest_ns(&c, START), 0);
        come(&c, COALESCE_MANY);
        assert_int_equal(coalesce_rest_ns(&c, START + COALESCE_WINDOW_NS - 1), 0);
        assert_int_equal(coalesce_rest_ns(&c, START + COALESCE_WINDOW_NS), COALESCE_REST_NS);
        assert_int_equal(coalesce_rest_ns(&c, START + COALESCE_WINDOW_NS + 1), COALESCE_REST_NS);
}

static struct coalesce resting(void) {
        struct coalesce c = {0};

        coalesce_rest_ns(&c, START);
        come(&c, COALESCE_MANY);
        assert_int_equal(coalesce_rest_ns(&c, START + COALESCE_WINDOW_NS), COALESCE_REST_NS);
        return c;
}

static void who_waits_is_not_kept_waiting(void **state) {
        struct coalesce c = resting();

        come(&c, COALESCE_MANY);
        coalesce_note(&c, true);
        assert_int_equal(coalesce_rest_ns(&c, START + COALESCE_WINDOW_NS + 1), 0);
        come(&c, COALESCE_MANY - 1); /* what came before does not count */
        assert_int_equal(coalesce_rest_ns(&c, START + 2 * COALESCE_WINDOW_NS), 0);
}

static void it_ends_when_they_end(void **state) {
        struct coalesce c = resting();

        assert_int_equal(coalesce_rest_ns(&c, START + 2 * COALESCE_WINDOW_NS), 0);
        c = resting();
        assert_int_equal(coalesce_rest_ns(&c, START + 3600ull * 1000000000u), 0);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(a_few_are_taken_one_by_one),
                cmocka_unit_test(many_make_it_rest),
                cmocka_unit_test(who_waits_is_not_kept_waiting),
                cmocka_unit_test(it_ends_when_they_end),
        };

        cmocka_set_message_output(CM_OUTPUT_TAP);
        return cmocka_run_group_tests(tests, NULL, NULL);
}
