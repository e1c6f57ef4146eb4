/* SPDX-License-Identifier: Apache-2.0 */
/* What a role policy means when it loads, and what each wrong key or value is answered with. */
#include "support.h"

#include "common/util.h"

#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>

/* The shape users know, word for word. */
static const char three[] = "agent: \"data-collector\"\n"
                            "sandbox:\n"
                            "  mode: deny-by-default\n"
                            "  filesystem:\n"
                            "    read:  [\"/tmp/market-data/\"]\n"
                            "    write: [\"/tmp/market-data/output/\"]\n"
                            "  network:\n"
                            "    allowed_endpoints: [\"api.marketdata.com:443\", \"feeds.bloomberg.com:443\"]\n"
                            "    deny_all_other: true\n"
                            "  tools:\n"
                            "    allowed: [\"market_api_tool\", \"csv_parser_tool\"]\n"
                            "    denied: [\"*\"]\n"
                            "---\n"
                            "agent: \"portfolio-analyzer\"\n"
                            "sandbox:\n"
                            "  mode: deny-by-default\n"
                            "  filesystem:\n"
                            "    read:  [\"/data/client-portfolios/\", \"/tmp/market-data/output/\"]\n"
                            "    write: [\"/tmp/analysis-output/\"]\n"
                            "  network: {deny_all: true}\n"
                            "  tools: {allowed: [\"portfolio_reader_tool\", \"analysis_tool\"], denied: [\"*\"]}\n"
                            "---\n"
                            "agent: \"supervisor\"\n"
                            "sandbox:\n"
                            "  mode: deny-by-default\n"
                            "  filesystem: {read: [], write: []}\n"
                            "  network: {deny_all: true}\n"
                            "  ipc:\n"
                            "    allowed_targets: [\"data-collector\", \"portfolio-analyzer\", \"report-writer\"]\n"
                            "    message_validation: strict\n"
                            "  tools: {denied: [\"*\"]}\n";

static void load_three(struct loaded *l, const char *agent) {
        *l = (struct loaded){0};
        l->r = policy_load_bytes("three.yaml", three, strlen(three), agent, NULL, &l->image, &l->report, &l->err);
}

/* The paths of one kind, each with its trailing '/', joined by blanks. */
static const char *paths(const struct loaded *l, enum policy_path_kind kind) {
        static char buf[4096];
        size_t used = 0;

        buf[0] = '\0';
        for (size_t i = 0; i < policy_n_paths(l->image); i++) {
                struct policy_path p = policy_path_at(l->image, i);
                if (p.kind == kind)
                        used += (size_t)snprintf(buf + used, sizeof(buf) - used, "%s%s%s", used ? " " : "", p.path,
                                                 p.tree ? "/" : "");
        }
        return buf;
}

static const char *names(const struct loaded *l, enum policy_list list) {
        static char buf[4096];
        size_t used = 0;

        buf[0] = '\0';
        for (size_t i = 0; i < policy_n_names(l->image, list); i++)
                used += (size_t)snprintf(buf + used, sizeof(buf) - used, "%s%s", i ? " " : "",
                                         policy_name_at(l->image, list, i).name);
        return buf;
}

static void the_collector_means_what_it_says(void **state) {
        struct loaded l;

        load_three(&l, "data-collector");
        assert_int_equal(l.r, 0);
        assert_string_equal(policy_agent(l.image), "data-collector");
        assert_string_equal(paths(&l, POLICY_READ), "/tmp/market-data/");
        assert_string_equal(paths(&l, POLICY_WRITE), "/tmp/market-data/output/");
        assert_string_equal(paths(&l, POLICY_EXEC), "");
        assert_int_equal(policy_n_endpoints(l.image), 2);
        struct policy_endpoint e = policy_endpoint_at(l.image, 1);
        assert_string_equal(e.host, "feeds.bloomberg.com");
        assert_int_equal(e.port, 443);
        assert_int_equal(e.mark.line, 8);
        assert_int_equal(e.mark.column, 51);
        assert_false(e.literal || e.wildcard || policy_network_denied(l.image));
        assert_string_equal(names(&l, POLICY_TOOLS_ALLOWED), "market_api_tool csv_parser_tool");
        assert_string_equal(names(&l, POLICY_TOOLS_DENIED), "*");
        assert_int_equal(policy_n_names(l.image, POLICY_TARGETS), 0);
        loaded_fini(&l);
}

