/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The scheduler.  A pass over the waiting jobs in file order starts what can start; it repeats until nothing changes, so
 * that a failure reaches all its dependants at once.
 */
#include "scheduler_internal.h"

#include "common/util.h"
#include "jsontext.h"
#include "supervisor/schema/schema.h"
#include "text.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

const char *const job_state_names[] = {
        [JOB_WAITING] = "waiting", [JOB_RUNNING] = "running", [JOB_VOTING] = "voting",
        [JOB_DONE] = "done",       [JOB_FAILED] = "failed",   [JOB_SKIPPED] = "skipped",
};
static_assert(ELEMENTSOF(job_state_names) == JOB_STATE_N, "a name for each state");

void job_clear(struct job *j) {
        free(j->description);
        free(j->input);
        free(j->result);
        *j = (struct job){0};
}

static void run_jobs_free(struct job **jobs, size_t n) {
        for (size_t i = 0; jobs && i < n; i++) {
                if (jobs[i])
                        job_clear(jobs[i]);
                free(jobs[i]);
        }
        free(jobs);
}

/* One for each task; NULL: out of memory. */
static struct job **run_jobs_new(size_t n) {
        struct job **jobs = calloc(MAX_OF(n, (size_t)1), sizeof(struct job *));

        for (size_t i = 0; jobs && i < n; i++) {
                if ((jobs[i] = calloc(1, sizeof(*jobs[i]))))
                        continue;
                run_jobs_free(jobs, n);
                return NULL;
        }
        return jobs;
}

struct scheduler *scheduler_new(const struct crew_file *crew, uint32_t room, const struct sched_callbacks *cb, void *user) {
        struct scheduler *s = calloc(1, sizeof(*s));

        if (!s)
                return NULL;
        s->crew = crew;
        s->cb = *cb;
        s->user = user;
        s->ad_hoc_tail = &s->ad_hoc;
        s->room = room;
        s->run_jobs = run_jobs_new(crew->n_tasks);
        s->on_agent = calloc(MAX_OF(room, 1u), sizeof(struct job *));
        if (!s->run_jobs || !s->on_agent)
                return scheduler_free(s);
        return s;
}

struct scheduler *scheduler_free(struct scheduler *s) {
        if (!s)
                return NULL;
        while (s->ad_hoc) {
                struct job *j = s->ad_hoc;
                s->ad_hoc = j->next;
                job_clear(j);
                free(j);
        }
        run_jobs_free(s->run_jobs, s->crew->n_tasks);
        free(s->on_agent);
        free(s);
        return NULL;
}

static void job_name(struct scheduler *s, struct job *j) {
        snprintf(j->id, sizeof(j->id), "t-%llu", (unsigned long long)++s->next_id);
}

void job_define(const struct scheduler *s, struct job *j, const struct crew_task *t) {
        j->task = t;
        j->name = t->name;
        j->agent = t->agent_index;
        j->timeout_ns = t->timeout_ms * 1000000u;
        j->retries = t->retries;
        j->held = s->crew->process == CREW_HIERARCHICAL && t->agent_index != s->crew->manager.index;
}

void job_queue(struct scheduler *s, struct job *j, const struct crew_task *t) {
        job_name(s, j);
        job_define(s, j, t);
        j->in_run = true;
}

int scheduler_run(struct scheduler *s, uint64_t client, uint64_t corr, uint64_t now_ns, struct crew_err *err) {
        if (s->run.active)
                return crew_fail(err, EBUSY, "the tasks of this crew are running already");
        if (s->stopped)
                return crew_fail(err, ESHUTDOWN, "%s", s->stop_reason);
        s->run = (struct sched_run){.active = true,
                                    .ever = true,
                                    .client = client,
                                    .corr = corr,
                                    .started_ns = now_ns,
                                    .total = (uint32_t)s->crew->n_tasks};
        for (size_t i = 0; i < s->crew->n_tasks; i++) {
                job_clear(s->run_jobs[i]);
                job_queue(s, s->run_jobs[i], &s->crew->tasks[i]);
        }
        return 0;
}

/* --- ad-hoc jobs --- */

