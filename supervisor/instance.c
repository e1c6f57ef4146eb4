/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The instance of an agent.  Order of a start: policy record -> link listener -> plan to the spawner -> (child connects,
 * seals) -> attestation from outside, compared and recorded durably -> only then the first frame is looked at.
 * Frames that overtake the attestation wait in a small fixed place.
 */
#include "instance.h"

#include "apply.h"
#include "attest.h"
#include "common/plan.h"
#include "common/util.h"
#include "crewd.h"
#include "death.h"
#include "dispatch.h"
#include "evidence_client.h"
#include "gateway_client.h"
#include "health.h"
#include "hold.h"
#include "journal.h"
#include "link.h"
#include "rundir.h"
#include "spawner.h"
#include "state_dir.h"
#include "supervisor/policy/lock.h"
#include "supervisor/policy/planner.h"

#include <errno.h>
#include <string.h>

#define LINK_PATIENCE_NS 1000000000ull    /* between a lost link and the exit that should follow */
#define ENDED_PATIENCE_NS 5000000000ull   /* between a worker's last word and its end: it may still have to be heard */
#define RESUME_PATIENCE_NS 10000000000ull /* for an adopted worker to come back */
#define KILL_PATIENCE_NS 1000000000ull    /* between a kill and the link being closed as well */

/* --- making --- */

static int collect(const struct plan *plan, bool (*wanted)(const struct plan_mount *m), char **out, size_t *out_len) {
        size_t n = 0;

        for (uint32_t i = 0; i < plan->n_mounts; i++) {
                const struct plan_mount *m = plan_mount_at(plan, i);
                if (wanted(m))
                        n += strlen(plan_str(plan, m->dst)) + 1;
        }
        char *p = malloc(n + 1);
        if (!p)
                return -ENOMEM;
        *out = p;
        *out_len = n;
        for (uint32_t i = 0; i < plan->n_mounts; i++) {
                const struct plan_mount *m = plan_mount_at(plan, i);
                if (wanted(m))
                        p = stpcpy(p, plan_str(plan, m->dst)) + 1;
        }
        return 0;
}

static bool is_decoy(const struct plan_mount *m) {
        return m->kind == PLAN_MOUNT_DECOY_FILE || m->kind == PLAN_MOUNT_DECOY_DIR;
}

static bool is_watched(const struct plan_mount *m) {
        return m->flags & PLAN_MOUNT_WATCH;
}

static struct planner_input plan_input(const struct agent *a, uint32_t incarnation) {
        struct crewd *c = a->crewd;
        bool migrate = migrate_is_on(a);

        return (struct planner_input){
                .policy = a->decl->policy,
                .crew = a->file,
                .together = c->together,
                .agent = a->decl,
                .operator_home = getenv("HOME"),
                .incarnation = incarnation,
                .root_mode = c->root_mode,
                .host_uid = a->host_uid,
                .host_gid = a->host_gid,
                .owner_uid = geteuid(),
                .owner_gid = getegid(),
                .netrules = c->gateway != NULL && !migrate,
                .hold = c->checkpoint != NULL,
                .ca_bundle = migrate ? NULL : gateway_ca_bundle(c->gateway, a),
                .state_dir = migrate ? a->in.migrate.path : state_dir_path(a),
                .migrate = migrate ? &a->decl->migrate : NULL,
                .migrate_from = a->in.migrate.from,
                .notify = evidence_wants_notify(c->evidence),
                .landlock_log = evidence_wants_landlock(c->evidence),
        };
}

void instance_forget_ahead(struct agent *a) {
        free(crew_steal_ptr(&a->ahead.block));
        crew_close(&a->ahead.fd);
        if (a->ahead.link)
                link_close(a->ahead.link, NULL, NULL);
        a->ahead.link = NULL;
}

void instance_plan_ahead(struct agent *a) {
        struct plan_ahead *p = &a->ahead;
        const struct planner_input in = plan_input(a, a->incarnation + 1);

        instance_forget_ahead(a);
        if (!a->decl->orchestrator && planner_make(&in, &p->block, &p->n, NULL) == 0)
                p->made_for = in;
}

