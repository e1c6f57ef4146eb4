/* SPDX-License-Identifier: Apache-2.0 */
#include "test.h"

#include "gateway/http_forward.h"
#include "gateway/http_rules.h"
#include "gateway/refusal.h"

#include <jansson.h>

static struct http_target target;

static void paths_are_decoded_once_and_sent_in_one_form(void **state) {
        static const struct {
                const char *in, *path, *wire;
        } rows[] = {
                {"/", "/", "/"},
                {"/v1/quotes?x=/../%2e%2e//", "/v1/quotes", "/v1/quotes?x=/../%2e%2e//"},
                {"/%76%31/a%20b", "/v1/a b", "/v1/a%20b"},
                {"/a%3Fb", "/a?b", "/a%3Fb"},
                {"/a%2eb/", "/a.b/", "/a.b/"},
                {"/...", "/...", "/..."},
                {"/a;x=1/b", "/a;x=1/b", "/a;x=1/b"},
                {"/100%25", "/100%", "/100%25"},
                {"/%C3%A4", "/\xc3\xa4", "/%C3%A4"},
                {"/.a/a./...b/.git;x", "/.a/a./...b/.git;x", "/.a/a./...b/.git;x"},
                {"/a%25zz/%25/%25a/%25ag/%25ga", "/a%zz/%/%a/%ag/%ga", "/a%25zz/%25/%25a/%25ag/%25ga"},
                {"/%30%39%41%5A%61%7a%2D%2E%5F%7E%2d%5f%7e", "/09AZaz-._~-_~", "/09AZaz-._~-_~"},
                {"/%2b%3A%40%5b%60%7B%21", "/+:@[`{!", "/%2b%3A%40%5b%60%7B%21"},
                {"https://api.test/x", "/x", "/x"},
                {"/a?http://b/", "/a", "/a?http://b/"},
                {"http://api.test", "/", "/"},
                {"HTTP://api.test/a?b", "/a", "/a?b"},
        };
        for (size_t i = 0; i < ELEMENTSOF(rows); i++) {
                const char *why = "";
                if (!http_target_parse(rows[i].in, strlen(rows[i].in), "GET", &target, &why))
                        fail_msg("%s: %s", rows[i].in, why);
                assert_string_equal(target.path, rows[i].path);
                assert_string_equal(target.wire, rows[i].wire);
        }
}

static void paths_that_servers_read_differently_are_refused(void **state) {
        static const char *const rows[] = {
                "/v1/../admin",
                "/..",
                "/.",
                "/v1/./a",
                "/v1/%2e%2e/admin",
                "/v1/.%2E/admin",
                "/v1/..;/a",
                "/v1/..;x=1/a",
                "//admin",
                "/v1//a",
                "/v1/;x/a",
                "/v1%2fadmin",
                "/v1%2Fadmin",
                "/v1%5cadmin",
                "/v1\\admin",
                "/v1/%252e%252e",
                "/v1/%00",
                "/v1/%0d%0aX",
                "/v1/%zz",
                "/v1/%2",
                "/v1/%",
                "/a#b",
                "*",
                "v1",
                "ftp://x/a",
                "http://a@b/",
                "http://a",
                "",
                "https://u:p@api.test/x",
                "/%7f",
                "/a//",
                "/%2e",
                "/v1/%c0%ae%c0%ae/a",
                "/v1%c0%afa",
                "/%ff",
                "/%25%32%65%25%32%65/a",
                "http://api.test?x",
                "/v1/;x",
                "/;",
                "/v1/..%3bx/a",
                "/v1/%4g",
                "/%g0%9f%98%80",
                "/v1/%3:",
                "/v1/%:1",
                "/v1/%@1",
                "/v1/%`1",
                "/v1/%1",
                "http:",
                "http:/",
                "https:/api.test/x",
                "httpx//api.test/x",
                "/v1/%1f",
                "/v1/..\\a",
                "/v1/%2e./a",
                "/v1/.%2e;/a",
                "/v1/a/..",
                "/v1/%E0%80%AF",
                "/v1/%ed%a0%80",
        };
        for (size_t i = 0; i < ELEMENTSOF(rows); i++) {
                const char *why = NULL;
                const bool ok = http_target_parse(rows[i], strlen(rows[i]), "GET", &target, &why);
                if (strcmp(rows[i], "http://a") == 0)
                        assert_true(ok && target.absolute); /* whether it is the host is another question */
                else if (ok || !why)
                        fail_msg("%s is accepted as %s", rows[i], target.path);
        }
        const char *why;
        static char longest[HTTP_HEAD_MAX];
        assert_true(http_target_parse("*", 1, "OPTIONS", &target, &why));
        assert_string_equal(target.path, "*");
        assert_string_equal(target.wire, "*");
        assert_true(http_target_parse("/v1/x", 5, "OPTIONS", &target, &why));
        assert_string_equal(target.path, "/v1/x");
        assert_false(http_target_parse("*x", 2, "OPTIONS", &target, &why));
        assert_false(http_target_parse("x", 1, "OPTIONS", &target, &why));
        assert_false(http_target_parse("/v1/%41", 6, "GET", &target, &why)); /* what is behind the target is not of it */
        assert_false(http_target_parse("http://a", 6, "GET", &target, &why));
        memset(longest, '/', 1);
        memset(longest + 1, 'a', sizeof(longest) - 1);
        assert_true(http_target_parse(longest, HTTP_HEAD_MAX - 2, "GET", &target, &why));
        assert_false(http_target_parse(longest, HTTP_HEAD_MAX - 1, "GET", &target, &why));
        /* Of the one before nothing is left. */
        assert_true(http_target_parse("https://api.test/x", 18, "GET", &target, &why));
        assert_true(http_target_parse("/x", 2, "GET", &target, &why));
        assert_false(target.absolute || target.tls || target.authority.n);
}

