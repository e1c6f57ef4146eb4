/* SPDX-License-Identifier: Apache-2.0 */
#include "common/record.h"

#include "common/digest.h"
#include "common/record_line.h"
#include "common/util.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#define ZEROS "0000000000000000000000000000000000000000000000000000000000000000"

static char line[RECORD_LINE_MAX], text[RECORD_TEXT_MAX];
static struct record rec;

static const struct record_head head = {.crew = "desk",
                                        .agent = "collector",
                                        .incarnation = 2,
                                        .seq = 1,
                                        .time_ns = 1763630101000000007u,
                                        .prev_hex = ZEROS};

static size_t format(void) {
        size_t n = record_format(&rec, &head, line, sizeof(line));
        line[n] = '\0';
        return n;
}

static const char *rendered(void) {
        size_t n = format();
        assert_int_equal(record_render(line, n, text, sizeof(text)), 0);
        return text;
}

static void the_line_is_canonical(void **state) {
        record_init(&rec, RECORD_TOOL_CALL, "crewd");
        record_str(&rec, "tool", "csv");
        record_str(&rec, "verdict", "allowed");
        record_int(&rec, "call", -7);
        record_bool(&rec, "again", false);
        record_hex(&rec, "zz", (const uint8_t *)"\x01\xff", 2);
        record_str(&rec, "absent", NULL);
        record_str(&rec, "tool", "csv_parser_tool");
        format();
        assert_string_equal(
                line, "{\"again\":false,\"agent\":\"collector\",\"call\":-7,\"crew\":\"desk\",\"inc\":2,"
                      "\"kind\":\"tool.call\",\"prev\":\"" ZEROS "\",\"seq\":1,\"src\":\"crewd\","
                      "\"t\":1763630101000000007,\"tool\":\"csv_parser_tool\",\"verdict\":\"allowed\",\"zz\":\"01ff\"}\n");
}

/* One well-formed line, whatever the bytes; and the bytes come back from it. */
static void check_bytes(const void *bytes, size_t n) {
        struct record_line l;
        unsigned char back[4096];
        size_t used = 0;

        record_init(&rec, RECORD_FILE_DENIED, "landlock");
        record_bytes(&rec, "path", bytes, n);
        size_t len = format();
        for (size_t i = 0; i + 1 < len; i++)
                assert_true(line[i] >= 0x20 && line[i] < 0x7f);
        assert_int_equal(line[len - 1], '\n');
        assert_int_equal(record_line_parse(line, len - 1, &l), 0);
        const struct record_value *v = record_line_get(&l, "path");
        for (const char *p = v->text; p < v->text + v->len;) {
                uint32_t c = record_value_next(&p, v->text + v->len);
                if (c >= 0xdc80 && c <= 0xdcff) {
                        back[used++] = (unsigned char)c;
                } else if (c < 0x80) {
                        back[used++] = (unsigned char)c;
                } else if (c < 0x800) {
                        back[used++] = (unsigned char)(0xc0 | c >> 6);
                        back[used++] = (unsigned char)(0x80 | (c & 0x3f));
                } else if (c < 0x10000) {
                        back[used++] = (unsigned char)(0xe0 | c >> 12);
                        back[used++] = (unsigned char)(0x80 | (c >> 6 & 0x3f));
                        back[used++] = (unsigned char)(0x80 | (c & 0x3f));
                } else {
                        back[used++] = (unsigned char)(0xf0 | c >> 18);
                        back[used++] = (unsigned char)(0x80 | (c >> 12 & 0x3f));
                        back[used++] = (unsigned char)(0x80 | (c >> 6 & 0x3f));
                        back[used++] = (unsigned char)(0x80 | (c & 0x3f));
                }
        }
        assert_int_equal(used, n);
        assert_memory_equal(back, bytes, n);
        assert_int_equal(record_render(line, len, text, sizeof(text)), 0);
        assert_true(crew_utf8_ok(text, strlen(text)));
        for (const unsigned char *p = (const unsigned char *)text; *p; p++)
                assert_true(*p >= 0x20 && *p != 0x7f && !(*p == 0xc2 && p[1] < 0xa0));
}

