/* SPDX-License-Identifier: Apache-2.0 */
/* What a jail reaches and what it does not, seen from both ends of the connections and by crewd. */
#include "gatelib.h"

#include "common/sanitized.h"
#include "common/util.h"
#include "tests/unit/skipped.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include <cmocka.h>

static void without_a_policy_everything_is_refused_and_reported(void **state) {
        char addr[16];

        world_add(&world, &jail, 7, -1);
        assert_int_equal(jail_ask(&jail, "x.test", 16, addr), 5);
        struct gate_msg m = world_expect(&world, GATE_DENIED);
        assert_int_equal(m.id, 7);
        assert_int_equal(m.proto, GATE_DNS);
        assert_string_equal(m.name, "x.test");
        expect_refused(jail_dial_name(&jail, "x.test", 443));
        m = world_expect(&world, GATE_DENIED);
        assert_int_equal(m.proto, GATE_TCP);
        assert_string_equal(m.name, "x.test");
        assert_int_equal(m.port, 443);
        assert_string_equal(m.text, "not in allowed_endpoints");
        expect_refused(jail_dial(&jail, "93.184.216.34", 443));
        expect_denied("93.184.216.34", 443, "not in allowed_endpoints");
        int fd = jail_udp(&jail, "8.8.8.8", 123);
        assert_int_equal(send(fd, "x", 1, 0) < 0 ? errno : 0, EPERM);
        close(fd);
}

static void a_listed_name_is_let_through_and_counted(void **state) {
        char addr[16], buf[64];

        add(0);
        assert_int_equal(jail_ask(&jail, "API.test", 1, addr), 0);
        assert_string_equal(addr, "198.18.0.1");
        assert_int_equal(jail_ask(&jail, "api.test", 28, addr), 0);
        assert_string_equal(addr, "");
        int in = jail_dial(&jail, "198.18.0.1", 443), out = host_accept(server);
        assert_true(in >= 0 && out >= 0);
        assert_true(world_quiet(&world, 50)); /* nothing was sent yet */
        assert_int_equal(write(in, "hello", 5), 5);
        struct gate_msg m = world_expect(&world, GATE_ALLOWED);
        assert_string_equal(m.name, "api.test");
        assert_int_equal(m.port, 443);
        assert_string_equal(m.where, "role.yaml:7");
        snprintf(buf, sizeof(buf), "127.0.0.1:%u", server_port);
        assert_string_equal(m.peer, buf);
        uint64_t conn = m.conn;
        assert_int_equal(read_n(out, buf, 5), 5);
        assert_memory_equal(buf, "hello", 5);
        assert_int_equal(write(out, "good day", 8), 8);
        assert_int_equal(read_n(in, buf, 8), 8);
        close(in);
        assert_int_equal(read_end(out), 0);
        close(out);
        m = world_expect(&world, GATE_CLOSED);
        assert_int_equal(m.conn, conn);
        assert_int_equal(m.up, 5);
        assert_int_equal(m.down, 8);
        assert_true(m.duration_us > 0);
        assert_string_equal(m.text, "");
}

static void what_is_not_listed_is_refused_with_its_name(void **state) {
        char addr[16];

        add(0);
        assert_int_equal(jail_ask(&jail, "Exfil.test", 1, addr), 0);
        assert_string_equal(addr, "198.19.0.1");
        expect_refused(jail_dial(&jail, addr, 443));
        expect_denied("exfil.test", 443, "not in allowed_endpoints");
        expect_refused(jail_dial_name(&jail, "api.test", 80));
        expect_denied("api.test", 80, "not in allowed_endpoints");
        expect_refused(jail_dial_name(&jail, "wild.test", 443));
        expect_denied("wild.test", 443, "not in allowed_endpoints");
        expect_refused(jail_dial_name(&jail, "a.b.wild.test", 443));
        expect_denied("a.b.wild.test", 443, "not in allowed_endpoints");
        expect_refused(jail_dial(&jail, "127.0.0.1", 1)); /* the listener itself */
        expect_denied("127.0.0.1", 1, "not in allowed_endpoints");
        expect_refused(jail_dial(&jail, "198.18.9.9", 443)); /* nobody was told that address */
        expect_denied("198.18.9.9", 443, "not in allowed_endpoints");
        expect_refused(jail_dial(&jail, "2001:db8::1", 443));
        expect_denied("2001:db8::1", 443, "not in allowed_endpoints");
        expect_refused(jail_dial(&jail, "169.254.169.254", 80));
        expect_denied("169.254.169.254", 80, "not in allowed_endpoints");
        struct pollfd nothing = {.fd = server, .events = POLLIN};
        assert_int_equal(poll(&nothing, 1, 50), 0);
}

