/* SPDX-License-Identifier: Apache-2.0 */
/* What a manager has handed out: bounds, one outcome each, one answer a wait. */
#include "supervisor/handouts.h"

#include "test.h"

static struct handouts *h;
static struct told {
        uint64_t seq;
        char id[24];
        bool timed_out, had_result;
} told[256];
static size_t n_told;

static void answer(uint64_t seq, const struct handout *t, bool timed_out, void *user) {
        struct told *x = &told[n_told++];

        (void)user;
        *x = (struct told){.seq = seq, .timed_out = timed_out, .had_result = t->result != NULL};
        memcpy(x->id, t->id, sizeof(x->id));
}

static const struct handout *add(const char *id, const char *key) {
        struct handout what = {.agent = 1};

        snprintf(what.id, sizeof(what.id), "%s", id);
        snprintf(what.key, sizeof(what.key), "%s", key);
        return handouts_add(h, &what);
}

static bool finish(const char *id, const char *result, size_t n) {
        struct handout end = {.outcome = result ? CREW__OUTCOME__OUTCOME_OK : CREW__OUTCOME__OUTCOME_FAILED,
                              .result = (char *)result,
                              .result_len = n};

        snprintf(end.id, sizeof(end.id), "%s", id);
        return handouts_finish(h, &end, answer, NULL);
}

static int setup(void **state) {
        (void)state;
        n_told = 0;
        h = handouts_new(2, 4);
        return h ? 0 : -1;
}

static int teardown(void **state) {
        (void)state;
        h = handouts_free(h);
        return 0;
}

static void at_once_and_in_all_are_bounded(void **state) {
        (void)state;
        assert_non_null(add("t-1", ""));
        assert_non_null(add("t-2", ""));
        assert_int_equal(handouts_room(h), HANDOUTS_TOO_MANY);
        assert_null(add("t-3", ""));
        assert_true(finish("t-1", "1", 1));
        assert_true(finish("t-2", NULL, 0));
        assert_non_null(add("t-3", ""));
        assert_non_null(add("t-4", ""));
        assert_int_equal(handouts_room(h), HANDOUTS_USED_UP);
        assert_true(finish("t-3", "1", 1));
        assert_int_equal(handouts_room(h), HANDOUTS_USED_UP);
        assert_null(add("t-5", ""));
}

static void an_outcome_is_set_once(void **state) {
        (void)state;
        add("t-1", "");
        assert_true(finish("t-1", "7", 1));
        assert_false(finish("t-1", NULL, 0));
        assert_false(finish("t-9", NULL, 0));
        assert_int_equal(handouts_find(h, "t-1")->outcome, CREW__OUTCOME__OUTCOME_OK);
        assert_string_equal(handouts_find(h, "t-1")->result, "7");
}

static void a_key_finds_its_task_and_no_key_finds_none(void **state) {
        (void)state;
        add("t-1", "");
        add("t-2", "k");
        assert_null(handouts_by_key(h, "", ""));
        assert_null(handouts_by_key(h, "", "K"));
        assert_string_equal(handouts_by_key(h, "", "k")->id, "t-2");
}

static void a_key_is_of_the_task_it_was_used_in(void **state) {
        const struct handout first = {.id = "t-2", .key = "k", .scope = "t-1"},
                             second = {.id = "t-9", .key = "k", .scope = "t-8"};
        (void)state;
        assert_non_null(handouts_add(h, &first));
        assert_null(handouts_by_key(h, "t-8", "k"));
        assert_non_null(handouts_add(h, &second));
        assert_string_equal(handouts_by_key(h, "t-1", "k")->id, "t-2");
        assert_string_equal(handouts_by_key(h, "t-8", "k")->id, "t-9");
}

static void each_wait_is_answered_once(void **state) {
        (void)state;
        add("t-1", ""), add("t-2", "");
        assert_int_equal(handouts_next_deadline(h), UINT64_MAX);
        assert_true(handouts_wait(h, handouts_find(h, "t-1"), 11, 100));
        assert_true(handouts_wait(h, handouts_find(h, "t-2"), 12, 50));
        assert_true(handouts_wait(h, handouts_find(h, "t-1"), 13, 300));
        assert_int_equal(handouts_next_deadline(h), 50);
        handouts_expire(h, 50, answer, NULL);
        assert_int_equal(n_told, 1);
        assert_true(told[0].seq == 12 && told[0].timed_out);
        finish("t-1", "1", 1);
        assert_int_equal(n_told, 3);
        assert_int_equal(told[1].seq + told[2].seq, 24);
        assert_true(told[1].had_result && !told[1].timed_out);
        finish("t-2", "1", 1);
        handouts_expire(h, UINT64_MAX, answer, NULL);
        assert_int_equal(n_told, 3);
}

static void too_many_waits_are_refused_and_a_dead_manager_is_not_told(void **state) {
        (void)state;
        add("t-1", "");
        for (uint64_t i = 0; i < HANDOUTS_WAITS_MAX; i++)
                assert_true(handouts_wait(h, handouts_find(h, "t-1"), i + 1, 10));
        assert_false(handouts_wait(h, handouts_find(h, "t-1"), 99, 10));
        handouts_forget_waits(h);
        finish("t-1", "1", 1);
        assert_int_equal(n_told, 0);
}

static void the_oldest_results_are_let_go_the_last_is_not(void **state) {
        size_t n = HANDOUTS_RESULT_BYTES / 2;
        char *big = malloc(n + 1);
        (void)state;

        assert_non_null(big);
        memset(big, '1', n);
        big[n] = '\0';
        add("t-1", ""), add("t-2", "");
        finish("t-1", big, n);
        finish("t-2", big, n);
        assert_non_null(handouts_find(h, "t-1")->result);
        add("t-3", "");
        handouts_wait(h, handouts_find(h, "t-3"), 5, 10);
        finish("t-3", big, n);
        assert_null(handouts_find(h, "t-1")->result);
        assert_true(handouts_find(h, "t-1")->let_go);
        assert_non_null(handouts_find(h, "t-2")->result);
        assert_true(n_told == 1 && told[0].had_result);
        free(big);
}

static void count(const struct handout *t, void *user) {
        ++*(int *)user;
        finish(t->id, NULL, 0);
}

static void only_open_ones_are_called_off(void **state) {
        int n = 0;
        (void)state;
        add("t-1", ""), add("t-2", "");
        finish("t-1", "1", 1);
        handouts_each_open(h, count, &n);
        assert_int_equal(n, 1);
        handouts_each_open(h, count, &n);
        assert_int_equal(n, 1);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(at_once_and_in_all_are_bounded, setup, teardown),
                cmocka_unit_test_setup_teardown(an_outcome_is_set_once, setup, teardown),
                cmocka_unit_test_setup_teardown(a_key_finds_its_task_and_no_key_finds_none, setup, teardown),
                cmocka_unit_test_setup_teardown(a_key_is_of_the_task_it_was_used_in, setup, teardown),
                cmocka_unit_test_setup_teardown(each_wait_is_answered_once, setup, teardown),
                cmocka_unit_test_setup_teardown(too_many_waits_are_refused_and_a_dead_manager_is_not_told, setup, teardown),
                cmocka_unit_test_setup_teardown(the_oldest_results_are_let_go_the_last_is_not, setup, teardown),
                cmocka_unit_test_setup_teardown(only_open_ones_are_called_off, setup, teardown),
        };
        cmocka_set_message_output(CM_OUTPUT_TAP);
        return cmocka_run_group_tests(tests, NULL, NULL);
}
