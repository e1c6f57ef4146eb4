/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reads bytes that agents and servers wrote; trusts none of them.  Every function looks only at [p, p + n).
 */
#include "http_head.h"

#include <string.h>
#include <strings.h>

static enum http_parse bad(const char **why, const char *text) {
        *why = text;
        return HTTP_BAD;
}

/* RFC 9110 5.6.2 */
static bool token_char(unsigned char c) {
        return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
               (c != '\0' && strchr("!#$%&'*+-.^_`|~", c));
}

bool http_token_ok(const char *s, size_t n) {
        for (size_t i = 0; i < n; i++) {
                if (!token_char((unsigned char)s[i]))
                        return false;
        }
        return n > 0;
}

bool http_span_is(const struct http_head *h, struct http_span s, const char *text) {
        return strlen(text) == s.n && strncasecmp(h->bytes + s.at, text, s.n) == 0;
}

bool http_span_like(const struct http_head *h, struct http_span s, const char *text) {
        if (strlen(text) != s.n)
                return false;
        for (size_t i = 0; i < s.n; i++) {
                const char c = h->bytes[s.at + i] == '_' ? '-' : h->bytes[s.at + i];
                if (strncasecmp(&c, text + i, 1) != 0)
                        return false;
        }
        return true;
}

const struct http_field *http_field_find(const struct http_head *h, const char *name) {
        for (size_t i = 0; i < h->n_fields; i++) {
                if (http_span_like(h, h->fields[i].name, name))
                        return &h->fields[i];
        }
        return NULL;
}

bool http_list_has(const char *value, size_t n, const char *word) {
        const size_t want = strlen(word);

        for (size_t at = 0; at < n;) {
                while (at < n && (value[at] == ' ' || value[at] == '\t' || value[at] == ','))
                        at++;
                size_t start = at;
                while (at < n && value[at] != ',' && value[at] != ' ' && value[at] != '\t')
                        at++;
                if (at - start == want && strncasecmp(value + start, word, want) == 0)
                        return true;
                while (at < n && value[at] != ',')
                        at++;
        }
        return false;
}

enum http_parse http_head_find(const char *p, size_t n, size_t *scanned, size_t *end, const char **why) {
        const size_t limit = n < HTTP_HEAD_MAX ? n : HTTP_HEAD_MAX;

        for (size_t i = *scanned; i < limit; i++) {
                const unsigned char c = (unsigned char)p[i];
                const bool after_cr = i > 0 && p[i - 1] == '\r';
                if (after_cr != (c == '\n'))
                        return bad(why, c == '\n' ? "a line that ends without a carriage return"
                                                  : "a carriage return that does not end a line");
                if (c != '\r' && c != '\n' && c != '\t' && (c < 0x20 || c == 0x7f))
                        return bad(why, "a control character in the head");
                if (i == 0 && c == '\r')
                        return bad(why, "an empty line before the head");
                if (c == '\n' && i >= 3 && p[i - 2] == '\n') {
                        *end = i + 1;
                        return HTTP_OK;
                }
        }
        *scanned = limit;
        return limit == HTTP_HEAD_MAX ? bad(why, "a head of more than 16 KiB") : HTTP_MORE;
}

static struct http_span span(size_t at, size_t end) {
        return (struct http_span){.at = (uint16_t)at, .n = (uint16_t)(end - at)};
}

/* The end of the line that starts at `at`: the offset of its CR. */
static size_t line_end(const char *p, size_t n, size_t at) {
        const char *cr = memchr(p + at, '\r', n - at);

        return cr ? (size_t)(cr - p) : n;
}

static bool version_ok(const char *p, size_t n, unsigned *minor) {
        if (n != 8 || memcmp(p, "HTTP/1.", 7) != 0 || (p[7] != '0' && p[7] != '1'))
                return false;
        *minor = (unsigned)(p[7] - '0');
        return true;
}

static enum http_parse parse_request_line(struct http_head *h, size_t end, const char **why) {
        const char *p = h->bytes;
        const char *sp = memchr(p, ' ', end);
        size_t method_n = sp ? (size_t)(sp - p) : 0, target = method_n + 1, at = target;

