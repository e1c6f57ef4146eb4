/* SPDX-License-Identifier: Apache-2.0 */
/*
 * From tables and a profile to a verdict for each number of a call, and from these to a program (filter_code.h).  Most
 * numbers have one verdict whatever their arguments are, and these lie in some hundred runs; the others have rules.
 *
 * The only file that calls libseccomp, which knows the numbers.  Trusts the tables; a profile's text is checked word by
 * word.
 */
#include "filter_build.h"

#include "filter_code.h"

#include "common/util.h"

#include <errno.h>
#include <linux/audit.h>
#include <linux/seccomp.h>
#include <seccomp.h>
#include <stddef.h>
#include <string.h>

#if defined(__x86_64__)
#define NATIVE_ARCH AUDIT_ARCH_X86_64
#define X32_FIRST 0x40000000u
#elif defined(__aarch64__)
#define NATIVE_ARCH AUDIT_ARCH_AARCH64
#else
#error "unsupported architecture"
#endif

#define NUMBERS_MAX 1024 /* above it there is no call */
#define ROWS_MAX 192
#define REFUSE_WITH(e) (SECCOMP_RET_ERRNO | (uint32_t)(e))

/* Number of a call, or -1 when this architecture has none of that name. */
static int row_number(const struct filter_row *row) {
        int nr = row->number ? row->number : seccomp_syscall_resolve_name(row->name);
        return nr < 0 ? -1 : nr;
}

/* --- what is said about each number --- */

struct rows { /* a table, and the number of each row: looking one up takes libseccomp its time */
        const struct filter_row *rows;
        size_t n;
        int numbers[ROWS_MAX];
};

struct verdicts {
        struct rows refused_if, allowed_if, otherwise;
        bool allowed[NUMBERS_MAX];
};

static int find_numbers(struct rows *out, const struct filter_row *rows, size_t n, struct crew_err *err) {
        out->rows = rows;
        out->n = n;
        if (n > ROWS_MAX)
                return crew_fail(err, E2BIG, "seccomp: a table of %zu rows", n);
        for (size_t i = 0; i < n; i++) {
                out->numbers[i] = row_number(&rows[i]);
                if (out->numbers[i] >= NUMBERS_MAX)
                        return crew_fail(err, E2BIG, "seccomp: %s has number %d", rows[i].name, out->numbers[i]);
        }
        return 0;
}

static int find_verdicts(const struct filter_profile *p, struct verdicts *v, struct crew_err *err) {
        int r;

        memset(v->allowed, 0, sizeof(v->allowed));
        for (size_t i = 0; filter_allowed[i][0]; i++) {
                int nr = seccomp_syscall_resolve_name(filter_allowed[i]);
                if (nr >= 0 && nr < NUMBERS_MAX)
                        v->allowed[nr] = true;
        }
        for (size_t i = 0; i < p->n; i++) { /* a profile's bare "allow" replaces a condition, too */
                if (p->numbers[i] >= 0 && p->numbers[i] < NUMBERS_MAX)
                        v->allowed[p->numbers[i]] = true;
        }
        if ((r = find_numbers(&v->refused_if, filter_refused_if, filter_refused_if_n, err)) < 0 ||
            (r = find_numbers(&v->allowed_if, filter_allowed_if, filter_allowed_if_n, err)) < 0)
                return r;
        return find_numbers(&v->otherwise, filter_otherwise, filter_otherwise_n, err);
}

/* --- rules --- */

/* For one number: rules, their verdicts actions still, and the action when none holds. */
struct decision {
        size_t n;
        struct filter_rule rules[FILTER_RULES_MAX];
        uint32_t otherwise;
};

static void add_test(struct filter_rule *r, uint8_t arg, bool upper, const struct filter_cond *c) {
        const size_t word = offsetof(struct seccomp_data, args) + 8u * arg + (upper ? 4 : 0);

        r->tests[r->n++] = (struct filter_test){.word = (uint32_t)word,
                                                .not_equal = c->not_equal,
                                                .mask = (uint32_t)(upper ? c->mask >> 32 : c->mask),
                                                .value = (uint32_t)(upper ? c->value >> 32 : c->value)};
}

/* Two halves: equal when both are, unequal when either is, which is a rule each.  (seccomp_data is little endian here.) */
static int add_row(struct decision *d, const struct filter_row *row, uint32_t action) {
        struct filter_rule r = {.verdict = action}, other;
        bool either = false;

        for (size_t i = 0; i < FILTER_CONDS_MAX && row->conds[i].mask; i++) {
                const struct filter_cond *c = &row->conds[i];
                if (c->not_equal && (either || c->mask != UINT64_MAX || (i + 1 < FILTER_CONDS_MAX && c[1].mask)))
                        return -EINVAL; /* at most one, and the last */
                either |= c->not_equal;
                if (either)
                        other = r;
                if (c->mask >> 32)
                        add_test(either ? &other : &r, c->arg, true, c);
                if ((uint32_t)c->mask)
                        add_test(&r, c->arg, false, c);
        }
        if (d->n + 2 > FILTER_RULES_MAX)
                return -E2BIG;
        d->rules[d->n++] = r;
        if (either)
                d->rules[d->n++] = other;
        return 0;
}

static int add_rows(struct decision *d, const struct rows *t, int nr, bool refuse) {
        int r = 0;

        for (size_t i = 0; r == 0 && i < t->n; i++) {
                if (t->numbers[i] == nr)
                        r = add_row(d, &t->rows[i], refuse ? REFUSE_WITH(t->rows[i].errno_) : SECCOMP_RET_ALLOW);
        }
        return r;
}