/* One record for each: what is dialled is told with its port, and its look-ups are not told beside it. */
static void a_name_that_is_only_looked_up_is_told_too(void **state) {
        char addr[16];

        add(0);
        assert_int_equal(jail_ask(&jail, "c2VjcmV0.tunnel.test", 1, addr), 0);
        assert_int_equal(jail_ask(&jail, "c2VjcmV0.tunnel.test", 28, addr), 0); /* with an A: that is one look-up */
        assert_string_equal(addr, "");
        assert_int_equal(jail_ask(&jail, "c2VjcmV0.tunnel.test", 1, addr), 0);
        struct gate_msg m = world_expect(&world, GATE_DENIED);
        assert_int_equal(m.proto, GATE_DNS);
        assert_string_equal(m.name, "c2vjcmv0.tunnel.test");
        assert_string_equal(m.text, "not in allowed_endpoints; looked up, not dialled");
        assert_int_equal(m.count, 2);
        assert_int_equal(m.port, 0);
        assert_true(world_quiet(&world, 2500));
        /* What is left when the instance goes is told before that. */
        assert_int_equal(jail_ask(&jail, "last.test", 1, addr), 0);
        world_send(&world, (struct gate_msg){.op = GATE_REMOVE, .id = 7}, NULL, 0);
        expect_denied("last.test", 0, "not in allowed_endpoints; looked up, not dialled");
        world_expect(&world, GATE_REMOVED);
}

/* Data could come back in those, if they were ever answered. */
static void questions_of_other_types_about_unlisted_names_are_refused(void **state) {
        static const unsigned types[] = {2, 5, 10, 12, 15, 16, 33, 65, 255};
        char addr[16];

        add(0);
        for (size_t i = 0; i < ELEMENTSOF(types); i++) {
                char name[32];
                snprintf(name, sizeof(name), "t%u.test", types[i]);
                assert_int_equal(jail_ask(&jail, name, types[i], addr), 5);
                expect_denied(name, 0, "not in allowed_endpoints");
        }
}

static void a_flood_of_unlisted_names_takes_nothing_from_listed_ones(void **state) {
        const struct netpolicy_spec_rule rules[] = {rule_to("api.test", 443, server_port),
                                                    rule_to("late.test", 443, server_port)};
        struct netpolicy_spec spec = spec_of(rules, 2);
        char addr[16], name[32];

        spec.fixed.max_dns_per_s = 100000;
        world_add(&world, &jail, 7, policy_with(&spec));
        assert_int_equal(jail_ask(&jail, "api.test", 1, addr), 0);
        assert_string_equal(addr, "198.18.0.1");
        for (unsigned i = 0; i < 5000; i++) {
                snprintf(name, sizeof(name), "n%u.test", i);
                assert_int_equal(jail_ask(&jail, name, 1, addr), 0);
        }
        /* The first was forgotten, and leads nowhere under its address. */
        expect_refused(jail_dial(&jail, "198.19.0.1", 443));
        for (struct gate_msg m = {0}; strcmp(m.name, "198.19.0.1") != 0 && strcmp(m.name, "(others)") != 0;)
                m = world_next(&world);
        assert_int_equal(jail_ask(&jail, "api.test", 1, addr), 0);
        assert_string_equal(addr, "198.18.0.1");
        assert_int_equal(jail_ask(&jail, "late.test", 1, addr), 0);
        assert_string_equal(addr, "198.18.0.2");
        int in = jail_dial(&jail, addr, 443), out = host_accept(server);
        assert_true(in >= 0 && out >= 0);
        close(in);
        close(out);
}

