/* SPDX-License-Identifier: Apache-2.0 */
/* Writing; tar_read.c reads. */
#include "tar.h"

#include "common/tree.h"
#include "common/util.h"
#include "path_set.h"
#include "tar_block.h"

#include <errno.h>
#include <limits.h>
#include <string.h>

static void put(struct tar *t, const void *p, size_t n) {
        if (!t->error && t->stopped && t->stopped())
                t->error = ECANCELED;
        if (t->error)
                return;
        int r = crew_write_full(t->fd, p, n);
        if (r < 0)
                t->error = -r;
}

static void pad(struct tar *t, uint64_t n) {
        static const char zeros[TAR_BLOCK];

        if (n % TAR_BLOCK)
                put(t, zeros, (size_t)(TAR_BLOCK - n % TAR_BLOCK));
}

/* Octal, if it fits; a number that does not is in a pax record. */
static bool octal(char *out, size_t width, uint64_t v) {
        if (v >> (3 * (width - 1)) != 0)
                return false;
        snprintf(out, width, "%0*llo", (int)width - 1, (unsigned long long)v);
        return true;
}

static void seal(struct tar_header *h) {
        memcpy(h->magic, "ustar", 6);
        memcpy(h->version, "00", 2);
        char sum[8];
        snprintf(sum, sizeof(sum), "%06o", tar_checksum(h));
        memcpy(h->checksum, sum, 7);
        h->checksum[7] = ' ';
}

struct entry {
        const char *path, *link;
        char type;
        mode_t mode;
        int64_t mtime;
        uint64_t size;
};

/* "LENGTH key=value\n", where LENGTH counts itself. */
static size_t pax_record(char *out, size_t room, const char *key, const char *value) {
        size_t n = strlen(key) + strlen(value) + 3, digits = 1;

        for (size_t whole = n + digits; whole >= 10; whole /= 10)
                digits++;
        while ((size_t)snprintf(NULL, 0, "%zu", n + digits) != digits)
                digits++;
        return (size_t)snprintf(out, room, "%zu %s=%s\n", n + digits, key, value);
}

static void put_pax(struct tar *t, char type, const char *records, size_t n) {
        struct tar_header h = {0};

        snprintf(h.name, sizeof(h.name), "pax");
        octal(h.mode, sizeof(h.mode), 0600);
        octal(h.size, sizeof(h.size), n);
        octal(h.mtime, sizeof(h.mtime), (uint64_t)MAX_OF(t->mtime, (int64_t)0));
        h.type = type;
        t->entries++;
        seal(&h);
        put(t, &h, sizeof(h));
        put(t, records, n);
        pad(t, n);
}

void tar_put_comment(struct tar *t, const char *key, const char *value) {
        char record[256];

        put_pax(t, TAR_PAX_GLOBAL, record, MIN_OF(pax_record(record, sizeof(record), key, value), sizeof(record) - 1));
}

static void put_header(struct tar *t, const struct entry *e) {
        size_t room = strlen(e->path) + strlen(e->link ? e->link : "") + 256, used = 0;
        _cleanup_free_ char *records = malloc(room);
        struct tar_header h = {0};
        char number[24];

        if (!records) {
                t->error = t->error ? t->error : ENOMEM;
                return;
        }
        if (strlen(e->path) > sizeof(h.name))
                used += pax_record(records + used, room - used, "path", e->path);
        if (e->link && strlen(e->link) > sizeof(h.link))
                used += pax_record(records + used, room - used, "linkpath", e->link);
        if (!octal(h.size, sizeof(h.size), e->size)) {
                snprintf(number, sizeof(number), "%llu", (unsigned long long)e->size);
                used += pax_record(records + used, room - used, "size", number);
        }
        if (used)
                put_pax(t, TAR_PAX, records, used);
        memcpy(h.name, e->path, MIN_OF(strlen(e->path), sizeof(h.name)));
        if (e->link)
                memcpy(h.link, e->link, MIN_OF(strlen(e->link), sizeof(h.link)));
        octal(h.mode, sizeof(h.mode), e->mode & 0777);
        octal(h.uid, sizeof(h.uid), 0);
        octal(h.gid, sizeof(h.gid), 0);
        octal(h.mtime, sizeof(h.mtime), (uint64_t)MAX_OF(e->mtime, (int64_t)0));
        h.type = e->type;
        t->entries++;
        seal(&h);
        put(t, &h, sizeof(h));
}

void tar_put_dir(struct tar *t, const char *path, mode_t mode, int64_t mtime) {
        put_header(t, &(struct entry){.path = path, .type = TAR_DIR, .mode = mode, .mtime = mtime});
}

void tar_put_link(struct tar *t, const char *path, const char *target, int64_t mtime) {
        put_header(t, &(struct entry){.path = path, .link = target, .type = TAR_LINK, .mode = 0777, .mtime = mtime});
}

void tar_put_bytes(struct tar *t, const char *path, const void *bytes, size_t n) {
        put_header(t, &(struct entry){.path = path, .type = TAR_FILE, .mode = 0600, .mtime = t->mtime, .size = n});
        put(t, bytes, n);
        pad(t, n);
}

