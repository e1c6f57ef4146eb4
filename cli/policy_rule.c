/* SPDX-License-Identifier: Apache-2.0 */
#include "policy_rule.h"

#include "common/util.h"
#include "supervisor/policy/edit.h"
#include "supervisor/policy/policy.h"
#include "text.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/random.h>

#define POLICY_MAX (1u << 20)
#define CONTEXT 3u

void policy_rule_fini(struct policy_rule *r) {
        free(r->before);
        free(r->after);
        *r = POLICY_RULE_NULL;
}

static int by_hand(const struct policy_rule_want *want, struct cli_problem *p) {
        cli_problem_hint(p, "add it by hand to network.allowed_endpoints of agent %s:", want->agent);
        cli_problem_hint(p, "  - \"%s\"", want->endpoint);
        cli_problem_hint(p, "then: crewctl policy reload");
        return -1;
}

/* --- making --- */

static int read_it(const struct policy_rule_want *want, struct policy_rule *r, struct cli_problem *p) {
        struct crew_err err = CREW_ERR_NULL;
        _cleanup_close_ int fd = open(want->file, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY);

        if (fd < 0 || fstat(fd, &r->st) < 0)
                return cli_problem_set(p, CLI_FAILED, "io", "%s: %s", want->file, strerror(errno));
        if (!S_ISREG(r->st.st_mode) || r->st.st_nlink != 1) {
                cli_problem_set(p, CLI_FAILED, "not-editable", "%s %s", want->file,
                                S_ISREG(r->st.st_mode) ? "has other names (hard links), which would keep the old text"
                                                       : "is no regular file");
                return by_hand(want, p);
        }
        if (crew_read_fd(fd, POLICY_MAX, &r->before, &r->n_before, &err) < 0)
                return cli_problem_set(p, CLI_FAILED, "io", "%s: %s", want->file, err.msg);
        return 0;
}

static int edit_it(const struct policy_rule_want *want, struct policy_rule *r, struct cli_problem *p) {
        struct crew_err err = CREW_ERR_NULL;
        struct policy_edit e;
        int outcome = policy_edit_add_endpoint(want->file, r->before, r->n_before, want->agent, want->endpoint, &e, &err);

        if (outcome < 0)
                return cli_problem_set(p, CLI_USAGE, "bad-file", "%s", err.msg);
        r->line = e.line;
        r->after = e.bytes;
        r->n_after = e.n;
        if (outcome != POLICY_EDIT_REFUSED)
                return 0;
        cli_problem_set(p, CLI_FAILED, "not-editable", "%s cannot be edited: %s", want->file, e.why);
        return by_hand(want, p);
}

/* The same loader that crewd will use on it. */
static int check_it(const struct policy_rule_want *want, const struct policy_rule *r, struct cli_problem *p) {
        struct policy_report report = {0};
        struct crew_err err = CREW_ERR_NULL;
        struct policy_image *image = NULL;
        int result =
                policy_load_bytes(want->file, r->after, r->n_after, want->agent, want->crew_dir, &image, &report, &err);
        bool allowed = result == 0 && policy_decide(image, POLICY_DO_CONNECT, want->endpoint).allowed;

        policy_image_free(image);
        policy_report_fini(&report);
        if (result < 0)
                return cli_problem_set(p, CLI_USAGE, "bad-file", "with the rule the policy would not load: %s", err.msg);
        if (!allowed)
                return cli_problem_set(p, CLI_FAILED, "not-editable", "%s: the rule would not allow %s", want->file,
                                       want->endpoint);
        return 0;
}

int policy_rule_make(const struct policy_rule_want *want, struct policy_rule *r, struct cli_problem *p) {
        snprintf(r->file, sizeof(r->file), "%s", want->file);
        if (read_it(want, r, p) < 0 || edit_it(want, r, p) < 0)
                return -1;
        return r->after ? check_it(want, r, p) : 0;
}

/* --- showing --- */

static size_t line_length(const char *s, size_t n) {
        const char *nl = memchr(s, '\n', n);

        return nl ? (size_t)(nl - s) + 1 : n;
}

/* Bytes of whole lines that both begin with; *lines counts them. */
static size_t common_head(const struct policy_rule *r, size_t *lines) {
        size_t at = 0;

        for (*lines = 0; at < r->n_before && at < r->n_after; (*lines)++) {
                size_t a = line_length(r->before + at, r->n_before - at), b = line_length(r->after + at, r->n_after - at);
                if (a != b || memcmp(r->before + at, r->after + at, a) != 0)
                        break;
                at += a;
        }
        return at;
}

static size_t line_before(const char *s, size_t at) {
        if (at > 0)
                at--;
        while (at > 0 && s[at - 1] != '\n')
                at--;
        return at;
}

/* Bytes of whole lines that both end with, not reaching into head. */
static size_t common_tail(const struct policy_rule *r, size_t head) {
        size_t a = r->n_before, b = r->n_after;

        while (a > head && b > head) {
                size_t pa = line_before(r->before, a), pb = line_before(r->after, b);
                if (pa < head || pb < head || a - pa != b - pb || memcmp(r->before + pa, r->after + pb, a - pa) != 0)
                        break;
                a = pa;
                b = pb;
        }
        return r->n_before - a;
}

