/* SPDX-License-Identifier: Apache-2.0 */
/* A crew file: what it means, and every way it can contradict itself or its policies, with both places. */
#include "support.h"

#include "common/plan.h"
#include "common/util.h"

#include <string.h>
#include <sys/stat.h>

#define ROLE(agent, body) "agent: " agent "\nsandbox:\n  mode: deny-by-default\n" body
#define CA "-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----\n"
#define HEAD "crew: demo\npolicies: roles\n"

/* A crew that loads: one tool, two agents and an orchestrator, two tasks. */
static const char good[] = "crew: demo\n"          /* 1 */
                           "process: sequential\n" /* 2 */
                           "policies: roles\n"     /* 3 */
                           "endpoints:\n"          /* 4 */
                           "  \"api.example.com:443\": {connect_to: \"127.0.0.1:18443\", ca: certs/ca.pem}\n"
                           "tools:\n"                                                             /* 6 */
                           "  quote_tool:\n"                                                      /* 7 */
                           "    description: Quotes\n"                                            /* 8 */
                           "    command: [\"${CREW_DIR}/tools/quote.py\", --fast]\n"              /* 9 */
                           "    input: schemas/any.json\n"                                        /* 10 */
                           "    timeout: 10s\n"                                                   /* 11 */
                           "    audit: full\n"                                                    /* 12 */
                           "agents:\n"                                                            /* 13 */
                           "  fetcher:\n"                                                         /* 14 */
                           "    policy: fetcher.yaml\n"                                           /* 15 */
                           "    role: Fetcher\n"                                                  /* 16 */
                           "    goal: Fetch\n"                                                    /* 17 */
                           "    command: [env, python3, \"${CREW_DIR}/agents/fetch.py\"]\n"       /* 18 */
                           "    restart: {max: 3, within: 90s}\n"                                 /* 19 */
                           "    tools: [quote_tool]\n"                                            /* 20 */
                           "  writer:\n"                                                          /* 21 */
                           "    policy: {file: shared.yaml, agent: some-writer}\n"                /* 22 */
                           "    command: [cat]\n"                                                 /* 23 */
                           "    driver: stdio-rpc\n"                                              /* 24 */
                           "  boss:\n"                                                            /* 25 */
                           "    policy: boss.yaml\n"                                              /* 26 */
                           "tasks:\n"                                                             /* 27 */
                           "  write: {agent: writer, context: [fetch], timeout: 1h}\n"            /* 28 */
                           "  fetch:\n"                                                           /* 29 */
                           "    agent: fetcher\n"                                                 /* 30 */
                           "    description: Get it\n"                                            /* 31 */
                           "    input: {symbols: [A, \"no\"], n: 3, deep: {ok: true, x: null}}\n" /* 32 */
                           "    output: schemas/any.json\n"                                       /* 33 */
                           "hooks:\n"                                                             /* 34 */
                           "  on_agent_terminated: {command: [\"${CREW_DIR}/hooks/page.sh\"]}\n"; /* 35 */

static struct scratch s;

static int setup(void **state) {
        scratch_init(&s);
        scratch_file(&s, "roles/fetcher.yaml",
                     ROLE("fetcher", "  filesystem: {write: [\"${CREW_DIR}/out/fetch/\"]}\n"
                                     "  network: {allowed_endpoints: [\"api.example.com:443\"]}\n"
                                     "  tools: {allowed: [quote_tool], denied: [\"*\"]}\n"));
        scratch_file(&s, "roles/shared.yaml",
                     ROLE("some-writer",
                          "  filesystem: {read: [\"${CREW_DIR}/out/fetch/\"], write: [\"${CREW_DIR}/out/write/\"]}\n"));
        scratch_file(&s, "roles/boss.yaml", ROLE("boss", "  ipc: {allowed_targets: [fetcher, writer]}\n"));
        scratch_file(&s, "roles/a.yaml", ROLE("a", ""));
        scratch_file(&s, "roles/b.yaml", ROLE("b", ""));
        scratch_file(&s, "tools/quote.py", "#!/bin/sh\n");
        scratch_file(&s, "agents/fetch.py", "");
        scratch_file(&s, "hooks/page.sh", "#!/bin/sh\n");
        scratch_file(&s, "schemas/any.json", "{\"type\": \"object\"}");
        scratch_file(&s, "schemas/bad.json", "{\"tpye\": \"object\"}");
        scratch_file(&s, "certs/ca.pem", CA);
        scratch_file(&s, "certs/key.pem", CA "-----BEGIN PRIVATE KEY-----\nAA==\n-----END PRIVATE KEY-----\n");
        scratch_file(&s, "certs/none.pem", "pem\n");
        return 0;
}

static int teardown(void **state) {
        scratch_fini(&s);
        return 0;
}

static void load(struct loaded *l, const char *yaml) {
        load_crew(l, scratch_file(&s, "crew.yaml", yaml));
}

static void expect_in(const char *yaml, bool warning, const char *file, int line, int column, const char *text,
                      const char *hint) {
        struct loaded l;

        load(&l, yaml);
        const struct policy_problem *p = problem_with(&l, text);
        if (p->warning != warning || !strstr(p->file, file) || p->line != line || (column && p->column != column) ||
            !strstr(p->hint, hint))
                fail_msg("got %s:%d:%d: %s [%s]", p->file, p->line, p->column, p->text, p->hint);
        if (!warning)
                assert_int_equal(l.r, -EINVAL);
        assert_int_equal(l.r == 0, l.crew != NULL);
        loaded_fini(&l);
}

#define error_in_crew(yaml, line, column, text, hint) expect_in(yaml, false, "/crew.yaml", line, column, text, hint)

