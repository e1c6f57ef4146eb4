/* SPDX-License-Identifier: Apache-2.0 */
/* One function an order.  The table of what was handed out is handouts.c, the queue is the scheduler's. */
#include "manager_internal.h"

#include "common/util.h"
#include "crewd.h"
#include "handouts.h"
#include "journal.h"
#include "jsontext.h"
#include "keyed.h"
#include "notices.h"
#include "router.h"
#include "scheduler.h"
#include "termination.h"
#include "text.h"

#include <errno.h>
#include <string.h>

#define WAIT_NS 300000000000ull /* when it names no deadline */
#define GONE_TEXT "its manager is gone"
#define LEFT_TEXT "its manager ended, and with it the task that handed it out"
#define TELL_AGAIN_NS 20000000ull /* while its link is full */

int manager_new(struct crewd *c, struct manager **out, struct crew_err *err) {
        const struct crew_manager *decl = &c->file->manager;

        *out = NULL;
        if (!decl->agent)
                return 0;
        struct manager *m = calloc(1, sizeof(*m));
        if (m)
                m->out = handouts_new(decl->tasks_at_once, decl->tasks_total);
        if (m)
                m->notices = notices_new();
        if (!m || !m->out || !m->notices) {
                manager_free(m);
                return crew_fail(err, ENOMEM, "out of memory");
        }
        m->crewd = c;
        m->index = decl->index;
        rate_init(&m->spawns, RATE_MAX, 60000000000ull);
        *out = m;
        return 0;
}

struct manager *manager_free(struct manager *m) {
        if (m) {
                handouts_free(m->out);
                notices_free(m->notices);
        }
        free(m);
        return NULL;
}

bool manager_is(const struct agent *a) {
        return a->crewd->manager && a->crewd->manager->index == a->index;
}

/* --- answers --- */

void manager_deny(const struct order *o, enum call_code code, const struct journal_order *what) {
        journal_order_refused(o->a, crew_verbs[o->verb].name, what);
        toolgate_reply(o->a, o->e->seq,
                       &(struct call_reply){
                               .code = code, .message = what->reason, .rule = what->rule, .next_step = what->next_step});
}

void manager_no_audit(const struct order *o) {
        toolgate_reply(o->a, o->e->seq,
                       &(struct call_reply){.code = CALL_DENIED, .message = "the audit cannot be written"});
}

void manager_deny_text(const struct order *o, enum call_code code, const char *fmt, ...) {
        char raw[CREW_ERR_MSG_MAX + 256], text[sizeof(raw)];
        va_list ap;

        va_start(ap, fmt);
        vsnprintf(raw, sizeof(raw), fmt, ap);
        va_end(ap);
        text_copy(text, sizeof(text), raw, SIZE_MAX);
        manager_deny(o, code, &(struct journal_order){.reason = text});
}

void manager_send_json(struct agent *a, uint64_t seq, struct json_text *t) {
        _cleanup_free_ char *text = NULL;
        size_t n;

        int r = json_text_take(t, &text, &n);
        toolgate_reply(a, seq,
                       r == 0 ? &(struct call_reply){.ok = true, .result = text}
                              : &(struct call_reply){.code = CALL_TOOL_FAILED,
                                                     .message = r == -E2BIG ? "the answer is larger than 4 MiB"
                                                                            : "out of memory"});
}

static const char *state_name(const struct manager *m, const struct handout *t) {
        const struct job *j = t->done ? NULL : scheduler_find(m->crewd->scheduler, t->id);

        if (j)
                return j->stop == JOB_STOP_ASKED ? "cancelling" : job_state_names[j->state];
        return t->outcome == CREW__OUTCOME__OUTCOME_OK          ? "done"
               : t->outcome == CREW__OUTCOME__OUTCOME_CANCELLED ? "cancelled"
                                                                : "failed";
}

