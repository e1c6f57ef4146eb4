/* SPDX-License-Identifier: Apache-2.0 */
#include "keys.h"

#include "digest.h"
#include "util.h"

#include <assert.h>
#include <errno.h>
#include <sodium/core.h>
#include <sodium/crypto_sign.h>
#include <sodium/randombytes.h>
#include <sodium/utils.h>
#include <string.h>

#define ALG_ED25519 1
#define PRIVATE_MARK "PRIVATE+KEY+"

static_assert(crypto_sign_BYTES == KEY_SIGNATURE_BYTES, "an Ed25519 signature");
static_assert(crypto_sign_PUBLICKEYBYTES == 32 && crypto_sign_SEEDBYTES == 32, "an Ed25519 key");

struct sign_key {
        struct verify_key public;
        bool is_new;
        uint8_t *secret; /* owned; crypto_sign_SECRETKEYBYTES, of which the seed is the first half */
};

/* --- base64 --- */

void crew_base64(const void *bytes, size_t n, char *out) {
        sodium_bin2base64(out, CREW_BASE64_ROOM(n), bytes, n, sodium_base64_VARIANT_ORIGINAL);
}

bool crew_unbase64(const char *text, size_t len, uint8_t *out, size_t room, size_t *n) {
        const char *end;

        /* Some libsodiums take bytes beyond ASCII for '/'. */
        for (size_t i = 0; i < len; i++) {
                if ((unsigned char)text[i] >= 0x80)
                        return false;
        }
        return sodium_base642bin(out, room, text, len, NULL, n, &end, sodium_base64_VARIANT_ORIGINAL) == 0 &&
               end == text + len;
}

/* --- names --- */

static bool name_ok(const char *name, size_t n) {
        if (n == 0 || n >= KEY_NAME_MAX)
                return false;
        for (size_t i = 0; i < n; i++) {
                if (name[i] <= ' ' || name[i] > '~' || name[i] == '+')
                        return false;
        }
        return true;
}

static void key_hash(struct verify_key *k) {
        uint8_t bytes[KEY_NAME_MAX + 2 + sizeof(k->public_key)], digest[CREW_SHA256_BYTES];
        size_t n = strlen(k->name);

        memcpy(bytes, k->name, n);
        bytes[n++] = '\n';
        bytes[n++] = ALG_ED25519;
        memcpy(bytes + n, k->public_key, sizeof(k->public_key));
        crew_sha256(bytes, n + sizeof(k->public_key), digest);
        memcpy(k->hash, digest, sizeof(k->hash));
}

static void text_of(const char *mark, const struct verify_key *k, const uint8_t key[32], char out[KEY_TEXT_MAX]) {
        uint8_t bytes[33] = {ALG_ED25519};
        char hash[9], b64[CREW_BASE64_ROOM(sizeof(bytes))];

        memcpy(bytes + 1, key, 32);
        crew_hex(k->hash, sizeof(k->hash), hash);
        crew_base64(bytes, sizeof(bytes), b64);
        snprintf(out, KEY_TEXT_MAX, "%s%s+%s+%s\n", mark, k->name, hash, b64);
        explicit_bzero(bytes, sizeof(bytes));
        explicit_bzero(b64, sizeof(b64));
}

/* NAME+HASH+BASE64; the hash is not looked at. */
static bool parse(const char *text, size_t n, char name[KEY_NAME_MAX], char hash[9], uint8_t key[32]) {
        uint8_t bytes[33];
        size_t len;

        if (n > 0 && text[n - 1] == '\n')
                n--;
        const char *end = text + n, *p = memchr(text, '+', n);
        if (!p || !name_ok(text, (size_t)(p - text)) || end - p < 11 || p[9] != '+')
                return false;
        memcpy(name, text, (size_t)(p - text));
        name[p - text] = '\0';
        memcpy(hash, p + 1, 8);
        hash[8] = '\0';
        bool ok = crew_unbase64(p + 10, (size_t)(end - p - 10), bytes, sizeof(bytes), &len) && len == sizeof(bytes) &&
                  bytes[0] == ALG_ED25519;
        memcpy(key, bytes + 1, 32);
        explicit_bzero(bytes, sizeof(bytes));
        return ok;
}

