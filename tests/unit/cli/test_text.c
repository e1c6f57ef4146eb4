/* SPDX-License-Identifier: Apache-2.0 */
/* Text for people: nothing hostile passes, columns are right, numbers read well. */
#include "cli/text.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static void safe_is(const char *in, size_t n, bool utf8, const char *want) {
        char *out = text_safe_dup(in, n, utf8);

        assert_non_null(out);
        assert_string_equal(out, want);
        free(out);
}
#define SAFE_IS(in, utf8, want) safe_is((in), sizeof(in) - 1, (utf8), (want))

static void printable_text_is_unchanged(void **state) {
        SAFE_IS("abc 123 ~", true, "abc 123 ~");
        SAFE_IS("h\xc3\xa9llo \xe6\x97\xa5 \xf0\x9f\x98\x80", true, "h\xc3\xa9llo \xe6\x97\xa5 \xf0\x9f\x98\x80");
}

static void nothing_that_acts_on_a_terminal_passes(void **state) {
        SAFE_IS("\033[31mred\007\r\n\b\x7f", true, "\\x1b[31mred\\x07\\x0d\\n\\x08\\x7f");
        SAFE_IS("c1 \xc2\x9b"
                "2J",
                true, "c1 \\u009b2J");
        SAFE_IS("a\0b", true, "a\\x00b");
        SAFE_IS("\xe2\x80\xae"
                "evil \xe2\x80\x8b\xef\xbb\xbf",
                true, "\\u202eevil \\u200b\\ufeff");
        SAFE_IS("\xf3\xa0\x81\x81", true, "\\U0e0041");
}

static void invalid_utf8_is_shown_byte_by_byte(void **state) {
        SAFE_IS("\xff\xc3", true, "\\xff\\xc3");
        SAFE_IS("\xc0\xaf", true, "\\xc0\\xaf");          /* overlong */
        SAFE_IS("\xed\xa0\x80", true, "\\xed\\xa0\\x80"); /* surrogate */
        SAFE_IS("\xe6\x97", true, "\\xe6\\x97");          /* cut */
}

static void without_utf8_only_ascii_comes_out(void **state) {
        SAFE_IS("h\xc3\xa9llo \xe6\x97\xa5", false, "h?llo ?");
}

static void every_byte_gives_printable_output(void **state) {
        for (int utf8 = 0; utf8 < 2; utf8++) {
                for (int a = 0; a < 256; a++) {
                        char in[2] = {(char)a, (char)(a * 7)};
                        char *out = text_safe_dup(in, 2, utf8);
                        for (const char *p = out; *p; p++)
                                assert_true((unsigned char)*p >= 0x20 && *p != 0x7f);
                        free(out);
                }
        }
}

static void a_short_buffer_cuts_whole_characters(void **state) {
        char out[4];

        assert_int_equal(text_safe("\xe6\x97\xa5\xe6\x97\xa5", 6, true, out, sizeof(out)), 3);
        assert_string_equal(out, "\xe6\x97\xa5");
        assert_int_equal(text_safe("ab\033", 3, true, out, sizeof(out)), 2);
        assert_string_equal(out, "ab");
}

static void columns_count_what_the_eye_sees(void **state) {
        assert_int_equal(text_columns("abc"), 3);
        assert_int_equal(text_columns("h\xc3\xa9"), 2);
        assert_int_equal(text_columns("e\xcc\x81"), 1);
        assert_int_equal(text_columns("\xe6\x97\xa5\xe6\x9c\xac"), 4);
}

static void fit_is(const char *in, size_t columns, bool utf8, const char *want) {
        char buf[64];

        strcpy(buf, in);
        text_fit(buf, columns, utf8);
        assert_string_equal(buf, want);
        assert_true(text_columns(buf) <= columns);
}

static void fitting_never_exceeds_the_width(void **state) {
        fit_is("abcdef", 6, true, "abcdef");
        fit_is("abcdef", 5, true, "abcd\xe2\x80\xa6");
        fit_is("abcdef", 5, false, "abc..");
        fit_is("abcdef", 1, false, "");
        fit_is("\xe6\x97\xa5\xe6\x97\xa5\xe6\x97\xa5", 4, true, "\xe6\x97\xa5\xe2\x80\xa6");
        for (size_t w = 0; w < 12; w++) {
                char buf[64] = "x\xe6\x97\xa5y\xc3\xa9zzzz";
                text_fit(buf, w, true);
                assert_true(text_columns(buf) <= w || w == 0);
        }
}

static void durations_read_well(void **state) {
        static const struct {
                uint64_t ns;
                const char *text, *brief;
        } rows[] = {
                {350000, "350 us", "0s"},
                {2100000, "2.1 ms", "0s"},
                {400000000, "0.4 s", "0s"},
                {59949999999ull, "59.9 s", "59s"},
                {59960000000ull, "0 m 59 s", "59s"},
                {252000000000ull, "4 m 12 s", "4m12s"},
                {11100000000000ull, "3 h 05 m", "3h05m"},
                {190000000000000ull, "2 d 4 h", "2d4h"},
        };
        char out[TEXT_WORD];

        for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
                assert_string_equal(text_duration(rows[i].ns, out), rows[i].text);
                assert_string_equal(text_duration_short(rows[i].ns, out), rows[i].brief);
        }
}

static void sizes_share_the_unit_of_the_limit(void **state) {
        char out[2 * TEXT_WORD];

        assert_string_equal(text_size(21ull << 20, 512ull << 20, out), "21 / 512 MiB");
        assert_string_equal(text_size(1536ull << 20, 2ull << 30, out), "1.5 / 2 GiB");
        assert_string_equal(text_size(2500ull << 10, 512ull << 20, out), "2.4 / 512 MiB");
        assert_string_equal(text_size(0, 512ull << 20, out), "0 / 512 MiB");
        assert_string_equal(text_size(21ull << 20, 0, out), "21 MiB");
        assert_string_equal(text_size(4096, 0, out), "4 KiB");
        assert_string_equal(text_size(UINT64_MAX, UINT64_MAX, out), out); /* fits */
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(printable_text_is_unchanged),
                cmocka_unit_test(nothing_that_acts_on_a_terminal_passes),
                cmocka_unit_test(invalid_utf8_is_shown_byte_by_byte),
                cmocka_unit_test(without_utf8_only_ascii_comes_out),
                cmocka_unit_test(every_byte_gives_printable_output),
                cmocka_unit_test(a_short_buffer_cuts_whole_characters),
                cmocka_unit_test(columns_count_what_the_eye_sees),
                cmocka_unit_test(fitting_never_exceeds_the_width),
                cmocka_unit_test(durations_read_well),
                cmocka_unit_test(sizes_share_the_unit_of_the_limit),
        };
        cmocka_set_message_output(CM_OUTPUT_TAP);
        return cmocka_run_group_tests(tests, NULL, NULL);
}
