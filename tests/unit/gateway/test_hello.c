/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/hello.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <string.h>

#include <cmocka.h>

#include "edge.h"

struct bytes {
        uint8_t at[HELLO_MAX * 2];
        size_t n;
};
static size_t end;

static void put(struct bytes *b, const void *bytes, size_t n) {
        memcpy(b->at + b->n, bytes, n);
        b->n += n;
}

static void put_number(struct bytes *b, size_t v, int n) {
        for (int i = n - 1; i >= 0; i--)
                b->at[b->n++] = (uint8_t)(v >> (8 * i));
}

static void put_vector(struct bytes *b, const struct bytes *v, int length_bytes) {
        put_number(b, v->n, length_bytes);
        put(b, v->at, v->n);
}

/* A server_name extension with one entry. */
static void put_name(struct bytes *exts, int type, const char *name) {
        static struct bytes entry, list, ext;

        entry.n = list.n = ext.n = 0;
        put(&entry, name, strlen(name));
        put_number(&list, (size_t)type, 1);
        put_vector(&list, &entry, 2);
        put_vector(&ext, &list, 2);
        put_number(exts, 0, 2);
        put_vector(exts, &ext, 2);
}

static void put_filler(struct bytes *exts, size_t n) {
        static const uint8_t zeros[HELLO_MAX];

        put_number(exts, 21, 2); /* padding */
        put_number(exts, n, 2);
        put(exts, zeros, n);
}

/* The handshake message around these extensions (NULL: none at all). */
static void message(const struct bytes *exts, struct bytes *out) {
        static struct bytes body;

        body.n = 0;
        put(&body, "\3\3", 2);
        body.n += 32;
        put_number(&body, 0, 1);
        put(&body, "\0\2\x13\1\1\0", 6);
        if (exts)
                put_vector(&body, exts, 2);
        out->n = 0;
        put_number(out, 1, 1);
        put_vector(out, &body, 3);
}

static void record(const struct bytes *part, struct bytes *out) {
        put(out, "\x16\3\1", 3);
        put_vector(out, part, 2);
}

static enum hello parse(const struct bytes *b, char *name) {
        return hello_parse(at_the_edge(b->at, b->n), b->n, name, &end);
}

static struct bytes exts, msg, rec;
static char name[HELLO_NAME_MAX];

static enum hello with(void) {
        message(&exts, &msg);
        rec.n = 0;
        record(&msg, &rec);
        return parse(&rec, name);
}

static int clear(void **state) {
        exts.n = msg.n = rec.n = 0;
        return 0;
}

static void the_name_is_read_among_other_extensions(void **state) {
        put_filler(&exts, 17);
        put_name(&exts, 0, "Api.Example.com");
        put_filler(&exts, 0);
        assert_int_equal(with(), HELLO_NAMED);
        assert_string_equal(name, "Api.Example.com");
}

static void a_hello_without_a_name_is_one(void **state) {
        put_filler(&exts, 3);
        assert_int_equal(with(), HELLO_UNNAMED);
        message(NULL, &msg);
        rec.n = 0;
        record(&msg, &rec);
        assert_int_equal(parse(&rec, name), HELLO_UNNAMED);
}

static void every_truncation_asks_for_more(void **state) {
        put_name(&exts, 0, "api.example.com");
        assert_int_equal(with(), HELLO_NAMED);
        for (size_t n = 0; n < rec.n; n++) {
                assert_int_equal(hello_parse(rec.at, n, name, &end), HELLO_MORE);
                assert_string_equal(name, "");
        }
}

static void what_follows_in_records_of_its_own_does_not_matter(void **state) {
        put_name(&exts, 0, "api.example.com");
        with();
        size_t n = rec.n;
        put(&rec, "\x17\3\3\0\5hello", 10);
        assert_int_equal(parse(&rec, name), HELLO_NAMED);
        assert_int_equal(end, n);
}

static void a_hello_in_many_records_is_put_together(void **state) {
        struct bytes *all = &rec, part;

        put_name(&exts, 0, "api.example.com");
        message(&exts, &msg);
        for (size_t at = 0; at < msg.n; at++) {
                part.n = 1;
                part.at[0] = msg.at[at];
                record(&part, all);
        }
        assert_int_equal(parse(all, name), HELLO_NAMED);
        assert_string_equal(name, "api.example.com");
}

