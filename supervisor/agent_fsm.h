/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The life of one agent as a table.  Pure: events in, next state and action out; the roster carries the action out.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

enum agent_state {
        AGENT_DECLARED,    /* known from the crew file, nothing started */
        AGENT_SPAWNING,    /* the spawner is making the jail, or the worker has not said Ready yet */
        AGENT_READY,       /* sealed, attested, idle */
        AGENT_WORKING,     /* one task in flight */
        AGENT_STOPPING,    /* told to end, or killed; waiting for the tree to be reaped */
        AGENT_TERMINATED,  /* nothing of the instance is left */
        AGENT_FAILED,      /* terminated, and restarts are used up */
        AGENT_RESTARTING,  /* terminated, the next instance is due after the back-off */
        AGENT_POLICY_ONLY, /* an orchestrator: it has a policy, never a process */
        AGENT_STATE_N,
};

enum agent_event {
        AGENT_EV_START,
        AGENT_EV_READY,        /* attested from outside and said Ready */
        AGENT_EV_SPAWN_FAILED, /* the spawner could not make the jail; nothing of it is left */
        AGENT_EV_TASK_BEGIN,
        AGENT_EV_TASK_END,
        AGENT_EV_STOP, /* end gracefully */
        AGENT_EV_KILL, /* end now */
        AGENT_EV_EXITED,
        AGENT_EV_RESTART, /* the restart policy allows another instance, or somebody who may wants one */
        AGENT_EV_GIVE_UP, /* it does not */
        AGENT_EVENT_N,
};

enum agent_action {
        AGENT_DO_NOTHING,
        AGENT_DO_SPAWN,
        AGENT_DO_ANNOUNCE, /* ready for work: say so, look for tasks */
        AGENT_DO_SHUTDOWN, /* Shutdown frame, then a grace period */
        AGENT_DO_KILL,     /* cut link and network, SIGKILL the tree */
        AGENT_DO_BURY,     /* record, call back, clear the instance, ask the restart policy */
        AGENT_DO_WAIT,     /* arm the back-off */
        AGENT_ACTION_N,
};

struct agent_step {
        bool legal; /* false: an empty cell; the event has no meaning in this state */
        enum agent_state next;
        enum agent_action action;
};

struct agent_step agent_fsm_step(enum agent_state state, enum agent_event event);
extern const char *const agent_state_names[AGENT_STATE_N];
extern const char *const agent_event_names[AGENT_EVENT_N];
/* The IPC_STATE_* bit under which frames from this agent's worker are judged; 0: no frame is acceptable. */
uint32_t agent_state_ipc(enum agent_state state);
/* An instance exists: a process may be running. */
bool agent_state_live(enum agent_state state);
