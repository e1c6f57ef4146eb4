/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The router against a small world of four agents: single cases, then random traces that check the invariants of
 * router.h after every step.
 */
#include "supervisor/router.h"

#include "test.h"

#define N 4u
#define SENDS_MAX 20000u

struct send {
        uint32_t from, incarnation;
        uint64_t seq;
        uint32_t replies;
        bool died; /* the sender died before a reply */
};

struct world {
        struct router *router;
        enum router_presence presence[N];
        uint32_t incarnation[N];
        uint64_t seq_out[N];                   /* frames to the agent */
        uint64_t seq_in[N];                    /* frames from it */
        uint64_t owed[N][ROUTER_OWED_MAX + 1]; /* asks delivered and not answered */
        uint32_t n_owed[N];
        int deliver_result;
        bool permit[N][N];
        struct send sends[SENDS_MAX];
        size_t n_sends;
        struct call_reply last;
        char last_message[512];
        uint32_t n_replies, n_delivered, n_lost;
        char lost_to[16], lost_why[512];
        uint32_t last_from;
};
static struct world w;

static uint32_t index_of(const char *name) {
        return (uint32_t)(name[0] - 'a');
}

static struct policy_verdict permit(uint32_t from, const char *target, void *user) {
        struct policy_verdict v = {.allowed = index_of(target) >= N || w.permit[from][index_of(target)]};
        (void)user;
        strcpy(v.text, "not in ipc.allowed_targets");
        strcpy(v.rule, "x.yaml:3");
        return v;
}

static struct router_peer find(const char *target, void *user) {
        uint32_t i = index_of(target);
        (void)user;
        if (i >= N)
                return (struct router_peer){.presence = ROUTER_UNKNOWN};
        return (struct router_peer){.presence = w.presence[i], .index = i, .incarnation = w.incarnation[i]};
}

static const char *name(uint32_t agent, void *user) {
        static const char *const names[N] = {"a", "b", "c", "d"};
        (void)user;
        return names[agent];
}

static int deliver(const struct router_message *m, uint64_t *seq, void *user) {
        (void)user;
        if (w.deliver_result)
                return w.deliver_result;
        assert_int_equal(w.presence[m->to], ROUTER_UP);
        /* Nothing of a dead sender. */
        assert_int_equal(w.presence[m->from], ROUTER_UP);
        *seq = ++w.seq_out[m->to];
        w.n_delivered++;
        w.last_from = m->from;
        if (m->ask) {
                assert_true(w.n_owed[m->to] < ROUTER_OWED_MAX);
                w.owed[m->to][w.n_owed[m->to]++] = *seq;
        }
        return 0;
}

static void reply(uint32_t to, uint64_t corr, const struct call_reply *r, void *user) {
        (void)user;
        w.n_replies++;
        w.last = *r;
        snprintf(w.last_message, sizeof(w.last_message), "%s", r->message ? r->message : "");
        for (size_t i = 0; i < w.n_sends; i++) {
                struct send *s = &w.sends[i];
                if (s->from == to && s->seq == corr && s->incarnation == w.incarnation[to]) {
                        assert_false(s->died);
                        s->replies++;
                        return;
                }
        }
        fail_msg("a reply to something nobody asked: agent %u corr %llu", to, (unsigned long long)corr);
}

static void lost(uint32_t from, const char *target, const struct call_reply *why, void *user) {
        (void)user;
        assert_false(why->ok);
        assert_true(from < N);
        w.n_lost++;
        snprintf(w.lost_to, sizeof(w.lost_to), "%s", target);
        snprintf(w.lost_why, sizeof(w.lost_why), "%s", why->message);
}

static int setup(void **state) {
        static const struct router_callbacks cb = {
                .permit = permit, .find = find, .name = name, .deliver = deliver, .reply = reply, .lost = lost};
        (void)state;
        memset(&w, 0, sizeof(w));
        for (uint32_t i = 0; i < N; i++) {
                w.presence[i] = ROUTER_UP;
                w.incarnation[i] = 1;
                for (uint32_t k = 0; k < N; k++)
                        w.permit[i][k] = true;
        }
        w.router = router_new(N, &cb, NULL);
        return w.router ? 0 : -1;
}

static int teardown(void **state) {
        (void)state;
        w.router = router_free(w.router);
        return 0;
}

