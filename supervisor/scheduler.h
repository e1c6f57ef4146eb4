/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Tasks: the crew file's (a run) and those clients submit one by one.
 *
 * `sequential`: a task starts when every task of its context is done and its agent is free; tasks that do not depend on
 * each other and belong to different agents run at the same time.  A task whose context failed is skipped and says why.
 * `hierarchical`: the manager's tasks are run like that; the others are held until it hands them out, and are skipped once
 * nothing is left that could.  Of the queued tasks of one agent the one with the highest priority is next.
 * `consensual`: a valid result of a task of the crew file is a proposal until scheduler_decide() says what becomes of it.
 * A failed task is tried again while it has retries, unless a call of a tool that is not idempotent was granted in it.
 * Invariants: a job reaches exactly one final state; a job is on at most one agent, an agent has at most one job.
 * Pure: the world is behind callbacks, the clock is injected.
 */
#pragma once

#include "common/err.h"
#include "crew.pb-c.h"
#include "supervisor/policy/crew_file.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum job_state { JOB_WAITING, JOB_RUNNING, JOB_VOTING, JOB_DONE, JOB_FAILED, JOB_SKIPPED, JOB_STATE_N };
extern const char *const job_state_names[JOB_STATE_N];

/* Why a running job has been told to end. */
enum job_stop { JOB_GOES_ON, JOB_STOP_DEADLINE, JOB_STOP_ASKED };

struct job {
        char id[24];                  /* "t-7": unique in the life of this crewd */
        const struct crew_task *task; /* NULL: ad hoc */
        const char *name;             /* the task's, or "ad-hoc" */
        uint32_t agent;
        bool in_run;
        bool held;   /* in_run: not handed out yet */
        bool ballot; /* ad hoc: a vote on another's result */
        uint32_t priority;
        uint32_t retries, retried; /* granted, used */
        const char *by;            /* the manager that handed it out, or NULL */
        char key[64];              /* ad hoc: the client's, or "" */
        char *description, *input; /* ad hoc; owned */
        enum job_state state;
        Crew__Outcome outcome; /* of a final state */
        char *result;          /* JSON; owned; only when JOB_DONE */
        size_t result_len;
        char error[512];
        char summary[256]; /* `summary` of the result when it is an object that has one */
        uint64_t timeout_ns, started_ns, ended_ns, deadline_ns, kill_at_ns;
        enum job_stop stop; /* it was told so; its result counts no more */
        char stop_reason[256];
        bool overdue; /* the agent was killed for it */
        bool effects; /* a tool that is not idempotent was granted: it is never run again */
        uint32_t attempt;
        uint64_t client, corr; /* whom to tell, 0: nobody */
        struct job *next;      /* ad hoc ones */
};

enum sched_slot { SCHED_FREE, SCHED_BUSY, SCHED_DEAD };

struct sched_callbacks {
        /* why (256 bytes) is filled for SCHED_DEAD */
        enum sched_slot (*slot)(uint32_t agent, char *why, void *user);
        int (*start)(struct job *j, struct crew_err *err, void *user);
        void (*cancel)(struct job *j, void *user);  /* past the deadline, or asked for */
        void (*overdue)(struct job *j, void *user); /* still no answer: kill its agent */
        void (*retried)(struct job *j, Crew__Outcome outcome, const char *error, void *user); /* an attempt failed */
        void (*proposed)(struct job *j, uint64_t now_ns, void *user); /* it votes: scheduler_decide() follows */
        void (*changed)(struct job *j, void *user);
        void (*finished)(struct job *j, void *user); /* an ad-hoc one; freed afterwards */
        void (*run_done)(void *user);
        /* Whether nothing of that agent runs for now, so that no time passes for its job; NULL: never. */
        bool (*frozen)(uint32_t agent, void *user);
        /* The most that a task of that agent may take, 0 or NULL: any. */
        uint64_t (*time_max)(uint32_t agent, void *user);
};

#define SCHED_CANCEL_GRACE_NS 2000000000ull
#define SCHED_AD_HOC_MAX 256u
#define SCHED_AD_HOC_TIMEOUT_NS 300000000000ull

struct sched_run {
        bool active, ever;
        uint64_t client, corr;
        uint64_t started_ns, ended_ns;
        uint32_t ok, total;
};

struct scheduler;
/* room: agents there can ever be. */
struct scheduler *scheduler_new(const struct crew_file *crew, uint32_t room, const struct sched_callbacks *cb, void *user);
struct scheduler *scheduler_free(struct scheduler *s);
/*
 * The tasks of another crew file, whose agents have the same indices.  Those of the same name go on; new ones join a run
 * that is under way; of those that are gone the waiting are skipped, and the running end outside of the run.  -ENOMEM:
 * nothing has changed.  Does not poke.
 */
int scheduler_take_file(struct scheduler *s, const struct crew_file *crew, uint64_t now_ns);
/* Some job is still as that file declares it. */
bool scheduler_needs(const struct scheduler *s, const struct crew_file *crew);
/* For the next crewd of the same crew file: every job as it stands.  Nobody waits for them any more.  0, -EBADMSG, -ENOMEM.
 */
