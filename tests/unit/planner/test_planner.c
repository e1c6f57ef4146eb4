/* SPDX-License-Identifier: Apache-2.0 */
/* The plan says what the policy says: mounts, rights, programs, tripwires. */
#include "fixture.h"

static void read_tree_is_read_only_and_never_executable(void **state) {
        struct policy_image *image;

        make_dir("in");
        struct made m = make_of("read: [\"@/in/\"]", &image);
        assert_int_equal(m.r, 0);
        const struct plan_mount *mount = mount_of(m.plan, at("in"));
        assert_non_null(mount);
        assert_int_equal(mount->kind, PLAN_MOUNT_BIND);
        assert_true((mount->flags & (PLAN_MOUNT_RO | PLAN_MOUNT_NOEXEC)) == (PLAN_MOUNT_RO | PLAN_MOUNT_NOEXEC));
        assert_true(mount->flags & PLAN_MOUNT_IDMAP);
        assert_false(mount->flags & PLAN_MOUNT_FOLLOW);
        for (uint32_t layer = 0; layer < 2; layer++)
                assert_int_equal(rights_at(m.plan, layer, at("in")), READ_FILE | READ_DIR);
        free((void *)m.plan);
        policy_image_free(image);
}

static void write_tree_holds_files_directories_and_links_only(void **state) {
        const uint64_t never = EXECUTE | LANDLOCK_ACCESS_FS_MAKE_CHAR | LANDLOCK_ACCESS_FS_MAKE_BLOCK |
                               LANDLOCK_ACCESS_FS_MAKE_SOCK | LANDLOCK_ACCESS_FS_MAKE_FIFO | LANDLOCK_ACCESS_FS_IOCTL_DEV;
        struct policy_image *image;

        make_dir("out");
        struct made m = make_of("write: [\"@/out/\"]", &image);
        assert_int_equal(m.r, 0);
        const struct plan_mount *mount = mount_of(m.plan, at("out"));
        assert_int_equal(mount->flags & (PLAN_MOUNT_RO | PLAN_MOUNT_NOEXEC), PLAN_MOUNT_NOEXEC);
        uint64_t rights = rights_at(m.plan, 1, at("out"));
        assert_true(rights & WRITE_FILE);
        assert_true(rights & LANDLOCK_ACCESS_FS_REFER);
        assert_int_equal(rights & never, 0);
        free((void *)m.plan);
        policy_image_free(image);
}

static void single_file_gets_no_directory_rights(void **state) {
        struct policy_image *image;

        make_file("one.csv", "x", 0644);
        make_file("two.csv", "x", 0644);
        struct made m = make_of("read: [\"@/one.csv\"], write: [\"@/two.csv\"]", &image);
        assert_int_equal(m.r, 0);
        assert_int_equal(rights_at(m.plan, 1, at("one.csv")), READ_FILE);
        assert_int_equal(rights_at(m.plan, 1, at("two.csv")), READ_FILE | WRITE_FILE | LANDLOCK_ACCESS_FS_TRUNCATE);
        assert_int_equal(rights_at(m.plan, 1, scratch), 0);
        free((void *)m.plan);
        policy_image_free(image);
}

static void idmapping_starts_from_the_owner_on_disk(void **state) {
        struct policy_image *image;
        struct stat st;

        make_dir("in");
        assert_int_equal(stat(at("in"), &st), 0);
        struct made m = make_of("read: [\"@/in/\"]", &image);
        assert_int_equal(mount_of(m.plan, at("in"))->disk_uid, st.st_uid);
        assert_int_equal(mount_of(m.plan, at("in"))->disk_gid, st.st_gid);
        free((void *)m.plan);
        policy_image_free(image);
}

static void rootless_plan_asks_for_no_idmapping(void **state) {
        make_dir("in");
        struct policy_image *image = load("tester", "read: [\"@/in/\"]", "");
        struct planner_input in = input_for(image);
        in.root_mode = false;
        struct made m = make(&in);
        assert_int_equal(m.r, 0);
        for (uint32_t i = 0; i < m.plan->n_mounts; i++)
                assert_false(plan_mount_at(m.plan, i)->flags & PLAN_MOUNT_IDMAP);
        free((void *)m.plan);
        policy_image_free(image);
}

