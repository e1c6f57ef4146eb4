/* SPDX-License-Identifier: Apache-2.0 */
/* Plain HTTP to a name without HTTP rules: each request is for the name that was dialled; other protocols are untouched. */
#include "gatelib.h"

#include "common/util.h"

#include <errno.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <sys/socket.h>

#include <cmocka.h>

#define GOOD "GET /a//b/../c?d=e HTTP/1.1\r\nHost: api.test\r\nX-A:b\r\n\r\n"

static void say_text(int fd, const char *text) {
        say(fd, text, strlen(text));
}

static bool silent(int fd, int ms) {
        struct pollfd p = {.fd = fd, .events = POLLIN};

        return poll(&p, 1, ms) == 0;
}

static void ends(int in, int out) {
        close(in);
        close(out);
}

static void expect_answer(int fd, const char *begin) {
        char got[64] = {0};

        assert_int_equal(read_n(fd, got, strlen(begin)), strlen(begin));
        assert_string_equal(got, begin);
}

static void expect_http(const char *request, const char *why) {
        struct gate_msg m = world_expect(&world, GATE_HTTP);

        assert_int_equal(m.verdict, GATE_REFUSE);
        assert_string_equal(m.text, request);
        assert_non_null(strstr(m.why, why));
        assert_string_equal(m.name, "api.test");
        assert_string_equal(m.where, "role.yaml:7");
}

