/* SPDX-License-Identifier: Apache-2.0 */
/* The network section: what it means in the image, what each wrong or doubtful line is answered with, and presets. */
#include "support.h"

#include "common/util.h"

#include <string.h>
#include <sys/stat.h>

static struct scratch s;

static int setup(void **state) {
        scratch_init(&s);
        setenv("CREWD_HOME", s.dir, 1);
        scratch_file(&s, "etc/presets/two.yaml",
                     "preset: two\ndescription: Two hosts\nendpoints:\n  - \"one.example.com:443\"\n"
                     "  - {host: two.example.com, port: 443, tls: inspect, methods: [GET]}\n");
        scratch_file(&s, "etc/presets/other.yaml",
                     "preset: other\ndescription: Overlaps\nendpoints: [\"one.example.com:443\", \"x.example.com:1\"]\n");
        /* the operator's own comes before the one of the installation */
        scratch_file(&s, "etc/presets/pypi.yaml",
                     "preset: pypi\ndescription: A mirror\nendpoints: [\"mirror.example.com:443\"]\n");
        scratch_file(&s, "etc/presets/bad.yaml", "preset: bad\ndescription: Bad\nendpoints: [\"*:443\"]\n");
        scratch_file(&s, "etc/presets/misnamed.yaml", "preset: x\ndescription: Bad\nendpoints: [\"a.example.com:443\"]\n");
        scratch_file(&s, "etc/presets/empty.yaml", "preset: empty\ndescription: Bad\nendpoints: []\n");
        scratch_file(&s, "etc/presets/keys.yaml", "preset: keys\ndescription: Bad\nendpoint: []\n");
        scratch_file(&s, "etc/presets/twice.yaml",
                     "preset: twice\ndescription: Bad\nendpoints: [\"a.example.com:1\"]\n---\npreset: twice\n");
        scratch_file(&s, "etc/presets/nothing.yaml", "");
        return 0;
}

static int teardown(void **state) {
        scratch_fini(&s);
        return 0;
}

/* A role whose endpoints are one list; line 4. */
static const char *endpoints(const char *items) {
        static char body[2048];

        snprintf(body, sizeof(body), "  network: {allowed_endpoints: [%s]}\n", items);
        return role(body);
}

/* --- what it means --- */

static void an_endpoint_carries_all_that_was_written(void **state) {
        struct loaded l;

        load_text(&l,
                  role("  network:\n    allowed_endpoints:\n      - {host: API.example.com, port: 443, tls: inspect, "
                       "methods: "
                       "[GET, HEAD],\n         paths: [\"/v1/**\", /health], credential: market-key, enforcement: audit}\n"
                       "      - {host: plain.example.com, port: 80, paths: [/x]}\n"
                       "      - {host: db.example.com, port: 5432, tls: passthrough, enforcement: enforce}\n"),
                  NULL);
        assert_int_equal(l.r, 0);
        assert_int_equal(policy_n_endpoints(l.image), 3);
        struct policy_endpoint e = policy_endpoint_at(l.image, 0);
        assert_string_equal(e.host, "api.example.com");
        assert_true(e.inspect && e.audit && policy_endpoint_is_http(&e));
        assert_string_equal(e.credential, "market-key");
        assert_int_equal(e.n_methods, 2);
        assert_string_equal(policy_endpoint_method(l.image, 0, 1), "HEAD");
        assert_int_equal(e.n_paths, 2);
        assert_string_equal(policy_endpoint_path(l.image, 0, 0), "/v1/**");
        assert_string_equal(e.file, "role.yaml");
        assert_int_equal(e.mark.line, 6);
        assert_int_equal(e.listed.line, 6);
        assert_null(e.preset);
        e = policy_endpoint_at(l.image, 1);
        assert_true(policy_endpoint_is_http(&e) && !e.inspect && !e.audit && !e.credential);
        assert_string_equal(policy_endpoint_path(l.image, 1, 0), "/x");
        e = policy_endpoint_at(l.image, 2);
        assert_false(policy_endpoint_is_http(&e));
        loaded_fini(&l);
}

