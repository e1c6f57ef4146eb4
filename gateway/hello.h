/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The first bytes of a client: is it TLS, and which server does its ClientHello name (RFC 8446, RFC 6066)?  Pure; reads
 * bytes an agent wrote, whole or in part, and nothing beyond them.
 */
#pragma once

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
enum hello hello_parse(const uint8_t *bytes, size_t n, char name[HELLO_NAME_MAX]);
