/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Chunked framing byte by byte, as a small state machine; data in runs.
 *
 *   SIZE -> [EXT] -> SIZE_LF -+-> DATA -> DATA_CR -> DATA_LF -> SIZE
 *                             +-> (size 0) TRAILER -+-> END_LF -> DONE
 *                                      ^            +-> TRAILER_IN -> TRAILER_LF --+
 *                                      +--------------------------------------------+
 */
#include "http_body.h"

#include <errno.h>

void http_body_init(struct http_body *b, const struct http_head *h, bool request) {
        *b = (struct http_body){.framing = h->framing, .request = request, .state = HTTP_BODY_DATA};
        if (h->framing == HTTP_NO_BODY)
                b->state = HTTP_BODY_DONE;
        else if (h->framing == HTTP_LENGTH)
                b->left = h->length;
        else if (h->framing == HTTP_CHUNKED)
                b->state = HTTP_BODY_SIZE;
}

bool http_body_done(const struct http_body *b) {
        return b->state == HTTP_BODY_DONE;
}

uint64_t http_body_run(const struct http_body *b) {
        if (b->state != HTTP_BODY_DATA)
                return 0;
        return b->framing == HTTP_UNTIL_CLOSE ? UINT64_MAX : b->left;
}

static int hex(char c) {
        if (c >= '0' && c <= '9')
                return c - '0';
        if (c >= 'a' && c <= 'f')
                return c - 'a' + 10;
        return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

static const char *on_size(struct http_body *b, char c) {
        const int v = hex(c);

        if (v >= 0) {
                if (++b->digits > 15)
                        return "a chunk size of more than 15 digits";
                b->left = b->left * 16 + (uint64_t)v;
                return NULL;
        }
        if (b->digits == 0)
                return "a chunk without a size";
        if (c == '\r') {
                b->state = HTTP_BODY_SIZE_LF;
                return NULL;
        }
        if (b->request)
                return "a chunk size followed by something else than a line end";
        if (c != ';' && c != ' ' && c != '\t')
                return "a chunk size that is not a number";
        b->line = b->digits;
        b->state = HTTP_BODY_EXT;
        return NULL;
}

static const char *on_ext(struct http_body *b, char c) {
        if (c == '\r') {
                b->state = HTTP_BODY_SIZE_LF;
                return NULL;
        }
        if ((unsigned char)c < 0x20 && c != '\t')
                return "a control character in a chunk extension";
        return ++b->line > HTTP_CHUNK_LINE_MAX ? "a chunk extension of more than 256 bytes" : NULL;
}

static const char *on_trailer(struct http_body *b, char c) {
        if (c == '\r') {
                b->state = HTTP_BODY_END_LF;
                return NULL;
        }
        if (b->request)
                return "trailers behind a request's body";
        if (!http_token_ok(&c, 1))
                return "a trailer line that is not \"Name: value\"";
        b->state = HTTP_BODY_TRAILER_IN;
        return ++b->trailers > HTTP_TRAILERS_MAX ? "trailers of more than 8 KiB" : NULL;
}

static const char *on_trailer_in(struct http_body *b, char c) {
        if (c == '\r')
                b->state = HTTP_BODY_TRAILER_LF;
        else if (((unsigned char)c < 0x20 && c != '\t') || c == 0x7f)
                return "a control character in a trailer";
        return ++b->trailers > HTTP_TRAILERS_MAX ? "trailers of more than 8 KiB" : NULL;
}

static const char *on_expected(struct http_body *b, char c) {
        static const struct {
                char want;
                enum http_body_state next;
        } rows[HTTP_BODY_DONE] = {
                [HTTP_BODY_DATA_CR] = {'\r', HTTP_BODY_DATA_LF},    [HTTP_BODY_DATA_LF] = {'\n', HTTP_BODY_SIZE},
                [HTTP_BODY_TRAILER_LF] = {'\n', HTTP_BODY_TRAILER}, [HTTP_BODY_END_LF] = {'\n', HTTP_BODY_DONE},
                [HTTP_BODY_SIZE_LF] = {'\n', HTTP_BODY_DATA},
        };

        if (c != rows[b->state].want)
                return "a chunk that does not end where its size says, or with a bare line feed";
        if (b->state == HTTP_BODY_SIZE_LF && b->left == 0)
                b->state = HTTP_BODY_TRAILER;
        else
                b->state = rows[b->state].next;
        b->digits = 0;
        return NULL;
}

static const char *on_framing(struct http_body *b, char c) {
        switch (b->state) {
        case HTTP_BODY_SIZE:
                return on_size(b, c);
        case HTTP_BODY_EXT:
                return on_ext(b, c);
        case HTTP_BODY_TRAILER:
                return on_trailer(b, c);
        case HTTP_BODY_TRAILER_IN:
                return on_trailer_in(b, c);
        case HTTP_BODY_SIZE_LF:
        case HTTP_BODY_DATA_CR:
        case HTTP_BODY_DATA_LF:
        case HTTP_BODY_TRAILER_LF:
        case HTTP_BODY_END_LF:
                return on_expected(b, c);
        case HTTP_BODY_DATA:
        case HTTP_BODY_DONE:
                break;
        }
        return "no framing here"; /* not reached: the caller handles both */
}

static uint64_t take_data(struct http_body *b, uint64_t n) {
        if (b->framing == HTTP_UNTIL_CLOSE)
                return n;
        if (n > b->left)
                n = b->left;
        b->left -= n;
        if (b->left == 0)
                b->state = b->framing == HTTP_CHUNKED ? HTTP_BODY_DATA_CR : HTTP_BODY_DONE;
        return n;
}

void http_body_passed(struct http_body *b, uint64_t n) {
        if (b->state == HTTP_BODY_DATA)
                take_data(b, n);
}

ssize_t http_body_take(struct http_body *b, const char *p, size_t n, bool *data, const char **why) {
        size_t i = 0;

        *data = b->state == HTTP_BODY_DATA;
        if (*data)
                return (ssize_t)take_data(b, n);
        while (i < n && b->state != HTTP_BODY_DATA && b->state != HTTP_BODY_DONE) {
                *why = on_framing(b, p[i++]);
                if (*why)
                        return -EPROTO;
        }
        return (ssize_t)i;
}
