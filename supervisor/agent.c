/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An agent's state and what each action of the table does.  The instance itself is made in instance.c and buried in
 * death.c.
 */
#include "agent.h"

#include "common/uids.h"
#include "common/util.h"
#include "crew_log.h"
#include "crewd.h"
#include "death.h"
#include "instance.h"
#include "journal.h"
#include "link.h"
#include "manager.h"
#include "router.h"
#include "scheduler.h"
#include "starters.h"
#include "status.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

void agent_renew_restarts(struct agent *a) {
        uint32_t total = a->restart.total;

        restart_init(&a->restart, a->decl->restart_max, a->decl->restart_within_ms * 1000000u,
                     crew_realtime_ns() ^ (uint64_t)a->index << 40);
        a->restart.total = total;
}

int agent_init(struct agent *a, struct crewd *c, const struct crew_file *file, uint32_t index, struct crew_err *err) {
        const struct crew_agent *decl = &file->agents[index];

        *a = (struct agent){.crewd = c,
                            .decl = decl,
                            .file = file,
                            .index = index,
                            .uid_lock = -1,
                            .ahead = {.fd = -1},
                            .state_lock = -1,
                            .host_uid = getuid(),
                            .host_gid = getgid()};
        snprintf(a->name, sizeof(a->name), "%s", decl->name);
        meter_init(&a->alerts, AGENT_ALERTS_BURST, AGENT_ALERTS_RATE, crew_now_ns());
        a->state = decl->orchestrator ? AGENT_POLICY_ONLY : AGENT_DECLARED;
        agent_renew_restarts(a);
        int r = audit_open(c->audit_dir, file->name, decl->name, crew_log_key(c->crew_log), &a->audit, err);
        if (r < 0)
                return r;
        crewd_mark_dirty(c); /* opening has written a record */
        a->audit_dirty = true;
        if (!decl->orchestrator)
                snprintf(a->state_path, sizeof(a->state_path), "%.*s/%s", PATH_MAX - 80, c->states_dir, decl->name);
        if (decl->orchestrator)
                return journal_policy(a, NULL) < 0 ? crew_fail(err, EIO, "the audit stream cannot be written") : 0;
        if (c->root_mode) {
                r = uids_take(&a->host_uid, &a->uid_lock, err);
                a->host_gid = a->host_uid;
        }
        return r;
}

void agent_fini(struct agent *a) {
        starts_unwant(a);
        instance_clear(a);
        journal_sign_last(a);
        a->audit = audit_close(a->audit);
        crew_close(&a->uid_lock);
        crew_close(&a->state_lock);
        instance_forget_ahead(a);
        free(crew_steal_ptr(&a->last));
        free(crew_steal_ptr(&a->decoys));
}

void agent_take_file(struct agent *a, const struct crew_file *file) {
        const struct crew_agent *was = a->decl, *is = &file->agents[a->index];

        crew_assert(!is->absent && strcmp(a->name, is->name) == 0);
        a->file = file;
        a->decl = is;
        instance_forget_ahead(a); /* a plan after the old one */
        if (was->restart_max != is->restart_max || was->restart_within_ms != is->restart_within_ms)
                agent_renew_restarts(a);
}

const char *agent_name(const struct agent *a) {
        return a->name;
}

const struct policy_image *agent_jail_policy(const struct agent *a) {
        return a->jail_policy ? a->jail_policy : a->decl->policy;
}

bool agent_usable(const struct agent *a) {
        return (a->state == AGENT_READY || a->state == AGENT_WORKING) && a->in.link && !a->in.cut && !a->in.exited &&
               !a->frozen && !a->hold.on;
}

bool agent_present(const struct agent *a) {
        if (a->gone)
                return agent_state_live(a->state);
        return !a->decl->instance || agent_state_live(a->state) || a->state == AGENT_RESTARTING;
}

bool agent_coming(const struct agent *a) {
        enum crewd_phase phase = a->crewd->phase;

        if ((phase != CREWD_STARTING && phase != CREWD_RUNNING) || !agent_present(a))
                return false;
        return a->state == AGENT_RESTARTING || a->state == AGENT_DECLARED || (a->state == AGENT_SPAWNING && !a->in.cut);
}

/* --- actions --- */

static void do_nothing(struct agent *a) {
        (void)a;
}

static void do_announce(struct agent *a) {
        starts_leave_place(a);
        a->in.idle_ns = crew_now_ns();
        router_agent_up(a->crewd->router, a->index, crew_now_ns());
        manager_up(a->crewd, a);
}

static void do_shutdown(struct agent *a) {
        Crew__Shutdown body = CREW__SHUTDOWN__INIT;
        Crew__Envelope e = CREW__ENVELOPE__INIT;
        uint64_t now = crew_now_ns();

        body.grace_ms = a->in.stop_by_ns > now ? (a->in.stop_by_ns - now) / 1000000u : 0;
        body.reason = a->in.death.reason;
        e.body_case = CREW__ENVELOPE__BODY_SHUTDOWN;
        e.shutdown = &body;
        agent_send_or_kill(a, &e);
}

