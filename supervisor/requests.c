/* SPDX-License-Identifier: Apache-2.0 */
#include "requests.h"

#include "apply.h"
#include "approvals.h"
#include "cancels.h"
#include "common/util.h"
#include "control.h"
#include "crewd.h"
#include "crewplan.h"
#include "death.h"
#include "events.h"
#include "execs.h"
#include "hold.h"
#include "keyed.h"
#include "reload.h"
#include "results.h"
#include "rundir.h"
#include "scheduler.h"
#include "spawner.h"
#include "starters.h"
#include "status.h"

#include <errno.h>
#include <string.h>

struct waiter {
        uint64_t client, corr;
};

struct waiters {
        uint32_t n;
        struct waiter items[REQUESTS_WAITING_MAX];
};

struct requests {
        struct waiters status; /* wait for statistics */
        uint32_t stats_due;    /* replies still to come */
        uint64_t stats_by_ns;
        struct waiters stop; /* wait for the end */
        struct keyed *keyed; /* tasks that were submitted with a key */
        uint64_t cpus;       /* asked once: the C library reads a file for it */
};

struct requests *requests_new(void) {
        struct requests *r = calloc(1, sizeof(*r));

        if (!r || !(r->keyed = keyed_new()))
                return requests_free(r);
        r->cpus = (uint64_t)MAX_OF(sysconf(_SC_NPROCESSORS_CONF), 1l);
        return r;
}

struct requests *requests_free(struct requests *r) {
        if (r)
                keyed_free(r->keyed);
        free(r);
        return NULL;
}

void requests_save(const struct requests *r, struct bytes_out *b) {
        keyed_save(r->keyed, b);
}

int requests_load(struct requests *r, struct bytes_in *b) {
        return keyed_load(r->keyed, b);
}

static bool wait_for(struct waiters *w, uint64_t client, uint64_t corr) {
        if (w->n == REQUESTS_WAITING_MAX)
                return false;
        w->items[w->n++] = (struct waiter){.client = client, .corr = corr};
        return true;
}

/* --- refusals --- */

static void name_agents(const struct crewd *c, const char *wrong, char *out, size_t out_size) {
        size_t n = (size_t)snprintf(out, out_size, "agents: "), n_names = 0;
        _cleanup_free_ const char **names = calloc(MAX_OF(c->n_agents, 1u), sizeof(*names));

        for (uint32_t i = 0; names && i < c->n_agents && n < out_size; i++) {
                if (!agent_present(&c->agents[i]))
                        continue;
                n += (size_t)snprintf(out + n, out_size - n, "%s%s", n_names ? ", " : "", agent_name(&c->agents[i]));
                names[n_names++] = agent_name(&c->agents[i]);
        }
        const char *near = names ? crew_nearest(wrong, names, n_names) : NULL;
        if (near && n < out_size)
                snprintf(out + n, out_size - n, "   (did you mean %s?)", near);
}

struct agent *requests_agent(struct crewd *c, uint64_t client, uint64_t corr, const char *name) {
        struct agent *a = crewd_agent_by_name(c, name);
        char hint[1024];

        if (a)
                return a;
        name_agents(c, name, hint, sizeof(hint));
        control_refuse(c->control, client, corr, "unknown-agent", hint, "no agent '%s' in crew %s", name, c->file->name);
        return NULL;
}

static const struct {
        int error;
        const char *code;
} codes[] = {
        {ENOENT, "unknown-task"}, {EBUSY, "busy"},         {EAGAIN, "too-many"},        {EINVAL, "bad-request"},
        {EPIPE, "not-running"},   {ESHUTDOWN, "stopping"}, {EOPNOTSUPP, "unsupported"},
};

static void refuse_error(struct crewd *c, uint64_t client, uint64_t corr, const struct crew_err *err) {
        const char *code = "failed";

        for (size_t i = 0; i < ELEMENTSOF(codes); i++) {
                if (codes[i].error == err->code)
                        code = codes[i].code;
        }
        control_refuse(c->control, client, corr, code, "", "%s", err->msg);
}

/* --- requests --- */