static void a_crew_means_what_it_says(void **state) {
        struct loaded l;

        load(&l, good);
        for (size_t i = 0; i < l.report.n; i++)
                print_error("%s: %s\n", l.report.items[i].file, l.report.items[i].text);
        assert_int_equal(l.r, 0);
        const struct crew_file *c = l.crew;
        assert_string_equal(c->name, "demo");
        assert_string_equal(c->dir, s.dir);
        assert_int_equal(c->process, CREW_SEQUENTIAL);
        assert_int_equal(c->n_tools, 1);
        const struct crew_tool *t = crew_find_tool(c, "quote_tool");
        assert_string_equal(t->command[0], scratch_path(&s, "tools/quote.py"));
        assert_string_equal(t->command[1], "--fast");
        assert_null(t->command[2]);
        assert_int_equal(t->timeout_ms, 10000);
        assert_int_equal(t->max_output, 4u << 20);
        assert_true(t->audit_full && !t->idempotent);
        assert_non_null(t->input);
        assert_null(t->output);
        const struct crew_agent *a = crew_find_agent(c, "fetcher");
        assert_int_equal(a->driver, PLAN_DRIVER_EXEC_JSON);
        assert_int_equal(a->restart_max, 3);
        assert_int_equal(a->restart_within_ms, 90000);
        assert_string_equal(a->role, "Fetcher");
        assert_string_equal(policy_agent(a->policy), "fetcher");
        assert_string_equal(a->policy_file, scratch_path(&s, "roles/fetcher.yaml"));
        a = crew_find_agent(c, "writer");
        assert_int_equal(a->driver, PLAN_DRIVER_STDIO_RPC);
        assert_string_equal(policy_agent(a->policy), "some-writer");
        assert_int_equal(a->restart_max, 0);
        a = crew_find_agent(c, "boss");
        assert_true(a->orchestrator);
        assert_int_equal(a->driver, PLAN_DRIVER_NONE);
        assert_int_equal(c->n_endpoints, 1);
        assert_string_equal(c->endpoints[0].host, "api.example.com");
        assert_int_equal(c->endpoints[0].to_port, 18443);
        assert_string_equal(c->endpoints[0].ca_file, scratch_path(&s, "certs/ca.pem"));
        assert_string_equal(c->endpoints[0].ca, CA);
        assert_int_equal(c->endpoints[0].ca_bytes, strlen(CA));
        assert_string_equal(c->hook_terminated[0], scratch_path(&s, "hooks/page.sh"));
        loaded_fini(&l);
}

static void tasks_keep_their_order_and_know_what_they_need(void **state) {
        struct loaded l;

        load(&l, good);
        assert_int_equal(l.r, 0);
        const struct crew_task *w = &l.crew->tasks[0], *f = &l.crew->tasks[1];
        assert_string_equal(w->name, "write");
        assert_int_equal(w->n_context, 1);
        assert_int_equal(w->context[0], 1);
        assert_int_equal(w->agent_index, 1);
        assert_int_equal(w->timeout_ms, 600000); /* 1h, cut to the wall_time of its agent */
        assert_non_null(problem_with(&l, "the wall_time of agent 'writer' is shorter: 600 s"));
        assert_int_equal(f->timeout_ms, 300000);
        assert_string_equal(f->input_json, "{\"symbols\":[\"A\",\"no\"],\"n\":3,\"deep\":{\"ok\":true,\"x\":null}}");
        assert_non_null(f->output);
        loaded_fini(&l);
}

static void unknown_names_say_what_is_declared(void **state) {
        error_in_crew(HEAD "agents: {a: {policy: a.yaml, command: [cat]}, bee: {policy: b.yaml}}\n"
                           "tasks:\n  t: {agent: aa}\n",
                      5, 14, "task 't' names agent 'aa', which is not declared", "declared: a, bee");
        error_in_crew(HEAD "agents:\n  portfolio-analyzer: {policy: {file: a.yaml, agent: a}, command: [cat]}\n"
                           "tasks:\n  analyze:\n    agent: portfolio-analyser\n",
                      7, 12, "task 'analyze' names agent 'portfolio-analyser', which is not declared",
                      "did you mean 'portfolio-analyzer'? declared: portfolio-analyzer");
        error_in_crew(HEAD "agents: {a: {policy: a.yaml, command: [cat]}}\ntasks:\n  one: {agent: a}\n  two: {agent: a, "
                           "context: [on]}\n",
                      6, 29, "task 'two' needs task 'on', which is not declared", "did you mean 'one'? declared: one, two");
        error_in_crew(HEAD "agents: {a: {policy: a.yaml, command: [cat], tools: [hammer]}}\n", 3, 54,
                      "agent 'a' names tool 'hammer', which is not declared", "none is declared");
        error_in_crew(HEAD "agents: {a: {policy: nope.yaml, command: [cat]}}\n", 3, 22,
                      "the policy of agent 'a': cannot open ", "looked up in 'policies:'");
        error_in_crew(HEAD "agents: {c: {policy: a.yaml, command: [cat]}}\n", 3, 22,
                      "the policy of agent 'c' does not load", "write {file: NAME.yaml, agent: ITS-AGENT}");
}

static void an_allowed_tool_that_is_not_declared_is_a_warning(void **state) {
        scratch_file(&s, "roles/t.yaml", ROLE("t", "  tools: {allowed: [qoute_tool]}\n"));
        expect_in(HEAD "tools: {quote_tool: {command: [cat]}}\nagents: {t: {policy: t.yaml, command: [cat]}}\n", true,
                  "/roles/t.yaml", 4, 21, "tool 'qoute_tool' is not declared in ", "did you mean 'quote_tool'?");
        scratch_file(&s, "roles/t.yaml", ROLE("t", "  ipc: {allowed_targets: [u]}\n"));
        expect_in(HEAD "agents: {t: {policy: t.yaml, command: [cat]}}\n", true, "/roles/t.yaml", 4, 27,
                  "agent 'u' is not declared in ", "declared: t");
}

static void a_needed_tool_must_be_allowed(void **state) {
        error_in_crew(HEAD "tools: {quote_tool: {command: [cat]}}\nagents: {a: {policy: a.yaml, command: [cat], tools: "
                           "[quote_tool]}}\n",
                      4, 54, "agent 'a' needs tool 'quote_tool', which its policy denies (",
                      "add \"quote_tool\" to tools.allowed");
}

static void cycles_are_named(void **state) {
        error_in_crew(HEAD "agents: {a: {policy: a.yaml, command: [cat]}}\n"
                           "tasks:\n"
                           "  first: {agent: a}\n"
                           "  one: {agent: a, context: [first, two]}\n"
                           "  two: {agent: a, context: [three]}\n"
                           "  three: {agent: a, context: [one]}\n",
                      8, 0, "a cycle in context: one -> two -> three -> one", "each waits for the next");
        error_in_crew(HEAD "agents: {a: {policy: a.yaml, command: [cat]}}\ntasks: {self: {agent: a, context: [self]}}\n", 4,
                      0, "a cycle in context: self -> self", "");
}

#define HOLD HEAD "on_supervisor_loss: hold\n"

