/* SPDX-License-Identifier: Apache-2.0 */
/* How long the gateway waits for what, to the tenth of a second: each test moves the clock itself. */
#include "gatelib.h"
#include "looplib.h"

#include "gateway/http_setup.h"

#include "common/util.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <openssl/ssl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <string.h>
#include <sys/socket.h>

#include <cmocka.h>

#define GOOD "GET /v1/x HTTP/1.1\r\nHost: api.test\r\n\r\n"
#define SLACK 200 /* deadlines are looked at every 100 ms */

static void say_text(int fd, const char *text) {
        say(fd, text, strlen(text));
}

static int accepted(void) {
        int fd;

        loop_until((fd = accept4(server, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK)) >= 0);
        return fd;
}

/* api.test dialled and connected. */
static void pair(uint16_t port, int *in, int *out) {
        *in = loop_dial("api.test", port);
        *out = accepted();
        loop_turns(5);
}

/* Nothing happens until ms are over, whatever is dripped in meanwhile; NULL: nothing. */
static void waits(int in, uint64_t ms, const char *drip) {
        for (uint64_t passed = 0; passed < ms; passed += 500) {
                if (drip && *drip)
                        say(in, drip++, 1);
                loop_pass(MIN_OF(ms - passed, 500u));
        }
        assert_false(loop_readable(in));
        assert_int_equal(loop.agent->n_conns, 1);
}

static void expect_closed(const char *text) {
        assert_string_equal(loop_expect(GATE_CLOSED).text, text);
        assert_int_equal(loop.agent->n_conns, 0);
}

static void drop(int in, int out) {
        crew_close(&in);
        crew_close(&out);
        loop_until(loop.agent->n_conns == 0);
        while (!loop_quiet())
                recv(loop.gate, &(struct gate_msg){0}, sizeof(struct gate_msg), MSG_DONTWAIT);
}

/* --- the first bytes --- */

static void a_hello_without_end_is_refused_after_ten_seconds(void **state) {
        uint8_t hello[1024];
        char drip[64];
        int in, out;

        client_hello("api.test", hello);
        memset(drip, 'x', sizeof(drip)); /* within the hello */
        drip[sizeof(drip) - 1] = '\0';
        pair(443, &in, &out);
        waits(in, 60000, NULL); /* whoever says nothing costs nothing */
        say(in, hello, 44);
        loop_until(loop.agent->n_half_open == 1);
        waits(in, 10000 - SLACK, drip);
        loop_pass(2 * SLACK);
        assert_string_equal(loop_expect(GATE_DENIED).text, "no whole TLS ClientHello in time");
        assert_int_equal(loop_end_of(in), ECONNRESET);
        assert_int_equal(read_end(out), ECONNRESET);
        assert_int_equal(loop.agent->n_half_open, 0);
        drop(in, out);
}

static void a_second_hello_has_ten_seconds_too(void **state) {
        static const uint8_t retry[] = "\x16\x03\x03\x00\x58\x02\x00\x00\x54\x03\x03"
                                       "\xcf\x21\xad\x74\xe5\x9a\x61\x11\xbe\x1d\x8c\x02\x1e\x65\xb8\x91"
                                       "\xc2\xa2\x11\x16\x7a\xbb\x8c\x5e\x07\x9e\x09\xe2\xc8\xa8\x33\x9c";
        uint8_t hello[1024];
        char got[1024];
        int in, out;
        const size_t n = client_hello("api.test", hello);

        pair(443, &in, &out);
        say(in, hello, n);
        loop_until(loop_readable(out));
        assert_int_equal(read_n(out, got, n), n);
        loop_expect(GATE_ALLOWED);
        loop_pass(3600000); /* the server may think */
        say(out, retry, sizeof(retry) - 1);
        say(in, hello, 20);
        loop_until(loop.agent->n_half_open == 1);
        loop_pass(10000 - SLACK);
        assert_int_equal(loop.agent->n_conns, 1);
        loop_pass(2 * SLACK);
        assert_string_equal(loop_expect(GATE_DENIED).text, "no whole TLS ClientHello in time");
        expect_closed("no whole TLS ClientHello in time");
        assert_int_equal(read_end(out), ECONNRESET);
        drop(in, out);
}