static const char *why_no_result(const struct job *dep) {
        return dep->stop_reason[0]         ? "was cancelled"
               : dep->state == JOB_FAILED  ? "failed"
               : dep->state == JOB_SKIPPED ? "was skipped"
               : dep->in_run               ? "is not done"
                                           : "has not run";
}

static int fill_by_task(struct scheduler *s, const struct sched_submit *what, struct job *j, struct crew_err *err) {
        const struct crew_task *t = NULL;

        for (size_t i = 0; i < s->crew->n_tasks; i++) {
                if (strcmp(s->crew->tasks[i].name, what->task) == 0)
                        t = &s->crew->tasks[i];
        }
        if (!t)
                return crew_fail(err, ENOENT, "no task '%s' in crew %s", what->task, s->crew->name);
        for (size_t i = 0; i < t->n_context; i++) {
                const struct job *dep = s->run_jobs[t->context[i]];
                if (dep->state != JOB_DONE || !dep->result)
                        return crew_fail(err, EBUSY, "task '%s' needs the result of '%s', which %s", t->name,
                                         s->crew->tasks[t->context[i]].name, why_no_result(dep));
        }
        j->task = t;
        j->name = t->name;
        j->agent = t->agent_index;
        j->timeout_ns = t->timeout_ms * 1000000u;
        j->retries = t->retries;
        return 0;
}

static int fill_by_agent(struct scheduler *s, const struct sched_submit *what, struct job *j, struct crew_err *err) {
        const struct crew_agent *a = crew_find_agent(s->crew, what->agent);

        if (!a)
                return crew_fail(err, ENOENT, "no agent '%s' in crew %s", what->agent, s->crew->name);
        if (a->orchestrator)
                return crew_fail(err, EINVAL, "agent '%s' has no command: it cannot be given a task", a->name);
        j->name = what->ballot ? "vote" : "ad-hoc";
        j->ballot = what->ballot;
        j->agent = (uint32_t)(a - s->crew->agents);
        j->timeout_ns = SCHED_AD_HOC_TIMEOUT_NS;
        return 0;
}

static int copy_texts(struct job *j, const struct sched_submit *what, struct crew_err *err) {
        if (what->description && *what->description && !(j->description = strdup(what->description)))
                return crew_fail(err, ENOMEM, "out of memory");
        if (what->input && *what->input) {
                struct crew_err why = CREW_ERR_NULL;
                if (schema_check(NULL, what->input, strlen(what->input), &why) != 0)
                        return crew_fail(err, EINVAL, "input is not valid JSON: %s", why.msg);
                if (!(j->input = strdup(what->input)))
                        return crew_fail(err, ENOMEM, "out of memory");
        }
        return 0;
}

static void rank(struct scheduler *s, struct job *j, const struct sched_submit *what) {
        j->by = what->by;
        j->priority = what->priority;
        j->retries = MAX_OF(j->retries, what->retries);
        s->ranked |= j->priority > 0;
}

void job_append(struct scheduler *s, struct job *j) {
        *s->ad_hoc_tail = j;
        s->ad_hoc_tail = &j->next;
        s->n_ad_hoc++;
}

int scheduler_submit(struct scheduler *s, const struct sched_submit *what, struct job **out, struct crew_err *err) {
        bool by_task = what->task && *what->task, by_agent = what->agent && *what->agent;

        if (by_task == by_agent)
                return crew_fail(err, EINVAL, "name either a task of the crew file or an agent");
        if (s->stopped)
                return crew_fail(err, ESHUTDOWN, "%s", s->stop_reason);
        if (s->n_ad_hoc >= SCHED_AD_HOC_MAX)
                return crew_fail(err, EAGAIN, "%u tasks are waiting already", SCHED_AD_HOC_MAX);
        struct job *j = calloc(1, sizeof(*j));
        if (!j)
                return crew_fail(err, ENOMEM, "out of memory");
        int r = by_task ? fill_by_task(s, what, j, err) : fill_by_agent(s, what, j, err);
        if (r == 0)
                r = copy_texts(j, what, err);
        if (r < 0) {
                job_clear(j);
                free(j);
                return r;
        }
        if (what->timeout_ns)
                j->timeout_ns = what->timeout_ns;
        uint64_t most = s->cb.time_max ? s->cb.time_max(j->agent, s->user) : 0;
        if (most)
                j->timeout_ns = MIN_OF(j->timeout_ns, most);
        j->client = what->client;
        j->corr = what->corr;
        rank(s, j, what);
        snprintf(j->key, sizeof(j->key), "%s", what->key ? what->key : "");
        job_name(s, j);
        job_append(s, j);
        *out = j;
        return 0;
}