static void what_cannot_be_held_is_refused(void **state) {
        scratch_file(&s, "roles/web.yaml",
                     ROLE("web", "  network:\n    allowed_endpoints:\n      - \"api.example.com:443\"\n"
                                 "      - {host: www.example.com, port: 443, tls: inspect}\n"));
        expect_in(HOLD "agents: {web: {policy: web.yaml, command: [cat]}}\n", false, "web.yaml", 7, 0,
                  "agents with 'tls: inspect' (www.example.com:443) cannot be held", "not both");
        error_in_crew(HOLD "process: hierarchical\nmanager: lead\nagents: {lead: {policy: lead.yaml, command: [cat]}}\n", 3,
                      1, "agents of process: hierarchical cannot be held", "use process: sequential");
        error_in_crew(HOLD "process: consensual\nagents: {a: {policy: a.yaml, command: [cat]}}\n", 3, 1,
                      "agents of process: consensual cannot be held", "");
        error_in_crew(HEAD "hold_for: 5s\nagents: {a: {policy: a.yaml, command: [cat]}}\n", 3, 1,
                      "'hold_for' means nothing without on_supervisor_loss: hold", "");
}

#define MANAGED HEAD "process: hierarchical\nmanager: "
#define TEAM                                                                                                               \
        "agents:\n"                                                                                                        \
        "  lead: {policy: lead.yaml, command: [cat]}\n"                                                                    \
        "  a: {policy: a.yaml, command: [cat]}\n"
#define LEAD(body) scratch_file(&s, "roles/lead.yaml", ROLE("lead", body))
#define MAY_SEND "  ipc: {allowed_targets: [a]}\n"

static void a_manager_hands_out_work_and_nothing_else(void **state) {
        struct loaded l;

        LEAD(MAY_SEND);
        load(&l, MANAGED "lead\n" TEAM "tasks: {one: {agent: lead}, two: {agent: a, retries: 3}}\n");
        assert_int_equal(l.r, 0);
        assert_int_equal(l.crew->manager.index, 0);
        assert_int_equal(l.crew->manager.tasks_at_once, CREW_MANAGER_TASKS_AT_ONCE);
        assert_int_equal(l.crew->manager.tasks_total, CREW_MANAGER_TASKS_TOTAL);
        assert_int_equal(l.crew->tasks[1].retries, 3);
        loaded_fini(&l);
        load(&l, MANAGED "{agent: lead, tasks_at_once: 2, tasks_total: 4096}\n" TEAM "tasks: {one: {agent: lead}}\n");
        assert_int_equal(l.r, 0);
        assert_int_equal(l.crew->manager.tasks_at_once, 2);
        assert_int_equal(l.crew->manager.tasks_total, 4096);
        loaded_fini(&l);
}

static void a_manager_with_more_than_that_is_refused(void **state) {
        static const struct {
                const char *body, *text;
        } bad[] = {
                {"  filesystem: {read: [\"${CREW_DIR}/schemas/\"]}\n",
                 "the manager 'lead' may reach no file, but filesystem.read lists"},
                {"  filesystem: {write: [\"${CREW_DIR}/w/\"]}\n", "may reach no file, but filesystem.write lists"},
                {"  filesystem: {exec: [/usr/bin/env]}\n", "may reach no file, but filesystem.exec lists '/usr/bin/env'"},
                {"  network: {allowed_endpoints: [\"api.example.com:443\"]}\n", "may reach no network"},
                {"  network: {on_unlisted: ask}\n", "may reach no network"},
                {"  tools: {allowed: [quote_tool]}\n", "may have no tool, but tools.allowed lists 'quote_tool'"},
        };

        for (size_t i = 0; i < ELEMENTSOF(bad); i++) {
                char body[512];
                snprintf(body, sizeof(body), ROLE("lead", "%s" MAY_SEND), bad[i].body);
                scratch_file(&s, "roles/lead.yaml", body);
                expect_in(MANAGED "lead\n" TEAM "tasks: {one: {agent: lead}}\n", false, "lead.yaml", 4, 0, bad[i].text,
                          "hands out");
        }
}

static void a_hierarchy_that_could_not_work_is_refused(void **state) {
        LEAD(MAY_SEND);
        error_in_crew(HEAD "process: hierarchical\n" TEAM, 3, 10, "process 'hierarchical' needs a manager",
                      "manager: AGENT");
        error_in_crew(HEAD "manager: lead\n" TEAM, 3, 1, "'manager' is for hierarchical crews", "process: hierarchical");
        error_in_crew(MANAGED "leed\n" TEAM, 4, 10, "the manager is agent 'leed', which is not declared",
                      "did you mean 'lead'?");
        error_in_crew(MANAGED "boss\n" TEAM "  boss: {policy: boss.yaml}\n", 4, 10,
                      "the manager 'boss' has no command (line 8)", "");
        error_in_crew(MANAGED "lead\n" TEAM "tasks: {one: {agent: a}}\n", 4, 10, "no task is the manager's", "");
        error_in_crew(MANAGED "{agent: lead, tasks_at_once: 0}\n" TEAM, 4, 0, "tasks_at_once", "");
        error_in_crew(MANAGED "{tasks_total: 5}\n" TEAM, 4, 0, "'agent'", "");
        error_in_crew(MANAGED "lead\n" TEAM "tasks: {one: {agent: lead, retries: 11}}\n", 8, 0, "retries", "");
        LEAD("");
        error_in_crew(MANAGED "lead\n" TEAM "tasks: {one: {agent: lead}}\n", 4, 10,
                      "the manager 'lead' may address no other agent of this crew", "ipc.allowed_targets");
}

#define SEVERAL(n)                                                                                                         \
        "agents:\n  lead: {policy: lead.yaml, command: [cat]}\n  a: {policy: a.yaml, command: [cat], max_instances: " n    \
        "}\n"
#define LEADS "tasks: {one: {agent: lead}}\n"

static void further_instances_are_agents_behind_all_others(void **state) {
        struct loaded l;

        LEAD(MAY_SEND);
        load(&l, MANAGED "lead\n" SEVERAL("3") "  boss: {policy: boss.yaml}\nmemory: {notes: {write: [a]}}\n" LEADS);
        assert_int_equal(l.r, 0);
        static const char *const names[] = {"lead", "a", "boss", "a#2", "a#3"};
        assert_int_equal(l.crew->n_agents, ELEMENTSOF(names));
        for (size_t i = 0; i < ELEMENTSOF(names); i++) {
                const struct crew_agent *a = &l.crew->agents[i];
                assert_string_equal(a->name, names[i]);
                assert_int_equal(a->instance, i < 3 ? 0 : i - 1);
                assert_ptr_equal(crew_find_agent(l.crew, names[i]), a);
                assert_int_equal(l.crew->memory[0].rights[i], i == 1 || i > 2 ? 3 : 0);
        }
        assert_int_equal(l.crew->agents[4].instance_of, 1);
        assert_ptr_equal(l.crew->agents[4].policy, l.crew->agents[1].policy);
        assert_int_equal(l.crew->agents[4].state, CREW_STATE_FRESH);
        assert_string_equal(crew_policy_name(l.crew, "a#3"), "a");
        assert_string_equal(crew_policy_name(l.crew, "a#4"), "a#4");
        assert_string_equal(crew_policy_name(l.crew, "a"), "a");
        loaded_fini(&l);
        load(&l, MANAGED "lead\n" SEVERAL("1") LEADS);
        assert_int_equal(l.crew->n_agents, 2);
        loaded_fini(&l);
}

