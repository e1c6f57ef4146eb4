/* SPDX-License-Identifier: Apache-2.0 */
/* Which addresses may be dialled, and on whose word.  Pure. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

enum addr_class {
        ADDR_PUBLIC,
        ADDR_PRIVATE,
        ADDR_LOOPBACK,
        ADDR_LINK_LOCAL,
        ADDR_METADATA,
        ADDR_MULTICAST,
        ADDR_RESERVED, /* documentation, benchmarks, unassigned, broadcast, 0.0.0.0/8 */
        ADDR_EMBEDDED, /* an IPv4 address in an IPv6 one: v4-mapped, v4-compatible, 6to4, NAT64, Teredo */
        ADDR_CLASS_N,
};
enum addr_class addr_classify(const struct sockaddr *a);
/* "loopback", "private", ... */
const char *addr_class_text(enum addr_class c);

/* Who says that this address is to be dialled. */
enum addr_word {
        ADDR_WORD_NAME,     /* a name that resolved to it */
        ADDR_WORD_APPROVAL, /* the operator, asked about this very address */
        ADDR_WORD_TO_NAME,  /* a name that the operator wrote as connect_to */
        ADDR_WORD_LITERAL,  /* this very address is written in a policy or as connect_to */
        ADDR_WORD_N,
};
bool addr_may_dial(const struct sockaddr *a, enum addr_word word);

/* "203.0.113.7", "2001:db8::1"; out needs ADDR_TEXT_MAX. */
#define ADDR_TEXT_MAX 46
void addr_text(const struct sockaddr *a, char out[ADDR_TEXT_MAX]);
/* With port, as in "[2001:db8::1]:443". */
void addr_text_port(const struct sockaddr *a, char *out, size_t out_size);
uint16_t addr_port(const struct sockaddr *a);
socklen_t addr_len(const struct sockaddr *a);
/* A v4-mapped IPv6 address becomes the IPv4 one; anything else stays. */
void addr_unmap(struct sockaddr_storage *a);
/* Names that stand for an address which is never approved: localhost and the metadata services. */
bool addr_name_never(const char *canonical);
