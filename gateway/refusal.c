/* SPDX-License-Identifier: Apache-2.0 */
#include "refusal.h"

#include "common/util.h"

#include <string.h>

#define BODY_MAX 9728
#define TEXT_MAX 300 /* bytes of one text, before escaping */

struct body {
        size_t n;
        char text[BODY_MAX];
};

static const char *reason_of(unsigned status) {
        static const struct {
                unsigned status;
                const char *reason;
        } rows[] = {
                {400, "Bad Request"}, {403, "Forbidden"},       {408, "Request Timeout"}, {431, "Header Fields Too Large"},
                {502, "Bad Gateway"}, {504, "Gateway Timeout"},
        };
        for (size_t i = 0; i < ELEMENTSOF(rows); i++) {
                if (rows[i].status == status)
                        return rows[i].reason;
        }
        return "Refused";
}

static void put(struct body *b, const char *s) {
        const size_t n = MIN_OF(strlen(s), BODY_MAX - b->n);

        memcpy(b->text + b->n, s, n);
        b->n += n;
}

/* A JSON string.  Bytes of invalid UTF-8 stand for the code point of their number, so that the body is always JSON. */
static void put_string(struct body *b, const char *s) {
        const size_t n = MIN_OF(strlen(s), (size_t)TEXT_MAX);
        const bool plain = crew_utf8_ok(s, n);
        char one[8];

        put(b, "\"");
        for (size_t i = 0; i < n; i++) {
                const unsigned char c = (unsigned char)s[i];
                if (c == '"' || c == '\\')
                        snprintf(one, sizeof(one), "\\%c", c);
                else if (c < 0x20 || c == 0x7f || (c >= 0x80 && !plain))
                        snprintf(one, sizeof(one), "\\u%04x", c);
                else
                        snprintf(one, sizeof(one), "%c", c);
                put(b, one);
        }
        put(b, "\"");
}

static void write_body(const struct refusal *r, struct body *b) {
        put(b, "{\"error\": ");
        put_string(b, r->error);
        put(b, ", \"rule\": ");
        if (r->rule)
                put_string(b, r->rule);
        else
                put(b, "null");
        put(b, ", \"next_steps\": [");
        for (size_t i = 0, n = 0; i < REFUSAL_STEPS; i++) {
                if (!r->next_steps[i])
                        continue;
                put(b, n++ ? ", " : "");
                put_string(b, r->next_steps[i]);
        }
        put(b, "]}\n");
}

size_t refusal_write(const struct refusal *r, char out[REFUSAL_MAX]) {
        struct body b = {.n = 0};
        int n;

        write_body(r, &b);
        n = snprintf(out, REFUSAL_MAX,
                     "HTTP/1.1 %u %s\r\nContent-Type: application/json\r\nContent-Length: %zu\r\n"
                     "Cache-Control: no-store\r\nX-Crewd-Refused: 1\r\n%s\r\n",
                     r->status, reason_of(r->status), b.n, r->close ? "Connection: close\r\n" : "");
        if (r->to_head)
                return (size_t)n;
        memcpy(out + n, b.text, b.n);
        return (size_t)n + b.n;
}