static void send_held(struct crewd *c, const struct agent *a, uint64_t client, uint64_t corr) {
        const struct job *j = scheduler_job_of(c->scheduler, a->index);
        Crew__AgentHeld body = CREW__AGENT_HELD__INIT;
        Crew__Envelope e = CREW__ENVELOPE__INIT;
        struct status_agent s;

        status_agent(a, &s);
        body.agent = &s.pb;
        body.task = (char *)(j ? j->name : "");
        e.corr = corr;
        e.body_case = CREW__ENVELOPE__BODY_AGENT_HELD;
        e.agent_held = &body;
        control_send(c->control, client, &e);
}

void requests_held(struct crewd *c, struct agent *a, int err) {
        if (err == 0)
                send_held(c, a, a->hold.client, a->hold.corr);
        else
                control_refuse(c->control, a->hold.client, a->hold.corr, "failed", "", "agent %s could not be %s: %s",
                               agent_name(a), a->hold.thaw ? "thawed" : "frozen", strerror(err));
}

static void on_hello(struct crewd *c, uint64_t client, const Crew__Envelope *e) {
        Crew__ServerHello body = CREW__SERVER_HELLO__INIT;
        Crew__Envelope out = CREW__ENVELOPE__INIT;

        body.protocol = 1;
        body.crew = (char *)c->file->name;
        body.version = (char *)CREW_VERSION;
        body.crew_file = c->crew_path;
        body.pid = (uint32_t)getpid();
        out.corr = e->seq;
        out.body_case = CREW__ENVELOPE__BODY_SERVER_HELLO;
        out.server_hello = &body;
        control_send(c->control, client, &out);
}

static bool stats_wanted(const struct agent *a, uint64_t now_ns) {
        return agent_state_live(a->state) && a->in.attested && !a->in.stats_asked &&
               (a->in.stats_ns == 0 || now_ns - a->in.stats_ns >= REQUESTS_STATS_FRESH_NS);
}

static void on_get_status(struct crewd *c, uint64_t client, const Crew__Envelope *e) {
        struct requests *r = c->requests;
        uint64_t now = crew_now_ns();

        if (!wait_for(&r->status, client, e->seq))
                return control_refuse(c->control, client, e->seq, "too-many", "", "too many requests for status at once");
        for (uint32_t i = 0; i < c->n_agents; i++) {
                struct agent *a = &c->agents[i];
                if (!stats_wanted(a, now) || usage_ask(a) < 0)
                        continue;
                a->in.stats_asked = true;
                r->stats_due++;
        }
        if (r->stats_by_ns == 0)
                r->stats_by_ns = now + REQUESTS_STATS_WAIT_NS;
        requests_flush_status(c, now);
}

static void replay_one(const Crew__Event *event, void *user) {
        const struct waiter *w = ((void **)user)[1];
        struct crewd *c = ((void **)user)[0];
        Crew__Envelope e = CREW__ENVELOPE__INIT;

        e.corr = w->corr;
        e.body_case = CREW__ENVELOPE__BODY_EVENT;
        e.event = (Crew__Event *)event;
        control_send(c->control, w->client, &e);
}

static void on_subscribe(struct crewd *c, uint64_t client, const Crew__Envelope *e) {
        struct waiter w = {.client = client, .corr = e->seq};
        void *user[] = {c, &w};

        if (e->subscribe->since_seq > 0 && !control_subscribed(c->control, client))
                events_replay(c->events, e->subscribe->since_seq, replay_one, user);
        control_subscribe(c->control, client);
}

static void on_run_tasks(struct crewd *c, uint64_t client, const Crew__Envelope *e) {
        struct crew_err err = CREW_ERR_NULL;

        if (scheduler_run(c->scheduler, client, e->seq, crew_now_ns(), &err) < 0)
                return refuse_error(c, client, e->seq, &err);
        if (results_begin(c->out_dir, &err) < 0)
                crewd_log(c, "results of the run before: %s", err.msg);
        control_subscribe(c->control, client);
        crewd_progress(c);
}

static void send_accepted(struct crewd *c, uint64_t client, uint64_t corr, const char *task_id) {
        Crew__TaskAccepted body = CREW__TASK_ACCEPTED__INIT;
        Crew__Envelope e = CREW__ENVELOPE__INIT;

        body.task_id = (char *)task_id;
        e.corr = corr;
        e.body_case = CREW__ENVELOPE__BODY_TASK_ACCEPTED;
        e.task_accepted = &body;
        control_send(c->control, client, &e);
}

