/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Heads of HTTP/1.1 requests and responses, parsed strictly (RFC 9112): whatever two programs could read differently is
 * refused, so that what the gateway judged is what the server does.  No allocation; spans point into the caller's bytes.
 *
 * Refused: a bare CR or LF, a NUL or another control character, folded lines, blanks before a colon, Content-Length
 * beside Transfer-Encoding, two Content-Lengths that differ, any transfer coding but exactly "chunked", a head above
 * HTTP_HEAD_MAX bytes or HTTP_FIELDS_MAX fields, versions other than 1.0 and 1.1.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define HTTP_HEAD_MAX 16384
#define HTTP_FIELDS_MAX 128
#define HTTP_METHOD_MAX 24

struct http_span {
        uint16_t at, n;
};
struct http_field {
        struct http_span name, value;
};
enum http_framing { HTTP_NO_BODY, HTTP_LENGTH, HTTP_CHUNKED, HTTP_UNTIL_CLOSE };

struct http_head {
        const char *bytes;
        size_t n; /* with the empty line */
        unsigned minor;
        char method[HTTP_METHOD_MAX]; /* requests */
        struct http_span target, host;
        unsigned status; /* responses */
        struct http_span reason;
        struct http_field fields[HTTP_FIELDS_MAX];
        size_t n_fields;
        enum http_framing framing;
        uint64_t length;    /* with HTTP_LENGTH */
        bool length_given;  /* a Content-Length was there, also where it does not frame (an answer to HEAD) */
        bool chunked_given; /* likewise */
        bool close;         /* the sender ends the connection after this message */
        bool expect_continue;
        struct http_span upgrade; /* n 0: none */
};

enum http_parse { HTTP_OK, HTTP_MORE, HTTP_BAD };
/* *scanned, 0 at first, remembers what an earlier call has looked at.  HTTP_OK: the head is the first *end bytes.
 * HTTP_BAD: *why is a static text. */
enum http_parse http_head_find(const char *p, size_t n, size_t *scanned, size_t *end, const char **why);
/* The n bytes http_head_find() delimited. */
enum http_parse http_parse_request(const char *p, size_t n, struct http_head *out, const char **why);
/* to_head: it answers a HEAD request, and so has no body. */
enum http_parse http_parse_response(const char *p, size_t n, bool to_head, struct http_head *out, const char **why);

/* Compares without case. */
bool http_span_is(const struct http_head *h, struct http_span s, const char *text);
/* As some servers do that hand headers on as variables, takes '_' in the span for '-' too. */
bool http_span_like(const struct http_head *h, struct http_span s, const char *text);
/* The first field of a name like this, NULL when there is none. */
const struct http_field *http_field_find(const struct http_head *h, const char *name);
/* Is word among the comma-separated words of a value? */
bool http_list_has(const char *value, size_t n, const char *word);
bool http_token_ok(const char *s, size_t n);
