/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The wiring: every part is made here, and every callback of a pure part lands here before it goes to the part that
 * acts on it.
 */
#include "crewd_parts.h"

#include "adopt.h"
#include "apply.h"
#include "approvals.h"
#include "attest.h"
#include "checkpoint.h"
#include "common/evidence.h"
#include "common/gate.h"
#include "common/util.h"
#include "control.h"
#include "crew_log.h"
#include "death.h"
#include "events.h"
#include "evidence_client.h"
#include "execs.h"
#include "gateway_client.h"
#include "health.h"
#include "hold.h"
#include "hooks.h"
#include "instance.h"
#include "journal.h"
#include "late_result.h"
#include "manager.h"
#include "memory.h"
#include "reload.h"
#include "requests.h"
#include "results.h"
#include "router.h"
#include "rundir.h"
#include "scheduler.h"
#include "spawner.h"
#include "state_dir.h"
#include "status.h"
#include "supervisor/policy/lock.h"
#include "syncer.h"
#include "taskstart.h"
#include "toolgate.h"
#include "voting.h"
#include "webhook.h"

#include <errno.h>
#include <signal.h>
#include <string.h>

#define ARENA_BYTES                                                                                                        \
        (ipc_max_frame[IPC_WORKER] > ipc_max_frame[IPC_CLIENT] ? ipc_max_frame[IPC_WORKER] : ipc_max_frame[IPC_CLIENT])

/* --- spawner --- */

/* Nor one that has ended in this turn, and is yet to be buried. */
static struct agent *current(struct crewd *c, uint32_t id) {
        struct agent *a = crewd_agent_by_id(c, id);

        return a && a->in.id == id && agent_state_live(a->state) ? a : NULL;
}

static void on_spawned(uint32_t id, const struct spawn_attestation *att, int *fds, size_t n_fds, void *user) {
        struct agent *a = current(user, id);

        if (a)
                instance_on_spawned(a, att, fds, n_fds);
}

static void on_spawn_failed(uint32_t id, int error, const char *step, const char *text, void *user) {
        struct agent *a = current(user, id);

        if (a)
                instance_on_spawn_failed(a, error, step, text);
}

static void on_exited(uint32_t id, const struct spawn_exit *x, void *user) {
        struct agent *a = current(user, id);

        if (a)
                death_on_exited(a, x);
}

static void on_stats(uint32_t id, uint32_t cookie, const struct spawn_stats *stats, void *user) {
        struct agent *a = current(user, id);

        if (a && cookie == LATE_RESULT_COOKIE) {
                usage_seen(a, stats);
                late_result_settle(a);
        } else if (a) {
                requests_stats_came(user, a, stats);
        }
}

static void on_limits(uint32_t id, uint32_t cookie, int err, void *user) {
        struct crewd *c = user;

        (void)id;
        reload_on_limits(c->reload, cookie, err);
}

static void on_held(uint32_t id, uint32_t cookie, int err, void *user) {
        struct agent *a = current(user, id);

        if (a)
                hold_on_reply(a, cookie, err);
}

/* Its sweep: control groups and processes of a crew whose crewd and spawner both died. */
static void on_spawner_hello(const char *found, void *user) {
        struct crewd *c = user;

        if (!*found)
                return;
        crewd_log(c, "%s", found);
        for (uint32_t i = 0; i < c->n_agents; i++)
                journal_evidence_lost(&c->agents[i], "spawner", 0, found);
}

static void on_spawner_turn(bool begins, void *user) {
        struct crewd *c = user;

        c->deaths_together = begins;
        if (!begins)
                death_settle(c);
}

/* Every jail died with it. */
static void on_spawner_gone(void *user) {
        struct crewd *c = user;

        for (uint32_t i = 0; i < c->n_agents; i++) {
                struct agent *a = &c->agents[i];
                if (!agent_state_live(a->state))
                        continue;
                death_decide(a, CREW__CAUSE__CAUSE_CRASH, "crewd", "the spawner died, and every jail with it");
                a->in.kill_sent = true; /* nobody is left to be asked */
                death_on_exited(a, &(struct spawn_exit){.code = -1, .signal = SIGKILL});
        }
        death_settle(c); /* so that what would come back is stopped too */
        if (c->phase <= CREWD_STOPPING)
                crewd_fail(c, "the spawner died");
}

/* --- router --- */