static void two_names_are_refused(void **state) {
        put_name(&exts, 0, "api.example.com");
        put_name(&exts, 0, "evil.example.com");
        assert_int_equal(with(), HELLO_BAD);
        /* Two entries in one list. */
        clear(state);
        put(&exts, "\0\0\0\x0a\0\x08\0\0\1a\0\0\1b", 14);
        assert_int_equal(with(), HELLO_BAD);
}

static void odd_names_are_refused(void **state) {
        static const char *const names[] = {"", "a b", "a\nb", "a\x80"};

        for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
                clear(state);
                put_name(&exts, 0, names[i]);
                assert_int_equal(with(), HELLO_BAD);
        }
        clear(state);
        put_name(&exts, 1, "api.example.com"); /* not a host_name */
        assert_int_equal(with(), HELLO_BAD);
        char longer[HELLO_NAME_MAX + 1];
        memset(longer, 'a', sizeof(longer));
        longer[HELLO_NAME_MAX] = '\0';
        clear(state);
        put_name(&exts, 0, longer);
        assert_int_equal(with(), HELLO_BAD);
        longer[HELLO_NAME_MAX - 1] = '\0';
        clear(state);
        put_name(&exts, 0, longer);
        assert_int_equal(with(), HELLO_NAMED);
}

static void lengths_that_do_not_add_up_are_refused(void **state) {
        put_name(&exts, 0, "api.example.com");
        exts.at[3]++; /* the extension reaches beyond the block */
        assert_int_equal(with(), HELLO_BAD);
        exts.at[3] -= 2; /* the list reaches beyond the extension */
        assert_int_equal(with(), HELLO_BAD);
        clear(state);
        put_name(&exts, 0, "api.example.com");
        message(&exts, &msg);
        put(&msg, "\0", 1); /* behind the message, in its record */
        rec.n = 0;
        record(&msg, &rec);
        assert_int_equal(parse(&rec, name), HELLO_BAD);
}

/* A hello with vectors of these lengths, then its name, then so many bytes more within the message. */
static enum hello with_vectors(size_t session, size_t suites, size_t compressions, size_t more) {
        static struct bytes body;

        clear(NULL);
        put_name(&exts, 0, "api.example.com");
        body = (struct bytes){.at = {3, 3}, .n = 34};
        put_number(&body, session, 1);
        body.n += session;
        put_number(&body, suites, 2);
        body.n += suites;
        put_number(&body, compressions, 1);
        body.n += compressions;
        put_vector(&body, &exts, 2);
        body.n += more;
        put_number(&msg, 1, 1);
        put_vector(&msg, &body, 3);
        record(&msg, &rec);
        return parse(&rec, name);
}

static void vectors_have_the_lengths_that_the_standard_gives_them(void **state) {
        assert_int_equal(with_vectors(0, 2, 1, 0), HELLO_NAMED);
        assert_int_equal(with_vectors(32, 2, 1, 0), HELLO_NAMED);
        assert_int_equal(with_vectors(33, 2, 1, 0), HELLO_BAD);
        assert_int_equal(with_vectors(0, 0, 1, 0), HELLO_BAD);
        assert_int_equal(with_vectors(0, 3, 1, 0), HELLO_BAD);
        assert_int_equal(with_vectors(0, 4, 255, 0), HELLO_NAMED);
        assert_int_equal(with_vectors(0, 2, 0, 0), HELLO_BAD);
        assert_int_equal(with_vectors(0, 2, 1, 1), HELLO_BAD);
        assert_string_equal(name, "");
        assert_int_equal(end, 0);
}

