/* SPDX-License-Identifier: Apache-2.0 */
/* Reading a log: whole lines only, backwards, while it grows, is rotated, is cut. */
#include "cli/log_file.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static char path[64];

static int setup(void **state) {
        strcpy(path, "/tmp/log-file-XXXXXX");
        int fd = mkstemp(path);
        close(fd);
        return fd < 0;
}

static int teardown(void **state) {
        unlink(path);
        return 0;
}

static void put(const char *mode, const char *text) {
        FILE *f = fopen(path, mode);

        assert_non_null(f);
        fputs(text, f);
        fclose(f);
}

static struct log_file *open_log(void) {
        struct log_file *f = NULL;

        assert_int_equal(log_file_open(path, &f, NULL), 0);
        return f;
}

static void next_is(struct log_file *f, const char *want) {
        const char *line = NULL;
        size_t n = 0;

        assert_int_equal(log_file_next(f, &line, &n), 1);
        assert_int_equal(n, strlen(want));
        assert_memory_equal(line, want, n);
}

static void next_is_none(struct log_file *f) {
        const char *line;
        size_t n;

        assert_int_equal(log_file_next(f, &line, &n), 0);
}

static void a_torn_line_waits_for_its_end(void **state) {
        struct log_file *f = open_log();

        next_is_none(f);
        put("a", "one\ntw");
        next_is(f, "one");
        next_is_none(f);
        put("a", "o\n\n");
        next_is(f, "two");
        next_is(f, "");
        next_is_none(f);
        log_file_close(f);
}

static void a_rotated_log_is_followed(void **state) {
        char old[80];
        bool cut = true;

        put("w", "one\n");
        struct log_file *f = open_log();
        next_is(f, "one");
        snprintf(old, sizeof(old), "%s.1", path);
        put("a", "two\n");
        rename(path, old);
        next_is(f, "two"); /* the rest of the old file first */
        next_is_none(f);
        assert_int_equal(log_file_renew(f, &cut), 0); /* the new one is not there yet */
        put("w", "three\n");
        assert_int_equal(log_file_renew(f, &cut), 1);
        assert_false(cut);
        next_is(f, "three");
        unlink(old);
        log_file_close(f);
}

static void a_shortened_log_is_read_again_and_said_so(void **state) {
        bool cut = false;

        put("w", "one\ntwo\n");
        struct log_file *f = open_log();
        next_is(f, "one");
        next_is(f, "two");
        next_is_none(f);
        assert_int_equal(log_file_renew(f, &cut), 0);
        put("w", "x\n");
        assert_int_equal(log_file_renew(f, &cut), 1);
        assert_true(cut);
        next_is(f, "x");
        log_file_close(f);
}

struct count {
        unsigned seen, stop_at;
        enum log_file_step how;
};

static enum log_file_step step(const char *line, size_t n, void *user) {
        struct count *c = user;

        return ++c->seen == c->stop_at ? c->how : LOG_FILE_ON;
}

static void numbers(unsigned n, unsigned width) {
        FILE *f = fopen(path, "w");

        for (unsigned i = 1; i <= n; i++)
                fprintf(f, "%0*u\n", (int)width, i);
        fclose(f);
}

static void seek(struct log_file *f, unsigned stop_at, enum log_file_step how) {
        struct count c = {.stop_at = stop_at, .how = how};

        assert_int_equal(log_file_seek_back(f, step, &c), 0);
}

