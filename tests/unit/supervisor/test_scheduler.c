/* SPDX-License-Identifier: Apache-2.0 */
/* The scheduler against hand-made crews and random graphs. */
#include "supervisor/scheduler.h"

#include "common/util.h"
#include "supervisor/schema/schema.h"

#include "test.h"

#include <errno.h>

#define A_MAX 6u
#define T_MAX 24u
#define S 1000000000ull

struct world {
        struct crew_file crew;
        struct crew_agent agents[A_MAX];
        struct crew_task tasks[T_MAX];
        uint32_t context[T_MAX][T_MAX];
        char names[T_MAX][16];
        struct scheduler *s;
        enum sched_slot slot[A_MAX];
        struct job *running[A_MAX];
        bool frozen[A_MAX];
        uint64_t time_max;
        int start_result;
        char order[T_MAX * 8];
        int cancelled, overdue, runs_done, finished, retried;
        Crew__Outcome finished_outcome;
        char finished_error[512];
        int final[T_MAX]; /* transitions into a final state */
};
static struct world w;

static enum sched_slot slot(uint32_t agent, char *why, void *user) {
        (void)user;
        if (w.slot[agent] == SCHED_DEAD)
                snprintf(why, 256, "agent %u is terminated", agent);
        return w.running[agent] ? SCHED_BUSY : w.slot[agent];
}

static int start(struct job *j, struct crew_err *err, void *user) {
        (void)user;
        if (w.start_result < 0)
                return crew_fail(err, 5, "cannot be started");
        assert_null(w.running[j->agent]);
        for (size_t i = 0; j->task && i < j->task->n_context; i++)
                assert_int_equal(scheduler_run_job(w.s, j->task->context[i])->state, JOB_DONE);
        w.running[j->agent] = j;
        strcat(w.order, j->name);
        strcat(w.order, " ");
        return 0;
}

static void cancel(struct job *j, void *user) {
        (void)j;
        (void)user;
        w.cancelled++;
}

static void overdue(struct job *j, void *user) {
        (void)j;
        (void)user;
        w.overdue++;
}

static void retried(struct job *j, Crew__Outcome outcome, const char *error, void *user) {
        (void)user;
        assert_int_equal(j->state, JOB_RUNNING);
        assert_true(outcome != CREW__OUTCOME__OUTCOME_OK && *error);
        w.retried++;
}

static void changed(struct job *j, void *user) {
        (void)user;
        if (j->in_run && j->state >= JOB_DONE)
                w.final[j->task - w.tasks]++;
}

static void finished(struct job *j, void *user) {
        (void)user;
        w.finished++;
        w.finished_outcome = j->outcome;
        snprintf(w.finished_error, sizeof(w.finished_error), "%s", j->error);
}

static void run_done(void *user) {
        (void)user;
        w.runs_done++;
}

static bool frozen(uint32_t agent, void *user) {
        (void)user;
        return w.frozen[agent];
}

static uint64_t time_max(uint32_t agent, void *user) {
        (void)agent, (void)user;
        return w.time_max;
}

static void make(uint32_t n_agents, uint32_t n_tasks) {
        static const struct sched_callbacks cb = {.slot = slot,
                                                  .start = start,
                                                  .cancel = cancel,
                                                  .overdue = overdue,
                                                  .retried = retried,
                                                  .changed = changed,
                                                  .finished = finished,
                                                  .run_done = run_done,
                                                  .frozen = frozen,
                                                  .time_max = time_max};
        static const char *const agent_names[A_MAX] = {"a0", "a1", "a2", "a3", "a4", "a5"};

        for (uint32_t i = 0; i < n_agents; i++)
                w.agents[i].name = agent_names[i];
        for (uint32_t i = 0; i < n_tasks; i++) {
                snprintf(w.names[i], sizeof(w.names[i]), "t%u", i);
                w.tasks[i].name = w.names[i];
                w.tasks[i].context = w.context[i];
                w.tasks[i].timeout_ms = 1000;
        }
        w.crew = (struct crew_file){
                .name = "test", .agents = w.agents, .n_agents = n_agents, .tasks = w.tasks, .n_tasks = n_tasks};
        w.s = scheduler_new(&w.crew, (uint32_t)w.crew.n_agents, &cb, NULL);
        assert_non_null(w.s);
}

static void depends(uint32_t task, uint32_t on) {
        w.context[task][w.tasks[task].n_context++] = on;
}

static int setup(void **state) {
        (void)state;
        memset(&w, 0, sizeof(w));
        return 0;
}

static int teardown(void **state) {
        (void)state;
        w.s = scheduler_free(w.s);
        return 0;
}

