/* SPDX-License-Identifier: Apache-2.0 */
/* Bump allocator: everything one load makes is freed together.  Memory is zeroed; NULL means out of memory. */
#pragma once

#include <stddef.h>

struct arena_chunk;
struct arena { /* all zero is empty */
        struct arena_chunk *head;
};

void *arena_alloc(struct arena *a, size_t n);
char *arena_strndup(struct arena *a, const char *s, size_t n);
char *arena_printf(struct arena *a, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void arena_fini(struct arena *a);

/* Room for one more element of a vector of n elements of size bytes; *items may move.  0 or -ENOMEM. */
int arena_grow(struct arena *a, void *items, size_t n, size_t size);
