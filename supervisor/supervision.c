/* SPDX-License-Identifier: Apache-2.0 */
/* The table of deaths. */
#include "supervision.h"

#include "common/util.h"

#include <assert.h>

struct row {
        bool start;  /* another instance is wanted */
        bool task;   /* ... and gets the task */
        bool counts; /* the restart is held against the agent and the crew, and waits for the back-off */
        bool others; /* the strategy applies */
        bool stop;
};

#define NOTHING                                                                                                            \
        { .start = false }
#define STOP                                                                                                               \
        { .stop = true }

static const struct row rows[][CREW_DEATH_N] =
        {
                [SUPERVISION_ACCIDENT] =
                        {
                                [CREW_DEATH_FAIL_TASK] = NOTHING,
                                [CREW_DEATH_REASSIGN] = {.start = true, .task = true, .counts = true, .others = true},
                                [CREW_DEATH_RESTART] = {.start = true, .counts = true, .others = true},
                                [CREW_DEATH_STOP_CREW] = STOP,
                        },
                [SUPERVISION_VIOLATION] =
                        {
                                [CREW_DEATH_FAIL_TASK] = NOTHING,
                                [CREW_DEATH_REASSIGN] = NOTHING,
                                [CREW_DEATH_RESTART] = NOTHING,
                                [CREW_DEATH_STOP_CREW] = STOP,
                        },
                [SUPERVISION_ASKED] =
                        {
                                [CREW_DEATH_FAIL_TASK] = {.start = true, .task = true},
                                [CREW_DEATH_REASSIGN] = {.start = true, .task = true},
                                [CREW_DEATH_RESTART] = {.start = true, .task = true},
                                [CREW_DEATH_STOP_CREW] = {.start = true, .task = true},
                        },
                /* What an agent's own death would mean for the crew says nothing about one it has to share. */
                [SUPERVISION_TOGETHER] =
                        {
                                [CREW_DEATH_FAIL_TASK] = {.start = true},
                                [CREW_DEATH_REASSIGN] = {.start = true, .task = true},
                                [CREW_DEATH_RESTART] = {.start = true},
                                [CREW_DEATH_STOP_CREW] = {.start = true},
                        },
                [SUPERVISION_RETIRED] =
                        {
                                [CREW_DEATH_FAIL_TASK] = NOTHING,
                                [CREW_DEATH_REASSIGN] = NOTHING,
                                [CREW_DEATH_RESTART] = NOTHING,
                                [CREW_DEATH_STOP_CREW] = NOTHING,
                        },
};
static_assert(ELEMENTSOF(rows) == SUPERVISION_WHY_N, "a row for each kind of death");

void supervision_init(struct supervision *s, const struct crew_supervision *declared) {
        *s = (struct supervision){.strategy = declared->strategy, .limited = declared->limited};
        rate_init(&s->rate, declared->intensity, declared->period_ms * 1000000u);
}

void supervision_open(struct supervision *s) {
        if (s->phase == SUPERVISION_NOT_YET)
                s->phase = SUPERVISION_OPEN;
}

void supervision_stop(struct supervision *s) {
        s->phase = SUPERVISION_STOPPED;
}

/* Both bounds; the agent's own first, so that one that is given up costs the crew nothing. */
static void count(struct supervision *s, struct restart *r, uint64_t now_ns, struct supervision_verdict *v) {
        if (!restart_take(r, now_ns, &v->delay_ns)) {
                v->event = AGENT_EV_GIVE_UP;
                v->gave_up = true;
        } else if (s->limited && rate_exceeded_by(&s->rate, now_ns)) {
                v->event = AGENT_EV_GIVE_UP;
                v->stop_crew = true;
                v->why = "the crew's restarts are used up (supervision.intensity)";
        }
}

static bool starts_again(enum crew_death action) {
        return action == CREW_DEATH_REASSIGN || action == CREW_DEATH_RESTART;
}

struct supervision_verdict supervision_decide(struct supervision *s, struct restart *r, const struct supervision_death *d,
                                              uint64_t now_ns) {
        const struct row *row = &rows[d->why][d->action];
        struct supervision_verdict v = {.event = AGENT_EVENT_N, .why = ""};

        if (s->phase != SUPERVISION_OPEN)
                return v;
        if (row->start)
                v.event = AGENT_EV_RESTART;
        else if (starts_again(d->action) && d->why != SUPERVISION_RETIRED)
                v.event = AGENT_EV_GIVE_UP;
        if (row->counts)
                count(s, r, now_ns, &v);
        else if (row->start)
                restart_free_of_charge(r);
        bool again = v.event == AGENT_EV_RESTART;
        /* A task that kills whoever works on it is not handed on for ever. */
        v.task_again = again && row->task && (d->why == SUPERVISION_ASKED || d->attempt <= r->rate.max);
        v.others = again && row->others && s->strategy != CREW_ONE_FOR_ONE;
        v.stop_crew |= row->stop;
        if (row->stop)
                v.why = "on_agent_terminated is stop_crew";
        if (v.stop_crew)
                supervision_stop(s);
        return v;
}

bool supervision_ends(const struct supervision *s, uint32_t dead, uint32_t other) {
        switch (s->strategy) {
        case CREW_ONE_FOR_ONE:
                return false;
        case CREW_REST_FOR_ONE:
                return other > dead;
        case CREW_ONE_FOR_ALL:
                return other != dead;
        case CREW_STRATEGY_N:
                break;
        }
        return false;
}
