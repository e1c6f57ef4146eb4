/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The stream of one agent: format, chain, buffer, write, sync.
 *
 * A line is accepted only when its room on disk is there and the stream is sound; after any fault the file is cut
 * back to whole lines and the stream refuses everything, so what is in the file always verifies.
 */
#include "audit.h"

#include "audit_digest.h"
#include "audit_internal.h"

#include "common/util.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>

static int poison(struct audit_stream *s, int code) {
        if (!s->poison)
                s->poison = code;
        return -s->poison;
}

/* After a failed write of p, of which n bytes got out: back to the last whole line. */
static void cut_back(struct audit_stream *s, const char *p, size_t n) {
        const char *end = n ? memrchr(p, '\n', n) : NULL;

        size_t whole = end ? (size_t)(end + 1 - p) : 0;
        audit_tree_add(s, p, whole);
        s->size += whole;
        if (ftruncate(s->fd, (off_t)s->size) == 0)
                (void)fdatasync(s->fd);
}

static int write_lines(struct audit_stream *s, const char *p, size_t n) {
        size_t done = 0;

        while (done < n) {
                ssize_t r = write(s->fd, p + done, n - done);
                if (r < 0 && errno == EINTR)
                        continue;
                if (r <= 0) {
                        int code = r < 0 ? errno : EIO;
                        cut_back(s, p, done);
                        return poison(s, code);
                }
                done += (size_t)r;
        }
        if (done > 0)
                s->dirty = true;
        s->size += done;
        audit_tree_add(s, p, done);
        return 0;
}

/* Behind what is held already. */
static int put_by(struct audit_stream *s) {
        if (s->held_room - s->n_held < s->used) {
                size_t room = (s->n_held + s->used) * 2;
                char *more = realloc(s->held, room);
                if (!more)
                        return poison(s, ENOMEM);
                s->held = more;
                s->held_room = room;
        }
        if (s->used > 0)
                memcpy(s->held + s->n_held, s->buf, s->used);
        s->n_held += s->used;
        return 0;
}

static int write_out(struct audit_stream *s) {
        if (s->poison && !s->holding)
                return -s->poison;
        int r = s->holding ? put_by(s) : write_lines(s, s->buf, s->used);
        if (r == 0 || !s->holding)
                s->used = 0;
        return r < 0 ? r : -s->poison;
}

static int sync_file(struct audit_stream *s) {
        if (!s->dirty)
                return 0;
        /* After a failed fdatasync the kernel may have thrown the pages away: nothing can be promised any more. */
        if (fdatasync(s->fd) < 0)
                return poison(s, errno);
        s->dirty = false;
        return 0;
}

static int sync_out(struct audit_stream *s) {
        int r = write_out(s);

        s->sync_asked |= s->holding;
        return r < 0 || s->holding ? r : sync_file(s);
}

/* Blocks for the largest line behind all accepted ones; a full disk shows here, before a line is accepted. */
static int reserve(struct audit_stream *s) {
        uint64_t end = s->size + s->n_held + s->used;

        if (s->no_reserve || s->reserved >= end + RECORD_LINE_MAX)
                return 0;
        while (fallocate(s->fd, FALLOC_FL_KEEP_SIZE, (off_t)s->size, (off_t)(end - s->size + AUDIT_RESERVE)) < 0) {
                if (errno == EINTR)
                        continue;
                if (errno == EOPNOTSUPP || errno == ENOSYS) {
                        s->no_reserve = true;
                        return 0;
                }
                int code = errno;
                (void)sync_out(s); /* what was accepted has its room */
                return poison(s, code);
        }
        s->reserved = end + AUDIT_RESERVE;
        return 0;
}

static int append(struct audit_stream *s, const struct record *r) {
        int fault = s->poison ? -s->poison : reserve(s);

        if (fault == 0 && sizeof(s->buf) - s->used < RECORD_LINE_MAX)
                fault = write_out(s);
        if (fault < 0)
                return fault;
        const struct record_head head = {
                .crew = s->crew,
                .agent = s->agent,
                .incarnation = s->incarnation,
                .seq = s->seq + 1,
                .time_ns = crew_realtime_ns(),
                .prev_hex = s->prev_hex,
        };
        size_t n = record_format(r, &head, s->buf + s->used, sizeof(s->buf) - s->used);
        audit_digest_hex(s->buf + s->used, n - 1, s->prev_hex);
        s->used += n;
        s->seq++;
        return 0;
}