/* What can change between two plans of one agent by our own doing; files are looked at again by whoever mounts them. */
static bool is_for(const struct planner_input *a, const struct planner_input *b) {
        return a->incarnation == b->incarnation && a->agent == b->agent && a->netrules == b->netrules &&
               a->notify == b->notify && a->landlock_log == b->landlock_log && a->ca_bundle == b->ca_bundle &&
               a->migrate == b->migrate;
}

/* Tripwires, and what crew-evidence watches. */
static int take_paths(struct agent *a, const struct plan *plan) {
        free(crew_steal_ptr(&a->decoys));
        free(crew_steal_ptr(&a->in.watch));
        int r = collect(plan, is_decoy, &a->decoys, &a->decoys_len);
        return r < 0 ? r : collect(plan, is_watched, &a->in.watch, &a->in.watch_len);
}

static int make_plan(struct agent *a, int *plan_fd, struct crew_err *err) {
        const struct planner_input in = plan_input(a, a->incarnation);
        _cleanup_free_ void *block = crew_steal_ptr(&a->ahead.block);
        size_t n = a->ahead.n;

        _cleanup_close_ int sealed = crew_steal_fd(&a->ahead.fd);

        if (!block || !is_for(&a->ahead.made_for, &in)) {
                free(crew_steal_ptr(&block));
                crew_close(&sealed); /* never another's */
        }
        int r = block ? 0 : planner_make(&in, &block, &n, err);
        if (r != 0)
                return r > 0 ? -ENOEXEC : r;
        if (take_paths(a, block) < 0)
                return crew_fail(err, ENOMEM, "out of memory");
        *plan_fd = sealed >= 0 ? crew_steal_fd(&sealed) : crew_sealed_memfd("crew-plan", block, n, err);
        return *plan_fd < 0 ? *plan_fd : 0;
}

static void on_link_up(struct link *l, pid_t pid, uid_t uid, void *user);
static void on_link_frame(struct link *l, const uint8_t *bytes, size_t n, void *user);
static void on_link_down(struct link *l, int why, void *user);

static int listen_at(struct agent *a, uint32_t incarnation, char path[INSTANCE_LINK_PATH], struct link **out,
                     struct crew_err *err) {
        static const struct link_callbacks cb = {.on_up = on_link_up, .on_frame = on_link_frame, .on_down = on_link_down};
        int n = snprintf(path, INSTANCE_LINK_PATH, "%s/%u.%u", rundir_links(a->crewd->rundir), a->index, incarnation);

        if (n < 0 || n >= INSTANCE_LINK_PATH)
                return crew_fail(err, ENAMETOOLONG, "%s is too long for a socket; set CREWD_HOME to a shorter path",
                                 rundir_links(a->crewd->rundir));
        return *out ? 0 : link_listen(&a->crewd->loop, path, ipc_max_frame[IPC_WORKER], &cb, a, out, err);
}

static int listen_link(struct agent *a, struct crew_err *err) {
        if (a->ahead.link && a->ahead.incarnation != a->incarnation)
                link_close(crew_steal_ptr(&a->ahead.link), NULL, NULL);
        a->in.link = crew_steal_ptr(&a->ahead.link); /* nobody has a reason to have dialled it: what did is not heard */
        return listen_at(a, a->incarnation, a->in.link_path, &a->in.link, err);
}

void instance_prepare_ahead(struct agent *a) {
        struct plan_ahead *p = &a->ahead;
        char path[INSTANCE_LINK_PATH];

        instance_plan_ahead(a);
        if (!p->block)
                return;
        /* What fails here fails again, and is told, with the start. */
        p->fd = crew_sealed_memfd("crew-plan", p->block, p->n, NULL);
        p->incarnation = a->incarnation + 1;
        (void)listen_at(a, p->incarnation, path, &p->link, NULL);
}

