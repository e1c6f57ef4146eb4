/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The DNS a jail sees: one question in, one answer out, never a forwarded query.  RFC 1035.
 * Parses bytes an agent wrote; no allocation, no recursion, compression pointers are refused in questions.
 */
#pragma once

#include <netinet/in.h>
#include <stddef.h>
#include <stdint.h>

#define DNS_MESSAGE_MAX 512    /* RFC 1035 4.2.1; also the most we ever answer with over UDP */
#define DNS_NAME_TEXT_MAX 1024 /* 253 characters, each possibly escaped as \DDD */

struct dns_question {
        uint16_t type, class_;
        char name[DNS_NAME_TEXT_MAX]; /* without a trailing dot; lower case; bytes outside [!-~] and '.' '\\' in a label as
                                         \DDD */
        size_t question_end;          /* offset behind the question section */
};

enum dns_parse { DNS_OK, DNS_IGNORE /* not a query worth an answer */, DNS_FORMAT_ERROR /* answer FORMERR */ };
enum dns_parse dns_parse_query(const uint8_t *msg, size_t n, struct dns_question *q);

enum { DNS_RCODE_OK = 0, DNS_RCODE_FORMERR = 1, DNS_RCODE_REFUSED = 5 };
enum { DNS_TYPE_A = 1, DNS_TYPE_AAAA = 28, DNS_TYPE_ANY = 255, DNS_CLASS_IN = 1 };
/* Header and question of the query with QR set and this rcode; no records.  Length written to out[DNS_MESSAGE_MAX]. */
size_t dns_answer_error(const uint8_t *msg, const struct dns_question *q, unsigned rcode, uint8_t out[DNS_MESSAGE_MAX]);
/* The same with one A record for the question's name. */
size_t dns_answer_a(const uint8_t *msg, const struct dns_question *q, const struct in_addr *addr,
                    uint8_t out[DNS_MESSAGE_MAX]);
