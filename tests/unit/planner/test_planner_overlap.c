/* SPDX-License-Identifier: Apache-2.0 */
/* Paths that lie in one another, lead elsewhere, or are not what they were written as. */
#include "fixture.h"

static void write_in_a_read_tree_is_mounted_on_top(void **state) {
        struct policy_image *image;

        make_dir("data/out");
        struct made m = make_of("read: [\"@/data/\"], write: [\"@/data/out/\"]", &image);
        assert_int_equal(m.r, 0);
        int outer = mount_index(m.plan, at("data")), inner = mount_index(m.plan, at("data/out"));
        assert_true(outer >= 0 && inner > outer);
        assert_true(plan_mount_at(m.plan, (uint32_t)outer)->flags & PLAN_MOUNT_RO);
        assert_false(plan_mount_at(m.plan, (uint32_t)inner)->flags & PLAN_MOUNT_RO);
        assert_true(rights_at(m.plan, 1, at("data/out")) & WRITE_FILE);
        assert_false(rights_at(m.plan, 1, at("data")) & WRITE_FILE);
        free((void *)m.plan);
        policy_image_free(image);
}

static void read_in_a_write_tree_takes_nothing_away(void **state) {
        struct policy_image *image;

        make_dir("data/in");
        struct made m = make_of("write: [\"@/data/\"], read: [\"@/data/in/\"]", &image);
        assert_int_equal(m.r, 0);
        assert_int_equal(mount_index(m.plan, at("data/in")), -1);
        assert_true(rights_at(m.plan, 1, at("data/in")) & WRITE_FILE);
        free((void *)m.plan);
        policy_image_free(image);
}

static void paths_below_tmp_come_after_the_private_tmp(void **state) {
        struct policy_image *image;
        char dir[] = "/tmp/planner-XXXXXX", section[128];

        assert_non_null(mkdtemp(dir));
        snprintf(section, sizeof(section), "write: [\"%s/\"]", dir);
        struct made m = make_of(section, &image);
        assert_int_equal(m.r, 0);
        assert_true(mount_index(m.plan, dir) > mount_index(m.plan, "/tmp"));
        /* The rule of the private /tmp reaches the tree too: it must not add sockets and pipes to it. */
        assert_int_equal(rights_at(m.plan, 1, dir) & (LANDLOCK_ACCESS_FS_MAKE_SOCK | LANDLOCK_ACCESS_FS_MAKE_FIFO), 0);
        rmdir(dir);
        free((void *)m.plan);
        policy_image_free(image);
}

static void read_only_part_is_mounted_and_pinned(void **state) {
        struct policy_image *image;

        make_dir("w/a/b/keep");
        struct made m = make_of("write: [\"@/w/\"], read_only: [\"@/w/a/b/keep/\"]", &image);
        assert_int_equal(m.r, 0);
        int tree = mount_index(m.plan, at("w")), a = mount_index(m.plan, at("w/a")), b = mount_index(m.plan, at("w/a/b")),
            keep = mount_index(m.plan, at("w/a/b/keep"));
        assert_true(tree >= 0 && tree < a && a < b && b < keep);
        assert_false(plan_mount_at(m.plan, (uint32_t)a)->flags & PLAN_MOUNT_RO);
        assert_true(plan_mount_at(m.plan, (uint32_t)keep)->flags & PLAN_MOUNT_RO);
        free((void *)m.plan);
        policy_image_free(image);
}

static void hole_comes_last_and_is_pinned(void **state) {
        struct policy_image *image;

        make_dir("w/a/hole");
        make_dir("r/hole");
        struct made m = make_of("write: [\"@/w/\"], read: [\"@/r/\"], deny: [\"@/w/a/hole/\", \"@/r/hole/\"]", &image);
        assert_int_equal(m.r, 0);
        int pin = mount_index(m.plan, at("w/a")), hole = mount_index(m.plan, at("w/a/hole")),
            other = mount_index(m.plan, at("r/hole"));
        assert_true(pin >= 0 && hole > pin && other >= 0);
        assert_int_equal(plan_mount_at(m.plan, (uint32_t)hole)->kind, PLAN_MOUNT_HOLE);
        assert_int_equal(plan_mount_at(m.plan, (uint32_t)other)->kind, PLAN_MOUNT_HOLE);
        for (uint32_t i = 0; i < m.plan->n_mounts; i++)
                if (plan_mount_at(m.plan, i)->kind == PLAN_MOUNT_BIND)
                        assert_true((int)i < hole);
        free((void *)m.plan);
        policy_image_free(image);
}

static void grant_inside_a_hole_is_left_out(void **state) {
        struct policy_image *image;

        make_dir("r/hole/inner");
        struct made m = make_of("read: [\"@/r/\"], write: [], deny: [\"@/r/hole/\"], exec: []", &image);
        assert_int_equal(m.r, 0);
        assert_int_equal(mount_index(m.plan, at("r/hole/inner")), -1);
        free((void *)m.plan);
        policy_image_free(image);
}

