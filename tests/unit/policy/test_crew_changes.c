/* SPDX-License-Identifier: Apache-2.0 */
/* What counts as a change between two crew files, whom it is about, and what it asks for. */
#include "support.h"

#include "common/util.h"
#include "supervisor/policy/crew_changes.h"

#include <string.h>

#define ROLE(agent, tools)                                                                                                 \
        "agent: " agent "\nsandbox:\n  mode: deny-by-default\n  tools: {allowed: [" tools "], denied: [\"*\"]}\n"
#define TOP "crew: demo\npolicies: .\n"
#define TOOLS "tools:\n  t: {command: [cat], timeout: 10s, input: any.json}\n"
#define AGENTS "agents:\n  a: {policy: a.yaml, command: [cat]}\n  b: {policy: b.yaml, command: [cat]}\n"
#define TASKS "tasks:\n  one: {agent: a, input: {n: 5}}\n"

static struct scratch s;

static int setup(void **state) {
        scratch_init(&s);
        scratch_file(&s, "a.yaml", ROLE("a", "t"));
        scratch_file(&s, "b.yaml", ROLE("b", ""));
        scratch_file(&s, "c.yaml", ROLE("c", ""));
        scratch_file(&s, "any.json", "true");
        return 0;
}

static int teardown(void **state) {
        scratch_fini(&s);
        return 0;
}

struct pair {
        struct loaded from, to;
        struct crew_changes changes;
};

static void load_one(struct loaded *l, const char *text) {
        load_crew(l, scratch_file(&s, "crew.yaml", text));
        if (l->r != 0)
                fail_msg("%s", l->err.msg);
}

static void compare(struct pair *p, const char *from, const char *to) {
        *p = (struct pair){.changes = {.n = 0}};
        load_one(&p->from, from);
        load_one(&p->to, to);
        assert_int_equal(crew_changes_make(p->from.crew, p->to.crew, &p->changes, NULL), 0);
}

static void pair_fini(struct pair *p) {
        crew_changes_fini(&p->changes);
        loaded_fini(&p->from);
        loaded_fini(&p->to);
}

static const struct crew_change *find(const struct pair *p, const char *agent, const char *key) {
        for (size_t i = 0; i < p->changes.n; i++) {
                const struct crew_change *c = &p->changes.items[i];
                if (strcmp(c->key, key) == 0 && (agent ? c->agent && strcmp(c->agent, agent) == 0 : !c->agent))
                        return c;
        }
        return NULL;
}

/* The only change is this one. */
static void expect(const char *from, const char *to, const char *agent, const char *key, enum crew_effect effect,
                   const char *detail) {
        struct pair p;

        compare(&p, from, to);
        for (size_t i = 0; p.changes.n != 1 && i < p.changes.n; i++)
                print_error("%s %s: %s\n", p.changes.items[i].agent ? p.changes.items[i].agent : "crew",
                            p.changes.items[i].key, p.changes.items[i].detail);
        assert_int_equal(p.changes.n, 1);
        const struct crew_change *c = find(&p, agent, key);
        assert_non_null(c);
        assert_int_equal(c->effect, effect);
        assert_string_equal(c->detail, detail);
        pair_fini(&p);
}

static void layout_order_and_quotes_are_no_change(void **state) {
        struct pair p;

        compare(&p, TOP TOOLS AGENTS TASKS,
                "# other\n" TASKS
                "agents:\n  b:\n    command: [\"cat\"]\n    policy: 'b.yaml'\n  a: {command: [cat], policy: a.yaml}\n"
                "tools:\n  t:\n    input: any.json\n    timeout: 10s\n    command:\n      - cat\npolicies: .\ncrew: "
                "demo\n");
        assert_int_equal(p.changes.n, 0);
        pair_fini(&p);
}

static void agents_come_and_go(void **state) {
        struct pair p;

        compare(&p, TOP AGENTS,
                TOP "agents:\n  b: {policy: b.yaml, command: [cat]}\n  c: {policy: c.yaml, command: [cat]}\n");
        assert_int_equal(p.changes.n, 2);
        assert_int_equal(find(&p, "a", "")->effect, CREW_STOP);
        assert_int_equal(find(&p, "c", "")->effect, CREW_START);
        pair_fini(&p);
}