/* error: said instead of the result. */
static void put_task(struct json_text *j, const struct manager *m, const struct handout *t, const char *error) {
        json_open(j, '{');
        json_key(j, "task_id"), json_str(j, t->id);
        json_key(j, "task"), json_str(j, t->task);
        json_key(j, "agent"), json_str(j, agent_name(&m->crewd->agents[t->agent]));
        json_key(j, "state"), json_str(j, state_name(m, t));
        json_key(j, "outcome");
        json_str(j, t->done ? journal_outcome_name(t->outcome) : NULL);
        json_key(j, "result"), json_raw(j, t->result && !error ? t->result : "null", SIZE_MAX);
        json_key(j, "error");
        json_str(j, error         ? error
                    : t->error[0] ? t->error
                    : t->let_go   ? "its result is held no more: too many others came after it"
                                  : NULL);
        json_key(j, "attempts"), json_int(j, t->attempts);
        json_key(j, "ms"), json_int(j, (int64_t)t->ms);
        json_close(j, '}');
}

static void send_task(struct manager *m, uint64_t seq, const struct handout *t) {
        struct json_text j = JSON_TEXT(MANAGER_ANSWER_MAX);
        char text[96];

        put_task(&j, m, t, NULL);
        if (j.error == -E2BIG) {
                json_text_fini(&j);
                j = JSON_TEXT(MANAGER_ANSWER_MAX);
                snprintf(text, sizeof(text), "its result has %zu bytes, more than an answer to the manager can hold",
                         t->result_len);
                put_task(&j, m, t, text);
        }
        manager_send_json(&m->crewd->agents[m->index], seq, &j);
}

static void answer_task(const struct order *o, const struct handout *t) {
        send_task(o->m, o->e->seq, t);
}

static void answer_wait(uint64_t seq, const struct handout *t, bool timed_out, void *user) {
        struct manager *m = user;
        char text[96];

        if (!timed_out)
                return send_task(m, seq, t);
        snprintf(text, sizeof(text), "task %s has no outcome yet", t->id);
        toolgate_reply(&m->crewd->agents[m->index], seq, &(struct call_reply){.code = CALL_TIMED_OUT, .message = text});
}

/* --- who and what --- */

bool manager_permitted(const struct order *o, const char *target) {
        struct policy_verdict v =
                policy_decide(o->a->decl->policy, POLICY_DO_SEND, crew_policy_name(o->m->crewd->file, target));
        char raw[512], text[512];

        if (v.allowed)
                return true;
        snprintf(raw, sizeof(raw), "agent '%s' is %s", target, v.text[0] ? v.text : "not in ipc.allowed_targets");
        text_copy(text, sizeof(text), raw, SIZE_MAX);
        manager_deny(o, CALL_DENIED,
                     &(struct journal_order){.to = target, .rule = v.rule, .reason = text, .next_step = v.next_step});
        return false;
}

static struct handout *known(const struct order *o, const char *id) {
        struct handout *t = handouts_find(o->m->out, id);

        if (!t)
                manager_deny_text(o, CALL_BAD_ARGUMENTS, "no task '%s' has been handed out by this manager", id);
        return t;
}

/* --- agents, wait, result --- */

void manager_put_agent(struct json_text *j, const struct agent *a) {
        const struct scheduler *s = a->crewd->scheduler;
        const struct job *job = scheduler_job_of(s, a->index);

        json_open(j, '{');
        json_key(j, "name"), json_str(j, agent_name(a));
        json_key(j, "role"), json_str(j, a->decl->role);
        json_key(j, "goal"), json_str(j, a->decl->goal);
        json_key(j, "state"), json_str(j, agent_state_names[a->state]);
        json_key(j, "task"), json_str(j, job ? job->name : NULL);
        json_key(j, "queued"), json_int(j, scheduler_queued(s, a->index));
        json_key(j, "max_instances"), json_int(j, a->decl->max_instances);
        json_key(j, "instance_of");
        json_str(j, a->decl->instance ? a->crewd->file->agents[a->decl->instance_of].name : NULL);
        json_close(j, '}');
}

