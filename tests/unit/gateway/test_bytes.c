/* SPDX-License-Identifier: Apache-2.0 */
/* When bytes go through: none before crewd was told of the connection, and none that nobody has judged. */
#include "gatelib.h"
#include "looplib.h"

#include "common/util.h"

#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <string.h>
#include <sys/socket.h>

#include <cmocka.h>

enum { PLAIN = 443, RULES = 80 }; /* ports of api.test */

struct ends {
        int in, out;
};

static struct ends connection(uint16_t port) {
        struct ends e = {.in = loop_dial("api.test", port)};

        loop_until((e.out = accept4(server, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK)) >= 0);
        loop_turns(5);
        return e;
}

static void drop(struct ends *e) {
        close(e->in);
        close(e->out);
        loop_until(loop.agent->n_conns == 0);
}

/* crewd reads nothing until its socket is full, and then everything. */
static void crewd_is_behind(void) {
        const struct gate_msg m = {.op = GATE_CLOSED, .id = 8};

        while (!report_behind(&loop.hub.report))
                assert_in_range(report_send(&loop.hub.report, &m, NULL, NULL), 0, 1);
}

static void crewd_reads(enum gate_op last) {
        struct gate_msg m = {.op = GATE_CLOSED, .id = 8};

        while (m.id == 8) {
                assert_int_equal(recv(loop.gate, &m, sizeof(m), MSG_DONTWAIT), sizeof(m));
                assert_int_equal(report_write(&loop.hub.report), 0);
        }
        assert_int_equal(m.op, last);
}

static void expect_text(int fd, const char *text) {
        char got[256];

        loop_until(loop_readable(fd));
        assert_int_equal(read(fd, got, sizeof(got)), strlen(text));
        assert_memory_equal(got, text, strlen(text));
}

static void nothing_goes_out_before_crewd_was_told(void **state) {
        uint8_t hello[1024];
        const size_t hello_n = client_hello("api.test", hello);
        const struct {
                const void *bytes;
                size_t n;
        } firsts[] = {{"\1 no line", 9},
                      {hello, hello_n},
                      {"HELO client", 11}, /* an open line */
                      {"GET / HTTP/1.1\r\nHost: api.test\r\n\r\n", 34}};

        for (size_t i = 0; i < ELEMENTSOF(firsts); i++) {
                char got[1024];
                struct ends e = connection(PLAIN);
                crewd_is_behind();
                say(e.in, firsts[i].bytes, firsts[i].n);
                assert_false(loop_readable(e.out));
                crewd_reads(GATE_ALLOWED);
                loop_until(loop_readable(e.out));
                assert_int_equal(read(e.out, got, sizeof(got)), firsts[i].n);
                assert_memory_equal(got, firsts[i].bytes, firsts[i].n);
                assert_memory_equal(got, firsts[i].bytes, firsts[i].n);
                drop(&e);
                loop_expect(GATE_CLOSED);
        }
}

static void nothing_comes_in_before_crewd_was_told(void **state) {
        struct ends e = connection(PLAIN);

        crewd_is_behind();
        say(e.out, "220 ready", 9);
        assert_false(loop_readable(e.in));
        crewd_reads(GATE_ALLOWED);
        expect_text(e.in, "220 ready");
        drop(&e);
}

/* It would be read before a rule had a say, and a secret in it unmasked. */
static void under_rules_nothing_comes_in_before_a_request_went_out(void **state) {
        struct ends e = connection(RULES);

        say(e.out, "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx", 39);
        assert_false(loop_readable(e.in));
        assert_true(loop_quiet()); /* nothing has gone through: the connection has not begun */
        drop(&e);
}