static void send_text(uint32_t from, const char *to, bool ask, const char *payload, uint64_t now) {
        struct router_send s = {.from = from,
                                .incarnation = w.incarnation[from],
                                .seq = ++w.seq_in[from],
                                .target = to,
                                .ask = ask,
                                .payload = payload,
                                .payload_len = strlen(payload)};
        assert_true(w.n_sends < SENDS_MAX);
        w.sends[w.n_sends++] = (struct send){.from = from, .incarnation = s.incarnation, .seq = s.seq};
        router_send(w.router, &s, now);
}

/* Counted nowhere: whatever answers it fails the test. */
static void send_unanswered(uint32_t from, const char *to, const char *payload, uint64_t now) {
        struct router_send s = {.from = from,
                                .incarnation = w.incarnation[from],
                                .seq = ++w.seq_in[from],
                                .target = to,
                                .unanswered = true,
                                .payload = payload,
                                .payload_len = strlen(payload)};
        router_send(w.router, &s, now);
}

static struct send *last_send(void) {
        return &w.sends[w.n_sends - 1];
}

static enum router_answer_outcome answer(uint32_t from, uint64_t corr, const char *payload) {
        struct crew_err err = CREW_ERR_NULL;
        return router_answer(w.router, from, corr, true, payload, strlen(payload), NULL, &err);
}

static void an_unlisted_target_is_denied_with_its_rule(void **state) {
        (void)state;
        w.permit[0][1] = false;
        send_text(0, "b", false, "{}", 1);
        assert_int_equal(last_send()->replies, 1);
        assert_false(w.last.ok);
        assert_int_equal(w.last.code, CALL_DENIED);
        assert_string_equal(w.last_message, "agent 'b' is not in ipc.allowed_targets");
        assert_int_equal(w.n_delivered, 0);
}

static void what_is_no_json_is_rejected(void **state) {
        static const char *const bad[] = {"", "{", "{\"a\":1,\"a\":2}", "nope", "1 2", "{'a':1}", "[1,]"};
        (void)state;
        for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
                send_text(0, "b", false, bad[i], 1);
                assert_int_equal(last_send()->replies, 1);
                assert_int_equal(w.last.code, CALL_REJECTED);
        }
        assert_int_equal(w.n_delivered, 0);
}

static void a_send_is_answered_at_once_an_ask_by_its_answer(void **state) {
        (void)state;
        send_text(0, "b", false, "{}", 1);
        assert_true(w.last.ok);
        send_text(0, "b", true, "{\"q\":1}", 1);
        assert_int_equal(last_send()->replies, 0);
        assert_int_equal(answer(1, w.seq_out[1], "{\"a\":2}"), ROUTER_ANSWERED);
        assert_int_equal(last_send()->replies, 1);
        assert_true(w.last.ok);
}

static void a_second_answer_and_a_strangers_answer_are_refused(void **state) {
        (void)state;
        send_text(0, "b", true, "1", 1);
        uint64_t corr = w.seq_out[1];
        assert_int_equal(answer(2, corr, "1"), ROUTER_NO_SUCH_ASK);
        assert_int_equal(answer(1, corr, "1"), ROUTER_ANSWERED);
        assert_int_equal(answer(1, corr, "1"), ROUTER_NO_SUCH_ASK);
        assert_int_equal(answer(1, 0, "1"), ROUTER_NO_SUCH_ASK);
        assert_int_equal(last_send()->replies, 1);
}

static void an_answer_that_is_no_json_reaches_nobody_as_such(void **state) {
        (void)state;
        send_text(0, "b", true, "1", 1);
        assert_int_equal(answer(1, w.seq_out[1], "{bad"), ROUTER_BAD_ANSWER);
        assert_int_equal(last_send()->replies, 1);
        assert_int_equal(w.last.code, CALL_REJECTED);
}

static void a_late_answer_is_dropped_and_frees_the_debt(void **state) {
        (void)state;
        send_text(0, "b", true, "1", 1);
        router_expire(w.router, 1 + ROUTER_TIMEOUT_NS);
        assert_int_equal(w.last.code, CALL_TIMED_OUT);
        assert_int_equal(router_owes(w.router, 1), 1);
        assert_int_equal(answer(1, w.seq_out[1], "1"), ROUTER_ANSWERED_LATE);
        assert_int_equal(last_send()->replies, 1);
        assert_int_equal(router_owes(w.router, 1), 0);
}