static int result(uint32_t agent, Crew__Outcome outcome, const char *json, uint64_t now) {
        struct job *j = w.running[agent];
        struct sched_result r = {.agent = agent,
                                 .task_id = j ? j->id : "t-0",
                                 .outcome = outcome,
                                 .result = json,
                                 .result_len = strlen(json),
                                 .error = "it said so"};
        w.running[agent] = NULL;
        int out = scheduler_result(w.s, &r, now);
        scheduler_poke(w.s, now);
        return out;
}

static int ok(uint32_t agent) {
        return result(agent, CREW__OUTCOME__OUTCOME_OK, "{\"summary\":\"fine\"}", 1);
}

static void run(void) {
        struct crew_err err = CREW_ERR_NULL;
        assert_int_equal(scheduler_run(w.s, 1, 2, 0, &err), 0);
        scheduler_poke(w.s, 0);
}

static const struct job *job(uint32_t task) {
        return scheduler_run_job(w.s, task);
}

static void a_chain_runs_in_order_and_passes_results_on(void **state) {
        (void)state;
        make(3, 3);
        for (uint32_t i = 0; i < 3; i++)
                w.tasks[i].agent_index = i;
        depends(1, 0);
        depends(2, 1);
        run();
        for (uint32_t i = 0; i < 3; i++)
                assert_int_equal(ok(i), 0);
        assert_string_equal(w.order, "t0 t1 t2 ");
        assert_int_equal(w.runs_done, 1);
        assert_int_equal(scheduler_run_state(w.s)->ok, 3);
        assert_string_equal(job(0)->summary, "fine");
}

static void independent_tasks_of_different_agents_run_together(void **state) {
        (void)state;
        make(2, 3);
        w.tasks[1].agent_index = 1;
        w.tasks[2].agent_index = 0;
        run();
        assert_string_equal(w.order, "t0 t1 ");
        ok(0);
        assert_string_equal(w.order, "t0 t1 t2 ");
}

static void a_failure_skips_dependants_with_the_reason(void **state) {
        (void)state;
        make(2, 4);
        depends(1, 0);
        depends(2, 1);
        w.tasks[3].agent_index = 1;
        run();
        assert_int_equal(result(0, CREW__OUTCOME__OUTCOME_FAILED, "", 1), 0);
        assert_int_equal(job(0)->state, JOB_FAILED);
        assert_string_equal(job(0)->error, "it said so");
        assert_int_equal(job(1)->state, JOB_SKIPPED);
        assert_string_equal(job(1)->error, "needs 't0', which failed");
        assert_int_equal(job(2)->state, JOB_SKIPPED);
        assert_string_equal(job(2)->error, "needs 't1', which was skipped");
        assert_int_equal(w.runs_done, 0);
        ok(1);
        assert_int_equal(w.runs_done, 1);
        assert_int_equal(scheduler_run_state(w.s)->ok, 1);
}

static void a_result_that_breaks_the_schema_fails_the_task(void **state) {
        struct crew_err err = CREW_ERR_NULL;
        const char *schema = "{\"type\":\"object\",\"required\":[\"rows\"]}";
        (void)state;
        make(1, 1);
        assert_int_equal(schema_compile("s.json", schema, strlen(schema), &w.tasks[0].output, &err), 0);
        w.tasks[0].output_file = "s.json";
        run();
        ok(0);
        assert_int_equal(job(0)->state, JOB_FAILED);
        assert_non_null(strstr(job(0)->error, "s.json"));
        assert_non_null(strstr(job(0)->error, "rows"));
        schema_free(w.tasks[0].output);
        w.tasks[0].output = NULL;
}

static void a_result_that_is_no_json_fails_the_task(void **state) {
        (void)state;
        make(1, 1);
        run();
        result(0, CREW__OUTCOME__OUTCOME_OK, "hello", 1);
        assert_int_equal(job(0)->state, JOB_FAILED);
}

static void an_answer_to_a_foreign_or_finished_task_is_a_violation(void **state) {
        struct sched_result r = {
                .agent = 0, .task_id = "t-99", .outcome = CREW__OUTCOME__OUTCOME_OK, .result = "1", .result_len = 1};
        char id[24];
        (void)state;
        make(2, 2);
        w.tasks[1].agent_index = 1;
        run();
        assert_int_equal(scheduler_result(w.s, &r, 1), 1);
        /* The other agent's task, by its right name. */
        r.task_id = w.running[1]->id;
        assert_int_equal(scheduler_result(w.s, &r, 1), 1);
        snprintf(id, sizeof(id), "%s", w.running[0]->id);
        assert_int_equal(ok(0), 0);
        r.task_id = id;
        assert_int_equal(scheduler_result(w.s, &r, 1), 1);
        assert_int_equal(job(0)->state, JOB_DONE);
}

