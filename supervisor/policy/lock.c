/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The list behind crew.lock: collected, written, read back strictly, compared.  A line is KIND SHA256 NAME; the name comes
 * last and goes to the end of the line, so it may hold blanks, but no control characters.
 */
#include "lock.h"

#include "bind.h"
#include "common/digest.h"
#include "common/util.h"
#include "path.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <sys/stat.h>

#define HEAD "crew.lock 1 "
#define HEX (CREW_SHA256_HEX - 1)

const char *const lock_kind_names[LOCK_KIND_N] = {
        [LOCK_CA] = "ca",           [LOCK_CREW] = "crew",       [LOCK_HOOK] = "hook",       [LOCK_POLICY] = "policy",
        [LOCK_PRESET] = "preset",   [LOCK_PROGRAM] = "program", [LOCK_RUNTIME] = "runtime", [LOCK_SCHEMA] = "schema",
        [LOCK_SECCOMP] = "seccomp", [LOCK_TOOL] = "tool",
};

/* --- names --- */

/* dir and name have the same parent at the top ("/srv/..."): "../" as often as it takes.  Else the absolute path, for it
 * is no part of what is moved around with the crew. */
static const char *relative(struct arena *a, const char *dir, const char *path) {
        size_t same = 0, k = 1, ups = 0;
        char up[PATH_MAX] = "";

        while (path[k - 1] && dir[k - 1] == path[k - 1]) {
                if ((dir[k] == '/' || !dir[k]) && path[k] == '/')
                        same = k;
                k++;
        }
        if (same == 0 || strcmp(dir, "/") == 0)
                return arena_strndup(a, path, strlen(path));
        for (const char *p = dir + same; (p = strchr(p, '/')); p++)
                ups++;
        for (size_t i = 0; i < ups && strlen(up) + 4 < sizeof(up); i++)
                strcat(up, "../");
        return arena_printf(a, "%s%s", up, path + same + 1);
}

/* Without symbolic links on the way, with the name of the file itself as it is. */
static bool absolute(const char *path, char out[PATH_MAX]) {
        const char *slash = strrchr(path, '/'), *name = slash ? slash + 1 : path;
        char dir[PATH_MAX];

        if ((size_t)snprintf(dir, sizeof(dir), "%.*s", slash ? (int)(slash - path) + 1 : 1, slash ? path : ".") >=
                    sizeof(dir) ||
            !realpath(dir, out) || strlen(out) + strlen(name) + 2 > PATH_MAX)
                return false;
        if (strcmp(out, "/") != 0)
                strcat(out, "/");
        strcat(out, name);
        return true;
}

/* Programs of the host keep their absolute path: where they are is what makes them the host's. */
static const char *name_of(struct lock_list *l, enum lock_kind kind, const char *path) {
        char whole[PATH_MAX];

        if (!absolute(path, whole))
                return arena_strndup(l->arena, path, strlen(path));
        if (path_within(l->dir, whole) || kind == LOCK_POLICY || kind == LOCK_SCHEMA || kind == LOCK_CA)
                return relative(l->arena, l->dir, whole);
        return arena_strndup(l->arena, whole, strlen(whole));
}

/* --- collecting --- */

static struct lock_file *add(struct lock_list *l, enum lock_kind kind, const char *name, const char *path) {
        const char *copy = arena_strndup(l->arena, path, strlen(path));
        const char *called = name ? arena_strndup(l->arena, name, strlen(name)) : name_of(l, kind, path);

        if (!copy || !called || arena_grow(l->arena, &l->items, l->n, sizeof(*l->items)) < 0)
                return NULL;
        struct lock_file *f = &l->items[l->n++];
        *f = (struct lock_file){.kind = kind, .name = called, .path = copy};
        return f;
}

int lock_note(struct lock_list *l, enum lock_kind kind, const char *name, const char *path, const void *bytes, size_t n) {
        struct lock_file *f = l ? add(l, kind, name, path) : NULL;

        if (!l)
                return 0;
        if (!f)
                return -ENOMEM;
        crew_sha256(bytes, n, f->sha256);
        return 0;
}