/* Of a connection that has begun, too; and no report of it makes the queue longer. */
static void under_rules_each_request_waits_until_crewd_can_be_told(void **state) {
        static const char request[] = "GET /v1/x HTTP/1.1\r\nHost: api.test\r\n\r\n";
        struct ends e = connection(RULES);
        char got[256];

        for (int i = 0; i < 2; i++) {
                if (i == 1)
                        crewd_is_behind();
                const size_t queued = loop.hub.report.n_queued;
                say(e.in, request, strlen(request));
                if (i == 1) {
                        loop_pass(1000);
                        assert_false(loop_readable(e.out));
                        assert_int_equal(loop.hub.report.n_queued, queued);
                        for (struct gate_msg m; recv(loop.gate, &m, sizeof(m), MSG_DONTWAIT) > 0;)
                                assert_int_equal(report_write(&loop.hub.report), 0);
                        loop_pass(1000);
                } else {
                        loop_expect(GATE_ALLOWED);
                }
                struct gate_msg m = loop_expect(GATE_HTTP);
                assert_int_equal(m.verdict, GATE_LET);
                assert_string_equal(m.text, "GET /v1/x");
                loop_until(loop_readable(e.out));
                assert_in_range(read(e.out, got, sizeof(got)), 20, sizeof(got));
                say(e.out, "HTTP/1.1 204 No\r\n\r\n", 19);
                loop_until(loop_readable(e.in));
                assert_int_equal(read(e.in, got, sizeof(got)), 19);
                loop_expect(GATE_HTTP);
        }
        drop(&e);
}

/* Half a hello is none that anybody has judged. */
static void a_hello_that_is_cut_off_goes_nowhere(void **state) {
        uint8_t hello[1024];
        const size_t n = client_hello("api.test", hello);
        struct ends e = connection(PLAIN);

        say(e.in, hello, n - 1);
        shutdown(e.in, SHUT_WR);
        assert_string_equal(loop_expect(GATE_DENIED).text, "TLS ClientHello cut off");
        assert_int_equal(loop_end_of(e.in), ECONNRESET);
        assert_int_equal(loop_end_of(e.out), ECONNRESET); /* and not a byte before */
        drop(&e);
}

static void under_rules_a_stream_without_a_request_ends_in_order(void **state) {
        struct ends e = connection(RULES);

        shutdown(e.in, SHUT_WR);
        assert_int_equal(loop_end_of(e.in), 0);
        assert_int_equal(loop_end_of(e.out), 0);
        loop_expect(GATE_ALLOWED);
        struct gate_msg m = loop_expect(GATE_CLOSED);
        assert_string_equal(m.text, "");
        assert_int_equal(m.up + m.down, 0);
        drop(&e);
}

/* Work that goes on in the next turn, as a stream that never pauses is. */
static unsigned runs;
static void again(struct hub_task *t) {
        runs++;
        hub_later(&loop.hub, t);
}

static void whoever_goes_on_and_on_lets_others_in_between(void **state) {
        static struct hub_task endless = {.run = again};
        struct ends e = connection(PLAIN);

        runs = 0;
        hub_later(&loop.hub, &endless);
        loop_turns(7);
        assert_int_equal(runs, 7); /* once a turn, and the sockets in each */
        say(e.in, "x", 1);
        expect_text(e.out, "x");
        hub_not_later(&loop.hub, &endless);
        drop(&e);
}

int loop_policy(void) {
        static const char *const get[] = {"GET"};
        struct netpolicy_spec_rule rules[] = {rule_to("api.test", PLAIN, server_port),
                                              rule_to("api.test", RULES, server_port)};

        rules[1].fixed.flags |= NETPOLICY_HTTP;
        rules[1].methods = get;
        rules[1].n_methods = 1;
        return policy_of(rules, ELEMENTSOF(rules), 0, 1);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                LOOP(nothing_goes_out_before_crewd_was_told),
                LOOP(nothing_comes_in_before_crewd_was_told),
                LOOP(under_rules_nothing_comes_in_before_a_request_went_out),
                LOOP(under_rules_each_request_waits_until_crewd_can_be_told),
                LOOP(a_hello_that_is_cut_off_goes_nowhere),
                LOOP(under_rules_a_stream_without_a_request_ends_in_order),
                LOOP(whoever_goes_on_and_on_lets_others_in_between),
        };

        signal(SIGPIPE, SIG_IGN);
        alarm(60);
        cmocka_set_message_output(CM_OUTPUT_TAP);
        return cmocka_run_group_tests(tests, NULL, NULL);
}