static void the_section_and_limits_are_carried(void **state) {
        struct loaded l;

        load_text(&l,
                  role("  network: {on_unlisted: ask, ask_timeout: 90s}\n"
                       "  limits: {connections: 5, half_open: 2, bandwidth: 10MiB, dns: 7, messages: 9}\n"),
                  NULL);
        assert_int_equal(l.r, 0);
        assert_int_equal(l.report.warnings, 0);
        struct policy_network net = policy_network_of(l.image);
        assert_true(net.ask && !net.audit);
        assert_int_equal(net.ask_s, 90);
        assert_int_equal(policy_network_mark(l.image).line, 4);
        assert_false(policy_network_denied(l.image)); /* the operator may be asked */
        struct policy_limits m = policy_limits_of(l.image);
        assert_int_equal(m.connections, 5);
        assert_int_equal(m.half_open, 2);
        assert_int_equal(m.bandwidth, 10u << 20);
        assert_int_equal(m.dns_per_s, 7);
        assert_int_equal(m.messages_per_s, 9);
        loaded_fini(&l);
        load_text(&l, role("  network: {}\n  limits: {bandwidth: none}\n"), NULL);
        net = policy_network_of(l.image);
        assert_false(net.ask || net.audit);
        assert_int_equal(net.ask_s, 60);
        assert_true(policy_network_denied(l.image));
        loaded_fini(&l);
        load_text(&l, role(""), NULL);
        assert_int_equal(policy_network_mark(l.image).line, 0);
        loaded_fini(&l);
}

static void hash_of(const char *yaml, uint8_t out[32]) {
        struct loaded l;

        load_text(&l, yaml, NULL);
        assert_int_equal(l.r, 0);
        memcpy(out, policy_image_sha256(l.image), 32);
        loaded_fini(&l);
}

static void the_hash_covers_every_word(void **state) {
        static const char *const items[] = {
                "{host: a.example.com, port: 80}",
                "{host: a.example.com, port: 80, methods: [GET]}",
                "{host: a.example.com, port: 80, methods: [PUT]}",
                "{host: a.example.com, port: 80, paths: [/a]}",
                "{host: a.example.com, port: 80, tls: inspect}",
                "{host: a.example.com, port: 80, credential: k}",
                "{host: a.example.com, port: 80, paths: [/a], enforcement: audit}",
        };
        static const char *const bodies[] = {"  network: {on_unlisted: ask}\n",
                                             "  network: {on_unlisted: ask, ask_timeout: 5s}\n",
                                             "  network: {enforcement: audit}\n",
                                             "  network: {presets: [two]}\n",
                                             "  network: {presets: [other]}\n",
                                             "  limits: {bandwidth: 1MiB}\n",
                                             "  limits: {dns: 1}\n",
                                             "  limits: {half_open: 1}\n",
                                             ""};
        uint8_t sums[ELEMENTSOF(items) + ELEMENTSOF(bodies)][32];
        size_t n = 0;

        for (size_t i = 0; i < ELEMENTSOF(items); i++)
                hash_of(endpoints(items[i]), sums[n++]);
        for (size_t i = 0; i < ELEMENTSOF(bodies); i++)
                hash_of(role(bodies[i]), sums[n++]);
        for (size_t i = 0; i < n; i++)
                for (size_t k = 0; k < i; k++)
                        assert_memory_not_equal(sums[i], sums[k], 32);
        hash_of(role("  network: {presets: [two]}\n"), sums[0]);
        scratch_file(&s, "etc/presets/two.yaml",
                     "preset: two\ndescription: Two hosts\nendpoints:\n  - \"one.example.com:443\"\n"
                     "  - {host: two.example.com, port: 443, tls: inspect, methods: [PUT]}\n");
        hash_of(role("  network: {presets: [two]}\n"), sums[1]);
        assert_memory_not_equal(sums[0], sums[1], 32); /* a preset's text is part of the policy */
        teardown(NULL);                                /* which changed it */
        setup(NULL);
}

/* --- what is wrong --- */

struct row {
        const char *body;
        int line, column;
        const char *text, *hint;
};

