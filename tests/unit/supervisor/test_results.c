/* SPDX-License-Identifier: Apache-2.0 */
/* Results on disk: whole, private, of the last run only. */
#include "test.h"

#include "supervisor/results.h"

#include "common/util.h"

#include <string.h>
#include <sys/stat.h>

static char top[64], dir[96];

static int setup(void **state) {
        strcpy(top, "/tmp/results-XXXXXX");
        if (!mkdtemp(top))
                return -1;
        snprintf(dir, sizeof(dir), "%s/out", top);
        return 0;
}

static int teardown(void **state) {
        char command[96];

        snprintf(command, sizeof(command), "rm -r %s", top);
        return system(command);
}

static void stored_is(const char *task, const char *want) {
        _cleanup_free_ char *text = NULL;
        char path[160];
        struct stat st;

        snprintf(path, sizeof(path), "%s/%s.json", dir, task);
        if (!want) {
                assert_int_not_equal(stat(path, &st), 0);
                return;
        }
        assert_int_equal(stat(path, &st), 0);
        assert_int_equal(st.st_mode & 07777, 0600);
        assert_int_equal(crew_read_file(path, 1000, &text, NULL, NULL), 0);
        assert_string_equal(text, want);
}

static void a_result_is_stored_and_replaced(void **state) {
        struct stat st;

        assert_int_equal(results_begin(dir, NULL), 0);
        assert_int_equal(stat(dir, &st), 0);
        assert_int_equal(st.st_mode & 07777, 0700);
        assert_int_equal(results_store(dir, "collect", "{\"a\":1}", 7, NULL), 0);
        stored_is("collect", "{\"a\":1}");
        assert_int_equal(results_store(dir, "collect", "2", 1, NULL), 0);
        stored_is("collect", "2");
}

static void a_run_removes_the_results_of_the_one_before(void **state) {
        assert_int_equal(results_begin(dir, NULL), 0);
        assert_int_equal(results_store(dir, "collect", "1", 1, NULL), 0);
        assert_int_equal(results_begin(dir, NULL), 0);
        stored_is("collect", NULL);
}

static void a_task_cannot_name_another_place(void **state) {
        static const char *const bad[] = {"../x", "a/b", "", ".", ".collect"};

        assert_int_equal(results_begin(dir, NULL), 0);
        for (size_t i = 0; i < ELEMENTSOF(bad); i++)
                assert_true(results_store(dir, bad[i], "1", 1, NULL) < 0);
}

static void a_link_in_place_of_the_directory_is_refused(void **state) {
        struct crew_err err = CREW_ERR_NULL;

        assert_int_equal(symlink("/tmp", dir), 0);
        assert_true(results_begin(dir, &err) < 0);
        assert_true(results_store(dir, "collect", "1", 1, &err) < 0);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(a_result_is_stored_and_replaced, setup, teardown),
                cmocka_unit_test_setup_teardown(a_run_removes_the_results_of_the_one_before, setup, teardown),
                cmocka_unit_test_setup_teardown(a_task_cannot_name_another_place, setup, teardown),
                cmocka_unit_test_setup_teardown(a_link_in_place_of_the_directory_is_refused, setup, teardown),
        };
        cmocka_set_message_output(CM_OUTPUT_TAP);
        return cmocka_run_group_tests(tests, NULL, NULL);
}
