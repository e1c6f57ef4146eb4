/* SPDX-License-Identifier: Apache-2.0 */
/* The bounded buffer.  Doubles from 256 bytes; never exceeds its bound. */
#include "strbuf.h"

#include "common/util.h"

#include <stdarg.h>
#include <string.h>

#define KEPT_BYTES 4096u /* of a buffer that is empty: the next line wants as much */

void strbuf_fini(struct strbuf *b) {
        free(b->p);
        *b = STRBUF_MAX(b->max);
}

char *strbuf_room(struct strbuf *b, size_t n) {
        if (b->failed)
                return NULL;
        if (n > b->max - b->n) {
                b->failed = true;
                return NULL;
        }
        if (b->n + n <= b->room)
                return b->p + b->n;
        size_t room = b->room ? b->room : 256;
        while (room < b->n + n)
                room *= 2;
        room = MIN_OF(room, b->max);
        char *p = realloc(b->p, room);
        if (!p) {
                b->failed = true;
                return NULL;
        }
        b->p = p;
        b->room = room;
        return p + b->n;
}

void strbuf_added(struct strbuf *b, size_t n) {
        b->n += n;
}

void strbuf_put(struct strbuf *b, const void *p, size_t n) {
        char *at = n ? strbuf_room(b, n) : NULL;

        if (!at)
                return;
        memcpy(at, p, n);
        b->n += n;
}

void strbuf_puts(struct strbuf *b, const char *s) {
        strbuf_put(b, s, strlen(s));
}

void strbuf_printf(struct strbuf *b, const char *fmt, ...) {
        char small[512];
        va_list ap;

        va_start(ap, fmt);
        int n = vsnprintf(small, sizeof(small), fmt, ap);
        va_end(ap);
        crew_assert(n >= 0 && (size_t)n < sizeof(small)); /* for numbers and names; text goes through strbuf_put */
        strbuf_put(b, small, (size_t)n);
}

void strbuf_drop(struct strbuf *b, size_t n) {
        if (n >= b->n && b->room <= KEPT_BYTES) {
                b->n = 0;
                return;
        }
        if (n >= b->n) {
                bool failed = b->failed;
                strbuf_fini(b);
                b->failed = failed;
                return;
        }
        if (n > 0)
                memmove(b->p, b->p + n, b->n - n);
        b->n -= n;
}

void strbuf_json_string(struct strbuf *b, const char *s, size_t n) {
        size_t plain = 0;

        strbuf_put(b, "\"", 1);
        for (size_t i = 0; i < n; i++) {
                unsigned char c = (unsigned char)s[i];
                if (c >= 0x20 && c != '"' && c != '\\')
                        continue;
                strbuf_put(b, s + plain, i - plain);
                plain = i + 1;
                if (c == '"' || c == '\\')
                        strbuf_put(b, (char[]){'\\', (char)c}, 2);
                else if (c == '\n')
                        strbuf_put(b, "\\n", 2);
                else
                        strbuf_printf(b, "\\u%04x", c);
        }
        strbuf_put(b, s + plain, n - plain);
        strbuf_put(b, "\"", 1);
}

void strbuf_json_text(struct strbuf *b, const char *s, size_t n) {
        size_t from = b->n;

        strbuf_put(b, s, n);
        if (b->failed)
                return;
        for (char *p = b->p + from; p < b->p + b->n; p++)
                if (*p == '\n' || *p == '\r')
                        *p = ' ';
}

static size_t char_bytes(unsigned char c) {
        return c < 0x80 ? 1 : c < 0xe0 ? 2 : c < 0xf0 ? 3 : 4;
}

void text_clean(const char *s, size_t n, char *out, size_t room) {
        size_t used = 0;

        for (size_t i = 0; i < n;) {
                unsigned char c = (unsigned char)s[i];
                size_t k = char_bytes(c);
                bool ok = k <= n - i && crew_utf8_ok(s + i, k);
                if (!ok)
                        k = 1;
                if (used + k >= room)
                        break;
                if (!ok)
                        out[used] = '?';
                else if (c < 0x20 || c == 0x7f)
                        out[used] = ' ';
                else
                        memcpy(out + used, s + i, k);
                used += k;
                i += k;
        }
        out[used] = '\0';
}