static void wrong_keys_of_an_endpoint_are_errors(void **state) {
        static const struct row rows[] = {
                {"{host: a.example.com, port: 80, metods: [GET]}", 4, 65, "unknown key 'metods' in an endpoint",
                 "did you mean 'methods'?"},
                {"{host: a.example.com, port: 80, methods: GET}", 4, 74, "'methods': expected a list of methods, got 'GET'",
                 ""},
                {"{host: a.example.com, port: 80, methods: []}", 4, 74, "'methods': expected 1 to 64 entries, got 0",
                 "leave the key out to allow any"},
                {"{host: a.example.com, port: 80, paths: []}", 4, 72, "'paths': expected 1 to 64 entries, got 0", ""},
                {"{host: a.example.com, port: 80, methods: [get]}", 4, 75, "'get' is not a method",
                 "methods are written in capitals, as in GET"},
                {"{host: a.example.com, port: 80, methods: [\"G T\"]}", 4, 75, "'G T' is not a method", "as in GET"},
                {"{host: a.example.com, port: 80, methods: [\"*\"]}", 4, 75, "'*' is not a method", ""},
                {"{host: a.example.com, port: 80, methods: [[GET]]}", 4, 75, "expected a method, got a list", ""},
                {"{host: a.example.com, port: 80, methods: [CONNECT]}", 4, 75, "CONNECT would open a tunnel", ""},
                {"{host: a.example.com, port: 80, paths: [v1]}", 4, 73, "path 'v1': a path starts with '/'", "\"/v1/**\""},
                {"{host: a.example.com, port: 80, paths: [\"/a?b\"]}", 4, 73, "'?' is no wildcard here",
                 "leave the query out"},
                {"{host: a.example.com, port: 80, paths: [\"/a#b\"]}", 4, 73, "a fragment is never sent", ""},
                {"{host: a.example.com, port: 80, paths: [\"/a%20b\"]}", 4, 73, "paths are compared decoded",
                 "write the character itself"},
                {"{host: a.example.com, port: 80, paths: [\"/a/***\"]}", 4, 73, "three stars", ""},
                {"{host: a.example.com, port: 80, paths: [\"/a//b\"]}", 4, 73, "no request has '//'", ""},
                {"{host: a.example.com, port: 80, paths: [\"/a/../b\"]}", 4, 73, "no request has '//'", ""},
                {"{host: a.example.com, port: 80, paths: [\"/a\\\\b\"]}", 4, 73, "no request has '//'", ""},
                {"{host: a.example.com, port: 80, paths: [\"/a\\tb\"]}", 4, 73, "a control character", ""},
                {"{host: a.example.com, port: 80, tls: off}", 4, 70, "'tls': 'off' is not a value of it",
                 "known: inspect, passthrough"},
                {"{host: a.example.com, port: 80, credential: ../key}", 4, 77, "'credential': '../key' is not a name", ""},
                {"{host: a.example.com, port: 80, enforcement: strict}", 4, 78, "'enforcement': 'strict' is not a value",
                 "known: enforce, audit"},
        };

        for (size_t i = 0; i < ELEMENTSOF(rows); i++)
                expect_error(endpoints(rows[i].body), rows[i].line, rows[i].column, rows[i].text, rows[i].hint);
}

static void what_could_not_be_enforced_is_an_error(void **state) {
        static const struct row rows[] = {
                {"{host: a.example.com, port: 443, methods: [GET]}", 4, 75,
                 "'methods' cannot be enforced on port 443 without 'tls: inspect': requests are inside TLS",
                 "add 'tls: inspect', or leave the key out"},
                {"{host: a.example.com, port: 443, paths: [/v1]}", 4, 73, "'paths' cannot be enforced on port 443", ""},
                {"{host: a.example.com, port: 443, credential: key}", 4, 78, "'credential' cannot be enforced on port 443",
                 ""},
                {"{host: a.example.com, port: 8443, tls: passthrough, paths: [/v1]}", 4, 92,
                 "'paths' cannot be enforced with 'tls: passthrough', which leaves requests unread",
                 "write 'tls: inspect'"},
                {"{host: a.example.com, port: 443, enforcement: audit}", 4, 79,
                 "'enforcement: audit' on an endpoint without rules about requests", "it is about methods and paths"},
                {"\"a.example.com:443\", {host: a.example.com, port: 443, tls: inspect, methods: [GET]}", 4, 54,
                 "endpoint 'a.example.com:443' contradicts line 4", "one host and port has one tls"},
                {"{host: a.example.com, port: 443, tls: inspect, methods: [GET]}, \"A.example.com:443\"", 4, 97,
                 "endpoint 'a.example.com:443' contradicts line 4", ""},
                {"{host: a.example.com, port: 80, methods: [GET]}, {host: a.example.com, port: 80, tls: inspect}", 4, 82,
                 "contradicts line 4", ""},
                {"{host: a.example.com, port: 80, paths: [/a]}, {host: a.example.com, port: 80, paths: [/b], enforcement: "
                 "audit}",
                 4, 79, "contradicts line 4", ""},
        };

        for (size_t i = 0; i < ELEMENTSOF(rows); i++)
                expect_error(endpoints(rows[i].body), rows[i].line, rows[i].column, rows[i].text, rows[i].hint);
        expect_clean(endpoints("{host: a.example.com, port: 443, tls: inspect}"));
        expect_clean(endpoints("{host: a.example.com, port: 443, tls: passthrough}"));
        expect_clean(endpoints("{host: a.example.com, port: 443, tls: inspect, credential: key}"));
        expect_clean(endpoints("{host: a.example.com, port: 8080, methods: [GET]}"));
}

