/* SPDX-License-Identifier: Apache-2.0 */
/* What `crewctl approve --always` writes: one item more, and nothing else. */
#include "supervisor/policy/edit.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define NEW "news.example.com:443"
#define HEAD "agent: a\nsandbox:\n  mode: deny-by-default\n"

static int edit(const char *text, const char *agent, struct policy_edit *out) {
        struct crew_err err = CREW_ERR_NULL;

        return policy_edit_add_endpoint("p.yaml", text, strlen(text), agent, NEW, out, &err);
}

static void becomes(const char *from, const char *to) {
        struct policy_edit out;

        assert_int_equal(edit(from, NULL, &out), POLICY_EDIT_DONE);
        assert_string_equal(out.bytes, to);
        assert_int_equal(out.n, strlen(to));
        free(out.bytes);
}

static void is_refused(const char *text, const char *why) {
        struct policy_edit out;

        assert_int_equal(edit(text, NULL, &out), POLICY_EDIT_REFUSED);
        if (!strstr(out.why, why))
                fail_msg("'%s' does not say '%s'", out.why, why);
        assert_null(out.bytes);
}

static void a_block_list_gets_one_line_more(void **state) {
        (void)state;
        becomes(HEAD "  network:\n"
                     "    allowed_endpoints:   # what it may reach\n"
                     "      - \"a.example.com:443\"  # prices\n"
                     "      # and the archive\n"
                     "      - \"b.example.com:443\"  # archive\n"
                     "      # end\n"
                     "\n"
                     "    on_unlisted: ask\n",
                HEAD "  network:\n"
                     "    allowed_endpoints:   # what it may reach\n"
                     "      - \"a.example.com:443\"  # prices\n"
                     "      # and the archive\n"
                     "      - \"b.example.com:443\"  # archive\n"
                     "      - \"" NEW "\"\n"
                     "      # end\n"
                     "\n"
                     "    on_unlisted: ask\n");
}

static void a_new_item_is_quoted_as_the_one_before_it(void **state) {
        (void)state;
        becomes(HEAD "  network:\n    allowed_endpoints:\n    - a.example.com:443\n",
                HEAD "  network:\n    allowed_endpoints:\n    - a.example.com:443\n    - " NEW "\n");
        becomes(HEAD "  network:\n    allowed_endpoints:\n    - 'a.example.com:443'\n",
                HEAD "  network:\n    allowed_endpoints:\n    - 'a.example.com:443'\n    - '" NEW "'\n");
        becomes(HEAD "  network: {allowed_endpoints: [a.example.com:443]}\n",
                HEAD "  network: {allowed_endpoints: [a.example.com:443, " NEW "]}\n");
}

static void it_stands_behind_an_item_of_several_lines(void **state) {
        (void)state;
        becomes(HEAD "  network:\n    allowed_endpoints:\n      - host: a.example.com\n        port: 443\n"
                     "        methods: [GET,\n                  HEAD]  # read only\n  tools: {denied: [\"*\"]}\n",
                HEAD "  network:\n    allowed_endpoints:\n      - host: a.example.com\n        port: 443\n"
                     "        methods: [GET,\n                  HEAD]  # read only\n      - \"" NEW
                     "\"\n  tools: {denied: [\"*\"]}\n");
        becomes(HEAD "  network:\n    allowed_endpoints:\n      - {host: a.example.com, port: 443}\n",
                HEAD "  network:\n    allowed_endpoints:\n      - {host: a.example.com, port: 443}\n      - \"" NEW "\"\n");
}