static void missing_write_directory_is_made_for_the_operator(void **state) {
        struct policy_image *image;
        struct made m = make_of("write: [\"@/new/deeper/\"]", &image);

        assert_int_equal(m.r, 0);
        const struct plan_mount *mount = mount_of(m.plan, at("new/deeper"));
        assert_true(mount->flags & PLAN_MOUNT_CREATE);
        assert_int_equal(mount->mode, 0700);
        assert_int_equal(mount->disk_uid, 1234);
        assert_int_equal(mount->disk_gid, 1235);
        free((void *)m.plan);
        policy_image_free(image);
}

static void runtime_may_be_executed_and_not_written(void **state) {
        struct policy_image *image;
        struct made m = make_of("read: []", &image);

        assert_int_equal(rights_at(m.plan, 1, "/usr/bin/true"), READ_FILE | READ_DIR | EXECUTE);
        assert_true(mount_of(m.plan, "/usr")->flags & PLAN_MOUNT_RO);
        assert_int_equal(rights_at(m.plan, 1, "/proc/self/status"), READ_FILE | READ_DIR);
        assert_int_equal(rights_at(m.plan, 1, "/") & (READ_DIR | READ_FILE), 0);
        assert_int_equal(rights_at(m.plan, 1, "/dev/null") & EXECUTE, 0);
        free((void *)m.plan);
        policy_image_free(image);
}

static void private_directories_are_not_executable(void **state) {
        static const char *const dirs[] = {"/tmp", "/home/agent"};
        struct policy_image *image;
        struct made m = make_of("read: []", &image);

        for (size_t i = 0; i < ELEMENTSOF(dirs); i++) {
                const struct plan_mount *mount = mount_of(m.plan, dirs[i]);
                assert_int_equal(mount->kind, PLAN_MOUNT_TMPFS);
                assert_true(mount->flags & PLAN_MOUNT_NOEXEC);
                assert_true(mount->size > 0);
                assert_int_equal(rights_at(m.plan, 1, dirs[i]) & EXECUTE, 0);
        }
        free((void *)m.plan);
        policy_image_free(image);
}

/* --- commands --- */

static void absent_command_is_an_outcome(void **state) {
        static const char *const argv[] = {"no-such-command"};
        struct policy_image *image = load("tester", "read: []", "");
        struct planner_input in = input_for(image);

        in.sandbox_argv = argv;
        struct made m = make(&in);
        assert_int_equal(m.r, PLANNER_COMMAND_ABSENT);
        assert_string_equal(m.err.msg, "no-such-command: command not found");
        policy_image_free(image);
}

static void command_outside_the_runtime_is_refused(void **state) {
        const char *argv[] = {NULL};

        make_dir("in");
        make_file("in/prog", "#!/bin/sh\n", 0755);
        struct policy_image *image = load("tester", "read: [\"@/in/\"]", "");
        struct planner_input in = input_for(image);
        argv[0] = at("in/prog");
        in.sandbox_argv = argv;
        struct made m = make(&in);
        assert_int_equal(m.r, PLANNER_COMMAND_REFUSED);
        policy_image_free(image);
}

static void command_in_filesystem_exec_is_accepted(void **state) {
        const char *argv[] = {NULL};

        make_dir("bin");
        make_file("bin/prog", "#!/bin/sh\n", 0755);
        struct policy_image *image = load("tester", "exec: [\"@/bin/\"]", "");
        struct planner_input in = input_for(image);
        argv[0] = at("bin/prog");
        in.sandbox_argv = argv;
        struct made m = make(&in);
        assert_int_equal(m.r, 0);
        assert_int_equal(rights_at(m.plan, 1, at("bin/prog")), READ_FILE | READ_DIR | EXECUTE);
        assert_false(mount_of(m.plan, at("bin"))->flags & PLAN_MOUNT_NOEXEC);
        free((void *)m.plan);
        policy_image_free(image);
}

static void command_is_named_by_its_path_in_the_plan(void **state) {
        struct policy_image *image;
        struct made m = make_of("read: []", &image);

        assert_string_equal(plan_string_at(m.plan, plan_program_at(m.plan, 0)->first_arg), "/usr/bin/true");
        free((void *)m.plan);
        policy_image_free(image);
}