static void a_whole_hello_has_no_deadline_any_more(void **state) {
        uint8_t hello[1024];
        int in, out;
        const size_t n = client_hello("api.test", hello);

        pair(443, &in, &out);
        say(in, hello, 40);
        loop_until(loop.agent->n_half_open == 1);
        loop_pass(9000);
        say(in, hello + 40, n - 40);
        loop_until(loop_readable(out));
        loop_expect(GATE_ALLOWED);
        waits(in, 30000, NULL);
        assert_true(loop_quiet());
        drop(in, out);
}

/* --- plain HTTP without rules --- */

static void a_plain_head_has_thirty_seconds(void **state) {
        static const char *const before[] = {"", GOOD, "POST / HTTP/1.1\r\nHost: api.test\r\nContent-Length: 1\r\n\r\nx"};

        for (size_t i = 0; i < ELEMENTSOF(before); i++) {
                int in, out;
                char text[256];
                snprintf(text, sizeof(text), "%sGET / HTTP/1.1\r\nHost: api.te", before[i]);
                pair(443, &in, &out);
                say_text(in, text);
                loop_expect(GATE_ALLOWED);
                waits(in, 30000 - SLACK, "stst\r\nX: a header that comes a byte at a time and so on and on");
                loop_pass(2 * SLACK);
                expect_closed("no whole request within 30 s");
                assert_int_equal(loop_end_of(in), ECONNRESET);
                drop(in, out);
        }
}

static void between_and_within_plain_requests_nobody_is_hurried(void **state) {
        int in, out;

        pair(443, &in, &out);
        say_text(in, "POST / HTTP/1.1\r\nHost: api.te");
        loop_expect(GATE_ALLOWED);
        waits(in, 29000, NULL);
        say_text(in, "st\r\nContent-Length: 2\r\n\r\na");
        waits(in, 3600000, NULL);
        say_text(in, "b");
        waits(in, 3600000, NULL);
        say_text(in, GOOD "GET");
        waits(in, 29000, NULL);
        say_text(in, " /v1/x HTTP/1.1\r\nHost: api.test\r\n\r\n");
        waits(in, 60000, NULL);
        assert_true(loop_quiet());
        drop(in, out);
}

static void a_refusal_that_is_not_read_is_not_waited_for(void **state) {
        int in, out;

        pair(443, &in, &out);
        say_text(in, "GET / HTTP/1.1\r\nHost: evil.test\r\n\r\n");
        loop_expect(GATE_ALLOWED);
        loop_expect(GATE_HTTP);
        loop_until(loop_readable(in)); /* sent; the agent keeps its own direction open */
        assert_int_equal(loop.agent->n_conns, 1);
        loop_pass(2000 - SLACK);
        assert_int_equal(loop.agent->n_conns, 1);
        loop_pass(2 * SLACK);
        expect_closed("");
        drop(in, out);
}

/* --- under HTTP rules --- */

static void a_head_under_rules_has_thirty_seconds(void **state) {
        int in, out;

        pair(80, &in, &out);
        say_text(in, "GET /v1/x HTTP/1.1\r\nHost: api.te");
        loop_expect(GATE_ALLOWED);
        waits(in, 30000 - SLACK, "st\r\nX: a header that comes a byte at a time and so on and on");
        loop_pass(2 * SLACK);
        expect_closed("no whole request within 30 s");
        assert_int_equal(loop_end_of(in), ECONNRESET);
        drop(in, out);
}

static void an_idle_connection_under_rules_has_two_minutes_and_ends_in_order(void **state) {
        char got[256];
        int in, out;

        pair(80, &in, &out);
        say_text(in, GOOD);
        loop_until(loop_readable(out));
        loop_expect(GATE_ALLOWED);
        loop_expect(GATE_HTTP);
        waits(in, 3600000, NULL); /* an answer may take as long as it likes */
        say_text(out, "HTTP/1.1 204 No\r\n\r\n");
        loop_until(loop_readable(in));
        assert_int_equal(read(in, got, sizeof(got)), 19);
        loop_expect(GATE_HTTP);
        waits(in, 120000 - SLACK, NULL);
        loop_pass(2 * SLACK);
        assert_int_equal(loop_end_of(in), 0);
        drop(in, out);
}

