/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What follows from a death: the table, and a model.  The model plays 100,000 random lives of crews on a clock of its own,
 * with the real decisions, the real state machine and the real scheduler, and looks at each step whether what
 * supervision.h and scheduler.h promise still holds.
 */
#include "common/util.h"
#include "supervisor/scheduler.h"
#include "supervisor/supervision.h"
#include "test.h"

#include <errno.h>

#define MS 1000000ull
#define S 1000000000ull

/* --- the table --- */

static struct supervision open_crew(enum crew_strategy strategy) {
        struct supervision s;

        supervision_init(&s, &(struct crew_supervision){.strategy = strategy});
        supervision_open(&s);
        return s;
}

static struct supervision_verdict decide(struct supervision *s, enum supervision_why why, enum crew_death action,
                                         uint32_t attempt) {
        struct restart r;

        restart_init(&r, 3, 60 * S, 1);
        return supervision_decide(s, &r, &(struct supervision_death){why, action, attempt}, 1000 * S);
}

static const struct {
        enum supervision_why why;
        enum crew_death action;
        enum agent_event event;
        bool task_again, others, stop, at_once;
} want[] = {
        {SUPERVISION_ACCIDENT, CREW_DEATH_FAIL_TASK, AGENT_EVENT_N, false, false, false, true},
        {SUPERVISION_ACCIDENT, CREW_DEATH_REASSIGN, AGENT_EV_RESTART, true, true, false, false},
        {SUPERVISION_ACCIDENT, CREW_DEATH_RESTART, AGENT_EV_RESTART, false, true, false, false},
        {SUPERVISION_ACCIDENT, CREW_DEATH_STOP_CREW, AGENT_EVENT_N, false, false, true, true},
        {SUPERVISION_VIOLATION, CREW_DEATH_FAIL_TASK, AGENT_EVENT_N, false, false, false, true},
        {SUPERVISION_VIOLATION, CREW_DEATH_REASSIGN, AGENT_EV_GIVE_UP, false, false, false, true},
        {SUPERVISION_VIOLATION, CREW_DEATH_RESTART, AGENT_EV_GIVE_UP, false, false, false, true},
        {SUPERVISION_VIOLATION, CREW_DEATH_STOP_CREW, AGENT_EVENT_N, false, false, true, true},
        {SUPERVISION_ASKED, CREW_DEATH_FAIL_TASK, AGENT_EV_RESTART, true, false, false, true},
        {SUPERVISION_ASKED, CREW_DEATH_REASSIGN, AGENT_EV_RESTART, true, false, false, true},
        {SUPERVISION_ASKED, CREW_DEATH_RESTART, AGENT_EV_RESTART, true, false, false, true},
        {SUPERVISION_ASKED, CREW_DEATH_STOP_CREW, AGENT_EV_RESTART, true, false, false, true},
        {SUPERVISION_TOGETHER, CREW_DEATH_FAIL_TASK, AGENT_EV_RESTART, false, false, false, true},
        {SUPERVISION_TOGETHER, CREW_DEATH_REASSIGN, AGENT_EV_RESTART, true, false, false, true},
        {SUPERVISION_TOGETHER, CREW_DEATH_RESTART, AGENT_EV_RESTART, false, false, false, true},
        {SUPERVISION_TOGETHER, CREW_DEATH_STOP_CREW, AGENT_EV_RESTART, false, false, false, true},
        {SUPERVISION_RETIRED, CREW_DEATH_FAIL_TASK, AGENT_EVENT_N, false, false, false, true},
        {SUPERVISION_RETIRED, CREW_DEATH_REASSIGN, AGENT_EVENT_N, false, false, false, true},
        {SUPERVISION_RETIRED, CREW_DEATH_RESTART, AGENT_EVENT_N, false, false, false, true},
        {SUPERVISION_RETIRED, CREW_DEATH_STOP_CREW, AGENT_EVENT_N, false, false, false, true},
};