static void the_analyzer_means_what_it_says(void **state) {
        struct loaded l;

        load_three(&l, "portfolio-analyzer");
        assert_int_equal(l.r, 0);
        assert_string_equal(paths(&l, POLICY_READ), "/data/client-portfolios/ /tmp/market-data/output/");
        assert_string_equal(paths(&l, POLICY_WRITE), "/tmp/analysis-output/");
        assert_true(policy_network_denied(l.image));
        assert_int_equal(policy_n_endpoints(l.image), 0);
        loaded_fini(&l);
}

static void the_supervisor_means_what_it_says(void **state) {
        struct loaded l;

        load_three(&l, "supervisor");
        assert_int_equal(l.r, 0);
        assert_int_equal(l.report.n, 0);
        assert_string_equal(paths(&l, POLICY_READ), "");
        assert_string_equal(paths(&l, POLICY_WRITE), "");
        assert_string_equal(names(&l, POLICY_TARGETS), "data-collector portfolio-analyzer report-writer");
        assert_string_equal(names(&l, POLICY_TOOLS_ALLOWED), "");
        loaded_fini(&l);
}

static void of_several_documents_one_must_be_named(void **state) {
        struct loaded l;

        load_three(&l, NULL);
        assert_int_equal(l.r, -EINVAL);
        assert_string_equal(problem_with(&l, "several policies; say for which agent")->hint,
                            "agents: data-collector, portfolio-analyzer, supervisor");
        loaded_fini(&l);
        load_three(&l, "data-colector");
        assert_int_equal(l.r, -EINVAL);
        assert_string_equal(problem_with(&l, "no policy for agent 'data-colector'")->hint,
                            "did you mean 'data-collector'?");
        loaded_fini(&l);
        expect_error("agent: a\nsandbox: {mode: deny-by-default}\n---\nagent: a\nsandbox: {mode: deny-by-default}\n", 4, 8,
                     "a second policy for agent 'a' (first on line 1)", "");
}

static void agents_of_a_file_are_listed(void **state) {
        struct scratch s;
        char found[8][64];
        size_t n;

        scratch_init(&s);
        assert_int_equal(policy_agents(scratch_file(&s, "three.yaml", three), found, 8, &n, NULL, NULL), 0);
        assert_int_equal(n, 3);
        assert_string_equal(found[1], "portfolio-analyzer");
        scratch_fini(&s);
}

static void defaults_are_sensible(void **state) {
        struct loaded l;

        load_text(&l, role(""), NULL);
        assert_int_equal(l.r, 0);
        struct policy_limits m = policy_limits_of(l.image);
        assert_int_equal(m.memory_bytes, 512ull << 20);
        assert_int_equal(m.processes, 64);
        assert_int_equal(m.cpu_milli, 0);
        assert_int_equal(m.open_files, 256);
        assert_int_equal(m.tmp_bytes, 64ull << 20);
        assert_int_equal(m.output_bytes, 16ull << 20);
        assert_int_equal(m.wall_ms, 600000);
        assert_int_equal(m.connections, 128);
        assert_int_equal(m.half_open, 128);
        assert_int_equal(m.dns_per_s, 50);
        assert_int_equal(m.messages_per_s, 1000);
        assert_true(m.bandwidth == 0);
        assert_int_equal(policy_audit_files_of(l.image), POLICY_AUDIT_ALL);
        assert_string_equal(policy_syscall_profile(l.image), "default");
        assert_true(policy_network_denied(l.image));
        assert_non_null(strstr(paths(&l, POLICY_RUNTIME), "/usr/"));
        assert_non_null(strstr(paths(&l, POLICY_RUNTIME_READ), "/etc/ld.so.cache"));
        assert_null(strstr(paths(&l, POLICY_RUNTIME_READ), "/etc/passwd"));
        loaded_fini(&l);
}

