/* SPDX-License-Identifier: Apache-2.0 */
#include "cancels.h"

#include "common/util.h"
#include "control.h"
#include "crewd.h"
#include "hold.h"
#include "journal.h"
#include "requests.h"
#include "scheduler.h"
#include "voting.h"

#include <string.h>

#define LISTED_MAX 12u
#define NAMES_MAX (2 * (SCHED_AD_HOC_MAX + 64u)) /* to find the nearest among */

struct request {
        struct crewd *crewd;
        uint64_t client, corr;
        const char *wanted; /* as the client wrote it */
        const char *reason;
};

static void refuse(const struct request *r, const char *code, const char *hint, const char *fmt, ...)
        __attribute__((format(printf, 4, 5)));
static void refuse(const struct request *r, const char *code, const char *hint, const char *fmt, ...) {
        char text[512];
        va_list ap;

        va_start(ap, fmt);
        vsnprintf(text, sizeof(text), fmt, ap);
        va_end(ap);
        control_refuse(r->crewd->control, r->client, r->corr, code, hint, "%s", text);
}

static const char *agent_of(const struct crewd *c, const struct job *j) {
        return agent_name(&c->agents[j->agent]);
}

/* --- what there is --- */

struct listing {
        const struct crewd *crewd;
        const char *only; /* tasks of that name; NULL: all */
        char *out;
        size_t room, used;
        uint32_t n, n_names;
        const char *names[NAMES_MAX];
};

static void add_name(struct listing *l, const char *name) {
        if (l->n_names < NAMES_MAX)
                l->names[l->n_names++] = name;
}

static void list_one(struct job *j, void *user) {
        struct listing *l = user;

        if (j->ballot || (l->only && (!j->task || strcmp(j->name, l->only) != 0)))
                return;
        add_name(l, j->id);
        if (j->task)
                add_name(l, j->name);
        if (l->n++ < LISTED_MAX && l->used < l->room)
                l->used += (size_t)snprintf(l->out + l->used, l->room - l->used, "%s%s (%s, %s, %s)", l->n > 1 ? ", " : "",
                                            j->id, j->name, agent_of(l->crewd, j), job_state_names[j->state]);
}

/* The tasks that can be called off, and the nearest of them. */
static void list_tasks(const struct request *r, const char *only, char *out, size_t room) {
        struct listing l = {.crewd = r->crewd, .only = only, .out = out, .room = room};

        l.used = (size_t)snprintf(out, room, "tasks: ");
        scheduler_each_open(r->crewd->scheduler, list_one, &l);
        if (l.n == 0)
                l.used = (size_t)snprintf(out, room, "no task waits or runs");
        if (l.n > LISTED_MAX && l.used < room)
                l.used += (size_t)snprintf(out + l.used, room - l.used, " and %u more", l.n - LISTED_MAX);
        const char *near = only ? NULL : crew_nearest(r->wanted, l.names, l.n_names);
        if (near && l.used < room)
                snprintf(out + l.used, room - l.used, "   (did you mean %s?)", near);
}

/* --- which one --- */

struct search {
        const char *wanted;
        struct job *by_id, *by_name;
        uint32_t n_by_name;
};

static void look_at(struct job *j, void *user) {
        struct search *s = user;

        if (strcmp(j->id, s->wanted) == 0)
                s->by_id = j;
        if (j->task && strcmp(j->name, s->wanted) == 0) {
                s->by_name = j;
                s->n_by_name++;
        }
}

/* Of the run, this one or the last. */
static const struct job *ended(const struct crewd *c, const char *wanted) {
        for (size_t i = 0; i < c->file->n_tasks; i++) {
                const struct job *j = scheduler_run_job(c->scheduler, i);
                if (j && j->state >= JOB_DONE && (strcmp(j->id, wanted) == 0 || strcmp(j->name, wanted) == 0))
                        return j;
        }
        return NULL;
}

static void refuse_absent(const struct request *r) {
        const struct job *j = ended(r->crewd, r->wanted);
        char hint[900];

        if (j)
                return refuse(r, "over", "", "task %s (%s) is over: %s%s%.300s", j->id, j->name, job_state_names[j->state],
                              j->error[0] ? ", " : "", j->error);
        if (scheduler_gave_out(r->crewd->scheduler, r->wanted))
                return refuse(r, "over", "", "task %s is over", r->wanted);
        list_tasks(r, NULL, hint, sizeof(hint));
        refuse(r, "unknown-task", hint, "no task '%s' waits or runs in crew %s", r->wanted, r->crewd->file->name);
}

/* NULL: refused. */
static struct job *find(const struct request *r) {
        struct search s = {.wanted = r->wanted};
        char hint[900];

        scheduler_each_open(r->crewd->scheduler, look_at, &s);
        if (!s.by_id && s.n_by_name == 0) {
                refuse_absent(r);
                return NULL;
        }
        if (!s.by_id && s.n_by_name > 1) {
                list_tasks(r, r->wanted, hint, sizeof(hint));
                refuse(r, "ambiguous", hint, "%u tasks '%s' wait or run: give the id of one", s.n_by_name, r->wanted);
                return NULL;
        }
        return s.by_id ? s.by_id : s.by_name;
}

/* --- calling it off --- */

/* False: refused. */
static bool may(const struct request *r, const struct job *j) {
        if (j->ballot) {
                refuse(r, "unsupported", "", "task %s is a vote on another task: it ends with that", j->id);
                return false;
        }
        if (j->state != JOB_RUNNING || j->stop == JOB_GOES_ON)
                return true;
        refuse(r, "ending", "", "task %s (%s) is ending already: %s", j->id, j->name,
               j->stop == JOB_STOP_ASKED ? j->stop_reason : "its time is over");
        return false;
}

static void answer(const struct request *r, struct job *j) {
        const struct agent *a = &r->crewd->agents[j->agent];
        Crew__TaskCancelled body = CREW__TASK_CANCELLED__INIT;
        Crew__Envelope e = CREW__ENVELOPE__INIT;

        body.task_id = j->id;
        body.task = (char *)j->name;
        body.agent = (char *)agent_name(a);
        body.running = j->state == JOB_RUNNING;
        body.frozen = body.running && hold_is_on(a);
        e.corr = r->corr;
        e.body_case = CREW__ENVELOPE__BODY_TASK_CANCELLED;
        e.task_cancelled = &body;
        control_send(r->crewd->control, r->client, &e);
}

void cancels_ask(struct crewd *c, uint64_t client, const Crew__Envelope *e) {
        const Crew__CancelTask *b = e->cancel_task;
        const struct request r = {.crewd = c, .client = client, .corr = e->seq, .wanted = b->task, .reason = b->reason};
        const char *by = control_client_name(c->control, client);
        struct job *j = find(&r);
        uint64_t now = crew_now_ns();
        char why[700];

        if (!j || !may(&r, j))
                return;
        if (journal_task_cancel(&c->agents[j->agent], j, by, requests_reason(r.reason)) < 0)
                return refuse(&r, "failed", "", "task %s is not cancelled: the audit of agent %s cannot be written", j->id,
                              agent_of(c, j));
        snprintf(why, sizeof(why), "cancelled by %s%s%s", by, *r.reason ? ": " : "", r.reason);
        answer(&r, j);
        if (j->state == JOB_VOTING)
                voting_drop(c, j, now);
        scheduler_cancel(c->scheduler, j, why, now);
        crewd_progress(c);
}
