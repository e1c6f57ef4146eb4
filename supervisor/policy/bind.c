/* SPDX-License-Identifier: Apache-2.0 */
/* Binding by tables.  Trusts only that the tree came from node_parse(); every value is checked before it is stored. */
#include "bind.h"

#include "common/util.h"

#include <errno.h>
#include <string.h>

#define TEXT_MAX 65536u
#define CREW_DIR_VAR "${CREW_DIR}"

__attribute__((format(printf, 5, 0))) static void report_at(struct bind *b, bool warning, const struct node *at,
                                                            const char *hint, const char *fmt, va_list ap) {
        char text[sizeof(((struct policy_problem *)0)->text)];

        vsnprintf(text, sizeof(text), fmt, ap);
        policy_report_add(b->report, warning, b->file, (int)at->mark.line, (int)at->mark.column, hint, "%s", text);
}

void bind_error(struct bind *b, const struct node *at, const char *hint, const char *fmt, ...) {
        va_list ap;

        va_start(ap, fmt);
        report_at(b, false, at, hint, fmt, ap);
        va_end(ap);
}

void bind_warning(struct bind *b, const struct node *at, const char *hint, const char *fmt, ...) {
        va_list ap;

        va_start(ap, fmt);
        report_at(b, true, at, hint, fmt, ap);
        va_end(ap);
}

const char *bind_known(char *buf, size_t size, const char *const *names, size_t n) {
        size_t used = 0;

        buf[0] = '\0';
        for (size_t i = 0; i < n && used < size; i++) {
                int k = snprintf(buf + used, size - used, "%s%s", i ? ", " : "known: ", names[i]);
                used += k > 0 ? (size_t)k : size;
        }
        if (used >= size && size > 4)
                strcpy(buf + size - 4, "...");
        return buf;
}

const char *bind_suggest(char *buf, size_t size, const char *word, const char *const *names, size_t n) {
        const char *near = crew_nearest(word, names, n);

        if (!near)
                return bind_known(buf, size, names, n);
        snprintf(buf, size, "did you mean '%s'?", near);
        return buf;
}

static void unknown_key(struct bind *b, const struct node *key, const struct bind_table *t) {
        const char *names[64];
        char hint[256];
        size_t n = 0;

        for (size_t i = 0; i < t->n && n < ELEMENTSOF(names); i++)
                names[n++] = t->fields[i].key;
        bind_error(b, key, bind_suggest(hint, sizeof(hint), key->text, names, n), "unknown key '%.80s' %s", key->text,
                   t->where);
}

bool bind_is(struct bind *b, const struct node *v, enum node_kind kind, const char *what) {
        char buf[80];

        if (v->kind == kind && !(kind == NODE_SCALAR && node_is_null(v)))
                return true;
        if (v->key)
                bind_error(b, v, "", "'%.80s': expected %s, got %s", v->key->text, what,
                           node_describe(v, buf, sizeof(buf)));
        else
                bind_error(b, v, "", "expected %s, got %s", what, node_describe(v, buf, sizeof(buf)));
        return false;
}

int bind_map(struct bind *b, const struct node *v, const struct bind_table *t, void *out) {
        if (!bind_is(b, v, NODE_MAP, "a map"))
                return 0;
        for (const struct node *e = v->first; e; e = e->next) {
                size_t i = 0;
                while (i < t->n && strcmp(t->fields[i].key, e->key->text) != 0)
                        i++;
                if (i == t->n) {
                        unknown_key(b, e->key, t);
                        continue;
                }
                int r = t->fields[i].fn(b, e, &t->fields[i], (char *)out + t->fields[i].offset);
                if (r < 0)
                        return r;
        }
        for (size_t i = 0; i < t->n; i++)
                if (t->fields[i].required && !node_get(v, t->fields[i].key))
                        bind_error(b, v->key ? v->key : v, "", "missing key '%s' %s", t->fields[i].key, t->where);
        return 0;
}

int bind_sub(struct bind *b, const struct node *v, const struct bind_field *f, void *out) {
        return bind_map(b, v, f->arg, out);
}

int bind_text(struct bind *b, const struct node *v, const struct bind_field *f, void *out) {
        if (!bind_is(b, v, NODE_SCALAR, "text"))
                return 0;
        if (v->len > TEXT_MAX) {
                bind_error(b, v, "", "'%s': text longer than %u bytes", f->key, TEXT_MAX);
                return 0;
        }
        for (const char *c = v->text; *c; c++) {
                if (((unsigned char)*c < 0x20 && *c != '\n' && *c != '\t') || *c == 0x7f) {
                        bind_error(b, v, "", "'%s': a control character (0x%02x) is not accepted", f->key,
                                   (unsigned char)*c);
                        return 0;
                }
        }
        *(const char **)out = v->text;
        return 0;
}

