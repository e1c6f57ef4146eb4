/* SPDX-License-Identifier: Apache-2.0 */
/*
 * JSON texts as they are: checked in place, looked into by spans, passed on byte for byte.
 *
 * The worker forwards what programs say and reads very little of it.  A tree of a hostile 1 MiB line costs 75 MiB and
 * would print 0.1 as 0.10000000000000001; this checks the whole grammar (RFC 8259, valid UTF-8, no U+0000, no duplicate
 * keys, no lone surrogates, bounded depth) without building one.  crewd parses payloads again, with jansson, against
 * their schemas; tests/fuzz/fuzz_jsonrpc.c holds the two to the same verdict.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define JSON_MAX_DEPTH 64u

enum json_type { JSON_T_OBJECT, JSON_T_ARRAY, JSON_T_STRING, JSON_T_NUMBER, JSON_T_TRUE, JSON_T_FALSE, JSON_T_NULL };

/* One value's text, without the blanks around it.  p NULL: absent. */
struct json_span {
        const char *p;
        size_t n;
};
#define JSON_ABSENT ((struct json_span){NULL, 0})

struct json_problem {
        const char *what; /* static string */
        size_t at;        /* byte offset */
};

/* Exactly one value, *value is its text.  0, or -EINVAL and *why says where
 * and what (out of memory is one of its texts). */
int json_check(const char *s, size_t n, struct json_span *value, struct json_problem *why);

/* All below take spans of a text that json_check accepted. */
enum json_type json_type_of(struct json_span v);
static inline bool json_is(struct json_span v, enum json_type t) {
        return v.p && json_type_of(v) == t;
}
/* Walks the members of an object (key is its string, quotes included) or the items of an array (key untouched).
 * *at starts as 0.  False at the end. */
bool json_next(struct json_span container, size_t *at, struct json_span *key, struct json_span *value);
/* The member, or JSON_ABSENT (also when v is no object). */
struct json_span json_member(struct json_span v, const char *key);
/* Decodes a string into out with a NUL; its length, or -1 when it is no string or does not fit. */
ssize_t json_decode(struct json_span v, char *out, size_t room);
/* True when v is the string s. */
bool json_equals(struct json_span v, const char *s);
/* A whole number of at most 18 digits without sign, fraction or exponent. */
bool json_u64(struct json_span v, uint64_t *out);