/* What OpenSSL begins with: a hello that any server can go on with. */
static size_t real_hello(uint8_t *out, size_t room) {
        SSL_CTX *ctx = SSL_CTX_new(TLS_client_method());
        SSL *ssl = SSL_new(ctx);
        BIO *wire = BIO_new(BIO_s_mem());

        SSL_set_bio(ssl, BIO_new(BIO_s_mem()), wire);
        SSL_set_tlsext_host_name(ssl, "api.test");
        SSL_set_connect_state(ssl);
        SSL_do_handshake(ssl);
        int n = BIO_read(wire, out, (int)room);
        assert_true(n > 0);
        SSL_free(ssl);
        SSL_CTX_free(ctx);
        return (size_t)n;
}

static void a_tls_handshake_has_thirty_seconds(void **state) {
        uint8_t hello[4096];
        int in, out;
        const size_t n = real_hello(hello, sizeof(hello));

        pair(8443, &in, &out);
        say(in, hello, n);
        loop_expect(GATE_ALLOWED);
        loop_until(loop_readable(in)); /* our part of it, which is never answered */
        loop_pass(30000 - SLACK);
        assert_int_equal(loop.agent->n_conns, 1);
        loop_pass(2 * SLACK);
        expect_closed("no TLS handshake within 30 s");
        drop(in, out);
}

static void an_alert_is_left_two_seconds_to_be_read(void **state) {
        uint8_t hello[1024];
        int in, out;
        const size_t n = client_hello("api.test", hello); /* with nothing to agree on */

        pair(8443, &in, &out);
        say(in, hello, n);
        loop_expect(GATE_ALLOWED);
        loop_until(loop_readable(in));
        loop_pass(2000 - SLACK);
        assert_int_equal(loop.agent->n_conns, 1);
        loop_pass(2 * SLACK);
        assert_non_null(strstr(loop_expect(GATE_CLOSED).text, "TLS with the agent"));
        drop(in, out);
}

/* --- the dial --- */

static void a_name_that_is_not_resolved_is_given_up_after_ten_seconds(void **state) {
        int in = loop_dial("named.test", 443);

        assert_string_equal(loop_asked().name, "inside.example");
        assert_int_equal(loop.agent->n_half_open, 1);
        waits(in, 10000 - SLACK, NULL);
        loop_pass(2 * SLACK);
        loop_expect(GATE_ALLOWED);
        expect_closed("cannot resolve: timed out");
        assert_int_equal(loop_end_of(in), ECONNRESET);
        assert_int_equal(loop.agent->n_half_open, 0);
        drop(in, -1);
}

/* A listener whose queue is full: dials to it stay without an answer. */
struct silent {
        int listener, filler[3];
};

static struct silent silent_at(const char *addr) {
        struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons(server_port)};
        struct silent s = {.listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)};

        inet_pton(AF_INET, addr, &at.sin_addr);
        assert_int_equal(bind(s.listener, (void *)&at, sizeof(at)), 0);
        assert_int_equal(listen(s.listener, 0), 0);
        for (size_t i = 0; i < ELEMENTSOF(s.filler); i++) {
                s.filler[i] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
                connect(s.filler[i], (void *)&at, sizeof(at));
        }
        return s;
}

static void silent_end(struct silent *s) {
        for (size_t i = 0; i < ELEMENTSOF(s->filler); i++)
                close(s->filler[i]);
        close(s->listener);
}

static void expect_allowed_at(const char *addr) {
        char peer[64];

        snprintf(peer, sizeof(peer), "%s:%u", addr, server_port);
        assert_string_equal(loop_expect(GATE_ALLOWED).peer, peer);
}

static void an_address_that_does_not_answer_has_three_seconds_while_there_are_others(void **state) {
        struct silent silent = silent_at("127.0.0.2");
        int in = loop_dial("named.test", 443), out;
        struct resolver_ask ask = loop_asked();

        loop_pass(1000);
        loop_answer(&ask, (const char *const[]){"127.0.0.2", "127.0.0.1", NULL});
        waits(in, 3000 - SLACK, NULL);
        assert_int_equal(accept4(server, NULL, NULL, SOCK_NONBLOCK), -1);
        loop_pass(2 * SLACK);
        out = accepted();
        say_text(in, GOOD);
        expect_allowed_at("127.0.0.1");
        silent_end(&silent);
        drop(in, out);
}

