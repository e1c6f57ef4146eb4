/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The program that is installed decides as libseccomp's of the same rules does: for every number, and for the calls with
 * rules at every value that a rule names, at what differs from it in one bit, and with garbage where no rule looks.  Each
 * comparison in either program is of bits that a rule names with a value that a rule names, so there is no other place
 * where the two could part.
 */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "bpf_run.h"
#include "worker/sandbox/filter_code.h"

#include "common/util.h"

#include <linux/audit.h>
#include <seccomp.h>
#include <string.h>

#if defined(__x86_64__)
#define ARCH AUDIT_ARCH_X86_64
#else
#define ARCH AUDIT_ARCH_AARCH64
#endif
#define NUMBERS 4096
#define POINTS_MAX 256
#define HIGH 0xdead000000000000ull

struct pair {
        struct program ours, theirs;
        uint64_t asked;
};

static uint32_t same(struct pair *p, const struct seccomp_data *d) {
        uint32_t ours = bpf_run(&p->ours, d), theirs = bpf_run(&p->theirs, d);

        p->asked++;
        if (ours != theirs)
                fail_msg("arch %x, call %d (%llx, %llx, %llx, %llx): 0x%x, must be 0x%x", d->arch, d->nr,
                         (unsigned long long)d->args[0], (unsigned long long)d->args[1], (unsigned long long)d->args[2],
                         (unsigned long long)d->args[3], ours, theirs);
        return ours;
}

static void for_each_profile(void (*check)(struct pair *p)) {
        static struct filter_program ours, theirs;

        for (const struct filter_builtin *b = filter_builtins; b->name; b++) {
                struct filter_profile profile;
                struct crew_err err = CREW_ERR_NULL;
                assert_int_equal(filter_profile_parse(b->name, b->text, b->text_len, &profile, &err), 0);
                if (filter_build(&profile, &ours, &err) < 0 || filter_reference(&profile, &theirs, &err) < 0)
                        fail_msg("%s: %s", b->name, err.msg);
                struct pair p = {{ours.insns, ours.n}, {theirs.insns, theirs.n}, 0};
                check(&p);
                assert_true(p.asked > NUMBERS);
        }
}

static void check_numbers(struct pair *p) {
        static const uint64_t everywhere[] = {0, 1, HIGH, UINT64_MAX};

        for (uint32_t nr = 0; nr < NUMBERS; nr++) {
                for (size_t i = 0; i < ELEMENTSOF(everywhere); i++) {
                        const uint64_t v = everywhere[i];
                        same(p, &(struct seccomp_data){.nr = (int)nr, .arch = ARCH, .args = {v, v, v, v, v, v}});
                }
                same(p, &(struct seccomp_data){.nr = (int)nr, .arch = ARCH ^ 1});
                same(p, &(struct seccomp_data){.nr = (int)(nr | 0x40000000), .arch = ARCH});
                same(p, &(struct seccomp_data){.nr = (int)(UINT32_MAX - nr), .arch = ARCH});
                same(p, &(struct seccomp_data){.nr = (int)(0x3fffffff - nr), .arch = ARCH});
        }
        for (unsigned bit = 0; bit < 32; bit++) {
                same(p, &(struct seccomp_data){.nr = (int)(1u << bit), .arch = ARCH});
                same(p, &(struct seccomp_data){.nr = 1, .arch = ARCH ^ (1u << bit)});
        }
}

static void every_number_gets_the_same_verdict(void **state) {
        for_each_profile(check_numbers);
}

/* --- calls with rules --- */

struct points {
        size_t n;
        uint64_t values[POINTS_MAX];
};

static void add_point(struct points *p, uint64_t v) {
        for (size_t i = 0; i < p->n; i++) {
                if (p->values[i] == v)
                        return;
        }
        assert_true(p->n < POINTS_MAX);
        p->values[p->n++] = v;
}

static int number_of(const struct filter_row *row) {
        return row->number ? row->number : seccomp_syscall_resolve_name(row->name);
}

static void add_conditions(const struct filter_row *rows, size_t n, int nr, struct points points[6]) {
        for (size_t i = 0; i < n; i++) {
                if (number_of(&rows[i]) != nr)
                        continue;
                for (size_t k = 0; k < FILTER_CONDS_MAX && rows[i].conds[k].mask; k++) {
                        const struct filter_cond *c = &rows[i].conds[k];
                        add_point(&points[c->arg], c->value);
                        add_point(&points[c->arg], c->value | ~c->mask);
                        add_point(&points[c->arg], c->mask);
                }
        }
}

/* The point itself, and all that differ from it in one bit of one argument. */
static void ask_around(struct pair *p, struct seccomp_data d, const struct points points[6]) {
        same(p, &d);
        for (size_t arg = 0; arg < 6; arg++) {
                if (points[arg].n == 1)
                        continue; /* no rule looks at it */
                for (unsigned bit = 0; bit < 64; bit++) {
                        d.args[arg] ^= 1ull << bit;
                        same(p, &d);
                        d.args[arg] ^= 1ull << bit;
                }
        }
}

static void ask_all(struct pair *p, struct seccomp_data *d, size_t arg, const struct points points[6]) {
        if (arg == 6) {
                ask_around(p, *d, points);
                return;
        }
        for (size_t i = 0; i < points[arg].n; i++) {
                d->args[arg] = points[arg].values[i];
                ask_all(p, d, arg + 1, points);
        }
}

