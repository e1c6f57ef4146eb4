/* SPDX-License-Identifier: Apache-2.0 */
#include "common/util.h"
#include "worker/json_scan.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

static const char *problem(const char *text) {
        struct json_problem why;
        struct json_span v;

        return json_check(text, strlen(text), &v, &why) == 0 ? NULL : why.what;
}

static struct json_span checked(const char *text) {
        struct json_problem why;
        struct json_span v;

        if (json_check(text, strlen(text), &v, &why) < 0)
                fail_msg("%s: %s at %zu", text, why.what, why.at);
        return v;
}

static void well_formed_values_are_accepted(void **state) {
        static const char *const good[] = {
                "0",
                "-0",
                "-1.5e+10",
                "1E5",
                "true",
                "false",
                "null",
                "\"\"",
                "[]",
                "{}",
                " [1 , 2] \n",
                "{\"a\":{\"a\":1}}",
                "[[],{},\"\\u00e9\\ud83d\\ude00\\n\"]",
                "\"\xc3\xa9\"",
                "{\"a\":1,\"b\":[{\"a\":1},{\"a\":1}],\"c\":2}",
        };

        for (size_t i = 0; i < ELEMENTSOF(good); i++)
                checked(good[i]);
}

static void malformed_values_are_refused_with_a_reason(void **state) {
        static const struct {
                const char *text, *why;
        } bad[] = {
                {"", "empty"},
                {"  ", "empty"},
                {"{", "ends too early"},
                {"[1,", "ends too early"},
                {"[1 2]", "wrong closing bracket"},
                {"[1,]", "not a JSON value"},
                {"{\"a\":1,}", "a key must be a string"},
                {"{\"a\" 1}", "no ':' after a key"},
                {"{a:1}", "a key must be a string"},
                {"[1}", "wrong closing bracket"},
                {"1 2", "more than one JSON value"},
                {"01", "more than one JSON value"},
                {"1.", "bad number"},
                {"-", "bad number"},
                {"1e", "bad number"},
                {"+1", "not a JSON value"},
                {"NaN", "not a JSON value"},
                {"nul", "not a JSON value"},
                {"'a'", "not a JSON value"},
                {"\"a", "string without end"},
                {"\"\n\"", "control character in a string"},
                {"\"\\x\"", "bad escape in a string"},
                {"\"\\u12\"", "bad escape in a string"},
                {"\"\\u0000\"", "bad escape in a string"},
                {"\"\\ud800\"", "bad escape in a string"},
                {"\"\\ud800\\u0041\"", "bad escape in a string"},
                {"\"\\udc00\"", "bad escape in a string"},
                {"\"\xff\"", "not valid UTF-8"},
                {"\"\xed\xa0\x80\"", "not valid UTF-8"},
        };

        for (size_t i = 0; i < ELEMENTSOF(bad); i++) {
                const char *why = problem(bad[i].text);
                assert_non_null(why);
                assert_string_equal(why, bad[i].why);
        }
}

static void duplicate_keys_are_refused_at_any_depth(void **state) {
        assert_string_equal(problem("{\"a\":1,\"a\":2}"), "duplicate key in an object");
        assert_string_equal(problem("[{\"x\":{\"b\":1,\"c\":{},\"b\":2}}]"), "duplicate key in an object");
        assert_string_equal(problem("{\"a\":{\"z\":1},\"b\":[{\"z\":1}],\"\\u0061\":2}"), "duplicate key in an object");
        assert_null(problem("{\"a\":{\"a\":{\"a\":1}},\"b\":{\"a\":1}}"));
}

static void nesting_is_bounded(void **state) {
        char text[20001];

        memset(text, '[', 64);
        memset(text + 64, ']', 64);
        text[128] = '\0';
        assert_null(problem(text));
        memset(text, '[', 10000);
        memset(text + 10000, ']', 10000);
        text[20000] = '\0';
        assert_string_equal(problem(text), "nested deeper than 64 levels");
}