/* Each length of an otherwise good hello made wrong by one: there is no such hello. */
static void no_length_is_forgiven(void **state) {
        assert_int_equal(with_vectors(1, 2, 1, 0), HELLO_NAMED);
        const size_t name_ext = rec.n - 15 - 9; /* its type; then the lengths of it, of its list, and of the name */
        const size_t at[] = {4, 8, 43, 46, 49, name_ext - 1, name_ext + 3, name_ext + 5, name_ext + 8};

        for (size_t i = 0; i < sizeof(at) / sizeof(at[0]); i++) {
                for (int by = -1; by <= 1; by += 2) {
                        struct bytes odd = rec;
                        odd.at[at[i]] = (uint8_t)(odd.at[at[i]] + by);
                        const enum hello is = parse(&odd, name);
                        if (is == HELLO_NAMED || is == HELLO_UNNAMED || is == HELLO_PLAIN)
                                fail_msg("length at %zu, %d", at[i], by);
                        assert_string_equal(name, "");
                        assert_int_equal(end, 0);
                }
        }
}

static void the_end_is_that_of_the_hellos_records(void **state) {
        put_name(&exts, 0, "api.example.com");
        with();
        const size_t n = rec.n;
        assert_int_equal(end, n);
        put(&rec, "\x17\3\3\0\5early", 10);
        assert_int_equal(parse(&rec, name), HELLO_NAMED);
        assert_int_equal(end, n);
        clear(state);
        put_filler(&exts, 3);
        assert_int_equal(with(), HELLO_UNNAMED);
        assert_int_equal(end, rec.n);
        assert_int_equal(hello_parse((const uint8_t *)"\x80\x2e\1\3\3", 5, name, &end), HELLO_UNNAMED);
        assert_int_equal(end, 5);
}

static void characters_that_names_do_not_have_are_refused(void **state) {
        for (unsigned c = 1; c < 256; c++) {
                const char text[] = {'a', (char)c, 'b', '\0'};
                clear(state);
                put_name(&exts, 0, text);
                assert_int_equal(with(), c > ' ' && c < 0x7f ? HELLO_NAMED : HELLO_BAD);
        }
}

static void other_handshake_messages_and_empty_records_are_refused(void **state) {
        assert_int_equal(hello_parse((const uint8_t *)"\x16\3\1\0\4\2\0\0\0", 9, name, &end), HELLO_BAD);
        assert_int_equal(hello_parse((const uint8_t *)"\x16\3\1\0\0", 5, name, &end), HELLO_BAD);
        assert_int_equal(hello_parse((const uint8_t *)"\x16\3\1\x40\1", 5, name, &end), HELLO_BAD);
        /* A hello cut by a record of another type. */
        assert_int_equal(hello_parse((const uint8_t *)"\x16\3\1\0\1\1\x15\3\1\0\2\1\0", 13, name, &end), HELLO_BAD);
}

static void anything_else_is_plain(void **state) {
        assert_int_equal(hello_parse((const uint8_t *)"GET / HTTP/1.1\r\n", 16, name, &end), HELLO_PLAIN);
        assert_int_equal(hello_parse((const uint8_t *)"\x16\x10", 2, name, &end), HELLO_PLAIN);
        /* The length of a message of another protocol, little-endian, then its number. */
        assert_int_equal(hello_parse((const uint8_t *)"\x16\1\0\0\7\0\0\0", 8, name, &end), HELLO_PLAIN);
        assert_int_equal(hello_parse((const uint8_t *)"\x15\1\0\0\7\0\0\0", 8, name, &end), HELLO_PLAIN);
        assert_int_equal(hello_parse((const uint8_t *)"\x18\1", 2, name, &end), HELLO_PLAIN);
        assert_int_equal(hello_parse((const uint8_t *)"\x13\3\3\0\1\1", 6, name, &end), HELLO_PLAIN);
        assert_int_equal(hello_parse((const uint8_t *)"\x19\3\3\0\1\1", 6, name, &end), HELLO_PLAIN);
        assert_int_equal(hello_parse((const uint8_t *)"\x15\1\0\0\2\2", 6, name, &end), HELLO_BAD);
        assert_int_equal(hello_parse((const uint8_t *)"\x15\1\0\0\2\3", 6, name, &end), HELLO_PLAIN);
        assert_int_equal(hello_parse((const uint8_t *)"\x15\1\0\0\1\2", 6, name, &end), HELLO_PLAIN);
        assert_int_equal(hello_parse((const uint8_t *)"\x15\1\0\1\2\2", 6, name, &end), HELLO_PLAIN);
        assert_int_equal(hello_parse((const uint8_t *)"\x16", 1, name, &end), HELLO_MORE);
        assert_int_equal(hello_parse((const uint8_t *)"", 0, name, &end), HELLO_MORE);
}

