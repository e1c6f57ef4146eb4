/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/dns.h"

#include <arpa/inet.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

/* Header with one question, then the given bytes. */
static size_t query(uint8_t *out, const void *rest, size_t n) {
        static const uint8_t head[12] = {0x12, 0x34, 0x01, 0x00, 0, 1, 0, 0, 0, 0, 0, 0};

        memcpy(out, head, 12);
        memcpy(out + 12, rest, n);
        return 12 + n;
}
#define Q(out, text) query((out), (text), sizeof(text) - 1)

static void a_plain_name_is_read_in_lower_case(void **state) {
        uint8_t m[512];
        struct dns_question q;
        size_t n = Q(m, "\3API\7Example\3com\0\0\1\0\1");

        assert_int_equal(dns_parse_query(m, n, &q), DNS_OK);
        assert_string_equal(q.name, "api.example.com");
        assert_int_equal(q.type, 1);
        assert_int_equal(q.question_end, n);
}

static void a_refusal_echoes_id_and_question(void **state) {
        uint8_t m[512], out[DNS_MESSAGE_MAX];
        struct dns_question q;
        size_t n = Q(m, "\1x\0\0\1\0\1\0\0\x29 trailing additional section");

        m[11] = 1;
        assert_int_equal(dns_parse_query(m, n, &q), DNS_OK);
        size_t k = dns_answer_error(m, &q, DNS_RCODE_REFUSED, out);
        assert_int_equal(k, 12 + 7);
        assert_memory_equal(out, m, 2);
        assert_int_equal(out[2], 0x81);
        assert_int_equal(out[3], 0x80 | DNS_RCODE_REFUSED);
        assert_int_equal(out[5], 1);
        assert_int_equal(out[11], 0);
        assert_memory_equal(out + 12, m + 12, 7);
}

static void an_answer_has_one_address_for_the_question(void **state) {
        uint8_t m[512], out[DNS_MESSAGE_MAX];
        struct dns_question q;
        struct in_addr addr = {htonl(0xc6120001)};
        size_t n = Q(m, "\1x\0\0\1\0\1");

        assert_int_equal(dns_parse_query(m, n, &q), DNS_OK);
        size_t k = dns_answer_a(m, &q, &addr, out);
        assert_int_equal(k, n + 16);
        assert_memory_equal(out + 12, m + 12, 7);
        assert_memory_equal(out + 4, "\0\1\0\1\0\0\0\0", 8);
        assert_memory_equal(out + n, "\xc0\x0c\0\1\0\1\0\0\0\x3c\0\4\xc6\x12\0\1", 16);
}

static void control_bytes_in_a_label_are_escaped(void **state) {
        uint8_t m[512];
        struct dns_question q;
        size_t n = Q(m, "\5a\x1b.\n\xff\0\0\1\0\1");

        assert_int_equal(dns_parse_query(m, n, &q), DNS_OK);
        assert_string_equal(q.name, "a\\027\\046\\010\\255");
}

static void a_compression_pointer_in_the_question_is_refused(void **state) {
        uint8_t m[512];
        struct dns_question q;
        size_t n = Q(m, "\xc0\x0c\0\1\0\1");

        assert_int_equal(dns_parse_query(m, n, &q), DNS_FORMAT_ERROR);
}

static void every_truncation_is_refused_without_reading_past_the_end(void **state) {
        uint8_t m[512];
        struct dns_question q;
        size_t n = Q(m, "\3api\7example\3com\0\0\1\0\1");

        for (size_t k = 0; k < n; k++)
                assert_int_not_equal(dns_parse_query(m, k, &q), DNS_OK);
}

static void an_answer_or_a_second_question_is_not_a_query(void **state) {
        uint8_t m[512];
        struct dns_question q;
        size_t n = Q(m, "\1x\0\0\1\0\1");

        m[2] = 0x80;
        assert_int_equal(dns_parse_query(m, n, &q), DNS_IGNORE);
        m[2] = 0x01;
        m[5] = 2;
        assert_int_equal(dns_parse_query(m, n, &q), DNS_FORMAT_ERROR);
        m[5] = 1;
        m[2] = 0x28; /* UPDATE */
        assert_int_equal(dns_parse_query(m, n, &q), DNS_FORMAT_ERROR);
}

static void the_longest_name_fits_and_a_longer_one_is_refused(void **state) {
        uint8_t m[512], name[300];
        struct dns_question q;
        size_t at = 0;

        for (int i = 0; i < 3; i++) {
                name[at++] = 63;
                memset(name + at, 0xff, 63);
                at += 63;
        }
        size_t last = at;
        name[at++] = 61;
        memset(name + at, 'b', 62);
        memcpy(name + at + 61, "\0\0\1\0\1", 5);
        assert_int_equal(dns_parse_query(m, query(m, name, at + 66), &q), DNS_OK);
        assert_int_equal(strlen(q.name), 3 * 63 * 4 + 3 + 61);
        name[last] = 62;
        memset(name + at, 'b', 62);
        memcpy(name + at + 62, "\0\0\1\0\1", 5);
        assert_int_equal(dns_parse_query(m, query(m, name, at + 67), &q), DNS_FORMAT_ERROR);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(a_plain_name_is_read_in_lower_case),
                cmocka_unit_test(a_refusal_echoes_id_and_question),
                cmocka_unit_test(an_answer_has_one_address_for_the_question),
                cmocka_unit_test(control_bytes_in_a_label_are_escaped),
                cmocka_unit_test(a_compression_pointer_in_the_question_is_refused),
                cmocka_unit_test(every_truncation_is_refused_without_reading_past_the_end),
                cmocka_unit_test(an_answer_or_a_second_question_is_not_a_query),
                cmocka_unit_test(the_longest_name_fits_and_a_longer_one_is_refused),
        };
        cmocka_set_message_output(CM_OUTPUT_TAP);
        return cmocka_run_group_tests(tests, NULL, NULL);
}
