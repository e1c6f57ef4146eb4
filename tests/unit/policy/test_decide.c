/* SPDX-License-Identifier: Apache-2.0 */
/* Decisions: default deny, the deciding rule with its line, and what a person could do. */
#include "support.h"

#include "common/util.h"

#include <string.h>

static struct scratch scratch;
static struct loaded loaded;

static int setup(void **state) {
        char body[8 * PATH_MAX];

        scratch_init(&scratch);
        scratch_dir(&scratch, "in/hole");
        scratch_dir(&scratch, "in/deep");
        scratch_dir(&scratch, "out/fixed");
        scratch_dir(&scratch, "bin");
        scratch_file(&scratch, "one.txt", "x");
        snprintf(body, sizeof(body),
                 "  filesystem:\n"                                    /* 4 */
                 "    read: [\"%1$s/in/\",\n"                         /* 5 */
                 "      \"%1$s/in/deep/\", \"%1$s/one.txt\"]\n"       /* 6 */
                 "    write: [\"%1$s/out/\"]\n"                       /* 7 */
                 "    exec: [\"%1$s/bin/\"]\n"                        /* 8 */
                 "    deny: [\"%1$s/in/hole/\"]\n"                    /* 9 */
                 "    read_only: [\"%1$s/out/fixed/\"]\n"             /* 10 */
                 "  network:\n"                                       /* 11 */
                 "    allowed_endpoints: [\"api.example.com:443\",\n" /* 12 */
                 "      \"*.example.org:443\", \"10.0.0.1:5432\"]\n"  /* 13 */
                 "  tools:\n"                                         /* 14 */
                 "    allowed: [good_tool, both_tool]\n"              /* 15 */
                 "    denied: [\"*\", both_tool]\n"                   /* 16 */
                 "  ipc: {allowed_targets: [friend]}\n",              /* 17 */
                 scratch.dir);
        load_text(&loaded, role(body), NULL);
        if (loaded.r != 0)
                print_error("%s\n", loaded.err.msg);
        return loaded.r;
}

static int teardown(void **state) {
        loaded_fini(&loaded);
        scratch_fini(&scratch);
        return 0;
}

static void check(enum policy_verb verb, const char *object, bool allowed, const char *section, int line,
                  const char *text) {
        struct policy_verdict v = policy_decide(loaded.image, verb, object);
        char rule[64];

        if (v.allowed != allowed || strcmp(v.section, section) != 0 || (int)v.mark.line != line || !strstr(v.text, text))
                fail_msg("%s %s: got %d %s:%u '%s', expected %d %s:%d '%s'", policy_verb_names[verb], object, v.allowed,
                         v.section, v.mark.line, v.text, allowed, section, line, text);
        if (line) {
                snprintf(rule, sizeof(rule), "role.yaml:%d", line);
                assert_string_equal(v.rule, rule);
        }
}

static const char *in(const char *name) {
        return scratch_path(&scratch, name);
}

static void the_longest_path_decides(void **state) {
        check(POLICY_DO_READ, in("in/x"), true, "filesystem.read", 5, "allowed by filesystem.read");
        check(POLICY_DO_READ, in("in"), true, "filesystem.read", 5, "");
        check(POLICY_DO_READ, in("in/deep/x"), true, "filesystem.read", 6, "");
        check(POLICY_DO_READ, in("one.txt"), true, "filesystem.read", 6, "");
        check(POLICY_DO_READ, in("in/../out/x"), true, "filesystem.write", 7, "");
        check(POLICY_DO_READ, in("bin/x"), true, "filesystem.exec", 8, "");
        check(POLICY_DO_READ, "/usr/bin/env", true, "filesystem.runtime", 1, "");
}

static void what_is_not_listed_is_denied(void **state) {
        check(POLICY_DO_READ, "/data/client-portfolios/acme.csv", false, "filesystem.read", 0, "not in read policy");
        check(POLICY_DO_READ, in("input"), false, "filesystem.read", 0, "not in read policy");
        check(POLICY_DO_READ, in("one.txt/x"), false, "filesystem.read", 0, "not in read policy");
        check(POLICY_DO_READ, in("in/../../x"), false, "filesystem.read", 0, "not in read policy");
        check(POLICY_DO_READ, "relative", false, "filesystem.read", 0, "not an absolute path");
        check(POLICY_DO_READ, "", false, "filesystem.read", 0, "not an absolute path");
        check(POLICY_DO_READ, "/etc/shadow", false, "filesystem.read", 0, "not in read policy");
}

