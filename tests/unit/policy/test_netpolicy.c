/* SPDX-License-Identifier: Apache-2.0 */
/* What a policy and a crew file compile to for the gateway, and that it decides as `policy explain` says it does. */
#include "support.h"

#include "common/netpolicy.h"
#include "common/util.h"
#include "supervisor/policy/netpolicy_make.h"

#include <arpa/inet.h>
#include <string.h>

#define CA "-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----\n"

static struct scratch s;

static int setup(void **state) {
        scratch_init(&s);
        setenv("CREWD_HOME", s.dir, 1);
        scratch_file(&s, "certs/ca.pem", CA);
        scratch_file(
                &s, "etc/presets/two.yaml",
                "preset: two\ndescription: Two hosts\nendpoints: [\"one.example.net:443\", \"*.two.example.net:443\"]\n");
        return 0;
}

static int teardown(void **state) {
        scratch_fini(&s);
        return 0;
}

static const char network[] =
        "  network:\n"             /* 4 */
        "    on_unlisted: ask\n"   /* 5 */
        "    ask_timeout: 5s\n"    /* 6 */
        "    presets: [two]\n"     /* 7 */
        "    allowed_endpoints:\n" /* 8 */
        "      - \"*.example.com:443\"\n"
        "      - {host: api.example.com, port: 443, tls: inspect, methods: [GET, HEAD], paths: [\"/v1/**\"]}\n"
        "      - {host: api.example.com, port: 443, tls: inspect, methods: [POST], paths: [/v1/chat], "
        "credential: key}\n"
        "      - {host: plain.example.org, port: 80, methods: [GET], paths: [/a/*], enforcement: audit}\n"
        "      - {host: strict.example.org, port: 8080, paths: [/a/*]}\n"
        "      - \"203.0.113.7:5432\"\n"
        "      - \"[2001:db8::1]:443\"\n"
        "  limits: {connections: 9, half_open: 3, bandwidth: 1MiB, dns: 4}\n";

static const struct netpolicy_head *compiled(const struct policy_image *p, const struct crew_file *crew,
                                             uint32_t generation) {
        struct crew_err err = CREW_ERR_NULL;
        const struct netpolicy_head *head = NULL;
        _cleanup_close_ int fd = netpolicy_make(p, crew, generation, &err);

        if (fd < 0)
                print_error("%s\n", err.msg);
        assert_true(fd >= 0);
        assert_int_equal(netpolicy_open(fd, &head, &err), 0);
        return head;
}

static void the_head_carries_limits_and_origin(void **state) {
        struct loaded l;

        load_text(&l, role(network), NULL);
        assert_int_equal(l.r, 0);
        const struct netpolicy_head *p = compiled(l.image, NULL, 7);
        assert_int_equal(p->generation, 7);
        assert_int_equal(p->flags, NETPOLICY_ASK);
        assert_int_equal(p->ask_s, 5);
        assert_int_equal(p->max_conns, 9);
        assert_int_equal(p->max_half_open, 3);
        assert_int_equal(p->max_dns_per_s, 4);
        assert_int_equal(p->max_bytes_per_s, 1u << 20);
        assert_memory_equal(p->policy_sha256, policy_image_sha256(l.image), 32);
        assert_string_equal(netpolicy_text(p, p->where), "role.yaml:4");
        netpolicy_close(p);
        loaded_fini(&l);
}

static void every_endpoint_is_a_rule_with_its_place(void **state) {
        struct loaded l;

        load_text(&l, role(network), NULL);
        const struct netpolicy_head *p = compiled(l.image, NULL, 1);
        assert_int_equal(p->n_rules, 9);
        const struct netpolicy_rule *r = netpolicy_match_name(p, "api.example.com", 443);
        assert_string_equal(netpolicy_text(p, r->where), "role.yaml:10");
        assert_int_equal(r->flags, NETPOLICY_INSPECT | NETPOLICY_HTTP);
        assert_string_equal(netpolicy_listed(p, r->paths, 0), "/v1/**");
        r = netpolicy_match_name(p, "www.two.example.net", 443);
        assert_string_equal(netpolicy_text(p, r->host), "two.example.net");
        assert_true(strstr(netpolicy_text(p, r->where), "/etc/presets/two.yaml:3") != NULL);
        r = netpolicy_match_name(p, "plain.example.org", 80);
        assert_int_equal(r->flags, NETPOLICY_HTTP | NETPOLICY_AUDIT);
        r = netpolicy_rule_at(p, 5);
        assert_int_equal(r->kind, NETPOLICY_ADDR4);
        assert_string_equal(netpolicy_text(p, r->host), "203.0.113.7");
        assert_int_equal(netpolicy_rule_at(p, 6)->kind, NETPOLICY_ADDR6);
        netpolicy_close(p);
        loaded_fini(&l);
}