static void a_deadline_cancels_then_kills_then_is_a_timeout(void **state) {
        (void)state;
        make(1, 1);
        run();
        assert_int_equal(scheduler_next_deadline(w.s), 1 * S);
        scheduler_expire(w.s, 1 * S - 1);
        assert_int_equal(w.cancelled, 0);
        scheduler_expire(w.s, 1 * S);
        assert_int_equal(w.cancelled, 1);
        scheduler_expire(w.s, 1 * S + SCHED_CANCEL_GRACE_NS);
        scheduler_expire(w.s, 2 * S + SCHED_CANCEL_GRACE_NS);
        assert_int_equal(w.cancelled, 1);
        assert_int_equal(w.overdue, 1);
        w.running[0] = NULL;
        assert_false(scheduler_agent_gone(w.s, 0, SCHED_TASK_AGAIN, "deadline", 4 * S));
        assert_int_equal(job(0)->outcome, CREW__OUTCOME__OUTCOME_TIMEOUT);
}

static void no_time_passes_for_the_job_of_one_that_stands_still(void **state) {
        (void)state;
        make(2, 2);
        w.tasks[1].agent_index = 1;
        run();
        assert_int_equal(scheduler_who(w.s, "t0"), 0);
        assert_int_equal(scheduler_who(w.s, job(1)->id), 1);
        assert_int_equal(scheduler_who(w.s, "t9"), UINT32_MAX);
        w.frozen[0] = true;
        scheduler_expire(w.s, 5 * S);
        assert_int_equal(w.cancelled, 1); /* the other one's */
        assert_int_equal(scheduler_next_deadline(w.s), 5 * S + SCHED_CANCEL_GRACE_NS);
        w.frozen[0] = false;
        scheduler_put_off(w.s, 0, 10 * S, 10 * S);
        scheduler_expire(w.s, 11 * S - 1);
        assert_int_equal(w.cancelled, 1);
        scheduler_expire(w.s, 11 * S);
        assert_int_equal(w.cancelled, 2);
}

static void one_that_is_cancelled_while_it_stands_still_has_its_time_afterwards(void **state) {
        (void)state;
        make(1, 1);
        w.tasks[0].timeout_ms = 1000000;
        run();
        w.frozen[0] = true;
        assert_int_equal(scheduler_cancel(w.s, scheduler_job_of(w.s, 0), "not needed", 5 * S), 0);
        scheduler_expire(w.s, 100 * S);
        assert_int_equal(w.overdue, 0);
        assert_int_equal(scheduler_next_deadline(w.s), UINT64_MAX);
        w.frozen[0] = false;
        scheduler_put_off(w.s, 0, 200 * S, 200 * S);
        assert_int_equal(scheduler_next_deadline(w.s), 200 * S + SCHED_CANCEL_GRACE_NS);
        scheduler_expire(w.s, 200 * S + SCHED_CANCEL_GRACE_NS - 1);
        assert_int_equal(w.overdue, 0);
        scheduler_expire(w.s, 200 * S + SCHED_CANCEL_GRACE_NS);
        assert_int_equal(w.overdue, 1);
}

static void what_was_left_of_its_grace_is_left_after_it_stood_still(void **state) {
        (void)state;
        make(1, 1);
        w.tasks[0].timeout_ms = 1000000;
        run();
        assert_int_equal(scheduler_cancel(w.s, scheduler_job_of(w.s, 0), "not needed", 5 * S), 0);
        w.frozen[0] = true; /* at 6 */
        w.frozen[0] = false;
        scheduler_put_off(w.s, 0, 50 * S, 56 * S);
        assert_int_equal(scheduler_next_deadline(w.s), 55 * S + SCHED_CANCEL_GRACE_NS);
}

static void a_job_has_no_more_time_than_its_agent_whoever_submits_it(void **state) {
        struct crew_err err = CREW_ERR_NULL;
        struct job *j;
        (void)state;
        make(1, 1);
        w.time_max = 3 * S;
        assert_int_equal(scheduler_submit(w.s, &(struct sched_submit){.task = "t0", .timeout_ns = 20 * S}, &j, &err), 0);
        assert_int_equal(j->timeout_ns, 3 * S);
        assert_int_equal(scheduler_submit(w.s, &(struct sched_submit){.agent = "a0"}, &j, &err), 0);
        assert_int_equal(j->timeout_ns, 3 * S);
        assert_int_equal(scheduler_submit(w.s, &(struct sched_submit){.agent = "a0", .timeout_ns = 2 * S}, &j, &err), 0);
        assert_int_equal(j->timeout_ns, 2 * S);
}