static void what_only_some_servers_take_for_a_hello_is_refused(void **state) {
        put_name(&exts, 0, "api.example.com");
        assert_int_equal(with(), HELLO_NAMED);
        static const char *const before[] = {"\x15\3\1\0\2\1\x5a", "\x14\3\3\0\1\1", "\x17\3\1\0\1x", "\x15\2\1\0\2\1\x5a"};
        static const size_t n[] = {7, 6, 6, 7};
        for (size_t i = 0; i < sizeof(before) / sizeof(before[0]); i++) {
                struct bytes both = {.n = 0};
                put(&both, before[i], n[i]);
                put(&both, rec.at, rec.n);
                assert_int_equal(parse(&both, name), HELLO_BAD);
        }
        for (unsigned major = 0; major < 0x10; major++) {
                rec.at[1] = (uint8_t)major;
                assert_int_equal(parse(&rec, name), major == 3 ? HELLO_NAMED : HELLO_BAD);
        }
        assert_int_equal(hello_parse((const uint8_t *)"\x15", 1, name, &end), HELLO_MORE);
        assert_int_equal(hello_parse((const uint8_t *)"\x16\2\0\0\1", 5, name, &end), HELLO_MORE);
}

/* SSL 2's form, which OpenSSL and Java still take to begin TLS 1.2 with. */
static void a_hello_of_the_old_form_has_no_name(void **state) {
        const uint8_t old[] = {0x80, 0x2e, 1, 3, 3, 0, 3, 0, 0, 0, 32, 0, 0xc0, 0x2f};

        for (size_t n = 1; n <= sizeof(old); n++)
                assert_int_equal(hello_parse(old, n, name, &end), n < 5 ? HELLO_MORE : HELLO_UNNAMED);
        /* Other protocols: Telnet's answer to an echo, a length in front, UTF-8. */
        assert_int_equal(hello_parse((const uint8_t *)"\xff\xfd\1", 3, name, &end), HELLO_PLAIN);
        assert_int_equal(hello_parse((const uint8_t *)"\x80\0\0\1", 4, name, &end), HELLO_PLAIN);
        assert_int_equal(hello_parse((const uint8_t *)"\x80\1\1\0", 4, name, &end), HELLO_PLAIN);
        assert_int_equal(hello_parse((const uint8_t *)"\xc3\xa4\1\3\3", 5, name, &end), HELLO_PLAIN);
}

static void one_that_is_longer_than_is_looked_at_is_refused(void **state) {
        put_filler(&exts, 15000);
        put_name(&exts, 0, "api.example.com");
        assert_int_equal(with(), HELLO_NAMED);
        clear(state);
        put_filler(&exts, HELLO_MAX - 60);
        put_filler(&exts, 500);
        message(&exts, &msg);
        struct bytes part;
        part.n = 8000;
        memcpy(part.at, msg.at, 8000);
        record(&part, &rec);
        part.n = msg.n - 8000;
        memcpy(part.at, msg.at + 8000, part.n);
        record(&part, &rec);
        assert_true(rec.n > HELLO_MAX);
        assert_int_equal(hello_parse(rec.at, HELLO_MAX - 1, name, &end), HELLO_MORE);
        assert_int_equal(hello_parse(rec.at, HELLO_MAX, name, &end), HELLO_BAD);
}

#define CCS "\x14\3\3\0\1\1"
#define DATA "\x17\3\3\0\5early"

static void a_second_hello_may_stand_behind_early_data(void **state) {
        static const char *const before[] = {"", CCS, DATA, CCS DATA DATA, DATA CCS};
        static const size_t n[] = {0, 6, 10, 26, 16};
        struct bytes all;

        put_name(&exts, 0, "api.example.com");
        with();
        for (size_t i = 0; i < sizeof(n) / sizeof(n[0]); i++) {
                all.n = 0;
                put(&all, before[i], n[i]);
                put(&all, rec.at, rec.n);
                for (size_t k = 0; k < all.n; k++)
                        assert_int_equal(hello_parse_second(all.at, k, name), HELLO_MORE);
                assert_int_equal(hello_parse_second(all.at, all.n, name), HELLO_NAMED);
                assert_string_equal(name, "api.example.com");
        }
}

