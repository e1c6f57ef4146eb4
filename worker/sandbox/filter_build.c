/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The only file that calls libseccomp.  Each stage is one libseccomp filter with a single action, which is the part of
 * it that is easy to reason about; the stages are then joined: where one falls through, a jump to the next.  The calls
 * that are allowed whatever their arguments stand between the first two, by number.
 *
 * Trusts the tables; a profile's text is checked word by word.
 */
#include "filter_build.h"

#include "common/util.h"

#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <seccomp.h>
#include <stddef.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define NUMBERS_MAX 1024 /* above it no call is allowed without a look */

static void release_ctx(scmp_filter_ctx *ctx) {
        if (*ctx)
                seccomp_release(*ctx);
}

/* Number of a call, or -1 when this architecture has none of that name. */
static int row_number(const struct filter_row *row) {
        int nr = row->number ? row->number : seccomp_syscall_resolve_name(row->name);
        return nr < 0 ? -1 : nr;
}

static int add_row(scmp_filter_ctx ctx, uint32_t action, const struct filter_row *row, struct crew_err *err) {
        struct scmp_arg_cmp cmp[FILTER_CONDS_MAX];
        unsigned n = 0;
        int nr = row_number(row);

        if (nr < 0)
                return 0;
        for (; n < FILTER_CONDS_MAX && row->conds[n].mask; n++) {
                const struct filter_cond *c = &row->conds[n];
                cmp[n] = c->not_equal ? SCMP_CMP64(c->arg, SCMP_CMP_NE, c->value)
                                      : SCMP_CMP64(c->arg, SCMP_CMP_MASKED_EQ, c->mask, c->value);
        }
        int r = seccomp_rule_add_array(ctx, action, nr, n, cmp);
        if (r < 0)
                return crew_fail(err, -r, "seccomp: cannot add %s: %s", row->name, strerror(-r));
        return 0;
}

static bool profile_has(const struct filter_profile *p, int nr) {
        for (size_t i = 0; i < p->n; i++) {
                if (p->numbers[i] == nr)
                        return true;
        }
        return false;
}

static int fill_refused_if(scmp_filter_ctx ctx, const struct filter_profile *p, struct crew_err *err) {
        int r = 0;

        for (size_t i = 0; r == 0 && i < filter_refused_if_n; i++)
                r = add_row(ctx, SCMP_ACT_ERRNO((uint32_t)filter_refused_if[i].errno_), &filter_refused_if[i], err);
        return r;
}

/* Only the calls with a condition: the others have been let through by number before (allow_by_number). */
static int fill_allowed(scmp_filter_ctx ctx, const struct filter_profile *p, struct crew_err *err) {
        int r = 0;

        for (size_t i = 0; r == 0 && i < filter_allowed_if_n; i++) {
                /* A profile's bare "allow" replaces the condition. */
                if (!profile_has(p, row_number(&filter_allowed_if[i])))
                        r = add_row(ctx, SCMP_ACT_ALLOW, &filter_allowed_if[i], err);
        }
        return r;
}

static int fill_otherwise(scmp_filter_ctx ctx, const struct filter_profile *p, struct crew_err *err) {
        int r = 0;

        for (size_t i = 0; r == 0 && i < filter_otherwise_n; i++) {
                if (filter_otherwise[i].errno_ != ENOSYS)
                        r = add_row(ctx, SCMP_ACT_ERRNO((uint32_t)filter_otherwise[i].errno_), &filter_otherwise[i], err);
        }
        return r;
}

struct stage {
        uint32_t fall_through; /* default action of the stage; joined to the next one */
        int (*fill)(scmp_filter_ctx ctx, const struct filter_profile *p, struct crew_err *err);
};
static const struct stage stages[] = {
        {SCMP_ACT_ALLOW, fill_refused_if},
        {SCMP_ACT_ERRNO(ENOSYS), fill_allowed},
        {SCMP_ACT_ERRNO(ENOSYS), fill_otherwise},
};

