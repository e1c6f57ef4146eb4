/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The head that goes on: written anew from what was parsed, so that the other side reads what we read.  Fields about the
 * connection (RFC 9110 7.6.1) end here; the two connections live and die together, so nothing of them needs to be said
 * but that one ends.
 */
#pragma once

#include "http_path.h"

struct http_inject {
        const char *header; /* NULL: nothing */
        const char *prefix, *secret;
        size_t secret_n;
};

struct http_request_out {
        const char *wire; /* the target */
        struct http_inject inject;
        const char *drop;  /* a field of the agent that does not go on: its name; NULL: none */
        bool uncompressed; /* ask for an answer that can be read */
};

/* Bytes written, 0 when room is too small (at most HTTP_HEAD_MAX + HTTP_FORWARD_EXTRA are needed). */
size_t http_forward_request(const struct http_head *h, const struct http_request_out *o, char *out, size_t room);
/* close: the agent is told that the connection ends after this answer. */
size_t http_forward_response(const struct http_head *h, bool close, char *out, size_t room);
#define HTTP_FORWARD_EXTRA (4096 + 512)
