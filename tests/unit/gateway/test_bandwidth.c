/* SPDX-License-Identifier: Apache-2.0 */
/* limits.bandwidth: whatever way bytes take through the gateway, an agent's are as many as its policy lets be in a second.
 */
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

enum {
        PLAIN = 443,
        RULES = 80,    /* ports of api.test */
        RATE = 200000, /* bytes a second, and at once */
        BODY = 900000,
};

struct ends {
        int in, out;
};

static struct ends connection(uint16_t port) {
        struct ends e = {.in = loop_dial("api.test", port)};

        loop_until((e.out = accept4(server, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK)) >= 0);
        loop_turns(5);
        return e;
}

/* Everything that is there now. */
static size_t take(int fd) {
        static char buf[1 << 18];
        size_t got = 0;
        ssize_t n;

        for (int idle = 0; idle < 5; idle++) {
                loop_turns(3);
                while ((n = read(fd, buf, sizeof(buf))) > 0) {
                        got += (size_t)n;
                        idle = 0;
                }
        }
        return got;
}

static size_t put(int fd, size_t sent, size_t n) {
        static const char bytes[BODY];
        ssize_t k = send(fd, bytes, MIN_OF(n - sent, sizeof(bytes)), MSG_DONTWAIT | MSG_NOSIGNAL);

        return sent + (k > 0 ? (size_t)k : 0);
}

/* A tenth of a second more: the n-th, of which even a loaded machine, whose kernel is late, does not need many. */
static void pass_tenth(unsigned n) {
        assert_in_range(n, 0, 2000);
        if (n > 20)
                usleep(1000);
        loop_pass(100);
}

/* The first byte of all, which is no line. */
static void begin(const struct ends *e) {
        char c;

        say(e->in, "\1", 1);
        loop_until(loop_readable(e->out));
        assert_int_equal(read(e->out, &c, 1), 1);
}

/* So many bytes may have arrived after so many tenths of a second. */
static size_t at_most(unsigned tenths) {
        return RATE + (size_t)RATE / 10 * tenths;
}

/* n bytes more are said at one end, and arrive at the other at the rate. */
static void expect_rate(int from, int to, size_t n) {
        size_t sent = 0, got = 0;
        unsigned tenths;

        for (tenths = 0; got < n; tenths++) {
                sent = put(from, sent, n);
                got += take(to);
                assert_in_range(got, 0, at_most(tenths));
                pass_tenth(tenths);
        }
        assert_int_equal(got, n);
}

static void say_text(int fd, const char *text) {
        say(fd, text, strlen(text));
}

static void drop(const struct ends *e, size_t n) {
        for (size_t i = 0; i < n; i++) {
                close(e[i].in);
                close(e[i].out);
        }
        while (loop.agent->n_conns > 0) {
                struct gate_msg m;
                while (recv(loop.gate, &m, sizeof(m), MSG_DONTWAIT) > 0)
                        assert_int_equal(report_write(&loop.hub.report), 0);
                loop_pass(1000);
        }
}

static void a_relayed_stream_has_its_rate_both_ways(void **state) {
        struct ends e = connection(PLAIN);

        begin(&e);
        expect_rate(e.in, e.out, BODY);
        loop_pass(2000);
        expect_rate(e.out, e.in, BODY);
        drop(&e, 1);
}

/* A line without end, as long as nobody knows what it is. */
static void an_open_line_has_its_rate(void **state) {
        static char line[BODY];
        struct ends e = connection(PLAIN);
        size_t sent = 0, got = 0;

        memset(line, 'x', sizeof(line));
        for (unsigned tenths = 0; got < BODY; tenths++) {
                ssize_t k = send(e.in, line + sent, BODY - sent, MSG_DONTWAIT | MSG_NOSIGNAL);
                sent += k > 0 ? (size_t)k : 0;
                got += take(e.out);
                assert_in_range(got, 0, at_most(tenths));
                pass_tenth(tenths);
        }
        drop(&e, 1);
}

static void a_plain_request_and_its_answer_have_their_rate(void **state) {
        static const char head[] = "POST / HTTP/1.1\r\nHost: api.test\r\nContent-Length: 900000\r\n\r\n";
        struct ends e = connection(PLAIN);

        say_text(e.in, head);
        for (size_t got = 0; got < strlen(head); got += take(e.out))
                loop_turns(1);
        expect_rate(e.in, e.out, BODY);
        loop_pass(2000);
        expect_rate(e.out, e.in, BODY); /* answers are not read */
        drop(&e, 1);
}

