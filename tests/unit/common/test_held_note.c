/* SPDX-License-Identifier: Apache-2.0 */
#include "common/held_note.h"
#include "common/util.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <sys/mman.h>

#include <cmocka.h>

static int empty_file(void) {
        int fd = memfd_create("notes", MFD_CLOEXEC);

        assert_true(fd >= 0);
        return fd;
}

static void what_is_noted_is_read(void **state) {
        _cleanup_close_ int fd = empty_file();
        struct held_note *notes;
        size_t n;

        (void)state;
        assert_int_equal(held_notes_read(fd, &notes, &n), 0);
        assert_true(n == 0 && !notes);
        assert_int_equal(held_note_add(fd, 4097, 1000, "writer#2", "odd queries"), 0);
        assert_int_equal(held_note_add(fd, 4098, 0, "reader", ""), 0);
        assert_int_equal(held_notes_read(fd, &notes, &n), 0);
        assert_int_equal(n, 2);
        assert_true(notes[0].id == 4097 && notes[0].uid == 1000 && notes[1].id == 4098);
        assert_string_equal(notes[0].agent, "writer#2");
        assert_string_equal(notes[0].reason, "odd queries");
        free(notes);
}

static void what_does_not_fit_is_not_noted(void **state) {
        char reason[HELD_REASON_MAX + 1], agent[65];
        _cleanup_close_ int fd = empty_file();

        (void)state;
        memset(reason, 'x', sizeof(reason) - 1);
        reason[sizeof(reason) - 1] = '\0';
        memset(agent, 'a', sizeof(agent) - 1);
        agent[sizeof(agent) - 1] = '\0';
        assert_int_equal(held_note_add(fd, 1, 0, "a", reason), -EINVAL);
        assert_int_equal(held_note_add(fd, 1, 0, agent, ""), -EINVAL);
        assert_int_equal(held_note_add(fd, 1, 0, "a", reason + 1), 0);
        assert_int_equal(ftruncate(fd, (off_t)(HELD_NOTES_MAX * sizeof(struct held_note))), 0);
        assert_int_equal(held_note_add(fd, 1, 0, "a", "one too many"), -ENOSPC);
}

/* Each has one thing wrong with it, and stands between two that are whole. */
static void what_is_no_note_is_passed_over(void **state) {
        static const struct {
                size_t at;
                char byte;
        } wrong[] = {
                {offsetof(struct held_note, magic), 'x'},
                {offsetof(struct held_note, zero), 1},
                {offsetof(struct held_note, id), 0},
                {offsetof(struct held_note, agent), '/'},
                {offsetof(struct held_note, agent), 0},
                {offsetof(struct held_note, agent) + 63, 'x'},
                {offsetof(struct held_note, reason), '\xff'},
                {offsetof(struct held_note, reason) + 20, 'x'},
                {offsetof(struct held_note, reason) + HELD_REASON_MAX - 1, 'x'},
        };

        (void)state;
        for (size_t i = 0; i < ELEMENTSOF(wrong); i++) {
                _cleanup_close_ int fd = empty_file();
                struct held_note *notes;
                size_t n;
                for (uint32_t k = 1; k <= 3; k++)
                        assert_int_equal(held_note_add(fd, k, 0, "a", "why"), 0);
                assert_int_equal(pwrite(fd, &wrong[i].byte, 1, (off_t)(sizeof(*notes) + wrong[i].at)), 1);
                assert_int_equal(ftruncate(fd, (off_t)(3 * sizeof(*notes) - (i % 2))), 0); /* every other one is cut, too */
                assert_int_equal(held_notes_read(fd, &notes, &n), 0);
                assert_int_equal(n, 2 - i % 2);
                assert_int_equal(notes[0].id, 1);
                free(notes);
        }
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(what_is_noted_is_read),
                cmocka_unit_test(what_does_not_fit_is_not_noted),
                cmocka_unit_test(what_is_no_note_is_passed_over),
        };

        cmocka_set_message_output(CM_OUTPUT_TAP);
        return cmocka_run_group_tests(tests, NULL, NULL);
}
