/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Pattern -> syntax tree -> program.  Everything is bounded: pattern length, group depth, tree nodes, repeat counts
 * and program length, so a pattern such as ((a{1000}){1000}){1000} is refused instead of expanded.
 */
#include "regex_internal.h"

#include "common/util.h"

#include <errno.h>
#include <string.h>

enum tree_kind { TREE_EMPTY, TREE_SET, TREE_BEGIN, TREE_END, TREE_CAT, TREE_ALT, TREE_REPEAT };

#define REPEAT_UNBOUNDED UINT32_MAX
#define CODE_POINT_MAX 0x10ffffu

struct tree {
        uint8_t kind;
        bool negate;
        uint16_t first, n;   /* SET */
        int32_t left, right; /* CAT, ALT; REPEAT: left */
        uint32_t min, max;
};

struct parser {
        const char *s;
        size_t n, at;
        unsigned depth;
        struct regex *re;
        struct tree *trees;
        uint32_t n_trees, max_trees;
        uint32_t emit_steps;
        struct crew_err *err;
};

static int bad(struct parser *p, const char *what) {
        return crew_fail(p->err, EINVAL, "at character %zu of the pattern: %s", p->at + 1, what);
}

static int tree_new(struct parser *p, enum tree_kind kind, int32_t left, int32_t right) {
        if (p->n_trees == p->max_trees)
                return bad(p, "too large");
        p->trees[p->n_trees] = (struct tree){.kind = (uint8_t)kind, .left = left, .right = right};
        return (int)p->n_trees++;
}

static bool more(const struct parser *p) {
        return p->at < p->n;
}

static bool peek(const struct parser *p, char c) {
        return more(p) && p->s[p->at] == c;
}

static bool take(struct parser *p, char c) {
        if (!peek(p, c))
                return false;
        p->at++;
        return true;
}

static uint32_t take_code_point(struct parser *p) {
        unsigned char c = (unsigned char)p->s[p->at++];
        unsigned tail = c >= 0xf0 ? 3 : c >= 0xe0 ? 2 : c >= 0xc0 ? 1 : 0;
        uint32_t v = tail == 3 ? c & 7u : tail == 2 ? c & 15u : tail == 1 ? c & 31u : c;

        while (tail-- > 0 && more(p))
                v = v << 6 | ((unsigned char)p->s[p->at++] & 63u);
        return v;
}

static int add_range(struct parser *p, uint32_t lo, uint32_t hi) {
        struct regex *re = p->re;

        if (re->n_ranges == REGEX_MAX_RANGES)
                return bad(p, "too many character ranges");
        re->ranges[re->n_ranges++] = (struct regex_range){lo, hi};
        return 0;
}

/* \d \w \s as ECMA-262 defines them. */
static const struct class_row {
        char name;
        uint8_t n;
        struct regex_range ranges[10];
} classes[] = {
        {'d', 1, {{'0', '9'}}},
        {'w', 4, {{'0', '9'}, {'A', 'Z'}, {'_', '_'}, {'a', 'z'}}},
        {'s',
         10,
         {{9, 13},
          {' ', ' '},
          {0xa0, 0xa0},
          {0x1680, 0x1680},
          {0x2000, 0x200a},
          {0x2028, 0x2029},
          {0x202f, 0x202f},
          {0x205f, 0x205f},
          {0x3000, 0x3000},
          {0xfeff, 0xfeff}}},
};

/* Adds the class's ranges, or their complement: a negated class inside [...] must mix with others. */
static int add_class(struct parser *p, const struct class_row *c, bool negate) {
        uint32_t next = 0;
        int r = 0;

        for (uint8_t i = 0; i < c->n && r == 0; i++) {
                if (!negate)
                        r = add_range(p, c->ranges[i].lo, c->ranges[i].hi);
                else if (c->ranges[i].lo > next)
                        r = add_range(p, next, c->ranges[i].lo - 1);
                next = c->ranges[i].hi + 1;
        }
        return r == 0 && negate ? add_range(p, next, CODE_POINT_MAX) : r;
}

static const struct class_row *class_find(char c) {
        for (size_t i = 0; i < ELEMENTSOF(classes); i++)
                if (classes[i].name == (c | 0x20))
                        return &classes[i];
        return NULL;
}

