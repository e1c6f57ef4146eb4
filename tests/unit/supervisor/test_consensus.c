/* SPDX-License-Identifier: Apache-2.0 */
/* The rules of a vote, over every way a small board can vote. */
#include "supervisor/consensus.h"

#include "test.h"

#define A VOTE_ABSTAIN
#define Y VOTE_APPROVE
#define N VOTE_REJECT

static struct consensus_tally tally;

static bool accepted(const struct crew_consensus *rule, const uint32_t *weights, const enum vote *votes, size_t n) {
        struct consensus_vote cast[8];

        for (size_t i = 0; i < n; i++)
                cast[i] =
                        (struct consensus_vote){.agent = (uint32_t)i, .weight = weights ? weights[i] : 1, .vote = votes[i]};
        consensus_count(rule, cast, n, &tally);
        assert_int_equal(tally.votes[A] + tally.votes[Y] + tally.votes[N], n);
        assert_true(tally.text[0]);
        return tally.accepted;
}
#define ACCEPTED(rule, weights, ...)                                                                                       \
        accepted(rule, weights, (const enum vote[]){__VA_ARGS__}, ELEMENTS((const enum vote[]){__VA_ARGS__}))
#define ELEMENTS(...) (sizeof(__VA_ARGS__) / sizeof(enum vote))

static void majority_is_more_for_than_against_of_a_quorum(void **state) {
        struct crew_consensus rule = {.rule = CREW_MAJORITY};
        (void)state;
        assert_true(ACCEPTED(&rule, NULL, Y, Y, N));
        assert_false(ACCEPTED(&rule, NULL, Y, N, N));
        assert_true(ACCEPTED(&rule, NULL, Y, Y, A, A, N)); /* 3 of 5 cast */
        assert_false(ACCEPTED(&rule, NULL, Y, Y, A, A, A));
        assert_string_equal(tally.text, "2 of 5 voted, the quorum is 3");
        rule.quorum = 1;
        assert_true(ACCEPTED(&rule, NULL, Y, A, A, A, A));
        rule.quorum = 5;
        assert_false(ACCEPTED(&rule, NULL, Y, Y, Y, Y, A));
}

static void unanimity_asks_everyone(void **state) {
        struct crew_consensus rule = {.rule = CREW_UNANIMITY};
        (void)state;
        assert_true(ACCEPTED(&rule, NULL, Y, Y, Y));
        assert_false(ACCEPTED(&rule, NULL, Y, Y, N));
        assert_false(ACCEPTED(&rule, NULL, Y, Y, A));
        rule.quorum = 2;
        assert_true(ACCEPTED(&rule, NULL, Y, Y, A));
        assert_false(ACCEPTED(&rule, NULL, N, Y, Y));
        assert_false(ACCEPTED(&rule, NULL, A, A, A));
}

static void weights_decide_a_weighted_vote(void **state) {
        struct crew_consensus rule = {.rule = CREW_WEIGHTED};
        static const uint32_t weights[] = {5, 2, 2};
        (void)state;
        assert_true(ACCEPTED(&rule, weights, Y, N, N));
        assert_false(ACCEPTED(&rule, weights, N, Y, Y));
        assert_false(ACCEPTED(&rule, weights, Y, A, A)); /* a quorum is of votes, not of weight */
}

static void a_tie_is_broken_as_declared(void **state) {
        struct crew_consensus rule = {.rule = CREW_MAJORITY, .tie = CREW_TIE_REJECT};
        (void)state;
        assert_false(ACCEPTED(&rule, NULL, Y, N));
        assert_string_equal(tally.text, "a tie of 1 to 1, rejected by tie_break");
        rule.tie = CREW_TIE_APPROVE;
        assert_true(ACCEPTED(&rule, NULL, Y, N));
        rule.tie = CREW_TIE_AGENT;
        rule.tie_agent = 1;
        assert_false(ACCEPTED(&rule, NULL, Y, N));
        assert_true(ACCEPTED(&rule, NULL, N, Y));
        assert_false(ACCEPTED(&rule, NULL, Y, A, N)); /* it has not voted */
}

/* For majority: one more approval never turns a yes into a no. */
static void another_approval_never_hurts(void **state) {
        (void)state;
        for (int r = 0; r < CREW_RULE_N; r++) {
                struct crew_consensus rule = {.rule = (uint32_t)r};
                for (int code = 0; code < 81; code++) {
                        enum vote v[4] = {code % 3, code / 3 % 3, code / 9 % 3, code / 27};
                        bool before = accepted(&rule, NULL, v, 4);
                        for (size_t i = 0; i < 4; i++) {
                                enum vote was = v[i];
                                v[i] = VOTE_APPROVE;
                                assert_true(accepted(&rule, NULL, v, 4) || !before);
                                v[i] = was;
                        }
                }
        }
}

static void a_ballot_is_an_object_with_a_vote(void **state) {
        static const char *const bad[] = {"true",
                                          "\"approve\"",
                                          "[]",
                                          "{}",
                                          "{\"vote\":true}",
                                          "{\"vote\":\"Approve\"}",
                                          "{\"a\":{\"vote\":\"approve\"}}"};
        const char *good = "{\"reason\":\"fine\\nby me\",\"vote\":\"reject\",\"x\":1}";
        char reason[16];
        enum vote vote = VOTE_ABSTAIN;
        (void)state;
        for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++)
                assert_false(consensus_read(bad[i], strlen(bad[i]), &vote, reason, sizeof(reason)));
        assert_true(consensus_read(good, strlen(good), &vote, reason, sizeof(reason)));
        assert_int_equal(vote, VOTE_REJECT);
        assert_string_equal(reason, "fine by me");
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(majority_is_more_for_than_against_of_a_quorum),
                cmocka_unit_test(unanimity_asks_everyone),
                cmocka_unit_test(weights_decide_a_weighted_vote),
                cmocka_unit_test(a_tie_is_broken_as_declared),
                cmocka_unit_test(another_approval_never_hurts),
                cmocka_unit_test(a_ballot_is_an_object_with_a_vote),
        };
        cmocka_set_message_output(CM_OUTPUT_TAP);
        return cmocka_run_group_tests(tests, NULL, NULL);
}
