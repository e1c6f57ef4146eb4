/* SPDX-License-Identifier: Apache-2.0 */
#include "test.h"

#include "tests/unit/gateway/edge.h"

#include "gateway/http_body.h"
#include "gateway/http_head.h"

#include <errno.h>

#define GET "GET / HTTP/1.1\r\nHost: a\r\n"
#define OK200 "HTTP/1.1 200 OK\r\n"

static enum http_parse find(const char *text, size_t *end, const char **why) {
        size_t scanned = 0, n = strlen(text);

        return http_head_find(at_the_edge(text, n), n, &scanned, end, why);
}

static enum http_parse request(const char *text, struct http_head *h, const char **why) {
        size_t end;
        enum http_parse r = find(text, &end, why);

        return r == HTTP_OK ? http_parse_request(at_the_edge(text, end), end, h, why) : r;
}

static enum http_parse response(const char *text, bool to_head, struct http_head *h, const char **why) {
        size_t end;
        enum http_parse r = find(text, &end, why);

        return r == HTTP_OK ? http_parse_response(at_the_edge(text, end), end, to_head, h, why) : r;
}

static void an_ordinary_request_is_read(void **state) {
        struct http_head h;
        const char *why, *text = "POST /v1/x?q=1 HTTP/1.1\r\nHost: api.test:8443\r\nContent-Length: 5\r\nX-A:\t b c \r\n"
                                 "Expect: 100-continue\r\nConnection: keep-alive, Close\r\n\r\nhello";

        assert_int_equal(request(text, &h, &why), HTTP_OK);
        assert_string_equal(h.method, "POST");
        assert_true(http_span_is(&h, h.target, "/v1/x?q=1"));
        assert_true(http_span_is(&h, h.host, "api.test:8443"));
        assert_int_equal(h.framing, HTTP_LENGTH);
        assert_int_equal(h.length, 5);
        assert_true(h.expect_continue && h.close);
        assert_int_equal(h.n, strlen(text) - 5);
        assert_true(http_span_is(&h, http_field_find(&h, "x-a")->value, "b c"));
        assert_null(http_field_find(&h, "x-b"));
}

static void the_end_of_a_message_of_http_1_0_ends_its_connection(void **state) {
        struct http_head h;
        const char *why;

        assert_int_equal(request("GET / HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n\r\n", &h, &why), HTTP_OK);
        assert_true(h.close);
        assert_int_equal(response("HTTP/1.0 200 OK\r\nContent-Length: 1\r\n\r\n", false, &h, &why), HTTP_OK);
        assert_true(h.close);
        assert_int_equal(request(GET "\r\n", &h, &why), HTTP_OK);
        assert_false(h.close);
}