static void numbers_are_decimal(void **state) {
        static const int64_t values[] = {0, 9, 10, -1, 1234567890123456789, INT64_MAX, INT64_MIN};

        for (size_t i = 0; i < ELEMENTSOF(values); i++) {
                char want[64];
                struct record r;
                record_init(&r, RECORD_KILL, "crewd");
                record_int(&r, "count", values[i]);
                size_t n = record_format(
                        &r, &(struct record_head){.crew = "c", .agent = "a", .seq = UINT64_MAX, .prev_hex = ""}, line,
                        sizeof(line));
                line[n] = '\0';
                snprintf(want, sizeof(want), ",\"count\":%lld,", (long long)values[i]);
                assert_non_null(strstr(line, want));
                assert_non_null(strstr(line, ",\"seq\":18446744073709551615,"));
        }
}

static void hostile_bytes_make_one_well_formed_line(void **state) {
        static const char *const attacks[] = {
                "",
                "/x\n{\"kind\":\"tool.call\"}\n",
                "\",\"kind\":\"agent.ready\",\"x\":\"",
                "\\",
                "\\\"\\u0000",
                "\x1b[2J\x1b]0;pwn\x07",
                "\xff\xfe\x80",
                "\xc3",
                "\xc3\xa9t\xc3\xa9",
                "\xed\xa0\x80\xed\xb0\x80",
                "\xf0\x9f\x98\x80",
                "\xf5\x80\x80\x80",
                "\xc0\xaf",
                "\xe2\x80\xae"
                "fdp.exe",
                "\r\r\r",
                "\x7f\xc2\x9b"
                "31m",
                "\xf0\x9f\x98",
                "\xe2\x80\xa8line",
                "\t\v\f\b",
        };
        unsigned char every[512], random[900];
        uint32_t x = 12345;

        for (size_t i = 0; i < ELEMENTSOF(attacks); i++)
                check_bytes(attacks[i], strlen(attacks[i]));
        for (size_t i = 0; i < sizeof(every); i++)
                every[i] = (unsigned char)(i * 255 / 2);
        check_bytes(every, sizeof(every));
        for (int round = 0; round < 500; round++) {
                for (size_t i = 0; i < sizeof(random); i++) {
                        x = x * 1664525u + 1013904223u;
                        random[i] = (unsigned char)(round % 2 ? x >> 24 : (x >> 24) | 0x80);
                }
                check_bytes(random, sizeof(random));
        }
}

/* Wherever it stands among bytes that need nothing: it alone is escaped, and it always is. */
static void one_byte_is_escaped_wherever_it_stands(void **state) {
        static const unsigned char plain[] = {'a', ' ', '!', '#', '[', ']', '~'};
        unsigned char value[24];

        for (size_t k = 0; k < sizeof(plain); k++) {
                memset(value, plain[k], sizeof(value));
                check_bytes(value, sizeof(value));
                size_t unescaped = strlen(line);
                for (unsigned b = 0; b < 256; b++) {
                        size_t more = b < 0x20 || b >= 0x7f || b == '"' || b == '\\' ? strlen("\\u0000") - 1 : 0;
                        for (size_t at = 0; at < sizeof(value); at++) {
                                memset(value, plain[k], sizeof(value));
                                value[at] = (unsigned char)b;
                                check_bytes(value, sizeof(value));
                                assert_int_equal(strlen(line), unescaped + more);
                        }
                }
        }
}

static void oversize_values_are_cut_and_say_so(void **state) {
        char big[9000];
        struct record_line l;

        memset(big, '\x01', sizeof(big));
        record_init(&rec, RECORD_STDERR, "worker");
        record_bytes(&rec, "text", big, sizeof(big));
        record_bytes(&rec, "tool", big, sizeof(big));
        record_bytes(&rec, "more", big, sizeof(big));
        size_t n = format();
        assert_true(n <= RECORD_LINE_MAX);
        assert_int_equal(record_line_parse(line, n - 1, &l), 0);
        assert_non_null(record_line_get(&l, "cut"));
        assert_int_equal(record_line_get(&l, "text")->len, 6 * RECORD_VALUE_MAX);
        assert_int_equal(record_line_get(&l, "tool")->len, 6 * (sizeof(rec.buf) - RECORD_VALUE_MAX));
        assert_int_equal(record_line_get(&l, "more")->len, 0);
        assert_int_equal(record_render(line, n, text, sizeof(text)), 0);
}