static void a_policy_without_network_is_an_image_too(void **state) {
        static const char *const bodies[] = {"", "  network: {deny_all: true}\n", "  network: {enforcement: audit}\n"};

        for (size_t i = 0; i < ELEMENTSOF(bodies); i++) {
                struct loaded l;
                load_text(&l, role(bodies[i]), NULL);
                const struct netpolicy_head *p = compiled(l.image, NULL, 1);
                assert_int_equal(p->n_rules, 0);
                assert_int_equal(p->flags, i == 2 ? NETPOLICY_AUDIT_ALL : 0);
                assert_false(netpolicy_knows_name(p, "a.example.com"));
                netpolicy_close(p);
                loaded_fini(&l);
        }
}

/* --- the crew file's endpoints --- */

static void load_with_places(struct loaded *l, const char *places) {
        char crew[2048], file[4096];

        snprintf(file, sizeof(file), "%s", role(network));
        scratch_file(&s, "x.yaml", file);
        snprintf(crew, sizeof(crew), "crew: demo\nendpoints:\n%sagents: {x: {policy: x.yaml}}\n", places);
        load_crew(l, scratch_file(&s, "crew.yaml", crew));
        if (l->r < 0)
                print_error("%s\n", l->err.msg);
        assert_int_equal(l->r, 0);
}

static void a_name_may_live_elsewhere(void **state) {
        struct loaded l;

        load_with_places(&l, "  \"api.example.com:443\": {connect_to: \"127.0.0.1:18443\", ca: certs/ca.pem}\n"
                             "  \"plain.example.org:80\": {connect_to: \"inner.example.org:8080\"}\n"
                             "  \"203.0.113.7:5432\": {connect_to: \"[::1]:15432\"}\n");
        const struct netpolicy_head *p = compiled(l.crew->agents[0].policy, l.crew, 1);
        assert_int_equal(p->n_rules, 9);
        for (uint32_t i = 1; i <= 2; i++) { /* both entries of the host */
                const struct netpolicy_rule *r = netpolicy_rule_at(p, i);
                assert_true(r->flags & NETPOLICY_TO);
                assert_int_equal(r->to_kind, NETPOLICY_ADDR4);
                assert_int_equal(r->to_port, 18443);
                assert_string_equal(netpolicy_text(p, r->to_host), "127.0.0.1");
                assert_string_equal(netpolicy_text(p, r->ca), CA);
        }
        const struct netpolicy_rule *r = netpolicy_match_name(p, "plain.example.org", 80);
        assert_int_equal(r->to_kind, NETPOLICY_NAME);
        assert_string_equal(netpolicy_text(p, r->to_host), "inner.example.org");
        assert_null(netpolicy_text(p, r->ca));
        assert_int_equal(netpolicy_rule_at(p, 5)->to_kind, NETPOLICY_ADDR6);
        netpolicy_close(p);
        loaded_fini(&l);
}

static void a_name_below_a_wildcard_may_live_elsewhere(void **state) {
        struct loaded l;

        load_with_places(&l, "  \"www.example.com:443\": {connect_to: \"127.0.0.1:1\"}\n");
        const struct netpolicy_head *p = compiled(l.crew->agents[0].policy, l.crew, 1);
        assert_int_equal(p->n_rules, 10);
        const struct netpolicy_rule *r = netpolicy_match_name(p, "www.example.com", 443);
        assert_true(r->flags & NETPOLICY_TO);
        assert_string_equal(strrchr(netpolicy_text(p, r->where), '/'), "/x.yaml:9"); /* the wildcard's */
        assert_false(netpolicy_match_name(p, "mail.example.com", 443)->flags & NETPOLICY_TO);
        netpolicy_close(p);
        loaded_fini(&l);
}

static void a_place_never_widens_the_policy(void **state) {
        struct loaded l;

        load_with_places(&l, "  \"evil.example.net:443\": {connect_to: \"127.0.0.1:1\"}\n"
                             "  \"api.example.com:80\": {connect_to: \"127.0.0.1:1\"}\n"
                             "  \"a.b.example.com:443\": {connect_to: \"127.0.0.1:1\"}\n"
                             "  \"203.0.113.8:5432\": {connect_to: \"127.0.0.1:1\"}\n");
        const struct netpolicy_head *p = compiled(l.crew->agents[0].policy, l.crew, 1);
        for (uint32_t i = 0; i < p->n_rules; i++) {
                const struct netpolicy_rule *r = netpolicy_rule_at(p, i);
                assert_int_equal((r->flags & NETPOLICY_TO) != 0, (r->flags & NETPOLICY_PLACE) != 0);
        }
        assert_false(netpolicy_knows_name(p, "evil.example.net"));
        assert_null(netpolicy_match_name(p, "evil.example.net", 443));
        assert_null(netpolicy_match_name(p, "api.example.com", 80));
        assert_null(netpolicy_match_name(p, "a.b.example.com", 443));
        netpolicy_close(p);
        loaded_fini(&l);
}

