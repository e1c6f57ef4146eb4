/* SPDX-License-Identifier: Apache-2.0 */
#include "jsontext.h"

#include "common/util.h"

#include <ctype.h>
#include <errno.h>
#include <string.h>

static void put(struct json_text *t, const char *s, size_t n) {
        if (t->error)
                return;
        if (n >= t->max || t->n > t->max - n - 1) {
                t->error = -E2BIG;
                return;
        }
        if (!t->p || t->n + n + 1 > t->room) {
                size_t room = MAX_OF(t->room * 2, (size_t)256);
                room = MIN_OF(MAX_OF(room, t->n + n + 1), t->max);
                char *p = realloc(t->p, room);
                if (!p) {
                        t->error = -ENOMEM;
                        return;
                }
                t->p = p;
                t->room = room;
        }
        memcpy(t->p + t->n, s, n);
        t->n += n;
        t->p[t->n] = '\0';
}

static void separate(struct json_text *t) {
        if (t->comma)
                put(t, ",", 1);
        t->comma = true;
}

void json_text_fini(struct json_text *t) {
        free(t->p);
        *t = JSON_TEXT(t->max);
}

void json_open(struct json_text *t, char bracket) {
        separate(t);
        put(t, &bracket, 1);
        t->comma = false;
}

void json_close(struct json_text *t, char bracket) {
        put(t, &bracket, 1);
        t->comma = true;
}

static void quoted(struct json_text *t, const char *s) {
        put(t, "\"", 1);
        while (*s) {
                size_t plain = 0;
                while ((unsigned char)s[plain] >= 0x20 && s[plain] != '"' && s[plain] != '\\' && s[plain] != 0x7f)
                        plain++;
                put(t, s, plain);
                s += plain;
                if (*s) {
                        char escaped[8];
                        put(t, escaped, (size_t)snprintf(escaped, sizeof(escaped), "\\u%04x", (unsigned char)*s++));
                }
        }
        put(t, "\"", 1);
}

void json_key(struct json_text *t, const char *key) {
        separate(t);
        quoted(t, key);
        put(t, ":", 1);
        t->comma = false;
}

void json_str(struct json_text *t, const char *s) {
        separate(t);
        if (s)
                quoted(t, s);
        else
                put(t, "null", 4);
}

void json_raw(struct json_text *t, const char *json, size_t n) {
        separate(t);
        put(t, json, n == SIZE_MAX ? strlen(json) : n);
}

void json_int(struct json_text *t, int64_t v) {
        char digits[32];

        separate(t);
        put(t, digits, (size_t)snprintf(digits, sizeof(digits), "%lld", (long long)v));
}

void json_bool(struct json_text *t, bool v) {
        separate(t);
        put(t, v ? "true" : "false", v ? 4 : 5);
}

int json_text_take(struct json_text *t, char **out, size_t *n) {
        int r = t->error;

        if (r == 0 && !t->p)
                put(t, "", 0), r = t->error;
        if (r < 0) {
                json_text_fini(t);
                return r;
        }
        if (n)
                *n = t->n;
        *out = crew_steal_ptr(&t->p);
        *t = JSON_TEXT(t->max);
        return 0;
}

/* --- looking into valid JSON --- */

static size_t skip_blank(const char *s, size_t n, size_t i) {
        while (i < n && (s[i] == ' ' || s[i] == '\t' || s[i] == '\n' || s[i] == '\r'))
                i++;
        return i;
}

/* i at the opening quote; returns the index behind the closing one. */
static size_t skip_string(const char *s, size_t n, size_t i) {
        for (i++; i < n && s[i] != '"'; i++) {
                if (s[i] == '\\')
                        i++;
        }
        return MIN_OF(i + 1, n);
}

static size_t skip_value(const char *s, size_t n, size_t i) {
        size_t depth = 0;

        while (i < n) {
                char c = s[i];
                if (c == '"') {
                        i = skip_string(s, n, i);
                } else if (c == '{' || c == '[') {
                        depth++;
                        i++;
                } else if (c == '}' || c == ']') {
                        if (depth == 0)
                                return i;
                        depth--;
                        i++;
                } else if (depth == 0 && (c == ',' || isspace((unsigned char)c))) {
                        return i;
                } else {
                        i++;
                        continue; /* a number or a word goes on */
                }
                if (depth == 0)
                        return i;
        }
        return i;
}

