/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Writing JSON, and picking one member out of JSON that schema_check() has already accepted.  No parser: the strict one
 * lives in supervisor/schema.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* A growing, bounded text.  After a failure (bound, memory) every call is a no-op and json_text_take() says so. */
struct json_text {
        char *p; /* owned */
        size_t n, room, max;
        int error;  /* 0, -ENOMEM, -E2BIG */
        bool comma; /* the next member needs one in front */
};
#define JSON_TEXT(max_bytes) ((struct json_text){.max = (max_bytes)})

void json_text_fini(struct json_text *t);
void json_open(struct json_text *t, char bracket);  /* '{' or '[' */
void json_close(struct json_text *t, char bracket); /* '}' or ']' */
void json_key(struct json_text *t, const char *key);
void json_str(struct json_text *t, const char *s);              /* valid UTF-8; NULL becomes null */
void json_raw(struct json_text *t, const char *json, size_t n); /* one valid value; n SIZE_MAX: strlen */
void json_int(struct json_text *t, int64_t v);
void json_bool(struct json_text *t, bool v);
/* The finished, NUL-terminated text, malloc'd; 0 or the first error. */
int json_text_take(struct json_text *t, char **out, size_t *n);

/* The value of a top-level member of an object.  json must be valid JSON; false when there is no such member. */
bool json_member(const char *json, size_t n, const char *key, const char **value, size_t *value_len);
/* Decodes a JSON string literal into UTF-8 text of at most out_size - 1 bytes, cut at a character; controls become
 * blanks.  False when the value is no string. */
bool json_decode_string(const char *value, size_t n, char *out, size_t out_size);
