/* SPDX-License-Identifier: Apache-2.0 */
/* Paths as users write them in a policy: parsed from text, compared, and looked up on this host. */
#pragma once

#include "bind.h"

/* Absolute, normalised, without a trailing '/' (but "/").  Reports what is wrong with the text.  0, 1 reported, -errno. */
int path_parse(struct bind *b, const struct node *at, const char *text, struct policy_path *out);
/* Lexical: is path equal to dir or below it? */
bool path_within(const char *dir, const char *path);
/* Does the granted path cover `path`: the same file, or inside the granted tree? */
bool path_covers(const struct policy_path *grant, const char *path);
/* One inside the other, or equal. */
bool path_overlaps(const char *a, const char *b);
/* Collapses "//", "." and ".." lexically into out (size bytes).  False for a relative or too long path. */
bool path_normalise(const char *in, char *out, size_t size);

/* Where a command without a slash is looked up, here and in the view. */
#define PATH_SEARCH_N 3u
extern const char *const path_search[PATH_SEARCH_N];

enum path_state { PATH_FILE, PATH_DIRECTORY, PATH_OTHER, PATH_MISSING, PATH_SYMLINKED };
/*
 * What stands at an absolute path.  PATH_SYMLINKED when it, or a directory on the way, is a symbolic link: real then
 * holds where it leads, as far as that exists.  real has PATH_MAX bytes.  Negative: cannot be found out (EACCES, ...).
 */
int path_look(const char *path, char *real);
