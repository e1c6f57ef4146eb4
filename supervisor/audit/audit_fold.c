/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Folding of observations.  A jailed thread can cause 500,000 denials a second; the log stays readable, the disk
 * survives, and no count is lost.
 */
#include "audit_internal.h"

#include "common/util.h"

#include <errno.h>
#include <string.h>

#define KEY_BYTES_MAX (sizeof(((struct record *)0)->buf) + RECORD_FIELDS_MAX * (RECORD_KEY_MAX + 8) + 64)

static size_t key_put(char *out, size_t at, const void *p, size_t n) {
        uint32_t len = (uint32_t)n;

        memcpy(out + at, &len, sizeof(len));
        memcpy(out + at + sizeof(len), p, n);
        return at + sizeof(len) + n;
}

/* Numbers that say what was observed, and those that add up when it was observed several times. */
static const char *const telling[] = {"port", "status"};
static const char *const adding_up[] = {"bytes_out", "bytes_in", "ms"};

static bool is_one_of(const char *key, const char *const *keys, size_t n) {
        for (size_t i = 0; i < n; i++)
                if (strcmp(keys[i], key) == 0)
                        return true;
        return false;
}

/* What makes two observations the same: kind, source, text fields except the process's own name, telling numbers. */
static void key_of(const struct record *r, uint8_t key[16]) {
        char bytes[KEY_BYTES_MAX];
        uint8_t digest[CREW_SHA256_BYTES];
        size_t n = key_put(bytes, 0, record_kind_names[r->kind], strlen(record_kind_names[r->kind]));

        n = key_put(bytes, n, r->src, strnlen(r->src, 32));
        for (size_t i = 0; i < r->n; i++) {
                const struct record_field *f = &r->fields[i];
                if (f->len == 0 && is_one_of(f->key, telling, ELEMENTSOF(telling))) {
                        n = key_put(bytes, n, f->key, strlen(f->key));
                        n = key_put(bytes, n, &f->num, sizeof(f->num));
                }
                if (f->len == 0 || strcmp(f->key, "comm") == 0)
                        continue;
                n = key_put(bytes, n, f->key, strlen(f->key));
                n = key_put(bytes, n, r->buf + f->off, f->len);
        }
        crew_sha256(bytes, n, digest);
        memcpy(key, digest, 16);
}

static bool take_token(struct audit_stream *s) {
        struct fold *f = &s->fold;
        uint64_t step = 1000000000u / AUDIT_FOLD_RATE, now = s->clock(), earned = (now - f->tokens_ns) / step;

        f->tokens_ns += earned * step;
        f->tokens = MIN_OF(f->tokens + earned, (uint64_t)AUDIT_FOLD_BURST);
        if (f->tokens == 0)
                return false;
        f->tokens--;
        return true;
}

static size_t record_bytes_used(const struct record *r) {
        return offsetof(struct record, buf) + r->used;
}

static void start_sums(struct record *sum) {
        for (size_t i = 0; i < sum->n; i++)
                if (is_one_of(sum->fields[i].key, adding_up, ELEMENTSOF(adding_up)))
                        sum->fields[i].num = 0;
}

/* All other numbers (a connection's, a process's) are those of the last: the line of one must not name another. */
static void add_up(struct record *sum, const struct record *last) {
        for (size_t i = 0; i < sum->n; i++) {
                struct record_field *f = &sum->fields[i];
                bool adds = is_one_of(f->key, adding_up, ELEMENTSOF(adding_up));
                for (size_t k = 0; k < last->n; k++)
                        if (f->len == 0 && last->fields[k].len == 0 && strcmp(last->fields[k].key, f->key) == 0)
                                f->num = last->fields[k].num + (adds ? f->num : 0);
        }
}

static int append_counted(struct audit_stream *s, const struct record *r, uint64_t count) {
        struct record copy;

        memcpy(&copy, r, record_bytes_used(r));
        if (count > 1)
                record_int(&copy, "count", (int64_t)count);
        int fault = audit_append(s, &copy, NULL);
        if (fault == 0)
                s->counts[r->kind] += count - 1;
        return fault;
}

static void count_overflow(struct audit_stream *s, enum record_kind kind, uint64_t count) {
        uint64_t now = crew_realtime_ns();

        if (s->fold.overflow[kind].count == 0)
                s->fold.overflow[kind].since_ns = now;
        s->fold.overflow[kind].count += count;
        s->fold.overflow[kind].until_ns = now;
        s->fold.overflowed = true;
        s->counts[kind] += count;
}

