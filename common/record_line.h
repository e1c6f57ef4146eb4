/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reading a canonical record line back, without a JSON library and without allocation.
 *
 * Accepts exactly what record_format() can write: sorted keys, no blanks, integers, \uXXXX as the only escape.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define RECORD_LINE_FIELDS 64

enum record_value_type { RECORD_VALUE_STRING, RECORD_VALUE_INT, RECORD_VALUE_BOOL };

struct record_value { /* points into the line */
        const char *key;
        size_t key_len;
        enum record_value_type type;
        const char *text; /* still escaped, without quotes; digits; true or false */
        size_t len;
};

struct record_line {
        size_t n;
        struct record_value values[RECORD_LINE_FIELDS];
};

/* line without its '\n'.  0, or the offset + 1 of the first byte that is not canonical. */
size_t record_line_parse(const char *line, size_t n, struct record_line *out);
const struct record_value *record_line_get(const struct record_line *l, const char *key);
/* False when the key is not there or of another type. */
bool record_line_u64(const struct record_line *l, const char *key, uint64_t *out);
bool record_line_is(const struct record_line *l, const char *key, const char *text);
/* Reads one code point of an escaped string and moves *p on; a lone \udcXX (a byte that was not UTF-8) comes as 0xdcXX. */
uint32_t record_value_next(const char **p, const char *end);
