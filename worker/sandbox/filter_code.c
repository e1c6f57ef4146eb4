/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The kernel checks, translates, compiles and tries out every instruction for every jail, so there are few: rules that
 * look at the same bits share the look, and what comes out equal stands once.  That the result decides as the rules say
 * is the business of tests/unit/jail/test_filter.c, which asks it everything and libseccomp's program of the same rules
 * beside it.
 */
#include "filter_code.h"

#include "common/util.h"

#include <linux/seccomp.h>
#include <string.h>

#define REACH 254 /* of 255: a second relay may come between */

static uint32_t put(struct filter_code *c, struct sock_filter insn) {
        if (c->n == FILTER_MAX_INSNS) {
                c->full = true;
                return FILTER_MAX_INSNS;
        }
        c->insns[FILTER_MAX_INSNS - ++c->n] = insn;
        return (uint32_t)c->n;
}

static void put_jump(struct filter_code *c, uint32_t place) {
        put(c, (struct sock_filter)BPF_STMT(BPF_JMP | BPF_JA, (uint32_t)c->n - place));
}

static void put_load(struct filter_code *c, uint32_t word) {
        put(c, (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, word));
}

/* A place near enough for a condition that leads to the same. */
static uint32_t near(struct filter_code *c, uint32_t place) {
        uint32_t at = c->relay[place] ? c->relay[place] : place;

        if (c->n - at <= REACH)
                return at;
        const struct sock_filter there = c->insns[FILTER_MAX_INSNS - place];
        if (there.code == (BPF_RET | BPF_K))
                put(c, there);
        else
                put_jump(c, place);
        c->relay[place] = (uint16_t)c->n;
        return (uint32_t)c->n;
}

static uint32_t put_condition(struct filter_code *c, uint16_t op, uint32_t k, uint32_t yes, uint32_t no) {
        yes = near(c, yes);
        no = near(c, no);
        return put(c, (struct sock_filter)BPF_JUMP(BPF_JMP | op | BPF_K, k, (uint8_t)(c->n - yes), (uint8_t)(c->n - no)));
}

uint32_t filter_code_return(struct filter_code *c, uint32_t action) {
        return put(c, (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, action));
}

/* --- rules --- */

static bool is_bit(const struct filter_test *t) {
        return !t->not_equal && t->mask == t->value && t->mask && !(t->mask & (t->mask - 1));
}

/* Do both look at the same bits, or at one bit each of the same word? */
static bool same_look(const struct filter_test *a, const struct filter_test *b) {
        if (a->word != b->word || a->not_equal || b->not_equal)
                return false;
        return is_bit(a) ? is_bit(b) : a->mask == b->mask;
}

/* How many of the leading rules begin with the same look and have the same verdict: among these, order means nothing. */
static size_t leading(const struct filter_rule *rules, size_t n) {
        size_t k = 1;

        while (k < n && rules[k].n > 0 && rules[k].verdict == rules[0].verdict &&
               same_look(&rules[0].tests[0], &rules[k].tests[0]))
                k++;
        return k;
}

/* Those of rules[0, n) whose first test asks for value, without it. */
static size_t behind(const struct filter_rule *rules, size_t n, uint32_t value, struct filter_rule *out) {
        size_t found = 0;

        for (size_t i = 0; i < n; i++) {
                if (rules[i].tests[0].value != value)
                        continue;
                out[found] = (struct filter_rule){.n = rules[i].n - 1, .verdict = rules[i].verdict};
                memcpy(out[found++].tests, &rules[i].tests[1], (rules[i].n - 1) * sizeof(rules[i].tests[0]));
        }
        return found;
}

struct branch { /* a value of the shared look, and which value's rules it goes on with */
        uint32_t value;
        size_t like;
        uint32_t place;
};

/* Values with equal rules behind them share these. */
static size_t find_branches(const struct filter_rule *rules, size_t n, struct branch *out) {
        struct filter_rule a[FILTER_RULES_MAX], b[FILTER_RULES_MAX];
        size_t found = 0;

        for (size_t i = 0; i < n; i++) {
                const uint32_t value = rules[i].tests[0].value;
                size_t k = 0, m;
                while (k < found && out[k].value != value)
                        k++;
                if (k < found)
                        continue;
                m = behind(rules, n, value, a);
                for (k = 0; k < found; k++) {
                        if (out[k].like == k && behind(rules, n, out[k].value, b) == m && memcmp(a, b, m * sizeof(*a)) == 0)
                                break;
                }
                out[found++] = (struct branch){.value = value, .like = k};
        }
        return found;
}