static void on_agents(const struct order *o) {
        struct crewd *c = o->m->crewd;
        struct json_text j = JSON_TEXT(MANAGER_ANSWER_MAX);

        journal_order_read(o->a, crew_verbs[o->verb].name, NULL);
        json_open(&j, '{');
        json_key(&j, "agents");
        json_open(&j, '[');
        for (uint32_t i = 0; i < c->n_agents; i++) {
                const struct agent *a = &c->agents[i];
                if (a != o->a && agent_present(a) && !a->gone && !a->decl->orchestrator &&
                    policy_decide(o->a->decl->policy, POLICY_DO_SEND, crew_policy_name(c->file, agent_name(a))).allowed)
                        manager_put_agent(&j, a);
        }
        json_close(&j, ']');
        json_close(&j, '}');
        manager_send_json(o->a, o->e->seq, &j);
}

static void on_result(const struct order *o) {
        const struct handout *t = known(o, o->e->read_result->task_id);

        if (!t)
                return;
        journal_order_read(o->a, crew_verbs[o->verb].name, t->id);
        answer_task(o, t);
}

static uint64_t wait_until(const Crew__Envelope *e) {
        uint64_t now_ms = crew_realtime_ns() / 1000000u, ns = WAIT_NS;

        if (e->deadline_ms)
                ns = MIN_OF(e->deadline_ms > now_ms ? e->deadline_ms - now_ms : 0, (uint64_t)86400000u) * 1000000u;
        return crew_now_ns() + ns;
}

static void on_wait(const struct order *o) {
        const struct handout *t = known(o, o->e->wait_work->task_id);

        if (!t)
                return;
        journal_order_read(o->a, crew_verbs[o->verb].name, t->id);
        if (t->done)
                answer_task(o, t);
        else if (!handouts_wait(o->m->out, t, o->e->seq, wait_until(o->e)))
                manager_deny_text(o, CALL_QUEUE_FULL, "%u waits are open already", HANDOUTS_WAITS_MAX);
}

/* --- submit --- */

static bool has_room(const struct order *o) {
        const struct crew_manager *decl = &o->m->crewd->file->manager;
        enum handouts_room room = handouts_room(o->m->out);
        char rule[PATH_MAX + 32], text[128];

        if (room == HANDOUTS_ROOM)
                return true;
        snprintf(rule, sizeof(rule), "%.600s:%u", o->m->crewd->file->path, decl->mark.line);
        snprintf(text, sizeof(text),
                 room == HANDOUTS_TOO_MANY ? "%u tasks are unfinished, which is manager.tasks_at_once"
                                           : "%u tasks were handed out, which is manager.tasks_total",
                 room == HANDOUTS_TOO_MANY ? decl->tasks_at_once : decl->tasks_total);
        manager_deny(o, CALL_QUEUE_FULL, &(struct journal_order){.rule = rule, .reason = text});
        return false;
}

/* The agent that would do it, or NULL after answering. */
static const char *doer(const struct order *o, const Crew__SubmitWork *b) {
        const struct crew_file *f = o->m->crewd->file;

        if (!*b->task == !*b->agent) {
                manager_deny_text(o, CALL_BAD_ARGUMENTS, "name either a task of the crew file or an agent");
                return NULL;
        }
        if (*b->agent)
                return b->agent;
        for (size_t i = 0; i < f->n_tasks; i++)
                if (strcmp(f->tasks[i].name, b->task) == 0)
                        return f->agents[f->tasks[i].agent_index].name;
        manager_deny_text(o, CALL_BAD_ARGUMENTS, "no task '%s' in crew %s", b->task, f->name);
        return NULL;
}

/* A further instance is, or is not; the others may come back. */
static bool is_there(const struct order *o, const char *agent) {
        const struct crew_agent *decl = crew_find_agent(o->m->crewd->file, agent);

        if (!decl || !decl->instance || crewd_agent_by_name(o->m->crewd, agent))
                return true;
        manager_deny_text(o, CALL_NOT_RUNNING, "there is no instance '%s' now", agent);
        return false;
}

static enum call_code code_of(int r) {
        return r == -EAGAIN ? CALL_QUEUE_FULL : r == -ESHUTDOWN ? CALL_TERMINATED : CALL_BAD_ARGUMENTS;
}