static void a_cut_keeps_characters_whole(void **state) {
        char big[RECORD_VALUE_MAX + 2];
        struct record_line l;

        memset(big, 'a', sizeof(big));
        memcpy(big + RECORD_VALUE_MAX - 2, "\xf0\x9f\x98\x80", 4);
        record_init(&rec, RECORD_STDERR, "worker");
        record_bytes(&rec, "text", big, sizeof(big));
        size_t n = format();
        assert_int_equal(record_line_parse(line, n - 1, &l), 0);
        assert_int_equal(record_line_get(&l, "text")->len, RECORD_VALUE_MAX - 2);
        assert_null(strstr(line, "\\udc"));
}

static void text_reads_as_documented(void **state) {
        record_init(&rec, RECORD_NETWORK_DENIED, "gateway");
        record_str(&rec, "host", "exfil.attacker.com");
        record_int(&rec, "port", 443);
        assert_string_equal(rendered(),
                            "[2025-11-20 09:15:01] NETWORK: DENIED -> exfil.attacker.com:443 (not in allowed_endpoints)");
        record_str(&rec, "host", "2001:db8::1");
        record_int(&rec, "count", 12);
        assert_string_equal(
                rendered(),
                "[2025-11-20 09:15:01] NETWORK: DENIED -> [2001:db8::1]:443 (not in allowed_endpoints, 12 times)");

        record_init(&rec, RECORD_FILE_DENIED, "landlock");
        record_str(&rec, "path", "/data/client-portfolios/");
        record_str(&rec, "access", "fs.read_dir");
        assert_string_equal(rendered(),
                            "[2025-11-20 09:15:01] FILE_READ: DENIED -> /data/client-portfolios/ (not in read policy)");
        record_str(&rec, "access", "fs.make_reg,fs.refer");
        record_str(&rec, "reason", "outside of the write tree");
        assert_string_equal(
                rendered(),
                "[2025-11-20 09:15:01] FILE_WRITE: DENIED -> /data/client-portfolios/ (outside of the write tree)");
        record_str(&rec, "access", "fs.execute");
        assert_non_null(strstr(rendered(), " EXEC: DENIED -> "));
        record_str(&rec, "access", "scope.signal");
        assert_non_null(strstr(rendered(), " SIGNAL: DENIED -> "));

        record_init(&rec, RECORD_TOOL_CALL, "crewd");
        record_str(&rec, "tool", "market_api_tool");
        record_str(&rec, "verdict", "allowed");
        record_str(&rec, "args_sha256", "12ab34cd56789012ab34cd56789012ab34cd56789012ab34cd56789012ab34cd");
        assert_string_equal(rendered(),
                            "[2025-11-20 09:15:01] TOOL: ALLOWED -> market_api_tool (args sha256:12ab34cd\xe2\x80\xa6)");

        record_init(&rec, RECORD_TASK_STARTED, "crewd");
        record_str(&rec, "task", "collect");
        assert_string_equal(rendered(), "[2025-11-20 09:15:01] TASK: STARTED -> collect");
        record_init(&rec, RECORD_TASK_FINISHED, "crewd");
        record_str(&rec, "task", "collect");
        record_str(&rec, "outcome", "ok");
        record_int(&rec, "ms", 412);
        assert_string_equal(rendered(), "[2025-11-20 09:15:01] TASK: OK -> collect (412 ms)");

        record_init(&rec, RECORD_STDERR, "worker");
        record_str(&rec, "text", "Traceback\n\x1b[31m\t\xc3\xa9\\\n");
        assert_string_equal(rendered(), "[2025-11-20 09:15:01] STDERR: Traceback\\n\\u001b[31m\\t\xc3\xa9\\\\");
        record_init(&rec, RECORD_READY, "crewd");
        assert_string_equal(rendered(), "[2025-11-20 09:15:01] AGENT: READY");
}

