/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The checkpoint of one stream on its way: taken from the stream on the loop, signed and written by the syncer's thread
 * once what it covers is on disk.  The thread sees the copy alone.
 */
#pragma once

#include "supervisor/audit/audit.h"
#include "syncer.h"

struct signing {
        struct sync_job job;
        struct audit_checkpoint checkpoint;
        bool taken; /* it waits for the sync of what it covers */
        bool busy;  /* it is the syncer's */
        bool complained;
};

/* One, if it is due and none is under way. */
void signing_take(struct signing *g, struct audit_stream *s);
/* What it covers is on disk.  on_done gets the job, with data, on the loop. */
void signing_give(struct signing *g, struct syncer *syncer, void (*on_done)(struct sync_job *job), void *data);
/* In on_done.  0, or -errno. */
int signing_end(struct signing *g, struct audit_stream *s);
/* When the stream is to be looked at again for its checkpoint; UINT64_MAX: not before something else happens. */
uint64_t signing_due(const struct signing *g, const struct audit_stream *s);