/* A run that begins while it waits makes its context anew. */
static void a_submitted_task_waits_for_the_context_of_the_run_that_began(void **state) {
        struct crew_err err = CREW_ERR_NULL;
        struct job *j;
        (void)state;
        make(2, 2);
        depends(1, 0);
        w.tasks[1].agent_index = 1;
        assert_int_equal(scheduler_submit(w.s, &(struct sched_submit){.task = "t1"}, &j, &err), -EBUSY);
        assert_non_null(strstr(err.msg, "has not run"));
        run();
        ok(0);
        ok(1);
        w.slot[1] = SCHED_BUSY;
        assert_int_equal(scheduler_submit(w.s, &(struct sched_submit){.task = "t1"}, &j, &err), 0);
        run();
        w.slot[1] = SCHED_FREE;
        scheduler_poke(w.s, 1);
        assert_int_equal(j->state, JOB_WAITING);
        result(0, CREW__OUTCOME__OUTCOME_FAILED, "", 2);
        assert_int_equal(w.finished, 1);
        assert_string_equal(w.finished_error, "needs 't0', which failed");
        assert_int_equal(scheduler_submit(w.s, &(struct sched_submit){.task = "t1"}, &j, &err), -EBUSY);
        assert_non_null(strstr(err.msg, "which failed"));
}

static void one_that_ran_out_of_time_and_was_killed_is_tried_again(void **state) {
        (void)state;
        make(1, 1);
        w.tasks[0].retries = 1;
        run();
        for (uint64_t attempt = 0; attempt < 2; attempt++) {
                scheduler_expire(w.s, (attempt * 10 + 1) * S);
                scheduler_expire(w.s, (attempt * 10 + 3) * S);
                assert_int_equal(w.overdue, attempt + 1);
                w.running[0] = NULL;
                bool again = scheduler_agent_gone(w.s, 0, SCHED_ANOTHER, "killed", (attempt * 10 + 4) * S);
                assert_int_equal(again, attempt == 0);
                scheduler_poke(w.s, (attempt + 1) * 10 * S);
        }
        assert_int_equal(w.retried, 1);
        assert_int_equal(job(0)->attempt, 2);
        assert_int_equal(job(0)->outcome, CREW__OUTCOME__OUTCOME_TIMEOUT);
}

static void a_run_lasts_as_long_as_what_its_manager_has_handed_out(void **state) {
        struct crew_err err = CREW_ERR_NULL;
        struct job *j;
        (void)state;
        make(2, 1);
        w.crew.process = CREW_HIERARCHICAL;
        run();
        assert_int_equal(scheduler_submit(w.s, &(struct sched_submit){.agent = "a1", .by = "a0"}, &j, &err), 0);
        scheduler_poke(w.s, 1);
        ok(0);
        scheduler_poke(w.s, 2);
        assert_int_equal(w.runs_done, 0);
        ok(1);
        scheduler_poke(w.s, 3);
        assert_int_equal(w.runs_done, 1);
}

static void a_result_after_the_deadline_counts_as_a_timeout(void **state) {
        (void)state;
        make(1, 1);
        run();
        scheduler_expire(w.s, 1 * S);
        result(0, CREW__OUTCOME__OUTCOME_OK, "1", 1 * S + 1);
        assert_int_equal(job(0)->outcome, CREW__OUTCOME__OUTCOME_TIMEOUT);
        assert_int_equal(w.runs_done, 1);
}

static void a_killed_agents_task_goes_to_its_replacement(void **state) {
        (void)state;
        make(1, 2);
        depends(1, 0);
        run();
        w.running[0] = NULL;
        w.slot[0] = SCHED_BUSY;
        assert_true(scheduler_agent_gone(w.s, 0, SCHED_TASK_AGAIN, "operator", 1));
        scheduler_poke(w.s, 1);
        assert_int_equal(job(0)->state, JOB_WAITING);
        w.slot[0] = SCHED_FREE;
        scheduler_poke(w.s, 2);
        assert_int_equal(job(0)->attempt, 2);
        ok(0);
        ok(0);
        assert_string_equal(w.order, "t0 t0 t1 ");
        assert_int_equal(scheduler_run_state(w.s)->ok, 2);
}