static void connections_read_as_documented(void **state) {
        static const struct {
                int64_t bytes;
                const char *text;
        } sizes[] = {
                {0, "0 B"},       {999, "999 B"},     {1000, "1.0 KB"},    {1204, "1.2 KB"},       {9999, "9.9 KB"},
                {88121, "88 KB"}, {999999, "999 KB"}, {1000000, "1.0 MB"}, {3500000000, "3.5 GB"}, {INT64_MAX, "9.2 EB"}};
        char want[128];

        record_init(&rec, RECORD_NETWORK_ALLOWED, "gateway");
        record_str(&rec, "host", "api.marketdata.com");
        record_int(&rec, "port", 443);
        record_str(&rec, "rule", "x.yaml:5");
        record_str(&rec, "peer", "203.0.113.7:443");
        assert_string_equal(rendered(), "[2025-11-20 09:15:01] NETWORK: ALLOWED -> api.marketdata.com:443");
        record_str(&rec, "verdict", "would deny");
        assert_string_equal(rendered(), "[2025-11-20 09:15:01] NETWORK: WOULD DENY -> api.marketdata.com:443");
        for (size_t i = 0; i < ELEMENTSOF(sizes); i++) {
                record_init(&rec, RECORD_NETWORK_CLOSED, "gateway");
                record_str(&rec, "host", "x");
                record_int(&rec, "bytes_out", sizes[i].bytes);
                record_int(&rec, "bytes_in", 1);
                record_int(&rec, "ms", 312);
                snprintf(want, sizeof(want), "[2025-11-20 09:15:01] NETWORK: CLOSED -> x (%s out, 1 B in, 312 ms)",
                         sizes[i].text);
                assert_string_equal(rendered(), want);
        }
        record_init(&rec, RECORD_NETWORK_HTTP, "gateway");
        record_str(&rec, "host", "api.x.com");
        record_str(&rec, "method", "DELETE");
        record_str(&rec, "path", "/v1/y");
        record_str(&rec, "verdict", "denied");
        record_str(&rec, "reason", "path is not listed");
        assert_string_equal(rendered(), "[2025-11-20 09:15:01] HTTP: DENIED -> DELETE api.x.com/v1/y (path is not listed)");
}

static void every_kind_has_a_name_and_a_text(void **state) {
        for (int k = 0; k < RECORD_KIND_N; k++) {
                assert_non_null(record_kind_names[k]);
                record_init(&rec, (enum record_kind)k, "crewd");
                assert_int_equal(strncmp(rendered(), "[2025-11-20 09:15:01] ", 22), 0);
                assert_true(strlen(text) > 25);
                assert_true(record_matches(line, strlen(line), "all"));
        }
}

static bool matches(enum record_kind kind, const char *verdict, const char *filter) {
        record_init(&rec, kind, "crewd");
        record_str(&rec, "verdict", verdict);
        return record_matches(line, format(), filter);
}

static void filters_select_by_kind_and_verdict(void **state) {
        assert_true(matches(RECORD_FILE_DENIED, NULL, "denied"));
        assert_true(matches(RECORD_FILE_DENIED, NULL, "file"));
        assert_false(matches(RECORD_FILE_DENIED, NULL, "network"));
        assert_true(matches(RECORD_NETWORK_DENIED, NULL, "denied"));
        assert_true(matches(RECORD_TOOL_CALL, "denied", "denied"));
        assert_true(matches(RECORD_TOOL_CALL, "invalid", "denied"));
        assert_false(matches(RECORD_TOOL_CALL, "allowed", "denied"));
        assert_true(matches(RECORD_TOOL_CALL, "allowed", "tool"));
        assert_true(matches(RECORD_MESSAGE_SENT, "denied", "denied"));
        assert_true(matches(RECORD_KILL, NULL, "lifecycle"));
        assert_true(matches(RECORD_TASK_STARTED, NULL, "task"));
        assert_false(matches(RECORD_TASK_STARTED, NULL, "nonsense"));
        assert_false(record_matches("x", 1, "all"));
}

