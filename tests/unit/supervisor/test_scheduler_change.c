/* SPDX-License-Identifier: Apache-2.0 */
/* Another crew file for a scheduler that works: what goes on, what joins, what ends, and that nothing is lost or done
 * twice. */
#include "supervisor/scheduler.h"

#include "test.h"

#include <errno.h>

#define AGENTS 3u
#define NAMES 8u
#define FILES 400u

struct file {
        struct crew_file crew;
        struct crew_agent agents[AGENTS];
        struct crew_task tasks[NAMES];
        uint32_t context[NAMES][NAMES];
};

static struct world {
        struct file *files; /* FILES: each is alive until the end, as in a crew that needs it */
        size_t n;
        struct scheduler *s;
        struct job *running[AGENTS];
        int runs_done, finished, changed_final;
        char last_error[512];
        Crew__Outcome last_outcome;
} w;

static const char *const agent_names[AGENTS] = {"a0", "a1", "a2"};
static const char *const task_names[NAMES] = {"t0", "t1", "t2", "t3", "t4", "t5", "t6", "t7"};

static enum sched_slot slot(uint32_t agent, char *why, void *user) {
        return w.running[agent] ? SCHED_BUSY : SCHED_FREE;
}

static int start(struct job *j, struct crew_err *err, void *user) {
        assert_null(w.running[j->agent]);
        assert_string_equal(j->name, j->task ? j->task->name : "ad-hoc");
        for (size_t i = 0; j->in_run && i < j->task->n_context; i++)
                assert_int_equal(scheduler_run_job(w.s, j->task->context[i])->state, JOB_DONE);
        w.running[j->agent] = j;
        return 0;
}

static void ignore_job(struct job *j, void *user) {
        assert_int_equal(j->state, JOB_RUNNING);
}

static void retried(struct job *j, Crew__Outcome outcome, const char *error, void *user) {
        assert_int_equal(j->state, JOB_RUNNING);
}

static void changed(struct job *j, void *user) {
        w.changed_final += j->state >= JOB_DONE;
        if (j->state >= JOB_DONE) {
                w.last_outcome = j->outcome;
                snprintf(w.last_error, sizeof(w.last_error), "%s", j->error);
        }
}

static void finished(struct job *j, void *user) {
        w.finished++;
}

static void run_done(void *user) {
        w.runs_done++;
}

static struct file *new_file(void) {
        assert_true(w.n < FILES);
        struct file *f = &w.files[w.n++];

        for (uint32_t i = 0; i < AGENTS; i++)
                f->agents[i] = (struct crew_agent){.name = agent_names[i]};
        f->crew = (struct crew_file){.name = "test", .agents = f->agents, .n_agents = AGENTS, .tasks = f->tasks};
        return f;
}

static struct crew_task *add(struct file *f, uint32_t name, uint32_t agent) {
        struct crew_task *t = &f->tasks[f->crew.n_tasks];

        *t = (struct crew_task){.name = task_names[name],
                                .agent_index = agent,
                                .timeout_ms = 1000,
                                .context = f->context[f->crew.n_tasks++]};
        return t;
}

static int setup(void **state) {
        w = (struct world){.files = calloc(FILES, sizeof(*w.files))};
        return w.files ? 0 : -1;
}

static int teardown(void **state) {
        w.s = scheduler_free(w.s);
        free(w.files);
        return 0;
}

static void begin(const struct file *f) {
        static const struct sched_callbacks cb = {.slot = slot,
                                                  .start = start,
                                                  .cancel = ignore_job,
                                                  .overdue = ignore_job,
                                                  .retried = retried,
                                                  .changed = changed,
                                                  .finished = finished,
                                                  .run_done = run_done};

        w.s = scheduler_new(&f->crew, AGENTS, &cb, NULL);
        assert_non_null(w.s);
}

static void run(void) {
        assert_int_equal(scheduler_run(w.s, 1, 2, 0, NULL), 0);
        scheduler_poke(w.s, 0);
}

