/* SPDX-License-Identifier: Apache-2.0 */
/* Trees that somebody hostile has filled: walked without following, measured with an end, removed however deep. */
#include "common/tree.h"

#include "common/util.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

static char dir[] = "/tmp/crew-tree-XXXXXX";

static int setup(void **state) {
        static int top;

        strcpy(dir, "/tmp/crew-tree-XXXXXX");
        assert_non_null(mkdtemp(dir));
        top = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        assert_true(top >= 0);
        *state = &top;
        return 0;
}

static int teardown(void **state) {
        int *top = *state;

        assert_int_equal(tree_remove(AT_FDCWD, dir), 0);
        assert_int_equal(access(dir, F_OK), -1);
        close(*top);
        return 0;
}

static void put(int top, const char *name, const char *text) {
        _cleanup_close_ int fd = openat(top, name, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);

        assert_true(fd >= 0);
        assert_int_equal(crew_write_full(fd, text, strlen(text)), 0);
}

/* d/d/d/..., each made from the one before: no path is that long. */
static void dig(int top, unsigned depth) {
        int at = fcntl(top, F_DUPFD_CLOEXEC, 3);

        for (unsigned i = 0; i < depth; i++) {
                assert_int_equal(mkdirat(at, "d", 0700), 0);
                int next = openat(at, "d", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
                assert_true(next >= 0);
                close(at);
                at = next;
        }
        put(at, "bottom", "x");
        close(at);
}

struct seen {
        char text[512];
        unsigned missed;
        int stop_with;
};

static int note(const struct tree_item *item, void *user) {
        struct seen *s = user;
        size_t n = strlen(s->text);

        if (strlen(item->path) < 32)
                snprintf(s->text + n, sizeof(s->text) - n, "%s%c ", item->path,
                         S_ISDIR(item->st.st_mode)   ? '/'
                         : S_ISLNK(item->st.st_mode) ? '@'
                                                     : '.');
        return s->stop_with;
}

static int note_missed(const char *path, int error, void *user) {
        struct seen *s = user;

        assert_int_equal(error, ELOOP);
        assert_true(strlen(path) > 100);
        s->missed++;
        return 0;
}

static void links_are_seen_and_not_followed(void **state) {
        int top = *(int *)*state;
        struct seen s = {0};
        const struct tree_visitor v = {.on_item = note, .user = &s};

        assert_int_equal(symlinkat("/etc", top, "etc"), 0);
        assert_int_equal(symlinkat(".", top, "loop"), 0);
        assert_int_equal(mkdirat(top, "sub", 0700), 0);
        put(top, "sub/f", "1");
        assert_int_equal(tree_walk(top, &v), 0);
        assert_non_null(strstr(s.text, "etc@ "));
        assert_non_null(strstr(s.text, "loop@ "));
        assert_non_null(strstr(s.text, "sub/ sub/f. "));
        assert_null(strstr(s.text, "etc/"));
        assert_null(strstr(s.text, "loop/"));
}

static void a_visitor_can_end_the_walk(void **state) {
        struct seen s = {.stop_with = 7};
        const struct tree_visitor v = {.on_item = note, .user = &s};

        put(*(int *)*state, "a", "");
        put(*(int *)*state, "b", "");
        assert_int_equal(tree_walk(*(int *)*state, &v), 7);
        assert_int_equal(strlen(s.text), 3);
}

static void what_lies_too_deep_is_said(void **state) {
        struct seen s = {0};
        const struct tree_visitor v = {.on_item = note, .on_missed = note_missed, .user = &s};

        dig(*(int *)*state, TREE_DEPTH_MAX + 10);
        assert_int_equal(tree_walk(*(int *)*state, &v), 0);
        assert_int_equal(s.missed, 1);
}

static void measuring_counts_and_has_an_end(void **state) {
        int top = *(int *)*state;
        struct tree_size size;

        assert_int_equal(tree_measure(top, 0, &size), 0);
        assert_int_equal(size.entries, 0);
        assert_int_equal(size.changed, 0);
        put(top, "a", "text");
        put(top, "b", "text");
        assert_int_equal(symlinkat("x", top, "l"), 0);
        assert_int_equal(tree_measure(top, 0, &size), 0);
        assert_int_equal(size.entries, 3);
        assert_int_equal(size.files, 2);
        assert_int_equal(size.others, 1);
        assert_true(size.changed > 0);
        assert_int_equal(tree_measure(top, 3, &size), 0);
        assert_int_equal(tree_measure(top, 2, &size), 1);
}

static void deep_and_closed_trees_are_removed(void **state) {
        int top = *(int *)*state;

        dig(top, 3000);
        assert_int_equal(mkdirat(top, "shut", 0700), 0);
        put(top, "shut/f", "x");
        put(top, ".deep-0", "a name that removal would use");
        assert_int_equal(fchmodat(top, "shut", 0, 0), 0);
        for (int i = 0; i < 300; i++) {
                char name[16];
                snprintf(name, sizeof(name), "f%d", i);
                put(top, name, "");
        }
        assert_int_equal(symlinkat("/", top, "root"), 0);
        assert_int_equal(tree_remove(AT_FDCWD, dir), 0);
        assert_int_equal(mkdir(dir, 0700), 0); /* for the teardown */
        assert_int_equal(access("/etc", F_OK), 0);
}

static void removing_what_is_not_there_is_done(void **state) {
        int top = *(int *)*state;

        assert_int_equal(tree_remove(top, "nothing"), 0);
        put(top, "file", "");
        assert_int_equal(tree_remove(top, "file"), 0);
        assert_int_equal(symlinkat("/etc", top, "l"), 0);
        assert_int_equal(tree_remove(top, "l"), 0);
        assert_int_equal(access("/etc/passwd", F_OK), 0);
}

static mode_t mode_of(int top, const char *name) {
        struct stat st;

        assert_int_equal(fstatat(top, name, &st, AT_SYMLINK_NOFOLLOW), 0);
        return st.st_mode & 07777;
}

/* Modes mean something to anybody but root. */
static void what_our_own_modes_shut_is_opened_and_nothing_else(void **state) {
        int top = *(int *)*state;
        bool root = geteuid() == 0;
        struct tree_size size;

        assert_int_equal(mkdirat(top, "theirs", 0), 0);
        if (root) {
                assert_int_equal(fchown(top, 65534, 65534), 0);
                assert_int_equal(seteuid(65534), 0);
        }
        assert_int_equal(mkdirat(top, "shut", 0700), 0);
        put(top, "shut/f", "x");
        assert_int_equal(mkdirat(top, "blind", 0700), 0);
        put(top, "blind/f", "x");
        put(top, "g", "text");
        assert_int_equal(symlinkat("shut", top, "l"), 0);
        assert_int_equal(fchmodat(top, "g", 0, 0), 0);
        assert_int_equal(fchmodat(top, "shut", 0, 0), 0);
        assert_int_equal(fchmodat(top, "blind", 0400, 0), 0); /* to be read, but nothing is found in it */

        int by_link = tree_open_dir(top, "l"), not_dir = tree_open_dir(top, "g"), theirs = tree_open_dir(top, "theirs");
        int file = tree_open_file(top, "g"), dir_as_file = tree_open_file(top, "shut");
        mode_t still_shut = mode_of(top, "shut"), of_file = mode_of(top, "g");
        int r = tree_measure(top, 0, &size);
        mode_t shut = mode_of(top, "shut"), blind = mode_of(top, "blind");
        int again = tree_open_dir(top, "shut");
        if (root)
                assert_int_equal(seteuid(0), 0);

        assert_true(by_link == -ENOTDIR || by_link == -ELOOP);
        assert_int_equal(not_dir, -ENOTDIR);
        assert_int_equal(dir_as_file, -EACCES);
        assert_int_equal(still_shut, 0);
        assert_true(file >= 0);
        assert_int_equal(of_file, 0);
        assert_int_equal(r, 0);
        assert_int_equal(size.files, 3);
        assert_true(again >= 0);
        assert_int_equal(shut, 0700);
        assert_int_equal(blind, 0700);
        if (root) {
                assert_int_equal(theirs, -EACCES);
                assert_int_equal(mode_of(top, "theirs"), 0);
                assert_int_equal(size.missed, 1);
        } else {
                close(theirs);
        }
        close(file);
        close(again);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(links_are_seen_and_not_followed, setup, teardown),
                cmocka_unit_test_setup_teardown(a_visitor_can_end_the_walk, setup, teardown),
                cmocka_unit_test_setup_teardown(what_lies_too_deep_is_said, setup, teardown),
                cmocka_unit_test_setup_teardown(measuring_counts_and_has_an_end, setup, teardown),
                cmocka_unit_test_setup_teardown(deep_and_closed_trees_are_removed, setup, teardown),
                cmocka_unit_test_setup_teardown(removing_what_is_not_there_is_done, setup, teardown),
                cmocka_unit_test_setup_teardown(what_our_own_modes_shut_is_opened_and_nothing_else, setup, teardown),
        };

        cmocka_set_message_output(CM_OUTPUT_TAP);
        return cmocka_run_group_tests(tests, NULL, NULL);
}
