/* SPDX-License-Identifier: Apache-2.0 */
/* Reading one audit stream: forward, from the end backwards, and as it grows. */
#include "log_file.h"

#include "common/util.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#define CHUNK ((size_t)64 * 1024)

struct log_file {
        int fd;     /* owned */
        char *path; /* owned */
        char *buf;  /* owned; bytes read, not yet given out: [taken, used) */
        size_t taken, used, room;
        uint64_t offset; /* of the file, where the next read starts */
        bool skipping;   /* inside a line that was too long */
};

static int open_at(const char *path) {
        int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
        struct stat st;

        if (fd < 0)
                return -errno;
        if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode)) {
                close(fd);
                return -EINVAL;
        }
        return fd;
}

int log_file_open(const char *path, struct log_file **out, struct crew_err *err) {
        struct log_file *f = calloc(1, sizeof(*f));

        if (f)
                f->fd = -1;
        if (!f || !(f->path = strdup(path)) || !(f->buf = malloc(CHUNK))) {
                log_file_close(f);
                return crew_fail(err, ENOMEM, "out of memory");
        }
        f->room = CHUNK;
        f->fd = open_at(path);
        if (f->fd < 0) {
                int r = f->fd;
                log_file_close(f);
                return crew_fail(err, -r, "cannot read %s: %s", path, r == -EINVAL ? "not a regular file" : strerror(-r));
        }
        *out = f;
        return 0;
}

struct log_file *log_file_close(struct log_file *f) {
        if (!f)
                return NULL;
        crew_close(&f->fd);
        free(f->path);
        free(f->buf);
        free(f);
        return NULL;
}

static void start_at(struct log_file *f, uint64_t offset) {
        f->offset = offset;
        f->taken = f->used = 0;
        f->skipping = false;
}

/* Room behind [taken, used); the buffer never grows beyond one longest line and a chunk. */
static int make_room(struct log_file *f) {
        if (f->taken > 0) {
                memmove(f->buf, f->buf + f->taken, f->used - f->taken);
                f->used -= f->taken;
                f->taken = 0;
        }
        if (f->room - f->used >= CHUNK / 2)
                return 0;
        char *grown = realloc(f->buf, f->room * 2);
        if (!grown)
                return -ENOMEM;
        f->buf = grown;
        f->room *= 2;
        return 0;
}

/* Bytes read: 0 at the end of what is there. */
static ssize_t fill(struct log_file *f) {
        int r = make_room(f);
        ssize_t n;

        if (r < 0)
                return r;
        do
                n = pread(f->fd, f->buf + f->used, f->room - f->used, (off_t)f->offset);
        while (n < 0 && errno == EINTR);
        if (n < 0)
                return -errno;
        f->used += (size_t)n;
        f->offset += (size_t)n;
        return n;
}

int log_file_next(struct log_file *f, const char **line, size_t *n) {
        size_t scanned = 0;

        for (;;) {
                char *from = f->buf + f->taken, *newline = memchr(from + scanned, '\n', f->used - f->taken - scanned);
                size_t have = f->used - f->taken;
                if (newline || have > LOG_FILE_LINE_MAX) {
                        bool rest_of_long = f->skipping;
                        *line = from;
                        *n = newline ? (size_t)(newline - from) : LOG_FILE_LINE_MAX;
                        f->taken += newline ? *n + 1 : have;
                        f->skipping = !newline;
                        scanned = 0;
                        if (rest_of_long)
                                continue;
                        return 1;
                }
                scanned = have;
                ssize_t r = fill(f);
                if (r <= 0)
                        return (int)r;
        }
}

/* Calls step for each whole line in buf[0, n), newest first; base is buf's offset in the file.  True: *start is set. */
static bool step_back(const char *buf, size_t n, uint64_t base, enum log_file_step (*step)(const char *, size_t, void *),
                      void *user, uint64_t *start) {
        size_t end = n;

        while (end > 0) {
                const char *before = end > 1 ? memrchr(buf, '\n', end - 1) : NULL;
                size_t from = before ? (size_t)(before - buf) + 1 : 0;
                switch (step(buf + from, end - 1 - from, user)) {
                case LOG_FILE_ON:
                        break;
                case LOG_FILE_HERE:
                        *start = base + from;
                        return true;
                case LOG_FILE_AFTER:
                        *start = base + end;
                        return true;
                }
                end = from;
        }
        return false;
}