/* Into the scheduler's queue; nothing starts before this frame is done with. */
static struct job *enqueue(const struct order *o, const Crew__SubmitWork *b) {
        struct crewd *c = o->m->crewd;
        struct crew_err err = CREW_ERR_NULL;
        struct sched_submit what = {.task = b->task,
                                    .agent = b->agent,
                                    .description = b->description,
                                    .input = b->input,
                                    .priority = b->priority,
                                    .retries = b->retries,
                                    .timeout_ns = b->timeout_ms * 1000000u,
                                    .by = agent_name(o->a),
                                    .now_ns = crew_now_ns()};
        struct job *j = NULL;

        int r = *b->task ? scheduler_release(c->scheduler, &what, &j, &err) : -ESRCH;
        if (r == -ESRCH)
                r = scheduler_submit(c->scheduler, &what, &j, &err);
        if (r == 0)
                return j;
        manager_deny_text(o, code_of(r), "%s", err.msg);
        return NULL;
}

static void digest_of(const Crew__SubmitWork *b, uint8_t out[CREW_SHA256_BYTES]) {
        const char *const parts[] = {b->task, b->agent, b->description, b->input};
        const uint64_t numbers[] = {b->timeout_ms, b->retries};

        keyed_digest(parts, ELEMENTSOF(parts), numbers, ELEMENTSOF(numbers), out);
}

/* A key that was used in this task of the manager's: what it stands for, if that is what is asked for now. */
static void submit_again(const struct order *o, const struct handout *t, const uint8_t request[CREW_SHA256_BYTES]) {
        if (memcmp(t->request, request, sizeof(t->request)) != 0)
                return manager_deny_text(o, CALL_REJECTED, "key '%s' stands for task %s, which was asked for differently",
                                         t->key, t->id);
        journal_order_read(o->a, crew_verbs[o->verb].name, t->id);
        answer_task(o, t);
}

static void on_submit(const struct order *o) {
        const Crew__SubmitWork *b = o->e->submit_work;
        const struct job *own = scheduler_job_of(o->m->crewd->scheduler, o->a->index);
        struct handout what = {0}, *t;
        struct job *j;

        snprintf(what.scope, sizeof(what.scope), "%s", own ? own->id : "");
        digest_of(b, what.request);
        if ((t = handouts_by_key(o->m->out, what.scope, b->key)))
                return submit_again(o, t, what.request);
        const char *agent = doer(o, b);
        if (!agent || !manager_permitted(o, agent) || !is_there(o, agent) || !has_room(o) || !(j = enqueue(o, b)))
                return;
        snprintf(what.id, sizeof(what.id), "%s", j->id);
        snprintf(what.key, sizeof(what.key), "%s", b->key);
        snprintf(what.task, sizeof(what.task), "%s", j->name);
        what.agent = j->agent;
        t = handouts_add(o->m->out, &what);
        struct journal_order done = {.to = agent, .task = j->name, .task_id = j->id, .key = b->key};
        if (!t || journal_order(o->a, crew_verbs[o->verb].name, &done) < 0) {
                scheduler_cancel(o->m->crewd->scheduler, j, "it could not be put on record", crew_now_ns());
                return manager_no_audit(o);
        }
        answer_task(o, t);
        crewd_progress(o->m->crewd);
}

/* --- cancel, reprioritise --- */

/* Its job, or NULL after answering: it is over. */
static struct job *open_job(const struct order *o, const struct handout *t) {
        struct job *j = scheduler_find(o->m->crewd->scheduler, t->id);

        if (!j)
                manager_deny_text(o, CALL_REJECTED, "task %s is over: %s", t->id, state_name(o->m, t));
        return j;
}

