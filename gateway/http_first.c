/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A line of words.  HTTP is: a third word, or a last one, that begins with "HTTP/"; and GET with a path or a URL, which
 * some still take without a version (HTTP/0.9).
 */
#include "http_first.h"

#include <ctype.h>
#include <string.h>

#define LENGTH_MAX 6 /* no word that is looked for is longer */

/* Also what a program that splits Latin-1 text at blanks takes for one. */
static bool is_blank(unsigned char c) {
        return c == ' ' || (c >= '\t' && c <= '\r' && c != '\n') || (c >= 0x1c && c <= 0x1f) || c == 0x85 || c == 0xa0;
}

/* RFC 9110 5.6.2: what a method may consist of. */
static bool is_token(unsigned char c) {
        return isalnum(c) || (c && strchr("!#$%&'*+-.^_`|~", c));
}

static bool is_version(const struct http_first_line *l) {
        return l->http == 5;
}

static enum http_first end_of_line(const struct http_first_line *l) {
        if (l->words == 0)
                return HTTP_FIRST_OPEN; /* a blank line in front */
        return l->words >= 3 && is_version(l) ? HTTP_FIRST_YES : HTTP_FIRST_NO;
}

static void begin_word(struct http_first_line *l) {
        l->in_word = true;
        l->words += l->words < 4;
        l->length = l->http = l->name = 0;
        if (l->words == 1)
                l->get = true;
}

/* How much of text the word begins with; once it differs that stays as it is. */
static unsigned matched(const char *text, unsigned so_far, unsigned at, unsigned char c) {
        return so_far == at && text[at] && tolower(c) == text[at] ? at + 1 : so_far;
}

static enum http_first read_in_word(struct http_first_line *l, unsigned char c) {
        const unsigned at = l->length;

        l->http = matched("http/", l->http, at, c);
        l->name = matched("http", l->name, at, c);
        l->length += l->length < LENGTH_MAX;
        if (l->words == 1) {
                l->get = l->get && at < 3 && c == (unsigned char)"GET"[at];
                return is_token(c) ? HTTP_FIRST_OPEN : HTTP_FIRST_NO;
        }
        if (l->words == 2 && l->get && ((at == 0 && c == '/') || l->name == 4))
                return HTTP_FIRST_YES;
        return l->words == 3 && is_version(l) ? HTTP_FIRST_YES : HTTP_FIRST_OPEN;
}

static enum http_first read_byte(struct http_first_line *l, unsigned char c) {
        if (c == '\n')
                return end_of_line(l);
        if (is_blank(c)) {
                if (l->in_word && l->words == 1)
                        l->get = l->get && l->length == 3;
                l->in_word = false;
                return HTTP_FIRST_OPEN;
        }
        if (!l->in_word)
                begin_word(l);
        return read_in_word(l, c);
}

/* A word that has not decided the matter by its sixth character never will: of the rest only the end counts. */
static size_t rest_of_word(const struct http_first_line *l, const unsigned char *p, size_t n) {
        size_t i = 0;

        if (!l->in_word || l->words < 2 || l->length < LENGTH_MAX)
                return 0;
        while (i < n && p[i] != '\n' && !is_blank(p[i]))
                i++;
        return i;
}

enum http_first http_first_read(struct http_first_line *l, const void *bytes, size_t n) {
        const unsigned char *p = bytes;

        for (size_t i = 0; i < n && l->is == HTTP_FIRST_OPEN;) {
                i += rest_of_word(l, p + i, n - i);
                if (i < n)
                        l->is = read_byte(l, p[i++]);
        }
        return l->is;
}
