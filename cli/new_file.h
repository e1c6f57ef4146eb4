/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A file that appears whole, under a name that nothing had: what is there already is never replaced.
 *
 * Until new_file_finish() it has no name where the file system can do that, so that nothing is left of it whatever becomes
 * of us; elsewhere NAME.part-XXXXXX, which stands in nobody's way.
 */
#pragma once

#include "common/err.h"

#include <limits.h>

struct new_file {
        char path[PATH_MAX], part[PATH_MAX + 16]; /* part "": it has no name */
        int fd;                                   /* owned */
};
#define NEW_FILE_NULL ((struct new_file){.fd = -1})

/* Mode 0600.  0; -EEXIST: there is something of that name; or another errno.  err says it with the name. */
int new_file_open(struct new_file *f, const char *path, struct crew_err *err);
/* On disk, under its name.  -EEXIST: something of that name has come meanwhile. */
int new_file_finish(struct new_file *f, struct crew_err *err);
/* One that is not finished is gone. */
void new_file_close(struct new_file *f);
