/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A growing buffer with a bound, and JSON output into it.
 *
 * A call that would pass the bound, or finds no memory, sets .failed and changes nothing more; the caller checks once at
 * the end.  Fresh buffers own no memory.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct strbuf {
        char *p; /* owned; not NUL-terminated */
        size_t n, room, max;
        bool failed;
};
#define STRBUF_MAX(bytes) ((struct strbuf){.max = (bytes)})

void strbuf_fini(struct strbuf *b);
/* A place for n more bytes, or NULL; strbuf_added() says how many were used. */
char *strbuf_room(struct strbuf *b, size_t n);
void strbuf_added(struct strbuf *b, size_t n);
void strbuf_put(struct strbuf *b, const void *p, size_t n);
void strbuf_puts(struct strbuf *b, const char *s);
void strbuf_printf(struct strbuf *b, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* Takes the first n bytes away; when nothing is left, gives the memory back but for a little. */
void strbuf_drop(struct strbuf *b, size_t n);

/* A quoted JSON string; s is valid UTF-8. */
void strbuf_json_string(struct strbuf *b, const char *s, size_t n);
/* A JSON text that has been checked, on one line: line ends between its tokens become blanks. */
void strbuf_json_text(struct strbuf *b, const char *s, size_t n);

/* Text of any origin as valid UTF-8 without controls, cut at a character to fit room with its NUL. */
void text_clean(const char *s, size_t n, char *out, size_t room);
