/* SPDX-License-Identifier: Apache-2.0 */
/* Connections that wait for the operator: what is asked, what an answer is for, and that both are bounded. */
#include "gatelib.h"
#include "looplib.h"

#include "gateway/held.h"

#include "common/util.h"

#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <string.h>
#include <sys/socket.h>

#include <cmocka.h>

#define ASK_MS 60000u /* what the policy of gatelib.h says */

static struct gate_msg expect_ask(const char *name, uint16_t port) {
        struct gate_msg m = loop_expect(GATE_ASK);

        assert_string_equal(m.name, name);
        assert_int_equal(m.port, port);
        return m;
}

static void answer(uint32_t ask, enum gate_verdict verdict, enum gate_scope scope) {
        held_answer(loop.agent, ask, verdict, scope, "");
        loop_turns(3);
}

static void expect_denied_with(int fd, const char *text) {
        assert_string_equal(loop_expect(GATE_DENIED).text, text);
        assert_int_equal(loop_end_of(fd), ECONNRESET);
        close(fd);
}

/* It goes on: its name is looked up, and does not exist. */
static void expect_let(int fd, const char *name) {
        struct resolver_ask ask = loop_asked();

        assert_string_equal(ask.name, name);
        loop_answer(&ask, (const char *const[]){NULL});
        assert_string_equal(loop_expect(GATE_ALLOWED).text, "approved by the operator");
        assert_string_equal(loop_expect(GATE_CLOSED).text, "cannot resolve: no address");
        close(fd);
}

static void give_up(int fd) {
        close(fd);
        loop_until(loop.agent->n_conns == 0);
}

/* --- what an answer is for --- */

static void an_answer_is_for_one_port(void **state) {
        int one = loop_dial("x.test", 443), two;
        struct gate_msg m = expect_ask("x.test", 443), other;

        two = loop_dial("x.test", 444);
        other = expect_ask("x.test", 444);
        assert_int_not_equal(other.ask, m.ask);
        answer(m.ask, GATE_LET, GATE_SESSION);
        expect_let(one, "x.test");
        assert_false(loop_readable(two));
        give_up(two);
        answer(other.ask, GATE_REFUSE, GATE_SESSION);
        one = loop_dial("x.test", 445);
        expect_ask("x.test", 445);
        give_up(one);
        expect_denied_with(loop_dial("x.test", 444), "refused by the operator");
        expect_let(loop_dial("x.test", 443), "x.test");
}

/* Whoever approves a name approves no address inside: only a number says that. */
static void an_approved_name_leads_to_public_addresses_only(void **state) {
        static const char *const rows[] = {"169.254.169.254 (metadata service)",
                                           "127.0.0.1 (loopback)",
                                           "169.254.1.1 (link-local)",
                                           "10.0.0.1 (private)",
                                           "fd00::1 (private)",
                                           "::ffff:127.0.0.1 (an IPv4 address inside an IPv6 one)",
                                           "64:ff9b::a9fe:a9fe (an IPv4 address inside an IPv6 one)"};
        int fd = loop_dial("x.test", 443);

        answer(expect_ask("x.test", 443).ask, GATE_LET, GATE_SESSION);
        for (size_t i = 0; i < ELEMENTSOF(rows); i++) {
                struct resolver_ask ask = loop_asked();
                char addr[64], text[GATE_TEXT_MAX];
                snprintf(addr, sizeof(addr), "%.*s", (int)strcspn(rows[i], " "), rows[i]);
                loop_answer(&ask, (const char *const[]){addr, NULL});
                snprintf(text, sizeof(text), "resolves to %s, which no rule lists", rows[i]);
                expect_denied_with(fd, text);
                fd = loop_dial("x.test", 443);
        }
        expect_let(fd, "x.test");
}

static void once_is_for_those_that_wait(void **state) {
        int fd = loop_dial("x.test", 443);

        answer(expect_ask("x.test", 443).ask, GATE_LET, GATE_ONCE);
        expect_let(fd, "x.test");
        fd = loop_dial("x.test", 443);
        expect_ask("x.test", 443);
        give_up(fd);
}

/* Agents have time-outs of their own, often shorter than an operator needs. */
static void once_is_for_the_next_one_when_nobody_waits_any_more(void **state) {
        int fd = loop_dial("x.test", 443);
        struct gate_msg m = expect_ask("x.test", 443);

        give_up(fd);
        answer(m.ask, GATE_LET, GATE_ONCE);
        expect_let(loop_dial("x.test", 443), "x.test");
        fd = loop_dial("x.test", 443);
        m = expect_ask("x.test", 443); /* that was the once */
        give_up(fd);
        answer(m.ask, GATE_LET, GATE_ONCE);
        loop_pass(ASK_MS + 1000);
        fd = loop_dial("x.test", 443);
        m = expect_ask("x.test", 443); /* as late as the question would have been */
        give_up(fd);
        answer(m.ask, GATE_REFUSE, GATE_ONCE);
        fd = loop_dial("x.test", 443);
        expect_ask("x.test", 443);
        give_up(fd);
}

