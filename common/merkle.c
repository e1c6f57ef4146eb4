/* SPDX-License-Identifier: Apache-2.0 */
#include "merkle.h"

#include "util.h"

#include <string.h>

static void node(const struct merkle *m, const uint8_t *left, const uint8_t *right, uint8_t out[CREW_SHA256_BYTES]) {
        static const uint8_t mark = 1;
        const struct crew_part parts[] = {{&mark, 1}, {left, CREW_SHA256_BYTES}, {right, CREW_SHA256_BYTES}};
        uint8_t hash[CREW_SHA256_BYTES]; /* out may be one of the two */

        m->sha256(parts, ELEMENTSOF(parts), hash);
        memcpy(out, hash, sizeof(hash));
}

void merkle_init(struct merkle *m, merkle_sha256 *sha256) {
        m->sha256 = sha256;
        m->n = 0;
}

void merkle_add(struct merkle *m, const void *line, size_t n) {
        static const uint8_t mark = 0;
        const struct crew_part leaf[] = {{&mark, 1}, {line, n}};
        uint8_t hash[CREW_SHA256_BYTES];
        unsigned k = 0;

        m->sha256(leaf, ELEMENTSOF(leaf), hash);
        for (; m->n >> k & 1; k++)
                node(m, m->full[k], hash, hash);
        crew_assert(k < MERKLE_LEVELS);
        memcpy(m->full[k], hash, sizeof(hash));
        m->n++;
}

void merkle_root(const struct merkle *m, uint8_t out[CREW_SHA256_BYTES]) {
        bool any = false;

        if (m->n == 0)
                m->sha256(NULL, 0, out);
        for (unsigned k = 0; k < MERKLE_LEVELS; k++) {
                if (!(m->n >> k & 1))
                        continue;
                if (any)
                        node(m, m->full[k], out, out);
                else
                        memcpy(out, m->full[k], CREW_SHA256_BYTES);
                any = true;
        }
}

size_t merkle_edge(const struct merkle *m, uint8_t out[MERKLE_EDGE_MAX]) {
        size_t n = 0;

        for (unsigned k = MERKLE_LEVELS; k-- > 0;) {
                if (!(m->n >> k & 1))
                        continue;
                memcpy(out + n, m->full[k], CREW_SHA256_BYTES);
                n += CREW_SHA256_BYTES;
        }
        return n;
}

bool merkle_restore(struct merkle *m, uint64_t n, const uint8_t *edge, size_t edge_len) {
        if (n >> MERKLE_LEVELS || edge_len != (size_t)__builtin_popcountll(n) * CREW_SHA256_BYTES)
                return false;
        m->n = n;
        for (unsigned k = MERKLE_LEVELS; k-- > 0;) {
                if (!(n >> k & 1))
                        continue;
                memcpy(m->full[k], edge, CREW_SHA256_BYTES);
                edge += CREW_SHA256_BYTES;
        }
        return true;
}
