/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The life of a crew: the phases, and the one place that looks at the clock.
 *
 *   starting --all agents ready--> running --stop--> stopping --no agent left--> flushing --evidence, hooks--> closed
 *       |                                               ^
 *       +--an agent does not start, a helper dies-------+
 *
 * Parts report that something has changed (crewd_progress); what follows from it is decided once an iteration, before
 * the loop sleeps, so no part is ever re-entered from its own callbacks.
 */
#include "crewd.h"

#include "adopt.h"
#include "apply.h"
#include "approvals.h"
#include "checkpoint.h"
#include "common/util.h"
#include "control.h"
#include "crew_log.h"
#include "crewd_parts.h"
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
#include "manager.h"
#include "orphans.h"
#include "requests.h"
#include "router.h"
#include "rundir.h"
#include "scheduler.h"
#include "spawner.h"
#include "state_dir.h"
#include "syncer.h"
#include "text.h"
#include "toolgate.h"
#include "usage.h"
#include "voting.h"
#include "webhook.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <time.h>

#define FLUSH_NS 1500000000ull /* for evidence of the last instances */
#define DRAIN_NS 2000000000ull /* for clients to take their last frames */
#define EXIT_KERNEL 69         /* this kernel lacks what a policy needs */
#define DEADLINE_LOOK_NS 1000000u
/* Turns of the loop before a deadline that was seen late is judged: a full socket is read in pieces of a page. */
#define LATE_NS 20000000u
#define LATE_TURNS 64u
#define LATE_TURNS_MIN 8u
#define LATE_TURNS_NS 500000000u
#define SYNC_PARTS 8u /* within 100 ms each agent had its turn */
#define SYNC_STEP_MS 12

/* --- telling --- */

/* The log may drop: a reader of standard error that has stopped reading must not stop the crew. */
static void write_log(const char *line) {
        struct pollfd p = {.fd = STDERR_FILENO, .events = POLLOUT};

        if (poll(&p, 1, 0) == 1 && (p.revents & POLLOUT))
                fprintf(stderr, "crewd: %s\n", line);
}

void crewd_log(struct crewd *c, const char *fmt, ...) {
        char raw[2048], line[2048];
        va_list ap;

        va_start(ap, fmt);
        vsnprintf(raw, sizeof(raw), fmt, ap);
        va_end(ap);
        text_copy(line, sizeof(line), raw, SIZE_MAX);
        write_log(line);
        /* An event that cannot be sent is logged too: that line is for standard error alone. */
        if (!c->events || c->logging)
                return;
        c->logging = true;
        events_text(c->events, "log", line);
        c->logging = false;
}

static void tell_starter(struct crewd *c, const char *text) {
        if (c->ready_fd < 0)
                return;
        (void)!crew_write_full(c->ready_fd, text, strlen(text));
        crew_close(&c->ready_fd);
}

static void fail(struct crewd *c, uint64_t grace_ms, const char *text) {
        char line[1100];

        if (!c->failed) {
                crewd_log(c, "%s", text);
                snprintf(line, sizeof(line), "error: %.1024s\n", text);
                tell_starter(c, line);
        }
        c->failed = true;
        crewd_stop(c, grace_ms, text);
}

void crewd_fail(struct crewd *c, const char *fmt, ...) {
        char text[1024];
        va_list ap;

        va_start(ap, fmt);
        vsnprintf(text, sizeof(text), fmt, ap);
        va_end(ap);
        fail(c, 0, text);
}

void crewd_give_up(struct crewd *c, const char *text) {
        fail(c, CREWD_STOP_GRACE_MS, text);
}

/* --- finding --- */

struct agent *crewd_agent_by_id(struct crewd *c, uint32_t id) {
        uint32_t index = id & ((1u << INSTANCE_INDEX_BITS) - 1);

        if (index >= c->n_agents || c->agents[index].incarnation != id >> INSTANCE_INDEX_BITS)
                return NULL;
        return &c->agents[index];
}

struct agent *crewd_agent_by_name(struct crewd *c, const char *name) {
        for (uint32_t i = 0; i < c->n_agents; i++) {
                if (agent_present(&c->agents[i]) && strcmp(c->agents[i].name, name) == 0)
                        return &c->agents[i];
        }
        return NULL;
}