static void take(const struct file *f) {
        assert_int_equal(scheduler_take_file(w.s, &f->crew, 0), 0);
        scheduler_poke(w.s, 0);
}

static void give(uint32_t agent, Crew__Outcome outcome) {
        struct job *j = w.running[agent];
        const struct sched_result r = {.agent = agent,
                                       .task_id = j->id,
                                       .outcome = outcome,
                                       .result = "1",
                                       .result_len = 1,
                                       .error = "it said so"};

        w.running[agent] = NULL;
        assert_int_equal(scheduler_result(w.s, &r, 0), 0);
        scheduler_poke(w.s, 0);
}

static void a_running_task_goes_on_and_a_new_one_joins_the_run(void **state) {
        struct file *one = new_file(), *two = new_file();

        add(one, 0, 0);
        begin(one);
        run();
        add(two, 1, 1)->n_context = 1;
        two->context[0][0] = 1;
        add(two, 0, 0);
        struct job *j = w.running[0];
        take(two);
        assert_ptr_equal(w.running[0], j);
        assert_ptr_equal(j->task, &one->tasks[0]); /* as it was declared */
        assert_true(scheduler_needs(w.s, &one->crew));
        assert_null(w.running[1]);
        give(0, CREW__OUTCOME__OUTCOME_OK);
        assert_string_equal(w.running[1]->name, "t1");
        give(1, CREW__OUTCOME__OUTCOME_OK);
        assert_int_equal(w.runs_done, 1);
        assert_int_equal(scheduler_run_state(w.s)->ok, 2);
        assert_int_equal(scheduler_run_state(w.s)->total, 2);
        take(two);
        assert_false(scheduler_needs(w.s, &one->crew));
}

static void a_task_that_waits_and_is_gone_is_skipped_with_the_reason(void **state) {
        struct file *one = new_file(), *two = new_file();

        add(one, 0, 0);
        add(one, 1, 0);
        add(two, 0, 0);
        begin(one);
        run();
        take(two);
        assert_int_equal(w.last_outcome, CREW__OUTCOME__OUTCOME_CANCELLED);
        assert_string_equal(w.last_error, "its task is no longer in the crew file");
        assert_int_equal(w.runs_done, 0);
        give(0, CREW__OUTCOME__OUTCOME_OK);
        assert_int_equal(w.runs_done, 1);
        assert_int_equal(scheduler_run_state(w.s)->total, 1);
}

static void a_task_that_runs_and_is_gone_ends_outside_of_the_run_and_is_not_tried_again(void **state) {
        struct file *one = new_file(), *two = new_file();

        add(one, 0, 0)->retries = 3;
        add(one, 1, 1);
        add(two, 1, 1);
        begin(one);
        run();
        take(two);
        give(1, CREW__OUTCOME__OUTCOME_OK);
        assert_int_equal(w.runs_done, 1);
        assert_true(scheduler_needs(w.s, &one->crew));
        give(0, CREW__OUTCOME__OUTCOME_FAILED);
        assert_int_equal(w.finished, 1);
        assert_null(w.running[0]);
        take(two); /* files are looked at with each change */
        assert_false(scheduler_needs(w.s, &one->crew));
}

static void what_comes_back_comes_back_as_it_is_declared_now(void **state) {
        struct file *one = new_file(), *two = new_file();

        add(one, 0, 0);
        add(two, 0, 2)->timeout_ms = 5000;
        begin(one);
        run();
        take(two);
        w.running[0] = NULL;
        assert_true(scheduler_agent_gone(w.s, 0, SCHED_TASK_AGAIN, "killed", 0));
        scheduler_poke(w.s, 0);
        assert_non_null(w.running[2]);
        assert_ptr_equal(w.running[2]->task, &two->tasks[0]);
        assert_int_equal(w.running[2]->timeout_ns, 5000000000ull);
}

