/* SPDX-License-Identifier: Apache-2.0 */
#include "checkpoint.h"

#include "adopt.h"
#include "bytes.h"
#include "checkpoint_agent.h"
#include "common/util.h"
#include "control.h"
#include "crewd.h"
#include "death.h"
#include "execs.h"
#include "journal.h"
#include "memory.h"
#include "migrate.h"
#include "orphans.h"
#include "outbox.h"
#include "requests.h"
#include "router.h"
#include "rundir.h"
#include "scheduler.h"
#include "spawner.h"
#include "toolgate.h"

#include <errno.h>
#include <sys/mman.h>

#define FIRST_AT 4096u /* the head has a page of its own */
#define ACK_FRAMES 32u
#define ACK_BYTES (64u << 10)

struct head { /* of the memfd; one write */
        uint64_t at, n, generation;
};

struct checkpoint {
        struct crewd *crewd;
        int fd; /* owned */
        struct head head;
        struct place {
                uint64_t at, room;
        } places[2];
        uint64_t end; /* of the file */
        struct bytes_out now, last;
        bool armed, ends; /* ends: from the end of this turn on no more */
};

/* What the layout of the rest depends on. */
struct build {
        char version[32];
        uint32_t sizes[8];
};

static struct build this_build(void) {
        struct build b = {.sizes = {sizeof(struct agent), sizeof(struct instance), sizeof(struct job),
                                    sizeof(struct termination), sizeof(struct supervision), sizeof(struct sched_run),
                                    sizeof(struct spawn_msg), EXECS_MAX}};

        snprintf(b.version, sizeof(b.version), "%s", CREW_VERSION);
        return b;
}

/* --- the audit --- */

/* What this turn has put on record, and is let go when the state is down. */
static void save_stream(struct agent *a, struct bytes_out *b) {
        const char *lines;
        uint64_t at;
        size_t n;

        if (audit_held(a->audit, &lines, &n, &at) < 0)
                b->failed = true;
        bytes_put_u64(b, at);
        bytes_put_text(b, n ? lines : "", n);
}

/* dir NULL: they are in their files. */
static int get_streams(struct bytes_in *b, const struct crew_file *file, const char *dir, struct crew_err *err) {
        int r = 0;

        for (size_t i = 0; i < file->n_agents && r == 0; i++) {
                uint64_t at = bytes_get_u64(b);
                size_t n;
                _cleanup_free_ char *lines = bytes_get_text(b, &n);
                if (b->failed || !lines)
                        return crew_fail(err, EBADMSG, "the state that the crewd before left cannot be read");
                if (dir)
                        r = audit_complete(dir, file->agents[i].name, lines, n, at, err);
        }
        return r;
}

/* --- all of it --- */

static void save(struct crewd *c, struct bytes_out *b) {
        struct build build;
        int pid = getpid();

        memset(&build, 0, sizeof(build));
        build = this_build();
        b->n = 0;
        BYTES_PUT(b, build);
        BYTES_PUT(b, pid);
        BYTES_PUT(b, c->file->sha256);
        bytes_put_u64(b, c->n_agents);
        for (uint32_t i = 0; i < c->n_agents; i++)
                bytes_put(b, policy_image_sha256(c->agents[i].decl->policy), CREW_SHA256_BYTES);
        for (uint32_t i = 0; i < c->n_agents; i++)
                save_stream(&c->agents[i], b);
        BYTES_PUT(b, c->supervision);
        BYTES_PUT(b, c->last_termination_id);
        BYTES_PUT(b, c->together_at_ns);
        BYTES_PUT(b, c->lost_until_ns);
        BYTES_PUT(b, c->holds);
        for (uint32_t i = 0; i < c->n_agents; i++)
                checkpoint_agent_save(&c->agents[i], b);
        scheduler_save(c->scheduler, b);
        toolgate_save(c->tools, b);
        router_save(c->router, b);
        memory_save(c->memory, b);
        execs_save(c->execs, b);
        requests_save(c->requests, b);
}

static int stale(struct crew_err *err, const char *what) {
        return crew_fail(err, ESTALE, "%s; put back what was, and start it again, or end them with crewctl down", what);
}

static int get_front(const struct crewd *c, struct bytes_in *b, int *pid, struct crew_err *err) {
        struct build build, ours;
        uint8_t sha256[CREW_SHA256_BYTES];

        memset(&ours, 0, sizeof(ours));
        ours = this_build();
        BYTES_GET(b, build);
        BYTES_GET(b, *pid);
        BYTES_GET(b, sha256);
        if (b->failed || memcmp(build.version, ours.version, sizeof(ours.version)) != 0 ||
            memcmp(build.sizes, ours.sizes, sizeof(ours.sizes)) != 0)
                return stale(err, "they are held for another build of crewd");
        if (memcmp(sha256, c->file->sha256, sizeof(sha256)) != 0 || bytes_get_u64(b) != c->file->n_agents)
                return stale(err, "they are held for the crew file as it was, and it has changed");
        for (size_t i = 0; i < c->file->n_agents; i++) {
                char text[200];
                BYTES_GET(b, sha256);
                if (memcmp(sha256, policy_image_sha256(c->file->agents[i].policy), sizeof(sha256)) == 0)
                        continue;
                snprintf(text, sizeof(text), "the policy of agent %s has changed since", c->file->agents[i].name);
                return stale(err, text);
        }
        return 0;
}

