/* SPDX-License-Identifier: Apache-2.0 */
/* Calls in flight: quotas, and that charges come back. */
#include "supervisor/inflight.h"

#include "test.h"

static const struct inflight_limits limits = {.per_caller = 2, .per_callee = 3, .callee_bytes = 100};

static struct inflight_call call(uint32_t from, uint64_t seq, uint32_t to, uint64_t work, uint64_t deadline, size_t bytes) {
        return (struct inflight_call){.caller = {.agent = from, .incarnation = 1, .seq = seq},
                                      .callee = {.agent = to, .incarnation = 1, .seq = work},
                                      .deadline_ns = deadline,
                                      .bytes = bytes};
}

static int add(struct inflight *f, struct inflight_call c, struct inflight_call **out) {
        return inflight_add(f, &c, out);
}

static void a_caller_has_a_quota_that_settling_returns(void **state) {
        struct inflight *f = inflight_new(3, &limits);
        struct inflight_call *a, *b, *c;
        (void)state;
        assert_int_equal(add(f, call(0, 1, 1, 11, 50, 1), &a), INFLIGHT_ADDED);
        assert_int_equal(add(f, call(0, 2, 2, 12, 50, 1), &b), INFLIGHT_ADDED);
        assert_int_equal(add(f, call(0, 3, 1, 13, 50, 1), &c), INFLIGHT_CALLER_FULL);
        assert_true(inflight_settle(f, a));
        assert_false(inflight_settle(f, a));
        assert_int_equal(add(f, call(0, 3, 1, 13, 50, 1), &c), INFLIGHT_ADDED);
        inflight_free(f);
}

static void a_callee_owes_until_it_answers(void **state) {
        struct inflight *f = inflight_new(3, &limits);
        struct inflight_call *c;
        (void)state;
        assert_int_equal(add(f, call(0, 1, 2, 11, 50, 60), &c), INFLIGHT_ADDED);
        inflight_settle(f, c); /* the caller was told; the debt stays */
        assert_int_equal(inflight_owes(f, 2), 1);
        assert_int_equal(add(f, call(1, 1, 2, 12, 50, 41), &c), INFLIGHT_CALLEE_FULL);
        assert_int_equal(add(f, call(1, 1, 2, 12, 50, 40), &c), INFLIGHT_ADDED);
        inflight_drop(f, inflight_owed(f, 2, 11));
        assert_null(inflight_owed(f, 2, 11));
        assert_int_equal(inflight_owed_bytes(f, 2), 40);
        inflight_free(f);
}

static void only_the_callee_can_answer(void **state) {
        struct inflight *f = inflight_new(3, &limits);
        struct inflight_call *c;
        (void)state;
        assert_int_equal(add(f, call(0, 1, 2, 11, 50, 1), &c), INFLIGHT_ADDED);
        assert_null(inflight_owed(f, 1, 11));
        assert_null(inflight_owed(f, 2, 12));
        assert_ptr_equal(inflight_owed(f, 2, 11), c);
        inflight_free(f);
}

static void deadlines_come_in_and_settled_calls_have_none(void **state) {
        struct inflight *f = inflight_new(3, &limits);
        struct inflight_call *a, *b;
        (void)state;
        assert_int_equal(inflight_next_deadline(f), UINT64_MAX);
        assert_int_equal(add(f, call(0, 1, 2, 11, 70, 1), &a), INFLIGHT_ADDED);
        assert_int_equal(add(f, call(1, 1, 2, 12, 50, 1), &b), INFLIGHT_ADDED);
        assert_int_equal(inflight_next_deadline(f), 50);
        assert_null(inflight_overdue(f, 49));
        assert_ptr_equal(inflight_overdue(f, 50), b);
        inflight_settle(f, b);
        assert_null(inflight_overdue(f, 69));
        assert_int_equal(inflight_next_deadline(f), 70);
        assert_ptr_equal(inflight_overdue(f, 71), a);
        inflight_drop(f, a);
        assert_int_equal(inflight_next_deadline(f), UINT64_MAX);
        inflight_free(f);
}

static void deadlines_can_be_put_off_and_brought_back(void **state) {
        const int64_t far = 1000000;
        struct inflight *f = inflight_new(3, &limits);
        struct inflight_call *a, *b;
        (void)state;
        assert_int_equal(add(f, call(0, 1, 1, 11, 50, 1), &a), INFLIGHT_ADDED);
        assert_int_equal(add(f, call(0, 2, 2, 12, 70, 1), &b), INFLIGHT_ADDED);
        inflight_put_off(f, 1, far);
        assert_null(inflight_overdue(f, 60));
        assert_ptr_equal(inflight_overdue(f, 70), b); /* of another callee: as it was */
        inflight_settle(f, b);
        assert_null(inflight_overdue(f, 5000));
        inflight_put_off(f, 1, 100 - far); /* it lasted 100 */
        assert_int_equal(inflight_next_deadline(f), 150);
        assert_null(inflight_overdue(f, 149));
        assert_ptr_equal(inflight_overdue(f, 150), a);
        inflight_free(f);
}

static void random_use_returns_every_charge(void **state) {
        struct inflight *f = inflight_new(4, &limits);
        uint64_t seed = 7, seq = 0;
        (void)state;
        for (int i = 0; i < 20000; i++) {
                struct inflight_call *c;
                uint32_t agent = test_random(&seed, 4);
                switch (test_random(&seed, 3)) {
                case 0:
                        seq++;
                        (void)add(f, call(agent, seq, test_random(&seed, 4), seq, seq, test_random(&seed, 60)), &c);
                        break;
                case 1:
                        if ((c = inflight_any_by_caller(f, agent)))
                                assert_true(inflight_settle(f, c));
                        break;
                default:
                        if ((c = inflight_any_by_callee(f, agent)))
                                inflight_drop(f, c);
                }
                for (uint32_t k = 0; k < 4; k++) {
                        assert_true(inflight_open(f, k) <= limits.per_caller);
                        assert_true(inflight_owes(f, k) <= limits.per_callee);
                        assert_true(inflight_owed_bytes(f, k) <= limits.callee_bytes);
                }
        }
        for (uint32_t k = 0; k < 4; k++) {
                struct inflight_call *c;
                while ((c = inflight_any_by_callee(f, k)))
                        inflight_drop(f, c);
        }
        for (uint32_t k = 0; k < 4; k++) {
                assert_int_equal(inflight_open(f, k), 0);
                assert_int_equal(inflight_owed_bytes(f, k), 0);
        }
        inflight_free(f);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(a_caller_has_a_quota_that_settling_returns),
                cmocka_unit_test(a_callee_owes_until_it_answers),
                cmocka_unit_test(only_the_callee_can_answer),
                cmocka_unit_test(deadlines_come_in_and_settled_calls_have_none),
                cmocka_unit_test(deadlines_can_be_put_off_and_brought_back),
                cmocka_unit_test(random_use_returns_every_charge),
        };
        cmocka_set_message_output(CM_OUTPUT_TAP);
        return cmocka_run_group_tests(tests, NULL, NULL);
}
