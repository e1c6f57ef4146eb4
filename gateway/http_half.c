/* SPDX-License-Identifier: Apache-2.0 */
#include "http_half.h"

#include "common/util.h"

#include <errno.h>
#include <string.h>

static char wire[16384]; /* ciphertext on its way from the socket to TLS */

void half_init(struct half *h, struct conn *conn, enum conn_side side, struct tls *tls) {
        *h = (struct half){.conn = conn, .side = side, .tls = tls};
}

static void drop(char **buf, size_t n) {
        if (*buf)
                explicit_bzero(*buf, n);
        free(*buf);
        *buf = NULL;
}

void half_fini(struct half *h) {
        drop(&h->in, HALF_IN);
        drop(&h->out, HALF_OUT);
        h->tls = tls_free(h->tls);
}

void half_trim(struct half *h) {
        if (h->in_at == h->in_end) {
                drop(&h->in, HALF_IN);
                h->in_at = h->in_end = 0;
        }
        if (h->out_at == h->out_end) {
                drop(&h->out, HALF_OUT);
                h->out_at = h->out_end = 0;
        }
}

static bool fail(struct half *h, const char *what, int error) {
        h->failed = h->deaf = h->eof = true;
        h->lost = h->lost || error;
        if (!h->error[0])
                snprintf(h->error, sizeof(h->error), "%s%s%s", what, error ? ": " : "", error ? strerror(error) : "");
        return true;
}

/* Room behind what is there already. */
static size_t in_room(struct half *h) {
        if (!h->in && !(h->in = malloc(HALF_IN)))
                return 0;
        if (h->in_at > 0) {
                memmove(h->in, h->in + h->in_at, h->in_end - h->in_at);
                h->in_end -= h->in_at;
                h->in_at = 0;
        }
        return HALF_IN - h->in_end;
}

int half_begin(struct half *h, const void *bytes, size_t n) {
        if (h->tls)
                return tls_feed(h->tls, bytes, n);
        if (in_room(h) < n)
                return -ENOMEM;
        memcpy(h->in, bytes, n);
        h->in_end = n;
        return 0;
}

static const char *whose(const struct half *h) {
        return h->side == CONN_JAIL ? "the agent" : "the server";
}

/* More ciphertext for TLS.  False: none now. */
static bool feed(struct half *h, size_t *budget) {
        ssize_t n = *budget ? conn_recv(h->conn, h->side, wire, MIN_OF(sizeof(wire), *budget)) : -EAGAIN;

        if (n == -EAGAIN)
                return false;
        if (n < 0)
                return fail(h, whose(h), (int)-n);
        if (n == 0) {
                if (tls_handshake(h->tls) < 0)
                        return fail(h,
                                    h->side == CONN_JAIL ? "the agent ended the TLS handshake"
                                                         : "the server ended the TLS handshake",
                                    0);
                return h->truncated = h->eof = true;
        }
        *budget -= (size_t)n;
        if (tls_feed(h->tls, wire, (size_t)n) < 0)
                return fail(h, "TLS", ENOMEM);
        return true;
}

static bool fill_tls(struct half *h, size_t *budget) {
        bool moved = false;
        size_t room;

        while (!h->eof && (room = in_room(h)) > 0) {
                ssize_t n = tls_read(h->tls, h->in + h->in_end, room);
                if (n == -EAGAIN) {
                        if (!feed(h, budget))
                                return moved;
                } else if (n < 0) {
                        return fail(h, tls_error(h->tls), 0);
                } else if (n == 0) {
                        h->eof = true;
                } else {
                        h->in_end += (size_t)n;
                        return true;
                }
                moved = true;
        }
        return moved;
}

bool half_fill(struct half *h, size_t *budget) {
        size_t room;

        if (h->eof)
                return false;
        if (h->tls)
                return fill_tls(h, budget);
        if (*budget == 0 || (room = in_room(h)) == 0)
                return false;
        ssize_t n = conn_recv(h->conn, h->side, h->in + h->in_end, MIN_OF(room, *budget));
        if (n == -EAGAIN)
                return false;
        if (n < 0)
                return fail(h, whose(h), (int)-n);
        h->eof = n == 0;
        h->in_end += (size_t)n;
        *budget -= (size_t)n;
        return true;
}

int half_drain(struct half *h, size_t *budget) {
        while (*budget) {
                ssize_t n = h->lost ? 0 : conn_recv(h->conn, h->side, wire, MIN_OF(sizeof(wire), *budget));
                if (n <= 0)
                        return (int)n;
                *budget -= (size_t)n;
        }
        return -EAGAIN;
}

bool half_ready(struct half *h) {
        return !h->failed && (!h->tls || tls_handshake(h->tls) == 0);
}

size_t half_in(struct half *h, char **p) {
        *p = h->in ? h->in + h->in_at : NULL;
        return h->in_end - h->in_at;
}

void half_take(struct half *h, size_t n) {
        h->in_at += n;
}

bool half_sent(struct half *h) {
        size_t n = 0;

        if (h->tls && !h->deaf)
                tls_out(h->tls, &n);
        return n == 0 && h->out_at == h->out_end;
}

size_t half_room(struct half *h, char **p) {
        if (!h->out && !(h->out = malloc(HALF_OUT)))
                return 0;
        if (h->out_at == h->out_end)
                h->out_at = h->out_end = 0;
        *p = h->out + h->out_end;
        return HALF_OUT - h->out_end;
}

void half_put(struct half *h, size_t n) {
        h->out_end += n;
}

/* Sends from p; bytes that went, 0 when none can now. */
static size_t push(struct half *h, const void *p, size_t n) {
        ssize_t r = conn_send(h->conn, h->side, p, n);

        if (r > 0)
                return (size_t)r;
        if (r < 0 && r != -EAGAIN)
                h->deaf = h->lost = true;
        return 0;
}

static bool flush_wire(struct half *h, bool *moved) {
        size_t n, sent;
        const void *p = tls_out(h->tls, &n);

        if (n == 0)
                return true;
        sent = push(h, p, n);
        tls_sent(h->tls, sent);
        *moved = *moved || sent > 0;
        return sent == n;
}

bool half_flush(struct half *h) {
        bool moved = false;

        while (!h->deaf) {
                if (h->tls && !flush_wire(h, &moved))
                        break;
                if (h->out_at == h->out_end)
                        break;
                ssize_t n = h->tls ? tls_write(h->tls, h->out + h->out_at, h->out_end - h->out_at)
                                   : (ssize_t)push(h, h->out + h->out_at, h->out_end - h->out_at);
                if (n <= 0)
                        break; /* a failure of TLS is found when it is read from */
                h->out_at += (size_t)n;
                moved = true;
        }
        if (h->failed && h->tls) { /* the alert that says why */
                h->deaf = false;
                flush_wire(h, &moved);
                h->deaf = true;
                moved = false;
        }
        if (h->deaf && h->out_at < h->out_end) {
                h->out_at = h->out_end;
                moved = true;
        }
        return moved;
}
