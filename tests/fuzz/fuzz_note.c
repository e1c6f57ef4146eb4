/* SPDX-License-Identifier: Apache-2.0 */
/* Any bytes as a checkpoint, as a public key and as base64: what is taken is what would be written. */
#include "common/keys.h"
#include "common/merkle.h"
#include "common/note.h"
#include "common/util.h"

#include <string.h>

static void as_base64(const uint8_t *data, size_t n) {
        uint8_t bytes[512];
        char text[CREW_BASE64_ROOM(sizeof(bytes))];
        size_t len;

        if (!crew_unbase64((const char *)data, n, bytes, sizeof(bytes), &len))
                return;
        crew_base64(bytes, len, text);
        crew_assert(strlen(text) == n && memcmp(text, data, n) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
        static const struct verify_key nobody;
        struct verify_key key;
        struct merkle m;
        struct note note;
        char text[KEY_TEXT_MAX];

        as_base64(data, n);
        if (verify_key_parse((const char *)data, n, &key)) {
                verify_key_text(&key, text);
                crew_assert(strncmp(text, (const char *)data, strlen(text) - 1) == 0);
        }
        /* Whoever has no key cannot make one that is taken. */
        crew_assert(note_parse((const char *)data, n, &nobody, &note) != NOTE_OK);
        merkle_init(&m, crew_sha256_parts);
        if (note.has_edge && merkle_restore(&m, note.lines, note.edge, note.edge_len))
                crew_assert(merkle_edge(&m, note.edge) == note.edge_len);
        return 0;
}
