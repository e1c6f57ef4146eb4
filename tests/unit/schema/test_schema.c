/* SPDX-License-Identifier: Apache-2.0 */
#include "supervisor/schema/schema.h"

#include "common/util.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

static struct crew_schema *compiled(const char *text) {
        struct crew_err err = CREW_ERR_NULL;
        struct crew_schema *s = NULL;

        if (schema_compile("test.json", text, strlen(text), &s, &err) < 0)
                fail_msg("%s", err.msg);
        return s;
}

static void expect_message(const char *schema, const char *json, const char *message) {
        struct crew_err err = CREW_ERR_NULL;
        struct crew_schema *s = schema ? compiled(schema) : NULL;

        assert_int_equal(schema_check(s, json, strlen(json), &err), message ? 1 : 0);
        if (message)
                assert_string_equal(err.msg, message);
        schema_free(s);
}

static void a_message_points_at_the_value(void **state) {
        expect_message("{\"properties\":{\"portfolio\":{\"items\":{\"properties\":{\"value\":{\"minimum\":0}}}}}}",
                       "{\"portfolio\":[{},{},{},{\"value\":-1}]}", "/portfolio/3/value: expected a number >= 0, got -1");
        expect_message("{\"type\":\"object\"}", "[]", "/: expected object, got array");
        expect_message("{\"type\":[\"string\",\"null\"]}", "1.5", "/: expected null or string, got number");
        expect_message("{\"required\":[\"symbols\"]}", "{}", "/: the required property 'symbols' is missing");
        expect_message("{\"additionalProperties\":false}", "{\"a/b\":1}", "/: unexpected property 'a~1b'");
        expect_message("{\"additionalProperties\":{\"type\":\"null\"}}", "{\"a/~b\":1}",
                       "/a~1~0b: expected null, got integer");
        expect_message("{\"const\":\"x\"}", "\"y\"", "/: expected exactly \"x\", got \"y\"");
        expect_message("{\"enum\":[1,2]}", "3", "/: 3 is none of the 2 listed values");
        expect_message("{\"maxLength\":3}", "\"\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\"",
                       "/: expected at most 3 characters, got 4");
        expect_message("{\"pattern\":\"^[A-Z]+$\"}", "\"ibm\"", "/: \"ibm\" does not match the pattern ^[A-Z]+$");
        expect_message("{\"anyOf\":[{\"type\":\"null\"},{\"type\":\"string\"}]}", "1",
                       "/: matches none of the 2 schemas of anyOf");
        expect_message("{\"uniqueItems\":true}", "[1,{\"a\":1,\"b\":2},{\"b\":2.0,\"a\":1}]",
                       "/: the items are not unique");
}

static void hostile_bytes_never_reach_a_message(void **state) {
        struct crew_err err = CREW_ERR_NULL;
        struct crew_schema *s = compiled("{\"additionalProperties\":{\"const\":1}}");
        const char *json = "{\"\\u001b[31m\\n\\u009b\":\"\\u001b]0;x\\u0007\\r\\n\"}";

        assert_int_equal(schema_check(s, json, strlen(json), &err), 1);
        for (const char *p = err.msg; *p; p++)
                assert_true(*p >= 0x20 && *p < 0x7f);
        schema_free(s);
        assert_int_equal(schema_check(NULL, "\"\x1b\n", 3, &err), 1);
        for (const char *p = err.msg; *p; p++)
                assert_true(*p >= 0x20 && *p < 0x7f);
}

