/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The tree over the lines of a stream that is opened again.
 *
 * Our own checkpoint has its right edge, so that only what was written after it is read.  It is believed when its
 * signature, its origin and its root are right and the lines behind it lead to where the chain stands; else the tree is
 * made anew.  An authentic one that says more than the file has, or other lines, is what evidence of a change looks like,
 * and so is none at all where the key has been used before; both go on record.  With a new key it is a log of an earlier
 * version.
 */
#include "audit_internal.h"

#include "audit_digest.h"

#include "common/util.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#define BLOCK (2 * RECORD_LINE_MAX)

void audit_origin(const struct audit_stream *s, char out[NOTE_ORIGIN_MAX]) {
        snprintf(out, NOTE_ORIGIN_MAX, "crewd/%s/%s", s->crew, s->agent);
}

void audit_tree_add(struct audit_stream *s, const char *lines, size_t n) {
        for (const char *end = lines + n; lines < end;) {
                const char *nl = memchr(lines, '\n', (size_t)(end - lines));
                crew_assert(nl);
                merkle_add(&s->tree, lines, (size_t)(nl - lines));
                lines = nl + 1;
        }
}

/* False: there is none that is ours. */
static bool read_checkpoint(const struct audit_stream *s, struct note *out) {
        char text[NOTE_MAX], origin[NOTE_ORIGIN_MAX];
        struct stat st;

        if (!s->key)
                return false;
        _cleanup_close_ int fd = openat(s->dirfd, "checkpoint", O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
        if (fd < 0 || fstat(fd, &st) < 0 || !S_ISREG(st.st_mode) || st.st_size <= 0 || st.st_size > NOTE_MAX ||
            audit_read_at(fd, text, (size_t)st.st_size, 0) < 0)
                return false;
        audit_origin(s, origin);
        return note_parse(text, (size_t)st.st_size, sign_key_public(s->key), out) == NOTE_OK &&
               strcmp(out->origin, origin) == 0;
}

static bool root_is(const struct merkle *m, const uint8_t *root) {
        uint8_t own[CREW_SHA256_BYTES];

        merkle_root(m, own);
        return memcmp(own, root, sizeof(own)) == 0;
}

/* Adds the lines from off to end; on the way, whether the tree is as the checkpoint says.  A line that is too long to be a
 * record is taken in pieces: whoever checks the stream will say what is wrong with it. */
static int add_lines(struct audit_stream *s, uint64_t off, uint64_t end, const struct note *note, bool *agrees) {
        _cleanup_free_ char *buf = malloc(BLOCK);
        int r;

        if (!buf)
                return -ENOMEM;
        while (off < end) {
                size_t n = (size_t)MIN_OF(end - off, (uint64_t)BLOCK), done = 0;
                if ((r = audit_read_at(s->fd, buf, n, off)) < 0)
                        return r;
                for (const char *nl; (nl = memchr(buf + done, '\n', n - done));) {
                        merkle_add(&s->tree, buf + done, (size_t)(nl - buf) - done);
                        done = (size_t)(nl - buf) + 1;
                        if (note && s->tree.n == note->lines)
                                *agrees = root_is(&s->tree, note->root);
                }
                if (done == 0) {
                        merkle_add(&s->tree, buf, n);
                        done = n;
                }
                off += done;
        }
        return 0;
}

/* 1: the tree is where the chain is; 0: it does not get there from this checkpoint. */
static int go_on_from(struct audit_stream *s, const struct note *note, const struct audit_tail *t) {
        char last;

        if (!note->has_edge || note->bytes > t->size || note->lines > t->records ||
            !merkle_restore(&s->tree, note->lines, note->edge, note->edge_len) || !root_is(&s->tree, note->root))
                return 0;
        if (note->bytes > 0 && (audit_read_at(s->fd, &last, 1, note->bytes - 1) < 0 || last != '\n'))
                return 0;
        int r = add_lines(s, note->bytes, t->size, NULL, NULL);
        return r < 0 ? r : s->tree.n == t->records;
}

static int make_anew(struct audit_stream *s, const struct note *note, struct audit_tail *t) {
        bool agrees = note && note->lines == 0;

        merkle_init(&s->tree, audit_digest_parts);
        int r = add_lines(s, 0, t->size, note, &agrees);
        if (note && !agrees) {
                t->unlike = note->lines > s->tree.n || (note->has_edge && note->bytes > t->size) ? "cut" : "changed";
                t->checkpoint_records = note->lines;
        }
        if (note && agrees)
                s->signed_lines = note->lines;
        return r;
}

/* An agent that never lived for a second may have none; the crew's own stream has one before there is a key. */
static bool should_have_one(const struct audit_stream *s, const struct audit_tail *t) {
        return s->key && !sign_key_is_new(s->key) && (t->records > 0 || strcmp(s->agent, AUDIT_CREW) == 0);
}

int audit_tree_restore(struct audit_stream *s, struct audit_tail *t, struct crew_err *err) {
        struct note note;
        bool ours = read_checkpoint(s, &note);

        if (!ours && should_have_one(s, t))
                t->unlike = "unsigned";
        merkle_init(&s->tree, audit_digest_parts);
        s->signed_ns = s->clock();
        int r = ours ? go_on_from(s, &note, t) : 0;
        if (r > 0)
                s->signed_lines = note.lines;
        if (r == 0)
                r = make_anew(s, ours ? &note : NULL, t);
        return r < 0 ? crew_fail(err, -r, "cannot read %s: %s", s->path, strerror(-r)) : 0;
}
