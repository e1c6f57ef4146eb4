/* SPDX-License-Identifier: Apache-2.0 */
#include "supervisor/network_record.h"

#include "common/util.h"
#include "test.h"

#include <string.h>

static const char *field(const struct record *r, const char *key, char *out, size_t n) {
        for (size_t i = 0; i < r->n; i++) {
                if (strcmp(r->fields[i].key, key) != 0)
                        continue;
                if (r->fields[i].len)
                        snprintf(out, n, "%.*s", (int)r->fields[i].len, r->buf + r->fields[i].off);
                else
                        snprintf(out, n, "%lld", (long long)r->fields[i].num);
                return out;
        }
        return NULL;
}

static void assert_field(const struct record *r, const char *key, const char *want) {
        char got[512];

        if (!want)
                assert_null(field(r, key, got, sizeof(got)));
        else
                assert_string_equal(field(r, key, got, sizeof(got)), want);
}

static void what_was_let_through_says_where_it_went_and_why(void **state) {
        struct gate_msg m = {.op = GATE_ALLOWED,
                             .conn = 3,
                             .port = 443,
                             .name = "api.test",
                             .peer = "203.0.113.7:8443",
                             .where = "x.yaml:14"};
        struct record r;

        (void)state;
        assert_int_equal(network_record_make(&r, &m), NETWORK_RECORD_FACT);
        assert_int_equal(r.kind, RECORD_NETWORK_ALLOWED);
        assert_string_equal(r.src, "gateway");
        assert_field(&r, "host", "api.test");
        assert_field(&r, "port", "443");
        assert_field(&r, "peer", "203.0.113.7:8443");
        assert_field(&r, "rule", "x.yaml:14");
        assert_field(&r, "conn", "3");
        assert_field(&r, "verdict", NULL);
}

static void what_is_only_audited_is_no_denial_but_says_so(void **state) {
        struct gate_msg m = {.op = GATE_ALLOWED, .verdict = GATE_WOULD_REFUSE, .text = "not in allowed_endpoints"};
        struct record r;

        (void)state;
        assert_int_equal(network_record_make(&r, &m), NETWORK_RECORD_FACT);
        assert_field(&r, "verdict", "would deny");
        m.op = GATE_HTTP;
        assert_int_equal(network_record_make(&r, &m), NETWORK_RECORD_FACT);
        assert_field(&r, "verdict", "would deny");
        m.status = 404;
        assert_int_equal(network_record_make(&r, &m), NETWORK_RECORD_FACT);
        assert_field(&r, "verdict", "answered");
        m.verdict = GATE_REFUSE;
        assert_int_equal(network_record_make(&r, &m), NETWORK_RECORD_DENIAL);
        assert_field(&r, "verdict", "denied");
}

static void a_request_is_split_into_method_and_path(void **state) {
        struct gate_msg m = {.op = GATE_HTTP, .name = "x.test", .text = "GET /a b", .why = "path is not listed"};
        struct record r;

        (void)state;
        assert_int_equal(network_record_make(&r, &m), NETWORK_RECORD_DENIAL);
        assert_field(&r, "method", "GET");
        assert_field(&r, "path", "/a b");
        assert_field(&r, "reason", "path is not listed");
        assert_field(&r, "verdict", "denied");
        strcpy(m.text, "GET");
        network_record_make(&r, &m);
        assert_field(&r, "method", "GET");
        assert_field(&r, "path", NULL);
}

static void an_unknown_verdict_is_a_denial(void **state) {
        struct gate_msg m = {.op = GATE_HTTP, .verdict = 77, .text = "GET /"};
        struct record r;

        (void)state;
        assert_int_equal(network_record_make(&r, &m), NETWORK_RECORD_DENIAL);
        assert_field(&r, "verdict", "denied");
}

static void strings_that_do_not_end_are_ended(void **state) {
        struct gate_msg m;
        struct record r;

        (void)state;
        memset(&m, 'x', sizeof(m));
        m.op = GATE_DENIED;
        network_message_end(&m);
        assert_int_equal(strlen(m.name), sizeof(m.name) - 1);
        assert_int_equal(strlen(m.why), sizeof(m.why) - 1);
        assert_int_equal(network_record_make(&r, &m), NETWORK_RECORD_DENIAL);
}

static void answers_and_unknown_words_are_no_reports(void **state) {
        static const uint32_t ops[] = {0, GATE_ADD, GATE_HELLO, GATE_ASK, GATE_APPLIED, GATE_REMOVED, 999};
        struct record r;

        (void)state;
        for (size_t i = 0; i < ELEMENTSOF(ops); i++)
                assert_int_equal(network_record_make(&r, &(struct gate_msg){.op = ops[i]}), NETWORK_RECORD_NONE);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(what_was_let_through_says_where_it_went_and_why),
                cmocka_unit_test(what_is_only_audited_is_no_denial_but_says_so),
                cmocka_unit_test(a_request_is_split_into_method_and_path),
                cmocka_unit_test(an_unknown_verdict_is_a_denial),
                cmocka_unit_test(strings_that_do_not_end_are_ended),
                cmocka_unit_test(answers_and_unknown_words_are_no_reports),
        };

        cmocka_set_message_output(CM_OUTPUT_TAP);
        return cmocka_run_group_tests(tests, NULL, NULL);
}
