/* SPDX-License-Identifier: Apache-2.0 */
/* Several audit streams as one, ordered by time; each keeps its own order. */
#pragma once

#include "common/err.h"
#include "log_file.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Which records are wanted. */
struct merge_filter {
        const char *filter; /* of record_matches(); NULL: all */
        uint64_t since_ns;  /* 0: from the start */
        uint64_t last;      /* with bounded: at most so many */
        bool bounded;
};

struct merge;
struct merge *merge_new(const struct merge_filter *filter);
struct merge *merge_free(struct merge *m);
/* Adds <audit_dir>/<agent>/log.jsonl, positioned at the first record wanted. */
int merge_add(struct merge *m, const char *audit_dir, const char *agent, struct crew_err *err);
bool merge_has(const struct merge *m, const char *agent);
size_t merge_width(const struct merge *m); /* of the longest agent name */

/* Hands every wanted record that is there to emit(), oldest first; cut streams are told to cut().  emit returns false
 * to stop.  0 or -errno. */
struct merge_sink {
        bool (*emit)(const char *agent, const char *line, size_t n, void *user);
        void (*cut)(const char *agent, void *user);
        void *user;
};
int merge_run(struct merge *m, const struct merge_sink *sink, struct crew_err *err);