int checkpoint_fits(const struct crewd *c, const uint8_t *p, size_t n, struct crew_err *err) {
        struct bytes_in b = {.p = p, .end = p + n};
        int pid;

        return get_front(c, &b, &pid, err);
}

int checkpoint_put_on_record(const struct crewd *c, const uint8_t *p, size_t n, struct crew_err *err) {
        struct bytes_in b = {.p = p, .end = p + n};
        int pid, r = get_front(c, &b, &pid, err);

        return r < 0 ? r : get_streams(&b, c->file, c->audit_dir, err);
}

int checkpoint_load(struct crewd *c, const uint8_t *p, size_t n, int *pid, struct crew_err *err) {
        struct bytes_in b = {.p = p, .end = p + n};
        int r = get_front(c, &b, pid, err);

        if (r == 0)
                r = get_streams(&b, c->file, NULL, err);
        if (r < 0)
                return r;
        BYTES_GET(&b, c->supervision);
        bytes_bool(&c->supervision.limited);
        if (!rate_fits(&c->supervision.rate))
                r = -EBADMSG;
        BYTES_GET(&b, c->last_termination_id);
        BYTES_GET(&b, c->together_at_ns);
        BYTES_GET(&b, c->lost_until_ns);
        BYTES_GET(&b, c->holds);
        for (uint32_t i = 0; i < c->n_agents && r == 0; i++) {
                r = checkpoint_agent_load(&c->agents[i], &b);
                c->n_together += r == 0 && c->agents[i].in.death.together;
        }
        if (r == 0)
                r = scheduler_load(c->scheduler, &b);
        if (r == 0)
                r = toolgate_load(c->tools, &b);
        if (r == 0)
                r = router_load(c->router, &b);
        if (r == 0)
                r = memory_load(c->memory, &b);
        if (r == 0)
                r = execs_load(c->execs, &b);
        if (r == 0)
                r = requests_load(c->requests, &b);
        if (r == 0 && (b.failed || b.p != b.end))
                r = -EBADMSG;
        return r < 0 ? crew_fail(err, -r, "the state that the crewd before left cannot be read: %s", strerror(-r)) : 0;
}

/* --- the memfd --- */

static int write_at(int fd, const void *p, size_t n, uint64_t at) {
        for (size_t done = 0; done < n;) {
                ssize_t r = pwrite(fd, (const char *)p + done, n - done, (off_t)(at + done));
                if (r < 0 && errno == EINTR)
                        continue;
                if (r <= 0)
                        return r < 0 ? -errno : -EIO;
                done += (size_t)r;
        }
        return 0;
}

int checkpoint_read(int fd, uint8_t **out, size_t *n, struct crew_err *err) {
        struct head h;

        if (pread(fd, &h, sizeof(h), 0) != (ssize_t)sizeof(h) || h.generation == 0 || h.n > SIZE_MAX / 2)
                return crew_fail(err, EBADMSG, "the crewd before left no state");
        uint8_t *p = malloc(h.n + 1);
        if (!p)
                return crew_fail(err, ENOMEM, "out of memory");
        for (size_t done = 0; done < h.n;) {
                ssize_t r = pread(fd, p + done, h.n - done, (off_t)(h.at + done));
                if (r < 0 && errno == EINTR)
                        continue;
                if (r <= 0) {
                        free(p);
                        return crew_fail(err, EBADMSG, "the crewd before left no whole state");
                }
                done += (size_t)r;
        }
        *out = p;
        *n = h.n;
        return 0;
}

/* Beside the valid one; a place that has become too small is left for a larger one at the end. */
static int put_down(struct checkpoint *k) {
        struct place *to = &k->places[(k->head.generation + 1) % 2];

        if (to->room < k->now.n) {
                to->room = k->now.n * 2;
                to->at = k->end;
                k->end += to->room;
        }
        int r = write_at(k->fd, k->now.p, k->now.n, to->at);
        if (r < 0)
                return r;
        k->head = (struct head){.at = to->at, .n = k->now.n, .generation = k->head.generation + 1};
        return write_at(k->fd, &k->head, sizeof(k->head), 0);
}

static int save_now(struct checkpoint *k) {
        save(k->crewd, &k->now);
        if (k->now.failed)
                return -ENOMEM;
        if (k->now.n == k->last.n && memcmp(k->now.p, k->last.p, k->now.n) == 0)
                return 0;
        int r = put_down(k);
        struct bytes_out was = k->last;
        k->last = k->now;
        k->now = was;
        return r;
}

/* --- the end of a turn --- */