void crewd_progress(struct crewd *c) {
        c->poke = true;
}

/* --- phases --- */

static bool has_process(const struct agent *a) {
        return a->state != AGENT_POLICY_ONLY;
}

static void start_agents(struct crewd *c) {
        c->agents_started = true;
        for (uint32_t i = 0; i < c->n_agents; i++) {
                if (has_process(&c->agents[i]) && agent_present(&c->agents[i]) && c->agents[i].state == AGENT_DECLARED)
                        starts_want(&c->agents[i]);
        }
}

static void fail_start(struct crewd *c, const struct agent *a) {
        const char *why = a->start_error[0] ? a->start_error : a->last ? a->last->death.reason : "unknown";

        if (!c->failed && (a->start_errno == ENOSYS || a->start_errno == EOPNOTSUPP))
                c->exit_status = EXIT_KERNEL;
        crewd_fail(c, "agent %s did not start: %s", agent_name(a), why);
}

static void check_start(struct crewd *c) {
        struct crew_err err = CREW_ERR_NULL;
        bool all = true;

        if (!evidence_settled(c->evidence) || !gateway_settled(c->gateway))
                return;
        if (c->legacy) {
                adopt_take(c, c->legacy);
                c->legacy = legacy_free(c->legacy);
                return;
        }
        if (!c->agents_started)
                start_agents(c);
        for (uint32_t i = 0; i < c->n_agents; i++) {
                const struct agent *a = &c->agents[i];
                if (!agent_present(a))
                        continue;
                if (a->state == AGENT_TERMINATED || a->state == AGENT_FAILED)
                        return fail_start(c, a);
                all &= !has_process(a) || ((a->state == AGENT_READY || a->state == AGENT_WORKING) && !health_starting(a));
        }
        if (!all)
                return;
        c->phase = CREWD_RUNNING;
        supervision_open(&c->supervision);
        if (c->checkpoint && checkpoint_arm(c->checkpoint, &err) < 0)
                crewd_log(c, "should crewd be lost, its agents end: %s", err.msg);
        tell_starter(c, "ready\n");
}

static void stop_agent(struct agent *a, uint64_t grace_ms, const char *reason) {
        if (!has_process(a) || !agent_present(a))
                return;
        if (!agent_state_live(a->state)) {
                a->restart_at_ns = 0;
                agent_event(a, AGENT_EV_STOP);
                return;
        }
        death_decide(a, CREW__CAUSE__CAUSE_SUPERVISOR_SHUTDOWN, "crewd", reason);
        /* What is frozen must not run once more. */
        if (grace_ms == 0 || hold_is_on(a))
                return death_kill(a, CREW__CAUSE__CAUSE_SUPERVISOR_SHUTDOWN, "crewd", reason);
        uint64_t by_ns = crew_now_ns() + grace_ms * 1000000u;
        a->in.stop_by_ns = a->in.stop_by_ns ? MIN_OF(a->in.stop_by_ns, by_ns) : by_ns;
        agent_event(a, AGENT_EV_STOP);
}

void crewd_stop(struct crewd *c, uint64_t grace_ms, const char *reason) {
        if (c->phase >= CREWD_FLUSHING)
                return;
        if (c->phase != CREWD_STOPPING) {
                text_copy(c->stop_reason, sizeof(c->stop_reason), reason, SIZE_MAX);
                c->phase = CREWD_STOPPING;
                apply_crew_stops(c->apply);
                checkpoint_disarm(c->checkpoint); /* what is being ended is not to be held */
                supervision_stop(&c->supervision);
                scheduler_stop(c->scheduler, "the crew is stopping", crew_now_ns());
                if (!c->failed) {
                        char line[sizeof(c->stop_reason) + 16];
                        snprintf(line, sizeof(line), "stopping: %s", c->stop_reason);
                        write_log(line); /* clients see it in the agents' states */
                }
        }
        for (uint32_t i = 0; i < c->n_agents; i++)
                stop_agent(&c->agents[i], grace_ms, c->stop_reason);
        crewd_progress(c);
}