static struct policy_verdict permit_send(uint32_t from, const char *target, void *user) {
        struct crewd *c = user;
        struct policy_verdict v =
                policy_decide(c->agents[from].decl->policy, POLICY_DO_SEND, crew_policy_name(c->file, target));

        if (!v.allowed)
                journal_message_denied(&c->agents[from], target, &v);
        return v;
}

static struct router_peer find_peer(const char *target, void *user) {
        struct agent *a = crewd_agent_by_name(user, target);

        if (!a)
                return (struct router_peer){.presence = ROUTER_UNKNOWN};
        bool waits = agent_coming(a) || (hold_is_on(a) && agent_state_live(a->state) && !a->in.cut && !a->frozen);
        return (struct router_peer){.presence = agent_usable(a) ? ROUTER_UP
                                                : waits         ? ROUTER_STARTING
                                                                : ROUTER_GONE,
                                    .index = a->index,
                                    .incarnation = a->incarnation};
}

static const char *name_of(uint32_t agent, void *user) {
        struct crewd *c = user;

        return agent_name(&c->agents[agent]);
}

/* Both streams have it before the receiver does. */
static int deliver(const struct router_message *m, uint64_t *seq, void *user) {
        struct crewd *c = user;
        struct agent *from = &c->agents[m->from], *to = &c->agents[m->to];
        Crew__Deliver body = CREW__DELIVER__INIT;
        Crew__Envelope e = CREW__ENVELOPE__INIT;

        if (!agent_usable(to))
                return -EPIPE;
        if (!agent_takes_message(to))
                return -EAGAIN;
        if (journal_message(from, true, agent_name(to), m->ask, m->payload, to->in.seq_out + 1) < 0 ||
            journal_message(to, false, agent_name(from), m->ask, m->payload, to->in.seq_out + 1) < 0)
                return -EIO;
        from->in.effects = true;
        to->in.idle_ns = crew_now_ns();
        body.sender = (char *)agent_name(from);
        body.ask = m->ask;
        body.payload = (char *)m->payload;
        if (m->ask) {
                uint64_t now = crew_now_ns();
                uint64_t left = m->deadline_ns > now ? m->deadline_ns - now : 0;
                e.deadline_ms = (crew_realtime_ns() + left) / 1000000u;
        }
        e.body_case = CREW__ENVELOPE__BODY_DELIVER;
        e.deliver = &body;
        return agent_send(to, &e, seq);
}

static void reply(uint32_t to, uint64_t corr, const struct call_reply *what, void *user) {
        struct crewd *c = user;

        toolgate_reply(&c->agents[to], corr, what);
}

static void lost(uint32_t from, const char *target, const struct call_reply *why, void *user) {
        struct crewd *c = user;

        journal_message_lost(&c->agents[from], target, why->message);
}

/* --- scheduler --- */

static enum sched_slot slot(uint32_t agent, char *why, void *user) {
        struct crewd *c = user;
        struct agent *a = &c->agents[agent];

        if (a->draining && agent_state_live(a->state))
                return SCHED_BUSY;
        if (a->state == AGENT_READY && agent_usable(a) && !health_starting(a) && c->phase <= CREWD_RUNNING)
                return SCHED_FREE;
        if (agent_coming(a) || (agent_state_live(a->state) && !a->frozen))
                return SCHED_BUSY;
        snprintf(why, 256, "agent %s is %s%s%.150s", agent_name(a), a->frozen ? "frozen" : agent_state_names[a->state],
                 a->last ? ": " : "", a->last ? a->last->death.reason : "");
        return SCHED_DEAD;
}

static int start_job(struct job *j, struct crew_err *err, void *user) {
        struct crewd *c = user;

        return taskstart_send(&c->agents[j->agent], j, err);
}

static void cancel_job(struct job *j, void *user) {
        struct crewd *c = user;

        taskstart_cancel(&c->agents[j->agent], j, j->stop == JOB_STOP_ASKED ? j->stop_reason : "its time is over");
}

static void overdue_job(struct job *j, void *user) {
        struct crewd *c = user;
        char text[128];

        if (j->stop == JOB_STOP_ASKED)
                snprintf(text, sizeof(text), "task %s was cancelled and did not stop", j->name);
        else
                snprintf(text, sizeof(text), "task %s gave no result within %.1f s and did not stop", j->name,
                         (double)j->timeout_ns / 1e9);
        death_kill(&c->agents[j->agent], CREW__CAUSE__CAUSE_DEADLINE, "crewd", text);
}

