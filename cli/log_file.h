/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reading one audit stream line by line while it grows, is rotated or is cut.
 *
 * Reads the file that is there: no daemon is asked.  Lines are bytes as they stand; whether they are records is for
 * record_render() and record_verify_stream() to say.
 */
#pragma once

#include "common/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define LOG_FILE_LINE_MAX (1u << 20) /* longer ones are given out cut */

struct log_file;
int log_file_open(const char *path, struct log_file **out, struct crew_err *err);
struct log_file *log_file_close(struct log_file *f);

/* The next whole line without its newline, valid until the next call: 1; 0: no further one yet; -errno. */
int log_file_next(struct log_file *f, const char **line, size_t *n);

enum log_file_step { LOG_FILE_ON, LOG_FILE_HERE, LOG_FILE_AFTER };
/* Goes from the newest line to the oldest until step() wants to start HERE (at that line) or AFTER it; at the start of
 * the file otherwise.  Reading then goes on from there. */
int log_file_seek_back(struct log_file *f, enum log_file_step (*step)(const char *line, size_t n, void *user), void *user);
/* To the end: only what is written from now on. */
int log_file_seek_end(struct log_file *f);

/* After log_file_next() gave 0: is the path another file now, or this one shorter than what was read?  Then reading
 * starts at its beginning.  1: so it is, *cut says that it was shortened; 0: nothing changed; -errno. */
int log_file_renew(struct log_file *f, bool *cut);

/* The "t" of a record line, 0 if there is none. */
uint64_t log_line_time(const char *line, size_t n);