static void values_are_read_exactly(void **state) {
        struct loaded l;

        load_text(&l,
                  role("  limits: {memory: 2GiB, processes: 7, cpu: 1.25, open_files: 99, tmp: 512KiB, output: 10MB,\n"
                       "    wall_time: 90s, connections: 3}\n"
                       "  audit: {files: denied}\n"
                       "  allow_degraded: [landlock-abi, cgroup-cpu]\n"
                       "  network: {allowed_endpoints: [\"*.Example.COM:8443\", \"10.1.2.3:5432\", \"[2001:DB8::1]:443\",\n"
                       "    {host: db.example.org, port: 5432}]}\n"),
                  NULL);
        assert_int_equal(l.r, 0);
        struct policy_limits m = policy_limits_of(l.image);
        assert_int_equal(m.memory_bytes, 2ull << 30);
        assert_int_equal(m.cpu_milli, 1250);
        assert_int_equal(m.output_bytes, 10000000);
        assert_int_equal(m.wall_ms, 90000);
        assert_int_equal(policy_audit_files_of(l.image), POLICY_AUDIT_DENIED);
        assert_string_equal(names(&l, POLICY_DEGRADED), "landlock-abi cgroup-cpu");
        assert_string_equal(policy_endpoint_at(l.image, 0).host, "*.example.com");
        assert_true(policy_endpoint_at(l.image, 0).wildcard);
        assert_true(policy_endpoint_at(l.image, 1).literal);
        assert_string_equal(policy_endpoint_at(l.image, 2).host, "2001:db8::1");
        assert_string_equal(policy_endpoint_at(l.image, 3).host, "db.example.org");
        loaded_fini(&l);
        load_text(&l, role("  limits: {memory: none, cpu: none, wall_time: none}\n"), NULL);
        assert_int_equal(l.r, 0);
        m = policy_limits_of(l.image);
        assert_true(m.memory_bytes == 0 && m.cpu_milli == 0 && m.wall_ms == 0);
        loaded_fini(&l);
}

static void bad_keys_and_types_say_what_was_expected(void **state) {
        static const struct {
                const char *body;
                int line, column;
                const char *text, *hint;
        } rows[] = {
                {"  filesytem:\n    read: []\n", 4, 3, "unknown key 'filesytem' under sandbox",
                 "did you mean 'filesystem'?"},
                {"  filesystem: {raed: []}\n", 4, 16, "unknown key 'raed' under filesystem", "did you mean 'read'?"},
                {"  zzzzzzzzzz: 1\n", 4, 3, "unknown key 'zzzzzzzzzz' under sandbox", "known: mode, filesystem"},
                {"  filesystem: {read: /tmp/x/}\n", 4, 22, "'read': expected a list of paths, got '/tmp/x/'", ""},
                {"  filesystem: {read: }\n", 4, 0, "'read': expected a list of paths, got nothing", ""},
                {"  filesystem: [read]\n", 4, 15, "'filesystem': expected a map, got a list", ""},
                {"  filesystem: {read: [[x]]}\n", 4, 23, "expected a path, got a list", ""},
                {"  tools: {allowed: {a: b}}\n", 4, 20, "'allowed': expected a list of names, got a map", ""},
                {"  network: {deny_all: yes}\n", 4, 23, "'deny_all': expected true or false, got 'yes'", ""},
                {"  network: {deny_all: flase}\n", 4, 23, "'deny_all': expected true or false, got 'flase'", ""},
                {"  network: {deny_all: \"true\"}\n", 4, 23, "'deny_all': expected true or false, got 'true'", ""},
                {"  network: {deny_all: NO}\n", 4, 23, "'deny_all': expected true or false, got 'NO'", ""},
                {"  limits: {processes: 10abc}\n", 4, 23,
                 "'processes': expected a whole number from 2 to 32768, got '10abc'", ""},
                {"  limits: {processes: 0x10}\n", 4, 23, "expected a whole number", ""},
                {"  limits: {processes: -1}\n", 4, 23, "expected a whole number", ""},
                {"  limits: {processes: 1}\n", 4, 23, "'processes': 1 is out of range, expected 2 to 32768", ""},
                {"  limits: {processes: 99999999999999999999}\n", 4, 23, "expected a whole number", ""},
                {"  limits: {memory: 512Mib}\n", 4, 20, "'memory': expected a size such as 512MiB or none, got '512Mib'",
                 ""},
                {"  limits: {memory: 512}\n", 4, 20, "'memory': 512 is out of range, expected 4MiB to 1TiB", ""},
                {"  limits: {memory: 99999999TiB}\n", 4, 20, "out of range", ""},
                {"  limits: {tmp: none}\n", 4, 17, "'tmp': expected a size such as 512MiB, got 'none'", ""},
                {"  limits: {wall_time: 30}\n", 4, 23,
                 "'wall_time': expected a duration such as 30s, 5m or 2h, or none, got '30'", ""},
                {"  limits: {wall_time: 1ms}\n", 4, 23, "'wall_time': 1ms is out of range, expected 100ms to 720h", ""},
                {"  limits: {cpu: fast}\n", 4, 17, "'cpu': expected a number such as 0.5 or 2, or none, got 'fast'", ""},
                {"  limits: {cpu: 0}\n", 4, 17, "'cpu': 0 is out of range", ""},
                {"  limits: {cpu: 1.}\n", 4, 17, "'cpu': expected a number", ""},
                {"  audit: {files: some}\n", 4, 18, "'files': 'some' is not a value of it", "known: all, writes, denied"},
                {"  syscalls: {profile: jitt}\n", 4, 23, "there is no seccomp profile 'jitt'", "did you mean 'jit'?"},
                {"  syscalls: {}\n", 4, 3, "missing key 'profile' under syscalls", ""},
                {"  filesystem: {runtime: [python]}\n", 4, 26, "there is no runtime 'python'", "did you mean 'python3'?"},
                {"  filesystem: {runtime: [../../etc/x]}\n", 4, 26, "not an absolute path", ""},
                {"  allow_degraded: [landlok]\n", 4, 20, "'landlok' is not a protection that can be missing",
                 "did you mean 'landlock'?"},
                {"  tools: {allowed: [market_*]}\n", 4, 21, "'market_*' is not a tool's name", "'*' stands alone"},
                {"  tools: {allowed: [\"a b\"]}\n", 4, 21, "'a b' is not a tool's name", ""},
                {"  ipc: {allowed_targets: [\"*\"]}\n", 4, 27, "'*' is not an agent's name", "name each agent"},
                {"  ipc: {message_validation: lax}\n", 4, 29, "'lax' is not a value of it", "known: strict, relaxed"},
                {"  network: {deny_all_other: false}\n", 4, 29,
                 "'deny_all_other' cannot be false: what is not listed is always denied", ""},
                {"  network: {on_unlisted: allow}\n", 4, 26, "'allow' is not a value of it", "known: deny, ask"},
        };

        for (size_t i = 0; i < ELEMENTSOF(rows); i++)
                expect_error(role(rows[i].body), rows[i].line, rows[i].column, rows[i].text, rows[i].hint);
}