static void members_are_found_by_their_decoded_name(void **state) {
        struct json_span v = checked(" {\"x\" : [1,{\"k\":\"]}\"}] , \"\\u006dethod\":\"a\\\"b\", \"n\": 12} ");
        char out[16];
        uint64_t n;

        assert_int_equal(json_decode(json_member(v, "method"), out, sizeof(out)), 3);
        assert_string_equal(out, "a\"b");
        assert_true(json_u64(json_member(v, "n"), &n));
        assert_int_equal(n, 12);
        assert_memory_equal(json_member(v, "x").p, "[1,{\"k\":\"]}\"}]", json_member(v, "x").n);
        assert_null(json_member(v, "missing").p);
        assert_null(json_member(json_member(v, "n"), "x").p);
}

static void nearly_the_same_name_is_another(void **state) {
        static const char *const others[] = {"\"\"",  "\"metho\"",        "\"methods\"", "\"Method\"",
                                             "\"m\"", "\"metho\\u0065\"", "7",           "method"};
        static const char *const same[] = {"\"method\"", "\"\\u006dethod\"", "\"metho\\u0064\""};

        for (size_t i = 0; i < ELEMENTSOF(others); i++)
                assert_false(json_equals((struct json_span){others[i], strlen(others[i])}, "method"));
        for (size_t i = 0; i < ELEMENTSOF(same); i++)
                assert_true(json_equals((struct json_span){same[i], strlen(same[i])}, "method"));
        assert_true(json_equals((struct json_span){"\"\"", 2}, ""));
        assert_false(json_equals(JSON_ABSENT, ""));
}

static void strings_that_do_not_fit_are_not_cut(void **state) {
        char out[4];

        assert_int_equal(json_decode(checked("\"abc\""), out, sizeof(out)), 3);
        assert_int_equal(json_decode(checked("\"abcd\""), out, sizeof(out)), -1);
        assert_int_equal(json_decode(checked("\"ab\\u00e9\""), out, sizeof(out)), -1);
        assert_int_equal(json_decode(checked("12"), out, sizeof(out)), -1);
}

static void only_plain_whole_numbers_are_numbers(void **state) {
        static const char *const bad[] = {"-1", "1.0", "1e3", "1234567890123456789", "\"1\"", "null"};
        uint64_t n;

        for (size_t i = 0; i < ELEMENTSOF(bad); i++)
                assert_false(json_u64(checked(bad[i]), &n));
        assert_true(json_u64(checked("123456789012345678"), &n));
}

static void items_are_walked_in_order(void **state) {
        struct json_span v = checked("[ 1, \"two\" ,[3],{\"f\":4} ]"), key, item;
        const char *const want[] = {"1", "\"two\"", "[3]", "{\"f\":4}"};
        size_t at = 0, i = 0;

        while (json_next(v, &at, &key, &item)) {
                assert_int_equal(item.n, strlen(want[i]));
                assert_memory_equal(item.p, want[i], item.n);
                i++;
        }
        assert_int_equal(i, 4);
        at = 0;
        assert_false(json_next(checked("[ ]"), &at, &key, &item));
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(well_formed_values_are_accepted),
                cmocka_unit_test(malformed_values_are_refused_with_a_reason),
                cmocka_unit_test(duplicate_keys_are_refused_at_any_depth),
                cmocka_unit_test(nesting_is_bounded),
                cmocka_unit_test(members_are_found_by_their_decoded_name),
                cmocka_unit_test(nearly_the_same_name_is_another),
                cmocka_unit_test(strings_that_do_not_fit_are_not_cut),
                cmocka_unit_test(only_plain_whole_numbers_are_numbers),
                cmocka_unit_test(items_are_walked_in_order),
        };

        cmocka_set_message_output(CM_OUTPUT_TAP);
        return cmocka_run_group_tests(tests, NULL, NULL);
}