static void a_hole_beats_every_grant(void **state) {
        check(POLICY_DO_READ, in("in/hole/x"), false, "filesystem.deny", 9, "denied by filesystem.deny");
        check(POLICY_DO_READ, in("in/hole"), false, "filesystem.deny", 9, "");
        check(POLICY_DO_WRITE, in("in/hole/x"), false, "filesystem.deny", 9, "");
}

static void writing_needs_a_write_tree(void **state) {
        check(POLICY_DO_WRITE, in("out/x"), true, "filesystem.write", 7, "");
        check(POLICY_DO_WRITE, in("out/fixed/x"), false, "filesystem.read_only", 10, "read-only by filesystem.read_only");
        check(POLICY_DO_READ, in("out/fixed/x"), true, "filesystem.read_only", 10, "");
        check(POLICY_DO_WRITE, in("in/x"), false, "filesystem.write", 0, "not in write policy");
        check(POLICY_DO_WRITE, "/usr/bin/env", false, "filesystem.write", 0, "not in write policy");
        check(POLICY_DO_WRITE, in("bin/x"), false, "filesystem.write", 0, "not in write policy");
}

static void executing_needs_the_runtime_or_exec(void **state) {
        check(POLICY_DO_EXEC, "/usr/bin/env", true, "filesystem.runtime", 1, "");
        check(POLICY_DO_EXEC, "/bin/sh", true, "filesystem.runtime", 1, "");
        check(POLICY_DO_EXEC, in("bin/x"), true, "filesystem.exec", 8, "");
        check(POLICY_DO_EXEC, in("in/x"), false, "filesystem.exec", 0, "not in exec policy");
        check(POLICY_DO_EXEC, in("out/x"), false, "filesystem.exec", 0, "not in exec policy");
        check(POLICY_DO_EXEC, "/etc/ld.so.cache", false, "filesystem.exec", 0, "not in exec policy");
}

static void names_beat_wildcards_and_denied_beats_allowed(void **state) {
        check(POLICY_DO_TOOL, "good_tool", true, "tools.allowed", 15, "allowed by tools.allowed");
        check(POLICY_DO_TOOL, "both_tool", false, "tools.denied", 16, "denied by tools.denied");
        check(POLICY_DO_TOOL, "other_tool", false, "tools.denied", 16, "not in tools.allowed");
        check(POLICY_DO_TOOL, "*", false, "tools.allowed", 0, "not in tools.allowed");
        check(POLICY_DO_TOOL, "good_tool\n", false, "tools.allowed", 0, "not in tools.allowed");
        check(POLICY_DO_TOOL, "", false, "tools.allowed", 0, "not in tools.allowed");
}

static void wildcards_alone(void **state) {
        static const struct {
                const char *tools;
                bool named, other;
        } rows[] = {
                {"{allowed: [\"*\"]}", true, true},
                {"{allowed: [\"*\"], denied: [named]}", false, true},
                {"{allowed: [named], denied: [\"*\"]}", true, false},
                {"{allowed: [\"*\"], denied: [\"*\"]}", false, false},
                {"{allowed: [named]}", true, false},
                {"{denied: [other]}", false, false},
                {"{}", false, false},
        };

        for (size_t i = 0; i < ELEMENTSOF(rows); i++) {
                struct loaded l;
                char body[200];
                snprintf(body, sizeof(body), "  tools: %s\n", rows[i].tools);
                load_text(&l, role(body), NULL);
                assert_int_equal(l.r, 0);
                assert_int_equal(policy_decide(l.image, POLICY_DO_TOOL, "named").allowed, rows[i].named);
                assert_int_equal(policy_decide(l.image, POLICY_DO_TOOL, "other").allowed, rows[i].other);
                loaded_fini(&l);
        }
}

static void messages_go_to_listed_agents_only(void **state) {
        check(POLICY_DO_SEND, "friend", true, "ipc.allowed_targets", 17, "");
        check(POLICY_DO_SEND, "stranger", false, "ipc.allowed_targets", 0, "not in ipc.allowed_targets");
        check(POLICY_DO_SEND, "friend ", false, "ipc.allowed_targets", 0, "");
}

