/* SPDX-License-Identifier: Apache-2.0 */
/* What a new policy does to connections that live: whatever it would not let begin that way any more ends, the rest stays.
 */
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

#define ENDED "the policy does not allow it any more"
#define GET(path) "GET " path " HTTP/1.1\r\nHost: api.test:443\r\n\r\n"

/* The former rules in the new image's words: what stays the same is not the same memory. */
static uint32_t reload(const struct netpolicy_spec_rule *rules, uint32_t n, uint32_t flags) {
        struct crew_err err = CREW_ERR_NULL;
        int fd = policy_of(rules, n, flags, loop.agent->policy->generation + 1);
        uint32_t closed = UINT32_MAX;

        assert_int_equal(agent_reload(loop.agent, fd, &closed, &err), 0);
        close(fd);
        loop_turns(3);
        return closed;
}

static struct netpolicy_spec_rule rule(const char *name, uint32_t more_flags) {
        struct netpolicy_spec_rule r = rule_to(name, 443, server_port);

        r.fixed.flags |= more_flags;
        return r;
}

static struct netpolicy_spec_rule rule_about(const char *const *methods) {
        struct netpolicy_spec_rule r = rule("api.test", NETPOLICY_HTTP);

        r.methods = methods;
        r.n_methods = 1;
        return r;
}

static int accepted(void) {
        int fd;

        loop_until((fd = accept4(server, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK)) >= 0);
        return fd;
}

struct ends {
        int in, out;
};

/* A connection on which something was said already, unless that is "". */
static struct ends connection(const char *name, const char *first) {
        struct ends e = {.in = loop_dial(name, 443)};

        e.out = accepted();
        if (!*first)
                return loop_turns(5), e;
        say(e.in, first, strlen(first));
        assert_string_equal(loop_expect(GATE_ALLOWED).name, name);
        return e;
}

static void drop(struct ends *e) {
        close(e->in);
        close(e->out);
        loop_until(loop.agent->n_conns == 0);
        while (!loop_quiet())
                recv(loop.gate, &(struct gate_msg){0}, sizeof(struct gate_msg), MSG_DONTWAIT);
}

static void expect_ended(struct ends *e) {
        assert_string_equal(loop_expect(GATE_CLOSED).text, ENDED);
        assert_int_equal(loop_end_of(e->in), ECONNRESET);
        drop(e);
}

/* Approved for once, and dialled where the policy has a place for it. */
static struct ends approved(const char *name) {
        struct ends e = {.in = loop_dial(name, 443)};

        held_answer(loop.agent, loop_expect(GATE_ASK).ask, GATE_LET, GATE_ONCE, "");
        e.out = accepted();
        say(e.in, "x", 1);
        assert_string_equal(loop_expect(GATE_ALLOWED).text, "approved by the operator");
        return e;
}

/* --- rules that go --- */

static void a_rule_that_is_gone_ends_its_connections_also_where_the_rest_is_asked_about(void **state) {
        static const uint32_t flags[] = {0, NETPOLICY_ASK, NETPOLICY_AUDIT_ALL};
        const struct netpolicy_spec_rule rules[] = {rule("other.test", 0), rule("api.test", 0)};

        for (size_t i = 0; i < ELEMENTSOF(flags); i++) {
                reload(rules, 2, flags[i]);
                struct ends e = connection("api.test", "x");
                assert_int_equal(reload(rules, 2, flags[i]), 0);
                assert_int_equal(reload(rules, 1, flags[i]), 1);
                expect_ended(&e);
        }
}

/* It is dialled where its rule said: without one it would have gone elsewhere. */
static void a_rule_that_leads_elsewhere_ends_its_connections(void **state) {
        struct netpolicy_spec_rule moved = rule("api.test", 0);

        struct ends e = connection("api.test", "x");
        moved.fixed.to_port++;
        assert_int_equal(reload(&moved, 1, 0), 1);
        expect_ended(&e);
}

/* --- what is asked about, or only recorded --- */

static void what_was_approved_ends_when_nothing_is_asked_about_any_more(void **state) {
        static const struct {
                uint32_t flags;
                bool stays;
        } rows[] = {{NETPOLICY_ASK, true},
                    {NETPOLICY_ASK | NETPOLICY_AUDIT_ALL, true},
                    {NETPOLICY_AUDIT_ALL, false},
                    {0, false}};
        const struct netpolicy_spec_rule place = rule("new.test", NETPOLICY_PLACE);

        for (size_t i = 0; i < ELEMENTSOF(rows); i++) {
                reload(&place, 1, NETPOLICY_ASK);
                struct ends e = approved("new.test");
                assert_int_equal(reload(&place, 1, rows[i].flags), !rows[i].stays);
                if (rows[i].stays)
                        drop(&e);
                else
                        expect_ended(&e);
        }
}

static void what_was_only_recorded_ends_when_it_is_enforced(void **state) {
        static const struct {
                const char *name; /* a second denial of the same would only be counted */
                uint32_t flags;
                bool stays;
        } rows[] = {{"a.test", NETPOLICY_AUDIT_ALL, true}, {"b.test", NETPOLICY_ASK, false}, {"c.test", 0, false}};

        for (size_t i = 0; i < ELEMENTSOF(rows); i++) {
                const struct netpolicy_spec_rule place = rule(rows[i].name, NETPOLICY_PLACE);
                reload(&place, 1, NETPOLICY_AUDIT_ALL);
                struct ends e = {.in = loop_dial(rows[i].name, 443)};
                e.out = accepted();
                assert_int_equal(loop_expect(GATE_DENIED).verdict, GATE_WOULD_REFUSE);
                say(e.in, "x", 1);
                assert_int_equal(loop_expect(GATE_ALLOWED).verdict, GATE_WOULD_REFUSE);
                assert_int_equal(reload(&place, 1, rows[i].flags), !rows[i].stays);
                if (rows[i].stays)
                        drop(&e);
                else
                        expect_ended(&e);
        }
}