/* copied: in chunks that are too small to be spliced. */
static void an_answer_under_rules_has_its_rate(void **state) {
        static char chunk[6 + 1024 + 3];
        char got[512];

        for (int copied = 0; copied < 2; copied++) {
                struct ends e = connection(RULES);
                say_text(e.in, "GET /v1/x HTTP/1.1\r\nHost: api.test\r\n\r\n");
                loop_until(loop_readable(e.out));
                assert_in_range(read(e.out, got, sizeof(got)), 20, sizeof(got));
                say_text(e.out, copied ? "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
                                       : "HTTP/1.1 200 OK\r\nContent-Length: 900000\r\n\r\n");
                loop_until(loop_readable(e.in));
                assert_in_range(read(e.in, got, sizeof(got)), 20, sizeof(got));
                loop_pass(2000);
                if (!copied)
                        expect_rate(e.out, e.in, BODY);
                size_t arrived = 0;
                snprintf(chunk, sizeof(chunk), "400\r\n");
                chunk[5 + 1024] = '\r';
                chunk[5 + 1024 + 1] = '\n';
                for (unsigned tenths = 0; copied && arrived < 3 * RATE; tenths++) {
                        while (send(e.out, chunk, 5 + 1024 + 2, MSG_DONTWAIT | MSG_NOSIGNAL) == 5 + 1024 + 2)
                                ;
                        arrived += take(e.in);
                        assert_in_range(arrived, 0, at_most(tenths));
                        pass_tenth(tenths);
                }
                drop(&e, 1);
                loop_pass(2000);
        }
}

/* Nor do the first bytes of many connections, which are read before it is known what they are, come to more. */
static void first_bytes_have_the_rate_too(void **state) {
        static char first[16 << 10] = "\1 no line";
        struct ends e[60];
        size_t got = 0;

        for (size_t i = 0; i < ELEMENTSOF(e); i++) {
                e[i] = connection(PLAIN);
                say(e[i].in, first, sizeof(first));
        }
        for (unsigned tenths = 0; got < sizeof(first) * ELEMENTSOF(e); tenths++) {
                for (size_t i = 0; i < ELEMENTSOF(e); i++)
                        got += take(e[i].out);
                assert_in_range(got, 0, at_most(tenths));
                pass_tenth(tenths);
        }
        drop(e, ELEMENTSOF(e));
}

/* The rate is the agent's, not the connection's. */
static void all_connections_of_an_agent_have_the_rate_together(void **state) {
        enum { N = 4 };
        struct ends e[N];
        size_t got = 0;

        for (int i = 0; i < N; i++) {
                e[i] = connection(PLAIN);
                begin(&e[i]);
        }
        for (unsigned tenths = 0; got < 3 * RATE; tenths++) {
                for (int i = 0; i < N; i++) {
                        put(e[i].in, 0, BODY);
                        got += take(e[i].out);
                }
                assert_in_range(got, 0, at_most(tenths));
                pass_tenth(tenths);
        }
        drop(e, N);
}

/* Nor does one that never pauses keep the others waiting for its end. */
static void who_begins_has_a_share_beside_one_that_never_ends(void **state) {
        for (int down = 0; down < 2; down++) {
                struct ends e[2] = {connection(PLAIN)};
                const int from = down ? e[0].out : e[0].in, to = down ? e[0].in : e[0].out;
                size_t got = 0;

                begin(&e[0]);
                for (unsigned tenths = 0; tenths < 15; tenths++) {
                        put(from, 0, BODY);
                        take(to);
                        pass_tenth(tenths);
                }
                e[1] = connection(PLAIN);
                say(e[1].in, "\1 no line", 9);
                for (unsigned tenths = 0; got < 9; tenths++) {
                        put(from, 0, BODY);
                        got += take(e[1].out);
                        take(to);
                        pass_tenth(tenths);
                }
                drop(e, 2);
                loop_pass(2000);
        }
}

/* Nor does one way of a connection the other. */
static void both_ways_have_a_share(void **state) {
        struct ends e = connection(PLAIN);
        size_t up = 0, down = 0;

        begin(&e);
        for (unsigned tenths = 0; up < RATE || down < RATE; tenths++) {
                put(e.in, 0, BODY);
                put(e.out, 0, BODY);
                up += take(e.out);
                down += take(e.in);
                assert_in_range(up + down, 0, at_most(tenths));
                pass_tenth(tenths);
        }
        drop(&e, 1);
}

int loop_policy(void) {
        static const char *const get[] = {"GET"};
        struct netpolicy_spec_rule rules[] = {rule_to("api.test", PLAIN, server_port),
                                              rule_to("api.test", RULES, server_port)};
        struct netpolicy_spec s = spec_of(rules, ELEMENTSOF(rules));

        rules[1].fixed.flags |= NETPOLICY_HTTP;
        rules[1].methods = get;
        rules[1].n_methods = 1;
        s.fixed.max_bytes_per_s = RATE;
        return policy_with(&s);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                LOOP(a_relayed_stream_has_its_rate_both_ways),
                LOOP(an_open_line_has_its_rate),
                LOOP(a_plain_request_and_its_answer_have_their_rate),
                LOOP(an_answer_under_rules_has_its_rate),
                LOOP(first_bytes_have_the_rate_too),
                LOOP(all_connections_of_an_agent_have_the_rate_together),
                LOOP(who_begins_has_a_share_beside_one_that_never_ends),
                LOOP(both_ways_have_a_share),
        };

        signal(SIGPIPE, SIG_IGN);
        alarm(60);
        cmocka_set_message_output(CM_OUTPUT_TAP);
        return cmocka_run_group_tests(tests, NULL, NULL);
}