static void what_a_client_asked_for_moves_too_or_is_told(void **state) {
        struct file *one = new_file(), *two = new_file();
        struct sched_submit what = {.task = "t0", .client = 7, .timeout_ns = 9};
        struct job *j, *other;

        add(one, 0, 0);
        add(one, 1, 0);
        add(two, 0, 1);
        begin(one);
        assert_int_equal(scheduler_submit(w.s, &(struct sched_submit){.agent = "a0"}, &other, NULL), 0);
        scheduler_poke(w.s, 0);
        assert_int_equal(scheduler_submit(w.s, &what, &j, NULL), 0);
        what.task = "t1";
        assert_int_equal(scheduler_submit(w.s, &what, &j, NULL), 0);
        take(two);
        assert_int_equal(w.finished, 1);
        assert_string_equal(w.running[1]->name, "t0");
        assert_int_equal(w.running[1]->timeout_ns, 9);
        assert_ptr_equal(w.running[0], other);
}

static struct file *random_file(uint64_t *seed) {
        struct file *f = new_file();
        uint32_t at = 0;

        for (uint32_t i = 0; i < NAMES; i++) {
                if (test_random(seed, 3) == 0)
                        continue;
                struct crew_task *t = add(f, (i + w.n) % NAMES, (uint32_t)test_random(seed, AGENTS));
                t->retries = (uint32_t)test_random(seed, 2);
                for (uint32_t k = 0; k < at; k++) {
                        if (test_random(seed, 4) == 0)
                                t->context[t->n_context++] = k;
                }
                at++;
        }
        return f;
}

/* One step of a run; false: nothing runs, so it must be over. */
static bool step(uint64_t *seed) {
        uint32_t agent = (uint32_t)test_random(seed, AGENTS);

        for (uint32_t i = 0; i < AGENTS && !w.running[agent]; i++)
                agent = (agent + 1) % AGENTS;
        if (!w.running[agent])
                return false;
        switch (test_random(seed, 5)) {
        case 0:
                give(agent, CREW__OUTCOME__OUTCOME_FAILED);
                break;
        case 1:
                w.running[agent] = NULL;
                scheduler_agent_gone(w.s, agent, test_random(seed, 3), "killed", 0);
                scheduler_poke(w.s, 0);
                break;
        default:
                give(agent, CREW__OUTCOME__OUTCOME_OK);
        }
        return true;
}

/* Files change at random points; each run ends once, with every task of the last file final, and no agent is left busy. */
static void random_changes_lose_nothing(void **state) {
        uint64_t seed = 7;

        begin(random_file(&seed));
        while (w.n < FILES - 8) {
                int before = w.runs_done;
                const struct file *last = &w.files[w.n - 1];
                run();
                while (w.runs_done == before) {
                        if (w.n < FILES && test_random(&seed, 4) == 0)
                                take(last = random_file(&seed));
                        else
                                assert_true(step(&seed) || w.runs_done != before);
                }
                assert_int_equal(w.runs_done, before + 1);
                for (size_t i = 0; i < last->crew.n_tasks; i++)
                        assert_true(scheduler_run_job(w.s, i)->state >= JOB_DONE);
                while (step(&seed))
                        ;
                for (uint32_t i = 0; i < AGENTS; i++)
                        assert_null(scheduler_job_of(w.s, i));
                take(last);
                for (size_t i = 0; i + 1 < w.n; i++)
                        assert_false(scheduler_needs(w.s, &w.files[i].crew) && &w.files[i] != last);
        }
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
int main(void) {
        const struct CMUnitTest tests[] = {
                TEST(a_running_task_goes_on_and_a_new_one_joins_the_run),
                TEST(a_task_that_waits_and_is_gone_is_skipped_with_the_reason),
                TEST(a_task_that_runs_and_is_gone_ends_outside_of_the_run_and_is_not_tried_again),
                TEST(what_comes_back_comes_back_as_it_is_declared_now),
                TEST(what_a_client_asked_for_moves_too_or_is_told),
                TEST(random_changes_lose_nothing),
        };
        cmocka_set_message_output(CM_OUTPUT_TAP);
        return cmocka_run_group_tests(tests, NULL, NULL);
}
