/* SPDX-License-Identifier: Apache-2.0 */
/* The state machine, cell by cell. */
#include "supervisor/agent_fsm.h"

#include "ipc-schema/ipc.h"
#include "test.h"

static const struct cell {
        enum agent_state from;
        enum agent_event event;
        enum agent_state to;
        enum agent_action action;
} cells[] = {
        {AGENT_DECLARED, AGENT_EV_START, AGENT_SPAWNING, AGENT_DO_SPAWN},
        {AGENT_DECLARED, AGENT_EV_STOP, AGENT_TERMINATED, AGENT_DO_NOTHING},
        {AGENT_DECLARED, AGENT_EV_KILL, AGENT_TERMINATED, AGENT_DO_NOTHING},
        {AGENT_SPAWNING, AGENT_EV_READY, AGENT_READY, AGENT_DO_ANNOUNCE},
        {AGENT_SPAWNING, AGENT_EV_SPAWN_FAILED, AGENT_TERMINATED, AGENT_DO_BURY},
        {AGENT_SPAWNING, AGENT_EV_STOP, AGENT_STOPPING, AGENT_DO_KILL},
        {AGENT_SPAWNING, AGENT_EV_KILL, AGENT_STOPPING, AGENT_DO_KILL},
        {AGENT_SPAWNING, AGENT_EV_EXITED, AGENT_TERMINATED, AGENT_DO_BURY},
        {AGENT_READY, AGENT_EV_TASK_BEGIN, AGENT_WORKING, AGENT_DO_NOTHING},
        {AGENT_READY, AGENT_EV_STOP, AGENT_STOPPING, AGENT_DO_SHUTDOWN},
        {AGENT_READY, AGENT_EV_KILL, AGENT_STOPPING, AGENT_DO_KILL},
        {AGENT_READY, AGENT_EV_EXITED, AGENT_TERMINATED, AGENT_DO_BURY},
        {AGENT_WORKING, AGENT_EV_TASK_END, AGENT_READY, AGENT_DO_ANNOUNCE},
        {AGENT_WORKING, AGENT_EV_STOP, AGENT_STOPPING, AGENT_DO_SHUTDOWN},
        {AGENT_WORKING, AGENT_EV_KILL, AGENT_STOPPING, AGENT_DO_KILL},
        {AGENT_WORKING, AGENT_EV_EXITED, AGENT_TERMINATED, AGENT_DO_BURY},
        {AGENT_STOPPING, AGENT_EV_SPAWN_FAILED, AGENT_TERMINATED, AGENT_DO_BURY},
        {AGENT_STOPPING, AGENT_EV_TASK_END, AGENT_STOPPING, AGENT_DO_NOTHING},
        {AGENT_STOPPING, AGENT_EV_STOP, AGENT_STOPPING, AGENT_DO_NOTHING},
        {AGENT_STOPPING, AGENT_EV_KILL, AGENT_STOPPING, AGENT_DO_KILL},
        {AGENT_STOPPING, AGENT_EV_EXITED, AGENT_TERMINATED, AGENT_DO_BURY},
        {AGENT_TERMINATED, AGENT_EV_STOP, AGENT_TERMINATED, AGENT_DO_NOTHING},
        {AGENT_TERMINATED, AGENT_EV_RESTART, AGENT_RESTARTING, AGENT_DO_WAIT},
        {AGENT_TERMINATED, AGENT_EV_GIVE_UP, AGENT_FAILED, AGENT_DO_NOTHING},
        {AGENT_FAILED, AGENT_EV_RESTART, AGENT_RESTARTING, AGENT_DO_WAIT},
        {AGENT_FAILED, AGENT_EV_STOP, AGENT_FAILED, AGENT_DO_NOTHING},
        {AGENT_RESTARTING, AGENT_EV_START, AGENT_SPAWNING, AGENT_DO_SPAWN},
        {AGENT_RESTARTING, AGENT_EV_STOP, AGENT_TERMINATED, AGENT_DO_NOTHING},
        {AGENT_RESTARTING, AGENT_EV_KILL, AGENT_TERMINATED, AGENT_DO_NOTHING},
        {AGENT_POLICY_ONLY, AGENT_EV_STOP, AGENT_POLICY_ONLY, AGENT_DO_NOTHING},
};
#define N_CELLS (sizeof(cells) / sizeof(cells[0]))

