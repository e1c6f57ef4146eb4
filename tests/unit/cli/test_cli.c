/* SPDX-License-Identifier: Apache-2.0 */
/* The option parser: what it takes, what it refuses, what it suggests. */
#include "cli/cli.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

struct options {
        const char *agent;
        uint64_t last, grace;
        bool json;
};

static const struct cli_option options[] = {
        {"agent", 'a', CLI_STRING, offsetof(struct options, agent), "AGENT", "", CLI_COMPLETE_AGENT},
        {"last", 'n', CLI_U64, offsetof(struct options, last), "N", "", CLI_COMPLETE_NONE},
        {"grace", 0, CLI_DURATION, offsetof(struct options, grace), "TIME", "", CLI_COMPLETE_NONE},
        CLI_OPTION_JSON(struct options),
};
static const struct cli_verb plain = {.name = "plain", .synopsis = "", .options = options, .n_options = 4};
static const struct cli_verb command = {
        .name = "command", .synopsis = "", .options = options, .n_options = 4, .command = true};

struct parsed {
        struct options o;
        struct cli_operands rest;
        struct cli_problem problem;
        char *argv[16];
        int result;
};

static void parse(struct parsed *p, const struct cli_verb *v, const char *const *words) {
        int argc = 1;

        memset(p, 0, sizeof(*p));
        p->argv[0] = (char *)v->name;
        for (; words[argc - 1]; argc++)
                p->argv[argc] = (char *)words[argc - 1];
        p->result = cli_parse_into(v, argc, p->argv, &p->o, &p->rest, &p->problem);
}
#define PARSE(p, v, ...) parse((p), (v), (const char *const[]){__VA_ARGS__, NULL})

static void every_form_of_an_option_is_taken(void **state) {
        struct parsed p;

        PARSE(&p, &plain, "--agent", "x", "--last=7", "--grace", "250ms", "--json");
        assert_int_equal(p.result, 0);
        assert_string_equal(p.o.agent, "x");
        assert_int_equal(p.o.last, 7);
        assert_int_equal(p.o.grace, 250000000);
        assert_true(p.o.json);
        PARSE(&p, &plain, "-a", "y", "-n", "3");
        assert_string_equal(p.o.agent, "y");
        assert_int_equal(p.o.last, 3);
}

static void operands_and_options_mix_until_the_dashes(void **state) {
        struct parsed p;

        PARSE(&p, &plain, "one", "--json", "two", "--", "--agent");
        assert_int_equal(p.result, 0);
        assert_true(p.o.json);
        assert_null(p.o.agent);
        assert_int_equal(p.rest.n, 3);
        assert_string_equal(p.rest.items[0], "one");
        assert_string_equal(p.rest.items[1], "two");
        assert_string_equal(p.rest.items[2], "--agent");
}

static void options_of_a_command_line_are_not_ours(void **state) {
        struct parsed p;

        PARSE(&p, &command, "--agent", "x", "ls", "--json", "-l");
        assert_int_equal(p.result, 0);
        assert_false(p.o.json);
        assert_int_equal(p.rest.n, 3);
        assert_string_equal(p.rest.items[1], "--json");
        PARSE(&p, &command, "--agent", "x", "--", "--json");
        assert_false(p.o.json);
        assert_int_equal(p.rest.n, 1);
}

static void an_unknown_option_names_the_nearest(void **state) {
        struct parsed p;

        PARSE(&p, &plain, "--agnet=x");
        assert_int_equal(p.result, -EINVAL);
        assert_int_equal(p.problem.status, CLI_USAGE);
        assert_string_equal(p.problem.text, "unknown option '--agnet=x' for plain");
        assert_non_null(strstr(p.problem.hint, "did you mean --agent?"));
        PARSE(&p, &plain, "-x");
        assert_int_equal(p.result, -EINVAL);
        PARSE(&p, &plain, "-ax");
        assert_int_equal(p.result, -EINVAL);
}

static void a_bad_value_is_refused(void **state) {
        static const char *const bad[][2] = {
                {"--last", "x"}, {"--last", "-1"}, {"--last", ""}, {"--grace", "5"}, {"--grace", "5y"}};
        struct parsed p;

        for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
                PARSE(&p, &plain, bad[i][0], bad[i][1]);
                assert_int_equal(p.result, -EINVAL);
        }
        PARSE(&p, &plain, "--agent");
        assert_int_equal(p.result, -EINVAL);
        assert_string_equal(p.problem.text, "--agent needs a value: --agent AGENT");
        PARSE(&p, &plain, "--json=yes");
        assert_int_equal(p.result, -EINVAL);
}

static void help_is_asked_for_before_the_dashes_only(void **state) {
        struct parsed p;

        PARSE(&p, &plain, "--last", "1", "-h");
        assert_int_equal(p.result, 1);
        PARSE(&p, &plain, "--", "--help");
        assert_int_equal(p.result, 0);
        assert_int_equal(p.rest.n, 1);
}

static void a_hint_keeps_its_lines_and_its_bound(void **state) {
        struct cli_problem p = CLI_PROBLEM_NULL;

        assert_int_equal(cli_problem_set(&p, CLI_ABSENT, "code", "text %d", 1), -1);
        cli_problem_hint(&p, "a");
        cli_problem_hint(&p, "b");
        assert_string_equal(p.hint, "a\nb");
        for (int i = 0; i < 1000; i++)
                cli_problem_hint(&p, "0123456789");
        assert_true(strlen(p.hint) < sizeof(p.hint));
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(every_form_of_an_option_is_taken),
                cmocka_unit_test(operands_and_options_mix_until_the_dashes),
                cmocka_unit_test(options_of_a_command_line_are_not_ours),
                cmocka_unit_test(an_unknown_option_names_the_nearest),
                cmocka_unit_test(a_bad_value_is_refused),
                cmocka_unit_test(help_is_asked_for_before_the_dashes_only),
                cmocka_unit_test(a_hint_keeps_its_lines_and_its_bound),
        };
        cmocka_set_message_output(CM_OUTPUT_TAP);
        return cmocka_run_group_tests(tests, NULL, NULL);
}
