/* SPDX-License-Identifier: Apache-2.0 */
/* What a jail's name server answers, and what is told of it. */
#include "gatelib.h"
#include "looplib.h"

#include "gateway/dns.h"

#include "common/util.h"

#include <arpa/inet.h>
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <sys/socket.h>

#include <cmocka.h>

enum {
        A = 1,
        NS = 2,
        CNAME = 5,
        SOA = 6,
        PTR = 12,
        MX = 15,
        TXT = 16,
        AAAA = 28,
        SRV = 33,
        SVCB = 64,
        HTTPS = 65,
        AXFR = 252,
        ANY = 255
};

struct reply {
        unsigned rcode, answers;
        char addr[INET_ADDRSTRLEN]; /* of the one record */
};

static struct reply reply(void) {
        uint8_t a[1024];
        struct reply r = {0};

        loop_until(loop_readable(loop.dns));
        const ssize_t n = recv(loop.dns, a, sizeof(a), 0);
        assert_in_range(n, 12, DNS_MESSAGE_MAX);
        assert_true(a[2] & 0x80);
        assert_memory_equal(a + 8, "\0\0\0\0", 4); /* no other sections */
        r.rcode = a[3] & 15;
        r.answers = (unsigned)a[6] << 8 | a[7];
        assert_in_range(r.answers, 0, 1);
        if (r.answers)
                inet_ntop(AF_INET, a + n - 4, r.addr, sizeof(r.addr));
        return r;
}

/* Labels are separated by dots; "\." is a dot within one. */
static size_t put_question(uint8_t *q, const char *name, unsigned type, unsigned class) {
        static const uint8_t head[12] = {0x12, 0x34, 1, 0, 0, 1};
        size_t n = 13, label = 12;

        memcpy(q, head, 12);
        q[12] = 0;
        for (; *name; name++) {
                if (*name == '.') {
                        label = n;
                        q[n++] = 0;
                        continue;
                }
                name += *name == '\\';
                q[n++] = (uint8_t)*name;
                q[label]++;
        }
        if (q[label])
                q[n++] = 0;
        memcpy(q + n, (uint8_t[]){(uint8_t)(type >> 8), (uint8_t)type, (uint8_t)(class >> 8), (uint8_t) class}, 4);
        return n + 4;
}

static struct reply ask_class(const char *name, unsigned type, unsigned class) {
        uint8_t q[600];
        const size_t n = put_question(q, name, type, class);

        assert_int_equal(send(loop.dns, q, n, 0), n);
        return reply();
}

static struct reply ask(const char *name, unsigned type) {
        return ask_class(name, type, 1);
}

static void expect_denied_name(const char *name, const char *text) {
        struct gate_msg m = loop_expect(GATE_DENIED);

        assert_string_equal(m.name, name);
        assert_string_equal(m.text, text);
        assert_int_equal(m.proto, GATE_DNS);
        assert_int_equal(m.port, 0);
}

static void a_listed_name_has_one_address_however_it_is_written(void **state) {
        static const char *const spelt[] = {"api.test", "API.TEST", "Api.Test.", "a.wild.test", "A.WILD.test"};
        struct reply first = ask(spelt[0], A);

        assert_int_equal(first.rcode, 0);
        assert_int_equal(first.answers, 1);
        for (size_t i = 0; i < ELEMENTSOF(spelt); i++) {
                struct reply r = ask(spelt[i], i % 2 ? ANY : A);
                assert_int_equal(r.answers, 1);
                assert_int_equal(strcmp(r.addr, first.addr) == 0, i < 3);
                assert_memory_equal(r.addr, "198.18.", 7);
        }
        assert_true(loop_quiet());
}

/* Neither another server nor another port nor the keys of an Encrypted Client Hello: records that lead elsewhere. */
static void a_listed_name_has_no_record_of_any_other_type(void **state) {
        for (unsigned type = 0; type < 300; type++) {
                struct reply r = ask("api.test", type);
                assert_int_equal(r.rcode, 0);
                assert_int_equal(r.answers, type == A || type == ANY);
        }
        assert_true(loop_quiet());
}

static void names_that_only_look_listed_are_not(void **state) {
        static const char *const names[] = {"api\\.test",      "apiXtest",        "api.test.evil",   "x.api.test",
                                            "api.tes",         "wild.test",       "a.b.wild.test",   "\\..wild.test",
                                            "a\\.b.wild.test", "*.wild.test",     "-.wild.test",     "api .test",
                                            "api\\\\.test",    "xn--pi-xka.test", "\xd0\xb0pi.test", "\xef\xbd\x81pi.test"};

        for (size_t i = 0; i < ELEMENTSOF(names); i++) {
                struct reply r = ask(names[i], A);
                if (r.answers)
                        assert_memory_equal(r.addr, "198.19.", 7); /* of a name that no rule lists */
                else
                        assert_int_equal(r.rcode, DNS_RCODE_REFUSED);
        }
}

