/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The audit record: one canonical JSON line.
 *
 * Canonical: keys sorted bytewise, no blanks, integers only (no floats), every byte outside printable ASCII and every
 * quote, backslash and control escaped as \uXXXX (bytes that are not UTF-8 become \udcXX, as Python's surrogateescape
 * does), one '\n' at the end.  So one event is one line whatever bytes it was about.
 *
 * Chain: "prev" is the SHA-256 (hex) of the previous line without its '\n'; the first line's prev is 64 zeros.
 * Every record has: agent, crew, inc (incarnation), kind, prev, seq (from 1, no gaps), src, t (ns since 1970).
 */
#pragma once

#include "digest.h"
#include "err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#define RECORD_LINE_MAX (64u * 1024)
#define RECORD_FIELDS_MAX 64
#define RECORD_KEY_MAX 32
#define RECORD_VALUE_MAX 6144 /* bytes of one value before escaping; leaves room for the fields after it */

/*
 * Fields by kind are listed in docs/AUDIT.md.  The text form and the filters look at: path, access, host, port, tool,
 * task, to, from, type, verdict, outcome, reason, rule, cause, count and a few more (record_render.c); all are
 * optional, and others show in --json.
 */

enum record_kind {
        RECORD_LOG_OPENED, /* the stream was (re)opened: by whom, what was found */
        RECORD_POLICY,     /* policy file, sha256 of the image */
        RECORD_SPAWNED,    /* attestation */
        RECORD_READY,
        RECORD_TERMINATED, /* cause, code, signal, initiator, reason, processes, kill_us */
        RECORD_RESTART,
        RECORD_TASK_STARTED,
        RECORD_TASK_RETRIED,  /* an attempt failed, another follows */
        RECORD_TASK_VOTE,     /* of the agent whose stream this is, on another's proposal or its own */
        RECORD_TASK_TALLY,    /* what the votes on this agent's proposal came to */
        RECORD_TASK_FINISHED, /* outcome, cause, duration, result digest */
        RECORD_TOOL_CALL,     /* verdict, rule, args digest (value when audit: full) */
        RECORD_TOOL_RETURN,
        RECORD_TOOL_REQUEST,  /* an agent asked for a tool it does not have: verdict */
        RECORD_MEMORY,        /* verb, space, key, verdict: of a memory that agents share */
        RECORD_MANAGER_ORDER, /* verb, verdict, task_id: what the manager of a hierarchical crew asked for */
        RECORD_MANAGER_TOLD,  /* about, id: the end of an agent, before it is sent */
        RECORD_MESSAGE_SENT,
        RECORD_MESSAGE_RECEIVED,
        RECORD_MESSAGE_REJECTED, /* field, rule */
        RECORD_FILE_READ,        /* allowed open for reading */
        RECORD_FILE_WRITE,       /* allowed open for writing, or closed after writing */
        RECORD_FILE_DENIED,
        RECORD_EXEC,
        RECORD_NETWORK_ALLOWED,
        RECORD_NETWORK_DENIED,
        RECORD_LIMIT,
        RECORD_KILL,   /* the decision, before it takes effect */
        RECORD_STDERR, /* captured text of the agent or a tool */
        RECORD_FOLDED, /* count of records of one kind folded under flood */
        RECORD_EVIDENCE_LOST,
        RECORD_APPROVAL_ASKED, /* a connection waits for the operator */
        RECORD_APPROVAL_GRANTED,
        RECORD_APPROVAL_REFUSED, /* by an operator, or by crewd when nobody can be asked */
        RECORD_APPROVAL_EXPIRED, /* or nobody waits any more: reason */
        RECORD_POLICY_RELOADED,  /* both hashes, section by section */
        RECORD_NETWORK_CLOSED,   /* bytes both ways and duration; folded ones are sums */
        RECORD_NETWORK_HTTP,     /* one request under HTTP rules, or one without that is refused */
        RECORD_NETWORK_POLICY,   /* the gateway has taken a new one, or not: both digests */
        RECORD_GATEWAY_RESTARTED,
        RECORD_STOP,   /* asked to end, before it is told: grace */
        RECORD_START,  /* asked for, before it is made */
        RECORD_FROZEN, /* by an operator, before it takes effect; verdict failed: it did not */
        RECORD_THAWED,
        RECORD_SUPERVISOR_LOST,    /* by the next crewd: when the one before was gone */
        RECORD_SUPERVISOR_ADOPTED, /* the agent is in its hands */
        RECORD_HEALTH,             /* verdict, failures in a row */
        RECORD_CREW_APPLIED,       /* a changed crew file: effect, both digests */
        RECORD_MIGRATED,           /* of a state directory: from, to, verdict failed: it is as it was */
        RECORD_MIGRATE_FAILED,
        RECORD_TASK_CANCEL,    /* a client called a task off, before it takes effect */
        RECORD_LOG_CHECKPOINT, /* in the crew's own stream: of an agent's */
        RECORD_KIND_N,
};
extern const char *const record_kind_names[RECORD_KIND_N]; /* "agent.spawned", "file.denied", ... */

