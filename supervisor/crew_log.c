/* SPDX-License-Identifier: Apache-2.0 */
#include "crew_log.h"

#include "common/util.h"
#include "crewd.h"
#include "signing.h"
#include "supervisor/audit/audit_key.h"

#include <errno.h>
#include <string.h>

#define RETRY_NS 1000000000u

struct crew_log {
        struct crewd *crewd;
        struct sign_key *key;       /* owned */
        struct audit_stream *audit; /* owned; NULL: it could not be opened again so far */
        struct sync_job sync;
        bool dirty, syncing;
        struct signing signing;
        bool faulty; /* said so */
        uint64_t retry_ns;
};

static int open_stream(struct crew_log *l, struct crew_err *err) {
        return audit_open(l->crewd->audit_dir, l->crewd->file->name, AUDIT_CREW, l->key, &l->audit, err);
}

static void say_fault(struct crew_log *l, const char *text) {
        l->retry_ns = crew_now_ns() + RETRY_NS;
        if (!l->faulty)
                crewd_log(l->crewd, "the crew's log cannot be written, agents go on: %s", text);
        l->faulty = true;
}

/* A stream that had a fault is opened anew, once nobody works on it and not all the time. */
static bool usable(struct crew_log *l) {
        struct crew_err err = CREW_ERR_NULL;

        if (l->audit && !audit_poisoned(l->audit))
                return true;
        if (l->syncing || l->signing.busy || crew_now_ns() < l->retry_ns)
                return false;
        l->audit = audit_close(l->audit);
        if (open_stream(l, &err) < 0) {
                say_fault(l, err.msg);
                return false;
        }
        crewd_log(l->crewd, "the crew's log is written again");
        l->faulty = false;
        return true;
}

static void mark(struct crew_log *l) {
        l->dirty = true;
        crewd_mark_dirty(l->crewd);
}

void crew_log_add(struct crew_log *l, const char *agent, const struct note *checkpoint) {
        struct record r;

        if (!l || !usable(l))
                return;
        record_init(&r, RECORD_LOG_CHECKPOINT, "crewd");
        record_str(&r, "of", agent);
        record_int(&r, "records", (int64_t)checkpoint->lines);
        record_hex(&r, "root", checkpoint->root, sizeof(checkpoint->root));
        int fault = audit_append(l->audit, &r, NULL);
        if (fault < 0)
                say_fault(l, strerror(-fault));
        mark(l);
}

/* Once more when its checkpoint is due. */
static void look_again(struct crew_log *l) {
        uint64_t due = signing_due(&l->signing, l->audit);

        if (due == UINT64_MAX)
                return;
        l->dirty = true;
        crewd_sign_at(l->crewd, due);
}

static void on_signed(struct sync_job *job) {
        struct crew_log *l = job->data;

        int r = signing_end(&l->signing, l->audit);
        if (r < 0 && !l->signing.complained)
                crewd_log(l->crewd, "the checkpoint of the crew's log cannot be written: %s", strerror(-r));
        l->signing.complained = r < 0;
        look_again(l);
}

static void on_synced(struct sync_job *job) {
        struct crew_log *l = job->data;

        l->syncing = false;
        int r = audit_sync_end(l->audit, job->error);
        if (r < 0) {
                l->signing.taken = false;
                return say_fault(l, strerror(-r));
        }
        signing_give(&l->signing, l->crewd->syncer, on_signed, l);
        syncer_begin(l->crewd->syncer);
}

void crew_log_sync_later(struct crew_log *l) {
        if (!l || !l->dirty || !l->audit || audit_poisoned(l->audit))
                return;
        if (l->syncing)
                return crewd_mark_dirty(l->crewd);
        l->dirty = false;
        l->sync = (struct sync_job){.on_done = on_synced, .data = l};
        int r = audit_sync_begin(l->audit, &l->sync.fd);
        if (r < 0)
                return say_fault(l, strerror(-r));
        signing_take(&l->signing, l->audit);
        l->syncing = r > 0;
        if (l->syncing)
                syncer_add(l->crewd->syncer, &l->sync);
        else
                signing_give(&l->signing, l->crewd->syncer, on_signed, l);
        look_again(l);
}

const struct sign_key *crew_log_key(const struct crew_log *l) {
        return l ? l->key : NULL;
}

static int open_key(struct crew_log *l, struct crew_err *err) {
        struct audit_key_found found;

        int r = audit_key_open(l->crewd->audit_dir, l->crewd->file->name, &l->key, &found, err);
        if (r == 0 && found.public_rewritten)
                crewd_log(l->crewd, "%s/%s/key.pub was not that of the key beside it and is written anew",
                          l->crewd->audit_dir, AUDIT_CREW);
        return r;
}

/* Where there is a key, the crew's log had a checkpoint before, so that one that has none was tampered with. */
static int sign_first(struct crew_log *l, struct crew_err *err) {
        int r = audit_signed_lines(l->audit) == 0 ? audit_checkpoint_now(l->audit, NULL) : 0;

        if (r < 0 && sign_key_is_new(l->key))
                return crew_fail(err, -r, "the first checkpoint of the crew's log, %s/%s/checkpoint, cannot be written: %s",
                                 l->crewd->audit_dir, AUDIT_CREW, strerror(-r));
        if (r < 0)
                crewd_log(l->crewd, "the checkpoint of the crew's log cannot be written: %s", strerror(-r));
        l->signing.complained = r < 0;
        return sign_key_is_new(l->key) ? audit_key_keep(l->crewd->audit_dir, l->key, err) : 0;
}

int crew_log_open(struct crewd *c, struct crew_log **out, struct crew_err *err) {
        struct crew_log *l = calloc(1, sizeof(*l));

        if (!l)
                return crew_fail(err, ENOMEM, "out of memory");
        *out = l; /* the crew's parts close it */
        l->crewd = c;
        int r = open_key(l, err);
        if (r == 0)
                r = open_stream(l, err);
        if (r == 0)
                r = sign_first(l, err);
        if (r == 0)
                mark(l);
        return r;
}

void crew_log_close(struct crew_log *l) {
        if (!l)
                return;
        audit_close(l->audit);
        sign_key_free(l->key);
        free(l);
}
