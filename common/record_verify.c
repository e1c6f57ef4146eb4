/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Recomputes the chain of a stream and stops at the first line that breaks it.
 *
 * Trusts nothing in the file.  What a chain alone cannot show: that lines are missing at the end, or that all of it was
 * recomputed; the tree's checkpoints do (note.h).
 */
#include "record.h"
#include "record_line.h"

#include "util.h"

#include <errno.h>
#include <string.h>

struct verifier {
        struct record_verify *result;
        uint64_t line; /* 1-based, of the line in hand */
        char crew[128], agent[128];
        record_on_line *on_line; /* NULL: nobody looks */
        void *user;
};

static bool broken(struct verifier *v, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static bool broken(struct verifier *v, const char *fmt, ...) {
        va_list ap;

        v->result->bad_seq = v->result->records + 1;
        v->result->bad_line = v->line;
        va_start(ap, fmt);
        vsnprintf(v->result->problem, sizeof(v->result->problem), fmt, ap);
        va_end(ap);
        return false;
}

/* The first line names the stream; the others must agree. */
static bool same_name(const struct record_line *l, const char *key, char *name, size_t room) {
        const struct record_value *value = record_line_get(l, key);

        if (!value || value->type != RECORD_VALUE_STRING || value->len >= room)
                return false;
        if (name[0] == '\0')
                memcpy(name, value->text, value->len);
        return record_line_is(l, key, name);
}

static bool check_head(struct verifier *v, const struct record_line *l) {
        struct record_verify *r = v->result;
        const struct record_value *prev = record_line_get(l, "prev"), *kind = record_line_get(l, "kind");
        uint64_t seq, t, inc;

        if (!record_line_u64(l, "seq", &seq) || !record_line_u64(l, "t", &t) || !record_line_u64(l, "inc", &inc) || !prev ||
            prev->len != CREW_SHA256_HEX - 1 || !kind || kind->type != RECORD_VALUE_STRING || !record_line_get(l, "src"))
                return broken(v, "a field that every record has is missing");
        if (!record_line_is(l, "prev", r->head_hex))
                return broken(v, "prev is %.16s..., %s %.16s...", prev->text,
                              r->records ? "the line before hashes to" : "the first must be", r->head_hex);
        if (seq != r->records + 1)
                return broken(v, "seq is %llu, expected %llu", (unsigned long long)seq, (unsigned long long)r->records + 1);
        if (!same_name(l, "crew", v->crew, sizeof(v->crew)) || !same_name(l, "agent", v->agent, sizeof(v->agent)))
                return broken(v, "the line belongs to another stream");
        return true;
}

static bool check_line(struct verifier *v, const char *line, size_t n) {
        struct record_line l;

        size_t bad = record_line_parse(line, n, &l);
        if (bad)
                return broken(v, "not a canonical record at byte %zu", bad);
        if (!check_head(v, &l))
                return false;
        v->result->records++;
        crew_sha256_hex(line, n, v->result->head_hex);
        if (v->on_line)
                v->on_line(line, n, &l, v->user);
        return true;
}

/* One line of at most RECORD_LINE_MAX bytes into buf.  Its length with the '\n'; 0 at the end; too long: no '\n'. */
static size_t read_line(FILE *f, char *buf) {
        size_t n = 0;
        int c;

        while (n < RECORD_LINE_MAX && (c = getc_unlocked(f)) != EOF) {
                buf[n++] = (char)c;
                if (c == '\n')
                        break;
        }
        return n;
}

int record_verify_stream(FILE *f, struct record_verify *result, struct crew_err *err) {
        return record_verify_lines(f, NULL, NULL, result, err);
}

int record_verify_lines(FILE *f, record_on_line *on_line, void *user, struct record_verify *result, struct crew_err *err) {
        _cleanup_free_ char *buf = malloc(RECORD_LINE_MAX);
        struct verifier v = {.result = result, .on_line = on_line, .user = user};
        size_t n;

        if (!buf)
                return crew_fail(err, ENOMEM, "out of memory verifying a stream");
        *result = (struct record_verify){0};
        memset(result->head_hex, '0', CREW_SHA256_HEX - 1);
        while ((n = read_line(f, buf)) > 0) {
                v.line++;
                if (buf[n - 1] != '\n' && n == RECORD_LINE_MAX) {
                        broken(&v, "the line is longer than %u bytes", RECORD_LINE_MAX);
                        break;
                }
                if (buf[n - 1] != '\n') {
                        result->torn_tail = !ferror(f);
                        break;
                }
                if (!check_line(&v, buf, n - 1))
                        break;
        }
        return ferror(f) ? crew_fail(err, EIO, "cannot read the stream") : 0;
}