/* The jail: as it is, or first one in which its state is migrated. */
static int begin_jail(struct agent *a, struct crew_err *err) {
        struct crewd *c = a->crewd;
        uint8_t network_sha256[CREW_SHA256_BYTES];
        bool network = c->gateway && !migrate_is_on(a);
        _cleanup_close_ int plan_fd = -1;
        int r;

        if (network && (r = gateway_prepare(c->gateway, a, network_sha256, err)) < 0)
                return r;
        if (journal_policy(a, network ? network_sha256 : NULL) < 0)
                return crew_fail(err, EIO, "its audit stream %s cannot be written", audit_path(a->audit));
        if ((r = make_plan(a, &plan_fd, err)) < 0 || (r = listen_link(a, err)) < 0)
                return r;
        int fds[1 + SPAWN_LOCKS_MAX] = {plan_fd};
        size_t n = 1;
        if (c->checkpoint && c->root_mode)
                fds[n++] = a->uid_lock;
        if (c->checkpoint && a->state_lock >= 0)
                fds[n++] = a->state_lock;
        return spawner_start(c->spawner, a->in.id, fds, n, a->in.link_path, err);
}

static int begin(struct agent *a, struct crew_err *err) {
        struct crewd *c = a->crewd;
        int r;

        if (a->incarnation >= 1u << (32 - INSTANCE_INDEX_BITS))
                return crew_fail(err, EOVERFLOW, "too many restarts");
        if (apply_lock(a) && (r = crew_lock_recheck(apply_lock(a), err)) < 0)
                return r;
        if ((r = evidence_suffices(c->evidence, c->root_mode, a->decl->policy, err)) < 0)
                return r;
        if ((r = state_dir_take(a, err)) < 0)
                return r;
        if ((r = migrate_begin(a, err)) < 0)
                return r;
        if (r > 0) { /* first a copy of its state, which may be large */
                starts_leave_place(a);
                return 0;
        }
        return begin_jail(a, err);
}

void instance_go_on(struct agent *a) {
        struct crew_err err = CREW_ERR_NULL;
        int r = begin_jail(a, &err);

        if (r < 0)
                instance_on_spawn_failed(a, -r, "prepare", err.msg);
}

static void on_unused_up(struct link *l, pid_t pid, uid_t uid, void *user) {
        (void)l, (void)pid, (void)uid, (void)user;
}

static void on_unused_frame(struct link *l, const uint8_t *bytes, size_t n, void *user) {
        (void)l, (void)bytes, (void)n, (void)user;
}

static void on_unused_down(struct link *l, int why, void *user) {
        (void)l, (void)why, (void)user;
}

void instance_warm_up(struct crewd *c) {
        static const struct link_callbacks cb = {
                .on_up = on_unused_up, .on_frame = on_unused_frame, .on_down = on_unused_down};
        char path[INSTANCE_LINK_PATH];
        struct link *l;

        int n = snprintf(path, sizeof(path), "%s/warm", rundir_links(c->rundir));
        /* What goes wrong here goes wrong again, and is told, with the first agent. */
        if (n > 0 && (size_t)n < sizeof(path) &&
            link_listen(&c->loop, path, ipc_max_frame[IPC_WORKER], &cb, NULL, &l, NULL) == 0)
                link_close(l, NULL, NULL);
}

