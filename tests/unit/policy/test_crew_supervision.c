/* SPDX-License-Identifier: Apache-2.0 */
/* `restart`, `on_agent_terminated`, `defaults` and `supervision`: what they mean together, and how they contradict. */
#include "support.h"

#include "common/util.h"
#include "supervisor/rate.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

#define HEAD "crew: demo\npolicies: roles\n"

static_assert(CREW_RESTART_MAX == RATE_MAX, "what a crew file may ask for can be counted");

static struct scratch s;

static int setup(void **state) {
        (void)state;
        scratch_init(&s);
        scratch_file(&s, "roles/a.yaml", "agent: a\nsandbox:\n  mode: deny-by-default\n");
        return 0;
}

static int teardown(void **state) {
        (void)state;
        scratch_fini(&s);
        return 0;
}

static void load(struct loaded *l, const char *yaml) {
        load_crew(l, scratch_file(&s, "crew.yaml", yaml));
}

static const struct {
        const char *agent, *crew; /* keys */
        enum crew_death action;
        uint32_t max;
        uint64_t within_ms;
} meanings[] = {
        /* What was written before there was anything else means what it did. */
        {"", "", CREW_DEATH_FAIL_TASK, 0, 60000},
        {", restart: {max: 5, within: 10s}", "", CREW_DEATH_REASSIGN, 5, 10000},
        {", restart: {max: 0}", "", CREW_DEATH_FAIL_TASK, 0, 60000},
        /* An agent's own word. */
        {", on_agent_terminated: fail_task", "", CREW_DEATH_FAIL_TASK, 0, 60000},
        {", on_agent_terminated: stop_crew", "", CREW_DEATH_STOP_CREW, 0, 60000},
        {", on_agent_terminated: restart", "", CREW_DEATH_RESTART, 3, 60000},
        {", on_agent_terminated: reassign", "", CREW_DEATH_REASSIGN, 3, 60000},
        {", on_agent_terminated: restart, restart: {max: 9}", "", CREW_DEATH_RESTART, 9, 60000},
        {", restart: {max: 0}, on_agent_terminated: stop_crew", "", CREW_DEATH_STOP_CREW, 0, 60000},
        /* The crew's, for those who have none. */
        {"", "defaults: {on_agent_terminated: stop_crew}\n", CREW_DEATH_STOP_CREW, 0, 60000},
        {"", "defaults: {on_agent_terminated: restart}\n", CREW_DEATH_RESTART, 3, 60000},
        {"", "defaults: {on_agent_terminated: reassign}\n", CREW_DEATH_REASSIGN, 3, 60000},
        {", on_agent_terminated: fail_task", "defaults: {on_agent_terminated: restart}\n", CREW_DEATH_FAIL_TASK, 0, 60000},
        {", restart: {max: 7}", "defaults: {on_agent_terminated: restart}\n", CREW_DEATH_RESTART, 7, 60000},
        {", restart: {max: 7}", "defaults: {on_agent_terminated: stop_crew}\n", CREW_DEATH_REASSIGN, 7, 60000},
        {", restart: {max: 0}", "defaults: {on_agent_terminated: stop_crew}\n", CREW_DEATH_STOP_CREW, 0, 60000},
        {", restart: {max: 0}", "defaults: {on_agent_terminated: restart}\n", CREW_DEATH_FAIL_TASK, 0, 60000},
};

/* Wherever the section stands in the file. */
static void each_agents_death_has_one_meaning(void **state) {
        char yaml[600];
        (void)state;
        for (size_t i = 0; i < 2 * ELEMENTSOF(meanings); i++) {
                bool first = i % 2;
                struct loaded l;
                snprintf(yaml, sizeof(yaml), HEAD "%sagents: {a: {policy: a.yaml, command: [cat]%s}}\n%s",
                         first ? meanings[i / 2].crew : "", meanings[i / 2].agent, first ? "" : meanings[i / 2].crew);
                load(&l, yaml);
                assert_int_equal(l.r, 0);
                const struct crew_agent *a = crew_find_agent(l.crew, "a");
                assert_int_equal(a->on_terminated, meanings[i / 2].action);
                assert_int_equal(a->restart_max, meanings[i / 2].max);
                assert_int_equal(a->restart_within_ms, meanings[i / 2].within_ms);
                loaded_fini(&l);
        }
}

