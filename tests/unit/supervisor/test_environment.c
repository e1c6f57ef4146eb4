/* SPDX-License-Identifier: Apache-2.0 */
#include "supervisor/environment.h"

#include "common/util.h"
#include "test.h"

#include <string.h>

extern char **environ;

static void a_wiped_variable_is_gone_from_memory_and_the_kept_ones_are_found(void **state) {
        char secret[] = "API_KEY=s3cr3t", home[] = "HOME=/home/x", own[] = "CREWD_HOME=/y", last[] = "LAST=s3cr3t";
        char *words[] = {secret, home, own, last, NULL}, **before = environ;

        (void)state;
        environ = words;
        environment_wipe();
        assert_string_equal(getenv("HOME"), "/home/x");
        assert_string_equal(getenv("CREWD_HOME"), "/y");
        assert_null(getenv("API_KEY"));
        for (size_t i = 0; i + 1 < sizeof(secret); i++)
                assert_int_equal(secret[i], 0);
        for (size_t i = 0; i + 1 < sizeof(last); i++)
                assert_int_equal(last[i], 0);
        environ = before;
}

static void helpers_get_what_is_ours_alone(void **state) {
        char secret[] = "API_KEY=s3cr3t", home[] = "HOME=/home/x", own[] = "CREWD_HOME=/y", near[] = "XCREWD_A=1";
        char *words[] = {secret, home, own, near, NULL}, **before = environ;

        (void)state;
        environ = words;
        const char **got = environment_for_helpers();
        assert_string_equal(got[0], "CREWD_HOME=/y");
        assert_null(got[1]);
        environ = before;
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(a_wiped_variable_is_gone_from_memory_and_the_kept_ones_are_found),
                cmocka_unit_test(helpers_get_what_is_ours_alone),
        };

        cmocka_set_message_output(CM_OUTPUT_TAP);
        return cmocka_run_group_tests(tests, NULL, NULL);
}