/* A result that cannot be stored is still given to the tasks that wait for it. */
static void store_result(struct crewd *c, const struct job *j) {
        struct crew_err err = CREW_ERR_NULL;

        if (results_store(c->out_dir, j->name, j->result, j->result_len, &err) < 0)
                crewd_log(c, "result of task %s: %s", j->name, err.msg);
}

/* Did nobody stop it earlier than limits.wall_time would have?  Its agent's end may be heard of when the task has gone. */
static bool ran_out(struct agent *a, const struct job *j, Crew__Outcome outcome) {
        uint64_t max = usage_max(a, USAGE_WALL_TIME);

        a->ran_out = outcome == CREW__OUTCOME__OUTCOME_TIMEOUT && max && j->timeout_ns / 1000000u >= max;
        return a->ran_out;
}

static void job_retried(struct job *j, Crew__Outcome outcome, const char *error, void *user) {
        struct crewd *c = user;

        ran_out(&c->agents[j->agent], j, outcome);
        journal_task_retried(&c->agents[j->agent], j, outcome, error);
}

static void job_proposed(struct job *j, uint64_t now_ns, void *user) {
        voting_begin(user, j, now_ns);
}

static void job_changed(struct job *j, void *user) {
        struct crewd *c = user;

        if (j->started_ns && j->state >= JOB_DONE)
                journal_task_finished(&c->agents[j->agent], j);
        if (j->in_run && j->state == JOB_DONE)
                store_result(c, j);
        status_announce_task(c, j);
        if (j->state < JOB_DONE)
                return;
        manager_job_done(c, j);
        voting_job_gone(c, j);
        if (j->ballot)
                voting_ballot_done(c, j);
}

static void job_finished(struct job *j, void *user) {
        struct crewd *c = user;

        if (ran_out(&c->agents[j->agent], j, j->outcome))
                usage_hit(&c->agents[j->agent], USAGE_WALL_TIME, 1, j->timeout_ns / 1000000u, "a task was stopped");
        requests_job_done(user, j);
}

static bool frozen(uint32_t agent, void *user) {
        struct crewd *c = user;

        return hold_is_on(&c->agents[agent]);
}

static uint64_t time_max(uint32_t agent, void *user) {
        struct crewd *c = user;
        const struct crew_agent *decl = c->agents[agent].decl;

        return decl && decl->policy ? policy_limits_of(decl->policy).wall_ms * 1000000u : 0;
}

static void run_done(void *user) {
        requests_run_done(user);
}

/* --- loop --- */

static void on_event(const Crew__Event *e, void *user) {
        struct crewd *c = user;

        control_event(c->control, e);
}

static void on_signal(uv_signal_t *h, int number) {
        struct crewd *c = h->data;

        /* The second one means now. */
        crewd_stop(c, c->phase == CREWD_STOPPING ? 0 : CREWD_STOP_GRACE_MS,
                   number == SIGINT ? "interrupted" : "asked to by SIGTERM");
}

static void on_owner(uv_poll_t *h, int status, int events) {
        struct crewd *c = h->data;
        char buf[64];
        ssize_t n = 0;

        (void)events;
        if (status == 0)
                n = read(c->owner_fd, buf, sizeof(buf));
        if (n > 0 || (n < 0 && (errno == EAGAIN || errno == EINTR)))
                return;
        uv_poll_stop(h);
        crewd_stop(c, 0, "whoever started it is gone");
}

static int open_handles(struct crewd *c, struct crew_err *err) {
        uv_timer_init(&c->loop, &c->wake);
        uv_timer_init(&c->loop, &c->sync);
        uv_prepare_init(&c->loop, &c->prepare);
        uv_signal_init(&c->loop, &c->sigterm);
        uv_signal_init(&c->loop, &c->sigint);
        c->wake.data = c->sync.data = c->prepare.data = c->sigterm.data = c->sigint.data = c->owner.data = c;
        c->sync_ready = true;
        int r = uv_prepare_start(&c->prepare, crewd_before_sleep);
        if (r == 0)
                r = uv_signal_start(&c->sigterm, on_signal, SIGTERM);
        if (r == 0)
                r = uv_signal_start(&c->sigint, on_signal, SIGINT);
        if (r == 0 && c->owner_fd >= 0) {
                r = uv_poll_init(&c->loop, &c->owner, c->owner_fd);
                if (r == 0)
                        r = uv_poll_start(&c->owner, UV_READABLE | UV_DISCONNECT, on_owner);
        }
        return r < 0 ? crew_fail(err, -r, "cannot set up the loop: %s", uv_strerror(r)) : 0;
}

