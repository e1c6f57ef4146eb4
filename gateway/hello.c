/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A reader that cannot leave its bytes: every get is checked, and one failed get fails all later ones.
 *
 * Strict where leniency would let the server see another name than we do: one server_name extension with exactly one
 * entry of type host_name, no byte left over in any vector.
 */
#include "hello.h"

#include "common/util.h"

#include <stdbool.h>
#include <string.h>

#define RECORD_CHANGE_CIPHER_SPEC 0x14 /* the first of the record types */
#define RECORD_ALERT 0x15
#define RECORD_HANDSHAKE 0x16
#define RECORD_DATA 0x17
#define RECORD_HEARTBEAT 0x18 /* the last */
#define RECORD_HEAD 5u
#define RECORD_MAX (16u * 1024)
#define CLIENT_HELLO 1
#define SERVER_HELLO 2
#define EXT_SERVER_NAME 0
#define NAME_HOST 0

struct reader {
        const uint8_t *p;
        size_t n;
        bool failed;
};

static struct reader take(struct reader *r, size_t n) {
        struct reader part = {.p = r->p, .n = n};

        if (r->failed || n > r->n) {
                r->failed = true;
                return (struct reader){.failed = true};
        }
        r->p += n;
        r->n -= n;
        return part;
}

static uint32_t number(struct reader *r, size_t bytes) {
        struct reader part = take(r, bytes);
        uint32_t v = 0;

        for (size_t i = 0; i < part.n; i++)
                v = v << 8 | part.p[i];
        return v;
}

/* A vector with a length of so many bytes in front. */
static struct reader vector(struct reader *r, size_t length_bytes) {
        return take(r, number(r, length_bytes));
}

static bool read_server_name(struct reader ext, char name[HELLO_NAME_MAX]) {
        struct reader list = vector(&ext, 2);
        uint32_t type = number(&list, 1);
        struct reader host = vector(&list, 2);

        if (ext.failed || ext.n || list.failed || list.n || host.failed || type != NAME_HOST)
                return false;
        if (host.n == 0 || host.n >= HELLO_NAME_MAX)
                return false;
        for (size_t i = 0; i < host.n; i++) {
                if (host.p[i] <= ' ' || host.p[i] >= 0x7f)
                        return false;
                name[i] = (char)host.p[i];
        }
        name[host.n] = '\0';
        return true;
}

static enum hello read_extensions(struct reader exts, char name[HELLO_NAME_MAX]) {
        enum hello what = HELLO_UNNAMED;

        while (exts.n > 0 && !exts.failed) {
                uint32_t type = number(&exts, 2);
                struct reader ext = vector(&exts, 2);
                if (exts.failed || type != EXT_SERVER_NAME)
                        continue;
                if (what == HELLO_NAMED || !read_server_name(ext, name))
                        return HELLO_BAD;
                what = HELLO_NAMED;
        }
        return exts.failed ? HELLO_BAD : what;
}

static enum hello read_client_hello(struct reader body, char name[HELLO_NAME_MAX]) {
        take(&body, 2 + 32); /* legacy_version, random */
        struct reader session = vector(&body, 1), suites = vector(&body, 2), compressions = vector(&body, 1);

        if (body.failed || session.n > 32 || suites.n < 2 || suites.n % 2 || compressions.n < 1)
                return HELLO_BAD;
        if (body.n == 0)
                return HELLO_UNNAMED; /* no extensions at all: before TLS 1.2 */
        struct reader exts = vector(&body, 2);
        return body.failed || body.n ? HELLO_BAD : read_extensions(exts, name);
}

/* The handshake message may be cut into several records: puts its bytes together, so far as they are there. */
static enum hello gather(struct reader *r, uint8_t *out, size_t *used) {
        *used = 0;
        while (r->n > 0) {
                if (r->p[0] != RECORD_HANDSHAKE || (r->n > 1 && r->p[1] != 3))
                        return HELLO_BAD;
                if (r->n < RECORD_HEAD)
                        return HELLO_MORE;
                size_t length = (size_t)r->p[3] << 8 | r->p[4];
                if (length == 0 || length > RECORD_MAX)
                        return HELLO_BAD;
                take(r, RECORD_HEAD);
                struct reader part = take(r, length < r->n ? length : r->n);
                memcpy(out + *used, part.p, part.n);
                *used += part.n;
                if (*used >= 1 && out[0] != CLIENT_HELLO)
                        return HELLO_BAD;
                size_t whole = *used >= 4 ? 4 + ((size_t)out[1] << 16 | (size_t)out[2] << 8 | out[3]) : SIZE_MAX;
                /* A second message in the same record would be read by the server, not by us. */
                if (*used - part.n + length > whole)
                        return HELLO_BAD;
                /* What follows (early data) is in records of its own and not our business. */
                if (*used == whole)
                        return HELLO_NAMED;
                if (part.n < length)
                        return HELLO_MORE;
        }
        return HELLO_MORE;
}

/* A ClientHello in the form of SSL 2, which has no room for a name: a record of at most 16 KiB, the message, a version of
 * TLS. */
static enum hello is_ssl2_form(const uint8_t *b, size_t n) {
        static const struct {
                uint8_t mask, want;
        } form[] = {{0xc0, 0x80}, {0, 0}, {0xff, CLIENT_HELLO}, {0xff, 3}, {0xf8, 0}};

