/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Checkpoints of a stream: when, of what, and how one gets on disk.
 *
 * The file is replaced as a whole, so that there is always one, and it is on disk before anybody is told of it.
 */
#include "audit_internal.h"

#include "common/util.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>

#define NEXT "checkpoint.next"

static bool has_waiting(const struct audit_stream *s) {
        return s->used + s->n_held > 0;
}

static bool has_unsigned(const struct audit_stream *s) {
        return s->key && !s->poison && (s->tree.n > s->signed_lines || has_waiting(s));
}

uint64_t audit_checkpoint_due(const struct audit_stream *s) {
        if (!has_unsigned(s))
                return UINT64_MAX;
        return s->sign_soon ? 0 : s->signed_ns + AUDIT_SIGN_NS;
}

/* Of what the file has. */
static void describe(const struct audit_stream *s, struct audit_checkpoint *out) {
        struct note *n = &out->note;

        *out = (struct audit_checkpoint){.key = s->key, .dirfd = s->dirfd, .first = s->signed_lines == 0};
        audit_origin(s, n->origin);
        n->lines = s->tree.n;
        n->bytes = s->size;
        n->has_edge = true;
        merkle_root(&s->tree, n->root);
        n->edge_len = merkle_edge(&s->tree, n->edge);
}

bool audit_checkpoint_begin(struct audit_stream *s, struct audit_checkpoint *out) {
        if (audit_checkpoint_due(s) > s->clock() || s->tree.n <= s->signed_lines)
                return false;
        describe(s, out);
        s->sign_soon = has_waiting(s) && s->sign_soon;
        return true;
}

int audit_checkpoint_write(const struct audit_checkpoint *c) {
        char text[NOTE_MAX];
        size_t n = note_format(&c->note, c->key, text);

        (void)unlinkat(c->dirfd, NEXT, 0); /* of a crewd before, or whatever somebody has put there */
        _cleanup_close_ int fd = openat(c->dirfd, NEXT, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);

        int r = fd < 0 ? -errno : crew_write_full(fd, text, n);
        if (r == 0 && (fsync(fd) < 0 || renameat(c->dirfd, NEXT, c->dirfd, "checkpoint") < 0))
                r = -errno;
        if (r == 0 && c->first && fsync(c->dirfd) < 0) /* later ones replace one that will do */
                r = -errno;
        return r;
}

void audit_checkpoint_end(struct audit_stream *s, const struct audit_checkpoint *c, int result) {
        if (result == 0)
                s->signed_lines = c->note.lines;
        s->signed_ns = s->clock();
}

uint64_t audit_signed_lines(const struct audit_stream *s) {
        return s->signed_lines;
}

int audit_checkpoint_now(struct audit_stream *s, struct audit_checkpoint *made) {
        _cleanup_free_ struct audit_checkpoint *c = s->key ? malloc(sizeof(*c)) : NULL;
        int r;

        if (!s->key)
                return 0;
        if (!c)
                return -ENOMEM;
        if ((r = audit_sync(s)) < 0 || s->dirty || s->tree.n <= s->signed_lines) /* dirty: held back */
                return r;
        describe(s, c);
        s->sign_soon = false;
        r = audit_checkpoint_write(c);
        audit_checkpoint_end(s, c, r);
        if (r == 0 && made)
                *made = *c;
        return r < 0 ? r : 1;
}
