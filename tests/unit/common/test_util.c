/* SPDX-License-Identifier: Apache-2.0 */
#include "common/util.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include <cmocka.h>

static void durations_need_a_known_unit(void **state) {
        uint64_t ns;

        assert_int_equal(crew_parse_duration("250ms", &ns), 0);
        assert_int_equal(ns, 250000000);
        assert_int_equal(crew_parse_duration("2h", &ns), 0);
        assert_int_equal(ns, 7200000000000);
        assert_int_equal(crew_parse_duration("10", &ns), -EINVAL);
        assert_int_equal(crew_parse_duration("10d", &ns), -EINVAL);
        assert_int_equal(crew_parse_duration("-1s", &ns), -EINVAL);
        assert_int_equal(crew_parse_duration(" 1s", &ns), -EINVAL);
        assert_int_equal(crew_parse_duration("1 s", &ns), -EINVAL);
        assert_int_equal(crew_parse_duration("1.5s", &ns), -EINVAL);
        assert_int_equal(crew_parse_duration("", &ns), -EINVAL);
        assert_int_equal(crew_parse_duration("18446744073709551615h", &ns), -ERANGE);
        assert_int_equal(crew_parse_duration("99999999999999999999999999s", &ns), -ERANGE);
}

static void sizes_are_binary_or_decimal_by_their_unit(void **state) {
        uint64_t b;

        assert_int_equal(crew_parse_size("512KiB", &b), 0);
        assert_int_equal(b, 512 * 1024);
        assert_int_equal(crew_parse_size("10MB", &b), 0);
        assert_int_equal(b, 10000000);
        assert_int_equal(crew_parse_size("4096", &b), 0);
        assert_int_equal(b, 4096);
        assert_int_equal(crew_parse_size("2gib", &b), -EINVAL);
        assert_int_equal(crew_parse_size("17179869184GiB", &b), -ERANGE);
}

static void integers_are_decimal_without_sign_and_do_not_wrap(void **state) {
        uint64_t v;

        assert_int_equal(crew_parse_u64("18446744073709551615", &v), 0);
        assert_true(v == UINT64_MAX);
        assert_int_equal(crew_parse_u64("18446744073709551616", &v), -ERANGE);
        assert_int_equal(crew_parse_u64("0x10", &v), -EINVAL);
        assert_int_equal(crew_parse_u64("+1", &v), -EINVAL);
        assert_int_equal(crew_parse_u64("10abc", &v), -EINVAL);
}

static void names_are_a_small_safe_alphabet(void **state) {
        char longest[65];

        memset(longest, 'a', 64);
        longest[64] = '\0';
        assert_true(crew_name_ok("data-collector"));
        assert_false(crew_name_ok("data_collector"));
        assert_false(crew_name_ok("a#2"));
        static const struct {
                const char *name;
                bool ok;
        } agents[] = {{"a", true},      {"a#2", true},   {"a-b#99", true}, {"a#1", false},  {"a#0", false},
                      {"a#02", false},  {"a#", false},   {"#2", false},    {"a##2", false}, {"a#2#3", false},
                      {"a#100", false}, {"a#2x", false}, {"a/#2", false},  {"", false}};
        for (size_t i = 0; i < ELEMENTSOF(agents); i++)
                assert_int_equal(crew_agent_name_ok(agents[i].name), agents[i].ok);
        assert_true(crew_tool_name_ok("market_api_tool"));
        assert_false(crew_name_ok(""));
        assert_false(crew_name_ok("-a"));
        assert_false(crew_name_ok("a-"));
        assert_false(crew_name_ok("A"));
        assert_false(crew_name_ok("a/b"));
        assert_false(crew_name_ok(".."));
        assert_false(crew_name_ok(longest));
        assert_true(crew_name_ok(longest + 1));
}

static void utf8_follows_rfc_3629(void **state) {
#define OK(s) assert_true(crew_utf8_ok(s, sizeof(s) - 1))
#define BAD(s) assert_false(crew_utf8_ok(s, sizeof(s) - 1))
        OK("plain");
        OK("\xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80");
        BAD("\xc0\x80");         /* overlong NUL */
        BAD("\xe0\x80\xaf");     /* overlong '/' */
        BAD("\xed\xa0\x80");     /* surrogate */
        BAD("\xf4\x90\x80\x80"); /* above U+10FFFF */
        BAD("\xe2\x82");         /* cut off */
        BAD("\x80");
        BAD("\xff");
}

static void the_nearest_name_is_within_reach_or_none(void **state) {
        static const char *const names[] = {"filesystem", "network", "tools", "ipc"};

        assert_string_equal(crew_nearest("filesytem", names, 4), "filesystem");
        assert_string_equal(crew_nearest("netwrok", names, 4), "network");
        assert_null(crew_nearest("xyzzyplugh", names, 4));
        assert_int_equal(crew_edit_distance("ab", "ba"), 1);
        assert_int_equal(crew_edit_distance("", "abc"), 3);
}

