/* SPDX-License-Identifier: Apache-2.0 */
/*
 * YAML to JSON without guessing: a word that YAML 1.1 and 1.2 read as different types (no, on, 0755, 1_000, 12:30) is an
 * error that asks for quotes, so `NO` never becomes false and a version never becomes a number unnoticed.
 */
#include "json_text.h"

#include "common/util.h"

#include <ctype.h>
#include <errno.h>
#include <string.h>
#include <strings.h>

struct text {
        char *s;
        size_t used, room;
        bool failed;
};

static void put(struct text *t, const char *s, size_t n) {
        if (t->failed)
                return;
        if (t->used + n + 1 > t->room) {
                size_t room = MAX_OF(t->room * 2, t->used + n + 64);
                char *grown = realloc(t->s, room);
                if (!grown) {
                        t->failed = true;
                        return;
                }
                t->s = grown;
                t->room = room;
        }
        crew_assert(t->s);
        memcpy(t->s + t->used, s, n);
        t->used += n;
        t->s[t->used] = '\0';
}

static void put_string(struct text *t, const char *s) {
        put(t, "\"", 1);
        for (; *s; s++) {
                char esc[8];
                unsigned char c = (unsigned char)*s;
                if (c == '"' || c == '\\')
                        snprintf(esc, sizeof(esc), "\\%c", c);
                else if (c < 0x20 || c == 0x7f)
                        snprintf(esc, sizeof(esc), "\\u%04x", c);
                else
                        snprintf(esc, sizeof(esc), "%c", c);
                put(t, esc, strlen(esc));
        }
        put(t, "\"", 1);
}

static bool is_json_number(const char *s) {
        s += *s == '-';
        if (*s == '0')
                s++;
        else if (isdigit((unsigned char)*s))
                s += strspn(s, "0123456789");
        else
                return false;
        if (*s == '.') {
                size_t k = strspn(s + 1, "0123456789");
                if (k == 0)
                        return false;
                s += 1 + k;
        }
        if (*s == 'e' || *s == 'E') {
                s += s[1] == '+' || s[1] == '-' ? 2 : 1;
                size_t k = strspn(s, "0123456789");
                if (k == 0)
                        return false;
                s += k;
        }
        return *s == '\0';
}

/* Numbers of YAML 1.1 or 1.2 that are none of JSON: signs, octal, hex, '_', base 60, a bare leading or last dot. */
static bool is_odd_number(const char *s) {
        size_t dots = 0;

        s += *s == '+' || *s == '-';
        if (strcasecmp(s, ".inf") == 0 || strcasecmp(s, ".nan") == 0)
                return true;
        if (s[0] == '0' && s[1] && strchr("xXoObB", s[1]))
                return s[2] && strspn(s + 2, "0123456789abcdefABCDEF_") == strlen(s + 2);
        if (!isdigit((unsigned char)s[0]) && !(s[0] == '.' && isdigit((unsigned char)s[1])))
                return false;
        for (const char *c = s; *c; c++) {
                if (!isdigit((unsigned char)*c) && !strchr("_.:", *c))
                        return false;
                dots += *c == '.';
        }
        return dots <= 1;
}

static bool is_odd_word(const char *s) {
        static const char *const words[] = {"yes", "no", "on", "off", "y", "n", "true", "false", "null", "~", ""};

        for (size_t i = 0; i < ELEMENTSOF(words); i++)
                if (strcasecmp(s, words[i]) == 0)
                        return true;
        return false;
}

/* 0, or 1 when reported */
static int put_scalar(struct bind *b, struct text *t, const struct node *n) {
        static const char *const same[] = {"true", "false", "null"};

        for (size_t i = 0; n->plain && i < ELEMENTSOF(same); i++) {
                if (strcmp(n->text, same[i]) == 0) {
                        put(t, n->text, n->len);
                        return 0;
                }
        }
        if (n->plain && is_json_number(n->text)) {
                put(t, n->text, n->len);
                return 0;
        }
        if (n->plain && (is_odd_word(n->text) || is_odd_number(n->text))) {
                bind_error(b, n, "quote it if it is text; else write true, false, null or a JSON number",
                           "'%.60s' is read in several ways by YAML", n->text);
                return 1;
        }
        put_string(t, n->text);
        return 0;
}

static int put_node(struct bind *b, struct text *t, const struct node *n) {
        int bad = 0;

        if (n->kind == NODE_SCALAR)
                return put_scalar(b, t, n);
        put(t, n->kind == NODE_MAP ? "{" : "[", 1);
        for (const struct node *e = n->first; e; e = e->next) {
                if (e != n->first)
                        put(t, ",", 1);
                if (n->kind == NODE_MAP) {
                        put_string(t, e->key->text);
                        put(t, ":", 1);
                }
                bad |= put_node(b, t, e);
        }
        put(t, n->kind == NODE_MAP ? "}" : "]", 1);
        return bad;
}

int node_to_json(struct bind *b, const struct node *n, const char **out) {
        struct text t = {0};
        int r = put_node(b, &t, n);

        *out = t.failed || !t.s ? NULL : arena_strndup(b->arena, t.s, t.used);
        free(t.s);
        return *out ? r : -ENOMEM;
}