static void every_death_has_the_consequence_that_is_documented(void **state) {
        (void)state;
        assert_int_equal(ELEMENTSOF(want), SUPERVISION_WHY_N * CREW_DEATH_N);
        for (size_t i = 0; i < ELEMENTSOF(want); i++) {
                struct supervision s = open_crew(CREW_ONE_FOR_ALL);
                struct supervision_verdict v = decide(&s, want[i].why, want[i].action, 1);
                assert_int_equal(v.event, want[i].event);
                assert_int_equal(v.task_again, want[i].task_again);
                assert_int_equal(v.others, want[i].others);
                assert_int_equal(v.stop_crew, want[i].stop);
                assert_int_equal(v.delay_ns == 0, want[i].at_once);
                assert_int_equal(s.phase, want[i].stop ? SUPERVISION_STOPPED : SUPERVISION_OPEN);
        }
}

static void nothing_starts_before_the_crew_runs_or_once_it_stops(void **state) {
        (void)state;
        for (size_t i = 0; i < ELEMENTSOF(want); i++) {
                struct supervision s;
                supervision_init(&s, &(struct crew_supervision){.strategy = CREW_ONE_FOR_ALL});
                assert_int_equal(decide(&s, want[i].why, want[i].action, 1).event, AGENT_EVENT_N);
                supervision_open(&s);
                supervision_stop(&s);
                supervision_open(&s);
                struct supervision_verdict v = decide(&s, want[i].why, want[i].action, 1);
                assert_int_equal(v.event, AGENT_EVENT_N);
                assert_false(v.task_again || v.others || v.stop_crew);
        }
}

static void the_strategies_name_the_others(void **state) {
        (void)state;
        struct supervision one = open_crew(CREW_ONE_FOR_ONE), rest = open_crew(CREW_REST_FOR_ONE),
                           all = open_crew(CREW_ONE_FOR_ALL);
        for (uint32_t dead = 0; dead < 4; dead++) {
                for (uint32_t other = 0; other < 4; other++) {
                        assert_false(supervision_ends(&one, dead, other));
                        assert_int_equal(supervision_ends(&rest, dead, other), other > dead);
                        assert_int_equal(supervision_ends(&all, dead, other), other != dead);
                }
        }
        assert_false(decide(&one, SUPERVISION_ACCIDENT, CREW_DEATH_RESTART, 1).others);
}

static void more_restarts_than_the_crew_allows_stop_it(void **state) {
        struct crew_supervision declared = {.limited = true, .intensity = 2, .period_ms = 10000};
        struct supervision s;
        (void)state;
        supervision_init(&s, &declared);
        supervision_open(&s);
        assert_int_equal(decide(&s, SUPERVISION_ACCIDENT, CREW_DEATH_RESTART, 1).event, AGENT_EV_RESTART);
        assert_int_equal(decide(&s, SUPERVISION_ASKED, CREW_DEATH_RESTART, 1).event, AGENT_EV_RESTART);
        assert_int_equal(decide(&s, SUPERVISION_ACCIDENT, CREW_DEATH_REASSIGN, 1).event, AGENT_EV_RESTART);
        struct supervision_verdict v = decide(&s, SUPERVISION_ACCIDENT, CREW_DEATH_REASSIGN, 1);
        assert_true(v.stop_crew);
        assert_false(v.task_again);
        assert_int_equal(v.event, AGENT_EV_GIVE_UP);
        assert_int_equal(s.phase, SUPERVISION_STOPPED);
}

static void a_task_that_kills_its_agents_is_not_handed_on_for_ever(void **state) {
        struct supervision s = open_crew(CREW_ONE_FOR_ONE);
        (void)state;
        for (uint32_t attempt = 1; attempt < 8; attempt++) {
                struct supervision_verdict v = decide(&s, SUPERVISION_ACCIDENT, CREW_DEATH_REASSIGN, attempt);
                assert_int_equal(v.event, AGENT_EV_RESTART);
                assert_int_equal(v.task_again, attempt <= 3);
        }
}

