/* SPDX-License-Identifier: Apache-2.0 */
#include "http_forward.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

struct writer {
        char *p;
        size_t n, room;
        bool full;
};

static void put(struct writer *w, const void *bytes, size_t n) {
        if (n > w->room - w->n) {
                w->full = true;
                return;
        }
        memcpy(w->p + w->n, bytes, n);
        w->n += n;
}

static void put_text(struct writer *w, const char *s) {
        put(w, s, strlen(s));
}

static void put_span(struct writer *w, const struct http_head *h, struct http_span s) {
        put(w, h->bytes + s.at, s.n);
}

static bool about_connection(const struct http_head *h, struct http_span name) {
        /* te: announces what of the transfer the next hop may do; http2-settings belongs to Upgrade: h2c */
        static const char *const names[] = {"connection",       "keep-alive",          "proxy-connection", "te",
                                            "upgrade",          "proxy-authorization", "http2-settings",   "content-length",
                                            "transfer-encoding"};
        for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
                if (http_span_is(h, name, names[i]))
                        return true;
        }
        return false;
}

/* Named in a Connection line: for us only.  Host stays whatever it says there. */
static bool named_in_connection(const struct http_head *h, struct http_span name) {
        char text[64];

        if (name.n >= sizeof(text) || http_span_is(h, name, "host"))
                return false;
        memcpy(text, h->bytes + name.at, name.n);
        text[name.n] = '\0';
        for (size_t i = 0; i < h->n_fields; i++) {
                const struct http_field *f = &h->fields[i];
                if (http_span_is(h, f->name, "connection") && http_list_has(h->bytes + f->value.at, f->value.n, text))
                        return true;
        }
        return false;
}

static void put_fields(struct writer *w, const struct http_head *h, const char *drop, bool drop_encodings) {
        for (size_t i = 0; i < h->n_fields; i++) {
                const struct http_field *f = &h->fields[i];
                if (about_connection(h, f->name) || named_in_connection(h, f->name) ||
                    (drop && http_span_like(h, f->name, drop)) ||
                    (drop_encodings && http_span_like(h, f->name, "accept-encoding")))
                        continue;
                put_span(w, h, f->name);
                put_text(w, ": ");
                put_span(w, h, f->value);
                put_text(w, "\r\n");
        }
}

static void put_framing(struct writer *w, const struct http_head *h, bool length) {
        char line[48];

        if (h->chunked_given)
                put_text(w, "Transfer-Encoding: chunked\r\n");
        if (length) {
                snprintf(line, sizeof(line), "Content-Length: %" PRIu64 "\r\n", h->length);
                put_text(w, line);
        }
}

size_t http_forward_request(const struct http_head *h, const struct http_request_out *o, char *out, size_t room) {
        struct writer w = {.p = out, .room = room};

        put_text(&w, h->method);
        put_text(&w, " ");
        put_text(&w, o->wire);
        put_text(&w, h->minor ? " HTTP/1.1\r\n" : " HTTP/1.0\r\n");
        put_fields(&w, h, o->drop, o->uncompressed);
        put_framing(&w, h, h->length_given);
        if (o->uncompressed)
                put_text(&w, "Accept-Encoding: identity\r\n");
        if (o->inject.header) {
                put_text(&w, o->inject.header);
                put_text(&w, ": ");
                put_text(&w, o->inject.prefix);
                put(&w, o->inject.secret, o->inject.secret_n);
                put_text(&w, "\r\n");
        }
        put_text(&w, h->close ? "Connection: close\r\n\r\n" : "\r\n");
        return w.full ? 0 : w.n;
}

size_t http_forward_response(const struct http_head *h, bool close, char *out, size_t room) {
        struct writer w = {.p = out, .room = room};
        char line[32];

        snprintf(line, sizeof(line), "HTTP/1.1 %u ", h->status);
        put_text(&w, line);
        put_span(&w, h, h->reason);
        put_text(&w, "\r\n");
        put_fields(&w, h, NULL, false);
        put_framing(&w, h, h->length_given);
        put_text(&w, close ? "Connection: close\r\n\r\n" : "\r\n");
        return w.full ? 0 : w.n;
}
