/* SPDX-License-Identifier: Apache-2.0 */
/* What a jail reaches and what it does not, seen from both ends of the connections and by crewd. */
#include "gatelib.h"

#include "common/sanitized.h"
#include "common/util.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include <cmocka.h>

static struct world world;
static struct jail jail;
static int server;
static uint16_t port;

static int start(void **state) {
        world_start(&world);
        if (jail_start(&jail) == 77)
                exit(77);
        server = host_listen(&port);
        return 0;
}

static int stop(void **state) {
        close(server);
        jail_stop(&jail);
        return world_stop(&world);
}

static void add(uint32_t flags) {
        const struct netpolicy_spec_rule rules[] = {rule_to("api.test", 443, port), rule_to("*.wild.test", 443, port)};

        world_add(&world, &jail, 7, policy_of(rules, 2, flags, 1));
}

static void without_a_policy_everything_is_refused_and_reported(void **state) {
        char addr[16];

        world_add(&world, &jail, 7, -1);
        assert_int_equal(jail_ask(&jail, "x.test", 1, addr), 5);
        int fd = jail_dial(&jail, "93.184.216.34", 443);
        if (fd >= 0) {
                assert_int_equal(read_end(fd), ECONNRESET);
                close(fd);
        }
        struct gate_msg m = world_expect(&world, GATE_DENIED);
        assert_int_equal(m.id, 7);
        assert_int_equal(m.proto, GATE_DNS);
        assert_string_equal(m.name, "x.test");
        m = world_expect(&world, GATE_DENIED);
        assert_int_equal(m.proto, GATE_TCP);
        assert_string_equal(m.name, "93.184.216.34");
        assert_int_equal(m.port, 443);
        assert_string_equal(m.text, "not in allowed_endpoints");
        fd = jail_udp(&jail, "8.8.8.8", 123);
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
        snprintf(buf, sizeof(buf), "127.0.0.1:%u", port);
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

/* One that is listed and connected, both ends. */
static void pair_up(int *in, int *out) {
        *in = jail_dial_name(&jail, "api.test", 443);
        *out = host_accept(server);
        assert_true(*in >= 0 && *out >= 0);
}

static void say(int fd, const void *bytes, size_t n) {
        assert_int_equal(write(fd, bytes, n), (ssize_t)n);
}

static void expect_bytes(int fd, const char *text) {
        char buf[64];

        assert_int_equal(read_n(fd, buf, strlen(text)), strlen(text));
        assert_memory_equal(buf, text, strlen(text));
}

/* A dial that is refused: by the kernel's answer to connect() or to the first read. */
static void expect_refused(int fd) {
        if (fd == -ECONNRESET)
                return;
        assert_true(fd >= 0);
        assert_int_equal(read_end(fd), ECONNRESET);
        close(fd);
}

static void expect_denied(const char *name, uint16_t p, const char *text) {
        struct gate_msg m = world_expect(&world, GATE_DENIED);

        assert_string_equal(m.name, name);
        assert_int_equal(m.port, p);
        assert_string_equal(m.text, text);
}

static void what_is_not_listed_is_refused_with_its_name(void **state) {
        char addr[16];

        add(0);
        assert_int_equal(jail_ask(&jail, "exfil.test", 1, addr), 5);
        expect_denied("exfil.test", 0, "not in allowed_endpoints");
        expect_refused(jail_dial_name(&jail, "api.test", 80));
        expect_denied("api.test", 80, "not in allowed_endpoints");
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

static void names_that_are_addresses_in_disguise_are_unknown(void **state) {
        static const char *const names[] = {"2130706433", "0x7f.1", "127.1", "127.0.0.1", "a.b.wild.test", "wild.test"};
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
        say(in, "early data", 10);
        expect_bytes(out, "early data");
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
                assert_true(poll(p, 2, 5000) > 0);
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
        struct netpolicy_spec_rule rules[] = {rule_to("localhost", 443, port), rule_to("inside.test", 443, port)};

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

static void limits_hold_and_other_instances_do_not_notice(void **state) {
        enum { LIMIT = 3 };
        const struct netpolicy_spec_rule rule = rule_to("api.test", 443, port);
        struct netpolicy_spec spec = spec_of(&rule, 1);
        struct jail other;
        int in[LIMIT], out[LIMIT];

        assert_int_equal(jail_start(&other), 0);
        spec.fixed.max_conns = LIMIT;
        world_add(&world, &jail, 7, policy_with(&spec));
        world_add(&world, &other, 8, policy_with(&spec));
        for (int i = 0; i < LIMIT; i++)
                pair_up(&in[i], &out[i]);
        expect_refused(jail_dial(&jail, "198.18.0.1", 443));
        expect_denied("api.test", 443, "limits.connections");
        int in8 = jail_dial_name(&other, "api.test", 443), out8 = host_accept(server);
        assert_true(in8 >= 0 && out8 >= 0);
        close(in8);
        close(out8);
        assert_int_equal(world_expect(&world, GATE_ALLOWED).id, 8);
        assert_int_equal(world_expect(&world, GATE_CLOSED).id, 8);
        close(in[0]);
        close(out[0]);
        world_expect(&world, GATE_ALLOWED);
        world_expect(&world, GATE_CLOSED);
        pair_up(&in[0], &out[0]); /* there is room again */
        for (int i = 0; i < LIMIT; i++) {
                close(in[i]);
                close(out[i]);
        }
        jail_stop(&other);
}

static void half_open_dials_are_limited(void **state) {
        struct netpolicy_spec_rule rule = rule_to("slow.test", 443, port);
        struct netpolicy_spec spec;
        uint8_t hello[1024];
        int fd[3], out[3];

        spec = spec_of(&rule, 1);
        spec.fixed.max_half_open = 2;
        world_add(&world, &jail, 7, policy_with(&spec));
        for (int i = 0; i < 2; i++) { /* part of a ClientHello, and no more */
                fd[i] = jail_dial_name(&jail, "slow.test", 443);
                out[i] = host_accept(server);
                assert_true(fd[i] >= 0 && out[i] >= 0);
                say(fd[i], hello, client_hello("slow.test", hello) / 2);
        }
        usleep(50000);
        expect_refused(jail_dial(&jail, "198.18.0.1", 443));
        expect_denied("slow.test", 443, "limits.half_open");
        say(fd[0], hello + client_hello("slow.test", hello) / 2,
            client_hello("slow.test", hello) - client_hello("slow.test", hello) / 2);
        world_expect(&world, GATE_ALLOWED);
        fd[2] = jail_dial(&jail, "198.18.0.1", 443);
        out[2] = host_accept(server);
        assert_true(fd[2] >= 0 && out[2] >= 0);
        for (int i = 0; i < 3; i++) {
                close(fd[i]);
                close(out[i]);
        }
}

static void name_queries_are_limited_by_rate(void **state) {
        const struct netpolicy_spec_rule rule = rule_to("api.test", 443, port);
        struct netpolicy_spec spec = spec_of(&rule, 1);
        unsigned answered = 0;
        char addr[16];

        spec.fixed.max_dns_per_s = 5;
        world_add(&world, &jail, 7, policy_with(&spec));
        for (int i = 0; i < 20; i++)
                answered += jail_ask(&jail, "api.test", 1, addr) == 0;
        assert_in_range(answered, 5, 8);
        expect_denied("api.test", 0, "limits.dns");
}

static void bandwidth_is_limited(void **state) {
        enum { RATE = 1 << 20, BYTES = 2 << 20 };
        const struct netpolicy_spec_rule rule = rule_to("api.test", 443, port);
        struct netpolicy_spec spec = spec_of(&rule, 1);
        static uint8_t buf[BYTES];
        size_t sent = 0, got = 0;
        int in, out;

        spec.fixed.max_bytes_per_s = RATE;
        world_add(&world, &jail, 7, policy_with(&spec));
        pair_up(&in, &out);
        uint64_t begin = crew_now_ns();
        while (got < BYTES) {
                ssize_t n = sent < BYTES ? send(in, buf, BYTES - sent, MSG_DONTWAIT) : 0;
                sent += n > 0 ? (size_t)n : 0;
                struct pollfd p = {.fd = out, .events = POLLIN};
                poll(&p, 1, 20);
                n = recv(out, buf, sizeof(buf), MSG_DONTWAIT);
                got += n > 0 ? (size_t)n : 0;
        }
        /* A second's worth at once, the rest at the rate. */
        uint64_t ms = (crew_now_ns() - begin) / 1000000;
        assert_in_range(ms, 800, 2500);
        close(in);
        close(out);
}

static void removal_closes_everything_and_says_so(void **state) {
        char addr[16];
        int in, out;

        add(0);
        pair_up(&in, &out);
        say(in, "x", 1);
        world_expect(&world, GATE_ALLOWED);
        world_send(&world, (struct gate_msg){.op = GATE_REMOVE, .id = 7}, NULL, 0);
        assert_string_equal(world_expect(&world, GATE_CLOSED).text, "the instance is gone");
        assert_int_equal(world_expect(&world, GATE_REMOVED).id, 7);
        assert_int_equal(read_end(in), ECONNRESET);
        close(in);
        assert_true(read_end(out) != -2);
        close(out);
        in = jail_dial(&jail, "198.18.0.1", 443);
        assert_true(in == -ECONNREFUSED || in == -ECONNRESET);
        (void)addr;
}

static void a_gateway_that_dies_refuses_everything(void **state) {
        int in, out, status;

        add(0);
        pair_up(&in, &out);
        say(in, "x", 1);
        world_expect(&world, GATE_ALLOWED);
        kill(world.gateway, SIGKILL);
        assert_true(read_end(in) != -2);
        close(in);
        close(out);
        assert_int_equal(waitpid(world.gateway, &status, 0), world.gateway);
        in = jail_dial(&jail, "198.18.0.1", 443);
        assert_true(in == -ECONNREFUSED || in == -ECONNRESET);
        close(world.gate);
        world_start(&world);
}

/* --- asks --- */

static void an_unlisted_dial_is_held_and_goes_on_when_approved(void **state) {
        const struct netpolicy_spec_rule rule = rule_to("api.test", 443, port);
        struct netpolicy_spec spec = spec_of(&rule, 1);

        spec.fixed.flags = NETPOLICY_ASK;
        world_add(&world, &jail, 7, policy_with(&spec));
        int in = jail_dial_name(&jail, "new.test", 443);
        assert_true(in >= 0);
        struct gate_msg m = world_expect(&world, GATE_ASK);
        assert_string_equal(m.name, "new.test");
        assert_int_equal(m.port, 443);
        assert_int_equal(m.count, 1);
        int second = jail_dial(&jail, "198.18.0.1", 443);
        struct gate_msg more = world_expect(&world, GATE_ASK);
        assert_int_equal(more.ask, m.ask);
        assert_int_equal(more.count, 2);
        /* The name does not exist outside, but it was let through to there. */
        world_send(&world,
                   (struct gate_msg){.op = GATE_ANSWER, .id = 7, .ask = m.ask, .verdict = GATE_LET, .scope = GATE_SESSION},
                   NULL, 0);
        for (int i = 0; i < 2; i++) {
                struct gate_msg let = world_next(&world), end = world_next(&world);
                assert_int_equal(let.op, GATE_ALLOWED);
                assert_string_equal(let.text, "approved by the operator");
                assert_int_equal(end.op, GATE_CLOSED);
        }
        close(in);
        close(second);
        /* For the session: no second question. */
        in = jail_dial(&jail, "198.18.0.1", 443);
        world_expect(&world, GATE_ALLOWED);
        world_expect(&world, GATE_CLOSED);
        close(in);
        /* Decided once: the number means nothing any more. */
        world_send(&world,
                   (struct gate_msg){.op = GATE_ANSWER, .id = 7, .ask = m.ask, .verdict = GATE_LET, .scope = GATE_ONCE},
                   NULL, 0);
        assert_true(world_quiet(&world, 100));
}

static void an_approved_address_is_dialled_and_a_refused_one_reset(void **state) {
        const struct netpolicy_spec_rule rule = rule_to("api.test", 443, port);
        struct netpolicy_spec spec = spec_of(&rule, 1);

        spec.fixed.flags = NETPOLICY_ASK;
        world_add(&world, &jail, 7, policy_with(&spec));
        int in = jail_dial(&jail, "10.255.255.1", 9);
        struct gate_msg m = world_expect(&world, GATE_ASK);
        assert_string_equal(m.name, "10.255.255.1");
        world_send(&world,
                   (struct gate_msg){.op = GATE_ANSWER, .id = 7, .ask = m.ask, .verdict = GATE_REFUSE, .scope = GATE_ONCE},
                   NULL, 0);
        expect_denied("10.255.255.1", 9, "refused by the operator");
        assert_int_equal(read_end(in), ECONNRESET);
        close(in);
        in = jail_dial(&jail, "10.255.255.1", 9);
        m = world_expect(&world, GATE_ASK); /* for once: asked again */
        close(in);
        assert_true(world_quiet(&world, 300)); /* it waits for the next try */
        world_send(
                &world,
                (struct gate_msg){.op = GATE_ANSWER, .id = 7, .ask = m.ask, .verdict = GATE_REFUSE, .scope = GATE_SESSION},
                NULL, 0);
        expect_refused(jail_dial(&jail, "10.255.255.1", 9));
        expect_denied("10.255.255.1", 9, "refused by the operator");
}

static void what_can_never_be_approved_is_not_asked(void **state) {
        static const char *const hosts[] = {
                "169.254.169.254",    "169.254.1.1",       "fe80::1",   "fd00:ec2::254",  "::ffff:0:169.254.169.254",
                "64:ff9b::a9fe:a9fe", "2002:a9fe:a9fe::1", "224.0.0.1", "100.100.100.200"};
        char addr[16];

        add(NETPOLICY_ASK);
        for (size_t i = 0; i < ELEMENTSOF(hosts); i++) {
                int fd = jail_dial(&jail, hosts[i], 80);
                if (fd == -EINVAL || fd == -ENETUNREACH) /* the kernel's own answer */
                        continue;
                expect_refused(fd);
                struct gate_msg m = world_expect(&world, GATE_DENIED);
                assert_string_equal(m.text, "such an address is never approved");
        }
        assert_int_equal(jail_ask(&jail, "metadata.google.internal", 1, addr), 0);
        expect_refused(jail_dial(&jail, addr, 80));
        expect_denied("metadata.google.internal", 80, "a name of this host or of a metadata service is never approved");
}

static void an_ask_expires(void **state) {
        const struct netpolicy_spec_rule rule = rule_to("api.test", 443, port);
        struct netpolicy_spec spec = spec_of(&rule, 1);

        spec.fixed.flags = NETPOLICY_ASK;
        spec.fixed.ask_s = 1;
        world_add(&world, &jail, 7, policy_with(&spec));
        int in = jail_dial(&jail, "10.255.255.1", 9);
        struct gate_msg m = world_expect(&world, GATE_ASK);
        struct gate_msg gone = world_expect(&world, GATE_ASK_GONE);
        assert_int_equal(gone.ask, m.ask);
        assert_string_equal(gone.text, "expired");
        expect_denied("10.255.255.1", 9, "nobody approved it in time");
        expect_refused(in);
}

/* --- audit, reload --- */

static void audit_lets_unlisted_names_through_and_says_so(void **state) {
        add(NETPOLICY_AUDIT_ALL);
        int in = jail_dial_name(&jail, "new.test", 443);
        struct gate_msg m = world_expect(&world, GATE_DENIED);
        assert_int_equal(m.verdict, GATE_WOULD_REFUSE);
        m = world_expect(&world, GATE_ALLOWED);
        assert_string_equal(m.name, "new.test");
        world_expect(&world, GATE_CLOSED); /* it does not exist outside */
        close(in);
        expect_refused(jail_dial(&jail, "169.254.169.254", 80));
        m = world_expect(&world, GATE_DENIED);
        assert_int_equal(m.verdict, GATE_REFUSE);
}

static void reload(int fd) {
        world_send(&world, (struct gate_msg){.op = GATE_POLICY, .id = 7}, &fd, 1);
        close(fd);
}

static void a_new_policy_closes_what_it_forbids_and_nothing_else(void **state) {
        const struct netpolicy_spec_rule both[] = {rule_to("api.test", 443, port), rule_to("other.test", 443, port)};
        int in, out;

        world_add(&world, &jail, 7, policy_of(both, 2, 0, 1));
        pair_up(&in, &out);
        say(in, "x", 1);
        world_expect(&world, GATE_ALLOWED);
        expect_bytes(out, "x");
        int in2 = jail_dial_name(&jail, "other.test", 443), out2 = host_accept(server);
        say(in2, "x", 1);
        uint64_t second = world_expect(&world, GATE_ALLOWED).conn;
        expect_bytes(out2, "x");
        reload(policy_of(both, 1, 0, 2)); /* without other.test */
        struct gate_msg m = world_expect(&world, GATE_CLOSED);
        assert_int_equal(m.conn, second);
        m = world_expect(&world, GATE_APPLIED);
        assert_int_equal(m.generation, 2);
        assert_int_equal(m.count, 1);
        assert_int_equal(read_end(in2), ECONNRESET);
        say(in, "still here", 10);
        expect_bytes(out, "still here");
        expect_refused(jail_dial(&jail, "198.18.0.2", 443));
        expect_denied("other.test", 443, "not in allowed_endpoints");
        close(in);
        close(out);
        close(in2);
        close(out2);
}

static void a_policy_that_is_old_or_broken_is_rejected_and_the_former_stays(void **state) {
        struct crew_err err = CREW_ERR_NULL;
        int in, out;

        add(0);
        reload(policy_of(NULL, 0, 0, 1));
        assert_non_null(strstr(world_expect(&world, GATE_REJECTED).text, "generation 1"));
        reload(crew_sealed_memfd("x", "nonsense", 8, &err));
        world_expect(&world, GATE_REJECTED);
        pair_up(&in, &out);
        close(in);
        close(out);
}

static void a_reload_answers_those_that_wait(void **state) {
        const struct netpolicy_spec_rule both[] = {rule_to("api.test", 443, port), rule_to("other.test", 443, port)};

        world_add(&world, &jail, 7, policy_of(both, 1, NETPOLICY_ASK, 1));
        int in = jail_dial_name(&jail, "other.test", 443);
        world_expect(&world, GATE_ASK);
        int refused = jail_dial_name(&jail, "third.test", 443);
        world_expect(&world, GATE_ASK);
        reload(policy_of(both, 2, 0, 2));
        int asks = 0, denied = 0;
        struct gate_msg m;
        while ((m = world_next(&world)).op != GATE_APPLIED) {
                asks += m.op == GATE_ASK_GONE;
                denied += m.op == GATE_DENIED;
        }
        assert_int_equal(asks, 2);
        assert_int_equal(denied, 1);
        int out = host_accept(server);
        assert_true(out >= 0);
        say(in, "x", 1);
        expect_bytes(out, "x");
        expect_refused(refused);
        close(in);
        close(out);
}

/* --- the program --- */

static void a_crewd_that_does_not_read_holds_up_only_what_must_be_recorded(void **state) {
        enum { MANY = 120 };
        int in[MANY], out[MANY];
        char addr[16];
        unsigned allowed = 0, closed = 0;

        add(0);
        /* Each costs two messages: the socket is full long before the last. */
        for (int round = 0; round < 5; round++) {
                for (int i = 0; i < MANY; i++) {
                        in[i] = jail_dial_name(&jail, "api.test", 443);
                        out[i] = in[i] >= 0 ? host_accept(server) : -1;
                        if (in[i] >= 0)
                                (void)!write(in[i], "x", 1);
                        assert_int_equal(jail_ask(&jail, "api.test", 1, addr), 0); /* the loop goes on */
                        if (out[i] < 0) {
                                close(in[i]);
                                goto full;
                        }
                        close(in[i]);
                        close(out[i]);
                }
        }
full:
        /* What waited is all there. */
        for (;;) {
                if (world_quiet(&world, 500))
                        break;
                struct gate_msg m = world_next(&world);
                allowed += m.op == GATE_ALLOWED;
                closed += m.op == GATE_CLOSED;
        }
        assert_true(allowed > 0);
        assert_int_equal(allowed, closed);
        int i, o;
        pair_up(&i, &o);
        say(i, "x", 1);
        world_expect(&world, GATE_ALLOWED);
        close(i);
        close(o);
}

static void the_gateway_is_confined(void **state) {
        char path[64], *text = NULL;
        struct crew_err err = CREW_ERR_NULL;

        if (CREW_SANITIZED)
                return; /* such a build is not */
        snprintf(path, sizeof(path), "/proc/%d/status", world.gateway);
        assert_int_equal(crew_read_file(path, 65536, &text, NULL, &err), 0);
        assert_non_null(strstr(text, "NoNewPrivs:\t1\n"));
        assert_non_null(strstr(text, "Seccomp:\t2\n"));
        assert_non_null(strstr(text, "CapPrm:\t0000000000000000\n"));
        assert_non_null(strstr(text, "CapEff:\t0000000000000000\n"));
        if (geteuid() == 0)
                assert_non_null(strstr(text, "Uid:\t65534\t65534\t65534\t65534\n"));
        free(text);
}

static void a_message_of_the_wrong_size_ends_the_gateway(void **state) {
        int status;

        assert_int_equal(crew_write_full(world.gate, "garbage", 7), 0);
        assert_int_equal(waitpid(world.gateway, &status, 0), world.gateway);
        close(world.gate);
        world_start(&world);
}

#define WORLD(test) cmocka_unit_test_setup_teardown(test, start, stop)

int main(int argc, char **argv) {
        const struct CMUnitTest tests[] = {
                WORLD(without_a_policy_everything_is_refused_and_reported),
                WORLD(a_listed_name_is_let_through_and_counted),
                WORLD(what_is_not_listed_is_refused_with_its_name),
                WORLD(names_that_are_addresses_in_disguise_are_unknown),
                WORLD(a_client_hello_with_the_name_goes_out_unchanged),
                WORLD(another_sni_or_none_is_refused_before_a_byte_goes_out),
                WORLD(a_server_may_speak_first_and_is_recorded_before),
                WORLD(half_closes_and_resets_are_passed_on),
                WORLD(megabytes_arrive_whole_both_ways_at_once),
                WORLD(a_dial_that_fails_outside_is_recorded_as_such),
                WORLD(a_name_that_resolves_to_this_host_is_refused),
                WORLD(limits_hold_and_other_instances_do_not_notice),
                WORLD(half_open_dials_are_limited),
                WORLD(name_queries_are_limited_by_rate),
                WORLD(bandwidth_is_limited),
                WORLD(removal_closes_everything_and_says_so),
                WORLD(a_gateway_that_dies_refuses_everything),
                WORLD(an_unlisted_dial_is_held_and_goes_on_when_approved),
                WORLD(an_approved_address_is_dialled_and_a_refused_one_reset),
                WORLD(what_can_never_be_approved_is_not_asked),
                WORLD(an_ask_expires),
                WORLD(audit_lets_unlisted_names_through_and_says_so),
                WORLD(a_new_policy_closes_what_it_forbids_and_nothing_else),
                WORLD(a_policy_that_is_old_or_broken_is_rejected_and_the_former_stays),
                WORLD(a_reload_answers_those_that_wait),
                WORLD(a_crewd_that_does_not_read_holds_up_only_what_must_be_recorded),
                WORLD(the_gateway_is_confined),
                WORLD(a_message_of_the_wrong_size_ends_the_gateway),
        };
        gateway_path = argc > 1 ? argv[1] : "crew-gateway";
        if (argc > 2)
                cmocka_set_test_filter(argv[2]);
        signal(SIGPIPE, SIG_IGN);
        alarm(120);
        cmocka_set_message_output(CM_OUTPUT_TAP);
        return cmocka_run_group_tests(tests, NULL, NULL);
}
