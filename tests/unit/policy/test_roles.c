/* SPDX-License-Identifier: Apache-2.0 */
/* Every role and runtime set that is shipped loads on its own, and keeps what all of them promise. */
#include "support.h"

#include "common/paths.h"
#include "common/util.h"

#include <dirent.h>
#include <string.h>

static struct scratch s;
static char data[PATH_MAX];

static int setup(void **state) {
        scratch_init(&s);
        scratch_file(&s, "crew.yaml", "crew: x\n");
        return crew_data_dir(data, NULL);
}
static int teardown(void **state) {
        scratch_fini(&s);
        return 0;
}

typedef void (*each_fn)(const char *name, const char *path);

static size_t for_each(const char *sub, each_fn fn) {
        char dir[PATH_MAX], path[PATH_MAX];
        size_t n = 0;

        snprintf(dir, sizeof(dir), "%.4000s/%s", data, sub);
        DIR *d = opendir(dir);
        assert_non_null(d);
        for (struct dirent *e; (e = readdir(d));) {
                if (e->d_name[0] == '.')
                        continue;
                snprintf(path, sizeof(path), "%.3800s/%.200s", dir, e->d_name);
                char *dot = strrchr(e->d_name, '.');
                assert_non_null(dot);
                assert_string_equal(dot, ".yaml");
                *dot = '\0';
                fn(e->d_name, path);
                n++;
        }
        closedir(d);
        return n;
}

static void load_role(struct loaded *l, const char *path) {
        load_file(l, path, NULL, s.dir);
        if (l->r != 0)
                fail_msg("%s", l->err.msg);
}

static void check_loads(const char *name, const char *path) {
        struct loaded l;

        load_role(&l, path);
        assert_string_equal(policy_agent(l.image), name);
        for (size_t i = 0; i < l.report.n; i++) /* paths of a crew that is not here are all that may be missing */
                if (!strstr(l.report.items[i].text, "does not exist"))
                        fail_msg("%s: %s", path, l.report.items[i].text);
        loaded_fini(&l);
}

static void every_role_loads_and_is_named_like_its_file(void **state) {
        assert_true(for_each("roles", check_loads) >= 15);
}

static void check_walls(const char *name, const char *path) {
        struct loaded l;
        char object[PATH_MAX];

        load_role(&l, path);
        snprintf(object, sizeof(object), "%.4000s/crew.yaml", s.dir);
        assert_false(policy_decide(l.image, POLICY_DO_READ, object).allowed);
        assert_false(policy_decide(l.image, POLICY_DO_WRITE, object).allowed);
        assert_false(policy_decide(l.image, POLICY_DO_READ, "/etc/shadow").allowed);
        assert_false(policy_decide(l.image, POLICY_DO_READ, "/root/.ssh/id_ed25519").allowed);
        assert_false(policy_decide(l.image, POLICY_DO_WRITE, "/usr/bin/env").allowed);
        assert_false(policy_decide(l.image, POLICY_DO_TOOL, "not_a_tool_of_any_role").allowed);
        assert_false(policy_decide(l.image, POLICY_DO_SEND, "nobody").allowed);
        assert_false(policy_decide(l.image, POLICY_DO_CONNECT, "exfil.attacker.com:443").allowed);
        assert_false(policy_decide(l.image, POLICY_DO_CONNECT, "169.254.169.254:80").allowed);
        assert_true(policy_decide(l.image, POLICY_DO_EXEC, "/usr/bin/env").allowed);
        assert_int_equal(policy_n_names(l.image, POLICY_DEGRADED), 0);
        assert_true(policy_limits_of(l.image).memory_bytes && policy_limits_of(l.image).wall_ms);
        loaded_fini(&l);
}

static void no_role_gives_more_than_its_kind_of_work_needs(void **state) {
        for_each("roles", check_walls);
}