static void an_agent_that_never_answers_fills_its_own_quota_only(void **state) {
        uint64_t now = 1;
        (void)state;
        for (uint32_t i = 0; i < ROUTER_OWED_MAX; i++) {
                send_text(i % 2 ? 0 : 2, "b", true, "1", now);
                if (router_open(w.router, 0) == ROUTER_OPEN_MAX || router_open(w.router, 2) == ROUTER_OPEN_MAX)
                        router_expire(w.router, now += ROUTER_TIMEOUT_NS);
        }
        assert_int_equal(router_owes(w.router, 1), ROUTER_OWED_MAX);
        send_text(0, "b", true, "1", now);
        assert_int_equal(w.last.code, CALL_QUEUE_FULL);
        send_text(0, "d", true, "1", now);
        assert_int_equal(last_send()->replies, 0);
}

static void too_many_unanswered_sends_are_refused(void **state) {
        (void)state;
        for (uint32_t i = 0; i < ROUTER_OPEN_MAX; i++)
                send_text(0, i % 2 ? "b" : "c", true, "1", 1);
        send_text(0, "d", true, "1", 1);
        assert_int_equal(w.last.code, CALL_QUEUE_FULL);
}

static void a_starting_receiver_gets_its_messages_in_order(void **state) {
        (void)state;
        w.presence[1] = ROUTER_STARTING;
        send_text(0, "b", false, "1", 1);
        send_text(2, "b", false, "2", 1);
        assert_int_equal(w.n_delivered, 0);
        w.presence[1] = ROUTER_UP;
        router_agent_up(w.router, 1, 2);
        assert_int_equal(w.n_delivered, 2);
        assert_int_equal(w.last_from, 2);
        assert_int_equal(w.n_replies, 2);
}

/* What waits for its receiver has no number yet, and 0 is none. */
static void what_was_not_delivered_cannot_be_answered(void **state) {
        struct crew_err err = CREW_ERR_NULL;
        (void)state;
        w.presence[1] = ROUTER_STARTING;
        send_text(0, "b", true, "1", 1);
        assert_int_equal(router_answer(w.router, 1, 0, true, "2", 1, "", &err), ROUTER_NO_SUCH_ASK);
        assert_int_equal(w.n_replies, 0);
        w.presence[1] = ROUTER_UP;
        router_agent_up(w.router, 1, 2);
        assert_int_equal(w.n_delivered, 1);
}

static void a_dead_senders_queued_message_is_never_delivered(void **state) {
        (void)state;
        w.presence[1] = ROUTER_STARTING;
        send_text(0, "b", false, "1", 1);
        w.presence[0] = ROUTER_GONE;
        router_agent_gone(w.router, 0, "terminated");
        last_send()->died = true;
        w.presence[1] = ROUTER_UP;
        router_agent_up(w.router, 1, 2);
        assert_int_equal(w.n_delivered, 0);
        assert_int_equal(w.n_replies, 0);
}

static void those_who_wait_for_the_dead_are_told(void **state) {
        (void)state;
        send_text(0, "b", true, "1", 1);
        w.presence[1] = ROUTER_GONE;
        router_agent_gone(w.router, 1, "terminated (operator)");
        assert_int_equal(w.last.code, CALL_TERMINATED);
        assert_string_equal(w.last_message, "agent 'b' terminated (operator)");
        assert_int_equal(router_open(w.router, 0), 0);
}

static void a_full_link_is_an_answer(void **state) {
        (void)state;
        w.deliver_result = -11; /* -EAGAIN */
        send_text(0, "b", true, "1", 1);
        assert_int_equal(w.last.code, CALL_QUEUE_FULL);
        assert_int_equal(router_owes(w.router, 1), 0);
}

static void an_unanswered_one_is_delivered_and_nobody_is_told(void **state) {
        (void)state;
        send_unanswered(0, "b", "{}", 1);
        assert_int_equal(w.n_delivered, 1);
        w.presence[2] = ROUTER_STARTING;
        send_unanswered(0, "c", "1", 1);
        assert_int_equal(w.n_delivered, 1);
        w.presence[2] = ROUTER_UP;
        router_agent_up(w.router, 2, 2);
        assert_int_equal(w.n_delivered, 2);
        assert_int_equal(w.n_replies + w.n_lost, 0);
        assert_int_equal(router_open(w.router, 0), 0);
}