int scheduler_release(struct scheduler *s, const struct sched_submit *what, struct job **out, struct crew_err *err) {
        struct job *j = NULL;

        if (!s->run.active)
                return crew_fail(err, ESRCH, "the tasks of this crew are not running");
        for (size_t i = 0; i < s->crew->n_tasks; i++) {
                if (strcmp(s->crew->tasks[i].name, what->task) == 0)
                        j = s->run_jobs[i];
        }
        if (!j)
                return crew_fail(err, ENOENT, "no task '%s' in crew %s", what->task, s->crew->name);
        if (!j->held || j->state != JOB_WAITING)
                return crew_fail(err, EALREADY, "task '%s' is %s", j->name, j->held ? "over" : "handed out already");
        int r = copy_texts(j, what, err);
        if (r < 0)
                return r;
        if (what->timeout_ns)
                j->timeout_ns = MIN_OF(j->timeout_ns, what->timeout_ns);
        rank(s, j, what);
        j->held = false;
        *out = j;
        return 0;
}

static void ad_hoc_remove(struct scheduler *s, struct job *j) {
        for (struct job **at = &s->ad_hoc; *at; at = &(*at)->next) {
                if (*at != j)
                        continue;
                *at = j->next;
                if (!j->next)
                        s->ad_hoc_tail = at;
                s->n_ad_hoc--;
                return;
        }
}

/* --- transitions --- */

void job_finish(struct scheduler *s, struct job *j, enum job_state state, Crew__Outcome outcome, const char *error,
                uint64_t now_ns) {
        if (j->state == JOB_RUNNING)
                s->on_agent[j->agent] = NULL;
        j->state = state;
        j->outcome = outcome;
        j->ended_ns = now_ns;
        if (error && error != j->error)
                text_copy(j->error, sizeof(j->error), error, SIZE_MAX);
        if (state == JOB_DONE && j->in_run)
                s->run.ok++;
        if (state != JOB_DONE) { /* of a proposal that was not agreed to, or not any more */
                free(crew_steal_ptr(&j->result));
                j->result_len = 0;
                j->summary[0] = '\0';
        }
        s->cb.changed(j, s->user);
        if (!j->in_run) {
                /* Unlinked first: the callback may submit or stop. */
                ad_hoc_remove(s, j);
                s->cb.finished(j, s->user);
                job_clear(j);
                free(j);
        }
}

static void start(struct scheduler *s, struct job *j, uint64_t now_ns) {
        struct crew_err err = CREW_ERR_NULL;

        j->state = JOB_RUNNING;
        j->attempt++;
        j->started_ns = now_ns;
        j->deadline_ns = now_ns + j->timeout_ns;
        j->stop = JOB_GOES_ON;
        j->overdue = false;
        s->on_agent[j->agent] = j;
        if (s->cb.start(j, &err, s->user) < 0)
                job_finish(s, j, JOB_FAILED, CREW__OUTCOME__OUTCOME_FAILED, err.msg, now_ns);
        else
                s->cb.changed(j, s->user);
}

enum ready { READY_NOT_YET, READY_YES, READY_NEVER };

static enum ready context_ready(struct scheduler *s, struct job *j, char *why, size_t why_size) {
        enum ready ready = READY_YES;

        /* Also of one that was submitted: a run that began since makes its context anew. */
        for (size_t i = 0; j->task && i < j->task->n_context; i++) {
                const struct job *dep = s->run_jobs[j->task->context[i]];
                if (dep->state == JOB_FAILED || dep->state == JOB_SKIPPED || !dep->in_run) {
                        snprintf(why, why_size, "needs '%s', which %s", s->crew->tasks[j->task->context[i]].name,
                                 why_no_result(dep));
                        return READY_NEVER;
                }
                if (dep->state != JOB_DONE)
                        ready = READY_NOT_YET;
        }
        return ready;
}

