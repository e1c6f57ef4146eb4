/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Ed25519 keys (RFC 8032) by libsodium, in the text form of C2SP signed notes: what crewd signs its evidence with.
 *
 * Public:  NAME+HASH+BASE64(0x01 || 32 bytes), HASH the first four bytes, in hex, of SHA-256(NAME || '\n' || 0x01 || key).
 * Private: PRIVATE+KEY+NAME+HASH+BASE64(0x01 || 32 bytes of seed).
 * A name has neither blanks nor '+'.
 */
#pragma once

#include "err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define KEY_NAME_MAX 128
#define KEY_TEXT_MAX 256
#define KEY_SIGNATURE_BYTES 64

struct verify_key {
        char name[KEY_NAME_MAX];
        uint8_t hash[4], public_key[32];
};
/* One line, with or without its '\n'.  False: it is none, or its hash is not that of its key. */
bool verify_key_parse(const char *text, size_t n, struct verify_key *out);
void verify_key_text(const struct verify_key *k, char out[KEY_TEXT_MAX]);
bool verify_key_accepts(const struct verify_key *k, const void *bytes, size_t n, const uint8_t sig[KEY_SIGNATURE_BYTES]);

/* The secret half is in memory of its own: locked, not dumped, wiped at the end. */
struct sign_key;
int sign_key_make(const char *name, struct sign_key **out, struct crew_err *err);
/* -EINVAL: it is none. */
int sign_key_parse(const char *text, size_t n, struct sign_key **out, struct crew_err *err);
bool sign_key_is_new(const struct sign_key *k);     /* by sign_key_make(): it was never used before */
struct sign_key *sign_key_free(struct sign_key *k); /* NULL */
const struct verify_key *sign_key_public(const struct sign_key *k);
void sign_key_text(const struct sign_key *k, char out[KEY_TEXT_MAX]); /* the caller wipes it */
void sign_key_sign(const struct sign_key *k, const void *bytes, size_t n, uint8_t sig[KEY_SIGNATURE_BYTES]);

/* RFC 4648, with padding; n bytes take CREW_BASE64_ROOM(n). */
#define CREW_BASE64_ROOM(n) (((n) + 2) / 3 * 4 + 1)
void crew_base64(const void *bytes, size_t n, char *out);
/* Exactly the canonical form.  False: it is not, or has more than room bytes. */
bool crew_unbase64(const char *text, size_t len, uint8_t *out, size_t room, size_t *n);
