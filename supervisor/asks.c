/* SPDX-License-Identifier: Apache-2.0 */
#include "asks.h"

#include "common/util.h"

#include <arpa/inet.h>
#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/random.h>

const char *const ask_state_names[ASK_STATE_N] = {[ASK_WAITING] = "waiting",
                                                  [ASK_GRANTED] = "granted",
                                                  [ASK_REFUSED] = "refused",
                                                  [ASK_EXPIRED] = "expired",
                                                  [ASK_GONE] = "gone"};
const char *const ask_scope_names[ASK_SCOPE_N] = {
        [ASK_NO_SCOPE] = "", [ASK_ONCE] = "once", [ASK_SESSION] = "session", [ASK_ALWAYS] = "always"};

struct entry {
        struct ask ask; /* first */
        uint64_t order;
        struct entry *next;
};

struct asks {
        struct entry *first, **last; /* those that wait, oldest first */
        uint64_t order;
        uint32_t n;
        struct ask ended[ASKS_REMEMBERED]; /* a ring */
        uint64_t n_ended;
};

struct asks *asks_new(void) {
        struct asks *t = calloc(1, sizeof(*t));

        if (t)
                t->last = &t->first;
        return t;
}

struct asks *asks_free(struct asks *t) {
        while (t && t->first) {
                struct entry *e = t->first;
                t->first = e->next;
                free(e);
        }
        free(t);
        return NULL;
}

/* --- ids --- */

/* Nothing that looks like something else; 32 of them, so that every random byte is as good as another. */
static void draw_id(char id[ASK_ID_MAX]) {
        static const char letters[] = "abcdefghijkmnpqrstuvwxyz23456789";
        static_assert(sizeof(letters) == 33, "five bits a letter");
        unsigned char r[4] = {0};

        crew_assert(getrandom(r, sizeof(r), 0) == (ssize_t)sizeof(r));
        for (size_t i = 0; i < sizeof(r); i++)
                id[i] = letters[r[i] & 31];
        id[sizeof(r)] = '\0';
}

static const struct ask *remembered(const struct asks *t, const char *id) {
        for (uint64_t i = 0; i < MIN_OF(t->n_ended, (uint64_t)ASKS_REMEMBERED); i++) {
                if (strcmp(t->ended[i].id, id) == 0)
                        return &t->ended[i];
        }
        return NULL;
}

enum asks_found asks_find(struct asks *t, const char *id, struct ask **out) {
        for (struct entry *e = t->first; e; e = e->next) {
                if (strcmp(e->ask.id, id) == 0) {
                        *out = &e->ask;
                        return ASKS_WAITS;
                }
        }
        *out = (struct ask *)remembered(t, id);
        return *out ? ASKS_DECIDED : ASKS_UNKNOWN;
}

/* --- the table --- */

struct ask *asks_by_number(struct asks *t, uint32_t agent, uint32_t incarnation, uint32_t number) {
        for (struct entry *e = t->first; e; e = e->next) {
                const struct ask *a = &e->ask;
                if (a->number == number && a->agent == agent && a->incarnation == incarnation)
                        return &e->ask;
        }
        return NULL;
}

static uint32_t count_of(const struct asks *t, uint32_t agent) {
        uint32_t n = 0;

        for (const struct entry *e = t->first; e; e = e->next)
                n += e->ask.agent == agent;
        return n;
}

enum asks_added asks_add(struct asks *t, const struct ask *want, uint64_t now_ns, struct ask **out) {
        struct ask *old = asks_by_number(t, want->agent, want->incarnation, want->number), *ignored;

        if (old) {
                old->waiting = want->waiting;
                *out = old;
                return ASKS_MORE;
        }
        struct entry *e = count_of(t, want->agent) < ASKS_PER_AGENT ? calloc(1, sizeof(*e)) : NULL;
        if (!e)
                return ASKS_FULL;
        e->ask = *want;
        e->ask.state = ASK_WAITING;
        e->ask.asked_ns = now_ns;
        e->order = ++t->order;
        do
                draw_id(e->ask.id);
        while (asks_find(t, e->ask.id, &ignored) != ASKS_UNKNOWN);
        *t->last = e;
        t->last = &e->next;
        t->n++;
        *out = &e->ask;
        return ASKS_NEW;
}

const struct ask *asks_end(struct asks *t, struct ask *a, enum ask_state state, enum ask_scope scope, const char *by,
                           uint64_t now_ns) {
        struct entry *e = (struct entry *)a, **at = &t->first;
        struct ask *kept = &t->ended[t->n_ended++ % ASKS_REMEMBERED];

        crew_assert(a->state == ASK_WAITING && state != ASK_WAITING);
        while (*at != e)
                at = &(*at)->next;
        *at = e->next;
        if (t->last == &e->next)
                t->last = at;
        t->n--;
        *kept = *a;
        free(e);
        kept->state = state;
        kept->scope = scope;
        kept->ended_ns = now_ns;
        snprintf(kept->by, sizeof(kept->by), "%s", by);
        return kept;
}

