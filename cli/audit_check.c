/* SPDX-License-Identifier: Apache-2.0 */
#include "audit_check.h"

#include "common/record_line.h"
#include "common/util.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <sys/stat.h>

/* --- keys, checkpoints and claims --- */

int audit_check_key(const char *path, struct verify_key *out, struct crew_err *err) {
        _cleanup_free_ char *text = NULL;
        size_t n;

        int r = crew_read_file(path, KEY_TEXT_MAX, &text, &n, err);
        if (r < 0)
                return r;
        return verify_key_parse(text, n, out) ? 0 : crew_fail(err, EINVAL, "%s is no public key of a crew (key.pub)", path);
}

/* Whom it is signed by is seen later, with the key of its crew. */
static enum note_outcome read_note(const char *text, size_t n, const struct verify_key *key, struct note *out) {
        static const struct verify_key nobody;

        return note_parse(text, n, key ? key : &nobody, out);
}

int audit_check_kept(const char *path, struct audit_kept *out, struct crew_err *err) {
        _cleanup_free_ char *text = NULL;
        struct note note;

        int r = crew_read_file(path, NOTE_MAX, &text, &out->n, err);
        if (r < 0)
                return r;
        if (read_note(text, out->n, NULL, &note) == NOTE_MALFORMED)
                return crew_fail(err, EINVAL, "%s is no checkpoint of an audit log", path);
        memcpy(out->text, text, out->n);
        memcpy(out->origin, note.origin, sizeof(out->origin));
        snprintf(out->file, sizeof(out->file), "%s", path);
        return 0;
}

void audit_check_begin(struct audit_check *c) {
        char path[PATH_MAX + 32];
        struct stat st;

        snprintf(path, sizeof(path), "%s/" AUDIT_CHECK_CREW "/log.jsonl", c->base);
        c->crew_log = lstat(path, &st) == 0;
        if (c->pinned)
                return;
        snprintf(path, sizeof(path), "%s/" AUDIT_CHECK_CREW "/key.pub", c->base);
        c->has_key = audit_check_key(path, &c->key, NULL) == 0;
}

void audit_check_fini(struct audit_check *c) {
        for (size_t i = 0; i < c->n_known; i++)
                free(c->known[i].claims);
        free(c->known);
        c->known = NULL;
        c->n_known = 0;
}

static struct audit_known *known_of(const struct audit_check *c, const char *agent) {
        for (size_t i = 0; i < c->n_known; i++) {
                if (strcmp(c->known[i].agent, agent) == 0)
                        return &c->known[i];
        }
        return NULL;
}

static struct audit_known *add_known(struct audit_check *c, const char *agent) {
        struct audit_known *k = known_of(c, agent);
        void *more = k ? NULL : reallocarray(c->known, c->n_known + 1, sizeof(*c->known));

        if (k || !more)
                return k;
        c->known = more;
        k = &c->known[c->n_known++];
        *k = (struct audit_known){0};
        snprintf(k->agent, sizeof(k->agent), "%s", agent);
        return k;
}

static int add_claim(struct audit_known *k, const struct audit_claim *claim) {
        if (k->n == k->room) {
                size_t room = k->room ? k->room * 2 : 64;
                void *more = reallocarray(k->claims, room, sizeof(*k->claims));
                if (!more)
                        return -ENOMEM;
                k->claims = more;
                k->room = room;
        }
        k->claims[k->n++] = *claim;
        return 0;
}

static int by_size(const void *a, const void *b) {
        const struct audit_claim *x = a, *y = b;

        return (x->lines > y->lines) - (x->lines < y->lines);
}

/* --- one stream, line by line --- */

struct walk {
        struct audit_check *check;
        struct audit_known *known;    /* NULL: the crew's log does not know it */
        size_t next;                  /* of its claims */
        uint64_t agreed, differs;     /* the largest size that fits; the first that does not, 0: all do */
        struct audit_claim own, kept; /* its checkpoint's; that of one kept elsewhere */
        bool has_own, is_crew;
        bool own_fits, kept_fits;
        bool failed; /* memory */
        struct merkle tree;
        char crew[80], agent[80]; /* as the first line has them */
        char found[16];           /* what crewd said when it opened it and it was not as it was signed, or "" */
        uint64_t found_at;
};

static void copy_text(const struct record_line *l, const char *key, char *out, size_t room) {
        const struct record_value *v = record_line_get(l, key);

        if (v && v->type == RECORD_VALUE_STRING && v->len < room)
                snprintf(out, room, "%.*s", (int)v->len, v->text);
}

static unsigned digit(char c) {
        return c >= 'a' ? (unsigned)(c - 'a' + 10) & 15u : (unsigned)(c - '0') & 15u;
}

