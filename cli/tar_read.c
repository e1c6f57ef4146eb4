/* SPDX-License-Identifier: Apache-2.0 */
/* Unpacking an archive that anybody may have made into a directory that nobody else writes. */
#include "tar.h"

#include "common/state_version.h"
#include "common/tree.h"
#include "common/util.h"
#include "tar_block.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#define PAX_MAX (64u * 1024)

struct reader {
        int fd, top;
        uint64_t left_max; /* bytes that may still be unpacked */
        struct tar_counts *counts;
        struct crew_err *err;
        char path[TREE_PATH_MAX + 8]; /* of the entry; "./" may stand before it */
        bool have_path, have_size;
        uint64_t size;
};

static int bad(struct reader *r, const char *what) {
        return crew_fail(r->err, EINVAL, "not an archive that can be imported: %s", what);
}

static int bad_entry(struct reader *r, const char *what) {
        return crew_fail(r->err, EINVAL, "'%.300s' %s", r->path, what);
}

static int get(struct reader *r, void *p, size_t n) {
        int k = crew_read_full(r->fd, p, n);

        return k == -EPIPE ? bad(r, "it is cut off") : k < 0 ? crew_fail(r->err, -k, "cannot read: %s", strerror(-k)) : 0;
}

/* Octal digits, then NULs or blanks to the end. */
static int parse_octal(const char *p, size_t width, uint64_t *out) {
        size_t i = 0;

        *out = 0;
        while (i < width && p[i] == ' ')
                i++;
        for (; i < width && p[i] >= '0' && p[i] <= '7'; i++) {
                if (*out >> 60)
                        return -EINVAL;
                *out = *out << 3 | (uint64_t)(p[i] - '0');
        }
        for (; i < width; i++) {
                if (p[i] != '\0' && p[i] != ' ')
                        return -EINVAL;
        }
        return 0;
}

/* --- names --- */

/* Relative, without empty parts, "." and "..", not too long and no deeper than what is exported; "./" in front and one "/"
 * behind are dropped. */
static int check_path(struct reader *r) {
        char *p = r->path;
        unsigned depth = 0;
        size_t n;

        while (strncmp(p, "./", 2) == 0)
                memmove(p, p + 2, strlen(p + 2) + 1);
        n = strlen(p);
        if (n > 0 && p[n - 1] == '/')
                p[--n] = '\0';
        if (n == 0 || strcmp(p, ".") == 0) {
                p[0] = '\0'; /* the top itself */
                return 0;
        }
        if (p[0] == '/')
                return bad_entry(r, "is an absolute path");
        for (const char *part = p;; part++) {
                size_t len = strcspn(part, "/");
                if (len == 0 || len > NAME_MAX || (len == 1 && part[0] == '.') || (len == 2 && strncmp(part, "..", 2) == 0))
                        return bad_entry(r, "is not a plain relative path");
                if (++depth > TREE_DEPTH_MAX)
                        return bad_entry(r, "lies too deep");
                part += len;
                if (!*part)
                        return 0;
        }
}

/* GNU's and v7's headers have no prefix: the one has times there. */
static int header_path(struct reader *r, const struct tar_header *h, bool *slash) {
        bool prefix = memcmp(h->magic, "ustar", 6) == 0 && h->prefix[0];

        if (!r->have_path)
                snprintf(r->path, sizeof(r->path), "%.*s%s%.*s", prefix ? (int)sizeof(h->prefix) : 0, h->prefix,
                         prefix ? "/" : "", (int)sizeof(h->name), h->name);
        size_t n = strlen(r->path);
        *slash = n > 0 && r->path[n - 1] == '/';
        return check_path(r);
}

