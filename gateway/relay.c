/* SPDX-License-Identifier: Apache-2.0 */
#include "relay.h"

#include "common/util.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#define FLAGS (SPLICE_F_MOVE | SPLICE_F_NONBLOCK)
#define UNSENT_MAX (256 * 1024) /* bytes the kernel holds unsent for a slow reader */
#define PIPE_BYTES (64u * 1024) /* the most that a slow reader leaves in a pipe */

void relay_set_options(int fd) {
        static const int one = 1, unsent = UNSENT_MAX;
        static const struct linger none = {.l_onoff = 1};

        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
        setsockopt(fd, IPPROTO_TCP, TCP_NOTSENT_LOWAT, &unsent, sizeof(unsent));
        setsockopt(fd, SOL_SOCKET, SO_LINGER, &none, sizeof(none));
}

void relay_close(int *fd, bool reset) {
        const struct linger l = {.l_onoff = reset};

        setsockopt(*fd, SOL_SOCKET, SO_LINGER, &l, sizeof(l));
        crew_close(fd);
}

void relay_note(struct relay_end *e, uint32_t events) {
        const bool broken = (events & (EPOLLHUP | EPOLLERR)) != 0;

        e->failed |= broken;
        e->ended |= broken || (events & EPOLLRDHUP) != 0;
        e->gapped |= e->ended || (events & EPOLLPRI) != 0;
        e->readable |= broken || (events & (EPOLLIN | EPOLLRDHUP | EPOLLPRI)) != 0;
        e->writable |= broken || (events & EPOLLOUT) != 0;
}

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

/* What the destination does not take waits in the pipe. */
static ssize_t send_small(struct relay_way *w, struct relay_end *to, const char *bytes, size_t n) {
        ssize_t put = send(to->fd, bytes, n, MSG_DONTWAIT | MSG_NOSIGNAL);

        if (put < 0 && errno != EAGAIN)
                return -errno;
        put = MAX_OF(put, 0);
        w->bytes += (uint64_t)put;
        if ((size_t)put == n)
                return put;
        to->writable = false;
        w->in_pipe = (uint32_t)(n - (size_t)put);
        return write(w->pipe[1], bytes + put, w->in_pipe) == (ssize_t)w->in_pipe ? put : -EIO;
}

/* As fill(), of a way with nothing in its pipe to a writable destination; *out: bytes that arrived there. */
static ssize_t pass_small(struct hub *h, struct relay_way *w, struct relay_end *from, struct relay_end *to,
                          uint64_t allowance, ssize_t *out) {
        static char bytes[RELAY_SMALL];
        size_t room = MIN_OF((uint64_t)RELAY_SMALL, allowance);

        if (w->pipe[0] < 0 && hub_pipe_get(h, w->pipe) < 0)
                return look(w, from);
        ssize_t n = recv(from->fd, bytes, room, MSG_DONTWAIT);
        if (n < 0 && errno != EAGAIN)
                return -errno;
        if (n < 0)
                from->readable = false;
        if (n == 0)
                w->end_seen = true;
        if (n <= 0)
                return 0;
        if ((size_t)n < room && !from->gapped)
                from->readable = false; /* there is nothing behind a short read */
        w->bulk = (size_t)n == RELAY_SMALL;
        *out = send_small(w, to, bytes, (size_t)n);
        return *out < 0 ? *out : n;
}

static int pass_end(struct relay_way *w, struct relay_end *from, struct relay_end *to) {
        if (!w->end_seen || w->end_passed || w->in_pipe > 0)
                return 0;
        w->end_passed = from->spent = true;
        if (to->spent)
                return 0;
        return shutdown(to->fd, SHUT_WR) < 0 ? -errno : 0;
}

static int settle(struct hub *h, struct relay_way *w, struct relay_end *from, struct relay_end *to, int r) {
        if (w->in_pipe == 0)
                hub_pipe_put(h, w->pipe, true);
        int ended = pass_end(w, from, to);
        return ended < 0 ? ended : r;
}

static bool may_fill(const struct relay_way *w, const struct relay_end *from, uint64_t allowance) {
        return !w->end_seen && from->readable && w->in_pipe < PIPE_BYTES && allowance > 0;
}

int relay_move(struct hub *h, struct relay_way *w, struct relay_end *from, struct relay_end *to, uint64_t *allowance) {
        uint64_t moved = 0;

        while (moved < RELAY_TURN) {
                ssize_t in = 0, out = 0;
                if (may_fill(w, from, *allowance)) {
                        const bool small = !w->bulk && w->in_pipe == 0 && to->writable;
                        in = small ? pass_small(h, w, from, to, *allowance, &out) : fill(h, w, from, *allowance);
                        if (in < 0 && in != -EMFILE)
                                return (int)in;
                        *allowance -= (uint64_t)MAX_OF(in, 0);
                }
                if (w->in_pipe > 0 && to->writable && (out = drain(w, to)) < 0)
                        return (int)out;
                if (in == -EMFILE)
                        return settle(h, w, from, to, RELAY_POOR);
                if (in <= 0 && out <= 0) {
                        w->bulk &= moved >= RELAY_SMALL;
                        return settle(h, w, from, to,
                                      *allowance == 0 && from->readable && !w->end_seen ? RELAY_DRY : RELAY_WAITS);
                }
                moved += (uint64_t)out;
        }
        return settle(h, w, from, to, RELAY_MORE);
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