static void send_outcome(struct crewd *c, uint64_t client, uint64_t corr, const struct keyed_task *t) {
        Crew__TaskDone *body = crew__task_done__unpack(NULL, t->n, t->outcome);
        Crew__Envelope e = CREW__ENVELOPE__INIT;

        e.corr = corr;
        e.body_case = CREW__ENVELOPE__BODY_TASK_DONE;
        e.task_done = body;
        if (body)
                control_send(c->control, client, &e);
        else
                control_refuse(c->control, client, corr, "failed", "", "out of memory for the outcome of task %s", t->id);
        if (body)
                crew__task_done__free_unpacked(body, NULL);
}

/* What the key stands for already. */
static void submit_again(struct crewd *c, uint64_t client, uint64_t corr, struct keyed_task *t, const uint8_t *request) {
        if (memcmp(t->request, request, CREW_SHA256_BYTES) != 0)
                return control_refuse(c->control, client, corr, "key-used", "use another key for another task",
                                      "key '%s' is that of task %s, which is another request", t->key, t->id);
        if (t->let_go)
                return control_refuse(c->control, client, corr, "outcome-gone", "",
                                      "task %s has ended, and its outcome is held no more: too many others came after it",
                                      t->id);
        if (!t->done && !keyed_wait(t, client, corr))
                return control_refuse(c->control, client, corr, "too-many", "", "too many wait for task %s already", t->id);
        send_accepted(c, client, corr, t->id);
        if (t->done)
                send_outcome(c, client, corr, t);
}

static void submit(struct crewd *c, struct sched_submit *what, struct keyed_task *keyed) {
        struct crew_err err = CREW_ERR_NULL;
        struct job *j;

        if (scheduler_submit(c->scheduler, what, &j, &err) < 0) {
                if (keyed)
                        keyed_drop(c->requests->keyed, keyed);
                return refuse_error(c, what->client, what->corr, &err);
        }
        if (keyed)
                snprintf(keyed->id, sizeof(keyed->id), "%s", j->id);
        send_accepted(c, what->client, what->corr, j->id);
        crewd_progress(c);
}

static void digest_of(const Crew__SubmitTask *b, uint8_t out[CREW_SHA256_BYTES]) {
        const char *const parts[] = {b->task, b->agent, b->description, b->input};
        const uint64_t numbers[] = {b->timeout_ms, b->retries};

        keyed_digest(parts, ELEMENTSOF(parts), numbers, ELEMENTSOF(numbers), out);
}

static void on_submit_task(struct crewd *c, uint64_t client, const Crew__Envelope *e) {
        const Crew__SubmitTask *b = e->submit_task;
        struct sched_submit what = {.task = b->task,
                                    .agent = b->agent,
                                    .description = b->description,
                                    .input = b->input,
                                    .timeout_ns = MIN_OF(b->timeout_ms, 86400000u) * 1000000u,
                                    .retries = b->retries,
                                    .key = b->key,
                                    .client = client,
                                    .corr = e->seq,
                                    .now_ns = crew_now_ns()};
        struct keyed_task *keyed = *b->key ? keyed_find(c->requests->keyed, b->key) : NULL;
        uint8_t request[CREW_SHA256_BYTES];

        if (*b->key)
                digest_of(b, request);
        if (keyed)
                return submit_again(c, client, e->seq, keyed, request);
        if (*b->agent && !requests_agent(c, client, e->seq, b->agent))
                return;
        if (*b->key && !(keyed = keyed_add(c->requests->keyed, b->key, request)))
                return control_refuse(c->control, client, e->seq, "too-many", "",
                                      "too many tasks with a key are under way");
        submit(c, &what, keyed);
}

/* An agent by its name, or whoever works on a task at this moment; or a refusal. */
static struct agent *named_or_working(struct crewd *c, uint64_t client, uint64_t corr, const char *name, const char *task) {
        if (!*name == !*task) {
                control_refuse(c->control, client, corr, "bad-request", "", "either an agent or a task");
                return NULL;
        }
        if (*name)
                return requests_agent(c, client, corr, name);
        uint32_t index = scheduler_who(c->scheduler, task);
        if (index == UINT32_MAX)
                control_refuse(c->control, client, corr, "unknown-task", "", "no agent works on a task '%s' now", task);
        return index == UINT32_MAX ? NULL : &c->agents[index];
}

