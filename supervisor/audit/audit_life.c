/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Lines from the last to the first, by blocks.  A line's kind is looked for as bytes: inside a value a quote is always
 * escaped, so `"kind":"agent.spawned"` can stand nowhere but where the kind does.
 */
#include "audit_life.h"

#include "audit_internal.h"

#include "common/record_line.h"
#include "common/util.h"

#include <errno.h>
#include <string.h>

#define WINDOW (4 * RECORD_LINE_MAX)

struct reader {
        int fd;
        uint64_t at;  /* what is in front of this offset has not been given out */
        uint64_t off; /* of buf in the file */
        size_t n;     /* bytes of it that hold file */
        char buf[WINDOW];
};

static int load(struct reader *r) {
        size_t want = (size_t)MIN_OF(r->at, (uint64_t)WINDOW);

        r->off = r->at - want;
        for (r->n = 0; r->n < want;) {
                ssize_t n = pread(r->fd, r->buf + r->n, want - r->n, (off_t)(r->off + r->n));
                if (n < 0 && errno == EINTR)
                        continue;
                if (n <= 0)
                        return n < 0 ? -errno : -EIO;
                r->n += (size_t)n;
        }
        return 0;
}

/* The line before, without its '\n': 1; 0 at the start of the file; -errno. */
static int line_before(struct reader *r, const char **line, size_t *n) {
        for (bool loaded = false; r->at > 0;) {
                size_t end = r->at > r->off ? (size_t)(r->at - r->off) : 0;
                const char *nl = end > 1 ? memrchr(r->buf, '\n', end - 1) : NULL;
                if (nl || (end > 0 && r->off == 0)) {
                        *line = nl ? nl + 1 : r->buf;
                        *n = (size_t)(r->buf + end - 1 - *line);
                        r->at = r->off + (size_t)(*line - r->buf);
                        return 1;
                }
                int f = loaded ? -EBADMSG : load(r); /* no line is that long */
                if (f < 0)
                        return f;
                loaded = true;
        }
        return 0;
}

static bool is_kind(const char *line, size_t n, enum record_kind kind) {
        char text[64];
        int k = snprintf(text, sizeof(text), "\"kind\":\"%s\"", record_kind_names[kind]);

        return memmem(line, n, text, (size_t)k) != NULL;
}

static void copy(const struct record_line *l, const char *key, char *out, size_t size) {
        const struct record_value *v = record_line_get(l, key);

        if (v && v->type == RECORD_VALUE_STRING && v->len < size)
                snprintf(out, size, "%.*s", (int)v->len, v->text);
}

struct search {
        struct audit_life *life;
        bool task_known; /* a later record says what became of the last task */
        bool decided;
};

static void on_task(struct search *f, const struct record_line *l) {
        uint64_t attempt = 0;

        f->task_known = true;
        record_line_u64(l, "attempt", &attempt);
        f->life->attempt = (uint32_t)attempt;
        copy(l, "task", f->life->task, sizeof(f->life->task));
        copy(l, "task_id", f->life->task_id, sizeof(f->life->task_id));
}

static int on_spawned(struct search *f, const struct record_line *l) {
        uint64_t inc = 0, t = 0;

        if (!record_line_u64(l, "inc", &inc) || !record_line_u64(l, "t", &t) || inc == 0 || inc > UINT32_MAX)
                return -EBADMSG;
        f->life->open = f->decided = true;
        f->life->incarnation = (uint32_t)inc;
        f->life->spawned_ms = t / 1000000u;
        if (!record_line_u64(l, "seq", &f->life->spawned_seq))
                f->life->spawned_seq = UINT64_MAX;
        return 0;
}

static int look(struct search *f, const char *line, size_t n) {
        static const enum record_kind wanted[] = {RECORD_TERMINATED,   RECORD_SPAWNED,      RECORD_TASK_FINISHED,
                                                  RECORD_TASK_STARTED, RECORD_TASK_RETRIED, RECORD_TOOL_CALL,
                                                  RECORD_MESSAGE_SENT};
        struct record_line l;
        size_t k = 0;

        while (k < ELEMENTSOF(wanted) && !is_kind(line, n, wanted[k]))
                k++;
        if (k == ELEMENTSOF(wanted))
                return 0;
        if (wanted[k] == RECORD_TERMINATED) {
                f->decided = true;
                return 0;
        }
        if (record_line_parse(line, n, &l))
                return -EBADMSG;
        if (wanted[k] == RECORD_SPAWNED)
                return on_spawned(f, &l);
        if (wanted[k] == RECORD_TASK_FINISHED)
                f->task_known = true;
        else if ((wanted[k] == RECORD_TASK_STARTED || wanted[k] == RECORD_TASK_RETRIED) && !f->task_known)
                on_task(f, &l);
        else if (wanted[k] == RECORD_TOOL_CALL)
                f->life->effects |= record_line_is(&l, "verdict", "allowed");
        else if (wanted[k] == RECORD_MESSAGE_SENT)
                f->life->effects |= !record_line_is(&l, "verdict", "denied") && !record_line_is(&l, "verdict", "lost");
        return 0;
}

int audit_last_life(const struct audit_stream *s, struct audit_life *out, struct crew_err *err) {
        _cleanup_free_ struct reader *r = malloc(sizeof(*r));
        struct search f = {.life = out};
        const char *line;
        size_t n;
        int k = 1;

        *out = (struct audit_life){0};
        if (!r)
                return crew_fail(err, ENOMEM, "out of memory reading %s", s->path);
        r->fd = s->fd;
        r->at = r->off = s->size;
        r->n = 0;
        while (!f.decided && k > 0) {
                k = line_before(r, &line, &n);
                if (k > 0 && look(&f, line, n) < 0)
                        k = -EBADMSG;
        }
        if (!out->open)
                *out = (struct audit_life){0};
        return k < 0 ? crew_fail(err, -k, "cannot read %s: %s", s->path, strerror(-k)) : 0;
}