        if (!http_token_ok(p, method_n))
                return bad(why, "no method at the start of the request line");
        if (method_n >= HTTP_METHOD_MAX)
                return bad(why, "a method of more than 23 characters");
        memcpy(h->method, p, method_n);
        h->method[method_n] = '\0';
        while (at < end && (unsigned char)p[at] > 0x20 && (unsigned char)p[at] < 0x7f)
                at++;
        if (at == target || at >= end || p[at] != ' ')
                return bad(why, "a request line that is not \"METHOD target HTTP/1.1\"");
        h->target = span(target, at);
        if (!version_ok(p + at + 1, end - at - 1, &h->minor))
                return bad(why, "a version other than HTTP/1.1 and HTTP/1.0");
        return HTTP_OK;
}

static enum http_parse parse_status_line(struct http_head *h, size_t end, const char **why) {
        const char *p = h->bytes;

        if (end < 12 || !version_ok(p, 8, &h->minor) || p[8] != ' ')
                return bad(why, "a status line that is not \"HTTP/1.1 NNN reason\"");
        for (size_t i = 9; i < 12; i++) {
                if (p[i] < '0' || p[i] > '9')
                        return bad(why, "a status that is not a number of three digits");
                h->status = h->status * 10 + (unsigned)(p[i] - '0');
        }
        if (h->status < 100 || h->status > 599 || (end > 12 && p[12] != ' '))
                return bad(why, "a status outside 100-599");
        h->reason = end > 13 ? span(13, end) : span(end, end);
        return HTTP_OK;
}

static enum http_parse parse_field(struct http_head *h, size_t at, size_t end, const char **why) {
        const char *p = h->bytes;
        const char *colon = memchr(p + at, ':', end - at);
        size_t name_end = colon ? (size_t)(colon - p) : end, from = name_end + 1, to = end;

        if (p[at] == ' ' || p[at] == '\t')
                return bad(why, "a folded header line");
        if (!colon || !http_token_ok(p + at, name_end - at))
                return bad(why, "a header line that is not \"Name: value\"");
        if (h->n_fields == HTTP_FIELDS_MAX)
                return bad(why, "more than 128 header lines");
        while (from < to && (p[from] == ' ' || p[from] == '\t'))
                from++;
        while (to > from && (p[to - 1] == ' ' || p[to - 1] == '\t'))
                to--;
        h->fields[h->n_fields++] = (struct http_field){.name = span(at, name_end), .value = span(from, to)};
        return HTTP_OK;
}

static enum http_parse parse_lines(struct http_head *h, size_t at, const char **why) {
        const size_t last = h->n - 2; /* the empty line */

        while (at < last) {
                size_t end = line_end(h->bytes, h->n, at);
                enum http_parse r = parse_field(h, at, end, why);
                if (r != HTTP_OK)
                        return r;
                at = end + 2;
        }
        return HTTP_OK;
}

/* --- the fields that frame a message --- */

static enum http_parse take_length(struct http_head *h, const struct http_field *f, const char **why) {
        const char *v = h->bytes + f->value.at;
        uint64_t length = 0;

        if (f->value.n == 0 || f->value.n > 18)
                return bad(why, "a Content-Length that is not a number");
        for (size_t i = 0; i < f->value.n; i++) {
                if (v[i] < '0' || v[i] > '9')
                        return bad(why, "a Content-Length that is not a number");
                length = length * 10 + (uint64_t)(v[i] - '0');
        }
        if (h->length_given && length != h->length)
                return bad(why, "two Content-Lengths that differ");
        h->length_given = true;
        h->length = length;
        return HTTP_OK;
}

static enum http_parse take_coding(struct http_head *h, const struct http_field *f, const char **why) {
        if (h->chunked_given || !http_span_is(h, f->value, "chunked"))
                return bad(why, "a Transfer-Encoding other than exactly \"chunked\"");
        if (h->minor == 0)
                return bad(why, "a Transfer-Encoding in HTTP/1.0");
        h->chunked_given = true;
        return HTTP_OK;
}