static void what_is_no_second_hello_is_refused(void **state) {
        static const struct {
                const char *bytes;
                size_t n;
        } rows[] = {{"GET / HTTP/1.1\r\n", 16},    {CCS "x", 7},
                    {"\x15\3\3\0\2\1\0", 7},       {CCS "\x15\3\3\0\2\1\0", 13},
                    {"\x16\3\3\0\4\x10\0\0\0", 9}, {"\x18\3\3\0\1x", 6}};
        static uint8_t data[HELLO_MAX] = DATA;

        for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
                assert_int_equal(hello_parse_second((const uint8_t *)rows[i].bytes, rows[i].n, name), HELLO_BAD);
        data[3] = 0x40; /* longer than there is room for */
        assert_int_equal(hello_parse_second(data, sizeof(data) - 1, name), HELLO_MORE);
        assert_int_equal(hello_parse_second(data, sizeof(data), name), HELLO_BAD);
}

static void only_a_retry_request_asks_for_a_second_hello(void **state) {
        uint8_t answer[HELLO_ANSWER_BYTES] = "\x16\3\3\0\x58\2\0\0\x54\3\3"
                                             "\xcf\x21\xad\x74\xe5\x9a\x61\x11\xbe\x1d\x8c\x02\x1e\x65\xb8\x91"
                                             "\xc2\xa2\x11\x16\x7a\xbb\x8c\x5e\x07\x9e\x09\xe2\xc8\xa8\x33\x9c";
        static const size_t told[] = {0, 1, 5, 11, 42};

        assert_int_equal(hello_answer_parse(answer, sizeof(answer)), HELLO_ANSWER_RETRY);
        for (size_t n = 0; n < sizeof(answer); n++)
                assert_int_equal(hello_answer_parse(answer, n), HELLO_ANSWER_MORE);
        for (size_t i = 0; i < sizeof(told) / sizeof(told[0]); i++) {
                answer[told[i]] ^= 1;
                assert_int_equal(hello_answer_parse(answer, told[i] + 1), HELLO_ANSWER_OTHER);
                answer[told[i]] ^= 1;
        }
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup(the_name_is_read_among_other_extensions, clear),
                cmocka_unit_test_setup(a_hello_without_a_name_is_one, clear),
                cmocka_unit_test_setup(every_truncation_asks_for_more, clear),
                cmocka_unit_test_setup(what_follows_in_records_of_its_own_does_not_matter, clear),
                cmocka_unit_test_setup(a_hello_in_many_records_is_put_together, clear),
                cmocka_unit_test_setup(two_names_are_refused, clear),
                cmocka_unit_test_setup(odd_names_are_refused, clear),
                cmocka_unit_test_setup(lengths_that_do_not_add_up_are_refused, clear),
                cmocka_unit_test_setup(vectors_have_the_lengths_that_the_standard_gives_them, clear),
                cmocka_unit_test_setup(no_length_is_forgiven, clear),
                cmocka_unit_test_setup(the_end_is_that_of_the_hellos_records, clear),
                cmocka_unit_test_setup(characters_that_names_do_not_have_are_refused, clear),
                cmocka_unit_test_setup(other_handshake_messages_and_empty_records_are_refused, clear),
                cmocka_unit_test_setup(anything_else_is_plain, clear),
                cmocka_unit_test_setup(what_only_some_servers_take_for_a_hello_is_refused, clear),
                cmocka_unit_test_setup(a_hello_of_the_old_form_has_no_name, clear),
                cmocka_unit_test_setup(a_second_hello_may_stand_behind_early_data, clear),
                cmocka_unit_test_setup(what_is_no_second_hello_is_refused, clear),
                cmocka_unit_test_setup(only_a_retry_request_asks_for_a_second_hello, clear),
                cmocka_unit_test_setup(one_that_is_longer_than_is_looked_at_is_refused, clear),
        };
        cmocka_set_message_output(CM_OUTPUT_TAP);
        return cmocka_run_group_tests(tests, NULL, NULL);
}
