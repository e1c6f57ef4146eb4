/* SPDX-License-Identifier: Apache-2.0 */
/* One-question DNS messages.  Everything read is checked against the message's end first.  What is behind the question is
 * read by nobody: EDNS options (RFC 6891) go unanswered, as by a server that has none. */
#include "dns.h"

#include <assert.h>
#include <ctype.h>
#include <stdio.h>
#include <string.h>

#define HEADER 12
#define LABEL_MAX 63
#define WIRE_NAME_MAX 255
#define FLAG_QR 0x80
#define FLAG_RA 0x80 /* of the next byte: some stub resolvers drop answers without it */
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
static_assert(DNS_NAME_TEXT_MAX > (WIRE_NAME_MAX - 2) * 4, "every wire name fits");

enum dns_parse dns_parse_query(const uint8_t *msg, size_t n, struct dns_question *q) {
        if (n < HEADER || (msg[2] & FLAG_QR))
                return DNS_IGNORE;
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
        out[3] = (uint8_t)(FLAG_RA | rcode);
        memset(out + 4, 0, 8);
        out[5] = n > HEADER ? 1 : 0;
        return n;
}

#define TTL_S 60 /* stable for the instance's life; short, for what outlives it in a cache of its own */

size_t dns_answer_a(const uint8_t *msg, const struct dns_question *q, const struct in_addr *addr,
                    uint8_t out[DNS_MESSAGE_MAX]) {
        static const uint8_t record[] = {
                0xc0, HEADER /* the question's name */, 0, DNS_TYPE_A, 0, DNS_CLASS_IN, 0, 0, 0, TTL_S, 0, 4};
        size_t n = dns_answer_error(msg, q, DNS_RCODE_OK, out);

        /* A question is at most 12 + 255 + 4 bytes: there is room. */
        static_assert(HEADER + WIRE_NAME_MAX + 4 + sizeof(record) + 4 <= DNS_MESSAGE_MAX, "an answer fits");
        memcpy(out + n, record, sizeof(record));
        memcpy(out + n + sizeof(record), addr, 4);
        out[7] = 1;
        return n + sizeof(record) + 4;
}