void tar_put_file(struct tar *t, const char *path, mode_t mode, int64_t mtime, int fd, uint64_t size) {
        char buf[64 * 1024];
        uint64_t left = size;

        put_header(t, &(struct entry){.path = path, .type = TAR_FILE, .mode = mode, .mtime = mtime, .size = size});
        while (left > 0 && !t->error) {
                size_t want = (size_t)MIN_OF(left, (uint64_t)sizeof(buf));
                ssize_t n = read(fd, buf, want);
                if (n < 0 && errno == EINTR)
                        continue;
                if (n <= 0) { /* it has shrunk, or cannot be read: the archive stays in step */
                        memset(buf, 0, want);
                        n = (ssize_t)want;
                }
                put(t, buf, (size_t)n);
                left -= (uint64_t)n;
        }
        pad(t, size);
}

int tar_end(struct tar *t, struct crew_err *err) {
        static const char zeros[2 * TAR_BLOCK];

        put(t, zeros, sizeof(zeros));
        return t->error ? crew_fail(err, t->error, "cannot write the archive: %s", strerror(t->error)) : 0;
}

/* --- trees --- */

struct tree_state {
        struct tar *t;
        struct tar_tree *tree;
        struct path_set *put; /* what the archive has, and whether as a directory */
};

static void leave_out(struct tar_tree *tree, const char *path, const char *why) {
        tree->left_out++;
        if (tree->on_left_out)
                tree->on_left_out(path, why, tree->user);
}

/*
 * A walk through what changes can meet a name twice, and as a directory what was a file: nobody could unpack that.  True:
 * it may be put; of a directory that is in there already only what is new in it.
 */
static bool fits(const struct tree_state *s, const struct tree_item *item, bool *known) {
        const char *slash = strrchr(item->path, '/');
        enum path_set_kind had = path_set_find(s->put, item->path, strlen(item->path));

        *known = had != PATH_SET_NONE;
        if (*known && (had == PATH_SET_DIR) != S_ISDIR(item->st.st_mode))
                leave_out(s->tree, item->path, "it has become something else meanwhile");
        else if (slash && path_set_find(s->put, item->path, (size_t)(slash - item->path)) != PATH_SET_DIR)
                leave_out(s->tree, item->path, "its directory is left out");
        else if (s->tree->entries_max && s->t->entries + 3 > s->tree->entries_max)
                leave_out(s->tree, item->path, "too many files"); /* it may take two, and the end is one */
        else
                return true;
        return false;
}

static void remember(struct tree_state *s, const struct tree_item *item) {
        enum path_set_kind kind = S_ISDIR(item->st.st_mode) ? PATH_SET_DIR : PATH_SET_OTHER;

        if (path_set_add(s->put, item->path, strlen(item->path), kind) < 0 && !s->t->error)
                s->t->error = ENOMEM;
}

static void put_regular(struct tree_state *s, const struct tree_item *item, const char *name) {
        struct tar_tree *tree = s->tree;
        struct stat st;
        _cleanup_close_ int fd = tree_open_file(item->dirfd, item->name);

        /* Once more: what was looked at and what was opened need not be the same. */
        if (fd < 0 || fstat(fd, &st) < 0 || !S_ISREG(st.st_mode)) {
                leave_out(tree, item->path, fd < 0 ? strerror(-fd) : "not a regular file any more");
                return;
        }
        uint64_t size = (uint64_t)st.st_size;
        if ((tree->file_max && size > tree->file_max) || (tree->total_max && size > tree->total_max - tree->bytes)) {
                leave_out(tree, item->path, "too large");
                return;
        }
        tree->files++;
        tree->bytes += size;
        remember(s, item);
        /* The mode as it was looked at: the file may be open with another. */
        tar_put_file(s->t, name, item->st.st_mode, st.st_mtime, fd, size);
}

static void put_link(struct tree_state *s, const struct tree_item *item, const char *name) {
        char target[PATH_MAX];
        ssize_t n = readlinkat(item->dirfd, item->name, target, sizeof(target) - 1);

        if (!s->tree->links || n < 0) {
                leave_out(s->tree, item->path, n < 0 ? strerror(errno) : "a symbolic link");
                return;
        }
        target[n] = '\0';
        remember(s, item);
        tar_put_link(s->t, name, target, item->st.st_mtime);
}

static int on_item(const struct tree_item *item, void *user) {
        struct tree_state *s = user;
        _cleanup_free_ char *name = NULL;
        bool known;

        if (!fits(s, item, &known) || known)
                return s->t->error ? -s->t->error : 0;
        if (asprintf(&name, "%s%s%s", s->tree->prefix, item->path, S_ISDIR(item->st.st_mode) ? "/" : "") < 0)
                return -ENOMEM;
        if (S_ISDIR(item->st.st_mode)) {
                remember(s, item);
                tar_put_dir(s->t, name, item->st.st_mode, item->st.st_mtime);
        } else if (S_ISREG(item->st.st_mode))
                put_regular(s, item, name);
        else if (S_ISLNK(item->st.st_mode))
                put_link(s, item, name);
        else
                leave_out(s->tree, item->path, "a socket, a pipe or a device");
        return s->t->error ? -s->t->error : 0;
}

static int on_missed(const char *path, int error, void *user) {
        struct tree_state *s = user;

        leave_out(s->tree, path, error == ELOOP ? "too deep" : strerror(error));
        return 0;
}

int tar_put_tree(struct tar *t, int dirfd, struct tar_tree *tree, struct crew_err *err) {
        _cleanup_path_set_ struct path_set *put = path_set_new();
        struct tree_state s = {.t = t, .tree = tree, .put = put};
        const struct tree_visitor v = {.on_item = on_item, .on_missed = on_missed, .user = &s};
        int r = put ? tree_walk(dirfd, &v) : -ENOMEM;

        return r < 0 ? crew_fail(err, -r, "cannot archive the directory: %s", strerror(-r)) : 0;
}