static void an_unanswered_one_that_is_lost_is_told_to_the_audit(void **state) {
        (void)state;
        send_unanswered(0, "zzz", "{}", 1);
        assert_int_equal(w.n_lost, 1);
        assert_string_equal(w.lost_to, "zzz");
        assert_string_equal(w.lost_why, "no agent 'zzz' in this crew");
        send_unanswered(0, "b", "{", 1);
        assert_int_equal(w.n_lost, 2);
        w.deliver_result = -11; /* -EAGAIN */
        send_unanswered(0, "b", "{}", 1);
        assert_string_equal(w.lost_why, "the receiver's queue is full");
        w.deliver_result = 0;
        w.presence[1] = ROUTER_STARTING;
        send_unanswered(0, "b", "{}", 1);
        router_expire(w.router, 1 + ROUTER_TIMEOUT_NS);
        assert_int_equal(w.n_lost, 4);
        assert_string_equal(w.lost_to, "b");
        send_unanswered(0, "b", "{}", 1);
        w.presence[1] = ROUTER_GONE;
        router_agent_gone(w.router, 1, "terminated: operator");
        assert_string_equal(w.lost_why, "agent 'b' terminated: operator");
        assert_int_equal(w.n_lost, 5);
        /* The policy's no is on record by the one who decides. */
        w.permit[0][2] = false;
        send_unanswered(0, "c", "{}", 1);
        assert_int_equal(w.n_lost, 5);
        assert_int_equal(w.n_replies, 0);
}

static void unanswered_ones_that_wait_are_bounded(void **state) {
        (void)state;
        w.presence[1] = ROUTER_STARTING;
        for (uint32_t i = 0; i < ROUTER_OPEN_MAX; i++)
                send_unanswered(0, "b", "{}", 1);
        assert_int_equal(w.n_lost, 0);
        send_unanswered(0, "b", "{}", 1);
        assert_int_equal(w.n_lost, 1);
        assert_string_equal(w.lost_why, "too many of your messages wait");
}

/* --- random traces --- */

static uint32_t asked_by;

static void note_asker(uint32_t asker, void *user) {
        (void)user;
        assert_false(asked_by & 1u << asker);
        asked_by |= 1u << asker;
}

static uint32_t askers_of(uint32_t agent) {
        asked_by = 0;
        router_each_asker(w.router, agent, note_asker, NULL);
        return asked_by;
}

static void who_waits_for_an_answer_is_known_through_others_too(void **state) {
        (void)state;
        assert_int_equal(askers_of(2), 0);
        send_text(1, "c", true, "1", 1);
        send_text(1, "c", true, "2", 1);
        send_text(0, "b", true, "1", 1);
        send_text(2, "a", false, "1", 1); /* nobody waits for that */
        assert_int_equal(askers_of(2), 1u << 1 | 1u << 0);
        assert_int_equal(askers_of(1), 1u << 0);
        assert_int_equal(askers_of(0), 0);
        send_text(2, "a", true, "1", 1); /* in a ring */
        assert_int_equal(askers_of(2), 1u << 1 | 1u << 0);
        assert_int_equal(askers_of(0), 1u << 2 | 1u << 1);
        assert_int_equal(answer(1, w.seq_out[1], "1"), ROUTER_ANSWERED);
        assert_int_equal(askers_of(2), 1u << 1);
}

static void mark_dead(uint32_t agent) {
        for (size_t i = 0; i < w.n_sends; i++) {
                struct send *s = &w.sends[i];
                if (s->from == agent && s->incarnation == w.incarnation[agent] && s->replies == 0)
                        s->died = true;
        }
}

