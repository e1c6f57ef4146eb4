/* SPDX-License-Identifier: Apache-2.0 */
#include "common/netpolicy.h"

#include "common/util.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <sys/mman.h>

#include <cmocka.h>

static const char *const get_head[] = {"GET", "HEAD"}, *const post[] = {"POST"};
static const char *const public_paths[] = {"/v1/**", "/health"}, *const chat[] = {"/v1/chat"};

#define RULE(kind_, host_, port_, where_, ...)                                                                             \
        { .fixed = {.kind = NETPOLICY_##kind_, .port = (port_)}, .host = (host_), .where = (where_), __VA_ARGS__ }

static struct netpolicy_spec spec_of(const struct netpolicy_spec_rule *rules, size_t n) {
        return (struct netpolicy_spec){
                .fixed = {.generation = 1, .ask_s = 60, .max_conns = 128, .max_half_open = 32, .max_dns_per_s = 50},
                .where = "x.yaml:1",
                .rules = rules,
                .n_rules = (uint32_t)n};
}

static const struct netpolicy_head *built(const struct netpolicy_spec *spec) {
        struct crew_err err = CREW_ERR_NULL;
        const struct netpolicy_head *p = NULL;
        _cleanup_close_ int fd = netpolicy_build(spec, &err);

        if (fd < 0)
                print_error("%s\n", err.msg);
        assert_true(fd >= 0);
        assert_int_equal(netpolicy_open(fd, &p, &err), 0);
        return p;
}

static const struct netpolicy_head *sample(void) {
        struct netpolicy_spec_rule rules[] = {
                RULE(WILDCARD, "example.com", 443, "x.yaml:1"),
                RULE(NAME, "api.example.com", 443, "x.yaml:7", .methods = get_head, .n_methods = 2, .paths = public_paths,
                     .n_paths = 2),
                RULE(NAME, "api.example.com", 443, "x.yaml:8", .methods = post, .n_methods = 1, .paths = chat, .n_paths = 1,
                     .credential = "market-key"),
                RULE(NAME, "db", 5432, "x.yaml:1", .to_host = "10.0.0.5", .ca = "PEM", .ca_bytes = 3),
                RULE(ADDR4, "203.0.113.7", 80, "x.yaml:1"),
                RULE(ADDR6, "2001:db8::1", 80, "x.yaml:1"),
        };
        rules[1].fixed.flags = rules[2].fixed.flags = NETPOLICY_HTTP | NETPOLICY_INSPECT;
        rules[3].fixed.flags = NETPOLICY_TO;
        rules[3].fixed.to_kind = NETPOLICY_ADDR4;
        rules[3].fixed.to_port = 15432;
        assert_int_equal(inet_pton(AF_INET, "10.0.0.5", rules[3].fixed.to_addr), 1);
        assert_int_equal(inet_pton(AF_INET, "203.0.113.7", rules[4].fixed.addr), 1);
        assert_int_equal(inet_pton(AF_INET6, "2001:db8::1", rules[5].fixed.addr), 1);
        struct netpolicy_spec spec = spec_of(rules, ELEMENTSOF(rules));
        return built(&spec);
}

/* --- names --- */

static void assert_canonical(const char *name, const char *expected) {
        char out[NETPOLICY_NAME_MAX];

        netpolicy_canonical(name, out);
        assert_string_equal(out, expected);
}

static void names_have_one_canonical_form(void **state) {
        assert_canonical("API.Example.COM", "api.example.com");
        assert_canonical("api.example.com.", "api.example.com");
        assert_canonical("db", "db");
        assert_canonical("xn--bcher-kva.example", "xn--bcher-kva.example");
        assert_canonical("1und1.de", "1und1.de");
}

static void what_is_no_host_name_has_none(void **state) {
        static const char *const bad[] = {"",        ".",       "..",      "a..b",  ".a",        "a..", "-a.com",
                                          "a-.com",  "a_b.com", "a b.com", "*.com", "a.com:443", "a/b", "b\xc3\xbcro.de",
                                          "a\n.com", "[::1]",   "::1"};
        char label[80], name[300];

        for (size_t i = 0; i < ELEMENTSOF(bad); i++)
                assert_canonical(bad[i], "");
        memset(label, 'a', 64);
        snprintf(name, sizeof(name), "%.64s.com", label);
        assert_canonical(name, "");
        snprintf(name, sizeof(name), "%.63s.%.63s.%.63s.%.61s", label, label, label, label);
        assert_int_equal(strlen(name), 253);
        assert_canonical(name, name);
        snprintf(name, sizeof(name), "%.63s.%.63s.%.63s.%.62s", label, label, label, label);
        assert_canonical(name, "");
}

static void an_address_in_any_notation_is_no_name(void **state) {
        static const char *const bad[] = {"127.0.0.1", "2130706433", "0x7f.1",     "127.1",  "0x7f000001", "017700000001",
                                          "1.2.3.0x4", "0x",         "a.b.0xFFff", "foo.1.", "0177.0.0.01"};

        for (size_t i = 0; i < ELEMENTSOF(bad); i++)
                assert_canonical(bad[i], "");
}

static void a_wildcard_is_exactly_one_label(void **state) {
        const struct netpolicy_head *p = sample();

        assert_true(netpolicy_knows_name(p, "www.example.com"));
        assert_false(netpolicy_knows_name(p, "example.com"));
        assert_false(netpolicy_knows_name(p, "a.b.example.com"));
        assert_false(netpolicy_knows_name(p, "wwwexample.com"));
        assert_false(netpolicy_knows_name(p, ""));
        assert_null(netpolicy_match_name(p, ".example.com", 443));
        netpolicy_close(p);
}

static void an_exact_name_beats_an_earlier_wildcard(void **state) {
        const struct netpolicy_head *p = sample();
        const struct netpolicy_rule *r = netpolicy_match_name(p, "api.example.com", 443);

        assert_string_equal(netpolicy_text(p, r->where), "x.yaml:7");
        r = netpolicy_match_name(p, "www.example.com", 443);
        assert_string_equal(netpolicy_text(p, r->host), "example.com");
        netpolicy_close(p);
}

static void another_port_is_not_listed(void **state) {
        const struct netpolicy_head *p = sample();

        assert_null(netpolicy_match_name(p, "api.example.com", 80));
        assert_true(netpolicy_knows_name(p, "api.example.com"));
        netpolicy_close(p);
}

/* --- addresses --- */

static const struct netpolicy_rule *match_text(const struct netpolicy_head *p, const char *addr, uint16_t port) {
        struct sockaddr_in6 in6 = {.sin6_family = AF_INET6, .sin6_port = htons(port)};
        struct sockaddr_in in4 = {.sin_family = AF_INET, .sin_port = htons(port)};

        if (inet_pton(AF_INET, addr, &in4.sin_addr) == 1)
                return netpolicy_match_addr(p, (const struct sockaddr *)&in4);
        assert_int_equal(inet_pton(AF_INET6, addr, &in6.sin6_addr), 1);
        return netpolicy_match_addr(p, (const struct sockaddr *)&in6);
}

static void a_literal_is_matched_by_its_bytes(void **state) {
        const struct netpolicy_head *p = sample();
        const struct sockaddr other = {.sa_family = AF_UNIX};

        assert_non_null(match_text(p, "203.0.113.7", 80));
        assert_null(match_text(p, "203.0.113.7", 81));
        assert_null(match_text(p, "203.0.113.8", 80));
        assert_non_null(match_text(p, "2001:0db8:0::1", 80));
        assert_null(match_text(p, "2001:db8::2", 80));
        assert_null(netpolicy_match_addr(p, &other));
        netpolicy_close(p);
}

static void a_mapped_address_is_its_ipv4(void **state) {
        const struct netpolicy_head *p = sample();

        assert_ptr_equal(match_text(p, "::ffff:203.0.113.7", 80), match_text(p, "203.0.113.7", 80));
        assert_non_null(match_text(p, "::ffff:203.0.113.7", 80));
        assert_null(match_text(p, "::203.0.113.7", 80));
        assert_null(match_text(p, "cb00:7107::", 80)); /* the same first bytes */
        netpolicy_close(p);
}

static void what_the_policy_maps_is_carried(void **state) {
        const struct netpolicy_head *p = sample();
        const struct netpolicy_rule *r = netpolicy_match_name(p, "db", 5432);

        assert_int_equal(r->flags, NETPOLICY_TO);
        assert_int_equal(r->to_port, 15432);
        assert_string_equal(netpolicy_text(p, r->to_host), "10.0.0.5");
        assert_string_equal(netpolicy_text(p, r->ca), "PEM");
        assert_int_equal(r->ca_bytes, 3);
        assert_null(netpolicy_text(p, r->credential));
        netpolicy_close(p);
}

/* --- HTTP --- */

static void requests_are_decided_over_all_rules_of_the_endpoint(void **state) {
        const struct netpolicy_head *p = sample();
        const struct netpolicy_rule *r = netpolicy_match_name(p, "api.example.com", 443);

        assert_int_equal(netpolicy_http_decide(p, r, "GET", "/v1/quotes"), NETPOLICY_HTTP_OK);
        assert_int_equal(netpolicy_http_decide(p, r, "POST", "/v1/chat"), NETPOLICY_HTTP_OK);
        assert_int_equal(netpolicy_http_decide(p, r, "POST", "/v1/quotes"), NETPOLICY_HTTP_METHOD);
        assert_int_equal(netpolicy_http_decide(p, r, "GET", "/admin"), NETPOLICY_HTTP_PATH);
        assert_int_equal(netpolicy_http_decide(p, r, "get", "/v1/quotes"), NETPOLICY_HTTP_METHOD);
        const struct netpolicy_rule *by = netpolicy_http_rule(p, r, "POST", "/v1/chat");
        assert_string_equal(netpolicy_text(p, by->credential), "market-key");
        by = netpolicy_http_rule(p, r, "GET", "/v1/chat");
        assert_null(netpolicy_text(p, by->credential));
        assert_null(netpolicy_http_rule(p, r, "DELETE", "/v1/chat"));
        netpolicy_close(p);
}

static void a_rule_without_lists_allows_any_request(void **state) {
        const struct netpolicy_head *p = sample();
        const struct netpolicy_rule *r = netpolicy_match_name(p, "www.example.com", 443);

        assert_int_equal(netpolicy_http_decide(p, r, "DELETE", "/x"), NETPOLICY_HTTP_OK);
        netpolicy_close(p);
}

static void one_star_stays_in_its_segment(void **state) {
        assert_true(netpolicy_glob("/v1/*/x", "/v1/a/x"));
        assert_true(netpolicy_glob("/v1/*/x", "/v1//x"));
        assert_false(netpolicy_glob("/v1/*/x", "/v1/a/b/x"));
        assert_true(netpolicy_glob("/a*b*c", "/aXbXbc"));
        assert_false(netpolicy_glob("/*", "/a/b"));
        assert_true(netpolicy_glob("/*", "/"));
        assert_true(netpolicy_glob("/*.json", "/a.b.json"));
        assert_false(netpolicy_glob("/v1", "/v1/"));
        assert_false(netpolicy_glob("/v1", "/V1"));
}

static void two_stars_cross_segments(void **state) {
        assert_true(netpolicy_glob("/v1/**", "/v1/"));
        assert_true(netpolicy_glob("/v1/**", "/v1/a/b/c"));
        assert_false(netpolicy_glob("/v1/**", "/v1"));
        assert_false(netpolicy_glob("/v1/**", "/v10/a"));
        assert_true(netpolicy_glob("/**/x", "/x"));
        assert_true(netpolicy_glob("/a/**/x", "/a/x"));
        assert_true(netpolicy_glob("/a/**/x", "/a/b/c/x"));
        assert_false(netpolicy_glob("/a/**/x", "/ax"));
        assert_false(netpolicy_glob("/a/**/x", "/a/bx"));
        assert_true(netpolicy_glob("/a**z", "/ab/cz"));
        assert_true(netpolicy_glob("/**", "/"));
        assert_true(netpolicy_glob("/**/a*/**/b", "/x/y/az/b"));
        assert_false(netpolicy_glob("", "/"));
}

static void a_hostile_path_costs_no_more_than_its_length(void **state) {
        char pattern[NETPOLICY_PATTERN_MAX + 8] = "/", path[16385] = "/";

        for (size_t i = 0; i < 100; i++)
                strcat(pattern, "**a*");
        strcat(pattern, "b");
        memset(path + 1, 'a', sizeof(path) - 2);
        uint64_t start = crew_now_ns();
        assert_false(netpolicy_glob(pattern, path));
        assert_true(crew_now_ns() - start < 5000000000u); /* backtracking would take longer than the universe */
        memset(pattern, 'a', sizeof(pattern) - 1);
        assert_false(netpolicy_glob(pattern, path)); /* longer than any compiled one */
}

/* --- the builder refuses what the reader would --- */

static void assert_refused(struct netpolicy_spec spec, const char *text) {
        struct crew_err err = CREW_ERR_NULL;
        int fd = netpolicy_build(&spec, &err);

        assert_true(fd < 0);
        if (!strstr(err.msg, text))
                print_error("got: %s\nnot: %s\n", err.msg, text);
        assert_non_null(strstr(err.msg, text));
}

static void assert_rule_refused(struct netpolicy_spec_rule rule, const char *text) {
        assert_refused(spec_of(&rule, 1), text);
}

static struct netpolicy_spec_rule plain(const char *host) {
        return (struct netpolicy_spec_rule)RULE(NAME, host, 443, "x.yaml:1");
}

static void names_and_addresses_must_be_canonical(void **state) {
        struct netpolicy_spec_rule r;

        assert_rule_refused(plain("API.example.com"), "bad host");
        assert_rule_refused(plain("api.example.com."), "bad host");
        assert_rule_refused(plain("2130706433"), "bad host");
        assert_rule_refused(plain(""), "bad host");
        assert_rule_refused(plain(NULL), "bad host");
        r = plain("a.com");
        r.fixed.port = 0;
        assert_rule_refused(r, "bad host or port");
        r = plain("a.com");
        r.fixed.kind = 4;
        assert_rule_refused(r, "bad host");
        r = (struct netpolicy_spec_rule)RULE(ADDR4, "203.0.113.7", 443, "x.yaml:1"); /* its bytes say 0.0.0.0 */
        assert_rule_refused(r, "bad host");
        r = (struct netpolicy_spec_rule)RULE(ADDR6, "::ffff:1.2.3.4", 443, "x.yaml:1");
        assert_int_equal(inet_pton(AF_INET6, r.host, r.fixed.addr), 1);
        assert_rule_refused(r, "bad host"); /* would never match: mapped addresses are looked up as IPv4 */
        r = plain("a.com");
        r.fixed.addr[3] = 1;
        assert_rule_refused(r, "bad host");
}

static void http_rules_and_flags_must_fit(void **state) {
        static const char *const lower[] = {"get"}, *const relative[] = {"v1"}, *const query[] = {"/v1?x"},
                                 *const control[] = {"/v1\n"}, *const empty[] = {""};
        struct netpolicy_spec_rule r = plain("a.com");

        r.methods = get_head, r.n_methods = 2;
        assert_rule_refused(r, "do not fit");
        r.fixed.flags = NETPOLICY_HTTP;
        r.methods = lower, r.n_methods = 1;
        assert_rule_refused(r, "bad methods");
        r.methods = empty;
        assert_rule_refused(r, "bad methods");
        r.methods = NULL, r.n_methods = 0, r.n_paths = 1;
        r.paths = relative;
        assert_rule_refused(r, "bad paths");
        r.paths = query;
        assert_rule_refused(r, "bad paths");
        r.paths = control;
        assert_rule_refused(r, "bad paths");
        r = plain("a.com");
        r.fixed.flags = NETPOLICY_HTTP;
        assert_rule_refused(r, "do not fit");
        r.fixed.flags = NETPOLICY_INSPECT;
        assert_rule_refused(r, "do not fit");
        r.fixed.flags = NETPOLICY_AUDIT;
        assert_rule_refused(r, "do not fit");
        r.fixed.flags = NETPOLICY_HTTP;
        r.credential = "../key";
        assert_rule_refused(r, "do not fit");
        r.fixed.flags = 1u << 9;
        assert_rule_refused(r, "unknown flags");
}

static void a_place_is_nothing_but_one(void **state) {
        struct netpolicy_spec_rule r = plain("a.com");

        r.fixed.flags = NETPOLICY_PLACE;
        assert_rule_refused(r, "a place that is more than one"); /* and leads nowhere */
        r.fixed.flags |= NETPOLICY_TO;
        r.fixed.to_port = 1;
        r.to_host = "b.com";
        struct netpolicy_spec_rule both[] = {r, plain("a.com")};
        struct netpolicy_spec spec = spec_of(both, 1);
        const struct netpolicy_head *p = built(&spec);
        assert_false(netpolicy_knows_name(p, "a.com"));
        assert_null(netpolicy_match_name(p, "a.com", r.fixed.port));
        assert_ptr_equal(netpolicy_place_name(p, "a.com", r.fixed.port), netpolicy_rule_at(p, 0));
        netpolicy_close(p);
        struct crew_err err = CREW_ERR_NULL;
        spec.n_rules = 2; /* listed, and a place for what is not listed */
        assert_int_equal(netpolicy_build(&spec, &err), -EPROTO);
        assert_non_null(strstr(err.msg, "contradict"));
        r.ca = "PEM", r.ca_bytes = 3;
        assert_rule_refused(r, "a place that is more than one");
        r.ca = NULL, r.ca_bytes = 0;
        r.credential = "key";
        r.fixed.flags |= NETPOLICY_HTTP;
        assert_rule_refused(r, "a place that is more than one");
        r.fixed.flags &= ~(uint32_t)NETPOLICY_HTTP;
        assert_rule_refused(r, "do not fit");
}

static void connect_to_must_be_whole(void **state) {
        struct netpolicy_spec_rule r = plain("a.com");

        r.to_host = "b.com";
        assert_rule_refused(r, "bad connect_to");
        r.fixed.flags = NETPOLICY_TO;
        assert_rule_refused(r, "bad connect_to"); /* no port */
        r.fixed.to_port = 1;
        r.fixed.to_kind = NETPOLICY_WILDCARD;
        assert_rule_refused(r, "bad connect_to");
        r = plain("a.com");
        r.ca = "a\0b", r.ca_bytes = 3;
        assert_rule_refused(r, "bad ca");
        r = plain("a.com");
        r.where = NULL;
        assert_rule_refused(r, "no origin");
}

static void rules_for_one_endpoint_must_agree(void **state) {
        struct netpolicy_spec_rule rules[] = {RULE(NAME, "a.com", 443, "x.yaml:1"), RULE(NAME, "a.com", 443, "x.yaml:1")};

        rules[1].methods = get_head, rules[1].n_methods = 2, rules[1].fixed.flags = NETPOLICY_HTTP;
        assert_refused(spec_of(rules, 2), "rules 0 and 1 contradict");
        rules[1] = rules[0];
        rules[1].ca = "PEM", rules[1].ca_bytes = 3;
        assert_refused(spec_of(rules, 2), "rules 0 and 1 contradict");
        rules[1] = rules[0];
        rules[1].fixed.port = 80, rules[1].ca = "PEM", rules[1].ca_bytes = 3;
        struct netpolicy_spec other_port = spec_of(rules, 2);
        netpolicy_close(built(&other_port));
}

static void the_head_must_make_sense(void **state) {
        struct netpolicy_spec s = spec_of(NULL, 0);

        netpolicy_close(built(&s)); /* an empty policy is a policy */
        s.fixed.max_conns = 0;
        assert_refused(s, "limit of 0");
        s = spec_of(NULL, 0);
        s.fixed.generation = 0;
        assert_refused(s, "limit of 0");
        s = spec_of(NULL, 0);
        s.fixed.flags = NETPOLICY_ASK;
        s.fixed.ask_s = 0;
        assert_refused(s, "waits 0 s");
        s.fixed.flags = 4;
        assert_refused(s, "unknown flags");
}

static void there_is_a_bound_for_everything(void **state) {
        struct netpolicy_spec_rule rule = plain("a.com");
        _cleanup_free_ struct netpolicy_spec_rule *rules = calloc(NETPOLICY_RULES_MAX + 1, sizeof(*rules));
        _cleanup_free_ char *big = calloc(1, NETPOLICY_CA_MAX + 2);
        _cleanup_free_ char(*cas)[NETPOLICY_CA_MAX] = calloc(5, NETPOLICY_CA_MAX);
        const char *paths[NETPOLICY_LIST_MAX + 1];

        assert_non_null(rules);
        assert_non_null(big);
        assert_non_null(cas);
        for (size_t i = 0; i <= NETPOLICY_RULES_MAX; i++)
                rules[i] = rule;
        struct netpolicy_spec most = spec_of(rules, NETPOLICY_RULES_MAX);
        netpolicy_close(built(&most));
        assert_refused(spec_of(rules, NETPOLICY_RULES_MAX + 1), "at most 1024");
        for (size_t i = 0; i < ELEMENTSOF(paths); i++)
                paths[i] = "/";
        rule.fixed.flags = NETPOLICY_HTTP;
        rule.paths = paths, rule.n_paths = ELEMENTSOF(paths);
        assert_rule_refused(rule, "more than 64");
        memset(big, 'x', NETPOLICY_CA_MAX + 1);
        rule = plain("a.com");
        rule.ca = big, rule.ca_bytes = NETPOLICY_CA_MAX + 1;
        assert_rule_refused(rule, "bad ca");
        for (size_t i = 0; i < 5; i++) {
                memset(cas[i], (int)('a' + i), NETPOLICY_CA_MAX);
                rules[i].ca = cas[i], rules[i].ca_bytes = NETPOLICY_CA_MAX;
                rules[i].fixed.port = (uint16_t)(i + 1);
        }
        assert_refused(spec_of(rules, 5), "bytes compiled");
}

static void one_ca_is_written_once(void **state) {
        struct netpolicy_spec_rule rules[64];
        _cleanup_free_ char *big = calloc(1, NETPOLICY_CA_MAX);

        assert_non_null(big);
        memset(big, 'x', NETPOLICY_CA_MAX - 1);
        for (size_t i = 0; i < ELEMENTSOF(rules); i++) {
                rules[i] = (struct netpolicy_spec_rule)RULE(NAME, "a.com", (uint16_t)(i + 1), "x.yaml:1");
                rules[i].ca = big, rules[i].ca_bytes = NETPOLICY_CA_MAX - 1;
        }
        struct netpolicy_spec spec = spec_of(rules, ELEMENTSOF(rules));
        const struct netpolicy_head *p = built(&spec);
        assert_true(p->bytes < NETPOLICY_CA_MAX + 65536);
        assert_string_equal(netpolicy_text(p, netpolicy_rule_at(p, 63)->ca), big);
        netpolicy_close(p);
}

/* --- the reader --- */

static void the_same_policy_gives_the_same_bytes(void **state) {
        const struct netpolicy_head *a = sample(), *b = sample();

        assert_int_equal(a->bytes, b->bytes);
        assert_memory_equal(a, b, a->bytes);
        netpolicy_close(a);
        netpolicy_close(b);
}

static void only_a_sealed_image_is_opened(void **state) {
        const struct netpolicy_head *good = sample(), *p;
        _cleanup_close_ int open_fd = memfd_create("x", MFD_CLOEXEC | MFD_ALLOW_SEALING);
        struct crew_err err = CREW_ERR_NULL;

        assert_true(open_fd >= 0);
        assert_int_equal(crew_write_full(open_fd, good, good->bytes), 0);
        assert_int_equal(netpolicy_open(open_fd, &p, &err), -EPROTO);
        assert_non_null(strstr(err.msg, "not a sealed memfd"));
        assert_null(p);
        _cleanup_close_ int sealed = crew_sealed_memfd("x", good, good->bytes, &err);
        assert_int_equal(netpolicy_open(sealed, &p, &err), 0);
        netpolicy_close(p);
        _cleanup_close_ int cut = crew_sealed_memfd("x", good, good->bytes - 1, &err);
        assert_int_equal(netpolicy_open(cut, &p, &err), -EPROTO);
        _cleanup_close_ int tiny = crew_sealed_memfd("x", good, 8, &err);
        assert_int_equal(netpolicy_open(tiny, &p, &err), -EPROTO);
        _cleanup_close_ int dev = open("/dev/null", O_RDONLY | O_CLOEXEC);
        assert_int_equal(netpolicy_open(dev, &p, &err), -EPROTO);
        netpolicy_close(good);
}

/* Every single word of head and rules turned into a far offset: refused, or harmless (a limit, the digest). */
static void no_offset_leads_outside(void **state) {
        static const uint32_t values[] = {1, 0x7fffffff, 0xffffffff, 0x80000000};
        const struct netpolicy_head *good = sample();
        size_t words = (sizeof(*good) + good->n_rules * sizeof(struct netpolicy_rule)) / 4;
        _cleanup_free_ uint32_t *copy = malloc(good->bytes);

        assert_non_null(copy);
        for (size_t w = 0; w < words; w++) {
                for (size_t v = 0; v < ELEMENTSOF(values); v++) {
                        memcpy(copy, good, good->bytes);
                        copy[w] = values[v];
                        if (netpolicy_check(copy, good->bytes, NULL) < 0)
                                continue;
                        const struct netpolicy_head *p = (const struct netpolicy_head *)copy;
                        for (uint32_t i = 0; i < p->n_rules; i++) {
                                const struct netpolicy_rule *r = netpolicy_rule_at(p, i);
                                assert_true(r->host < p->bytes && r->where < p->bytes && r->ca < p->bytes);
                                assert_true(r->methods < p->bytes && r->paths < p->bytes && r->credential < p->bytes);
                                assert_int_equal(r->ca_bytes, r->ca ? strlen(netpolicy_text(p, r->ca)) : 0);
                        }
                }
        }
        netpolicy_close(good);
}

static void text_must_end_in_the_image(void **state) {
        const struct netpolicy_head *good = sample();
        _cleanup_free_ char *copy = malloc(good->bytes);
        struct crew_err err = CREW_ERR_NULL;

        assert_non_null(copy);
        memcpy(copy, good, good->bytes);
        copy[good->bytes - 1] = 'x';
        assert_int_equal(netpolicy_check(copy, good->bytes, &err), -EPROTO);
        assert_non_null(strstr(err.msg, "text without an end"));
        netpolicy_close(good);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(names_have_one_canonical_form),
                cmocka_unit_test(what_is_no_host_name_has_none),
                cmocka_unit_test(an_address_in_any_notation_is_no_name),
                cmocka_unit_test(a_wildcard_is_exactly_one_label),
                cmocka_unit_test(an_exact_name_beats_an_earlier_wildcard),
                cmocka_unit_test(another_port_is_not_listed),
                cmocka_unit_test(a_literal_is_matched_by_its_bytes),
                cmocka_unit_test(a_mapped_address_is_its_ipv4),
                cmocka_unit_test(what_the_policy_maps_is_carried),
                cmocka_unit_test(requests_are_decided_over_all_rules_of_the_endpoint),
                cmocka_unit_test(a_rule_without_lists_allows_any_request),
                cmocka_unit_test(one_star_stays_in_its_segment),
                cmocka_unit_test(two_stars_cross_segments),
                cmocka_unit_test(a_hostile_path_costs_no_more_than_its_length),
                cmocka_unit_test(names_and_addresses_must_be_canonical),
                cmocka_unit_test(http_rules_and_flags_must_fit),
                cmocka_unit_test(a_place_is_nothing_but_one),
                cmocka_unit_test(connect_to_must_be_whole),
                cmocka_unit_test(rules_for_one_endpoint_must_agree),
                cmocka_unit_test(the_head_must_make_sense),
                cmocka_unit_test(there_is_a_bound_for_everything),
                cmocka_unit_test(one_ca_is_written_once),
                cmocka_unit_test(the_same_policy_gives_the_same_bytes),
                cmocka_unit_test(only_a_sealed_image_is_opened),
                cmocka_unit_test(no_offset_leads_outside),
                cmocka_unit_test(text_must_end_in_the_image),
        };

        cmocka_set_message_output(CM_OUTPUT_TAP);
        return cmocka_run_group_tests(tests, NULL, NULL);
}
