/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Building a record and writing it as its one canonical line.
 *
 * Values are hostile bytes.  Nothing of them reaches the line unescaped but printable ASCII without quote and
 * backslash, so no value can end a string, a line or a terminal's patience.
 */
#include "record.h"

#include "util.h"

#include <string.h>

enum field_type { FIELD_INT, FIELD_UINT, FIELD_BOOL, FIELD_STR };

const char *const record_kind_names[RECORD_KIND_N] = {
        [RECORD_LOG_OPENED] = "log.opened",
        [RECORD_POLICY] = "agent.policy",
        [RECORD_SPAWNED] = "agent.spawned",
        [RECORD_READY] = "agent.ready",
        [RECORD_TERMINATED] = "agent.terminated",
        [RECORD_RESTART] = "agent.restart",
        [RECORD_TASK_STARTED] = "task.started",
        [RECORD_TASK_RETRIED] = "task.retried",
        [RECORD_TASK_VOTE] = "task.vote",
        [RECORD_TASK_TALLY] = "task.tally",
        [RECORD_TASK_FINISHED] = "task.finished",
        [RECORD_TOOL_CALL] = "tool.call",
        [RECORD_TOOL_RETURN] = "tool.return",
        [RECORD_TOOL_REQUEST] = "tool.request",
        [RECORD_MEMORY] = "memory.access",
        [RECORD_MANAGER_ORDER] = "manager.order",
        [RECORD_MANAGER_TOLD] = "manager.told",
        [RECORD_MESSAGE_SENT] = "message.sent",
        [RECORD_MESSAGE_RECEIVED] = "message.received",
        [RECORD_MESSAGE_REJECTED] = "message.rejected",
        [RECORD_FILE_READ] = "file.read",
        [RECORD_FILE_WRITE] = "file.write",
        [RECORD_FILE_DENIED] = "file.denied",
        [RECORD_EXEC] = "process.exec",
        [RECORD_NETWORK_ALLOWED] = "network.allowed",
        [RECORD_NETWORK_DENIED] = "network.denied",
        [RECORD_LIMIT] = "limit.hit",
        [RECORD_KILL] = "agent.kill",
        [RECORD_STOP] = "agent.stop",
        [RECORD_START] = "agent.start",
        [RECORD_FROZEN] = "agent.frozen",
        [RECORD_THAWED] = "agent.thawed",
        [RECORD_SUPERVISOR_LOST] = "supervisor.lost",
        [RECORD_SUPERVISOR_ADOPTED] = "supervisor.adopted",
        [RECORD_HEALTH] = "agent.health",
        [RECORD_CREW_APPLIED] = "crew.applied",
        [RECORD_MIGRATED] = "state.migrated",
        [RECORD_MIGRATE_FAILED] = "state.migrate_failed",
        [RECORD_TASK_CANCEL] = "task.cancel",
        [RECORD_LOG_CHECKPOINT] = "log.checkpoint",
        [RECORD_STDERR] = "agent.stderr",
        [RECORD_FOLDED] = "evidence.folded",
        [RECORD_EVIDENCE_LOST] = "evidence.lost",
        [RECORD_APPROVAL_ASKED] = "approval.asked",
        [RECORD_APPROVAL_GRANTED] = "approval.granted",
        [RECORD_APPROVAL_REFUSED] = "approval.refused",
        [RECORD_APPROVAL_EXPIRED] = "approval.expired",
        [RECORD_POLICY_RELOADED] = "policy.reloaded",
        [RECORD_NETWORK_CLOSED] = "network.closed",
        [RECORD_NETWORK_HTTP] = "network.http",
        [RECORD_NETWORK_POLICY] = "network.policy",
        [RECORD_GATEWAY_RESTARTED] = "gateway.restarted",
};

/* Written by record_format itself. */
static const char *const own_keys[] = {"agent", "crew", "cut", "inc", "kind", "prev", "seq", "src", "t"};

void record_init(struct record *r, enum record_kind kind, const char *src) {
        crew_assert((unsigned)kind < RECORD_KIND_N && src);
        r->kind = kind;
        r->src = src;
        r->n = 0;
        r->used = 0;
        r->cut = false;
}

static bool same_key(const char *a, const char *b) {
        return a[0] == b[0] && strcmp(a, b) == 0; /* most differ at once, and each message makes two records */
}

static bool key_ok(const char *key) {
        size_t n = 0;

        for (size_t i = 0; i < ELEMENTSOF(own_keys); i++)
                if (same_key(key, own_keys[i]))
                        return false;
        while ((key[n] >= 'a' && key[n] <= 'z') || (key[n] >= '0' && key[n] <= '9') || key[n] == '_')
                n++;
        return n > 0 && n <= RECORD_KEY_MAX && !key[n];
}