static int take_hex(struct parser *p, unsigned digits, uint32_t *out) {
        uint32_t v = 0;

        for (unsigned i = 0; i < digits; i++, p->at++) {
                char c = more(p) ? p->s[p->at] : '\0';
                unsigned d = c >= '0' && c <= '9'                     ? (unsigned)(c - '0')
                             : (c | 0x20) >= 'a' && (c | 0x20) <= 'f' ? (unsigned)((c | 0x20) - 'a' + 10)
                                                                      : 16;
                if (d == 16)
                        return bad(p, "expected a hexadecimal digit");
                v = v * 16 + d;
        }
        if (v >= 0xd800 && v <= 0xdfff)
                return bad(p, "\\u of half a surrogate pair (write the character itself)");
        *out = v;
        return 0;
}

/* After a backslash: one code point in *out, or a class (returned in *cls, upper case negates). */
static int take_escape(struct parser *p, uint32_t *out, const struct class_row **cls, bool *negate) {
        static const char controls[][2] = {{'t', '\t'}, {'n', '\n'}, {'r', '\r'}, {'f', '\f'}, {'v', '\v'}};

        *cls = NULL;
        if (!more(p))
                return bad(p, "a backslash at the end");
        char c = p->s[p->at];
        if ((*cls = class_find(c))) {
                *negate = c < 'a';
                p->at++;
                return 0;
        }
        for (size_t i = 0; i < ELEMENTSOF(controls); i++)
                if (controls[i][0] == c) {
                        *out = (uint32_t)controls[i][1];
                        p->at++;
                        return 0;
                }
        if (c == 'x' || c == 'u') {
                p->at++;
                return take_hex(p, c == 'x' ? 2 : 4, out);
        }
        if (!strchr("^$\\.*+?()[]{}|/-", c))
                return bad(p, "this escape is not supported (\\d \\w \\s \\t \\n \\r \\f \\v \\xHH \\uHHHH and "
                              "punctuation are)");
        *out = (uint32_t)c;
        p->at++;
        return 0;
}

/* One end of a range in [...]: a code point, or a whole class. */
static int take_class_atom(struct parser *p, uint32_t *out, const struct class_row **cls, bool *negate) {
        *cls = NULL;
        if (!more(p))
                return bad(p, "'[' without ']'");
        if (take(p, '\\')) {
                if (take(p, 'b')) {
                        *out = '\b';
                        return 0;
                }
                return take_escape(p, out, cls, negate);
        }
        if (p->s[p->at] == '[' && p->at + 1 < p->n && strchr(":.=", p->s[p->at + 1]))
                return bad(p, "POSIX classes such as [:alpha:] are not supported");
        *out = take_code_point(p);
        return 0;
}

static int parse_class_item(struct parser *p) {
        const struct class_row *cls, *cls2;
        uint32_t lo = 0, hi = 0;
        bool negate = false;

        int r = take_class_atom(p, &lo, &cls, &negate);
        if (r < 0)
                return r;
        if (cls)
                return add_class(p, cls, negate);
        if (!(peek(p, '-') && p->at + 1 < p->n && p->s[p->at + 1] != ']'))
                return add_range(p, lo, lo);
        p->at++;
        r = take_class_atom(p, &hi, &cls2, &negate);
        if (r < 0)
                return r;
        if (cls2 || hi < lo)
                return bad(p, "a range out of order");
        return add_range(p, lo, hi);
}

static int set_of_ranges(struct parser *p, uint32_t first, bool negate) {
        int t = tree_new(p, TREE_SET, 0, 0);

        if (t >= 0) {
                p->trees[t].negate = negate;
                p->trees[t].first = (uint16_t)first;
                p->trees[t].n = (uint16_t)(p->re->n_ranges - first);
        }
        return t;
}

static int parse_class(struct parser *p) {
        uint32_t first = p->re->n_ranges;
        bool negate = take(p, '^');

        while (!take(p, ']')) {
                int r = parse_class_item(p);
                if (r < 0)
                        return r;
        }
        return set_of_ranges(p, first, negate);
}

static int parse_dot(struct parser *p) {
        static const struct regex_range ends[] = {{'\n', '\n'}, {'\r', '\r'}, {0x2028, 0x2029}};
        uint32_t first = p->re->n_ranges;

        for (size_t i = 0; i < ELEMENTSOF(ends); i++) {
                int r = add_range(p, ends[i].lo, ends[i].hi);
                if (r < 0)
                        return r;
        }
        return set_of_ranges(p, first, true);
}

static int parse_escape(struct parser *p) {
        const struct class_row *cls;
        uint32_t first = p->re->n_ranges, c = 0;
        bool negate = false;

        int r = take_escape(p, &c, &cls, &negate);
        if (r == 0)
                r = cls ? add_class(p, cls, negate) : add_range(p, c, c);
        return r < 0 ? r : set_of_ranges(p, first, false);
}