/* --- a crew --- */

struct crew {
        struct crew_agent agents[2];
        struct crew_tool tools[3];
        const char *agent_argv[2][3];
        const char *tool_argv[3][3];
        struct crew_file file;
};

/* Two agents; the first may use two of three tools. */
static void crew_up(struct crew *c, const char *mine, const char *other) {
        static const char *const tools[] = {"quotes", "parser", "wire"};

        make_dir("tools");
        make_dir("agents");
        make_file("agents/a.py", "", 0644);
        *c = (struct crew){0};
        for (size_t i = 0; i < 3; i++) {
                char rel[64];
                snprintf(rel, sizeof(rel), "tools/%s", tools[i]);
                make_file(rel, "#!/bin/sh\n", 0755);
                c->tool_argv[i][0] = strdup(at(rel));
                c->tools[i] = (struct crew_tool){
                        .name = tools[i], .command = c->tool_argv[i], .n_command = 1, .timeout_ms = 5000};
        }
        for (size_t i = 0; i < 2; i++) {
                c->agent_argv[i][0] = "sh";
                c->agent_argv[i][1] = strdup(at("agents/a.py"));
                c->agents[i] =
                        (struct crew_agent){.name = i ? "other" : "mine",
                                            .command = c->agent_argv[i],
                                            .n_command = 2,
                                            .driver = PLAN_DRIVER_EXEC_JSON,
                                            .policy = i ? load("other", other, "")
                                                        : load("mine", mine, "  tools: {allowed: [quotes, parser]}\n")};
        }
        c->file = (struct crew_file){
                .name = "crew", .dir = scratch, .agents = c->agents, .n_agents = 2, .tools = c->tools, .n_tools = 3};
}

static void crew_down(struct crew *c) {
        for (size_t i = 0; i < 3; i++)
                free((void *)c->tool_argv[i][0]);
        for (size_t i = 0; i < 2; i++) {
                free((void *)c->agent_argv[i][1]);
                policy_image_free(c->agents[i].policy);
        }
}

static struct made make_crew(struct crew *c, const char *home) {
        struct planner_input in = input_for(c->agents[0].policy);

        in.crew = &c->file;
        in.agent = &c->agents[0];
        in.operator_home = home;
        in.crew_call = "/usr/bin/true";
        return make(&in);
}

static void tools_are_beyond_the_agents_layer(void **state) {
        struct crew c;

        crew_up(&c, "read: []", "read: []");
        struct made m = make_crew(&c, NULL);
        if (m.r < 0)
                fail_msg("%s", m.err.msg);
        const struct plan_program *quotes = plan_program_find(m.plan, PLAN_PROGRAM_TOOL, "quotes");
        const struct plan_program *parser = plan_program_find(m.plan, PLAN_PROGRAM_TOOL, "parser");
        assert_non_null(quotes);
        assert_non_null(parser);
        assert_int_equal(rights_at(m.plan, 1, at("tools/quotes")) & ~READ_DIR, 0);
        assert_int_equal(rights_at(m.plan, quotes->layer, at("tools/quotes")) & ~READ_DIR, READ_FILE | EXECUTE);
        assert_int_equal(rights_at(m.plan, parser->layer, at("tools/quotes")) & ~READ_DIR, 0);
        assert_int_equal(rights_at(m.plan, 0, at("tools/quotes")) & ~READ_DIR, READ_FILE | EXECUTE);
        free((void *)m.plan);
        crew_down(&c);
}

static void denied_tool_is_not_in_the_plan(void **state) {
        struct crew c;

        crew_up(&c, "read: []", "read: []");
        struct made m = make_crew(&c, NULL);
        assert_null(plan_program_find(m.plan, PLAN_PROGRAM_TOOL, "wire"));
        const struct plan_mount *mount = mount_of(m.plan, at("tools/wire"));
        assert_true(!mount || mount->kind == PLAN_MOUNT_DECOY_FILE);
        free((void *)m.plan);
        crew_down(&c);
}