static int decide(const struct verdicts *v, int nr, struct decision *d) {
        d->n = 0;
        d->otherwise = REFUSE_WITH(ENOSYS);
        int r = add_rows(d, &v->refused_if, nr, true);
        if (v->allowed[nr])
                d->otherwise = SECCOMP_RET_ALLOW;
        if (r < 0 || v->allowed[nr])
                return r;
        for (size_t i = 0; i < v->otherwise.n; i++) {
                if (v->otherwise.numbers[i] == nr)
                        d->otherwise = REFUSE_WITH(v->otherwise.rows[i].errno_);
        }
        return add_rows(d, &v->allowed_if, nr, false);
}

/* --- the program --- */

#define ACTIONS_MAX 16

struct builder {
        struct verdicts verdicts;
        struct filter_code code;
        struct {
                uint32_t action, place;
        } actions[ACTIONS_MAX];
        size_t n_actions;
        struct filter_run runs[NUMBERS_MAX + 4];
        size_t n_runs;
        struct decision now, before; /* of the number at hand, of the one it is compared with */
};

/* An action stands once, at the end of all: they are asked for first.  0 when there are too many. */
static uint32_t place_of(struct builder *b, uint32_t action) {
        for (size_t i = 0; i < b->n_actions; i++) {
                if (b->actions[i].action == action)
                        return b->actions[i].place;
        }
        if (b->n_actions == ACTIONS_MAX) {
                b->code.full = true;
                return 0;
        }
        const uint32_t place = filter_code_return(&b->code, action);
        b->actions[b->n_actions].action = action;
        b->actions[b->n_actions++].place = place;
        return place;
}

static void place_actions(struct builder *b) {
        place_of(b, SECCOMP_RET_ALLOW);
        place_of(b, SECCOMP_RET_KILL_PROCESS);
        place_of(b, REFUSE_WITH(ENOSYS));
        for (size_t i = 0; i < filter_refused_if_n; i++)
                place_of(b, REFUSE_WITH(filter_refused_if[i].errno_));
        for (size_t i = 0; i < filter_otherwise_n; i++)
                place_of(b, REFUSE_WITH(filter_otherwise[i].errno_));
}

static bool same_decision(const struct decision *a, const struct decision *b) {
        return a->n == b->n && a->otherwise == b->otherwise && memcmp(a->rules, b->rules, a->n * sizeof(a->rules[0])) == 0;
}

/* Where an earlier number with the same rules went, 0 when there is none. */
static uint32_t place_before(struct builder *b) {
        for (size_t i = 0; i < b->n_runs; i++) {
                if (decide(&b->verdicts, (int)b->runs[i].first, &b->before) == 0 && same_decision(&b->now, &b->before))
                        return b->runs[i].target;
        }
        return 0;
}

static uint32_t place_decision(struct builder *b) {
        struct decision *d = &b->now;
        uint32_t place = d->n ? place_before(b) : 0;

        if (place)
                return place;
        struct filter_rule *rules = b->before.rules; /* the same, with places */
        memcpy(rules, d->rules, d->n * sizeof(*rules));
        for (size_t i = 0; i < d->n; i++)
                rules[i].verdict = place_of(b, rules[i].verdict);
        return filter_code_rules(&b->code, rules, d->n, place_of(b, d->otherwise));
}

static void add_run(struct builder *b, uint32_t first, uint32_t target) {
        if (b->n_runs == 0 || b->runs[b->n_runs - 1].target != target)
                b->runs[b->n_runs++] = (struct filter_run){first, target};
}

static int build(struct builder *b, const struct filter_profile *profile, struct crew_err *err) {
        int r = find_verdicts(profile, &b->verdicts, err);

        if (r < 0)
                return r;
        place_actions(b);
        for (uint32_t nr = 0; nr < NUMBERS_MAX; nr++) {
                if ((r = decide(&b->verdicts, (int)nr, &b->now)) < 0)
                        return crew_fail(err, -r, "seccomp: the rules for call %u cannot be put into code", nr);
                add_run(b, nr, place_decision(b));
        }
        add_run(b, NUMBERS_MAX, place_of(b, REFUSE_WITH(ENOSYS)));
#ifdef X32_FIRST
        add_run(b, X32_FIRST, place_of(b, SECCOMP_RET_KILL_PROCESS));
        add_run(b, UINT32_MAX, place_of(b, REFUSE_WITH(ENOSYS))); /* a call that a tracer skipped */
#endif
        const uint32_t start = filter_code_search(&b->code, b->runs, b->n_runs);
        filter_code_begin(&b->code, NATIVE_ARCH, place_of(b, SECCOMP_RET_KILL_PROCESS), start);
        return b->code.full ? crew_fail(err, E2BIG, "seccomp: more than %d instructions", FILTER_MAX_INSNS) : 0;
}

int filter_build(const struct filter_profile *profile, struct filter_program *out, struct crew_err *err) {
        struct builder *b = calloc(1, sizeof(*b));

        if (!b)
                return crew_fail(err, ENOMEM, "seccomp: out of memory");
        int r = build(b, profile, err);
        out->n = b->code.n;
        memcpy(out->insns, &b->code.insns[FILTER_MAX_INSNS - out->n], out->n * sizeof(out->insns[0]));
        free(b);
        return r;
}

/* --- profiles --- */

static bool profile_has(const struct filter_profile *p, int nr) {
        for (size_t i = 0; i < p->n; i++) {
                if (p->numbers[i] == nr)
                        return true;
        }
        return false;
}

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