void instance_spawn(struct agent *a) {
        struct crew_err err = CREW_ERR_NULL;
        uint64_t now = crew_now_ns();

        instance_clear(a);
        if (a->next)
                agent_take_file(a, crew_steal_ptr(&a->next));
        a->restart_at_ns = a->prepare_at_ns = 0;
        a->start_error[0] = '\0';
        a->called_off = CREW__CAUSE__CAUSE_UNSET;
        a->start_errno = 0;
        audit_set_incarnation(a->audit, ++a->incarnation);
        a->in.id = instance_id(a->index, a->incarnation);
        a->in.spawn_ns = now;
        a->in.limits = policy_limits_of(a->decl->policy);
        a->in.ready_by_ns = now + AGENT_SPAWN_TIMEOUT_NS;
        meter_init(&a->in.frames, AGENT_FRAMES_BURST, AGENT_FRAMES_RATE, now);
        meter_init(&a->in.stderr_bytes, AGENT_STDERR_BURST, AGENT_STDERR_RATE, now);
        rate_init(&a->in.violations, AGENT_VIOLATIONS_MAX, AGENT_VIOLATIONS_NS);
        starts_take_place(a);
        int r = begin(a, &err);
        if (r < 0)
                instance_on_spawn_failed(a, -r, "prepare", err.msg);
}

void instance_on_spawn_failed(struct agent *a, int error, const char *step, const char *text) {
        char reason[sizeof(a->start_error)];

        snprintf(reason, sizeof(reason), "%.31s: %.560s", step, *text ? text : strerror(error));
        if (!a->in.death.decided) {
                memcpy(a->start_error, reason, sizeof(reason));
                a->start_errno = error;
        }
        death_on_start_failed(a, reason);
}

/* --- taking over --- */

static int watch_again(struct agent *a, uint32_t which, int *fds, struct crew_err *err) {
        struct crewd *c = a->crewd;
        const struct planner_input in = plan_input(a, a->incarnation);
        _cleanup_free_ void *plan = NULL;
        size_t n, at = which & SPAWN_FD_LISTENERS ? 4 : 0;

        int r = planner_make(&in, &plan, &n, err);
        if (r != 0)
                return r > 0 ? crew_fail(err, ENOEXEC, "its files are not what they were") : r;
        if (take_paths(a, plan) < 0)
                return crew_fail(err, ENOMEM, "out of memory");
        r = evidence_watch(c->evidence, a->in.id, &a->in.att, a->in.watch, a->in.watch_len,
                           which & SPAWN_FD_NOTIFY ? fds[at] : -1);
        free(crew_steal_ptr(&a->in.watch));
        return r < 0 ? crew_fail(err, -r, "crew-evidence takes no more") : 0;
}

void instance_expect_back(struct agent *a) {
        /* What is frozen cannot come. */
        a->in.resume_by_ns = a->in.resuming && !a->hold.on ? crew_now_ns() + RESUME_PATIENCE_NS : 0;
}

int instance_adopt(struct agent *a, uint32_t which, int *fds, struct crew_err *err) {
        struct crewd *c = a->crewd;
        uint8_t sha256[CREW_SHA256_BYTES];
        int r;

        if ((r = gateway_prepare(c->gateway, a, sha256, err)) < 0 || (r = watch_again(a, which, fds, err)) < 0 ||
            (r = listen_link(a, err)) < 0)
                return r;
        if ((which & SPAWN_FD_LISTENERS) && c->gateway && gateway_add(c->gateway, a, fds) < 0)
                journal_evidence_lost(a, "gateway", 0, "crew-gateway does not take its listeners");
        a->in.resuming = true;
        instance_expect_back(a);
        r = spawner_relink(c->spawner, a->in.id, a->in.link_path);
        return r < 0 ? crew_fail(err, -r, "cannot reach the spawner: %s", strerror(-r)) : 0;
}

/* --- attestation --- */

static bool notify_expected(const struct agent *a) {
        return evidence_wants_notify(a->crewd->evidence);
}

/* True when it is watched as its policy wants. */
static bool hand_out(struct agent *a, int *fds, size_t n_fds) {
        struct crewd *c = a->crewd;
        size_t at = 1;

        if (c->gateway && n_fds >= at + 4) {
                if (gateway_add(c->gateway, a, fds + at) < 0)
                        journal_evidence_lost(a, "gateway", 0, "crew-gateway does not take its listeners");
                at += 4;
        }
        int notify = notify_expected(a) && n_fds > at ? fds[at] : -1;
        int r = evidence_watch(c->evidence, a->in.id, &a->in.att, a->in.watch, a->in.watch_len, notify);
        free(a->in.watch);
        a->in.watch = NULL;
        if (r < 0)
                journal_evidence_lost(a, "crew-evidence", 0, "crew-evidence could not be told of it");
        return r == 0 || (evidence_allowed_features(agent_jail_policy(a)) & 1u << PLAN_FEATURE_EVIDENCE);
}

