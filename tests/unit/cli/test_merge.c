/* SPDX-License-Identifier: Apache-2.0 */
/* Several streams as one: by time, filtered, bounded, followed. */
#include "cli/merge.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

static char dir[64];
static char seen[512]; /* "a1 b2 " */

static int setup(void **state) {
        char path[128];

        strcpy(dir, "/tmp/merge-XXXXXX");
        if (!mkdtemp(dir))
                return -1;
        for (int i = 0; i < 2; i++) {
                snprintf(path, sizeof(path), "%s/%c", dir, 'a' + i);
                if (mkdir(path, 0700) < 0)
                        return -1;
        }
        seen[0] = '\0';
        return 0;
}

static int teardown(void **state) {
        char command[128];

        snprintf(command, sizeof(command), "rm -r %s", dir);
        return system(command);
}

static void add(char agent, unsigned t, const char *kind) {
        char path[128];

        snprintf(path, sizeof(path), "%s/%c/log.jsonl", dir, agent);
        FILE *f = fopen(path, "a");
        assert_non_null(f);
        fprintf(f, "{\"agent\":\"%c\",\"kind\":\"%s\",\"t\":%u}\n", agent, kind, t);
        fclose(f);
}

static bool emit(const char *agent, const char *line, size_t n, void *user) {
        size_t used = strlen(seen);

        snprintf(seen + used, sizeof(seen) - used, "%s%llu ", agent, (unsigned long long)log_line_time(line, n));
        return true;
}

static void cut(const char *agent, void *user) {
        strcat(seen, "cut ");
}

static const struct merge_sink sink = {.emit = emit, .cut = cut};

static struct merge *open_both(const struct merge_filter *filter) {
        struct merge *m = merge_new(filter);

        assert_int_equal(merge_add(m, dir, "a", NULL), 0);
        assert_int_equal(merge_add(m, dir, "b", NULL), 0);
        return m;
}

static void run(struct merge *m, const char *want) {
        seen[0] = '\0';
        assert_int_equal(merge_run(m, &sink, NULL), 0);
        assert_string_equal(seen, want);
}

static void some_records(void) {
        add('a', 1, "agent.ready");
        add('b', 2, "file.denied");
        add('a', 3, "file.denied");
        add('a', 4, "task.started");
        add('b', 5, "agent.ready");
}

static void records_come_by_time(void **state) {
        some_records();
        struct merge *m = open_both(&(struct merge_filter){0});
        run(m, "a1 b2 a3 a4 b5 ");
        run(m, "");
        add('b', 7, "agent.ready");
        add('a', 6, "agent.ready");
        run(m, "a6 b7 ");
        merge_free(m);
}

static void last_counts_over_all_streams(void **state) {
        some_records();
        for (unsigned last = 0; last <= 6; last++) {
                static const char *const want[] = {"", "b5 ", "a4 b5 ", "a3 a4 b5 ", "b2 a3 a4 b5 ", "a1 b2 a3 a4 b5 "};
                struct merge *m = open_both(&(struct merge_filter){.last = last, .bounded = true});
                run(m, want[last < 6 ? last : 5]);
                merge_free(m);
        }
}

static void last_bounds_the_past_and_not_the_future(void **state) {
        some_records();
        struct merge *m = open_both(&(struct merge_filter){.last = 1, .bounded = true});
        run(m, "b5 ");
        add('a', 6, "agent.ready");
        add('a', 7, "agent.ready");
        run(m, "a6 a7 ");
        merge_free(m);
}

static void filters_count_before_the_bound(void **state) {
        some_records();
        struct merge *m = open_both(&(struct merge_filter){.filter = "denied", .last = 1, .bounded = true});
        run(m, "a3 ");
        merge_free(m);
        m = open_both(&(struct merge_filter){.filter = "denied"});
        run(m, "b2 a3 ");
        merge_free(m);
}

static void since_drops_what_is_older(void **state) {
        some_records();
        struct merge *m = open_both(&(struct merge_filter){.since_ns = 3});
        run(m, "a3 a4 b5 ");
        merge_free(m);
        m = open_both(&(struct merge_filter){.since_ns = 100});
        run(m, "");
        merge_free(m);
}

static void a_missing_stream_is_an_error(void **state) {
        struct merge *m = merge_new(&(struct merge_filter){0});
        struct crew_err err = CREW_ERR_NULL;

        assert_true(merge_add(m, dir, "a", &err) < 0);
        assert_non_null(strstr(err.msg, "log.jsonl"));
        merge_free(m);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(records_come_by_time, setup, teardown),
                cmocka_unit_test_setup_teardown(last_counts_over_all_streams, setup, teardown),
                cmocka_unit_test_setup_teardown(last_bounds_the_past_and_not_the_future, setup, teardown),
                cmocka_unit_test_setup_teardown(filters_count_before_the_bound, setup, teardown),
                cmocka_unit_test_setup_teardown(since_drops_what_is_older, setup, teardown),
                cmocka_unit_test_setup_teardown(a_missing_stream_is_an_error, setup, teardown),
        };
        cmocka_set_message_output(CM_OUTPUT_TAP);
        return cmocka_run_group_tests(tests, NULL, NULL);
}