/* Where the last whole line of the file ends; a torn tail is left to forward reading. */
static int whole_end(struct log_file *f, uint64_t *end) {
        struct stat st;
        char chunk[4096];

        if (fstat(f->fd, &st) < 0)
                return -errno;
        for (uint64_t at = (uint64_t)st.st_size; at > 0;) {
                size_t n = (size_t)MIN_OF(at, (uint64_t)sizeof(chunk));
                ssize_t r = pread(f->fd, chunk, n, (off_t)(at - n));
                if (r != (ssize_t)n)
                        return r < 0 ? -errno : -EIO;
                const char *newline = memrchr(chunk, '\n', n);
                if (newline) {
                        *end = at - n + (size_t)(newline - chunk) + 1;
                        return 0;
                }
                at -= n;
        }
        *end = 0;
        return 0;
}

int log_file_seek_back(struct log_file *f, enum log_file_step (*step)(const char *line, size_t n, void *user), void *user) {
        _cleanup_free_ char *buf = NULL;
        size_t window = CHUNK;
        uint64_t end = 0, start = 0;
        int r = whole_end(f, &end);

        /* Each window is cut to whole lines; the piece of a line at its front belongs to the next, earlier one. */
        while (r == 0 && end > 0) {
                size_t n = (size_t)MIN_OF(end, (uint64_t)window);
                char *grown = realloc(buf, n);
                if (!grown)
                        return -ENOMEM;
                buf = grown;
                if (pread(f->fd, buf, n, (off_t)(end - n)) != (ssize_t)n)
                        return -EIO;
                const char *first = end == n ? buf : memchr(buf, '\n', n);
                size_t skip = end == n ? 0 : (size_t)(first - buf) + 1;
                if (skip == n && window < 4 * (size_t)LOG_FILE_LINE_MAX) { /* one line fills the window */
                        window *= 2;
                        continue;
                }
                if (skip == n) { /* no record is that long: start behind it */
                        start = end;
                        break;
                }
                if (step_back(buf + skip, n - skip, end - n + skip, step, user, &start))
                        break;
                end -= n - skip;
                window = CHUNK;
        }
        start_at(f, start);
        return r;
}

int log_file_seek_end(struct log_file *f) {
        uint64_t end = 0;
        int r = whole_end(f, &end);

        start_at(f, end);
        return r;
}

int log_file_renew(struct log_file *f, bool *cut) {
        struct stat mine, there;

        *cut = false;
        if (fstat(f->fd, &mine) < 0)
                return -errno;
        if (stat(f->path, &there) < 0) /* between a rename and the new file; or gone for good */
                return errno == ENOENT ? 0 : -errno;
        if (there.st_dev == mine.st_dev && there.st_ino == mine.st_ino) {
                *cut = (uint64_t)mine.st_size < f->offset;
                if (*cut)
                        start_at(f, 0);
                return *cut;
        }
        int fd = open_at(f->path);
        if (fd < 0)
                return fd == -ENOENT ? 0 : fd;
        close(f->fd);
        f->fd = fd;
        start_at(f, 0);
        return 1;
}

uint64_t log_line_time(const char *line, size_t n) {
        /* Quotes inside values are escaped in a canonical line, so this can only be the key. */
        const char *key = memmem(line, n, "\"t\":", 4);
        uint64_t t = 0;

        if (!key)
                return 0;
        for (const char *p = key + 4; p < line + n && *p >= '0' && *p <= '9'; p++) {
                if (__builtin_mul_overflow(t, 10u, &t) || __builtin_add_overflow(t, (uint64_t)(*p - '0'), &t))
                        return 0;
        }
        return t;
}
