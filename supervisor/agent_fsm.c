/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The agent state machine.
 *
 *   declared --start--> spawning --ready--> ready <--task begin/end--> working
 *                        |   |                |                           |
 *                        |   +--stop, kill--> stopping <---stop, kill-----+
 *                        |                      |
 *            failed,     |                      | exited
 *            exited      v                      |
 *                    terminated <---------------+     (ready and working may also exit by themselves)
 *                      |     |
 *              restart |     | give up
 *                      v     v
 *               restarting  failed --restart--> restarting
 *                      |
 *                      +--start--> spawning
 *
 * An empty cell is an event that has no meaning in that state: the caller ignores it and logs it as a bug of ours.
 * Events that a worker can cause (READY, TASK_END) are guarded by the message table before they get here.
 */
#include "agent_fsm.h"

#include "common/util.h"
#include "ipc-schema/ipc.h"

#include <assert.h>

const char *const agent_state_names[] = {
        [AGENT_DECLARED] = "declared", [AGENT_SPAWNING] = "spawning",     [AGENT_READY] = "ready",
        [AGENT_WORKING] = "working",   [AGENT_STOPPING] = "stopping",     [AGENT_TERMINATED] = "terminated",
        [AGENT_FAILED] = "failed",     [AGENT_RESTARTING] = "restarting", [AGENT_POLICY_ONLY] = "policy-only",
};
static_assert(ELEMENTSOF(agent_state_names) == AGENT_STATE_N, "a name for each state");

const char *const agent_event_names[] = {
        [AGENT_EV_START] = "start",
        [AGENT_EV_READY] = "ready",
        [AGENT_EV_SPAWN_FAILED] = "spawn-failed",
        [AGENT_EV_TASK_BEGIN] = "task-begin",
        [AGENT_EV_TASK_END] = "task-end",
        [AGENT_EV_STOP] = "stop",
        [AGENT_EV_KILL] = "kill",
        [AGENT_EV_EXITED] = "exited",
        [AGENT_EV_RESTART] = "restart",
        [AGENT_EV_GIVE_UP] = "give-up",
};
static_assert(ELEMENTSOF(agent_event_names) == AGENT_EVENT_N, "a name for each event");

static const struct {
        uint32_t ipc;
        bool live;
} states[] = {
        [AGENT_DECLARED] = {0, false},
        [AGENT_SPAWNING] = {IPC_STATE_SPAWNING, true},
        [AGENT_READY] = {IPC_STATE_READY, true},
        [AGENT_WORKING] = {IPC_STATE_WORKING, true},
        [AGENT_STOPPING] = {IPC_STATE_STOPPING, true},
        [AGENT_TERMINATED] = {0, false},
        [AGENT_FAILED] = {0, false},
        [AGENT_RESTARTING] = {0, false},
        [AGENT_POLICY_ONLY] = {0, false},
};
static_assert(ELEMENTSOF(states) == AGENT_STATE_N, "a row for each state");

#define TO(state, action)                                                                                                  \
        { true, AGENT_##state, AGENT_DO_##action }

static const struct agent_step actions[][AGENT_EVENT_N] =
        {
                [AGENT_DECLARED] =
                        {
                                [AGENT_EV_START] = TO(SPAWNING, SPAWN),
                                [AGENT_EV_STOP] = TO(TERMINATED, NOTHING),
                                [AGENT_EV_KILL] = TO(TERMINATED, NOTHING),
                        },
                [AGENT_SPAWNING] =
                        {
                                [AGENT_EV_READY] = TO(READY, ANNOUNCE),
                                [AGENT_EV_SPAWN_FAILED] = TO(TERMINATED, BURY),
                                /* No Ready yet, so nobody would read a Shutdown frame. */
                                [AGENT_EV_STOP] = TO(STOPPING, KILL),
                                [AGENT_EV_KILL] = TO(STOPPING, KILL),
                                [AGENT_EV_EXITED] = TO(TERMINATED, BURY),
                        },
                [AGENT_READY] =
                        {
                                [AGENT_EV_TASK_BEGIN] = TO(WORKING, NOTHING),
                                [AGENT_EV_STOP] = TO(STOPPING, SHUTDOWN),
                                [AGENT_EV_KILL] = TO(STOPPING, KILL),
                                [AGENT_EV_EXITED] = TO(TERMINATED, BURY),
                        },
                [AGENT_WORKING] =
                        {
                                [AGENT_EV_TASK_END] = TO(READY, ANNOUNCE),
                                [AGENT_EV_STOP] = TO(STOPPING, SHUTDOWN),
                                [AGENT_EV_KILL] = TO(STOPPING, KILL),
                                [AGENT_EV_EXITED] = TO(TERMINATED, BURY),
                        },
                [AGENT_STOPPING] =
                        {
                                [AGENT_EV_SPAWN_FAILED] = TO(TERMINATED, BURY),
                                [AGENT_EV_TASK_END] = TO(STOPPING, NOTHING),
                                [AGENT_EV_STOP] = TO(STOPPING, NOTHING),
                                [AGENT_EV_KILL] = TO(STOPPING, KILL),
                                [AGENT_EV_EXITED] = TO(TERMINATED, BURY),
                        },
                [AGENT_TERMINATED] =
                        {
                                [AGENT_EV_STOP] = TO(TERMINATED, NOTHING),
                                [AGENT_EV_RESTART] = TO(RESTARTING, WAIT),
                                [AGENT_EV_GIVE_UP] = TO(FAILED, NOTHING),
                        },
                [AGENT_FAILED] =
                        {
                                [AGENT_EV_RESTART] = TO(RESTARTING, WAIT),
                                [AGENT_EV_STOP] = TO(FAILED, NOTHING),
                        },
                [AGENT_RESTARTING] =
                        {
                                [AGENT_EV_START] = TO(SPAWNING, SPAWN),
                                [AGENT_EV_STOP] = TO(TERMINATED, NOTHING),
                                [AGENT_EV_KILL] = TO(TERMINATED, NOTHING),
                        },
                [AGENT_POLICY_ONLY] =
                        {
                                [AGENT_EV_STOP] = TO(POLICY_ONLY, NOTHING),
                        },
};
static_assert(ELEMENTSOF(actions) == AGENT_STATE_N, "a row for each state");

struct agent_step agent_fsm_step(enum agent_state state, enum agent_event event) {
        crew_assert(state < AGENT_STATE_N && event < AGENT_EVENT_N);
        return actions[state][event];
}

uint32_t agent_state_ipc(enum agent_state state) {
        crew_assert(state < AGENT_STATE_N);
        return states[state].ipc;
}

bool agent_state_live(enum agent_state state) {
        crew_assert(state < AGENT_STATE_N);
        return states[state].live;
}