static void descriptors_travel_and_too_many_are_refused_without_a_leak(void **state) {
        int s[2], got[2], pipes[4];
        char c;
        size_t n = 2;

        assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, s), 0);
        assert_int_equal(pipe(pipes), 0);
        assert_int_equal(pipe(pipes + 2), 0);
        assert_int_equal(crew_send_fds(s[0], "x", 1, pipes, 2), 1);
        assert_int_equal(crew_recv_fds(s[1], &c, 1, got, &n, 0), 1);
        assert_int_equal(n, 2);
        assert_int_equal(fcntl(got[0], F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
        close(got[0]);
        close(got[1]);

        int before = dup(0);
        close(before);
        n = 2;
        assert_int_equal(crew_send_fds(s[0], "x", 1, pipes, 4), 1);
        assert_int_equal(crew_recv_fds(s[1], &c, 1, got, &n, 0), -EPROTO);
        assert_int_equal(n, 0);
        int after = dup(0);
        close(after);
        assert_int_equal(after, before);
        for (int i = 0; i < 4; i++)
                close(pipes[i]);
        close(s[0]);
        close(s[1]);
}

static void a_fifo_in_place_of_a_file_is_refused_at_once(void **state) {
        char dir[] = "/tmp/crew-util-XXXXXX", path[64], *out = NULL;
        struct crew_err err = CREW_ERR_NULL;

        assert_non_null(mkdtemp(dir));
        snprintf(path, sizeof(path), "%s/f", dir);
        assert_int_equal(mkfifo(path, 0600), 0);
        assert_int_equal(crew_read_file(path, 100, &out, NULL, &err), -EINVAL);
        assert_non_null(strstr(err.msg, "not a regular file"));
        unlink(path);
        rmdir(dir);
}

static void an_oversize_file_is_refused_not_cut(void **state) {
        char path[] = "/tmp/crew-util-XXXXXX", *out = NULL;
        struct crew_err err = CREW_ERR_NULL;
        int fd = mkstemp(path);

        assert_int_equal(crew_write_full(fd, "0123456789", 10), 0);
        close(fd);
        assert_int_equal(crew_read_file(path, 9, &out, NULL, &err), -EFBIG);
        assert_int_equal(crew_read_file(path, 10, &out, NULL, &err), 0);
        assert_string_equal(out, "0123456789");
        free(out);
        unlink(path);
}

static void open_beneath_follows_neither_links_nor_dotdot(void **state) {
        char dir[] = "/tmp/crew-util-XXXXXX", path[64];

        assert_non_null(mkdtemp(dir));
        int d = open(dir, O_PATH | O_DIRECTORY);
        snprintf(path, sizeof(path), "%s/link", dir);
        assert_int_equal(symlink("/etc/passwd", path), 0);
        assert_int_equal(crew_open_beneath(d, "link", O_RDONLY, 0), -ELOOP);
        assert_int_equal(crew_open_beneath(d, "../../etc/passwd", O_RDONLY, 0), -EXDEV);
        assert_int_equal(crew_open_beneath(d, "/etc/passwd", O_RDONLY, 0), -EXDEV);
        int fd = crew_open_beneath(d, "new", O_RDWR | O_CREAT, 0600);
        assert_true(fd >= 0);
        close(fd);
        close(d);
        unlink(path);
        snprintf(path, sizeof(path), "%s/new", dir);
        unlink(path);
        rmdir(dir);
}

static void a_sealed_memfd_cannot_change(void **state) {
        struct crew_err err = CREW_ERR_NULL;
        int fd = crew_sealed_memfd("t", "abc", 3, &err);

        assert_true(fd >= 0);
        assert_int_equal(pwrite(fd, "x", 1, 0), -1);
        assert_int_equal(errno, EPERM);
        assert_int_equal(ftruncate(fd, 0), -1);
        assert_int_equal(fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK), -1);
        close(fd);
}

static void an_error_keeps_its_origin_and_gains_nouns(void **state) {
        struct crew_err err = CREW_ERR_NULL;
        char noun[1024];

        assert_int_equal(crew_fail(&err, ENOENT, "no such %s", "tool"), -ENOENT);
        int line = err.line;
        crew_err_add(&err, "crew %s", "x");
        assert_string_equal(err.msg, "crew x: no such tool");
        assert_int_equal(err.line, line);
        memset(noun, 'n', sizeof(noun) - 1);
        noun[sizeof(noun) - 1] = '\0';
        crew_err_add(&err, "%s", noun);
        assert_int_equal(strlen(err.msg), sizeof(err.msg) - 1);
        assert_int_equal(err.code, ENOENT);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(durations_need_a_known_unit),
                cmocka_unit_test(sizes_are_binary_or_decimal_by_their_unit),
                cmocka_unit_test(integers_are_decimal_without_sign_and_do_not_wrap),
                cmocka_unit_test(names_are_a_small_safe_alphabet),
                cmocka_unit_test(utf8_follows_rfc_3629),
                cmocka_unit_test(the_nearest_name_is_within_reach_or_none),
                cmocka_unit_test(descriptors_travel_and_too_many_are_refused_without_a_leak),
                cmocka_unit_test(a_fifo_in_place_of_a_file_is_refused_at_once),
                cmocka_unit_test(an_oversize_file_is_refused_not_cut),
                cmocka_unit_test(open_beneath_follows_neither_links_nor_dotdot),
                cmocka_unit_test(a_sealed_memfd_cannot_change),
                cmocka_unit_test(an_error_keeps_its_origin_and_gains_nouns),
        };
        cmocka_set_message_output(CM_OUTPUT_TAP);
        return cmocka_run_group_tests(tests, NULL, NULL);
}
