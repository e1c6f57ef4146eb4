/* SPDX-License-Identifier: Apache-2.0 */
/* An array of names by address, and an open-addressed index over it; nothing is ever taken out. */
#include "names.h"

#include "common/util.h"

#include <arpa/inet.h>
#include <errno.h>
#include <string.h>

#define FIRST 0xc6120001u /* 198.18.0.1 */
#define SLOTS (2 * NAMES_MAX)

struct names {
        uint32_t n;
        char *name[NAMES_MAX];
        uint16_t slot[SLOTS]; /* index + 1 */
};

struct names *names_new(void) {
        return calloc(1, sizeof(struct names));
}

struct names *names_free(struct names *t) {
        for (uint32_t i = 0; t && i < t->n; i++)
                free(t->name[i]);
        free(t);
        return NULL;
}

/* FNV-1a.  An agent that finds collisions slows its own lookups, over at most NAMES_MAX entries. */
static uint32_t hash(const char *s) {
        uint32_t h = 2166136261u;

        for (; *s; s++)
                h = (h ^ (uint8_t)*s) * 16777619u;
        return h;
}

int names_address(struct names *t, const char *canonical, struct in_addr *out) {
        uint32_t at = hash(canonical) % SLOTS;

        for (; t->slot[at]; at = (at + 1) % SLOTS) {
                if (strcmp(t->name[t->slot[at] - 1], canonical) == 0) {
                        out->s_addr = htonl(FIRST + t->slot[at] - 1);
                        return 0;
                }
        }
        if (t->n == NAMES_MAX)
                return -ENOSPC;
        char *copy = strdup(canonical);
        if (!copy)
                return -ENOMEM;
        t->name[t->n++] = copy;
        t->slot[at] = (uint16_t)t->n;
        out->s_addr = htonl(FIRST + t->n - 1);
        return 0;
}

const char *names_find(const struct names *t, struct in_addr a) {
        uint32_t i = ntohl(a.s_addr) - FIRST;

        return i < t->n ? t->name[i] : NULL;
}
