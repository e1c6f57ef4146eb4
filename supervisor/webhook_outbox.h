/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The webhook's records on disk, one file each, and which of them are on their way.
 *
 * At most WEBHOOK_WAITING_MAX are on their way; what is put off for that is remembered by its id, the oldest few in memory,
 * all others by being on disk: those are looked for when the ones in memory have been handed over, some names at a time, so
 * that neither memory nor a turn of the loop grows with what waits.  Ids grow, so the least is the oldest.
 *
 * One that was given up stays on disk and is not looked for again before webhook_outbox_look(); but for one case, which
 * costs a repeat: the clock was set back, and many wait.
 */
#pragma once

#include "common/err.h"
#include "common/webhook.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define WEBHOOK_OUTBOX_IDS 1024u  /* put off, in memory */
#define WEBHOOK_OUTBOX_NAMES 512u /* of the directory, a step */
#define WEBHOOK_OUTBOX_DONE 256u  /* delivered, and their files still there */
#define WEBHOOK_OUTBOX_DONE_STEP 4u
#define WEBHOOK_OUTBOX_SPARE 64u /* files made ahead, empty: a burst of as many deaths makes none */
#define WEBHOOK_OUTBOX_MADE 4u   /* a step */

struct webhook_outbox;

/* Makes the directory; nothing in it is known of before webhook_outbox_look(). */
int webhook_outbox_open(const char *dir, struct webhook_outbox **out, struct crew_err *err);
struct webhook_outbox *webhook_outbox_close(struct webhook_outbox *o);

/* Makes some of the files that webhook_outbox_write() takes: to make one costs more than to fill it.  True: there are more
 * to be made.  For a quiet moment. */
bool webhook_outbox_prepare(struct webhook_outbox *o);
/* Its bytes are on disk when it returns, its name with the next webhook_outbox_sync(): one sync for a burst. */
int webhook_outbox_write(struct webhook_outbox *o, uint64_t id, const char *json, size_t n, struct crew_err *err);
int webhook_outbox_sync(struct webhook_outbox *o, struct crew_err *err);
int webhook_outbox_read(const struct webhook_outbox *o, uint64_t id, char **json, size_t *n, struct crew_err *err);

/* Before the first look: removes those of which it says so. */
void webhook_outbox_forget(struct webhook_outbox *o, bool (*which)(const char *json, void *user), void *user);

/* One that was just written: is it its turn?  True: it is on its way from here on.  False: it was put off. */
bool webhook_outbox_send(struct webhook_outbox *o, uint64_t id);
/* The oldest that was put off: true: it is on its way from here on.  False: there is none, or no room, or one has to look.
 */
bool webhook_outbox_next(struct webhook_outbox *o, uint64_t *id);
/* It is on its way no more.  delivered: nor is it a record any more; otherwise it is not handed out again before the next
 * look from the start. */
void webhook_outbox_end(struct webhook_outbox *o, uint64_t id, bool delivered);
/* Files of delivered ones, which only have another name by now: to free their blocks takes a millisecond each on some
 * disks, and whoever writes waits for that too.  For a quiet moment: takes some of them, and another thread may remove them
 * then. */
struct webhook_outbox_done {
        uint32_t n; /* 0: there are none */
        uint64_t ids[WEBHOOK_OUTBOX_DONE_STEP];
};
void webhook_outbox_take_done(struct webhook_outbox *o, struct webhook_outbox_done *out);
void webhook_outbox_remove(const struct webhook_outbox *o, const struct webhook_outbox_done *done);

uint32_t webhook_outbox_sent(const struct webhook_outbox *o); /* on their way */
bool webhook_outbox_putting_off(const struct webhook_outbox *o);

/* Nothing is on its way: everything on disk is put off. */
void webhook_outbox_look(struct webhook_outbox *o);
/* There is something to look for before webhook_outbox_next() can say more. */
bool webhook_outbox_must_look(const struct webhook_outbox *o);
/* One step of that; true when it was the last one.  found: how many records there were, in this look. */
bool webhook_outbox_step(struct webhook_outbox *o, uint64_t *found);