struct killed {
        Crew__AgentTerminated *end;
        const char *task; /* that it had in hand, "" none */
        bool reassigned;
        Crew__AgentState was; /* UNSET: it had a process */
};

static void send_killed(struct crewd *c, const struct agent *a, const struct killed *k, struct agent_waiter to) {
        struct status_lists lists;
        Crew__Killed body = CREW__KILLED__INIT;
        Crew__Envelope e = CREW__ENVELOPE__INIT;

        if (status_lists_make(c, a, false, &lists) < 0)
                lists = (struct status_lists){0};
        body.terminated = k->end;
        body.others = lists.agent_pointers;
        body.n_others = lists.n_agents;
        body.task = (char *)k->task;
        body.task_reassigned = k->reassigned;
        body.was = k->was;
        e.corr = to.corr;
        e.body_case = CREW__ENVELOPE__BODY_KILLED;
        e.killed = &body;
        control_send(c->control, to.client, &e);
        status_lists_fini(&lists);
}

const char *requests_reason(const char *reason) {
        return *reason ? reason : "no reason given";
}

/* One without a process that would have got one: nothing of it ran, so there is no termination; the record is that of the
 * kill. */
static void send_not_to_be(struct crewd *c, struct agent *a, enum agent_state was, struct agent_waiter to,
                           const char *reason) {
        const char *by = control_client_name(c->control, to.client);
        Crew__AgentTerminated end = CREW__AGENT_TERMINATED__INIT;

        end.crew = (char *)c->file->name;
        end.agent = (char *)agent_name(a);
        end.incarnation = a->incarnation;
        end.cause = control_client_cause(c->control, to.client);
        end.exit_code = -1;
        end.initiator = (char *)by;
        end.reason = (char *)reason;
        end.limit = end.stderr_tail = (char *)"";
        end.audit_seq = audit_seq(a->audit);
        end.time_ms = crew_realtime_ns() / 1000000u;
        send_killed(c, a,
                    &(struct killed){.end = &end,
                                     .task = "",
                                     .was = was == AGENT_DECLARED ? CREW__AGENT_STATE__AGENT_DECLARED
                                                                  : CREW__AGENT_STATE__AGENT_RESTARTING},
                    to);
}

/* Whoever wants an agent dead waits for Killed; false: there is nothing to kill, and that is answered. */
static bool await_death(struct crewd *c, struct agent *a, uint64_t client, uint64_t corr, const char *reason) {
        const struct agent_waiter w = {.client = client, .corr = corr};
        enum agent_state was = a->state;

        if (was == AGENT_DECLARED || was == AGENT_RESTARTING) {
                death_kill(a, control_client_cause(c->control, client), control_client_name(c->control, client), reason);
                send_not_to_be(c, a, was, w, reason);
                return false;
        }
        if (!agent_state_live(was)) {
                control_refuse(c->control, client, corr, "not-running", "", "agent %s is not running", agent_name(a));
                return false;
        }
        if (a->n_killers == AGENT_KILLERS_MAX) {
                control_refuse(c->control, client, corr, "too-many", "", "agent %s is being killed already", agent_name(a));
                return false;
        }
        a->killers[a->n_killers++] = w;
        return true;
}

static void on_kill_agent(struct crewd *c, uint64_t client, const Crew__Envelope *e) {
        const Crew__KillAgent *b = e->kill_agent;
        struct agent *a = named_or_working(c, client, e->seq, b->agent, b->task);

        if (a && await_death(c, a, client, e->seq, requests_reason(b->reason)))
                death_kill(a, control_client_cause(c->control, client), control_client_name(c->control, client),
                           requests_reason(b->reason));
}

