/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Runs a compiled pattern: all threads of the program advance together, one code point at a time (Thompson), so the
 * time is at most length x program size and the memory is fixed by the program.
 */
#include "regex_internal.h"

#include "common/util.h"

#include <errno.h>
#include <string.h>

struct thread_set {
        uint32_t n;
        uint16_t list[REGEX_MAX_PROGRAM];
};

struct matcher {
        const struct regex *re;
        bool at_begin, at_end, accepted;
        uint64_t work;
        uint32_t generation;
        uint32_t seen[REGEX_MAX_PROGRAM]; /* the generation an instruction was last added in */
        uint16_t stack[2 * REGEX_MAX_PROGRAM];
        struct thread_set sets[2];
};

static void push(struct matcher *m, size_t *top, uint16_t pc) {
        if (m->seen[pc] == m->generation)
                return;
        m->seen[pc] = m->generation;
        m->stack[(*top)++] = pc;
}

/* Adds pc and all that it reaches without consuming anything.  Each instruction enters the stack once a generation. */
static void follow(struct matcher *m, struct thread_set *set, uint16_t start) {
        size_t top = 0;

        push(m, &top, start);
        while (top > 0) {
                uint16_t pc = m->stack[--top];
                const struct regex_inst *in = &m->re->insts[pc];
                m->work++;
                switch ((enum regex_op)in->op) {
                case REGEX_SET:
                        set->list[set->n++] = pc;
                        break;
                case REGEX_SPLIT:
                        push(m, &top, in->x);
                        push(m, &top, in->y);
                        break;
                case REGEX_JUMP:
                        push(m, &top, in->x);
                        break;
                case REGEX_BEGIN:
                        if (m->at_begin)
                                push(m, &top, (uint16_t)(pc + 1));
                        break;
                case REGEX_END:
                        if (m->at_end)
                                push(m, &top, (uint16_t)(pc + 1));
                        break;
                case REGEX_ACCEPT:
                        m->accepted = true;
                        break;
                }
        }
}

static bool set_has(struct matcher *m, const struct regex_inst *in, uint32_t c) {
        const struct regex_range *r = m->re->ranges + in->first;
        bool in_range = false;

        m->work += in->n;
        for (uint16_t i = 0; i < in->n && !in_range; i++)
                in_range = c >= r[i].lo && c <= r[i].hi;
        return in_range != in->negate;
}

static size_t decode(const char *s, size_t n, uint32_t *out) {
        unsigned char c = (unsigned char)s[0];
        size_t len = c >= 0xf0 ? 4 : c >= 0xe0 ? 3 : c >= 0xc0 ? 2 : 1;
        uint32_t v = len == 4 ? c & 7u : len == 3 ? c & 15u : len == 2 ? c & 31u : c;

        len = MIN_OF(len, n);
        for (size_t i = 1; i < len; i++)
                v = v << 6 | ((unsigned char)s[i] & 63u);
        *out = v;
        return len;
}

static void step(struct matcher *m, const struct thread_set *from, struct thread_set *to, uint32_t c) {
        to->n = 0;
        m->generation++;
        for (uint32_t i = 0; i < from->n; i++) {
                uint16_t pc = from->list[i];
                if (set_has(m, &m->re->insts[pc], c))
                        follow(m, to, (uint16_t)(pc + 1));
        }
        follow(m, to, 0); /* a match may begin anywhere */
}

static int search(struct matcher *m, const char *s, size_t n, uint64_t budget) {
        struct thread_set *now = &m->sets[0], *next = &m->sets[1];

        m->at_begin = true;
        m->at_end = n == 0;
        m->generation = 1;
        follow(m, now, 0);
        for (size_t at = 0; at < n && !m->accepted;) {
                uint32_t c;
                at += decode(s + at, n - at, &c);
                m->at_begin = false;
                m->at_end = at == n;
                step(m, now, next, c);
                struct thread_set *t = now;
                now = next;
                next = t;
                if (m->work > budget)
                        return REGEX_TOO_MUCH_WORK;
        }
        return m->accepted ? REGEX_MATCH : REGEX_NO_MATCH;
}

int regex_search(const struct regex *re, const char *s, size_t n, uint64_t *budget) {
        _cleanup_free_ struct matcher *m = malloc(sizeof(*m));

        if (!m)
                return -ENOMEM;
        m->re = re;
        m->accepted = false;
        m->work = 0;
        memset(m->seen, 0, re->n_insts * sizeof(m->seen[0]));
        m->sets[0].n = m->sets[1].n = 0;
        int r = search(m, s, n, *budget);
        *budget -= MIN_OF(*budget, m->work + n);
        return r;
}
