/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Another crew file for a scheduler that works.  A job keeps its identity (id, state, result, who waits for it) as long as
 * a task of that name is declared.  What runs goes on as it was started, and comes back, if it must, as it is declared
 * then.
 */
#include "common/util.h"
#include "scheduler_internal.h"

#include <errno.h>
#include <string.h>

#define GONE_TEXT "its task is no longer in the crew file"

static const struct crew_task *task_of(const struct crew_file *crew, const char *name) {
        for (size_t i = 0; i < crew->n_tasks; i++) {
                if (strcmp(crew->tasks[i].name, name) == 0)
                        return &crew->tasks[i];
        }
        return NULL;
}

/* What was asked for with it stays: by the manager that handed it out, or by the client. */
static void redefine(const struct scheduler *s, struct job *j, const struct crew_task *t) {
        const struct job was = *j;

        job_define(s, j, t);
        if (!was.in_run || !was.held)
                j->held = false;
        if (!was.in_run || was.by) {
                j->timeout_ns = was.timeout_ns;
                j->retries = MAX_OF(j->retries, was.retries);
        }
}

bool job_declared(const struct scheduler *s, const struct job *j) {
        return !j->task || task_of(s->crew, j->task->name);
}

void job_put_back(struct scheduler *s, struct job *j) {
        const struct crew_task *t = j->task ? task_of(s->crew, j->task->name) : NULL;

        j->state = JOB_WAITING;
        if (t && t != j->task)
                redefine(s, j, t);
}

/* --- the run's --- */

/* The jobs of tasks that stay, in their new places; new ones where there was none. */
static struct job **place_jobs(struct scheduler *s, const struct crew_file *to) {
        struct job **jobs = calloc(MAX_OF(to->n_tasks, (size_t)1), sizeof(struct job *));
        size_t i = 0;

        for (; jobs && i < to->n_tasks; i++) {
                const struct crew_task *was = task_of(s->crew, to->tasks[i].name);
                jobs[i] = was ? s->run_jobs[was - s->crew->tasks] : calloc(1, sizeof(*jobs[i]));
                if (!jobs[i])
                        break;
        }
        if (jobs && i == to->n_tasks)
                return jobs;
        for (size_t k = 0; k < i; k++) {
                if (!task_of(s->crew, to->tasks[k].name))
                        free(jobs[k]);
        }
        free(jobs);
        return NULL;
}

/* One whose task is gone: it runs to its end outside of the run, or is over now. */
static void drop(struct scheduler *s, struct job *j, uint64_t now_ns) {
        if (j->in_run && j->state == JOB_RUNNING) {
                j->in_run = false;
                return job_append(s, j);
        }
        if (j->in_run && j->state < JOB_DONE && s->run.active)
                job_finish(s, j, JOB_SKIPPED, CREW__OUTCOME__OUTCOME_CANCELLED, GONE_TEXT, now_ns);
        job_clear(j);
        free(j);
}

static void adopt(struct scheduler *s, struct job *j, const struct crew_task *t) {
        if (!j->in_run) {
                if (s->run.active)
                        job_queue(s, j, t);
        } else if (j->state == JOB_WAITING) {
                redefine(s, j, t);
        } else if (j->state >= JOB_DONE) {
                j->task = t;
                j->name = t->name;
        }
}

static void count_run(struct scheduler *s) {
        if (!s->run.active)
                return;
        s->run.total = (uint32_t)s->crew->n_tasks;
        s->run.ok = 0;
        for (size_t i = 0; i < s->crew->n_tasks; i++)
                s->run.ok += s->run_jobs[i]->state == JOB_DONE;
}

/* --- those of clients --- */

static void adopt_ad_hoc(struct scheduler *s, uint64_t now_ns) {
        struct job *next;

        for (struct job *j = s->ad_hoc; j; j = next) {
                next = j->next;
                if (!j->task || j->state != JOB_WAITING)
                        continue;
                const struct crew_task *t = task_of(s->crew, j->task->name);
                if (t)
                        redefine(s, j, t);
                else
                        job_finish(s, j, JOB_SKIPPED, CREW__OUTCOME__OUTCOME_CANCELLED, GONE_TEXT, now_ns);
        }
}

int scheduler_take_file(struct scheduler *s, const struct crew_file *crew, uint64_t now_ns) {
        const struct crew_file *was = s->crew;
        struct job **old = s->run_jobs, **jobs = place_jobs(s, crew);

        if (!jobs)
                return -ENOMEM;
        s->run_jobs = jobs;
        s->crew = crew;
        for (size_t i = 0; i < was->n_tasks; i++) {
                if (!task_of(crew, was->tasks[i].name))
                        drop(s, old[i], now_ns);
        }
        free(old);
        for (size_t i = 0; i < crew->n_tasks; i++)
                adopt(s, jobs[i], &crew->tasks[i]);
        adopt_ad_hoc(s, now_ns);
        count_run(s);
        return 0;
}

static bool is_of(const struct job *j, const struct crew_file *crew) {
        for (size_t i = 0; i < crew->n_tasks; i++) {
                if (j->task == &crew->tasks[i])
                        return true;
        }
        return false;
}

bool scheduler_needs(const struct scheduler *s, const struct crew_file *crew) {
        bool needed = s->crew == crew;

        for (size_t i = 0; i < s->crew->n_tasks; i++)
                needed = needed || is_of(s->run_jobs[i], crew);
        for (const struct job *j = s->ad_hoc; j; j = j->next)
                needed = needed || is_of(j, crew);
        return needed;
}