/* --- the model --- */

#define TRACES 100000
#define STEPS 80
#define AGENTS_MAX 5u
#define TASKS_MAX 5u
#define IDS_MAX 64u
#define DEATHS_MAX 256u

struct life { /* one agent */
        enum agent_state state;
        struct restart restart;
        enum supervision_why why; /* of the death that comes, once dying */
        bool dying, together;
        uint64_t start_at_ns, decided_ns;
        uint64_t counted[DEATHS_MAX]; /* when a restart was held against it */
        uint32_t n_counted;
};

struct model {
        uint64_t seed, now;
        struct crew_agent agents[AGENTS_MAX];
        struct crew_task tasks[TASKS_MAX];
        uint32_t context[TASKS_MAX][TASKS_MAX];
        struct crew_file crew;
        struct supervision supervision;
        struct scheduler *scheduler;
        struct life lives[AGENTS_MAX];
        uint32_t n_together;
        uint64_t counted[DEATHS_MAX];
        uint32_t n_counted;
        bool stopped; /* what crewd_stop() was told, not what the module says */
        uint32_t runs_done;
        uint8_t outcomes[IDS_MAX]; /* terminal ones, by task id */
        uint64_t starts, restarts, give_ups, crews_stopped;
};

static uint32_t pick(struct model *m, uint32_t below) {
        return test_random(&m->seed, below);
}

static void feed(struct model *m, uint32_t agent, enum agent_event event);

static void stop_crew(struct model *m) {
        m->stopped = true;
        supervision_stop(&m->supervision);
        scheduler_stop(m->scheduler, "stopping", m->now);
        for (uint32_t i = 0; i < m->crew.n_agents; i++) {
                struct life *l = &m->lives[i];
                if (!agent_state_live(l->state))
                        l->start_at_ns = 0;
                else if (!l->dying)
                        l->why = SUPERVISION_RETIRED;
                l->dying |= agent_state_live(l->state);
                feed(m, i, AGENT_EV_STOP);
        }
}

static void kill_one(struct model *m, uint32_t agent, enum supervision_why why) {
        struct life *l = &m->lives[agent];

        if (!agent_state_live(l->state)) {
                feed(m, agent, AGENT_EV_KILL);
                return;
        }
        if (!l->dying)
                l->why = why;
        l->dying = true;
        feed(m, agent, AGENT_EV_KILL);
}

static void end_others(struct model *m, uint32_t dead) {
        for (uint32_t i = 0; i < m->crew.n_agents; i++) {
                struct life *l = &m->lives[i];
                if (!supervision_ends(&m->supervision, dead, i) || !agent_state_live(l->state) || l->dying)
                        continue;
                l->together = true;
                m->n_together++;
                kill_one(m, i, SUPERVISION_TOGETHER);
        }
}

/* Counted by hand, beside the module's own window. */
static uint32_t within(const uint64_t *at, uint32_t n, uint64_t now, uint64_t period_ns) {
        uint32_t recent = 0;

        for (uint32_t i = 0; i < n; i++)
                recent += now - at[i] < period_ns;
        return recent;
}

static void check_intensity(struct model *m, uint32_t agent) {
        struct life *l = &m->lives[agent];
        const struct crew_agent *a = &m->agents[agent];
        const struct crew_supervision *s = &m->crew.supervision;

        assert_true(l->n_counted < DEATHS_MAX && m->n_counted < DEATHS_MAX);
        l->counted[l->n_counted++] = m->counted[m->n_counted++] = m->now;
        assert_true(within(l->counted, l->n_counted, m->now, a->restart_within_ms * MS) <= a->restart_max);
        if (s->limited)
                assert_true(within(m->counted, m->n_counted, m->now, s->period_ms * MS) <= s->intensity);
}