static void what_is_no_record_is_not_rendered(void **state) {
        static const char *const bad[] = {
                "", "{}", "[]", "hello", "{\"kind\":\"tool.call\"", "{\"kind\":\"no.such\"}", "{\"kind\": \"tool.call\"}"};

        for (size_t i = 0; i < ELEMENTSOF(bad); i++)
                assert_int_equal(record_render(bad[i], strlen(bad[i]), text, sizeof(text)), -EINVAL);
}

static void a_small_buffer_gets_a_prefix(void **state) {
        char small[30];

        record_init(&rec, RECORD_TASK_STARTED, "crewd");
        record_str(&rec, "task", "\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9");
        size_t n = format();
        for (size_t room = 1; room <= sizeof(small); room++) {
                memset(small, 'X', sizeof(small));
                assert_int_equal(record_render(line, n, small, room), 0);
                assert_true(strlen(small) < room);
                assert_true(crew_utf8_ok(small, strlen(small)));
        }
}

/* A stream of n records in memory. */
static size_t make_stream(char *buf, size_t room, unsigned n) {
        char prev[CREW_SHA256_HEX] = ZEROS;
        size_t used = 0;

        for (unsigned i = 1; i <= n; i++) {
                struct record_head h = head;
                h.seq = i;
                h.prev_hex = prev;
                record_init(&rec, RECORD_STDERR, "worker");
                record_int(&rec, "n", i);
                size_t len = record_format(&rec, &h, line, sizeof(line));
                assert_true(used + len < room);
                memcpy(buf + used, line, len);
                used += len;
                crew_sha256_hex(line, len - 1, prev);
        }
        return used;
}

static struct record_verify verify(const char *buf, size_t n) {
        struct record_verify v;
        struct crew_err err = CREW_ERR_NULL;
        FILE *f = fmemopen((void *)buf, n ? n : 1, "r");

        assert_non_null(f);
        if (n == 0)
                (void)fgetc(f);
        assert_int_equal(record_verify_stream(f, &v, &err), 0);
        fclose(f);
        return v;
}

static void an_intact_stream_verifies(void **state) {
        char buf[8192];
        size_t n = make_stream(buf, sizeof(buf), 10);
        struct record_verify v = verify(buf, n);

        assert_int_equal(v.records, 10);
        assert_int_equal(v.bad_seq, 0);
        assert_false(v.torn_tail);
        v = verify(buf, 0);
        assert_int_equal(v.records, 0);
        assert_string_equal(v.head_hex, ZEROS);
}

/* Every single byte of a stream matters. */
static void any_changed_byte_is_found(void **state) {
        char buf[8192], copy[8192];
        size_t n = make_stream(buf, sizeof(buf), 4);

        for (size_t i = 0; i < n; i++) {
                memcpy(copy, buf, n);
                copy[i] ^= 1;
                struct record_verify v = verify(copy, n);
                struct record_verify whole = verify(buf, n);
                if (v.bad_seq == 0 && !v.torn_tail && strcmp(v.head_hex, whole.head_hex) == 0)
                        fail_msg("byte %zu changed and nothing was found", i);
        }
}

static void the_first_bad_record_is_named(void **state) {
        char buf[16384], copy[16384];
        size_t n = make_stream(buf, sizeof(buf), 10);
        char *third = strstr(buf, "\"n\":3"), *end;

        memcpy(copy, buf, n);
        copy[third - buf + 4] = '9'; /* a changed value is seen in the next line's prev */
        struct record_verify v = verify(copy, n);
        assert_int_equal(v.bad_seq, 4);
        assert_int_equal(v.bad_line, 4);
        assert_non_null(strstr(v.problem, "prev is "));
        assert_non_null(strstr(v.problem, "the line before hashes to "));

        end = strchr(third, '\n') + 1; /* a removed line */
        char *start = third;
        while (start[-1] != '\n')
                start--;
        memcpy(copy, buf, (size_t)(start - buf));
        memcpy(copy + (start - buf), end, n - (size_t)(end - buf));
        v = verify(copy, n - (size_t)(end - start));
        assert_int_equal(v.bad_seq, 3);

        v = verify(start, n - (size_t)(start - buf)); /* a removed beginning */
        assert_int_equal(v.bad_seq, 1);
        assert_non_null(strstr(v.problem, "the first must be"));

        memcpy(copy, buf, n); /* garbage between */
        memcpy(copy + n, "hello\n", 6);
        v = verify(copy, n + 6);
        assert_int_equal(v.bad_seq, 11);
        assert_non_null(strstr(v.problem, "not a canonical record"));
}

