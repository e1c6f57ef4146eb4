/* SPDX-License-Identifier: Apache-2.0 */
/* Each property is tried in a child that confined itself; the same call is made before, as the control. */
#include "common/confine.h"
#include "common/util.h"
#include "tests/unit/skipped.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include <cmocka.h>

static int open_etc(void) {
        int fd = open("/etc/passwd", O_RDONLY);
        if (fd < 0)
                return errno;
        close(fd);
        return 0;
}

static int inet_socket(void) {
        int fd = socket(AF_INET, SOCK_STREAM, 0);
        if (fd < 0)
                return errno;
        close(fd);
        return 0;
}

static int unix_socket(void) {
        int fd = socket(AF_UNIX, SOCK_STREAM, 0);
        if (fd < 0)
                return errno;
        close(fd);
        return 0;
}

static int ask_uid(void) {
        return syscall(SYS_getuid) < 0 ? errno : 0;
}

static int make_file(void) {
        int fd = open("/tmp", O_TMPFILE | O_WRONLY, 0600);
        if (fd < 0)
                return errno;
        close(fd);
        return 0;
}

static int exec_nothing(void) {
        char *const none[] = {NULL};

        execve("", none, none);
        return errno == ENOENT ? 0 : errno; /* as far as looking for the program */
}

/* errno of attempt() in a child after confine_self(), c NULL: confine_self_to_lookups(); 200 when confining failed. */
static int confined(const struct confine *c, int (*attempt)(void)) {
        int status;
        pid_t pid = fork();

        if (pid == 0) {
                struct crew_err err = CREW_ERR_NULL;
                int r = c ? confine_self(c, &err) : confine_self_to_lookups(&err);
                _exit(r < 0 ? 200 : attempt());
        }
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_true(WIFEXITED(status));
        return WEXITSTATUS(status);
}

static void no_files_closes_the_file_system(void **state) {
        const struct confine c = {.no_files = true};

        assert_int_equal(open_etc(), 0);
        assert_int_equal(confined(&c, open_etc), EACCES);
}

static void unix_sockets_only_refuses_the_network(void **state) {
        const struct confine c = {.unix_sockets_only = true};

        assert_int_equal(inet_socket(), 0);
        assert_int_equal(confined(&c, inet_socket), EAFNOSUPPORT);
        assert_int_equal(confined(&c, unix_socket), 0);
}

static void a_call_outside_the_list_is_refused(void **state) {
        static const int few[] = {SYS_exit_group, SYS_close, SYS_openat};
        const struct confine c = {.syscalls = few, .n_syscalls = ELEMENTSOF(few)};

        assert_int_equal(ask_uid(), 0);
        assert_int_equal(confined(&c, ask_uid), EPERM);
        assert_int_equal(confined(&c, open_etc), 0);
}

static void a_denied_call_is_refused_and_others_go_on(void **state) {
        static const int denied[] = {SYS_getuid};
        const struct confine c = {.denied = denied, .n_denied = 1};

        assert_int_equal(confined(&c, ask_uid), EPERM);
        assert_int_equal(confined(&c, inet_socket), 0);
}

static int regain_root(void) {
        return setuid(0) < 0 ? errno : 0;
}

static void the_identity_is_given_up_for_good(void **state) {
        const struct confine c = {.uid = 65534, .gid = 65534};

        if (geteuid() != 0)
                skip_because("not root: switching the user needs CAP_SETUID");
        assert_int_equal(confined(&c, regain_root), EPERM);
}

static void what_looks_names_up_reads_and_asks_and_nothing_more(void **state) {
        assert_int_equal(make_file(), 0);
        assert_int_equal(exec_nothing(), 0);
        assert_int_equal(confined(NULL, open_etc), 0);
        assert_int_equal(confined(NULL, inet_socket), 0);
        assert_int_equal(confined(NULL, make_file), EACCES);
        assert_int_equal(confined(NULL, exec_nothing), EPERM);
        if (geteuid() == 0)
                assert_int_equal(confined(NULL, regain_root), EPERM);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(no_files_closes_the_file_system),
                cmocka_unit_test(unix_sockets_only_refuses_the_network),
                cmocka_unit_test(a_call_outside_the_list_is_refused),
                cmocka_unit_test(a_denied_call_is_refused_and_others_go_on),
                cmocka_unit_test(the_identity_is_given_up_for_good),
                cmocka_unit_test(what_looks_names_up_reads_and_asks_and_nothing_more),
        };
        cmocka_set_message_output(CM_OUTPUT_TAP);
        return cmocka_run_group_tests(tests, NULL, NULL);
}