/* Another job for the same agent could start now, and goes first. */
static bool outranked(struct scheduler *s, const struct job *j) {
        char why[256];

        if (!s->ranked)
                return false;
        for (size_t i = 0; s->run.active && i < s->crew->n_tasks; i++) {
                struct job *o = s->run_jobs[i];
                if (o->agent == j->agent && o->priority > j->priority && o->state == JOB_WAITING && !o->held &&
                    context_ready(s, o, why, sizeof(why)) == READY_YES)
                        return true;
        }
        for (struct job *o = s->ad_hoc; o; o = o->next) {
                if (o->agent == j->agent && o->priority > j->priority && o->state == JOB_WAITING &&
                    context_ready(s, o, why, sizeof(why)) == READY_YES)
                        return true;
        }
        return false;
}

/* True when j left the waiting state. */
static bool advance(struct scheduler *s, struct job *j, uint64_t now_ns) {
        char why[256] = "";

        if (j->state != JOB_WAITING && !(j->state == JOB_VOTING && s->stopped))
                return false;
        if (s->stopped) {
                job_finish(s, j, JOB_SKIPPED, CREW__OUTCOME__OUTCOME_CANCELLED, s->stop_reason, now_ns);
                return true;
        }
        enum ready ready = context_ready(s, j, why, sizeof(why));
        if (ready == READY_NEVER) {
                job_finish(s, j, JOB_SKIPPED, CREW__OUTCOME__OUTCOME_CANCELLED, why, now_ns);
                return true;
        }
        if (ready == READY_NOT_YET || j->held || s->on_agent[j->agent] || outranked(s, j))
                return false;
        switch (s->cb.slot(j->agent, why, s->user)) {
        case SCHED_FREE:
                start(s, j, now_ns);
                return true;
        case SCHED_DEAD:
                job_finish(s, j, JOB_FAILED, CREW__OUTCOME__OUTCOME_TERMINATED, why, now_ns);
                return true;
        case SCHED_BUSY:
                return false;
        }
        return false;
}

static bool pass(struct scheduler *s, uint64_t now_ns) {
        bool changed = false;
        struct job *next;

        for (size_t i = 0; s->run.active && i < s->crew->n_tasks; i++)
                changed |= advance(s, s->run_jobs[i], now_ns);
        for (struct job *j = s->ad_hoc; j; j = next) {
                next = j->next;
                changed |= advance(s, j, now_ns);
        }
        return changed;
}

/* Nobody is left who could hand the held ones out: everything else is over, or waits for one of them.  True when some were
 * skipped. */
static bool drop_held(struct scheduler *s, uint64_t now_ns) {
        bool dropped = false;
        char why[256];

        if (s->crew->process != CREW_HIERARCHICAL)
                return false;
        for (size_t i = 0; s->run.active && i < s->crew->n_tasks; i++) {
                struct job *j = s->run_jobs[i];
                if (j->state == JOB_RUNNING ||
                    (j->state == JOB_WAITING && !j->held && context_ready(s, j, why, sizeof(why)) != READY_NOT_YET))
                        return false;
        }
        for (size_t i = 0; s->run.active && i < s->crew->n_tasks; i++) {
                struct job *j = s->run_jobs[i];
                if (j->state != JOB_WAITING || !j->held)
                        continue;
                job_finish(s, j, JOB_SKIPPED, CREW__OUTCOME__OUTCOME_CANCELLED, "the manager did not hand it out", now_ns);
                dropped = true;
        }
        return dropped;
}

static void end_run(struct scheduler *s, uint64_t now_ns) {
        if (!s->run.active)
                return;
        for (size_t i = 0; i < s->crew->n_tasks; i++) {
                if (s->run_jobs[i]->state < JOB_DONE)
                        return;
        }
        for (const struct job *j = s->ad_hoc; j; j = j->next) {
                if (j->by)
                        return; /* a manager may hand work out and end: it is the run's */
        }
        s->run.active = false;
        s->run.ended_ns = now_ns;
        s->cb.run_done(s->user);
}