static int open_helpers(struct crewd *c, struct crewd_setup *s, struct crew_err *err) {
        static const struct spawner_callbacks spawner_cb = {.on_hello = on_spawner_hello,
                                                            .on_ready = on_spawned,
                                                            .on_failed = on_spawn_failed,
                                                            .on_exited = on_exited,
                                                            .on_stats = on_stats,
                                                            .on_limits = on_limits,
                                                            .on_held = on_held,
                                                            .on_turn = on_spawner_turn,
                                                            .on_gone = on_spawner_gone};
        int r = spawner_open(&c->loop, crew_steal_fd(&s->spawner_fd), &spawner_cb, c, &c->spawner, err);

        if (r == 0 && c->file->on_loss == CREW_LOSS_HOLD)
                r = checkpoint_open(c, c->legacy ? legacy_take_state(c->legacy) : -1, &c->checkpoint, err);

        if (r == 0 && s->evidence_fd >= 0)
                r = evidence_open(c, crew_steal_fd(&s->evidence_fd), &c->evidence, err);
        if (r == 0 && s->gateway_fd >= 0)
                r = gateway_open(c, crew_steal_fd(&s->gateway_fd), &c->gateway, err);
        if (r == 0 && s->hooks_fd >= 0)
                r = hooks_open(c, crew_steal_fd(&s->hooks_fd), &c->hooks, err);
        if (r == 0 && s->webhook.launcher >= 0)
                r = webhook_open(c, &s->webhook, &c->webhook, err);
        return r;
}

static int make_pure_parts(struct crewd *c, struct crew_err *err) {
        static const struct router_callbacks router_cb = {.permit = permit_send,
                                                          .find = find_peer,
                                                          .name = name_of,
                                                          .deliver = deliver,
                                                          .reply = reply,
                                                          .lost = lost};
        static const struct sched_callbacks sched_cb = {.slot = slot,
                                                        .start = start_job,
                                                        .cancel = cancel_job,
                                                        .overdue = overdue_job,
                                                        .retried = job_retried,
                                                        .proposed = job_proposed,
                                                        .changed = job_changed,
                                                        .finished = job_finished,
                                                        .run_done = run_done,
                                                        .frozen = frozen,
                                                        .time_max = time_max};

        c->events = events_new(on_event, c);
        c->requests = requests_new();
        c->approvals = approvals_new();
        c->reload = reload_new(c);
        c->apply = apply_new(c);
        c->execs = execs_new(c);
        c->tools = toolgate_new(c);
        c->router = router_new(c->room, &router_cb, c);
        c->scheduler = scheduler_new(c->file, c->room, &sched_cb, c);
        c->memory = memory_new(c->file, c->room);
        c->together = planner_crew_new();
        c->arena = ipc_arena_new(ARENA_BYTES + (128u << 10));
        if (!c->events || !c->requests || !c->approvals || !c->reload || !c->apply || !c->execs || !c->tools ||
            !c->router || !c->scheduler || !c->memory || !c->together || !c->arena)
                return crew_fail(err, ENOMEM, "out of memory");
        int r = manager_new(c, &c->manager, err);
        return r < 0 ? r : voting_new(c, &c->voting, err);
}

static int make_agents(struct crewd *c, struct crew_err *err) {
        size_t n = c->file->n_agents;

        static_assert(CREW_AGENTS_MAX < 1u << INSTANCE_INDEX_BITS, "a number for each agent");
        static_assert(1u << INSTANCE_INDEX_BITS <= GATE_INSTANCES_MAX, "room for each in the gateway");
        static_assert(2u << INSTANCE_INDEX_BITS <= EVIDENCE_INSTANCES_MAX, "room for each and the one before it");
        c->room = MIN_OF((uint32_t)n + CREWD_SPARE_AGENTS, 1u << INSTANCE_INDEX_BITS);
        c->agents = calloc(c->room, sizeof(*c->agents));
        if (!c->agents)
                return crew_fail(err, ENOMEM, "out of memory");
        for (uint32_t i = 0; i < n; i++) {
                c->n_agents = i + 1; /* what agent_init began, agent_fini ends */
                int r = agent_init(&c->agents[i], c, c->file, i, err);
                if (r < 0) {
                        crew_err_add(err, "agent %s", c->file->agents[i].name);
                        return r;
                }
        }
        return 0;
}

