/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The text form of a record for people, and the filters of `crewctl logs`.
 *
 * One table row a kind: label, what is shown after the arrow, what in parentheses.  Values are shown as the UTF-8 they
 * were, except what could act on a terminal or mislead the eye: controls, bidirectional and invisible characters stay
 * escaped.
 */
#include "record.h"
#include "record_line.h"

#include "util.h"

#include <errno.h>
#include <string.h>
#include <time.h>

struct text {
        char *p;
        size_t n, room;
        bool full;
};

struct detail {
        const char *key;
        const char *before, *after; /* after: "#..." for a digest, "~..." for a number of bytes */
};

enum group {
        GROUP_LIFECYCLE = 1u << 0,
        GROUP_TASK = 1u << 1,
        GROUP_TOOL = 1u << 2,
        GROUP_MESSAGE = 1u << 3,
        GROUP_FILE = 1u << 4,
        GROUP_NETWORK = 1u << 5,
        GROUP_DENIED = 1u << 6,
};

static const struct text_row {
        const char *label;
        const char *verdict_key, *verdict; /* the field that holds it, and what stands when that is absent */
        unsigned groups;
        const char *subject;
        const char *at[2]; /* after the subject and a blank: where, in two pieces */
        const char *port;
        const char *reason; /* when the record gives none */
        struct detail details[8];
} rows[RECORD_KIND_N] = {
        /* clang-format off */
        [RECORD_LOG_OPENED] = {"LOG", "found", "OPENED", .groups = GROUP_LIFECYCLE, .subject = "by", .details = {
                {"records", "", " records before"}, {"checkpoint_records", "signed are ", " records"}, {"torn_bytes", "", " bytes of a cut-off line put aside"}, {"torn_file", "in ", ""}}},
        [RECORD_POLICY] = {"AGENT", NULL, "POLICY", .groups = GROUP_LIFECYCLE, .subject = "file", .details = {
                {"sha256", "sha256:", "#"}, {"mode", "", " mode"}}},
        [RECORD_SPAWNED] = {"AGENT", NULL, "SPAWNED", .groups = GROUP_LIFECYCLE, .subject = "pid", .details = {
                {"uid", "uid ", ""}, {"landlock_abi", "landlock ", ""}, {"seccomp", "seccomp ", ""}, {"selftests", "", " self-tests"},
                {"tripwires", "", " tripwires"}, {"degraded", "without ", ""}, {"spawn_us", "", " us"}}},
        [RECORD_READY] = {"AGENT", NULL, "READY", .groups = GROUP_LIFECYCLE, .details = {{"spawn_us", "", " us"}}},
        [RECORD_TERMINATED] = {"AGENT", NULL, "TERMINATED", .groups = GROUP_LIFECYCLE, .subject = "cause", .details = {
                {"reason", "", ""}, {"initiator", "by ", ""}, {"code", "exit code ", ""}, {"signal", "signal ", ""},
                {"processes", "", " processes"}, {"kill_us", "", " us"}, {"task", "task ", " failed"}}},
        [RECORD_RESTART] = {"AGENT", NULL, "RESTART", .groups = GROUP_LIFECYCLE, .subject = "cause", .details = {
                {"attempt", "attempt ", ""}, {"delay_ms", "in ", " ms"}}},
        [RECORD_TASK_STARTED] = {"TASK", NULL, "STARTED", .groups = GROUP_TASK, .subject = "task", .details = {
                {"attempt", "attempt ", ""}, {"by", "handed out by ", ""}, {"key", "key ", ""}}},
        [RECORD_TASK_RETRIED] = {"TASK", NULL, "RETRIED", .groups = GROUP_TASK, .subject = "task", .details = {
                {"attempt", "attempt ", ""}, {"cause", "", ""}, {"reason", "", ""}}},
        [RECORD_TASK_VOTE] = {"VOTE", "vote", "ABSTAIN", .groups = GROUP_TASK, .subject = "task", .details = {
                {"weight", "weight ", ""}, {"reason", "", ""}, {"proposal_sha256", "on sha256:", "#"}}},
        [RECORD_TASK_TALLY] = {"TALLY", "outcome", "REJECTED", .groups = GROUP_TASK, .subject = "task", .details = {
                {"reason", "", ""}, {"votes", "", ""}, {"proposal_sha256", "on sha256:", "#"}}},
        [RECORD_TASK_FINISHED] = {"TASK", "outcome", "FINISHED", .groups = GROUP_TASK, .subject = "task", .details = {
                {"cause", "", ""}, {"reason", "", ""}, {"ms", "", " ms"}, {"result_sha256", "result sha256:", "#"}}},
        [RECORD_TASK_CANCEL] = {"TASK", NULL, "CANCEL", .groups = GROUP_TASK, .subject = "task", .details = {
                {"reason", "", ""}, {"initiator", "by ", ""}, {"task_id", "", ""}}},
        [RECORD_TOOL_CALL] = {"TOOL", "verdict", "ALLOWED", .groups = GROUP_TOOL, .subject = "tool", .details = {
                {"reason", "", ""}, {"rule", "", ""}, {"args_sha256", "args sha256:", "#"}, {"args", "args ", ""}}},
        [RECORD_TOOL_RETURN] = {"TOOL", "outcome", "RETURNED", .groups = GROUP_TOOL, .subject = "tool", .details = {
                {"cause", "", ""}, {"reason", "", ""}, {"ms", "", " ms"}, {"result_sha256", "result sha256:", "#"}, {"result", "result ", ""}}},
        [RECORD_TOOL_REQUEST] = {"TOOL REQUEST", "verdict", "GRANTED", .groups = GROUP_TOOL, .subject = "tool", .details = {
                {"asked_for", "for: ", ""}, {"reason", "", ""}, {"rule", "", ""}}},
        [RECORD_MEMORY] = {"MEMORY", "verdict", "ALLOWED", .groups = GROUP_MESSAGE, .subject = "verb", .details = {
                {"space", "in ", ""}, {"key", "key ", ""}, {"bytes", "", " bytes"}, {"sha256", "sha256:", "#"}, {"reason", "", ""},
                {"rule", "", ""}}},
        [RECORD_MANAGER_ORDER] = {"MANAGER", "verdict", "ALLOWED", .groups = GROUP_TASK, .subject = "verb", .details = {
                {"to", "to ", ""}, {"task", "task ", ""}, {"task_id", "", ""}, {"key", "key ", ""}, {"reason", "", ""}, {"rule", "", ""}}},
        [RECORD_MANAGER_TOLD] = {"MANAGER", "verdict", "TOLD", .groups = GROUP_TASK | GROUP_LIFECYCLE, .subject = "about", .details = {
                {"id", "of its end, id ", ""}, {"lost", "", " of them"}}},
        [RECORD_MESSAGE_SENT] = {"MESSAGE", "verdict", "SENT", .groups = GROUP_MESSAGE, .subject = "to", .details = {
                {"reason", "", ""}, {"rule", "", ""}, {"bytes", "", " bytes"}, {"sha256", "sha256:", "#"}}},
        [RECORD_MESSAGE_RECEIVED] = {"MESSAGE", NULL, "RECEIVED", .groups = GROUP_MESSAGE, .subject = "from", .details = {
                {"bytes", "", " bytes"}, {"sha256", "sha256:", "#"}}},
        [RECORD_MESSAGE_REJECTED] = {"MESSAGE", NULL, "REJECTED", .groups = GROUP_MESSAGE | GROUP_DENIED, .subject = "type", .details = {
                {"field", "field ", ""}, {"rule", "", ""}, {"reason", "", ""}}},
        [RECORD_FILE_READ] = {"FILE_READ", "verdict", "ALLOWED", .groups = GROUP_FILE, .subject = "path", .details = {{"comm", "by ", ""}}},
        [RECORD_FILE_WRITE] = {"FILE_WRITE", "verdict", "ALLOWED", .groups = GROUP_FILE, .subject = "path", .details = {{"comm", "by ", ""}}},
        [RECORD_FILE_DENIED] = {"FILE_READ", NULL, "DENIED", .groups = GROUP_FILE | GROUP_DENIED, .subject = "path",
                .reason = "not in read policy", .details = {{"reason", "", ""}, {"rule", "", ""}}},
        [RECORD_EXEC] = {"EXEC", "verdict", "ALLOWED", .groups = GROUP_FILE, .subject = "path", .details = {
                {"comm", "by ", ""}, {"reason", "", ""}}},
        [RECORD_NETWORK_ALLOWED] = {"NETWORK", "verdict", "ALLOWED", .groups = GROUP_NETWORK, .subject = "host", .port = "port", .details = {
                {"reason", "", ""}}},
        [RECORD_NETWORK_DENIED] = {"NETWORK", "verdict", "DENIED", .groups = GROUP_NETWORK | GROUP_DENIED, .subject = "host", .port = "port",
                .reason = "not in allowed_endpoints", .details = {{"reason", "", ""}}},
        [RECORD_NETWORK_CLOSED] = {"NETWORK", NULL, "CLOSED", .groups = GROUP_NETWORK, .subject = "host", .port = "port", .details = {
                {"bytes_out", "", "~ out"}, {"bytes_in", "", "~ in"}, {"ms", "", " ms"}, {"reason", "", ""}}},
        [RECORD_NETWORK_HTTP] = {"HTTP", "verdict", "ALLOWED", .groups = GROUP_NETWORK, .subject = "method", .at = {"host", "path"}, .details = {
                {"reason", "", ""}, {"status", "status ", ""}}},
        [RECORD_NETWORK_POLICY] = {"NETWORK", "verdict", "APPLIED", .groups = GROUP_NETWORK | GROUP_LIFECYCLE, .subject = "generation", .details = {
                {"old_sha256", "sha256:", "#"}, {"sha256", "now sha256:", "#"}, {"closed", "", " connections closed"}, {"reason", "", ""}}},
        [RECORD_GATEWAY_RESTARTED] = {"GATEWAY", NULL, "RESTARTED", .groups = GROUP_NETWORK | GROUP_LIFECYCLE, .subject = "cause", .details = {
                {"attempt", "attempt ", ""}, {"after_ms", "after ", " ms"}, {"reason", "", ""}}},
        [RECORD_LIMIT] = {"LIMIT", NULL, "HIT", .groups = GROUP_LIFECYCLE, .subject = "limit", .details = {
                {"value", "", ""}, {"max", "of ", ""}, {"reason", "", ""}}},
        [RECORD_KILL] = {"AGENT", NULL, "KILL", .groups = GROUP_LIFECYCLE, .subject = "reason", .details = {{"initiator", "by ", ""}}},
        [RECORD_STOP] = {"AGENT", NULL, "STOP", .groups = GROUP_LIFECYCLE, .subject = "reason", .details = {
                {"initiator", "by ", ""}, {"grace_ms", "grace ", " ms"}}},
        [RECORD_START] = {"AGENT", NULL, "START", .groups = GROUP_LIFECYCLE, .subject = "reason", .details = {{"initiator", "by ", ""}}},
        [RECORD_FROZEN] = {"AGENT", "verdict", "FROZEN", .groups = GROUP_LIFECYCLE, .subject = "reason", .details = {{"initiator", "by ", ""}}},
        [RECORD_THAWED] = {"AGENT", "verdict", "THAWED", .groups = GROUP_LIFECYCLE, .subject = "reason", .details = {
                {"initiator", "by ", ""}, {"ms", "after ", " ms"}}},
        [RECORD_SUPERVISOR_LOST] = {"SUPERVISOR", NULL, "LOST", .groups = GROUP_LIFECYCLE, .details = {{"pid", "crewd process ", ""}, {"ms", "", " ms before"}}},
        [RECORD_SUPERVISOR_ADOPTED] = {"SUPERVISOR", NULL, "ADOPTED", .groups = GROUP_LIFECYCLE, .details = {{"frames_in", "", " frames again from it"}, {"frames_out", "", " to it"}}},
        [RECORD_HEALTH] = {"HEALTH", "verdict", "PASSED", .groups = GROUP_LIFECYCLE, .subject = "reason", .details = {{"failures", "", " in a row"}}},
        [RECORD_CREW_APPLIED] = {"CREW", "verdict", "APPLIED", .groups = GROUP_LIFECYCLE, .subject = "effect", .details = {
                {"old_crew_sha256", "crew sha256:", "#"}, {"crew_sha256", "now sha256:", "#"}, {"old_sha256", "policy sha256:", "#"},
                {"sha256", "now sha256:", "#"}, {"reason", "", ""}, {"initiator", "by ", ""}}},
        [RECORD_MIGRATED] = {"STATE", NULL, "MIGRATED", .groups = GROUP_LIFECYCLE, .details = {
                {"version", "from ", ""}, {"to_version", "to ", ""}, {"ms", "", " ms"}, {"reason", "", ""}}},
        [RECORD_MIGRATE_FAILED] = {"STATE", NULL, "NOT MIGRATED", .groups = GROUP_LIFECYCLE, .subject = "reason", .details = {
                {"version", "from ", ""}, {"to_version", "to ", ""}, {"ms", "", " ms"}}},
        [RECORD_LOG_CHECKPOINT] = {"LOG", NULL, "CHECKPOINT", .groups = GROUP_LIFECYCLE, .subject = "of", .details = {
                {"records", "", " records"}}},
        [RECORD_STDERR] = {"STDERR", .subject = "text", .details = {{"tool", "tool ", ""}, {"dropped", "", " bytes dropped"}}},
        [RECORD_FOLDED] = {"EVIDENCE", NULL, "FOLDED", .subject = "of"},
        [RECORD_EVIDENCE_LOST] = {"EVIDENCE", NULL, "LOST", .subject = "source", .details = {{"reason", "", ""}}},
        [RECORD_APPROVAL_ASKED] = {"APPROVAL", NULL, "ASKED", .groups = GROUP_NETWORK, .subject = "host", .port = "port", .details = {
                {"approval", "id ", ""}, {"waits_s", "waits ", " s"}}},
        [RECORD_APPROVAL_GRANTED] = {"APPROVAL", NULL, "GRANTED", .groups = GROUP_NETWORK, .subject = "host", .port = "port", .details = {
                {"approval", "id ", ""}, {"scope", "", ""}, {"initiator", "by ", ""}, {"reason", "", ""}}},
        [RECORD_APPROVAL_REFUSED] = {"APPROVAL", NULL, "REFUSED", .groups = GROUP_NETWORK, .subject = "host", .port = "port", .details = {
                {"approval", "id ", ""}, {"scope", "", ""}, {"initiator", "by ", ""}, {"reason", "", ""}}},
        [RECORD_APPROVAL_EXPIRED] = {"APPROVAL", "verdict", "EXPIRED", .groups = GROUP_NETWORK, .subject = "host", .port = "port", .details = {
                {"approval", "id ", ""}, {"reason", "", ""}}},
        [RECORD_POLICY_RELOADED] = {"POLICY", "verdict", "RELOADED", .groups = GROUP_LIFECYCLE, .subject = "file", .details = {
                {"old_sha256", "sha256:", "#"}, {"sha256", "now sha256:", "#"}, {"applied", "applied ", ""}, {"restart", "needs restart: ", ""},
                {"reason", "", ""}, {"initiator", "by ", ""}}},
        /* clang-format on */
};