static void instances_that_nobody_could_ask_for_are_refused(void **state) {
        LEAD(MAY_SEND);
        error_in_crew(HEAD SEVERAL("2"), 5, 39, "'max_instances' is for crews with a manager", "process: hierarchical");
        error_in_crew(MANAGED "lead\n" SEVERAL("17") LEADS, 7, 54, "", "");
        error_in_crew(MANAGED "lead\n" SEVERAL("0") LEADS, 7, 54, "", "");
        error_in_crew(MANAGED "lead\n" SEVERAL("2") "  boss: {policy: boss.yaml, max_instances: 2}\n" LEADS, 8, 29,
                      "'max_instances' without 'command'", "");
        error_in_crew(MANAGED "a\n" SEVERAL("2") "tasks: {one: {agent: a}}\n", 7, 39, "agent 'a' is the manager", "");
        error_in_crew(MANAGED "lead\n" SEVERAL("2") "  a#2: {policy: a.yaml}\n" LEADS, 8, 3,
                      "'a#2' is not a name for an agent", "");
}

static void names_of_the_managers_verbs_are_taken(void **state) {
        error_in_crew(HEAD "tools: {crew_submit: {command: [cat]}}\nagents: {a: {policy: a.yaml}}\n", 3, 9,
                      "'crew_submit' is what the manager of a crew hands out work with", "another name");
}

static void an_unknown_process_is_refused(void **state) {
        error_in_crew(HEAD "process: parallel\nagents: {a: {policy: a.yaml}}\n", 3, 10, "'parallel' is not a value of it",
                      "known: sequential, hierarchical, consensual");
}

#define BOARD                                                                                                              \
        "agents:\n"                                                                                                        \
        "  a: {policy: a.yaml, command: [cat]}\n"                                                                          \
        "  b: {policy: b.yaml, command: [cat]}\n"                                                                          \
        "  boss: {policy: boss.yaml}\n"
#define VOTED HEAD "process: consensual\nconsensus: "

static void memory_has_rights_and_quotas(void **state) {
        struct loaded l;

        load(&l, HEAD BOARD "tool_delegation: within_allowed\nmemory:\n"
                            "  notes: {write: [a], read: [b], max_bytes: 4KiB, agent_bytes: 1KiB, max_keys: 5}\n"
                            "  other: {write: [b]}\n");
        assert_int_equal(l.r, 0);
        const struct crew_memory *m = l.crew->memory;
        assert_int_equal(l.crew->n_memory, 2);
        assert_true(m[0].rights[0] == 3 && m[0].rights[1] == 1 && m[0].rights[2] == 0);
        assert_true(m[0].max_bytes == 4096 && m[0].agent_bytes == 1024 && m[0].max_keys == 5);
        assert_true(m[1].max_bytes == 1u << 20 && m[1].agent_bytes == 1u << 20 && m[1].max_keys == 256);
        assert_int_equal(l.crew->tool_delegation, CREW_TOOLS_WITHIN_ALLOWED);
        loaded_fini(&l);
        error_in_crew(HEAD "memory: {notes: {write: [x]}}\n" BOARD, 3, 0,
                      "memory 'notes' names agent 'x', which is not declared", "");
        error_in_crew(HEAD "memory: {notes: {read: [a]}}\n" BOARD, 3, 0, "'write'", "");
        error_in_crew(HEAD "memory: {Notes: {write: [a]}}\n" BOARD, 3, 10, "'Notes' is not a name for a memory", "");
        error_in_crew(HEAD "memory: {notes: {write: [a], max_keys: 0}}\n" BOARD, 3, 0, "max_keys", "");
        error_in_crew(HEAD "tool_delegation: open\n" BOARD, 3, 0, "'open' is not a value of it", "locked, within_allowed");
}

static void a_consensus_means_what_it_says(void **state) {
        struct loaded l;

        load(&l, HEAD "process: consensual\n" BOARD);
        assert_int_equal(l.r, 0);
        const struct crew_consensus *k = &l.crew->consensus;
        assert_int_equal(k->rule, CREW_MAJORITY);
        assert_int_equal(k->tie, CREW_TIE_REJECT);
        assert_int_equal(k->deadline_ms, 60000);
        assert_true(k->weights[0] == 1 && k->weights[1] == 1 && k->weights[2] == 0);
        loaded_fini(&l);
        load(&l, VOTED "{rule: weighted, voters: {a: 3, b: 1}, quorum: 2, tie_break: b, deadline: 5s}\n" BOARD);
        assert_int_equal(l.r, 0);
        k = &l.crew->consensus;
        assert_int_equal(k->rule, CREW_WEIGHTED);
        assert_true(k->weights[0] == 3 && k->weights[1] == 1 && k->quorum == 2);
        assert_true(k->tie == CREW_TIE_AGENT && k->tie_agent == 1 && k->deadline_ms == 5000);
        loaded_fini(&l);
}

static void a_vote_that_could_not_work_is_refused(void **state) {
        error_in_crew(HEAD "consensus: {}\n" BOARD, 3, 1, "'consensus' is for consensual crews", "process: consensual");
        error_in_crew(VOTED "{voters: [a, c]}\n" BOARD, 4, 0, "agent 'c', who is to vote, is not declared", "");
        error_in_crew(VOTED "{voters: [a, boss]}\n" BOARD, 4, 0, "agent 'boss' has no command: it cannot vote", "");
        error_in_crew(VOTED "{voters: [a]}\n" BOARD, 4, 0, "a vote needs two voters, there are 1", "");
        error_in_crew(VOTED "{quorum: 3}\n" BOARD, 4, 0, "'quorum': 3 votes of 2 voters", "");
        error_in_crew(VOTED "{rule: weighted}\n" BOARD, 4, 0, "the rule 'weighted' needs voters", "WEIGHT");
        error_in_crew(VOTED "{rule: weighted, voters: [a, b]}\n" BOARD, 4, 0, "a map of agents and their weights", "");
        error_in_crew(VOTED "{voters: {a: 1}}\n" BOARD, 4, 0, "a list of agents", "");
        error_in_crew(VOTED "{rule: weighted, voters: {a: 0, b: 1}}\n" BOARD, 4, 0, "'voters': 0 is out of range", "");
        error_in_crew(VOTED "{tie_break: boss}\n" BOARD, 4, 0, "'tie_break': 'boss' has no vote", "name of a voter");
        error_in_crew(VOTED "{rule: loudest}\n" BOARD, 4, 0, "'loudest' is not a value of it", "majority");
}

