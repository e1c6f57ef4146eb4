/* SPDX-License-Identifier: Apache-2.0 */
/* Which paths a policy may list, and what is said of those it may not. */
#include "support.h"

#include "common/util.h"
#include "supervisor/policy/path.h"

#include <string.h>
#include <sys/stat.h>

static const char *fs_body(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
static const char *fs_body(const char *fmt, ...) {
        static char body[16384];
        va_list ap;

        strcpy(body, "  filesystem: {");
        va_start(ap, fmt);
        vsnprintf(body + strlen(body), sizeof(body) - strlen(body), fmt, ap);
        va_end(ap);
        strcat(body, "}\n");
        return role(body);
}

static void the_text_of_a_path_is_strict(void **state) {
        static const struct {
                const char *path, *text, *hint;
        } rows[] = {
                {"tmp/x/", "not an absolute path: 'tmp/x/'", "start it with '/'"},
                {"./x", "not an absolute path", ""},
                {"", "an empty path", ""},
                {"~/notes/", "'~' is not expanded", "in full"},
                {"/srv/../etc/", "'.' and '..' are not accepted", ""},
                {"/srv/./x", "'.' and '..' are not accepted", ""},
                {"/srv/..", "'.' and '..' are not accepted", ""},
                {"/srv/*.csv", "wildcards are not accepted", "ends in '/'"},
                {"/srv/a\\tb/", "a control character in a path", ""},
                {"/srv/a\\nb/", "a control character in a path", ""},
                {"${HOME}/x/", "only ${CREW_DIR} is expanded, not '${HOME}/x/'", ""},
                {"${CREW_DIR}/x/", "${CREW_DIR} means the directory of a crew file", ""},
        };
        char *longest = calloc(1, 5000);

        for (size_t i = 0; i < ELEMENTSOF(rows); i++)
                expect_error(fs_body("read: [\"%s\"]", rows[i].path), 4, 23, rows[i].text, rows[i].hint);
        assert_non_null(longest);
        memset(longest, 'a', 4500);
        longest[0] = '/';
        expect_error(fs_body("read: [\"%s\"]", longest), 4, 23, "a path that is too long", "");
        free(longest);
}

static void some_places_nobody_may_be_granted(void **state) {
        static const struct {
                const char *kind, *path, *why;
        } rows[] = {
                {"read", "/", "that is the whole system"},
                {"read", "/proc/", "its own /proc"},
                {"read", "/proc/1/environ", "its own /proc"},
                {"read", "/sys/", "kernel interfaces"},
                {"write", "/dev/shm/", "its own /dev"},
                {"read", "/run/docker.sock", "sockets of the system's services"},
                {"read", "/var/run/x/", "sockets of the system's services"},
                {"read", "/etc/", "it holds the system's keys"},
                {"write", "/etc/app/", "the system's configuration"},
                {"read", "/etc/shadow", "password hashes"},
                {"read", "/etc/sudoers.d/", "who may become root"},
                {"read", "/etc/ssh/", "the host's private keys"},
                {"write", "/usr/local/", "the runtime of every agent"},
                {"write", "/boot/x/", "the system starts from it"},
                {"read", "/tmp/", "a private /tmp"},
                {"write", "/tmp/", "a private /tmp"},
                {"read", "/home/", "every user's home"},
                {"read", "/root/", "a home directory holds keys"},
                {"exec", "/etc/init.d/", "the system's configuration"},
                {"exec", "/", "that is the whole system"},
                {"runtime", "/proc/", "its own /proc"},
        };

        for (size_t i = 0; i < ELEMENTSOF(rows); i++) {
                char text[300];
                snprintf(text, sizeof(text), "'%s' cannot be granted in filesystem.%s: ", rows[i].path, rows[i].kind);
                expect_error(fs_body("%s: [\"%s\"]", rows[i].kind, rows[i].path), 4, 0, text, "");
                expect_error(fs_body("%s: [\"%s\"]", rows[i].kind, rows[i].path), 4, 0, rows[i].why, "");
        }
}

static void a_tree_around_such_a_place_needs_a_hole(void **state) {
        expect_error(fs_body("read: [\"/etc/ssl/\"]"), 4, 23, "/etc/ssl/private is inside, and it holds private keys",
                     "filesystem.deny");
        expect_clean(fs_body("read: [\"/etc/ssl/\"], deny: [\"/etc/ssl/private/\"]"));
}

static void our_own_directories_cannot_be_granted(void **state) {
        const char *home = getenv("CREWD_HOME");
        static const char *const subs[] = {"/lib/x/", "/run/", "/etc/roles/", "/"};

        assert_non_null(home);
        for (size_t i = 0; i < ELEMENTSOF(subs); i++)
                expect_error(fs_body("read: [\"%s%s\"]", home, subs[i]), 4, 0, "cannot be granted: the ", "");
}

static void the_policy_itself_cannot_be_written(void **state) {
        struct scratch s;
        struct loaded l;
        char body[3 * PATH_MAX];

        scratch_init(&s);
        snprintf(body, sizeof(body), "  filesystem: {write: [\"%s/roles/\"]}\n", s.dir);
        load_file(&l, scratch_file(&s, "roles/r.yaml", role(body)), NULL, NULL);
        assert_int_equal(l.r, -EINVAL);
        problem_with(&l, "holds this policy file");
        loaded_fini(&l);
        snprintf(body, sizeof(body), "  filesystem: {write: [\"%s/\"]}\n", s.dir);
        load_file(&l, scratch_file(&s, "roles/r.yaml", role(body)), NULL, NULL);
        problem_with(&l, "holds this policy file");
        loaded_fini(&l);
        /* beside it is fine */
        snprintf(body, sizeof(body), "  filesystem: {write: [\"%s/roles/out/\"]}\n", s.dir);
        load_file(&l, scratch_file(&s, "roles/r.yaml", role(body)), NULL, NULL);
        assert_int_equal(l.r, 0);
        loaded_fini(&l);
        scratch_fini(&s);
}

static void symbolic_links_are_refused_with_the_real_path(void **state) {
        struct scratch s;
        char hint[PATH_MAX + 20];

        scratch_init(&s);
        scratch_dir(&s, "real/deep");
        assert_int_equal(symlink("real", scratch_path(&s, "link")), 0);
        assert_int_equal(symlink("nowhere", scratch_path(&s, "dangling")), 0);
        snprintf(hint, sizeof(hint), "write '%s/real/deep/'", s.dir);
        expect_error(fs_body("read: [\"%s/link/deep/\"]", s.dir), 4, 23, "is reached through a symbolic link", hint);
        expect_error(fs_body("write: [\"%s/link/new/\"]", s.dir), 4, 24, "is reached through a symbolic link",
                     "/real/new/'");
        expect_error(fs_body("read: [\"%s/dangling\"]", s.dir), 4, 23, "is a symbolic link that leads nowhere", "");
        expect_clean(fs_body("read: [\"%s/real/deep/\"]", s.dir));
        scratch_fini(&s);
}

static void files_and_trees_are_told_apart(void **state) {
        struct scratch s;

        scratch_init(&s);
        scratch_file(&s, "file", "x");
        assert_int_equal(mkfifo(scratch_path(&s, "pipe"), 0600), 0);
        expect_error(fs_body("read: [\"%s\"]", s.dir), 4, 23, "is a directory", "a tree ends in '/'");
        expect_error(fs_body("read: [\"%s/file/\"]", s.dir), 4, 23, "is a file", "leave out the last '/'");
        expect_error(fs_body("read: [\"%s/pipe\"]", s.dir), 4, 23, "is a device, a socket or a pipe", "");
        expect_error(fs_body("read: [\"%s/file/x\"]", s.dir), 4, 23, "cannot be looked at: Not a directory", "");
        expect_clean(fs_body("read: [\"%s/\", \"%s/file\"]", s.dir, s.dir));
        scratch_fini(&s);
}

static void a_missing_path_is_a_warning_when_alone(void **state) {
        expect_warning(fs_body("read: [\"/srv/crew-none/\"]"), 4, 23, "filesystem.read '/srv/crew-none/' does not exist",
                       "optional: true");
        expect_warning(fs_body("write: [\"/srv/crew-none\"]"), 4, 24, "filesystem.write '/srv/crew-none' does not exist",
                       "end it in '/'");
        expect_warning(fs_body("read: [\"/usr/\"], deny: [\"/usr/crew-none\"]"), 4, 0, "does not exist",
                       "the hole opens when it appears");
        expect_clean(fs_body("read: [{path: \"/srv/crew-none/\", optional: true}]"));
        expect_clean(fs_body("write: [\"/srv/crew-none/\"]"));
}

static void what_can_be_written_is_not_executed(void **state) {
        expect_error(fs_body("write: [\"/srv/a/\"], exec: [\"/srv/a/bin/\"]"), 4, 0,
                     "filesystem.exec '/srv/a/bin/' overlaps the write path '/srv/a/' of line 4", "it must not execute");
        expect_error(fs_body("write: [\"/srv/a/b/\"], exec: [\"/srv/a/\"]"), 4, 0, "overlaps the write path", "");
        expect_error(fs_body("write: [\"/srv/a/\"], exec: [\"/srv/a/x\"]"), 4, 0, "overlaps the write path", "");
        expect_error(fs_body("write: [\"/srv/a/\"], runtime: [base, \"/srv/a/\"]"), 4, 0,
                     "filesystem.runtime '/srv/a/' overlaps", "");
}

static void holes_lie_inside_what_is_granted(void **state) {
        struct scratch s;

        scratch_init(&s);
        scratch_dir(&s, "a/hole/in");
        scratch_file(&s, "a/f", "x");
        expect_error(fs_body("read: [\"%s/a/\"], deny: [\"/usr/../x\"]", s.dir), 4, 0, "not accepted", "");
        expect_error(fs_body("deny: [\"%s/a/\"]", s.dir), 4, 0, "does not lie inside a granted tree",
                     "denied without a hole");
        expect_error(fs_body("read: [\"%s/a/\"], deny: [\"%s/a/\"]", s.dir, s.dir), 4, 0,
                     "is the same path as filesystem.read on line 4", "");
        expect_error(fs_body("read: [\"%s/a/\"], read_only: [\"%s/a/hole/\"]", s.dir, s.dir), 4, 0,
                     "does not lie inside a write tree", "");
        expect_error(fs_body("read: [\"%s/a/\", \"%s/a/hole/in/\"], deny: [\"%s/a/hole/\"]", s.dir, s.dir, s.dir), 4, 0,
                     "lies in the hole", "");
        expect_clean(fs_body("read: [\"%s/a/\"], deny: [\"%s/a/hole/\", \"%s/a/f\"]", s.dir, s.dir, s.dir));
        expect_clean(fs_body("write: [\"%s/a/\"], read_only: [\"%s/a/hole/\"]", s.dir, s.dir));
        expect_clean(fs_body("deny: [\"/usr/bin/env\"]"));
        expect_error(fs_body("write: [\"%s/a/\", \"%s/a/hole/in/\"], read_only: [\"%s/a/hole/\"]", s.dir, s.dir, s.dir), 4,
                     0, "lies in the read-only part", "");
        scratch_fini(&s);
}

static void a_read_path_inside_a_write_tree_adds_nothing(void **state) {
        struct loaded l;
        struct scratch s;

        scratch_init(&s);
        scratch_dir(&s, "w/in");
        load_text(&l, fs_body("read: [\"%s/w/in/\", \"%s/w/\"], write: [\"%s/w/\"]", s.dir, s.dir, s.dir), NULL);
        assert_int_equal(l.r, 0);
        for (size_t i = 0; i < policy_n_paths(l.image); i++)
                assert_int_not_equal(policy_path_at(l.image, i).kind, POLICY_READ);
        assert_true(policy_decide(l.image, POLICY_DO_WRITE, scratch_path(&s, "w/in/x")).allowed);
        loaded_fini(&l);
        scratch_fini(&s);
}

static void credentials_are_warned_about(void **state) {
        struct scratch s;

        scratch_init(&s);
        scratch_dir(&s, "home/.ssh");
        expect_warning(fs_body("read: [\"%s/home/\"]", s.dir), 4, 23, "holds credentials: .ssh",
                       "list it in filesystem.deny");
        expect_warning(fs_body("read: [\"%s/home/.ssh/\"]", s.dir), 4, 23, "holds credentials", "");
        expect_clean(fs_body("read: [\"%s/home/\"], deny: [\"%s/home/.ssh/\"]", s.dir, s.dir));
        scratch_fini(&s);
}

static void private_data_beside_an_endpoint_is_a_way_out(void **state) {
        expect_warning(role("  filesystem: {read: [\"/var/lib/dpkg/\"]}\n  network: {allowed_endpoints: "
                            "[\"a.example.com:443\"]}\n"),
                       4, 23, "a way out: '/var/lib/dpkg/' can be read and 'a.example.com:443' (line 5) can be reached",
                       "no endpoint");
}

static void crew_dir_is_expanded_to_its_real_path(void **state) {
        struct loaded l;
        struct scratch s;
        bool found = false;

        scratch_init(&s);
        scratch_dir(&s, "crew/data");
        assert_int_equal(symlink("crew", scratch_path(&s, "link")), 0);
        load_text(&l, role("  filesystem: {read: [\"${CREW_DIR}/data/\"]}\n"), scratch_path(&s, "link"));
        assert_int_equal(l.r, 0);
        assert_int_equal(l.report.n, 0);
        for (size_t i = 0; i < policy_n_paths(l.image); i++)
                found = found || strcmp(policy_path_at(l.image, i).path, scratch_path(&s, "crew/data")) == 0;
        assert_true(found);
        loaded_fini(&l);
        load_text(&l, role(""), "/nonexistent-crew");
        assert_int_equal(l.r, -ENOENT);
        loaded_fini(&l);
        scratch_fini(&s);
}

static void an_expansion_cannot_grow_without_end(void **state) {
        char *body = calloc(1, 16384), dir[3000];
        struct loaded l;
        struct scratch s;

        scratch_init(&s);
        strcpy(body, "  filesystem: {read: [\"");
        for (unsigned i = 0; i < 1000; i++)
                strcat(body, "${CREW_DIR}");
        strcat(body, "\"]}\n");
        snprintf(dir, sizeof(dir), "%.2000s", s.dir);
        load_text(&l, role(body), dir);
        assert_int_equal(l.r, -EINVAL);
        problem_with(&l, "longer than 8191 bytes");
        loaded_fini(&l);
        free(body);
        scratch_fini(&s);
}

static void normalising_is_lexical(void **state) {
        static const struct {
                const char *in, *out;
        } rows[] = {{"/", "/"},      {"//a//b/", "/a/b"},  {"/a/./b/../c", "/a/c"},
                    {"/../..", "/"}, {"/a/...", "/a/..."}, {"/.x", "/.x"}};
        char out[PATH_MAX], small[4];

        for (size_t i = 0; i < ELEMENTSOF(rows); i++) {
                assert_true(path_normalise(rows[i].in, out, sizeof(out)));
                assert_string_equal(out, rows[i].out);
        }
        assert_false(path_normalise("a/b", out, sizeof(out)));
        assert_false(path_normalise("", out, sizeof(out)));
        assert_false(path_normalise("/abcdef", small, sizeof(small)));
        assert_true(path_within("/a", "/a/b"));
        assert_true(path_within("/", "/a"));
        assert_false(path_within("/a", "/ab"));
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(the_text_of_a_path_is_strict),
                cmocka_unit_test(some_places_nobody_may_be_granted),
                cmocka_unit_test(a_tree_around_such_a_place_needs_a_hole),
                cmocka_unit_test(our_own_directories_cannot_be_granted),
                cmocka_unit_test(the_policy_itself_cannot_be_written),
                cmocka_unit_test(symbolic_links_are_refused_with_the_real_path),
                cmocka_unit_test(files_and_trees_are_told_apart),
                cmocka_unit_test(a_missing_path_is_a_warning_when_alone),
                cmocka_unit_test(what_can_be_written_is_not_executed),
                cmocka_unit_test(holes_lie_inside_what_is_granted),
                cmocka_unit_test(a_read_path_inside_a_write_tree_adds_nothing),
                cmocka_unit_test(credentials_are_warned_about),
                cmocka_unit_test(private_data_beside_an_endpoint_is_a_way_out),
                cmocka_unit_test(crew_dir_is_expanded_to_its_real_path),
                cmocka_unit_test(an_expansion_cannot_grow_without_end),
                cmocka_unit_test(normalising_is_lexical),
        };

        cmocka_set_message_output(CM_OUTPUT_TAP);
        return cmocka_run_group_tests(tests, NULL, NULL);
}
