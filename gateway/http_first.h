/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Is what a client says HTTP/1?  Answered by its first line, byte by byte, so that nobody waits for the answer: while it is
 * open, the bytes may go on, since no server acts on a request line before its end.
 *
 * Servers differ in what they take for a request line: some skip blank lines, some split at any kind of blank, some do not
 * mind what stands between.  Whatever any of them might take for one is HTTP, so that no request goes by unread; whether
 * it is a good one the strict parser says (http_head.h).
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum http_first { HTTP_FIRST_OPEN, HTTP_FIRST_YES, HTTP_FIRST_NO };

/* Zeroed at the beginning of the stream. */
struct http_first_line {
        enum http_first is;
        unsigned words;  /* begun, at most 4: that many and more */
        unsigned length; /* of the word at hand, at most 6 */
        bool in_word;
        bool get;            /* the first word is "GET" so far */
        unsigned http, name; /* characters of "HTTP/" and of "http" that the word at hand begins with */
};

/* Reads on; YES and NO are final, what follows is not looked at. */
enum http_first http_first_read(struct http_first_line *l, const void *bytes, size_t n);
