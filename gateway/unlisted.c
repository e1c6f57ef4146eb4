/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A ring: the name with address number n is in slot n modulo UNLISTED_MAX, so that a slot's next name has another address
 * and the former address leads nowhere.  Chains over it find a name.
 */
#include "unlisted.h"

#include "common/util.h"

#include <arpa/inet.h>
#include <errno.h>
#include <string.h>

#define FIRST 0xc6130001u /* 198.19.0.1 */

struct slot {
        char *name;
        uint32_t number; /* its address is FIRST + number */
        uint32_t asked[UNLISTED_TYPE_N];
        uint64_t late_ms;
        uint16_t next; /* in its chain: slot + 1 */
};

struct unlisted {
        void (*tell)(void *user, const char *name, uint32_t lookups);
        void *user;
        uint32_t next_number;
        uint16_t chain[UNLISTED_MAX]; /* slot + 1 */
        struct slot slot[UNLISTED_MAX];
};

struct unlisted *unlisted_new(void (*tell)(void *user, const char *name, uint32_t lookups), void *user) {
        struct unlisted *t = calloc(1, sizeof(*t));

        if (!t)
                return NULL;
        t->tell = tell;
        t->user = user;
        return t;
}

static uint32_t lookups(const struct slot *s) {
        return MAX_OF(s->asked[UNLISTED_A], s->asked[UNLISTED_AAAA]);
}

static void settle(struct slot *s) {
        memset(s->asked, 0, sizeof(s->asked));
}

static void tell(struct unlisted *t, struct slot *s) {
        uint32_t n = lookups(s);

        settle(s);
        if (n > 0)
                t->tell(t->user, s->name, n);
}

struct unlisted *unlisted_free(struct unlisted *t) {
        for (uint32_t i = 0; t && i < UNLISTED_MAX; i++) {
                tell(t, &t->slot[i]);
                free(t->slot[i].name);
        }
        free(t);
        return NULL;
}

/* FNV-1a.  An agent that finds collisions slows its own look-ups, over at most UNLISTED_MAX names. */
static uint16_t *chain_of(struct unlisted *t, const char *name) {
        uint32_t h = 2166136261u;

        for (; *name; name++)
                h = (h ^ (uint8_t)*name) * 16777619u;
        return &t->chain[h % UNLISTED_MAX];
}

static struct slot *find(struct unlisted *t, const char *name) {
        for (uint16_t at = *chain_of(t, name); at; at = t->slot[at - 1].next) {
                if (strcmp(t->slot[at - 1].name, name) == 0)
                        return &t->slot[at - 1];
        }
        return NULL;
}

static void forget(struct unlisted *t, struct slot *s) {
        uint16_t *at = chain_of(t, s->name);

        tell(t, s);
        while (&t->slot[*at - 1] != s)
                at = &t->slot[*at - 1].next;
        *at = s->next;
        free(crew_steal_ptr(&s->name));
}

static struct slot *remember(struct unlisted *t, const char *name) {
        struct slot *s = &t->slot[t->next_number % UNLISTED_MAX];
        char *copy = strdup(name);

        if (!copy)
                return NULL;
        if (s->name)
                forget(t, s);
        uint16_t *chain = chain_of(t, name);
        *s = (struct slot){.name = copy, .number = t->next_number, .next = *chain};
        *chain = (uint16_t)(s - t->slot + 1);
        t->next_number = (t->next_number + 1) % UNLISTED_ADDRESSES;
        return s;
}

int unlisted_ask(struct unlisted *t, const char *canonical, enum unlisted_type type, uint64_t now_ms, struct in_addr *out) {
        struct slot *s = find(t, canonical);

        if (!s && !(s = remember(t, canonical)))
                return -ENOMEM;
        if (lookups(s) == 0)
                s->late_ms = now_ms + UNLISTED_WAIT_MS;
        if (s->asked[type] < UINT32_MAX)
                s->asked[type]++;
        out->s_addr = htonl(FIRST + s->number);
        return 0;
}

const char *unlisted_dialled(struct unlisted *t, struct in_addr a) {
        uint32_t number = ntohl(a.s_addr) - FIRST;

        if (!t || number >= UNLISTED_ADDRESSES)
                return NULL;
        struct slot *s = &t->slot[number % UNLISTED_MAX];
        if (!s->name || s->number != number)
                return NULL;
        settle(s);
        return s->name;
}

uint64_t unlisted_tell_late(struct unlisted *t, uint64_t now_ms) {
        uint64_t next_ms = 0;

        for (uint32_t i = 0; i < UNLISTED_MAX; i++) {
                struct slot *s = &t->slot[i];
                if (lookups(s) == 0)
                        continue;
                if (s->late_ms <= now_ms)
                        tell(t, s);
                else if (!next_ms || s->late_ms < next_ms)
                        next_ms = s->late_ms;
        }
        return next_ms ? next_ms - now_ms : 0;
}