/* Exchanged after the policy was loaded: the loader saw what the policy says, the planner does not. */
static void made(const char *filesystem, const char *rel, bool file, int expect, const char *text) {
        struct policy_image *image = load("tester", filesystem, "");
        struct planner_input in = input_for(image);

        remove(at(rel));
        if (file)
                make_file(rel, "", 0644);
        struct made m = make(&in);
        assert_int_equal(m.r, expect);
        assert_non_null(strstr(m.err.msg, text));
        assert_non_null(strstr(m.err.msg, "role.yaml:"));
        policy_image_free(image);
}

static void tree_that_has_become_a_file_is_refused(void **state) {
        make_dir("t");
        made("read: [\"@/t/\"]", "t", true, -ENOTDIR, "is a file; write it without the trailing '/'");
}

static void path_that_has_gone_is_refused(void **state) {
        make_dir("t");
        made("read: [\"@/t/\"]", "t", false, -ENOENT, "does not exist");
}

static void hole_that_has_gone_is_refused(void **state) {
        make_dir("r");
        make_file("r/key", "", 0600);
        made("read: [\"@/r/\"], deny: [\"@/r/key\"]", "r/key", false, -ENOENT, "cannot be covered");
}

static void file_that_has_become_a_directory_is_refused(void **state) {
        make_file("f", "", 0644);
        struct policy_image *image = load("tester", "read: [\"@/f\"]", "");
        struct planner_input in = input_for(image);
        remove(at("f"));
        make_dir("f");
        struct made m = make(&in);
        assert_int_equal(m.r, -EISDIR);
        policy_image_free(image);
}

static void path_that_has_become_a_link_is_refused(void **state) {
        struct policy_image *image;

        make_dir("private");
        make_dir("in");
        image = load("tester", "read: [\"@/in/\"]", "");
        assert_int_equal(rmdir(at("in")), 0);
        assert_int_equal(symlink("private", at("in")), 0);
        struct planner_input in = input_for(image);
        struct made m = make(&in);
        assert_int_equal(m.r, -ELOOP);
        assert_non_null(strstr(m.err.msg, "symbolic link"));
        policy_image_free(image);
}

static void link_below_the_agents_own_write_tree_is_refused(void **state) {
        struct policy_image *image;

        make_dir("w/a/in");
        make_dir("private/in");
        image = load("tester", "write: [\"@/w/\"], read_only: [\"@/w/a/in/\"]", "");
        assert_int_equal(rename(at("w/a"), at("w/b")), 0);
        assert_int_equal(symlink(at("private"), at("w/a")), 0);
        struct planner_input in = input_for(image);
        struct made m = make(&in);
        assert_int_equal(m.r, -ELOOP);
        assert_non_null(strstr(m.err.msg, "where an agent may write"));
        policy_image_free(image);
}

static void socket_is_never_granted(void **state) {
        make_file("s", "", 0644);
        struct policy_image *image = load("tester", "read: [\"@/s\"]", "");
        struct planner_input in = input_for(image);
        remove(at("s"));
        assert_int_equal(mknod(at("s"), S_IFIFO | 0644, 0), 0);
        struct made m = make(&in);
        assert_int_equal(m.r, -EINVAL);
        policy_image_free(image);
}

static void optional_path_may_be_missing(void **state) {
        struct policy_image *image;
        struct made m = make_of("read: [{path: \"@/none/\", optional: true}]", &image);

        assert_int_equal(m.r, 0);
        assert_int_equal(mount_index(m.plan, at("none")), -1);
        free((void *)m.plan);
        policy_image_free(image);
}

int main(void) {
        const struct CMUnitTest tests[] = {
#define T(name) cmocka_unit_test_setup_teardown(name, fixture_up, fixture_down)
                T(write_in_a_read_tree_is_mounted_on_top),
                T(read_in_a_write_tree_takes_nothing_away),
                T(paths_below_tmp_come_after_the_private_tmp),
                T(read_only_part_is_mounted_and_pinned),
                T(hole_comes_last_and_is_pinned),
                T(grant_inside_a_hole_is_left_out),
                T(path_that_has_become_a_link_is_refused),
                T(link_below_the_agents_own_write_tree_is_refused),
                T(tree_that_has_become_a_file_is_refused),
                T(path_that_has_gone_is_refused),
                T(hole_that_has_gone_is_refused),
                T(file_that_has_become_a_directory_is_refused),
                T(socket_is_never_granted),
                T(optional_path_may_be_missing),
        };

        cmocka_set_message_output(CM_OUTPUT_TAP);
        return cmocka_run_group_tests(tests, NULL, NULL);
}
