/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a crewd writes down for the next one of the same build, and reads back: values as they lie in memory, texts with
 * their length.  A writer that runs out of memory, and a reader that runs out of bytes, remember it and do nothing more.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

struct bytes_out {
        uint8_t *p; /* owned */
        size_t n, room;
        bool failed;
};

static inline void bytes_put(struct bytes_out *b, const void *p, size_t n) {
        if (!b->failed && b->room - b->n < n) {
                size_t room = (b->n + n) * 2 + 4096;
                uint8_t *more = realloc(b->p, room);
                b->failed = !more;
                b->p = more ? more : b->p;
                b->room = more ? room : b->room;
        }
        if (b->failed || n == 0)
                return;
        memcpy(b->p + b->n, p, n);
        b->n += n;
}
#define BYTES_PUT(b, value) bytes_put(b, &(value), sizeof(value))

static inline void bytes_put_u64(struct bytes_out *b, uint64_t v) {
        bytes_put(b, &v, sizeof(v));
}

/* p NULL: told apart from "". */
static inline void bytes_put_text(struct bytes_out *b, const char *p, size_t n) {
        bytes_put_u64(b, p ? n + 1 : 0);
        bytes_put(b, p, p ? n : 0);
}

struct bytes_in {
        const uint8_t *p, *end;
        bool failed;
};

static inline void bytes_get(struct bytes_in *b, void *p, size_t n) {
        b->failed |= (size_t)(b->end - b->p) < n;
        if (b->failed) {
                memset(p, 0, n);
                return;
        }
        memcpy(p, b->p, n);
        b->p += n;
}
#define BYTES_GET(b, value) bytes_get(b, &(value), sizeof(value))

static inline uint64_t bytes_get_u64(struct bytes_in *b) {
        uint64_t v = 0;

        bytes_get(b, &v, sizeof(v));
        return v;
}

/* One that was read with what it is in: any byte may stand there, and only 0 and 1 may. */
static inline void bytes_bool(bool *value) {
        uint8_t byte;

        memcpy(&byte, value, sizeof(byte));
        *value = byte != 0;
}

/* malloc'd, with a NUL behind it; NULL as it was put, or failed. */
static inline char *bytes_get_text(struct bytes_in *b, size_t *n) {
        uint64_t len = bytes_get_u64(b);
        char *p = NULL;

        if (n)
                *n = 0;
        if (len == 0 || b->failed)
                return NULL;
        b->failed = len - 1 > (uint64_t)(b->end - b->p) || !(p = malloc(len));
        if (b->failed)
                return NULL;
        bytes_get(b, p, len - 1);
        p[len - 1] = '\0';
        if (n)
                *n = len - 1;
        return p;
}