static int parse_alternatives(struct parser *p);

static int parse_group(struct parser *p) {
        if (take(p, '?') && !take(p, ':'))
                return bad(p, "only plain groups and (?:...) are supported");
        if (++p->depth > REGEX_MAX_DEPTH)
                return bad(p, "groups nest too deep");
        int t = parse_alternatives(p);
        if (t < 0)
                return t;
        if (!take(p, ')'))
                return bad(p, "'(' without ')'");
        p->depth--;
        return t;
}

static int parse_atom(struct parser *p) {
        char c = p->s[p->at];

        if (strchr("*+?{", c))
                return bad(p, "nothing to repeat (escape the character to match it)");
        if (strchr("]}", c))
                return bad(p, "escape this bracket to match it");
        if (take(p, '('))
                return parse_group(p);
        if (take(p, '['))
                return parse_class(p);
        if (take(p, '.'))
                return parse_dot(p);
        if (take(p, '^'))
                return tree_new(p, TREE_BEGIN, 0, 0);
        if (take(p, '$'))
                return tree_new(p, TREE_END, 0, 0);
        if (take(p, '\\'))
                return parse_escape(p);
        uint32_t first = p->re->n_ranges, v = take_code_point(p);
        int r = add_range(p, v, v);
        return r < 0 ? r : set_of_ranges(p, first, false);
}

static int take_number(struct parser *p, uint32_t *out) {
        size_t start = p->at;
        uint32_t v = 0;

        for (; more(p) && p->s[p->at] >= '0' && p->s[p->at] <= '9'; p->at++) {
                v = v * 10 + (uint32_t)(p->s[p->at] - '0');
                if (v > REGEX_MAX_REPEAT)
                        return bad(p, "repeats more than 1000 times");
        }
        if (p->at == start)
                return bad(p, "expected a number in {...}");
        *out = v;
        return 0;
}

/* 1 when a quantifier was read. */
static int parse_quantifier(struct parser *p, uint32_t *min, uint32_t *max) {
        int r;

        *max = REPEAT_UNBOUNDED;
        if (take(p, '*')) {
                *min = 0;
        } else if (take(p, '+')) {
                *min = 1;
        } else if (take(p, '?')) {
                *min = 0;
                *max = 1;
        } else if (take(p, '{')) {
                if ((r = take_number(p, min)) < 0)
                        return r;
                if (!take(p, ','))
                        *max = *min;
                else if (!peek(p, '}') && (r = take_number(p, max)) < 0)
                        return r;
                if (!take(p, '}'))
                        return bad(p, "expected '}'");
                if (*max < *min)
                        return bad(p, "repeat counts out of order");
        } else {
                return 0;
        }
        take(p, '?'); /* lazy: the same set of strings matches */
        return 1;
}

static int parse_repeated(struct parser *p) {
        uint32_t min = 0, max = 0;
        int t = parse_atom(p);

        if (t < 0)
                return t;
        int r = parse_quantifier(p, &min, &max);
        if (r <= 0)
                return r < 0 ? r : t;
        if (more(p) && strchr("*+?{", p->s[p->at]))
                return bad(p, "a repeat of a repeat (group it)");
        int rep = tree_new(p, TREE_REPEAT, t, 0);
        if (rep >= 0) {
                p->trees[rep].min = min;
                p->trees[rep].max = max;
        }
        return rep;
}

static int parse_sequence(struct parser *p) {
        int t = tree_new(p, TREE_EMPTY, 0, 0);

        while (t >= 0 && more(p) && !peek(p, '|') && !peek(p, ')')) {
                int next = parse_repeated(p);
                if (next < 0)
                        return next;
                t = tree_new(p, TREE_CAT, t, next);
        }
        return t;
}

static int parse_alternatives(struct parser *p) {
        int t = parse_sequence(p);

        while (t >= 0 && take(p, '|')) {
                int next = parse_sequence(p);
                if (next < 0)
                        return next;
                t = tree_new(p, TREE_ALT, t, next);
        }
        return t;
}

static int emit(struct parser *p, struct regex_inst in) {
        if (p->re->n_insts == REGEX_MAX_PROGRAM)
                return bad(p, "expands to too large a program");
        p->re->insts[p->re->n_insts] = in;
        return (int)p->re->n_insts++;
}

static int emit_tree(struct parser *p, int32_t t);

