/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One side of a proxied connection, the agent's or the server's: plain or TLS, with a bounded buffer each way.  Buffers
 * exist only while they hold something, so an idle connection costs none.
 */
#pragma once

#include "conn.h"
#include "http_forward.h"
#include "tls.h"

#define HALF_IN (CONN_FIRST_MAX + 1024)
#define HALF_OUT (HTTP_HEAD_MAX + HTTP_FORWARD_EXTRA)

struct half {
        struct conn *conn;
        enum conn_side side;
        struct tls *tls; /* NULL: plain */
        char *in, *out;
        size_t in_at, in_end, out_at, out_end;
        bool eof;       /* no more bytes come */
        bool truncated; /* and TLS did not say that this was all */
        bool deaf;      /* it takes no more bytes: what is written is dropped */
        bool failed;    /* neither way any more */
        bool lost;      /* the socket itself */
        char error[160];
};

void half_init(struct half *h, struct conn *conn, enum conn_side side, struct tls *tls);
void half_fini(struct half *h); /* frees tls too; what was in the buffers is overwritten */
/* Bytes that were read from the socket before. */
int half_begin(struct half *h, const void *bytes, size_t n);

/* Both move what can be moved and tell if anything was; *budget shrinks by what came off the wire, none is read at 0. */
bool half_fill(struct half *h, size_t *budget);
bool half_flush(struct half *h);
/* Reads and forgets: -EAGAIN, 0 at the end, or what failed. */
int half_drain(struct half *h, size_t *budget);
/* TLS is up (or there is none). */
bool half_ready(struct half *h);

size_t half_in(struct half *h, char **p);
void half_take(struct half *h, size_t n);
/* Nothing waits to be sent, ciphertext included. */
bool half_sent(struct half *h);
/* Room in the out buffer, *p is where; tell with half_put() how much was written there. */
size_t half_room(struct half *h, char **p);
void half_put(struct half *h, size_t n);
/* Frees buffers that hold nothing. */
void half_trim(struct half *h);
