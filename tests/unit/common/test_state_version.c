/* SPDX-License-Identifier: Apache-2.0 */
/* A directory and its version change together, wherever it is cut short; a copy is what was there and nothing else. */
#include "common/state_version.h"
#include "common/tree.h"
#include "common/tree_copy.h"
#include "common/util.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

static char top_path[64];
static int top;

static int set_up(void **state) {
        (void)state;
        strcpy(top_path, "/tmp/crew-version-XXXXXX");
        assert_non_null(mkdtemp(top_path));
        top = open(top_path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        assert_true(top >= 0);
        return 0;
}

static int take_down(void **state) {
        (void)state;
        state_version_stop_before = 0;
        close(top);
        assert_int_equal(tree_remove(AT_FDCWD, top_path), 0);
        return 0;
}

static void put(const char *path, const char *text) {
        int fd = openat(top, path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0640);

        assert_true(fd >= 0);
        assert_int_equal(write(fd, text, strlen(text)), (ssize_t)strlen(text));
        close(fd);
}

static bool has(const char *path) {
        return faccessat(top, path, F_OK, AT_SYMLINK_NOFOLLOW) == 0;
}

static uint32_t version(void) {
        uint32_t looked = 99, settled = 98;

        assert_int_equal(state_version_read(top, "a", &looked, NULL), 0);
        assert_int_equal(state_version_settle(top, "a", &settled, NULL), 0);
        assert_int_equal(looked, settled);
        return settled;
}

static void a_version_is_kept_beside_the_directory(void **state) {
        (void)state;
        assert_int_equal(version(), 0);
        assert_int_equal(state_version_write(top, "a", 7, NULL), 0);
        assert_int_equal(version(), 7);
        assert_int_equal(state_version_write(top, "a", 0, NULL), 0);
        assert_int_equal(version(), 0);
        assert_int_equal(state_version_write(top, "a", 0, NULL), 0);
}

/* Ended before each step in turn: what is in place always has its own version. */
static void a_swap_that_is_cut_short_happened_or_did_not(void **state) {
        (void)state;
        for (unsigned stop = 0; stop <= 3; stop++) {
                mkdirat(top, "a", 0700);
                mkdirat(top, "b", 0700);
                put("a/old", "");
                put("b/new", "");
                assert_int_equal(state_version_write(top, "a", 2, NULL), 0);
                state_version_stop_before = stop;
                int r = state_version_swap(top, "a", "b", 2, 3, NULL);
                state_version_stop_before = 0;
                assert_int_equal(r, stop ? -EINTR : 0);
                bool done = has("a/new");
                assert_int_equal(done, stop == 0 || stop == 3);
                assert_int_equal(has("a/old"), !done);
                assert_int_equal(version(), done ? 3 : 2);
                /* A directory that was left over is removed, and another may get its number. */
                assert_int_equal(tree_remove(top, "b"), 0);
                assert_int_equal(version(), done ? 3 : 2);
                assert_int_equal(tree_remove(top, "a"), 0);
        }
}

/* It is known whether it happened, until it is settled. */
static void what_was_done_is_unsaid_until_it_is_settled(void **state) {
        (void)state;
        for (unsigned stop = 0; stop <= 2; stop++) {
                uint32_t from = 0, to = 0;
                mkdirat(top, "a", 0700);
                mkdirat(top, "b", 0700);
                assert_int_equal(state_version_write(top, "a", 2, NULL), 0);
                assert_int_equal(state_version_unsaid(top, "a", &from, &to, NULL), 0);
                state_version_stop_before = stop;
                int r = state_version_swap_unsaid(top, "a", "b", 2, 3, NULL);
                state_version_stop_before = 0;
                assert_int_equal(r, stop ? -EINTR : 0);
                assert_int_equal(state_version_unsaid(top, "a", &from, &to, NULL), stop == 0);
                assert_true(stop || (from == 2 && to == 3));
                assert_int_equal(version(), stop ? 2 : 3);
                assert_int_equal(state_version_unsaid(top, "a", &from, &to, NULL), 0);
                assert_int_equal(tree_remove(top, "a"), 0);
                assert_int_equal(tree_remove(top, "b"), 0);
        }
        /* What an archive brought (crewctl state import) is nobody's migration. */
        uint32_t from, to;
        mkdirat(top, "a", 0700);
        mkdirat(top, "b", 0700);
        state_version_stop_before = 3;
        assert_int_equal(state_version_swap(top, "a", "b", 3, 5, NULL), -EINTR);
        state_version_stop_before = 0;
        assert_int_equal(state_version_unsaid(top, "a", &from, &to, NULL), 0);
}

static void what_is_no_version_is_refused(void **state) {
        static const char *const bad[] = {"", "x\n", "1", "1 2\n", "1 2 3\n", "4000000000\n", "1 4000000000 1 1\n"};
        uint32_t v;

        (void)state;
        for (size_t i = 0; i < ELEMENTSOF(bad); i++) {
                struct crew_err err = CREW_ERR_NULL;
                put("a.version", bad[i]);
                assert_int_equal(state_version_read(top, "a", &v, &err), -EBADMSG);
                assert_non_null(strstr(err.msg, "a.version"));
        }
        assert_int_equal(unlinkat(top, "a.version", 0), 0);
        assert_int_equal(symlinkat("/etc/passwd", top, "a.version"), 0);
        assert_true(state_version_read(top, "a", &v, NULL) < 0);
}

/* --- copies --- */

static int copy_of(const char *from, uint64_t max, struct crew_err *err) {
        assert_int_equal(tree_remove(top, "to"), 0);
        assert_int_equal(mkdirat(top, "to", 0700), 0);
        int in = openat(top, from, O_RDONLY | O_DIRECTORY | O_CLOEXEC),
            out = openat(top, "to", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        int r = tree_copy(in, out, max, err);
        close(in);
        close(out);
        return r;
}

static void a_copy_follows_no_link_and_shares_nothing(void **state) {
        struct stat a, b;
        char target[64] = "";

        (void)state;
        assert_int_equal(mkdirat(top, "from", 0700), 0);
        assert_int_equal(mkdirat(top, "from/d", 0500), 0);
        put("from/f", "text");
        assert_int_equal(fchmodat(top, "from/f", 04755, 0), 0);
        assert_int_equal(linkat(top, "from/f", top, "from/g", 0), 0);
        assert_int_equal(symlinkat("/etc", top, "from/l"), 0);
        assert_int_equal(mkfifoat(top, "from/p", 0600), 0);
        put("from/s", "");
        int fd = openat(top, "from/s", O_WRONLY | O_CLOEXEC);
        assert_int_equal(pwrite(fd, "x", 1, 1 << 20), 1);
        assert_int_equal(ftruncate(fd, 8 << 20), 0);
        close(fd);
        assert_int_equal(copy_of("from", 1 << 20, NULL), 0);
        assert_true(readlinkat(top, "to/l", target, sizeof(target) - 1) == 4 && strcmp(target, "/etc") == 0);
        assert_false(has("to/p"));
        assert_int_equal(fstatat(top, "to/f", &a, 0), 0);
        assert_int_equal(a.st_mode & 07777, 0755);
        assert_int_equal(a.st_nlink, 1);
        assert_int_equal(fstatat(top, "to/g", &b, 0), 0);
        assert_true(a.st_ino != b.st_ino && b.st_size == 4);
        assert_int_equal(fstatat(top, "to/s", &a, 0), 0);
        assert_true(a.st_size == 8 << 20 && a.st_blocks < 64);
        assert_int_equal(fstatat(top, "to/d", &a, 0), 0);
        assert_int_equal(a.st_mode & 07777, 0500);
}

static void a_copy_is_no_larger_than_it_may_be(void **state) {
        struct crew_err err = CREW_ERR_NULL;
        static char much[100000];

        (void)state;
        memset(much, 'x', sizeof(much) - 1);
        assert_int_equal(mkdirat(top, "from", 0700), 0);
        put("from/f", much);
        assert_int_equal(copy_of("from", 1 << 20, NULL), 0);
        char name[32];
        for (int i = 0; i < 20; i++) {
                snprintf(name, sizeof(name), "from/h%d", i);
                assert_int_equal(linkat(top, "from/f", top, name, 0), 0);
        }
        assert_int_equal(copy_of("from", 1 << 20, &err), -EFBIG);
        assert_non_null(strstr(err.msg, "state_max"));
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(a_version_is_kept_beside_the_directory, set_up, take_down),
                cmocka_unit_test_setup_teardown(a_swap_that_is_cut_short_happened_or_did_not, set_up, take_down),
                cmocka_unit_test_setup_teardown(what_was_done_is_unsaid_until_it_is_settled, set_up, take_down),
                cmocka_unit_test_setup_teardown(what_is_no_version_is_refused, set_up, take_down),
                cmocka_unit_test_setup_teardown(a_copy_follows_no_link_and_shares_nothing, set_up, take_down),
                cmocka_unit_test_setup_teardown(a_copy_is_no_larger_than_it_may_be, set_up, take_down),
        };
        cmocka_set_message_output(CM_OUTPUT_TAP);
        return cmocka_run_group_tests(tests, NULL, NULL);
}
