/* SPDX-License-Identifier: Apache-2.0 */
/* The outboxes first, then the durable record, which closes the life: killed in between, the next start does it again, and
 * under the same id. */
#include "orphans.h"

#include "common/held_note.h"
#include "common/util.h"
#include "crewd.h"
#include "death.h"
#include "hooks.h"
#include "instance.h"
#include "journal.h"
#include "manager.h"
#include "rundir.h"
#include "supervisor/audit/audit_life.h"
#include "text.h"
#include "webhook.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <string.h>

#define ID_EPOCH_MS 1577836800000ull /* 2020 */

/* Of the instance and not of today's telling: two agents may have been spawned in one millisecond.  Below 2^53 (death.c)
 * for sixty years, and far from what its clock gives now. */
static uint64_t id_of(const struct agent *a, const struct audit_life *life) {
        return (MAX_OF(life->spawned_ms, ID_EPOCH_MS) - ID_EPOCH_MS) << INSTANCE_INDEX_BITS | a->index;
}

/* --- notes of its spawner --- */

static void notes_path(const struct crewd *c, char path[PATH_MAX]) {
        snprintf(path, PATH_MAX, "%.*s/%s/held.ends", PATH_MAX - 128, c->paths.state, c->file->name);
}

int orphans_notes(const struct crewd *c) {
        char path[PATH_MAX];

        notes_path(c, path);
        int fd = open(path, O_WRONLY | O_APPEND | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
        return fd < 0 ? -errno : fd;
}

struct notes {
        struct held_note *items; /* owned */
        size_t n;
};

static void read_notes(struct crewd *c, struct notes *out) {
        char path[PATH_MAX];

        notes_path(c, path);
        _cleanup_close_ int fd = open(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
        int r = fd >= 0 ? held_notes_read(fd, &out->items, &out->n) : errno == ENOENT ? 0 : -errno;
        if (r < 0)
                crewd_log(c, "who was killed by hand while no crewd was there is not known: %s", strerror(-r));
}

/* Of this life and no other. */
static const struct held_note *note_of(const struct notes *notes, const struct agent *a, uint32_t incarnation) {
        for (size_t i = 0; i < notes->n; i++) {
                const struct held_note *n = &notes->items[i];
                if (n->id >> INSTANCE_INDEX_BITS == incarnation && strcmp(n->agent, agent_name(a)) == 0)
                        return n;
        }
        return NULL;
}

/* --- what they died of --- */

static void died_by_hand(struct death *d, const struct held_note *n) {
        d->cause = CREW__CAUSE__CAUSE_OPERATOR;
        held_initiator(n->uid, d->initiator, sizeof(d->initiator));
        text_copy(d->reason, sizeof(d->reason), n->reason, SIZE_MAX);
}

static void died_with_crewd(struct death *d, pid_t crewd) {
        d->cause = CREW__CAUSE__CAUSE_SUPERVISOR_LOST;
        snprintf(d->initiator, sizeof(d->initiator), "crewd");
        if (crewd)
                snprintf(d->reason, sizeof(d->reason),
                         "its crewd, process %d, did not end in order; the agent ended with it", (int)crewd);
        else
                snprintf(d->reason, sizeof(d->reason), "its crewd did not end in order; the agent ended with it");
}

static struct termination *describe(struct agent *a, const struct audit_life *life, const struct notes *notes) {
        const struct held_note *note = note_of(notes, a, life->incarnation);
        struct termination *t = calloc(1, sizeof(*t));

        if (!t)
                return NULL;
        *t = (struct termination){.id = id_of(a, life),
                                  .incarnation = life->incarnation,
                                  .death = {.decided = true},
                                  .exit_code = -1,
                                  .signal = SIGKILL,
                                  .effects = life->effects,
                                  .action = "fail_task",
                                  .attempt = life->attempt,
                                  .time_ms = crew_realtime_ns() / 1000000u};
        memcpy(t->task, life->task, sizeof(t->task));
        if (note)
                died_by_hand(&t->death, note);
        else
                died_with_crewd(&t->death, rundir_predecessor(a->crewd->rundir));
        return t;
}

static void report(struct agent *a, const struct audit_life *life, const struct notes *notes) {
        struct crewd *c = a->crewd;
        struct termination *t = describe(a, life, notes);

        if (!t)
                return; /* it stays open for the next start */
        audit_set_incarnation(a->audit, life->incarnation);
        if (life->task_id[0])
                journal_task_lost(a, life->task, life->task_id, t->death.reason);
        t->audit_seq = audit_seq(a->audit) + 1;
        webhook_wait(c->webhook);
        struct death_missed missed = death_keep_outside(a, t);
        death_sync_outside(c);
        journal_terminated(a, t);
        death_say_missed(a, missed);
        webhook_let_go(c->webhook);
        audit_set_incarnation(a->audit, 0);
        death_tell(a, t);
        manager_tell(c, a, t);
        free(a->last);
        a->last = t;
}

/* --- what its crewd had begun to tell --- */

struct lives {
        const struct crewd *crewd;
        struct audit_life *of; /* by the agent's index */
};

/* A record of an end that the audit does not have: nobody was told of it yet (death.c), and it is told of here, under an id
 * of its own.  Quotes within its texts are escaped. */
static bool is_of_open_life(const char *json, void *user) {
        const struct lives *l = user;
        const char *seq = strstr(json, "\"audit_seq\":");
        char name[sizeof(l->crewd->agents->name) + 16];

        for (uint32_t i = 0; seq && i < l->crewd->n_agents; i++) {
                snprintf(name, sizeof(name), "\"agent\":\"%s\",", agent_name(&l->crewd->agents[i]));
                if (l->of[i].open && strstr(json, name))
                        return strtoull(seq + strlen("\"audit_seq\":"), NULL, 10) > l->of[i].spawned_seq;
        }
        return false;
}

/* True: there is one. */
static bool find_open(struct crewd *c, struct audit_life *lives) {
        bool any = false;

        for (uint32_t i = 0; i < c->n_agents; i++) {
                struct agent *a = &c->agents[i];
                struct crew_err err = CREW_ERR_NULL;

                if (a->state == AGENT_POLICY_ONLY)
                        continue;
                if (audit_last_life(a->audit, &lives[i], &err) < 0) {
                        crewd_log(c, "agent %s: what became of its last instance is not known: %s", agent_name(a), err.msg);
                        lives[i].open = false;
                }
                any |= lives[i].open;
        }
        return any;
}

int orphans_report(struct crewd *c) {
        _cleanup_free_ struct audit_life *lives = calloc(MAX_OF(c->n_agents, 1u), sizeof(*lives));
        struct notes notes = {0};
        char path[PATH_MAX];

        if (!lives)
                return -ENOMEM; /* hooks and webhook hold records of them that nobody may be told yet */
        read_notes(c, &notes);
        if (find_open(c, lives)) {
                struct lives l = {.crewd = c, .of = lives};
                hooks_forget(c->hooks, is_of_open_life, &l);
                webhook_forget(c->webhook, is_of_open_life, &l);
        }
        for (uint32_t i = 0; i < c->n_agents; i++) {
                if (lives[i].open)
                        report(&c->agents[i], &lives[i], &notes);
        }
        free(notes.items);
        notes_path(c, path);
        unlink(path);
        return 0;
}
