/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Copying a tree that somebody hostile has filled: no link is followed, a symbolic link is copied as such, and pipes and
 * sockets are left out, and anything else but directories and regular files is an error.  Files of several names become as
 * many files; holes stay holes, and where the file system can, blocks are shared.  Modes and the times of files are kept,
 * owners and extended attributes are not.
 */
#pragma once

#include "err.h"

#include <stdint.h>

/* From `from` into the empty directory `to`; -EFBIG: more than bytes_max on disk.  err names the place. */
int tree_copy(int from, int to, uint64_t bytes_max, struct crew_err *err);