void scheduler_poke(struct scheduler *s, uint64_t now_ns) {
        s->again = true;
        if (s->poking)
                return; /* called from a callback: the pass below goes round once more */
        s->poking = true;
        while (s->again) {
                s->again = false;
                while (pass(s, now_ns) || drop_held(s, now_ns))
                        ;
                end_run(s, now_ns);
        }
        s->poking = false;
}

/* --- what agents do --- */

#define EFFECTS_TEXT "a tool that is not idempotent was called"

/* An outcome of OK is only as good as the result: JSON, and what the task's schema says. */
static Crew__Outcome judge(struct job *j, const struct sched_result *r, char *error, size_t error_size) {
        struct crew_err err = CREW_ERR_NULL;
        char text[CREW_ERR_MSG_MAX + 256];

        if (j->stop == JOB_STOP_DEADLINE) {
                snprintf(error, error_size, "no result within %.1f s", (double)j->timeout_ns / 1e9);
                return CREW__OUTCOME__OUTCOME_TIMEOUT;
        }
        if (j->stop == JOB_STOP_ASKED) {
                snprintf(error, error_size, "%s", j->stop_reason);
                return CREW__OUTCOME__OUTCOME_CANCELLED;
        }
        if (r->outcome != CREW__OUTCOME__OUTCOME_OK) {
                snprintf(error, error_size, "%s", r->error && *r->error ? r->error : "the agent reported a failure");
                return r->outcome;
        }
        int bad = schema_check(j->task ? j->task->output : NULL, r->result, r->result_len, &err);
        if (bad == 0)
                return CREW__OUTCOME__OUTCOME_OK;
        snprintf(text, sizeof(text), "the result does not match %.200s: %s",
                 j->task && j->task->output_file ? j->task->output_file : "JSON", err.msg);
        text_copy(error, error_size, text, SIZE_MAX);
        return CREW__OUTCOME__OUTCOME_FAILED;
}

static void keep_result(struct job *j, const struct sched_result *r) {
        const char *value;
        size_t n;

        j->result = malloc(r->result_len + 1);
        if (!j->result)
                return;
        memcpy(j->result, r->result, r->result_len);
        j->result[r->result_len] = '\0';
        j->result_len = r->result_len;
        if (json_member(j->result, j->result_len, "summary", &value, &n) &&
            !json_decode_string(value, n, j->summary, sizeof(j->summary)))
                j->summary[0] = '\0';
}

/* Back into the queue, if it may be. */
static bool try_again(struct scheduler *s, struct job *j, Crew__Outcome outcome, char error[512]) {
        if (j->stop == JOB_STOP_ASKED || s->stopped || j->retried >= j->retries || !job_declared(s, j) ||
            (outcome != CREW__OUTCOME__OUTCOME_FAILED && outcome != CREW__OUTCOME__OUTCOME_TIMEOUT))
                return false;
        if (j->effects) {
                size_t n = strlen(error);
                snprintf(error + n, 512 - n, "; not tried again: " EFFECTS_TEXT);
                return false;
        }
        s->cb.retried(j, outcome, error, s->user);
        j->retried++;
        s->on_agent[j->agent] = NULL;
        job_put_back(s, j);
        s->cb.changed(j, s->user);
        return true;
}

static void propose(struct scheduler *s, struct job *j, uint64_t now_ns) {
        s->on_agent[j->agent] = NULL; /* it may vote on others meanwhile */
        j->state = JOB_VOTING;
        s->cb.changed(j, s->user);
        s->cb.proposed(j, now_ns, s->user);
}

void scheduler_decide(struct scheduler *s, struct job *j, bool accepted, const char *why, uint64_t now_ns) {
        if (j->state != JOB_VOTING)
                return; /* the crew is stopping, and it was skipped */
        if (accepted) {
                job_finish(s, j, JOB_DONE, CREW__OUTCOME__OUTCOME_OK, "", now_ns);
                return;
        }
        job_finish(s, j, JOB_FAILED, CREW__OUTCOME__OUTCOME_REFUSED, why, now_ns);
}

