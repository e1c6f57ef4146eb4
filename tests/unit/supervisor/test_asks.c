/* SPDX-License-Identifier: Apache-2.0 */
#include "supervisor/asks.h"
#include "test.h"

#include <stdio.h>
#include <string.h>

static struct ask wanted(uint32_t agent, uint32_t number) {
        struct ask a = {.agent = agent, .incarnation = 1, .number = number, .port = 443, .waiting = 1};

        strcpy(a.host, "api.example.com");
        return a;
}

static void an_ask_waits_under_an_id_of_its_own(void **state) {
        struct asks *t = asks_new();
        struct ask one = wanted(0, 1), two = wanted(0, 2), *a, *b, *found;

        (void)state;
        assert_int_equal(asks_add(t, &one, 5, &a), ASKS_NEW);
        assert_int_equal(asks_add(t, &two, 6, &b), ASKS_NEW);
        assert_string_not_equal(a->id, b->id);
        assert_int_equal(strlen(a->id), 4);
        assert_int_equal(a->asked_ns, 5);
        assert_int_equal(asks_find(t, b->id, &found), ASKS_WAITS);
        assert_ptr_equal(found, b);
        assert_int_equal(asks_waiting(t), 2);
        asks_free(t);
}

static void the_same_number_again_says_how_many_wait_now(void **state) {
        struct asks *t = asks_new();
        struct ask one = wanted(3, 9), *a, *b;

        (void)state;
        asks_add(t, &one, 1, &a);
        one.waiting = 2;
        assert_int_equal(asks_add(t, &one, 2, &b), ASKS_MORE);
        assert_ptr_equal(a, b);
        assert_int_equal(a->waiting, 2);
        assert_int_equal(a->asked_ns, 1);
        one.waiting = 1;
        asks_add(t, &one, 3, &b);
        assert_int_equal(a->waiting, 1);
        one = wanted(4, 9);
        assert_int_equal(asks_add(t, &one, 4, &b), ASKS_NEW);
        one = wanted(3, 9);
        one.incarnation = 2;
        assert_int_equal(asks_add(t, &one, 4, &b), ASKS_NEW);
        asks_free(t);
}

static void an_id_is_decided_once(void **state) {
        struct asks *t = asks_new();
        struct ask one = wanted(0, 1), *a, *found;
        char id[ASK_ID_MAX];

        (void)state;
        asks_add(t, &one, 1, &a);
        memcpy(id, a->id, sizeof(id));
        const struct ask *ended = asks_end(t, a, ASK_GRANTED, ASK_ONCE, "uid 0", 7);
        assert_string_equal(ended->id, id);
        assert_int_equal(asks_find(t, id, &found), ASKS_DECIDED);
        assert_int_equal(found->state, ASK_GRANTED);
        assert_int_equal(found->scope, ASK_ONCE);
        assert_int_equal(found->ended_ns, 7);
        assert_string_equal(found->by, "uid 0");
        assert_int_equal(asks_waiting(t), 0);
        assert_null(asks_by_number(t, 0, 1, 1));
        assert_int_equal(asks_find(t, "zzzz0", &found), ASKS_UNKNOWN);
        asks_free(t);
}

static void one_agent_fills_its_own_share_only(void **state) {
        struct asks *t = asks_new();
        struct ask *a;

        (void)state;
        for (uint32_t i = 0; i < ASKS_PER_AGENT; i++) {
                struct ask w = wanted(0, i);
                assert_int_equal(asks_add(t, &w, i, &a), ASKS_NEW);
        }
        struct ask over = wanted(0, 1000), other = wanted(1, 1000), again = wanted(0, 3);
        assert_int_equal(asks_add(t, &over, 1, &a), ASKS_FULL);
        assert_int_equal(asks_add(t, &again, 1, &a), ASKS_MORE);
        assert_int_equal(asks_add(t, &other, 1, &a), ASKS_NEW);
        asks_end(t, asks_by_number(t, 0, 1, 0), ASK_GONE, ASK_NO_SCOPE, "", 2);
        assert_int_equal(asks_add(t, &over, 3, &a), ASKS_NEW);
        asks_free(t);
}

