/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Messages of one struct, with descriptors, to and from one of our own helper processes over a SOCK_SEQPACKET pair.
 *
 * The helper is trusted to be our program, not to be intact: a message of another size, or with more descriptors than
 * fit, closes the channel as if the helper had died.
 */
#pragma once

#include "common/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <uv.h>

#define CHANNEL_FDS_MAX 8
#define CHANNEL_BUDGET 64        /* messages taken per wake-up */
#define CHANNEL_QUEUE_MAX 16384u /* messages waiting to be sent */

struct channel;
struct channel_callbacks {
        /* fds are the callee's to close; what it keeps it sets to -1. */
        void (*on_message)(const void *msg, int *fds, size_t n_fds, void *user);
        void (*on_hangup)(void *user);            /* once; nothing comes after */
        void (*on_turn)(bool begins, void *user); /* NULL, or around the messages that are taken in one turn of the loop */
        /* Not 0: while messages come in, they are fetched every so many ms together, and nobody is woken for each. */
        unsigned gather_ms;
        /* Not 0: a message that comes in may be cut off behind so many bytes; what is missing is zeros. */
        size_t head_bytes;
};

/* Owns fd, also on failure. */
int channel_open(uv_loop_t *loop, int fd, size_t msg_bytes, const struct channel_callbacks *cb, void *user,
                 struct channel **out, struct crew_err *err);
/* Sends or queues.  fds stay the caller's (they are duplicated when the message must wait).  -EPIPE, -ENOBUFS, -ENOMEM. */
int channel_send(struct channel *c, const void *msg, const int *fds, size_t n_fds);
/* The same without descriptors, and without what is behind the first n bytes: for those whose text seldom fills its room.
 */
int channel_send_part(struct channel *c, const void *msg, size_t n);
/* What is sent from now on waits until it is released, in order; then what is sent later does, or not. */
void channel_hold(struct channel *c);
void channel_release(struct channel *c, bool go_on);
/* Nothing is delivered any more; freed in its close callback. */
void channel_close(struct channel *c);

/* Starts one of our programs with one end of a new pair, before any thread or event loop exists:
 * `PROGRAM option N`, N being the descriptor's number there, with that environment.  Returns our end, or -errno. */
int channel_start_program(const char *program, const char *option, const char *const *env, pid_t *pid,
                          struct crew_err *err);
/* A SOCK_SEQPACKET pair with room for a burst of messages each way, close-on-exec. */
int channel_pair(int pair[2]);
