/* SPDX-License-Identifier: Apache-2.0 */
#include "supervisor/audit/audit_internal.h"

#include "stream_dir.h"

#include <sys/stat.h>

static uint64_t now_ns;

static uint64_t test_clock(void) {
        return now_ns;
}

static void repetitions_become_one_line_with_the_count(void **state) {
        struct audit_stream *s = opened();
        uint64_t lines;

        audit_set_clock(s, test_clock);
        for (int i = 0; i < 1000; i++)
                assert_int_equal(audit_observe(s, denied("/etc/shadow"), 5), 0);
        assert_int_equal(audit_observe(s, denied("/etc/passwd"), 1), 0);
        assert_int_equal(audit_count(s, RECORD_FILE_DENIED), 5001);
        audit_sync(s);
        assert_int_equal(counted("file.denied", &lines), 6);
        assert_int_equal(lines, 2);
        now_ns += AUDIT_FOLD_WINDOW_NS;
        audit_sync(s);
        assert_int_equal(counted("file.denied", &lines), 5001);
        assert_int_equal(lines, 3);
        assert_int_equal(audit_count(s, RECORD_FILE_DENIED), 5001);
        audit_close(s);
        assert_int_equal(verified().bad_seq, 0);
}

static void the_name_of_the_process_does_not_defeat_folding(void **state) {
        struct audit_stream *s = opened();
        uint64_t lines;

        for (int i = 0; i < 500; i++) {
                char comm[16];
                denied("/etc/shadow");
                snprintf(comm, sizeof(comm), "p%d", i);
                record_str(&rec, "comm", comm);
                record_int(&rec, "pid", i);
                assert_int_equal(audit_observe(s, &rec, 1), 0);
        }
        audit_close(s);
        assert_int_equal(counted("file.denied", &lines), 500);
        assert_int_equal(lines, 2);
}

static void ports_tell_connections_apart_and_bytes_of_equal_ones_add_up(void **state) {
        struct audit_stream *s = opened();
        uint64_t lines;

        for (int i = 0; i < 300; i++) {
                record_init(&rec, RECORD_NETWORK_CLOSED, "gateway");
                record_str(&rec, "host", "x.test");
                record_int(&rec, "port", i % 3 == 0 ? 80 : 443);
                record_int(&rec, "conn", i);
                record_int(&rec, "bytes_out", 1000 + i);
                record_int(&rec, "bytes_in", 7);
                assert_int_equal(audit_observe(s, &rec, 1), 0);
        }
        audit_close(s);
        assert_int_equal(counted("network.closed", &lines), 300);
        assert_int_equal(lines, 4);
        assert_int_equal(summed("bytes_in"), 2100);
        assert_int_equal(summed("bytes_out"), 300 * 1000 + 299 * 300 / 2);
}

/* Of two the second has a line of its own, with its own number; of more, the line with the count has the last one's. */
static void what_is_folded_has_the_number_of_the_last(void **state) {
        for (uint64_t n = 2; n <= 3; n++) {
                struct audit_stream *s = opened();
                uint64_t lines, before = summed("conn");

                for (uint64_t conn = 1; conn <= n; conn++) {
                        record_init(&rec, RECORD_NETWORK_ALLOWED, "gateway");
                        record_str(&rec, "host", "x.test");
                        record_int(&rec, "port", 80);
                        record_int(&rec, "conn", (int64_t)conn);
                        assert_int_equal(audit_observe(s, &rec, 1), 0);
                }
                audit_close(s);
                assert_int_equal(summed("conn") - before, 1 + n);
                counted("network.allowed", &lines);
                assert_int_equal(lines, 2 * (n - 1));
        }
}

static void closing_and_flushing_write_what_is_pending(void **state) {
        struct audit_stream *s = opened();
        uint64_t lines;

        audit_observe(s, denied("/a"), 1);
        audit_observe(s, denied("/a"), 7);
        assert_int_equal(audit_fold_flush(s), 0);
        record_init(&rec, RECORD_TERMINATED, "crewd");
        audit_append_durable(s, &rec, NULL);
        assert_int_equal(counted("file.denied", &lines), 8);
        audit_observe(s, denied("/a"), 1);
        audit_observe(s, denied("/a"), 2);
        audit_close(s);
        assert_int_equal(counted("file.denied", &lines), 11);
        assert_int_equal(verified().bad_seq, 0);
}

/* Different paths without end: lines up to the budget, then counts; the sum is exact, the file and memory are bounded. */
static void a_flood_of_different_paths_is_counted_exactly(void **state) {
        struct audit_stream *s = opened();
        uint64_t lines, total = 0;
        char path[64];
        struct stat st;

        audit_set_clock(s, test_clock);
        for (unsigned i = 0; i < 300000; i++) {
                snprintf(path, sizeof(path), "/no/%u", i % 100000);
                uint32_t count = i % 3 + 1;
                assert_int_equal(audit_observe(s, denied(path), count), 0);
                total += count;
                now_ns += 10000; /* 100,000 a second */
                if (i % 10000 == 0)
                        assert_int_equal(audit_sync(s), 0);
                assert_true(s->fold.bytes <= AUDIT_FOLD_BYTES);
        }
        audit_close(s);
        assert_int_equal(counted("file.denied", &lines), total);
        assert_true(lines < AUDIT_FOLD_BURST + 10 * AUDIT_FOLD_RATE);
        assert_int_equal(stat(log_path(), &st), 0);
        assert_true(st.st_size < 8 << 20);
        assert_int_equal(verified().bad_seq, 0);
}

static void the_budget_comes_back_with_time(void **state) {
        struct audit_stream *s = opened();
        uint64_t lines, before;
        char path[64];

        audit_set_clock(s, test_clock);
        for (unsigned i = 0; i < 2 * AUDIT_FOLD_BURST; i++) {
                snprintf(path, sizeof(path), "/no/%u", i);
                audit_observe(s, denied(path), 1);
        }
        now_ns += AUDIT_FOLD_WINDOW_NS;
        audit_sync(s);
        assert_int_equal(counted("file.denied", &before), 2 * AUDIT_FOLD_BURST);
        now_ns += 10 * (uint64_t)AUDIT_FOLD_WINDOW_NS;
        for (unsigned i = 0; i < 100; i++) {
                snprintf(path, sizeof(path), "/again/%u", i);
                audit_observe(s, denied(path), 1);
        }
        audit_close(s);
        assert_int_equal(counted("file.denied", &lines), 2 * AUDIT_FOLD_BURST + 100);
        assert_int_equal(lines, before + 100);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                STREAM_TEST(repetitions_become_one_line_with_the_count),
                STREAM_TEST(the_name_of_the_process_does_not_defeat_folding),
                STREAM_TEST(ports_tell_connections_apart_and_bytes_of_equal_ones_add_up),
                STREAM_TEST(what_is_folded_has_the_number_of_the_last),
                STREAM_TEST(closing_and_flushing_write_what_is_pending),
                STREAM_TEST(a_flood_of_different_paths_is_counted_exactly),
                STREAM_TEST(the_budget_comes_back_with_time),
        };
        cmocka_set_message_output(CM_OUTPUT_TAP);
        return cmocka_run_group_tests(tests, NULL, NULL);
}