static void json_is_strict(void **state) {
        static const char *const bad[] = {
                "",
                " ",
                "{",
                "{} {}",
                "{\"a\":1,\"a\":1}",
                "{'a':1}",
                "[1,]",
                "NaN",
                "01",
                "+1",
                "1.",
                ".5",
                "Infinity",
                "\"\t\"",
                "\"\\x\"",
                "\"\xff\"",
                "tru",
                "[1 2]",
                "\"\\u0000\"",
                "\"\\ud800\"",
                "1e999",
                "{\"a\" 1}",
                "/* */1",
                "99999999999999999999",
        };
        struct crew_err err;

        for (size_t i = 0; i < ELEMENTSOF(bad); i++) {
                err = CREW_ERR_NULL;
                if (schema_check(NULL, bad[i], strlen(bad[i]), &err) != 1)
                        fail_msg("'%s' was accepted", bad[i]);
                assert_true(err.msg[0] != '\0');
        }
        assert_int_equal(schema_check(NULL, "1\0002", 3, &err), 1);
        expect_message(NULL, " {\"a\":[1,2.5,null,true,\"\\u00e9\"]}\n", NULL);
}

static void ten_thousand_levels_are_refused_without_recursion(void **state) {
        size_t n = 10000;
        _cleanup_free_ char *deep = calloc(1, 2 * n + 1);
        struct crew_err err = CREW_ERR_NULL;
        struct crew_schema *s = NULL;

        assert_non_null(deep);
        memset(deep, '[', n);
        memset(deep + n, ']', n);
        assert_int_equal(schema_check(NULL, deep, 2 * n, &err), 1);
        assert_string_equal(err.msg, "JSON nests deeper than 64 levels");
        assert_int_equal(schema_compile("deep.json", deep, 2 * n, &s, &err), -EINVAL);
        expect_message(NULL, "\"[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[\\\"[[[[[[\"",
                       NULL);
}

static void a_wrong_schema_says_where(void **state) {
        static const struct {
                const char *schema, *message;
        } rows[] = {
                {"{\"properties\":{\"a\":{\"maxLenght\":1}}}",
                 "test.json: /properties/a: unsupported keyword 'maxLenght' (did you mean 'maxLength'?)"},
                {"{\"format\":\"date\"}", "test.json: /: unsupported keyword 'format'"},
                {"{\"type\":\"text\"}",
                 "test.json: /type: expected null, boolean, object, array, number, string or integer"},
                {"{\"type\":[]}", "test.json: /type: an empty list of types"},
                {"{\"minimum\":\"0\"}", "test.json: /minimum: expected a number"},
                {"{\"minItems\":-1}", "test.json: /minItems: expected a whole number >= 0"},
                {"{\"multipleOf\":0}", "test.json: /multipleOf: expected a number > 0"},
                {"{\"items\":[{}]}", "test.json: /items: expected a schema (an object, true or false)"},
                {"{\"pattern\":\"(a\"}", "test.json: /pattern: at character 3 of the pattern: '(' without ')'"},
                {"{\"$ref\":\"other.json\"}",
                 "test.json: /$ref: only references into the same document are supported (\"#\" or \"#/$defs/NAME\")"},
                {"{\"$ref\":\"#/$defs/x\"}", "test.json: $ref '#~1$defs~1x' does not name a schema of this document"},
                {"{\"$ref\":\"#\"}", "test.json: a $ref leads back to itself without descending into the value"},
                {"{\"allOf\":[{\"not\":{\"$ref\":\"#\"}}]}",
                 "test.json: a $ref leads back to itself without descending into the value"},
                {"{\"$schema\":\"http://json-schema.org/draft-07/schema#\"}",
                 "test.json: /$schema: only https://json-schema.org/draft/2020-12/schema is understood"},
                {"{\"items\":{\"$id\":\"x\"}}", "test.json: /items/$id: allowed at the root only"},
                {"{\"a\":1,\"a\":2}", "test.json: not JSON at line 1, column 10: duplicate object key near '\"a\"'"},
                {"[]", "test.json: /: expected a schema (an object, true or false)"},
        };
        for (size_t i = 0; i < ELEMENTSOF(rows); i++) {
                struct crew_err err = CREW_ERR_NULL;
                struct crew_schema *s = NULL;
                assert_int_equal(schema_compile("test.json", rows[i].schema, strlen(rows[i].schema), &s, &err), -EINVAL);
                assert_string_equal(err.msg, rows[i].message);
                assert_int_equal(err.code, EINVAL);
        }
}