static void step(uint64_t *seed, uint64_t *now) {
        static const char *const targets[] = {"a", "b", "c", "d", "zzz"};
        uint32_t agent = test_random(seed, N);

        *now += test_random(seed, 1000) * (ROUTER_TIMEOUT_NS / 10000);
        switch (test_random(seed, 8)) {
        case 0:
        case 1:
        case 2:
                if (w.presence[agent] == ROUTER_UP && test_random(seed, 4) == 0)
                        send_unanswered(agent, targets[test_random(seed, 5)], "[1]", *now);
                else if (w.presence[agent] == ROUTER_UP)
                        send_text(agent, targets[test_random(seed, 5)], test_random(seed, 2), "{\"x\":[1,2]}", *now);
                break;
        case 3:
        case 4:
                if (w.n_owed[agent] > 0) {
                        uint32_t k = test_random(seed, w.n_owed[agent]);
                        uint64_t corr = w.owed[agent][k];
                        w.owed[agent][k] = w.owed[agent][--w.n_owed[agent]];
                        assert_int_not_equal(answer(agent, corr, "1"), ROUTER_NO_SUCH_ASK);
                        assert_int_equal(answer(agent, corr, "1"), ROUTER_NO_SUCH_ASK);
                }
                break;
        case 5:
                if (w.presence[agent] == ROUTER_UP && test_random(seed, 10) == 0) {
                        mark_dead(agent);
                        w.presence[agent] = test_random(seed, 2) ? ROUTER_GONE : ROUTER_STARTING;
                        router_agent_gone(w.router, agent, "terminated");
                        w.n_owed[agent] = 0;
                }
                break;
        case 6:
                if (w.presence[agent] != ROUTER_UP) {
                        w.presence[agent] = ROUTER_UP;
                        w.incarnation[agent]++;
                        w.seq_in[agent] = w.seq_out[agent] = 0;
                        router_agent_up(w.router, agent, *now);
                }
                break;
        default:
                w.permit[agent][test_random(seed, N)] ^= test_random(seed, 4) == 0;
                router_expire(w.router, *now);
        }
}

static void every_send_gets_exactly_one_terminal_reply(void **state) {
        (void)state;
        for (uint64_t run = 1; run <= 40; run++) {
                uint64_t seed = run * 7919, now = 1;
                teardown(NULL);
                assert_int_equal(setup(NULL), 0);
                for (int i = 0; i < 1500; i++) {
                        step(&seed, &now);
                        for (size_t k = 0; k < w.n_sends; k++)
                                assert_true(w.sends[k].replies <= 1);
                }
                router_expire(w.router, now + ROUTER_TIMEOUT_MAX_NS);
                for (size_t k = 0; k < w.n_sends; k++)
                        assert_int_equal(w.sends[k].replies, w.sends[k].died ? 0 : 1);
                for (uint32_t a = 0; a < N; a++)
                        assert_int_equal(router_open(w.router, a), 0);
        }
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(an_unlisted_target_is_denied_with_its_rule, setup, teardown),
                cmocka_unit_test_setup_teardown(what_is_no_json_is_rejected, setup, teardown),
                cmocka_unit_test_setup_teardown(a_send_is_answered_at_once_an_ask_by_its_answer, setup, teardown),
                cmocka_unit_test_setup_teardown(a_second_answer_and_a_strangers_answer_are_refused, setup, teardown),
                cmocka_unit_test_setup_teardown(an_answer_that_is_no_json_reaches_nobody_as_such, setup, teardown),
                cmocka_unit_test_setup_teardown(a_late_answer_is_dropped_and_frees_the_debt, setup, teardown),
                cmocka_unit_test_setup_teardown(an_agent_that_never_answers_fills_its_own_quota_only, setup, teardown),
                cmocka_unit_test_setup_teardown(too_many_unanswered_sends_are_refused, setup, teardown),
                cmocka_unit_test_setup_teardown(a_starting_receiver_gets_its_messages_in_order, setup, teardown),
                cmocka_unit_test_setup_teardown(what_was_not_delivered_cannot_be_answered, setup, teardown),
                cmocka_unit_test_setup_teardown(a_dead_senders_queued_message_is_never_delivered, setup, teardown),
                cmocka_unit_test_setup_teardown(those_who_wait_for_the_dead_are_told, setup, teardown),
                cmocka_unit_test_setup_teardown(a_full_link_is_an_answer, setup, teardown),
                cmocka_unit_test_setup_teardown(an_unanswered_one_is_delivered_and_nobody_is_told, setup, teardown),
                cmocka_unit_test_setup_teardown(an_unanswered_one_that_is_lost_is_told_to_the_audit, setup, teardown),
                cmocka_unit_test_setup_teardown(unanswered_ones_that_wait_are_bounded, setup, teardown),
                cmocka_unit_test_setup_teardown(who_waits_for_an_answer_is_known_through_others_too, setup, teardown),
                cmocka_unit_test_setup_teardown(every_send_gets_exactly_one_terminal_reply, setup, teardown),
        };
        cmocka_set_message_output(CM_OUTPUT_TAP);
        return cmocka_run_group_tests(tests, NULL, NULL);
}