static void the_section_must_not_contradict_itself(void **state) {
        static const struct row rows[] = {
                {"  network:\n    deny_all: true\n    allowed_endpoints: [\"a.example.com:443\"]\n", 6, 25,
                 "allowed_endpoints beside 'deny_all: true' of line 5", "keep one of the two"},
                {"  network:\n    deny_all: true\n    presets: [two]\n", 6, 14, "presets beside 'deny_all: true' of line 5",
                 ""},
                {"  network:\n    deny_all: true\n    on_unlisted: ask\n", 6, 18,
                 "'on_unlisted: ask' beside 'deny_all: true' of line 5", ""},
                {"  network:\n    enforcement: audit\n    deny_all: true\n", 5, 18,
                 "'enforcement: audit' beside 'deny_all: true' of line 6", ""},
                {"  network:\n    enforcement: audit\n    on_unlisted: ask\n", 6, 18,
                 "'on_unlisted: ask' beside 'enforcement: audit' of line 5, which lets everything through", ""},
                {"  network: {enforcement: warn}\n", 4, 26, "'enforcement': 'warn' is not a value of it",
                 "known: enforce, audit"},
                {"  network: {on_unlisted: ask, ask_timeout: 60}\n", 4, 44, "'ask_timeout': expected a duration", ""},
                {"  network: {on_unlisted: ask, ask_timeout: 2h}\n", 4, 44,
                 "'ask_timeout': 2h is out of range, expected 1s to 1h", ""},
                {"  network: {alowed_endpoints: []}\n", 4, 13, "unknown key 'alowed_endpoints' under network",
                 "did you mean 'allowed_endpoints'?"},
                {"  limits: {dns: 0}\n", 4, 17, "'dns': 0 is out of range, expected 1 to 100000", ""},
                {"  limits: {half_open: 0}\n", 4, 23, "'half_open': 0 is out of range, expected 1 to 65535", ""},
                {"  limits: {bandwidth: 10}\n", 4, 23, "'bandwidth': 10 is out of range, expected 1KiB to 1TiB", ""},
                {"  limits: {messages: 0}\n", 4, 22, "'messages': 0 is out of range, expected 1 to 4096", ""},
                {"  limits: {bandwidth: fast}\n", 4, 23, "'bandwidth': expected a size such as 512MiB or none, got 'fast'",
                 ""},
        };

        for (size_t i = 0; i < ELEMENTSOF(rows); i++)
                expect_error(role(rows[i].body), rows[i].line, rows[i].column, rows[i].text, rows[i].hint);
}

static void what_weakens_or_surprises_is_a_warning(void **state) {
        expect_warning(role("  network: {enforcement: audit}\n"), 4, 26,
                       "'enforcement: audit': connections that are not listed are recorded and let through",
                       "remove it once the list is complete");
        expect_warning(endpoints("{host: a.example.com, port: 80, paths: [/v1], enforcement: audit}"), 4, 92,
                       "requests to 'a.example.com:80' that its rules forbid are recorded and let through", "remove it");
        expect_warning(endpoints("{host: a.example.com, port: 80, credential: key}"), 4, 77,
                       "credential 'key' is sent in the clear, over plain HTTP", "tls: inspect");
        expect_warning(endpoints("{host: a.example.com, port: 80, methods: [GTE]}"), 4, 75, "'GTE' is not a usual method",
                       "did you mean 'GET'?");
        expect_warning(role("  network: {ask_timeout: 5s}\n"), 4, 26, "'ask_timeout' has nothing to wait for",
                       "on_unlisted: ask");
        expect_warning(role("  filesystem: {read: [\"/var/lib/dpkg/\"]}\n  network: {enforcement: audit}\n"), 4, 23,
                       "can be read and every host can be reached ('enforcement: audit', line 5)", "no endpoint");
        expect_clean(role("  network: {enforcement: enforce, on_unlisted: deny}\n"));
        expect_clean(role("  network: {on_unlisted: ask}\n"));
}

