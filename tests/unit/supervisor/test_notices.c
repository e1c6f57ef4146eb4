/* SPDX-License-Identifier: Apache-2.0 */
/* What a manager has yet to acknowledge: order, repeats, bounds. */
#include "supervisor/notices.h"

#include "test.h"

#include <errno.h>

static struct notices *l;

static int setup(void **state) {
        (void)state;
        l = notices_new();
        return l ? 0 : -1;
}

static int teardown(void **state) {
        (void)state;
        l = notices_free(l);
        return 0;
}

static int add(uint64_t id) {
        return notices_add(l, id, "a", "{\"x\":1}", 7);
}

/* Tells this instance of the next; its id, 0: nothing is left. */
static uint64_t tell(uint32_t incarnation) {
        struct notice *n = notices_next(l, incarnation);

        if (!n)
                return 0;
        n->told = incarnation;
        return n->id;
}

static void an_instance_is_told_once_of_each_in_order(void **state) {
        (void)state;
        for (uint64_t id = 5; id < 8; id++)
                assert_int_equal(add(id), 0);
        for (uint64_t id = 5; id < 8; id++)
                assert_int_equal(tell(1), id);
        assert_int_equal(tell(1), 0);
        add(8);
        assert_int_equal(tell(1), 8);
        assert_int_equal(tell(1), 0);
}

static void the_next_instance_is_told_again_of_what_was_not_acknowledged(void **state) {
        (void)state;
        for (uint64_t id = 1; id < 4; id++) {
                add(id);
                tell(1);
        }
        assert_true(notices_seen(l, 2));
        assert_int_equal(tell(2), 1);
        assert_int_equal(tell(2), 3);
        assert_int_equal(tell(2), 0);
}

static void what_was_acknowledged_cannot_be_again_nor_what_never_was(void **state) {
        (void)state;
        add(1);
        assert_false(notices_seen(l, 2));
        assert_true(notices_seen(l, 1));
        assert_false(notices_seen(l, 1));
        assert_int_equal(notices_count(l), 0);
        assert_int_equal(tell(1), 0);
}

static void beyond_the_bound_the_oldest_go_and_are_counted(void **state) {
        struct json_text t = JSON_TEXT(4u << 20);
        char *text;
        size_t n;

        (void)state;
        for (uint64_t id = 1; id <= NOTICES_MAX; id++)
                assert_int_equal(add(id), 0);
        assert_int_equal(add(NOTICES_MAX + 1), 1);
        assert_int_equal(notices_count(l), NOTICES_MAX);
        assert_int_equal(tell(1), 2);
        notices_write(l, &t);
        assert_int_equal(json_text_take(&t, &text, &n), 0);
        assert_non_null(strstr(text, "{\"terminations\":[{\"x\":1},{\"x\":1}"));
        assert_non_null(strstr(text, "],\"lost\":1}"));
        free(text);
}

static void what_all_hold_fits_one_answer(void **state) {
        struct json_text t = JSON_TEXT(4u << 20);
        const size_t n = 60000;
        char *record = malloc(n + 1), *text;
        size_t len;

        (void)state;
        assert_non_null(record);
        memset(record, 'x', n);
        record[0] = record[n - 1] = '"';
        for (uint64_t id = 1; id <= NOTICES_MAX; id++)
                assert_true(notices_add(l, id, "a", record, n) >= 0);
        assert_int_equal(notices_count(l), NOTICES_BYTES / n);
        assert_int_equal(notices_add(l, 999, "a", record, NOTICES_BYTES + 1), -ENOMEM);
        notices_write(l, &t);
        assert_int_equal(json_text_take(&t, &text, &len), 0);
        free(text);
        free(record);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(an_instance_is_told_once_of_each_in_order, setup, teardown),
                cmocka_unit_test_setup_teardown(the_next_instance_is_told_again_of_what_was_not_acknowledged, setup,
                                                teardown),
                cmocka_unit_test_setup_teardown(what_was_acknowledged_cannot_be_again_nor_what_never_was, setup, teardown),
                cmocka_unit_test_setup_teardown(beyond_the_bound_the_oldest_go_and_are_counted, setup, teardown),
                cmocka_unit_test_setup_teardown(what_all_hold_fits_one_answer, setup, teardown),
        };

        cmocka_set_message_output(CM_OUTPUT_TAP);
        return cmocka_run_group_tests(tests, NULL, NULL);
}