static struct lock_stamp stamp_of(const struct stat *st) {
        return (struct lock_stamp){st->st_dev, st->st_ino, st->st_size, st->st_mtim, st->st_ctim};
}

static bool same_time(const struct timespec *a, const struct timespec *b) {
        return a->tv_sec == b->tv_sec && a->tv_nsec == b->tv_nsec;
}

static bool same_stamp(const struct lock_stamp *a, const struct lock_stamp *b) {
        return a->dev == b->dev && a->ino == b->ino && a->size == b->size && same_time(&a->mtime, &b->mtime) &&
               same_time(&a->ctime, &b->ctime);
}

#define SETTLED_NS 100000000ull

/* Before Linux 6.13 times of change count in ticks of up to 10 ms: a file may change once more and keep its stamp.  Times
 * in the future, of a clock that was put back, say nothing either. */
static bool is_settled(const struct timespec *changed, uint64_t now_ns) {
        return (uint64_t)changed->tv_sec * 1000000000ull + (uint64_t)changed->tv_nsec + SETTLED_NS < now_ns;
}

/* The stamp is taken before the bytes: what changes in between is seen by the next look.  That of a file that has changed
 * just now is none. */
static int read_program(const char *path, uint8_t sha256[CREW_SHA256_BYTES], struct lock_stamp *stamp,
                        struct crew_err *err) {
        _cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
        struct stat st;

        if (fd < 0 || fstat(fd, &st) < 0)
                return crew_fail_errno(err, "%s", path);
        if (!S_ISREG(st.st_mode))
                return crew_fail(err, EINVAL, "%s: not a regular file", path);
        *stamp = stamp_of(&st);
        if (!is_settled(&st.st_ctim, crew_realtime_ns()))
                stamp->ctime = (struct timespec){0};
        return crew_sha256_fd(fd, sha256, err);
}

int lock_note_program(struct lock_list *l, enum lock_kind kind, const char *path, struct crew_err *err) {
        struct lock_stamp stamp;
        uint8_t sha256[CREW_SHA256_BYTES];
        int r = read_program(path, sha256, &stamp, err);

        if (r < 0)
                return r;
        struct lock_file *f = add(l, kind, NULL, path);
        if (!f)
                return crew_fail(err, ENOMEM, "out of memory");
        memcpy(f->sha256, sha256, sizeof(f->sha256));
        f->stamp = stamp;
        return 0;
}

static int by_name(const void *x, const void *y) {
        const struct lock_file *a = x, *b = y;
        int r = a->kind != b->kind ? (a->kind < b->kind ? -1 : 1) : strcmp(a->name, b->name);

        return r ? r : memcmp(a->sha256, b->sha256, sizeof(a->sha256));
}

void lock_sort(struct lock_list *l) {
        size_t kept = 0;

        if (l->n > 0)
                qsort(l->items, l->n, sizeof(*l->items), by_name);
        for (size_t i = 0; i < l->n; i++) {
                if (kept == 0 || by_name(&l->items[kept - 1], &l->items[i]) != 0)
                        l->items[kept++] = l->items[i];
        }
        l->n = kept;
}

/* --- writing --- */

static bool name_ok(const char *name) {
        for (const char *p = name; *p; p++) {
                if ((unsigned char)*p < 0x20 || *p == 0x7f)
                        return false;
        }
        return *name && *name != ' ' && crew_utf8_ok(name, strlen(name));
}