static void more_endpoints_than_fit_are_refused(void **state) {
        static char yaml[65536];
        size_t n = (size_t)snprintf(yaml, sizeof(yaml), "%s", role("  network:\n    allowed_endpoints:\n"));

        for (unsigned i = 0; i < 1024; i++)
                n += (size_t)snprintf(yaml + n, sizeof(yaml) - n, "      - \"h%u.example.com:443\"\n", i);
        expect_clean(yaml);
        snprintf(yaml + n, sizeof(yaml) - n, "      - \"last.example.com:443\"\n");
        expect_error(yaml, 1030, 9, "more than 1024 endpoints", "");
}

static void one_server_may_have_several_entries(void **state) {
        struct loaded l;

        load_text(&l,
                  endpoints("{host: a.example.com, port: 80, methods: [GET]}, {host: a.example.com, port: 80, methods: "
                            "[POST], paths: [/chat]}, \"b.example.com:1\", \"b.example.com:1\""),
                  NULL);
        assert_int_equal(l.r, 0);
        assert_int_equal(policy_n_endpoints(l.image), 3);
        assert_non_null(problem_with(&l, "endpoint 'b.example.com:1' is listed twice (first on line 4)"));
        loaded_fini(&l);
}

/* --- presets --- */

static void a_preset_adds_its_endpoints(void **state) {
        struct loaded l;

        load_text(&l, role("  network:\n    presets: [two, other]\n    allowed_endpoints: [\"own.example.com:1\"]\n"),
                  NULL);
        assert_int_equal(l.r, 0);
        assert_int_equal(l.report.warnings, 0);
        assert_int_equal(policy_n_endpoints(l.image), 4); /* what two presets share is there once */
        struct policy_endpoint e = policy_endpoint_at(l.image, 0);
        assert_string_equal(e.host, "own.example.com");
        e = policy_endpoint_at(l.image, 1);
        assert_string_equal(e.host, "one.example.com");
        assert_string_equal(e.preset, "two");
        assert_string_equal(e.file, scratch_path(&s, "etc/presets/two.yaml"));
        assert_int_equal(e.mark.line, 4);
        assert_int_equal(e.listed.line, 5);
        e = policy_endpoint_at(l.image, 2);
        assert_true(e.inspect);
        assert_string_equal(policy_endpoint_method(l.image, 2, 0), "GET");
        e = policy_endpoint_at(l.image, 3);
        assert_string_equal(e.host, "x.example.com");
        loaded_fini(&l);
}

static void what_a_policy_says_itself_beats_a_preset(void **state) {
        struct loaded l;

        load_text(&l,
                  role("  network:\n    presets: [two]\n    allowed_endpoints:\n"
                       "      - {host: one.example.com, port: 443, tls: inspect, methods: [GET]}\n"),
                  NULL);
        assert_int_equal(l.r, 0);
        assert_int_equal(policy_n_endpoints(l.image), 2);
        struct policy_endpoint e = policy_endpoint_at(l.image, 0);
        assert_true(e.inspect && !e.preset);
        assert_string_equal(e.host, "one.example.com");
        loaded_fini(&l);
}

static void the_operators_preset_beats_the_installed_one(void **state) {
        struct loaded l;

        load_text(&l, role("  network: {presets: [pypi, npm]}\n"), NULL);
        assert_int_equal(l.r, 0);
        struct policy_endpoint e = policy_endpoint_at(l.image, 0);
        assert_string_equal(e.host, "mirror.example.com");
        e = policy_endpoint_at(l.image, 1);
        assert_string_equal(e.preset, "npm");
        assert_string_equal(e.host, "registry.npmjs.org");
        loaded_fini(&l);
}

