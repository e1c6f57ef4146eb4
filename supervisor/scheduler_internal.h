/* SPDX-License-Identifier: Apache-2.0 */
/* The scheduler's own memory: shared by scheduler.c, which does the work, and scheduler_change.c, which changes what it is.
 */
#pragma once

#include "scheduler.h"

struct scheduler {
        const struct crew_file *crew;
        struct sched_callbacks cb;
        void *user;
        struct sched_run run;
        struct job **run_jobs; /* n_tasks; parallel to crew->tasks */
        struct job *ad_hoc, **ad_hoc_tail;
        size_t n_ad_hoc;
        struct job **on_agent; /* room: what runs there */
        uint32_t room;
        uint64_t next_id;
        bool poking, again, stopped;
        bool ranked; /* some job has a priority */
        char stop_reason[128];
};

void job_clear(struct job *j);
/* What the crew file says of it. */
void job_define(const struct scheduler *s, struct job *j, const struct crew_task *t);
/* As a job of the run that begins, or is under way. */
void job_queue(struct scheduler *s, struct job *j, const struct crew_task *t);
/* To the ad-hoc ones; owned from here on. */
void job_append(struct scheduler *s, struct job *j);
/* Frees one that is not in the run. */
void job_finish(struct scheduler *s, struct job *j, enum job_state state, Crew__Outcome outcome, const char *error,
                uint64_t now_ns);

/* Its task is in the crew file that counts now, or it never had one. */
bool job_declared(const struct scheduler *s, const struct job *j);
/* Into the queue again, as the task is declared now. */
void job_put_back(struct scheduler *s, struct job *j);