int crewd_parts_open(struct crewd *c, struct crewd_setup *s, struct crew_err *err) {
        int r;

        if ((r = uv_loop_init(&c->loop)) < 0)
                return crew_fail(err, -r, "cannot make a loop: %s", uv_strerror(r));
        c->loop_ready = true;
        if ((r = open_handles(c, err)) < 0 || (r = attest_own(&c->own, err)) < 0 || (r = state_dirs_init(c, err)) < 0 ||
            (r = crew_log_open(c, &c->crew_log, err)) < 0 || (r = make_agents(c, err)) < 0 ||
            (r = make_pure_parts(c, err)) < 0 || (r = open_helpers(c, s, err)) < 0)
                return r;
        instance_warm_up(c); /* no thread of ours before nng's: without memory for one of its own it hangs */
        if ((r = syncer_open(&c->loop, &c->syncer, err)) < 0)
                return r;
        state_dirs_sweep(c);
        /* Before it is known what crew-evidence can do the plans would be for another jail. */
        for (uint32_t i = 0; i < c->n_agents && evidence_settled(c->evidence); i++)
                if (agent_present(&c->agents[i]))
                        instance_plan_ahead(&c->agents[i]);
        return control_open(c, rundir_path(c->rundir), &c->control, err);
}

static void close_handle(uv_handle_t *h) {
        if (h->type != UV_UNKNOWN_HANDLE && !uv_is_closing(h))
                uv_close(h, NULL);
}

/* A last signal would find no handler any more, and kill what is about to end in order. */
static void hold_signals(void) {
        sigset_t set;

        sigemptyset(&set);
        sigaddset(&set, SIGTERM);
        sigaddset(&set, SIGINT);
        sigprocmask(SIG_BLOCK, &set, NULL);
}

void crewd_parts_close(struct crewd *c) {
        hold_signals();
        for (uint32_t i = 0; i < c->n_agents; i++) {
                instance_clear(&c->agents[i]);
                instance_forget_ahead(&c->agents[i]); /* its listener would keep the loop up */
        }
        control_close(c->control, true);
        spawner_close(crew_steal_ptr(&c->spawner));
        evidence_close(crew_steal_ptr(&c->evidence));
        gateway_close(crew_steal_ptr(&c->gateway));
        hooks_close(crew_steal_ptr(&c->hooks));
        syncer_close(crew_steal_ptr(&c->syncer)); /* before those that have work for it: they do what it has left */
        webhook_close(crew_steal_ptr(&c->webhook));
        close_handle((uv_handle_t *)&c->wake);
        close_handle((uv_handle_t *)&c->sync);
        close_handle((uv_handle_t *)&c->prepare);
        close_handle((uv_handle_t *)&c->sigterm);
        close_handle((uv_handle_t *)&c->sigint);
        close_handle((uv_handle_t *)&c->owner);
}

void crewd_parts_free(struct crewd *c) {
        for (uint32_t i = 0; i < c->n_agents; i++)
                agent_fini(&c->agents[i]);
        free(c->agents);
        crew_log_close(c->crew_log);
        manager_free(c->manager);
        voting_free(c->voting);
        memory_free(c->memory);
        scheduler_free(c->scheduler);
        router_free(c->router);
        toolgate_free(c->tools);
        execs_free(c->execs);
        requests_free(c->requests);
        approvals_free(c->approvals);
        reload_free(c->reload);
        checkpoint_close(c->checkpoint);
        legacy_free(c->legacy);
        apply_free(c->apply);
        events_free(c->events);
        planner_crew_free(c->together);
        ipc_arena_free(c->arena);
        control_free(c->control);
        if (c->loop_ready)
                uv_loop_close(&c->loop);
        crew_close(&c->states_fd);
        crew_close(&c->ready_fd);
        crew_close(&c->owner_fd);
        crew_lock_free(c->lock);
        crew_file_free(c->file);
        rundir_close(c->rundir);
}
