/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The Merkle tree of RFC 6962, section 2.1, over lines that are only ever added: its right edge is kept, no more.
 *
 * A leaf is SHA-256(0x00 || line), a node SHA-256(0x01 || left || right).  Appending costs one leaf and, on average, one
 * node; the root of what is there costs one node for each bit that is set in the count.
 */
#pragma once

#include "digest.h"

#include <stdbool.h>

#define MERKLE_LEVELS 40 /* 10^12 lines */
#define MERKLE_EDGE_MAX (MERKLE_LEVELS * CREW_SHA256_BYTES)

/* SHA-256 of the parts, one behind the other. */
typedef void merkle_sha256(const struct crew_part *parts, size_t n, uint8_t out[CREW_SHA256_BYTES]);

struct merkle {
        merkle_sha256 *sha256;
        uint64_t n;                                     /* lines */
        uint8_t full[MERKLE_LEVELS][CREW_SHA256_BYTES]; /* [k]: the root of a whole subtree of 2^k, where n has bit k */
};

void merkle_init(struct merkle *m, merkle_sha256 *sha256);
void merkle_add(struct merkle *m, const void *line, size_t n);
void merkle_root(const struct merkle *m, uint8_t out[CREW_SHA256_BYTES]); /* of none: SHA-256 of nothing */
/* The right edge, the largest subtree first.  Bytes. */
size_t merkle_edge(const struct merkle *m, uint8_t out[MERKLE_EDGE_MAX]);
/* From an edge of n lines; false: it is not one by its length. */
bool merkle_restore(struct merkle *m, uint64_t n, const uint8_t *edge, size_t edge_len);
