/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The ends of agents that the manager has not acknowledged, oldest first.
 *
 * Each is told once to every instance of the manager, in order, until it is acknowledged: so a manager that dies between
 * being told and acting on it is told again, with the same id.  Bounded by number and bytes: the oldest go first, counted,
 * so that a manager which never acknowledges holds nothing up.
 * Pure: who is told, and how, is the caller's.
 */
#pragma once

#include "jsontext.h"

#define NOTICES_MAX 256u
#define NOTICES_BYTES (3u << 20) /* with what is around them, less than one answer holds */

struct notice {
        uint64_t id;
        char agent[64];
        char *record; /* owned; JSON */
        size_t n;
        uint32_t told; /* the last instance that was, 0: none */
};

struct notices;
struct notices *notices_new(void);
struct notices *notices_free(struct notices *l);

/* Of copies.  The number of older ones that had to go for it; or -ENOMEM: it counts as lost itself. */
int notices_add(struct notices *l, uint64_t id, const char *agent, const char *record, size_t n);
/* False: there is none with this id; it was acknowledged, or is lost. */
bool notices_seen(struct notices *l, uint64_t id);
/* The oldest that this instance was not told of, or NULL; valid until the next change. */
struct notice *notices_next(struct notices *l, uint32_t incarnation);
size_t notices_count(const struct notices *l);
/* {"terminations": [record, ...], "lost": N} */
void notices_write(const struct notices *l, struct json_text *t);