struct ask *asks_next(struct asks *t, uint64_t *cursor) {
        for (struct entry *e = t->first; e; e = e->next) {
                if (e->order > *cursor) {
                        *cursor = e->order;
                        return &e->ask;
                }
        }
        return NULL;
}

uint32_t asks_waiting(const struct asks *t) {
        return t->n;
}

/* --- what nobody may approve --- */

struct range4 {
        uint32_t net, mask;
        const char *what;
};
static const struct range4 never4[] = {
        {0xa9fea9fe, 0xffffffff, "the cloud metadata service"}, /* 169.254.169.254 */
        {0x646464c8, 0xffffffff, "the cloud metadata service"}, /* 100.100.100.200 */
        {0xa83f8110, 0xffffffff, "the cloud metadata service"}, /* 168.63.129.16 */
        {0xc00000c0, 0xffffffff, "the cloud metadata service"}, /* 192.0.0.192 */
        {0x00000000, 0xff000000, "this machine"},
        {0x7f000000, 0xff000000, "loopback"},
        {0xa9fe0000, 0xffff0000, "link-local"},
        {0xc6120000, 0xfffe0000, "a synthetic address"}, /* 198.18/15: the jails' own names */
        {0xe0000000, 0xe0000000, "multicast or reserved"},
};

struct range6 {
        uint8_t net[16];
        unsigned bits;
        const char *what;
};
static const struct range6 never6[] = {
        {{0xfd, 0x00, 0x0e, 0xc2, [14] = 0x02, 0x54}, 128, "the cloud metadata service"}, /* fd00:ec2::254 */
        {{0xfd, 0x20, 0x00, 0xce, [14] = 0x02, 0x54}, 128, "the cloud metadata service"}, /* fd20:ce::254 */
        {{[15] = 0x01}, 128, "loopback"},
        {{0}, 96, "this machine, or IPv4 in disguise"},
        {{[10] = 0xff, 0xff}, 96, "IPv4 in disguise"},
        {{0x00, 0x64, 0xff, 0x9b}, 32, "IPv4 in disguise"}, /* NAT64: 64:ff9b::/96 and 64:ff9b:1::/48 */
        {{0x20, 0x01, 0x00, 0x00}, 32, "IPv4 in disguise"}, /* Teredo */
        {{0x20, 0x02}, 16, "IPv4 in disguise"},             /* 6to4 */
        {{0xfe, 0x80}, 9, "link-local"},                    /* and what was site-local */
        {{0xff}, 8, "multicast or reserved"},
};

static bool in_net(const uint8_t *a, const struct range6 *r) {
        unsigned whole = r->bits / 8, rest = r->bits % 8;

        return memcmp(a, r->net, whole) == 0 && (rest == 0 || (a[whole] ^ r->net[whole]) >> (8 - rest) == 0);
}

/* The gateway refuses the addresses behind them too; to ask would be to offer what cannot be. */
static const char *never_name(const char *host) {
        static const struct {
                const char *name, *what;
        } names[] = {
                {"localhost", "loopback"},
                {"ip6-localhost", "loopback"},
                {"ip6-loopback", "loopback"},
                {"metadata", "the cloud metadata service"},
                {"metadata.google.internal", "the cloud metadata service"},
                {"instance-data", "the cloud metadata service"},
                {"instance-data.ec2.internal", "the cloud metadata service"},
        };
        size_t n = strlen(host), tail = strlen(".localhost");

        n -= n > 0 && host[n - 1] == '.';
        for (size_t i = 0; i < ELEMENTSOF(names); i++) {
                if (strlen(names[i].name) == n && strncasecmp(host, names[i].name, n) == 0)
                        return names[i].what;
        }
        return n > tail && strncasecmp(host + n - tail, ".localhost", tail) == 0 ? "loopback" : NULL;
}

const char *ask_never(const char *host) {
        struct in6_addr a6;
        struct in_addr a4;

        if (inet_pton(AF_INET, host, &a4) == 1) {
                for (size_t i = 0; i < ELEMENTSOF(never4); i++) {
                        if ((ntohl(a4.s_addr) & never4[i].mask) == never4[i].net)
                                return never4[i].what;
                }
                return NULL;
        }
        if (inet_pton(AF_INET6, host, &a6) == 1) {
                for (size_t i = 0; i < ELEMENTSOF(never6); i++) {
                        if (in_net(a6.s6_addr, &never6[i]))
                                return never6[i].what;
                }
                return NULL;
        }
        return never_name(host);
}