/* Builds one record's fields; values are copied into a fixed buffer, oversize values are cut and "cut":true is set. */
struct record {
        enum record_kind kind;
        const char *src; /* "crewd", "gateway", "landlock", "fanotify", "notify", "worker" */
        size_t n, used;
        bool cut;
        struct record_field {
                const char *key; /* static string, [a-z_]+ */
                uint8_t type;
                int64_t num;
                uint32_t off, len;
        } fields[RECORD_FIELDS_MAX];
        char buf[RECORD_LINE_MAX / 8];
};
/* Setting a key again replaces it.  The keys of the head, "src", "kind" and "cut" are not the caller's to set. */
void record_init(struct record *r, enum record_kind kind, const char *src);
void record_int(struct record *r, const char *key, int64_t v);
void record_bool(struct record *r, const char *key, bool v);
void record_str(struct record *r, const char *key, const char *s); /* NULL is skipped */
void record_bytes(struct record *r, const char *key, const void *p, size_t n);
void record_hex(struct record *r, const char *key, const uint8_t *p, size_t n);

struct record_head {
        const char *crew, *agent;
        uint32_t incarnation;
        uint64_t seq, time_ns;
        const char *prev_hex;
};
/* One line with its '\n' into out (RECORD_LINE_MAX).  Length; cannot fail. */
size_t record_format(const struct record *r, const struct record_head *head, char *out, size_t out_size);

/* Offline: recomputes the chain of a stream.  Outcome in *result; a fault only when the file cannot be read. */
struct record_verify {
        uint64_t records;
        uint64_t bad_seq;  /* 0: intact */
        uint64_t bad_line; /* 1-based */
        char problem[256]; /* "prev is ..., the line before hashes to ..." */
        char head_hex[CREW_SHA256_HEX];
        bool torn_tail; /* last line has no newline: a write was cut off */
};
int record_verify_stream(FILE *f, struct record_verify *result, struct crew_err *err);
/* The same, and each line that fits is shown: without its '\n', and parsed. */
struct record_line;
typedef void record_on_line(const char *line, size_t n, const struct record_line *l, void *user);
int record_verify_lines(FILE *f, record_on_line *on_line, void *user, struct record_verify *result, struct crew_err *err);

/* Text form of one line: "[2026-03-20 09:15:01] NETWORK: DENIED -> host:443 (not in allowed_endpoints)", local time.
 * Never emits control characters.  Returns 0, or -EINVAL for a line that is not a record. */
int record_render(const char *line, size_t n, char *out, size_t out_size);
#define RECORD_TEXT_MAX (32u * 1024) /* enough for any line */
/* Filters of `crewctl logs --filter`: denied, network, file, tool, task, message, lifecycle, all. */
bool record_matches(const char *line, size_t n, const char *filter);
extern const char *const record_filters[]; /* NULL-terminated */
