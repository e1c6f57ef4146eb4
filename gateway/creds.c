/* SPDX-License-Identifier: Apache-2.0 */
#include "creds.h"

#include "creds_file.h"
#include "creds_source.h"

#include "common/util.h"

#include <errno.h>
#include <libgen.h>
#include <limits.h>
#include <string.h>
#include <sys/mman.h>

struct cred {
        struct cred_spec spec;
        char *secret; /* in creds.pages */
        size_t secret_n;
};

struct creds {
        unsigned n;
        struct cred items[CREDS_MAX];
        char *pages;
        size_t pages_n;
};

/* Locking is best effort: RLIMIT_MEMLOCK is the operator's.  The others are not. */
static int make_pages(struct creds *c, struct crew_err *err) {
        c->pages_n = (size_t)CREDS_MAX * (CRED_SECRET_MAX + 1);
        void *p = mmap(NULL, c->pages_n, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

        if (p == MAP_FAILED)
                return crew_fail_errno(err, "no memory for the credentials");
        c->pages = p;
        if (madvise(p, c->pages_n, MADV_DONTDUMP) < 0 || madvise(p, c->pages_n, MADV_DONTFORK) < 0)
                return crew_fail_errno(err, "cannot protect the credentials' memory");
        mlock2(p, c->pages_n, MLOCK_ONFAULT);
        return 0;
}

struct creds *creds_free(struct creds *c) {
        if (!c)
                return NULL;
        if (c->pages) {
                explicit_bzero(c->pages, c->pages_n);
                munmap(c->pages, c->pages_n);
        }
        free(c);
        return NULL;
}

/* At least CRED_SECRET_MIN: a shorter one could not be told from ordinary text in an answer. */
static int secret_ok(const struct cred *k, struct crew_err *err) {
        if (k->secret_n < CRED_SECRET_MIN || k->secret_n > CRED_SECRET_MAX)
                return crew_fail(err, EINVAL, "the secret is not %d to %d bytes long", CRED_SECRET_MIN, CRED_SECRET_MAX);
        for (size_t i = 0; i < k->secret_n; i++) {
                if ((unsigned char)k->secret[i] < 0x20 || (unsigned char)k->secret[i] >= 0x7f)
                        return crew_fail(err, EINVAL, "the secret holds a byte that cannot stand in a header");
        }
        return 0;
}

static int load_one(struct cred *k, const char *dir, struct crew_err *err) {
        int r = cred_source_read(&k->spec, dir, k->secret, CRED_SECRET_MAX + 1, &k->secret_n, err);

        if (r == 0) {
                if (k->secret_n > 0 && k->secret[k->secret_n - 1] == '\n')
                        k->secret_n--;
                r = secret_ok(k, err);
        }
        if (r < 0)
                crew_err_add(err, "credential %s", k->spec.name);
        return r;
}

static int check_hosts(const struct creds *c, struct crew_err *err) {
        for (unsigned i = 0; i < c->n; i++) {
                unsigned same = 0;
                for (unsigned k = 0; k < c->n; k++)
                        same += strcmp(c->items[i].spec.host, c->items[k].spec.host) == 0 &&
                                c->items[i].spec.port == c->items[k].spec.port;
                if (same > CREDS_PER_HOST_MAX)
                        return crew_fail(err, EINVAL, "%u: more than %d credentials for one host and port",
                                         c->items[i].spec.line, CREDS_PER_HOST_MAX);
        }
        return 0;
}

static int load_all(struct creds *c, const char *path, struct crew_err *err) {
        _cleanup_free_ struct creds_file *file = calloc(1, sizeof(*file));
        _cleanup_free_ char *text = NULL;
        char copy[PATH_MAX];
        size_t n;
        int r;

        if (!file)
                return crew_fail(err, ENOMEM, "out of memory");
        snprintf(copy, sizeof(copy), "%s", path);
        if ((r = cred_private_file(path, CREDS_FILE_MAX, &text, &n, err)) < 0)
                return r;
        if ((r = creds_file_parse(text, n, file, err)) < 0 || (r = make_pages(c, err)) < 0)
                return r;
        c->n = file->n;
        for (unsigned i = 0; i < c->n; i++)
                c->items[i] = (struct cred){.spec = file->specs[i], .secret = c->pages + (size_t)i * (CRED_SECRET_MAX + 1)};
        if ((r = check_hosts(c, err)) < 0)
                return r;
        const char *dir = dirname(copy);
        for (unsigned i = 0; i < c->n; i++) {
                if ((r = load_one(&c->items[i], dir, err)) < 0)
                        return r;
        }
        for (unsigned i = 0; i < c->n; i++)
                cred_source_forget(&c->items[i].spec);
        return 0;
}

int creds_load(const char *path, struct creds **out, struct crew_err *err) {
        struct creds *c = calloc(1, sizeof(*c));
        int r;

        if (!c)
                return crew_fail(err, ENOMEM, "out of memory");
        if ((r = load_all(c, path, err)) < 0) {
                crew_err_add(err, "%s", path);
                creds_free(c);
                return r;
        }
        *out = c;
        return 0;
}

const struct cred *creds_find(const struct creds *c, const char *name) {
        for (unsigned i = 0; c && i < c->n; i++) {
                if (strcmp(c->items[i].spec.name, name) == 0)
                        return &c->items[i];
        }
        return NULL;
}

static bool at(const struct cred *k, const char *host, uint16_t port) {
        return k->spec.port == port && strcmp(k->spec.host, host) == 0;
}

size_t creds_of(const struct creds *c, const char *host, uint16_t port, const struct cred *out[CREDS_PER_HOST_MAX]) {
        size_t n = 0;

        for (unsigned i = 0; c && i < c->n && n < CREDS_PER_HOST_MAX; i++) {
                if (at(&c->items[i], host, port))
                        out[n++] = &c->items[i];
        }
        return n;
}

bool cred_bound(const struct cred *k, const char *host, uint16_t port, const char *path, bool tls) {
        if (!at(k, host, port) || (!tls && !k->spec.plain_http))
                return false;
        for (unsigned i = 0; i < k->spec.n_paths; i++) {
                if (netpolicy_glob(k->spec.paths[i], path))
                        return true;
        }
        return false;
}

const char *cred_header(const struct cred *k) {
        return k->spec.header;
}

const char *cred_prefix(const struct cred *k) {
        return k->spec.prefix;
}

const char *cred_secret(const struct cred *k, size_t *n) {
        *n = k->secret_n;
        return k->secret;
}