static void check_stop(struct crewd *c) {
        for (uint32_t i = 0; i < c->n_agents; i++) {
                if (agent_state_live(c->agents[i].state))
                        return;
        }
        c->phase = CREWD_FLUSHING;
        c->flush_by_ns = crew_now_ns() + FLUSH_NS;
}

static void check_flush(struct crewd *c) {
        bool evidence = !gateway_idle(c->gateway);

        for (uint32_t i = 0; i < c->n_agents; i++) {
                death_tell_outside(&c->agents[i]); /* nobody comes after us */
                evidence |= c->agents[i].forgetting;
        }
        if (evidence && c->heard_ns < c->flush_by_ns)
                return;
        if ((!hooks_idle(c->hooks) || !webhook_idle(c->webhook) || !state_dirs_idle(c)) &&
            c->heard_ns < c->flush_by_ns + HOOKS_TIMEOUT_NS)
                return;
        for (uint32_t i = 0; i < c->n_agents; i++)
                journal_sync(&c->agents[i]);
        c->phase = CREWD_CLOSED;
        c->drain_by_ns = crew_now_ns() + DRAIN_NS;
        if (c->ready_fd >= 0)
                tell_starter(c, "error: stopped before it was ready\n");
        requests_crew_stopped(c);
        control_close(c->control, false);
}

static void check_drained(struct crewd *c) {
        if (c->heard_ns >= c->drain_by_ns)
                control_close(c->control, true);
        if (control_drained(c->control))
                crewd_parts_close(c);
}

static void progress(struct crewd *c) {
        while (c->poke) {
                uint64_t now = crew_now_ns();
                c->poke = false;
                scheduler_poke(c->scheduler, now);
                starts_poke(c, now);
                switch (c->phase) {
                case CREWD_STARTING:
                        check_start(c);
                        break;
                case CREWD_RUNNING:
                        apply_poke(c->apply, now);
                        if (c->ready_fd >= 0 && adopt_settled(c))
                                tell_starter(c, "ready\n");
                        break;
                case CREWD_STOPPING:
                        check_stop(c);
                        c->poke |= c->phase != CREWD_STOPPING;
                        break;
                case CREWD_FLUSHING:
                        check_flush(c);
                        c->poke |= c->phase != CREWD_FLUSHING;
                        break;
                case CREWD_CLOSED:
                        check_drained(c);
                        break;
                }
        }
}

/* --- time --- */

static bool any_live(const struct crewd *c) {
        for (uint32_t i = 0; i < c->n_agents; i++) {
                if (agent_state_live(c->agents[i].state))
                        return true;
        }
        return false;
}

/* All at once: their answers then come a few turns of the loop after, and not each in a turn of its own. */
static void ping_all(struct crewd *c, uint64_t now) {
        if (now < c->next_ping_ns)
                return;
        c->next_ping_ns = now + AGENT_PING_NS;
        for (uint32_t i = 0; i < c->n_agents; i++)
                instance_ping(&c->agents[i]);
}

static void expire(struct crewd *c, uint64_t now) {
        evidence_expire(c->evidence, now);
        gateway_expire(c->gateway, now);
        hooks_expire(c->hooks, now);
        webhook_expire(c->webhook, now);
        router_expire(c->router, now);
        toolgate_expire(c->tools, now);
        scheduler_expire(c->scheduler, now);
        manager_expire(c->manager, now);
        voting_expire(c->voting, now);
        control_expire(c->control, now);
        approvals_expire(c, now);
        apply_expire(c->apply, now);
        requests_flush_status(c, now);
        for (uint32_t i = 0; i < c->n_agents; i++)
                instance_expire(&c->agents[i], now);
        ping_all(c, now);
        usage_expire(c, now);
        if (now >= c->sign_at_ns) {
                c->sign_at_ns = UINT64_MAX;
                crewd_mark_dirty(c);
        }
        if (c->phase >= CREWD_FLUSHING)
                crewd_progress(c);
}