static void without_a_replacement_the_task_fails_and_the_next_one_too(void **state) {
        (void)state;
        make(2, 3);
        w.tasks[2].agent_index = 1;
        run();
        w.running[0] = NULL;
        w.slot[0] = SCHED_DEAD;
        assert_false(scheduler_agent_gone(w.s, 0, SCHED_NOBODY, "agent a0 terminated (operator)", 1));
        scheduler_poke(w.s, 1);
        assert_int_equal(job(0)->outcome, CREW__OUTCOME__OUTCOME_TERMINATED);
        assert_string_equal(job(0)->error, "agent a0 terminated (operator)");
        assert_string_equal(job(1)->error, "agent 0 is terminated");
        ok(1);
        assert_int_equal(job(2)->state, JOB_DONE);
        assert_int_equal(w.runs_done, 1);
}

static void a_start_that_fails_is_told(void **state) {
        (void)state;
        make(1, 1);
        w.start_result = -5;
        run();
        assert_int_equal(job(0)->state, JOB_FAILED);
        assert_string_equal(job(0)->error, "cannot be started");
        assert_int_equal(w.runs_done, 1);
}

static void a_second_run_waits_for_the_first_to_end(void **state) {
        struct crew_err err = CREW_ERR_NULL;
        (void)state;
        make(1, 1);
        run();
        assert_true(scheduler_run(w.s, 1, 2, 0, &err) < 0);
        ok(0);
        run();
        ok(0);
        assert_int_equal(w.runs_done, 2);
}

static void a_failed_task_is_tried_again_while_it_has_retries(void **state) {
        (void)state;
        make(1, 1);
        w.tasks[0].retries = 2;
        run();
        result(0, CREW__OUTCOME__OUTCOME_FAILED, "", 1);
        scheduler_expire(w.s, 2 * S); /* the second attempt times out */
        result(0, CREW__OUTCOME__OUTCOME_OK, "1", 2 * S);
        assert_int_equal(w.retried, 2);
        assert_int_equal(job(0)->state, JOB_RUNNING);
        result(0, CREW__OUTCOME__OUTCOME_FAILED, "", 2 * S);
        assert_int_equal(w.retried, 2);
        assert_int_equal(job(0)->state, JOB_FAILED);
        assert_int_equal(job(0)->attempt, 3);
        assert_int_equal(w.final[0], 1);
        assert_int_equal(w.runs_done, 1);
}

static void after_an_effect_a_task_is_never_run_again(void **state) {
        (void)state;
        make(2, 2);
        w.tasks[0].retries = w.tasks[1].retries = 3;
        w.tasks[1].agent_index = 1;
        run();
        scheduler_note_effect(w.s, 0);
        scheduler_note_effect(w.s, 1);
        result(0, CREW__OUTCOME__OUTCOME_FAILED, "", 1);
        assert_int_equal(job(0)->state, JOB_FAILED);
        assert_non_null(strstr(job(0)->error, "not tried again: a tool that is not idempotent was called"));
        w.running[1] = NULL;
        assert_false(scheduler_agent_gone(w.s, 1, SCHED_TASK_AGAIN, "agent a1 terminated", 1));
        assert_int_equal(job(1)->outcome, CREW__OUTCOME__OUTCOME_TERMINATED);
        assert_non_null(strstr(job(1)->error, "not run again"));
        assert_int_equal(w.retried, 0);
}

static void a_cancelled_job_has_that_outcome_whatever_comes(void **state) {
        struct crew_err err = CREW_ERR_NULL;
        struct job *j[3];
        (void)state;
        make(2, 0);
        for (size_t i = 0; i < 3; i++)
                assert_int_equal(scheduler_submit(w.s, &(struct sched_submit){.agent = i < 2 ? "a0" : "a1", .retries = 5},
                                                  &j[i], &err),
                                 0);
        scheduler_poke(w.s, 0);
        assert_int_equal(scheduler_cancel(w.s, j[1], "not needed", 1), 0); /* queued */
        assert_int_equal(w.finished, 1);
        assert_int_equal(w.finished_outcome, CREW__OUTCOME__OUTCOME_CANCELLED);
        assert_int_equal(scheduler_cancel(w.s, j[0], "not needed", 1), 0); /* running */
        assert_int_equal(scheduler_cancel(w.s, j[0], "again", 1), 1);
        assert_int_equal(w.cancelled, 1);
        result(0, CREW__OUTCOME__OUTCOME_OK, "1", 2);
        assert_int_equal(w.finished, 2);
        assert_int_equal(w.finished_outcome, CREW__OUTCOME__OUTCOME_CANCELLED);
        assert_string_equal(w.finished_error, "not needed");
        assert_int_equal(scheduler_cancel(w.s, j[2], "gone", 1), 0);
        scheduler_expire(w.s, 1 + SCHED_CANCEL_GRACE_NS);
        assert_int_equal(w.overdue, 1); /* it did not stop */
        w.running[1] = NULL;
        assert_false(scheduler_agent_gone(w.s, 1, SCHED_TASK_AGAIN, "killed", 3));
        assert_int_equal(w.finished, 3);
        assert_int_equal(w.finished_outcome, CREW__OUTCOME__OUTCOME_CANCELLED);
        assert_int_equal(w.retried, 0);
}