static int emit_alt(struct parser *p, const struct tree *t) {
        int split = emit(p, (struct regex_inst){.op = REGEX_SPLIT}), r, jump;

        if (split < 0 || emit_tree(p, t->left) < 0)
                return -EINVAL;
        if ((jump = emit(p, (struct regex_inst){.op = REGEX_JUMP})) < 0)
                return jump;
        p->re->insts[split].x = (uint16_t)(split + 1);
        p->re->insts[split].y = (uint16_t)p->re->n_insts;
        if ((r = emit_tree(p, t->right)) < 0)
                return r;
        p->re->insts[jump].x = (uint16_t)p->re->n_insts;
        return 0;
}

/* x* as  L: split body, out; body; jump L */
static int emit_star(struct parser *p, int32_t body) {
        int split = emit(p, (struct regex_inst){.op = REGEX_SPLIT}), jump;

        if (split < 0 || emit_tree(p, body) < 0)
                return -EINVAL;
        if ((jump = emit(p, (struct regex_inst){.op = REGEX_JUMP, .x = (uint16_t)split})) < 0)
                return jump;
        p->re->insts[split].x = (uint16_t)(split + 1);
        p->re->insts[split].y = (uint16_t)p->re->n_insts;
        return 0;
}

static int emit_repeat(struct parser *p, const struct tree *t) {
        int r = 0;

        for (uint32_t i = 0; i < t->min && r >= 0; i++)
                r = emit_tree(p, t->left);
        if (r < 0)
                return r;
        if (t->max == REPEAT_UNBOUNDED)
                return emit_star(p, t->left);
        for (uint32_t i = t->min; i < t->max; i++) {
                int split = emit(p, (struct regex_inst){.op = REGEX_SPLIT});
                if (split < 0 || emit_tree(p, t->left) < 0)
                        return -EINVAL;
                p->re->insts[split].x = (uint16_t)(split + 1);
                p->re->insts[split].y = (uint16_t)p->re->n_insts;
        }
        return 0;
}

/* Sequences lean left, so recursion follows group depth once the left spine is walked in place. */
static int emit_cat(struct parser *p, int32_t at) {
        int32_t spine[REGEX_MAX_PATTERN + 1];
        size_t n = 0;

        for (; p->trees[at].kind == TREE_CAT; at = p->trees[at].left)
                spine[n++] = p->trees[at].right;
        while (n > 0) {
                int r = emit_tree(p, spine[--n]);
                if (r < 0)
                        return r;
        }
        return 0;
}

static int emit_tree(struct parser *p, int32_t at) {
        const struct tree *t = &p->trees[at];

        if (++p->emit_steps > 16 * REGEX_MAX_PROGRAM)
                return bad(p, "expands to too large a program");
        switch ((enum tree_kind)t->kind) {
        case TREE_EMPTY:
                return 0;
        case TREE_SET:
                return emit(p, (struct regex_inst){.op = REGEX_SET, .negate = t->negate, .first = t->first, .n = t->n});
        case TREE_BEGIN:
                return emit(p, (struct regex_inst){.op = REGEX_BEGIN});
        case TREE_END:
                return emit(p, (struct regex_inst){.op = REGEX_END});
        case TREE_CAT:
                return emit_cat(p, at);
        case TREE_ALT:
                return emit_alt(p, t);
        case TREE_REPEAT:
                return emit_repeat(p, t);
        }
        return -EINVAL;
}

static int compile(struct parser *p) {
        int t = parse_alternatives(p);

        if (t < 0)
                return t;
        if (more(p))
                return bad(p, "')' without '('");
        int r = emit_tree(p, t);
        return r < 0 ? r : emit(p, (struct regex_inst){.op = REGEX_ACCEPT});
}

int regex_compile(const char *pattern, size_t n, struct regex **out, struct crew_err *err) {
        if (n > REGEX_MAX_PATTERN)
                return crew_fail(err, EINVAL, "the pattern is longer than %u bytes", REGEX_MAX_PATTERN);
        _cleanup_free_ struct regex *re = calloc(1, sizeof(*re));
        struct parser p = {.s = pattern, .n = n, .re = re, .max_trees = 4 * (uint32_t)n + 8, .err = err};
        _cleanup_free_ struct tree *trees = p.trees = calloc(p.max_trees, sizeof(*p.trees));
        if (!re || !trees)
                return crew_fail(err, ENOMEM, "out of memory for a pattern");
        int r = compile(&p);
        if (r < 0)
                return r;
        *out = crew_steal_ptr(&re);
        return 0;
}

struct regex *regex_free(struct regex *re) {
        free(re);
        return NULL;
}