static void doubtful_values_are_warned_about(void **state) {
        expect_warning(role("  ipc: {message_validation: relaxed}\n"), 4, 29, "'relaxed' changes nothing", "write strict");
        expect_warning(role("  tools: {allowed: [\"*\"]}\n"), 4, 21, "every tool of a crew is allowed", "");
        expect_warning(role("  tools: {allowed: [a, a]}\n"), 4, 24, "'a' is listed twice (first on line 4)", "");
        expect_warning(role("  tools: {allowed: [a], denied: [a]}\n"), 4, 21, "'a' is denied on line 4, which wins", "");
        expect_warning(role("  ipc: {allowed_targets: [x]}\n"), 4, 27, "may address itself", "");
        expect_warning(role("  network: {allowed_endpoints: [\"a.example.com:1\", \"A.EXAMPLE.com:1\"]}\n"), 4, 52,
                       "listed twice", "");
}

static void the_document_must_be_complete(void **state) {
        expect_error("", 0, 0, "the file holds no policy", "");
        expect_error("agent: x\n", 1, 1, "missing key 'sandbox' in a role policy", "");
        expect_error("sandbox: {mode: deny-by-default}\n", 1, 1, "missing key 'agent' in a role policy", "");
        expect_error("agent: x\nsandbox: {}\n", 2, 1, "missing key 'mode' under sandbox", "");
        expect_error("agent: x\nsandbox: {mode: permissive}\n", 2, 17, "mode 'permissive' would not enforce anything", "");
        expect_error("agent: Bad Name\nsandbox: {mode: deny-by-default}\n", 1, 8, "'Bad Name' is not a name",
                     "1 to 63 characters");
        expect_error("- a\n- b\n", 1, 1, "expected a map, got a list", "");
        expect_error("just text\n", 1, 1, "expected a map, got 'just text'", "");
}

