/* SPDX-License-Identifier: Apache-2.0 */
#include "supervisor/schema/regex.h"

#include "common/util.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

static int search(const char *pattern, const char *s) {
        struct crew_err err = CREW_ERR_NULL;
        struct regex *re = NULL;
        uint64_t budget = 1u << 24;

        int r = regex_compile(pattern, strlen(pattern), &re, &err);
        if (r < 0) {
                fprintf(stderr, "# %s: %s\n", pattern, err.msg);
                return r;
        }
        r = regex_search(re, s, strlen(s), &budget);
        regex_free(re);
        return r;
}

static void patterns_match_what_ecma_says(void **state) {
        static const struct {
                const char *pattern, *s;
                bool match;
        } rows[] = {
                {"", "", true},
                {"", "x", true},
                {"a+", "xxaayy", true},
                {"^a*$", "aaa", true},
                {"^a*$", "aab", false},
                {"^$", "", true},
                {"^$", "a", false},
                {"^[A-Z]{1,5}$", "MSFT", true},
                {"^[A-Z]{1,5}$", "TOOLONG", false},
                {"^[A-Z]{2,}$", "A", false},
                {"^\\d{4}-\\d{2}-\\d{2}$", "2010-03-01", true},
                {"^\\d{4}-\\d{2}-\\d{2}$", "2010-3-01", false},
                {"^(foo|bar|)$", "bar", true},
                {"^(foo|bar|)$", "", true},
                {"^(foo|bar|)$", "foobar", false},
                {"^(?:ab)+?$", "ababab", true},
                {"^(a*)*$", "aaab", false},
                {"^(a|aa)+$", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaab", false},
                {"^[^a-c]$", "d", true},
                {"^[^a-c]$", "b", false},
                {"^[\\w.-]+@[\\w.-]+$", "a.b@c-d.example", true},
                {"^[]$", "a", false},
                {"^[^]$", "a", true},
                {"^[a-]$", "-", true},
                {"^[-a]$", "-", true},
                {"^[\\]]$", "]", true},
                {"^[\\W]$", "!", true},
                {"^[\\W]$", "w", false},
                {"^.$", "\xc3\xa9", true},
                {"^.$", "\n", false},
                {"^\xc3\xa9$", "\xc3\xa9", true},
                {"^\\u00e9$", "\xc3\xa9", true},
                {"^[\\u4e00-\\u9fff]{2}$", "\xe4\xb8\xad\xe6\x96\x87", true},
                {"^\\x41\\/$", "A/", true},
                {"^.{3}$", "\xf0\x9f\x98\x80xy", true},
                {"^\\S+$",
                 "a\xc2\xa0"
                 "b",
                 false},
                {"a$|^b", "xa", true},
                {"a^b", "ab", false},
                {"(^|,)x", "a,x", true},
        };
        for (size_t i = 0; i < ELEMENTSOF(rows); i++) {
                int r = search(rows[i].pattern, rows[i].s);
                if (r != (rows[i].match ? REGEX_MATCH : REGEX_NO_MATCH))
                        fail_msg("'%s' on '%s' gave %d", rows[i].pattern, rows[i].s, r);
        }
}

static void what_is_not_regular_is_refused(void **state) {
        static const char *const patterns[] = {
                "(a)\\1", "(?=a)",   "(?!a)",   "(?<=a)",  "\\bfoo", "\\p{L}", "a**",       "a{2}{3}",     "*a",
                "a{",     "a{1001}", "a{3,2}",  "(a",      "a)",     "[a",     "[z-a]",     "[[:alpha:]]", "\\",
                "\\xg1",  "a]",      "\\ud83d", "(?<n>a)", "a}",     "\\c",    "[\\d-z]x{",
        };
        for (size_t i = 0; i < ELEMENTSOF(patterns); i++)
                if (search(patterns[i], "a") != -EINVAL)
                        fail_msg("'%s' was accepted", patterns[i]);
}

static void expansion_is_bounded(void **state) {
        char deep[200] = "", alt[REGEX_MAX_PATTERN + 1];

        assert_int_equal(search("(((a{1000}){1000}){1000})", "a"), -EINVAL);
        assert_int_equal(search("(((){1000}){1000}){1000}", "a"), -EINVAL);
        assert_int_equal(search("(a{64}){65}", "a"), -EINVAL);
        for (int i = 0; i < 40; i++)
                strcat(deep, "(");
        for (int i = 0; i < 40; i++)
                strcat(deep, ")");
        assert_int_equal(search(deep, "a"), -EINVAL);
        memset(alt, '|', REGEX_MAX_PATTERN);
        alt[REGEX_MAX_PATTERN] = '\0';
        assert_int_equal(search(alt, "a"), REGEX_MATCH);
        memset(alt, 'a', REGEX_MAX_PATTERN);
        assert_int_equal(search(alt, "a"), REGEX_NO_MATCH);
}

static void a_hostile_subject_costs_at_most_the_budget(void **state) {
        const char *pattern = "(a|b)*a(a|b){500}c";
        size_t n = 1u << 20;
        _cleanup_free_ char *s = malloc(n);
        struct crew_err err = CREW_ERR_NULL;
        struct regex *re = NULL;
        uint64_t budget = 1u << 22;

        assert_non_null(s);
        memset(s, 'a', n);
        assert_int_equal(regex_compile(pattern, strlen(pattern), &re, &err), 0);
        uint64_t before = crew_now_ns();
        assert_int_equal(regex_search(re, s, n, &budget), REGEX_TOO_MUCH_WORK);
        assert_true(crew_now_ns() - before < 5000000000u);
        assert_int_equal(budget, 0);
        regex_free(re);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(patterns_match_what_ecma_says),
                cmocka_unit_test(what_is_not_regular_is_refused),
                cmocka_unit_test(expansion_is_bounded),
                cmocka_unit_test(a_hostile_subject_costs_at_most_the_budget),
        };
        cmocka_set_message_output(CM_OUTPUT_TAP);
        return cmocka_run_group_tests(tests, NULL, NULL);
}
