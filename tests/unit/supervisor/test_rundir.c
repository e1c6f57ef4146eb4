/* SPDX-License-Identifier: Apache-2.0 */
/* The lock of a crew, and what is found after an end that was none. */
#include "supervisor/rundir.h"

#include "test.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static char top[64];

static int setup(void **state) {
        (void)state;
        snprintf(top, sizeof(top), "/tmp/crewd-rundir-XXXXXX");
        return mkdtemp(top) ? 0 : -1;
}

static int teardown(void **state) {
        char command[128];
        (void)state;
        snprintf(command, sizeof(command), "rm -rf '%s'", top);
        return system(command);
}

static void a_second_start_says_which_pid_runs(void **state) {
        struct rundir *a, *b = NULL;
        struct crew_err err = CREW_ERR_NULL;
        char pid[32];
        (void)state;
        assert_int_equal(rundir_open(top, "crew", &a, &err), RUNDIR_TAKEN);
        assert_int_equal(rundir_open(top, "crew", &b, &err), RUNDIR_BUSY);
        snprintf(pid, sizeof(pid), "process %d", (int)getpid());
        assert_non_null(strstr(err.msg, pid));
        assert_null(b);
        a = rundir_close(a);
        assert_int_equal(rundir_open(top, "crew", &b, &err), RUNDIR_TAKEN);
        rundir_close(b);
}

static void crews_do_not_exclude_each_other(void **state) {
        struct rundir *a, *b;
        (void)state;
        assert_int_equal(rundir_open(top, "one", &a, NULL), RUNDIR_TAKEN);
        assert_int_equal(rundir_open(top, "two", &b, NULL), RUNDIR_TAKEN);
        rundir_close(a);
        rundir_close(b);
}

static void the_directories_are_private(void **state) {
        struct rundir *r;
        struct stat st;
        (void)state;
        assert_int_equal(rundir_open(top, "crew", &r, NULL), RUNDIR_TAKEN);
        assert_int_equal(stat(rundir_path(r), &st), 0);
        assert_int_equal(st.st_mode & 0777, 0700);
        assert_int_equal(stat(rundir_links(r), &st), 0);
        assert_int_equal(st.st_mode & 0777, 0700);
        rundir_close(r);
}

static void an_end_in_order_leaves_nothing_to_report(void **state) {
        struct rundir *r;
        (void)state;
        assert_int_equal(rundir_open(top, "crew", &r, NULL), RUNDIR_TAKEN);
        rundir_close(r);
        assert_int_equal(rundir_open(top, "crew", &r, NULL), RUNDIR_TAKEN);
        assert_int_equal(rundir_predecessor(r), 0);
        assert_string_equal(rundir_found(r), "");
        rundir_close(r);
}

static void a_killed_owner_is_named_and_swept(void **state) {
        struct rundir *r;
        char path[128];
        int status;
        (void)state;
        pid_t pid = fork();
        if (pid == 0) {
                if (rundir_open(top, "crew", &r, NULL) != RUNDIR_TAKEN)
                        _exit(1);
                snprintf(path, sizeof(path), "%s/3.1", rundir_links(r));
                close(open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
                snprintf(path, sizeof(path), "%s/control.sock", rundir_path(r));
                close(open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
                _exit(0); /* no rundir_close() */
        }
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_int_equal(status, 0);
        assert_int_equal(rundir_open(top, "crew", &r, NULL), RUNDIR_TAKEN);
        assert_int_equal(rundir_predecessor(r), pid);
        assert_non_null(strstr(rundir_found(r), "control socket and 1 link socket,"));
        snprintf(path, sizeof(path), "%s/control.sock", rundir_path(r));
        assert_int_equal(access(path, F_OK), -1);
        rundir_close(r);
}

static void a_directory_that_others_can_write_is_refused(void **state) {
        struct rundir *r = NULL;
        char path[128];
        (void)state;
        snprintf(path, sizeof(path), "%s/crew", top);
        assert_int_equal(mkdir(path, 0700), 0);
        assert_int_equal(chmod(path, 0777), 0);
        assert_true(rundir_open(top, "crew", &r, NULL) < 0);
        assert_null(r);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(a_second_start_says_which_pid_runs, setup, teardown),
                cmocka_unit_test_setup_teardown(crews_do_not_exclude_each_other, setup, teardown),
                cmocka_unit_test_setup_teardown(the_directories_are_private, setup, teardown),
                cmocka_unit_test_setup_teardown(an_end_in_order_leaves_nothing_to_report, setup, teardown),
                cmocka_unit_test_setup_teardown(a_killed_owner_is_named_and_swept, setup, teardown),
                cmocka_unit_test_setup_teardown(a_directory_that_others_can_write_is_refused, setup, teardown),
        };
        cmocka_set_message_output(CM_OUTPUT_TAP);
        return cmocka_run_group_tests(tests, NULL, NULL);
}
