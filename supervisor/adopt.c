/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Trusts the spawner, and the state that the crewd before has left with it.  Trusts nothing a worker says on its return:
 * what it claims to have seen must lie between what was sent and what was acknowledged.
 */
#include "adopt.h"

#include "channel.h"
#include "checkpoint.h"
#include "common/held_note.h"
#include "common/util.h"
#include "crewd.h"
#include "death.h"
#include "dispatch.h"
#include "execs.h"
#include "gateway_client.h"
#include "health.h"
#include "hold.h"
#include "instance.h"
#include "journal.h"
#include "late_result.h"
#include "link.h"
#include "orphans.h"
#include "outbox.h"
#include "router.h"
#include "rundir.h"
#include "scheduler.h"
#include "spawner.h"
#include "status.h"
#include "supervision.h"
#include "toolgate.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/time.h>

#define PATIENCE_S 5
#define KNOCKS 100
#define KNOCK_US 10000
#define JAILS_MAX (1u << INSTANCE_INDEX_BITS)
#define AGAIN_MAX 65536u /* frames of one worker that the crewd before may have missed */

struct jail_left {
        uint32_t id, which; /* bits of enum spawn_fd */
        struct spawn_attestation att;
        int fds[CHANNEL_FDS_MAX]; /* owned */
        size_t n_fds;
        char killed_why[HELD_REASON_MAX]; /* by hand, and it has not ended yet; "": it was not */
        uint32_t killed_uid;
        bool taken;
};

struct legacy {
        int spawner, state; /* owned */
        pid_t spawner_pid;
        int predecessor; /* pid */
        uint64_t lost_ms;
        struct jail_left *jails; /* n */
        struct spawn_msg *ends;  /* n */
        size_t n_jails, n_ends;
        uint8_t *saved;
        size_t n_saved;
};

struct legacy *legacy_free(struct legacy *l) {
        if (!l)
                return NULL;
        for (size_t i = 0; i < l->n_jails; i++) {
                for (size_t k = 0; k < l->jails[i].n_fds; k++)
                        crew_close(&l->jails[i].fds[k]);
        }
        crew_close(&l->spawner);
        crew_close(&l->state);
        free(l->jails);
        free(l->ends);
        free(l->saved);
        free(l);
        return NULL;
}

int legacy_take_spawner(struct legacy *l) {
        return crew_steal_fd(&l->spawner);
}

int legacy_watch_spawner(const struct legacy *l) {
        return (int)syscall(SYS_pidfd_open, l->spawner_pid, 0);
}

int legacy_take_state(struct legacy *l) {
        return crew_steal_fd(&l->state);
}

/* --- finding --- */

static int add_jail(struct legacy *l, const struct spawn_msg *m, int *fds, size_t n_fds) {
        struct jail_left *more = l->n_jails < JAILS_MAX ? reallocarray(l->jails, l->n_jails + 1, sizeof(*more)) : NULL;

        if (!more)
                return -ENOMEM;
        l->jails = more;
        struct jail_left *j = &l->jails[l->n_jails++];
        *j = (struct jail_left){.id = m->id, .which = m->cookie, .att = m->att, .killed_uid = (uint32_t)m->errno_};
        snprintf(j->killed_why, sizeof(j->killed_why), "%.*s", (int)sizeof(j->killed_why) - 1, m->text);
        for (; j->n_fds < n_fds; j->n_fds++)
                j->fds[j->n_fds] = crew_steal_fd(&fds[j->n_fds]);
        return 0;
}

static int add_end(struct legacy *l, const struct spawn_msg *m) {
        struct spawn_msg *more = l->n_ends < 2 * JAILS_MAX ? reallocarray(l->ends, l->n_ends + 1, sizeof(*more)) : NULL;

        if (!more)
                return -ENOMEM;
        l->ends = more;
        l->ends[l->n_ends] = *m;
        l->ends[l->n_ends++].text[sizeof(m->text) - 1] = '\0';
        return 0;
}