int audit_append(struct audit_stream *s, const struct record *r, uint64_t *seq) {
        int fault = append(s, r);

        if (fault < 0)
                return fault;
        /* Folded observations and their sums are counted when they are made. */
        s->counts[r->kind]++;
        s->sign_soon |= r->kind == RECORD_KILL || r->kind == RECORD_TERMINATED;
        if (seq)
                *seq = s->seq;
        return 0;
}

int audit_append_durable(struct audit_stream *s, const struct record *r, uint64_t *seq) {
        int fault = audit_append(s, r, seq);

        return fault < 0 ? fault : sync_out(s);
}

static int flush_window(struct audit_stream *s) {
        if (s->fold.n + s->fold.overflowed > 0 && s->clock() - s->fold.window_start_ns >= AUDIT_FOLD_WINDOW_NS)
                return audit_fold_flush(s);
        return 0;
}

int audit_sync(struct audit_stream *s) {
        int r = flush_window(s);

        return r < 0 ? r : sync_out(s);
}

int audit_sync_begin(struct audit_stream *s, int *fd) {
        int r = flush_window(s);

        if (r == 0)
                r = write_out(s);
        if (r < 0 || !s->dirty)
                return r;
        s->begun = s->size;
        *fd = s->sync_fd;
        return 1;
}

int audit_sync_end(struct audit_stream *s, int error) {
        if (error)
                return poison(s, error);
        if (s->size == s->begun)
                s->dirty = false;
        return s->poison ? -s->poison : 0;
}

int audit_write(struct audit_stream *s) {
        return write_out(s);
}

void audit_hold(struct audit_stream *s) {
        s->holding = true;
}

int audit_held(struct audit_stream *s, const char **lines, size_t *n, uint64_t *at) {
        int r = s->holding && s->used > 0 ? write_out(s) : 0;

        *lines = s->held;
        *n = s->n_held;
        *at = s->size;
        return r;
}

int audit_release(struct audit_stream *s, bool go_on) {
        size_t n = s->n_held + s->used;

        if (!s->holding || (go_on && n == 0 && !s->sync_asked))
                return 0;
        /* What was accepted before a fault, too. */
        int r = write_lines(s, s->held, s->n_held);
        if (r == 0)
                r = write_lines(s, s->buf, s->used);
        s->n_held = s->used = 0;
        if (s->sync_asked && r == 0)
                r = sync_file(s);
        s->sync_asked = false;
        s->holding = go_on;
        if (n < s->held_room / 8 || !go_on) { /* a burst is over */
                free(crew_steal_ptr(&s->held));
                s->held_room = 0;
        }
        return r < 0 ? r : s->poison ? -s->poison : s->dirty;
}

bool audit_poisoned(const struct audit_stream *s) {
        return s->poison != 0;
}

uint64_t audit_seq(const struct audit_stream *s) {
        return s->seq;
}

uint64_t audit_count(const struct audit_stream *s, enum record_kind kind) {
        return s->counts[kind];
}

const char *audit_path(const struct audit_stream *s) {
        return s->path;
}

void audit_set_incarnation(struct audit_stream *s, uint32_t incarnation) {
        s->incarnation = incarnation;
}

void audit_set_clock(struct audit_stream *s, uint64_t (*clock)(void)) {
        s->clock = clock;
        s->fold.tokens_ns = clock();
}