static void bad_values_say_what_was_expected(void **state) {
        static const struct {
                const char *yaml;
                int line, column;
                const char *text, *hint;
        } rows[] = {
                {"", 0, 0, "the file holds no crew", ""},
                {"crew: x\n", 1, 1, "missing key 'agents' in a crew file", ""},
                {"agents: {}\n", 1, 9, "a crew needs at least one agent", ""},
                {"crew: A B\nagents: {a: {policy: roles/a.yaml}}\n", 1, 7, "'A B' is not a name", ""},
                {"crew: x\nagents: {a: {policy: roles/a.yaml}}\n---\ncrew: y\n", 4, 1, "a crew file holds one document",
                 ""},
                {"crew: x\nagnets: {}\n", 2, 1, "unknown key 'agnets' in a crew file", "did you mean 'agents'?"},
                {"crew: x\nagents: {a: {}}\n", 2, 10, "missing key 'policy' in an agent", ""},
                {"crew: x\nagents: {a_b: {policy: roles/a.yaml}}\n", 2, 10, "'a_b' is not a name for an agent", ""},
                {"crew: x\nagents: {a: {policy: roles/a.yaml, comand: [x]}}\n", 2, 36, "unknown key 'comand'",
                 "did you mean 'command'?"},
                {"crew: x\nagents: {a: {policy: roles/a.yaml, command: cat}}\n", 2, 45, "expected a list: the program", ""},
                {"crew: x\nagents: {a: {policy: roles/a.yaml, command: []}}\n", 2, 45, "expected 1 to 256 words", ""},
                {"crew: x\nagents: {a: {policy: roles/a.yaml, command: [\"\"]}}\n", 2, 46, "the program is empty", ""},
                {"crew: x\nagents: {a: {policy: roles/a.yaml, command: [agents/a.py]}}\n", 2, 46, "is a relative path",
                 "${CREW_DIR}/"},
                {"crew: x\nagents: {a: {policy: roles/a.yaml, command: [\"${CREW_DIR}/none\"]}}\n", 2, 46,
                 "No such file or directory", ""},
                {"crew: x\nagents: {a: {policy: roles/a.yaml, command: [\"${CREW_DIR}\"]}}\n", 2, 46,
                 "is not a regular file", ""},
                {"crew: x\nagents: {a: {policy: roles/a.yaml, command: [\"${HOME}/x\"]}}\n", 2, 46,
                 "only ${CREW_DIR} is expanded", ""},
                {"crew: x\nagents: {a: {policy: roles/a.yaml, driver: exec-json}}\n", 2, 36, "'driver' without 'command'",
                 ""},
                {"crew: x\nagents: {a: {policy: roles/a.yaml, command: [cat], driver: exec}}\n", 2, 60,
                 "'exec' is not a value of it", "known: exec-json, stdio-rpc"},
                {"crew: x\nagents: {a: {policy: roles/a.yaml, restart: {within: 5s}}}\n", 2, 36,
                 "missing key 'max' under restart", ""},
                {"crew: x\nagents: {a: {policy: roles/a.yaml, restart: {max: 5000}}}\n", 2, 51, "5000 is out of range", ""},
                {"crew: x\nagents: {a: {policy: {file: roles/a.yaml}}}\n", 2, 14, "missing key 'agent' in policy", ""},
                {"crew: x\ntools: {T: {command: [cat]}}\n", 2, 9, "'T' is not a name for a tool", ""},
                {"crew: x\ntools: {t: {}}\n", 2, 9, "missing key 'command' in a tool", ""},
                {"crew: x\ntools: {t: {command: [cat], input: schemas/none.json}}\n", 2, 36, "'input': ", ""},
                {"crew: x\ntools: {t: {command: [cat], input: schemas/bad.json}}\n", 2, 36, "'input': ", ""},
                {"crew: x\ntools: {t: {command: [cat], timeout: 10}}\n", 2, 38, "'timeout': expected a duration", ""},
                {"crew: x\ntools: {t: {command: [cat], max_output: 1GiB}}\n", 2, 41, "'max_output': 1GiB is out of range",
                 ""},
                {"crew: x\ntools: {t: {command: [cat], audit: all}}\n", 2, 36, "'all' is not a value of it",
                 "known: digest, full"},
                {"crew: x\ntasks: {t: {description: d}}\n", 2, 9, "missing key 'agent' in a task", ""},
                {"crew: x\ntasks: {t: {agent: a, input: {x: no}}}\n", 2, 34, "'no' is read in several ways by YAML",
                 "quote it"},
                {"crew: x\ntasks: {t: {agent: a, input: {x: 0755}}}\n", 2, 34, "'0755' is read in several ways by YAML",
                 ""},
                {"crew: x\ntasks: {t: {agent: a, input: {x: 1_000}}}\n", 2, 34, "'1_000' is read in several ways by YAML",
                 ""},
                {"crew: x\ntasks: {t: {agent: a, input: {x: 12:30}}}\n", 2, 34, "'12:30' is read in several ways by YAML",
                 ""},
                {"crew: x\ntasks: {t: {agent: a, input: {x: .inf}}}\n", 2, 34, "'.inf' is read in several ways by YAML",
                 ""},
                {"crew: x\ntasks: {t: {agent: a, input: {x: +1}}}\n", 2, 34, "'+1' is read in several ways by YAML", ""},
                {"crew: x\ntasks: {t: {agent: a, input: {x: True}}}\n", 2, 34, "'True' is read in several ways by YAML",
                 ""},
                {"crew: x\ntasks: {t: {agent: a, input: {x: }}}\n", 2, 0, "'' is read in several ways by YAML", ""},
                {"crew: x\nhooks: {on_agent_terminated: {}}\n", 2, 9, "'on_agent_terminated' needs 'command' or 'webhook'",
                 ""},
                {"crew: x\nhooks: {on_agent_terminated: {webhook: {url: \"https://x/\"}}}\n", 2, 31,
                 "missing key 'secret_file' under webhook", ""},
                {"crew: x\nhooks: {on_agent_died: {command: [x]}}\n", 2, 9, "unknown key 'on_agent_died' under hooks", ""},
                {"crew: x\nendpoints: {\"a.example.com\": {connect_to: \"127.0.0.1:1\"}}\n", 2, 13, "the port is missing",
                 ""},
                {"crew: x\nendpoints: {\"*.example.com:1\": {connect_to: \"127.0.0.1:1\"}}\n", 2, 13,
                 "a wildcard has no single place", ""},
                {"crew: x\nendpoints: {\"a.example.com:1\": {connect_to: \"127.0.0.1\"}}\n", 2, 45, "the port is missing",
                 ""},
                {"crew: x\nendpoints: {\"a.example.com:1\": {connect_to: \"127.0.0.1:1\", ca: no.pem}}\n", 2, 64,
                 "No such file", ""},
                {"crew: x\nendpoints: {\"a.example.com:1\": {connect_to: \"127.0.0.1:1\", ca: certs}}\n", 2, 64,
                 "not a regular file", ""},
                {"crew: x\nendpoints: {\"a.example.com:1\": {connect_to: \"127.0.0.1:1\", ca: certs/none.pem}}\n", 2, 64,
                 "certs/none.pem holds no certificate in PEM", ""},
                {"crew: x\nendpoints: {\"a.example.com:1\": {connect_to: \"127.0.0.1:1\", ca: certs/key.pem}}\n", 2, 64,
                 "certs/key.pem holds a private key: only certificates belong there", ""},
                {"crew: x\nendpoints: {\"a.example.com:1\": {connect_to: \"127.0.0.1:1\"}, \"A.example.com:1\": "
                 "{connect_to: \"127.0.0.1:2\"}}\n",
                 2, 61, "endpoint 'A.example.com:1' is listed twice (first on line 2)", ""},
                {"crew: x\nendpoints: {\"a.example.com:1\": {}}\n", 2, 13, "missing key 'connect_to' in an endpoint", ""},
        };

        for (size_t i = 0; i < ELEMENTSOF(rows); i++)
                error_in_crew(rows[i].yaml, rows[i].line, rows[i].column, rows[i].text, rows[i].hint);
}