static void count_open(struct job *j, void *user) {
        assert_true(j->state < JOB_DONE);
        ++*(int *)user;
}

static void what_needs_a_cancelled_task_says_so(void **state) {
        struct crew_err err = CREW_ERR_NULL;
        int open = 0;
        (void)state;
        make(2, 4);
        depends(1, 0);
        depends(3, 2);
        assert_int_equal(scheduler_run(w.s, 1, 2, 0, &err), 0);
        scheduler_poke(w.s, 0);
        scheduler_each_open(w.s, count_open, &open);
        assert_int_equal(open, 4);
        assert_int_equal(scheduler_cancel(w.s, scheduler_find(w.s, "t-1"), "not needed", 1), 0); /* running */
        assert_int_equal(scheduler_cancel(w.s, scheduler_find(w.s, "t-3"), "nor that", 1), 0);   /* queued */
        result(0, CREW__OUTCOME__OUTCOME_OK, "1", 2);
        scheduler_poke(w.s, 2);
        assert_int_equal(scheduler_run_job(w.s, 0)->state, JOB_FAILED);
        assert_int_equal(scheduler_run_job(w.s, 2)->state, JOB_SKIPPED);
        assert_string_equal(scheduler_run_job(w.s, 1)->error, "needs 't0', which was cancelled");
        assert_string_equal(scheduler_run_job(w.s, 3)->error, "needs 't2', which was cancelled");
        assert_int_equal(w.runs_done, 1);
        assert_int_equal(scheduler_run_state(w.s)->ok, 0);
}

static void an_id_is_known_once_it_was_given_out(void **state) {
        static const char *const never[] = {
                "", "t-", "t-0", "t-3", "t-01", "t-1 ", "t--1", "x-1", "t-18446744073709551617"};
        struct crew_err err = CREW_ERR_NULL;
        struct job *j;
        int open = 0;
        (void)state;
        make(1, 0);
        for (int i = 0; i < 2; i++)
                assert_int_equal(scheduler_submit(w.s, &(struct sched_submit){.agent = "a0"}, &j, &err), 0);
        assert_int_equal(scheduler_cancel(w.s, scheduler_find(w.s, "t-1"), "gone", 1), 0);
        assert_null(scheduler_find(w.s, "t-1"));
        assert_true(scheduler_gave_out(w.s, "t-1"));
        assert_true(scheduler_gave_out(w.s, "t-2"));
        for (size_t i = 0; i < ELEMENTSOF(never); i++)
                assert_false(scheduler_gave_out(w.s, never[i]));
        scheduler_each_open(w.s, count_open, &open);
        assert_int_equal(open, 1);
}

static void the_queue_goes_by_priority_then_by_order(void **state) {
        static const char *const descriptions[] = {"first", "low", "mid", "mid too", "top"};
        static const uint32_t priority[] = {0, 0, 5, 5, 0};
        struct crew_err err = CREW_ERR_NULL;
        struct job *j[5];
        (void)state;
        make(1, 0);
        for (size_t i = 0; i < 5; i++)
                assert_int_equal(scheduler_submit(w.s,
                                                  &(struct sched_submit){.agent = "a0",
                                                                         .description = descriptions[i],
                                                                         .priority = i ? priority[i] : 100},
                                                  &j[i], &err),
                                 0);
        scheduler_poke(w.s, 0);
        assert_int_equal(scheduler_queued(w.s, 0), 4);
        assert_int_equal(scheduler_reprioritise(w.s, j[0], 1), 1); /* running */
        assert_int_equal(scheduler_reprioritise(w.s, j[4], 9), 0);
        static const size_t order[] = {4, 2, 3, 1};
        for (size_t i = 0; i < 4; i++) {
                ok(0);
                assert_string_equal(w.running[0]->description, descriptions[order[i]]);
        }
}