int lock_format(const struct lock_list *l, const char *crew, char **text, size_t *n, struct crew_err *err) {
        FILE *f = open_memstream(text, n);
        char hex[CREW_SHA256_HEX];

        if (!f)
                return crew_fail(err, ENOMEM, "out of memory");
        fputs("# Made by crewctl lock: the files of this crew, each with its SHA-256.  With --locked nothing else is "
              "run.\n",
              f);
        fprintf(f, HEAD "%s\n", crew);
        for (size_t i = 0; i < l->n; i++) {
                const struct lock_file *it = &l->items[i];
                crew_hex(it->sha256, sizeof(it->sha256), hex);
                fprintf(f, "%-8s%s  %s\n", lock_kind_names[it->kind], hex, it->name);
        }
        if (fclose(f) != 0)
                return crew_fail(err, ENOMEM, "out of memory");
        for (size_t i = 0; i < l->n; i++) {
                if (!name_ok(l->items[i].name) || (i && by_name(&l->items[i - 1], &l->items[i]) >= 0)) {
                        free(crew_steal_ptr(text));
                        return crew_fail(err, EINVAL, "%.300s: a name with control characters, or that is not UTF-8",
                                         l->items[i].name);
                }
        }
        return 0;
}

/* --- reading --- */

struct reader {
        struct lock_list *list;
        const char *file, *crew;
        struct policy_report *report;
        uint32_t line;
        bool head;
};

static void fault(struct reader *r, const char *hint, const char *text) {
        policy_report_add(r->report, false, r->file, (int)r->line, 1, hint, "%s", text);
}

static bool hex_digit(char c, uint8_t *out) {
        if (c >= '0' && c <= '9')
                *out = (uint8_t)(c - '0');
        else if (c >= 'a' && c <= 'f')
                *out = (uint8_t)(c - 'a' + 10);
        else
                return false;
        return true;
}

static bool parse_hex(const char *s, size_t n, uint8_t out[CREW_SHA256_BYTES]) {
        uint8_t high, low;

        for (size_t i = 0; i < CREW_SHA256_BYTES; i++) {
                if (n < HEX || !hex_digit(s[2 * i], &high) || !hex_digit(s[2 * i + 1], &low))
                        return false;
                out[i] = (uint8_t)(high << 4 | low);
        }
        return n == HEX;
}

static bool parse_kind(const char *s, size_t n, enum lock_kind *out) {
        for (unsigned k = 0; k < LOCK_KIND_N; k++) {
                if (strlen(lock_kind_names[k]) == n && strncmp(s, lock_kind_names[k], n) == 0) {
                        *out = (enum lock_kind)k;
                        return true;
                }
        }
        return false;
}

static void parse_head(struct reader *r, const char *text) {
        char why[192];

        r->head = true;
        if (strncmp(text, HEAD, strlen(HEAD)) != 0)
                return fault(r, "crewctl lock CREW.yaml makes one", "not a crew.lock that this version reads");
        text += strlen(HEAD);
        if (r->crew && strcmp(text, r->crew) != 0) {
                snprintf(why, sizeof(why), "this is the lock of crew '%.63s', not of '%.63s'", text, r->crew);
                fault(r, "crew files with different crews go to different directories", why);
        }
}

/* 0 also when a problem was reported. */
static int parse_line(struct reader *r, const char *text) {
        size_t kind_n = strcspn(text, " ");
        const char *hex = text + kind_n + strspn(text + kind_n, " ");
        size_t hex_n = strcspn(hex, " ");
        const char *name = hex + hex_n + strspn(hex + hex_n, " ");
        struct lock_list *l = r->list;
        struct lock_file f = {.line = r->line};

        if (!parse_kind(text, kind_n, &f.kind) || !parse_hex(hex, hex_n, f.sha256) || !name_ok(name)) {
                fault(r, "", "expected KIND SHA256 NAME");
                return 0;
        }
        f.name = arena_strndup(l->arena, name, strlen(name));
        if (!f.name || arena_grow(l->arena, &l->items, l->n, sizeof(*l->items)) < 0)
                return -ENOMEM;
        if (l->n > 0 && (l->items[l->n - 1].kind > f.kind ||
                         (l->items[l->n - 1].kind == f.kind && strcmp(l->items[l->n - 1].name, f.name) >= 0))) {
                fault(r, "", "listed twice, or not in order");
                return 0;
        }
        l->items[l->n++] = f;
        return 0;
}

