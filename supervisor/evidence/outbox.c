/* SPDX-License-Identifier: Apache-2.0 */
#include "outbox.h"

#include "common/util.h"

#include <errno.h>
#include <string.h>

#define SLOTS (2 * OUTBOX_ENTRIES)
#define WHAT_N (EVIDENCE_ATTEMPT + 1)
#define SOURCES_N (EVIDENCE_NOTIFY + 1)

struct entry {
        uint64_t hash, time_ns, count;
        uint8_t source, what; /* what 0: EVIDENCE_LOST */
        bool unknown;         /* LOST without a count */
        int32_t pid;
        uint32_t path_len;
        char access[sizeof(((struct evidence_msg *)0)->access)];
        char *path;
};

struct outbox {
        uint32_t n, sent; /* entries[0..sent) are with crewd already */
        size_t bytes;
        uint64_t tokens, tokens_ns;
        bool overflowed;
        struct {
                uint64_t count, time_ns;
        } other[SOURCES_N][WHAT_N];
        struct entry *entries; /* NULL as long as there was none */
        uint16_t slots[SLOTS]; /* index + 1 of entries not sent yet */
};

struct outbox *outbox_new(void) {
        struct outbox *o = calloc(1, sizeof(*o));

        if (o) {
                o->tokens = OUTBOX_BURST;
                o->tokens_ns = crew_now_ns();
        }
        return o;
}

static void drop_sent(struct outbox *o) {
        for (uint32_t i = 0; i < o->sent; i++) {
                o->bytes -= o->entries[i].path_len;
                free(o->entries[i].path);
        }
        o->n -= o->sent;
        if (o->sent && o->n)
                memmove(o->entries, o->entries + o->sent, o->n * sizeof(o->entries[0]));
        o->sent = 0;
}

struct outbox *outbox_free(struct outbox *o) {
        if (!o)
                return NULL;
        o->sent = o->n;
        drop_sent(o);
        free(o->entries);
        free(o);
        return NULL;
}

static uint64_t hash_bytes(uint64_t h, const void *p, size_t n) {
        const unsigned char *b = p;

        for (size_t i = 0; i < n; i++)
                h = (h ^ b[i]) * 0x100000001b3u;
        return h;
}

static uint64_t hash_event(const struct event *ev) {
        uint64_t h = 0xcbf29ce484222325u ^ ((uint64_t)ev->source << 8 | (uint64_t)ev->what);

        h = hash_bytes(h, ev->access, strlen(ev->access));
        return hash_bytes(h, ev->path, ev->path_len);
}

static bool same(const struct entry *e, uint64_t hash, const struct event *ev) {
        return e->hash == hash && e->source == ev->source && e->what == ev->what && e->path_len == ev->path_len &&
               memcmp(e->path, ev->path, ev->path_len) == 0 && strcmp(e->access, ev->access) == 0;
}

static uint16_t *slot_of(struct outbox *o, uint64_t hash, const struct event *ev) {
        size_t i = (size_t)((hash ^ hash >> 32) % SLOTS);

        for (; o->slots[i]; i = (i + 1) % SLOTS)
                if (ev && same(&o->entries[o->slots[i] - 1], hash, ev))
                        break;
        return &o->slots[i];
}

/* Sent entries leave, the others move up. */
static void compact(struct outbox *o) {
        drop_sent(o);
        memset(o->slots, 0, sizeof(o->slots));
        for (uint32_t i = 0; i < o->n; i++)
                if (o->entries[i].what)
                        *slot_of(o, o->entries[i].hash, NULL) = (uint16_t)(i + 1);
}

static struct entry *add_entry(struct outbox *o) {
        if (o->n == OUTBOX_ENTRIES && o->sent > 0)
                compact(o);
        if (!o->entries)
                o->entries = calloc(OUTBOX_ENTRIES, sizeof(*o->entries));
        if (!o->entries || o->n == OUTBOX_ENTRIES)
                return NULL;
        struct entry *e = &o->entries[o->n++];
        memset(e, 0, sizeof(*e));
        return e;
}

static void count_other(struct outbox *o, const struct event *ev) {
        if (o->other[ev->source][ev->what].count == 0)
                o->other[ev->source][ev->what].time_ns = ev->time_ns;
        o->other[ev->source][ev->what].count += ev->count;
        o->overflowed = true;
}