static void check_runtime(const char *name, const char *path) {
        char body[200];
        struct loaded l;

        snprintf(body, sizeof(body), "  filesystem: {runtime: %.60s}\n", name);
        load_text(&l, role(body), NULL);
        if (l.r != 0)
                fail_msg("%s", l.err.msg);
        assert_true(policy_decide(l.image, POLICY_DO_EXEC, "/usr/bin/env").allowed);
        assert_true(policy_decide(l.image, POLICY_DO_READ, "/etc/ld.so.cache").allowed);
        assert_false(policy_decide(l.image, POLICY_DO_EXEC, "/etc/ld.so.cache").allowed);
        assert_false(policy_decide(l.image, POLICY_DO_WRITE, "/usr/bin/x").allowed);
        assert_false(policy_decide(l.image, POLICY_DO_READ, "/etc/shadow").allowed);
        loaded_fini(&l);
}

static void every_runtime_set_loads_and_holds_the_base(void **state) {
        assert_true(for_each("runtimes", check_runtime) >= 5);
}

static void sets_can_be_combined_and_list_nothing_twice(void **state) {
        struct loaded l;

        load_text(&l, role("  filesystem: {runtime: [base, python3, git, fonts, base]}\n"), NULL);
        assert_int_equal(l.r, 0);
        for (size_t i = 0; i < policy_n_paths(l.image); i++)
                for (size_t k = 0; k < i; k++) {
                        struct policy_path a = policy_path_at(l.image, i), b = policy_path_at(l.image, k);
                        assert_false(a.kind == b.kind && strcmp(a.path, b.path) == 0);
                }
        loaded_fini(&l);
        load_text(&l, role("  filesystem: {runtime: []}\n"), NULL);
        assert_int_equal(l.r, 0);
        assert_int_equal(policy_n_paths(l.image), 0);
        assert_false(policy_decide(l.image, POLICY_DO_EXEC, "/usr/bin/env").allowed);
        loaded_fini(&l);
}

static void the_operators_own_sets_come_first(void **state) {
        const char *home = getenv("CREWD_HOME");
        struct scratch own = {0};
        struct loaded l;

        assert_non_null(home);
        assert_int_equal(crew_mkdir_p(home, 0700, NULL), 0);
        assert_non_null(realpath(home, own.dir));
        scratch_file(&own, "etc/runtimes/mine.yaml", "runtime: mine\nincludes: [base]\nexec: [/opt/mine/]\n");
        scratch_file(&own, "etc/runtimes/loop.yaml", "runtime: loop\nincludes: [loop, base]\n");
        for (char c = 'a'; c < 'h'; c++) {
                char name[40], text[60];
                snprintf(name, sizeof(name), "etc/runtimes/chain-%c.yaml", c);
                snprintf(text, sizeof(text), "runtime: chain-%c\nincludes: [chain-%c]\n", c, c + 1);
                scratch_file(&own, name, text);
        }
        scratch_file(&own, "etc/runtimes/odd.yaml", "runtime: other\nexec: [relative]\nraed: []\n");
        scratch_file(&own, "etc/seccomp/mine.profile", "allow memfd_create\n");
        load_text(&l, role("  filesystem: {runtime: mine}\n  syscalls: {profile: mine}\n"), NULL);
        assert_int_equal(l.r, 0);
        assert_true(policy_decide(l.image, POLICY_DO_EXEC, "/opt/mine/bin/x").allowed);
        loaded_fini(&l);
        expect_clean(role("  filesystem: {runtime: loop}\n")); /* once is enough */
        expect_error(role("  filesystem: {runtime: chain-a}\n"), 4, 25,
                     "runtime sets include each other more than 4 levels deep", "");
        load_text(&l, role("  filesystem: {runtime: odd}\n"), NULL);
        assert_int_equal(problem_with(&l, "runtime 'other' in the file of 'odd'")->line, 1);
        assert_int_equal(problem_with(&l, "not an absolute path: 'relative'")->line, 2);
        assert_int_equal(problem_with(&l, "unknown key 'raed' in a runtime set")->line, 3);
        loaded_fini(&l);
        scratch_fini(&own);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(every_role_loads_and_is_named_like_its_file),
                cmocka_unit_test(no_role_gives_more_than_its_kind_of_work_needs),
                cmocka_unit_test(every_runtime_set_loads_and_holds_the_base),
                cmocka_unit_test(the_operators_own_sets_come_first),
                cmocka_unit_test(sets_can_be_combined_and_list_nothing_twice),
        };

        cmocka_set_message_output(CM_OUTPUT_TAP);
        return cmocka_run_group_tests(tests, setup, teardown);
}
