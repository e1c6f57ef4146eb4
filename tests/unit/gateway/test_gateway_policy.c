/* SPDX-License-Identifier: Apache-2.0 */
/* What waits for the operator, what is only recorded, and policies that change under way. */
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

static void reload(int fd) {
        world_send(&world, (struct gate_msg){.op = GATE_POLICY, .id = 7}, &fd, 1);
        close(fd);
}

static void an_unlisted_dial_is_held_and_goes_on_when_approved(void **state) {
        const struct netpolicy_spec_rule rule = rule_to("api.test", 443, server_port);
        struct netpolicy_spec spec = spec_of(&rule, 1);

        spec.fixed.flags = NETPOLICY_ASK;
        world_add(&world, &jail, 7, policy_with(&spec));
        int in = jail_dial_name(&jail, "new.test", 443);
        assert_true(in >= 0);
        struct gate_msg m = world_expect(&world, GATE_ASK);
        assert_string_equal(m.name, "new.test");
        assert_int_equal(m.port, 443);
        assert_int_equal(m.count, 1);
        int second = jail_dial(&jail, "198.19.0.1", 443);
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
        in = jail_dial(&jail, "198.19.0.1", 443);
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
        const struct netpolicy_spec_rule rule = rule_to("api.test", 443, server_port);
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

static struct netpolicy_spec_rule place_of(const char *name, uint16_t port, uint16_t to_port) {
        struct netpolicy_spec_rule r = rule_to(name, port, to_port);

        r.fixed.flags |= NETPOLICY_PLACE;
        return r;
}

static void approve(uint32_t ask) {
        world_send(&world,
                   (struct gate_msg){.op = GATE_ANSWER, .id = 7, .ask = ask, .verdict = GATE_LET, .scope = GATE_SESSION},
                   NULL, 0);
}

static void an_approved_name_is_dialled_at_its_place(void **state) {
        struct netpolicy_spec_rule rules[] = {place_of("new.test", 443, server_port),
                                              place_of("93.184.216.34", 443, server_port),
                                              place_of("metadata.google.internal", 80, server_port)};
        char addr[16], peer[64];

        rules[1].fixed.kind = NETPOLICY_ADDR4;
        memcpy(rules[1].fixed.addr, (uint8_t[]){93, 184, 216, 34}, 4);
        snprintf(peer, sizeof(peer), "127.0.0.1:%u", server_port);
        world_add(&world, &jail, 7, policy_of(rules, 3, NETPOLICY_ASK, 1));
        for (int i = 0; i < 2; i++) {
                int in = i ? jail_dial(&jail, "93.184.216.34", 443) : jail_dial_name(&jail, "new.test", 443);
                approve(world_expect(&world, GATE_ASK).ask);
                int out = host_accept(server);
                assert_true(in >= 0 && out >= 0);
                say(in, "x", 1);
                struct gate_msg m = world_expect(&world, GATE_ALLOWED);
                assert_string_equal(m.peer, peer);
                assert_string_equal(m.text, "approved by the operator");
                assert_string_equal(m.where, "role.yaml:5"); /* a place is no rule that allowed it */
                expect_bytes(out, "x");
                close(in);
                close(out);
                world_expect(&world, GATE_CLOSED);
        }
        /* Having a place makes a name neither listed nor one that can be approved. */
        assert_int_equal(jail_ask(&jail, "metadata.google.internal", 1, addr), 0);
        expect_refused(jail_dial(&jail, addr, 80));
        expect_denied("metadata.google.internal", 80, "a name of this host or of a metadata service is never approved");
        reload(policy_of(rules, 3, 0, 2));
        world_expect(&world, GATE_APPLIED);
        expect_refused(jail_dial_name(&jail, "new.test", 443));
        expect_denied("new.test", 443, "not in allowed_endpoints");
}

static void an_approved_connection_ends_when_its_place_moves(void **state) {
        const struct netpolicy_spec_rule here = place_of("new.test", 443, server_port),
                                         listed = rule_to("new.test", 443, server_port),
                                         away = place_of("new.test", 443, 1);

        world_add(&world, &jail, 7, policy_of(&here, 1, NETPOLICY_ASK, 1));
        int in = jail_dial_name(&jail, "new.test", 443);
        approve(world_expect(&world, GATE_ASK).ask);
        int out = host_accept(server);
        say(in, "x", 1);
        world_expect(&world, GATE_ALLOWED);
        expect_bytes(out, "x");
        reload(policy_of(&listed, 1, NETPOLICY_ASK, 2)); /* the same way, now by a rule */
        assert_int_equal(world_expect(&world, GATE_APPLIED).count, 0);
        close(in);
        close(out);
        world_expect(&world, GATE_CLOSED);
        reload(policy_of(&here, 1, NETPOLICY_ASK, 3));
        world_expect(&world, GATE_APPLIED);
        in = jail_dial_name(&jail, "new.test", 443); /* approved for the session */
        out = host_accept(server);
        say(in, "x", 1);
        world_expect(&world, GATE_ALLOWED);
        expect_bytes(out, "x");
        reload(policy_of(&away, 1, NETPOLICY_ASK, 4));
        world_expect(&world, GATE_CLOSED);
        assert_int_equal(world_expect(&world, GATE_APPLIED).count, 1);
        assert_int_equal(read_end(in), ECONNRESET);
        close(in);
        close(out);
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
        const struct netpolicy_spec_rule rule = rule_to("api.test", 443, server_port);
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

static void a_new_policy_closes_what_it_forbids_and_nothing_else(void **state) {
        const struct netpolicy_spec_rule both[] = {rule_to("api.test", 443, server_port),
                                                   rule_to("other.test", 443, server_port)};
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

static void what_a_name_may_is_decided_at_the_dial(void **state) {
        const struct netpolicy_spec_rule both[] = {rule_to("api.test", 443, server_port),
                                                   rule_to("other.test", 443, server_port)};
        char first[16], later[16];

        world_add(&world, &jail, 7, policy_of(both, 1, 0, 1));
        assert_int_equal(jail_ask(&jail, "other.test", 1, first), 0);
        expect_refused(jail_dial(&jail, first, 443));
        expect_denied("other.test", 443, "not in allowed_endpoints");
        reload(policy_of(both, 2, 0, 2));
        world_expect(&world, GATE_APPLIED);
        /* At the address it had, and at the one it has from now on. */
        assert_int_equal(jail_ask(&jail, "other.test", 1, later), 0);
        assert_string_equal(later, "198.18.0.1");
        for (int i = 0; i < 2; i++) {
                int in = jail_dial(&jail, i ? later : first, 443), out = host_accept(server);
                assert_true(in >= 0 && out >= 0);
                say(in, "x", 1);
                assert_string_equal(world_expect(&world, GATE_ALLOWED).name, "other.test");
                expect_bytes(out, "x");
                close(in);
                close(out);
                world_expect(&world, GATE_CLOSED);
        }
        reload(policy_of(both, 1, 0, 3));
        world_expect(&world, GATE_APPLIED);
        for (int i = 0; i < 2; i++) {
                expect_refused(jail_dial(&jail, i ? later : first, 443));
                expect_denied("other.test", 443, "not in allowed_endpoints");
        }
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
        const struct netpolicy_spec_rule both[] = {rule_to("api.test", 443, server_port),
                                                   rule_to("other.test", 443, server_port)};

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

int main(int argc, char **argv) {
        const struct CMUnitTest tests[] = {
                SCENE(an_unlisted_dial_is_held_and_goes_on_when_approved),
                SCENE(an_approved_address_is_dialled_and_a_refused_one_reset),
                SCENE(an_approved_name_is_dialled_at_its_place),
                SCENE(an_approved_connection_ends_when_its_place_moves),
                SCENE(what_can_never_be_approved_is_not_asked),
                SCENE(an_ask_expires),
                SCENE(audit_lets_unlisted_names_through_and_says_so),
                SCENE(a_new_policy_closes_what_it_forbids_and_nothing_else),
                SCENE(what_a_name_may_is_decided_at_the_dial),
                SCENE(a_policy_that_is_old_or_broken_is_rejected_and_the_former_stays),
                SCENE(a_reload_answers_those_that_wait),
        };

        return scene_main(argc, argv, tests, sizeof(tests) / sizeof(tests[0]));
}
