/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Continuing a stream: where does it stand, and was the last write cut off?
 *
 * A crash can leave part of a line (or, after a power cut, a run of zero bytes) behind the last '\n'.  That part is
 * moved into a file of its own, never thrown away, and the stream goes on from the last whole line.
 */
#include "audit_digest.h"
#include "audit_internal.h"

#include "common/record_line.h"
#include "common/util.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#define TORN_FILES_MAX 1000

int audit_read_at(int fd, char *buf, size_t n, uint64_t off) {
        for (size_t done = 0; done < n;) {
                ssize_t r = pread(fd, buf + done, n - done, (off_t)(off + done));
                if (r < 0 && errno == EINTR)
                        continue;
                if (r <= 0)
                        return r < 0 ? -errno : -EIO;
                done += (size_t)r;
        }
        return 0;
}

/* Offset behind the last '\n' before end; 0 when there is none. */
static int find_line_end(int fd, uint64_t end, char *buf, uint64_t *out) {
        while (end > 0) {
                size_t n = (size_t)MIN_OF(end, (uint64_t)RECORD_LINE_MAX);
                int r = audit_read_at(fd, buf, n, end - n);
                if (r < 0)
                        return r;
                const char *nl = memrchr(buf, '\n', n);
                if (nl) {
                        *out = end - n + (size_t)(nl - buf) + 1;
                        return 0;
                }
                end -= n;
        }
        *out = 0;
        return 0;
}

static int copy_range(int from, uint64_t off, uint64_t end, int to, char *buf) {
        while (off < end) {
                size_t n = (size_t)MIN_OF(end - off, (uint64_t)RECORD_LINE_MAX);
                int r = audit_read_at(from, buf, n, off);
                if (r == 0)
                        r = crew_write_full(to, buf, n);
                if (r < 0)
                        return r;
                off += n;
        }
        return fsync(to) < 0 ? -errno : 0;
}

static int create_torn(int dirfd, struct audit_tail *t) {
        for (int i = 1; i <= TORN_FILES_MAX; i++) {
                snprintf(t->torn_file, sizeof(t->torn_file), "log.jsonl.torn-%d", i);
                int fd = openat(dirfd, t->torn_file, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
                if (fd >= 0 || errno != EEXIST)
                        return fd < 0 ? -errno : fd;
        }
        return -EEXIST;
}

static int put_torn_aside(const struct audit_stream *s, uint64_t end, char *buf, struct audit_tail *t,
                          struct crew_err *err) {
        _cleanup_close_ int fd = create_torn(s->dirfd, t);

        int r = fd < 0 ? fd : copy_range(s->fd, t->size, end, fd, buf);
        if (r == 0 && (ftruncate(s->fd, (off_t)t->size) < 0 || fsync(s->fd) < 0))
                r = -errno;
        t->torn_bytes = end - t->size;
        return r < 0 ? crew_fail(err, -r, "cannot move the cut-off end of %s aside: %s", s->path, strerror(-r)) : 0;
}

static int bad_tail(const struct audit_stream *s, struct crew_err *err) {
        return crew_fail(
                err, EBADMSG,
                "the last line of %s is not a record of %s/%s; check it with 'crewctl audit verify' and move it away",
                s->path, s->crew, s->agent);
}

static int read_last_line(const struct audit_stream *s, char *buf, struct audit_tail *t, struct crew_err *err) {
        struct record_line l;
        uint64_t start = 0;

        int r = find_line_end(s->fd, t->size - 1, buf, &start);
        size_t n = (size_t)(t->size - 1 - start);
        if (r == 0 && n >= RECORD_LINE_MAX)
                return bad_tail(s, err);
        if (r == 0)
                r = audit_read_at(s->fd, buf, n, start);
        if (r < 0)
                return crew_fail(err, -r, "cannot read %s: %s", s->path, strerror(-r));
        if (record_line_parse(buf, n, &l) || !record_line_is(&l, "crew", s->crew) ||
            !record_line_is(&l, "agent", s->agent) || !record_line_u64(&l, "seq", &t->records) || t->records == 0)
                return bad_tail(s, err);
        audit_digest_hex(buf, n, t->prev_hex);
        return 0;
}

int audit_tail_check(const struct audit_stream *s, struct audit_tail *out, struct crew_err *err) {
        _cleanup_free_ char *buf = malloc(RECORD_LINE_MAX);
        struct stat st;

        memset(out, 0, sizeof(*out));
        memset(out->prev_hex, '0', CREW_SHA256_HEX - 1);
        if (!buf)
                return crew_fail(err, ENOMEM, "out of memory opening %s", s->path);
        if (fstat(s->fd, &st) < 0)
                return crew_fail_errno(err, "cannot stat %s", s->path);
        int r = find_line_end(s->fd, (uint64_t)st.st_size, buf, &out->size);
        if (r < 0)
                return crew_fail(err, -r, "cannot read %s: %s", s->path, strerror(-r));
        if (out->size < (uint64_t)st.st_size)
                r = put_torn_aside(s, (uint64_t)st.st_size, buf, out, err);
        return r < 0 || out->size == 0 ? r : read_last_line(s, buf, out, err);
}