static const struct filter_row {
        const char *name;
        unsigned groups;
} filters[] = {
        {"denied", GROUP_DENIED}, {"network", GROUP_NETWORK}, {"file", GROUP_FILE},           {"tool", GROUP_TOOL},
        {"task", GROUP_TASK},     {"message", GROUP_MESSAGE}, {"lifecycle", GROUP_LIFECYCLE}, {"all", ~0u},
};
const char *const record_filters[] = {"denied", "network", "file", "tool", "task", "message", "lifecycle", "all", NULL};

/* What a denied right is called: first hit in the kernel's list of blockers. */
static const struct right_row {
        const char *prefix, *label, *reason;
} rights[] = {
        {"fs.execute", "EXEC", "not in exec policy"},         {"fs.read", "FILE_READ", "not in read policy"},
        {"fs.", "FILE_WRITE", "not in write policy"},         {"net.", "NETWORK", "not allowed by Landlock"},
        {"scope.signal", "SIGNAL", "outside of the sandbox"}, {"scope.", "SOCKET", "outside of the sandbox"},
        {"ptrace", "PTRACE", "outside of the sandbox"},
};

static void put_bytes(struct text *t, const char *s, size_t n) {
        if (t->full || t->n + n + 1 > t->room) {
                t->full = true; /* stop for good: no half characters, no later pieces after a hole */
                return;
        }
        memcpy(t->p + t->n, s, n);
        t->n += n;
}