static void a_wrong_preset_is_an_error_with_its_place(void **state) {
        struct loaded l;

        expect_error(role("  network: {presets: [pyi]}\n"), 4, 23, "there is no preset 'pyi'", "did you mean 'pypi'?");
        expect_error(role("  network: {presets: [../two]}\n"), 4, 23, "there is no preset '../two'", "");
        expect_error(role("  network: {presets: two}\n"), 4, 22, "'presets': expected a list of presets, got 'two'", "");
        expect_error(role("  network: {presets: [[two]]}\n"), 4, 23, "expected the name of a preset, got a list", "");
        expect_error(role("  network: {presets: [bad]}\n"), 3, 13, "endpoint '*:443': '*' alone", "");
        expect_error(role("  network: {presets: [misnamed]}\n"), 1, 9, "preset 'x' in the file of 'misnamed'", "");
        expect_error(role("  network: {presets: [empty]}\n"), 3, 12, "a preset without an endpoint", "");
        expect_error(role("  network: {presets: [keys]}\n"), 3, 1, "unknown key 'endpoint' in a preset", "'endpoints'");
        expect_error(role("  network: {presets: [twice]}\n"), 0, 0, "a preset's file holds one document", "");
        expect_error(role("  network: {presets: [nothing]}\n"), 0, 0, "a preset's file holds one document", "");
        expect_warning(role("  network: {presets: [two, two]}\n"), 4, 28, "preset 'two' is listed twice (first on line 4)",
                       "");
        load_text(&l, role("  network: {presets: [bad]}\n"), NULL);
        assert_string_equal(problem_with(&l, "alone")->file, scratch_path(&s, "etc/presets/bad.yaml"));
        loaded_fini(&l);
}

static void a_way_out_through_a_preset_is_seen(void **state) {
        expect_warning(role("  filesystem: {read: [\"/var/lib/dpkg/\"]}\n  network: {presets: [two]}\n"), 4, 23,
                       "can be read and 'one.example.com:443' (line 5) can be reached", "no endpoint");
}

/* Each that is shipped loads by itself, without a warning, and says what it is. */
static void every_shipped_preset_loads(void **state) {
        static char names[128][64];
        char description[200];

        setenv("CREWD_HOME", scratch_path(&s, "elsewhere"), 1);
        size_t n = policy_preset_names(names, ELEMENTSOF(names));
        setenv("CREWD_HOME", s.dir, 1);
        assert_true(n > 25);
        for (size_t i = 0; i < n; i++) {
                struct policy_report report = {0};
                struct policy_image *p = NULL;
                struct crew_err err = CREW_ERR_NULL;
                setenv("CREWD_HOME", scratch_path(&s, "elsewhere"), 1);
                int r = policy_preset_load(names[i], &p, description, sizeof(description), &report, &err);
                setenv("CREWD_HOME", s.dir, 1);
                if (r < 0 || report.warnings)
                        print_error("%s: %s\n", names[i], err.msg);
                assert_int_equal(r, 0);
                assert_int_equal(report.warnings, 0);
                assert_true(policy_n_endpoints(p) > 0 && policy_n_endpoints(p) <= 6);
                assert_true(strlen(description) > 5);
                assert_true(i == 0 || strcmp(names[i - 1], names[i]) < 0);
                policy_image_free(p);
                policy_report_fini(&report);
        }
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(an_endpoint_carries_all_that_was_written),
                cmocka_unit_test(the_section_and_limits_are_carried),
                cmocka_unit_test(the_hash_covers_every_word),
                cmocka_unit_test(wrong_keys_of_an_endpoint_are_errors),
                cmocka_unit_test(what_could_not_be_enforced_is_an_error),
                cmocka_unit_test(the_section_must_not_contradict_itself),
                cmocka_unit_test(what_weakens_or_surprises_is_a_warning),
                cmocka_unit_test(more_endpoints_than_fit_are_refused),
                cmocka_unit_test(one_server_may_have_several_entries),
                cmocka_unit_test(a_preset_adds_its_endpoints),
                cmocka_unit_test(what_a_policy_says_itself_beats_a_preset),
                cmocka_unit_test(the_operators_preset_beats_the_installed_one),
                cmocka_unit_test(a_wrong_preset_is_an_error_with_its_place),
                cmocka_unit_test(a_way_out_through_a_preset_is_seen),
                cmocka_unit_test(every_shipped_preset_loads),
        };

        cmocka_set_message_output(CM_OUTPUT_TAP);
        return cmocka_run_group_tests(tests, setup, teardown);
}
