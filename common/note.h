/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A checkpoint of an append-only log: so many lines, this root, signed (C2SP tlog-checkpoint in a C2SP signed note).
 *
 *     crewd/CREW/AGENT
 *     412
 *     BASE64 of the root
 *     edge BYTES BASE64
 *
 *     — crewd/CREW BASE64 of the key's hash and its signature
 *
 * The line "edge" is an extension, passed over by who does not know it: how long the log is, and the right edge of its
 * tree, with which it is gone on with.  Reading trusts nothing in the text.
 */
#pragma once

#include "digest.h"
#include "keys.h"
#include "merkle.h"

#define NOTE_ORIGIN_MAX 160
#define NOTE_MAX 4096

struct note {
        char origin[NOTE_ORIGIN_MAX];
        uint64_t lines;
        uint8_t root[CREW_SHA256_BYTES];
        bool has_edge;
        uint64_t bytes;
        uint8_t edge[MERKLE_EDGE_MAX];
        size_t edge_len;
};

size_t note_format(const struct note *n, const struct sign_key *key, char out[NOTE_MAX]);

enum note_outcome {
        NOTE_OK,
        NOTE_MALFORMED,
        NOTE_UNSIGNED, /* not by this key, whatever others say */
        NOTE_FORGED,   /* in this key's name, and not by it */
};
/* *out is filled but for NOTE_MALFORMED, and worth something only with NOTE_OK. */
enum note_outcome note_parse(const char *text, size_t len, const struct verify_key *key, struct note *out);