static void names_that_are_addresses_in_disguise_are_unknown(void **state) {
        static const char *const names[] = {"2130706433", "0x7f.1", "127.1", "127.0.0.1", "-a.test", "a_b.test"};
        char addr[16];

        add(0);
        for (size_t i = 0; i < ELEMENTSOF(names); i++) {
                assert_int_equal(jail_ask(&jail, names[i], 1, addr), 5);
                expect_denied(names[i], 0, "not in allowed_endpoints");
        }
        assert_int_equal(jail_ask(&jail, "A.wild.test", 1, addr), 0);
        assert_int_equal(jail_ask(&jail, "api.test", 16, addr), 0); /* TXT: nothing, and nothing forwarded */
        assert_string_equal(addr, "");
}

static void a_client_hello_with_the_name_goes_out_unchanged(void **state) {
        uint8_t hello[1024], got[1024];
        size_t n = client_hello("API.test", hello);
        int in, out;

        add(0);
        pair_up(&in, &out);
        /* In two pieces: nothing goes out before it is whole. */
        say(in, hello, 20);
        assert_true(world_quiet(&world, 100));
        say(in, hello + 20, n - 20);
        world_expect(&world, GATE_ALLOWED);
        assert_int_equal(read_n(out, got, n), n);
        assert_memory_equal(got, hello, n);
        say(out, "answer", 6);
        expect_bytes(in, "answer");
        say(in, "more", 4);
        expect_bytes(out, "more");
        close(in);
        close(out);
}

static void another_sni_or_none_is_refused_before_a_byte_goes_out(void **state) {
        static const struct {
                const char *sni, *text;
        } rows[] = {
                {"evil.test", "SNI is evil.test, dialled api.test"},
                {"api.test.evil.test", "SNI is api.test.evil.test, dialled api.test"},
                {NULL, "TLS without SNI"},
        };
        uint8_t hello[1024];
        int in, out;

        add(0);
        for (size_t i = 0; i < ELEMENTSOF(rows); i++) {
                pair_up(&in, &out);
                size_t n = client_hello(rows[i].sni, hello);
                say(in, hello, n);
                expect_denied("api.test", 443, rows[i].text);
                assert_int_equal(read_end(in), ECONNRESET);
                int end = read_end(out);
                assert_true(end == 0 || end == ECONNRESET);
                close(in);
                close(out);
        }
}

/* --- the hello that a HelloRetryRequest asks for --- */

static const uint8_t retry[] = "\x16\3\3\0\x58\2\0\0\x54\3\3"
                               "\xcf\x21\xad\x74\xe5\x9a\x61\x11\xbe\x1d\x8c\x02\x1e\x65\xb8\x91"
                               "\xc2\xa2\x11\x16\x7a\xbb\x8c\x5e\x07\x9e\x09\xe2\xc8\xa8\x33\x9c"
                               "and so on";
#define RETRY_N (sizeof(retry) - 1)
#define CCS "\x14\3\3\0\1\1"
#define DATA "\x17\3\3\0\5early"

static bool silent(int fd) {
        struct pollfd p = {.fd = fd, .events = POLLIN};

        return poll(&p, 1, 50) == 0;
}

static void expect_exactly(int fd, const void *bytes, size_t n) {
        uint8_t got[4096];

        assert_int_equal(read_n(fd, got, n), n);
        assert_memory_equal(got, bytes, n);
}

/* The first hello, with more behind it, and what the server answers. */
static void greet(int *in, int *out, const void *more, size_t more_n, const void *answer, size_t answer_n) {
        uint8_t hello[2048];
        const size_t n = client_hello("api.test", hello);

        memcpy(hello + n, more, more_n);
        pair_up(in, out);
        say(*in, hello, n + more_n);
        expect_exactly(*out, hello, n);
        assert_true(silent(*out)); /* not a byte behind it */
        for (size_t at = 0; at < answer_n; at += 40) {
                say(*out, (const uint8_t *)answer + at, MIN_OF(answer_n - at, (size_t)40));
                usleep(1000);
        }
        assert_int_equal(world_expect(&world, GATE_ALLOWED).verdict, GATE_LET);
}