/* 1: that was the last one. */
static int take_message(struct legacy *l) {
        int fds[CHANNEL_FDS_MAX], r = 0;
        size_t n_fds = ELEMENTSOF(fds);
        struct spawn_msg m;
        ssize_t n = crew_recv_fds(l->spawner, &m, sizeof(m), fds, &n_fds, 0);

        if (n < 0)
                return (int)n;
        if (n == 0)
                r = -ECONNRESET;
        else if (n != (ssize_t)sizeof(m))
                r = -EPROTO;
        else if (m.op == SPAWN_HELD)
                r = add_jail(l, &m, fds, n_fds);
        else if (m.op == SPAWN_EXITED)
                r = add_end(l, &m);
        else if (m.op == SPAWN_HELD_END && n_fds == 1) {
                l->state = crew_steal_fd(&fds[0]);
                l->lost_ms = m.hold.lost_ms;
                l->spawner_pid = m.hold.pid;
                r = 1;
        }
        for (size_t i = 0; i < n_fds; i++)
                crew_close(&fds[i]);
        return r;
}

static int ask(struct legacy *l, const struct rundir *rundir, struct crew_err *err) {
        const struct timeval patience = {.tv_sec = PATIENCE_S};
        struct spawn_msg m = {.op = SPAWN_ADOPT};
        int r = rundir_token(rundir, m.hold.token);

        if (r == 0 && setsockopt(l->spawner, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience)) < 0)
                r = -errno;
        if (r == 0) {
                ssize_t n = crew_send_fds(l->spawner, &m, sizeof(m), NULL, 0);
                r = n < 0 ? (int)n : 0;
        }
        while (r == 0)
                r = take_message(l);
        return r < 0 ? crew_fail(err, -r, "agents of this crew are held, but cannot be taken over: %s", strerror(-r)) : 0;
}

/* Whoever comes before the spawner has noticed that its crewd is gone is turned away, and comes again. */
static int knock(const struct rundir *rundir, struct legacy **out, struct crew_err *err) {
        int r = -ECONNRESET;

        for (int i = 0; i < KNOCKS && (r == -ECONNRESET || r == -EPIPE); i++) {
                if (i > 0)
                        usleep(KNOCK_US);
                int fd = rundir_connect(rundir);
                if (fd == -ENOENT || fd == -ECONNREFUSED)
                        return 0; /* nobody listens there */
                if (fd < 0)
                        return crew_fail(err, -fd, "cannot see whether agents of this crew are held: %s", strerror(-fd));
                struct legacy *l = calloc(1, sizeof(*l));
                if (!l) {
                        close(fd);
                        return crew_fail(err, ENOMEM, "out of memory");
                }
                l->spawner = fd;
                l->state = -1;
                r = ask(l, rundir, err);
                *out = r < 0 ? legacy_free(l) : l;
        }
        return r;
}

int adopt_find(const struct rundir *rundir, const struct crew_file *file, struct legacy **out, struct crew_err *err) {
        const struct crewd like = {.file = (struct crew_file *)file};
        struct legacy *l = NULL;

        *out = NULL;
        int r = knock(rundir, &l, err);
        if (r < 0 || !l)
                return r;
        if (r == 0)
                r = checkpoint_read(l->state, &l->saved, &l->n_saved, err);
        if (r == 0)
                r = checkpoint_fits(&like, l->saved, l->n_saved, err);
        if (r < 0) {
                size_t n = l->n_jails;
                legacy_free(l);
                crew_err_add(err, "%zu agent%s of this crew outlived %s crewd", n, n == 1 ? "" : "s",
                             n == 1 ? "its" : "their");
                return r;
        }
        *out = l;
        return 0;
}

/* --- taking over --- */

static struct jail_left *jail_of(struct legacy *l, uint32_t id) {
        for (size_t i = 0; i < l->n_jails; i++) {
                if (id != 0 && l->jails[i].id == id)
                        return &l->jails[i];
        }
        return NULL;
}

/* The locks are of the one file each that we would have opened; what this process has taken meanwhile goes back. */
static void take_locks(struct agent *a, struct jail_left *j) {
        size_t at = (j->which & SPAWN_FD_LISTENERS ? 4 : 0) + (j->which & SPAWN_FD_NOTIFY ? 1 : 0);

        if (a->crewd->root_mode && at < j->n_fds) {
                crew_close(&a->uid_lock);
                a->uid_lock = crew_steal_fd(&j->fds[at++]);
        }
        if (a->state_path[0] && at < j->n_fds)
                a->state_lock = crew_steal_fd(&j->fds[at]);
        a->host_uid = j->att.host_uid;
        a->host_gid = j->att.host_gid;
}

