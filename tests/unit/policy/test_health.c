/* SPDX-License-Identifier: Apache-2.0 */
/* `health:` of an agent: its defaults, and what it cannot mean. */
#include "support.h"

#include "common/util.h"

#include <string.h>

static struct scratch s;

static int setup(void **state) {
        scratch_init(&s);
        scratch_file(&s, "a.yaml",
                     "agent: a\nsandbox:\n  mode: deny-by-default\n  filesystem: {write: [\"${CREW_DIR}/out/\"]}\n");
        scratch_file(&s, "check.sh", "#!/bin/sh\n");
        scratch_file(&s, "out/check.sh", "#!/bin/sh\n");
        return 0;
}

static int teardown(void **state) {
        scratch_fini(&s);
        return 0;
}

static void load(struct loaded *l, const char *agent) {
        char text[1024];

        snprintf(text, sizeof(text), "crew: demo\nagents:\n  a: {policy: a.yaml, %s}\n", agent);
        load_crew(l, scratch_file(&s, "crew.yaml", text));
}

static void refused(const char *agent, const char *said) {
        struct loaded l;

        load(&l, agent);
        assert_int_equal(l.r, -EINVAL);
        assert_int_equal(problem_with(&l, said)->line, 3);
        loaded_fini(&l);
}

static void a_command_has_defaults(void **state) {
        struct loaded l;

        load(&l, "command: [cat], health: {command: [sh, \"${CREW_DIR}/check.sh\"]}");
        assert_int_equal(l.r, 0);
        const struct crew_health *h = &l.crew->agents[0].health;
        assert_int_equal(h->kind, CREW_HEALTH_COMMAND);
        assert_int_equal(h->n_command, 2);
        assert_string_equal(h->command[1], scratch_path(&s, "check.sh"));
        assert_int_equal(h->every_ms, 30000);
        assert_int_equal(h->timeout_ms, 10000);
        assert_int_equal(h->failures, 3);
        loaded_fini(&l);
}

static void a_heartbeat_is_asked_of_a_program_that_lives(void **state) {
        struct loaded l;

        load(&l, "command: [cat], driver: stdio-rpc, health: {heartbeat: true, every: 5s, timeout: 1s, failures: 1}");
        assert_int_equal(l.r, 0);
        const struct crew_health *h = &l.crew->agents[0].health;
        assert_int_equal(h->kind, CREW_HEALTH_HEARTBEAT);
        assert_int_equal(h->every_ms, 5000);
        assert_int_equal(h->timeout_ms, 1000);
        assert_int_equal(h->failures, 1);
        loaded_fini(&l);
        refused("command: [cat], health: {heartbeat: true}", "runs only while it has a task");
}

static void without_health_nothing_is_checked(void **state) {
        struct loaded l;

        load(&l, "command: [cat]");
        assert_int_equal(l.r, 0);
        assert_int_equal(l.crew->agents[0].health.kind, CREW_HEALTH_NONE);
        loaded_fini(&l);
}

static void what_makes_no_sense_is_an_error(void **state) {
        refused("command: [cat], health: {}", "needs either 'command' or 'heartbeat: true'");
        refused("command: [cat], health: {heartbeat: false}", "needs either");
        refused("command: [cat], driver: stdio-rpc, health: {heartbeat: true, command: [cat]}", "needs either");
        refused("command: [cat], health: {command: [cat], failures: 0}", "failures");
        refused("command: [cat], health: {command: [cat], every: 1ms}", "every");
        refused("command: [cat], health: {comand: [cat]}", "unknown key 'comand'");
        refused("health: {command: [cat]}", "'health' without 'command'");
        refused("command: [cat], health: {command: [\"${CREW_DIR}/check.sh\"]}", "may not execute");
        refused("command: [cat], health: {command: [\"${CREW_DIR}/missing.sh\"]}", "No such file");
}

static void an_agent_cannot_write_its_check(void **state) {
        struct loaded l;

        load(&l, "command: [cat], health: {command: [sh, \"${CREW_DIR}/out/check.sh\"]}");
        assert_int_equal(l.r, -EINVAL);
        problem_with(&l, "a file of the health check of agent");
        loaded_fini(&l);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
int main(void) {
        const struct CMUnitTest tests[] = {
                TEST(a_command_has_defaults),
                TEST(a_heartbeat_is_asked_of_a_program_that_lives),
                TEST(without_health_nothing_is_checked),
                TEST(what_makes_no_sense_is_an_error),
                TEST(an_agent_cannot_write_its_check),
        };
        cmocka_set_message_output(CM_OUTPUT_TAP);
        return cmocka_run_group_tests(tests, NULL, NULL);
}
