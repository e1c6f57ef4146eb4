/* SPDX-License-Identifier: Apache-2.0 */
#include "record_line.h"

#include "util.h"

#include <string.h>

struct cursor {
        const char *p, *end;
};

static bool take(struct cursor *c, char want) {
        if (c->p == c->end || *c->p != want)
                return false;
        c->p++;
        return true;
}

static int hex_digit(char c) {
        return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* The 16-bit unit of \uXXXX at p, or -1. */
static int32_t unit_at(const char *p, const char *end) {
        int32_t v = 0;

        if (end - p < 6 || p[0] != '\\' || p[1] != 'u')
                return -1;
        for (int i = 2; i < 6; i++) {
                int d = hex_digit(p[i]);
                if (d < 0)
                        return -1;
                v = v << 4 | d;
        }
        return v;
}

static bool take_string(struct cursor *c, const char **text, size_t *len) {
        if (!take(c, '"'))
                return false;
        *text = c->p;
        while (c->p < c->end && *c->p != '"') {
                if (*c->p == '\\') {
                        int32_t unit = unit_at(c->p, c->end);
                        /* What needs no escape has none. */
                        if (unit < 0 || (unit >= 0x20 && unit < 0x7f && unit != '"' && unit != '\\'))
                                return false;
                        c->p += 6;
                } else if (*c->p < 0x20 || *c->p > 0x7e) {
                        return false;
                } else {
                        c->p++;
                }
        }
        *len = (size_t)(c->p - *text);
        return take(c, '"');
}

static bool take_word(struct cursor *c, const char *word) {
        size_t n = strlen(word);

        if ((size_t)(c->end - c->p) < n || memcmp(c->p, word, n) != 0)
                return false;
        c->p += n;
        return true;
}

static bool take_int(struct cursor *c, const char **text, size_t *len) {
        *text = c->p;
        bool negative = take(c, '-');
        const char *digits = c->p;
        while (c->p < c->end && *c->p >= '0' && *c->p <= '9')
                c->p++;
        *len = (size_t)(c->p - *text);
        size_t n = (size_t)(c->p - digits);
        return n > 0 && n <= 20 && (digits[0] != '0' || (n == 1 && !negative));
}

static bool take_value(struct cursor *c, struct record_value *v) {
        if (c->p == c->end)
                return false;
        if (*c->p == '"') {
                v->type = RECORD_VALUE_STRING;
                return take_string(c, &v->text, &v->len);
        }
        v->text = c->p;
        if (take_word(c, "true") || take_word(c, "false")) {
                v->type = RECORD_VALUE_BOOL;
                v->len = (size_t)(c->p - v->text);
                return true;
        }
        v->type = RECORD_VALUE_INT;
        return take_int(c, &v->text, &v->len);
}

static int compare_keys(const struct record_value *a, const struct record_value *b) {
        int r = memcmp(a->key, b->key, MIN_OF(a->key_len, b->key_len));

        return r ? r : (a->key_len > b->key_len) - (a->key_len < b->key_len);
}

static bool take_member(struct cursor *c, struct record_line *l) {
        struct record_value *v = &l->values[l->n];

        if (l->n == RECORD_LINE_FIELDS || !take_string(c, &v->key, &v->key_len) || !take(c, ':') || !take_value(c, v))
                return false;
        l->n++;
        return l->n == 1 || compare_keys(v - 1, v) < 0;
}

size_t record_line_parse(const char *line, size_t n, struct record_line *out) {
        struct cursor c = {line, line + n};

        out->n = 0;
        bool ok = take(&c, '{') && take_member(&c, out);
        while (ok && take(&c, ','))
                ok = take_member(&c, out);
        ok = ok && take(&c, '}') && c.p == c.end;
        return ok ? 0 : (size_t)(c.p - line) + 1;
}

const struct record_value *record_line_get(const struct record_line *l, const char *key) {
        size_t n = strlen(key);

        for (size_t i = 0; i < l->n; i++)
                if (l->values[i].key_len == n && memcmp(l->values[i].key, key, n) == 0)
                        return &l->values[i];
        return NULL;
}

bool record_line_u64(const struct record_line *l, const char *key, uint64_t *out) {
        const struct record_value *v = record_line_get(l, key);
        char num[24];

        if (!v || v->type != RECORD_VALUE_INT || v->len >= sizeof(num))
                return false;
        memcpy(num, v->text, v->len);
        num[v->len] = '\0';
        return crew_parse_u64(num, out) == 0;
}

bool record_line_is(const struct record_line *l, const char *key, const char *text) {
        const struct record_value *v = record_line_get(l, key);

        return v && v->type == RECORD_VALUE_STRING && v->len == strlen(text) && memcmp(v->text, text, v->len) == 0;
}

uint32_t record_value_next(const char **p, const char *end) {
        int32_t unit = unit_at(*p, end), low;

        if (unit < 0)
                return (unsigned char)*(*p)++;
        *p += 6;
        if (unit >= 0xd800 && unit < 0xdc00 && (low = unit_at(*p, end)) >= 0xdc00 && low < 0xe000) {
                *p += 6;
                return 0x10000u + (((uint32_t)unit - 0xd800) << 10) + ((uint32_t)low - 0xdc00);
        }
        return (uint32_t)unit;
}