/* Line lengths that put window borders everywhere: inside lines, on newlines, many lines a window. */
static void seeking_back_lands_on_the_line_asked_for(void **state) {
        static const unsigned widths[] = {1, 7, 100, 65535, 65536, 70000};
        char want[70001];

        for (size_t i = 0; i < sizeof(widths) / sizeof(widths[0]); i++) {
                unsigned w = widths[i], n = w < 1000 ? 9 : 5;
                numbers(n, w);
                struct log_file *f = open_log();
                for (unsigned back = 1; back <= n; back++) {
                        snprintf(want, sizeof(want), "%0*u", (int)w, n - back + 1);
                        seek(f, back, LOG_FILE_HERE);
                        next_is(f, want);
                        seek(f, back, LOG_FILE_AFTER);
                        if (back > 1) {
                                snprintf(want, sizeof(want), "%0*u", (int)w, n - back + 2);
                                next_is(f, want);
                        } else {
                                next_is_none(f);
                        }
                }
                seek(f, n + 1, LOG_FILE_HERE); /* more than there are: from the start */
                snprintf(want, sizeof(want), "%0*u", (int)w, 1u);
                next_is(f, want);
                log_file_close(f);
        }
}

static void many_short_lines_are_all_seen(void **state) {
        struct count c = {0};

        numbers(30000, 6);
        struct log_file *f = open_log();
        assert_int_equal(log_file_seek_back(f, step, &c), 0);
        assert_int_equal(c.seen, 30000);
        next_is(f, "000001");
        log_file_close(f);
}

static void a_torn_tail_is_not_a_line_when_seeking(void **state) {
        put("w", "one\ntwo\ntor");
        struct log_file *f = open_log();
        seek(f, 1, LOG_FILE_HERE);
        next_is(f, "two");
        assert_int_equal(log_file_seek_end(f), 0);
        next_is_none(f);
        put("a", "n\n");
        next_is(f, "torn");
        log_file_close(f);
}

static void a_line_without_end_is_cut_and_the_next_one_found(void **state) {
        const char *line;
        size_t n;
        FILE *out = fopen(path, "w");

        for (unsigned i = 0; i < 3 * LOG_FILE_LINE_MAX; i++)
                fputc('x', out);
        fputs("\nnext\n", out);
        fclose(out);
        struct log_file *f = open_log();
        assert_int_equal(log_file_next(f, &line, &n), 1);
        assert_int_equal(n, LOG_FILE_LINE_MAX);
        next_is(f, "next");
        log_file_close(f);
}

static void what_is_no_regular_file_is_refused(void **state) {
        struct log_file *f = NULL;
        struct crew_err err = CREW_ERR_NULL;

        assert_true(log_file_open("/dev/zero", &f, &err) < 0);
        assert_true(log_file_open("/tmp", &f, &err) < 0);
        assert_true(log_file_open("/nowhere/log.jsonl", &f, &err) < 0);
        assert_null(f);
}

static void the_time_of_a_line_is_its_key_t(void **state) {
        const char line[] = "{\"agent\":\"x\",\"path\":\"\\u0022t\\u0022:9\",\"t\":1774000000000000001,\"z\":1}";

        assert_true(log_line_time(line, sizeof(line) - 1) == 1774000000000000001ull);
        assert_true(log_line_time("{}", 2) == 0);
        assert_true(log_line_time("\"t\":99999999999999999999999", 27) == 0);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(a_torn_line_waits_for_its_end, setup, teardown),
                cmocka_unit_test_setup_teardown(a_rotated_log_is_followed, setup, teardown),
                cmocka_unit_test_setup_teardown(a_shortened_log_is_read_again_and_said_so, setup, teardown),
                cmocka_unit_test_setup_teardown(seeking_back_lands_on_the_line_asked_for, setup, teardown),
                cmocka_unit_test_setup_teardown(many_short_lines_are_all_seen, setup, teardown),
                cmocka_unit_test_setup_teardown(a_torn_tail_is_not_a_line_when_seeking, setup, teardown),
                cmocka_unit_test_setup_teardown(a_line_without_end_is_cut_and_the_next_one_found, setup, teardown),
                cmocka_unit_test(what_is_no_regular_file_is_refused),
                cmocka_unit_test(the_time_of_a_line_is_its_key_t),
        };
        cmocka_set_message_output(CM_OUTPUT_TAP);
        return cmocka_run_group_tests(tests, NULL, NULL);
}