static void bury(struct model *m, uint32_t agent) {
        struct life *l = &m->lives[agent];
        const struct job *j = scheduler_job_of(m->scheduler, agent);
        struct supervision_death d = {l->dying ? l->why : SUPERVISION_ACCIDENT, m->agents[agent].on_terminated,
                                      j ? j->attempt : 0};
        struct supervision_verdict v = supervision_decide(&m->supervision, &l->restart, &d, m->now);
        bool again = v.event == AGENT_EV_RESTART;

        assert_false(again && m->stopped);
        assert_false(v.task_again && !again);
        if (again && d.why == SUPERVISION_ACCIDENT) {
                check_intensity(m, agent);
                assert_true(v.delay_ns >= RESTART_BACKOFF_FIRST_NS / 2 && v.delay_ns <= RESTART_BACKOFF_MAX_NS);
        }
        enum sched_after after = v.task_again ? SCHED_TASK_AGAIN : again ? SCHED_ANOTHER : SCHED_NOBODY;
        bool put_back = scheduler_agent_gone(m->scheduler, agent, after, "died", m->now);
        assert_false(put_back && !v.task_again);
        m->n_together -= l->together;
        l->dying = l->together = false;
        l->start_at_ns = again ? m->now + v.delay_ns : 0;
        m->restarts += again;
        m->give_ups += v.event == AGENT_EV_GIVE_UP;
        if (v.event != AGENT_EVENT_N)
                feed(m, agent, v.event);
        if (v.others)
                end_others(m, agent);
        if (v.stop_crew) {
                m->crews_stopped++;
                stop_crew(m);
        }
}

static void feed(struct model *m, uint32_t agent, enum agent_event event) {
        struct life *l = &m->lives[agent];
        struct agent_step step = agent_fsm_step(l->state, event);
        bool was_live = agent_state_live(l->state);

        if (!step.legal)
                return;
        l->state = step.next;
        if (step.action == AGENT_DO_SPAWN) {
                assert_false(m->stopped);
                assert_false(was_live);
                assert_int_equal(m->n_together, 0);
                assert_true(m->now >= l->start_at_ns);
                l->start_at_ns = 0;
                m->starts++;
        }
        if (step.action == AGENT_DO_BURY)
                bury(m, agent);
}

static enum sched_slot slot(uint32_t agent, char *why, void *user) {
        struct model *m = user;
        enum agent_state s = m->lives[agent].state;

        if (s == AGENT_READY && !m->stopped)
                return SCHED_FREE;
        if (agent_state_live(s) || (!m->stopped && (s == AGENT_RESTARTING || s == AGENT_DECLARED)))
                return SCHED_BUSY;
        snprintf(why, 256, "dead");
        return SCHED_DEAD;
}

static int start_job(struct job *j, struct crew_err *err, void *user) {
        struct model *m = user;

        if (pick(m, 50) == 0)
                return crew_fail(err, EIO, "cannot be started");
        feed(m, j->agent, AGENT_EV_TASK_BEGIN);
        return 0;
}

static void cancel_job(struct job *j, void *user) {
        (void)j, (void)user;
}

static void overdue_job(struct job *j, void *user) {
        kill_one(user, j->agent, SUPERVISION_ACCIDENT);
}

static void job_changed(struct job *j, void *user) {
        struct model *m = user;
        unsigned id = (unsigned)strtoul(j->id + 2, NULL, 10);

        assert_true(id > 0 && id < IDS_MAX);
        assert_int_equal(m->outcomes[id], 0); /* nothing changes after the outcome */
        m->outcomes[id] += j->state >= JOB_DONE;
}

static void job_finished(struct job *j, void *user) {
        (void)j, (void)user;
}

static void run_done(void *user) {
        ((struct model *)user)->runs_done++;
}

static const struct sched_callbacks callbacks = {.slot = slot,
                                                 .start = start_job,
                                                 .cancel = cancel_job,
                                                 .overdue = overdue_job,
                                                 .changed = job_changed,
                                                 .finished = job_finished,
                                                 .run_done = run_done};

