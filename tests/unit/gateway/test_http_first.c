/* SPDX-License-Identifier: Apache-2.0 */
/* Which first lines are HTTP's, and how soon that is known. */
#include "gateway/http_first.h"

#include "common/util.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

struct row {
        const char *bytes;
        size_t n;
        enum http_first is;
};
#define ROW(text, is)                                                                                                      \
        { text, sizeof(text) - 1, is }

/* The same whether it comes whole or byte by byte. */
static void check(const struct row *rows, size_t n) {
        for (size_t i = 0; i < n; i++) {
                struct http_first_line whole = {0}, slow = {0};
                enum http_first is = http_first_read(&whole, rows[i].bytes, rows[i].n);
                for (size_t k = 0; k < rows[i].n; k++)
                        http_first_read(&slow, rows[i].bytes + k, 1);
                if (is != rows[i].is)
                        print_message("# %s\n", rows[i].bytes);
                assert_int_equal(is, rows[i].is);
                assert_int_equal(slow.is, is);
        }
}

static void requests_are_seen_however_they_are_spaced(void **state) {
        static const struct row rows[] = {
                ROW("GET / HTTP/1.1\r\n", HTTP_FIRST_YES),
                ROW("POST /x HTTP/", HTTP_FIRST_YES),
                ROW("get /x http/1.1\r\n", HTTP_FIRST_YES),
                ROW("\r\n\r\nPOST / HTTP/1.1\r\n", HTTP_FIRST_YES),
                ROW(" \t POST / HTTP/1.1\r\n", HTTP_FIRST_YES),
                ROW("POST\t/\tHTTP/1.1\r\n", HTTP_FIRST_YES),
                ROW("POST\v/\fHTTP/1.1\n", HTTP_FIRST_YES),
                ROW("POST\r/\rHTTP/1.1\n", HTTP_FIRST_YES),
                ROW("POST\xa0/\x85HTTP/1.1\n", HTTP_FIRST_YES),
                ROW("POST\x1c/\x1fHTTP/1.1\n", HTTP_FIRST_YES),
                ROW("POST   /    HTTP/1.1\n", HTTP_FIRST_YES),
                ROW("POST /a b c HTTP/1.1\r\n", HTTP_FIRST_YES),
                ROW("POST /a\0b HTTP/1.1\r\n", HTTP_FIRST_YES),
                ROW("POST / HTTP/1.1 HTTP/1.1\r\n", HTTP_FIRST_YES),
                ROW("!#$%&'*+-.^_`|~0aZ / HTTP/1.1\r\n", HTTP_FIRST_YES),
                ROW("CONNECT evil.test:443 HTTP/1.1\r\n", HTTP_FIRST_YES),
                ROW("POST http://evil.test/ HTTP/1.1\r\n", HTTP_FIRST_YES),
                ROW("POST /a-long-path-as?they=are&often HTTP/1.1\r\n", HTTP_FIRST_YES),
                ROW("POST /long-words behind-long-words http/1.0\n", HTTP_FIRST_YES),
                ROW("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", HTTP_FIRST_YES),
                ROW("GET /", HTTP_FIRST_YES), /* HTTP/0.9 would end there */
                ROW("GET http", HTTP_FIRST_YES),
                ROW("GET  HTTP://evil.test/\r\n", HTTP_FIRST_YES),
        };
        check(rows, ELEMENTSOF(rows));
}

static void other_protocols_are_left_alone(void **state) {
        static const struct row rows[] = {
                ROW("*1\r\n$4\r\nPING\r\n", HTTP_FIRST_NO), /* Redis, and its inline form */
                ROW("PING\r\n", HTTP_FIRST_NO),
                ROW("GET key\r\n", HTTP_FIRST_NO),
                ROW("get http://x/ https://y/\r\n", HTTP_FIRST_NO), /* memcached */
                ROW("\0\0\0\x08\x04\xd2\x16\x2f", HTTP_FIRST_NO),   /* PostgreSQL */
                ROW("\x10\x20\0\x04MQTT", HTTP_FIRST_NO),
                ROW("AMQP\0\0\x09\x01", HTTP_FIRST_NO),
                ROW("EHLO client.test\r\n", HTTP_FIRST_NO),
                ROW("SSH-2.0-OpenSSH_9.2p1 Debian-2\r\n", HTTP_FIRST_NO),
                ROW("a1 LOGIN me secret\r\n", HTTP_FIRST_NO),
                ROW("USER me\r\n", HTTP_FIRST_NO),
                ROW("NICK me\n", HTTP_FIRST_NO),
                ROW("CONNECT {\"verbose\":false}\r\n", HTTP_FIRST_NO),                /* NATS */
                ROW("CONNECT\naccept-version:1.2\n", HTTP_FIRST_NO),                  /* STOMP */
                ROW("OPTIONS rtsp://api.test/ RTSP/1.0\r\n", HTTP_FIRST_NO),          /* RTSP */
                ROW("INVITE sip:a@api.test SIP/2.0\r\n", HTTP_FIRST_NO),              /* SIP */
                ROW("10.0.0.1 - - [x] \"GET / HTTP/1.0\" 200 2326\n", HTTP_FIRST_NO), /* a log of a web server, shipped */
                ROW("{\"method\": \"x HTTP/1.1\"}\n", HTTP_FIRST_NO),
                ROW("<stream xmlns='x'>", HTTP_FIRST_NO),
                ROW("ping\n", HTTP_FIRST_NO),
                ROW("HTTP/1.1 200 OK\n", HTTP_FIRST_NO),
                ROW("x HTTP/1.1\n", HTTP_FIRST_NO),
                ROW("GET key /x\n", HTTP_FIRST_NO),
                ROW("GET a/b\n", HTTP_FIRST_NO),
                ROW("GETX /x\n", HTTP_FIRST_NO),
                ROW("GE /x\n", HTTP_FIRST_NO),
                ROW("GE T/x\n", HTTP_FIRST_NO),
                ROW("get /x\n", HTTP_FIRST_NO),
        };
        check(rows, ELEMENTSOF(rows));
}

static void what_may_still_become_a_request_is_open(void **state) {
        static const struct row rows[] = {
                ROW("", HTTP_FIRST_OPEN),
                ROW("\r\n\r\n", HTTP_FIRST_OPEN),
                ROW("x", HTTP_FIRST_OPEN),
                ROW("POST", HTTP_FIRST_OPEN),
                ROW("POST ", HTTP_FIRST_OPEN),
                ROW("POST /", HTTP_FIRST_OPEN),
                ROW("POST / HTTP", HTTP_FIRST_OPEN),
                ROW("G", HTTP_FIRST_OPEN),
                ROW("GET ", HTTP_FIRST_OPEN),
                ROW("GE /x", HTTP_FIRST_OPEN),
                ROW("GETX /x", HTTP_FIRST_OPEN),
                ROW("GET htt", HTTP_FIRST_OPEN),
                ROW("GET xhttp", HTTP_FIRST_OPEN),
                ROW("POST / x HTTP/1.1", HTTP_FIRST_OPEN),
                ROW("0\x0c\x02\x01\x01", HTTP_FIRST_OPEN), /* LDAP, in fact */
        };
        check(rows, ELEMENTSOF(rows));
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(requests_are_seen_however_they_are_spaced),
                cmocka_unit_test(other_protocols_are_left_alone),
                cmocka_unit_test(what_may_still_become_a_request_is_open),
        };
        cmocka_set_message_output(CM_OUTPUT_TAP);
        return cmocka_run_group_tests(tests, NULL, NULL);
}