static void a_second_hello_is_judged_like_the_first(void **state) {
        static const struct {
                const char *before, *name, *why;
                size_t n;
                bool at_once; /* sent behind the first, without waiting for the answer */
        } rows[] = {
                {CCS, "api.test", NULL, 6, false},
                {CCS DATA, "API.test", NULL, 16, true},
                {"", "api.test", NULL, 0, true},
                {CCS, "evil.test", "SNI is evil.test, dialled api.test", 6, false},
                {CCS, "worse.test", "SNI is worse.test, dialled api.test", 6, true},
                {DATA CCS DATA, "worst.test", "SNI is worst.test, dialled api.test", 26, true},
                {"", NULL, "TLS without SNI", 0, false},
                {CCS "GET / HTTP/1.1", NULL, "malformed TLS ClientHello", 20, false},
        };

        add(0);
        for (size_t i = 0; i < ELEMENTSOF(rows); i++) {
                uint8_t second[2048];
                int in, out;
                memcpy(second, rows[i].before, rows[i].n);
                size_t n = rows[i].n + client_hello(rows[i].name, second + rows[i].n);
                greet(&in, &out, second, rows[i].at_once ? n : 0, retry, RETRY_N);
                if (!rows[i].at_once)
                        say(in, second, n);
                if (rows[i].why) {
                        expect_denied("api.test", 443, rows[i].why); /* the reset may overtake the answer */
                        assert_int_equal(read_end(out), ECONNRESET);
                } else {
                        expect_exactly(in, retry, RETRY_N);
                        expect_exactly(out, second, n);
                        say(in, "finished", 8);
                        expect_bytes(out, "finished");
                        say(out, "hello", 5);
                        expect_bytes(in, "hello");
                }
                close(in);
                close(out);
                world_expect(&world, GATE_CLOSED);
        }
}

static void an_end_behind_a_second_hello_does_not_let_it_by(void **state) {
        uint8_t hellos[2048];
        const size_t n = client_hello("api.test", hellos);
        int in, out;

        add(0);
        pair_up(&in, &out);
        say(in, hellos, n + client_hello("evil.test", hellos + n));
        shutdown(in, SHUT_WR);
        expect_exactly(out, hellos, n);
        assert_true(silent(out));
        close(in);
        close(out);
}

static void any_other_answer_to_a_hello_lets_the_rest_go(void **state) {
        static const uint8_t answers[][8] = {"\x16\3\3\0\4\2xx", "\x15\3\3\0\2\1\0", "220 mail"};
        int in, out;

        add(0);
        for (size_t i = 0; i < ELEMENTSOF(answers); i++) {
                greet(&in, &out, DATA, 10, answers[i], 0);
                say(out, answers[i], 7);
                if (i == 0) { /* might still become one, but for its end */
                        assert_true(silent(out));
                        shutdown(out, SHUT_WR);
                }
                expect_exactly(in, answers[i], 7);
                expect_exactly(out, DATA, 10);
                close(in);
                close(out);
                world_expect(&world, GATE_CLOSED);
        }
        /* A client that ends behind its hello, and one that is gone before the answer. */
        greet(&in, &out, "", 0, "", 0);
        shutdown(in, SHUT_WR);
        assert_int_equal(read_end(out), 0);
        say(out, "late", 4);
        expect_bytes(in, "late");
        close(out);
        assert_int_equal(read_end(in), 0);
        close(in);
        world_expect(&world, GATE_CLOSED);
        greet(&in, &out, DATA, 10, "", 0);
        setsockopt(in, SOL_SOCKET, SO_LINGER, &(const struct linger){.l_onoff = 1}, sizeof(struct linger));
        close(in);
        assert_int_equal(read_end(out), ECONNRESET);
        close(out);
        world_expect(&world, GATE_CLOSED);
}

static void a_server_may_speak_first_and_is_recorded_before(void **state) {
        uint8_t hello[1024];
        int in, out;

        add(0);
        pair_up(&in, &out);
        say(out, "220 ready", 9);
        world_expect(&world, GATE_ALLOWED);
        expect_bytes(in, "220 ready");
        /* Still nothing unjudged goes out. */
        say(in, hello, client_hello("evil.test", hello));
        expect_denied("api.test", 443, "SNI is evil.test, dialled api.test");
        struct gate_msg m = world_expect(&world, GATE_CLOSED);
        assert_int_equal(m.up, 0);
        assert_int_equal(m.down, 9);
        assert_string_equal(m.text, "SNI is evil.test, dialled api.test");
        close(in);
        close(out);
}

