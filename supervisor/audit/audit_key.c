/* SPDX-License-Identifier: Apache-2.0 */
#include "audit_key.h"

#include "audit.h"

#include "common/util.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <sys/stat.h>

struct place {
        int dirfd; /* owned by whoever made it */
        char path[PATH_MAX], name[KEY_NAME_MAX];
};

/* Whole or not at all, and on disk. */
static int put_file(const struct place *p, const char *name, mode_t mode, const char *text) {
        char next[32];

        snprintf(next, sizeof(next), "%s.next", name);
        (void)unlinkat(p->dirfd, next, 0);
        _cleanup_close_ int fd = openat(p->dirfd, next, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, mode);
        int r = fd < 0 ? -errno : crew_write_full(fd, text, strlen(text));
        if (r == 0 && (fsync(fd) < 0 || renameat(p->dirfd, next, p->dirfd, name) < 0 || fsync(p->dirfd) < 0))
                r = -errno;
        return r;
}

static int read_small(int dirfd, const char *name, struct stat *st, char text[KEY_TEXT_MAX], size_t *n) {
        _cleanup_close_ int fd = openat(dirfd, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);

        if (fd < 0 || fstat(fd, st) < 0)
                return -errno;
        if (!S_ISREG(st->st_mode) || st->st_size >= KEY_TEXT_MAX)
                return -EINVAL;
        *n = (size_t)st->st_size;
        return crew_read_full(fd, text, *n);
}

static int open_place(const char *dir, struct place *p, struct crew_err *err) {
        p->dirfd = -1;
        if ((size_t)snprintf(p->path, sizeof(p->path), "%s/%s", dir, AUDIT_CREW) >= sizeof(p->path) - 16)
                return crew_fail(err, ENAMETOOLONG, "audit path too long: %s", dir);
        int r = crew_mkdir_p(p->path, 0700, err);
        if (r < 0)
                return r;
        p->dirfd = open(p->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
        return p->dirfd < 0 ? crew_fail_errno(err, "cannot open %s", p->path) : 0;
}

static int unusable(const struct place *p, int code, const char *why, struct crew_err *err) {
        return crew_fail(err, code,
                         "the key that signs the audit, %s/key, cannot be used: %s.  Bring back the one that was there, or "
                         "move it away: a new one is made, and what was signed so far is checked with the old key.pub",
                         p->path, why);
}

static int load_key(const struct place *p, struct sign_key **out, struct crew_err *err) {
        struct crew_err why = CREW_ERR_NULL;
        char text[KEY_TEXT_MAX];
        struct stat st = {0};
        size_t n = 0;

        int r = read_small(p->dirfd, "key", &st, text, &n);
        if (r == -ENOENT)
                return r;
        if (r < 0)
                return unusable(p, -r, r == -EINVAL ? "it is no regular file of that size" : strerror(-r), err);
        if (st.st_uid != geteuid() || (st.st_mode & 077) || st.st_nlink != 1)
                r = unusable(p, EPERM, "it must be ours alone (mode 0600, one name)", err);
        else if ((r = sign_key_parse(text, n, out, &why)) < 0)
                r = unusable(p, -r, why.msg, err);
        else if (strcmp(sign_key_public(*out)->name, p->name) != 0)
                r = unusable(p, EINVAL, "it is another crew's", err);
        explicit_bzero(text, sizeof(text));
        return r;
}

static int check_public(const struct place *p, const struct sign_key *key, bool *rewritten, struct crew_err *err) {
        char text[KEY_TEXT_MAX], there[KEY_TEXT_MAX];
        struct stat st = {0};
        size_t n = 0;

        verify_key_text(sign_key_public(key), text);
        int r = read_small(p->dirfd, "key.pub", &st, there, &n);
        if (r == 0 && n == strlen(text) && memcmp(text, there, n) == 0)
                return 0;
        *rewritten = r != -ENOENT;
        r = put_file(p, "key.pub", 0644, text);
        return r < 0 ? crew_fail(err, -r, "cannot write %s/key.pub: %s", p->path, strerror(-r)) : 0;
}

int audit_key_open(const char *dir, const char *crew, struct sign_key **out, struct audit_key_found *found,
                   struct crew_err *err) {
        struct sign_key *key = NULL;
        struct place p;

        *found = (struct audit_key_found){0};
        *out = NULL;
        snprintf(p.name, sizeof(p.name), "crewd/%s", crew);
        int r = open_place(dir, &p, err);
        _cleanup_close_ int dirfd = p.dirfd;
        if (r < 0)
                return r;
        (void)dirfd;
        r = load_key(&p, &key, err);
        if (r == 0)
                r = check_public(&p, key, &found->public_rewritten, err);
        if (r == -ENOENT) {
                found->made = true;
                r = sign_key_make(p.name, &key, err);
        }
        if (r < 0)
                key = sign_key_free(key);
        *out = key;
        return r;
}

int audit_key_keep(const char *dir, const struct sign_key *key, struct crew_err *err) {
        char text[KEY_TEXT_MAX];
        bool rewritten;
        struct place p;

        int r = open_place(dir, &p, err);
        _cleanup_close_ int dirfd = p.dirfd;
        (void)dirfd;
        if (r == 0)
                r = check_public(&p, key, &rewritten, err);
        if (r < 0)
                return r;
        sign_key_text(key, text);
        r = put_file(&p, "key", 0600, text);
        explicit_bzero(text, sizeof(text));
        return r < 0 ? crew_fail(err, -r, "cannot write %s/key: %s", p.path, strerror(-r)) : 0;
}