static void on_stop_agent(struct crewd *c, uint64_t client, const Crew__Envelope *e) {
        const Crew__StopAgent *b = e->stop_agent;
        struct agent *a = requests_agent(c, client, e->seq, b->agent);

        if (a && hold_is_on(a))
                return control_refuse(c->control, client, e->seq, "busy", "crewctl thaw, or kill it", "agent %s is frozen",
                                      agent_name(a));
        if (a && await_death(c, a, client, e->seq, requests_reason(b->reason)))
                death_stop(a, MIN_OF(b->grace_ms, 3600000u), control_client_name(c->control, client),
                           requests_reason(b->reason));
}

static void on_freeze_agent(struct crewd *c, uint64_t client, const Crew__Envelope *e) {
        const Crew__FreezeAgent *b = e->freeze_agent;
        struct agent *a = named_or_working(c, client, e->seq, b->agent, b->task);
        const struct hold_request r = {.client = client,
                                       .corr = e->seq,
                                       .thaw = b->thaw,
                                       .initiator = control_client_name(c->control, client),
                                       .reason = requests_reason(b->reason)};
        static const struct {
                const char *code, *text;
        } refusals[] = {
                [HOLD_ALREADY] = {"busy", "is not frozen"},
                [HOLD_BUSY] = {"busy", "is being frozen or thawed by another client"},
                [HOLD_NOT_NOW] = {"not-running", "is not up"},
                [HOLD_NO_AUDIT] = {"failed", "is frozen until it ends: its audit cannot be written"},
        };

        enum hold_outcome out = a ? hold_ask(a, &r) : HOLD_ASKED;
        if (out == HOLD_ALREADY && !b->thaw)
                send_held(c, a, client, e->seq); /* as wanted, by whomever */
        else if (out != HOLD_ASKED)
                control_refuse(c->control, client, e->seq, refusals[out].code, "", "agent %s %s", agent_name(a),
                               refusals[out].text);
}

static void on_stop_crew(struct crewd *c, uint64_t client, const Crew__Envelope *e) {
        const Crew__StopCrew *b = e->stop_crew;
        char text[700];

        if (!wait_for(&c->requests->stop, client, e->seq))
                return control_refuse(c->control, client, e->seq, "too-many", "", "the crew is being stopped already");
        snprintf(text, sizeof(text), "stopped by %s%s%s", control_client_name(c->control, client), *b->reason ? ": " : "",
                 b->reason);
        crewd_stop(c, MIN_OF(b->grace_ms, 3600000u), text);
}

static void on_client_exec(struct crewd *c, uint64_t client, const Crew__Envelope *e) {
        struct agent *a = requests_agent(c, client, e->seq, e->client_exec->agent);
        struct crew_err err = CREW_ERR_NULL;

        if (!a)
                return;
        if (!agent_usable(a))
                return control_refuse(c->control, client, e->seq, "not-running", "", "agent %s is %s", agent_name(a),
                                      a->frozen || hold_is_on(a) ? "frozen" : agent_state_names[a->state]);
        if (execs_start(c->execs, a, client, e->seq, e->client_exec, &err) < 0)
                refuse_error(c, client, e->seq, &err);
}

static void on_exec_input(struct crewd *c, uint64_t client, const Crew__Envelope *e) {
        /* A command that has just ended may still get input: its Done is on the way, so this needs no answer. */
        execs_input(c->execs, client, e);
}

static void on_list_approvals(struct crewd *c, uint64_t client, const Crew__Envelope *e) {
        approvals_list(c, client, e);
}

static void on_answer_approval(struct crewd *c, uint64_t client, const Crew__Envelope *e) {
        approvals_answer(c, client, e);
}

static void on_reload_policy(struct crewd *c, uint64_t client, const Crew__Envelope *e) {
        const Crew__ReloadPolicy *b = e->reload_policy;
        const struct agent *only = *b->agent ? requests_agent(c, client, e->seq, b->agent) : NULL;

        if (only || !*b->agent)
                reload_begin(c->reload, client, e->seq, only, b->restart);
}