static bool hash_is(const struct verify_key *k, const char *hash) {
        char own[9];

        crew_hex(k->hash, sizeof(k->hash), own);
        return strcmp(own, hash) == 0;
}

/* --- public --- */

bool verify_key_parse(const char *text, size_t n, struct verify_key *out) {
        char hash[9];

        if (!parse(text, n, out->name, hash, out->public_key))
                return false;
        key_hash(out);
        return hash_is(out, hash);
}

void verify_key_text(const struct verify_key *k, char out[KEY_TEXT_MAX]) {
        text_of("", k, k->public_key, out);
}

bool verify_key_accepts(const struct verify_key *k, const void *bytes, size_t n, const uint8_t sig[KEY_SIGNATURE_BYTES]) {
        return crypto_sign_verify_detached(sig, bytes, n, k->public_key) == 0;
}

/* --- private --- */

static int from_seed(const char *name, const uint8_t seed[32], struct sign_key **out, struct crew_err *err) {
        struct sign_key *k = sodium_init() < 0 ? NULL : calloc(1, sizeof(*k));

        if (k)
                k->secret = sodium_malloc(crypto_sign_SECRETKEYBYTES);
        if (!k || !k->secret) {
                free(k);
                return crew_fail(err, ENOMEM, "no memory for the key that signs the audit");
        }
        snprintf(k->public.name, sizeof(k->public.name), "%s", name);
        crypto_sign_seed_keypair(k->public.public_key, k->secret, seed);
        key_hash(&k->public);
        *out = k;
        return 0;
}

int sign_key_make(const char *name, struct sign_key **out, struct crew_err *err) {
        uint8_t seed[crypto_sign_SEEDBYTES];

        if (!name_ok(name, strlen(name)))
                return crew_fail(err, EINVAL, "'%s' is no name for a key", name);
        if (sodium_init() < 0)
                return crew_fail(err, ENOSYS, "no random numbers for a key");
        randombytes_buf(seed, sizeof(seed));
        int r = from_seed(name, seed, out, err);
        explicit_bzero(seed, sizeof(seed));
        if (r == 0)
                (*out)->is_new = true;
        return r;
}

int sign_key_parse(const char *text, size_t n, struct sign_key **out, struct crew_err *err) {
        static const size_t mark = sizeof(PRIVATE_MARK) - 1;
        char name[KEY_NAME_MAX], hash[9];
        uint8_t seed[crypto_sign_SEEDBYTES];

        if (n < mark || memcmp(text, PRIVATE_MARK, mark) != 0 || !parse(text + mark, n - mark, name, hash, seed))
                return crew_fail(err, EINVAL, "it is not an Ed25519 key of a signed note (PRIVATE+KEY+...)");
        int r = from_seed(name, seed, out, err);
        explicit_bzero(seed, sizeof(seed));
        if (r == 0 && !hash_is(&(*out)->public, hash)) {
                *out = sign_key_free(*out);
                return crew_fail(err, EINVAL, "its hash is not that of the key: it was changed");
        }
        return r;
}

struct sign_key *sign_key_free(struct sign_key *k) {
        if (k)
                sodium_free(k->secret);
        free(k);
        return NULL;
}

bool sign_key_is_new(const struct sign_key *k) {
        return k->is_new;
}

const struct verify_key *sign_key_public(const struct sign_key *k) {
        return &k->public;
}

void sign_key_text(const struct sign_key *k, char out[KEY_TEXT_MAX]) {
        text_of(PRIVATE_MARK, &k->public, k->secret, out);
}

void sign_key_sign(const struct sign_key *k, const void *bytes, size_t n, uint8_t sig[KEY_SIGNATURE_BYTES]) {
        crypto_sign_detached(sig, NULL, bytes, n, k->secret);
}