static void a_task_needs_an_agent_with_a_program(void **state) {
        error_in_crew(HEAD "agents: {a: {policy: a.yaml}}\ntasks: {t: {agent: a}}\n", 4, 20,
                      "task 't' is given to agent 'a', which has no command (line 3)", "");
}

static void the_program_must_be_in_the_runtime_or_in_exec(void **state) {
        scratch_file(&s, "bin/prog", "#!/bin/sh\n");
        error_in_crew(HEAD "agents: {a: {policy: a.yaml, command: [\"${CREW_DIR}/bin/prog\"]}}\n", 3, 40,
                      "it is neither in the runtime nor in filesystem.exec (", "list it in filesystem.exec");
        error_in_crew(HEAD "agents: {a: {policy: a.yaml, command: [no-such-program-here]}}\n", 3, 40,
                      "there is no program 'no-such-program-here'", "/usr/bin");
        struct loaded l;
        scratch_file(&s, "roles/x.yaml", ROLE("x", "  filesystem: {exec: [\"${CREW_DIR}/bin/\"]}\n"));
        load(&l, HEAD "agents: {x: {policy: x.yaml, command: [\"${CREW_DIR}/bin/prog\"]}}\n");
        assert_int_equal(l.r, 0);
        loaded_fini(&l);
}

static void a_tools_program_must_be_the_crews_or_executable_anyway(void **state) {
        struct scratch apart;
        char yaml[PATH_MAX + 200];
        struct loaded l;

        scratch_file(&s, "roles/u.yaml", ROLE("u", "  tools: {allowed: [t]}\n"));
        error_in_crew(HEAD "tools: {t: {command: [no-such-program-here]}}\nagents: {u: {policy: u.yaml, command: [cat]}}\n",
                      3, 23, "there is no program 'no-such-program-here'", "/usr/bin");
        scratch_init(&apart);
        snprintf(yaml, sizeof(yaml),
                 HEAD "tools: {t: {command: [\"%s\"]}}\nagents: {u: {policy: u.yaml, command: [cat]}}\n",
                 scratch_file(&apart, "tool", "#!/bin/sh\n"));
        error_in_crew(yaml, 3, 23, "agent 'u' cannot call tool 't': ", "below ${CREW_DIR}");
        scratch_fini(&apart);
        load(&l, HEAD "tools: {t: {command: [cat]}}\nagents: {u: {policy: u.yaml, command: [cat]}}\n");
        assert_int_equal(l.r, 0);
        loaded_fini(&l);
}

static void a_missing_read_path_is_an_error_in_a_crew(void **state) {
        scratch_file(&s, "roles/m.yaml", ROLE("m", "  filesystem: {read: [\"${CREW_DIR}/nowhere/\"]}\n"));
        expect_in(HEAD "agents: {m: {policy: m.yaml, command: [cat]}}\n", false, "/roles/m.yaml", 4, 23, "does not exist",
                  "optional: true");
        struct loaded l;
        scratch_file(&s, "roles/m.yaml",
                     ROLE("m", "  filesystem: {read: [{path: \"${CREW_DIR}/nowhere/\", optional: true}]}\n"));
        load(&l, HEAD "agents: {m: {policy: m.yaml, command: [cat]}}\n");
        assert_int_equal(l.r, 0);
        loaded_fini(&l);
        /* made by a member */
        scratch_file(&s, "roles/m.yaml", ROLE("m", "  filesystem: {read: [\"${CREW_DIR}/later/in/\"]}\n"));
        scratch_file(&s, "roles/w.yaml", ROLE("w", "  filesystem: {write: [\"${CREW_DIR}/later/\"]}\n"));
        load(&l, HEAD "agents: {m: {policy: m.yaml, command: [cat]}, w: {policy: w.yaml, command: [cat]}}\n");
        assert_int_equal(l.r, 0);
        loaded_fini(&l);
}

