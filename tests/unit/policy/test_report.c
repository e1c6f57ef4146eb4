/* SPDX-License-Identifier: Apache-2.0 */
/* How problems look: the place, the line, a caret, the hint; nothing of the file reaches the terminal raw. */
#include "support.h"

#include "common/util.h"

#include <string.h>

static char *printed(const struct policy_report *r, bool colour) {
        char *out = NULL;
        size_t n = 0;
        FILE *f = open_memstream(&out, &n);

        assert_non_null(f);
        policy_report_print(r, f, colour);
        fclose(f);
        return out;
}

/* Loads text as a file in a scratch directory and compares what is printed; DIR stands for that directory. */
static void prints(const char *yaml, const char *expected) {
        struct scratch s;
        struct loaded l;
        char want[16384], *dir;

        scratch_init(&s);
        load_file(&l, scratch_file(&s, "bad.yaml", yaml), NULL, NULL);
        _cleanup_free_ char *got = printed(&l.report, false);
        want[0] = '\0';
        while ((dir = strstr(expected, "DIR"))) {
                snprintf(want + strlen(want), sizeof(want) - strlen(want), "%.*s%s", (int)(dir - expected), expected,
                         s.dir);
                expected = dir + 3;
        }
        snprintf(want + strlen(want), sizeof(want) - strlen(want), "%s", expected);
        assert_string_equal(got, want);
        loaded_fini(&l);
        scratch_fini(&s);
}

static void an_unknown_key_is_underlined(void **state) {
        prints("agent: x\nsandbox:\n  mode: deny-by-default\n  filesytem:\n    read: []\n",
               "DIR/bad.yaml:4:3: unknown key 'filesytem' under sandbox\n"
               "    4 |   filesytem:\n"
               "      |   ^~~~~~~~~ did you mean 'filesystem'?\n"
               "1 error\n");
}

static void warnings_and_errors_are_counted(void **state) {
        prints("agent: x\nsandbox:\n  mode: deny-by-default\n  ipc: {message_validation: relaxed}\n  limits: {cpu: "
               "\"fast\"}\n",
               "DIR/bad.yaml:4:29: warning: messages are always checked strictly; 'relaxed' changes nothing\n"
               "    4 |   ipc: {message_validation: relaxed}\n"
               "      |                             ^~~~~~~ write strict\n"
               "DIR/bad.yaml:5:17: 'cpu': expected a number such as 0.5 or 2, or none, got 'fast'\n"
               "    5 |   limits: {cpu: \"fast\"}\n"
               "      |                 ^~~~~~\n"
               "1 error, 1 warning\n");
}

static void a_tab_does_not_shift_the_caret(void **state) {
        prints("agent: x\nsandbox:\n\tmode: y\n", "DIR/bad.yaml:3:1: a tab cannot indent YAML\n"
                                                  "    3 |  mode: y\n"
                                                  "      | ^ use spaces\n"
                                                  "1 error\n");
}

static void control_characters_do_not_reach_the_terminal(void **state) {
        struct policy_report r = {0};

        policy_report_add(&r, false, "x\033[2J.yaml", 0, 0, "hint\r\n", "text \033]0;owned\007 \xc2\x9b[31m \xff");
        _cleanup_free_ char *got = printed(&r, false);
        for (const char *c = got; *c; c++)
                assert_true(*c == '\n' || ((unsigned char)*c >= 0x20 && *c != 0x7f));
        assert_null(strstr(got, "\xc2\x9b"));
        policy_report_fini(&r);
}

static void source_lines_are_printed_without_control_characters(void **state) {
        struct scratch s;
        struct policy_report r = {0};

        scratch_init(&s);
        policy_report_add(&r, false, scratch_file(&s, "e.yaml", "a: \033[31mred\n\x80\x80\x80: x\n"), 1, 4, "", "x");
        policy_report_add(&r, false, scratch_path(&s, "e.yaml"), 2, 2, "", "y");
        policy_report_add(&r, false, scratch_path(&s, "e.yaml"), 99, 1, "past the end", "z");
        _cleanup_free_ char *got = printed(&r, false);
        assert_null(strchr(got, '\033'));
        assert_non_null(strstr(got, "[31mred"));
        assert_non_null(strstr(got, "past the end"));
        policy_report_fini(&r);
        scratch_fini(&s);
}

static void a_long_line_is_shown_around_the_place(void **state) {
        struct scratch s;
        struct policy_report r = {0};
        char line[5000];

        scratch_init(&s);
        memset(line, 'x', sizeof(line));
        memcpy(line + 3000, "HERE", 4);
        line[sizeof(line) - 1] = '\0';
        policy_report_add(&r, false, scratch_file(&s, "long.yaml", line), 1, 3001, "", "x");
        _cleanup_free_ char *got = printed(&r, false);
        assert_non_null(strstr(got, "HERE"));
        for (char *l = strtok(got, "\n"); l; l = strtok(NULL, "\n"))
                assert_true(strlen(l) < 160 || strstr(l, s.dir));
        policy_report_fini(&r);
        scratch_fini(&s);
}

static void colour_only_when_asked(void **state) {
        struct policy_report r = {0};

        policy_report_add(&r, true, "f", 0, 0, "", "w");
        _cleanup_free_ char *plain = printed(&r, false), *colour = printed(&r, true);
        assert_null(strchr(plain, '\033'));
        assert_non_null(strchr(colour, '\033'));
        policy_report_fini(&r);
}

static void an_empty_report_prints_nothing(void **state) {
        struct policy_report r = {0};
        _cleanup_free_ char *got = printed(&r, false);

        assert_string_equal(got, "");
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(an_unknown_key_is_underlined),
                cmocka_unit_test(warnings_and_errors_are_counted),
                cmocka_unit_test(a_tab_does_not_shift_the_caret),
                cmocka_unit_test(control_characters_do_not_reach_the_terminal),
                cmocka_unit_test(source_lines_are_printed_without_control_characters),
                cmocka_unit_test(a_long_line_is_shown_around_the_place),
                cmocka_unit_test(colour_only_when_asked),
                cmocka_unit_test(an_empty_report_prints_nothing),
        };

        cmocka_set_message_output(CM_OUTPUT_TAP);
        return cmocka_run_group_tests(tests, NULL, NULL);
}
