/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A thread that waits for the disk, so that the loop does not: fdatasync for one after the other, in the order they
 * were asked for.  What must be durable before an effect does not go this way.  Other work that waits for the disk is done
 * when no file waits.
 */
#pragma once

#include "common/err.h"

struct syncer;
struct uv_loop_s;
struct sync_job {
        struct sync_job *next;
        int fd;                                /* stays open until on_done */
        int (*work)(struct sync_job *job);     /* instead of fdatasync; on the thread; 0 or -errno */
        void (*on_done)(struct sync_job *job); /* on the loop's thread */
        int error;                             /* an errno; 0: it is on disk */
        void *data;
};

int syncer_open(struct uv_loop_s *loop, struct syncer **out, struct crew_err *err);
/* The job is the syncer's until on_done.  It waits for syncer_begin(): several that begin together cost less. */
void syncer_add(struct syncer *s, struct sync_job *job);
void syncer_begin(struct syncer *s);
/* Waits for the thread; what it has not begun is left, and no on_done is called any more.  NULL is fine. */
void syncer_close(struct syncer *s);
