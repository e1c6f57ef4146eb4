/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The JSON checker: one pass, no recursion, a fixed stack of JSON_MAX_DEPTH levels.
 *
 * Duplicate keys: each key's 64-bit hash goes onto one stack; the keys of an object lie together there once the objects
 * inside it are closed, so closing it sorts that part, looks for neighbours that are equal and drops it.  Equal keys
 * always hash equally, so none is missed; two different keys of one object colliding refuses a message that only its
 * own sender could have built.  Memory: 8 bytes a key of the objects that are still open.
 */
#include "json_scan.h"

#include "common/util.h"

#include <errno.h>
#include <string.h>

#define FEW_KEYS 16u

struct scan {
        const char *start, *p, *end;
        const char *problem;
        uint64_t *keys; /* owned */
        size_t n_keys, room_keys;
        unsigned depth;
        struct {
                bool object;
                size_t first_key;
        } stack[JSON_MAX_DEPTH];
};

enum expect { EXPECT_VALUE, EXPECT_VALUE_OR_END, EXPECT_KEY, EXPECT_KEY_OR_END, EXPECT_MORE, EXPECT_NOTHING };

static bool fail(struct scan *s, const char *problem) {
        if (!s->problem)
                s->problem = problem;
        return false;
}

static void skip_blanks(struct scan *s) {
        while (s->p < s->end && (*s->p == ' ' || *s->p == '\t' || *s->p == '\n' || *s->p == '\r'))
                s->p++;
}

