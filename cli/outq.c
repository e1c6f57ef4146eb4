/* SPDX-License-Identifier: Apache-2.0 */
/* Output that waits for a slow reader. */
#include "outq.h"

#include "common/util.h"

#include <errno.h>
#include <limits.h>
#include <string.h>

/* Room for n more bytes behind what waits. */
static int make_room(struct outq *q, size_t n) {
        if (q->head + q->used + n <= q->room)
                return 0;
        if (q->head > 0) {
                memmove(q->buf, q->buf + q->head, q->used);
                q->head = 0;
        }
        if (q->used + n <= q->room)
                return 0;
        size_t room = MAX_OF(q->room * 2, q->used + n);
        char *grown = realloc(q->buf, room);
        if (!grown)
                return -ENOMEM;
        q->buf = grown;
        q->room = room;
        return 0;
}

int outq_put(struct outq *q, const void *bytes, size_t n) {
        if (q->gone || n == 0)
                return 0;
        if (q->used + n > OUTQ_MAX)
                return -ENOBUFS;
        int r = make_room(q, n);
        if (r < 0)
                return r;
        memcpy(q->buf + q->head + q->used, bytes, n);
        q->used += n;
        return 0;
}

int outq_write(struct outq *q) {
        /* A pipe that is ready takes this much without blocking. */
        size_t n = MIN_OF(q->used, (size_t)PIPE_BUF);
        ssize_t r = write(q->fd, q->buf + q->head, n);

        if (r < 0 && (errno == EINTR || errno == EAGAIN))
                return 0;
        if (r < 0) {
                q->gone = true;
                q->used = q->head = 0;
                return -errno;
        }
        q->head += (size_t)r;
        q->used -= (size_t)r;
        if (q->used == 0)
                q->head = 0;
        return 0;
}

int outq_flush(struct outq *q) {
        int r = q->gone || q->used == 0 ? 0 : crew_write_full(q->fd, q->buf + q->head, q->used);

        q->used = q->head = 0;
        return r;
}

void outq_fini(struct outq *q) {
        free(q->buf);
        q->buf = NULL;
}
