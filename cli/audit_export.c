/* SPDX-License-Identifier: Apache-2.0 */
#include "audit_export.h"

#include "audit_check.h"
#include "common/note.h"
#include "common/util.h"
#include "jsonout.h"
#include "tar.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#define WAIT_NS 3000000000ull /* for the checkpoint of what is there; one is due each second */
#define LOOK_NS 50000000
#define BLOCK (64u * 1024)

static void closedirp(DIR **d) {
        if (*d)
                closedir(*d);
}

/* One stream as it is taken. */
struct taken {
        char agent[CREW_NAME_MAX];
        int dirfd, fd; /* owned */
        uint64_t bytes, records, signed_records;
        char note[NOTE_MAX];
        size_t n_note; /* 0: it has no checkpoint */
};

struct writing {
        struct audit_export *x;
        struct tar tar;
        struct verify_key key;
        bool has_key; /* one that can be read */
        uint64_t wait_until_ns;
        json_t *agents; /* owned */
        struct cli_problem *p;
};

static int failed(struct cli_problem *p, const char *what, const char *name, int code) {
        return cli_problem_set(p, CLI_FAILED, "io", "cannot %s %s: %s", what, name, strerror(code));
}

static int open_beneath(int at, const char *name) {
        int fd = openat(at, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC | O_NOCTTY);
        struct stat st;

        if (fd < 0)
                return -errno;
        if (fstat(fd, &st) == 0 && S_ISREG(st.st_mode))
                return fd;
        close(fd);
        return -EINVAL;
}

/* Whoever signed it: that is for those to see who verify. */
static bool read_note(const struct writing *w, struct taken *t, struct note *out) {
        static const struct verify_key nobody;
        _cleanup_close_ int fd = open_beneath(t->dirfd, "checkpoint");
        ssize_t n = fd < 0 ? -1 : pread(fd, t->note, sizeof(t->note), 0);
        enum note_outcome outcome = NOTE_MALFORMED;

        t->n_note = n > 0 ? (size_t)n : 0;
        if (n > 0)
                outcome = note_parse(t->note, t->n_note, w->has_key ? &w->key : &nobody, out);
        t->signed_records = outcome == NOTE_OK ? out->lines : 0;
        return outcome != NOTE_MALFORMED && out->has_edge;
}

/* How far the log goes in whole lines, of at most `size` bytes; and how many those are. */
static int count_lines(struct taken *t, uint64_t size) {
        _cleanup_free_ char *buf = malloc(BLOCK);
        uint64_t at = 0;

        t->bytes = t->records = 0;
        while (buf && at < size) {
                ssize_t n = pread(t->fd, buf, (size_t)MIN_OF(size - at, (uint64_t)BLOCK), (off_t)at);
                if (n < 0 && errno == EINTR)
                        continue;
                if (n < 0)
                        return -errno;
                if (n == 0)
                        break;
                for (char *p = buf; (p = memchr(p, '\n', (size_t)(buf + n - p))); p++) {
                        t->records++;
                        t->bytes = at + (uint64_t)(p - buf) + 1;
                }
                at += (uint64_t)n;
        }
        return buf ? 0 : -ENOMEM;
}

/* A crew that runs signs what is there now within a second or so. */
static bool wait_for_note(struct writing *w, struct taken *t, uint64_t size, struct note *note) {
        const struct timespec pause = {0, LOOK_NS};
        bool there = read_note(w, t, note);

        while (w->x->running && (!there || note->bytes < size) && crew_now_ns() < w->wait_until_ns) {
                nanosleep(&pause, NULL);
                there = read_note(w, t, note);
        }
        return there;
}

static int take(struct writing *w, struct taken *t, bool wait) {
        struct note note = {0};
        struct stat st;

        t->fd = open_beneath(t->dirfd, "log.jsonl");
        if (t->fd < 0 || fstat(t->fd, &st) < 0)
                return failed(w->p, "read the log of", t->agent, t->fd < 0 ? -t->fd : errno);
        int r = wait ? count_lines(t, (uint64_t)st.st_size) : 0;
        bool there = r == 0 && (wait ? wait_for_note(w, t, t->bytes, &note) : read_note(w, t, &note));
        if (r == 0)
                r = count_lines(t, w->x->running && there ? note.bytes : UINT64_MAX);
        return r < 0 ? failed(w->p, "read the log of", t->agent, -r) : 0;
}

/* --- into the archive --- */

static void put_fd(struct writing *w, const char *agent, const char *name, int fd, uint64_t size) {
        char path[CREW_NAME_MAX + NAME_MAX + 8];

        snprintf(path, sizeof(path), "%s/%s", agent, name);
        lseek(fd, 0, SEEK_SET);
        tar_put_file(&w->tar, path, 0600, w->tar.mtime, fd, size);
}