static void host_is_the_dialled_name_and_port(void **state) {
        static const struct {
                const char *text, *name;
                uint16_t port, default_port;
                bool ok;
        } rows[] = {
                {"api.test", "api.test", 80, 80, true},
                {"API.Test.", "api.test", 80, 80, true},
                {"api.test:80", "api.test", 80, 80, true},
                {"api.test:8080", "api.test", 8080, 80, true},
                {"api.test", "api.test", 8080, 80, false},
                {"api.test:81", "api.test", 80, 80, false},
                {"api.test:", "api.test", 80, 80, false},
                {"api.test:+80", "api.test", 80, 80, false},
                {"api.test:000080", "api.test", 80, 80, false},
                {"evil.test", "api.test", 80, 80, false},
                {"api.test.evil", "api.test", 80, 80, false},
                {"user@api.test", "api.test", 80, 80, false},
                {"api.test, evil", "api.test", 80, 80, false},
                {"127.0.0.1", "127.0.0.1", 80, 80, true},
                {"127.1", "127.0.0.1", 80, 80, false},
                {"[::1]:80", "::1", 80, 80, true},
                {"[0:0::1]", "::1", 80, 80, true},
                {"::1", "::1", 80, 80, false},
                {"[::1", "::1", 80, 80, false},
                {"[::1]x", "::1", 80, 80, false},
                {"[api.test]", "api.test", 80, 80, false},
                {"api.test:443", "api.test", 443, 443, true},
                {"evil.test:80", "api.test", 80, 80, false},
                {"evil.test:8080", "api.test", 8080, 80, false},
                {"127.0.0.2", "127.0.0.1", 80, 80, false},
                {"127.0.0.2:80", "127.0.0.1", 80, 80, false},
                {"api.test", "127.0.0.1", 80, 80, false},
                {"127.0.0.1", "api.test", 80, 80, false},
                {"[2001:db8::2]", "2001:db8::1", 80, 80, false},
                {"[2001:db8::2]:80", "2001:db8::1", 80, 80, false},
                {"[2001:db8::1]:81", "2001:db8::1", 80, 80, false},
                {"[2001:DB8::0001]", "2001:db8::1", 80, 80, true},
                {"[fe80::1%lo]", "fe80::1", 80, 80, false},
                {"[fe80::1%25lo]", "fe80::1", 80, 80, false},
                {"[::ffff:127.0.0.1]", "127.0.0.1", 80, 80, false},
                {"[::1]]", "::1", 80, 80, false},
                {"api.test:7:", "api.test", 80, 80, false},
                {"api.test:8/", "api.test", 79, 80, false},
                {"api.test:80 ", "api.test", 80, 80, false},
                {"api.test:80:80", "api.test", 80, 80, false},
                {"api.test:65616", "api.test", 80, 80, false}, /* 80 once more */
                {"api.test:00080", "api.test", 80, 80, true},
                {"api.test..", "api.test", 80, 80, false},
                {".api.test", "api.test", 80, 80, false},
                {"api.test%00", "api.test", 80, 80, false},
                {"xn--pi-xka.test", "api.test", 80, 80, false},
                {"\xd0\xb0pi.test", "api.test", 80, 80, false},     /* a Cyrillic a */
                {"api\xe3\x80\x82test", "api.test", 80, 80, false}, /* a full stop that is mapped to one */
                {"2130706433", "127.0.0.1", 80, 80, false},
                {"0x7f.1", "127.0.0.1", 80, 80, false},
                {"127.0.0.01", "127.0.0.1", 80, 80, false},
        };
        char longest[NETPOLICY_NAME_MAX + 64];

        memset(longest, 'a', sizeof(longest));
        for (size_t n = 200; n < sizeof(longest); n++)
                assert_false(http_authority_is(longest, n, "api.test", 80, 80));
        assert_false(http_authority_is("api.test", 0, "api.test", 80, 80));
        assert_false(http_authority_is("api.test\0.evil", 14, "api.test", 80, 80));
        assert_true(http_authority_is("api.test.evil", 8, "api.test", 80, 80));
        for (size_t i = 0; i < ELEMENTSOF(rows); i++) {
                if (http_authority_is(rows[i].text, strlen(rows[i].text), rows[i].name, rows[i].port,
                                      rows[i].default_port) != rows[i].ok)
                        fail_msg("\"%s\" for %s:%u", rows[i].text, rows[i].name, rows[i].port);
        }
}