static void an_unlisted_place_is_for_policies_that_let_some_through(void **state) {
        static const struct {
                const char *network;
                bool there;
        } rows[] = {
                {"  network: {on_unlisted: ask, allowed_endpoints: [\"api.example.com:443\"]}\n", true},
                {"  network: {enforcement: audit, allowed_endpoints: [\"api.example.com:443\"]}\n", true},
                {"  network: {allowed_endpoints: [\"api.example.com:443\"]}\n", false},
        };
        for (size_t i = 0; i < ELEMENTSOF(rows); i++) {
                struct loaded l;
                scratch_file(&s, "x.yaml", role(rows[i].network));
                load_crew(&l, scratch_file(&s, "crew.yaml",
                                           "crew: demo\nendpoints:\n"
                                           "  \"news.example.net:443\": {connect_to: \"10.0.0.5:1\", ca: certs/ca.pem}\n"
                                           "  \"203.0.113.8:5432\": {connect_to: \"inner.example.org:8080\"}\n"
                                           "agents: {x: {policy: x.yaml}}\n"));
                assert_int_equal(l.r, 0);
                const struct netpolicy_head *p = compiled(l.crew->agents[0].policy, l.crew, 1);
                const struct sockaddr_in to = {
                        .sin_family = AF_INET, .sin_port = htons(5432), .sin_addr.s_addr = inet_addr("203.0.113.8")};
                const struct netpolicy_rule *name = netpolicy_place_name(p, "news.example.net", 443),
                                            *addr = netpolicy_place_addr(p, (const struct sockaddr *)&to);
                assert_int_equal(name && addr, rows[i].there);
                assert_int_equal(p->n_rules, rows[i].there ? 3 : 1);
                if (rows[i].there) {
                        assert_string_equal(netpolicy_text(p, name->to_host), "10.0.0.5");
                        assert_null(netpolicy_text(p, name->ca));
                        assert_string_equal(strrchr(netpolicy_text(p, name->where), '/'), "/crew.yaml:3");
                        assert_string_equal(netpolicy_text(p, addr->to_host), "inner.example.org");
                }
                assert_null(netpolicy_place_name(p, "api.example.com", 443));
                assert_null(netpolicy_place_name(p, "news.example.net", 80));
                netpolicy_close(p);
                loaded_fini(&l);
        }
}

static void certificates_beyond_the_bound_are_an_error_of_the_crew(void **state) {
        size_t n = (1u << 20) - sizeof(CA);
        _cleanup_free_ char *text = malloc(n + sizeof(CA));
        char places[2048] = "", body[2048] = "  network:\n    allowed_endpoints:\n";
        struct loaded l;

        assert_non_null(text);
        for (unsigned i = 0; i < 5; i++) { /* five different files of 1 MiB */
                char name[32];
                memset(text, 'a' + (int)i, n);
                memcpy(text + n, CA, sizeof(CA));
                text[n - 1] = '\n';
                snprintf(name, sizeof(name), "certs/big%u.pem", i);
                scratch_file(&s, name, text);
                snprintf(places + strlen(places), sizeof(places) - strlen(places),
                         "  \"h%u.example.com:443\": {connect_to: \"127.0.0.1:1\", ca: %s}\n", i, name);
                snprintf(body + strlen(body), sizeof(body) - strlen(body), "      - \"h%u.example.com:443\"\n", i);
        }
        scratch_file(&s, "x.yaml", role(body));
        snprintf(body, sizeof(body), "crew: demo\nendpoints:\n%sagents: {x: {policy: x.yaml}}\n", places);
        load_crew(&l, scratch_file(&s, "crew.yaml", body));
        assert_int_equal(l.r, -EINVAL);
        assert_non_null(problem_with(&l, "agent 'x': "));
        assert_non_null(problem_with(&l, "bytes compiled, at most 4194304"));
        loaded_fini(&l);
}

/* --- one truth --- */

static bool gateway_allows(const struct netpolicy_head *p, const char *host, uint16_t port,
                           const struct netpolicy_rule **rule) {
        struct sockaddr_in6 in6 = {.sin6_family = AF_INET6, .sin6_port = htons(port)};
        struct sockaddr_in in4 = {.sin_family = AF_INET, .sin_port = htons(port)};
        char name[NETPOLICY_NAME_MAX];

        netpolicy_canonical(host, name);
        if (inet_pton(AF_INET, host, &in4.sin_addr) == 1)
                *rule = netpolicy_match_addr(p, (const struct sockaddr *)&in4);
        else if (inet_pton(AF_INET6, host, &in6.sin6_addr) == 1)
                *rule = netpolicy_match_addr(p, (const struct sockaddr *)&in6);
        else
                *rule = name[0] ? netpolicy_match_name(p, name, port) : NULL;
        return *rule != NULL;
}

