/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The target of a request in the one form that rules are matched against, and the form the server is sent.  What servers
 * are known to read differently is refused and not repaired: "." and ".." segments however they are written, "//",
 * encoded slashes and backslashes, a percent sign that is encoded itself, control characters, a fragment.
 */
#pragma once

#include "http_head.h"

struct http_target {
        char path[HTTP_HEAD_MAX]; /* percent-decoded, without the query; "*" for OPTIONS * */
        char wire[HTTP_HEAD_MAX]; /* path and query for the request line: letters, digits and "-._~" never encoded */
        bool absolute;            /* absolute-form: authority holds what must be the host */
        struct http_span authority;
        bool tls; /* absolute-form: https */
};

/* target: of the request line, n bytes of visible ASCII.  false: *why is a static text. */
bool http_target_parse(const char *target, size_t n, const char *method, struct http_target *out, const char **why);
/* "name", "name:port", "1.2.3.4:80", "[::1]:80": is it the host that was dialled?  A missing port means default_port. */
bool http_authority_is(const char *text, size_t n, const char *name, uint16_t port, uint16_t default_port);
