/* SPDX-License-Identifier: Apache-2.0 */
#include "signing.h"

#include <stddef.h>

static int work(struct sync_job *job) {
        const struct signing *g = (const void *)((const char *)job - offsetof(struct signing, job));

        return audit_checkpoint_write(&g->checkpoint);
}

void signing_take(struct signing *g, struct audit_stream *s) {
        if (!g->taken && !g->busy)
                g->taken = audit_checkpoint_begin(s, &g->checkpoint);
}

void signing_give(struct signing *g, struct syncer *syncer, void (*on_done)(struct sync_job *job), void *data) {
        if (!g->taken)
                return;
        g->taken = false;
        g->busy = true;
        g->job = (struct sync_job){.fd = -1, .work = work, .on_done = on_done, .data = data};
        syncer_add(syncer, &g->job);
}

int signing_end(struct signing *g, struct audit_stream *s) {
        g->busy = false;
        audit_checkpoint_end(s, &g->checkpoint, -g->job.error);
        return -g->job.error;
}

uint64_t signing_due(const struct signing *g, const struct audit_stream *s) {
        return g->taken || g->busy ? UINT64_MAX : audit_checkpoint_due(s);
}
