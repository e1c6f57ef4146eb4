/* SPDX-License-Identifier: Apache-2.0 */
/* The synthetic addresses, and the bucket that limits how fast they are asked for. */
#include "gateway/bucket.h"
#include "gateway/names.h"

#include <arpa/inet.h>
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

static void a_name_keeps_its_address(void **state) {
        struct names *t = names_new();
        struct in_addr a, b, again;

        assert_int_equal(names_address(t, "a.test", &a), 0);
        assert_int_equal(names_address(t, "b.test", &b), 0);
        assert_int_equal(names_address(t, "a.test", &again), 0);
        assert_int_equal(a.s_addr, again.s_addr);
        assert_int_not_equal(a.s_addr, b.s_addr);
        assert_string_equal(names_find(t, a), "a.test");
        assert_string_equal(names_find(t, b), "b.test");
        names_free(t);
}

static void an_address_that_nobody_was_told_is_nobody(void **state) {
        struct names *t = names_new();
        struct in_addr a;

        assert_null(names_find(t, (struct in_addr){htonl(0xc6120001)}));
        names_address(t, "a.test", &a);
        assert_null(names_find(t, (struct in_addr){htonl(0xc6120000)}));
        assert_null(names_find(t, (struct in_addr){htonl(0xc6120002)}));
        assert_null(names_find(t, (struct in_addr){0}));
        names_free(t);
}

static void names_without_end_are_bounded_and_the_old_ones_stay(void **state) {
        struct names *t = names_new();
        struct in_addr a;
        char name[32];

        for (unsigned i = 0; i < NAMES_MAX + 10; i++) {
                snprintf(name, sizeof(name), "n%u.test", i);
                assert_int_equal(names_address(t, name, &a), i < NAMES_MAX ? 0 : -ENOSPC);
        }
        for (unsigned i = 0; i < NAMES_MAX; i++) {
                snprintf(name, sizeof(name), "n%u.test", i);
                assert_int_equal(names_address(t, name, &a), 0);
                assert_string_equal(names_find(t, a), name);
                assert_in_range(ntohl(a.s_addr), 0xc6120000, 0xc613ffff);
        }
        names_free(t);
}

#define MS 1000000ull

static void a_bucket_gives_its_rate_and_no_more(void **state) {
        struct bucket b;
        uint64_t given = 0, now = 5000 * MS;

        bucket_init(&b, 1000, 100, now);
        for (int i = 0; i <= 10000; i++, now += MS) {
                uint64_t n = bucket_level(&b, now);
                assert_in_range(n, 0, 100);
                bucket_take(&b, n);
                given += n;
        }
        assert_in_range(given, 10000, 10101);
}

static void fractions_are_not_lost_and_long_idling_saves_one_burst(void **state) {
        struct bucket b;
        uint64_t now = 0, given = 0;

        bucket_init(&b, 3, 0, now);
        bucket_take(&b, bucket_level(&b, now));
        for (int i = 0; i < 100; i++, now += 100 * MS) { /* ten seconds */
                uint64_t n = bucket_level(&b, now);
                bucket_take(&b, n);
                given += n;
        }
        assert_in_range(given, 29, 30);
        assert_int_equal(bucket_level(&b, now + 86400000 * MS), 3);
        bucket_init(&b, UINT64_MAX / 2, 0, 0);
        assert_int_equal(bucket_level(&b, UINT64_MAX / 4), UINT64_MAX / 2);
}

static void no_rate_is_no_limit_and_a_change_keeps_what_is_left(void **state) {
        struct bucket b;

        bucket_init(&b, 0, 0, 0);
        bucket_take(&b, 1ull << 60);
        assert_true(bucket_level(&b, 1) == UINT64_MAX);
        bucket_change(&b, 10, 0, 1);
        assert_int_equal(bucket_level(&b, 1), 10);
        bucket_take(&b, 8);
        bucket_change(&b, 100, 0, 1);
        assert_int_equal(bucket_level(&b, 1), 2);
        bucket_change(&b, 1, 0, 1);
        assert_int_equal(bucket_level(&b, 1), 1);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(a_name_keeps_its_address),
                cmocka_unit_test(an_address_that_nobody_was_told_is_nobody),
                cmocka_unit_test(names_without_end_are_bounded_and_the_old_ones_stay),
                cmocka_unit_test(a_bucket_gives_its_rate_and_no_more),
                cmocka_unit_test(fractions_are_not_lost_and_long_idling_saves_one_burst),
                cmocka_unit_test(no_rate_is_no_limit_and_a_change_keeps_what_is_left),
        };
        cmocka_set_message_output(CM_OUTPUT_TAP);
        return cmocka_run_group_tests(tests, NULL, NULL);
}
