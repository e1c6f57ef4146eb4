/* SPDX-License-Identifier: Apache-2.0 */
#include "note.h"

#include "util.h"

#include <inttypes.h>
#include <string.h>

#define DASH "\xe2\x80\x94 " /* U+2014, as the signed note has it */

size_t note_format(const struct note *n, const struct sign_key *key, char out[NOTE_MAX]) {
        const struct verify_key *public = sign_key_public(key);
        char root[CREW_BASE64_ROOM(CREW_SHA256_BYTES)], edge[CREW_BASE64_ROOM(MERKLE_EDGE_MAX)];
        uint8_t sig[sizeof(public->hash) + KEY_SIGNATURE_BYTES];
        char sig64[CREW_BASE64_ROOM(sizeof(sig))];

        crew_base64(n->root, sizeof(n->root), root);
        int len = snprintf(out, NOTE_MAX, "%s\n%" PRIu64 "\n%s\n", n->origin, n->lines, root);
        if (n->has_edge) {
                crew_base64(n->edge, n->edge_len, edge);
                len += snprintf(out + len, NOTE_MAX - (size_t)len, "edge %" PRIu64 " %s\n", n->bytes, edge);
        }
        memcpy(sig, public->hash, sizeof(public->hash));
        sign_key_sign(key, out, (size_t)len, sig + sizeof(public->hash));
        crew_base64(sig, sizeof(sig), sig64);
        len += snprintf(out + len, NOTE_MAX - (size_t)len, "\n" DASH "%s %s\n", public->name, sig64);
        crew_assert((size_t)len < NOTE_MAX);
        return (size_t)len;
}

struct text {
        const char *p, *end;
};

/* The next line without its '\n'; false: there is none that has one. */
static bool next_line(struct text *t, struct text *line) {
        const char *nl = t->p < t->end ? memchr(t->p, '\n', (size_t)(t->end - t->p)) : NULL;

        if (!nl)
                return false;
        *line = (struct text){t->p, nl};
        t->p = nl + 1;
        return true;
}

static bool number(struct text t, uint64_t *out) {
        char digits[24];
        size_t n = (size_t)(t.end - t.p);

        if (n == 0 || n >= sizeof(digits) || (t.p[0] == '0' && n > 1))
                return false;
        memcpy(digits, t.p, n);
        digits[n] = '\0';
        return crew_parse_u64(digits, out) == 0;
}

static bool skip(struct text *t, const char *word, size_t n) {
        if ((size_t)(t->end - t->p) < n || memcmp(t->p, word, n) != 0)
                return false;
        t->p += n;
        return true;
}

static bool parse_edge(struct text line, struct note *out) {
        const char *blank = memchr(line.p, ' ', (size_t)(line.end - line.p));

        return blank && number((struct text){line.p, blank}, &out->bytes) &&
               crew_unbase64(blank + 1, (size_t)(line.end - blank - 1), out->edge, sizeof(out->edge), &out->edge_len);
}

static bool parse_body(struct text body, struct note *out) {
        struct text line;
        size_t n;

        if (!next_line(&body, &line) || line.p == line.end || (size_t)(line.end - line.p) >= sizeof(out->origin))
                return false;
        memcpy(out->origin, line.p, (size_t)(line.end - line.p));
        if (!next_line(&body, &line) || !number(line, &out->lines) || !next_line(&body, &line) ||
            !crew_unbase64(line.p, (size_t)(line.end - line.p), out->root, sizeof(out->root), &n) || n != sizeof(out->root))
                return false;
        while (next_line(&body, &line)) {
                if (line.p == line.end)
                        return false;
                if (!skip(&line, "edge ", 5))
                        continue;
                if (out->has_edge || !parse_edge(line, out))
                        return false;
                out->has_edge = true;
        }
        return body.p == body.end;
}

/* "NAME BASE64", of anybody; *by_key: in the name of this key, and then its signature. */
static bool parse_signature(struct text line, const struct verify_key *key, bool *by_key,
                            uint8_t sig[KEY_SIGNATURE_BYTES]) {
        uint8_t bytes[512];
        size_t n;
        const char *blank = memchr(line.p, ' ', (size_t)(line.end - line.p));

        if (!blank || blank == line.p ||
            !crew_unbase64(blank + 1, (size_t)(line.end - blank - 1), bytes, sizeof(bytes), &n) || n <= sizeof(key->hash))
                return false;
        size_t name = (size_t)(blank - line.p);
        *by_key = n == sizeof(key->hash) + KEY_SIGNATURE_BYTES && name == strlen(key->name) &&
                  memcmp(line.p, key->name, name) == 0 && memcmp(bytes, key->hash, sizeof(key->hash)) == 0;
        if (*by_key)
                memcpy(sig, bytes + sizeof(key->hash), KEY_SIGNATURE_BYTES);
        return true;
}

static enum note_outcome check_signatures(struct text body, struct text rest, const struct verify_key *key) {
        uint8_t sig[KEY_SIGNATURE_BYTES];
        struct text line;
        bool found = false, by_key;

        while (next_line(&rest, &line)) {
                if (!skip(&line, DASH, sizeof(DASH) - 1) || !parse_signature(line, key, &by_key, sig))
                        return NOTE_MALFORMED;
                if (by_key && !verify_key_accepts(key, body.p, (size_t)(body.end - body.p), sig))
                        return NOTE_FORGED;
                found |= by_key;
        }
        return rest.p != rest.end ? NOTE_MALFORMED : found ? NOTE_OK : NOTE_UNSIGNED;
}

static bool plain(const char *text, size_t n) {
        for (size_t i = 0; i < n; i++) {
                if ((unsigned char)text[i] < ' ' && text[i] != '\n')
                        return false;
        }
        return crew_utf8_ok(text, n);
}

enum note_outcome note_parse(const char *text, size_t len, const struct verify_key *key, struct note *out) {
        *out = (struct note){0};
        /* Nothing behind the body may have an empty line, so the first one ends it. */
        const char *gap = len <= NOTE_MAX && plain(text, len) ? memmem(text, len, "\n\n", 2) : NULL;
        if (!gap)
                return NOTE_MALFORMED;
        struct text body = {text, gap + 1}, rest = {gap + 2, text + len};
        return parse_body(body, out) ? check_signatures(body, rest, key) : NOTE_MALFORMED;
}
