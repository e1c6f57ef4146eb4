/* SPDX-License-Identifier: Apache-2.0 */
/* Tables: aligned, safe, and the same whatever a pipe's width is. */
#include "cli/table.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static const struct table_column columns[] = {{"NAME", false, 0, true}, {"N", true, 0, false}, {"NOTE", false, 1, false}};

static char *print(const struct table *t) {
        char *text = NULL;
        size_t n = 0;
        struct term term = {.out = open_memstream(&text, &n), .utf8 = true};

        table_print(t, &term, "  ");
        fclose(term.out);
        return text;
}

static void a_note_stands_under_its_row(void **state) {
        struct table *t = table_new(columns, 3);

        (void)state;
        table_note(t, "of no row: not shown");
        for (int i = 0; i < 3; i++) {
                table_cell(t, TERM_PLAIN, "a");
                table_cell(t, TERM_PLAIN, "%d", i);
                table_cell(t, TERM_PLAIN, "x");
                table_note(t, i == 1 ? "operator: a\x1b[31m\nb, longer than any row" : "");
        }
        char *text = print(t);
        assert_string_equal(text, "  NAME  N  NOTE\n"
                                  "  a     0  x\n"
                                  "  a     1  x\n"
                                  "    operator: a\\x1b[31m\\nb, longer than any row\n"
                                  "  a     2  x\n");
        free(text);
        table_free(t);
}

static void columns_are_aligned_and_nothing_trails(void **state) {
        struct table *t = table_new(columns, 3);

        table_cell(t, TERM_PLAIN, "a");
        table_cell(t, TERM_PLAIN, "%d", 5);
        table_cell(t, TERM_RED, "x");
        table_cell(t, TERM_PLAIN, "longer");
        table_cell(t, TERM_PLAIN, "%d", 1000);
        table_cell(t, TERM_PLAIN, "%s", "");
        char *text = print(t);
        assert_string_equal(text, "  NAME       N  NOTE\n"
                                  "  a          5  x\n"
                                  "  longer  1000\n");
        free(text);
        table_free(t);
}

static void cells_are_made_safe(void **state) {
        struct table *t = table_new(columns, 3);

        table_cell(t, TERM_PLAIN, "\033[2J");
        table_cell(t, TERM_PLAIN, "1");
        table_cell(t, TERM_PLAIN, "a\nb");
        char *text = print(t);
        assert_null(strchr(text, '\033'));
        assert_non_null(strstr(text, "\\x1b[2J"));
        assert_non_null(strstr(text, "a\\nb\n"));
        free(text);
        table_free(t);
}

static void wide_characters_keep_the_alignment(void **state) {
        struct table *t = table_new(columns, 3);

        table_cell(t, TERM_PLAIN, "\xe6\x97\xa5\xe6\x9c\xac\xe6\x97\xa5");
        table_cell(t, TERM_PLAIN, "1");
        table_cell(t, TERM_PLAIN, "x");
        char *text = print(t);
        assert_string_equal(text, "  NAME    N  NOTE\n  \xe6\x97\xa5\xe6\x9c\xac\xe6\x97\xa5  1  x\n");
        free(text);
        table_free(t);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(a_note_stands_under_its_row),
                cmocka_unit_test(columns_are_aligned_and_nothing_trails),
                cmocka_unit_test(cells_are_made_safe),
                cmocka_unit_test(wide_characters_keep_the_alignment),
        };
        cmocka_set_message_output(CM_OUTPUT_TAP);
        return cmocka_run_group_tests(tests, NULL, NULL);
}