bool json_member(const char *json, size_t n, const char *key, const char **value, size_t *value_len) {
        size_t key_len = strlen(key), i = skip_blank(json, n, 0);

        if (i >= n || json[i] != '{')
                return false;
        i = skip_blank(json, n, i + 1);
        while (i < n && json[i] == '"') {
                size_t start = i + 1, end = skip_string(json, n, i);
                bool same = end - start == key_len + 1 && memcmp(json + start, key, key_len) == 0;
                i = skip_blank(json, n, end);
                if (i >= n || json[i] != ':')
                        return false;
                size_t v = skip_blank(json, n, i + 1);
                i = skip_value(json, n, v);
                if (same) {
                        *value = json + v;
                        *value_len = i - v;
                        return true;
                }
                i = skip_blank(json, n, i);
                if (i >= n || json[i] != ',')
                        return false;
                i = skip_blank(json, n, i + 1);
        }
        return false;
}

static size_t utf8_put(uint32_t cp, char out[4]) {
        if (cp < 0x80) {
                out[0] = (char)cp;
                return 1;
        }
        if (cp < 0x800) {
                out[0] = (char)(0xc0 | cp >> 6);
                out[1] = (char)(0x80 | (cp & 0x3f));
                return 2;
        }
        if (cp < 0x10000) {
                out[0] = (char)(0xe0 | cp >> 12);
                out[1] = (char)(0x80 | (cp >> 6 & 0x3f));
                out[2] = (char)(0x80 | (cp & 0x3f));
                return 3;
        }
        out[0] = (char)(0xf0 | cp >> 18);
        out[1] = (char)(0x80 | (cp >> 12 & 0x3f));
        out[2] = (char)(0x80 | (cp >> 6 & 0x3f));
        out[3] = (char)(0x80 | (cp & 0x3f));
        return 4;
}

static bool hex4(const char *s, size_t n, uint32_t *out) {
        uint32_t v = 0;

        if (n < 4)
                return false;
        for (int i = 0; i < 4; i++) {
                if (!isxdigit((unsigned char)s[i]))
                        return false;
                v = v << 4 | (uint32_t)(isdigit((unsigned char)s[i]) ? s[i] - '0' : (s[i] | 32) - 'a' + 10);
        }
        *out = v;
        return true;
}

/* One character or escape at s; returns the bytes consumed, 0 when malformed. */
static size_t decode_one(const char *s, size_t n, uint32_t *cp) {
        static const char plain[] = "\"\"\\\\//b\bf\fn\nr\rt\t";
        uint32_t low;

        if (s[0] != '\\') {
                unsigned char c = (unsigned char)s[0];
                size_t k = c < 0x80 ? 1 : c < 0xe0 ? 2 : c < 0xf0 ? 3 : 4;
                if (k > n)
                        return 0;
                *cp = k == 1 ? c : c & (0xffu >> (k + 1));
                for (size_t i = 1; i < k; i++)
                        *cp = *cp << 6 | ((unsigned char)s[i] & 0x3f);
                return k;
        }
        if (n < 2)
                return 0;
        for (size_t i = 0; s[1] != 'u' && i + 1 < sizeof(plain); i += 2) {
                if (plain[i] == s[1]) {
                        *cp = (unsigned char)plain[i + 1];
                        return 2;
                }
        }
        if (s[1] != 'u' || !hex4(s + 2, n - 2, cp))
                return 0;
        if (*cp < 0xd800 || *cp > 0xdfff)
                return 6;
        if (*cp <= 0xdbff && n >= 12 && s[6] == '\\' && s[7] == 'u' && hex4(s + 8, n - 8, &low) && low >= 0xdc00 &&
            low <= 0xdfff) {
                *cp = 0x10000 + ((*cp - 0xd800) << 10) + (low - 0xdc00);
                return 12;
        }
        *cp = 0xfffd;
        return 6;
}

bool json_decode_string(const char *value, size_t n, char *out, size_t out_size) {
        size_t used = 0, i = 1;

        if (out_size == 0 || n < 2 || value[0] != '"' || value[n - 1] != '"')
                return false;
        while (i < n - 1) {
                char bytes[4];
                uint32_t cp;
                size_t k = decode_one(value + i, n - 1 - i, &cp);
                if (k == 0)
                        return false;
                i += k;
                size_t m = utf8_put(cp < 0x20 || (cp >= 0x7f && cp < 0xa0) ? ' ' : cp, bytes);
                if (used + m >= out_size)
                        break;
                memcpy(out + used, bytes, m);
                used += m;
        }
        out[used] = '\0';
        return true;
}
