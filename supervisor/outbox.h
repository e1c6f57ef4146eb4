/* SPDX-License-Identifier: Apache-2.0 */
/*
 * on_supervisor_loss: hold.  Frames to one worker: they leave when crewd's state, of which they are part, is where the next
 * crewd finds it, and are kept until the worker has acknowledged them.  How much that may be is the caller's to bound:
 * a hostile worker reads, and acknowledges nothing.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct link;
struct bytes_in;
struct bytes_out;

struct outbox_frame {
        struct outbox_frame *next;
        uint64_t seq;
        size_t n;
        uint8_t bytes[];
};

/* Zeroed: empty. */
struct outbox {
        struct outbox_frame *first, *last, *unsent; /* owned; unsent: from there on */
        size_t unsent_bytes, n_unsent;
        size_t bytes; /* what all of it takes here */
};

int outbox_add(struct outbox *o, uint64_t seq, const uint8_t *bytes, size_t n);
/* The worker has had everything up to seq. */
void outbox_acknowledged(struct outbox *o, uint64_t seq);
/* The lowest seq that can be sent (again); 0: none is kept. */
uint64_t outbox_first(const struct outbox *o);
/* Everything is to be sent again. */
void outbox_rewind(struct outbox *o);
/* Hands over what the link takes. */
void outbox_flush(struct outbox *o, struct link *l);
void outbox_clear(struct outbox *o);
void outbox_save(const struct outbox *o, struct bytes_out *b);
int outbox_load(struct outbox *o, struct bytes_in *b);
