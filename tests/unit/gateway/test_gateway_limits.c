/* SPDX-License-Identifier: Apache-2.0 */
/* What one jail, crewd or a lack of something can do to the gateway. */
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
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include <cmocka.h>

static void limits_hold_and_other_instances_do_not_notice(void **state) {
        enum { LIMIT = 3 };
        const struct netpolicy_spec_rule rule = rule_to("api.test", 443, server_port);
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

/* Dials until it is refused: what was sent before may not have been read yet.  What is let through is closed. */
static void expect_refused_soon(const char *addr, uint16_t port) {
        for (;;) {
                int in = jail_dial(&jail, addr, port);
                struct pollfd p[2] = {{.fd = world.gate, .events = POLLIN}, {.fd = server, .events = POLLIN}};
                assert_true(poll(p, 2, 20000) > 0);
                if (p[0].revents)
                        return expect_refused(in);
                close(host_accept(server));
                close(in);
                world_expect(&world, GATE_ALLOWED);
                world_expect(&world, GATE_CLOSED);
        }
}

static void half_open_dials_are_limited(void **state) {
        struct netpolicy_spec_rule rule = rule_to("slow.test", 443, server_port);
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
        expect_refused_soon("198.18.0.1", 443);
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
        const struct netpolicy_spec_rule rule = rule_to("api.test", 443, server_port);
        struct netpolicy_spec spec = spec_of(&rule, 1);
        unsigned answered = 0, refused = 0;
        char addr[16];

        spec.fixed.max_dns_per_s = 5;
        world_add(&world, &jail, 7, policy_with(&spec));
        uint64_t begin = crew_now_ns();
        for (int i = 0; i < 20 || refused == 0; i++) {
                bool yes = jail_ask(&jail, "api.test", 1, addr) == 0;
                answered += yes;
                refused += !yes;
        }
        /* A second's worth at once, and what became free meanwhile. */
        assert_in_range(answered, 5, 6 + 5 * (crew_now_ns() - begin) / 1000000000u);
        expect_denied("api.test", 0, "limits.dns");
}

static void bandwidth_is_limited(void **state) {
        enum { RATE = 1 << 20, BYTES = 2 << 20 };
        const struct netpolicy_spec_rule rule = rule_to("api.test", 443, server_port);
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
        assert_in_range(ms, 800, 20000);
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
        pair_up(&in, &out); /* one that may have been there before the gateway had the listener */
        close(in);
        close(out);
        world_expect(&world, GATE_ALLOWED);
        world_expect(&world, GATE_CLOSED);
        pair_up(&in, &out);
        say(in, "x", 1);
        world_expect(&world, GATE_ALLOWED);
        assert_int_equal(read_end(out), -1); /* the byte */
        kill(world.gateway, SIGKILL);
        assert_int_equal(read_end(in), ECONNRESET); /* not as if the server had said all */
        assert_int_equal(read_end(out), ECONNRESET);
        close(in);
        close(out);
        assert_int_equal(waitpid(world.gateway, &status, 0), world.gateway);
        close(world.gate);
        /* crewd has kept the listeners: what is dialled now waits for the next one, in which nothing of the former holds.
         */
        in = jail_dial(&jail, "198.18.0.1", 443);
        assert_true(in >= 0);
        world_start(&world);
        add(0);
        expect_denied("198.18.0.1", 443, "not in allowed_endpoints");
        assert_int_equal(read_end(in), ECONNRESET);
        close(in);
        pair_up(&in, &out);
        close(in);
        close(out);
        /* Without anybody to keep them the kernel refuses. */
        for (int i = 0; i < GATE_LISTENERS; i++)
                crew_close(&jail.listeners[i]);
        kill(world.gateway, SIGKILL);
        assert_int_equal(waitpid(world.gateway, &status, 0), world.gateway);
        close(world.gate);
        in = jail_dial(&jail, "198.18.0.1", 443);
        assert_true(in == -ECONNREFUSED || in == -ECONNRESET);
        world_start(&world);
}

/* Nanoseconds on a processor. */
static uint64_t time_used(pid_t pid) {
        char path[64], *text = NULL;
        struct crew_err err = CREW_ERR_NULL;

        snprintf(path, sizeof(path), "/proc/%d/schedstat", pid);
        assert_int_equal(crew_read_file(path, 4096, &text, NULL, &err), 0);
        uint64_t ns = strtoull(text, NULL, 10);
        free(text);
        return ns;
}

/* However long it takes until it has nothing to do: half a second in which it (almost) does not run.  One that spins never
 * has that. */
static void expect_rest(pid_t pid) {
        for (int i = 0; i < 40; i++) {
                uint64_t before = time_used(pid);
                usleep(500000);
                if (time_used(pid) - before < 15000000)
                        return;
        }
        fail_msg("process %d does not come to rest", pid);
}

static int accept_now(void) {
        struct pollfd p = {.fd = server, .events = POLLIN};

        return poll(&p, 1, 0) == 1 ? accept4(server, NULL, NULL, SOCK_CLOEXEC) : -1;
}

static void out_of_descriptors_it_waits_and_does_not_spin(void **state) {
        enum { MANY = 40, FILES = 48 };
        int in[MANY], out;

        world_stop(&world);
        world_start_with(&world, FILES);
        add(0);
        in[0] = jail_dial_name(&jail, "api.test", 443);
        for (int i = 1; i < MANY; i++) {
                in[i] = jail_dial(&jail, "198.18.0.1", 443);
                if (in[i] >= 0)
                        send(in[i], "x", 1, MSG_NOSIGNAL); /* may have been reset already */
        }
        expect_rest(world.gateway);
        /* Some got through, some were reset, some wait; all of them go, and it works again. */
        for (int i = 0; i < MANY; i++)
                crew_close(&in[i]);
        for (bool more = true; more;) {
                more = !world_quiet(&world, 500);
                if (more)
                        world_next(&world);
                for (; (out = accept_now()) >= 0; more = true)
                        close(out);
        }
        pair_up(&in[0], &out);
        say(in[0], "y", 1);
        expect_bytes(out, "y");
        close(in[0]);
        close(out);
}

/* The first process whose parent is this one. */
static pid_t child_of(pid_t parent) {
        char path[64], *text = NULL;
        struct crew_err err = CREW_ERR_NULL;

        snprintf(path, sizeof(path), "/proc/%d/task/%d/children", parent, parent);
        if (crew_read_file(path, 4096, &text, NULL, &err) < 0)
                return 0;
        pid_t pid = (pid_t)strtol(text, NULL, 10);
        free(text);
        return pid;
}

/* One that is not former; both may be a moment away. */
static pid_t await_child(pid_t parent, pid_t former) {
        for (int i = 0; i < 1000; i++) {
                pid_t pid = child_of(parent);
                if (pid > 0 && pid != former)
                        return pid;
                usleep(20000);
        }
        fail_msg("process %d has no other child than %d", parent, former);
        return -1;
}

static void the_resolver_is_started_again_when_it_dies(void **state) {
        struct netpolicy_spec_rule rule = rule_to("inside.test", 443, server_port);

        rule.fixed.to_kind = NETPOLICY_NAME;
        rule.to_host = "localhost";
        memset(rule.fixed.to_addr, 0, 16);
        world_add(&world, &jail, 7, policy_of(&rule, 1, 0, 1));
        pid_t keeper = await_child(world.gateway, 0), resolver = await_child(keeper, 0);
        kill(resolver, SIGKILL);
        resolver = await_child(keeper, resolver);
        int in = jail_dial_name(&jail, "inside.test", 443), out = host_accept(server);
        assert_true(in >= 0 && out >= 0);
        close(in);
        close(out);
        world_expect(&world, GATE_ALLOWED);
        world_expect(&world, GATE_CLOSED);
        /* Without the keeper nobody would: the gateway ends, for crewd to start another. */
        kill(keeper, SIGKILL);
        kill(resolver, SIGKILL);
        assert_int_equal(waitpid(world.gateway, NULL, 0), world.gateway);
        close(world.gate);
        world_start(&world);
}

static void a_thousand_connections_are_idle_and_then_all_speak(void **state) {
        enum { MANY = 1000 };
        const struct netpolicy_spec_rule rule = rule_to("api.test", 443, server_port);
        struct netpolicy_spec spec = spec_of(&rule, 1);
        static int in[MANY], out[MANY];
        struct rlimit files;
        char c;

        getrlimit(RLIMIT_NOFILE, &files);
        files.rlim_cur = files.rlim_max;
        setrlimit(RLIMIT_NOFILE, &files);
        spec.fixed.max_conns = MANY;
        world_add(&world, &jail, 7, policy_with(&spec));
        for (int i = 0; i < MANY; i++) {
                pair_up(&in[i], &out[i]);
                say(in[i], "x", 1);
                world_expect(&world, GATE_ALLOWED);
                expect_bytes(out[i], "x");
        }
        expect_rest(world.gateway);
        for (int i = 0; i < MANY; i++)
                say(out[i], "y", 1);
        for (int i = 0; i < MANY; i++) {
                assert_int_equal(read_n(in[i], &c, 1), 1);
                close(in[i]);
                close(out[i]);
                world_expect(&world, GATE_CLOSED);
        }
}

static void a_reader_that_does_not_read_holds_bounded_memory(void **state) {
        static char buf[1 << 16];
        size_t sent = 0;
        int in, out;

        add(0);
        pair_up(&in, &out);
        say(in, "x", 1);
        world_expect(&world, GATE_ALLOWED);
        for (int idle = 0; idle < 20;) {
                ssize_t n = send(out, buf, sizeof(buf), MSG_DONTWAIT);
                sent += n > 0 ? (size_t)n : 0;
                idle = n > 0 ? 0 : idle + 1;
                if (n < 0)
                        usleep(10000);
        }
        /* Both ends' own buffers, one pipe, and what the kernel holds between. */
        assert_in_range(sent, 1, 24u << 20);
        expect_rest(world.gateway);
        close(in);
        close(out);
}

/* A generator of its own, so that a failure can be repeated. */
static uint32_t next_random(uint32_t *seed) {
        *seed = *seed * 1664525u + 1013904223u;
        return *seed >> 8;
}

static void whatever_a_jail_sends_the_gateway_lives(void **state) {
        uint8_t hello[1024], bytes[600];
        uint32_t seed = 7;
        char addr[16];
        int in, out;

        add(0);
        for (int i = 0; i < 300; i++) {
                int udp = jail_udp(&jail, "127.0.0.1", 53);
                size_t n = next_random(&seed) % sizeof(bytes);
                for (size_t k = 0; k < n; k++)
                        bytes[k] = (uint8_t)next_random(&seed);
                send(udp, bytes, n, 0);
                close(udp);
        }
        for (int i = 0; i < 60; i++) {
                in = jail_dial_name(&jail, "api.test", 443);
                out = in >= 0 ? host_accept(server) : -1;
                if (in < 0 || out < 0)
                        break;
                size_t n = client_hello("api.test", hello);
                for (int k = 0; k < 4; k++)
                        hello[next_random(&seed) % n] = (uint8_t)next_random(&seed);
                send(in, hello, next_random(&seed) % n, MSG_NOSIGNAL);
                if (i % 3 == 0)
                        send(in, "!", 1, MSG_OOB | MSG_NOSIGNAL);
                if (i % 2)
                        shutdown(in, SHUT_WR);
                close(in);
                close(out);
                while (!world_quiet(&world, 0))
                        world_next(&world);
        }
        assert_int_equal(jail_ask(&jail, "api.test", 1, addr), 0);
        assert_int_equal(waitpid(world.gateway, NULL, WNOHANG), 0);
}

static void a_crewd_that_does_not_read_holds_up_only_what_must_be_recorded(void **state) {
        enum { MANY = 120 };
        int in[MANY], out[MANY];
        char addr[16];
        unsigned allowed = 0, closed = 0;
        uint64_t last = 0;

        add(0);
        /* Each costs two messages: the socket is full long before the last. */
        for (int round = 0; round < 5; round++) {
                for (int i = 0; i < MANY; i++) {
                        in[i] = jail_dial_name(&jail, "api.test", 443);
                        struct pollfd p = {.fd = server, .events = POLLIN};
                        out[i] = in[i] >= 0 && poll(&p, 1, 2000) == 1 ? host_accept(server) : -1;
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
        while (allowed == 0 || allowed > closed || !world_quiet(&world, 500)) {
                struct gate_msg m = world_next(&world);
                allowed += m.op == GATE_ALLOWED;
                closed += m.op == GATE_CLOSED;
                last = MAX_OF(last, m.conn);
        }
        assert_int_equal(allowed, closed);
        for (int o; (o = accept_now()) >= 0;)
                close(o);
        int i, o;
        pair_up(&i, &o);
        say(i, "x", 1);
        assert_true(world_expect(&world, GATE_ALLOWED).conn > last);
        close(i);
        close(o);
}

#if !CREW_SANITIZED /* such a build is not */
static void the_gateway_is_confined(void **state) {
        char path[64], *text = NULL;
        struct crew_err err = CREW_ERR_NULL;

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
#endif

static void a_message_of_the_wrong_size_ends_the_gateway(void **state) {
        int status;

        assert_int_equal(crew_write_full(world.gate, "garbage", 7), 0);
        assert_int_equal(waitpid(world.gateway, &status, 0), world.gateway);
        close(world.gate);
        world_start(&world);
}

int main(int argc, char **argv) {
        const struct CMUnitTest tests[] = {
                SCENE(limits_hold_and_other_instances_do_not_notice),
                SCENE(half_open_dials_are_limited),
                SCENE(name_queries_are_limited_by_rate),
                SCENE(bandwidth_is_limited),
                SCENE(removal_closes_everything_and_says_so),
                SCENE(a_gateway_that_dies_refuses_everything),
                SCENE(a_crewd_that_does_not_read_holds_up_only_what_must_be_recorded),
                SCENE(out_of_descriptors_it_waits_and_does_not_spin),
                SCENE(the_resolver_is_started_again_when_it_dies),
                SCENE(a_thousand_connections_are_idle_and_then_all_speak),
                SCENE(a_reader_that_does_not_read_holds_bounded_memory),
                SCENE(whatever_a_jail_sends_the_gateway_lives),
#if !CREW_SANITIZED
                SCENE(the_gateway_is_confined),
#endif
                SCENE(a_message_of_the_wrong_size_ends_the_gateway),
        };

        return scene_main(argc, argv, tests, sizeof(tests) / sizeof(tests[0]));
}