/* What was cut off by a crash, and put aside; they are few. */
static void put_torn(struct writing *w, const struct taken *t) {
        int fd = openat(t->dirfd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        _cleanup_(closedirp) DIR *d = fd < 0 ? NULL : fdopendir(fd);
        struct stat st;

        if (!d && fd >= 0)
                close(fd);
        for (struct dirent *e = d ? readdir(d) : NULL; e; e = readdir(d)) {
                if (strncmp(e->d_name, "log.jsonl.torn-", 15) != 0)
                        continue;
                _cleanup_close_ int torn = open_beneath(t->dirfd, e->d_name);
                if (torn >= 0 && fstat(torn, &st) == 0)
                        put_fd(w, t->agent, e->d_name, torn, (uint64_t)st.st_size);
        }
}

static void put_stream(struct writing *w, const struct taken *t) {
        char path[CREW_NAME_MAX + 16];

        snprintf(path, sizeof(path), "%s/", t->agent);
        tar_put_dir(&w->tar, path, 0700, w->tar.mtime);
        put_fd(w, t->agent, "log.jsonl", t->fd, t->bytes);
        snprintf(path, sizeof(path), "%s/checkpoint", t->agent);
        if (t->n_note > 0)
                tar_put_bytes(&w->tar, path, t->note, t->n_note);
        put_torn(w, t);
}

static void count(struct writing *w, const struct taken *t) {
        struct audit_export *x = w->x;
        uint64_t signed_records = MIN_OF(t->signed_records, t->records);

        json_array_append_new(w->agents, json_pack("{s:o, s:I, s:I}", "agent", jsonout_text(t->agent), "records",
                                                   (json_int_t)t->records, "signed", (json_int_t)signed_records));
        x->records += t->records;
        x->signed_records += signed_records;
}

static void taken_close(struct taken *t) {
        crew_close(&t->dirfd);
        crew_close(&t->fd);
}

/* 1: there is no such stream. */
static int put_one(struct writing *w, int base, const char *agent, bool is_crew) {
        _cleanup_(taken_close) struct taken t = {.fd = -1};

        snprintf(t.agent, sizeof(t.agent), "%s", agent);
        t.dirfd = openat(base, agent, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        if (t.dirfd < 0)
                return is_crew && errno == ENOENT ? 1 : failed(w->p, "open the audit of", agent, errno);
        if (take(w, &t, !is_crew) < 0)
                return -1;
        put_stream(w, &t);
        if (!is_crew)
                count(w, &t);
        return 0;
}

static void put_about(struct writing *w) {
        json_t *o =
                json_pack("{s:o, s:I, s:s, s:O}", "crew", jsonout_text(w->x->crew), "time_ms",
                          (json_int_t)(crew_realtime_ns() / 1000000u), "by", "crewctl " CREW_VERSION, "agents", w->agents);
        char *text = json_dumps(o, JSON_INDENT(2));

        if (text)
                tar_put_bytes(&w->tar, "export.json", text, strlen(text));
        free(text);
        json_decref(o);
}

static int put_crew(struct writing *w, int base) {
        char path[PATH_MAX + 32], text[KEY_TEXT_MAX];

        snprintf(path, sizeof(path), "%s/" AUDIT_CHECK_CREW "/key.pub", w->x->base);
        w->has_key = audit_check_key(path, &w->key, NULL) == 0;
        int r = put_one(w, base, AUDIT_CHECK_CREW, true);
        if (r == 0 && w->has_key) {
                verify_key_text(&w->key, text);
                tar_put_bytes(&w->tar, AUDIT_CHECK_CREW "/key.pub", text, strlen(text));
        }
        return r < 0 ? r : 0;
}

static int put_all(struct writing *w) {
        _cleanup_close_ int base = open(w->x->base, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        struct crew_err err = CREW_ERR_NULL;

        if (base < 0)
                return failed(w->p, "open", w->x->base, errno);
        int r = put_crew(w, base);
        for (size_t i = 0; i < w->x->agents->n && r == 0; i++)
                r = put_one(w, base, w->x->agents->items[i], false);
        if (r < 0)
                return r;
        put_about(w);
        return tar_end(&w->tar, &err) < 0 ? cli_problem_set(w->p, CLI_FAILED, "io", "%s", err.msg) : 0;
}

/* Under its name only when it is whole, and never in the place of another. */
static int publish(const char *part, const char *file, struct cli_problem *p) {
        int r = renameat2(AT_FDCWD, part, AT_FDCWD, file, RENAME_NOREPLACE);

        if (r < 0 && errno == EINVAL && (r = link(part, file)) == 0)
                (void)unlink(part);
        return r < 0 ? failed(p, "write", file, errno) : 0;
}

int audit_export_write(struct audit_export *x, struct cli_problem *p) {
        struct writing w = {.x = x, .p = p, .wait_until_ns = crew_now_ns() + WAIT_NS};
        char part[PATH_MAX + 8];
        struct stat st;

        if (lstat(x->file, &st) == 0)
                return cli_problem_set(p, CLI_USAGE, "exists", "%s is there already, and is not overwritten", x->file);
        if ((size_t)snprintf(part, sizeof(part), "%s.part", x->file) >= PATH_MAX)
                return failed(p, "make", x->file, ENAMETOOLONG);
        _cleanup_close_ int fd = open(part, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
        if (fd < 0)
                return failed(p, "make", part, errno);
        w.tar = (struct tar){.fd = fd, .mtime = (int64_t)(crew_realtime_ns() / 1000000000u)};
        w.agents = json_array();
        int r = put_all(&w);
        if (r == 0 && fsync(fd) < 0)
                r = failed(p, "write", part, errno);
        if (r == 0)
                r = publish(part, x->file, p);
        if (r < 0)
                (void)unlink(part);
        json_decref(w.agents);
        return r;
}