static struct http_verdict judge(const struct one_rule *o, const char *text) {
        static struct http_head h;
        const struct netpolicy_head *p = one_rule_policy(o);
        const struct http_scope s = {p, netpolicy_rule_at(p, 0), o->host ? o->host : "api.test", o->port ? o->port : 80,
                                     o->flags & NETPOLICY_INSPECT};
        struct http_verdict v;
        const char *why = "";

        assert_int_equal(http_parse_request(text, strlen(text), &h, &why), HTTP_OK);
        http_judge(&s, &h, &target, &v);
        v.rule = NULL; /* the image goes */
        netpolicy_close(p);
        return v;
}

static const struct one_rule quotes = {.methods = {"GET", "HEAD"}, .paths = {"/v1/**"}};
#define HOST " HTTP/1.1\r\nHost: api.test\r\n"

static void methods_and_paths_decide(void **state) {
        static const struct {
                const char *text;
                bool let;
                const char *why;
        } rows[] = {
                {"GET /v1/quotes?a=b" HOST "\r\n", true, ""},
                {"HEAD /v1/a/b" HOST "\r\n", true, ""},
                {"GET http://api.test/v1/x" HOST "\r\n", true, ""},
                {"GET /%761/x" HOST "\r\n", true, ""},
                {"POST /v1/quotes" HOST "\r\n", false, "POST is not in methods"},
                {"get /v1/quotes" HOST "\r\n", false, "get is not in methods"},
                {"GET /admin" HOST "\r\n", false, "not in paths"},
                {"GET /v1/../admin" HOST "\r\n", false, "segment"},
                {"GET /v1/%2e%2e/admin" HOST "\r\n", false, "segment"},
                {"GET /v1%2f..%2fadmin" HOST "\r\n", false, "encoded slash"},
                {"GET http://evil.test/v1/x" HOST "\r\n", false, "another host"},
                {"GET https://api.test/v1/x" HOST "\r\n", false, "another host"},
                {"GET http://a@api.test/v1/x" HOST "\r\n", false, "user information"},
                {"GET /v1/x HTTP/1.1\r\nHost: evil.test\r\n\r\n", false, "Host is not api.test:80"},
                {"CONNECT /v1/x" HOST "\r\n", false, "CONNECT is never"},
                {"TRACE /v1/x" HOST "\r\n", false, "TRACE is never"},
                {"GET /v1/x" HOST "Upgrade: websocket\r\nConnection: Upgrade\r\n\r\n", false, "upgrade"},
                {"GET /v1/x" HOST "Upgrade: h2c\r\nConnection: Upgrade\r\n\r\n", true, ""},
                {"GET /v1/x" HOST "X-HTTP-Method-Override: DELETE\r\n\r\n", false, "x-http-method-override"},
                {"GET /v1/x" HOST "X_HTTP_Method_Override: DELETE\r\n\r\n", false, "x-http-method-override"},
                {"GET /v1/x" HOST "x-original-url: /admin\r\n\r\n", false, "x-original-url"},
                {"GET /v1/x" HOST "X-HTTP-METHOD: DELETE\r\n\r\n", false, "x-http-method"},
                {"GET /v1/x" HOST "X-Method-Override: DELETE\r\n\r\n", false, "x-method-override"},
                {"GET /v1/x" HOST "X-Rewrite-Url: /admin\r\n\r\n", false, "x-rewrite-url"},
                {"GET /v1/x" HOST "X-Original-URI: /admin\r\n\r\n", false, "x-original-uri"},
                {"GET http://api.test:81/v1/x" HOST "\r\n", false, "another host"},
                {"GET http://api.test:80/v1/x" HOST "\r\n", true, ""},
                {"GET http:///v1/x" HOST "\r\n", false, "another host"},
                {"OPTIONS *" HOST "\r\n", false, "not in paths"},
                {"GET /V1/x" HOST "\r\n", false, "not in paths"},
                {"GET /v1" HOST "\r\n", false, "not in paths"},
                {"GET /v1x" HOST "\r\n", false, "not in paths"},
                {"GET /admin/v1/x" HOST "\r\n", false, "not in paths"},
                {"GET /admin?/v1/x" HOST "\r\n", false, "not in paths"},
                {"GET /admin%3f/v1/x" HOST "\r\n", false, "not in paths"},
                {"GET /v1;/x" HOST "\r\n", false, "not in paths"},
                {"GET /v1/;/../admin" HOST "\r\n", false, "segment"},
                {"GET //v1/x" HOST "\r\n", false, "segment"},
                {"connect /v1/x" HOST "\r\n", false, "connect is not in methods"},
        };
        for (size_t i = 0; i < ELEMENTSOF(rows); i++) {
                struct http_verdict v = judge(&quotes, rows[i].text);
                if ((v.verdict == GATE_LET) != rows[i].let || !strstr(v.why, rows[i].why))
                        fail_msg("row %zu: %d \"%s\"", i, v.verdict, v.why);
                assert_int_equal(v.credential, rows[i].let);
        }
        assert_string_equal(judge(&quotes, "POST /v1/quotes" HOST "\r\n").step, "methods of this rule: GET, HEAD");
        assert_string_equal(judge(&quotes, "GET /admin" HOST "\r\n").step, "paths of this rule: /v1/**");
        assert_string_equal(judge(&quotes, "GET / HTTP/1.1\r\nHost: x\r\n\r\n").step, "send \"Host: api.test\"");
}