static void what_judges_an_agent_it_cannot_write(void **state) {
        static const struct {
                const char *write, *text;
        } rows[] = {
                {"${CREW_DIR}/", "holds this policy file"},
                {"${CREW_DIR}/roles/", "holds this policy file"},
                {"${CREW_DIR}/tools/", "could change a file of tool 'quote_tool' ("},
                {"${CREW_DIR}/schemas/", "could change the input schema of tool 'quote_tool' ("},
                {"${CREW_DIR}/agents/", "could change a file of agent 'w' ("},
                {"${CREW_DIR}/hooks/", "could change the hook 'on_agent_terminated' ("},
        };

        for (size_t i = 0; i < ELEMENTSOF(rows); i++) {
                char body[400];
                snprintf(body, sizeof(body), ROLE("w", "  filesystem: {write: [\"%s\"]}\n"), rows[i].write);
                scratch_file(&s, "roles/w.yaml", body);
                expect_in(HEAD "tools: {quote_tool: {command: [\"${CREW_DIR}/tools/quote.py\"], input: schemas/any.json}}\n"
                               "agents: {w: {policy: w.yaml, command: [python3, \"${CREW_DIR}/agents/fetch.py\"]}}\n"
                               "hooks: {on_agent_terminated: {command: [\"${CREW_DIR}/hooks/page.sh\"]}}\n",
                          false, "/roles/w.yaml", 4, 24, rows[i].text, "");
        }
        struct loaded l;
        scratch_file(&s, "roles/w.yaml", ROLE("w", "  filesystem: {write: [\"${CREW_DIR}/\"]}\n"));
        load_crew(&l, scratch_file(&s, "apart/crew.yaml", "crew: x\npolicies: ../roles\nagents: {w: {policy: w.yaml}}\n"));
        assert_int_equal(problem_with(&l, "agent 'w' could change the crew file: ")->line, 4);
        loaded_fini(&l);
        /* the policy of another agent */
        scratch_file(&s, "more/w.yaml", ROLE("w", "  filesystem: {write: [\"${CREW_DIR}/roles/\"]}\n"));
        expect_in(HEAD "agents: {w: {policy: ../more/w.yaml, command: [cat]}, a: {policy: a.yaml}}\n", false,
                  "/more/w.yaml", 4, 24, "could change the policy of agent 'a' (", "");
}

static void a_tool_must_be_out_of_an_agents_sight(void **state) {
        scratch_file(&s, "roles/r.yaml", ROLE("r", "  filesystem: {read: [\"${CREW_DIR}/\"]}\n"));
        expect_in(HEAD "tools: {quote_tool: {command: [python3, \"${CREW_DIR}/tools/quote.py\"]}}\n"
                       "agents: {r: {policy: r.yaml, command: [cat]}}\n",
                  false, "/roles/r.yaml", 4, 23, "could read tool 'quote_tool' (", "list narrower paths");
}

static void credentials_are_for_the_gateway_alone(void **state) {
        static const struct {
                const char *body, *command, *text;
        } rows[] = {
                {"  filesystem: {read: [\"${CREW_DIR}/keys/\"]}\n", "[cat]", "agent 'a2' could read "},
                {"  filesystem: {write: [\"${CREW_DIR}/keys/\"]}\n", "[cat]", "agent 'a2' could read "},
                {"", "[cat, \"${CREW_DIR}/keys/k.yaml\"]", "it is in the command of agent 'a2'"},
        };
        const char *path = scratch_file(&s, "keys/k.yaml", "k: {value: x}\n");
        char yaml[512], full[PATH_MAX];
        struct loaded l;

        snprintf(full, sizeof(full), "%s", path);
        assert_int_equal(chmod(full, 0644), 0);
        error_in_crew(HEAD "credentials: keys/k.yaml\nagents: {a: {policy: a.yaml}}\n", 3, 14,
                      "can be read or written by others (mode 0644)", "chmod 600 it");
        error_in_crew(HEAD "credentials: keys/none.yaml\nagents: {a: {policy: a.yaml}}\n", 3, 14, "No such file", "");
        error_in_crew(HEAD "credentials: keys\nagents: {a: {policy: a.yaml}}\n", 3, 14, "is not a regular file", "");
        assert_int_equal(chmod(full, 0600), 0);
        for (size_t i = 0; i < ELEMENTSOF(rows); i++) {
                char body[400];
                snprintf(body, sizeof(body), ROLE("a2", "%s"), rows[i].body);
                scratch_file(&s, "roles/a2.yaml", body);
                snprintf(yaml, sizeof(yaml),
                         HEAD "credentials: keys/k.yaml\nagents: {a2: {policy: a2.yaml, command: %s}}\n", rows[i].command);
                error_in_crew(yaml, 3, 14, rows[i].text, "");
        }
        scratch_file(&s, "roles/a2.yaml",
                     ROLE("a2", "  filesystem: {read: [\"${CREW_DIR}/keys/\"], deny: [\"${CREW_DIR}/keys/k.yaml\"]}\n"));
        load(&l, HEAD "credentials: keys/k.yaml\nagents: {a2: {policy: a2.yaml, command: [cat]}}\n");
        assert_int_equal(l.r, 0);
        assert_string_equal(l.crew->credentials, full);
        loaded_fini(&l);
}

static void overlaps_between_agents_name_both_places(void **state) {
        const char *crew =
                HEAD "agents:\n  one: {policy: one.yaml, command: [cat]}\n  two: {policy: two.yaml, command: [cat]}\n";

        scratch_file(&s, "roles/one.yaml", ROLE("one", "  filesystem: {write: [\"${CREW_DIR}/w/\"]}\n"));
        scratch_file(&s, "roles/two.yaml", ROLE("two", "  filesystem: {write: [\"${CREW_DIR}/w/sub/\"]}\n"));
        expect_in(crew, true, "/roles/two.yaml", 4, 24, "agents 'two' and 'one' both write ", "");
        expect_in(crew, true, "/roles/two.yaml", 4, 24, "/roles/one.yaml:4)", "");
        scratch_file(&s, "roles/two.yaml", ROLE("two", "  filesystem: {exec: [\"${CREW_DIR}/w/bin/\"]}\n"));
        expect_in(crew, false, "/roles/two.yaml", 4, 23, "agent 'two' could execute what agent 'one' writes", "");
        scratch_file(&s, "roles/two.yaml", ROLE("two", "  filesystem: {read: [\"${CREW_DIR}/w/\"]}\n"));
        expect_in(crew, true, "/roles/two.yaml", 4, 23,
                  "agent 'two' reads the output of agent 'one', but no task of it follows", "context");
}

static void a_reader_in_the_pipeline_is_fine(void **state) {
        struct loaded l;

        scratch_file(&s, "roles/one.yaml", ROLE("one", "  filesystem: {write: [\"${CREW_DIR}/w/\"]}\n"));
        scratch_file(&s, "roles/two.yaml", ROLE("two", "  filesystem: {read: [\"${CREW_DIR}/w/\"]}\n"));
        load(&l, HEAD "agents:\n  one: {policy: one.yaml, command: [cat]}\n  two: {policy: two.yaml, command: [cat]}\n"
                      "  mid: {policy: {file: a.yaml, agent: a}, command: [cat]}\n"
                      "tasks:\n  last: {agent: two, context: [middle]}\n  middle: {agent: mid, context: [start]}\n  start: "
                      "{agent: one}\n");
        assert_int_equal(l.r, 0);
        assert_int_equal(l.report.n, 0);
        loaded_fini(&l);
}