static void looking_up_and_dialling_have_ten_seconds_together(void **state) {
        struct silent silent = silent_at("127.0.0.2");
        int in = loop_dial("named.test", 443);
        struct resolver_ask ask = loop_asked();

        loop_pass(6000);
        loop_answer(&ask, (const char *const[]){"127.0.0.2", NULL});
        waits(in, 4000 - SLACK, NULL);
        loop_pass(2 * SLACK);
        expect_allowed_at("127.0.0.2");
        expect_closed("cannot connect: Connection timed out");
        assert_int_equal(loop_end_of(in), ECONNRESET);
        silent_end(&silent);
        drop(in, -1);
}

/* --- the resolver --- */

static void what_the_resolver_says_is_believed_in_form_only(void **state) {
        struct resolver_answer odd[4] = {{.n = RESOLVER_ADDRS_MAX + 1}, {.n = 1}, {.n = 2}, {.n = 1}};
        int in, out;

        odd[1].addrs[0].family = AF_UNIX;
        odd[2].addrs[0].family = AF_INET; /* and the second of none */
        odd[3].addrs[0].family = AF_INET;
        memcpy(odd[3].addrs[0].addr, (uint8_t[]){169, 254, 169, 254}, 4);
        for (size_t i = 0; i < ELEMENTSOF(odd); i++) {
                in = loop_dial("named.test", 443);
                odd[i].id = loop_asked().id;
                send(loop.lookups, &odd[i], sizeof(odd[i]), 0);
                if (i == 3) {
                        assert_string_equal(loop_expect(GATE_DENIED).text,
                                            "resolves to 169.254.169.254 (metadata service), which no rule lists");
                } else {
                        loop_expect(GATE_ALLOWED);
                        expect_closed("cannot resolve: timed out");
                }
                assert_int_equal(loop_end_of(in), ECONNRESET);
                drop(in, -1);
        }
        /* An answer to a question that was answered, or never put, is nobody's. */
        in = loop_dial("named.test", 443);
        struct resolver_ask ask = loop_asked(), other = ask;
        for (uint32_t id = 0; id < 4096; id++) {
                other.id = id;
                if (id != ask.id)
                        loop_answer(&other, (const char *const[]){"169.254.169.254", NULL});
        }
        assert_true(loop_quiet());
        loop_answer(&ask, (const char *const[]){"127.0.0.1", NULL});
        out = accepted();
        loop_answer(&ask, (const char *const[]){"169.254.169.254", NULL});
        assert_true(loop_quiet());
        drop(in, out);
}

static void hang_up(int fd) {
        const struct linger now = {.l_onoff = 1};

        setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof(now));
        close(fd);
}

/* What is given up still occupies the resolver: an agent that hangs up and dials again gets no more of its threads. */
static void lookups_of_one_agent_are_limited_also_when_it_gives_up(void **state) {
        struct resolver_ask asks[RESOLVER_PER_AGENT];
        int in[RESOLVER_PER_AGENT], more;

        for (size_t i = 0; i < RESOLVER_PER_AGENT; i++) {
                in[i] = loop_dial("named.test", 443);
                asks[i] = loop_asked();
        }
        more = loop_dial("named.test", 443);
        loop_turns(5);
        assert_int_equal(recv(loop.lookups, &asks[0], sizeof(asks[0]), MSG_DONTWAIT), -1);
        for (size_t i = 0; i < RESOLVER_PER_AGENT; i++)
                hang_up(in[i]);
        loop_until(loop.agent->n_conns == 1);
        assert_int_equal(recv(loop.lookups, &asks[0], sizeof(asks[0]), MSG_DONTWAIT), -1);
        loop_answer(&asks[3], (const char *const[]){"127.0.0.1", NULL});
        loop_asked();
        hang_up(more);
        loop_until(loop.agent->n_conns == 0);
        more = loop_dial("named.test", 443);
        /* A resolver that never answers is not believed to be busy with it for ever. */
        loop_pass(9000);
        assert_int_equal(recv(loop.lookups, &asks[0], sizeof(asks[0]), MSG_DONTWAIT), -1);
        hang_up(more);
        loop_pass(32000);
        more = loop_dial("named.test", 443);
        loop_asked();
        hang_up(more);
        drop(-1, -1);
}