static void connections_go_to_listed_endpoints_only(void **state) {
        check(POLICY_DO_CONNECT, "api.example.com:443", true, "network.allowed_endpoints", 12, "");
        check(POLICY_DO_CONNECT, "API.example.com:443", true, "network.allowed_endpoints", 12, "");
        check(POLICY_DO_CONNECT, "a.example.org:443", true, "network.allowed_endpoints", 13, "");
        check(POLICY_DO_CONNECT, "a.b.example.org:443", false, "network.allowed_endpoints", 0, "not in allowed_endpoints");
        check(POLICY_DO_CONNECT, "10.0.0.1:5432", true, "network.allowed_endpoints", 13, "");
        check(POLICY_DO_CONNECT, "api.example.com:80", false, "network.allowed_endpoints", 0, "not in allowed_endpoints");
        check(POLICY_DO_CONNECT, "api.example.com", false, "network.allowed_endpoints", 0, "the port is missing");
        check(POLICY_DO_CONNECT, "*.example.org:443", false, "network.allowed_endpoints", 0, "");
        check(POLICY_DO_CONNECT, "[::ffff:10.0.0.1]:5432", false, "network.allowed_endpoints", 0, "");
}

static void deny_all_names_its_line(void **state) {
        struct loaded l;

        load_text(&l, role("  network:\n    deny_all: true\n"), NULL);
        struct policy_verdict v = policy_decide(l.image, POLICY_DO_CONNECT, "a.example.com:443");
        assert_false(v.allowed);
        assert_string_equal(v.rule, "role.yaml:5");
        assert_string_equal(v.text, "denied by network.deny_all");
        loaded_fini(&l);
}

static void a_denial_says_what_is_listed_and_what_to_add(void **state) {
        struct policy_verdict v = policy_decide(loaded.image, POLICY_DO_READ, "/data/client-portfolios/acme.csv");

        assert_string_equal(v.rule, "role.yaml:5"); /* where the list stands */
        assert_non_null(strstr(v.detail, "filesystem.read lists only "));
        assert_string_equal(v.next_step,
                            "add \"/data/client-portfolios/\" to filesystem.read (policy check will warn: this agent has "
                            "network endpoints)");
        v = policy_decide(loaded.image, POLICY_DO_TOOL, "other_tool");
        assert_string_equal(v.detail, "tools.allowed lists only good_tool, both_tool");
        assert_string_equal(v.next_step, "add \"other_tool\" to tools.allowed");
        v = policy_decide(loaded.image, POLICY_DO_SEND, "stranger");
        assert_string_equal(v.next_step, "add \"stranger\" to ipc.allowed_targets");
        v = policy_decide(loaded.image, POLICY_DO_CONNECT, "evil.example.net:443");
        assert_string_equal(v.next_step, "add \"evil.example.net:443\" to network.allowed_endpoints");
        v = policy_decide(loaded.image, POLICY_DO_READ, "/etc/shadow"); /* never suggests what would be refused */
        assert_null(strstr(v.next_step, "\"/etc/\""));
}

static void the_jails_own_places_are_told_from_the_hosts(void **state) {
        struct policy_verdict v = policy_decide(loaded.image, POLICY_DO_WRITE, "/tmp/some-other-place/x");

        assert_false(v.allowed);
        assert_true(v.private_place);
        assert_non_null(strstr(v.text, "private, empty /tmp"));
        v = policy_decide(loaded.image, POLICY_DO_WRITE, in("in/x")); /* below /tmp, but granted for reading */
        assert_false(v.allowed || v.private_place);
        v = policy_decide(loaded.image, POLICY_DO_READ, "/dev/null");
        assert_true(v.allowed);
        assert_string_equal(v.section, "built-in");
        assert_false(policy_decide(loaded.image, POLICY_DO_READ, "/dev/sda").allowed);
        assert_false(policy_decide(loaded.image, POLICY_DO_WRITE, "/proc/self/mem").allowed);
        assert_false(policy_decide(loaded.image, POLICY_DO_EXEC, "/tmp/x").allowed);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(the_longest_path_decides),
                cmocka_unit_test(what_is_not_listed_is_denied),
                cmocka_unit_test(a_hole_beats_every_grant),
                cmocka_unit_test(writing_needs_a_write_tree),
                cmocka_unit_test(executing_needs_the_runtime_or_exec),
                cmocka_unit_test(names_beat_wildcards_and_denied_beats_allowed),
                cmocka_unit_test(wildcards_alone),
                cmocka_unit_test(messages_go_to_listed_agents_only),
                cmocka_unit_test(connections_go_to_listed_endpoints_only),
                cmocka_unit_test(deny_all_names_its_line),
                cmocka_unit_test(a_denial_says_what_is_listed_and_what_to_add),
                cmocka_unit_test(the_jails_own_places_are_told_from_the_hosts),
        };

        cmocka_set_message_output(CM_OUTPUT_TAP);
        return cmocka_run_group_tests(tests, setup, teardown);
}