int lock_parse(struct lock_list *l, const char *file, const char *crew, const char *text, size_t n,
               struct policy_report *report, struct crew_err *err) {
        struct reader r = {.list = l, .file = file, .crew = crew, .report = report};
        size_t before = report->errors;
        const char *end = text + n;
        int result = 0;

        while (text < end && result == 0) {
                const char *stop = memchr(text, '\n', (size_t)(end - text));
                r.line++;
                if (!stop || memchr(text, '\0', (size_t)(stop - text))) {
                        fault(&r, "", stop ? "not text" : "the last line is cut off");
                        break;
                }
                const char *line = arena_strndup(l->arena, text, (size_t)(stop - text));
                if (!line)
                        result = -ENOMEM;
                else if (!r.head && *line != '#')
                        parse_head(&r, line);
                else if (*line != '#')
                        result = parse_line(&r, line);
                text = stop + 1;
        }
        if (result < 0)
                return crew_fail(err, ENOMEM, "%s: out of memory", file);
        if (!r.head && report->errors == before)
                fault(&r, "crewctl lock CREW.yaml makes one", "not a crew.lock that this version reads");
        return report->errors == before ? 0 : crew_fail(err, EINVAL, "%s is not right", file);
}

/* --- comparing --- */

static void differ(const char *file, struct policy_report *report, const struct lock_file *want,
                   const struct lock_file *have) {
        static const char hint[] = "crewctl lock writes it anew, once the change was looked at";
        const struct lock_file *it = want ? want : have;
        char a[CREW_SHA256_HEX], b[CREW_SHA256_HEX];

        crew_assert(it); /* one of the two lists it */
        if (want)
                crew_hex(want->sha256, sizeof(want->sha256), a);
        if (have)
                crew_hex(have->sha256, sizeof(have->sha256), b);
        policy_report_add(report, false, file, want ? (int)want->line : 0, want ? 1 : 0, hint,
                          "%s %.300s: expected %s, found %s", lock_kind_names[it->kind], it->name,
                          want ? a : "no such file to be used", have ? b : "that it is not used");
}

void lock_compare(const struct lock_list *want, const struct lock_list *have, const char *file,
                  struct policy_report *report) {
        size_t i = 0, k = 0;

        while (i < want->n || k < have->n) {
                const struct lock_file *a = i < want->n ? &want->items[i] : NULL, *b = k < have->n ? &have->items[k] : NULL;
                int r = !a ? 1 : !b ? -1 : a->kind != b->kind ? (a->kind < b->kind ? -1 : 1) : strcmp(a->name, b->name);
                if (r != 0 || memcmp(a->sha256, b->sha256, sizeof(a->sha256)) != 0)
                        differ(file, report, r <= 0 ? a : NULL, r >= 0 ? b : NULL);
                i += r <= 0;
                k += r >= 0;
        }
}

/* --- again --- */

static int changed(const struct lock_file *f, const uint8_t found[CREW_SHA256_BYTES], struct crew_err *err) {
        char a[CREW_SHA256_HEX], b[CREW_SHA256_HEX];

        crew_hex(f->sha256, sizeof(f->sha256), a);
        crew_hex(found, CREW_SHA256_BYTES, b);
        return crew_fail(err, EKEYREJECTED, "%s %s is not what " LOCK_FILE " names: expected %s, found %s",
                         lock_kind_names[f->kind], f->name, a, b);
}

int crew_lock_recheck(struct crew_lock *l, struct crew_err *err) {
        for (size_t i = 0; i < l->files.n; i++) {
                struct lock_file *f = &l->files.items[i];
                uint8_t found[CREW_SHA256_BYTES];
                struct stat st;
                if (f->stamp.ino == 0)
                        continue; /* parsed, and used as it was then */
                if (stat(f->path, &st) == 0) {
                        const struct lock_stamp now = stamp_of(&st);
                        if (same_stamp(&f->stamp, &now))
                                continue;
                }
                int r = read_program(f->path, found, &f->stamp, err);
                if (r < 0)
                        return r;
                if (memcmp(found, f->sha256, sizeof(found)) != 0) {
                        f->stamp.ctime = (struct timespec){0}; /* look again the next time, too */
                        return changed(f, found, err);
                }
        }
        return 0;
}