static struct record_field *field_of(struct record *r, const char *key, enum field_type type) {
        crew_assert(key_ok(key));
        size_t i = 0;
        while (i < r->n && !same_key(r->fields[i].key, key))
                i++;
        crew_assert(i < RECORD_FIELDS_MAX - ELEMENTSOF(own_keys));
        r->fields[i] = (struct record_field){.key = key, .type = (uint8_t)type};
        r->n = MAX_OF(r->n, i + 1);
        return &r->fields[i];
}

void record_int(struct record *r, const char *key, int64_t v) {
        field_of(r, key, FIELD_INT)->num = v;
}

void record_bool(struct record *r, const char *key, bool v) {
        field_of(r, key, FIELD_BOOL)->num = v;
}

void record_str(struct record *r, const char *key, const char *s) {
        if (s)
                record_bytes(r, key, s, strlen(s));
}

/* Length of the UTF-8 sequence at p, 0 when there is none; *cp is its code point. */
static size_t utf8_at(const unsigned char *p, size_t n, uint32_t *cp) {
        static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
        size_t len = p[0] < 0x80 ? 1 : p[0] >= 0xf0 && p[0] < 0xf8 ? 4 : p[0] >= 0xe0 ? 3 : p[0] >= 0xc0 ? 2 : 0;
        uint32_t v = len == 1 ? p[0] : p[0] & (0xffu >> (len + 1));

        if (len == 0 || len > n || p[0] >= 0xf8)
                return 0;
        for (size_t i = 1; i < len; i++) {
                if ((p[i] & 0xc0) != 0x80)
                        return 0;
                v = v << 6 | (p[i] & 0x3fu);
        }
        if (v < least[len] || v > 0x10ffff || (v >= 0xd800 && v <= 0xdfff))
                return 0;
        *cp = v;
        return len;
}

/* A cut must not make an invalid sequence out of a valid one. */
static size_t cut_length(const unsigned char *p, size_t n, size_t room) {
        uint32_t cp;

        for (size_t back = 1; back <= 3 && back <= room; back++)
                if (utf8_at(p + room - back, n - (room - back), &cp) > back)
                        return room - back;
        return room;
}

void record_bytes(struct record *r, const char *key, const void *p, size_t n) {
        struct record_field *f = field_of(r, key, FIELD_STR);
        size_t room = MIN_OF(sizeof(r->buf) - r->used, (size_t)RECORD_VALUE_MAX);

        if (n > room) {
                n = cut_length(p, n, room);
                r->cut = true;
        }
        f->off = (uint32_t)r->used;
        f->len = (uint32_t)n;
        if (n > 0)
                memcpy(r->buf + r->used, p, n);
        r->used += n;
}

void record_hex(struct record *r, const char *key, const uint8_t *p, size_t n) {
        char hex[2 * 128 + 1];

        crew_assert(n <= 128);
        crew_hex(p, n, hex);
        record_bytes(r, key, hex, 2 * n);
}

struct out {
        char *p;
        size_t n;
};

static void put(struct out *o, const char *s, size_t n) {
        memcpy(o->p + o->n, s, n);
        o->n += n;
}

static void put_unit(struct out *o, uint32_t unit) {
        static const char digits[] = "0123456789abcdef";
        const char s[6] = {
                '\\', 'u', digits[unit >> 12 & 15], digits[unit >> 8 & 15], digits[unit >> 4 & 15], digits[unit & 15]};

        put(o, s, sizeof(s));
}

static void put_code_point(struct out *o, uint32_t cp) {
        if (cp < 0x10000) {
                put_unit(o, cp);
                return;
        }
        put_unit(o, 0xd800 + ((cp - 0x10000) >> 10));
        put_unit(o, 0xdc00 + ((cp - 0x10000) & 0x3ff));
}

static bool is_plain(unsigned char c) {
        return c >= 0x20 && c < 0x7f && c != '"' && c != '\\';
}

/* How many at p are plain; eight at a time, for most of a line is names and digests. */
static size_t plain_run(const unsigned char *p, size_t n) {
        const uint64_t ones = UINT64_MAX / 255, high = ones * 0x80;
        uint64_t w;
        size_t i = 0;

        for (; i + sizeof(w) <= n; i += sizeof(w)) {
                memcpy(&w, p + i, sizeof(w));
                /* The top bit of each byte: it is 0, below 0x20, at least 0x7f.  What is borrowed from a neighbour only
                 * makes one more look. */
                uint64_t quote = w ^ ones * '"', slash = w ^ ones * '\\';
                if ((w | (w - ones * 0x20) | (w + ones) | ((quote - ones) & ~quote) | ((slash - ones) & ~slash)) & high)
                        break;
        }
        while (i < n && is_plain(p[i]))
                i++;
        return i;
}

