/* SPDX-License-Identifier: Apache-2.0 */
/* Points in time, kinds of files, lists of names. */
#include "cli/crews.h"
#include "cli/since.h"
#include "cli/source_file.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#define S 1000000000ull
#define NOW (1774000000ull * S) /* 2026-03-20 09:46:40 UTC */

static void since_is(const char *s, uint64_t want_s) {
        uint64_t got = 0;

        assert_int_equal(since_parse(s, NOW, &got), 0);
        assert_true(got == want_s * S);
}

static void times_are_taken_as_people_write_them(void **state) {
        since_is("5m", 1774000000 - 300);
        since_is("2h", 1774000000 - 7200);
        since_is("@1773999999", 1773999999);
        since_is("2026-03-20T09:00:00Z", 1773997200);
        since_is("2026-03-20 09:00Z", 1773997200);
        since_is("2026-03-20", 1773964800);
        since_is("2026-03-20 09:00:01", 1773997201);
        since_is("09:15", 1773998100);
        since_is("09:15:01", 1773998101);
        since_is("9999h", 1774000000 - 9999 * 3600);
}

static void what_is_no_time_is_refused(void **state) {
        static const char *const bad[] = {"",
                                          "yesterday",
                                          "5",
                                          "5x",
                                          "@",
                                          "@x",
                                          "2026-13-01",
                                          "25:00",
                                          "2026-03-20 09:00 ",
                                          "Z",
                                          "2026-03-20T09:00:00ZZ",
                                          "@99999999999999999999"};
        uint64_t got;

        for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
                assert_int_not_equal(since_parse(bad[i], NOW, &got), 0);
}

static void longer_ago_than_the_epoch_is_the_epoch(void **state) {
        uint64_t got = 1;

        assert_int_equal(since_parse("2h", S, &got), 0);
        assert_true(got == 0);
}

static void files_are_told_apart_by_their_keys(void **state) {
        struct crew_names agents = {0};

        assert_int_equal(source_sniff_text("# agent: no\nagent: \"a-b\"\nsandbox:\n---\nagent: c # x\n", &agents),
                         SOURCE_ROLE);
        assert_int_equal(agents.n, 2);
        assert_string_equal(agents.items[0], "a-b");
        assert_string_equal(agents.items[1], "c");
        crew_names_fini(&agents);
        assert_int_equal(source_sniff_text("crew: x\nagents:\n  a: {}\n", &agents), SOURCE_CREW);
        assert_int_equal(source_sniff_text("tasks:\n", &agents), SOURCE_CREW);
        assert_int_equal(source_sniff_text("  agent: x\n", &agents), SOURCE_OTHER);
        assert_int_equal(source_sniff_text("", &agents), SOURCE_OTHER);
        assert_int_equal(source_sniff_text("agent:", &agents), SOURCE_ROLE);
        assert_int_equal(agents.n, 0);
}

static void a_long_list_of_names_is_cut(void **state) {
        struct crew_names l = {0};
        char out[40];

        for (int i = 0; i < 100; i++)
                assert_int_equal(crew_names_add(&l, "some-agent"), 0);
        crew_names_join(&l, out, sizeof(out));
        assert_true(strlen(out) < sizeof(out));
        assert_non_null(strstr(out, "..."));
        crew_names_fini(&l);
}

static void an_unknown_agent_lists_the_known(void **state) {
        struct crew_names l = {0};
        struct cli_problem p = CLI_PROBLEM_NULL;

        crew_names_add(&l, "data-collector");
        crew_names_add(&l, "portfolio-analyzer");
        crew_unknown_agent(&p, "financial-analysis", "portfolio-analyser", &l);
        assert_int_equal(p.status, CLI_ABSENT);
        assert_string_equal(p.text, "no agent 'portfolio-analyser' in crew financial-analysis");
        assert_string_equal(p.hint, "agents: data-collector, portfolio-analyzer   (did you mean portfolio-analyzer?)");
        crew_names_fini(&l);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(times_are_taken_as_people_write_them),
                cmocka_unit_test(what_is_no_time_is_refused),
                cmocka_unit_test(longer_ago_than_the_epoch_is_the_epoch),
                cmocka_unit_test(files_are_told_apart_by_their_keys),
                cmocka_unit_test(a_long_list_of_names_is_cut),
                cmocka_unit_test(an_unknown_agent_lists_the_known),
        };
        setenv("TZ", "UTC", 1);
        tzset();
        cmocka_set_message_output(CM_OUTPUT_TAP);
        return cmocka_run_group_tests(tests, NULL, NULL);
}