static void the_default_port_is_that_of_the_protocol(void **state) {
        const struct one_rule tls = {.port = 443, .flags = NETPOLICY_INSPECT, .paths = {"/**"}},
                              odd = {.port = 8443, .flags = NETPOLICY_INSPECT, .paths = {"/**"}},
                              plain = {.port = 443, .paths = {"/**"}};
        const char *bare = "GET /" HOST "\r\n";

        assert_int_equal(judge(&tls, bare).verdict, GATE_LET);
        assert_int_equal(judge(&tls, "GET https://api.test/" HOST "\r\n").verdict, GATE_LET);
        assert_int_equal(judge(&tls, "GET http://api.test/" HOST "\r\n").verdict, GATE_REFUSE);
        assert_int_equal(judge(&plain, bare).verdict, GATE_REFUSE);
        assert_int_equal(judge(&odd, bare).verdict, GATE_REFUSE);
        assert_string_equal(judge(&odd, bare).step, "send \"Host: api.test:8443\"");
        assert_int_equal(judge(&odd, "GET / HTTP/1.1\r\nHost: api.test:8443\r\n\r\n").verdict, GATE_LET);
}

static void a_rule_without_a_list_says_any(void **state) {
        const struct one_rule paths = {.paths = {"/v1/**"}}, methods = {.methods = {"GET"}};
        const struct one_rule many = {
                .methods = {"ABCDEFGHIJKLMNOPQRSTUVW"},
                .paths = {"/aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
                          "/bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb",
                          "/cccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccc",
                          "/dddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddd"}};

        assert_int_equal(judge(&paths, "PURGE /v1/x" HOST "\r\n").verdict, GATE_LET);
        assert_int_equal(judge(&methods, "GET /anything" HOST "\r\n").verdict, GATE_LET);
        struct http_verdict v = judge(&many, "ABCDEFGHIJKLMNOPQRSTUVW /x" HOST "\r\n");
        assert_int_equal(strlen(v.step), sizeof(v.step) - 1); /* cut, and no further */
}