static void a_request_for_the_name_goes_on_byte_for_byte(void **state) {
        static const char *const requests[] = {
                GOOD,
                "POST / HTTP/1.1\r\nhost:  API.test:443 \r\nContent-Length: 5\r\n\r\nhello",
                "PUT / HTTP/1.0\r\nHost: api.test\r\n\r\n",
                "GET http://api.test/x HTTP/1.1\r\nHost: api.test\r\nConnection: keep-alive, x\r\nTE: trailers\r\n\r\n",
                "OPTIONS * HTTP/1.1\r\nHost: api.test.\r\n\r\n",
                "POST / HTTP/1.1\r\nHost: api.test\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        };
        int in, out;

        add(0);
        pair_up(&in, &out);
        for (size_t round = 0; round < 2; round++) {
                for (size_t i = 0; i < ELEMENTSOF(requests); i++) {
                        say_text(in, requests[i]);
                        expect_bytes(out, requests[i]);
                        say_text(out, "not looked at\n");
                        expect_bytes(in, "not looked at\n");
                }
        }
        /* Sent ahead, and in pieces. */
        say_text(in, GOOD GOOD "GET /x HT");
        expect_bytes(out, GOOD GOOD);
        assert_true(silent(out, 100));
        say_text(in, "TP/1.1\r\nHost: api.test\r\n\r\n");
        expect_bytes(out, "GET /x HTTP/1.1\r\nHost: api.test\r\n\r\n");
        ends(in, out);
        world_expect(&world, GATE_ALLOWED);
        struct gate_msg m = world_expect(&world, GATE_CLOSED);
        assert_true(m.up > 500 && m.down == 12 * 14);
}

static void a_request_for_another_host_is_refused_before_it_goes_out(void **state) {
        static const struct {
                const char *bytes, *status, *request, *why;
        } rows[] = {
                {"GET /x?secret HTTP/1.1\r\nHost: evil.test\r\n\r\n", "HTTP/1.1 403", "GET /x",
                 "Host is evil.test, dialled api.test"},
                {"GET / HTTP/1.1\r\nHost: api.test:80\r\n\r\n", "HTTP/1.1 403", "GET /",
                 "Host is api.test:80, dialled api.test"},
                {"GET / HTTP/1.1\r\nHost: api.test@evil.test\r\n\r\n", "HTTP/1.1 403", "GET /", "Host is"},
                {"GET http://evil.test/ HTTP/1.1\r\nHost: api.test\r\n\r\n", "HTTP/1.1 403", "GET http://evil.test/",
                 "Host is evil.test, dialled api.test"},
                {"GET http://evil.test/# HTTP/1.1\r\nHost: api.test\r\n\r\n", "HTTP/1.1 403", "GET http://evil.test/#",
                 "neither"},
                {"GET http://api.test?@evil.test/ HTTP/1.1\r\nHost: api.test\r\n\r\n", "HTTP/1.1 403",
                 "GET http://api.test", "a URL without a path"},
                {"GET http://x@api.test/ HTTP/1.1\r\nHost: api.test\r\n\r\n", "HTTP/1.1 403", "GET http://x@api.test/",
                 "neither"},
                {"GET http:///x HTTP/1.1\r\nHost: api.test\r\n\r\n", "HTTP/1.1 403", "GET http:///x", "Host is"},
                {"GET https://api.test/ HTTP/1.1\r\nHost: api.test\r\n\r\n", "HTTP/1.1 403", "GET https://api.test/",
                 "neither"},
                {"GET evil.test/ HTTP/1.1\r\nHost: api.test\r\n\r\n", "HTTP/1.1 403", "GET evil.test/", "neither"},
                {"CONNECT api.test:443 HTTP/1.1\r\nHost: api.test:443\r\n\r\n", "HTTP/1.1 403", "CONNECT api.test:443",
                 "CONNECT is never"},
                {"GET / HTTP/1.1\r\n\r\n", "HTTP/1.1 400", "- -", "no Host line"},
                {"GET / HTTP/1.1\r\nHost: api.test\r\nHost: evil.test\r\n\r\n", "HTTP/1.1 400", "- -", "two Host"},
                {"GET / HTTP/1.1\r\nHost : evil.test\r\nHost: api.test\r\n\r\n", "HTTP/1.1 400", "- -", "cannot be read"},
                {"GET / HTTP/1.1\nHost: evil.test\n\n", "HTTP/1.1 400", "- -", "carriage return"},
                {"\r\nGET / HTTP/1.1\r\nHost: evil.test\r\n\r\n", "HTTP/1.1 400", "- -", "empty line"},
                {"GET  / HTTP/1.1\r\nHost: evil.test\r\n\r\n", "HTTP/1.1 400", "- -", "cannot be read"},
                {"get\t/\thttp/1.1\r\nHost: evil.test\r\n\r\n", "HTTP/1.1 400", "- -", "cannot be read"},
                {"GET http://evil.test/\r\n", "HTTP/1.1 400", "- -", ""},
                {"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "HTTP/1.1 400", "- -", "HTTP/2 without TLS"},
        };

        add(0);
        for (size_t i = 0; i < ELEMENTSOF(rows); i++) {
                int in, out;
                pair_up(&in, &out);
                say_text(in, rows[i].bytes);
                if (i == 18)
                        say_text(in, "\r\n"); /* a whole head, now that nothing else can follow */
                expect_answer(in, rows[i].status);
                world_expect(&world, GATE_ALLOWED);
                expect_http(rows[i].request, rows[i].why);
                assert_int_equal(read_end(out), 0); /* not a byte */
                ends(in, out);
                assert_int_equal(world_expect(&world, GATE_CLOSED).up, 0);
        }
}

static void a_refusal_of_head_has_no_body(void **state) {
        char got[4096] = {0};
        int in, out;

        add(0);
        pair_up(&in, &out);
        say_text(in, "HEAD / HTTP/1.1\r\nHost: evil.test\r\n\r\n");
        const ssize_t n = read_n(in, got, sizeof(got) - 1);
        assert_in_range(n, 40, sizeof(got) - 1);
        assert_memory_equal(got, "HTTP/1.1 403 ", 13);
        assert_string_equal(strstr(got, "\r\n\r\n"), "\r\n\r\n");
        ends(in, out);
}

static void a_later_request_for_another_host_is_refused_too(void **state) {
        int in, out;

        add(0);
        pair_up(&in, &out);
        say_text(in, GOOD "GET /x HTTP/1.1\r\nHost: evil.test\r\n\r\n");
        expect_bytes(out, GOOD);
        world_expect(&world, GATE_ALLOWED);
        expect_http("GET /x", "Host is evil.test, dialled api.test");
        assert_int_equal(read_end(out), ECONNRESET);
        ends(in, out);
        /* Nor hidden in what might be the body of the one before. */
        pair_up(&in, &out);
        say_text(in, "POST / HTTP/1.1\r\nHost: api.test\r\nContent-Length: 3\r\n\r\nabcGET /x HTTP/1.1\r\nHost: "
                     "evil.test\r\n\r\n");
        expect_bytes(out, "POST / HTTP/1.1\r\nHost: api.test\r\nContent-Length: 3\r\n\r\nabc");
        assert_int_equal(read_end(out), ECONNRESET);
        ends(in, out);
}

/* Nobody waits for bytes that may never come; what went ahead is not sent twice, and does not help to get by. */
static void an_open_line_goes_on_as_it_comes(void **state) {
        int in, out;

        add(0);
        pair_up(&in, &out);
        say_text(in, "x");
        expect_bytes(out, "x");
        say_text(out, "y");
        expect_bytes(in, "y");
        say_text(in, "yz w");
        expect_bytes(out, "yz w");
        say_text(in, "\nGET / HTTP/1.1\r\nHost: evil.test\r\n\r\n"); /* another protocol: its bytes are its own */
        expect_bytes(out, "\nGET / HTTP/1.1\r\nHost: evil.test\r\n\r\n");
        ends(in, out);
        pair_up(&in, &out);
        say_text(in, "POS");
        expect_bytes(out, "POS");
        say_text(in, "T /x HT");
        expect_bytes(out, "T /x HT");
        say_text(in,
                 "TP/1.1\r\nHost: api.test\r\nContent-Length: 1\r\n\r\nz" GOOD "PUT / HTTP/1.1\r\nHost: evil.test\r\n\r\n");
        expect_bytes(out, "TP/1.1\r\nHost: api.test\r\nContent-Length: 1\r\n\r\nz" GOOD);
        assert_int_equal(read_end(out), ECONNRESET);
        ends(in, out);
        pair_up(&in, &out);
        say_text(in, "POST /x ");
        expect_bytes(out, "POST /x ");
        say_text(in, "HTTP/1.1\r\nHost: evil.test\r\n\r\n");
        expect_answer(in, "HTTP/1.1 403");
        assert_int_equal(read_end(out), 0);
        ends(in, out);
}

static void an_open_line_without_end_is_passed_on_and_becomes_no_request(void **state) {
        static char word[100000];
        char got[sizeof(word)];
        int in, out;

        memset(word, 'w', sizeof(word));
        add(0);
        pair_up(&in, &out);
        say(in, word, sizeof(word));
        assert_int_equal(read_n(out, got, sizeof(got)), sizeof(got));
        assert_memory_equal(got, word, sizeof(word));
        say_text(in, " / HTTP/1.1\r\nHost: evil.test\r\n\r\n");
        world_expect(&world, GATE_ALLOWED);
        expect_denied("api.test", 443, "an HTTP request line of more than 16 KiB");
        ends(in, out);
        pair_up(&in, &out);
        say(in, word, sizeof(word));
        shutdown(in, SHUT_WR);
        assert_int_equal(read_n(out, got, sizeof(got)), sizeof(got));
        assert_int_equal(read_end(out), 0);
        say_text(out, "bye");
        expect_bytes(in, "bye");
        ends(in, out);
}

static void an_upgrade_is_a_relay_once_the_server_says_so(void **state) {
        static const char wish[] =
                "GET /ws HTTP/1.1\r\nHost: api.test\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n";
        static const char yes[] = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n";
        int in, out;

        add(0);
        pair_up(&in, &out);
        say_text(in, wish);
        expect_bytes(out, wish);
        say_text(out, "HTTP/1.1 103 Early Hints\r\n\r\n");
        say_text(out, yes);
        say_text(out, "first frame");
        expect_bytes(in, "HTTP/1.1 103 Early Hints\r\n\r\n");
        expect_bytes(in, yes);
        expect_bytes(in, "first frame");
        say_text(in, "\x81\x02hi GET / HTTP/1.1\r\nHost: evil.test\r\n\r\n");
        expect_bytes(out, "\x81\x02hi GET / HTTP/1.1\r\nHost: evil.test\r\n\r\n");
        ends(in, out);
        /* It says no: the next request is one. */
        pair_up(&in, &out);
        say_text(in, wish);
        expect_bytes(out, wish);
        say_text(in, "GET / HTTP/1.1\r\nHost: evil.test\r\n\r\n");
        assert_true(silent(out, 100));
        say_text(out, "HTTP/1.1 103 Early Hints\r\n\r\n"); /* which is no yes */
        expect_bytes(in, "HTTP/1.1 103 Early Hints\r\n\r\n");
        assert_true(silent(out, 100));
        say_text(out, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nno");
        expect_bytes(in, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nno");
        assert_int_equal(read_end(out), ECONNRESET);
        ends(in, out);
}

static void the_wish_for_a_protocol_that_names_hosts_is_left_out(void **state) {
        static const char *const wishes[] = {"h2c", "H2C, websocket", "websocket, h2c", "TLS/1.2", "HTTP/2.0"};
        char request[256];
        int in, out;

        add(0);
        for (size_t i = 0; i < ELEMENTSOF(wishes); i++) {
                pair_up(&in, &out);
                say_text(in, "GET /x "); /* also when a part went ahead */
                expect_bytes(out, "");
                snprintf(request, sizeof(request),
                         "HTTP/1.1\r\nHost: api.test\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: %s\r\n"
                         "HTTP2-Settings: AAMAAABk\r\nAccept: */*\r\n\r\n",
                         wishes[i]);
                say_text(in, request);
                expect_bytes(out, "GET /x HTTP/1.1\r\nHost: api.test\r\nAccept: */*\r\n\r\n");
                say_text(in, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
                assert_int_equal(read_end(out), ECONNRESET);
                ends(in, out);
        }
        pair_up(&in, &out);
        say_text(in, GOOD "GET /ws HTTP/1.1\r\nHost: api.test\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n");
        expect_bytes(out, GOOD "GET /ws HTTP/1.1\r\nHost: api.test\r\n\r\n");
        ends(in, out);
}

static void megabytes_pass_as_bodies_and_half_closes_are_passed_on(void **state) {
        enum { N = 3 << 20 };
        static char buf[N], got[N];
        size_t sent = 0, here = 0;
        char headers[128];
        int in, out;

        for (size_t i = 0; i < N; i++)
                buf[i] = (char)(i * 7 + i / 253);
        add(0);
        pair_up(&in, &out);
        snprintf(headers, sizeof(headers), "POST / HTTP/1.1\r\nHost: api.test\r\nContent-Length: %d\r\n\r\n", N);
        say_text(in, headers);
        expect_bytes(out, headers);
        while (here < N) {
                ssize_t n = sent < N ? send(in, buf + sent, N - sent, MSG_DONTWAIT | MSG_NOSIGNAL) : 0;
                sent += n > 0 ? (size_t)n : 0;
                struct pollfd p = {.fd = out, .events = POLLIN};
                assert_true(poll(&p, 1, 5000) == 1);
                n = recv(out, got + here, N - here, MSG_DONTWAIT);
                assert_true(n > 0);
                here += (size_t)n;
        }
        assert_memory_equal(buf, got, N);
        say_text(in, GOOD);
        shutdown(in, SHUT_WR);
        expect_bytes(out, GOOD);
        assert_int_equal(read_end(out), 0);
        say_text(out, "late answer");
        expect_bytes(in, "late answer");
        close(out);
        assert_int_equal(read_end(in), 0);
        close(in);
        world_expect(&world, GATE_ALLOWED);
        struct gate_msg m = world_expect(&world, GATE_CLOSED);
        assert_string_equal(m.text, "");
        assert_int_equal(m.up, N + strlen(headers) + strlen(GOOD));
}

int main(int argc, char **argv) {
        const struct CMUnitTest tests[] = {
                SCENE(a_request_for_the_name_goes_on_byte_for_byte),
                SCENE(a_request_for_another_host_is_refused_before_it_goes_out),
                SCENE(a_refusal_of_head_has_no_body),
                SCENE(a_later_request_for_another_host_is_refused_too),
                SCENE(an_open_line_goes_on_as_it_comes),
                SCENE(an_open_line_without_end_is_passed_on_and_becomes_no_request),
                SCENE(an_upgrade_is_a_relay_once_the_server_says_so),
                SCENE(the_wish_for_a_protocol_that_names_hosts_is_left_out),
                SCENE(megabytes_pass_as_bodies_and_half_closes_are_passed_on),
        };

        return scene_main(argc, argv, tests, sizeof(tests) / sizeof(tests[0]));
}