static void those_that_wait_are_listed_oldest_first_while_they_end(void **state) {
        struct asks *t = asks_new();
        struct ask *a;
        uint64_t cursor = 0;
        uint32_t seen = 0;

        (void)state;
        for (uint32_t i = 0; i < 10; i++) {
                struct ask w = wanted(0, i);
                asks_add(t, &w, i, &a);
        }
        while ((a = asks_next(t, &cursor))) {
                assert_int_equal(a->number, seen++);
                asks_end(t, a, ASK_GONE, ASK_NO_SCOPE, "", 20);
        }
        assert_int_equal(seen, 10);
        assert_int_equal(asks_waiting(t), 0);
        struct ask w = wanted(0, 99);
        asks_add(t, &w, 30, &a); /* the list's end is right after its last one went */
        cursor = 0;
        assert_int_equal(asks_next(t, &cursor)->number, 99);
        asks_free(t);
}

static void old_decisions_are_forgotten_in_turn(void **state) {
        struct asks *t = asks_new();
        char first[ASK_ID_MAX], last[ASK_ID_MAX];
        struct ask *a, *found;

        (void)state;
        for (uint32_t i = 0; i <= ASKS_REMEMBERED; i++) {
                struct ask w = wanted(0, i);
                asks_add(t, &w, i, &a);
                memcpy(i ? last : first, a->id, sizeof(first));
                asks_end(t, a, ASK_EXPIRED, ASK_NO_SCOPE, "", i);
        }
        assert_int_equal(asks_find(t, first, &found), ASKS_UNKNOWN);
        assert_int_equal(asks_find(t, last, &found), ASKS_DECIDED);
        asks_free(t);
}

static void metadata_loopback_and_link_local_can_never_be_approved(void **state) {
        static const char *const never[] = {
                "169.254.169.254",
                "169.254.1.2",
                "127.0.0.1",
                "127.9.9.9",
                "0.0.0.0",
                "224.0.0.1",
                "255.255.255.255",
                "100.100.100.200",
                "168.63.129.16",
                "198.18.0.1",
                "::1",
                "::",
                "fe80::1",
                "febf::1",
                "fec0::1",
                "ff02::1",
                "::ffff:10.0.0.1",
                "::ffff:127.0.0.1",
                "::7f00:1",
                "64:ff9b::a9fe:a9fe",
                "64:ff9b:1::1",
                "2002:a9fe:a9fe::",
                "2001:0:1::1",
                "fd00:ec2::254",
                "localhost",
                "LOCALHOST.",
                "db.localhost",
                "metadata.google.internal",
                "Metadata",
        };
        static const char *const may[] = {"api.example.com", "10.0.0.5",       "192.168.1.1",       "203.0.113.7",
                                          "2001:db8::1",     "fd00::1",        "localhost.example", "fe80.example",
                                          "mylocalhost",     "127.example.com"};

        (void)state;
        for (size_t i = 0; i < sizeof(never) / sizeof(never[0]); i++) {
                if (!ask_never(never[i]))
                        fail_msg("%s could be approved", never[i]);
        }
        for (size_t i = 0; i < sizeof(may) / sizeof(may[0]); i++) {
                if (ask_never(may[i]))
                        fail_msg("%s cannot be approved: %s", may[i], ask_never(may[i]));
        }
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(an_ask_waits_under_an_id_of_its_own),
                cmocka_unit_test(the_same_number_again_says_how_many_wait_now),
                cmocka_unit_test(an_id_is_decided_once),
                cmocka_unit_test(one_agent_fills_its_own_share_only),
                cmocka_unit_test(those_that_wait_are_listed_oldest_first_while_they_end),
                cmocka_unit_test(old_decisions_are_forgotten_in_turn),
                cmocka_unit_test(metadata_loopback_and_link_local_can_never_be_approved),
        };

        cmocka_set_message_output(CM_OUTPUT_TAP);
        return cmocka_run_group_tests(tests, NULL, NULL);
}