/* A worker that gets no answers must still be told what it need not keep. */
static void acknowledge(struct agent *a) {
        Crew__Envelope e = CREW__ENVELOPE__INIT;
        Crew__Ack body = CREW__ACK__INIT;

        if ((a->in.unacked < ACK_FRAMES && a->in.unacked_bytes < ACK_BYTES) || a->in.cut || !a->in.greeted ||
            a->in.resuming)
                return;
        e.body_case = CREW__ENVELOPE__BODY_ACK_ONLY;
        e.ack_only = &body;
        agent_send(a, &e, NULL);
}

static void send_out(struct checkpoint *k) {
        struct crewd *c = k->crewd;

        for (uint32_t i = 0; i < c->n_agents; i++) {
                struct instance *in = &c->agents[i].in;
                /* What should have been on record first, and cannot be, does not happen. */
                if (in->link && in->outbox.unsent && !in->resuming && !audit_poisoned(c->agents[i].audit))
                        outbox_flush(&in->outbox, in->link);
        }
        if (k->armed)
                spawner_let_go(c->spawner, true);
        control_flush(c->control);
}

/* Before anybody hears of this turn.  Should the spawner not hear of it, or late: nobody can go on from a state that is no
 * more. */
static void end_holding(struct checkpoint *k) {
        const struct spawn_hold none = {0};
        const struct head nothing = {0};

        k->armed = k->ends = false;
        spawner_keep(k->crewd->spawner, &none, -1, -1, -1);
        spawner_let_go(k->crewd->spawner, false);
        (void)write_at(k->fd, &nothing, sizeof(nothing), 0);
        rundir_unlisten(k->crewd->rundir);
}

void checkpoint_commit(struct checkpoint *k) {
        if (!k)
                return;
        struct crewd *c = k->crewd;

        for (uint32_t i = 0; i < c->n_agents; i++)
                acknowledge(&c->agents[i]);
        int r = k->armed ? save_now(k) : 0;
        if (r < 0)
                crewd_log(c, "agents will not be held, should crewd be lost: its state cannot be kept: %s", strerror(-r));
        if (k->armed && (r < 0 || k->ends))
                end_holding(k);
        for (uint32_t i = 0; i < c->n_agents; i++)
                journal_release(&c->agents[i], k->armed);
        for (uint32_t i = 0; i < c->n_agents; i++) {
                migrate_on_record(&c->agents[i]);
                death_tell_outside(&c->agents[i]);
        }
        send_out(k);
}

void checkpoint_forget(struct checkpoint *k, uint32_t id) {
        if (checkpoint_is_armed(k)) /* what is said to the spawner waits for the state */
                spawner_ask(k->crewd->spawner, id, SPAWN_FORGET);
}

/* --- life --- */

int checkpoint_open(struct crewd *c, int fd, struct checkpoint **out, struct crew_err *err) {
        struct checkpoint *k = calloc(1, sizeof(*k));
        _cleanup_close_ int mine = fd >= 0 ? fd : memfd_create("crewd-state", MFD_CLOEXEC);
        struct head h;

        if (!k || mine < 0) {
                free(k);
                return crew_fail(err, mine < 0 ? errno : ENOMEM, "cannot keep state for another crewd");
        }
        k->crewd = c;
        k->end = FIRST_AT;
        if (fd >= 0 && pread(mine, &h, sizeof(h), 0) == (ssize_t)sizeof(h)) {
                k->head = h;
                k->places[h.generation % 2] = (struct place){.at = h.at, .room = h.n};
                /* Wherever the one before has put things: behind all of it. */
                off_t end = lseek(mine, 0, SEEK_END);
                k->end = MAX_OF((uint64_t)MAX_OF(end, (off_t)0), (uint64_t)FIRST_AT);
        }
        k->fd = crew_steal_fd(&mine);
        *out = k;
        return 0;
}

void checkpoint_close(struct checkpoint *k) {
        if (!k)
                return;
        crew_close(&k->fd);
        free(k->now.p);
        free(k->last.p);
        free(k);
}

void checkpoint_armed(struct checkpoint *k) {
        struct crewd *c = k->crewd;

        k->armed = true;
        spawner_wait(c->spawner);
        for (uint32_t i = 0; i < c->n_agents; i++)
                audit_hold(c->agents[i].audit);
}

int checkpoint_arm(struct checkpoint *k, struct crew_err *err) {
        struct crewd *c = k->crewd;
        struct spawn_hold hold = {.ms = c->file->hold_for_ms};
        _cleanup_close_ int listener = rundir_listen(c->rundir, hold.token, err);

        if (listener < 0)
                return listener;
        _cleanup_close_ int notes = orphans_notes(c);
        int r = notes < 0 ? notes : save_now(k);
        if (r == 0)
                r = spawner_keep(c->spawner, &hold, listener, k->fd, notes);
        if (r < 0) {
                rundir_unlisten(c->rundir);
                return crew_fail(err, -r, "agents cannot be held: %s", strerror(-r));
        }
        checkpoint_armed(k);
        return 0;
}

bool checkpoint_is_armed(const struct checkpoint *k) {
        return k && k->armed;
}

void checkpoint_disarm(struct checkpoint *k) {
        if (k)
                k->ends = k->armed;
}