/* --- asks --- */

static void whoever_waits_for_the_operator_waits_as_long_as_the_policy_says(void **state) {
        int in = loop_dial("unlisted.test", 443), second;
        struct gate_msg ask = loop_expect(GATE_ASK);

        assert_string_equal(ask.name, "unlisted.test");
        assert_int_equal(ask.count, 1);
        waits(in, 30000, NULL);
        second = loop_dial("unlisted.test", 443); /* joins it, and gains no time */
        assert_true(loop_quiet());
        loop_pass(2 * SLACK); /* how many wait is told soon */
        assert_int_equal(loop_expect(GATE_ASK).count, 2);
        loop_pass(30000 - 3 * SLACK);
        assert_int_equal(loop.agent->n_conns, 2);
        loop_pass(2 * SLACK);
        struct gate_msg gone = loop_expect(GATE_ASK_GONE);
        assert_int_equal(gone.ask, ask.ask);
        assert_string_equal(gone.text, "expired");
        for (int i = 0; i < 2; i++) {
                assert_int_equal(loop_end_of(i ? second : in), ECONNRESET);
                close(i ? second : in);
        }
        assert_string_equal(loop_expect(GATE_DENIED).text, "nobody approved it in time");
        loop_pass(SLACK);
        assert_int_equal(loop.agent->n_conns, 0);
}

/* --- the scene --- */

int loop_policy(void) {
        static const char *const get[] = {"GET"};
        struct netpolicy_spec_rule rules[] = {rule_to("api.test", 443, server_port), rule_to("api.test", 80, server_port),
                                              rule_to("api.test", 8443, server_port),
                                              rule_to("named.test", 443, server_port)};
        struct netpolicy_spec s = spec_of(rules, ELEMENTSOF(rules));

        rules[1].fixed.flags |= NETPOLICY_HTTP;
        rules[1].methods = get;
        rules[1].n_methods = 1;
        rules[2].fixed.flags |= NETPOLICY_HTTP | NETPOLICY_INSPECT;
        rules[3].to_host = "inside.example";
        rules[3].fixed.to_kind = NETPOLICY_NAME;
        memset(rules[3].fixed.to_addr, 0, sizeof(rules[3].fixed.to_addr));
        s.fixed.flags = NETPOLICY_ASK;
        return policy_with(&s);
}

int main(void) {
        const struct http_options inspect = {.inspect = true};
        struct crew_err err = CREW_ERR_NULL;
        const struct CMUnitTest tests[] = {
                LOOP(a_hello_without_end_is_refused_after_ten_seconds),
                LOOP(a_second_hello_has_ten_seconds_too),
                LOOP(a_whole_hello_has_no_deadline_any_more),
                LOOP(a_plain_head_has_thirty_seconds),
                LOOP(between_and_within_plain_requests_nobody_is_hurried),
                LOOP(a_refusal_that_is_not_read_is_not_waited_for),
                LOOP(a_head_under_rules_has_thirty_seconds),
                LOOP(an_idle_connection_under_rules_has_two_minutes_and_ends_in_order),
                LOOP(a_tls_handshake_has_thirty_seconds),
                LOOP(an_alert_is_left_two_seconds_to_be_read),
                LOOP(a_name_that_is_not_resolved_is_given_up_after_ten_seconds),
                LOOP(an_address_that_does_not_answer_has_three_seconds_while_there_are_others),
                LOOP(looking_up_and_dialling_have_ten_seconds_together),
                LOOP(what_the_resolver_says_is_believed_in_form_only),
                LOOP(lookups_of_one_agent_are_limited_also_when_it_gives_up),
                LOOP(whoever_waits_for_the_operator_waits_as_long_as_the_policy_says),
        };

        signal(SIGPIPE, SIG_IGN);
        if (http_open(&inspect, &err) < 0)
                return 1;
        cmocka_set_message_output(CM_OUTPUT_TAP);
        int failed = cmocka_run_group_tests(tests, NULL, NULL);
        http_close();
        return failed;
}
