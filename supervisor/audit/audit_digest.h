/* SPDX-License-Identifier: Apache-2.0 */
/* SHA-256 (FIPS 180-4) for whoever makes one with every record. */
#pragma once

#include "common/digest.h"

/* The same as crew_sha256_parts() and crew_sha256_hex(). */
void audit_digest_parts(const struct crew_part *parts, size_t n, uint8_t out[CREW_SHA256_BYTES]);
void audit_digest_hex(const void *buf, size_t n, char out[CREW_SHA256_HEX]);