static void a_torn_tail_is_not_a_bad_record(void **state) {
        char buf[8192];
        size_t n = make_stream(buf, sizeof(buf), 3);
        struct record_verify v = verify(buf, n - 20);

        assert_true(v.torn_tail);
        assert_int_equal(v.records, 2);
        assert_int_equal(v.bad_seq, 0);
}

static void a_line_without_end_is_bounded(void **state) {
        size_t n = 3 * RECORD_LINE_MAX;
        _cleanup_free_ char *buf = malloc(n);

        assert_non_null(buf);
        memset(buf, 'a', n);
        struct record_verify v = verify(buf, n);
        assert_int_equal(v.bad_seq, 1);
        assert_non_null(strstr(v.problem, "longer than"));
}

static void lines_of_another_stream_do_not_fit(void **state) {
        static char buf[2 * RECORD_LINE_MAX];
        char prev[CREW_SHA256_HEX];
        size_t n = make_stream(buf, sizeof(buf), 1);
        struct record_head h = head;

        crew_sha256_hex(buf, n - 1, prev);
        h.seq = 2;
        h.prev_hex = prev;
        h.agent = "writer";
        record_init(&rec, RECORD_READY, "crewd");
        n += record_format(&rec, &h, buf + n, sizeof(buf) - n);
        struct record_verify v = verify(buf, n);
        assert_int_equal(v.bad_seq, 2);
        assert_string_equal(v.problem, "the line belongs to another stream");
}

/* RFC 4231, test cases 2 and 6 (a key longer than a block), in parts. */
static void hmac_is_that_of_the_rfc(void **state) {
        uint8_t key[131], mac[CREW_SHA256_BYTES];
        char hex[CREW_SHA256_HEX];
        const struct crew_part two[] = {{"what do ya want ", 16}, {"", 0}, {"for nothing?", 12}};
        const struct crew_part six[] = {{"Test Using Larger Than Block-Size Key - Hash Key First", 54}};

        (void)state;
        crew_hmac_sha256("Jefe", 4, two, ELEMENTSOF(two), mac);
        crew_hex(mac, sizeof(mac), hex);
        assert_string_equal(hex, "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
        memset(key, 0xaa, sizeof(key));
        crew_hmac_sha256(key, sizeof(key), six, ELEMENTSOF(six), mac);
        crew_hex(mac, sizeof(mac), hex);
        assert_string_equal(hex, "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54");
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(the_line_is_canonical),
                cmocka_unit_test(numbers_are_decimal),
                cmocka_unit_test(hostile_bytes_make_one_well_formed_line),
                cmocka_unit_test(one_byte_is_escaped_wherever_it_stands),
                cmocka_unit_test(oversize_values_are_cut_and_say_so),
                cmocka_unit_test(a_cut_keeps_characters_whole),
                cmocka_unit_test(text_reads_as_documented),
                cmocka_unit_test(connections_read_as_documented),
                cmocka_unit_test(every_kind_has_a_name_and_a_text),
                cmocka_unit_test(filters_select_by_kind_and_verdict),
                cmocka_unit_test(what_is_no_record_is_not_rendered),
                cmocka_unit_test(a_small_buffer_gets_a_prefix),
                cmocka_unit_test(an_intact_stream_verifies),
                cmocka_unit_test(any_changed_byte_is_found),
                cmocka_unit_test(the_first_bad_record_is_named),
                cmocka_unit_test(a_torn_tail_is_not_a_bad_record),
                cmocka_unit_test(a_line_without_end_is_bounded),
                cmocka_unit_test(lines_of_another_stream_do_not_fit),
                cmocka_unit_test(hmac_is_that_of_the_rfc),
        };
        setenv("TZ", "UTC", 1);
        tzset();
        cmocka_set_message_output(CM_OUTPUT_TAP);
        return cmocka_run_group_tests(tests, NULL, NULL);
}