static void what_can_be_read_two_ways_is_refused(void **state) {
        static const struct {
                const char *text, *why;
        } rows[] = {
                {"GET / HTTP/1.1\nHost: a\r\n\r\n", "carriage return"},
                {"GET / HTTP/1.1\r\nHost: a\n\r\n", "carriage return"},
                {"GET / HTTP/1.1\r\nHost: a\r\n\n", "carriage return"},
                {"GET / HTTP/1.1\rHost: a\r\n\r\n", "carriage return"},
                {"GET / HTTP/1.1\r\r\nHost: a\r\n\r\n", "carriage return"},
                {"GET / HTTP/1.1\r\nHost: a\x01\r\n\r\n", "control"},
                {"GET / HTTP/1.1\r\nHost: a\x7f\r\n\r\n", "control"},
                {"\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", "empty line"},
                {GET " folded\r\n\r\n", "folded"},
                {GET "\tfolded\r\n\r\n", "folded"},
                {GET "X : a\r\n\r\n", "Name: value"},
                {GET "nocolon\r\n\r\n", "Name: value"},
                {GET ": empty\r\n\r\n", "Name: value"},
                {GET "X\xc3\xa4: a\r\n\r\n", "Name: value"},
                {GET "Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", "together"},
                {GET "Content-Length: 1\r\nContent-Length: 2\r\n\r\n", "differ"},
                {GET "Content-Length: 1, 1\r\n\r\n", "not a number"},
                {GET "Content-Length: +1\r\n\r\n", "not a number"},
                {GET "Content-Length: -1\r\n\r\n", "not a number"},
                {GET "Content-Length: 0x1\r\n\r\n", "not a number"},
                {GET "Content-Length: \r\n\r\n", "not a number"},
                {GET "Content-Length: 9999999999999999999\r\n\r\n", "not a number"},
                {GET "Transfer-Encoding: gzip, chunked\r\n\r\n", "chunked"},
                {GET "Transfer-Encoding: xchunked\r\n\r\n", "chunked"},
                {GET "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n", "chunked"},
                {GET "Transfer-Encoding: identity\r\n\r\n", "chunked"},
                {"GET / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n", "1.0"},
                {GET "Host: b\r\n\r\n", "two Host"},
                {GET "Host: a\r\n\r\n", "two Host"},
                {"GET / HTTP/1.1\r\nX: a\r\n\r\n", "no Host"},
                {"GET / HTTP/1.1\r\nHost:\r\n\r\n", "empty Host"},
                {GET "Expect: 200-ok\r\n\r\n", "Expect"},
                {GET "Upgrade: a\r\nUpgrade: b\r\n\r\n", "Upgrade"},
                {"GET  / HTTP/1.1\r\nHost: a\r\n\r\n", "request line"},
                {"GET /  HTTP/1.1\r\nHost: a\r\n\r\n", "version"},
                {"GET / HTTP/1.1 \r\nHost: a\r\n\r\n", "version"},
                {"GET /a b HTTP/1.1\r\nHost: a\r\n\r\n", "version"},
                {"GET /\tHTTP/1.1\r\nHost: a\r\n\r\n", "request line"},
                {"GET /\xc3\xa4 HTTP/1.1\r\nHost: a\r\n\r\n", "request line"},
                {"GET / HTTP/2.0\r\nHost: a\r\n\r\n", "version"},
                {"GET / http/1.1\r\nHost: a\r\n\r\n", "version"},
                {"GET /\r\nHost: a\r\n\r\n", "request line"},
                {"GET\r\nHost: a\r\n\r\n", "method"},
                {" GET / HTTP/1.1\r\nHost: a\r\n\r\n", "method"},
                {"G(T / HTTP/1.1\r\nHost: a\r\n\r\n", "method"},
                {"ABCDEFGHIJKLMNOPQRSTUVWXYZ / HTTP/1.1\r\nHost: a\r\n\r\n", "method"},
                {GET "Content_Length: 1\r\n\r\n", "take for"},
                {GET "Transfer_encoding: chunked\r\n\r\n", "take for"},
                {"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "version"},
                {"GET / HTTP/1.2\r\nHost: a\r\n\r\n", "version"},
                {"GET / HTTP/1.\r\nHost: a\r\n\r\n", "version"},
                {"GET / HTTP/1.10\r\nHost: a\r\n\r\n", "version"},
                {"GET / \r\nHost: a\r\n\r\n", "version"},
                {"GET /HTTP/1.1\r\nHost: a\r\n\r\n", "request line"},
                {GET "Content-Length: 1:\r\n\r\n", "not a number"},
                {GET "Content-Length: 1/\r\n\r\n", "not a number"},
                {GET "Content-Length: 1 1\r\n\r\n", "not a number"},
                {GET "Transfer-Encoding: chunked,\r\n\r\n", "chunked"},
                {GET "Transfer-Encoding: chunked;q=1\r\n\r\n", "chunked"},
                {GET "Transfer-Encoding:\r\n\r\n", "chunked"},
                {GET "host: b\r\n\r\n", "two Host"},
                {GET "Transfer_Encoding: x\r\n\r\n", "take for"},
                {GET "UPGRADE: a\r\nupgrade: b\r\n\r\n", "Upgrade"},
        };
        for (size_t i = 0; i < ELEMENTSOF(rows); i++) {
                struct http_head h;
                const char *why = "";
                enum http_parse r = request(rows[i].text, &h, &why);
                if (r != HTTP_BAD || !strstr(why, rows[i].why))
                        fail_msg("row %zu: %d \"%s\", expected \"%s\"", i, r, why, rows[i].why);
        }
}

static void a_token_is_made_of_its_characters_and_no_others(void **state) {
        static const char all[] = "!#$%&'*+-.^_`|~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

        for (unsigned c = 0; c < 256; c++)
                assert_int_equal(http_token_ok(&(char){(char)c}, 1), c && strchr(all, (int)c));
        assert_false(http_token_ok("", 0));
        assert_false(http_token_ok("a b", 3));
}

static void a_list_has_a_word_only_whole(void **state) {
        static const struct {
                const char *list, *word;
                bool has;
        } rows[] = {
                {"close", "close", true},          {"a,close", "close", true},    {"a , CLOSE\t,b", "close", true},
                {",,\tclose", "close", true},      {"closed", "close", false},    {"xclose", "close", false},
                {"close x", "close", true},        {"x close", "close", false},   {"clos", "close", false},
                {"cloze", "close", false},         {"", "close", false},          {",", "close", false},
                {"x\tclose,close", "close", true}, {"x close,y", "close", false}, {"close\t", "close", true},
        };
        for (size_t i = 0; i < ELEMENTSOF(rows); i++) {
                const size_t n = strlen(rows[i].list);
                if (http_list_has(at_the_edge(rows[i].list, n), n, rows[i].word) != rows[i].has)
                        fail_msg("\"%s\"", rows[i].list);
        }
}

static void limits_are_exact(void **state) {
        struct http_head h;
        const char *why;

        assert_int_equal(request("ABCDEFGHIJKLMNOPQRSTUVW / HTTP/1.1\r\nHost: a\r\n\r\n", &h, &why), HTTP_OK);
        assert_string_equal(h.method, "ABCDEFGHIJKLMNOPQRSTUVW");
        assert_int_equal(request("ABCDEFGHIJKLMNOPQRSTUVWX / HTTP/1.1\r\nHost: a\r\n\r\n", &h, &why), HTTP_BAD);
        assert_int_equal(request(GET "Content-Length: 999999999999999999\r\n\r\n", &h, &why), HTTP_OK);
        assert_true(h.length == 999999999999999999ull);
        assert_int_equal(request(GET "Content-Length: 0000000000000000001\r\n\r\n", &h, &why), HTTP_BAD);
        assert_int_equal(request("GET /\x7f HTTP/1.1\r\nHost: a\r\n\r\n", &h, &why), HTTP_BAD);
        assert_int_equal(request("GET /~ HTTP/1.1\r\nHost: a\r\n\r\n", &h, &why), HTTP_OK);
        assert_int_equal(response("HTTP/1.1 100 \r\n\r\n", false, &h, &why), HTTP_OK);
        assert_int_equal(response("HTTP/1.1 599\r\n\r\n", false, &h, &why), HTTP_OK);
        assert_int_equal(h.status, 599);
        assert_int_equal(h.reason.n, 0);
        assert_int_equal(response("HTTP/1.1 200 \r\n\r\n", false, &h, &why), HTTP_OK);
        assert_int_equal(h.reason.n, 0);
        assert_int_equal(response("HTTP/1.1 200 x\r\n\r\n", false, &h, &why), HTTP_OK);
        assert_int_equal(h.reason.n, 1);
}

static void blanks_around_a_value_are_not_of_it(void **state) {
        struct http_head h;
        const char *why;

        assert_int_equal(request(GET "X:\t \t\r\nY: \ty z\t \r\n\r\n", &h, &why), HTTP_OK);
        assert_int_equal(http_field_find(&h, "x")->value.n, 0);
        assert_true(http_span_is(&h, http_field_find(&h, "y")->value, "y z"));
        assert_false(http_span_is(&h, http_field_find(&h, "y")->value, "y"));
        assert_false(http_span_like(&h, http_field_find(&h, "y")->name, "yy"));
        assert_false(http_span_like(&h, http_field_find(&h, "y")->value, "y"));
        assert_int_equal(request(GET "Transfer-Encoding:\tchunked\t\r\n\r\n", &h, &why), HTTP_OK);
        assert_int_equal(h.framing, HTTP_CHUNKED);
}

/* What only routes a request means nothing in an answer, and a name with an underscore is another name there. */
static void in_an_answer_only_its_own_framing_counts(void **state) {
        struct http_head h;
        const char *why;

        assert_int_equal(
                response(OK200 "Host: a\r\nHost: b\r\nExpect: x\r\nUpgrade: a\r\nUpgrade: b\r\n\r\n", false, &h, &why),
                HTTP_OK);
        assert_int_equal(h.host.n, 0);
        assert_int_equal(h.upgrade.n, 0);
        assert_int_equal(response(OK200 "Content_Length: 3\r\nTransfer_Encoding: x\r\n\r\n", false, &h, &why), HTTP_OK);
        assert_int_equal(h.framing, HTTP_UNTIL_CLOSE);
        assert_int_equal(response(OK200 "Connection: close\r\nContent-Length: 1\r\n\r\n", false, &h, &why), HTTP_OK);
        assert_true(h.close);
}

static void the_same_length_twice_is_one(void **state) {
        struct http_head h;
        const char *why;

        assert_int_equal(request(GET "Content-Length: 3\r\nContent-Length: 3\r\n\r\n", &h, &why), HTTP_OK);
        assert_int_equal(h.length, 3);
        assert_int_equal(request(GET "Content-Length: 0\r\nTransfer-Encoding: chunked\r\n\r\n", &h, &why), HTTP_BAD);
}

static void a_head_may_be_16_kib_and_no_more(void **state) {
        struct http_head h;
        const char *why;
        size_t end, scanned = 0;
        char *text = malloc(HTTP_HEAD_MAX + 2);

        memset(text, 'a', HTTP_HEAD_MAX + 2);
        memcpy(text, GET "X: ", sizeof(GET "X: ") - 1);
        memcpy(text + HTTP_HEAD_MAX - 4, "\r\n\r\n", 4);
        assert_int_equal(http_head_find(text, HTTP_HEAD_MAX, &scanned, &end, &why), HTTP_OK);
        assert_int_equal(end, HTTP_HEAD_MAX);
        assert_int_equal(http_parse_request(text, end, &h, &why), HTTP_OK);
        scanned = 0;
        memcpy(text + HTTP_HEAD_MAX - 4, "a\r\n\r\n", 5);
        assert_int_equal(http_head_find(text, HTTP_HEAD_MAX + 1, &scanned, &end, &why), HTTP_BAD);
        assert_non_null(strstr(why, "16 KiB"));
        free(text);
}

static void a_head_has_at_most_128_lines(void **state) {
        char text[4096] = GET;
        struct http_head h;
        const char *why;

        for (int i = 0; i < 127; i++)
                strcat(text, "X: y\r\n");
        size_t n = strlen(text);
        strcpy(text + n, "\r\n");
        assert_int_equal(request(text, &h, &why), HTTP_OK);
        strcpy(text + n, "X: y\r\n\r\n");
        assert_int_equal(request(text, &h, &why), HTTP_BAD);
}

static void a_head_is_found_in_any_pieces(void **state) {
        const char *text = GET "X: y\r\n\r\n";
        const char *why;
        size_t end = 0, scanned = 0, n = strlen(text);

        for (size_t i = 0; i < n; i++)
                assert_int_equal(http_head_find(text, i, &scanned, &end, &why), HTTP_MORE);
        assert_int_equal(http_head_find(text, n, &scanned, &end, &why), HTTP_OK);
        assert_int_equal(end, n);
}

static void an_answer_is_framed_as_the_standard_says(void **state) {
        static const struct {
                const char *text;
                bool to_head;
                enum http_framing framing;
        } rows[] = {
                {OK200 "Content-Length: 3\r\n\r\n", false, HTTP_LENGTH},
                {OK200 "Content-Length: 0\r\n\r\n", false, HTTP_NO_BODY},
                {OK200 "Content-Length: 3\r\n\r\n", true, HTTP_NO_BODY},
                {OK200 "Transfer-Encoding: chunked\r\n\r\n", false, HTTP_CHUNKED},
                {OK200 "\r\n", false, HTTP_UNTIL_CLOSE},
                {"HTTP/1.1 204 \r\n\r\n", false, HTTP_NO_BODY},
                {"HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n", false, HTTP_NO_BODY},
                {"HTTP/1.1 100 Continue\r\n\r\n", false, HTTP_NO_BODY},
                {"HTTP/1.0 200\r\n\r\n", false, HTTP_UNTIL_CLOSE},
        };
        for (size_t i = 0; i < ELEMENTSOF(rows); i++) {
                struct http_head h;
                const char *why = "";
                assert_int_equal(response(rows[i].text, rows[i].to_head, &h, &why), HTTP_OK);
                assert_int_equal(h.framing, rows[i].framing);
        }
}

static void a_broken_answer_is_refused(void **state) {
        static const char *const rows[] = {
                "HTTP/1.1 20 OK\r\n\r\n",
                "HTTP/1.1 2000 OK\r\n\r\n",
                "HTTP/1.1 099 X\r\n\r\n",
                "HTTP/1.1 600 X\r\n\r\n",
                "HTTP/1.1  200 OK\r\n\r\n",
                "HTTP/2 200\r\n\r\n",
                "ICY 200 OK\r\n\r\n",
                "HTTP/1.1 2a0 OK\r\n\r\n",
                OK200 "Content-Length: 1\r\nContent-Length: 2\r\n\r\n",
                OK200 "Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
                OK200 "X: a\nY: b\r\n\r\n",
                OK200 " folded\r\n\r\n",
                "HTTP/1.1 200OK\r\n\r\n",
                "HTTP/1.1 2:0 OK\r\n\r\n",
                "HTTP/1.1 30/ OK\r\n\r\n",
                "HTTP/1.1 2-5 OK\r\n\r\n",
                "HTTP/1.1x200 OK\r\n\r\n",
                "HTTP/1.1\r\n\r\n",
                "HTTP/1.1 20\r\n\r\n",
                "HTTP/1.2 200 OK\r\n\r\n",
                "HTTP/1.x 200 OK\r\n\r\n",
        };
        for (size_t i = 0; i < ELEMENTSOF(rows); i++) {
                struct http_head h;
                const char *why = "";
                if (response(rows[i], false, &h, &why) != HTTP_BAD)
                        fail_msg("row %zu is accepted", i);
        }
}

/* --- bodies --- */

/* Everything that body framing passes on of text, given in pieces of at most step bytes; -1: broken. */
static ssize_t pass(const char *text, enum http_framing framing, uint64_t length, bool req, size_t step, bool *done) {
        const struct http_head h = {.framing = framing, .length = length};
        const size_t all = strlen(text);
        struct http_body b;
        size_t at = 0;

        http_body_init(&b, &h, req);
        while (at < all && !http_body_done(&b)) {
                bool data;
                const char *why = NULL;
                ssize_t n = http_body_take(&b, text + at, MIN_OF(step, all - at), &data, &why);
                if (n < 0) {
                        assert_non_null(why);
                        return -1;
                }
                assert_true(n > 0);
                at += (size_t)n;
        }
        *done = http_body_done(&b);
        return (ssize_t)at;
}

static void a_body_ends_where_it_says_in_any_pieces(void **state) {
        static const struct {
                const char *text;
                enum http_framing framing;
                uint64_t length;
                bool request;
                ssize_t n;
        } rows[] = {
                {"hello!", HTTP_LENGTH, 5, true, 5},
                {"5\r\nhello\r\n0\r\n\r\nGET", HTTP_CHUNKED, 0, true, 15},
                {"5\r\nhello\r\nA\r\n0123456789\r\n000\r\n\r\nX", HTTP_CHUNKED, 0, true, 32},
                {"5;a=b\r\nhello\r\n0\r\nA: b\r\nC: d\r\n\r\nX", HTTP_CHUNKED, 0, false, 31},
                {"0\r\n\r\n", HTTP_CHUNKED, 0, true, 5},
        };
        for (size_t i = 0; i < ELEMENTSOF(rows); i++) {
                for (size_t step = 1; step < 40; step++) {
                        bool done = false;
                        assert_int_equal(pass(rows[i].text, rows[i].framing, rows[i].length, rows[i].request, step, &done),
                                         rows[i].n);
                        assert_true(done);
                }
        }
}

static void chunks_that_can_be_read_two_ways_are_refused(void **state) {
        static const struct {
                const char *text;
                bool request_only;
        } rows[] = {
                {"5\nhello\r\n0\r\n\r\n", false},
                {"5\r\nhello\n0\r\n\r\n", false},
                {"5\r\nhelloX\r\n0\r\n\r\n", false},
                {"\r\n", false},
                {"x\r\n", false},
                {"-5\r\nhello\r\n", false},
                {"0x5\r\nhello\r\n", false},
                {"5\r\r\nhello", false},
                {"0000000000000005\r\nhello\r\n", false},
                {"ffffffffffffffff\r\nx", false},
                {"0\r\nA: b\n\r\n", false},
                {"0\r\n\n", false},
                {"5;a=\x01\r\nhello\r\n", false},
                {"0\r\n: b\r\n\r\n", false},
                {"0\r\n folded\r\n\r\n", false},
                {"5;a=b\r\nhello\r\n0\r\n\r\n", true},
                {"5 \r\nhello\r\n0\r\n\r\n", true},
                {"0\r\nA: b\r\n\r\n", true},
        };
        for (size_t i = 0; i < ELEMENTSOF(rows); i++) {
                bool done;
                if (pass(rows[i].text, HTTP_CHUNKED, 0, true, 1, &done) != -1)
                        fail_msg("row %zu is accepted in a request", i);
                if ((pass(rows[i].text, HTTP_CHUNKED, 0, false, 64, &done) == -1) == rows[i].request_only)
                        fail_msg("row %zu of an answer", i);
        }
}

static void every_chunk_has_a_size_of_its_own(void **state) {
        char text[512] = "";
        bool done = false;

        for (int i = 0; i < 40; i++) /* digits are counted anew */
                strcat(text, "1\r\na\r\n");
        strcat(text, "0\r\n\r\n");
        assert_int_equal(pass(text, HTTP_CHUNKED, 0, true, 7, &done), strlen(text));
        assert_true(done);
        assert_int_equal(pass("1\r\na\r\n\r\n\r\n", HTTP_CHUNKED, 0, true, 7, &done), -1);
        /* The largest, and every digit with what is beside it. */
        assert_true(pass("fffffffffffffff\r\nx", HTTP_CHUNKED, 0, true, 64, &done) > 0);
        for (unsigned c = 1; c < 256; c++) {
                char one[8] = {(char)c, '\r', '\n'};
                const bool digit = strchr("0123456789abcdefABCDEF", (int)c) != NULL;
                assert_int_equal(pass(one, HTTP_CHUNKED, 0, true, 8, &done), digit ? 3 : -1);
        }
}

static void a_size_is_read_as_the_number_it_is(void **state) {
        const struct http_head h = {.framing = HTTP_CHUNKED};
        static const struct {
                const char *text;
                uint64_t run;
        } rows[] = {{"0000a\r\n", 10},
                    {"F\r\n", 15},
                    {"9\r\n", 9},
                    {"Af\r\n", 175},
                    {"123456789abcdef\r\n", 0x123456789abcdef}};

        for (size_t i = 0; i < ELEMENTSOF(rows); i++) {
                struct http_body b;
                bool data;
                const char *why;
                http_body_init(&b, &h, true);
                for (const char *p = rows[i].text; *p; p++) {
                        assert_int_equal(http_body_run(&b), 0); /* what frames is not data, whatever it says so far */
                        assert_int_equal(http_body_take(&b, p, 1, &data, &why), 1);
                        assert_false(data);
                }
                assert_true(http_body_run(&b) == rows[i].run);
                http_body_passed(&b, rows[i].run - 1);
                assert_true(http_body_run(&b) == 1);
                assert_int_equal(http_body_take(&b, "xy", 2, &data, &why), 1);
                assert_true(data);
                assert_int_equal(http_body_run(&b), 0);
                http_body_passed(&b, 1); /* between the chunks nothing passes unread */
                assert_int_equal(http_body_take(&b, "x", 1, &data, &why), -EPROTO);
        }
        struct http_body b;
        http_body_init(&b, &(struct http_head){.framing = HTTP_UNTIL_CLOSE}, false);
        assert_true(http_body_run(&b) == UINT64_MAX);
        http_body_init(&b, &(struct http_head){.framing = HTTP_LENGTH, .length = 7}, false);
        assert_true(http_body_run(&b) == 7);
        http_body_passed(&b, 7);
        assert_true(http_body_done(&b));
}

/* A line of n bytes, in front of it and behind it as given. */
static ssize_t pass_line(const char *before, size_t n, const char *behind) {
        static char text[HTTP_TRAILERS_MAX + 64];
        bool done;

        strcpy(text, before);
        memset(text + strlen(before), 'e', n);
        strcpy(text + strlen(before) + n, behind);
        return pass(text, HTTP_CHUNKED, 0, false, 100, &done);
}

static void extensions_and_trailers_of_answers_are_bounded(void **state) {
        assert_true(pass_line("1;", 250, "\r\n") > 0);
        assert_int_equal(pass_line("1;", HTTP_CHUNK_LINE_MAX + 1, "\r\n"), -1);
        assert_int_equal(pass_line("000000000000001;", HTTP_CHUNK_LINE_MAX - 14, "\r\n"), -1);
        assert_true(pass_line("0\r\nX: ", HTTP_TRAILERS_MAX - 8, "\r\n\r\n") > 0);
        assert_int_equal(pass_line("0\r\nX: ", HTTP_TRAILERS_MAX, "\r\n\r\n"), -1);
        static char many[3 * HTTP_TRAILERS_MAX + 64];
        strcpy(many, "0\r\n");
        for (size_t i = 0; i < HTTP_TRAILERS_MAX; i++)
                memcpy(many + 3 + 3 * i, "e\r\n", 3);
        bool done;
        assert_int_equal(pass(many, HTTP_CHUNKED, 0, false, 1000, &done), -1); /* in lines of one byte, too */
        for (unsigned c = 1; c < 256; c++) {
                char text[32] = "1; \r\nx\r\n0\r\nA: \r\n\r\n";
                const bool plain = (c >= 0x20 || c == '\t');
                if (c == '\r')
                        continue;
                text[2] = (char)c;
                assert_int_equal(pass(text, HTTP_CHUNKED, 0, false, 9, &done), plain ? 18 : -1);
                text[2] = ' ';
                text[13] = (char)c;
                assert_int_equal(pass(text, HTTP_CHUNKED, 0, false, 9, &done), plain && c != 0x7f ? 18 : -1);
        }
        assert_true(pass("1 ;a\r\n", HTTP_CHUNKED, 0, false, 9, &done) > 0);
        assert_true(pass("1\t;a\r\n", HTTP_CHUNKED, 0, false, 9, &done) > 0);
}

static void without_a_length_only_the_end_of_the_stream_ends_a_body(void **state) {
        bool done = true;

        assert_int_equal(pass("anything\r\n\r\n0\r\n\r\n", HTTP_UNTIL_CLOSE, 0, false, 3, &done), 17);
        assert_false(done);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(an_ordinary_request_is_read),
                cmocka_unit_test(the_end_of_a_message_of_http_1_0_ends_its_connection),
                cmocka_unit_test(what_can_be_read_two_ways_is_refused),
                cmocka_unit_test(the_same_length_twice_is_one),
                cmocka_unit_test(a_token_is_made_of_its_characters_and_no_others),
                cmocka_unit_test(a_list_has_a_word_only_whole),
                cmocka_unit_test(limits_are_exact),
                cmocka_unit_test(blanks_around_a_value_are_not_of_it),
                cmocka_unit_test(in_an_answer_only_its_own_framing_counts),
                cmocka_unit_test(a_head_may_be_16_kib_and_no_more),
                cmocka_unit_test(a_head_has_at_most_128_lines),
                cmocka_unit_test(a_head_is_found_in_any_pieces),
                cmocka_unit_test(an_answer_is_framed_as_the_standard_says),
                cmocka_unit_test(a_broken_answer_is_refused),
                cmocka_unit_test(a_body_ends_where_it_says_in_any_pieces),
                cmocka_unit_test(chunks_that_can_be_read_two_ways_are_refused),
                cmocka_unit_test(every_chunk_has_a_size_of_its_own),
                cmocka_unit_test(a_size_is_read_as_the_number_it_is),
                cmocka_unit_test(extensions_and_trailers_of_answers_are_bounded),
                cmocka_unit_test(without_a_length_only_the_end_of_the_stream_ends_a_body),
        };
        cmocka_set_message_output(CM_OUTPUT_TAP);
        return cmocka_run_group_tests(tests, NULL, NULL);
}