static enum http_parse take_host(struct http_head *h, const struct http_field *f, const char **why) {
        if (h->host.n)
                return bad(why, "two Host lines");
        if (f->value.n == 0)
                return bad(why, "an empty Host line");
        h->host = f->value;
        return HTTP_OK;
}

static enum http_parse take_connection(struct http_head *h, const struct http_field *f, const char **why) {
        const char *v = h->bytes + f->value.at;

        if (http_list_has(v, f->value.n, "close"))
                h->close = true;
        return HTTP_OK;
}

static enum http_parse take_expect(struct http_head *h, const struct http_field *f, const char **why) {
        if (!http_span_is(h, f->value, "100-continue"))
                return bad(why, "an Expect other than 100-continue");
        h->expect_continue = true;
        return HTTP_OK;
}

static enum http_parse take_upgrade(struct http_head *h, const struct http_field *f, const char **why) {
        if (h->upgrade.n)
                return bad(why, "two Upgrade lines");
        h->upgrade = f->value;
        return HTTP_OK;
}

static const struct known_field {
        const char *name;
        enum http_parse (*take)(struct http_head *h, const struct http_field *f, const char **why);
        bool request_only;
} known_fields[] = {
        {"content-length", take_length, false},
        {"transfer-encoding", take_coding, false},
        {"connection", take_connection, false},
        {"upgrade", take_upgrade, true},
        {"host", take_host, true},
        {"expect", take_expect, true},
};

static enum http_parse take_known(struct http_head *h, bool request, const char **why) {
        for (size_t i = 0; i < h->n_fields; i++) {
                for (size_t k = 0; k < sizeof(known_fields) / sizeof(known_fields[0]); k++) {
                        const struct known_field *row = &known_fields[k];
                        const bool is = http_span_is(h, h->fields[i].name, row->name);
                        if (request ? !http_span_like(h, h->fields[i].name, row->name) : row->request_only || !is)
                                continue;
                        if (!is)
                                return bad(why,
                                           "a header that some servers take for one that frames or routes the request");
                        enum http_parse r = row->take(h, &h->fields[i], why);
                        if (r != HTTP_OK)
                                return r;
                }
        }
        if (h->length_given && h->chunked_given)
                return bad(why, "Content-Length and Transfer-Encoding together");
        return HTTP_OK;
}

/* HTTP/1.0 ends after each message unless both say otherwise; we never do on its behalf. */
static enum http_parse parse(struct http_head *h, bool request, const char **why) {
        size_t first = line_end(h->bytes, h->n, 0);
        enum http_parse r = request ? parse_request_line(h, first, why) : parse_status_line(h, first, why);

        if (r == HTTP_OK)
                r = parse_lines(h, first + 2, why);
        if (r == HTTP_OK)
                r = take_known(h, request, why);
        if (h->minor == 0)
                h->close = true;
        return r;
}

enum http_parse http_parse_request(const char *p, size_t n, struct http_head *out, const char **why) {
        *out = (struct http_head){.bytes = p, .n = n};
        enum http_parse r = parse(out, true, why);

        if (r != HTTP_OK)
                return r;
        out->framing = out->chunked_given ? HTTP_CHUNKED : out->length ? HTTP_LENGTH : HTTP_NO_BODY;
        return out->host.n ? HTTP_OK : bad(why, "no Host line");
}

enum http_parse http_parse_response(const char *p, size_t n, bool to_head, struct http_head *out, const char **why) {
        *out = (struct http_head){.bytes = p, .n = n};
        enum http_parse r = parse(out, false, why);

        if (r != HTTP_OK)
                return r;
        if (to_head || out->status < 200 || out->status == 204 || out->status == 304)
                out->framing = HTTP_NO_BODY;
        else if (out->chunked_given)
                out->framing = HTTP_CHUNKED;
        else if (out->length_given)
                out->framing = out->length ? HTTP_LENGTH : HTTP_NO_BODY;
        else
                out->framing = HTTP_UNTIL_CLOSE;
        return HTTP_OK;
}
