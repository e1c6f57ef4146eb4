/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Walking and removing a tree that somebody hostile has filled: no link is followed, nothing but directories is opened,
 * depth is bounded, and names may be any bytes.
 *
 * Who has filled it may have our uid and shut a directory with chmod(2).  Such a one is opened: without that nobody could
 * say how much there is.
 */
#pragma once

#include "err.h"

#include <limits.h>
#include <stdint.h>
#include <sys/stat.h>

#define TREE_DEPTH_MAX 128u
/* Of what a walk meets, with its NUL: longer than any path that the kernel takes. */
#define TREE_PATH_MAX (TREE_DEPTH_MAX * (NAME_MAX + 1u) + 1)

/* To read and to look things up in; one of our own that its mode shuts gets u+rwx for that, and keeps it.  fd or -errno. */
int tree_open_dir(int at, const char *name);
/* A regular file to read; one of our own that its mode shuts has another one only while it is opened.  fd or -errno. */
int tree_open_file(int at, const char *name);

struct tree_item {
        int dirfd;        /* of its directory */
        const char *name; /* in there */
        const char *path; /* below the top, without a leading slash */
        struct stat st;   /* of itself, not of what it points to */
};
struct tree_visitor {
        /* A directory comes before what is in it.  0: go on; else the walk ends with that value. */
        int (*on_item)(const struct tree_item *item, void *user);
        /* What could not be looked at or lies too deep; NULL: passed over. */
        int (*on_missed)(const char *path, int error, void *user);
        void *user;
};
/* dirfd stays the caller's.  0, what a callback returned, or -errno when the top cannot be read. */
int tree_walk(int dirfd, const struct tree_visitor *v);

struct tree_size {
        uint64_t bytes;                          /* on disk */
        uint64_t entries, files, others, missed; /* missed: could not be looked at */
        int64_t changed;                         /* newest mtime, seconds since 1970; 0: empty */
};
/* Stops at entries_max (0: none): 1, there are more. */
int tree_measure(int dirfd, uint64_t entries_max, struct tree_size *out);

/* Removes dirfd/name and everything in it, however deep.  0 (also when it is not there) or -errno. */
int tree_remove(int dirfd, const char *name);