/* The slot that holds key, or the free one where it belongs. */
static uint16_t *slot_of(struct fold *f, const uint8_t key[16]) {
        uint32_t i;

        memcpy(&i, key, sizeof(i));
        for (i %= AUDIT_FOLD_SLOTS; f->slots[i]; i = (i + 1) % AUDIT_FOLD_SLOTS)
                if (memcmp(f->entries[f->slots[i] - 1].key, key, 16) == 0)
                        break;
        return &f->slots[i];
}

static bool tables_ready(struct fold *f) {
        if (!f->entries)
                f->entries = calloc(AUDIT_FOLD_ENTRIES, sizeof(*f->entries));
        if (!f->slots)
                f->slots = calloc(AUDIT_FOLD_SLOTS, sizeof(*f->slots));
        return f->entries && f->slots;
}

/* Remembers a line just written, so that its repetitions are only counted.  Without room or memory: not remembered. */
static void remember(struct fold *f, uint16_t *slot, const uint8_t key[16], const struct record *r) {
        size_t n = record_bytes_used(r);

        if (f->n == AUDIT_FOLD_ENTRIES || f->bytes + n > AUDIT_FOLD_BYTES)
                return;
        struct record *copy = malloc(n);
        if (!copy)
                return;
        memcpy(copy, r, n);
        start_sums(copy); /* its own are in the line */
        struct fold_entry *e = &f->entries[f->n++];
        memcpy(e->key, key, 16);
        e->pending = 0;
        e->record = copy;
        f->bytes += n;
        *slot = (uint16_t)f->n;
}

int audit_observe(struct audit_stream *s, const struct record *r, uint32_t count) {
        struct fold *f = &s->fold;
        uint16_t *slot = NULL;
        uint8_t key[16];

        if (s->poison)
                return -s->poison;
        if (count == 0)
                return 0;
        if (f->n + f->overflowed == 0)
                f->window_start_ns = s->clock();
        key_of(r, key);
        if (tables_ready(f)) {
                slot = slot_of(f, key);
                if (*slot) {
                        f->entries[*slot - 1].pending += count;
                        add_up(f->entries[*slot - 1].record, r);
                        s->counts[r->kind] += count;
                        return 0;
                }
        }
        if (!take_token(s)) {
                count_overflow(s, r->kind, count);
                return 0;
        }
        int fault = append_counted(s, r, count);
        if (fault == 0 && slot)
                remember(f, slot, key, r);
        return fault;
}

static int flush_entry(struct audit_stream *s, struct fold_entry *e) {
        int fault = 0;

        if (e->pending > 0) {
                s->counts[e->record->kind] -= e->pending; /* counted again by what follows */
                if (take_token(s))
                        fault = append_counted(s, e->record, e->pending);
                else
                        count_overflow(s, e->record->kind, e->pending);
        }
        free(e->record);
        e->record = NULL;
        return fault;
}

static int flush_overflow(struct audit_stream *s, enum record_kind kind) {
        struct record r;

        if (s->fold.overflow[kind].count == 0)
                return 0;
        record_init(&r, RECORD_FOLDED, "crewd");
        record_str(&r, "of", record_kind_names[kind]);
        record_int(&r, "count", (int64_t)s->fold.overflow[kind].count);
        record_int(&r, "since", (int64_t)s->fold.overflow[kind].since_ns);
        record_int(&r, "until", (int64_t)s->fold.overflow[kind].until_ns);
        s->fold.overflow[kind].count = 0;
        return audit_append(s, &r, NULL);
}

int audit_fold_flush(struct audit_stream *s) {
        struct fold *f = &s->fold;
        int fault = 0;

        for (uint32_t i = 0; i < f->n; i++) {
                int r = flush_entry(s, &f->entries[i]);
                fault = fault ? fault : r;
        }
        for (int kind = 0; kind < RECORD_KIND_N && fault == 0; kind++)
                fault = flush_overflow(s, (enum record_kind)kind);
        fold_fini(f);
        f->overflowed = false;
        return fault;
}

void fold_fini(struct fold *f) {
        for (uint32_t i = 0; i < f->n; i++)
                free(f->entries[i].record);
        free(f->entries);
        free(f->slots);
        f->entries = NULL;
        f->slots = NULL;
        f->n = 0;
        f->bytes = 0;
}