/* In a list of names a word is a word, whatever YAML 1.1 would make of it. */
static void norway_stays_a_word(void **state) {
        struct loaded l;

        load_text(&l, "agent: no\nsandbox:\n  mode: deny-by-default\n  tools: {allowed: [on, y, 1e3, 0755]}\n", NULL);
        assert_int_equal(l.r, 0);
        assert_string_equal(policy_agent(l.image), "no");
        assert_string_equal(names(&l, POLICY_TOOLS_ALLOWED), "on y 1e3 0755");
        loaded_fini(&l);
        expect_error(role("  tools: {allowed: [~]}\n"), 4, 21, "expected a name, got nothing", "");
        expect_error(role("  tools: {allowed: [null]}\n"), 4, 21, "expected a name, got nothing", "");
}

static void all_problems_are_reported_at_once(void **state) {
        struct loaded l;

        load_text(&l, role("  filesytem: {}\n  tools: {alowed: []}\n  limits: {cpu: x}\n"), NULL);
        assert_int_equal(l.report.errors, 3);
        assert_string_equal(l.err.msg, "role.yaml:4:3: unknown key 'filesytem' under sandbox");
        loaded_fini(&l);
}

static void more_problems_than_fit_are_counted(void **state) {
        char body[16384] = "";
        struct loaded l;

        for (unsigned i = 0; i < 100; i++)
                snprintf(body + strlen(body), sizeof(body) - strlen(body), "  unknown%u: 1\n", i);
        load_text(&l, role(body), NULL);
        assert_int_equal(l.report.errors, 100);
        assert_int_equal(l.report.n, 64);
        loaded_fini(&l);
}

static void files_that_cannot_be_read_say_why(void **state) {
        struct loaded l;
        struct scratch s;

        scratch_init(&s);
        load_file(&l, scratch_path(&s, "missing.yaml"), NULL, NULL);
        assert_int_equal(l.r, -EINVAL);
        problem_with(&l, "cannot be read: No such file or directory");
        loaded_fini(&l);
        load_file(&l, s.dir, NULL, NULL);
        assert_int_equal(l.r, -EINVAL);
        problem_with(&l, "cannot be read: not a regular file");
        loaded_fini(&l);
        char *big = calloc(1, (1u << 20) + 2);
        assert_non_null(big);
        memset(big, '#', (1u << 20) + 1);
        load_file(&l, scratch_file(&s, "big.yaml", big), NULL, NULL);
        assert_int_equal(l.r, -EINVAL);
        problem_with(&l, "larger than 1 MiB");
        loaded_fini(&l);
        free(big);
        scratch_fini(&s);
}

static void the_image_is_sealed_and_depends_on_the_policy_alone(void **state) {
        struct loaded a, b, c;

        load_three(&a, "supervisor");
        load_three(&b, "supervisor");
        load_three(&c, "data-collector");
        assert_memory_equal(policy_image_sha256(a.image), policy_image_sha256(b.image), 32);
        assert_memory_not_equal(policy_image_sha256(a.image), policy_image_sha256(c.image), 32);
        int seals = fcntl(policy_image_fd(a.image), F_GET_SEALS);
        assert_int_equal(seals & (F_SEAL_WRITE | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL),
                         F_SEAL_WRITE | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL);
        assert_int_equal(pwrite(policy_image_fd(a.image), "x", 1, 0), -1);
        assert_ptr_equal(mmap(NULL, 4096, PROT_WRITE, MAP_SHARED, policy_image_fd(a.image), 0), MAP_FAILED);
        loaded_fini(&a);
        loaded_fini(&b);
        loaded_fini(&c);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(the_collector_means_what_it_says),
                cmocka_unit_test(the_analyzer_means_what_it_says),
                cmocka_unit_test(the_supervisor_means_what_it_says),
                cmocka_unit_test(of_several_documents_one_must_be_named),
                cmocka_unit_test(agents_of_a_file_are_listed),
                cmocka_unit_test(defaults_are_sensible),
                cmocka_unit_test(values_are_read_exactly),
                cmocka_unit_test(bad_keys_and_types_say_what_was_expected),
                cmocka_unit_test(doubtful_values_are_warned_about),
                cmocka_unit_test(the_document_must_be_complete),
                cmocka_unit_test(norway_stays_a_word),
                cmocka_unit_test(all_problems_are_reported_at_once),
                cmocka_unit_test(more_problems_than_fit_are_counted),
                cmocka_unit_test(files_that_cannot_be_read_say_why),
                cmocka_unit_test(the_image_is_sealed_and_depends_on_the_policy_alone),
        };

        cmocka_set_message_output(CM_OUTPUT_TAP);
        return cmocka_run_group_tests(tests, NULL, NULL);
}
