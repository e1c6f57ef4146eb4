/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Regular expressions of the JSON Schema keyword "pattern": the regular part of ECMA-262, matched in linear time.
 *
 * The subject is hostile, so there is no backtracking and no cache that grows: a bounded program is simulated over
 * Unicode code points.  What cannot be done that way (back references, look-around, \b, \p) is a compile error.
 */
#pragma once

#include "common/err.h"

#include <stddef.h>
#include <stdint.h>

#define REGEX_MAX_PATTERN 1024u
#define REGEX_MAX_PROGRAM 4096u
#define REGEX_MAX_DEPTH 32u
#define REGEX_MAX_REPEAT 1000u

enum regex_outcome { REGEX_MATCH = 1, REGEX_NO_MATCH, REGEX_TOO_MUCH_WORK };

struct regex;
/* pattern is valid UTF-8.  err names the offending place. */
int regex_compile(const char *pattern, size_t n, struct regex **out, struct crew_err *err);
struct regex *regex_free(struct regex *re);
/* Searches (not anchored).  *budget is lowered by the work done.  A regex_outcome, or -ENOMEM. */
int regex_search(const struct regex *re, const char *s, size_t n, uint64_t *budget);