static bool as_written(const struct agent *a) {
        return (a->state == AGENT_READY || a->state == AGENT_WORKING) && a->in.attested && a->in.greeted && !a->in.cut &&
               !a->in.kill_sent && !a->in.exited && !a->frozen && !a->lost.reloaded;
}

static void end_it(struct agent *a, Crew__Cause cause, const char *initiator, const char *why) {
        a->frozen = false;
        outbox_clear(&a->in.outbox);
        a->in.resuming = false;
        if (a->in.kill_sent) /* whoever decided that is gone, and perhaps the order with him */
                spawner_ask(a->crewd->spawner, a->in.id, SPAWN_KILL);
        else
                death_kill(a, cause, initiator, why);
}

static void give_up(struct agent *a, const char *why) {
        end_it(a, CREW__CAUSE__CAUSE_SUPERVISOR_LOST, "crewd", why);
}

/* It dies slowly. */
static void go_on_killing(struct agent *a, const struct jail_left *j) {
        char by[32];

        held_initiator(j->killed_uid, by, sizeof(by));
        end_it(a, CREW__CAUSE__CAUSE_OPERATOR, by, j->killed_why);
}

static void adopt_one(struct agent *a, struct jail_left *j) {
        struct crew_err err = CREW_ERR_NULL;

        j->taken = true;
        audit_set_incarnation(a->audit, a->incarnation);
        take_locks(a, j);
        if (*j->killed_why)
                return go_on_killing(a, j);
        if (a->lost.reloaded)
                return give_up(a, "its policy was reloaded while it ran, and its crewd was lost: it cannot be taken over");
        if (!as_written(a))
                return give_up(a, "it was starting or ending when its crewd was lost");
        hold_ask_again(a);
        late_result_ask_again(a);
        int r = instance_adopt(a, j->which, j->fds, &err);
        if (r < 0) {
                char why[CREW_ERR_MSG_MAX + 64];
                snprintf(why, sizeof(why), "it cannot be taken over: %.400s", err.msg);
                give_up(a, why);
        }
}

/* Its end is known to the spawner only, or to nobody. */
static void end_one(struct agent *a, const struct legacy *l) {
        struct spawn_exit gone = {.code = -1, .signal = SIGKILL};

        audit_set_incarnation(a->audit, a->incarnation);
        for (size_t i = 0; i < l->n_ends; i++) {
                const struct spawn_msg *m = &l->ends[i];
                if (m->id != a->in.id)
                        continue;
                gone = m->exit;
                if (*m->text) {
                        char by[32];
                        held_initiator(m->cookie, by, sizeof(by));
                        death_decide(a, CREW__CAUSE__CAUSE_OPERATOR, by, m->text);
                }
        }
        a->in.hung_up = true; /* what it said last was lost with its crewd */
        outbox_clear(&a->in.outbox);
        death_on_exited(a, &gone);
}

/* What was begun after the state was written down has no place in it. */
static void end_unknown(struct crewd *c, struct legacy *l) {
        for (size_t i = 0; i < l->n_jails; i++) {
                uint32_t index = l->jails[i].id & ((1u << INSTANCE_INDEX_BITS) - 1);
                if (l->jails[i].taken || index >= c->n_agents)
                        continue;
                spawner_ask(c->spawner, l->jails[i].id, SPAWN_KILL);
                c->agents[index].incarnation = MAX_OF(c->agents[index].incarnation, l->jails[i].id >> INSTANCE_INDEX_BITS);
        }
        for (size_t i = 0; i < l->n_ends; i++)
                checkpoint_forget(c->checkpoint, l->ends[i].id);
}

/* What was frozen when it was lost has been put off for as long as it lasts. */
static void put_off(struct crewd *c, uint64_t ns) {
        for (uint32_t i = 0; i < c->n_agents; i++) {
                struct agent *a = &c->agents[i];
                health_put_off(a, ns);
                if (hold_is_on(a))
                        continue;
                scheduler_put_off(c->scheduler, i, ns, crew_now_ns());
                toolgate_put_off(c->tools, i, (int64_t)ns);
        }
        router_put_off(c->router, (int64_t)ns);
}

