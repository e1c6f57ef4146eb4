/* SPDX-License-Identifier: Apache-2.0 */
/* The addresses of names that no rule lists, and which look-ups are told. */
#include "gateway/unlisted.h"

#include <arpa/inet.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static struct {
        unsigned names;
        uint64_t lookups;
        char last[64];
} told;

static void on_told(void *user, const char *name, uint32_t lookups) {
        assert_ptr_equal(user, &told);
        told.names++;
        told.lookups += lookups;
        snprintf(told.last, sizeof(told.last), "%s", name);
}

static struct unlisted *table(void) {
        memset(&told, 0, sizeof(told));
        struct unlisted *t = unlisted_new(on_told, &told);
        assert_non_null(t);
        return t;
}

static struct in_addr ask(struct unlisted *t, const char *name, uint64_t now_ms) {
        struct in_addr a = {0};

        assert_int_equal(unlisted_ask(t, name, UNLISTED_A, now_ms, &a), 0);
        return a;
}

static struct in_addr ask_number(struct unlisted *t, unsigned i) {
        char name[32];

        snprintf(name, sizeof(name), "n%u.test", i);
        return ask(t, name, 0);
}

static void a_name_keeps_its_address_and_is_found_by_it(void **state) {
        struct unlisted *t = table();
        struct in_addr a = ask(t, "a.test", 0), b = ask(t, "b.test", 0);

        assert_int_not_equal(a.s_addr, b.s_addr);
        assert_int_equal(ask(t, "a.test", 5).s_addr, a.s_addr);
        assert_string_equal(unlisted_dialled(t, a), "a.test");
        assert_string_equal(unlisted_dialled(t, b), "b.test");
        assert_null(unlisted_dialled(t, (struct in_addr){htonl(ntohl(b.s_addr) + 1)}));
        assert_null(unlisted_dialled(t, (struct in_addr){htonl(0xc6120001)})); /* of the listed ones */
        assert_null(unlisted_dialled(t, (struct in_addr){0}));
        assert_null(unlisted_dialled(NULL, a));
        unlisted_free(t);
}

static void the_oldest_is_forgotten_and_its_address_leads_nowhere(void **state) {
        struct unlisted *t = table();
        struct in_addr first = ask_number(t, 0), second = ask_number(t, 1);

        for (unsigned i = 2; i <= UNLISTED_MAX; i++)
                ask_number(t, i);
        assert_null(unlisted_dialled(t, first));
        assert_string_equal(unlisted_dialled(t, second), "n1.test");
        /* It comes back under another address; the former stays nobody's. */
        assert_int_not_equal(ask_number(t, 0).s_addr, first.s_addr);
        assert_null(unlisted_dialled(t, first));
        unlisted_free(t);
}

/* Round and round: an address is at any time that of the name that was told it last, or nobody's. */
static void no_address_is_ever_that_of_a_name_that_was_not_told_it(void **state) {
        static unsigned holder[1u << 16];
        struct unlisted *t = table();
        char name[32];

        memset(holder, 0xff, sizeof(holder));
        for (unsigned i = 0; i < 3 * UNLISTED_ADDRESSES; i++) {
                struct in_addr a = ask_number(t, i);
                unsigned at = ntohl(a.s_addr) & 0xffff;
                assert_int_equal(ntohl(a.s_addr) >> 16, 0xc613);
                if (holder[at] != UINT32_MAX)
                        assert_true(i - holder[at] >= UNLISTED_ADDRESSES);
                holder[at] = i;
                snprintf(name, sizeof(name), "n%u.test", i);
                assert_string_equal(unlisted_dialled(t, a), name);
        }
        unsigned known = 0;
        for (unsigned at = 0; at < 1u << 16; at++) {
                const char *is = unlisted_dialled(t, (struct in_addr){htonl(0xc6130000 | at)});
                if (!is)
                        continue;
                known++;
                snprintf(name, sizeof(name), "n%u.test", holder[at]);
                assert_string_equal(is, name);
        }
        assert_int_equal(known, UNLISTED_MAX);
        unlisted_free(t);
}

static void a_look_up_that_is_dialled_is_not_told(void **state) {
        struct unlisted *t = table();
        struct in_addr a = ask(t, "a.test", 100);

        assert_non_null(unlisted_dialled(t, a));
        assert_int_equal(unlisted_tell_late(t, 100 + UNLISTED_WAIT_MS), 0);
        unlisted_free(t);
        assert_int_equal(told.names, 0);
}

static void a_look_up_that_is_not_dialled_is_told_once_when_its_time_is_over(void **state) {
        struct unlisted *t = table();
        struct in_addr a;

        ask(t, "a.test", 100);
        assert_int_equal(unlisted_ask(t, "a.test", UNLISTED_AAAA, 101, &a), 0);
        ask(t, "a.test", 102);
        ask(t, "b.test", 1100);
        assert_int_equal(unlisted_tell_late(t, 99 + UNLISTED_WAIT_MS), 1);
        assert_int_equal(told.names, 0);
        assert_int_equal(unlisted_tell_late(t, 100 + UNLISTED_WAIT_MS), 1000);
        assert_int_equal(told.names, 1);
        assert_int_equal(told.lookups, 2); /* A twice, AAAA once: twice */
        assert_string_equal(told.last, "a.test");
        assert_int_equal(unlisted_tell_late(t, 5000), 0);
        assert_string_equal(told.last, "b.test");
        /* Asked for again, it is told again. */
        ask(t, "a.test", 6000);
        assert_int_equal(unlisted_tell_late(t, 6000), UNLISTED_WAIT_MS);
        unlisted_free(t);
        assert_int_equal(told.names, 3);
        assert_int_equal(told.lookups, 4);
}

static void not_one_look_up_of_a_flood_goes_untold(void **state) {
        struct unlisted *t = table();

        for (unsigned i = 0; i < 5 * UNLISTED_MAX; i++)
                ask_number(t, i);
        assert_int_equal(told.names, 4 * UNLISTED_MAX);
        unlisted_free(t);
        assert_int_equal(told.names, 5 * UNLISTED_MAX);
        assert_int_equal(told.lookups, 5 * UNLISTED_MAX);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(a_name_keeps_its_address_and_is_found_by_it),
                cmocka_unit_test(the_oldest_is_forgotten_and_its_address_leads_nowhere),
                cmocka_unit_test(no_address_is_ever_that_of_a_name_that_was_not_told_it),
                cmocka_unit_test(a_look_up_that_is_dialled_is_not_told),
                cmocka_unit_test(a_look_up_that_is_not_dialled_is_told_once_when_its_time_is_over),
                cmocka_unit_test(not_one_look_up_of_a_flood_goes_untold),
        };
        cmocka_set_message_output(CM_OUTPUT_TAP);
        return cmocka_run_group_tests(tests, NULL, NULL);
}
