/* SPDX-License-Identifier: Apache-2.0 */
#include "digest.h"

#include "util.h"

#include <sodium/crypto_hash_sha256.h>

void crew_sha256(const void *buf, size_t n, uint8_t out[CREW_SHA256_BYTES]) {
        crypto_hash_sha256(out, buf, n);
}

void crew_sha256_hex(const void *buf, size_t n, char out[CREW_SHA256_HEX]) {
        uint8_t d[CREW_SHA256_BYTES];

        crew_sha256(buf, n, d);
        crew_hex(d, sizeof(d), out);
}