static void the_gateway_decides_connections_as_explain_does(void **state) {
        static const char *const hosts[] = {"api.example.com",    "API.EXAMPLE.com",   "www.example.com", "example.com",
                                            "a.b.example.com",    "plain.example.org", "203.0.113.7",     "203.0.113.8",
                                            "2001:db8::1",        "2001:db8::2",       "2130706433",      "127.1",
                                            "one.example.net",    "x.two.example.net", "two.example.net", "0x7f.1",
                                            "strict.example.org", "evil.example.org",  "localhost",       "-a.example.com"};
        static const uint16_t ports[] = {80, 443, 5432, 8080};
        struct loaded l;

        load_text(&l, role(network), NULL);
        const struct netpolicy_head *p = compiled(l.image, NULL, 1);
        for (size_t h = 0; h < ELEMENTSOF(hosts); h++) {
                for (size_t k = 0; k < ELEMENTSOF(ports); k++) {
                        const struct netpolicy_rule *rule;
                        char text[300];
                        bool v6 = strchr(hosts[h], ':');
                        snprintf(text, sizeof(text), "%s%s%s:%u", v6 ? "[" : "", hosts[h], v6 ? "]" : "", ports[k]);
                        struct policy_verdict v = policy_decide(l.image, POLICY_DO_CONNECT, text);
                        if (gateway_allows(p, hosts[h], ports[k], &rule) != v.allowed)
                                fail_msg("%s: explain says %d", text, v.allowed);
                        if (v.allowed)
                                assert_string_equal(v.rule, netpolicy_text(p, rule->where));
                }
        }
        netpolicy_close(p);
        loaded_fini(&l);
}

static void the_gateway_decides_requests_as_explain_does(void **state) {
        static const struct {
                const char *scheme, *host;
                uint16_t port;
        } servers[] = {{"https", "api.example.com", 443},
                       {"https", "www.example.com", 443},
                       {"http", "plain.example.org", 80},
                       {"http", "strict.example.org", 8080}};
        static const char *const methods[] = {"GET", "HEAD", "POST", "DELETE"};
        static const char *const paths[] = {"/", "/v1/", "/v1/chat", "/v1/a/b", "/a/b", "/a/b/c", "/v2"};
        struct loaded l;
        unsigned allowed = 0, denied = 0;

        load_text(&l, role(network), NULL);
        const struct netpolicy_head *p = compiled(l.image, NULL, 1);
        for (size_t i = 0; i < ELEMENTSOF(servers) * ELEMENTSOF(methods) * ELEMENTSOF(paths); i++) {
                const char *method = methods[i / ELEMENTSOF(paths) % ELEMENTSOF(methods)],
                           *path = paths[i % ELEMENTSOF(paths)];
                size_t n = i / ELEMENTSOF(paths) / ELEMENTSOF(methods);
                const struct netpolicy_rule *rule;
                char text[300];
                snprintf(text, sizeof(text), "%s %s://%s:%u%s?q=1", method, servers[n].scheme, servers[n].host,
                         servers[n].port, path);
                struct policy_verdict v = policy_decide(l.image, POLICY_DO_HTTP, text);
                assert_true(gateway_allows(p, servers[n].host, servers[n].port, &rule));
                const struct netpolicy_rule *by = netpolicy_http_rule(p, rule, method, path);
                bool lets = by || rule->flags & NETPOLICY_AUDIT;
                if (lets != v.allowed)
                        fail_msg("%s: explain says %d: %s", text, v.allowed, v.text);
                if (by)
                        assert_string_equal(v.rule, netpolicy_text(p, by->where));
                *(v.allowed ? &allowed : &denied) += 1;
        }
        assert_true(allowed > 20 && denied > 20);
        netpolicy_close(p);
        loaded_fini(&l);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(the_head_carries_limits_and_origin),
                cmocka_unit_test(every_endpoint_is_a_rule_with_its_place),
                cmocka_unit_test(a_policy_without_network_is_an_image_too),
                cmocka_unit_test(a_name_may_live_elsewhere),
                cmocka_unit_test(a_name_below_a_wildcard_may_live_elsewhere),
                cmocka_unit_test(a_place_never_widens_the_policy),
                cmocka_unit_test(an_unlisted_place_is_for_policies_that_let_some_through),
                cmocka_unit_test(certificates_beyond_the_bound_are_an_error_of_the_crew),
                cmocka_unit_test(the_gateway_decides_connections_as_explain_does),
                cmocka_unit_test(the_gateway_decides_requests_as_explain_does),
        };

        cmocka_set_message_output(CM_OUTPUT_TAP);
        return cmocka_run_group_tests(tests, setup, teardown);
}