static void each_key_of_an_agent_asks_for_its_own(void **state) {
#define WITH(keys) TOP "agents:\n  a: {policy: a.yaml, command: [cat]" keys "}\n" TOOLS
        expect(WITH(""), TOP "agents:\n  a: {policy: a.yaml, command: [cat, -u]}\n" TOOLS, "a", "command", CREW_RESTART,
               "[cat] -> [cat, -u]");
        expect(WITH(""), WITH(", driver: stdio-rpc"), "a", "driver", CREW_RESTART, "+ stdio-rpc");
        expect(WITH(", goal: x"), WITH(", goal: y"), "a", "goal", CREW_RELOAD, "x -> y");
        expect(WITH(", restart: {max: 3}"), WITH(", restart: {max: 4}"), "a", "restart.max", CREW_RELOAD, "3 -> 4");
        expect(WITH(", restart: {max: 3}"), WITH(""), "a", "restart", CREW_RELOAD, "- {max: 3}");
        expect(WITH(", health: {command: [cat], every: 5s}"), WITH(", health: {command: [cat], every: 6s}"), "a",
               "health.every", CREW_RELOAD, "5s -> 6s");
        expect(WITH(", health: {command: [cat]}"), WITH(", health: {command: [tac]}"), "a", "health.command", CREW_RESTART,
               "[cat] -> [tac]");
}

static void a_tool_concerns_those_who_may_use_it(void **state) {
        expect(TOP TOOLS AGENTS, TOP "tools:\n  t: {command: [tac], timeout: 10s, input: any.json}\n" AGENTS, "a",
               "tools.t.command", CREW_RESTART, "[cat] -> [tac]");
        expect(TOP TOOLS AGENTS, TOP "tools:\n  t: {command: [cat], timeout: 9s, input: any.json}\n" AGENTS, "a",
               "tools.t.timeout", CREW_RESTART, "10s -> 9s");
        expect(TOP TOOLS AGENTS, TOP "tools:\n  t: {command: [cat], timeout: 10s, input: any.json, audit: full}\n" AGENTS,
               "a", "tools.t.audit", CREW_RELOAD, "+ full");
        expect(TOP TOOLS AGENTS, TOP TOOLS "  u: {command: [cat]}\n" AGENTS, NULL, "tools.u", CREW_RELOAD,
               "+ {command: [cat]}");
}

static void a_schema_with_another_text_is_a_change(void **state) {
        struct pair p = {.changes = {.n = 0}};

        load_one(&p.from, TOP TOOLS AGENTS);
        scratch_file(&s, "any.json", "{\"type\": \"object\"}");
        load_one(&p.to, TOP TOOLS AGENTS);
        assert_int_equal(crew_changes_make(p.from.crew, p.to.crew, &p.changes, NULL), 0);
        assert_int_equal(p.changes.n, 1);
        assert_int_equal(find(&p, "a", "tools.t.input")->effect, CREW_RELOAD);
        pair_fini(&p);
}

static void tasks_are_of_the_crew(void **state) {
        expect(TOP TOOLS AGENTS TASKS, TOP TOOLS AGENTS TASKS "  two: {agent: b}\n", NULL, "tasks.two", CREW_RELOAD,
               "+ {agent: b}");
        expect(TOP TOOLS AGENTS TASKS, TOP TOOLS AGENTS "tasks:\n  one: {agent: b, input: {n: 5}}\n", NULL,
               "tasks.one.agent", CREW_RELOAD, "a -> b");
        expect(TOP TOOLS AGENTS TASKS, TOP TOOLS AGENTS "tasks:\n  one: {agent: a, input: {n: \"5\"}}\n", NULL,
               "tasks.one.input", CREW_RELOAD, "{n: 5} -> {n: \"5\"}");
}

#define LED(n)                                                                                                             \
        "process: hierarchical\nmanager: a\nagents:\n  a: {policy: lead.yaml, command: [cat]}\n  b: {policy: b.yaml, "     \
        "command: [cat], max_instances: " n "}\ntasks: {one: {agent: a}}\n"

static void what_only_a_start_can_change_asks_for_the_whole_crew(void **state) {
        scratch_file(&s, "lead.yaml", "agent: a\nsandbox:\n  mode: deny-by-default\n  ipc: {allowed_targets: [b]}\n");
        scratch_file(&s, "hook.sh", "#!/bin/sh\n");
        expect(TOP TOOLS AGENTS, TOP TOOLS AGENTS "hooks: {on_agent_terminated: {command: [cat]}}\n", NULL, "hooks",
               CREW_WHOLE, "+ {on_agent_terminated: {command: [cat]}}");
        expect(TOP LED("1"), TOP LED("3"), "b", "max_instances", CREW_WHOLE, "1 -> 3");
        expect(TOP TOOLS AGENTS, TOP TOOLS AGENTS "approvals: operator\n", NULL, "approvals", CREW_RELOAD, "+ operator");
}

