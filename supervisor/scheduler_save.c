/* SPDX-License-Identifier: Apache-2.0 */
/* A scheduler for the next crewd of the same crew file: every job as it stands.  What is read back is not trusted. */
#include "bytes.h"
#include "common/util.h"
#include "scheduler_internal.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

#define NO_TASK UINT64_MAX

/* What only this process can point to, and whom it alone can tell.  A member more changes the size: see checkpoint.c. */
static_assert(sizeof(void *) != 8 || sizeof(struct job) == 1280, "see clear_own()");
static void clear_own(struct job *j) {
        j->task = NULL;
        j->name = j->by = NULL; /* by: a manager's; such a crew is not held */
        j->description = j->input = j->result = NULL;
        j->result_len = 0;
        j->client = j->corr = 0;
        j->next = NULL;
}

static void save_job(const struct scheduler *s, const struct job *j, struct bytes_out *b) {
        struct job bare = *j;

        clear_own(&bare);
        BYTES_PUT(b, bare);
        bytes_put_u64(b, j->task ? (uint64_t)(j->task - s->crew->tasks) : NO_TASK);
        bytes_put_text(b, j->description, j->description ? strlen(j->description) : 0);
        bytes_put_text(b, j->input, j->input ? strlen(j->input) : 0);
        bytes_put_text(b, j->result, j->result ? j->result_len : 0);
}

void scheduler_save(const struct scheduler *s, struct bytes_out *b) {
        BYTES_PUT(b, s->run);
        BYTES_PUT(b, s->next_id);
        BYTES_PUT(b, s->ranked);
        for (size_t i = 0; s->run.ever && i < s->crew->n_tasks; i++)
                save_job(s, s->run_jobs[i], b);
        bytes_put_u64(b, s->n_ad_hoc);
        for (const struct job *j = s->ad_hoc; j; j = j->next)
                save_job(s, j, b);
}

static bool texts_end(const struct job *j) {
        return memchr(j->id, '\0', sizeof(j->id)) && memchr(j->key, '\0', sizeof(j->key)) &&
               memchr(j->error, '\0', sizeof(j->error)) && memchr(j->summary, '\0', sizeof(j->summary)) &&
               memchr(j->stop_reason, '\0', sizeof(j->stop_reason));
}

static int load_job(struct scheduler *s, struct job *j, struct bytes_in *b) {
        BYTES_GET(b, *j);
        bool *const flags[] = {&j->in_run, &j->held, &j->ballot, &j->overdue, &j->effects};
        uint64_t task = bytes_get_u64(b);

        for (size_t i = 0; i < ELEMENTSOF(flags); i++)
                bytes_bool(flags[i]);
        clear_own(j);
        j->description = bytes_get_text(b, NULL);
        j->input = bytes_get_text(b, NULL);
        j->result = bytes_get_text(b, &j->result_len);
        if (b->failed || (task != NO_TASK && task >= s->crew->n_tasks) || (task == NO_TASK && j->in_run) ||
            j->agent >= s->crew->n_agents || (unsigned)j->state >= JOB_STATE_N ||
            (j->state == JOB_RUNNING && s->on_agent[j->agent]) || !texts_end(j))
                return -EBADMSG;
        j->task = task == NO_TASK ? NULL : &s->crew->tasks[task];
        j->name = j->task ? j->task->name : "ad-hoc";
        if (j->state == JOB_RUNNING)
                s->on_agent[j->agent] = j;
        return 0;
}

static int load_ad_hoc(struct scheduler *s, struct bytes_in *b) {
        struct job *j = calloc(1, sizeof(*j));

        if (!j)
                return -ENOMEM;
        int r = load_job(s, j, b);
        job_append(s, j); /* also a bad one: so it is freed */
        return r == 0 && j->in_run ? -EBADMSG : r;
}

int scheduler_load(struct scheduler *s, struct bytes_in *b) {
        int r = 0;

        BYTES_GET(b, s->run);
        BYTES_GET(b, s->next_id);
        BYTES_GET(b, s->ranked);
        bytes_bool(&s->run.active);
        bytes_bool(&s->run.ever);
        bytes_bool(&s->ranked);
        s->run.client = s->run.corr = 0;
        if (s->run.active && !s->run.ever)
                return -EBADMSG;
        for (size_t i = 0; s->run.ever && i < s->crew->n_tasks && r == 0; i++) {
                r = load_job(s, s->run_jobs[i], b);
                if (r == 0 && (!s->run_jobs[i]->in_run || s->run_jobs[i]->task != &s->crew->tasks[i]))
                        r = -EBADMSG;
        }
        uint64_t n = bytes_get_u64(b);
        if (n > SCHED_AD_HOC_MAX)
                return -EBADMSG;
        for (uint64_t i = 0; i < n && r == 0; i++)
                r = load_ad_hoc(s, b);
        return b->failed ? -EBADMSG : r;
}
