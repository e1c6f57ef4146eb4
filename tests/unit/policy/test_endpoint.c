/* SPDX-License-Identifier: Apache-2.0 */
/* One text, one destination: every spelling that could mean another host is refused. */
#include "support.h"

#include "common/util.h"
#include "supervisor/policy/endpoint.h"

#include <string.h>

static void good_endpoints_have_one_form(void **state) {
        static const struct {
                const char *text, *host;
                uint16_t port;
                bool literal, wildcard;
        } rows[] = {
                {"api.example.com:443", "api.example.com", 443, false, false},
                {"API.Example.COM:443", "api.example.com", 443, false, false},
                {"*.example.com:8443", "*.example.com", 8443, false, true},
                {"db:5432", "db", 5432, false, false},
                {"xn--bcher-kva.example:443", "xn--bcher-kva.example", 443, false, false},
                {"1.example.com:65535", "1.example.com", 65535, false, false},
                {"10.0.0.1:1", "10.0.0.1", 1, true, false},
                {"127.0.0.1:18443", "127.0.0.1", 18443, true, false},
                {"[2001:DB8:0:0::1]:443", "2001:db8::1", 443, true, false},
                {"[::1]:443", "::1", 443, true, false},
        };

        for (size_t i = 0; i < ELEMENTSOF(rows); i++) {
                struct endpoint_text e;
                const char *why = "", *hint = "";
                if (endpoint_parse(rows[i].text, &e, &why, &hint) != 0)
                        fail_msg("%s: %s", rows[i].text, why);
                assert_string_equal(e.host, rows[i].host);
                assert_int_equal(e.port, rows[i].port);
                assert_int_equal(e.literal, rows[i].literal);
                assert_int_equal(e.wildcard, rows[i].wildcard);
        }
}

static void bad_endpoints_say_why(void **state) {
        static const struct {
                const char *text, *why;
        } rows[] = {
                {"*", "'*' alone would allow every host"},
                {"*:443", "'*' alone would allow every host"},
                {"api.example.com", "the port is missing"},
                {"api.example.com:", "the port is missing"},
                {"[2001:db8::1]", "the port is missing"},
                {"", "the port is missing"},
                {":443", "the host is missing"},
                {"api.example.com:0", "the port must be 1 to 65535"},
                {"api.example.com:65536", "the port must be 1 to 65535"},
                {"api.example.com:99999999999999999999", "the port must be 1 to 65535"},
                {"api.example.com:https", "the port must be a number"},
                {"api.example.com:+443", "the port must be a number"},
                {"api.example.com: 443", "the port must be a number"},
                {"0.0.0.0:443", "0.0.0.0 is every address"},
                {"0.1.2.3:443", "0.0.0.0 is every address"},
                {"[::]:443", ":: is every address"},
                {"255.255.255.255:443", "multicast, broadcast or reserved"},
                {"224.0.0.1:443", "multicast, broadcast or reserved"},
                {"[ff02::1]:443", "multicast, broadcast or reserved"},
                {"[::ffff:169.254.169.254]:80", "an IPv4 address in IPv6 clothes"},
                {"[::169.254.169.254]:80", "an IPv4 address in IPv6 clothes"},
                {"2001:db8::1:443", "an IPv6 address stands in brackets"},
                {"[1.2.3.4]:443", "brackets are for IPv6 addresses"},
                {"[fe80::1%eth0]:443", "brackets are for IPv6 addresses"},
                {"2130706433:80", "an address in a form that is read in several ways"},
                {"0x7f.1:80", "an address in a form that is read in several ways"},
                {"127.1:80", "an address in a form that is read in several ways"},
                {"0177.0.0.01:80", "an address in a form that is read in several ways"},
                {"1.2.3.4.5:80", "an address in a form that is read in several ways"},
                {"example.0x10:80", "an address in a form that is read in several ways"},
                {"api.example.com.:443", "a trailing dot is not accepted"},
                {"api..example.com:443", "not a host name"},
                {"-a.example.com:443", "not a host name"},
                {"a_b.example.com:443", "not a host name"},
                {"a b.example.com:443", "not a host name"},
                {"b\xc3\xbc"
                 "cher.example:443",
                 "a host name in ASCII"},
                {"*.com:443", "a wildcard over a whole top-level domain"},
                {"a.*.example.com:443", "'*' stands for the whole first label only"},
                {"*a.example.com:443", "'*' stands for the whole first label only"},
                {"*.*.example.com:443", "'*' stands for the whole first label only"},
                {"https://api.example.com:443", "a host and a port are expected, not a URL"},
                {"api.example.com:443/v1", "a host and a port are expected, not a URL"},
                {"user@api.example.com:443", "a user name is not accepted"},
        };

        for (size_t i = 0; i < ELEMENTSOF(rows); i++) {
                struct endpoint_text e;
                const char *why = "", *hint = "";
                assert_int_equal(endpoint_parse(rows[i].text, &e, &why, &hint), -EINVAL);
                if (!strstr(why, rows[i].why))
                        fail_msg("'%s': got '%s', expected '%s'", rows[i].text, why, rows[i].why);
        }
}