static int hex_digit(char c) {
        if (c >= '0' && c <= '9')
                return c - '0';
        c |= 0x20;
        return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* Four hex digits at p, or -1. */
static int32_t hex4(const char *p, const char *end) {
        int32_t v = 0;

        if (end - p < 4)
                return -1;
        for (int i = 0; i < 4; i++) {
                int d = hex_digit(p[i]);
                if (d < 0)
                        return -1;
                v = v << 4 | d;
        }
        return v;
}

/* The character of an escape whose backslash is at *pp; moves *pp behind it.  0 when it is none (or U+0000). */
static uint32_t escape(const char **pp, const char *end) {
        static const char names[] = "\"\\/bfnrt", chars[] = "\"\\/\b\f\n\r\t";
        const char *p = *pp + 1, *at;

        if (p >= end || *p == '\0')
                return 0;
        if (*p != 'u') {
                at = strchr(names, *p);
                *pp = p + 1;
                return at ? (uint32_t)chars[at - names] : 0;
        }
        int32_t high = hex4(p + 1, end);
        *pp = p + 5;
        if (high < 0xd800 || high > 0xdfff)
                return high < 0 ? 0 : (uint32_t)high;
        if (high > 0xdbff || end - *pp < 2 || (*pp)[0] != '\\' || (*pp)[1] != 'u')
                return 0;
        int32_t low = hex4(*pp + 2, end);
        *pp += 6;
        return low < 0xdc00 || low > 0xdfff ? 0 : 0x10000u + ((uint32_t)(high - 0xd800) << 10) + (uint32_t)(low - 0xdc00);
}

static size_t utf8_put(uint32_t c, char out[4]) {
        if (c < 0x80) {
                out[0] = (char)c;
                return 1;
        }
        if (c < 0x800) {
                out[0] = (char)(0xc0 | c >> 6);
                out[1] = (char)(0x80 | (c & 0x3f));
                return 2;
        }
        if (c < 0x10000) {
                out[0] = (char)(0xe0 | c >> 12);
                out[1] = (char)(0x80 | (c >> 6 & 0x3f));
                out[2] = (char)(0x80 | (c & 0x3f));
                return 3;
        }
        out[0] = (char)(0xf0 | c >> 18);
        out[1] = (char)(0x80 | (c >> 12 & 0x3f));
        out[2] = (char)(0x80 | (c >> 6 & 0x3f));
        out[3] = (char)(0x80 | (c & 0x3f));
        return 4;
}

static uint64_t hash_more(uint64_t h, const char *p, size_t n) {
        for (size_t i = 0; i < n; i++)
                h = (h ^ (unsigned char)p[i]) * 0x100000001b3u;
        return h;
}

/* A string at p; *hash (when wanted) is of its decoded bytes. */
static bool scan_string(struct scan *s, uint64_t *hash) {
        uint64_t h = 0xcbf29ce484222325u;

        for (s->p++; s->p < s->end && *s->p != '"';) {
                char utf8[4];
                if ((unsigned char)*s->p < 0x20)
                        return fail(s, "control character in a string");
                if (*s->p != '\\') {
                        h = hash ? hash_more(h, s->p, 1) : 0;
                        s->p++;
                        continue;
                }
                const char *p = s->p;
                uint32_t c = escape(&p, s->end);
                if (!c)
                        return fail(s, "bad escape in a string");
                h = hash ? hash_more(h, utf8, utf8_put(c, utf8)) : 0;
                s->p = p;
        }
        if (s->p >= s->end)
                return fail(s, "string without end");
        s->p++;
        if (hash)
                *hash = h;
        return true;
}

static bool scan_digits(struct scan *s) {
        const char *from = s->p;

        while (s->p < s->end && *s->p >= '0' && *s->p <= '9')
                s->p++;
        return s->p > from || fail(s, "bad number");
}

static bool scan_number(struct scan *s) {
        if (*s->p == '-')
                s->p++;
        if (s->p < s->end && *s->p == '0')
                s->p++;
        else if (!scan_digits(s))
                return false;
        if (s->p < s->end && *s->p == '.') {
                s->p++;
                if (!scan_digits(s))
                        return false;
        }
        if (s->p < s->end && (*s->p == 'e' || *s->p == 'E')) {
                s->p++;
                if (s->p < s->end && (*s->p == '+' || *s->p == '-'))
                        s->p++;
                return scan_digits(s);
        }
        return true;
}

static bool scan_word(struct scan *s, const char *word) {
        size_t n = strlen(word);

        if ((size_t)(s->end - s->p) < n || memcmp(s->p, word, n) != 0)
                return fail(s, "not a JSON value");
        s->p += n;
        return true;
}

static bool scan_scalar(struct scan *s) {
        switch (*s->p) {
        case '"':
                return scan_string(s, NULL);
        case 't':
                return scan_word(s, "true");
        case 'f':
                return scan_word(s, "false");
        case 'n':
                return scan_word(s, "null");
        default:
                if (*s->p == '-' || (*s->p >= '0' && *s->p <= '9'))
                        return scan_number(s);
                return fail(s, "not a JSON value");
        }
}

static bool push_key(struct scan *s, uint64_t hash) {
        if (s->n_keys == s->room_keys) {
                size_t room = s->room_keys ? 2 * s->room_keys : 32;
                uint64_t *keys = realloc(s->keys, room * sizeof(*keys));
                if (!keys)
                        return fail(s, "out of memory");
                s->keys = keys;
                s->room_keys = room;
        }
        s->keys[s->n_keys++] = hash;
        return true;
}

static int compare_hashes(const void *a, const void *b) {
        uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
        return x < y ? -1 : x > y;
}

/* Nearly every object has few members, and qsort has its price. */
static void sort_hashes(uint64_t *keys, size_t n) {
        if (n > FEW_KEYS) {
                qsort(keys, n, sizeof(*keys), compare_hashes);
                return;
        }
        for (size_t i = 1; i < n; i++) {
                uint64_t key = keys[i];
                size_t at = i;
                for (; at > 0 && keys[at - 1] > key; at--)
                        keys[at] = keys[at - 1];
                keys[at] = key;
        }
}

static bool close_object(struct scan *s, size_t first) {
        size_t n = s->n_keys - first;

        s->n_keys = first;
        if (n < 2)
                return true;
        uint64_t *keys = s->keys + first;
        sort_hashes(keys, n);
        for (size_t i = 1; i < n; i++)
                if (keys[i] == keys[i - 1])
                        return fail(s, "duplicate key in an object");
        return true;
}

static bool open_container(struct scan *s, enum expect *next) {
        bool object = *s->p == '{';

        if (s->depth == JSON_MAX_DEPTH)
                return fail(s, "nested deeper than 64 levels");
        s->stack[s->depth].object = object;
        s->stack[s->depth++].first_key = s->n_keys;
        s->p++;
        *next = object ? EXPECT_KEY_OR_END : EXPECT_VALUE_OR_END;
        return true;
}

static bool close_container(struct scan *s, enum expect *next) {
        bool object = s->stack[s->depth - 1].object;

        if (*s->p != (object ? '}' : ']'))
                return fail(s, "wrong closing bracket");
        if (object && !close_object(s, s->stack[s->depth - 1].first_key))
                return false;
        s->p++;
        *next = --s->depth ? EXPECT_MORE : EXPECT_NOTHING;
        return true;
}

static bool scan_key(struct scan *s, enum expect *next) {
        uint64_t hash;

        if (*s->p != '"')
                return fail(s, "a key must be a string");
        if (!scan_string(s, &hash) || !push_key(s, hash))
                return false;
        skip_blanks(s);
        if (s->p >= s->end || *s->p != ':')
                return fail(s, "no ':' after a key");
        s->p++;
        *next = EXPECT_VALUE;
        return true;
}

static bool scan_value(struct scan *s, enum expect *next) {
        if (*s->p == '{' || *s->p == '[')
                return open_container(s, next);
        *next = s->depth ? EXPECT_MORE : EXPECT_NOTHING;
        return scan_scalar(s);
}

static bool scan_more(struct scan *s, enum expect *next) {
        if (*s->p != ',')
                return close_container(s, next);
        s->p++;
        *next = s->stack[s->depth - 1].object ? EXPECT_KEY : EXPECT_VALUE;
        return true;
}

/* One token at p. */
static bool scan_step(struct scan *s, enum expect *next) {
        bool ending = *s->p == ']' || *s->p == '}';

        switch (*next) {
        case EXPECT_VALUE_OR_END:
                return ending ? close_container(s, next) : scan_value(s, next);
        case EXPECT_VALUE:
                return scan_value(s, next);
        case EXPECT_KEY_OR_END:
                return ending ? close_container(s, next) : scan_key(s, next);
        case EXPECT_KEY:
                return scan_key(s, next);
        case EXPECT_MORE:
                return scan_more(s, next);
        case EXPECT_NOTHING:
                return fail(s, "more than one JSON value");
        }
        return false;
}

int json_check(const char *text, size_t n, struct json_span *value, struct json_problem *why) {
        struct scan s = {.start = text, .p = text, .end = text + n};
        enum expect next = EXPECT_VALUE;
        const char *first, *last;

        if (!crew_utf8_ok(text, n))
                fail(&s, "not valid UTF-8");
        skip_blanks(&s);
        first = last = s.p;
        while (!s.problem && s.p < s.end) {
                if (!scan_step(&s, &next))
                        break;
                last = s.p;
                skip_blanks(&s);
        }
        if (!s.problem && next != EXPECT_NOTHING)
                fail(&s, first == s.end ? "empty" : "ends too early");
        free(s.keys);
        *why = (struct json_problem){s.problem, (size_t)(s.p - text)};
        *value = s.problem ? JSON_ABSENT : (struct json_span){first, (size_t)(last - first)};
        return s.problem ? -EINVAL : 0;
}

enum json_type json_type_of(struct json_span v) {
        switch (*v.p) {
        case '{':
                return JSON_T_OBJECT;
        case '[':
                return JSON_T_ARRAY;
        case '"':
                return JSON_T_STRING;
        case 't':
                return JSON_T_TRUE;
        case 'f':
                return JSON_T_FALSE;
        case 'n':
                return JSON_T_NULL;
        default:
                return JSON_T_NUMBER;
        }
}

static bool is_between(char c) {
        return c == ' ' || c == '\t' || c == '\r' || c == '\n' || c == ',' || c == ':';
}

/* Behind the string that starts at i. */
static size_t skip_string(struct json_span v, size_t i) {
        for (i++; i < v.n && v.p[i] != '"'; i++)
                if (v.p[i] == '\\')
                        i++;
        return i + 1;
}

/* Behind the value that starts at i. */
static size_t skip_value(struct json_span v, size_t i) {
        unsigned depth = 0;

        do {
                char c = i < v.n ? v.p[i] : '\0';
                if (c == '"') {
                        i = skip_string(v, i);
                        continue;
                }
                depth += c == '{' || c == '[';
                depth -= c == '}' || c == ']';
                i++;
                if (depth == 0 && c != '}' && c != ']') /* a number or a word: to its end */
                        while (i < v.n && !is_between(v.p[i]) && v.p[i] != ']' && v.p[i] != '}')
                                i++;
        } while (depth > 0 && i < v.n);
        return i;
}

static size_t skip_between(struct json_span v, size_t i) {
        while (i < v.n && is_between(v.p[i]))
                i++;
        return i;
}

bool json_next(struct json_span c, size_t *at, struct json_span *key, struct json_span *value) {
        size_t i, end;

        if (!c.p || (*c.p != '{' && *c.p != '['))
                return false;
        i = skip_between(c, *at ? *at : 1);
        if (i + 1 >= c.n)
                return false;
        if (*c.p == '{') {
                end = skip_string(c, i);
                *key = (struct json_span){c.p + i, end - i};
                i = skip_between(c, end);
        }
        end = skip_value(c, i);
        *value = (struct json_span){c.p + i, end - i};
        *at = end;
        return true;
}

struct json_span json_member(struct json_span v, const char *name) {
        struct json_span key = JSON_ABSENT, value;
        size_t at = 0;

        if (!v.p || *v.p != '{')
                return JSON_ABSENT;
        while (json_next(v, &at, &key, &value))
                if (json_equals(key, name))
                        return value;
        return JSON_ABSENT;
}

ssize_t json_decode(struct json_span v, char *out, size_t room) {
        const char *p, *end;
        size_t used = 0;

        if (!json_is(v, JSON_T_STRING))
                return -1;
        p = v.p;
        end = v.p + v.n - 1;
        for (p++; p < end;) {
                char utf8[4] = {*p};
                size_t k = 1;
                if (*p == '\\')
                        k = utf8_put(escape(&p, end), utf8);
                else
                        p++;
                if (k >= room - used)
                        return -1;
                memcpy(out + used, utf8, k);
                used += k;
        }
        if (used >= room)
                return -1;
        out[used] = '\0';
        return (ssize_t)used;
}

bool json_equals(struct json_span v, const char *s) {
        char buf[64];

        if (json_is(v, JSON_T_STRING) && !memchr(v.p, '\\', v.n))
                return strlen(s) == v.n - 2 && memcmp(v.p + 1, s, v.n - 2) == 0;
        /* Longer names are not asked for, and a longer string cannot equal one. */
        return json_decode(v, buf, sizeof(buf)) >= 0 && strcmp(buf, s) == 0;
}

bool json_u64(struct json_span v, uint64_t *out) {
        char digits[20];

        if (!json_is(v, JSON_T_NUMBER) || v.n > 18)
                return false;
        memcpy(digits, v.p, v.n);
        digits[v.n] = '\0';
        return crew_parse_u64(digits, out) == 0;
}