static void supervision_means_what_it_says(void **state) {
        static const struct {
                const char *yaml;
                struct crew_supervision want;
        } rows[] = {
                {"", {CREW_ONE_FOR_ONE, false, 0, 0}},
                {"supervision: {}\n", {CREW_ONE_FOR_ONE, false, 0, 60000}},
                {"supervision: {strategy: one_for_one}\n", {CREW_ONE_FOR_ONE, false, 0, 60000}},
                {"supervision: {strategy: rest_for_one}\n", {CREW_REST_FOR_ONE, false, 0, 60000}},
                {"supervision: {strategy: one_for_all, intensity: 0}\n", {CREW_ONE_FOR_ALL, true, 0, 60000}},
                {"supervision: {intensity: 64, period: 5s}\n", {CREW_ONE_FOR_ONE, true, 64, 5000}},
        };
        (void)state;
        for (size_t i = 0; i < ELEMENTSOF(rows); i++) {
                char yaml[400];
                struct loaded l;
                snprintf(yaml, sizeof(yaml), HEAD "agents: {a: {policy: a.yaml, command: [cat], restart: {max: 1}}}\n%s",
                         rows[i].yaml);
                load(&l, yaml);
                assert_int_equal(l.r, 0);
                assert_int_equal(l.report.n, 0);
                assert_int_equal(l.crew->supervision.strategy, rows[i].want.strategy);
                assert_int_equal(l.crew->supervision.limited, rows[i].want.limited);
                assert_int_equal(l.crew->supervision.intensity, rows[i].want.intensity);
                assert_int_equal(l.crew->supervision.period_ms, rows[i].want.period_ms);
                loaded_fini(&l);
        }
}

static void contradictions_are_errors_with_their_place(void **state) {
#define AGENT(keys) HEAD "agents: {a: {policy: a.yaml, command: [cat], " keys "}}\n"
        static const struct {
                const char *yaml;
                int line, column;
                const char *text, *hint;
        } rows[] = {
                {AGENT("on_agent_terminated: reboot"), 3, 67, "'reboot' is not a value of it",
                 "known: fail_task, reassign, restart, stop_crew"},
                {AGENT("on_agent_terminated: [restart]"), 3, 67, "expected a word", ""},
                {AGENT("on_agent_terminatd: restart"), 3, 46, "unknown key 'on_agent_terminatd' in an agent",
                 "did you mean 'on_agent_terminated'?"},
                {AGENT("on_agent_terminated: restart, restart: {max: 0}"), 3, 67,
                 "'restart' needs a restart, and 'restart' allows none", ""},
                {AGENT("restart: {max: 2}, on_agent_terminated: stop_crew"), 3, 86,
                 "'restart' means nothing with on_agent_terminated: stop_crew", "write restart or reassign"},
                {AGENT("restart: {max: 65}"), 3, 61, "65 is out of range", ""},
                {HEAD "agents: {a: {policy: a.yaml, on_agent_terminated: restart}}\n", 3, 30,
                 "agent 'a' has no program that could terminate", ""},
                {AGENT("driver: exec-json") "defaults: {}\n", 4, 1, "missing key 'on_agent_terminated' under defaults", ""},
                {AGENT("driver: exec-json") "defaults: {restart: 1}\n", 4, 12, "unknown key 'restart' under defaults", ""},
                {AGENT("driver: exec-json") "defaults: {on_agent_terminated: never}\n", 4, 33,
                 "'never' is not a value of it", "fail_task"},
                {AGENT("driver: exec-json") "supervision: {strategy: all}\n", 4, 25, "'all' is not a value of it",
                 "known: one_for_one, rest_for_one, one_for_all"},
                {AGENT("driver: exec-json") "supervision: {intensity: 65}\n", 4, 26, "65 is out of range", ""},
                {AGENT("driver: exec-json") "supervision: {intensity: 1, period: 10ms}\n", 4, 37, "10ms is out of range",
                 ""},
                {AGENT("driver: exec-json") "supervision: {period: 10s}\n", 4, 15,
                 "'period' without 'intensity' limits nothing", "add intensity: N"},
                {AGENT("driver: exec-json") "supervison: {}\n", 4, 1, "unknown key 'supervison'",
                 "did you mean 'supervision'?"},
        };
        (void)state;
        for (size_t i = 0; i < ELEMENTSOF(rows); i++) {
                struct loaded l;
                load(&l, rows[i].yaml);
                const struct policy_problem *p = problem_with(&l, rows[i].text);
                assert_false(p->warning);
                assert_int_equal(p->line, rows[i].line);
                assert_int_equal(p->column, rows[i].column);
                assert_non_null(strstr(p->hint, rows[i].hint));
                assert_int_equal(l.r, -EINVAL);
                loaded_fini(&l);
        }
}

static void a_strategy_for_nobody_is_a_warning(void **state) {
        struct loaded l;
        (void)state;
        load(&l, AGENT("driver: exec-json") "supervision: {strategy: one_for_all}\n");
        assert_int_equal(l.r, 0);
        const struct policy_problem *p = problem_with(&l, "'supervision' has no effect: no agent is ever started again");
        assert_true(p->warning);
        assert_int_equal(p->line, 4);
        loaded_fini(&l);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(each_agents_death_has_one_meaning),
                cmocka_unit_test(supervision_means_what_it_says),
                cmocka_unit_test(contradictions_are_errors_with_their_place),
                cmocka_unit_test(a_strategy_for_nobody_is_a_warning),
        };
        cmocka_set_message_output(CM_OUTPUT_TAP);
        return cmocka_run_group_tests(tests, setup, teardown);
}