static void a_hole_must_not_hide_the_agents_program(void **state) {
        scratch_file(
                &s, "roles/h.yaml",
                ROLE("h", "  filesystem: {read: [\"${CREW_DIR}/agents/\"], deny: [\"${CREW_DIR}/agents/fetch.py\"]}\n"));
        expect_in(HEAD "agents: {h: {policy: h.yaml, command: [python3, \"${CREW_DIR}/agents/fetch.py\"]}}\n", false,
                  "/roles/h.yaml", 4, 0, "hides the program of agent 'h' (", "");
}

static void an_endpoint_nobody_may_reach_is_a_warning(void **state) {
        expect_in(HEAD "endpoints: {\"a.example.com:1\": {connect_to: \"127.0.0.1:1\"}}\nagents: {a: {policy: a.yaml}}\n",
                  true, "/crew.yaml", 3, 13, "no agent's policy allows 'a.example.com:1'", "never widens");
}

static void problems_of_a_policy_come_with_its_own_place(void **state) {
        scratch_file(&s, "roles/p.yaml", ROLE("p", "  filesytem: {}\n"));
        expect_in(HEAD "agents: {p: {policy: p.yaml}}\n", false, "/roles/p.yaml", 4, 3, "unknown key 'filesytem'",
                  "did you mean");
        expect_in(HEAD "agents: {p: {policy: p.yaml}}\n", false, "/crew.yaml", 3, 22,
                  "the policy of agent 'p' does not load", "");
}

static void one_file_can_hold_the_policies_of_a_crew(void **state) {
        struct loaded l;

        scratch_file(&s, "roles/team.yaml", ROLE("left", "  tools: {allowed: [t]}\n") "---\n" ROLE("right", ""));
        load(&l, HEAD "tools: {t: {command: [cat]}}\n"
                      "agents: {right: {policy: team.yaml, command: [cat]}, left: {policy: team.yaml, command: [cat]}}\n");
        assert_int_equal(l.r, 0);
        assert_int_equal(l.report.n, 0);
        assert_true(policy_decide(crew_find_agent(l.crew, "left")->policy, POLICY_DO_TOOL, "t").allowed);
        assert_false(policy_decide(crew_find_agent(l.crew, "right")->policy, POLICY_DO_TOOL, "t").allowed);
        loaded_fini(&l);
        error_in_crew(HEAD "agents: {lef: {policy: team.yaml}}\n", 3, 24, "the policy of agent 'lef' does not load", "");
}

static void a_relative_crew_file_gives_relative_places(void **state) {
        struct loaded l;
        char cwd[PATH_MAX];

        assert_non_null(getcwd(cwd, sizeof(cwd)));
        scratch_file(&s, "sub/crew.yaml", "crew: x\npolicies: ../roles\nagents: {a: {policy: a.yaml}}\n");
        assert_int_equal(chdir(s.dir), 0);
        load_crew(&l, "sub/crew.yaml");
        assert_int_equal(l.r, 0);
        assert_string_equal(l.crew->agents[0].policy_file, "roles/a.yaml");
        assert_string_equal(l.crew->dir, scratch_path(&s, "sub"));
        loaded_fini(&l);
        assert_int_equal(chdir(cwd), 0);
}

static void many_tasks_are_no_trouble(void **state) {
        size_t room = 400000, used = 0;
        char *yaml = malloc(room);
        struct loaded l;

        assert_non_null(yaml);
        used += (size_t)snprintf(yaml, room, HEAD "agents: {a: {policy: a.yaml, command: [cat]}}\ntasks:\n");
        for (unsigned i = 0; i < 3000; i++) /* each needs the next */
                used += (size_t)snprintf(yaml + used, room - used, "  t%u: {agent: a%s%.0d", i,
                                         i < 2999 ? ", context: [t" : "", 0),
                        used += (size_t)(i < 2999 ? snprintf(yaml + used, room - used, "%u]}\n", i + 1)
                                                  : snprintf(yaml + used, room - used, "}\n"));
        uint64_t before = crew_now_ns();
        load(&l, yaml);
        assert_int_equal(l.r, 0);
        assert_int_equal(l.crew->n_tasks, 3000);
        assert_true(crew_now_ns() - before < 20000000000u);
        loaded_fini(&l);
        free(yaml);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(a_crew_means_what_it_says),
                cmocka_unit_test(tasks_keep_their_order_and_know_what_they_need),
                cmocka_unit_test(unknown_names_say_what_is_declared),
                cmocka_unit_test(an_allowed_tool_that_is_not_declared_is_a_warning),
                cmocka_unit_test(a_needed_tool_must_be_allowed),
                cmocka_unit_test(cycles_are_named),
                cmocka_unit_test(a_manager_hands_out_work_and_nothing_else),
                cmocka_unit_test(a_manager_with_more_than_that_is_refused),
                cmocka_unit_test(a_hierarchy_that_could_not_work_is_refused),
                cmocka_unit_test(further_instances_are_agents_behind_all_others),
                cmocka_unit_test(instances_that_nobody_could_ask_for_are_refused),
                cmocka_unit_test(names_of_the_managers_verbs_are_taken),
                cmocka_unit_test(memory_has_rights_and_quotas),
                cmocka_unit_test(an_unknown_process_is_refused),
                cmocka_unit_test(a_consensus_means_what_it_says),
                cmocka_unit_test(a_vote_that_could_not_work_is_refused),
                cmocka_unit_test(bad_values_say_what_was_expected),
                cmocka_unit_test(a_task_needs_an_agent_with_a_program),
                cmocka_unit_test(the_program_must_be_in_the_runtime_or_in_exec),
                cmocka_unit_test(a_tools_program_must_be_the_crews_or_executable_anyway),
                cmocka_unit_test(a_missing_read_path_is_an_error_in_a_crew),
                cmocka_unit_test(what_judges_an_agent_it_cannot_write),
                cmocka_unit_test(a_tool_must_be_out_of_an_agents_sight),
                cmocka_unit_test(what_cannot_be_held_is_refused),
                cmocka_unit_test(credentials_are_for_the_gateway_alone),
                cmocka_unit_test(overlaps_between_agents_name_both_places),
                cmocka_unit_test(a_reader_in_the_pipeline_is_fine),
                cmocka_unit_test(a_hole_must_not_hide_the_agents_program),
                cmocka_unit_test(an_endpoint_nobody_may_reach_is_a_warning),
                cmocka_unit_test(problems_of_a_policy_come_with_its_own_place),
                cmocka_unit_test(one_file_can_hold_the_policies_of_a_crew),
                cmocka_unit_test(a_relative_crew_file_gives_relative_places),
                cmocka_unit_test(many_tasks_are_no_trouble),
        };

        cmocka_set_message_output(CM_OUTPUT_TAP);
        return cmocka_run_group_tests(tests, setup, teardown);
}
