/* SPDX-License-Identifier: Apache-2.0 */
/* JSON out, and one member back. */
#include "supervisor/jsontext.h"

#include "common/util.h"
#include "supervisor/schema/schema.h"
#include "supervisor/text.h"
#include "test.h"

static void what_is_written_is_valid_json(void **state) {
        struct json_text t = JSON_TEXT(4096);
        char *out;
        size_t n;
        (void)state;
        json_open(&t, '{');
        json_key(&t, "a\"b\\c\n"), json_str(&t, "x\ty\x7f \xc3\xa9");
        json_key(&t, "n"), json_int(&t, -42);
        json_key(&t, "l");
        json_open(&t, '[');
        json_bool(&t, true);
        json_str(&t, NULL);
        json_raw(&t, "{\"k\":1}", SIZE_MAX);
        json_open(&t, '[');
        json_close(&t, ']');
        json_close(&t, ']');
        json_close(&t, '}');
        assert_int_equal(json_text_take(&t, &out, &n), 0);
        assert_string_equal(out, "{\"a\\u0022b\\u005cc\\u000a\":\"x\\u0009y\\u007f \xc3\xa9\",\"n\":-42,"
                                 "\"l\":[true,null,{\"k\":1},[]]}");
        assert_int_equal(schema_check(NULL, out, n, NULL), 0);
        free(out);
}

static void the_bound_is_kept_and_said(void **state) {
        struct json_text t = JSON_TEXT(16);
        char *out = NULL;
        (void)state;
        json_str(&t, "0123456789");
        json_str(&t, "0123456789");
        assert_int_equal(json_text_take(&t, &out, NULL), -7); /* -E2BIG */
        assert_null(out);
}

static const char *member(const char *json, const char *key) {
        static char text[64];
        const char *v;
        size_t n;
        if (!json_member(json, strlen(json), key, &v, &n))
                return NULL;
        snprintf(text, sizeof(text), "%.*s", (int)n, v);
        return text;
}

static void a_member_is_found_at_the_top_only(void **state) {
        (void)state;
        assert_string_equal(member("{\"summary\":\"x\"}", "summary"), "\"x\"");
        assert_string_equal(member(" { \"a\" : [1,{\"summary\":2}] , \"summary\" : -1.5e3 } ", "summary"), "-1.5e3");
        assert_string_equal(member("{\"a\":\"}\\\"{\",\"b\":{\"c\":[]}}", "b"), "{\"c\":[]}");
        assert_null(member("{\"a\":{\"summary\":1}}", "summary"));
        assert_null(member("{\"summary2\":1}", "summary"));
        assert_null(member("[\"summary\",1]", "summary"));
        assert_null(member("{}", "summary"));
        assert_null(member("3", "summary"));
        assert_string_equal(member("{\"x\":true,\"y\":null}", "y"), "null");
}

static void strings_decode_to_clean_text(void **state) {
        char out[32], small[6];
        (void)state;
        assert_true(json_decode_string("\"a\\u00e9\\n\\\"\\\\\\/\"", 17, out, sizeof(out)));
        assert_string_equal(out, "a\xc3\xa9 \"\\/");
        assert_true(json_decode_string("\"\\ud83d\\ude00\"", 14, out, sizeof(out)));
        assert_string_equal(out, "\xf0\x9f\x98\x80");
        assert_true(json_decode_string("\"abc\xc3\xa9\xc3\xa9\"", 9, small, sizeof(small)));
        assert_string_equal(small, "abc\xc3\xa9");
        assert_false(json_decode_string("12", 2, out, sizeof(out)));
}

/* Garbage must not read beyond its end (the sanitizers watch). */
static void looking_into_garbage_is_harmless(void **state) {
        static const char alphabet[] = "{}[]\",:\\u0\xc3\xa9 1tn";
        uint64_t seed = 5;
        (void)state;
        for (int i = 0; i < 50000; i++) {
                size_t n = test_random(&seed, 24), value_len;
                char *s = malloc(n ? n : 1), out[16];
                const char *value;
                for (size_t k = 0; k < n; k++)
                        s[k] = alphabet[test_random(&seed, sizeof(alphabet) - 1)];
                if (json_member(s, n, "u", &value, &value_len)) {
                        assert_true(value >= s && value + value_len <= s + n);
                        json_decode_string(value, value_len, out, sizeof(out));
                }
                json_decode_string(s, n, out, sizeof(out));
                free(s);
        }
}

static void copied_text_is_always_utf8(void **state) {
        uint64_t seed = 11;
        char out[24];
        (void)state;
        assert_int_equal(text_copy(out, sizeof(out),
                                   "a\x01"
                                   "b\xff\xc3\xa9\n",
                                   SIZE_MAX),
                         7);
        assert_string_equal(out, "a?b?\xc3\xa9\n");
        for (int i = 0; i < 50000; i++) {
                char s[40];
                size_t n = test_random(&seed, sizeof(s));
                for (size_t k = 0; k < n; k++)
                        s[k] = (char)test_random(&seed, 256);
                size_t m = text_copy(out, 1 + test_random(&seed, sizeof(out)), s, n);
                assert_int_equal(strlen(out), m);
                assert_true(crew_utf8_ok(out, m));
        }
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(what_is_written_is_valid_json),     cmocka_unit_test(the_bound_is_kept_and_said),
                cmocka_unit_test(a_member_is_found_at_the_top_only), cmocka_unit_test(strings_decode_to_clean_text),
                cmocka_unit_test(looking_into_garbage_is_harmless),  cmocka_unit_test(copied_text_is_always_utf8),
        };
        cmocka_set_message_output(CM_OUTPUT_TAP);
        return cmocka_run_group_tests(tests, NULL, NULL);
}
