/* SPDX-License-Identifier: Apache-2.0 */
#include "relay.h"

#include "common/util.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/socket.h>

#define FLAGS (SPLICE_F_MOVE | SPLICE_F_NONBLOCK)
#define PIPE_BYTES (64u * 1024) /* the most that a slow reader leaves in a pipe */

static ssize_t move(int from, int to, size_t n) {
        for (;;) {
                ssize_t r = splice(from, NULL, to, NULL, n, FLAGS);
                if (r >= 0 || errno != EINTR)
                        return r < 0 ? -errno : r;
        }
}

/* Without a pipe: is it only an end that is there to be read?  Connections that end must be able to, or those that wait
 * for descriptors would wait for each other. */
static ssize_t look(struct relay_way *w, struct relay_end *from) {
        char c;
        ssize_t n = recv(from->fd, &c, 1, MSG_PEEK | MSG_DONTWAIT);

        if (n > 0)
                return -EMFILE;
        if (n == 0)
                w->end_seen = true;
        else if (errno == EAGAIN)
                from->readable = false;
        else
                return -errno;
        return 0;
}

/* Bytes, 0 when there were none; -EMFILE when there is no pipe to be had. */
static ssize_t fill(struct hub *h, struct relay_way *w, struct relay_end *from, uint64_t allowance) {
        size_t n = MIN_OF((uint64_t)(PIPE_BYTES - w->in_pipe), allowance);

        if (w->pipe[0] < 0 && hub_pipe_get(h, w->pipe) < 0)
                return look(w, from);
        ssize_t got = move(from->fd, w->pipe[1], n);
        if (got > 0) {
                w->in_pipe += (uint32_t)got;
                return got;
        }
        if (got == 0) {
                w->end_seen = true;
                return 0;
        }
        if (got != -EAGAIN)
                return got;
        /* With bytes in it the pipe may be what was full. */
        if (w->in_pipe == 0)
                from->readable = false;
        return 0;
}

static ssize_t drain(struct relay_way *w, struct relay_end *to) {
        ssize_t put = move(w->pipe[0], to->fd, w->in_pipe);

        if (put > 0) {
                w->in_pipe -= (uint32_t)put;
                w->bytes += (uint64_t)put;
                return put;
        }
        if (put != -EAGAIN)
                return put;
        to->writable = false;
        return 0;
}

static int pass_end(struct relay_way *w, struct relay_end *to) {
        if (!w->end_seen || w->end_passed || w->in_pipe > 0)
                return 0;
        w->end_passed = true;
        return shutdown(to->fd, SHUT_WR) < 0 ? -errno : 0;
}

static int settle(struct hub *h, struct relay_way *w, struct relay_end *to, int r) {
        if (w->in_pipe == 0)
                hub_pipe_put(h, w->pipe, true);
        int ended = pass_end(w, to);
        return ended < 0 ? ended : r;
}

int relay_move(struct hub *h, struct relay_way *w, struct relay_end *from, struct relay_end *to, uint64_t *allowance) {
        for (uint64_t moved = 0; moved < RELAY_TURN;) {
                ssize_t in = 0, out = 0;
                if (!w->end_seen && from->readable && w->in_pipe<PIPE_BYTES && * allowance> 0) {
                        in = fill(h, w, from, *allowance);
                        if (in < 0 && in != -EMFILE)
                                return (int)in;
                        *allowance -= (uint64_t)MAX_OF(in, 0);
                }
                if (w->in_pipe > 0 && to->writable && (out = drain(w, to)) < 0)
                        return (int)out;
                if (in == -EMFILE)
                        return settle(h, w, to, RELAY_POOR);
                if (in <= 0 && out <= 0)
                        return settle(h, w, to,
                                      *allowance == 0 && from->readable && !w->end_seen ? RELAY_DRY : RELAY_WAITS);
                moved += (uint64_t)out;
        }
        return settle(h, w, to, RELAY_MORE);
}

ssize_t relay_some(struct hub *h, struct relay_way *w, struct relay_end *from, struct relay_end *to, uint64_t n,
                   uint64_t *allowance) {
        uint64_t arrived = 0;
        ssize_t in, out;

        do {
                uint64_t want = MIN_OF(n - arrived - MIN_OF((uint64_t)w->in_pipe, n - arrived), *allowance);
                in = out = 0;
                if (!w->end_seen && from->readable && w->in_pipe < PIPE_BYTES && want > 0 &&
                    (in = fill(h, w, from, want)) > 0)
                        *allowance -= (uint64_t)in;
                if (in < 0 && in != -EMFILE)
                        return in;
                if (w->in_pipe > 0 && to->writable && (out = drain(w, to)) < 0)
                        return out;
                arrived += (uint64_t)out;
        } while ((in > 0 || out > 0) && arrived < n && arrived < RELAY_TURN);
        if (w->in_pipe == 0)
                hub_pipe_put(h, w->pipe, true);
        if (arrived > 0)
                return (ssize_t)arrived;
        if (w->end_seen && w->in_pipe == 0)
                return 0;
        return in == -EMFILE ? -EMFILE : -EAGAIN;
}

void relay_way_fini(struct hub *h, struct relay_way *w) {
        hub_pipe_put(h, w->pipe, w->in_pipe == 0);
        *w = RELAY_WAY_NULL;
}