static void agents_script_is_readable_by_the_agent_only(void **state) {
        struct crew c;

        crew_up(&c, "read: []", "read: []");
        struct made m = make_crew(&c, NULL);
        assert_int_equal(rights_at(m.plan, 1, at("agents/a.py")), READ_FILE | READ_DIR); /* its directory may be listed */
        assert_int_equal(rights_at(m.plan, 2, at("agents/a.py")), 0);
        free((void *)m.plan);
        crew_down(&c);
}

static void no_layer_has_more_than_the_outer_one(void **state) {
        struct crew c;

        make_dir("r");
        make_dir("w");
        crew_up(&c, "read: [\"@/r/\"], write: [\"@/w/\"]", "read: []");
        struct made m = make_crew(&c, NULL);
        assert_int_equal(m.r, 0);
        for (uint32_t layer = 1; layer < m.plan->n_layers; layer++) {
                const struct plan_layer *l = plan_layer_at(m.plan, layer);
                for (uint32_t i = 0; i < l->n_rules; i++) {
                        const struct plan_rule *r = plan_rule_at(m.plan, l->first_rule + i);
                        assert_int_equal(r->access & ~rights_at(m.plan, 0, plan_str(m.plan, r->path)), 0);
                }
        }
        free((void *)m.plan);
        crew_down(&c);
}

static void tool_in_a_write_tree_is_refused(void **state) {
        struct crew c;

        crew_up(&c, "write: [\"@/tools/\"]", "read: []");
        struct made m = make_crew(&c, NULL);
        assert_int_equal(m.r, -EPERM);
        crew_down(&c);
}

static void no_rule_reaches_a_tripwire(void **state) {
        struct crew c;
        unsigned n = 0;

        make_dir("secret");
        make_dir("mine");
        crew_up(&c, "read: [\"@/mine/\"]", "read: [\"@/secret/\"], write: [\"@/theirs/\"]");
        struct made m = make_crew(&c, at("home"));
        assert_int_equal(m.r, 0);
        for (uint32_t i = 0; i < m.plan->n_mounts; i++) {
                const struct plan_mount *mount = plan_mount_at(m.plan, i);
                if (mount->kind != PLAN_MOUNT_DECOY_FILE && mount->kind != PLAN_MOUNT_DECOY_DIR)
                        continue;
                n++;
                assert_int_equal(mount->mode, mount->kind == PLAN_MOUNT_DECOY_DIR ? 0755 : 0444);
                for (uint32_t layer = 0; layer < m.plan->n_layers; layer++)
                        assert_int_equal(rights_at(m.plan, layer, plan_str(m.plan, mount->dst)) & (READ_FILE | WRITE_FILE),
                                         0);
        }
        assert_true(n >= 10);
        assert_int_equal(mount_of(m.plan, at("secret"))->kind, PLAN_MOUNT_DECOY_DIR);
        assert_int_equal(mount_of(m.plan, at("theirs"))->kind, PLAN_MOUNT_DECOY_DIR);
        assert_int_equal(mount_of(m.plan, at("home/.ssh/id_rsa"))->kind, PLAN_MOUNT_DECOY_FILE);
        assert_int_equal(mount_of(m.plan, "/etc/shadow")->kind, PLAN_MOUNT_DECOY_FILE);
        free((void *)m.plan);
        crew_down(&c);
}

/* Of three plans in a row, the second with what was gathered for the first, the third after a policy has changed. */
static void what_is_gathered_once_says_the_same(void **state) {
        struct planner_crew *together = planner_crew_new();
        struct crew c;
        void *alone, *shared;
        size_t n_alone, n_shared;

        make_dir("secret");
        crew_up(&c, "read: []", "read: [\"@/secret/\"], write: [\"@/theirs/\"]");
        for (unsigned i = 0; i < 3; i++) {
                struct planner_input in = input_for(c.agents[0].policy);
                in.crew = &c.file;
                in.agent = &c.agents[0];
                in.crew_call = "/usr/bin/true";
                assert_int_equal(planner_make(&in, &alone, &n_alone, NULL), 0);
                in.together = together;
                assert_int_equal(planner_make(&in, &shared, &n_shared, NULL), 0);
                assert_int_equal(n_alone, n_shared);
                assert_memory_equal(alone, shared, n_alone);
                assert_int_equal(mount_of(shared, at(i < 2 ? "secret" : "hidden"))->kind, PLAN_MOUNT_DECOY_DIR);
                assert_true(i < 2 || !mount_of(shared, at("secret")));
                free(alone);
                free(shared);
                if (i == 1) {
                        make_dir("hidden");
                        policy_image_free(c.agents[1].policy);
                        c.agents[1].policy = load("other", "read: [\"@/hidden/\"]", "");
                }
        }
        crew_down(&c);
        assert_null(planner_crew_free(together));
}

