/* SPDX-License-Identifier: Apache-2.0 */
/*
 * libcrypto's SHA-256 uses what the processor has for it and is four times as fast as libsodium's, which is portable C; a
 * chain of records notices.  It stays out of the programs that are to start fast: asking the processor what it has takes
 * 25 us in a virtual machine.  Its plain functions are called, not EVP: they are 20 KiB, load no provider and cannot fail.
 */
#define OPENSSL_SUPPRESS_DEPRECATED
#include "audit_digest.h"

#include "common/util.h"

#include <openssl/sha.h>

void audit_digest_parts(const struct crew_part *parts, size_t n, uint8_t out[CREW_SHA256_BYTES]) {
        SHA256_CTX state;

        SHA256_Init(&state);
        for (size_t i = 0; i < n; i++)
                SHA256_Update(&state, parts[i].bytes, parts[i].n);
        SHA256_Final(out, &state);
}

void audit_digest_hex(const void *buf, size_t n, char out[CREW_SHA256_HEX]) {
        uint8_t digest[CREW_SHA256_BYTES];
        SHA256_CTX state;

        SHA256_Init(&state);
        SHA256_Update(&state, buf, n);
        SHA256_Final(digest, &state);
        crew_hex(digest, sizeof(digest), out);
}
