/* SPDX-License-Identifier: Apache-2.0 */
/* One-question DNS messages.  Everything read is checked against the message's end first. */
#include "dns.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>

#define HEADER 12
#define LABEL_MAX 63
#define WIRE_NAME_MAX 255
#define FLAG_QR 0x80
#define OPCODE_MASK 0x78

static uint16_t get16(const uint8_t *p) {
        return (uint16_t)(p[0] << 8 | p[1]);
}

static size_t put_label_byte(char *out, uint8_t c) {
        if (c > ' ' && c < 0x7f && c != '.' && c != '\\') {
                *out = (char)tolower(c);
                return 1;
        }
        return (size_t)snprintf(out, 5, "\\%03u", c);
}

/* Offset behind the name, or 0 when it is not a plain name inside the message. */
static size_t parse_name(const uint8_t *msg, size_t n, size_t at, char out[DNS_NAME_TEXT_MAX]) {
        size_t start = at, used = 0;

        for (;;) {
                if (at >= n)
                        return 0;
                uint8_t len = msg[at++];
                if (len == 0)
                        break;
                if (len > LABEL_MAX || n - at < len || at + len - start >= WIRE_NAME_MAX)
                        return 0;
                if (used)
                        out[used++] = '.';
                for (; len > 0; len--)
                        used += put_label_byte(out + used, msg[at++]);
        }
        if (used == 0)
                out[used++] = '.';
        out[used] = '\0';
        return at;
}

/* 255 wire bytes hold at most 250 label bytes and as many dots; each byte is at most 4 characters. */
_Static_assert(DNS_NAME_TEXT_MAX > (WIRE_NAME_MAX - 2) * 4, "every wire name fits");

enum dns_parse dns_parse_query(const uint8_t *msg, size_t n, struct dns_question *q) {
        if (n < HEADER || (msg[2] & FLAG_QR))
                return DNS_IGNORE;
        q->id = get16(msg);
        q->question_end = HEADER;
        q->name[0] = '\0';
        if (n > DNS_MESSAGE_MAX || (msg[2] & OPCODE_MASK) || get16(msg + 4) != 1 || get16(msg + 6) || get16(msg + 8))
                return DNS_FORMAT_ERROR;
        size_t end = parse_name(msg, n, HEADER, q->name);
        if (end == 0 || n - end < 4) {
                q->name[0] = '\0';
                return DNS_FORMAT_ERROR;
        }
        q->type = get16(msg + end);
        q->class_ = get16(msg + end + 2);
        q->question_end = end + 4;
        return DNS_OK;
}

size_t dns_answer_error(const uint8_t *msg, const struct dns_question *q, unsigned rcode, uint8_t out[DNS_MESSAGE_MAX]) {
        size_t n = q->question_end;

        memcpy(out, msg, n);
        out[2] = (uint8_t)(FLAG_QR | (msg[2] & 0x01)); /* RD is copied */
        out[3] = (uint8_t)rcode;
        memset(out + 4, 0, 8);
        out[5] = n > HEADER ? 1 : 0;
        return n;
}
