/* SPDX-License-Identifier: Apache-2.0 */
/* Open addressing, never more than half full; a slot is a hash whose lowest bit tells the kind, and 0 is an empty one. */
#include "path_set.h"

#include <errno.h>
#include <sys/random.h>

#define ROOM_FIRST 1024u

struct path_set {
        uint64_t *slots; /* owned */
        size_t room, used;
        uint64_t key[2];
};

struct path_set *path_set_new(void) {
        struct path_set *s = calloc(1, sizeof(*s));

        if (!s)
                return NULL;
        s->room = ROOM_FIRST;
        s->slots = calloc(s->room, sizeof(*s->slots));
        if (!s->slots || getrandom(s->key, sizeof(s->key), 0) != sizeof(s->key))
                return path_set_free(s);
        return s;
}

struct path_set *path_set_free(struct path_set *s) {
        if (!s)
                return NULL;
        free(s->slots);
        free(s);
        return NULL;
}

static uint64_t mix(uint64_t a, uint64_t b) {
        unsigned __int128 v = (unsigned __int128)a * b;

        return (uint64_t)v ^ (uint64_t)(v >> 64);
}

/* The lowest bit is left to the kind, the next one is set: none is 0. */
static uint64_t hash(const struct path_set *s, const char *path, size_t n) {
        uint64_t h = s->key[0];

        for (size_t i = 0; i < n; i++)
                h = mix(h ^ (uint8_t)path[i], s->key[1] | 1) + i;
        return (h & ~(uint64_t)3) | 2;
}

static size_t slot_of(const struct path_set *s, uint64_t h) {
        size_t i = (h >> 2) & (s->room - 1);

        while (s->slots[i] && (s->slots[i] & ~(uint64_t)1) != h)
                i = (i + 1) & (s->room - 1);
        return i;
}

enum path_set_kind path_set_find(const struct path_set *s, const char *path, size_t n) {
        uint64_t v = s->slots[slot_of(s, hash(s, path, n))];

        return v == 0 ? PATH_SET_NONE : v & 1 ? PATH_SET_DIR : PATH_SET_OTHER;
}

static int grow(struct path_set *s) {
        struct path_set wider = *s;

        wider.room = 2 * s->room;
        wider.slots = calloc(wider.room, sizeof(*wider.slots));
        if (!wider.slots)
                return -ENOMEM;
        for (size_t i = 0; i < s->room; i++) {
                if (s->slots[i])
                        wider.slots[slot_of(&wider, s->slots[i] & ~(uint64_t)1)] = s->slots[i];
        }
        free(s->slots);
        *s = wider;
        return 0;
}

int path_set_add(struct path_set *s, const char *path, size_t n, enum path_set_kind kind) {
        if (2 * (s->used + 1) > s->room && grow(s) < 0)
                return -ENOMEM;
        uint64_t h = hash(s, path, n);
        size_t i = slot_of(s, h);
        s->used += s->slots[i] == 0;
        s->slots[i] = h | (kind == PATH_SET_DIR);
        return 0;
}