static void the_text_of_a_request_has_no_query(void **state) {
        struct http_head h;
        const char *why, *texts[] = {"GET /v1/x?key=secret" HOST "\r\n", "GET /v1/x" HOST "\r\n"};
        char out[64];

        for (size_t i = 0; i < ELEMENTSOF(texts); i++) {
                assert_int_equal(http_parse_request(texts[i], strlen(texts[i]), &h, &why), HTTP_OK);
                http_request_text(&h, out, sizeof(out));
                assert_string_equal(out, "GET /v1/x");
        }
}

static void audit_overlooks_rules_and_nothing_else(void **state) {
        const struct one_rule audit = {.methods = {"GET"}, .paths = {"/v1/**"}, .flags = NETPOLICY_AUDIT};
        static const struct {
                const char *text;
                enum gate_verdict verdict;
                const char *wire;
        } rows[] = {
                {"GET /v1/x" HOST "\r\n", GATE_LET, "/v1/x"},
                {"POST /admin?x" HOST "\r\n", GATE_WOULD_REFUSE, "/admin?x"},
                {"GET /v1//../x" HOST "\r\n", GATE_WOULD_REFUSE, "/v1//../x"},
                {"GET /v1/x" HOST "X-Original-URL: /admin\r\n\r\n", GATE_WOULD_REFUSE, "/v1/x"},
                {"POST /%61dmin" HOST "\r\n", GATE_WOULD_REFUSE, "/admin"},
                {"GET /v1/%zz/%61" HOST "\r\n", GATE_WOULD_REFUSE, "/v1/%zz/%61"},
                {"GET /a%2fb" HOST "\r\n", GATE_WOULD_REFUSE, "/a%2fb"},
                {"GET http://api.test/v1/../x" HOST "\r\n", GATE_REFUSE, NULL},
                {"GET a" HOST "\r\n", GATE_REFUSE, NULL},
                {"GET http://evil.test/v1/x" HOST "\r\n", GATE_REFUSE, NULL},
                {"GET /v1/x HTTP/1.1\r\nHost: evil.test\r\n\r\n", GATE_REFUSE, NULL},
                {"CONNECT /v1/x" HOST "\r\n", GATE_REFUSE, NULL},
                {"TRACE /v1/x" HOST "\r\n", GATE_REFUSE, NULL},
                {"GET /v1/x" HOST "Upgrade: websocket\r\n\r\n", GATE_REFUSE, NULL},
        };
        for (size_t i = 0; i < ELEMENTSOF(rows); i++) {
                struct http_verdict v = judge(&audit, rows[i].text);
                assert_int_equal(v.verdict, rows[i].verdict);
                assert_int_equal(v.credential, v.verdict == GATE_LET);
                if (rows[i].wire)
                        assert_string_equal(target.wire, rows[i].wire);
        }
}

static void every_refusal_is_json_an_agent_can_read(void **state) {
        static const char hard[] = "a\"b\\c\n\x01\xff\xc3";
        char out[REFUSAL_MAX + 1], longest[1000];

        memset(longest, 1, sizeof(longest) - 1);
        longest[sizeof(longest) - 1] = '\0';
        const struct refusal rows[] = {
                {.status = 403, .error = "POST / on api.test:80: no", .rule = "x.yaml:1", .next_steps = {"a", NULL, "b"}},
                {.status = 502, .error = hard, .rule = NULL, .close = true},
                {.status = 403, .error = longest, .rule = longest, .next_steps = {longest, longest, longest}},
        };
        for (size_t i = 0; i < ELEMENTSOF(rows); i++) {
                size_t n = refusal_write(&rows[i], out);
                assert_true(n <= REFUSAL_MAX);
                out[n] = '\0';
                char *body = strstr(out, "\r\n\r\n");
                assert_non_null(body);
                json_t *j = json_loads(body + 4, JSON_REJECT_DUPLICATES, NULL);
                assert_non_null(j);
                assert_true(json_is_string(json_object_get(j, "error")));
                assert_true(json_is_array(json_object_get(j, "next_steps")));
                assert_int_equal(!!strstr(out, "Connection: close"), rows[i].close);
                json_decref(j);
        }
        struct refusal to_head = rows[0];
        to_head.to_head = true;
        size_t n = refusal_write(&to_head, out);
        assert_memory_equal(out + n - 4, "\r\n\r\n", 4);
}