static bool unhex(const struct record_value *v, uint8_t out[CREW_SHA256_BYTES]) {
        char hex[CREW_SHA256_HEX];

        if (!v || v->type != RECORD_VALUE_STRING || v->len != CREW_SHA256_HEX - 1)
                return false;
        for (size_t i = 0; i < CREW_SHA256_BYTES; i++)
                out[i] = (uint8_t)(digit(v->text[2 * i]) << 4 | digit(v->text[2 * i + 1]));
        crew_hex(out, CREW_SHA256_BYTES, hex); /* what is no digit, or a capital, does not come back */
        return memcmp(hex, v->text, v->len) == 0;
}

/* What is not as crewd writes it says nothing, and the roots of this stream say that it was always so. */
static void take_claim(struct walk *w, const struct record_line *l) {
        struct audit_claim claim;
        char of[72] = "";

        copy_text(l, "of", of, sizeof(of));
        if (!record_line_is(l, "kind", record_kind_names[RECORD_LOG_CHECKPOINT]) || !crew_agent_name_ok(of) ||
            !record_line_u64(l, "records", &claim.lines) || !unhex(record_line_get(l, "root"), claim.root))
                return;
        struct audit_known *k = add_known(w->check, of);
        w->failed |= !k || add_claim(k, &claim) < 0;
}

static bool is_root(const struct walk *w, const struct audit_claim *claim) {
        uint8_t root[CREW_SHA256_BYTES];

        merkle_root(&w->tree, root);
        return memcmp(root, claim->root, sizeof(root)) == 0;
}

static void compare_claims(struct walk *w) {
        const struct audit_known *k = w->known;

        for (; k && w->next < k->n && k->claims[w->next].lines <= w->tree.n; w->next++) {
                if (k->claims[w->next].lines < w->tree.n || w->differs)
                        continue;
                if (is_root(w, &k->claims[w->next]))
                        w->agreed = w->tree.n;
                else
                        w->differs = w->tree.n;
        }
        if (w->has_own && w->own.lines == w->tree.n)
                w->own_fits = is_root(w, &w->own);
        if (w->check->kept && w->kept.lines == w->tree.n)
                w->kept_fits = is_root(w, &w->kept);
}

/* crewd goes on with a log that somebody was at, and signs it: what it found is then all that is left to see. */
static void note_found(struct walk *w, const struct record_line *l) {
        if (w->found[0] || !record_line_is(l, "kind", record_kind_names[RECORD_LOG_OPENED]))
                return;
        if (record_line_is(l, "found", "cut") || record_line_is(l, "found", "changed") ||
            (w->is_crew && record_line_is(l, "found", "unsigned"))) {
                copy_text(l, "found", w->found, sizeof(w->found));
                w->found_at = w->tree.n;
        }
}

static void on_line(const char *line, size_t n, const struct record_line *l, void *user) {
        struct walk *w = user;

        if (w->tree.n == 0) {
                copy_text(l, "crew", w->crew, sizeof(w->crew));
                copy_text(l, "agent", w->agent, sizeof(w->agent));
        }
        merkle_add(&w->tree, line, n);
        compare_claims(w);
        note_found(w, l);
        if (w->is_crew)
                take_claim(w, l);
}

/* --- what it comes to --- */

