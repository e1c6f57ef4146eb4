/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An agent's stream on its way to the disk: what is younger than 100 ms, and its checkpoints.  A stream that cannot be
 * synced freezes its agent; a checkpoint that cannot be written is only said, and tried again.
 */
#include "common/util.h"
#include "crew_log.h"
#include "crewd.h"
#include "journal.h"
#include "syncer.h"

#include <string.h>

void journal_sync(struct agent *a) {
        if (!a->audit_dirty)
                return;
        a->audit_dirty = false;
        int r = audit_fold_flush(a->audit);
        if (r == 0)
                r = audit_sync(a->audit);
        if (r < 0)
                journal_freeze(a, r);
}

/* Its lines may all be on disk, but it is looked at until they are signed. */
static void look_again(struct agent *a) {
        uint64_t due = signing_due(&a->signing, a->audit);

        if (due == UINT64_MAX)
                return;
        a->audit_dirty = true;
        crewd_sign_at(a->crewd, due);
}

static void after_checkpoint(struct agent *a, int result) {
        if (result == 0)
                crew_log_add(a->crewd->crew_log, agent_name(a), &a->signing.checkpoint.note);
        else if (!a->signing.complained)
                crewd_log(a->crewd, "agent %s: its audit goes on, but the checkpoint of %s cannot be written: %s",
                          agent_name(a), audit_path(a->audit), strerror(-result));
        a->signing.complained = result < 0;
}

static void on_signed(struct sync_job *job) {
        struct agent *a = job->data;

        after_checkpoint(a, signing_end(&a->signing, a->audit));
        look_again(a);
}

static void on_synced(struct sync_job *job) {
        struct agent *a = job->data;

        a->syncing = false;
        int r = audit_sync_end(a->audit, job->error);
        if (r < 0) {
                a->signing.taken = false;
                return journal_freeze(a, r);
        }
        signing_give(&a->signing, a->crewd->syncer, on_signed, a);
        syncer_begin(a->crewd->syncer);
}

void journal_sync_later(struct agent *a) {
        if (!a->audit_dirty)
                return;
        if (a->syncing)
                return crewd_mark_dirty(a->crewd); /* what was written since is for the next time */
        a->audit_dirty = false;
        a->sync = (struct sync_job){.on_done = on_synced, .data = a};
        int r = audit_fold_flush(a->audit);
        if (r == 0)
                r = audit_sync_begin(a->audit, &a->sync.fd);
        if (r < 0)
                return journal_freeze(a, r);
        signing_take(&a->signing, a->audit);
        a->syncing = r > 0;
        if (a->syncing)
                syncer_add(a->crewd->syncer, &a->sync);
        else
                signing_give(&a->signing, a->crewd->syncer, on_signed, a);
        look_again(a);
}

void journal_sign_last(struct agent *a) {
        if (!a->audit || audit_poisoned(a->audit))
                return;
        int r = audit_fold_flush(a->audit);
        if (r == 0)
                r = audit_release(a->audit, false);
        if (r >= 0)
                r = audit_checkpoint_now(a->audit, &a->signing.checkpoint);
        if (r != 0)
                after_checkpoint(a, MIN_OF(r, 0));
}
