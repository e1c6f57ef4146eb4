/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which paths there were, in eight bytes each.  Two of them count as one if a keyed hash says so: one pair in 2^62 does,
 * and whoever names the files does not know the key.
 */
#pragma once

#include "common/util.h"

enum path_set_kind { PATH_SET_NONE, PATH_SET_DIR, PATH_SET_OTHER };

struct path_set;
struct path_set *path_set_new(void); /* NULL: no memory */
struct path_set *path_set_free(struct path_set *s);
static inline void path_set_freep(struct path_set **s) {
        *s = path_set_free(*s);
}
#define _cleanup_path_set_ _cleanup_(path_set_freep)

enum path_set_kind path_set_find(const struct path_set *s, const char *path, size_t n);
/* One that is not in there yet.  0 or -ENOMEM. */
int path_set_add(struct path_set *s, const char *path, size_t n, enum path_set_kind kind);