static int enter(int at, const char *name) {
        if (mkdirat(at, name, 0700) < 0 && errno != EEXIST)
                return -errno;
        int fd = openat(at, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        return fd < 0 ? -errno : fd;
}

/*
 * Where the entry belongs, made as far as the archive has not named it; *name is the entry's in there.  One part at a time:
 * the kernel takes no path as long as one can be.
 */
static int open_parent(struct reader *r, char **name) {
        int at = fcntl(r->top, F_DUPFD_CLOEXEC, 3);

        *name = r->path;
        if (at < 0)
                return crew_fail_errno(r->err, "cannot open the directory");
        for (char *slash; at >= 0 && (slash = strchr(*name, '/')); *name = slash + 1) {
                *slash = '\0';
                int next = enter(at, *name);
                *slash = '/';
                close(at);
                at = next;
        }
        return at < 0 ? crew_fail(r->err, -at, "cannot make '%.300s': %s", r->path, strerror(-at)) : at;
}

/* --- entries --- */

static int skip_padding(struct reader *r, uint64_t size) {
        char zeros[TAR_BLOCK];

        return size % TAR_BLOCK ? get(r, zeros, (size_t)(TAR_BLOCK - size % TAR_BLOCK)) : 0;
}

static int copy_out(struct reader *r, int fd, uint64_t size) {
        char buf[64 * 1024];
        int k = 0;

        for (uint64_t left = size; k == 0 && left > 0;) {
                size_t n = (size_t)MIN_OF(left, (uint64_t)sizeof(buf));
                if ((k = get(r, buf, n)) < 0)
                        return k;
                if ((k = crew_write_full(fd, buf, n)) < 0)
                        return crew_fail(r->err, -k, "cannot write %s: %s", r->path, strerror(-k));
                left -= n;
        }
        return skip_padding(r, size);
}

static int take_file(struct reader *r, uint64_t size, uint64_t mode) {
        char *name;

        if (size > r->left_max)
                return crew_fail(r->err, EFBIG, "'%.300s': the archive holds more than is allowed", r->path);
        _cleanup_close_ int at = open_parent(r, &name);
        if (at < 0)
                return at;
        r->left_max -= size;
        _cleanup_close_ int fd = openat(at, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
        if (fd < 0)
                return crew_fail(r->err, errno, "cannot make '%.300s': %s", r->path,
                                 errno == EEXIST ? "it is there twice" : strerror(errno));
        int k = copy_out(r, fd, size);
        if (k < 0)
                return k;
        if (fchmod(fd, (mode_t)((mode & 0777) | 0600)) < 0)
                return crew_fail_errno(r->err, "cannot set the mode of %s", r->path);
        r->counts->files++;
        r->counts->bytes += size;
        return 0;
}

static int take_dir(struct reader *r, uint64_t size) {
        char *name;

        if (size != 0)
                return bad_entry(r, "is a directory with contents");
        _cleanup_close_ int at = open_parent(r, &name);
        if (at < 0)
                return at;
        if (*name && mkdirat(at, name, 0700) < 0 && errno != EEXIST)
                return crew_fail_errno(r->err, "cannot make '%.300s'", r->path);
        return 0;
}

/* One "LENGTH key=value\n"; of the keys only those about name and size matter, and linkpath belongs to what is refused. */
static int take_pax_record(struct reader *r, const char *key, size_t key_len, const char *value, size_t n) {
        char number[24];

        if (key_len == 4 && memcmp(key, "path", 4) == 0) {
                if (n >= sizeof(r->path) || memchr(value, '\0', n))
                        return bad(r, "a name is too long");
                memcpy(r->path, value, n);
                r->path[n] = '\0';
                r->have_path = true;
        } else if (key_len == 4 && memcmp(key, "size", 4) == 0) {
                snprintf(number, sizeof(number), "%.*s", (int)MIN_OF(n, sizeof(number) - 1), value);
                if (n >= sizeof(number) || crew_parse_u64(number, &r->size) < 0)
                        return bad(r, "a size is no number");
                r->have_size = true;
        }
        return 0;
}

static int take_comment(struct reader *r, const char *key, size_t key_len, const char *value, size_t n) {
        static const char wanted[] = TAR_STATE_VERSION;
        char number[24];

        if (key_len != strlen(wanted) || memcmp(key, wanted, key_len) != 0)
                return 0;
        snprintf(number, sizeof(number), "%.*s", (int)MIN_OF(n, sizeof(number) - 1), value);
        if (n >= sizeof(number) || crew_parse_u64(number, &r->counts->state_version) < 0 ||
            r->counts->state_version > STATE_VERSION_MAX)
                return bad(r, "a version that is no number");
        return 0;
}

static int parse_pax(struct reader *r, const char *p, size_t n, bool global) {
        while (n > 0) {
                char *end;
                errno = 0;
                unsigned long len = strtoul(p, &end, 10);
                const char *key = end + 1, *eq = NULL;
                if (end > p && *end == ' ' && len <= n && p + len > key && p[len - 1] == '\n')
                        eq = memchr(key, '=', (size_t)(p + len - key));
                if (!eq)
                        return bad(r, "an extended header that makes no sense");
                int k = (global ? take_comment : take_pax_record)(r, key, (size_t)(eq - key), eq + 1,
                                                                  (size_t)(p + len - 1 - (eq + 1)));
                if (k < 0)
                        return k;
                p += len;
                n -= len;
        }
        return 0;
}

static int take_pax(struct reader *r, uint64_t size, bool global) {
        if (size == 0 || size > PAX_MAX)
                return bad(r, "an extended header of an odd size");
        _cleanup_free_ char *records = calloc(1, (size_t)size + 1);
        if (!records)
                return crew_fail(r->err, ENOMEM, "out of memory");
        int k = get(r, records, (size_t)size);
        if (k == 0)
                k = skip_padding(r, size);
        return k < 0 ? k : parse_pax(r, records, (size_t)size, global);
}

/* The name of the next entry, as GNU tar writes what is too long for its header: with a NUL at its end. */
static int take_long_name(struct reader *r, uint64_t size) {
        if (r->have_path || r->have_size)
                return bad(r, "two headers that tell of one entry");
        if (size == 0 || size > sizeof(r->path))
                return bad(r, "a name is too long");
        int k = get(r, r->path, (size_t)size);
        if (k < 0)
                return k;
        size_t n = strnlen(r->path, (size_t)size);
        if (n == 0 || n + 1 < size)
                return bad(r, "a long name that is none");
        if (n == sizeof(r->path))
                return bad(r, "a name is too long");
        r->path[n] = '\0';
        r->have_path = true;
        return skip_padding(r, size);
}

static int refuse_type(struct reader *r, char type) {
        static const struct {
                char type;
                const char *what;
        } names[] = {{'1', "is a hard link"},    {'2', "is a symbolic link"}, {'3', "is a character device"},
                     {'4', "is a block device"}, {'6', "is a pipe"},          {'K', "is the long target of a link"}};

        for (size_t i = 0; i < ELEMENTSOF(names); i++) {
                if (names[i].type == type)
                        return bad_entry(r, names[i].what);
        }
        return bad_entry(r, "is of a kind that is not imported");
}

static int take_entry(struct reader *r, const struct tar_header *h) {
        uint64_t size, mode;
        bool slash;

        if (parse_octal(h->size, sizeof(h->size), &size) < 0 || parse_octal(h->mode, sizeof(h->mode), &mode) < 0)
                return bad(r, "a header with a number that is none");
        if (h->type == TAR_PAX || h->type == TAR_PAX_GLOBAL)
                return take_pax(r, size, h->type == TAR_PAX_GLOBAL);
        if (h->type == TAR_GNU_NAME)
                return take_long_name(r, size);
        if (r->have_size)
                size = r->size;
        int k = header_path(r, h, &slash);
        bool file = h->type == TAR_FILE || h->type == '\0';
        if (k == 0 && (h->type == TAR_DIR || (file && slash))) /* v7 knows directories by the slash */
                k = take_dir(r, size);
        else if (k == 0 && file && r->path[0])
                k = take_file(r, size, mode);
        else if (k == 0)
                k = refuse_type(r, h->type);
        r->have_path = r->have_size = false;
        return k;
}

static int check_header(struct reader *r, const struct tar_header *h) {
        static const char none[sizeof(h->magic)];
        uint64_t sum;

        if ((memcmp(h->magic, "ustar", 5) != 0 && memcmp(h->magic, none, sizeof(none)) != 0) ||
            parse_octal(h->checksum, sizeof(h->checksum), &sum) < 0 || sum != tar_checksum(h))
                return bad(r, "no tar header where one should be (is it compressed?)");
        return 0;
}

int tar_extract(int fd, int dirfd, uint64_t bytes_max, struct tar_counts *out, struct crew_err *err) {
        struct reader r = {.fd = fd, .top = dirfd, .left_max = bytes_max, .counts = out, .err = err};
        static const struct tar_header zeros;
        struct tar_header h;
        int k;

        *out = (struct tar_counts){0};
        for (uint32_t n = 0; n < TAR_ENTRIES_MAX; n++) {
                if ((k = get(&r, &h, sizeof(h))) < 0)
                        return k;
                if (memcmp(&h, &zeros, sizeof(h)) == 0)
                        return 0;
                if ((k = check_header(&r, &h)) < 0 || (k = take_entry(&r, &h)) < 0)
                        return k;
        }
        return bad(&r, "too many entries");
}