/* libseccomp 2.5 exports to descriptors only. */
static int export_ctx(scmp_filter_ctx ctx, struct filter_program *out, size_t *n, struct crew_err *err) {
        _cleanup_close_ int fd = memfd_create("seccomp", MFD_CLOEXEC);
        size_t room = (FILTER_MAX_INSNS - out->n) * sizeof(out->insns[0]);

        if (fd < 0)
                return crew_fail_errno(err, "seccomp: cannot create memfd");
        int r = seccomp_export_bpf(ctx, fd);
        if (r < 0)
                return crew_fail(err, -r, "seccomp: cannot compile: %s", strerror(-r));
        ssize_t got = pread(fd, &out->insns[out->n], room, 0);
        if (got < 0)
                return crew_fail_errno(err, "seccomp: cannot read the program");
        if (got == 0 || (size_t)got == room || (size_t)got % sizeof(out->insns[0]) != 0)
                return crew_fail(err, E2BIG, "seccomp: program of %zd bytes", got);
        *n = (size_t)got / sizeof(out->insns[0]);
        return 0;
}

/* In insns[from, from + n): "return fall_through" becomes "go to what follows". */
static void join(struct filter_program *out, size_t n, uint32_t fall_through) {
        for (size_t i = 0; i < n; i++) {
                struct sock_filter *in = &out->insns[out->n + i];
                if (in->code == (BPF_RET | BPF_K) && in->k == fall_through)
                        *in = (struct sock_filter)BPF_STMT(BPF_JMP | BPF_JA, (uint32_t)(n - i - 1));
        }
}

static int build_stage(const struct stage *s, bool last, const struct filter_profile *p, struct filter_program *out,
                       struct crew_err *err) {
        _cleanup_(release_ctx) scmp_filter_ctx ctx = seccomp_init(s->fall_through);
        size_t n = 0;

        if (!ctx)
                return crew_fail(err, ENOMEM, "seccomp: out of memory");
        int r = seccomp_attr_set(ctx, SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_KILL_PROCESS);
        if (r == 0)
                r = seccomp_attr_set(ctx, SCMP_FLTATR_CTL_OPTIMIZE, 2); /* a search tree over the numbers */
        if (r < 0)
                return crew_fail(err, -r, "seccomp: cannot set an attribute: %s", strerror(-r));
        if ((r = s->fill(ctx, p, err)) < 0 || (r = export_ctx(ctx, out, &n, err)) < 0)
                return r;
        if (!last)
                join(out, n, s->fall_through);
        out->n += n;
        return 0;
}

/* --- the calls that need no look at their arguments --- */

/*
 * Three hundred numbers in some thirty runs.  A search over the runs' edges is a fifth of what one test a number comes
 * to; the kernel checks, translates and tries out each instruction for every jail.
 */
struct edges {
        uint32_t at[2 * NUMBERS_MAX]; /* where "allowed" turns into "not" and back, ascending; below the first: not */
        size_t n;
};

static void find_edges(const struct filter_profile *p, struct edges *e) {
        bool allowed[NUMBERS_MAX + 1] = {false};

        for (size_t i = 0; filter_allowed[i]; i++) {
                int nr = seccomp_syscall_resolve_name(filter_allowed[i]);
                if (nr >= 0 && nr < NUMBERS_MAX)
                        allowed[nr] = true;
        }
        for (size_t i = 0; i < p->n; i++) {
                if (p->numbers[i] >= 0 && p->numbers[i] < NUMBERS_MAX)
                        allowed[p->numbers[i]] = true;
        }
        e->n = 0;
        for (uint32_t nr = 0; nr <= NUMBERS_MAX; nr++) {
                if (allowed[nr] != (nr > 0 && allowed[nr - 1]))
                        e->at[e->n++] = nr;
        }
}

/* The search among edges [from, to): the number is known to lie after edge from - 1 and before edge to. */
static int put_search(const struct edges *e, size_t from, size_t to, struct filter_program *out) {
        if (out->n + 2 > FILTER_MAX_INSNS)
                return -E2BIG;
        if (from == to) { /* after an odd number of edges: allowed.  The jump's target is filled in at the end. */
                out->insns[out->n++] = from % 2 ? (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)
                                                : (struct sock_filter)BPF_STMT(BPF_JMP | BPF_JA, UINT32_MAX);
                return 0;
        }
        size_t middle = from + (to - from) / 2, jump = out->n++;
        int r = put_search(e, from, middle, out);
        size_t skip = out->n - jump - 1;
        if (r < 0 || skip > UINT8_MAX)
                return r < 0 ? r : -E2BIG;
        out->insns[jump] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, e->at[middle], (uint8_t)skip, 0);
        return put_search(e, middle + 1, to, out);
}