int bind_name(struct bind *b, const struct node *v, const struct bind_field *f, void *out) {
        if (!bind_is(b, v, NODE_SCALAR, "a name"))
                return 0;
        if (!crew_name_ok(v->text))
                bind_error(b, v, "1 to 63 characters of a-z 0-9 -, the first and last not a hyphen",
                           "'%s': '%.80s' is not a name", f->key, v->text);
        else
                *(const char **)out = v->text;
        return 0;
}

int bind_bool(struct bind *b, const struct node *v, const struct bind_field *f, void *out) {
        char buf[80];
        bool yes = v->kind == NODE_SCALAR && v->plain && strcmp(v->text, "true") == 0;
        bool no = v->kind == NODE_SCALAR && v->plain && strcmp(v->text, "false") == 0;

        if (!yes && !no)
                bind_error(b, v, "", "'%s': expected true or false, got %s", f->key, node_describe(v, buf, sizeof(buf)));
        else
                *(bool *)out = yes;
        return 0;
}

int bind_u32(struct bind *b, const struct node *v, const struct bind_field *f, void *out) {
        char buf[80];
        uint64_t n;

        if (v->kind != NODE_SCALAR || !v->plain || crew_parse_u64(v->text, &n) < 0)
                bind_error(b, v, "", "'%s': expected a whole number from %llu to %llu, got %s", f->key,
                           (unsigned long long)f->min, (unsigned long long)f->max, node_describe(v, buf, sizeof(buf)));
        else if (n < f->min || n > f->max)
                bind_error(b, v, "", "'%s': %llu is out of range, expected %llu to %llu", f->key, (unsigned long long)n,
                           (unsigned long long)f->min, (unsigned long long)f->max);
        else
                *(uint32_t *)out = (uint32_t)n;
        return 0;
}

static void show_size(char *buf, size_t size, uint64_t v) {
        static const char *const units[] = {"", "KiB", "MiB", "GiB", "TiB"};
        size_t u = 0;

        while (u + 1 < ELEMENTSOF(units) && v >= 1024 && v % 1024 == 0) {
                v /= 1024;
                u++;
        }
        snprintf(buf, size, "%llu%s", (unsigned long long)v, units[u]);
}

static bool is_none(const struct node *v) {
        return v->kind == NODE_SCALAR && strcmp(v->text, "none") == 0;
}

static int size_value(struct bind *b, const struct node *v, const struct bind_field *f, bool none_ok, uint64_t *out) {
        char buf[80], lo[32], hi[32];
        uint64_t n;

        if (none_ok && is_none(v)) {
                *out = 0;
                return 0;
        }
        show_size(lo, sizeof(lo), f->min);
        show_size(hi, sizeof(hi), f->max);
        int r = v->kind == NODE_SCALAR ? crew_parse_size(v->text, &n) : -EINVAL;
        if (r == -EINVAL)
                bind_error(b, v, "", "'%s': expected a size such as 512MiB%s, got %s", f->key, none_ok ? " or none" : "",
                           node_describe(v, buf, sizeof(buf)));
        else if (r < 0 || n < f->min || n > f->max)
                bind_error(b, v, "", "'%s': %.40s is out of range, expected %s to %s", f->key, v->text, lo, hi);
        else
                *out = n;
        return 0;
}

int bind_size(struct bind *b, const struct node *v, const struct bind_field *f, void *out) {
        return size_value(b, v, f, false, out);
}

int bind_size_or_none(struct bind *b, const struct node *v, const struct bind_field *f, void *out) {
        return size_value(b, v, f, true, out);
}

static void show_duration(char *buf, size_t size, uint64_t ms) {
        static const struct {
                uint64_t ms;
                const char *unit;
        } units[] = {{3600000, "h"}, {60000, "m"}, {1000, "s"}, {1, "ms"}};
        size_t u = 0;

        while (u + 1 < ELEMENTSOF(units) && (ms < units[u].ms || ms % units[u].ms))
                u++;
        snprintf(buf, size, "%llu%s", (unsigned long long)(ms / units[u].ms), units[u].unit);
}