static void references_resolve_through_escapes_and_recursion(void **state) {
        expect_message("{\"$defs\":{\"a~b/c%\":{\"type\":\"string\"}},\"items\":{\"$ref\":\"#/$defs/a~0b~1c%25\"}}", "[1]",
                       "/0: expected string, got integer");
        expect_message(
                "{\"properties\":{\"next\":{\"$ref\":\"#\"},\"v\":{\"type\":\"integer\"}},\"additionalProperties\":false}",
                "{\"next\":{\"next\":{\"v\":\"x\"}}}", "/next/next/v: expected integer, got string");
}

static void a_truncated_percent_escape_is_refused(void **state) {
        struct crew_err err = CREW_ERR_NULL;
        struct crew_schema *s = NULL;
        const char *text = "{\"$defs\":{\"x\":true},\"$ref\":\"#/$defs/x%2\"}";

        assert_int_equal(schema_compile("t", text, strlen(text), &s, &err), -EINVAL);
}

/* d0 = allOf[d1 d1 d1 d1], d1 = allOf[d2 d2 d2 d2] ...: 4^14 visits of one value. */
static void an_exponential_schema_costs_at_most_the_budget(void **state) {
        char text[4096] = "{\"$defs\":{";
        struct crew_err err = CREW_ERR_NULL;

        for (int i = 0; i < 14; i++) {
                size_t used = strlen(text);
                snprintf(text + used, sizeof(text) - used,
                         "\"d%d\":{\"allOf\":[{\"$ref\":\"#/$defs/d%d\"},{\"$ref\":\"#/$defs/d%d\"},"
                         "{\"$ref\":\"#/$defs/d%d\"},{\"$ref\":\"#/$defs/d%d\"}]},",
                         i, i + 1, i + 1, i + 1, i + 1);
        }
        strcat(text, "\"d14\":true},\"not\":{\"not\":{\"$ref\":\"#/$defs/d0\"}}}");
        struct crew_schema *s = compiled(text);
        uint64_t before = crew_now_ns();
        assert_int_equal(schema_check(s, "1", 1, &err), 1);
        assert_true(crew_now_ns() - before < 10000000000u);
        assert_string_equal(err.msg, "/: checking this value takes too much work");
        schema_free(s);
}

/* The deepest recursion the bounds allow: 64 levels of value, each under 32 stacked schemas. */
/* Two or three characters each, 256 bytes in memory: a result of 4 MiB would take 300. */
static void a_text_of_too_many_values_is_refused_before_it_is_parsed(void **state) {
        static const char *const items[] = {"{},", "[],", "1,", "\"\\\"{{{{[[[[\","};
        static const bool fits[] = {false, false, false, true};
        enum { MANY = 4 << 20 };
        char *json = malloc(MANY + 32);

        for (size_t i = 0; i < ELEMENTSOF(items); i++) {
                struct crew_err err = CREW_ERR_NULL;
                size_t n = 0, k = strlen(items[i]);
                json[n++] = '[';
                for (; n + k < MANY; n += k)
                        memcpy(json + n, items[i], k);
                json[n - 1] = ']';
                assert_int_equal(schema_check(NULL, json, n, &err), fits[i] ? 0 : 1);
                if (!fits[i])
                        assert_string_equal(err.msg, "JSON of too many values: they need more than 64 MiB");
        }
        free(json);
}

static void the_deepest_check_fits_the_stack(void **state) {
        char text[8192] = "{\"$defs\":{", json[128];
        struct crew_err err = CREW_ERR_NULL;

        for (int i = 0; i < 15; i++) {
                size_t used = strlen(text);
                snprintf(text + used, sizeof(text) - used, "\"d%d\":{\"%s\":[{\"$ref\":\"#/$defs/d%d\"}]},", i,
                         i % 2 ? "anyOf" : "allOf", i + 1);
        }
        strcat(text, "\"d15\":{\"items\":{\"$ref\":\"#/$defs/d0\"}}},\"$ref\":\"#/$defs/d0\"}");
        struct crew_schema *s = compiled(text);
        memset(json, '[', 64);
        memset(json + 64, ']', 64);
        assert_int_equal(schema_check(s, json, 128, &err), 0);
        schema_free(s);
}