void outbox_add(struct outbox *o, const struct event *ev) {
        uint64_t hash = hash_event(ev);
        struct event access_cut = *ev;
        char access[sizeof(((struct entry *)0)->access)];

        snprintf(access, sizeof(access), "%s", ev->access);
        access_cut.access = access;
        ev = &access_cut;
        if (o->entries) {
                uint16_t at = *slot_of(o, hash, ev);
                if (at && at > o->sent) {
                        o->entries[at - 1].count += ev->count;
                        return;
                }
        }
        char *path = o->bytes + ev->path_len <= OUTBOX_BYTES ? malloc(ev->path_len + 1) : NULL;
        struct entry *e = path ? add_entry(o) : NULL;
        if (!e) {
                free(path);
                count_other(o, ev);
                return;
        }
        memcpy(path, ev->path, ev->path_len);
        *e = (struct entry){.hash = hash,
                            .time_ns = ev->time_ns,
                            .count = ev->count,
                            .source = (uint8_t)ev->source,
                            .what = (uint8_t)ev->what,
                            .pid = ev->pid,
                            .path_len = (uint32_t)ev->path_len,
                            .path = path};
        memcpy(e->access, access, sizeof(access));
        o->bytes += ev->path_len;
        *slot_of(o, hash, ev) = (uint16_t)o->n;
}

void outbox_add_lost(struct outbox *o, enum evidence_source source, uint64_t count) {
        struct entry *e = add_entry(o);

        if (!e) { /* full: it is then counted with the other events of the source that have no path */
                const struct event ev = {.source = source, .what = 0, .count = MAX_OF(count, (uint64_t)1)};
                count_other(o, &ev);
                return;
        }
        e->source = (uint8_t)source;
        e->count = count;
        e->unknown = count == 0;
        e->time_ns = crew_realtime_ns();
}

static bool take_token(struct outbox *o) {
        uint64_t now = crew_now_ns(), step = 1000000000u / OUTBOX_RATE, earned = (now - o->tokens_ns) / step;

        o->tokens_ns += earned * step;
        o->tokens = MIN_OF(o->tokens + earned, (uint64_t)OUTBOX_BURST);
        if (o->tokens == 0)
                return false;
        o->tokens--;
        return true;
}

/* A count beyond 32 bits goes out in pieces. */
static int send_entry(struct server *sv, const struct instance *in, struct entry *e) {
        struct evidence_msg m = {
                .op = e->what ? EVIDENCE_EVENT : EVIDENCE_LOST,
                .id = in->id,
                .source = e->source,
                .what = e->what,
                .pid = e->pid,
                .uid = in->uid,
                .time_ns = e->time_ns,
                .path_len = e->path_len,
        };

        memcpy(m.access, e->access, sizeof(m.access));
        if (e->path_len)
                memcpy(m.path, e->path, e->path_len);
        do {
                m.count = (uint32_t)MIN_OF(e->count, (uint64_t)UINT32_MAX);
                int r = server_send(sv, &m);
                if (r < 0)
                        return r;
                e->count -= m.count;
        } while (e->count > 0);
        return 0;
}

static int flush_other(struct outbox *o, struct server *sv, const struct instance *in) {
        for (unsigned s = 0; s < SOURCES_N; s++)
                for (unsigned w = 0; w < WHAT_N; w++) {
                        if (o->other[s][w].count == 0)
                                continue;
                        struct entry e = {.source = (uint8_t)s,
                                          .what = (uint8_t)w,
                                          .count = o->other[s][w].count,
                                          .time_ns = o->other[s][w].time_ns};
                        if (w) {
                                e.path = (char *)EVIDENCE_OTHER_PATHS;
                                e.path_len = sizeof(EVIDENCE_OTHER_PATHS) - 1;
                        }
                        int r = send_entry(sv, in, &e);
                        o->other[s][w].count = e.count;
                        if (r < 0)
                                return r;
                }
        o->overflowed = false;
        return 0;
}

int outbox_flush(struct outbox *o, struct server *sv, const struct instance *in, bool all) {
        while (o->sent < o->n) {
                if (!all && !take_token(o))
                        return 1;
                int r = send_entry(sv, in, &o->entries[o->sent]);
                if (r < 0)
                        return r == -EAGAIN ? 1 : r;
                o->sent++;
        }
        if (o->n > 0)
                compact(o);
        if (o->overflowed) {
                int r = flush_other(o, sv, in);
                if (r < 0)
                        return r == -EAGAIN ? 1 : r;
        }
        return 0;
}

bool outbox_empty(const struct outbox *o) {
        return o->sent == o->n && !o->overflowed;
}