static void half_closes_and_resets_are_passed_on(void **state) {
        const struct linger now = {.l_onoff = 1};
        int in, out;

        add(0);
        pair_up(&in, &out);
        say(in, "request", 7);
        shutdown(in, SHUT_WR);
        world_expect(&world, GATE_ALLOWED);
        expect_bytes(out, "request");
        assert_int_equal(read_end(out), 0);
        say(out, "answer", 6);
        expect_bytes(in, "answer");
        assert_true(world_quiet(&world, 50));
        close(out);
        assert_int_equal(read_end(in), 0);
        close(in);
        struct gate_msg m = world_expect(&world, GATE_CLOSED);
        assert_int_equal(m.up, 7);
        assert_int_equal(m.down, 6);

        pair_up(&in, &out);
        say(in, "x", 1);
        world_expect(&world, GATE_ALLOWED);
        expect_bytes(out, "x");
        setsockopt(out, SOL_SOCKET, SO_LINGER, &now, sizeof(now));
        close(out);
        assert_int_equal(read_end(in), ECONNRESET);
        m = world_expect(&world, GATE_CLOSED);
        assert_string_equal(m.text, "reset");
        close(in);
}

/* A gateway that finds both at once: stopped while they come. */
static void who_speaks_comes_before_who_ends(void **state) {
        int in[2], out[2], status;

        add(0);
        for (int i = 0; i < 2; i++)
                pair_up(&in[i], &out[i]);
        say(in[0], "first", 5);
        world_expect(&world, GATE_ALLOWED);
        expect_bytes(out[0], "first");
        assert_true(world_quiet(&world, 50));
        kill(world.gateway, SIGSTOP);
        assert_int_equal(waitpid(world.gateway, &status, WUNTRACED), world.gateway);
        assert_true(WIFSTOPPED(status));
        close(in[0]);
        close(out[0]);
        say(in[1], "second", 6);
        kill(world.gateway, SIGCONT);
        world_expect(&world, GATE_ALLOWED);
        assert_int_equal(world_expect(&world, GATE_CLOSED).up, 5);
        expect_bytes(out[1], "second");
        close(in[1]);
        close(out[1]);
        assert_int_equal(world_expect(&world, GATE_CLOSED).up, 6);
}

static void megabytes_arrive_whole_both_ways_at_once(void **state) {
        enum { BYTES = 24 << 20, CHUNK = 1 << 16 };
        static uint8_t buf[CHUNK];
        size_t sent[2] = {1, 0}, got[2] = {0, 0};
        int fd[2];

        add(0);
        pair_up(&fd[0], &fd[1]);
        say(fd[0], "\0", 1); /* a plain first byte */
        world_expect(&world, GATE_ALLOWED);
        while (got[0] < BYTES || got[1] < BYTES) {
                struct pollfd p[2];
                for (int i = 0; i < 2; i++)
                        p[i] = (struct pollfd){
                                .fd = fd[i],
                                .events = (short)((sent[i] < BYTES ? POLLOUT : 0) | (got[i] < BYTES ? POLLIN : 0))};
                assert_true(poll(p, 2, 60000) > 0);
                for (int i = 0; i < 2; i++) {
                        if (p[i].revents & POLLIN) {
                                ssize_t n = recv(fd[i], buf, sizeof(buf), MSG_DONTWAIT);
                                assert_true(n > 0);
                                for (ssize_t k = 0; k < n; k++) /* every byte is its own place in the stream */
                                        assert_true(buf[k] == (uint8_t)((got[i] + (size_t)k) * 7 >> 3));
                                got[i] += (size_t)n;
                        }
                        if (p[i].revents & POLLOUT) {
                                for (size_t k = 0; k < CHUNK; k++)
                                        buf[k] = (uint8_t)((sent[i] + k) * 7 >> 3);
                                ssize_t n = send(fd[i], buf, MIN_OF((size_t)CHUNK, BYTES - sent[i]), MSG_DONTWAIT);
                                sent[i] += n > 0 ? (size_t)n : 0;
                        }
                }
        }
        close(fd[0]);
        close(fd[1]);
        struct gate_msg m = world_expect(&world, GATE_CLOSED);
        assert_int_equal(m.up, BYTES);
        assert_int_equal(m.down, BYTES);
}