static void declare(struct model *m) {
        m->crew = (struct crew_file){.name = "t", .agents = m->agents, .tasks = m->tasks};
        m->crew.n_agents = 1 + pick(m, AGENTS_MAX);
        m->crew.n_tasks = pick(m, TASKS_MAX + 1);
        m->crew.supervision = (struct crew_supervision){.strategy = (enum crew_strategy)pick(m, CREW_STRATEGY_N),
                                                        .limited = pick(m, 2),
                                                        .intensity = pick(m, 6),
                                                        .period_ms = 1000 + pick(m, 30000)};
        for (uint32_t i = 0; i < m->crew.n_agents; i++) {
                /* Few that stop the crew: the others have to live for a while. */
                enum crew_death action =
                        (enum crew_death)(pick(m, 8) ? pick(m, CREW_DEATH_STOP_CREW) : CREW_DEATH_STOP_CREW);
                bool again = action == CREW_DEATH_REASSIGN || action == CREW_DEATH_RESTART;
                m->agents[i] = (struct crew_agent){.name = "a",
                                                   .on_terminated = action,
                                                   .restart_max = again ? 1 + pick(m, 4) : 0,
                                                   .restart_within_ms = 1000 + pick(m, 30000)};
                m->lives[i].state = AGENT_DECLARED;
                restart_init(&m->lives[i].restart, m->agents[i].restart_max, m->agents[i].restart_within_ms * MS, m->seed);
        }
        for (uint32_t i = 0; i < m->crew.n_tasks; i++) {
                struct crew_task *t = &m->tasks[i];
                *t = (struct crew_task){.name = "t", .timeout_ms = 1 + pick(m, 20000), .context = m->context[i]};
                t->agent_index = pick(m, (uint32_t)m->crew.n_agents);
                if (i > 0 && pick(m, 2))
                        m->context[i][t->n_context++] = pick(m, i);
        }
}

static void start_due(struct model *m) {
        for (uint32_t i = 0; i < m->crew.n_agents; i++) {
                struct life *l = &m->lives[i];
                if (l->state == AGENT_RESTARTING && m->n_together == 0 && m->now >= l->start_at_ns)
                        feed(m, i, AGENT_EV_START);
        }
}

static void give_result(struct model *m, uint32_t agent) {
        const struct job *j = scheduler_job_of(m->scheduler, agent);
        struct sched_result r = {.agent = agent, .outcome = CREW__OUTCOME__OUTCOME_FAILED, .result = "", .error = "no"};
        char id[24];

        if (!j || m->lives[agent].state != AGENT_WORKING)
                return;
        snprintf(id, sizeof(id), "%s", j->id);
        r.task_id = id;
        if (pick(m, 3))
                r = (struct sched_result){agent, id, CREW__OUTCOME__OUTCOME_OK, "{}", "", 2};
        assert_int_equal(scheduler_result(m->scheduler, &r, m->now), 0);
        assert_int_equal(scheduler_result(m->scheduler, &r, m->now), 1); /* a second one is nobody's */
        feed(m, agent, AGENT_EV_TASK_END);
}

static void one_step(struct model *m) {
        uint32_t agent = pick(m, (uint32_t)m->crew.n_agents);
        struct life *l = &m->lives[agent];

        m->now += pick(m, 4) * pick(m, 2000) * MS;
        start_due(m);
        scheduler_expire(m->scheduler, m->now);
        switch (pick(m, 16)) {
        case 0 ... 4:
                if (l->state == AGENT_SPAWNING)
                        feed(m, agent, AGENT_EV_READY);
                break;
        case 5 ... 8:
                if (l->dying || pick(m, 2))
                        feed(m, agent, l->state == AGENT_SPAWNING ? AGENT_EV_SPAWN_FAILED : AGENT_EV_EXITED);
                break;
        case 9 ... 11:
                give_result(m, agent);
                break;
        case 12:
                kill_one(m, agent, SUPERVISION_ACCIDENT);
                break;
        case 13:
                kill_one(m, agent, SUPERVISION_VIOLATION);
                break;
        case 14:
                if (agent_state_live(l->state))
                        kill_one(m, agent, pick(m, 4) ? SUPERVISION_ASKED : SUPERVISION_RETIRED);
                break;
        default:
                if (pick(m, 20) == 0)
                        stop_crew(m);
        }
        scheduler_poke(m->scheduler, m->now);
}

