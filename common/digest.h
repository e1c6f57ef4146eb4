/* SPDX-License-Identifier: Apache-2.0 */
/* SHA-256 (FIPS 180-4) by libsodium. */
#pragma once

#include "err.h"

#include <stddef.h>
#include <stdint.h>

#define CREW_SHA256_BYTES 32
#define CREW_SHA256_HEX 65 /* with the NUL */

void crew_sha256(const void *buf, size_t n, uint8_t out[CREW_SHA256_BYTES]);
/* Of all that is still to be read from fd.  0 or -errno. */
int crew_sha256_fd(int fd, uint8_t out[CREW_SHA256_BYTES], struct crew_err *err);
/* Hashed one behind the other; HMAC-SHA256 is RFC 2104. */
struct crew_part {
        const void *bytes;
        size_t n;
};
void crew_sha256_parts(const struct crew_part *parts, size_t n, uint8_t out[CREW_SHA256_BYTES]);
void crew_hmac_sha256(const void *key, size_t n_key, const struct crew_part *parts, size_t n_parts,
                      uint8_t out[CREW_SHA256_BYTES]);
void crew_sha256_hex(const void *buf, size_t n, char out[CREW_SHA256_HEX]);
