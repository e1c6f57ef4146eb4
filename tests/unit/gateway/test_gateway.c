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

int main(int argc, char **argv) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(without_a_policy_everything_is_refused_and_reported, start, stop),
                cmocka_unit_test_setup_teardown(a_listed_name_is_let_through_and_counted, start, stop),
        };
        gateway_path = argc > 1 ? argv[1] : "crew-gateway";
        signal(SIGPIPE, SIG_IGN);
        alarm(120);
        cmocka_set_message_output(CM_OUTPUT_TAP);
        return cmocka_run_group_tests(tests, NULL, NULL);
}
