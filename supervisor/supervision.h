/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What follows from a death: for the agent, for its task, for the agents beside it, and for the crew.
 *
 * Guarantees, whatever dies when: no agent is started again more often than its `restart` allows, nor all of them together
 * more often than `supervision.intensity` does; nothing is started again before the crew runs or once it stops; a stopped
 * crew stays stopped.  Pure: a table and counters on an injected clock.
 */
#pragma once

#include "agent_fsm.h"
#include "restart.h"
#include "supervisor/policy/crew_file.h"

/* Kinds of death, as far as the answer depends on them. */
enum supervision_why {
        SUPERVISION_ACCIDENT,  /* its own end, or somebody's kill */
        SUPERVISION_VIOLATION, /* it broke the protocol: it gets no second go */
        SUPERVISION_ASKED,     /* ended to be started again, by whoever may ask for that */
        SUPERVISION_TOGETHER,  /* ended because the strategy starts it again with another that died */
        SUPERVISION_RETIRED,   /* ended for good, by whoever may say so */
        SUPERVISION_WHY_N,
};

enum supervision_phase { SUPERVISION_NOT_YET, SUPERVISION_OPEN, SUPERVISION_STOPPED };

struct supervision {
        enum supervision_phase phase;
        enum crew_strategy strategy;
        bool limited;
        struct rate rate; /* restarts of all agents */
};

struct supervision_death {
        enum supervision_why why;
        enum crew_death action; /* the agent's on_agent_terminated */
        uint32_t attempt;       /* of its task, from 1; 0: it had none */
};

struct supervision_verdict {
        enum agent_event event; /* AGENT_EV_RESTART, AGENT_EV_GIVE_UP; AGENT_EVENT_N: it stays terminated */
        uint64_t delay_ns;      /* before the start */
        bool task_again;        /* its task waits for the next instance instead of failing */
        bool others;            /* those of supervision_ends() are ended and started again too */
        bool gave_up;           /* its own restarts are used up */
        bool stop_crew;
        const char *why; /* the crew is stopped; a constant */
};

void supervision_init(struct supervision *s, const struct crew_supervision *declared);
/* Every agent is up. */
void supervision_open(struct supervision *s);
/* Final. */
void supervision_stop(struct supervision *s);
/* Decides, and counts the restart it decides for. */
struct supervision_verdict supervision_decide(struct supervision *s, struct restart *r, const struct supervision_death *d,
                                              uint64_t now_ns);
/* Is the agent at `other` in the crew file ended when the one at `dead` died and is started again? */
bool supervision_ends(const struct supervision *s, uint32_t dead, uint32_t other);