static void a_session_lasts(void **state) {
        int fd = loop_dial("x.test", 443);

        answer(expect_ask("x.test", 443).ask, GATE_REFUSE, GATE_SESSION);
        expect_denied_with(fd, "refused by the operator");
        loop_pass(24 * 3600000ull);
        fd = loop_dial("x.test", 443);
        assert_int_equal(loop_end_of(fd), ECONNRESET);
        close(fd);
        assert_true(loop_quiet()); /* counted with the first, and not asked about */
}

static void an_answer_to_nothing_is_nothing(void **state) {
        int fd = loop_dial("x.test", 443);
        struct gate_msg m = expect_ask("x.test", 443);

        for (uint32_t ask = 0; ask < 100; ask++) {
                if (ask != m.ask)
                        answer(ask, GATE_LET, GATE_SESSION);
        }
        assert_false(loop_readable(fd));
        answer(m.ask, GATE_REFUSE, GATE_ONCE);
        expect_denied_with(fd, "refused by the operator");
        answer(m.ask, GATE_LET, GATE_SESSION); /* decided */
        fd = loop_dial("x.test", 443);
        expect_ask("x.test", 443);
        give_up(fd);
}

/* --- giving up --- */

static void whoever_ends_its_stream_has_given_up_unless_it_has_asked(void **state) {
        static const char request[] = "GET / HTTP/1.0\r\n\r\n";
        uint8_t hello[1024];
        const struct {
                const void *bytes;
                size_t n;
                bool waits;
        } rows[] = {{"", 0, false}, {hello, client_hello("x.test", hello), false}, {request, strlen(request), true}};

        for (size_t i = 0; i < ELEMENTSOF(rows); i++) {
                int fd = loop_dial("x.test", 443);
                if (i == 0)
                        expect_ask("x.test", 443);
                say(fd, rows[i].bytes, rows[i].n);
                shutdown(fd, SHUT_WR);
                if (rows[i].waits) {
                        loop_turns(10);
                        assert_int_equal(loop.agent->n_conns, 1);
                }
                if (!rows[i].waits)
                        loop_until(loop.agent->n_conns == 0);
                close(fd);
        }
}

/* --- bounds --- */

static void an_agent_has_so_many_questions_and_no_more(void **state) {
        int fd[HELD_ASKS_MAX];
        char name[32];

        for (unsigned i = 0; i < HELD_ASKS_MAX; i++) {
                snprintf(name, sizeof(name), "n%u.test", i);
                fd[i] = loop_dial(name, 443);
                expect_ask(name, 443);
        }
        expect_denied_with(loop_dial("more.test", 443),
                           "not in allowed_endpoints, and too many wait for an answer already");
        int joined = loop_dial("n0.test", 443); /* no other question */
        assert_false(loop_readable(joined));
        close(joined);
        for (unsigned i = 0; i < HELD_ASKS_MAX; i++)
                close(fd[i]);
        loop_until(loop.agent->n_conns == 0);
}

/* What has no room is asked again: the safe side. */
static void an_agent_has_so_many_answers_and_no_more(void **state) {
        char name[32];

        for (unsigned i = 0; i <= GRANTS_MAX; i++) {
                snprintf(name, sizeof(name), "n%u.test", i);
                int fd = loop_dial(name, 443);
                answer(expect_ask(name, 443).ask, GATE_LET, GATE_SESSION);
                expect_let(fd, name);
        }
        expect_let(loop_dial("n0.test", 443), "n0.test");
        expect_let(loop_dial("n255.test", 443), "n255.test");
        int fd = loop_dial(name, 443);
        expect_ask(name, 443);
        give_up(fd);
}

static void an_instance_that_ends_takes_its_questions_with_it(void **state) {
        int fd = loop_dial("x.test", 443);
        const uint32_t ask = expect_ask("x.test", 443).ask;
        _cleanup_close_ int gate = dup(loop.gate);
        struct gate_msg m;

        loop_scene_end(state);
        assert_int_equal(recv(gate, &m, sizeof(m), MSG_DONTWAIT), sizeof(m));
        assert_int_equal(m.op, GATE_ASK_GONE);
        assert_int_equal(m.ask, ask);
        assert_string_equal(m.text, "the instance is gone");
        assert_int_equal(read_end(fd), ECONNRESET);
        close(fd);
}

int loop_policy(void) {
        const struct netpolicy_spec_rule rule = rule_to("api.test", 443, server_port);

        return policy_of(&rule, 1, NETPOLICY_ASK, 1);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                LOOP(an_answer_is_for_one_port),
                LOOP(an_approved_name_leads_to_public_addresses_only),
                LOOP(once_is_for_those_that_wait),
                LOOP(once_is_for_the_next_one_when_nobody_waits_any_more),
                LOOP(a_session_lasts),
                LOOP(an_answer_to_nothing_is_nothing),
                LOOP(whoever_ends_its_stream_has_given_up_unless_it_has_asked),
                LOOP(an_agent_has_so_many_questions_and_no_more),
                LOOP(an_agent_has_so_many_answers_and_no_more),
                cmocka_unit_test_setup(an_instance_that_ends_takes_its_questions_with_it, loop_scene),
        };

        signal(SIGPIPE, SIG_IGN);
        cmocka_set_message_output(CM_OUTPUT_TAP);
        return cmocka_run_group_tests(tests, NULL, NULL);
}