static void violate(struct agent *a, const char *text) {
        journal_rejected(a, "link", "", text);
        death_kill(a, CREW__CAUSE__CAUSE_POLICY_VIOLATION, "crewd", text);
}

static bool attested_well(struct agent *a, struct crew_err *err) {
        struct attest_want want = {.host_uid = a->host_uid,
                                   .host_gid = a->host_gid,
                                   .allow_degraded = evidence_allowed_features(agent_jail_policy(a)),
                                   .peer_pid = a->in.peer_pid,
                                   .own = a->crewd->own};

        return attest_check(&a->in.att, &want, err) == 0;
}

/* Both the attestation and the peer are known: compare, record, then look at what came early. */
static void admit(struct agent *a) {
        struct instance *in = &a->in;
        struct crew_err err = CREW_ERR_NULL;

        if (!in->attested || in->peer_pid == 0 || in->cut)
                return;
        bool good = attested_well(a, &err);
        int r = journal_spawned(a, good);
        if (!good) {
                crew_err_add(&err, "attestation");
                snprintf(a->start_error, sizeof(a->start_error), "%.600s", err.msg);
                return violate(a, err.msg);
        }
        if (r < 0)
                return death_kill(a, CREW__CAUSE__CAUSE_START_FAILED, "crewd", "its audit stream cannot be written");
        for (uint32_t i = 0; i < in->n_early && !in->cut; i++)
                dispatch_frame(a, in->early[i].bytes, in->early[i].n);
}

void instance_on_spawned(struct agent *a, const struct spawn_attestation *att, int *fds, size_t n_fds) {
        struct instance *in = &a->in;

        if (a->state != AGENT_SPAWNING)
                return; /* killed meanwhile: SPAWN_EXITED follows */
        in->att = *att;
        in->att.degraded |= evidence_missing_bit(a->crewd->evidence, a->crewd->root_mode);
        in->attested = true;
        starts_sealed(a, crew_now_ns());
        if (hand_out(a, fds, n_fds))
                admit(a);
        else
                death_kill(a, CREW__CAUSE__CAUSE_START_FAILED, "crewd",
                           "it cannot be watched: crew-evidence takes no more");
}

/* --- link --- */

static void on_link_up(struct link *l, pid_t pid, uid_t uid, void *user) {
        struct agent *a = user;

        if (l != a->in.link)
                return;
        if (a->in.resuming) { /* connected by the spawner, on the worker's behalf */
                if (uid != geteuid() || pid != a->crewd->spawner_pid)
                        violate(a, "the link was opened by somebody else than the spawner");
                return;
        }
        /* The uid is what the child had when it connected, before it took its own: ours or the agent's. */
        if (uid != geteuid() && uid != a->host_uid)
                return violate(a, "the link was opened by a foreign user");
        a->in.peer_pid = pid;
        admit(a);
}

static bool keep_early(struct instance *in, const uint8_t *bytes, size_t n) {
        if (in->n_early == AGENT_EARLY_MAX || n > AGENT_EARLY_BYTES)
                return false;
        uint8_t *copy = malloc(n);
        if (!copy)
                return false;
        memcpy(copy, bytes, n);
        in->early[in->n_early++] = (struct early){.bytes = copy, .n = n};
        return true;
}

/* A worker that sends more than any honest one is read more slowly; nothing of it is lost. */
static void throttle(struct agent *a, size_t n) {
        uint64_t now = crew_now_ns();

        if (meter_spend(&a->in.frames, 1 + (int64_t)(n / AGENT_FRAME_UNIT), now) || a->in.resume_ns)
                return;
        a->in.resume_ns = now + AGENT_PAUSE_NS;
        link_pause(a->in.link, true);
        journal_limit(a, &(struct journal_limit){
                                 .limit = "frames", .count = 1, .text = "its link is read at 4096 frames a second"});
}