static void on_cancel(const struct order *o) {
        const Crew__CancelWork *b = o->e->cancel_work;
        const struct handout *t = known(o, b->task_id);
        struct job *j = t ? open_job(o, t) : NULL;
        char reason[512];

        if (!j)
                return;
        snprintf(reason, sizeof(reason), "called off by %s%s%s", agent_name(o->a), *b->reason ? ": " : "", b->reason);
        struct journal_order done = {.to = agent_name(&o->m->crewd->agents[t->agent]),
                                     .task = t->task,
                                     .task_id = t->id,
                                     .reason = *b->reason ? b->reason : NULL};
        if (journal_order(o->a, crew_verbs[o->verb].name, &done) < 0)
                return manager_no_audit(o);
        scheduler_cancel(o->m->crewd->scheduler, j, reason, crew_now_ns());
        answer_task(o, t);
        crewd_progress(o->m->crewd);
}

static void on_reprioritise(const struct order *o) {
        const Crew__ReprioritiseWork *b = o->e->reprioritise_work;
        const struct handout *t = known(o, b->task_id);
        struct job *j = t ? open_job(o, t) : NULL;
        char text[48];

        if (!j)
                return;
        if (j->state != JOB_WAITING)
                return manager_deny_text(o, CALL_REJECTED, "task %s is queued no more: %s", t->id,
                                         job_state_names[j->state]);
        snprintf(text, sizeof(text), "priority %u", b->priority);
        struct journal_order done = {
                .to = agent_name(&o->m->crewd->agents[t->agent]), .task = t->task, .task_id = t->id, .reason = text};
        if (journal_order(o->a, crew_verbs[o->verb].name, &done) < 0)
                return manager_no_audit(o);
        (void)scheduler_reprioritise(o->m->crewd->scheduler, j, b->priority);
        answer_task(o, t);
        crewd_progress(o->m->crewd);
}

/* --- the ends of agents --- */

static void on_terminations(const struct order *o) {
        struct json_text j = JSON_TEXT(MANAGER_ANSWER_MAX);

        journal_order_read(o->a, crew_verbs[o->verb].name, NULL);
        notices_write(o->m->notices, &j);
        manager_send_json(o->a, o->e->seq, &j);
}

/* One that is not there was acknowledged before, or never told: the same to whoever wants it gone. */
static void on_seen(const struct order *o) {
        struct json_text j = JSON_TEXT(256);

        journal_order_read(o->a, crew_verbs[o->verb].name, NULL);
        json_open(&j, '{');
        json_key(&j, "acknowledged"), json_bool(&j, notices_seen(o->m->notices, o->e->termination_seen->id));
        json_close(&j, '}');
        manager_send_json(o->a, o->e->seq, &j);
}

/* Its link may be full: it has a moment then. */
static void tell(struct manager *m) {
        struct agent *a = &m->crewd->agents[m->index];
        Crew__TerminationNotice body = CREW__TERMINATION_NOTICE__INIT;
        Crew__Envelope e = CREW__ENVELOPE__INIT;
        struct notice *n;

        m->tell_at_ns = 0;
        e.body_case = CREW__ENVELOPE__BODY_TERMINATION_NOTICE;
        e.termination_notice = &body;
        while (agent_usable(a) && (n = notices_next(m->notices, a->incarnation))) {
                body.id = n->id;
                body.agent = n->agent;
                body.record = n->record;
                if (!agent_takes_message(a) || journal_manager_told(a, n->agent, n->id) < 0 ||
                    agent_send(a, &e, NULL) == -EAGAIN) {
                        m->tell_at_ns = crew_now_ns() + TELL_AGAIN_NS;
                        return;
                }
                n->told = a->incarnation;
        }
}

void manager_tell(struct crewd *c, const struct agent *dead, const struct termination *t) {
        struct manager *m = c->manager;
        _cleanup_free_ char *record = NULL;
        struct agent *a;
        size_t n;

        if (!m)
                return;
        a = &c->agents[m->index];
        if (dead != a &&
            !policy_decide(a->decl->policy, POLICY_DO_SEND, crew_policy_name(c->file, agent_name(dead))).allowed)
                return;
        int r = termination_json(dead, t, TERMINATION_INSIDE, &record, &n);
        if (r == 0)
                r = notices_add(m->notices, t->id, agent_name(dead), record, n);
        if (r != 0)
                journal_manager_untold(a, r < 0 ? 1 : (uint32_t)r);
        tell(m);
}