static void the_head_that_goes_on_has_nothing_about_the_connection(void **state) {
        static const char text[] = "POST /v1/x" HOST "Connection: keep-alive, X-Secret\r\nKeep-Alive: 5\r\nX-Secret: 1\r\n"
                                   "TE: trailers\r\nUpgrade: h2c\r\nHTTP2-Settings: x\r\nProxy-Authorization: x\r\n"
                                   "Content-Length: 3\r\ncontent-length: 3\r\nAuthorization: mine\r\nauthorizatioN: "
                                   "mine\r\nAccept-Encoding: gzip\r\n"
                                   "X-Keep: \xff\r\n\r\n";
        const struct http_request_out o = {
                .wire = "/v1/x",
                .inject = {.header = "Authorization", .prefix = "Bearer ", .secret = "s3cr3t-key", .secret_n = 10},
                .drop = "authorization",
                .uncompressed = true,
        };
        struct http_head h;
        char out[HTTP_HEAD_MAX + HTTP_FORWARD_EXTRA];
        const char *why;

        assert_int_equal(http_parse_request(text, sizeof(text) - 1, &h, &why), HTTP_OK);
        size_t n = http_forward_request(&h, &o, out, sizeof(out) - 1);
        out[n] = '\0';
        assert_string_equal(out, "POST /v1/x HTTP/1.1\r\nHost: api.test\r\nX-Keep: \xff\r\nContent-Length: 3\r\n"
                                 "Accept-Encoding: identity\r\nAuthorization: Bearer s3cr3t-key\r\n\r\n");
        assert_int_equal(http_forward_request(&h, &o, out, 60), 0);
}

static size_t forwarded(const char *text, const struct http_request_out *o, char *out, size_t room) {
        struct http_head h;
        const char *why;

        assert_int_equal(http_parse_request(text, strlen(text), &h, &why), HTTP_OK);
        size_t n = http_forward_request(&h, o, out, room - 1);
        out[n] = '\0';
        return n;
}

static void what_connection_names_ends_here_and_nothing_else(void **state) {
        const struct http_request_out o = {.wire = "/"};
        char out[1024];

        forwarded("GET /" HOST
                  "Connection: x-a, X-B\r\nX-A-Longer: 1\r\nX-A: 2\r\nx-b: 3\r\nX-Note: x-keep\r\nX-Keep: 4\r\n"
                  "Accept-Encoding: gzip\r\nProxy-Connection: x\r\nTransfer-Encoding: chunked\r\n\r\n",
                  &o, out, sizeof(out));
        assert_string_equal(out, "GET / HTTP/1.1\r\nHost: api.test\r\nX-A-Longer: 1\r\nX-Note: x-keep\r\nX-Keep: 4\r\n"
                                 "Accept-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n");
        forwarded("GET / HTTP/1.0\r\nHost: api.test\r\n\r\n", &o, out, sizeof(out));
        assert_string_equal(out, "GET / HTTP/1.0\r\nHost: api.test\r\nConnection: close\r\n\r\n");
        /* Names of any length. */
        char text[512], name[101];
        for (size_t n = 60; n <= 100; n++) {
                memset(name, 'n', n);
                name[n] = '\0';
                snprintf(text, sizeof(text), "GET /" HOST "Connection: %s\r\n%s: 1\r\n\r\n", name, name);
                forwarded(text, &o, out, sizeof(out));
                assert_int_equal(strstr(out, name) != NULL, n >= 64);
        }
}

/* The agent's own header of that name does not reach the server beside ours, however it is written or named away. */
static void an_injected_header_is_the_only_one_of_its_name(void **state) {
        static const char *const own[] = {
                "X-Key: mine\r\nX-Key: mine\r\n",
                "x-KEY: mine\r\n",
                "X_Key: mine\r\n",
                "x_kEY:\tmine\r\nX-key:mine\r\n",
                "Connection: X-Key\r\nX-Key: mine\r\n",
        };
        const struct http_request_out o = {.wire = "/",
                                           .inject = {.header = "X-Key", .prefix = "", .secret = "s3cr3t", .secret_n = 6},
                                           .drop = "X-Key"};
        char text[256], out[512];

        for (size_t i = 0; i < ELEMENTSOF(own); i++) {
                snprintf(text, sizeof(text), "GET /" HOST "%s\r\n", own[i]);
                forwarded(text, &o, out, sizeof(out));
                assert_string_equal(out, "GET / HTTP/1.1\r\nHost: api.test\r\nX-Key: s3cr3t\r\n\r\n");
        }
}