static void check_number(struct pair *p, int nr) {
        struct seccomp_data d = {.nr = nr, .arch = ARCH};
        static struct points points[6];
        bool any = false;

        memset(points, 0, sizeof(points));
        add_conditions(filter_refused_if, filter_refused_if_n, nr, points);
        add_conditions(filter_allowed_if, filter_allowed_if_n, nr, points);
        for (size_t arg = 0; arg < 6; arg++) {
                any |= points[arg].n > 0;
                add_point(&points[arg], 0);
                if (points[arg].n > 1)
                        add_point(&points[arg], UINT64_MAX);
        }
        if (any)
                ask_all(p, &d, 0, points);
}

static void check_rules(struct pair *p) {
        bool done[NUMBERS] = {false};
        const struct {
                const struct filter_row *rows;
                size_t n;
        } tables[] = {{filter_refused_if, filter_refused_if_n}, {filter_allowed_if, filter_allowed_if_n}};

        for (size_t t = 0; t < ELEMENTSOF(tables); t++) {
                for (size_t i = 0; i < tables[t].n; i++) {
                        int nr = number_of(&tables[t].rows[i]);
                        if (nr < 0 || nr >= NUMBERS || done[nr])
                                continue;
                        done[nr] = true;
                        check_number(p, nr);
                }
        }
}

static void every_rule_gets_the_same_verdict(void **state) {
        for_each_profile(check_rules);
}

/* --- rules that no table has --- */

static uint32_t any(uint32_t below) {
        static uint64_t state = 88172645463325252u;

        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        return (uint32_t)(state >> 32) % below;
}

/* Two words, few bits and few values, so that looks are shared and rules overlap. */
static void make_rule(struct filter_rule *r) {
        static const uint32_t masks[] = {1, 2, 4, 8, 3, 6, 15, UINT32_MAX};

        *r = (struct filter_rule){.n = any(4), .verdict = 1 + any(3)};
        for (uint32_t i = 0; i < r->n; i++) {
                const uint32_t mask = masks[any(ELEMENTSOF(masks))];
                r->tests[i] = (struct filter_test){.word = any(2) ? 16 : 24, .not_equal = any(6) == 0, .mask = mask};
                r->tests[i].value = any(2) ? mask & 15 : any(16) & mask;
        }
}

static uint32_t by_the_rules(const struct filter_rule *rules, size_t n, const struct seccomp_data *d) {
        for (size_t i = 0; i < n; i++) {
                uint32_t k = 0;
                for (; k < rules[i].n; k++) {
                        const struct filter_test *t = &rules[i].tests[k];
                        const uint32_t word = (uint32_t)d->args[t->word == 24];
                        if (((word & t->mask) == t->value) == (t->not_equal != 0))
                                break;
                }
                if (k == rules[i].n)
                        return rules[i].verdict;
        }
        return 4;
}

static void any_rules_decide_as_they_say(void **state) {
        static struct filter_code code;
        struct filter_rule rules[8];

        for (unsigned round = 0; round < 20000; round++) {
                const size_t n = any(ELEMENTSOF(rules)) + 1;
                code.n = 0;
                memset(code.relay, 0, sizeof(code.relay));
                for (uint32_t action = 1; action <= 4; action++) /* the place of action 4 is 1, of 1 is 4 */
                        filter_code_return(&code, 5 - action);
                for (size_t i = 0; i < n; i++) {
                        make_rule(&rules[i]);
                        rules[i].verdict = 5 - rules[i].verdict;
                }
                filter_code_begin(&code, ARCH, 1, filter_code_rules(&code, rules, n, 1));
                assert_false(code.full);
                for (size_t i = 0; i < n; i++)
                        rules[i].verdict = 5 - rules[i].verdict;
                const struct program p = {&code.insns[FILTER_MAX_INSNS - code.n], code.n};
                for (uint32_t v = 0; v < 32 * 32; v++) {
                        const struct seccomp_data d = {.arch = ARCH, .args = {v % 32, v / 32}};
                        const uint32_t got = bpf_run(&p, &d), want = by_the_rules(rules, n, &d);
                        if (got != want)
                                fail_msg("round %u, (%u, %u): %u, must be %u", round, v % 32, v / 32, got, want);
                }
        }
}

/* --- a smaller program is the reason for all this --- */

static void check_size(struct pair *p) {
        static const struct seccomp_data d = {.nr = 0, .arch = ARCH};

        p->asked = NUMBERS + 1;
        assert_true(p->ours.n * 2 < p->theirs.n);
        assert_int_equal(bpf_run(&p->ours, &d), SECCOMP_RET_ALLOW); /* read */
}
static void it_is_less_than_half_as_long(void **state) {
        for_each_profile(check_size);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(every_number_gets_the_same_verdict),
                cmocka_unit_test(every_rule_gets_the_same_verdict),
                cmocka_unit_test(any_rules_decide_as_they_say),
                cmocka_unit_test(it_is_less_than_half_as_long),
        };
        cmocka_set_message_output(CM_OUTPUT_TAP);
        return cmocka_run_group_tests_name("filter_same", tests, NULL, NULL);
}