static void put(struct text *t, const char *s) {
        put_bytes(t, s, strlen(s));
}

/* C0, C1, DEL, surrogates, noncharacters, and what is invisible or turns the direction of text. */
static bool is_printable(uint32_t c) {
        static const uint32_t hidden[][2] = {{0, 0x1f},        {0x7f, 0x9f},         {0xad, 0xad},     {0x61c, 0x61c},
                                             {0x180e, 0x180e}, {0x200b, 0x200f},     {0x2028, 0x202e}, {0x2060, 0x206f},
                                             {0xd800, 0xf8ff}, {0xfdd0, 0xfdef},     {0xfe00, 0xfe0f}, {0xfeff, 0xfeff},
                                             {0xfff0, 0xffff}, {0xe0000, UINT32_MAX}};

        for (size_t i = 0; i < ELEMENTSOF(hidden); i++)
                if (c >= hidden[i][0] && c <= hidden[i][1])
                        return false;
        return true;
}

static size_t encode_utf8(uint32_t c, char out[4]) {
        if (c < 0x80) {
                out[0] = (char)c;
                return 1;
        }
        size_t len = c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
        for (size_t i = len - 1; i > 0; i--, c >>= 6)
                out[i] = (char)(0x80 | (c & 0x3f));
        out[0] = (char)((0xf00u >> len & 0xf0u) | c);
        return len;
}