void manager_up(struct crewd *c, const struct agent *a) {
        if (manager_is(a))
                tell(c->manager);
}

/* --- the table --- */

#define ROW(BODY, VERB, fn) [CREW__ENVELOPE__BODY_##BODY] = {CREW_VERB_##VERB, fn}
static const struct {
        enum crew_verb verb;
        void (*handle)(const struct order *o);
} orders[] = {
        ROW(LIST_AGENTS, AGENTS, on_agents),
        ROW(SUBMIT_WORK, SUBMIT, on_submit),
        ROW(WAIT_WORK, WAIT, on_wait),
        ROW(CANCEL_WORK, CANCEL, on_cancel),
        ROW(READ_RESULT, RESULT, on_result),
        ROW(REPRIORITISE_WORK, REPRIORITISE, on_reprioritise),
        ROW(LIST_TERMINATIONS, TERMINATIONS, on_terminations),
        ROW(TERMINATION_SEEN, SEEN, on_seen),
        ROW(SPAWN_INSTANCE, SPAWN, manager_on_spawn),
        ROW(RETIRE_INSTANCE, RETIRE, manager_on_retire),
};
#undef ROW

void manager_order(struct agent *a, const Crew__Envelope *e) {
        size_t body = (size_t)e->body_case;
        struct order o = {.m = a->crewd->manager, .a = a, .e = e};

        /* The message table lets nobody else's through. */
        crew_assert(o.m && manager_is(a) && body < ELEMENTSOF(orders) && orders[body].handle);
        o.verb = orders[body].verb;
        orders[body].handle(&o);
}

void manager_refuse(struct agent *a, const char *body, uint64_t seq) {
        static const char text[] = "only the manager of a hierarchical crew may do this";

        journal_order_refused(a, body, &(struct journal_order){.reason = text});
        toolgate_reply(a, seq, &(struct call_reply){.code = CALL_DENIED, .message = text});
}

/* --- what becomes of it --- */

void manager_job_done(struct crewd *c, const struct job *j) {
        struct handout end = {
                .outcome = j->outcome, .result = j->result, .result_len = j->result_len, .attempts = j->attempt};

        if (!c->manager)
                return;
        snprintf(end.id, sizeof(end.id), "%s", j->id);
        snprintf(end.error, sizeof(end.error), "%s", j->error);
        end.ms = j->started_ns ? (j->ended_ns - j->started_ns) / 1000000u : 0;
        handouts_finish(c->manager->out, &end, answer_wait, c->manager);
}

static void call_off(const struct handout *t, void *user) {
        struct crewd *c = user;
        struct job *j = scheduler_find(c->scheduler, t->id);

        if (j)
                scheduler_cancel(c->scheduler, j, c->manager->coming ? LEFT_TEXT : GONE_TEXT, crew_now_ns());
}

void manager_agent_gone(struct crewd *c, const struct agent *a, enum sched_after after) {
        struct manager *m = c->manager;

        if (!manager_is(a))
                return;
        handouts_forget_waits(m->out);
        m->coming = after != SCHED_NOBODY;
        if (after == SCHED_TASK_AGAIN)
                return;
        handouts_each_open(m->out, call_off, c);
        if (!m->coming)
                manager_instances_end(c, GONE_TEXT);
}

void manager_expire(struct manager *m, uint64_t now_ns) {
        if (!m)
                return;
        if (m->tell_at_ns && now_ns >= m->tell_at_ns)
                tell(m);
        handouts_expire(m->out, now_ns, answer_wait, m);
        manager_instances_expire(m, now_ns);
}

uint64_t manager_next_deadline(const struct manager *m) {
        if (!m)
                return UINT64_MAX;
        uint64_t next = MIN_OF(handouts_next_deadline(m->out), manager_instances_next(m));
        return MIN_OF(next, m->tell_at_ns ? m->tell_at_ns : UINT64_MAX);
}
