/* SPDX-License-Identifier: Apache-2.0 */
/* Bump allocator of the policy loader; no object is freed on its own. */
#include "arena.h"

#include <errno.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CHUNK_BYTES 16384u
#define ALIGNMENT 16u

struct arena_chunk {
        struct arena_chunk *next;
        size_t used, room;
        _Alignas(ALIGNMENT) char bytes[];
};

static struct arena_chunk *chunk_new(struct arena *a, size_t n) {
        size_t room = n > CHUNK_BYTES ? n : CHUNK_BYTES;
        struct arena_chunk *c = calloc(1, sizeof(*c) + room);

        if (!c)
                return NULL;
        c->room = room;
        c->next = a->head;
        a->head = c;
        return c;
}

void *arena_alloc(struct arena *a, size_t n) {
        struct arena_chunk *c = a->head;

        if (n > SIZE_MAX / 2)
                return NULL;
        n = (n + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
        if (!c || c->room - c->used < n)
                c = chunk_new(a, n);
        if (!c)
                return NULL;
        void *p = c->bytes + c->used;
        c->used += n;
        return p;
}

char *arena_strndup(struct arena *a, const char *s, size_t n) {
        char *p = arena_alloc(a, n + 1);

        if (p)
                memcpy(p, s, n);
        return p;
}

char *arena_printf(struct arena *a, const char *fmt, ...) {
        va_list ap;

        va_start(ap, fmt);
        int n = vsnprintf(NULL, 0, fmt, ap);
        va_end(ap);
        char *p = n < 0 ? NULL : arena_alloc(a, (size_t)n + 1);
        if (!p)
                return NULL;
        va_start(ap, fmt);
        vsnprintf(p, (size_t)n + 1, fmt, ap);
        va_end(ap);
        return p;
}

/* Room doubles whenever n reaches a power of two, so the capacity needs no field of its own. */
int arena_grow(struct arena *a, void *items, size_t n, size_t size) {
        void **vec = items;
        size_t room;

        if (n & (n - 1))
                return 0;
        if (__builtin_mul_overflow(n ? n * 2 : 1, size, &room))
                return -ENOMEM;
        void *moved = arena_alloc(a, room);
        if (!moved)
                return -ENOMEM;
        if (n)
                memcpy(moved, *vec, n * size);
        *vec = moved;
        return 0;
}

void arena_fini(struct arena *a) {
        while (a->head) {
                struct arena_chunk *c = a->head;
                a->head = c->next;
                free(c);
        }
}