static void put_code_point(struct text *t, uint32_t c) {
        char s[12];
        size_t n;

        if (c == '\\' || c == '\n' || c == '\t')
                n = (size_t)snprintf(s, sizeof(s), "\\%c", c == '\n' ? 'n' : c == '\t' ? 't' : '\\');
        else if (c >= 0xdc80 && c <= 0xdcff)
                n = (size_t)snprintf(s, sizeof(s), "\\x%02x", c & 0xff);
        else if (!is_printable(c))
                n = (size_t)snprintf(s, sizeof(s), c > 0xffff ? "\\U%08x" : "\\u%04x", c);
        else
                n = encode_utf8(c, s);
        put_bytes(t, s, n);
}

static void put_value(struct text *t, const struct record_value *v, size_t max) {
        const char *p = v->text, *end = v->text + v->len;

        for (size_t i = 0; p < end; i++) {
                if (i == max) {
                        put(t, "\xe2\x80\xa6");
                        return;
                }
                put_code_point(t, record_value_next(&p, end));
        }
}

static void put_upper(struct text *t, const struct record_value *v) {
        for (size_t i = 0; i < v->len && i < 32; i++) {
                char c = v->text[i];
                c = c >= 'a' && c <= 'z' ? (char)(c - 32) : c;
                put_bytes(t, &c, 1);
        }
}