static void a_flow_list_grows_where_it_is(void **state) {
        (void)state;
        becomes(HEAD "  network:\n    allowed_endpoints: [\"a.example.com:443\", \"b.example.com:443\"]  # two\n", HEAD
                "  network:\n    allowed_endpoints: [\"a.example.com:443\", \"b.example.com:443\", \"" NEW "\"]  # two\n");
        becomes(HEAD "  network:\n    allowed_endpoints: [ ]\n",
                HEAD "  network:\n    allowed_endpoints: [\"" NEW "\" ]\n");
        becomes(HEAD "  network:\n    allowed_endpoints: [{host: a.example.com, port: 443, paths: [\"/[x],*\"]}]\n",
                HEAD "  network:\n    allowed_endpoints: [{host: a.example.com, port: 443, paths: [\"/[x],*\"]}, \"" NEW
                     "\"]\n");
}

static void a_flow_list_with_a_line_an_item_keeps_its_layout(void **state) {
        (void)state;
        becomes(HEAD
                "  network:\n    allowed_endpoints: [\n      \"a.example.com:443\",\n      \"b.example.com:443\",  # b\n"
                "    ]\n",
                HEAD
                "  network:\n    allowed_endpoints: [\n      \"a.example.com:443\",\n      \"b.example.com:443\",  # b\n"
                "      \"" NEW "\",\n    ]\n");
        becomes(HEAD "  network:\n    allowed_endpoints: [\n      \"a.example.com:443\"  # a\n    ]\n",
                HEAD "  network:\n    allowed_endpoints: [\n      \"a.example.com:443\",  # a\n      \"" NEW "\"\n    ]\n");
        becomes(HEAD "  network:\n    allowed_endpoints: [\n      \"a.example.com:443\" ]\n",
                HEAD "  network:\n    allowed_endpoints: [\n      \"a.example.com:443\", \"" NEW "\" ]\n");
}

static void a_network_without_a_list_gets_one(void **state) {
        (void)state;
        becomes(HEAD "  network: {on_unlisted: ask}\n",
                HEAD "  network: {allowed_endpoints: [\"" NEW "\"], on_unlisted: ask}\n");
        becomes(HEAD "  network:\n    # ask me\n    on_unlisted: ask\n    ask_timeout: 5m\n",
                HEAD "  network:\n    # ask me\n    allowed_endpoints: [\"" NEW
                     "\"]\n    on_unlisted: ask\n    ask_timeout: 5m\n");
}

static void only_the_document_of_the_agent_is_touched(void **state) {
        static const char text[] = "agent: a\nsandbox: {network: {allowed_endpoints: [\"x.example.com:1\"]}}\n---\n"
                                   "agent: b\nsandbox: {network: {allowed_endpoints: [\"x.example.com:1\"]}}\n---\n"
                                   "agent: c\nsandbox: {network: {allowed_endpoints: []}}\n";
        struct policy_edit out;

        (void)state;
        assert_int_equal(edit(text, "b", &out), POLICY_EDIT_DONE);
        assert_string_equal(out.bytes,
                            "agent: a\nsandbox: {network: {allowed_endpoints: [\"x.example.com:1\"]}}\n---\n"
                            "agent: b\nsandbox: {network: {allowed_endpoints: [\"x.example.com:1\", \"" NEW "\"]}}\n---\n"
                            "agent: c\nsandbox: {network: {allowed_endpoints: []}}\n");
        assert_int_equal(out.line, 5);
        free(out.bytes);
        assert_int_equal(edit(text, "d", &out), POLICY_EDIT_REFUSED);
        assert_int_equal(edit(text, NULL, &out), POLICY_EDIT_REFUSED);
}

static void other_line_ends_and_letters_are_kept(void **state) {
        (void)state;
        becomes("agent: a\r\nsandbox:\r\n  network:\r\n    allowed_endpoints:\r\n      - \"a.example.com:443\"\r\n",
                "agent: a\r\nsandbox:\r\n  network:\r\n    allowed_endpoints:\r\n      - \"a.example.com:443\"\r\n"
                "      - \"" NEW "\"\r\n");
        becomes("agent: a # \xc3\xa4\xe2\x82\xac\nsandbox: {goal: \"\xc3\xa4\xf0\x9f\x98\x80\", network: "
                "{allowed_endpoints: "
                "[a.example.com:443]}}",
                "agent: a # \xc3\xa4\xe2\x82\xac\nsandbox: {goal: \"\xc3\xa4\xf0\x9f\x98\x80\", network: "
                "{allowed_endpoints: "
                "[a.example.com:443, " NEW "]}}");
        becomes(HEAD "  network:\n    allowed_endpoints:\n      - a.example.com:443",
                HEAD "  network:\n    allowed_endpoints:\n      - a.example.com:443\n      - " NEW);
}