static void do_wait(struct agent *a) {
        crew_assert(a->restart_at_ns != 0);
}

static void (*const actions[])(struct agent *a) = {
        [AGENT_DO_NOTHING] = do_nothing,   [AGENT_DO_SPAWN] = instance_spawn, [AGENT_DO_ANNOUNCE] = do_announce,
        [AGENT_DO_SHUTDOWN] = do_shutdown, [AGENT_DO_KILL] = instance_kill,   [AGENT_DO_BURY] = death_bury,
        [AGENT_DO_WAIT] = do_wait,
};
static_assert(ELEMENTSOF(actions) == AGENT_ACTION_N, "a function for each action");

bool agent_event(struct agent *a, enum agent_event event) {
        struct agent_step step = agent_fsm_step(a->state, event);
        enum agent_state before = a->state;

        if (!step.legal) {
                crewd_log(a->crewd, "agent %s: event %s means nothing in state %s", agent_name(a), agent_event_names[event],
                          agent_state_names[a->state]);
                return false;
        }
        a->state = step.next;
        if (step.next != before)
                starts_unwant(a);
        if (before == AGENT_RESTARTING && step.next != AGENT_SPAWNING && step.next != before)
                instance_forget_ahead(a); /* no next one is due any more */
        /* A death is announced by its own record first (death.c). */
        if (step.next != before && step.action != AGENT_DO_BURY)
                status_announce_agent(a);
        actions[step.action](a);
        if (step.action != AGENT_DO_BURY) /* nor is it over with that (death.c) */
                starters_look(a);
        crewd_progress(a->crewd);
        return true;
}

void agent_start(struct agent *a, uint64_t now_ns) {
        if (a->state == AGENT_DECLARED) {
                agent_event(a, AGENT_EV_START);
                return;
        }
        if (a->state == AGENT_TERMINATED || a->state == AGENT_FAILED) {
                a->restart_at_ns = now_ns;
                agent_event(a, AGENT_EV_RESTART);
        }
        if (a->state == AGENT_RESTARTING)
                a->restart_at_ns = MIN_OF(a->restart_at_ns, now_ns);
}

/* --- frames out --- */

size_t agent_queued(const struct agent *a, size_t *frames) {
        size_t n = 0, bytes = a->in.link ? link_queued(a->in.link, &n) : 0;

        if (frames)
                *frames = n + a->in.outbox.n_unsent;
        return bytes + a->in.outbox.unsent_bytes;
}

bool agent_takes_message(const struct agent *a) {
        size_t frames, bytes = agent_queued(a, &frames);

        return bytes == 0 || (bytes < AGENT_MESSAGES_BYTES && frames < AGENT_MESSAGES_MAX);
}

bool agent_takes_answer(const struct agent *a, size_t n) {
        size_t bytes = agent_queued(a, NULL);

        return n <= AGENT_SHORT_ANSWER || bytes == 0 || bytes + n <= AGENT_ANSWERS_BYTES;
}

/* Now, or when crewd's state is down. */
static int hand_over(struct agent *a, const uint8_t *bytes, size_t n) {
        size_t queued = agent_queued(a, NULL);

        if (!a->crewd->checkpoint)
                return link_send(a->in.link, bytes, n);
        if ((queued && queued + n > LINK_MAX_QUEUED_BYTES) || a->in.outbox.bytes > AGENT_KEPT_BYTES)
                return -EAGAIN;
        a->in.unacked = 0;
        a->in.unacked_bytes = 0;
        return outbox_add(&a->in.outbox, a->in.seq_out + 1, bytes, n);
}

int agent_send(struct agent *a, Crew__Envelope *e, uint64_t *seq) {
        struct crew_err err = CREW_ERR_NULL;
        _cleanup_free_ uint8_t *bytes = NULL;
        size_t n;

        if (!a->in.link || a->in.cut)
                return -EPIPE;
        e->version = 1;
        e->seq = a->in.seq_out + 1;
        e->ack = a->crewd->checkpoint ? a->in.seq_in : 0;
        int r = ipc_pack(e, 0, &bytes, &n, &err);
        if (r < 0) {
                crewd_log(a->crewd, "agent %s: cannot send %s: %s", agent_name(a), ipc_body_name(e), err.msg);
                return r;
        }
        r = hand_over(a, bytes, n);
        if (r < 0)
                return r;
        a->in.seq_out++;
        if (seq)
                *seq = e->seq;
        return 0;
}

void agent_send_or_kill(struct agent *a, Crew__Envelope *e) {
        int r = agent_send(a, e, NULL);

        if (r == -EAGAIN)
                death_limit(a, AGENT_QUEUE_LIMIT, "does not read its link: the queue is full");
        /* -EPIPE: its end is on the way; anything else was logged and is a bug of ours that must not stay unanswered. */
        else if (r < 0 && r != -EPIPE)
                death_kill(a, CREW__CAUSE__CAUSE_CRASH, "crewd", "a frame for it could not be made");
}