static uint32_t put_behind(struct filter_code *c, const struct filter_rule *rules, size_t n, uint32_t value,
                           uint32_t otherwise) {
        struct filter_rule inner[FILTER_RULES_MAX];

        return filter_code_rules(c, inner, behind(rules, n, value, inner), otherwise);
}

/* Bits of one word do not exclude each other: what fails behind one goes on with the next. */
static uint32_t put_bits(struct filter_code *c, const struct filter_rule *rules, size_t n, uint32_t otherwise) {
        struct branch branches[FILTER_RULES_MAX];
        size_t found = find_branches(rules, n, branches);

        for (size_t i = found; i-- > 0;) {
                uint32_t bits = 0;
                if (branches[i].like != i)
                        continue;
                for (size_t k = i; k < found; k++)
                        bits |= branches[k].like == i ? branches[k].value : 0;
                uint32_t inside = put_behind(c, rules, n, branches[i].value, otherwise);
                put_condition(c, BPF_JSET, bits, inside, otherwise);
                put_load(c, rules[0].tests[0].word);
                otherwise = (uint32_t)c->n;
        }
        return otherwise;
}

static uint32_t put_values(struct filter_code *c, const struct filter_rule *rules, size_t n, uint32_t otherwise) {
        const struct filter_test *look = &rules[0].tests[0];
        struct branch branches[FILTER_RULES_MAX];
        size_t found = find_branches(rules, n, branches);
        uint32_t next = otherwise;

        for (size_t i = 0; i < found; i++)
                branches[i].place = branches[i].like == i ? put_behind(c, rules, n, branches[i].value, otherwise)
                                                          : branches[branches[i].like].place;
        if (found == 1 && branches[0].value == 0) {
                put_condition(c, BPF_JSET, look->mask, otherwise, branches[0].place);
        } else {
                for (size_t i = found; i-- > 0;)
                        next = put_condition(c, BPF_JEQ, branches[i].value, branches[i].place, next);
                if (look->mask != UINT32_MAX)
                        put(c, (struct sock_filter)BPF_STMT(BPF_ALU | BPF_AND | BPF_K, look->mask));
        }
        put_load(c, look->word);
        return (uint32_t)c->n;
}

static uint32_t put_unequal(struct filter_code *c, const struct filter_rule *rule, uint32_t otherwise) {
        const struct filter_test *look = &rule->tests[0];
        uint32_t inside = put_behind(c, rule, 1, look->value, otherwise);

        put_condition(c, BPF_JEQ, look->value, otherwise, inside);
        if (look->mask != UINT32_MAX)
                put(c, (struct sock_filter)BPF_STMT(BPF_ALU | BPF_AND | BPF_K, look->mask));
        put_load(c, look->word);
        return (uint32_t)c->n;
}

uint32_t filter_code_rules(struct filter_code *c, const struct filter_rule *rules, size_t n, uint32_t otherwise) {
        if (n == 0)
                return otherwise;
        if (rules[0].n == 0)
                return rules[0].verdict;
        const size_t k = leading(rules, n);
        const uint32_t rest = filter_code_rules(c, rules + k, n - k, otherwise);
        if (rules[0].tests[0].not_equal)
                return put_unequal(c, rules, rest);
        return is_bit(&rules[0].tests[0]) ? put_bits(c, rules, k, rest) : put_values(c, rules, k, rest);
}

/* --- the whole --- */

uint32_t filter_code_search(struct filter_code *c, const struct filter_run *runs, size_t n) {
        if (n == 1)
                return runs[0].target;
        const size_t middle = n / 2;
        const uint32_t above = filter_code_search(c, runs + middle, n - middle);
        const uint32_t below = filter_code_search(c, runs, middle);
        return put_condition(c, BPF_JGE, runs[middle].first, above, below);
}

void filter_code_begin(struct filter_code *c, uint32_t arch, uint32_t kill, uint32_t start) {
        if (start != c->n)
                put_jump(c, start);
        put_load(c, offsetof(struct seccomp_data, nr));
        put_condition(c, BPF_JEQ, arch, (uint32_t)c->n, kill);
        put_load(c, offsetof(struct seccomp_data, arch));
}