static void held_tasks_wait_for_the_manager_and_are_skipped_without_it(void **state) {
        struct crew_err err = CREW_ERR_NULL;
        struct job *j;
        (void)state;
        make(2, 5);
        w.crew.process = CREW_HIERARCHICAL;
        w.crew.manager = (struct crew_manager){.agent = "a0"};
        for (size_t i = 1; i < 4; i++)
                w.tasks[i].agent_index = 1;
        depends(3, 2); /* never handed out: nor is what needs it */
        depends(4, 1); /* the manager's second task, behind one it hands out */
        assert_true(scheduler_release(w.s, &(struct sched_submit){.task = "t1"}, &j, &err) == -ESRCH);
        run();
        assert_string_equal(w.order, "t0 ");
        assert_int_equal(scheduler_queued(w.s, 1), 0);
        assert_true(scheduler_release(w.s, &(struct sched_submit){.task = "t9"}, &j, &err) == -ENOENT);
        assert_int_equal(scheduler_release(w.s, &(struct sched_submit){.task = "t1", .input = "[3]"}, &j, &err), 0);
        assert_string_equal(j->input, "[3]");
        assert_true(scheduler_release(w.s, &(struct sched_submit){.task = "t1"}, &j, &err) == -EALREADY);
        scheduler_poke(w.s, 1);
        assert_string_equal(w.order, "t0 t1 ");
        ok(0); /* the manager is done before t1 is */
        assert_int_equal(job(2)->state, JOB_WAITING);
        ok(1);
        assert_string_equal(w.order, "t0 t1 t4 ");
        assert_int_equal(w.runs_done, 0);
        ok(0);
        assert_int_equal(job(2)->state, JOB_SKIPPED);
        assert_string_equal(job(2)->error, "the manager did not hand it out");
        assert_int_equal(job(3)->state, JOB_SKIPPED);
        assert_int_equal(w.runs_done, 1);
}

static void ad_hoc_tasks_are_checked_and_finish_once(void **state) {
        struct crew_err err = CREW_ERR_NULL;
        struct job *j;
        (void)state;
        make(2, 2);
        depends(1, 0);
        w.agents[1].orchestrator = true;
        assert_true(scheduler_submit(w.s, &(struct sched_submit){.agent = "nobody"}, &j, &err) < 0);
        assert_true(scheduler_submit(w.s, &(struct sched_submit){.task = "t9"}, &j, &err) < 0);
        assert_true(scheduler_submit(w.s, &(struct sched_submit){.task = "t0", .agent = "a0"}, &j, &err) < 0);
        assert_true(scheduler_submit(w.s, &(struct sched_submit){.agent = "a1"}, &j, &err) < 0);
        assert_true(scheduler_submit(w.s, &(struct sched_submit){.agent = "a0", .input = "{"}, &j, &err) < 0);
        assert_true(scheduler_submit(w.s, &(struct sched_submit){.task = "t1"}, &j, &err) < 0);
        assert_non_null(strstr(err.msg, "needs the result of 't0'"));
        assert_int_equal(scheduler_submit(w.s, &(struct sched_submit){.agent = "a0", .input = "[1]"}, &j, &err), 0);
        assert_string_equal(w.order, "");
        scheduler_poke(w.s, 0);
        assert_string_equal(w.order, "ad-hoc ");
        ok(0);
        assert_int_equal(w.finished, 1);
        assert_int_equal(w.finished_outcome, CREW__OUTCOME__OUTCOME_OK);
}

static void a_stop_skips_what_waits(void **state) {
        struct crew_err err = CREW_ERR_NULL;
        struct job *j;
        (void)state;
        make(1, 2);
        run();
        scheduler_stop(w.s, "the crew is stopping", 1);
        assert_int_equal(job(1)->state, JOB_SKIPPED);
        assert_string_equal(job(1)->error, "the crew is stopping");
        w.running[0] = NULL;
        assert_false(scheduler_agent_gone(w.s, 0, SCHED_TASK_AGAIN, "shutdown", 1));
        scheduler_poke(w.s, 1);
        assert_int_equal(w.runs_done, 1);
        assert_true(scheduler_submit(w.s, &(struct sched_submit){.agent = "a0"}, &j, &err) < 0);
}