static void a_dial_that_fails_outside_is_recorded_as_such(void **state) {
        struct netpolicy_spec_rule rules[] = {rule_to("gone.test", 443, 1), rule_to("nowhere.test", 443, 443)};

        rules[1].fixed.to_kind = NETPOLICY_NAME;
        rules[1].to_host = "no-such-name.invalid";
        memset(rules[1].fixed.to_addr, 0, 16);
        world_add(&world, &jail, 7, policy_of(rules, 2, 0, 1));
        expect_refused(jail_dial_name(&jail, "gone.test", 443));
        assert_string_equal(world_expect(&world, GATE_ALLOWED).peer, "127.0.0.1:1");
        assert_string_equal(world_expect(&world, GATE_CLOSED).text, "cannot connect: Connection refused");
        expect_refused(jail_dial_name(&jail, "nowhere.test", 443));
        assert_string_equal(world_expect(&world, GATE_ALLOWED).peer, "");
        assert_memory_equal(world_expect(&world, GATE_CLOSED).text, "cannot resolve: ", 16);
}

static void a_name_that_resolves_to_this_host_is_refused(void **state) {
        struct netpolicy_spec_rule rules[] = {rule_to("localhost", 443, server_port),
                                              rule_to("inside.test", 443, server_port)};

        /* The rule lists the name, not the address. */
        rules[0].fixed.flags = 0;
        rules[0].fixed.to_kind = rules[0].fixed.to_port = 0;
        rules[0].to_host = NULL;
        memset(rules[0].fixed.to_addr, 0, 16);
        /* The operator's own word is enough. */
        rules[1].fixed.to_kind = NETPOLICY_NAME;
        rules[1].to_host = "localhost";
        memset(rules[1].fixed.to_addr, 0, 16);
        world_add(&world, &jail, 7, policy_of(rules, 2, 0, 1));
        expect_refused(jail_dial_name(&jail, "localhost", 443));
        struct gate_msg m = world_expect(&world, GATE_DENIED);
        assert_string_equal(m.name, "localhost");
        assert_non_null(strstr(m.text, "(loopback), which no rule lists"));
        int in = jail_dial_name(&jail, "inside.test", 443), out = host_accept(server);
        assert_true(in >= 0 && out >= 0);
        close(in);
        close(out);
}

static void addresses_in_the_policy_are_dialled_as_such(void **state) {
        struct netpolicy_spec_rule rules[] = {rule_to("93.184.216.34", 80, server_port),
                                              rule_to("2001:db8::7", 80, server_port)};
        struct netpolicy_spec_rule *four = &rules[0], *six = &rules[1];
        uint8_t hello[1024];
        int in, out;

        four->fixed.kind = NETPOLICY_ADDR4;
        inet_pton(AF_INET, four->host, four->fixed.addr);
        six->fixed.kind = NETPOLICY_ADDR6;
        inet_pton(AF_INET6, six->host, six->fixed.addr);
        world_add(&world, &jail, 7, policy_of(rules, 2, 0, 1));
        for (size_t i = 0; i < ELEMENTSOF(rules); i++) {
                in = jail_dial(&jail, rules[i].host, 80);
                out = host_accept(server);
                assert_true(in >= 0 && out >= 0);
                say(in, hello, client_hello("whatever.test", hello)); /* there is no name that it could differ from */
                assert_string_equal(world_expect(&world, GATE_ALLOWED).name, rules[i].host);
                close(in);
                close(out);
                world_expect(&world, GATE_CLOSED);
        }
        expect_refused(jail_dial(&jail, "93.184.216.34", 81));
        expect_denied("93.184.216.34", 81, "not in allowed_endpoints");
        expect_refused(jail_dial(&jail, "93.184.216.35", 80));
        expect_denied("93.184.216.35", 80, "not in allowed_endpoints");
}

