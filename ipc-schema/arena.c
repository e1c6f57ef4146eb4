/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A bump arena with a limit per frame.
 *
 * Guarantees: never hands out more than the limit, whatever the input asks protobuf-c to build; gives everything but one
 * small chunk back at the next reset.  Trusts nothing.
 */
#include "ipc-schema/arena.h"

#include "common/util.h"

#define FIRST_CHUNK_BYTES (16u << 10)
#define NEXT_CHUNK_BYTES (64u << 10)

struct chunk {
        struct chunk *older;
        size_t used, room;
        uint8_t bytes[] __attribute__((aligned(8)));
};

struct block {
        uint64_t size;
        uint8_t bytes[] __attribute__((aligned(8)));
};

struct ipc_arena {
        ProtobufCAllocator pb;
        struct chunk *chunk; /* newest; the oldest one stays */
        size_t max_bytes, limit, charged;
        bool exhausted;
};

static struct chunk *chunk_new(size_t room, struct chunk *older) {
        struct chunk *c = malloc(sizeof(*c) + room);
        if (c) {
                c->older = older;
                c->used = 0;
                c->room = room;
        }
        return c;
}

static void *arena_alloc(void *data, size_t size) {
        struct ipc_arena *a = data;
        size_t need = sizeof(struct block) + ((size + 7) & ~(size_t)7);

        if (need < size || need > a->limit - a->charged) {
                a->exhausted = true;
                return NULL;
        }
        if (need > a->chunk->room - a->chunk->used) {
                struct chunk *c = chunk_new(MAX_OF(need, NEXT_CHUNK_BYTES), a->chunk);
                if (!c) {
                        a->exhausted = true;
                        return NULL;
                }
                a->chunk = c;
        }
        struct block *b = (struct block *)(a->chunk->bytes + a->chunk->used);
        a->chunk->used += need;
        a->charged += need;
        b->size = size;
        return b->bytes;
}

static void arena_no_free(void *data, void *p) {
}

struct ipc_arena *ipc_arena_new(size_t max_bytes) {
        struct ipc_arena *a = calloc(1, sizeof(*a));
        if (!a || !(a->chunk = chunk_new(FIRST_CHUNK_BYTES, NULL))) {
                free(a);
                return NULL;
        }
        a->max_bytes = max_bytes;
        a->pb = (ProtobufCAllocator){.alloc = arena_alloc, .free = arena_no_free, .allocator_data = a};
        return a;
}

void ipc_arena_reset(struct ipc_arena *a) {
        while (a->chunk->older) {
                struct chunk *older = a->chunk->older;
                free(a->chunk);
                a->chunk = older;
        }
        a->chunk->used = 0;
        a->charged = 0;
        a->limit = 0;
        a->exhausted = false;
}

struct ipc_arena *ipc_arena_free(struct ipc_arena *a) {
        if (a) {
                ipc_arena_reset(a);
                free(a->chunk);
                free(a);
        }
        return NULL;
}

void arena_begin(struct ipc_arena *a, size_t limit) {
        ipc_arena_reset(a);
        a->limit = MIN_OF(limit, a->max_bytes);
}

ProtobufCAllocator *arena_allocator(struct ipc_arena *a) {
        return &a->pb;
}

bool arena_exhausted(const struct ipc_arena *a) {
        return a->exhausted;
}

size_t arena_block_size(const void *p) {
        return ((const struct block *)((const uint8_t *)p - offsetof(struct block, bytes)))->size;
}