static void a_name_that_is_an_address_has_none(void **state) {
        static const char *const names[] = {"127.0.0.1", "2130706433", "0x7f.1", "0x7f000001", "0177.0.0.1", "127.1",
                                            "1.0x",      "0x",         "a.1",    "a.0xff",     "a.0X1f"};

        for (size_t i = 0; i < ELEMENTSOF(names); i++) {
                struct reply r = ask(names[i], A);
                assert_int_equal(r.rcode, DNS_RCODE_REFUSED);
                assert_int_equal(r.answers, 0);
                assert_string_equal(loop_expect(GATE_DENIED).text, "not in allowed_endpoints");
        }
}

static void other_classes_are_refused(void **state) {
        static const unsigned classes[] = {0, 2, 3, 4, 254, 255, 257};

        for (size_t i = 0; i < ELEMENTSOF(classes); i++) {
                assert_int_equal(ask_class("api.test", A, classes[i]).rcode, DNS_RCODE_REFUSED);
                if (i == 0)
                        expect_denied_name("api.test", "not in allowed_endpoints");
        }
        assert_true(loop_quiet()); /* the others are counted with it */
}

static void of_an_unlisted_name_only_addresses_are_answered(void **state) {
        static const unsigned others[] = {NS, CNAME, SOA, PTR, MX, TXT, SRV, SVCB, HTTPS, AXFR, ANY, 0, 65535};

        for (size_t i = 0; i < ELEMENTSOF(others); i++) {
                char name[32];
                snprintf(name, sizeof(name), "n%zu.evil.test", i);
                assert_int_equal(ask(name, others[i]).rcode, DNS_RCODE_REFUSED);
                expect_denied_name(name, "not in allowed_endpoints");
        }
        struct reply r = ask("evil.test", AAAA);
        assert_int_equal(r.rcode, 0);
        assert_int_equal(r.answers, 0);
        r = ask("evil.test", A);
        assert_int_equal(r.answers, 1);
        assert_memory_equal(r.addr, "198.19.", 7);
        loop_pass(1900);
        assert_true(loop_quiet());
        loop_pass(300); /* and was not dialled */
        expect_denied_name("evil.test", "not in allowed_endpoints; looked up, not dialled");
        /* What is dialled is told with its port instead. */
        r = ask("other.test", A);
        const int fd = loop_dial(r.addr, 8080);
        struct gate_msg m = loop_expect(GATE_DENIED);
        assert_string_equal(m.name, "other.test");
        assert_int_equal(m.port, 8080);
        assert_int_equal(m.proto, GATE_TCP);
        assert_int_equal(loop_end_of(fd), ECONNRESET);
        loop_pass(3000);
        assert_true(loop_quiet());
        close(fd);
}

static void what_is_no_plain_question_gets_its_head_back(void **state) {
        uint8_t q[600] = {0};
        size_t n = put_question(q, "api.test", A, 1);

        q[5] = 2;
        send(loop.dns, q, n, 0);
        assert_int_equal(reply().rcode, DNS_RCODE_FORMERR);
        expect_denied_name("(malformed query)", "not a plain question");
        q[5] = 1;
        send(loop.dns, q, DNS_MESSAGE_MAX + 1, 0);
        assert_int_equal(reply().rcode, DNS_RCODE_FORMERR);
        send(loop.dns, q, DNS_MESSAGE_MAX, 0); /* EDNS and padding, as far as anybody cares */
        assert_int_equal(reply().answers, 1);
        q[2] |= 0x80; /* an answer; answering those would go on for ever */
        send(loop.dns, q, n, 0);
        send(loop.dns, q, 11, 0);
        send(loop.dns, q, 0, 0);
        q[2] = 0;
        q[1] = 0x35;
        send(loop.dns, q, n, 0);
        assert_int_equal(reply().answers, 1); /* of the last one, and it is the only */
        assert_false(loop_readable(loop.dns));
}