static void put_string(struct out *o, const char *s, size_t n) {
        const unsigned char *p = (const unsigned char *)s;

        o->p[o->n++] = '"';
        for (size_t i = 0; i < n;) {
                size_t plain = plain_run(p + i, n - i);
                if (plain > 0) {
                        put(o, s + i, plain);
                        i += plain;
                        continue;
                }
                uint32_t cp = 0;
                size_t len = utf8_at(p + i, n - i, &cp);
                if (len == 0)
                        put_unit(o, 0xdc00u + p[i]);
                else
                        put_code_point(o, cp);
                i += MAX_OF(len, (size_t)1);
        }
        o->p[o->n++] = '"';
}

static void put_decimal(struct out *o, uint64_t v) {
        char digits[20];
        size_t n = 0;

        do
                digits[sizeof(digits) - ++n] = (char)('0' + v % 10);
        while ((v /= 10));
        put(o, digits + sizeof(digits) - n, n);
}

static void put_value(struct out *o, const struct record_field *f, const char *text) {
        switch ((enum field_type)f->type) {
        case FIELD_INT:
                if (f->num < 0)
                        put(o, "-", 1);
                put_decimal(o, f->num < 0 ? -(uint64_t)f->num : (uint64_t)f->num);
                break;
        case FIELD_UINT:
                put_decimal(o, (uint64_t)f->num);
                break;
        case FIELD_BOOL:
                put(o, f->num ? "true" : "false", f->num ? 4 : 5);
                break;
        case FIELD_STR:
                put_string(o, text, f->len);
                break;
        }
}

/* The own fields carry their text by pointer; the caller's point into buf. */
struct sorted_field {
        struct record_field f;
        const char *text;
};

static struct sorted_field own_str(const char *key, const char *s) {
        return (struct sorted_field){{.key = key, .type = FIELD_STR, .len = (uint32_t)strnlen(s, 128)}, s};
}

static struct sorted_field own_uint(const char *key, uint64_t v) {
        return (struct sorted_field){{.key = key, .type = FIELD_UINT, .num = (int64_t)v}, NULL};
}

static bool key_after(const char *a, const char *b) {
        return a[0] == b[0] ? strcmp(a, b) > 0 : (unsigned char)a[0] > (unsigned char)b[0];
}

/* Canonical is sorted by key, byte by byte; all are different. */
static void insert(struct sorted_field *all, size_t *n, struct sorted_field f) {
        size_t at = (*n)++;

        for (; at > 0 && key_after(all[at - 1].f.key, f.f.key); at--)
                all[at] = all[at - 1];
        all[at] = f;
}

static size_t collect(const struct record *r, const struct record_head *head, struct sorted_field *all) {
        size_t n = 0;

        insert(all, &n, own_str("agent", head->agent));
        insert(all, &n, own_str("crew", head->crew));
        if (r->cut)
                insert(all, &n, (struct sorted_field){{.key = "cut", .type = FIELD_BOOL, .num = 1}, NULL});
        insert(all, &n, own_uint("inc", head->incarnation));
        insert(all, &n, own_str("kind", record_kind_names[r->kind]));
        insert(all, &n, own_str("prev", head->prev_hex));
        insert(all, &n, own_uint("seq", head->seq));
        insert(all, &n, own_str("src", r->src));
        insert(all, &n, own_uint("t", head->time_ns));
        for (size_t i = 0; i < r->n; i++)
                insert(all, &n, (struct sorted_field){r->fields[i], r->buf + r->fields[i].off});
        return n;
}

/* Why it fits: values are at most sizeof(buf) bytes and grow by six at most; the rest is 64 keys and numbers. */
_Static_assert(6 * sizeof(((struct record *)0)->buf) + RECORD_FIELDS_MAX * (RECORD_KEY_MAX + 24) + 4 * 6 * 128 + 2 <=
                       RECORD_LINE_MAX,
               "a record always fits its line");

size_t record_format(const struct record *r, const struct record_head *head, char *out, size_t out_size) {
        _not_cleared_ struct sorted_field all[RECORD_FIELDS_MAX];
        struct out o = {.p = out};

        crew_assert(out_size >= RECORD_LINE_MAX);
        size_t n = collect(r, head, all);
        for (size_t i = 0; i < n; i++) {
                put(&o, i ? ",\"" : "{\"", 2);
                put(&o, all[i].f.key, strlen(all[i].f.key));
                put(&o, "\":", 2);
                put_value(&o, &all[i].f, all[i].text);
        }
        put(&o, "}\n", 2);
        return o.n;
}
