/* SPDX-License-Identifier: Apache-2.0 */
/* What was put in is found, as what it was, and nothing else is. */
#include "cli/path_set.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

static enum path_set_kind find(const struct path_set *s, const char *path) {
        return path_set_find(s, path, strlen(path));
}

static void what_was_put_in_is_found(void **state) {
        _cleanup_path_set_ struct path_set *s = path_set_new();
        static const char *const others[] = {"", "a/", "/a", "aa", "b", "a/bc", "a/b/c"};

        (void)state;
        assert_non_null(s);
        assert_int_equal(find(s, "a"), PATH_SET_NONE);
        assert_int_equal(path_set_add(s, "a", 1, PATH_SET_DIR), 0);
        assert_int_equal(path_set_add(s, "a/b", 3, PATH_SET_OTHER), 0);
        assert_int_equal(find(s, "a"), PATH_SET_DIR);
        assert_int_equal(find(s, "a/b"), PATH_SET_OTHER);
        assert_int_equal(path_set_find(s, "a/b", 1), PATH_SET_DIR); /* of a path, what it begins with */
        for (size_t i = 0; i < ELEMENTSOF(others); i++)
                assert_int_equal(find(s, others[i]), PATH_SET_NONE);
}

static void it_grows(void **state) {
        _cleanup_path_set_ struct path_set *s = path_set_new();
        char path[32];

        (void)state;
        for (unsigned i = 0; i < 100000; i++) {
                int n = snprintf(path, sizeof(path), "d/%u", i);
                assert_int_equal(path_set_find(s, path, (size_t)n), PATH_SET_NONE);
                assert_int_equal(path_set_add(s, path, (size_t)n, i % 3 ? PATH_SET_OTHER : PATH_SET_DIR), 0);
        }
        for (unsigned i = 0; i < 100000; i++) {
                int n = snprintf(path, sizeof(path), "d/%u", i);
                assert_int_equal(path_set_find(s, path, (size_t)n), i % 3 ? PATH_SET_OTHER : PATH_SET_DIR);
        }
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(what_was_put_in_is_found),
                cmocka_unit_test(it_grows),
        };

        cmocka_set_message_output(CM_OUTPUT_TAP);
        return cmocka_run_group_tests(tests, NULL, NULL);
}