static void check_end(struct model *m) {
        stop_crew(m);
        for (uint32_t i = 0; i < m->crew.n_agents; i++)
                feed(m, i, AGENT_EV_EXITED);
        scheduler_poke(m->scheduler, m->now);
        /* Long after: whatever was due is not started any more. */
        m->now += 3600 * S;
        start_due(m);
        scheduler_poke(m->scheduler, m->now);
        assert_int_equal(m->n_together, 0);
        assert_int_equal(m->runs_done, 1);
        for (uint32_t i = 0; i < m->crew.n_agents; i++)
                assert_true(m->lives[i].state == AGENT_TERMINATED || m->lives[i].state == AGENT_FAILED);
        for (size_t i = 0; i < m->crew.n_tasks; i++) {
                const struct job *j = scheduler_run_job(m->scheduler, i);
                assert_true(j->state >= JOB_DONE);
                assert_int_equal(m->outcomes[strtoul(j->id + 2, NULL, 10)], 1);
        }
}

static void no_trace_of_deaths_breaks_a_promise(void **state) {
        static struct model m;
        uint64_t starts = 0, restarts = 0, give_ups = 0, stopped = 0;
        (void)state;
        for (uint64_t trace = 0; trace < TRACES; trace++) {
                struct crew_err err = CREW_ERR_NULL;
                m = (struct model){.seed = trace * 0x9e3779b97f4a7c15ull + 1, .now = 1000 * S};
                declare(&m);
                supervision_init(&m.supervision, &m.crew.supervision);
                m.scheduler = scheduler_new(&m.crew, (uint32_t)m.crew.n_agents, &callbacks, &m);
                assert_non_null(m.scheduler);
                for (uint32_t i = 0; i < m.crew.n_agents; i++) {
                        feed(&m, i, AGENT_EV_START);
                        feed(&m, i, AGENT_EV_READY);
                }
                supervision_open(&m.supervision);
                assert_int_equal(scheduler_run(m.scheduler, 1, 1, m.now, &err), 0);
                for (uint32_t i = 0; i < STEPS; i++)
                        one_step(&m);
                check_end(&m);
                m.scheduler = scheduler_free(m.scheduler);
                starts += m.starts, restarts += m.restarts, give_ups += m.give_ups, stopped += m.crews_stopped;
        }
        /* The traces are worth something: all of it happened, and often. */
        print_message("# %d traces: %llu starts, %llu restarts, %llu given up, %llu crews stopped\n", TRACES,
                      (unsigned long long)starts, (unsigned long long)restarts, (unsigned long long)give_ups,
                      (unsigned long long)stopped);
        assert_true(starts > 300000 && restarts > 100000 && give_ups > 10000 && stopped > 10000);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(every_death_has_the_consequence_that_is_documented),
                cmocka_unit_test(nothing_starts_before_the_crew_runs_or_once_it_stops),
                cmocka_unit_test(the_strategies_name_the_others),
                cmocka_unit_test(more_restarts_than_the_crew_allows_stop_it),
                cmocka_unit_test(a_task_that_kills_its_agents_is_not_handed_on_for_ever),
                cmocka_unit_test(no_trace_of_deaths_breaks_a_promise),
        };
        cmocka_set_message_output(CM_OUTPUT_TAP);
        return cmocka_run_group_tests(tests, NULL, NULL);
}
