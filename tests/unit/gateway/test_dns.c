/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/dns.h"

#include <arpa/inet.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <string.h>

#include <cmocka.h>

#include "edge.h"

/* Header with one question, then the given bytes. */
static size_t query(uint8_t *out, const void *rest, size_t n) {
        static const uint8_t head[12] = {0x12, 0x34, 0x01, 0x00, 0, 1, 0, 0, 0, 0, 0, 0};

        memcpy(out, head, 12);
        memcpy(out + 12, rest, n);
        return 12 + n;
}
#define Q(out, text) query((out), (text), sizeof(text) - 1)

static struct dns_question q; /* what is left in it from one query to the next must not matter */

static enum dns_parse parse(const uint8_t *m, size_t n) {
        memset(&q, 'x', sizeof(q));
        return dns_parse_query(at_the_edge(m, n), n, &q);
}

/* A question whose first label is as long as this, whatever is behind it. */
static enum dns_parse parse_label(unsigned length, size_t n) {
        uint8_t m[DNS_MESSAGE_MAX] = {0};

        query(m, "", 0);
        memset(m + 12, 'a', n - 12);
        m[12] = (uint8_t)length;
        memcpy(m + n - 5, "\0\0\1\0\1", 5);
        return parse(m, n);
}

static void a_label_has_at_most_63_bytes_and_is_no_pointer(void **state) {
        for (unsigned length = 1; length < 256; length++)
                assert_int_equal(parse_label(length, 12 + 1 + length + 5), length <= 63 ? DNS_OK : DNS_FORMAT_ERROR);
        /* Pointers to what is in the message, and labels of other kinds (RFC 6891 5). */
        for (unsigned length = 0x40; length < 0x100; length += 0x40)
                assert_int_equal(parse_label(length, 40), DNS_FORMAT_ERROR);
}

static void nothing_behind_the_message_is_read(void **state) {
        uint8_t m[512];
        const size_t n = Q(m, "\3api\7example\3com\0\0\1\0\1");

        for (size_t k = 0; k < n; k++)
                assert_int_equal(parse(m, k), k < 12 ? DNS_IGNORE : DNS_FORMAT_ERROR);
        for (unsigned length = 2; length < 256; length++)
                assert_int_equal(parse_label(length, 18), DNS_FORMAT_ERROR);
}

static void only_one_question_and_nothing_answered_is_a_query(void **state) {
        uint8_t m[DNS_MESSAGE_MAX + 1] = {0}, out[DNS_MESSAGE_MAX];
        const size_t n = Q(m, "\1x\0\0\1\0\1");

        for (size_t at = 4; at < 10; at++) { /* of the counts of questions, answers and authorities each byte */
                for (unsigned v = 0; v < 3; v++) {
                        uint8_t was = m[at];
                        m[at] = (uint8_t)v;
                        const bool plain = v == (at == 5 ? 1 : 0);
                        assert_int_equal(parse(m, n), plain ? DNS_OK : DNS_FORMAT_ERROR);
                        assert_string_equal(q.name, plain ? "x" : "");
                        m[at] = was;
                }
        }
        for (unsigned flags = 0; flags < 256; flags++) {
                m[2] = (uint8_t)flags;
                assert_int_equal(parse(m, n), flags & 0x80 ? DNS_IGNORE : flags & 0x78 ? DNS_FORMAT_ERROR : DNS_OK);
        }
        m[2] = 0;
        m[11] = 1; /* EDNS */
        assert_int_equal(parse(m, DNS_MESSAGE_MAX), DNS_OK);
        assert_int_equal(parse(m, DNS_MESSAGE_MAX + 1), DNS_FORMAT_ERROR);
        /* What cannot be read is answered by its head alone. */
        memset(out, 0xff, sizeof(out));
        assert_int_equal(dns_answer_error(m, &q, DNS_RCODE_FORMERR, out), 12);
        assert_memory_equal(out + 4, "\0\0\0\0\0\0\0\0", 8);
}

static void type_and_class_are_those_of_the_question(void **state) {
        uint8_t m[512];

        assert_int_equal(parse(m, Q(m, "\1x\0\0\xff\0\3")), DNS_OK);
        assert_int_equal(q.type, DNS_TYPE_ANY);
        assert_int_equal(q.class_, 3);
        assert_int_equal(parse(m, Q(m, "\1x\0\1\1\1\1")), DNS_OK);
        assert_int_equal(q.type, 257);
        assert_int_equal(q.class_, 257);
}

static void the_root_has_a_name_too(void **state) {
        uint8_t m[512];

        assert_int_equal(parse(m, Q(m, "\0\0\1\0\1")), DNS_OK);
        assert_string_equal(q.name, ".");
}

static void bytes_that_could_be_taken_for_others_are_escaped(void **state) {
        uint8_t m[512];

        assert_int_equal(parse(m, Q(m, "\7!\x20\x7f\\\x7e.A\0\0\1\0\1")), DNS_OK);
        assert_string_equal(q.name, "!\\032\\127\\092~\\046a");
}

static void a_plain_name_is_read_in_lower_case(void **state) {
        uint8_t m[512];
        size_t n = Q(m, "\3API\7Example\3com\0\0\1\0\1");

        assert_int_equal(dns_parse_query(m, n, &q), DNS_OK);
        assert_string_equal(q.name, "api.example.com");
        assert_int_equal(q.type, 1);
        assert_int_equal(q.question_end, n);
}

static void a_refusal_echoes_id_and_question(void **state) {
        uint8_t m[512], out[DNS_MESSAGE_MAX];
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
        size_t n = Q(m, "\5a\x1b.\n\xff\0\0\1\0\1");

        assert_int_equal(dns_parse_query(m, n, &q), DNS_OK);
        assert_string_equal(q.name, "a\\027\\046\\010\\255");
}

static void a_compression_pointer_in_the_question_is_refused(void **state) {
        uint8_t m[512];
        size_t n = Q(m, "\xc0\x0c\0\1\0\1");

        assert_int_equal(dns_parse_query(m, n, &q), DNS_FORMAT_ERROR);
}

static void an_answer_or_a_second_question_is_not_a_query(void **state) {
        uint8_t m[512];
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
                cmocka_unit_test(an_answer_or_a_second_question_is_not_a_query),
                cmocka_unit_test(the_longest_name_fits_and_a_longer_one_is_refused),
                cmocka_unit_test(a_label_has_at_most_63_bytes_and_is_no_pointer),
                cmocka_unit_test(nothing_behind_the_message_is_read),
                cmocka_unit_test(only_one_question_and_nothing_answered_is_a_query),
                cmocka_unit_test(type_and_class_are_those_of_the_question),
                cmocka_unit_test(the_root_has_a_name_too),
                cmocka_unit_test(bytes_that_could_be_taken_for_others_are_escaped),
        };
        cmocka_set_message_output(CM_OUTPUT_TAP);
        return cmocka_run_group_tests(tests, NULL, NULL);
}
