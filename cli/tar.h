/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Tar archives, POSIX pax: written from trees that an agent has filled, read from files that anybody may have made.
 *
 * Writing follows no link, opens regular files only, and copies at most what a file had when it was looked at.  Reading
 * takes directories and regular files with plain relative names and nothing else: a link, a device or a ".." is an error
 * that names it.  Besides pax it knows the older forms: v7, ustar, and GNU's with long names.
 */
#pragma once

#include "common/err.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

/* --- writing --- */

struct tar {
        int fd; /* the caller's */
        int error;
        int64_t mtime;        /* of what has none of its own */
        uint64_t entries;     /* headers written, extended ones as well */
        int (*stopped)(void); /* may be NULL; not 0: no more is written, a failure (ECANCELED) */
};
/* After a failure the others do nothing; tar_end() tells. */
void tar_put_dir(struct tar *t, const char *path, mode_t mode, int64_t mtime);
void tar_put_link(struct tar *t, const char *path, const char *target, int64_t mtime);
void tar_put_bytes(struct tar *t, const char *path, const void *bytes, size_t n);
/* A word about the archive as a whole; readers that do not know it pass over it.  Before everything else. */
void tar_put_comment(struct tar *t, const char *key, const char *value);
/* At most `size` bytes of fd; what is missing of them is zeros. */
void tar_put_file(struct tar *t, const char *path, mode_t mode, int64_t mtime, int fd, uint64_t size);
int tar_end(struct tar *t, struct crew_err *err);

struct tar_tree {
        const char *prefix;           /* of the names in the archive; "" or "x/" */
        bool links;                   /* symbolic links as such; else they are left out */
        uint64_t file_max, total_max; /* bytes; 0: no limit */
        uint64_t entries_max;         /* of the archive; 0: no limit */
        /* What is left out, and why; may be NULL. */
        void (*on_left_out)(const char *path, const char *why, void *user);
        void *user;
        uint64_t files, bytes, left_out; /* out */
};
/* Everything below dirfd, each name once, whatever is done to the tree meanwhile. */
int tar_put_tree(struct tar *t, int dirfd, struct tar_tree *tree, struct crew_err *err);

/* --- reading --- */

struct tar_counts {
        uint64_t files, bytes;
        uint64_t state_version; /* TAR_STATE_VERSION, 0: the archive does not say */
};
#define TAR_STATE_VERSION "CREWD.state.version"
#define TAR_ENTRIES_MAX 1000000u /* headers, the empty one at the end too */
/* Unpacks into the empty directory dirfd.  -EINVAL: not an archive we take; err says which entry. */
int tar_extract(int fd, int dirfd, uint64_t bytes_max, struct tar_counts *out, struct crew_err *err);