static void on_link_frame(struct link *l, const uint8_t *bytes, size_t n, void *user) {
        struct agent *a = user;

        if (l != a->in.link || a->in.cut)
                return;
        throttle(a, n);
        if (a->in.attested && a->in.peer_pid != 0)
                return dispatch_frame(a, bytes, n);
        if (n == 0 || !keep_early(&a->in, bytes, n))
                violate(a, "sent frames before it was attested");
}

static void on_link_down(struct link *l, int why, void *user) {
        struct agent *a = user;

        if (l != a->in.link)
                return;
        a->in.hung_up = true;
        if (a->in.exited)
                return death_heard_out(a);
        if (!a->in.cut && (why == -EPROTO || why == -EMSGSIZE))
                return dispatch_violation(a, "frame", "", why == -EMSGSIZE ? "announced too large" : "wire format", true);
        /* The usual reason is that it is exiting; SPAWN_EXITED says so soon.  If not, it is killed. */
        if (!a->in.cut)
                a->in.gone_by_ns = crew_now_ns() + LINK_PATIENCE_NS;
}

void instance_on_program_ended(struct agent *a) {
        if (!a->in.gone_by_ns)
                a->in.gone_by_ns = crew_now_ns() + ENDED_PATIENCE_NS;
}

void instance_on_ready(struct agent *a) {
        a->in.ready_by_ns = 0;
        a->in.ready_ns = crew_now_ns();
        if (migrate_is_on(a)) {
                starts_leave_place(a);
                return migrate_on_ready(a);
        }
        if (journal_ready(a) != 0)
                return;
        health_begin(a);
        agent_event(a, AGENT_EV_READY);
}

/* --- ending --- */

/* From here on nothing of it is heard and nothing is said to it.  The connection itself stays until the tree is dead: a
 * worker that loses it ends at once, and the kill would have nothing left to count. */
void instance_cut(struct agent *a) {
        struct instance *in = &a->in;

        if (in->id == 0 || in->cut)
                return;
        in->cut = true;
        if (in->link)
                link_deafen(in->link);
        gateway_remove(a->crewd->gateway, in->id);
}

static void hang_up(struct instance *in) {
        if (in->link)
                link_close(in->link, NULL, NULL);
        in->link = NULL;
}

void instance_kill(struct agent *a) {
        starts_leave_place(a);
        if (!a->in.kill_sent) {
                a->in.kill_sent = true;
                a->in.gone_by_ns = crew_now_ns() + KILL_PATIENCE_NS;
                spawner_ask(a->crewd->spawner, a->in.id, SPAWN_KILL);
        }
        instance_cut(a); /* after the order to kill: it is of no use to the dead */
}

void instance_clear(struct agent *a) {
        struct instance *in = &a->in;

        starts_leave_place(a);
        instance_cut(a);
        hang_up(in);
        if (in->id)
                usage_flush(a);
        hold_forget(a);
        migrate_clear(a);
        state_dir_release(a);
        for (uint32_t i = 0; i < in->n_early; i++)
                free(in->early[i].bytes);
        outbox_clear(&in->outbox);
        free(in->stderr_tail);
        free(in->watch);
        *in = (struct instance){0};
        a->jail_policy = policy_image_free(a->jail_policy);
        a->lost = (struct agent_lost){0};
        a->frozen = false;
}

/* --- time --- */

static bool due(uint64_t deadline_ns, uint64_t now_ns) {
        return deadline_ns != 0 && now_ns >= deadline_ns;
}

/* Not before those are dead that are started again together with it, and not while its last instance is still heard of. */
static bool may_start(const struct agent *a) {
        return a->state == AGENT_RESTARTING && !a->forgetting && a->crewd->n_together == 0;
}

