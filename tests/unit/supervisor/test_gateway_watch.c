/* SPDX-License-Identifier: Apache-2.0 */
/* A gateway that hangs is found out, one that is slow or whose crewd was held up is not. */
#include "test.h"

#include "supervisor/gateway_watch.h"

#define START 1000000000u

static struct gateway_watch watched(void) {
        struct gateway_watch w;

        gateway_watch_begin(&w, START);
        return w;
}

static void until_it_is_up_nothing_is_due(void **state) {
        struct gateway_watch w = {0};

        assert_int_equal(gateway_watch_look(&w, UINT64_MAX), GATEWAY_NOTHING);
        assert_int_equal(w.due_ns, 0);
}

static void one_that_talks_is_not_asked(void **state) {
        struct gateway_watch w = watched();

        for (unsigned i = 0; i < 10; i++) {
                uint64_t due = w.due_ns;
                gateway_watch_heard(&w);
                assert_int_equal(gateway_watch_look(&w, due), GATEWAY_NOTHING);
                assert_int_equal(w.due_ns, due + GATEWAY_QUIET_NS);
        }
}

static void one_that_is_quiet_is_asked_and_one_word_is_enough(void **state) {
        struct gateway_watch w = watched();

        assert_int_equal(gateway_watch_look(&w, START + GATEWAY_QUIET_NS - 1), GATEWAY_NOTHING);
        assert_int_equal(gateway_watch_look(&w, START + GATEWAY_QUIET_NS), GATEWAY_ASK);
        gateway_watch_heard(&w);
        uint64_t due = w.due_ns;
        assert_int_equal(due, START + GATEWAY_QUIET_NS + GATEWAY_PATIENCE_NS);
        assert_int_equal(gateway_watch_look(&w, due), GATEWAY_NOTHING);
        assert_int_equal(gateway_watch_look(&w, w.due_ns), GATEWAY_ASK);
}

static void one_that_hangs_is_found_out(void **state) {
        struct gateway_watch w = watched();

        assert_int_equal(gateway_watch_look(&w, w.due_ns), GATEWAY_ASK);
        assert_int_equal(gateway_watch_look(&w, w.due_ns), GATEWAY_NOTHING);
        assert_int_equal(gateway_watch_look(&w, w.due_ns - 1), GATEWAY_NOTHING);
        assert_int_equal(gateway_watch_look(&w, w.due_ns), GATEWAY_HANGS);
        assert_int_equal(w.due_ns, START + GATEWAY_QUIET_NS + GATEWAY_PATIENCE_NS + GATEWAY_MOMENT_NS);
}

static void one_that_could_not_be_asked_has_nothing_to_answer(void **state) {
        struct gateway_watch w = watched();

        for (unsigned i = 0; i < 5; i++) {
                uint64_t due = w.due_ns;
                assert_int_equal(gateway_watch_look(&w, due), GATEWAY_ASK);
                gateway_watch_unasked(&w, due);
                assert_int_equal(w.due_ns, due + GATEWAY_QUIET_NS);
        }
}

/* The answer was there all the time, and is read only now. */
static void a_machine_that_was_paused_is_nobodys_fault(void **state) {
        struct gateway_watch w = watched();

        assert_int_equal(gateway_watch_look(&w, w.due_ns), GATEWAY_ASK);
        uint64_t later = w.due_ns + 3600ull * 1000000000u;
        assert_int_equal(gateway_watch_look(&w, later), GATEWAY_NOTHING);
        gateway_watch_heard(&w);
        assert_int_equal(gateway_watch_look(&w, later + GATEWAY_MOMENT_NS), GATEWAY_NOTHING);
        assert_int_equal(w.due_ns, later + GATEWAY_MOMENT_NS + GATEWAY_QUIET_NS);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(until_it_is_up_nothing_is_due),
                cmocka_unit_test(one_that_talks_is_not_asked),
                cmocka_unit_test(one_that_is_quiet_is_asked_and_one_word_is_enough),
                cmocka_unit_test(one_that_hangs_is_found_out),
                cmocka_unit_test(one_that_could_not_be_asked_has_nothing_to_answer),
                cmocka_unit_test(a_machine_that_was_paused_is_nobodys_fault),
        };

        cmocka_set_message_output(CM_OUTPUT_TAP);
        return cmocka_run_group_tests(tests, NULL, NULL);
}