static void long_names_are_refused(void **state) {
        char text[600];
        struct endpoint_text e;
        const char *why, *hint;

        memset(text, 'a', sizeof(text));
        strcpy(text + 64, ".com:443");
        assert_int_equal(endpoint_parse(text, &e, &why, &hint), -EINVAL);
        assert_string_equal(why, "not a host name");
        for (size_t i = 0; i < 500; i++)
                text[i] = i % 2 ? '.' : 'a';
        strcpy(text + 499, ":443");
        assert_int_equal(endpoint_parse(text, &e, &why, &hint), -EINVAL);
        assert_string_equal(why, "the host name is longer than 253 characters");
}

static void a_policy_shows_the_reason_and_the_place(void **state) {
        expect_error(role("  network:\n    allowed_endpoints:\n      - \"a.example.com:443\"\n      - \"*\"\n"), 7, 9,
                     "endpoint '*': '*' alone would allow every host", "name the hosts");
        expect_error(role("  network: {allowed_endpoints: [{host: a.example.com}]}\n"), 4, 33,
                     "missing key 'port' in an endpoint", "");
        expect_error(role("  network: {allowed_endpoints: [{host: a.example.com, port: 0}]}\n"), 4, 61,
                     "'port': 0 is out of range", "");
        expect_error(role("  network: {allowed_endpoints: [{host: \"a:1\", port: 1}]}\n"), 4, 33, "not a host name", "");
        expect_error(role("  network: {allowed_endpoints: [[a]]}\n"), 4, 33, "expected \"host:port\", got a list", "");
        expect_error(role("  network: {allowed_endpoints: a.example.com:443}\n"), 4, 0, "expected a list of \"host:port\"",
                     "");
        expect_warning(role("  network: {allowed_endpoints: [\"169.254.169.254:80\"]}\n"), 4, 33,
                       "the cloud metadata service", "");
        expect_warning(role("  network: {allowed_endpoints: [\"localhost:80\"]}\n"), 4, 33, "loopback is the jail's own",
                       "");
        expect_warning(role("  network: {allowed_endpoints: [\"127.8.0.1:80\"]}\n"), 4, 33, "loopback is the jail's own",
                       "");
        expect_warning(role("  network: {allowed_endpoints: [\"[::1]:80\"]}\n"), 4, 33, "loopback is the jail's own", "");
}

static void a_wildcard_is_exactly_one_label(void **state) {
        struct policy_endpoint rule = {.host = "*.example.com", .port = 443, .wildcard = true};
        static const struct {
                const char *to;
                bool match;
        } rows[] = {{"a.example.com:443", true},  {"example.com:443", false},  {"a.b.example.com:443", false},
                    {"a.example.com:444", false}, {"aexample.com:443", false}, {"a.example.com.evil.org:443", false},
                    {"*.example.com:443", false}};

        for (size_t i = 0; i < ELEMENTSOF(rows); i++) {
                struct endpoint_text e;
                const char *why, *hint;
                assert_int_equal(endpoint_parse(rows[i].to, &e, &why, &hint), 0);
                assert_int_equal(endpoint_matches(&rule, &e), rows[i].match);
        }
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(good_endpoints_have_one_form),
                cmocka_unit_test(bad_endpoints_say_why),
                cmocka_unit_test(long_names_are_refused),
                cmocka_unit_test(a_policy_shows_the_reason_and_the_place),
                cmocka_unit_test(a_wildcard_is_exactly_one_label),
        };

        cmocka_set_message_output(CM_OUTPUT_TAP);
        return cmocka_run_group_tests(tests, NULL, NULL);
}