int scheduler_result(struct scheduler *s, const struct sched_result *r, uint64_t now_ns) {
        struct job *j = s->on_agent[r->agent];
        char error[sizeof(j->error)] = "";

        if (!j || strcmp(j->id, r->task_id) != 0)
                return 1;
        Crew__Outcome outcome = judge(j, r, error, sizeof(error));
        if (outcome == CREW__OUTCOME__OUTCOME_OK) {
                keep_result(j, r);
                if (!j->result) {
                        outcome = CREW__OUTCOME__OUTCOME_FAILED;
                        snprintf(error, sizeof(error), "out of memory for a result of %zu bytes", r->result_len);
                }
        }
        if (outcome == CREW__OUTCOME__OUTCOME_OK && j->task && s->crew->process == CREW_CONSENSUAL)
                propose(s, j, now_ns);
        else if (outcome == CREW__OUTCOME__OUTCOME_OK)
                job_finish(s, j, JOB_DONE, outcome, error, now_ns);
        else if (!try_again(s, j, outcome, error))
                job_finish(s, j, JOB_FAILED, outcome, error, now_ns);
        return 0;
}

bool scheduler_would_go_on(const struct scheduler *s, uint32_t agent) {
        const struct job *j = s->on_agent[agent];

        return j && j->stop == JOB_GOES_ON && !j->effects && !s->stopped && job_declared(s, j);
}

bool scheduler_agent_gone(struct scheduler *s, uint32_t agent, enum sched_after after, const char *why, uint64_t now_ns) {
        struct job *j = s->on_agent[agent];
        const bool again = after == SCHED_TASK_AGAIN;

        if (!j)
                return false;
        if (again && scheduler_would_go_on(s, agent)) {
                s->on_agent[agent] = NULL;
                job_put_back(s, j);
                s->cb.changed(j, s->user);
                return true;
        }
        if (j->stop == JOB_STOP_DEADLINE) {
                char text[sizeof(j->error)];
                snprintf(text, sizeof(text), "no result within %.1f s; the agent did not stop and was killed",
                         (double)j->timeout_ns / 1e9);
                if (after != SCHED_NOBODY && try_again(s, j, CREW__OUTCOME__OUTCOME_TIMEOUT, text))
                        return true;
                job_finish(s, j, JOB_FAILED, CREW__OUTCOME__OUTCOME_TIMEOUT, text, now_ns);
        } else if (j->stop == JOB_STOP_ASKED) {
                job_finish(s, j, JOB_FAILED, CREW__OUTCOME__OUTCOME_CANCELLED, j->stop_reason, now_ns);
        } else {
                char text[sizeof(j->error)];
                snprintf(text, sizeof(text), "%.440s%s", why, again && j->effects ? "; not run again: " EFFECTS_TEXT : "");
                job_finish(s, j, JOB_FAILED, CREW__OUTCOME__OUTCOME_TERMINATED, text, now_ns);
        }
        return false;
}

void scheduler_stop(struct scheduler *s, const char *reason, uint64_t now_ns) {
        if (!s->stopped)
                snprintf(s->stop_reason, sizeof(s->stop_reason), "%s", reason);
        s->stopped = true;
        scheduler_poke(s, now_ns);
}

struct job *scheduler_find(struct scheduler *s, const char *id) {
        for (size_t i = 0; s->run.active && i < s->crew->n_tasks; i++) {
                if (s->run_jobs[i]->state < JOB_DONE && strcmp(s->run_jobs[i]->id, id) == 0)
                        return s->run_jobs[i];
        }
        for (struct job *j = s->ad_hoc; j; j = j->next) {
                if (strcmp(j->id, id) == 0)
                        return j;
        }
        return NULL;
}

static void tell_to_stop(struct scheduler *s, struct job *j, enum job_stop why, uint64_t now_ns) {
        j->stop = why;
        j->kill_at_ns = now_ns + SCHED_CANCEL_GRACE_NS;
        s->cb.cancel(j, s->user);
}

int scheduler_cancel(struct scheduler *s, struct job *j, const char *reason, uint64_t now_ns) {
        if (j->stop != JOB_GOES_ON && j->state == JOB_RUNNING)
                return 1;
        text_copy(j->stop_reason, sizeof(j->stop_reason), reason, SIZE_MAX);
        if (j->state == JOB_RUNNING)
                tell_to_stop(s, j, JOB_STOP_ASKED, now_ns);
        else
                job_finish(s, j, JOB_SKIPPED, CREW__OUTCOME__OUTCOME_CANCELLED, j->stop_reason, now_ns);
        return 0;
}