static void long_values_are_cut(void **state) {
        char goal[1000], text[1400];
        struct pair p;

        memset(goal, 'g', sizeof(goal) - 1);
        goal[sizeof(goal) - 1] = '\0';
        snprintf(text, sizeof(text), TOP TOOLS "agents:\n  a: {policy: a.yaml, command: [cat], goal: %s}\n", goal);
        compare(&p, TOP TOOLS "agents:\n  a: {policy: a.yaml, command: [cat]}\n", text);
        const struct crew_change *c = find(&p, "a", "goal");
        assert_true(strlen(c->detail) < CREW_CHANGE_DETAIL);
        assert_string_equal(c->detail + strlen(c->detail) - 4, "g...");
        pair_fini(&p);
}

static void who_votes_on_what_is_settled_at_the_start(void **state) {
        static const char voted[] = TOP "process: consensual\n" AGENTS;

        expect(TOP "process: consensual\n" AGENTS TASKS,
               TOP "process: consensual\n" AGENTS "tasks:\n  one: {agent: b, input: {n: 5}}\n", NULL, "tasks.one.agent",
               CREW_WHOLE, "a -> b");
        struct pair p;
        char more[600];
        snprintf(more, sizeof(more), "%s  c: {policy: c.yaml, command: [cat]}\n", voted);
        compare(&p, voted, more);
        assert_int_equal(find(&p, NULL, "agents")->effect, CREW_WHOLE);
        pair_fini(&p);
}

static void a_process_where_there_was_none_asks_for_the_whole_crew(void **state) {
        struct pair p;

        compare(&p, TOP "agents:\n  a: {policy: a.yaml}\n  b: {policy: b.yaml, command: [cat]}\n", TOP AGENTS);
        assert_int_equal(find(&p, NULL, "agents.a")->effect, CREW_WHOLE);
        pair_fini(&p);
}

/* Agents keep the places that crewd has for their names, and whatever names them by place goes with them. */
static void a_changed_file_is_arranged_by_the_names_that_are_there(void **state) {
        static const char *const names[] = {"gone", "b", "a"};
        const struct crew_places places = {names, 3};
        struct policy_report report = {0};
        struct crew_err err = CREW_ERR_NULL;
        struct crew_file *c = NULL;
        const char *file = scratch_file(&s, "crew.yaml",
                                        TOP AGENTS "  c: {policy: c.yaml, command: [cat]}\n"
                                                   "memory: {board: {read: [a], write: [c]}}\n"
                                                   "tasks:\n  one: {agent: c}\n  two: {agent: b}\n");

        if (crew_load_placed(file, &places, &c, &report, &err) < 0)
                fail_msg("%s", err.msg);
        assert_int_equal(c->n_agents, 4);
        assert_true(c->agents[0].absent && !c->agents[0].policy);
        assert_string_equal(c->agents[0].name, "gone");
        assert_null(crew_find_agent(c, "gone"));
        assert_string_equal(c->agents[1].name, "b");
        assert_string_equal(c->agents[2].name, "a");
        assert_string_equal(c->agents[3].name, "c");
        assert_true(c->agents[2].order == 0 && c->agents[1].order == 1 && c->agents[3].order == 2);
        assert_true(c->tasks[0].agent_index == 3 && c->tasks[1].agent_index == 1);
        assert_int_equal(c->memory[0].rights[2], CREW_MEMORY_READ);
        assert_int_equal(c->memory[0].rights[3], CREW_MEMORY_READ | CREW_MEMORY_WRITE);
        assert_int_equal(c->memory[0].rights[0] | c->memory[0].rights[1], 0);
        policy_report_fini(&report);
        crew_file_free(c);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
int main(void) {
        const struct CMUnitTest tests[] = {
                TEST(layout_order_and_quotes_are_no_change),
                TEST(agents_come_and_go),
                TEST(each_key_of_an_agent_asks_for_its_own),
                TEST(a_tool_concerns_those_who_may_use_it),
                TEST(a_schema_with_another_text_is_a_change),
                TEST(tasks_are_of_the_crew),
                TEST(what_only_a_start_can_change_asks_for_the_whole_crew),
                TEST(long_values_are_cut),
                TEST(who_votes_on_what_is_settled_at_the_start),
                TEST(a_process_where_there_was_none_asks_for_the_whole_crew),
                TEST(a_changed_file_is_arranged_by_the_names_that_are_there),
        };
        cmocka_set_message_output(CM_OUTPUT_TAP);
        return cmocka_run_group_tests(tests, NULL, NULL);
}