static void an_answer_that_does_not_fit_is_none(void **state) {
        static const char text[] = "HTTP/1.1 200 OK\r\nX: y\r\nContent-Length: 3\r\n\r\n";
        struct http_head h;
        char out[256];
        const char *why;

        assert_int_equal(http_parse_response(text, sizeof(text) - 1, false, &h, &why), HTTP_OK);
        const size_t n = http_forward_response(&h, false, out, sizeof(out));
        assert_int_equal(n, sizeof(text) - 1);
        for (size_t room = 0; room <= n; room++)
                assert_int_equal(http_forward_response(&h, false, out, room), room == n ? n : 0);
}

static void connection_cannot_name_the_host_line_away(void **state) {
        static const char text[] = "GET /" HOST "Connection: close, host\r\n\r\n";
        const struct http_request_out o = {.wire = "/"};
        struct http_head h;
        char out[512];
        const char *why;

        assert_int_equal(http_parse_request(text, sizeof(text) - 1, &h, &why), HTTP_OK);
        out[http_forward_request(&h, &o, out, sizeof(out) - 1)] = '\0';
        assert_string_equal(out, "GET / HTTP/1.1\r\nHost: api.test\r\nConnection: close\r\n\r\n");
}

/* The largest head, made larger by everything that can be added, fits where it is written. */
static void the_largest_head_has_room(void **state) {
        static char text[HTTP_HEAD_MAX + 1], out[HTTP_HEAD_MAX + HTTP_FORWARD_EXTRA], secret[4096];
        char header[64], prefix[64];
        struct http_head h;
        const char *why;
        size_t n = (size_t)sprintf(text, "GET / HTTP/1.1\r\nHost:a\r\n");

        memset(secret, 's', sizeof(secret));
        memset(header, 'h', sizeof(header) - 1);
        memset(prefix, 'p', sizeof(prefix) - 1);
        header[63] = prefix[63] = '\0';
        for (int i = 0; i < HTTP_FIELDS_MAX - 2; i++)
                n += (size_t)sprintf(text + n, "X:y\r\n");
        n += (size_t)sprintf(text + n, "Z:");
        memset(text + n, 'z', HTTP_HEAD_MAX - 4 - n);
        memcpy(text + HTTP_HEAD_MAX - 4, "\r\n\r\n", 4);
        const struct http_request_out o = {
                .wire = "/",
                .inject = {.header = header, .prefix = prefix, .secret = secret, .secret_n = sizeof(secret)},
                .uncompressed = true};
        assert_int_equal(http_parse_request(text, HTTP_HEAD_MAX, &h, &why), HTTP_OK);
        h.close = h.length_given = true;
        h.length = 999999999999999999;
        assert_true(http_forward_request(&h, &o, out, sizeof(out)) > 0);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(paths_are_decoded_once_and_sent_in_one_form),
                cmocka_unit_test(paths_that_servers_read_differently_are_refused),
                cmocka_unit_test(host_is_the_dialled_name_and_port),
                cmocka_unit_test(methods_and_paths_decide),
                cmocka_unit_test(audit_overlooks_rules_and_nothing_else),
                cmocka_unit_test(every_refusal_is_json_an_agent_can_read),
                cmocka_unit_test(the_head_that_goes_on_has_nothing_about_the_connection),
                cmocka_unit_test(connection_cannot_name_the_host_line_away),
                cmocka_unit_test(the_default_port_is_that_of_the_protocol),
                cmocka_unit_test(a_rule_without_a_list_says_any),
                cmocka_unit_test(the_text_of_a_request_has_no_query),
                cmocka_unit_test(what_connection_names_ends_here_and_nothing_else),
                cmocka_unit_test(an_injected_header_is_the_only_one_of_its_name),
                cmocka_unit_test(an_answer_that_does_not_fit_is_none),
                cmocka_unit_test(the_largest_head_has_room),
        };
        cmocka_set_message_output(CM_OUTPUT_TAP);
        return cmocka_run_group_tests(tests, NULL, NULL);
}
