/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Text for people: made safe for a terminal, measured in columns, cut to fit; durations and sizes as words.
 *
 * Everything an agent, a frame or a log line says is hostile here: control characters, escape sequences and
 * direction overrides never reach the terminal.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Copies n bytes of s into out: printable characters as they are (without utf8, those beyond ASCII become '?'), a tab
 * as a blank, everything else as \n, \xNN or \uNNNN.  Cut at a whole character if out is short.  Length. */
size_t text_safe(const char *s, size_t n, bool utf8, char *out, size_t out_size);
/* The same into fresh memory with three bytes to spare (caller frees); NULL when out of memory. */
char *text_safe_dup(const char *s, size_t n, bool utf8);

/* Columns of a string that text_safe made: combining characters take none, wide ones two. */
size_t text_columns(const char *s);
/* Cuts s in place to at most columns, ending in an ellipsis if something was lost.  s has three bytes
 * to spare. */
void text_fit(char *s, size_t columns, bool utf8);

#define TEXT_WORD 32
/* "350 us" "2.1 ms" "0.4 s" "4 m 12 s" "3 h 05 m" "2 d 4 h" */
const char *text_duration(uint64_t ns, char out[TEXT_WORD]);
/* "12s" "4m12s" "3h05m" "2d4h" */
const char *text_duration_short(uint64_t ns, char out[TEXT_WORD]);
/* "21 MiB"; with max "21 / 512 MiB", both in the unit of max. */
const char *text_size(uint64_t bytes, uint64_t max, char out[2 * TEXT_WORD]);