/* Random acyclic graphs, random results and deaths: every task ends exactly once, none before its context. */
static void random_graphs_end_with_every_task_final_once(void **state) {
        (void)state;
        for (uint64_t round = 1; round <= 300; round++) {
                uint64_t seed = round * 104729, now = 1;
                uint32_t n_agents = 1 + test_random(&seed, A_MAX), n_tasks = 1 + test_random(&seed, T_MAX);
                teardown(NULL);
                setup(NULL);
                make(n_agents, n_tasks);
                for (uint32_t t = 0; t < n_tasks; t++) {
                        w.tasks[t].agent_index = test_random(&seed, n_agents);
                        for (uint32_t k = 0; k < t; k++) {
                                if (test_random(&seed, 5) == 0)
                                        depends(t, k);
                        }
                }
                run();
                for (int i = 0; i < 10000 && w.runs_done == 0; i++) {
                        uint32_t agent = test_random(&seed, n_agents);
                        now++;
                        if (!w.running[agent])
                                continue;
                        switch (test_random(&seed, 8)) {
                        case 0:
                                result(agent, CREW__OUTCOME__OUTCOME_FAILED, "", now);
                                break;
                        case 1:
                                w.running[agent] = NULL;
                                scheduler_agent_gone(w.s, agent, test_random(&seed, 3), "killed", now);
                                scheduler_poke(w.s, now);
                                break;
                        default:
                                result(agent, CREW__OUTCOME__OUTCOME_OK, "[]", now);
                        }
                }
                assert_int_equal(w.runs_done, 1);
                for (uint32_t t = 0; t < n_tasks; t++)
                        assert_int_equal(w.final[t], 1);
        }
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(a_chain_runs_in_order_and_passes_results_on, setup, teardown),
                cmocka_unit_test_setup_teardown(independent_tasks_of_different_agents_run_together, setup, teardown),
                cmocka_unit_test_setup_teardown(a_failure_skips_dependants_with_the_reason, setup, teardown),
                cmocka_unit_test_setup_teardown(a_result_that_breaks_the_schema_fails_the_task, setup, teardown),
                cmocka_unit_test_setup_teardown(a_result_that_is_no_json_fails_the_task, setup, teardown),
                cmocka_unit_test_setup_teardown(an_answer_to_a_foreign_or_finished_task_is_a_violation, setup, teardown),
                cmocka_unit_test_setup_teardown(a_deadline_cancels_then_kills_then_is_a_timeout, setup, teardown),
                cmocka_unit_test_setup_teardown(no_time_passes_for_the_job_of_one_that_stands_still, setup, teardown),
                cmocka_unit_test_setup_teardown(one_that_is_cancelled_while_it_stands_still_has_its_time_afterwards, setup,
                                                teardown),
                cmocka_unit_test_setup_teardown(what_was_left_of_its_grace_is_left_after_it_stood_still, setup, teardown),
                cmocka_unit_test_setup_teardown(a_job_has_no_more_time_than_its_agent_whoever_submits_it, setup, teardown),
                cmocka_unit_test_setup_teardown(a_submitted_task_waits_for_the_context_of_the_run_that_began, setup,
                                                teardown),
                cmocka_unit_test_setup_teardown(one_that_ran_out_of_time_and_was_killed_is_tried_again, setup, teardown),
                cmocka_unit_test_setup_teardown(a_run_lasts_as_long_as_what_its_manager_has_handed_out, setup, teardown),
                cmocka_unit_test_setup_teardown(a_result_after_the_deadline_counts_as_a_timeout, setup, teardown),
                cmocka_unit_test_setup_teardown(a_killed_agents_task_goes_to_its_replacement, setup, teardown),
                cmocka_unit_test_setup_teardown(without_a_replacement_the_task_fails_and_the_next_one_too, setup, teardown),
                cmocka_unit_test_setup_teardown(a_start_that_fails_is_told, setup, teardown),
                cmocka_unit_test_setup_teardown(a_second_run_waits_for_the_first_to_end, setup, teardown),
                cmocka_unit_test_setup_teardown(a_failed_task_is_tried_again_while_it_has_retries, setup, teardown),
                cmocka_unit_test_setup_teardown(after_an_effect_a_task_is_never_run_again, setup, teardown),
                cmocka_unit_test_setup_teardown(a_cancelled_job_has_that_outcome_whatever_comes, setup, teardown),
                cmocka_unit_test_setup_teardown(what_needs_a_cancelled_task_says_so, setup, teardown),
                cmocka_unit_test_setup_teardown(an_id_is_known_once_it_was_given_out, setup, teardown),
                cmocka_unit_test_setup_teardown(the_queue_goes_by_priority_then_by_order, setup, teardown),
                cmocka_unit_test_setup_teardown(held_tasks_wait_for_the_manager_and_are_skipped_without_it, setup,
                                                teardown),
                cmocka_unit_test_setup_teardown(ad_hoc_tasks_are_checked_and_finish_once, setup, teardown),
                cmocka_unit_test_setup_teardown(a_stop_skips_what_waits, setup, teardown),
                cmocka_unit_test_setup_teardown(random_graphs_end_with_every_task_final_once, setup, teardown),
        };
        cmocka_set_message_output(CM_OUTPUT_TAP);
        return cmocka_run_group_tests(tests, NULL, NULL);
}