        for (size_t i = 0; i < ELEMENTSOF(form); i++) {
                if (i == n)
                        return HELLO_MORE;
                if ((b[i] & form[i].mask) != form[i].want)
                        return HELLO_PLAIN;
        }
        return HELLO_UNNAMED;
}

/*
 * Servers differ in what they take for TLS: some skip a warning alert in front of the ClientHello, some do not mind which
 * version its record says, some take a hello in the form of SSL 2.  Whatever any of them might take for TLS is judged as
 * TLS, so that no hello goes by unread.  HELLO_PLAIN, HELLO_MORE, HELLO_UNNAMED in that form, or HELLO_NAMED: it is.
 */
static enum hello is_tls(const uint8_t *b, size_t n) {
        if (n == 0)
                return HELLO_MORE;
        if (b[0] & 0x80)
                return is_ssl2_form(b, n);
        if (b[0] < RECORD_CHANGE_CIPHER_SPEC || b[0] > RECORD_HEARTBEAT)
                return HELLO_PLAIN;
        if (n == 1)
                return HELLO_MORE;
        if (b[1] == 3)
                return HELLO_NAMED;
        if (b[1] > 0xf || (b[0] != RECORD_HANDSHAKE && b[0] != RECORD_ALERT))
                return HELLO_PLAIN;
        /* Another version: only what goes on like a ClientHello or a warning.  Lengths of other protocols look like this.
         */
        if (n <= RECORD_HEAD)
                return HELLO_MORE;
        if (b[0] == RECORD_HANDSHAKE)
                return b[5] == CLIENT_HELLO ? HELLO_NAMED : HELLO_PLAIN;
        return b[3] == 0 && b[4] == 2 && b[5] <= 2 ? HELLO_NAMED : HELLO_PLAIN;
}

enum hello hello_parse(const uint8_t *bytes, size_t n, char name[HELLO_NAME_MAX], size_t *end) {
        struct reader records = {.p = bytes, .n = n};
        size_t used;

        name[0] = '\0';
        *end = 0;
        enum hello what = is_tls(bytes, n);
        if (what == HELLO_UNNAMED)
                *end = n;
        if (what != HELLO_NAMED)
                return what;
        uint8_t message[HELLO_MAX]; /* zeroed where it stands: not for what is no TLS */
        what = n > HELLO_MAX ? HELLO_BAD : gather(&records, message, &used);
        if (what == HELLO_MORE)
                return n == HELLO_MAX ? HELLO_BAD : HELLO_MORE;
        if (what != HELLO_NAMED)
                return what;
        struct reader r = {.p = message, .n = used};
        take(&r, 1);
        struct reader body = vector(&r, 3);
        what = read_client_hello(body, name);
        if (what != HELLO_NAMED)
                name[0] = '\0';
        if (what == HELLO_NAMED || what == HELLO_UNNAMED)
                *end = n - records.n;
        return what;
}

/* --- the second hello --- */

/* Bytes of the whole records that a server passes over before it (RFC 8446, 4.2.10 and D.4). */
static size_t passed_over(const uint8_t *b, size_t n) {
        size_t at = 0;

        while (n - at >= RECORD_HEAD && (b[at] == RECORD_CHANGE_CIPHER_SPEC || b[at] == RECORD_DATA)) {
                const size_t whole = RECORD_HEAD + ((size_t)b[at + 3] << 8 | b[at + 4]);
                if (n - at < whole)
                        break;
                at += whole;
        }
        return at;
}

enum hello hello_parse_second(const uint8_t *bytes, size_t n, char name[HELLO_NAME_MAX]) {
        const size_t at = passed_over(bytes, n);
        enum hello what = HELLO_MORE;
        size_t end;

        name[0] = '\0';
        if (at == n || (bytes[at] != RECORD_CHANGE_CIPHER_SPEC && bytes[at] != RECORD_DATA))
                what = hello_parse(bytes + at, n - at, name, &end);
        if (what == HELLO_PLAIN || (what == HELLO_MORE && n >= HELLO_MAX))
                return HELLO_BAD;
        return what;
}

/* Of a ServerHello only its random tells (RFC 8446, 4.1.3): SHA-256 of "HelloRetryRequest". */
enum hello_answer hello_answer_parse(const uint8_t *bytes, size_t n) {
        static const uint8_t random[32] = {0xcf, 0x21, 0xad, 0x74, 0xe5, 0x9a, 0x61, 0x11, 0xbe, 0x1d, 0x8c,
                                           0x02, 0x1e, 0x65, 0xb8, 0x91, 0xc2, 0xa2, 0x11, 0x16, 0x7a, 0xbb,
                                           0x8c, 0x5e, 0x07, 0x9e, 0x09, 0xe2, 0xc8, 0xa8, 0x33, 0x9c};
        enum { TYPE = RECORD_HEAD, RANDOM = RECORD_HEAD + 6 };

        for (size_t i = 0; i < HELLO_ANSWER_BYTES; i++) {
                if (i == n)
                        return HELLO_ANSWER_MORE;
                if ((i == 0 && bytes[i] != RECORD_HANDSHAKE) || (i == 1 && bytes[i] != 3) ||
                    (i == TYPE && bytes[i] != SERVER_HELLO) || (i >= RANDOM && bytes[i] != random[i - RANDOM]))
                        return HELLO_ANSWER_OTHER;
        }
        return HELLO_ANSWER_RETRY;
}