/* Comes after a stage of libseccomp's, which has killed every foreign architecture and x32. */
static int allow_by_number(const struct filter_profile *p, struct filter_program *out, struct crew_err *err) {
        size_t first = out->n;
        struct edges e;

        find_edges(p, &e);
        out->insns[out->n++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr));
        int r = put_search(&e, 0, e.n, out);
        if (r < 0)
                return crew_fail(err, -r, "seccomp: the allowed numbers do not fit");
        for (size_t i = first; i < out->n; i++) {
                if (out->insns[i].code == (BPF_JMP | BPF_JA) && out->insns[i].k == UINT32_MAX)
                        out->insns[i].k = (uint32_t)(out->n - i - 1);
        }
        return 0;
}

int filter_build(const struct filter_profile *profile, struct filter_program *out, struct crew_err *err) {
        int r;

        out->n = 0;
        if ((r = build_stage(&stages[0], false, profile, out, err)) < 0 || (r = allow_by_number(profile, out, err)) < 0 ||
            (r = build_stage(&stages[1], false, profile, out, err)) < 0)
                return r;
        return build_stage(&stages[2], true, profile, out, err);
}

/* --- profiles --- */

static const struct filter_row *otherwise_of(int nr) {
        for (size_t i = 0; i < filter_otherwise_n; i++) {
                if (row_number(&filter_otherwise[i]) == nr)
                        return &filter_otherwise[i];
        }
        return NULL;
}

static int profile_line(const char *where, char *line, struct filter_profile *out, struct crew_err *err) {
        char *save = NULL;

        line[strcspn(line, "#")] = '\0';
        const char *verb = strtok_r(line, " \t", &save), *name = strtok_r(NULL, " \t", &save);
        if (!verb)
                return 0;
        if (strcmp(verb, "allow") != 0 || !name || strtok_r(NULL, " \t", &save))
                return crew_fail(err, EINVAL, "%s: expected 'allow NAME', one call a line", where);
        int nr = seccomp_syscall_resolve_name(name);
        if (nr == __NR_SCMP_ERROR)
                return crew_fail(err, EINVAL, "%s: no system call is named '%s'", where, name);
        if (nr < 0)
                return 0; /* another architecture's */
        const struct filter_row *row = otherwise_of(nr);
        if (row && row->never)
                return crew_fail(err, EINVAL, "%s: '%s' can not be allowed by a profile: it would open the jail", where,
                                 name);
        if (out->n == ELEMENTSOF(out->numbers))
                return crew_fail(err, EINVAL, "%s: more than %zu calls", where, ELEMENTSOF(out->numbers));
        if (!profile_has(out, nr))
                out->numbers[out->n++] = nr;
        return 0;
}

int filter_profile_parse(const char *file, const char *text, size_t n, struct filter_profile *out, struct crew_err *err) {
        int r = 0;

        out->n = 0;
        if (n > FILTER_PROFILE_BYTES_MAX || memchr(text, '\0', n))
                return crew_fail(err, EINVAL, "%s: not a profile: too large, or binary", file);
        const char *end = text + n;
        for (unsigned number = 1; r == 0 && text < end; number++) {
                const char *eol = memchr(text, '\n', (size_t)(end - text));
                size_t len = eol ? (size_t)(eol - text) : (size_t)(end - text);
                char line[256], where[512];

                snprintf(where, sizeof(where), "%s:%u", file, number);
                if (len >= sizeof(line))
                        return crew_fail(err, EINVAL, "%s: line longer than %zu characters", where, sizeof(line) - 1);
                memcpy(line, text, len);
                line[len] = '\0';
                r = profile_line(where, line, out, err);
                text += len + 1;
        }
        return r;
}