static uint64_t next_deadline(const struct crewd *c) {
        uint64_t next = MIN_OF(router_next_deadline(c->router), toolgate_next_deadline(c->tools));

        next = MIN_OF(next, scheduler_next_deadline(c->scheduler));
        next = MIN_OF(next, manager_next_deadline(c->manager));
        next = MIN_OF(next, voting_next_deadline(c->voting));
        next = MIN_OF(next, control_next_deadline(c->control));
        next = MIN_OF(next, approvals_next_deadline(c));
        next = MIN_OF(next, apply_next_deadline(c->apply));
        next = MIN_OF(next, requests_next_deadline(c));
        next = MIN_OF(next, evidence_settle_by(c->evidence));
        next = MIN_OF(next, gateway_next_deadline(c->gateway));
        next = MIN_OF(next, hooks_next_deadline(c->hooks));
        next = MIN_OF(next, webhook_next_deadline(c->webhook));
        next = MIN_OF(next, usage_next_deadline(c));
        next = MIN_OF(next, c->sign_at_ns);
        for (uint32_t i = 0; i < c->n_agents; i++)
                next = MIN_OF(next, instance_next_deadline(&c->agents[i]));
        if (c->phase == CREWD_FLUSHING) {
                bool over = c->heard_ns >= c->flush_by_ns;
                next = MIN_OF(next, over ? c->flush_by_ns + HOOKS_TIMEOUT_NS : c->flush_by_ns);
        }
        if (c->phase == CREWD_CLOSED)
                next = MIN_OF(next, c->drain_by_ns);
        return any_live(c) ? MIN_OF(next, c->next_ping_ns) : next;
}

/* How often the loop is to look for what has come in before what is due now is judged. */
static uint32_t turns_before(const struct crewd *c, uint64_t now) {
        bool stalled = c->deadline_ns > 1 && now - c->deadline_ns >= LATE_NS;

        return stalled ? LATE_TURNS : 1;
}

/*
 * Timers come before I/O: whoever was in time is heard only after his deadline's timer, if the machine, or we, stood still
 * meanwhile.  So what is due is judged a turn later, by the time that it was then; after a standstill many turns later.
 */
static void on_wake(uv_timer_t *t) {
        struct crewd *c = t->data;
        uint64_t now = crew_now_ns(), before = c->turn_ns;

        c->wake_at_ns = c->turn_ns = 0;
        if (!before) {
                if (now < c->deadline_ns)
                        return;
                c->turns = 0;
                c->turns_max = turns_before(c, now);
                c->turns_by_ns = now + LATE_TURNS_NS;
        } else if (++c->turns >= c->turns_max || (c->turns >= LATE_TURNS_MIN && now >= c->turns_by_ns)) {
                c->heard_ns = before;
                expire(c, before);
                c->deadline_look_ns = 0; /* what was due is another one now */
                return;
        }
        c->turn_ns = now;
}

/* When to wake up.  Everybody is asked for it, and under load that is once a millisecond: finer the timer is not. */
static uint64_t look_for_deadline(struct crewd *c, uint64_t now) {
        if (now >= c->deadline_look_ns + DEADLINE_LOOK_NS) {
                c->deadline_look_ns = now;
                return c->deadline_ns = MAX_OF(next_deadline(c), 1u); /* 0 is for a timer that does not run */
        }
        return MIN_OF(c->deadline_ns, c->deadline_look_ns + DEADLINE_LOOK_NS);
}

/* Waiting in the poll would be the end of it: the first to say something would wake us. */
static void rest(struct crewd *c) {
        uint64_t ns = coalesce_rest_ns(&c->coalesce, crew_now_ns());
        struct timespec time = {0, (long)ns};

        if (ns)
                nanosleep(&time, NULL);
}

void crewd_before_sleep(uv_prepare_t *h) {
        struct crewd *c = h->data;

        progress(c);
        if (c->checkpoint)
                checkpoint_commit(c->checkpoint);
        else
                control_flush(c->control);
        rest(c);
        if (uv_is_closing((uv_handle_t *)&c->wake))
                return;
        uint64_t now = crew_now_ns(), next = c->turn_ns ? c->turn_ns : look_for_deadline(c, now);
        if (next == c->wake_at_ns)
                return;
        c->wake_at_ns = next;
        if (next == UINT64_MAX) {
                uv_timer_stop(&c->wake);
                return;
        }
        uv_update_time(&c->loop);
        /* Rounded up: waking too early would only make one more turn. */
        uv_timer_start(&c->wake, on_wake, next > now ? (next - now + 999999u) / 1000000u : 0, 0);
}