/* The rule is what allows it from then on, and what has to go for it to end. */
static void what_was_approved_and_is_listed_now_goes_with_its_rule(void **state) {
        const struct netpolicy_spec_rule place = rule("new.test", NETPOLICY_PLACE), listed = rule("new.test", 0);

        reload(&place, 1, NETPOLICY_ASK);
        struct ends e = approved("new.test");
        assert_int_equal(reload(&listed, 1, 0), 0);
        assert_int_equal(reload(&place, 1, NETPOLICY_ASK), 1);
        expect_ended(&e);
}

/* --- rules about requests --- */

static void a_connection_whose_requests_are_to_be_read_from_now_on_ends(void **state) {
        static const char *const get[] = {"GET"};
        const struct netpolicy_spec_rule kinds[] = {rule("api.test", 0), rule_about(get),
                                                    rule("api.test", NETPOLICY_HTTP | NETPOLICY_INSPECT)};

        for (size_t was = 0; was < ELEMENTSOF(kinds); was++) {
                for (size_t is = 0; is < ELEMENTSOF(kinds); is++) {
                        reload(&kinds[was], 1, 0);
                        struct ends e = connection("api.test", was == 0 ? "x" : "");
                        assert_int_equal(loop.agent->n_conns, 1);
                        assert_int_equal(reload(&kinds[is], 1, 0), is != was);
                        if (is != was) {
                                if (was > 0) /* dialled, and not one byte from it yet */
                                        loop_expect(GATE_ALLOWED);
                                expect_ended(&e);
                        } else {
                                drop(&e);
                        }
                }
        }
}

static void the_next_request_is_judged_by_the_new_rules(void **state) {
        static const char *const get[] = {"GET"}, *const head[] = {"HEAD"};
        const struct netpolicy_spec_rule with_get = rule_about(get), with_head = rule_about(head);
        char got[1024];

        reload(&with_get, 1, 0);
        struct ends e = connection("api.test", GET("/a"));
        assert_int_equal(loop_expect(GATE_HTTP).verdict, GATE_LET);
        loop_until(loop_readable(e.out));
        assert_in_range(read(e.out, got, sizeof(got)), 20, sizeof(got));
        say(e.out, "HTTP/1.1 204 No\r\n\r\n", 19);
        loop_until(loop_readable(e.in));
        assert_int_equal(read(e.in, got, sizeof(got)), 19);
        loop_expect(GATE_HTTP);
        assert_int_equal(reload(&with_head, 1, 0), 0);
        say(e.in, GET("/b"), strlen(GET("/b")));
        struct gate_msg m = loop_expect(GATE_HTTP);
        assert_int_equal(m.verdict, GATE_REFUSE);
        assert_int_equal(m.status, 403);
        loop_until(loop_readable(e.in));
        assert_in_range(read(e.in, got, sizeof(got)), 12, sizeof(got));
        assert_memory_equal(got, "HTTP/1.1 403", 12);
        assert_false(loop_readable(e.out));
        drop(&e);
}

/* --- limits --- */

static void new_limits_hold_at_once(void **state) {
        const struct netpolicy_spec_rule rules[] = {rule("api.test", 0)};
        struct netpolicy_spec s = spec_of(rules, 1);
        struct crew_err err = CREW_ERR_NULL;
        uint32_t closed;

        struct ends e = connection("api.test", "x");
        s.fixed.generation = 2;
        s.fixed.max_conns = 1;
        s.fixed.max_dns_per_s = 3;
        s.fixed.max_bytes_per_s = 1000;
        int fd = policy_with(&s);
        assert_int_equal(agent_reload(loop.agent, fd, &closed, &err), 0);
        close(fd);
        assert_int_equal(closed, 0);
        const int more = loop_dial("api.test", 443);
        assert_string_equal(loop_expect(GATE_DENIED).text, "limits.connections");
        assert_int_equal(loop_end_of(more), ECONNRESET);
        close(more);
        assert_int_equal(bucket_level(&loop.agent->dns, crew_now_ns()), 3);
        assert_int_equal(bucket_level(&loop.agent->bytes, crew_now_ns()), 1000);
        drop(&e);
}

int loop_policy(void) {
        const struct netpolicy_spec_rule r = rule("api.test", 0);

        return policy_of(&r, 1, 0, 1);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                LOOP(a_rule_that_is_gone_ends_its_connections_also_where_the_rest_is_asked_about),
                LOOP(a_rule_that_leads_elsewhere_ends_its_connections),
                LOOP(what_was_approved_ends_when_nothing_is_asked_about_any_more),
                LOOP(what_was_only_recorded_ends_when_it_is_enforced),
                LOOP(what_was_approved_and_is_listed_now_goes_with_its_rule),
                LOOP(a_connection_whose_requests_are_to_be_read_from_now_on_ends),
                LOOP(the_next_request_is_judged_by_the_new_rules),
                LOOP(new_limits_hold_at_once),
        };

        signal(SIGPIPE, SIG_IGN);
        cmocka_set_message_output(CM_OUTPUT_TAP);
        return cmocka_run_group_tests(tests, NULL, NULL);
}