int scheduler_reprioritise(struct scheduler *s, struct job *j, uint32_t priority) {
        if (j->state != JOB_WAITING)
                return 1;
        j->priority = priority;
        s->ranked |= priority > 0;
        return 0;
}

uint32_t scheduler_queued(const struct scheduler *s, uint32_t agent) {
        uint32_t n = 0;

        for (size_t i = 0; s->run.active && i < s->crew->n_tasks; i++)
                n += s->run_jobs[i]->agent == agent && s->run_jobs[i]->state == JOB_WAITING && !s->run_jobs[i]->held;
        for (const struct job *j = s->ad_hoc; j; j = j->next)
                n += j->agent == agent && j->state == JOB_WAITING;
        return n;
}

void scheduler_note_effect(struct scheduler *s, uint32_t agent) {
        if (s->on_agent[agent])
                s->on_agent[agent]->effects = true;
}

static bool stands_still(const struct scheduler *s, uint32_t agent) {
        return s->cb.frozen && s->cb.frozen(agent, s->user);
}

void scheduler_expire(struct scheduler *s, uint64_t now_ns) {
        for (uint32_t i = 0; i < s->room; i++) {
                struct job *j = s->on_agent[i];
                if (!j || stands_still(s, i))
                        continue;
                if (j->stop == JOB_GOES_ON && now_ns >= j->deadline_ns) {
                        tell_to_stop(s, j, JOB_STOP_DEADLINE, now_ns);
                } else if (j->stop != JOB_GOES_ON && !j->overdue && now_ns >= j->kill_at_ns) {
                        j->overdue = true;
                        s->cb.overdue(j, s->user);
                }
        }
}

uint64_t scheduler_next_deadline(const struct scheduler *s) {
        uint64_t next = UINT64_MAX;

        for (uint32_t i = 0; i < s->room; i++) {
                const struct job *j = s->on_agent[i];
                if (j && !j->overdue && !stands_still(s, i))
                        next = MIN_OF(next, j->stop != JOB_GOES_ON ? j->kill_at_ns : j->deadline_ns);
        }
        return next;
}

void scheduler_put_off(struct scheduler *s, uint32_t agent, uint64_t ns, uint64_t now_ns) {
        struct job *j = s->on_agent[agent];

        if (!j)
                return;
        j->deadline_ns += ns;
        /* One that was told meanwhile hears it now. */
        if (j->stop != JOB_GOES_ON)
                j->kill_at_ns = MIN_OF(j->kill_at_ns + ns, now_ns + SCHED_CANCEL_GRACE_NS);
}

uint32_t scheduler_who(const struct scheduler *s, const char *task) {
        for (uint32_t i = 0; i < s->room; i++) {
                const struct job *j = s->on_agent[i];
                if (j && (strcmp(j->id, task) == 0 || (j->task && strcmp(j->name, task) == 0)))
                        return i;
        }
        return UINT32_MAX;
}

struct job *scheduler_job_of(const struct scheduler *s, uint32_t agent) {
        return s->on_agent[agent];
}

const struct job *scheduler_run_job(const struct scheduler *s, size_t task) {
        return s->run.ever && task < s->crew->n_tasks && s->run_jobs[task]->in_run ? s->run_jobs[task] : NULL;
}

const struct sched_run *scheduler_run_state(const struct scheduler *s) {
        return &s->run;
}

const char *scheduler_waiting_for(const struct scheduler *s, uint32_t agent) {
        for (size_t i = 0; s->run.active && i < s->crew->n_tasks; i++) {
                if (s->run_jobs[i]->agent == agent && s->run_jobs[i]->state == JOB_WAITING)
                        return s->run_jobs[i]->name;
        }
        for (const struct job *j = s->ad_hoc; j; j = j->next) {
                if (j->agent == agent && j->state == JOB_WAITING)
                        return j->name;
        }
        return NULL;
}

void scheduler_forget_client(struct scheduler *s, uint64_t client) {
        if (s->run.client == client)
                s->run.client = 0;
        for (struct job *j = s->ad_hoc; j; j = j->next) {
                if (j->client == client)
                        j->client = 0;
        }
}