static int open_log(struct audit_stream *s, struct crew_err *err) {
        struct stat st;

        s->fd = openat(s->dirfd, "log.jsonl", O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0600);
        if (s->fd < 0)
                return crew_fail_errno(err, "cannot open %s", s->path);
        s->sync_fd = openat(s->dirfd, "log.jsonl", O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
        if (s->sync_fd < 0)
                return crew_fail_errno(err, "cannot open %s", s->path);
        if (fstat(s->fd, &st) < 0)
                return crew_fail_errno(err, "cannot stat %s", s->path);
        if (!S_ISREG(st.st_mode) || st.st_nlink != 1 || st.st_uid != geteuid())
                return crew_fail(err, EINVAL, "%s is not a file of our own", s->path);
        if (flock(s->fd, LOCK_EX | LOCK_NB) < 0)
                return errno == EWOULDBLOCK ? crew_fail(err, EBUSY, "%s is being written by another process", s->path)
                                            : crew_fail_errno(err, "cannot lock %s", s->path);
        return 0;
}

static int write_opened(struct audit_stream *s, const struct audit_tail *tail, struct crew_err *err) {
        _cleanup_free_ struct record *r = malloc(sizeof(*r));

        if (!r)
                return crew_fail(err, ENOMEM, "out of memory opening %s", s->path);
        record_init(r, RECORD_LOG_OPENED, "crewd");
        record_str(r, "by", "crewd " CREW_VERSION);
        record_str(r, "found",
                   tail->unlike       ? tail->unlike
                   : tail->torn_bytes ? "torn"
                   : tail->records    ? "continued"
                                      : "new");
        record_int(r, "records", (int64_t)tail->records);
        if (tail->unlike)
                record_int(r, "checkpoint_records", (int64_t)tail->checkpoint_records);
        if (tail->torn_bytes) {
                record_int(r, "torn_bytes", (int64_t)tail->torn_bytes);
                record_str(r, "torn_file", tail->torn_file);
        }
        int fault = audit_append_durable(s, r, NULL);
        return fault < 0 ? crew_fail(err, -fault, "cannot write %s: %s", s->path, strerror(-fault)) : 0;
}

static int start(struct audit_stream *s, const char *dir, struct crew_err *err) {
        char path[PATH_MAX];
        struct audit_tail tail;

        if ((size_t)snprintf(path, sizeof(path), "%s/%s", dir, s->agent) >= sizeof(path) ||
            (size_t)snprintf(s->path, sizeof(s->path), "%s/%s/log.jsonl", dir, s->agent) >= sizeof(s->path))
                return crew_fail(err, ENAMETOOLONG, "audit path too long: %s", dir);
        int r = crew_mkdir_p(path, 0700, err);
        if (r < 0)
                return r;
        s->dirfd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
        if (s->dirfd < 0)
                return crew_fail_errno(err, "cannot open %s", path);
        if ((r = open_log(s, err)) < 0 || (r = audit_tail_check(s, &tail, err)) < 0)
                return r;
        if (fsync(s->dirfd) < 0)
                return crew_fail_errno(err, "cannot sync %s", path);
        s->seq = tail.records;
        s->size = tail.size;
        memcpy(s->prev_hex, tail.prev_hex, sizeof(s->prev_hex));
        if ((r = audit_tree_restore(s, &tail, err)) < 0)
                return r;
        return write_opened(s, &tail, err);
}

static void close_files(struct audit_stream *s) {
        crew_close(&s->fd);
        crew_close(&s->sync_fd);
        crew_close(&s->dirfd);
}

int audit_open(const char *dir, const char *crew, const char *agent, const struct sign_key *key, struct audit_stream **out,
               struct crew_err *err) {
        if (!crew_name_ok(crew) || (!crew_agent_name_ok(agent) && strcmp(agent, AUDIT_CREW) != 0))
                return crew_fail(err, EINVAL, "bad crew or agent name for an audit stream");
        /* malloc: the buffer's pages are touched only as far as lines reach. */
        struct audit_stream *s = malloc(sizeof(*s));
        if (!s)
                return crew_fail(err, ENOMEM, "out of memory opening the audit stream of %s", agent);
        memset(s, 0, offsetof(struct audit_stream, buf));
        s->fd = s->sync_fd = s->dirfd = -1;
        s->key = key;
        snprintf(s->crew, sizeof(s->crew), "%s", crew);
        snprintf(s->agent, sizeof(s->agent), "%s", agent);
        s->fold.tokens = AUDIT_FOLD_BURST;
        audit_set_clock(s, crew_now_ns);
        int r = start(s, dir, err);
        if (r < 0) {
                close_files(s);
                free(s);
                return r;
        }
        *out = s;
        return 0;
}

struct audit_stream *audit_close(struct audit_stream *s) {
        if (!s)
                return NULL;
        (void)audit_fold_flush(s);
        (void)audit_release(s, false);
        (void)sync_out(s);
        (void)audit_checkpoint_now(s, NULL);
        if (!s->no_reserve && !s->poison)
                (void)!ftruncate(s->fd, (off_t)s->size); /* gives the reserved blocks back */
        close_files(s);
        fold_fini(&s->fold);
        free(s->held);
        free(s);
        return NULL;
}
