/* SPDX-License-Identifier: Apache-2.0 */
/* Tasks with a key: one each, their outcomes, and what goes when there are too many. */
#include "supervisor/keyed.h"

#include "common/util.h"
#include "test.h"

static struct keyed *k;
static const uint8_t request[CREW_SHA256_BYTES] = {1};

static int setup(void **state) {
        (void)state;
        k = keyed_new();
        return k ? 0 : -1;
}

static int teardown(void **state) {
        (void)state;
        k = keyed_free(k);
        return 0;
}

static struct keyed_task *add(uint32_t n) {
        char key[24];

        snprintf(key, sizeof(key), "k-%u", n);
        return keyed_add(k, key, request);
}

static void a_key_finds_its_task_and_its_outcome(void **state) {
        (void)state;
        struct keyed_task *t = add(1);
        assert_non_null(t);
        assert_ptr_equal(keyed_find(k, "k-1"), t);
        assert_null(keyed_find(k, "k-2"));
        assert_memory_equal(t->request, request, sizeof(request));
        keyed_finish(k, t, (const uint8_t *)"done", 4);
        assert_true(t->done && !t->let_go && t->n == 4);
        assert_memory_equal(t->outcome, "done", 4);
        keyed_drop(k, t);
        assert_null(keyed_find(k, "k-1"));
}

static void requests_that_differ_anywhere_have_other_digests(void **state) {
        static const char *const parts[][3] = {{"ab", "", "x"}, {"a", "b", "x"}, {"", "ab", "x"}, {"ab", NULL, "y"}};
        uint8_t digests[ELEMENTSOF(parts) + 1][CREW_SHA256_BYTES];
        uint64_t numbers[2] = {0, 0};

        (void)state;
        for (size_t i = 0; i < ELEMENTSOF(parts); i++)
                keyed_digest(parts[i], 3, numbers, 2, digests[i]);
        numbers[1] = 1;
        keyed_digest(parts[0], 3, numbers, 2, digests[ELEMENTSOF(parts)]);
        for (size_t i = 0; i < ELEMENTSOF(digests); i++)
                for (size_t j = 0; j < i; j++)
                        assert_memory_not_equal(digests[i], digests[j], CREW_SHA256_BYTES);
        numbers[1] = 0;
        keyed_digest((const char *const[]){"ab", NULL, "x"}, 3, numbers, 2, digests[1]);
        assert_memory_equal(digests[0], digests[1], CREW_SHA256_BYTES);
}

static void so_many_may_wait_for_one(void **state) {
        (void)state;
        struct keyed_task *t = add(1);
        for (uint32_t i = 0; i < KEYED_WAITERS_MAX; i++)
                assert_true(keyed_wait(t, 1, i));
        assert_false(keyed_wait(t, 1, 99));
}

static void the_oldest_that_is_done_makes_room_and_none_that_is_not(void **state) {
        (void)state;
        for (uint32_t i = 0; i < KEYED_MAX; i++)
                assert_non_null(add(i));
        assert_null(add(KEYED_MAX));
        keyed_finish(k, keyed_find(k, "k-7"), (const uint8_t *)"", 0);
        keyed_finish(k, keyed_find(k, "k-3"), (const uint8_t *)"", 0);
        assert_non_null(add(KEYED_MAX));
        assert_null(keyed_find(k, "k-3"));
        assert_non_null(keyed_find(k, "k-7"));
}

static void outcomes_are_let_go_from_the_oldest_on(void **state) {
        const size_t n = KEYED_BYTES / 4;
        uint8_t *bytes = calloc(1, n);

        (void)state;
        assert_non_null(bytes);
        for (uint32_t i = 0; i < 5; i++)
                keyed_finish(k, add(i), bytes, n);
        assert_true(keyed_find(k, "k-0")->let_go && !keyed_find(k, "k-0")->outcome);
        for (uint32_t i = 1; i < 5; i++) {
                char key[24];
                snprintf(key, sizeof(key), "k-%u", i);
                assert_false(keyed_find(k, key)->let_go);
        }
        keyed_finish(k, add(9), NULL, 0);
        assert_true(keyed_find(k, "k-9")->done && keyed_find(k, "k-9")->let_go);
        free(bytes);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(a_key_finds_its_task_and_its_outcome, setup, teardown),
                cmocka_unit_test_setup_teardown(requests_that_differ_anywhere_have_other_digests, setup, teardown),
                cmocka_unit_test_setup_teardown(so_many_may_wait_for_one, setup, teardown),
                cmocka_unit_test_setup_teardown(the_oldest_that_is_done_makes_room_and_none_that_is_not, setup, teardown),
                cmocka_unit_test_setup_teardown(outcomes_are_let_go_from_the_oldest_on, setup, teardown),
        };

        cmocka_set_message_output(CM_OUTPUT_TAP);
        return cmocka_run_group_tests(tests, NULL, NULL);
}