/* Once for each moment: a crewd in between may have done so, and been lost before it did anything else. */
static void account_for_loss(struct crewd *c, uint64_t lost_ms) {
        uint64_t now = crew_now_ns(), since = now - MIN_OF(now, lost_ms * 1000000u);

        since = MAX_OF(since, MIN_OF(c->lost_until_ns, now));
        put_off(c, now - since);
        c->lost_until_ns = now;
}

int adopt_put_on_record(const struct crewd *c, const struct legacy *l, struct crew_err *err) {
        return checkpoint_put_on_record(c, l->saved, l->n_saved, err);
}

int adopt_load(struct crewd *c, struct legacy *l, struct crew_err *err) {
        int r = checkpoint_load(c, l->saved, l->n_saved, &l->predecessor, err);

        if (r < 0)
                return r;
        /* The end of one can be heard before it is taken over. */
        for (uint32_t i = 0; i < c->n_agents; i++) {
                if (agent_state_live(c->agents[i].state))
                        audit_set_incarnation(c->agents[i].audit, c->agents[i].incarnation);
        }
        account_for_loss(c, l->lost_ms);
        checkpoint_armed(c->checkpoint);
        return 0;
}

void adopt_take(struct crewd *c, struct legacy *l) {
        uint32_t n = 0;

        c->phase = CREWD_RUNNING;
        c->agents_started = true;
        c->spawner_pid = l->spawner_pid;
        for (uint32_t i = 0; i < c->n_agents; i++) {
                struct agent *a = &c->agents[i];
                struct jail_left *j = jail_of(l, a->in.id);
                journal_supervisor_lost(a, l->predecessor, l->lost_ms);
                if (!agent_state_live(a->state))
                        continue;
                if (j)
                        adopt_one(a, j);
                else
                        end_one(a, l);
                n += j != NULL;
        }
        end_unknown(c, l);
        execs_client_gone(c->execs, 0);
        crewd_log(c, "took over %u agent%s of crewd process %d, which was lost %llu ms ago", n, n == 1 ? "" : "s",
                  l->predecessor, (unsigned long long)l->lost_ms);
        crewd_progress(c);
}

bool adopt_settled(const struct crewd *c) {
        for (uint32_t i = 0; i < c->n_agents; i++) {
                if (c->agents[i].in.resuming && !c->agents[i].hold.on)
                        return false;
        }
        return true;
}

/* --- its worker comes back --- */

static void answer(struct agent *a) {
        Crew__Envelope e = CREW__ENVELOPE__INIT;
        Crew__ResumeFrom body = CREW__RESUME_FROM__INIT;
        _cleanup_free_ uint8_t *bytes = NULL;
        size_t n;

        body.received = a->in.seq_in;
        e.version = 1;
        e.seq = 1;
        e.body_case = CREW__ENVELOPE__BODY_RESUME_FROM;
        e.resume_from = &body;
        if (ipc_pack(&e, 0, &bytes, &n, NULL) == 0)
                (void)link_send(a->in.link, bytes, n); /* should the link be down, it is heard of otherwise */
}

static const char *wrong_with(const struct agent *a, const Crew__Envelope *e) {
        const Crew__Resume *b = e->resume;
        uint64_t first = outbox_first(&a->in.outbox);

        if (e->body_case != CREW__ENVELOPE__BODY_RESUME || e->seq != 1)
                return "is not the first word on a link that was made again";
        if (b->incarnation != a->incarnation)
                return "is not this link's instance";
        if (b->received > a->in.seq_out || (first ? b->received + 1 < first : b->received != a->in.seq_out))
                return "claims to have received what cannot be";
        if (b->sent < a->in.seq_in || b->sent - a->in.seq_in > AGAIN_MAX)
                return "claims to have sent what cannot be";
        return NULL;
}

void adopt_on_resume(struct agent *a, const Crew__Envelope *e) {
        const char *wrong = wrong_with(a, e);

        if (wrong)
                return dispatch_violation(a, "resume", "", wrong, true);
        a->in.resuming = false;
        a->in.ready_by_ns = 0;
        a->in.pings_lost = 0;
        outbox_acknowledged(&a->in.outbox, e->resume->received);
        outbox_rewind(&a->in.outbox);
        journal_adopted(a, e->resume->sent - a->in.seq_in, a->in.outbox.n_unsent);
        answer(a);
        status_announce_agent(a);
        router_agent_up(a->crewd->router, a->index, crew_now_ns());
        crewd_progress(a->crewd);
}