static const struct cell *cell_of(enum agent_state s, enum agent_event e) {
        for (size_t i = 0; i < N_CELLS; i++) {
                if (cells[i].from == s && cells[i].event == e)
                        return &cells[i];
        }
        return NULL;
}

static void every_cell_is_as_documented_and_all_others_are_empty(void **state) {
        (void)state;
        for (int s = 0; s < AGENT_STATE_N; s++) {
                for (int e = 0; e < AGENT_EVENT_N; e++) {
                        const struct cell *want = cell_of((enum agent_state)s, (enum agent_event)e);
                        struct agent_step got = agent_fsm_step((enum agent_state)s, (enum agent_event)e);
                        assert_int_equal(got.legal, want != NULL);
                        if (!want)
                                continue;
                        assert_int_equal(got.next, want->to);
                        assert_int_equal(got.action, want->action);
                }
        }
}

static void a_live_instance_always_ends_in_a_burial(void **state) {
        (void)state;
        for (int s = 0; s < AGENT_STATE_N; s++) {
                struct agent_step step = agent_fsm_step((enum agent_state)s, AGENT_EV_EXITED);
                assert_int_equal(step.legal, agent_state_live((enum agent_state)s));
                if (step.legal)
                        assert_int_equal(step.action, AGENT_DO_BURY);
        }
}

static void every_live_instance_can_be_killed(void **state) {
        (void)state;
        for (int s = 0; s < AGENT_STATE_N; s++) {
                struct agent_step step = agent_fsm_step((enum agent_state)s, AGENT_EV_KILL);
                if (!agent_state_live((enum agent_state)s))
                        continue;
                assert_true(step.legal);
                assert_int_equal(step.action, AGENT_DO_KILL);
        }
}

static void a_stop_means_something_in_every_state(void **state) {
        (void)state;
        for (int s = 0; s < AGENT_STATE_N; s++)
                assert_true(agent_fsm_step((enum agent_state)s, AGENT_EV_STOP).legal);
}

static void frames_are_acceptable_exactly_from_live_instances(void **state) {
        (void)state;
        for (int s = 0; s < AGENT_STATE_N; s++)
                assert_int_equal(agent_state_ipc((enum agent_state)s) != 0, agent_state_live((enum agent_state)s));
        assert_int_equal(agent_state_ipc(AGENT_WORKING), IPC_STATE_WORKING);
}

static void a_random_life_never_has_two_instances(void **state) {
        uint64_t seed = 4711;
        (void)state;
        for (int life = 0; life < 2000; life++) {
                enum agent_state s = AGENT_DECLARED;
                int alive = 0;
                for (int i = 0; i < 60; i++) {
                        struct agent_step step = agent_fsm_step(s, (enum agent_event)test_random(&seed, AGENT_EVENT_N));
                        if (!step.legal)
                                continue;
                        alive += step.action == AGENT_DO_SPAWN;
                        alive -= step.action == AGENT_DO_BURY;
                        s = step.next;
                        assert_int_equal(alive, agent_state_live(s));
                }
        }
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(every_cell_is_as_documented_and_all_others_are_empty),
                cmocka_unit_test(a_live_instance_always_ends_in_a_burial),
                cmocka_unit_test(every_live_instance_can_be_killed),
                cmocka_unit_test(a_stop_means_something_in_every_state),
                cmocka_unit_test(frames_are_acceptable_exactly_from_live_instances),
                cmocka_unit_test(a_random_life_never_has_two_instances),
        };
        cmocka_set_message_output(CM_OUTPUT_TAP);
        return cmocka_run_group_tests(tests, NULL, NULL);
}
