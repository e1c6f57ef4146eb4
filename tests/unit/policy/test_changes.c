/* SPDX-License-Identifier: Apache-2.0 */
/* What counts as a change of a policy, and how it is said. */
#include "support.h"

#include "supervisor/policy/changes.h"

#include <stdio.h>
#include <string.h>

static void expect(const char *from, const char *to, enum policy_part part, const char *want) {
        static struct loaded a, b;
        char detail[POLICY_CHANGE_MAX];

        load_text(&a, role(from), NULL);
        assert_int_equal(a.r, 0);
        load_text(&b, role(to), NULL);
        assert_int_equal(b.r, 0);
        int r = policy_part_changed(a.image, b.image, part, detail);
        assert_int_equal(r, want[0] != '\0');
        assert_string_equal(detail, want);
        loaded_fini(&a);
        loaded_fini(&b);
}

static void endpoints_that_come_and_go_are_named(void **state) {
        (void)state;
        expect("  network: {allowed_endpoints: [\"a.example.com:443\"]}\n",
               "  network: {allowed_endpoints: [\"b.example.com:443\", \"[2001:db8::1]:80\"]}\n", POLICY_PART_NETWORK,
               "+ b.example.com:443, + [2001:db8::1]:80, - a.example.com:443");
        expect("  network: {deny_all: true}\n", "  network: {on_unlisted: ask}\n", POLICY_PART_NETWORK,
               "on_unlisted deny -> ask, + ask_timeout 60 s");
}

static void rules_about_requests_count(void **state) {
        (void)state;
        expect("  network: {allowed_endpoints: [{host: a.example.com, port: 80, methods: [GET], paths: [\"/v1/**\"]}]}\n",
               "  network: {allowed_endpoints: [{host: a.example.com, port: 80, methods: [GET, POST], paths: "
               "[\"/v1/**\"]}]}\n",
               POLICY_PART_NETWORK, "a.example.com:80 GET /v1/** -> GET POST /v1/**");
}

static void moved_lines_and_comments_are_no_change(void **state) {
        static const char from[] = "  filesystem: {read: [\"/usr/share/doc/\"]}\n  network: {allowed_endpoints: "
                                   "[\"a.example.com:443\"]}\n  tools: {denied: [\"*\"]}\n";
        static const char to[] = "  # new\n\n  tools: {denied: [\"*\"]}\n  network:\n    allowed_endpoints:\n      - "
                                 "a.example.com:443\n  filesystem: {read: [\"/usr/share/doc/\"]}\n";

        (void)state;
        for (int part = 0; part < POLICY_PART_N; part++)
                expect(from, to, (enum policy_part)part, "");
}

static void each_part_sees_its_own_change_alone(void **state) {
        static const struct {
                enum policy_part part;
                const char *text, *detail;
        } rows[] = {
                {POLICY_PART_TOOLS, "  tools: {allowed: [x_tool], denied: [\"*\"]}\n", "+ x_tool, + denied *"},
                {POLICY_PART_IPC, "  ipc: {allowed_targets: [friend]}\n", "+ friend"},
                {POLICY_PART_AUDIT, "  audit: {files: denied}\n", "files all -> denied"},
                {POLICY_PART_FILESYSTEM, "  filesystem: {read: [\"/usr/share/doc/\"]}\n", "+ read /usr/share/doc/"},
                {POLICY_PART_DEGRADED, "  allow_degraded: [evidence]\n", "+ evidence"},
        };

        (void)state;
        for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
                for (int part = 0; part < POLICY_PART_N; part++)
                        expect("", rows[i].text, (enum policy_part)part,
                               (enum policy_part)part == rows[i].part ? rows[i].detail : "");
}

static void another_order_is_a_change(void **state) {
        (void)state;
        expect("  network: {allowed_endpoints: [\"*.example.com:443\", \"*.a.example.com:443\"]}\n",
               "  network: {allowed_endpoints: [\"*.a.example.com:443\", \"*.example.com:443\"]}\n", POLICY_PART_NETWORK,
               "another order");
}

static void much_of_it_is_cut(void **state) {
        char text[8192] = "  network: {allowed_endpoints: [";
        struct loaded a, b;
        char detail[POLICY_CHANGE_MAX];

        (void)state;
        for (int i = 0; i < 100; i++)
                snprintf(text + strlen(text), sizeof(text) - strlen(text), "%s\"host-%d.example.com:443\"", i ? ", " : "",
                         i);
        strcat(text, "]}\n");
        load_text(&a, role(""), NULL);
        load_text(&b, role(text), NULL);
        assert_int_equal(policy_part_changed(a.image, b.image, POLICY_PART_NETWORK, detail), 1);
        assert_true(strlen(detail) < POLICY_CHANGE_MAX);
        assert_string_equal(detail + strlen(detail) - 5, ", ...");
        loaded_fini(&a);
        loaded_fini(&b);
}

static void limits_are_said_in_their_units(void **state) {
        const struct policy_limits from = {.memory_bytes = 256ull << 20, .cpu_milli = 0, .wall_ms = 1500, .processes = 64};
        const struct policy_limits to = {.memory_bytes = 1ull << 30, .cpu_milli = 500, .wall_ms = 60000, .processes = 64};
        char detail[POLICY_LIMIT_CHANGE_MAX];

        (void)state;
        assert_true(policy_limit_changed(&from, &to, POLICY_LIMIT_MEMORY, detail));
        assert_string_equal(detail, "memory 256 MiB -> 1 GiB");
        assert_true(policy_limit_changed(&from, &to, POLICY_LIMIT_CPU, detail));
        assert_string_equal(detail, "cpu none -> 0.500");
        assert_true(policy_limit_changed(&from, &to, POLICY_LIMIT_WALL_TIME, detail));
        assert_string_equal(detail, "wall_time 1500 ms -> 60 s");
        assert_false(policy_limit_changed(&from, &to, POLICY_LIMIT_PROCESSES, detail));
        assert_false(policy_limit_changed(&from, &to, POLICY_LIMIT_BANDWIDTH, detail));
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(endpoints_that_come_and_go_are_named),
                cmocka_unit_test(rules_about_requests_count),
                cmocka_unit_test(moved_lines_and_comments_are_no_change),
                cmocka_unit_test(each_part_sees_its_own_change_alone),
                cmocka_unit_test(another_order_is_a_change),
                cmocka_unit_test(much_of_it_is_cut),
                cmocka_unit_test(limits_are_said_in_their_units),
        };

        cmocka_set_message_output(CM_OUTPUT_TAP);
        return cmocka_run_group_tests(tests, NULL, NULL);
}