static void what_is_listed_is_not_listed_twice(void **state) {
        struct policy_edit out;

        (void)state;
        assert_int_equal(edit(HEAD "  network:\n    allowed_endpoints:\n      - News.example.com:443\n", NULL, &out),
                         POLICY_EDIT_LISTED);
        assert_int_equal(out.line, 6);
        assert_null(out.bytes);
}

static void what_cannot_be_edited_is_refused(void **state) {
        (void)state;
        is_refused(HEAD "  network: {deny_all: true}\n", "deny_all is true (line 4)");
        is_refused(HEAD "  tools: {denied: [\"*\"]}\n", "no network section");
        is_refused(HEAD "  network: {}\n", "empty");
        is_refused(HEAD "  network: {allowed_endpoints: none}\n", "no list (line 4)");
        is_refused(HEAD "  network: {allowed_endpoints: }\n", "no list");
}

static void a_broken_file_is_an_error_with_its_place(void **state) {
        struct crew_err err = CREW_ERR_NULL;
        struct policy_edit out;

        (void)state;
        assert_true(policy_edit_add_endpoint("p.yaml", "a: [\n", 5, NULL, NEW, &out, &err) < 0);
        assert_non_null(strstr(err.msg, "p.yaml:"));
        assert_null(out.bytes);
}

/* Every prefix of a policy: never a crash, and what comes out is one insertion into what went in. */
static void every_prefix_is_edited_safely_or_refused(void **state) {
        static const char text[] =
                "agent: a\nsandbox:\n  network:\n    allowed_endpoints: [\n      \"a.example.com:443\", # x\n"
                "      {host: b.example.com, port: 443}\n    ]\n    on_unlisted: ask\n";

        (void)state;
        for (size_t n = 0; n < sizeof(text); n++) {
                struct crew_err err = CREW_ERR_NULL;
                struct policy_edit out;
                char *part = strndup(text, n);
                int r = policy_edit_add_endpoint("p.yaml", part, n, NULL, NEW, &out, &err);
                assert_true(r < 0 || r == POLICY_EDIT_DONE || r == POLICY_EDIT_REFUSED);
                assert_true((r == POLICY_EDIT_DONE) == (out.bytes != NULL));
                if (out.bytes)
                        assert_non_null(strstr(out.bytes, NEW));
                free(out.bytes);
                free(part);
        }
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(a_block_list_gets_one_line_more),
                cmocka_unit_test(a_new_item_is_quoted_as_the_one_before_it),
                cmocka_unit_test(it_stands_behind_an_item_of_several_lines),
                cmocka_unit_test(a_flow_list_grows_where_it_is),
                cmocka_unit_test(a_flow_list_with_a_line_an_item_keeps_its_layout),
                cmocka_unit_test(a_network_without_a_list_gets_one),
                cmocka_unit_test(only_the_document_of_the_agent_is_touched),
                cmocka_unit_test(other_line_ends_and_letters_are_kept),
                cmocka_unit_test(what_is_listed_is_not_listed_twice),
                cmocka_unit_test(what_cannot_be_edited_is_refused),
                cmocka_unit_test(a_broken_file_is_an_error_with_its_place),
                cmocka_unit_test(every_prefix_is_edited_safely_or_refused),
        };

        cmocka_set_message_output(CM_OUTPUT_TAP);
        return cmocka_run_group_tests(tests, NULL, NULL);
}
