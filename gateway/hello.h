/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The first bytes of a client: is it TLS, and which server does its ClientHello name (RFC 8446, RFC 6066)?  And whether the
 * server's answer asks for another one.  Pure; reads bytes an agent or a server wrote, whole or in part, and nothing beyond
 * them.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define HELLO_MAX (16u * 1024 + 5) /* bytes of records that are looked at */
#define HELLO_NAME_MAX 256

enum hello {
        HELLO_MORE, /* too short to tell; with HELLO_MAX bytes it is HELLO_BAD instead */
        HELLO_PLAIN,
        HELLO_NAMED,   /* name: the host_name of server_name, not yet canonical */
        HELLO_UNNAMED, /* a ClientHello without server_name */
        HELLO_BAD,     /* begins like TLS and is not a well-formed ClientHello */
};
/* *end: with HELLO_NAMED and HELLO_UNNAMED, how many bytes are the hello's records, 0 else. */
enum hello hello_parse(const uint8_t *bytes, size_t n, char name[HELLO_NAME_MAX], size_t *end);

/* The same for what a client says when it was asked for another hello: only a hello will do, behind what may stand in front
 * of it then (early data, a change of ciphers that means nothing).  Never HELLO_PLAIN. */
enum hello hello_parse_second(const uint8_t *bytes, size_t n, char name[HELLO_NAME_MAX]);

#define HELLO_ANSWER_BYTES 43u /* of a server that are enough to tell */
enum hello_answer {
        HELLO_ANSWER_MORE,
        HELLO_ANSWER_RETRY, /* a HelloRetryRequest */
        HELLO_ANSWER_OTHER,
};
enum hello_answer hello_answer_parse(const uint8_t *bytes, size_t n);