static void granted_path_is_no_tripwire(void **state) {
        struct crew c;

        make_dir("shared/sub");
        crew_up(&c, "read: [\"@/shared/\"]", "read: [\"@/shared/sub/\"]");
        struct made m = make_crew(&c, NULL);
        assert_int_equal(m.r, 0);
        assert_int_equal(mount_index(m.plan, at("shared/sub")), -1);
        free((void *)m.plan);
        crew_down(&c);
}

static void what_another_agent_will_write_may_be_missing(void **state) {
        struct crew c;

        crew_up(&c, "read: [\"@/feed/out/\"]", "write: [\"@/feed/\"]");
        struct made m = make_crew(&c, NULL);
        if (m.r < 0)
                fail_msg("%s", m.err.msg);
        assert_true(mount_of(m.plan, at("feed/out"))->flags & PLAN_MOUNT_CREATE);
        free((void *)m.plan);
        crew_down(&c);
}

/* The collector plants a link where the analyzer's grant points. */
static void link_planted_by_another_agent_is_refused(void **state) {
        struct crew c;

        make_dir("feed/out");
        make_dir("private");
        crew_up(&c, "read: [\"@/feed/out/\"]", "write: [\"@/feed/\"]");
        assert_int_equal(rmdir(at("feed/out")), 0);
        assert_int_equal(symlink(at("private"), at("feed/out")), 0);
        struct made m = make_crew(&c, NULL);
        assert_int_equal(m.r, -ELOOP);
        crew_down(&c);
}

/* Nor may a command lead through one. */
static void command_through_a_planted_link_is_refused(void **state) {
        struct crew c;

        make_dir("feed");
        crew_up(&c, "write: [\"@/feed/\"]", "read: []");
        assert_int_equal(symlink(at("tools/wire"), at("feed/quotes")), 0);
        free((void *)c.tool_argv[0][0]);
        c.tool_argv[0][0] = strdup(at("feed/quotes"));
        struct made m = make_crew(&c, NULL);
        assert_int_not_equal(m.r, 0);
        crew_down(&c);
}

int main(void) {
        const struct CMUnitTest tests[] = {
#define T(name) cmocka_unit_test_setup_teardown(name, fixture_up, fixture_down)
                T(read_tree_is_read_only_and_never_executable),
                T(write_tree_holds_files_directories_and_links_only),
                T(single_file_gets_no_directory_rights),
                T(idmapping_starts_from_the_owner_on_disk),
                T(rootless_plan_asks_for_no_idmapping),
                T(missing_write_directory_is_made_for_the_operator),
                T(runtime_may_be_executed_and_not_written),
                T(private_directories_are_not_executable),
                T(absent_command_is_an_outcome),
                T(command_outside_the_runtime_is_refused),
                T(command_in_filesystem_exec_is_accepted),
                T(command_is_named_by_its_path_in_the_plan),
                T(tools_are_beyond_the_agents_layer),
                T(denied_tool_is_not_in_the_plan),
                T(agents_script_is_readable_by_the_agent_only),
                T(no_layer_has_more_than_the_outer_one),
                T(tool_in_a_write_tree_is_refused),
                T(no_rule_reaches_a_tripwire),
                T(what_is_gathered_once_says_the_same),
                T(granted_path_is_no_tripwire),
                T(what_another_agent_will_write_may_be_missing),
                T(link_planted_by_another_agent_is_refused),
                T(command_through_a_planted_link_is_refused),
        };

        cmocka_set_message_output(CM_OUTPUT_TAP);
        return cmocka_run_group_tests(tests, NULL, NULL);
}
