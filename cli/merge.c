/* SPDX-License-Identifier: Apache-2.0 */
/* Several audit streams as one.  A crew has tens of agents: the oldest pending line is found by looking at all. */
#include "merge.h"

#include "common/record.h"
#include "common/util.h"

#include <errno.h>
#include <limits.h>
#include <string.h>

struct source {
        char agent[64];
        struct log_file *file; /* owned */
        const char *line;      /* pending, in the file's buffer; NULL: none */
        size_t n;
        uint64_t time_ns;
        bool idle; /* its end was seen in this run */
};

struct kept { /* one of the last lines, when only those are wanted */
        size_t source;
        char *line; /* owned */
        size_t n;
};

struct merge {
        struct merge_filter filter;
        struct source *sources; /* owned */
        size_t n;
};

struct merge *merge_new(const struct merge_filter *filter) {
        struct merge *m = calloc(1, sizeof(*m));

        if (m)
                m->filter = *filter;
        return m;
}

struct merge *merge_free(struct merge *m) {
        if (!m)
                return NULL;
        for (size_t i = 0; i < m->n; i++)
                log_file_close(m->sources[i].file);
        free(m->sources);
        free(m);
        return NULL;
}

bool merge_has(const struct merge *m, const char *agent) {
        for (size_t i = 0; i < m->n; i++) {
                if (strcmp(m->sources[i].agent, agent) == 0)
                        return true;
        }
        return false;
}

size_t merge_width(const struct merge *m) {
        size_t width = 0;

        for (size_t i = 0; i < m->n; i++)
                width = MAX_OF(width, strlen(m->sources[i].agent));
        return width;
}

static bool wanted(const struct merge_filter *f, const char *line, size_t n) {
        return (f->since_ns == 0 || log_line_time(line, n) >= f->since_ns) &&
               (!f->filter || record_matches(line, n, f->filter));
}

struct seek {
        const struct merge_filter *filter;
        uint64_t found;
};

static enum log_file_step seek_step(const char *line, size_t n, void *user) {
        struct seek *s = user;
        const struct merge_filter *f = s->filter;

        if (f->since_ns > 0 && log_line_time(line, n) < f->since_ns)
                return LOG_FILE_AFTER;
        if (f->bounded && wanted(f, line, n) && ++s->found >= f->last)
                return LOG_FILE_HERE;
        return LOG_FILE_ON;
}

static int position(const struct merge *m, struct log_file *file) {
        struct seek s = {.filter = &m->filter};

        if (m->filter.bounded && m->filter.last == 0)
                return log_file_seek_end(file);
        if (!m->filter.bounded && m->filter.since_ns == 0)
                return 0;
        return log_file_seek_back(file, seek_step, &s);
}

int merge_add(struct merge *m, const char *audit_dir, const char *agent, struct crew_err *err) {
        struct source s = {0};
        char path[PATH_MAX];

        if ((size_t)snprintf(path, sizeof(path), "%s/%s/log.jsonl", audit_dir, agent) >= sizeof(path) ||
            (size_t)snprintf(s.agent, sizeof(s.agent), "%s", agent) >= sizeof(s.agent))
                return crew_fail(err, ENAMETOOLONG, "path too long: %s/%s", audit_dir, agent);
        struct source *grown = reallocarray(m->sources, m->n + 1, sizeof(*grown));
        if (!grown)
                return crew_fail(err, ENOMEM, "out of memory");
        m->sources = grown;
        int r = log_file_open(path, &s.file, err);
        if (r < 0)
                return r;
        r = position(m, s.file);
        if (r < 0) {
                log_file_close(s.file);
                return crew_fail(err, -r, "cannot read %s: %s", path, strerror(-r));
        }
        m->sources[m->n++] = s;
        return 0;
}

/* Makes sure that a wanted line is pending, if the stream has one. */
static int advance(struct merge *m, struct source *s, const struct merge_sink *sink) {
        while (!s->line && !s->idle) {
                bool cut = false;
                int r = log_file_next(s->file, &s->line, &s->n);
                if (r == 0) {
                        s->line = NULL;
                        r = log_file_renew(s->file, &cut);
                        if (cut)
                                sink->cut(s->agent, sink->user);
                        s->idle = r == 0;
                        if (r < 0)
                                return r;
                        continue;
                }
                if (r < 0) {
                        s->line = NULL;
                        return r;
                }
                if (!wanted(&m->filter, s->line, s->n)) {
                        s->line = NULL;
                        continue;
                }
                s->time_ns = log_line_time(s->line, s->n);
        }
        return 0;
}

/* The source with the oldest pending line; m->n when there is none. */
static int oldest(struct merge *m, const struct merge_sink *sink, size_t *which, struct crew_err *err) {
        *which = m->n;
        for (size_t i = 0; i < m->n; i++) {
                int r = advance(m, &m->sources[i], sink);
                if (r < 0)
                        return crew_fail(err, -r, "cannot read the log of %s: %s", m->sources[i].agent, strerror(-r));
                if (m->sources[i].line && (*which == m->n || m->sources[i].time_ns < m->sources[*which].time_ns))
                        *which = i;
        }
        return 0;
}

static int emit_all(struct merge *m, const struct merge_sink *sink, struct crew_err *err) {
        for (;;) {
                size_t i;
                int r = oldest(m, sink, &i, err);
                if (r < 0 || i == m->n)
                        return r;
                struct source *s = &m->sources[i];
                bool go_on = sink->emit(s->agent, s->line, s->n, sink->user);
                s->line = NULL;
                if (!go_on)
                        return 0;
        }
}

static int keep(struct kept *k, struct source *sources, size_t i) {
        struct source *s = &sources[i];

        free(k->line);
        *k = (struct kept){.source = i, .line = strndup(s->line, s->n), .n = s->n};
        s->line = NULL;
        if (k->line)
                k->n = strlen(k->line);
        return k->line ? 0 : -ENOMEM;
}

/* Only the last lines of all streams together: the ring forgets what is older. */
static int emit_last(struct merge *m, const struct merge_sink *sink, struct crew_err *err) {
        size_t room = (size_t)MIN_OF(m->filter.last, (uint64_t)1 << 20), n = 0, i;
        struct kept *ring = calloc(room, sizeof(*ring));
        int r = 0;

        if (!ring)
                return crew_fail(err, ENOMEM, "out of memory");
        while (r == 0 && (r = oldest(m, sink, &i, err)) == 0 && i < m->n) {
                r = keep(&ring[n++ % room], m->sources, i);
                if (r < 0)
                        crew_fail(err, -r, "out of memory");
        }
        bool go_on = true;
        for (size_t at = n > room ? n - room : 0; at < n && r == 0 && go_on; at++) {
                const struct kept *k = &ring[at % room];
                go_on = sink->emit(m->sources[k->source].agent, k->line, k->n, sink->user);
        }
        for (size_t at = 0; at < room; at++)
                free(ring[at].line);
        free(ring);
        return r;
}

int merge_run(struct merge *m, const struct merge_sink *sink, struct crew_err *err) {
        bool last_only = m->filter.bounded && m->filter.last > 0 && m->n > 1;

        for (size_t i = 0; i < m->n; i++)
                m->sources[i].idle = false;
        m->filter.bounded = false; /* what comes later is wanted as it comes */
        return last_only ? emit_last(m, sink, err) : emit_all(m, sink, err);
}