/* What an ended connection left ready for the next one is not taken for another family. */
static void either_family_is_dialled_after_the_other(void **state) {
        static const char *const names[] = {"four.test", "six.test", "six.test", "four.test", "four.test", "six.test"};
        struct sockaddr_in6 any = {.sin6_family = AF_INET6};
        socklen_t n = sizeof(any);
        int both = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0);

        if (both < 0 || bind(both, (void *)&any, n) < 0 || listen(both, 8) < 0)
                skip_because("the kernel has no IPv6");
        assert_int_equal(getsockname(both, (void *)&any, &n), 0);
        struct netpolicy_spec_rule rules[] = {rule_to("four.test", 443, ntohs(any.sin6_port)),
                                              rule_to("six.test", 443, ntohs(any.sin6_port))};
        rules[1].fixed.to_kind = NETPOLICY_ADDR6;
        rules[1].to_host = "::1";
        inet_pton(AF_INET6, "::1", rules[1].fixed.to_addr);
        world_add(&world, &jail, 7, policy_of(rules, 2, 0, 1));
        for (size_t i = 0; i < ELEMENTSOF(names); i++) {
                int in = jail_dial_name(&jail, names[i], 443), out = host_accept(both);
                assert_true(in >= 0 && out >= 0);
                say(in, "hello", 5);
                expect_bytes(out, "hello");
                const struct gate_msg m = world_expect(&world, GATE_ALLOWED);
                assert_string_equal(m.name, names[i]);
                assert_int_equal(m.peer[0], names[i][0] == 'f' ? '1' : '[');
                close(in);
                close(out);
                world_expect(&world, GATE_CLOSED);
        }
        close(both);
}

static void a_wildcard_is_one_label_and_its_name_is_the_one_asked_for(void **state) {
        uint8_t hello[1024];
        int out;

        add(0);
        int in = jail_dial_name(&jail, "a.wild.test", 443);
        out = host_accept(server);
        say(in, hello, client_hello("b.wild.test", hello));
        expect_denied("a.wild.test", 443, "SNI is b.wild.test, dialled a.wild.test");
        close(in);
        close(out);
        in = jail_dial_name(&jail, "a.wild.test", 443);
        out = host_accept(server);
        say(in, hello, client_hello("a.wild.test", hello));
        assert_string_equal(world_expect(&world, GATE_ALLOWED).name, "a.wild.test");
        close(in);
        close(out);
}

int main(int argc, char **argv) {
        const struct CMUnitTest tests[] = {
                SCENE(without_a_policy_everything_is_refused_and_reported),
                SCENE(a_listed_name_is_let_through_and_counted),
                SCENE(what_is_not_listed_is_refused_with_its_name),
                SCENE(a_name_that_is_only_looked_up_is_told_too),
                SCENE(questions_of_other_types_about_unlisted_names_are_refused),
                SCENE(a_flood_of_unlisted_names_takes_nothing_from_listed_ones),
                SCENE(names_that_are_addresses_in_disguise_are_unknown),
                SCENE(a_client_hello_with_the_name_goes_out_unchanged),
                SCENE(another_sni_or_none_is_refused_before_a_byte_goes_out),
                SCENE(a_second_hello_is_judged_like_the_first),
                SCENE(an_end_behind_a_second_hello_does_not_let_it_by),
                SCENE(any_other_answer_to_a_hello_lets_the_rest_go),
                SCENE(a_server_may_speak_first_and_is_recorded_before),
                SCENE(half_closes_and_resets_are_passed_on),
                SCENE(who_speaks_comes_before_who_ends),
                SCENE(megabytes_arrive_whole_both_ways_at_once),
                SCENE(a_dial_that_fails_outside_is_recorded_as_such),
                SCENE(addresses_in_the_policy_are_dialled_as_such),
                SCENE(either_family_is_dialled_after_the_other),
                SCENE(a_wildcard_is_one_label_and_its_name_is_the_one_asked_for),
                SCENE(a_name_that_resolves_to_this_host_is_refused),
        };

        return scene_main(argc, argv, tests, sizeof(tests) / sizeof(tests[0]));
}
