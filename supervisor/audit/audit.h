/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The audit writer: one append-only, hash-chained stream an agent, outside every jail.  The only way to write evidence.
 *
 * May not drop: when a line cannot be written the stream is poisoned, audit_append() returns the errno from then on, and
 * the caller refuses the action and freezes the agent.  audit_append is durable-later (within 100 ms, by audit_sync);
 * audit_append_durable returns after fdatasync, which also covers all lines before it.  Room for a line is reserved on
 * disk before the line is accepted (where the file system can), so a full disk refuses a line instead of losing one.
 * A poisoned stream is closed and opened again to go on.
 */
#pragma once

#include "common/note.h"
#include "common/record.h"

/* The stream of the crew itself; no agent can have the name. */
#define AUDIT_CREW "@crew"

struct audit_stream;
/* Opens (or continues) <dir>/<agent>/log.jsonl (dir 0700, file 0600, O_APPEND, lock held; -EBUSY when another writer
 * holds it) and appends a RECORD_LOG_OPENED.  On continue the tail is checked: a torn last line is cut off into
 * log.jsonl.torn-N and said in that record; a last line that is no record of this stream is -EBADMSG.  With a key, which
 * must outlive the stream, it has checkpoints (below); NULL: it has none.  agent: a name, or AUDIT_CREW. */
int audit_open(const char *dir, const char *crew, const char *agent, const struct sign_key *key, struct audit_stream **out,
               struct crew_err *err);
/* Flushes folds, syncs, signs what is not signed yet, unlocks, frees; NULL. */
struct audit_stream *audit_close(struct audit_stream *s);
void audit_set_incarnation(struct audit_stream *s, uint32_t incarnation);        /* 0 until set */
int audit_append(struct audit_stream *s, const struct record *r, uint64_t *seq); /* seq may be NULL */
int audit_append_durable(struct audit_stream *s, const struct record *r, uint64_t *seq);
/* Pending folds of a finished window and buffered lines out, then fdatasync if anything was written since the last;
 * called by a 100 ms timer. */
int audit_sync(struct audit_stream *s);
/* What was accepted into the file, so that it outlives this process; not durable. */
int audit_write(struct audit_stream *s);
/* The same in two halves, for a thread that waits for the disk meanwhile.  1: it is to call fdatasync on *fd, a descriptor
 * of its own, so that a fault is seen there and by audit_append_durable() alike; audit_sync_end() takes the errno.  0:
 * nothing is to do.  One at a time, and before audit_close(). */
int audit_sync_begin(struct audit_stream *s, int *fd);
int audit_sync_end(struct audit_stream *s, int error);
/*
 * on_supervisor_loss: hold.  From audit_hold() on nothing of what is accepted reaches the file: audit_release() lets it go,
 * and returns when all that was asked to be durable is; 1: there is more for audit_sync(); on error the effects must not
 * follow. In between, audit_held() is what another process needs (whole lines, and their place in the file) to do the same
 * should this one die, with audit_complete() before it opens the stream: the file may have got none, some or all of them.
 * -EBADMSG: it has others.
 */
void audit_hold(struct audit_stream *s);
int audit_held(struct audit_stream *s, const char **lines, size_t *n, uint64_t *at); /* until the next call */
int audit_release(struct audit_stream *s, bool go_on);
int audit_complete(const char *dir, const char *agent, const char *lines, size_t n, uint64_t at, struct crew_err *err);

/*
 * Checkpoints: the number of lines in the file and the root of their tree, signed, in <dir>/<agent>/checkpoint.  Nothing is
 * signed that is not on disk.  One is due AUDIT_SIGN_NS after the last, or at once when the agent was killed or has ended.
 */
#define AUDIT_SIGN_NS 1000000000u
struct audit_checkpoint { /* what a thread signs and writes: a copy, but for the key and the stream's descriptor */
        const struct sign_key *key;
        int dirfd;
        bool first; /* there was none */
        struct note note;
};
/* When it is due, on the stream's clock; UINT64_MAX: everything is signed, or nothing can be any more. */
uint64_t audit_checkpoint_due(const struct audit_stream *s);
/* True: one is due, of all that the file has now.  It may be written once a sync that began after this has succeeded, and
 * is ended; one at a time, and before audit_close(). */
bool audit_checkpoint_begin(struct audit_stream *s, struct audit_checkpoint *out);
int audit_checkpoint_write(const struct audit_checkpoint *c); /* on any thread; 0 or -errno */
void audit_checkpoint_end(struct audit_stream *s, const struct audit_checkpoint *c, int result);
uint64_t audit_signed_lines(const struct audit_stream *s);
/* All of it at once, of everything that was accepted, due or not.  1: it is on disk; 0: all is signed; -errno. */
int audit_checkpoint_now(struct audit_stream *s, struct audit_checkpoint *made);

bool audit_poisoned(const struct audit_stream *s);
uint64_t audit_seq(const struct audit_stream *s);                          /* of the last record */
uint64_t audit_count(const struct audit_stream *s, enum record_kind kind); /* since open; folded ones counted in full */
const char *audit_path(const struct audit_stream *s);

/*
 * Folding, for observations an agent can cause at will (kernel evidence, denied connections).  Same kind, source and
 * text fields ("comm" and numbers such as pid do not count) within AUDIT_FOLD_WINDOW_NS: the first is a line at once,
 * the others become one more line with "count" at the end of the window.  Different ones are lines each, as long as
 * the stream's budget lasts (a burst of AUDIT_FOLD_BURST, then AUDIT_FOLD_RATE a second); beyond it they are counted
 * by kind in an evidence.folded record.  Counts are exact; memory is bounded.  Sets "count" itself.
 */
#define AUDIT_FOLD_WINDOW_NS 1000000000u
#define AUDIT_FOLD_BURST 8192u
#define AUDIT_FOLD_RATE 64u
int audit_observe(struct audit_stream *s, const struct record *r, uint32_t count);
int audit_fold_flush(struct audit_stream *s); /* writes what is pending now; before a record that must come after it */