#define ROW(BODY, fn) [CREW__ENVELOPE__BODY_##BODY] = fn
static void (*const handlers[])(struct crewd *c, uint64_t client, const Crew__Envelope *e) = {
        ROW(CLIENT_HELLO, on_hello),
        ROW(GET_STATUS, on_get_status),
        ROW(SUBSCRIBE, on_subscribe),
        ROW(RUN_TASKS, on_run_tasks),
        ROW(SUBMIT_TASK, on_submit_task),
        ROW(KILL_AGENT, on_kill_agent),
        ROW(STOP_AGENT, on_stop_agent),
        ROW(START_AGENT, starters_ask),
        ROW(FREEZE_AGENT, on_freeze_agent),
        ROW(CANCEL_TASK, cancels_ask),
        ROW(STOP_CREW, on_stop_crew),
        ROW(CLIENT_EXEC, on_client_exec),
        ROW(EXEC_INPUT, on_exec_input),
        ROW(LIST_APPROVALS, on_list_approvals),
        ROW(ANSWER_APPROVAL, on_answer_approval),
        ROW(RELOAD_POLICY, on_reload_policy),
        ROW(PLAN_CREW, crewplan_answer),
        ROW(APPLY_CREW, apply_begin),
};
#undef ROW

void request_handle(struct crewd *c, uint64_t client, const Crew__Envelope *e) {
        void (*handle)(struct crewd *, uint64_t, const Crew__Envelope *) =
                (size_t)e->body_case < ELEMENTSOF(handlers) ? handlers[e->body_case] : NULL;

        /* The message table lets no other body of a client through. */
        crew_assert(handle);
        handle(c, client, e);
}

/* --- status --- */

static const char *phase_name(enum crewd_phase phase) {
        switch (phase) {
        case CREWD_STARTING:
                return "starting";
        case CREWD_RUNNING:
                return "running";
        case CREWD_STOPPING:
        case CREWD_FLUSHING:
        case CREWD_CLOSED:
                return "stopping";
        }
        return "stopping";
}

static void send_status(struct crewd *c, const struct waiters *to) {
        struct status_lists lists;
        Crew__Status body = CREW__STATUS__INIT;
        Crew__Envelope e = CREW__ENVELOPE__INIT;

        if (status_lists_make(c, NULL, true, &lists) < 0) {
                for (uint32_t i = 0; i < to->n; i++)
                        control_refuse(c->control, to->items[i].client, to->items[i].corr, "failed", "", "out of memory");
                return;
        }
        body.crew = (char *)c->file->name;
        body.state = (char *)phase_name(c->phase);
        body.process = (char *)crew_process_names[c->file->process];
        body.up_ms = (crew_now_ns() - c->started_ns) / 1000000u;
        body.agents = lists.agent_pointers;
        body.n_agents = lists.n_agents;
        body.tasks = lists.task_pointers;
        body.n_tasks = lists.n_tasks;
        body.audit_dir = c->audit_dir;
        body.mode = (char *)(c->root_mode ? "root" : "rootless");
        e.body_case = CREW__ENVELOPE__BODY_STATUS;
        e.status = &body;
        for (uint32_t i = 0; i < to->n; i++) {
                e.corr = to->items[i].corr;
                control_send(c->control, to->items[i].client, &e);
        }
        status_lists_fini(&lists);
}

void requests_flush_status(struct crewd *c, uint64_t now_ns) {
        struct requests *r = c->requests;

        if (r->status.n == 0 || (r->stats_due > 0 && now_ns < r->stats_by_ns))
                return;
        struct waiters now = r->status;
        r->status.n = 0;
        r->stats_by_ns = 0;
        if (r->stats_due > 0) {
                /* Those that did not answer are asked again next time. */
                r->stats_due = 0;
                for (uint32_t i = 0; i < c->n_agents; i++)
                        c->agents[i].in.stats_asked = false;
        }
        send_status(c, &now);
}

uint64_t requests_next_deadline(const struct crewd *c) {
        return c->requests->status.n ? c->requests->stats_by_ns : UINT64_MAX;
}

void requests_stats_came(struct crewd *c, struct agent *a, const struct spawn_stats *stats) {
        struct instance *in = &a->in;
        /* Its time is counted from the clone on, so the first look is an average since then. */
        uint64_t now = crew_now_ns(), since = in->stats_ns ? in->stats_ns : in->spawn_ns;
        uint64_t used = stats->cpu_ns - MIN_OF(in->stats.cpu_ns, stats->cpu_ns);

        if (now > since)
                in->cpu_percent = (uint32_t)MIN_OF(used * 100 / (now - since), c->requests->cpus * 100u);
        in->stats = *stats;
        in->stats_ns = now;
        if (in->stats_asked && !in->stats_for_usage && c->requests->stats_due > 0)
                c->requests->stats_due--;
        in->stats_asked = in->stats_for_usage = false;
        requests_flush_status(c, now);
        usage_seen(a, stats);
}