static void questions_beyond_the_limit_are_refused_until_a_second_has_passed(void **state) {
        for (int i = 0; i < 300; i++) /* as many as the others of this program's tests need at once */
                assert_int_equal(ask("api.test", A).answers, 1);
        struct reply r = ask("api.test", A);
        assert_int_equal(r.rcode, DNS_RCODE_REFUSED);
        assert_int_equal(r.answers, 0);
        expect_denied_name("api.test", "limits.dns");
        assert_int_equal(ask("evil.test", TXT).rcode, DNS_RCODE_REFUSED);
        expect_denied_name("evil.test", "limits.dns");
        loop_pass(100); /* a tenth of them */
        for (int i = 0; i < 30; i++)
                assert_int_equal(ask("api.test", A).answers, 1);
        assert_int_equal(ask("api.test", A).rcode, DNS_RCODE_REFUSED);
}

/* --- connections --- */

static void expect_reset(int fd, const char *name, const char *text) {
        struct gate_msg m = loop_expect(GATE_DENIED);

        assert_string_equal(m.name, name);
        assert_string_equal(m.text, text);
        assert_int_equal(loop_end_of(fd), ECONNRESET);
        close(fd);
}

static void addresses_that_no_rule_lists_are_refused_in_any_form(void **state) {
        static const struct {
                const char *dial, *name;
        } rows[] = {
                {"127.0.0.1", "127.0.0.1"},
                {"192.0.2.2", "192.0.2.2"},
                {"::1", "::1"},
                {"2001:db8::2", "2001:db8::2"},
                {"64:ff9b::c000:201", "64:ff9b::c000:201"},
                {"2002:c000:201::1", "2002:c000:201::1"},
                {"198.18.0.77", "198.18.0.77"},
                {"198.19.0.77", "198.19.0.77"},
                {"0.0.0.0", "0.0.0.0"},
        };

        for (size_t i = 0; i < ELEMENTSOF(rows); i++)
                expect_reset(loop_dial(rows[i].dial, 443), rows[i].name, "not in allowed_endpoints");
        expect_reset(loop_dial("192.0.2.1", 444), "192.0.2.1", "not in allowed_endpoints"); /* another port */
        expect_reset(loop_dial("api.test", 444), "api.test", "not in allowed_endpoints");
}

/* Its name is in no SNI and no Host: neither is looked at, and neither is missed. */
static void a_rule_by_address_has_no_name_to_compare(void **state) {
        static const char request[] = "GET / HTTP/1.1\r\nHost: whoever.test\r\n\r\n";
        uint8_t first[3][1024], got[1024];
        const size_t n[] = {client_hello(NULL, first[0]), client_hello("whoever.test", first[1]), strlen(request)};

        memcpy(first[2], request, n[2]);
        for (size_t i = 0; i < ELEMENTSOF(n); i++) {
                int in = loop_dial("192.0.2.1", 443), out;
                loop_until((out = accept4(server, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK)) >= 0);
                say(in, first[i], n[i]);
                assert_string_equal(loop_expect(GATE_ALLOWED).name, "192.0.2.1");
                loop_until(loop_readable(out));
                assert_int_equal(read_n(out, got, n[i]), n[i]);
                assert_memory_equal(got, first[i], n[i]);
                close(in);
                close(out);
                assert_int_equal(loop_expect(GATE_CLOSED).up, n[i]);
        }
}

int loop_policy(void) {
        struct netpolicy_spec_rule rules[] = {rule_to("api.test", 443, server_port),
                                              rule_to("*.wild.test", 443, server_port),
                                              rule_to("192.0.2.1", 443, server_port)};
        struct netpolicy_spec s = spec_of(rules, ELEMENTSOF(rules));

        rules[2].fixed.kind = NETPOLICY_ADDR4;
        memcpy(rules[2].fixed.addr, (uint8_t[]){192, 0, 2, 1}, 4);
        s.fixed.max_dns_per_s = 300;
        return policy_with(&s);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                LOOP(a_listed_name_has_one_address_however_it_is_written),
                LOOP(a_listed_name_has_no_record_of_any_other_type),
                LOOP(names_that_only_look_listed_are_not),
                LOOP(a_name_that_is_an_address_has_none),
                LOOP(other_classes_are_refused),
                LOOP(of_an_unlisted_name_only_addresses_are_answered),
                LOOP(what_is_no_plain_question_gets_its_head_back),
                LOOP(questions_beyond_the_limit_are_refused_until_a_second_has_passed),
                LOOP(addresses_that_no_rule_lists_are_refused_in_any_form),
                LOOP(a_rule_by_address_has_no_name_to_compare),
        };

        cmocka_set_message_output(CM_OUTPUT_TAP);
        return cmocka_run_group_tests(tests, NULL, NULL);
}
