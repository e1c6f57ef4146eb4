/* SPDX-License-Identifier: Apache-2.0 */
#include "redact.h"

#include <string.h>

static size_t tail(const char *secret, size_t secret_n, const char *p, size_t n) {
        size_t k = n < secret_n - 1 ? n : secret_n - 1;

        for (; k > 0; k--) {
                const char *at = memchr(p + n - k, secret[0], k);
                if (!at)
                        return 0;
                k = (size_t)(p + n - at);
                if (memcmp(at, secret, k) == 0)
                        return k;
        }
        return 0;
}

size_t redact(const struct cred *const *creds, size_t n_creds, char *p, size_t n) {
        size_t hold = 0;

        for (size_t i = 0; i < n_creds; i++) {
                size_t secret_n, k;
                const char *secret = cred_secret(creds[i], &secret_n);
                for (char *at = p; (at = memmem(at, n - (size_t)(at - p), secret, secret_n)); at += secret_n)
                        memset(at, '*', secret_n);
                k = tail(secret, secret_n, p, n);
                hold = k > hold ? k : hold;
        }
        return hold;
}