/* --- audit to disk --- */

/* Some of the agents each time, so that with many no turn of the loop is long and the disk has no burst to take. */
static void on_sync(uv_timer_t *t) {
        struct crewd *c = t->data;

        c->sync_left--;
        if (c->sync_part == 0)
                crew_log_sync_later(c->crew_log);
        for (uint32_t i = c->sync_part; i < c->n_agents; i += SYNC_PARTS)
                journal_sync_later(&c->agents[i]);
        syncer_begin(c->syncer);
        c->sync_part = (c->sync_part + 1) % SYNC_PARTS;
        if (c->sync_left > 0)
                uv_timer_start(&c->sync, on_sync, SYNC_STEP_MS, 0);
}

void crewd_mark_dirty(struct crewd *c) {
        c->sync_left = SYNC_PARTS; /* once all the way round */
        if (c->sync_ready && !uv_is_active((uv_handle_t *)&c->sync) && !uv_is_closing((uv_handle_t *)&c->sync))
                uv_timer_start(&c->sync, on_sync, SYNC_STEP_MS, 0);
}

void crewd_sign_at(struct crewd *c, uint64_t ns) {
        c->sign_at_ns = MIN_OF(c->sign_at_ns, ns);
}

/* --- all of it --- */

/* What the crewd before left behind, said once and put on record: what happened in between is nobody's evidence. */
static void report_predecessor(struct crewd *c) {
        if (rundir_predecessor(c->rundir) == 0)
                return;
        crewd_log(c, "%s", rundir_found(c->rundir));
        for (uint32_t i = 0; i < c->n_agents; i++)
                journal_evidence_lost(&c->agents[i], "crewd", 0, rundir_found(c->rundir));
}

static int report_former(struct crewd *c, struct crew_err *err) {
        report_predecessor(c);
        int r = c->legacy ? 0 : orphans_report(c);
        return r < 0 ? crew_fail(err, -r, "what became of agents of an earlier crewd cannot be told: %s", strerror(-r)) : 0;
}

int crewd_run(struct crewd_setup *setup) {
        static struct crewd c; /* one crew a process; too large for the stack's taste */
        struct crew_err err = CREW_ERR_NULL;

        c = (struct crewd){.file = setup->file,
                           .states_fd = -1,
                           .sign_at_ns = UINT64_MAX,
                           .lock = setup->lock,
                           .paths = setup->paths,
                           .rundir = setup->rundir,
                           .root_mode = geteuid() == 0,
                           .exit_status = 1,
                           .started_ns = crew_now_ns(),
                           .ready_fd = setup->ready_fd,
                           .owner_fd = setup->owner_fd};
        starts_init(&c.starts);
        supervision_init(&c.supervision, &c.file->supervision);
        c.next_ping_ns = c.started_ns + AGENT_PING_NS;
        memcpy(c.crew_path, setup->crew_path, sizeof(c.crew_path));
        snprintf(c.audit_dir, sizeof(c.audit_dir), "%.*s/%s/audit", PATH_MAX - 128, c.paths.state, c.file->name);
        snprintf(c.out_dir, sizeof(c.out_dir), "%.*s/%s/out", PATH_MAX - 128, c.paths.state, c.file->name);
        c.legacy = setup->legacy;
        int r = c.legacy ? adopt_put_on_record(&c, c.legacy, &err) : 0;
        if (r == 0)
                r = crewd_parts_open(&c, setup, &err);
        if (r == 0 && c.legacy)
                r = adopt_load(&c, c.legacy, &err);
        if (r == 0)
                r = report_former(&c, &err);
        if (r < 0) {
                char line[CREW_ERR_MSG_MAX + 16];
                snprintf(line, sizeof(line), "error: %s\n", err.msg);
                tell_starter(&c, line);
                write_log(err.msg);
                c.failed = true;
                crewd_parts_close(&c);
        } else {
                hooks_run(c.hooks);
                crewd_progress(&c);
        }
        if (c.loop_ready)
                uv_run(&c.loop, UV_RUN_DEFAULT);
        crewd_parts_free(&c);
        return c.failed ? c.exit_status : 0;
}
