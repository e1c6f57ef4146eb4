/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the hook has yet to be told, in a file, so that a crewd that is killed does not take it along.
 *
 * Append-only: "put ID AGENT JSON" before the hook is asked to run, on disk before hook_outbox_put() or hook_outbox_sync()
 * returns, and "ack ID" once it has ended.  A lost ack repeats a termination under its old id; nothing that was put is
 * lost.  Whatever is acknowledged is dropped when the file is opened or closed, when it has grown, and by
 * hook_outbox_tidy(). The file is in crewd's private state directory; a line that makes no sense is dropped and counted all
 * the same.
 */
#pragma once

#include "common/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define HOOK_OUTBOX_MAX 1024u
#define HOOK_OUTBOX_BYTES (8u << 20) /* of JSON that waits */
#define HOOK_OUTBOX_SPARE (1u << 20) /* acknowledged bytes that are left in the file */

struct hook_outbox;
struct hook_outbox_item {
        uint64_t id;
        char agent[64];
        char *json; /* owned by the outbox; one line */
        size_t n;
        bool running; /* the caller's: handed out, and not acknowledged */
        struct hook_outbox_item *next;
};

/* Reads what the file holds.  *dropped: lines without a meaning, among them one that was cut off. */
int hook_outbox_open(const char *path, struct hook_outbox **out, uint32_t *dropped, struct crew_err *err);
struct hook_outbox *hook_outbox_close(struct hook_outbox *o);
/* -ENOBUFS: too many wait, nothing was kept; another error: it waits, but would not survive this process. */
int hook_outbox_put(struct hook_outbox *o, uint64_t id, const char *agent, const char *json, size_t n,
                    struct crew_err *err);
/* The same, on disk only once hook_outbox_sync() has returned 0: one sync for all that was added. */
int hook_outbox_add(struct hook_outbox *o, uint64_t id, const char *agent, const char *json, size_t n,
                    struct crew_err *err);
int hook_outbox_sync(struct hook_outbox *o, struct crew_err *err);
/* The oldest, or NULL. */
const struct hook_outbox_item *hook_outbox_first(const struct hook_outbox *o);
/* The oldest that does not run, and whose agent has no older one there: an agent's own come one by one.  NULL: none. */
struct hook_outbox_item *hook_outbox_next(struct hook_outbox *o);
struct hook_outbox_item *hook_outbox_find(struct hook_outbox *o, uint64_t id); /* NULL: none */
/* It was told. */
void hook_outbox_ack(struct hook_outbox *o, uint64_t id);
/* When nothing waits any more, empties the file.  For a quiet moment: freeing its blocks takes milliseconds on some disks.
 */
void hook_outbox_tidy(struct hook_outbox *o);
size_t hook_outbox_count(const struct hook_outbox *o);