static void put_time(struct text *t, const struct record_line *l) {
        uint64_t ns = 0;
        struct tm tm;
        char s[64];

        (void)record_line_u64(l, "t", &ns);
        time_t sec = (time_t)(ns / 1000000000u);
        if (!localtime_r(&sec, &tm))
                memset(&tm, 0, sizeof(tm));
        put_bytes(t, s, strftime(s, sizeof(s), "[%Y-%m-%d %H:%M:%S] ", &tm));
}

static const struct right_row *right_of(const struct record_line *l) {
        const struct record_value *access = record_line_get(l, "access");

        for (size_t i = 0; access && i < ELEMENTSOF(rights); i++)
                if (access->len >= strlen(rights[i].prefix) &&
                    memcmp(access->text, rights[i].prefix, strlen(rights[i].prefix)) == 0)
                        return &rights[i];
        return NULL;
}

static void separate(struct text *t, bool *open) {
        put(t, *open ? ", " : " (");
        *open = true;
}

/* 412 B, 1.2 KB, 88 KB: decimal, two figures at least. */
static void put_size(struct text *t, const struct record_line *l, const char *key) {
        static const char *const units[] = {"B", "KB", "MB", "GB", "TB", "PB", "EB"};
        uint64_t bytes = 0, scale = 1;
        size_t unit = 0;
        char s[40];
        int n;

        (void)record_line_u64(l, key, &bytes);
        for (; unit + 1 < ELEMENTSOF(units) && bytes / scale >= 1000; unit++)
                scale *= 1000;
        if (unit == 0 || bytes / scale >= 10)
                n = snprintf(s, sizeof(s), "%llu %s", (unsigned long long)(bytes / scale), units[unit]);
        else
                n = snprintf(s, sizeof(s), "%llu.%llu %s", (unsigned long long)(bytes / scale),
                             (unsigned long long)(bytes % scale / (scale / 10)), units[unit]);
        put_bytes(t, s, (size_t)n);
}