/* --- terminal messages --- */

/* Kept for those who will ask again, and told to those who have. */
static void finish_keyed(struct crewd *c, const struct job *j, Crew__Envelope *e) {
        struct keyed_task *t = keyed_find(c->requests->keyed, j->key);
        size_t n = crew__task_done__get_packed_size(e->task_done);
        _cleanup_free_ uint8_t *bytes = malloc(MAX_OF(n, (size_t)1));

        if (!t || strcmp(t->id, j->id) != 0)
                return;
        if (bytes)
                crew__task_done__pack(e->task_done, bytes);
        keyed_finish(c->requests->keyed, t, bytes, n);
        for (uint32_t i = 0; i < t->n_waiters; i++) {
                e->corr = t->waiters[i].corr;
                control_send(c->control, t->waiters[i].client, e);
        }
        t->n_waiters = 0;
}

void requests_job_done(struct crewd *c, struct job *j) {
        const struct agent *a = &c->agents[j->agent];
        struct termination_message m;
        Crew__TaskDone body = CREW__TASK_DONE__INIT;
        Crew__Envelope e = CREW__ENVELOPE__INIT;

        body.task_id = j->id;
        body.outcome = j->outcome;
        body.result = j->result ? j->result : (char *)"";
        body.error = j->error;
        if (j->started_ns)
                body.duration_us = (j->ended_ns - j->started_ns) / 1000u;
        if (j->outcome == CREW__OUTCOME__OUTCOME_TERMINATED && a->last) {
                death_message(a, a->last, &m);
                body.terminated = &m.pb;
        }
        e.corr = j->corr;
        e.body_case = CREW__ENVELOPE__BODY_TASK_DONE;
        e.task_done = &body;
        control_send(c->control, j->client, &e);
        if (j->key[0])
                finish_keyed(c, j, &e);
}

void requests_run_done(struct crewd *c) {
        const struct sched_run *run = scheduler_run_state(c->scheduler);
        struct status_lists lists;
        Crew__CrewDone body = CREW__CREW_DONE__INIT;
        Crew__Envelope e = CREW__ENVELOPE__INIT;

        body.tasks_ok = run->ok;
        body.tasks_total = run->total;
        body.duration_us = (run->ended_ns - run->started_ns) / 1000u;
        for (uint32_t i = 0; i < c->n_agents; i++)
                body.denied += c->agents[i].denied;
        if (status_lists_make(c, NULL, false, &lists) < 0)
                lists = (struct status_lists){0};
        body.tasks = lists.task_pointers;
        body.n_tasks = lists.n_tasks;
        e.corr = run->corr;
        e.body_case = CREW__ENVELOPE__BODY_CREW_DONE;
        e.crew_done = &body;
        control_send(c->control, run->client, &e);
        status_lists_fini(&lists);
}

void requests_crew_stopped(struct crewd *c) {
        struct waiters *w = &c->requests->stop;

        for (uint32_t i = 0; i < w->n; i++) {
                Crew__Done body = CREW__DONE__INIT;
                Crew__Envelope e = CREW__ENVELOPE__INIT;
                body.text = (char *)"the crew is stopped";
                e.corr = w->items[i].corr;
                e.body_case = CREW__ENVELOPE__BODY_DONE;
                e.done = &body;
                control_send(c->control, w->items[i].client, &e);
        }
        w->n = 0;
}

void requests_agent_dead(struct crewd *c, struct agent *a, const struct termination *t) {
        struct termination_message m;
        const struct killed k = {.end = &m.pb, .task = t->task, .reassigned = a->task_reassigned};

        if (a->n_killers > 0)
                death_message(a, t, &m);
        for (uint32_t i = 0; i < a->n_killers; i++)
                send_killed(c, a, &k, a->killers[i]);
        a->n_killers = 0;
        starters_failed(a);
}
