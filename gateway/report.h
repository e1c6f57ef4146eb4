/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the gateway tells crewd, in order.  The socket never blocks: what it does not take is queued, and whoever must not
 * go on before crewd has a message is called when it was written.  The queue is bounded by its users: a connection keeps
 * its place in the agent's limits until its last message is written, denials are folded.
 *
 * Identical denials of one instance within a window become one message with a count, so that a flood costs bounded memory
 * and is still counted exactly.
 */
#pragma once

#include "common/gate.h"

#include <stdbool.h>
#include <stddef.h>

#define REPORT_DIFFERENT_MAX 32 /* of one instance in a window; the others are counted together */
#define REPORT_NAMES_MAX 16     /* of those, names that were asked for: they cost nothing, and are not to hide the dials */
#define REPORT_OTHERS "(others)"
#define REPORT_WINDOW_MS 100

struct report_item;
struct report {
        int fd;
        struct report_item *head, **tail;
        size_t n_queued;
        struct denials *pending; /* agents with counts that were not sent yet */
};

/* Of one instance; zeroed is empty.  Has to be flushed or dropped before it goes away. */
struct denials {
        struct denials *next;
        bool listed;
        size_t n, n_names;
        struct denial *slot; /* allocated while there are any */
};

void report_init(struct report *r, int fd);
void report_fini(struct report *r);
/* Queued behind everything else; sent (may be NULL) is called when it was written, but not from here.  0: written now;
 * 1: queued; negative: crewd is gone or we are out of memory, and the gateway has to end. */
int report_send(struct report *r, const struct gate_msg *m, void (*sent)(void *user), void *user);
/* m: .id .proto .port .name .text .where .verdict .count (0 is 1).  Sends at once when it is the first of its kind in this
 * window, else counts it. */
int report_denied(struct report *r, struct denials *d, const struct gate_msg *m);
/* Writes what the socket takes.  0, or negative as above. */
int report_write(struct report *r);
/* Sends the counts gathered since; the window starts anew.  Does nothing while crewd is behind: the counts grow. */
int report_flush(struct report *r);
/* The counts of one that goes away, whatever crewd does. */
int report_flush_one(struct report *r, struct denials *d);
static inline bool report_pending(const struct report *r) {
        return r->pending != NULL;
}
static inline bool report_behind(const struct report *r) {
        return r->head != NULL;
}