static void put_details(struct text *t, const struct record_line *l, const struct text_row *row, const char *reason) {
        const struct record_value *v;
        bool open = false;
        uint64_t count;

        if (reason && !record_line_get(l, "reason")) {
                separate(t, &open);
                put(t, reason);
        }
        for (size_t i = 0; i < ELEMENTSOF(row->details) && row->details[i].key; i++) {
                const struct detail *d = &row->details[i];
                if (!(v = record_line_get(l, d->key)) || v->len == 0)
                        continue;
                separate(t, &open);
                put(t, d->before);
                if (d->after[0] == '~') {
                        put_size(t, l, d->key);
                        put(t, d->after + 1);
                        continue;
                }
                bool digest = d->after[0] == '#';
                put_value(t, v, digest ? 8 : 400);
                put(t, digest ? "" : d->after);
        }
        if (record_line_u64(l, "count", &count) && count > 1) {
                char s[32];
                separate(t, &open);
                put_bytes(t, s, (size_t)snprintf(s, sizeof(s), "%llu times", (unsigned long long)count));
        }
        if (record_line_get(l, "cut"))
                separate(t, &open), put(t, "cut");
        if (open)
                put(t, ")");
}

static void put_subject(struct text *t, const struct record_line *l, const struct text_row *row) {
        const struct record_value *v = row->subject ? record_line_get(l, row->subject) : NULL;
        uint64_t port = 0;

        if (!v)
                return;
        put(t, row->verdict ? " -> " : " ");
        struct record_value shown = *v;
        if (!row->verdict) /* captured text: the line's own end is no news */
                while (shown.len >= 6 && memcmp(shown.text + shown.len - 6, "\\u000a", 6) == 0)
                        shown.len -= 6;
        bool v6 = row->port && v->type == RECORD_VALUE_STRING && memchr(v->text, ':', v->len);
        put(t, v6 ? "[" : "");
        put_value(t, &shown, SIZE_MAX);
        put(t, v6 ? "]" : "");
        for (size_t i = 0; i < ELEMENTSOF(row->at) && row->at[i]; i++) {
                const struct record_value *more = record_line_get(l, row->at[i]);
                put(t, i == 0 ? " " : "");
                if (more)
                        put_value(t, more, 400);
        }
        if (row->port && record_line_u64(l, row->port, &port) && port > 0) {
                char s[24];
                put_bytes(t, s, (size_t)snprintf(s, sizeof(s), ":%llu", (unsigned long long)port));
        }
}

static void put_record(struct text *t, const struct record_line *l, const struct text_row *row,
                       const struct right_row *right) {
        const struct record_value *verdict = row->verdict_key ? record_line_get(l, row->verdict_key) : NULL;

        put_time(t, l);
        put(t, right ? right->label : row->label);
        put(t, ":");
        if (verdict && verdict->type == RECORD_VALUE_STRING) {
                put(t, " ");
                put_upper(t, verdict);
        } else if (row->verdict) {
                put(t, " ");
                put(t, row->verdict);
        }
        put_subject(t, l, row);
        put_details(t, l, row, right ? right->reason : row->reason);
}

static int kind_of(const struct record_line *l) {
        for (int k = 0; k < RECORD_KIND_N; k++)
                if (record_line_is(l, "kind", record_kind_names[k]))
                        return k;
        return -EINVAL;
}

static int parse(const char *line, size_t n, struct record_line *l) {
        if (n > 0 && line[n - 1] == '\n')
                n--;
        return record_line_parse(line, n, l) ? -EINVAL : kind_of(l);
}

int record_render(const char *line, size_t n, char *out, size_t out_size) {
        struct text t = {.p = out, .room = out_size};
        struct record_line l;

        int kind = parse(line, n, &l);
        if (out_size > 0)
                out[0] = '\0';
        if (kind < 0 || out_size == 0)
                return -EINVAL;
        put_record(&t, &l, &rows[kind], kind == RECORD_FILE_DENIED ? right_of(&l) : NULL);
        out[t.n] = '\0';
        return 0;
}

bool record_matches(const char *line, size_t n, const char *filter) {
        struct record_line l;

        int kind = parse(line, n, &l);
        if (kind < 0)
                return false;
        unsigned groups = rows[kind].groups;
        if (record_line_is(&l, "verdict", "denied") || record_line_is(&l, "verdict", "invalid"))
                groups |= GROUP_DENIED;
        for (size_t i = 0; i < ELEMENTSOF(filters); i++)
                if (strcmp(filters[i].name, filter) == 0)
                        return filters[i].groups == ~0u || (groups & filters[i].groups);
        return false;
}
