/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Output that waits for a slow reader: written piece by piece when poll(2) says that a piece will not block.
 *
 * The descriptor stays in blocking mode: it is shared with whoever started us.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#define OUTQ_MAX ((size_t)64 << 20)

struct outq {
        int fd;
        char *buf; /* owned; [head, head + used) waits */
        size_t head, used, room;
        bool gone; /* nobody reads it any more; what comes is dropped */
};
/* 0; -ENOBUFS when more than OUTQ_MAX would wait; -ENOMEM. */
int outq_put(struct outq *q, const void *bytes, size_t n);
/* After POLLOUT (or POLLERR): writes one piece.  0; -errno sets gone. */
int outq_write(struct outq *q);
/* Writes all, waiting.  0 or -errno. */
int outq_flush(struct outq *q);
void outq_fini(struct outq *q);
