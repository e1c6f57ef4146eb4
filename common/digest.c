/* SPDX-License-Identifier: Apache-2.0 */
#include "digest.h"

#include "util.h"

#include <errno.h>
#include <sodium/crypto_auth_hmacsha256.h>
#include <sodium/crypto_hash_sha256.h>
#include <string.h>
#include <unistd.h>

void crew_sha256(const void *buf, size_t n, uint8_t out[CREW_SHA256_BYTES]) {
        crypto_hash_sha256(out, buf, n);
}

int crew_sha256_fd(int fd, uint8_t out[CREW_SHA256_BYTES], struct crew_err *err) {
        crypto_hash_sha256_state state;
        unsigned char block[16384];
        ssize_t n;

        crypto_hash_sha256_init(&state);
        while ((n = read(fd, block, sizeof(block))) != 0) {
                if (n < 0 && errno != EINTR)
                        return crew_fail_errno(err, "cannot read");
                if (n > 0)
                        crypto_hash_sha256_update(&state, block, (unsigned long long)n);
        }
        crypto_hash_sha256_final(&state, out);
        return 0;
}

void crew_sha256_parts(const struct crew_part *parts, size_t n, uint8_t out[CREW_SHA256_BYTES]) {
        crypto_hash_sha256_state state;

        crypto_hash_sha256_init(&state);
        for (size_t i = 0; i < n; i++)
                crypto_hash_sha256_update(&state, parts[i].bytes, parts[i].n);
        crypto_hash_sha256_final(&state, out);
}

void crew_hmac_sha256(const void *key, size_t n_key, const struct crew_part *parts, size_t n_parts,
                      uint8_t out[CREW_SHA256_BYTES]) {
        crypto_auth_hmacsha256_state state;

        crypto_auth_hmacsha256_init(&state, key, n_key);
        for (size_t i = 0; i < n_parts; i++)
                crypto_auth_hmacsha256_update(&state, parts[i].bytes, parts[i].n);
        crypto_auth_hmacsha256_final(&state, out);
        explicit_bzero(&state, sizeof(state));
}

void crew_sha256_hex(const void *buf, size_t n, char out[CREW_SHA256_HEX]) {
        uint8_t d[CREW_SHA256_BYTES];

        crew_sha256(buf, n, d);
        crew_hex(d, sizeof(d), out);
}
