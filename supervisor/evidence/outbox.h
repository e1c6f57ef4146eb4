/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What is to be told to crewd about one instance.  Equal events that wait are one entry with a count; when the box is
 * full, or fills faster than OUTBOX_RATE, events are only counted by kind.  Bounded, and no count is lost.
 */
#pragma once

#include "server.h"

#define OUTBOX_ENTRIES 1024u
#define OUTBOX_BYTES (512u * 1024) /* of paths */
#define OUTBOX_RATE 4000u          /* messages a second */
#define OUTBOX_BURST 2048u

struct event {
        enum evidence_source source;
        enum evidence_what what;
        int32_t pid;
        uint64_t time_ns, count;
        const char *access;
        const char *path;
        size_t path_len;
};

struct outbox *outbox_new(void);
struct outbox *outbox_free(struct outbox *o);
void outbox_add(struct outbox *o, const struct event *ev);
/* EVIDENCE_LOST, in order with the events. */
void outbox_add_lost(struct outbox *o, enum evidence_source source, uint64_t count);
/* Sends what may be sent now; everything when all is set.  0: nothing waits; 1: something still does; or an errno. */
int outbox_flush(struct outbox *o, struct server *sv, const struct instance *in, bool all);
bool outbox_empty(const struct outbox *o);