static void put_lines(const struct term *t, char sign, enum term_style style, const char *s, size_t n) {
        while (n > 0) {
                size_t k = line_length(s, n), shown = k - (s[k - 1] == '\n');
                shown -= shown > 0 && s[shown - 1] == '\r';
                _cleanup_free_ char *line = text_safe_dup(s, shown, t->utf8);
                fprintf(t->out, "%s%c%s%s\n", term_on(t, style), sign, line ? line : "", term_off(t, style));
                s += k;
                n -= k;
        }
}

void policy_rule_show(const struct policy_rule *r, const struct term *t) {
        size_t lines, head = common_head(r, &lines), tail = common_tail(r, head), from = head, to = r->n_before - tail,
                      n = 0;

        for (; n < CONTEXT && from > 0; n++)
                from = line_before(r->before, from);
        term_put(t, r->file);
        fprintf(t->out, ":%zu\n", lines - n + 1);
        put_lines(t, ' ', TERM_DIM, r->before + from, head - from);
        put_lines(t, '-', TERM_RED, r->before + head, to - head);
        put_lines(t, '+', TERM_GREEN, r->after + head, r->n_after - tail - head);
        for (n = 0; n < CONTEXT && to < r->n_before; n++) {
                size_t k = line_length(r->before + to, r->n_before - to);
                put_lines(t, ' ', TERM_DIM, r->before + to, k);
                to += k;
        }
}

/* --- writing --- */

static int split(const char *file, char dir[PATH_MAX], const char **name) {
        const char *slash = strrchr(file, '/');

        *name = slash ? slash + 1 : file;
        int n = !slash ? snprintf(dir, PATH_MAX, ".") : snprintf(dir, PATH_MAX, "%.*s", (int)(slash - file) + 1, file);
        return n > 0 && n < PATH_MAX && **name ? 0 : -ENAMETOOLONG;
}

static int fill_temporary(int fd, const struct stat *like, const char *bytes, size_t n) {
        struct stat st;

        if (fstat(fd, &st) < 0)
                return -errno;
        if ((st.st_uid != like->st_uid || st.st_gid != like->st_gid) && fchown(fd, like->st_uid, like->st_gid) < 0)
                return -errno;
        if (fchmod(fd, like->st_mode & 07777) < 0)
                return -errno;
        int r = crew_write_full(fd, bytes, n);
        if (r < 0)
                return r;
        return fsync(fd) < 0 ? -errno : fstat(fd, &st) < 0 ? -errno : 0;
}

static bool is_as_it_was(int dir, const char *name, const struct stat *was) {
        struct stat now;

        return fstatat(dir, name, &now, AT_SYMLINK_NOFOLLOW) == 0 && now.st_ino == was->st_ino &&
               now.st_dev == was->st_dev && now.st_size == was->st_size && now.st_mtim.tv_sec == was->st_mtim.tv_sec &&
               now.st_mtim.tv_nsec == was->st_mtim.tv_nsec;
}

/* bytes take the place of the file that r->st describes, and r->st then describes the new one.  -ESTALE: it has changed. */
static int replace(struct policy_rule *r, const char *bytes, size_t n) {
        char dir_path[PATH_MAX], temporary[64];
        const char *name;
        uint64_t random = 0;
        int e = split(r->file, dir_path, &name);

        if (e < 0)
                return e;
        _cleanup_close_ int dir = open(dir_path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (dir < 0 || getrandom(&random, sizeof(random), 0) < 0)
                return -errno;
        snprintf(temporary, sizeof(temporary), ".crewctl-%016llx", (unsigned long long)random);
        _cleanup_close_ int fd = openat(dir, temporary, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
        if (fd < 0)
                return -errno;
        e = fill_temporary(fd, &r->st, bytes, n);
        if (e == 0 && !is_as_it_was(dir, name, &r->st))
                e = -ESTALE;
        if (e == 0 && renameat(dir, temporary, dir, name) < 0)
                e = -errno;
        if (e < 0) {
                unlinkat(dir, temporary, 0);
                return e;
        }
        (void)!fsync(dir); /* a rename that is lost with the power leaves the old file: whole, and known */
        return fstat(fd, &r->st) < 0 ? -errno : 0;
}

static int write_problem(const struct policy_rule *r, int e, struct cli_problem *p) {
        if (e == -ESTALE)
                return cli_problem_set(p, CLI_FAILED, "changed", "%s has been changed meanwhile; nothing was written",
                                       r->file);
        return cli_problem_set(p, CLI_FAILED, "io", "%s cannot be written: %s", r->file, strerror(-e));
}

int policy_rule_write(struct policy_rule *r, struct cli_problem *p) {
        int e = replace(r, r->after, r->n_after);

        return e < 0 ? write_problem(r, e, p) : 0;
}

int policy_rule_undo(struct policy_rule *r, struct cli_problem *p) {
        int e = replace(r, r->before, r->n_before);

        return e < 0 ? write_problem(r, e, p) : 0;
}