static int duration_value(struct bind *b, const struct node *v, const struct bind_field *f, bool none_ok, uint64_t *out) {
        char buf[80], lo[32], hi[32];
        uint64_t ns;

        if (none_ok && is_none(v)) {
                *out = 0;
                return 0;
        }
        show_duration(lo, sizeof(lo), f->min);
        show_duration(hi, sizeof(hi), f->max);
        int r = v->kind == NODE_SCALAR ? crew_parse_duration(v->text, &ns) : -EINVAL;
        if (r == -EINVAL)
                bind_error(b, v, "", "'%s': expected a duration such as 30s, 5m or 2h%s, got %s", f->key,
                           none_ok ? ", or none" : "", node_describe(v, buf, sizeof(buf)));
        else if (r < 0 || ns / 1000000 < f->min || ns / 1000000 > f->max)
                bind_error(b, v, "", "'%s': %.40s is out of range, expected %s to %s", f->key, v->text, lo, hi);
        else
                *out = ns / 1000000;
        return 0;
}

int bind_duration(struct bind *b, const struct node *v, const struct bind_field *f, void *out) {
        return duration_value(b, v, f, false, out);
}

int bind_duration_or_none(struct bind *b, const struct node *v, const struct bind_field *f, void *out) {
        return duration_value(b, v, f, true, out);
}

/* "2", "0.5", "1.25": at most three decimals, in thousandths. */
static int parse_milli(const char *s, uint64_t *out) {
        size_t whole = strspn(s, "0123456789"), decimals = 0;
        uint64_t v = 0;

        if (whole == 0 || whole > 6)
                return -EINVAL;
        if (s[whole] == '.') {
                decimals = strspn(s + whole + 1, "0123456789");
                if (decimals == 0 || decimals > 3)
                        return -EINVAL;
        }
        if (s[whole + (decimals ? decimals + 1 : 0)] != '\0')
                return -EINVAL;
        for (size_t i = 0; i < whole; i++)
                v = v * 10 + (uint64_t)(s[i] - '0');
        for (size_t i = 0; i < 3; i++)
                v = v * 10 + (i < decimals ? (uint64_t)(s[whole + 1 + i] - '0') : 0);
        *out = v;
        return 0;
}

int bind_milli_or_none(struct bind *b, const struct node *v, const struct bind_field *f, void *out) {
        char buf[80];
        uint64_t n;

        if (is_none(v)) {
                *(uint32_t *)out = 0;
                return 0;
        }
        if (v->kind != NODE_SCALAR || parse_milli(v->text, &n) < 0)
                bind_error(b, v, "", "'%s': expected a number such as 0.5 or 2, or none, got %s", f->key,
                           node_describe(v, buf, sizeof(buf)));
        else if (n < f->min || n > f->max)
                bind_error(b, v, "", "'%s': %.40s is out of range, expected %.2f to %.0f", f->key, v->text,
                           (double)f->min / 1000, (double)f->max / 1000);
        else
                *(uint32_t *)out = (uint32_t)n;
        return 0;
}

int bind_enum(struct bind *b, const struct node *v, const struct bind_field *f, void *out) {
        const struct bind_names *names = f->arg;
        char hint[256];

        if (!bind_is(b, v, NODE_SCALAR, "a word"))
                return 0;
        for (size_t i = 0; i < names->n; i++) {
                if (strcmp(v->text, names->names[i]) == 0) {
                        *(uint32_t *)out = (uint32_t)i;
                        return 0;
                }
        }
        bind_error(b, v, bind_known(hint, sizeof(hint), names->names, names->n), "'%s': '%.80s' is not a value of it",
                   f->key, v->text);
        return 0;
}

#define EXPANDED_MAX 8192

int bind_expand(struct bind *b, const struct node *at, const char *text, const char **out) {
        char buf[EXPANDED_MAX];
        size_t used = 0;

        for (const char *p = text; *p;) {
                bool var = strncmp(p, "${", 2) == 0;
                if (var && strncmp(p, CREW_DIR_VAR, strlen(CREW_DIR_VAR)) != 0) {
                        bind_error(b, at, "", "only ${CREW_DIR} is expanded, not '%.40s'", p);
                        return 1;
                }
                if (var && !b->crew_dir) {
                        bind_error(b, at, "", "${CREW_DIR} means the directory of a crew file, and there is none here");
                        return 1;
                }
                size_t n = var ? strlen(b->crew_dir) : 1;
                if (used + n >= sizeof(buf)) {
                        bind_error(b, at, "", "longer than %d bytes", EXPANDED_MAX - 1);
                        return 1;
                }
                memcpy(buf + used, var ? b->crew_dir : p, n);
                used += n;
                p += var ? strlen(CREW_DIR_VAR) : 1;
        }
        *out = arena_strndup(b->arena, buf, used);
        return *out ? 0 : -ENOMEM;
}