static bool say(struct audit_finding *out, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static bool say(struct audit_finding *out, const char *fmt, ...) {
        va_list ap;

        va_start(ap, fmt);
        vsnprintf(out->problem, sizeof(out->problem), fmt, ap);
        va_end(ap);
        return false;
}

static bool check_size(struct audit_finding *out, uint64_t said, const char *by) {
        if (said <= out->chain.records)
                return true;
        return say(out, "it has %" PRIu64 " records, and %s is of %" PRIu64 ": the end is missing", out->chain.records, by,
                   said);
}

static bool check_known(const struct walk *w, struct audit_finding *out) {
        const struct audit_known *k = w->known;

        if (!k || k->n == 0)
                return true;
        if (w->differs)
                return say(out,
                           "records %" PRIu64 " to %" PRIu64
                           " are not those that were signed: the tree of the first %" PRIu64
                           " has another root than the crew's log says",
                           w->agreed + 1, w->differs, w->differs);
        if (!check_size(out, k->claims[k->n - 1].lines, "what the crew's log says"))
                return false;
        if (!out->checkpoint)
                return say(out, "it has no checkpoint, and the crew's log knows one of %" PRIu64 " records",
                           k->claims[k->n - 1].lines);
        return true;
}

static bool check_found(const struct walk *w, struct audit_finding *out) {
        return !w->found[0] ||
               say(out, "when crewd opened it, and wrote record %" PRIu64 ", it was not as it had been signed: %s",
                   w->found_at, w->found);
}

static bool check_names(const struct walk *w, const struct audit_check *c, const char *agent, struct audit_finding *out) {
        char crew[KEY_NAME_MAX];

        if (agent && w->agent[0] && strcmp(w->agent, agent) != 0)
                return say(out, "it is the log of %s", w->agent);
        snprintf(crew, sizeof(crew), "crewd/%s", w->crew);
        if (c->has_key && w->crew[0] && strcmp(c->key.name, crew) != 0 && (c->pinned || out->checkpoint))
                return say(out, "it is a log of crew %s, and the key is %s's", w->crew, c->key.name);
        return true;
}

static bool check_signature(const struct audit_check *c, const char *what, enum note_outcome outcome,
                            struct audit_finding *out) {
        char hash[9];

        crew_hex(c->key.hash, sizeof(c->key.hash), hash);
        switch (outcome) {
        case NOTE_OK:
                return true;
        case NOTE_MALFORMED:
                return say(out, "%s is malformed", what);
        case NOTE_FORGED:
                return say(out, "%s is forged: it was not signed by %s+%s", what, c->key.name, hash);
        case NOTE_UNSIGNED:
                break;
        }
        return say(out, "%s is not signed by %s+%s", what, c->key.name, hash);
}

/* The checkpoint beside it; whether its numbers fit was seen on the way. */
static bool check_own(const struct walk *w, const struct audit_check *c, const struct note *note, enum note_outcome outcome,
                      bool loose, struct audit_finding *out) {
        char origin[NOTE_ORIGIN_MAX + 16];

        if (outcome == NOTE_MALFORMED)
                return say(out, "its checkpoint is malformed");
        if (!c->has_key && !loose)
                return say(out, "its checkpoint cannot be checked: " AUDIT_CHECK_CREW "/key.pub is missing or is no key");
        if (c->has_key && !check_signature(c, "its checkpoint", outcome, out))
                return false;
        snprintf(origin, sizeof(origin), "crewd/%s/%s", w->crew, w->agent);
        if (w->agent[0] && strcmp(note->origin, origin) != 0)
                return say(out, "its checkpoint is of another log: %s", note->origin);
        if (!check_size(out, note->lines, "its checkpoint"))
                return false;
        if (!w->own_fits)
                return say(out,
                           "records %" PRIu64 " to %" PRIu64
                           " are not those that were signed: its checkpoint has another root",
                           w->agreed + 1, note->lines);
        out->signed_records = c->has_key ? note->lines : 0;
        return true;
}

/* Of a log that is empty only the name is known. */
static bool kept_is_of(const struct walk *w, const char *agent) {
        const char *origin = w->check->kept->origin, *slash = strrchr(origin, '/');
        char own[NOTE_ORIGIN_MAX + 16];

        if (!w->agent[0])
                return agent && slash && strcmp(slash + 1, agent) == 0;
        snprintf(own, sizeof(own), "crewd/%s/%s", w->crew, w->agent);
        return strcmp(origin, own) == 0;
}

static bool check_kept(const struct walk *w, const struct audit_check *c, const char *agent, enum note_outcome outcome,
                       struct audit_finding *out) {
        char what[512];

        if (!c->kept || !kept_is_of(w, agent))
                return true;
        c->kept->seen = true;
        snprintf(what, sizeof(what), "the checkpoint %.400s", c->kept->file);
        if (c->has_key && !check_signature(c, what, outcome, out))
                return false;
        if (!check_size(out, w->kept.lines, what))
                return false;
        return w->kept_fits || say(out, "its first %" PRIu64 " records are not those of %s", w->kept.lines, what);
}

/* --- all of a stream --- */

static int open_log(const char *path, FILE **out, struct crew_err *err) {
        _cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
        struct stat st;

        if (fd < 0 || fstat(fd, &st) < 0)
                return crew_fail(err, errno, "cannot read %s: %s", path, strerror(errno));
        if (!S_ISREG(st.st_mode))
                return crew_fail(err, EINVAL, "cannot read %s: not a regular file", path);
        *out = fdopen(fd, "r");
        if (!*out)
                return crew_fail(err, errno, "cannot read %s: %s", path, strerror(errno));
        crew_steal_fd(&fd);
        return 0;
}

/* A copy of one file, away from all others: loose. */
struct source {
        const char *log, *checkpoint; /* paths; no checkpoint: NULL */
        const char *agent;            /* that it must be of; NULL: any */
        bool loose;
};

/* Read as if it were this one's; whether it is shows when the log has said whose it is. */
static void take_kept(struct walk *w, enum note_outcome *outcome) {
        const struct audit_kept *kept = w->check->kept;
        struct note note;

        if (!kept)
                return;
        *outcome = read_note(kept->text, kept->n, w->check->has_key ? &w->check->key : NULL, &note);
        w->kept.lines = note.lines;
        memcpy(w->kept.root, note.root, sizeof(note.root));
}

static int check(struct audit_check *c, const struct source *src, struct audit_finding *out, struct crew_err *err) {
        struct walk w = {.check = c, .is_crew = src->agent && strcmp(src->agent, AUDIT_CHECK_CREW) == 0};
        enum note_outcome outcome = NOTE_MALFORMED, kept = NOTE_OK;
        uint8_t root[CREW_SHA256_BYTES];
        _cleanup_fclose_ FILE *f = NULL;
        _cleanup_free_ char *text = NULL;
        struct note note = {0};
        size_t n;

        /* Before the log: what is written meanwhile is behind it. */
        *out = (struct audit_finding){0};
        out->checkpoint = src->checkpoint && access(src->checkpoint, F_OK) == 0;
        if (out->checkpoint && crew_read_file(src->checkpoint, NOTE_MAX, &text, &n, NULL) == 0)
                outcome = read_note(text, n, c->has_key ? &c->key : NULL, &note);
        w.has_own = outcome != NOTE_MALFORMED;
        w.own.lines = note.lines;
        memcpy(w.own.root, note.root, sizeof(note.root));
        w.known = src->agent && !w.is_crew ? known_of(c, src->agent) : NULL;
        take_kept(&w, &kept);
        merkle_init(&w.tree, crew_sha256_parts);
        compare_claims(&w);
        int r = open_log(src->log, &f, err);
        if (r == 0)
                r = record_verify_lines(f, on_line, &w, &out->chain, err);
        if (r == 0 && w.failed)
                r = crew_fail(err, ENOMEM, "out of memory");
        if (r < 0)
                return r;
        merkle_root(&w.tree, root);
        crew_hex(root, sizeof(root), out->root_hex);
        if (out->chain.bad_line || out->chain.bad_seq)
                say(out, "%s", out->chain.problem);
        else if (check_names(&w, c, src->agent, out) && check_known(&w, out) && check_kept(&w, c, src->agent, kept, out) &&
                 check_found(&w, out) && (!out->checkpoint || check_own(&w, c, &note, outcome, src->loose, out)) &&
                 !out->checkpoint && c->pinned)
                say(out, "it has no checkpoint, and nothing of it is signed by the key that was given");
        return 0;
}

/* It has a checkpoint before there is a key, or anything else to record. */
static void check_crew_log(struct audit_check *c, struct audit_finding *out) {
        for (size_t i = 0; i < c->n_known; i++) {
                if (c->known[i].n > 1)
                        qsort(c->known[i].claims, c->known[i].n, sizeof(*c->known[i].claims), by_size);
        }
        if (!out->problem[0] && !out->checkpoint && (c->has_key || c->n_known > 0 || out->chain.records > 1))
                say(out, "its checkpoint is missing");
}

int audit_check_stream(struct audit_check *c, const char *agent, struct audit_finding *out, struct crew_err *err) {
        char log[PATH_MAX + 96], checkpoint[PATH_MAX + 96];
        const struct source src = {.log = log, .checkpoint = checkpoint, .agent = agent};
        struct audit_known *k = known_of(c, agent);

        snprintf(log, sizeof(log), "%s/%s/log.jsonl", c->base, agent);
        snprintf(checkpoint, sizeof(checkpoint), "%s/%s/checkpoint", c->base, agent);
        if (k)
                k->seen = true;
        int r = check(c, &src, out, err);
        if (r < 0)
                return r;
        if (strcmp(agent, AUDIT_CHECK_CREW) == 0)
                check_crew_log(c, out);
        else if (!out->problem[0] && (out->checkpoint || c->has_key) && !c->crew_log)
                say(out, "the crew's own log (%.200s/" AUDIT_CHECK_CREW "), which says what was signed of it, is missing",
                    c->base);
        return 0;
}

void audit_check_gone(const struct audit_known *k, struct audit_finding *out) {
        *out = (struct audit_finding){0};
        say(out, "it is gone, and the crew's log knows %" PRIu64 " records of it", k->n ? k->claims[k->n - 1].lines : 0);
}

int audit_check_file(struct audit_check *c, const char *path, struct audit_finding *out, struct crew_err *err) {
        const char *slash = strrchr(path, '/'), *name = slash ? slash + 1 : path;
        int dir = slash ? (int)(slash - path) : 0;
        char checkpoint[PATH_MAX + 16];
        const bool beside = strcmp(name, "log.jsonl") == 0;

        snprintf(checkpoint, sizeof(checkpoint), "%.*s%scheckpoint", dir, path, slash ? "/" : "");
        return check(c, &(struct source){.log = path, .checkpoint = beside ? checkpoint : NULL, .loose = true}, out, err);
}