void instance_expire(struct agent *a, uint64_t now_ns) {
        struct instance *in = &a->in;

        if (a->forgetting && due(a->forget_by_ns, now_ns))
                a->forgetting = false;
        starts_expire(a, now_ns);
        if (due(a->prepare_at_ns, now_ns)) {
                a->prepare_at_ns = 0;
                if (a->state == AGENT_RESTARTING)
                        instance_prepare_ahead(a);
        }
        if (due(a->restart_at_ns, now_ns) && may_start(a))
                starts_want(a);
        if (migrate_next_due(a))
                return migrate_next(a);
        if (due(in->ready_by_ns, now_ns) && a->state == AGENT_SPAWNING) {
                in->ready_by_ns = 0;
                if (migrate_is_on(a))
                        return migrate_too_late(a);
                snprintf(a->start_error, sizeof(a->start_error), "not ready within %llu s",
                         AGENT_SPAWN_TIMEOUT_NS / 1000000000ull);
                death_kill(a, CREW__CAUSE__CAUSE_START_FAILED, "crewd", a->start_error);
        }
        if (in->resuming && due(in->resume_by_ns, now_ns)) {
                in->resume_by_ns = 0;
                death_kill(a, CREW__CAUSE__CAUSE_SUPERVISOR_LOST, "crewd",
                           "its worker did not come back to the next crewd");
        }
        if (due(in->resume_ns, now_ns)) {
                in->resume_ns = 0;
                if (in->link && !hold_is_on(a))
                        link_pause(in->link, false);
        }
        if (due(in->heard_by_ns, now_ns))
                return death_heard_out(a);
        if (agent_state_live(a->state))
                health_expire(a, now_ns);
        if (due(in->gone_by_ns, now_ns)) {
                in->gone_by_ns = 0;
                if (in->kill_sent)
                        hang_up(in); /* the spawner is slow; the worker ends by itself when its link does */
                else
                        death_overstayed(a, in->told.told ? "the worker did not end with its program"
                                                          : "the worker closed its link");
        }
        if (due(in->stop_by_ns, now_ns)) {
                in->stop_by_ns = 0;
                if (a->state == AGENT_STOPPING && !in->kill_sent)
                        agent_event(a, AGENT_EV_KILL);
        }
}

static uint64_t earlier(uint64_t next, uint64_t deadline_ns) {
        return deadline_ns ? MIN_OF(next, deadline_ns) : next;
}

uint64_t instance_next_deadline(const struct agent *a) {
        uint64_t next = migrate_next_due(a) ? 1 : earlier(UINT64_MAX, a->in.ready_by_ns);

        next = earlier(next, a->in.gone_by_ns);
        next = earlier(next, a->in.resuming ? a->in.resume_by_ns : 0);
        next = earlier(next, a->in.heard_by_ns);
        next = earlier(next, a->in.resume_ns);
        next = earlier(next, a->in.stop_by_ns);
        next = MIN_OF(next, health_next_deadline(a));
        next = earlier(next, a->prepare_at_ns);
        next = MIN_OF(next, starts_next_deadline(a));
        if (a->forgetting)
                return earlier(next, a->forget_by_ns);
        return earlier(next, may_start(a) && !a->start.waiting ? a->restart_at_ns : 0);
}

void instance_ping(struct agent *a) {
        Crew__Ping body = CREW__PING__INIT;
        Crew__Envelope e = CREW__ENVELOPE__INIT;

        if (!agent_usable(a))
                return;
        if (a->in.pings_lost >= AGENT_PINGS_LOST_MAX)
                return death_kill(a, CREW__CAUSE__CAUSE_HEARTBEAT, "crewd", "no sign of life for 15 s");
        e.body_case = CREW__ENVELOPE__BODY_PING;
        e.ping = &body;
        /* A full queue counts as a lost one too. */
        a->in.pings_lost++;
        agent_send(a, &e, NULL);
}