static void too_many_stacked_schemas_are_refused(void **state) {
        char text[8192] = "{\"$defs\":{";
        struct crew_err err = CREW_ERR_NULL;
        struct crew_schema *s = NULL;

        for (int i = 0; i < 40; i++)
                sprintf(text + strlen(text), "\"d%d\":{\"$ref\":\"#/$defs/d%d\"},", i, i + 1);
        strcat(text, "\"d40\":true}}");
        assert_int_equal(schema_compile("t", text, strlen(text), &s, &err), -EINVAL);
        assert_string_equal(err.msg, "t: more than 32 schemas stacked on one value");
}

static void unique_items_of_a_large_array_is_not_quadratic(void **state) {
        size_t n = 100000;
        _cleanup_free_ char *json = malloc(n * 8 + 3);
        struct crew_err err = CREW_ERR_NULL;
        struct crew_schema *s = compiled("{\"uniqueItems\":true}");
        size_t at = 0;

        assert_non_null(json);
        json[at++] = '[';
        for (size_t i = 0; i < n; i++)
                at += (size_t)sprintf(json + at, "%s%zu", i ? "," : "", i);
        json[at++] = ']';
        uint64_t before = crew_now_ns();
        assert_int_equal(schema_check(s, json, at, &err), 0);
        assert_true(crew_now_ns() - before < 5000000000u);
        schema_free(s);
}

static void numbers_compare_by_value(void **state) {
        expect_message("{\"const\":1}", "1.0", NULL);
        expect_message("{\"type\":\"integer\"}", "3.0", NULL);
        expect_message("{\"multipleOf\":0.01}", "19.99", NULL);
        expect_message("{\"multipleOf\":0.0001}", "0.00751",
                       "/: expected a number that is a multiple of 0.0001, got 0.00751");
        expect_message("{\"maximum\":9007199254740993}", "9007199254740994",
                       "/: expected a number <= 9007199254740993, got 9007199254740994");
        expect_message("{\"exclusiveMaximum\":9007199254740993}", "9007199254740992.0", NULL);
}

static void the_text_is_the_compact_source(void **state) {
        struct crew_schema *s = compiled("{ \"type\" : \"object\",\n \"title\": \"x\" }");

        assert_string_equal(schema_text(s), "{\"type\":\"object\",\"title\":\"x\"}");
        schema_free(s);
}

static void a_missing_file_is_a_fault_with_its_name(void **state) {
        struct crew_err err = CREW_ERR_NULL;
        struct crew_schema *s = NULL;

        assert_int_equal(schema_load_file("/nonexistent/x.json", &s, &err), -ENOENT);
        assert_non_null(strstr(err.msg, "/nonexistent/x.json"));
        assert_null(s);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(a_message_points_at_the_value),
                cmocka_unit_test(hostile_bytes_never_reach_a_message),
                cmocka_unit_test(json_is_strict),
                cmocka_unit_test(ten_thousand_levels_are_refused_without_recursion),
                cmocka_unit_test(a_wrong_schema_says_where),
                cmocka_unit_test(references_resolve_through_escapes_and_recursion),
                cmocka_unit_test(a_truncated_percent_escape_is_refused),
                cmocka_unit_test(an_exponential_schema_costs_at_most_the_budget),
                cmocka_unit_test(a_text_of_too_many_values_is_refused_before_it_is_parsed),
                cmocka_unit_test(the_deepest_check_fits_the_stack),
                cmocka_unit_test(too_many_stacked_schemas_are_refused),
                cmocka_unit_test(unique_items_of_a_large_array_is_not_quadratic),
                cmocka_unit_test(numbers_compare_by_value),
                cmocka_unit_test(the_text_is_the_compact_source),
                cmocka_unit_test(a_missing_file_is_a_fault_with_its_name),
        };
        cmocka_set_message_output(CM_OUTPUT_TAP);
        return cmocka_run_group_tests(tests, NULL, NULL);
}
