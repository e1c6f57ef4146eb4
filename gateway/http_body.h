/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where the body of a message ends.  Bodies are passed on as they come, never gathered: this only says how far they go,
 * and refuses chunk framing that another program could read differently.
 */
#pragma once

#include "http_head.h"

#include <sys/types.h>

#define HTTP_TRAILERS_MAX 8192
#define HTTP_CHUNK_LINE_MAX 256

enum http_body_state {
        HTTP_BODY_SIZE, /* the digits of a chunk's size */
        HTTP_BODY_EXT,  /* what may follow them, up to the line's end */
        HTTP_BODY_SIZE_LF,
        HTTP_BODY_DATA,
        HTTP_BODY_DATA_CR, /* the line end behind a chunk's data */
        HTTP_BODY_DATA_LF,
        HTTP_BODY_TRAILER,    /* at the start of a trailer line, or of the empty line */
        HTTP_BODY_TRAILER_IN, /* inside a trailer line */
        HTTP_BODY_TRAILER_LF,
        HTTP_BODY_END_LF,
        HTTP_BODY_DONE,
};

struct http_body {
        enum http_framing framing;
        enum http_body_state state;
        bool request; /* stricter: neither chunk extensions nor trailers */
        unsigned digits, line;
        uint64_t left;
        size_t trailers;
};

void http_body_init(struct http_body *b, const struct http_head *h, bool request);
bool http_body_done(const struct http_body *b);
/* Bytes of data before the next framing; UINT64_MAX when only the end of the stream ends them; 0 in framing. */
uint64_t http_body_run(const struct http_body *b);
/* n bytes of that run, at most, have gone another way. */
void http_body_passed(struct http_body *b, uint64_t n);
/* How many of the n bytes at p go on as they are, all of them framing or all of them data (*data).  0: done, or n is 0.
 * -EPROTO with *why (static): broken framing. */
ssize_t http_body_take(struct http_body *b, const char *p, size_t n, bool *data, const char **why);
