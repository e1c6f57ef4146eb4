/* SPDX-License-Identifier: Apache-2.0 */
/* Where names lead: each address that a resolver gives is checked, and what is dialled is one that was. */
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

/* plain.test is dialled where it leads; named.test where the crew file's inside.example leads, at the server's port. */
static struct resolver_ask dial(const char *name, int *in) {
        *in = loop_dial(name, 443);
        return loop_asked();
}

static void expect_denied_as(int in, const char *text) {
        struct gate_msg m = loop_expect(GATE_DENIED);

        assert_int_equal(m.verdict, GATE_REFUSE);
        assert_string_equal(m.text, text);
        assert_int_equal(loop_end_of(in), ECONNRESET);
        close(in);
}

static void a_listed_name_leads_to_no_address_that_no_rule_lists(void **state) {
        static const struct {
                const char *addr, *class;
        } rows[] = {
                {"127.0.0.1", "loopback"},
                {"127.255.0.1", "loopback"},
                {"::1", "loopback"},
                {"10.0.0.1", "private"},
                {"172.31.255.255", "private"},
                {"192.168.1.1", "private"},
                {"100.64.0.1", "private"},
                {"fd00::1", "private"},
                {"169.254.1.1", "link-local"},
                {"fe80::1", "link-local"},
                {"169.254.169.254", "metadata service"},
                {"100.100.100.200", "metadata service"},
                {"fd00:ec2::254", "metadata service"},
                {"0.0.0.0", "reserved"},
                {"198.18.0.1", "reserved"},
                {"::", "reserved"},
                {"224.0.0.1", "multicast"},
                {"ff02::1", "multicast"},
                {"::ffff:169.254.169.254", "an IPv4 address inside an IPv6 one"},
                {"::ffff:93.184.216.34", "an IPv4 address inside an IPv6 one"},
                {"64:ff9b::a9fe:a9fe", "an IPv4 address inside an IPv6 one"},
                {"64:ff9b:1::a00:1", "an IPv4 address inside an IPv6 one"},
                {"2002:a9fe:a9fe::1", "an IPv4 address inside an IPv6 one"},
                {"2001:0:a9fe:a9fe::1", "an IPv4 address inside an IPv6 one"},
        };

        for (size_t i = 0; i < ELEMENTSOF(rows); i++) {
                char text[GATE_TEXT_MAX];
                int in;
                struct resolver_ask ask = dial("plain.test", &in);
                assert_string_equal(ask.name, "plain.test");
                loop_answer(&ask, (const char *const[]){rows[i].addr, NULL});
                snprintf(text, sizeof(text), "resolves to %s (%s), which no rule lists", rows[i].addr, rows[i].class);
                expect_denied_as(in, text);
        }
}

/* The operator's own word for where a name lives: inside, too, but no service that hands out this host's credentials. */
static void the_crew_files_name_leads_inside_but_not_to_metadata(void **state) {
        static const char *const never[] = {"169.254.169.254 (metadata service)", "169.254.1.1 (link-local)",
                                            "::ffff:127.0.0.1 (an IPv4 address inside an IPv6 one)"};
        int in, out;

        for (size_t i = 0; i < ELEMENTSOF(never); i++) {
                char addr[64], text[GATE_TEXT_MAX];
                struct resolver_ask ask = dial("named.test", &in);
                assert_string_equal(ask.name, "inside.example");
                snprintf(addr, sizeof(addr), "%.*s", (int)strcspn(never[i], " "), never[i]);
                loop_answer(&ask, (const char *const[]){addr, NULL});
                snprintf(text, sizeof(text), "resolves to %s, which no rule lists", never[i]);
                expect_denied_as(in, text);
        }
        struct resolver_ask ask = dial("named.test", &in);
        loop_answer(&ask, (const char *const[]){"127.0.0.1", NULL});
        loop_until((out = accept4(server, NULL, NULL, SOCK_CLOEXEC)) >= 0);
        close(in);
        close(out);
        loop_until(loop.agent->n_conns == 0);
}

/* Nothing listens at 127.0.0.9. */
static void a_bad_address_among_others_is_never_dialled(void **state) {
        static const char *const orders[][5] = {{"169.254.169.254", "127.0.0.9", NULL},
                                                {"127.0.0.9", "169.254.169.254", NULL},
                                                {"fe80::1", "127.0.0.9", "::ffff:127.0.0.1", "169.254.169.254", NULL}};
        char peer[64];

        snprintf(peer, sizeof(peer), "127.0.0.9:%u", server_port);
        for (size_t i = 0; i < ELEMENTSOF(orders); i++) {
                int in;
                struct resolver_ask ask = dial("named.test", &in);
                loop_answer(&ask, orders[i]);
                struct gate_msg m = loop_expect(GATE_ALLOWED), end = loop_expect(GATE_CLOSED);
                assert_string_equal(m.peer, peer);
                assert_string_equal(end.peer, peer); /* the last one that was tried */
                assert_string_equal(end.text, "cannot connect: Connection refused");
                assert_int_equal(loop_end_of(in), ECONNRESET);
                close(in);
        }
        assert_int_equal(accept4(server, NULL, NULL, SOCK_CLOEXEC), -1);
}

/* One question, one check, one dial: what the name leads to later does not matter to this connection. */
static void a_name_is_asked_for_once(void **state) {
        int in, out;
        struct resolver_ask ask = dial("named.test", &in), more;

        loop_answer(&ask, (const char *const[]){"127.0.0.9", "127.0.0.1", NULL});
        loop_until((out = accept4(server, NULL, NULL, SOCK_CLOEXEC)) >= 0);
        loop_turns(10);
        assert_int_equal(recv(loop.lookups, &more, sizeof(more), MSG_DONTWAIT), -1);
        close(in);
        close(out);
        loop_until(loop.agent->n_conns == 0);
}

int loop_policy(void) {
        struct netpolicy_spec_rule rules[] = {rule_to("plain.test", 443, 0), rule_to("named.test", 443, server_port)};

        rules[0].fixed.flags = 0;
        rules[0].fixed.to_kind = 0;
        rules[0].to_host = NULL;
        rules[1].to_host = "inside.example";
        rules[1].fixed.to_kind = NETPOLICY_NAME;
        for (size_t i = 0; i < ELEMENTSOF(rules); i++)
                memset(rules[i].fixed.to_addr, 0, sizeof(rules[i].fixed.to_addr));
        return policy_of(rules, ELEMENTSOF(rules), 0, 1);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                LOOP(a_listed_name_leads_to_no_address_that_no_rule_lists),
                LOOP(the_crew_files_name_leads_inside_but_not_to_metadata),
                LOOP(a_bad_address_among_others_is_never_dialled),
                LOOP(a_name_is_asked_for_once),
        };

        signal(SIGPIPE, SIG_IGN);
        cmocka_set_message_output(CM_OUTPUT_TAP);
        return cmocka_run_group_tests(tests, NULL, NULL);
}
