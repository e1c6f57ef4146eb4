/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The audit writer: one append-only, hash-chained stream an agent, outside every jail.  The only way to write evidence.
 *
 * May not drop: when a line cannot be written the stream is poisoned, audit_append() returns the errno from then on, and
 * the caller refuses the action and freezes the agent.  audit_append is durable-later (within 100 ms);
 * audit_append_durable returns after fdatasync.
 */
#pragma once

#include "common/record.h"

struct audit_stream;
/* Opens (or continues) <dir>/<agent>/log.jsonl (dir 0700, file 0600, O_APPEND, lock held).  On continue the tail is
 * checked: a torn last line is cut off into log.jsonl.torn-N and said in the RECORD_LOG_OPENED record. */
int audit_open(const char *dir, const char *crew, const char *agent, struct audit_stream **out, struct crew_err *err);
struct audit_stream *audit_close(struct audit_stream *s); /* syncs, unlocks, frees; NULL */
void audit_set_incarnation(struct audit_stream *s, uint32_t incarnation);
int audit_append(struct audit_stream *s, const struct record *r, uint64_t *seq);
int audit_append_durable(struct audit_stream *s, const struct record *r, uint64_t *seq);
/* Buffered lines out and fdatasync if any are younger than the last sync; called by a 100 ms timer. */
int audit_sync(struct audit_stream *s);
bool audit_poisoned(const struct audit_stream *s);
uint64_t audit_seq(const struct audit_stream *s);
uint64_t audit_count(const struct audit_stream *s, enum record_kind kind); /* since open; folded ones counted in full */
const char *audit_path(const struct audit_stream *s);

/* Folding: identical observations (same kind, same key fields) within a window become one line with "count".
 * Used by callers for kernel evidence; key is any bytes.  audit_fold_flush writes what is pending. */
int audit_observe(struct audit_stream *s, const struct record *r, uint32_t count);
int audit_fold_flush(struct audit_stream *s);
