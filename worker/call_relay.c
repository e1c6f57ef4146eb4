/* SPDX-License-Identifier: Apache-2.0 */
/* Two one-way copies that never wait for each other: each holds at most one block. */
#include "call_relay.h"

#include "common/util.h"

#include <errno.h>
#include <poll.h>
#include <sys/socket.h>

#define BLOCK 4096u /* PIPE_BUF: a pipe that polls writable takes it without blocking */

struct copy {
        int from, to;
        size_t n, sent;
        bool ended;
        char buf[BLOCK];
};

static void want(const struct copy *c, struct pollfd *in, struct pollfd *out) {
        *in = (struct pollfd){.fd = !c->ended && c->n == 0 ? c->from : -1, .events = POLLIN};
        *out = (struct pollfd){.fd = c->n > 0 ? c->to : -1, .events = POLLOUT};
}

static int fill(struct copy *c) {
        ssize_t r = read(c->from, c->buf, sizeof(c->buf));

        if (r < 0)
                return errno == EINTR || errno == EAGAIN ? 0 : -errno;
        c->ended = r == 0;
        c->n = (size_t)r;
        c->sent = 0;
        return 0;
}

static int drain(struct copy *c) {
        ssize_t r = send(c->to, c->buf + c->sent, c->n - c->sent, MSG_NOSIGNAL | MSG_DONTWAIT);

        if (r < 0 && errno == ENOTSOCK)
                r = write(c->to, c->buf + c->sent, c->n - c->sent);
        if (r < 0)
                return errno == EINTR || errno == EAGAIN ? 0 : -errno;
        c->sent += (size_t)r;
        if (c->sent == c->n)
                c->n = c->sent = 0;
        return 0;
}

static int step(struct copy *c, const struct pollfd *in, const struct pollfd *out) {
        int r = 0;

        if (out->fd >= 0 && out->revents)
                r = drain(c);
        if (r == 0 && in->fd >= 0 && in->revents)
                r = fill(c);
        return r;
}

int call_relay(int sock) {
        struct copy up = {.from = STDIN_FILENO, .to = sock}, down = {.from = sock, .to = STDOUT_FILENO};
        bool told = false;
        int r = 0;

        while (r == 0 && !(down.ended && down.n == 0)) {
                struct pollfd p[4];
                want(&up, &p[0], &p[1]);
                want(&down, &p[2], &p[3]);
                if (poll(p, 4, -1) < 0 && errno != EINTR)
                        return -errno;
                r = step(&down, &p[2], &p[3]);
                if (r == 0)
                        r = step(&up, &p[0], &p[1]);
                if (up.ended && up.n == 0 && !told)
                        told = shutdown(sock, SHUT_WR) == 0; /* what is open is still answered */
        }
        return r == -EPIPE ? 0 : r;
}