struct bytes_out;
struct bytes_in;
void scheduler_save(const struct scheduler *s, struct bytes_out *b);
int scheduler_load(struct scheduler *s, struct bytes_in *b);

/* Every task of the crew file once.  -EBUSY: a run is active; -EOPNOTSUPP: this process kind is not supported. */
int scheduler_run(struct scheduler *s, uint64_t client, uint64_t corr, uint64_t now_ns, struct crew_err *err);

struct sched_submit {
        const char *task, *agent; /* one of the two */
        const char *description, *input;
        uint64_t timeout_ns;        /* 0: none given; never more than time_max() */
        uint32_t priority, retries; /* retries: at least those of the task */
        const char *by;
        const char *key; /* NULL: none */
        bool ballot;
        uint64_t client, corr;
        uint64_t now_ns;
};
/* *out is valid until it finishes.  -ENOENT unknown task or agent, -EINVAL, -EAGAIN too many, -EBUSY context missing.
 * Nothing starts before the next scheduler_poke(), so the caller can answer first. */
int scheduler_submit(struct scheduler *s, const struct sched_submit *what, struct job **out, struct crew_err *err);

/* Hands a held task of the current run out.  -ENOENT unknown task, -EALREADY it is out, -ESRCH no run is active. */
int scheduler_release(struct scheduler *s, const struct sched_submit *what, struct job **out, struct crew_err *err);

/* What is not finished yet, or NULL.  By its id. */
struct job *scheduler_find(struct scheduler *s, const char *id);
/* Calls fn for each that is not finished, ballots too; fn ends none. */
void scheduler_each_open(struct scheduler *s, void (*fn)(struct job *j, void *user), void *user);
/* Some job of this crew has, or had, that id. */
bool scheduler_gave_out(const struct scheduler *s, const char *id);
/* Queued: it ends now.  Running: its agent is told, and killed if it does not stop; its outcome is `cancelled` in any case.
 * 0, or 1: it is ending already. */
int scheduler_cancel(struct scheduler *s, struct job *j, const char *reason, uint64_t now_ns);
/* 0, or 1: it is queued no more. */
int scheduler_reprioritise(struct scheduler *s, struct job *j, uint32_t priority);
/* The end of a JOB_VOTING; why: for one that was not accepted. */
void scheduler_decide(struct scheduler *s, struct job *j, bool accepted, const char *why, uint64_t now_ns);
uint32_t scheduler_queued(const struct scheduler *s, uint32_t agent);
/* A tool that is not idempotent is about to run for this agent. */
void scheduler_note_effect(struct scheduler *s, uint32_t agent);

/* Looks for work that can start; call after anything has changed. */
void scheduler_poke(struct scheduler *s, uint64_t now_ns);

struct sched_result {
        uint32_t agent;
        const char *task_id;
        Crew__Outcome outcome;
        const char *result, *error;
        size_t result_len;
};
/* 0; or 1: this agent has no such task in flight (a violation). */
int scheduler_result(struct scheduler *s, const struct sched_result *r, uint64_t now_ns);

/* What follows an instance: nobody; another one; another one that gets its task again. */
enum sched_after { SCHED_NOBODY, SCHED_ANOTHER, SCHED_TASK_AGAIN };
/* The agent's instance is dead: its job waits for the next one, as far as there is one and it may, or fails.  True when it
 * was put back.  Does not poke. */
bool scheduler_agent_gone(struct scheduler *s, uint32_t agent, enum sched_after after, const char *why, uint64_t now_ns);
/* There is a job there, and it would be put back. */
bool scheduler_would_go_on(const struct scheduler *s, uint32_t agent);
/* No new work; what waits is skipped with reason. */
void scheduler_stop(struct scheduler *s, const char *reason, uint64_t now_ns);

void scheduler_expire(struct scheduler *s, uint64_t now_ns);
uint64_t scheduler_next_deadline(const struct scheduler *s);
/* No time has passed, for so long, for what runs on this agent. */
void scheduler_put_off(struct scheduler *s, uint32_t agent, uint64_t ns, uint64_t now_ns);
/* Whoever works on this task now, by its id or its name in the crew file; UINT32_MAX: nobody. */
uint32_t scheduler_who(const struct scheduler *s, const char *task);
struct job *scheduler_job_of(const struct scheduler *s, uint32_t agent); /* running there, or NULL */
/* The job that runs a task of the crew file in the current or last run; NULL before the first. */
const struct job *scheduler_run_job(const struct scheduler *s, size_t task);
const struct sched_run *scheduler_run_state(const struct scheduler *s);
/* The task this agent will get next, or NULL. */
const char *scheduler_waiting_for(const struct scheduler *s, uint32_t agent);
/* A client has gone: its jobs go on, nobody is told. */
void scheduler_forget_client(struct scheduler *s, uint64_t client);
