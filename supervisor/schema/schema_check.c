/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Checks one parsed value against a compiled schema.
 *
 * The value is hostile.  Recursion is bounded by its depth (64) times the stacked schemas (32); work is charged, and a
 * check that spends its budget is invalid, wherever in a "not" or "anyOf" that happens.
 */
#include "schema_internal.h"

#include "common/util.h"

#include <errno.h>
#include <float.h>
#include <math.h>
#include <string.h>

struct checker {
        struct crew_err *err;
        uint64_t work;
        unsigned quiet; /* inside not, anyOf, oneOf, if: say nothing */
        int fault;
        size_t path_len;
        char path[256];
};

static bool check(struct checker *c, const struct schema_node *n, const json_t *v);

static bool say(struct checker *c, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static bool say(struct checker *c, const char *fmt, ...) {
        char what[384];
        va_list ap;

        if (c->quiet || !c->err)
                return false;
        va_start(ap, fmt);
        vsnprintf(what, sizeof(what), fmt, ap);
        va_end(ap);
        schema_invalid(c->err, "%s: %s", c->path_len ? c->path : "/", what);
        return false;
}

static size_t path_push(struct checker *c, const char *key, size_t key_len, size_t index) {
        size_t before = c->path_len;
        char token[24];

        if (c->quiet)
                return before;
        if (!key) {
                key_len = (size_t)snprintf(token, sizeof(token), "%zu", index);
                key = token;
        }
        if (c->path_len + 2 < sizeof(c->path)) {
                c->path[c->path_len++] = '/';
                c->path_len += schema_print_token(c->path + c->path_len, sizeof(c->path) - c->path_len, key, key_len);
        }
        return before;
}

static bool check_member(struct checker *c, const struct schema_node *n, const json_t *v, const char *key, size_t index) {
        size_t before = path_push(c, key, key ? strlen(key) : 0, index);
        bool ok = check(c, n, v);

        c->path_len = before;
        c->path[before] = '\0';
        return ok;
}

static unsigned type_of(const json_t *v) {
        switch (json_typeof(v)) {
        case JSON_OBJECT:
                return SCHEMA_OBJECT;
        case JSON_ARRAY:
                return SCHEMA_ARRAY;
        case JSON_STRING:
                return SCHEMA_STRING;
        case JSON_INTEGER:
                return SCHEMA_NUMBER | SCHEMA_INTEGER;
        case JSON_REAL:
                return SCHEMA_NUMBER | (rint(json_real_value(v)) == json_real_value(v) ? SCHEMA_INTEGER : 0);
        case JSON_TRUE:
        case JSON_FALSE:
                return SCHEMA_BOOLEAN;
        case JSON_NULL:
                return SCHEMA_NULL;
        }
        return 0;
}

static const char *type_name(const json_t *v) {
        unsigned t = type_of(v);

        if (t & SCHEMA_NUMBER)
                return json_is_integer(v) ? "integer" : "number";
        for (unsigned i = 0; i < SCHEMA_TYPE_N; i++)
                if (t & 1u << i)
                        return schema_type_names[i];
        return "nothing";
}

static void charge(struct checker *c, uint64_t work) {
        c->work -= MIN_OF(c->work, work);
}

static bool check_type(struct checker *c, const struct schema_node *n, const json_t *v) {
        char expected[96] = "";

        if (!n->types || (n->types & type_of(v)))
                return true;
        if (c->quiet)
                return false;
        for (unsigned i = 0; i < SCHEMA_TYPE_N; i++)
                if (n->types & 1u << i) {
                        size_t used = strlen(expected);
                        snprintf(expected + used, sizeof(expected) - used, "%s%s", used ? " or " : "",
                                 schema_type_names[i]);
                }
        return say(c, "expected %s, got %s", expected, type_name(v));
}

/* A value as it may stand in a message: short, printable. */
static const char *show(const json_t *v, char *out, size_t room) {
        char raw[64] = "";

        if (json_is_string(v)) {
                snprintf(raw, sizeof(raw), "\"%.40s%s", json_string_value(v), json_string_length(v) > 40 ? "..." : "\"");
        } else if (json_is_object(v) || json_is_array(v)) {
                snprintf(raw, sizeof(raw), "%s", type_name(v));
        } else {
                size_t n = json_dumpb(v, raw, sizeof(raw) - 1, JSON_ENCODE_ANY | JSON_REAL_PRECISION(12));
                raw[MIN_OF(n, sizeof(raw) - 1)] = '\0';
        }
        size_t used = 0;
        for (const char *p = raw; *p && used + 5 < room; p++)
                used += (size_t)snprintf(out + used, room - used, *p < 0x20 || *p > 0x7e ? "\\x%02x" : "%c",
                                         (unsigned)(unsigned char)*p);
        return out;
}

static bool equal(struct checker *c, const json_t *a, const json_t *b) {
        return schema_compare(a, b, &c->work) == 0 && c->work > 0;
}

static bool check_equal(struct checker *c, const struct schema_node *n, const json_t *v) {
        char got[96], want[96];

        if (n->const_ && !equal(c, n->const_, v))
                return say(c, "expected exactly %s, got %s", show(n->const_, want, sizeof(want)),
                           show(v, got, sizeof(got)));
        for (size_t i = 0; n->enum_ && i <= json_array_size(n->enum_); i++) {
                if (i == json_array_size(n->enum_))
                        return say(c, "%s is none of the %zu listed values", show(v, got, sizeof(got)), i);
                if (equal(c, json_array_get(n->enum_, i), v))
                        break;
        }
        return true;
}

/* Exact for integers; otherwise to the precision of a double, as the decimal in the text was. */
static bool is_multiple(const json_t *v, const json_t *of) {
        if (json_is_integer(v) && json_is_integer(of))
                return json_integer_value(v) % json_integer_value(of) == 0;
        double x = json_number_value(v), m = json_number_value(of), q = x / m;
        if (fmod(x, m) == 0)
                return true;
        if (rint(x) == x && fabs(rint(1 / m) * m - 1) <= DBL_EPSILON) /* any integer is a multiple of 0.01 */
                return true;
        if (!(fabs(q) < 9007199254740992.0))
                return false;
        return fabs(rint(q) * m - x) <= 4 * DBL_EPSILON * fabs(x);
}

static const char *const limit_texts[LIMIT_NUMBER_N] = {
        [LIMIT_MINIMUM] = ">=",
        [LIMIT_MAXIMUM] = "<=",
        [LIMIT_EXCLUSIVE_MINIMUM] = ">",
        [LIMIT_EXCLUSIVE_MAXIMUM] = "<",
        [LIMIT_MULTIPLE_OF] = "that is a multiple of",
};

static bool limit_holds(enum schema_limit limit, const json_t *v, const json_t *bound) {
        uint64_t work = 16;
        int order = schema_compare(v, bound, &work);

        switch (limit) {
        case LIMIT_MINIMUM:
                return order >= 0;
        case LIMIT_MAXIMUM:
                return order <= 0;
        case LIMIT_EXCLUSIVE_MINIMUM:
                return order > 0;
        case LIMIT_EXCLUSIVE_MAXIMUM:
                return order < 0;
        case LIMIT_MULTIPLE_OF:
                return is_multiple(v, bound);
        case LIMIT_NUMBER_N:
                break;
        }
        return false;
}

static bool check_number(struct checker *c, const struct schema_node *n, const json_t *v) {
        char got[96], want[96];

        for (unsigned i = 0; i < LIMIT_NUMBER_N; i++)
                if (n->limits[i] && !limit_holds((enum schema_limit)i, v, n->limits[i]))
                        return say(c, "expected a number %s %s, got %s", limit_texts[i],
                                   show(n->limits[i], want, sizeof(want)), show(v, got, sizeof(got)));
        return true;
}

static bool check_counts(struct checker *c, const struct schema_node *n, enum schema_count min, size_t got,
                         const char *unit) {
        if (n->counts[min] >= 0 && got < (uint64_t)n->counts[min])
                return say(c, "expected at least %lld %s, got %zu", (long long)n->counts[min], unit, got);
        if (n->counts[min + 1] >= 0 && got > (uint64_t)n->counts[min + 1])
                return say(c, "expected at most %lld %s, got %zu", (long long)n->counts[min + 1], unit, got);
        return true;
}

static size_t code_points(const char *s, size_t n) {
        size_t count = 0;

        for (size_t i = 0; i < n; i++)
                count += ((unsigned char)s[i] & 0xc0) != 0x80;
        return count;
}

static bool check_string(struct checker *c, const struct schema_node *n, const json_t *v) {
        const char *s = json_string_value(v);
        size_t len = json_string_length(v);
        char got[96];

        charge(c, len / 16);
        if ((n->counts[COUNT_MIN_LENGTH] >= 0 || n->counts[COUNT_MAX_LENGTH] >= 0) &&
            !check_counts(c, n, COUNT_MIN_LENGTH, code_points(s, len), "characters"))
                return false;
        if (!n->pattern)
                return true;
        int r = regex_search(n->pattern, s, len, &c->work);
        if (r == REGEX_MATCH)
                return true;
        if (r == REGEX_TOO_MUCH_WORK)
                c->work = 0;
        if (r < 0)
                c->fault = r;
        return say(c, "%s does not match the pattern %.128s", show(v, got, sizeof(got)), n->pattern_text);
}

static int compare_items(const void *a, const void *b, void *work) {
        return schema_compare(*(const json_t *const *)a, *(const json_t *const *)b, work);
}

static bool check_unique(struct checker *c, const json_t *v) {
        size_t n = json_array_size(v);
        _cleanup_free_ const json_t **items = calloc(n + 1, sizeof(void *));

        if (!items) {
                c->fault = -ENOMEM;
                return false;
        }
        for (size_t i = 0; i < n; i++)
                items[i] = json_array_get(v, i);
        qsort_r(items, n, sizeof(void *), compare_items, &c->work);
        for (size_t i = 1; i < n; i++)
                if (equal(c, items[i - 1], items[i]))
                        return say(c, "the items are not unique");
        return true;
}

static bool check_array(struct checker *c, const struct schema_node *n, const json_t *v) {
        size_t size = json_array_size(v);

        charge(c, size);
        if (!check_counts(c, n, COUNT_MIN_ITEMS, size, "items"))
                return false;
        for (size_t i = 0; i < size; i++) {
                const struct schema_node *item = i < n->prefix_items.n ? n->prefix_items.nodes[i] : n->items;
                if (item && !check_member(c, item, json_array_get(v, i), NULL, i))
                        return false;
        }
        return !n->unique_items || check_unique(c, v);
}

static bool check_required(struct checker *c, const struct schema_node *n, const json_t *v) {
        for (size_t i = 0; n->required && i < json_array_size(n->required); i++) {
                const json_t *name = json_array_get(n->required, i);
                char printed[64];
                if (json_object_get(v, json_string_value(name)))
                        continue;
                schema_print_token(printed, sizeof(printed), json_string_value(name), json_string_length(name));
                return say(c, "the required property '%s' is missing", printed);
        }
        return true;
}

static bool check_object(struct checker *c, const struct schema_node *n, const json_t *v) {
        const char *key;
        json_t *member;

        charge(c, json_object_size(v) + (n->required ? json_array_size(n->required) : 0));
        if (!check_counts(c, n, COUNT_MIN_PROPERTIES, json_object_size(v), "properties") || !check_required(c, n, v))
                return false;
        if (!n->additional && n->properties.n == 0)
                return true;
        json_object_foreach((json_t *)v, key, member) {
                const json_t *index = json_object_get(n->property_index, key);
                const struct schema_node *p = index ? n->properties.nodes[json_integer_value(index)] : n->additional;
                if (p && p->never && !index) {
                        char printed[64];
                        schema_print_token(printed, sizeof(printed), key, strlen(key));
                        return say(c, "unexpected property '%s'", printed);
                }
                if (p && !check_member(c, p, member, key, 0))
                        return false;
        }
        return true;
}

static bool check_quietly(struct checker *c, const struct schema_node *n, const json_t *v) {
        c->quiet++;
        bool ok = check(c, n, v);
        c->quiet--;
        return ok;
}

static size_t count_matches(struct checker *c, const struct schema_list *list, const json_t *v, size_t enough) {
        size_t matches = 0;

        for (size_t i = 0; i < list->n && matches < enough; i++)
                matches += check_quietly(c, list->nodes[i], v);
        return matches;
}

static bool check_combined(struct checker *c, const struct schema_node *n, const json_t *v) {
        for (size_t i = 0; i < n->all_of.n; i++)
                if (!check(c, n->all_of.nodes[i], v))
                        return false;
        if (n->any_of.n && count_matches(c, &n->any_of, v, 1) == 0)
                return say(c, "matches none of the %zu schemas of anyOf", n->any_of.n);
        if (n->one_of.n) {
                size_t matches = count_matches(c, &n->one_of, v, 2);
                if (matches != 1)
                        return say(c, "matches %s of the %zu schemas of oneOf, expected exactly one",
                                   matches ? "several" : "none", n->one_of.n);
        }
        if (n->not_ && check_quietly(c, n->not_, v))
                return say(c, "matches a schema that 'not' forbids");
        return true;
}

static bool check_condition(struct checker *c, const struct schema_node *n, const json_t *v) {
        if (!n->if_ || (!n->then_ && !n->else_))
                return true;
        const struct schema_node *branch = check_quietly(c, n->if_, v) ? n->then_ : n->else_;
        return !branch || check(c, branch, v);
}

static bool check_by_type(struct checker *c, const struct schema_node *n, const json_t *v) {
        if (json_is_object(v))
                return check_object(c, n, v);
        if (json_is_array(v))
                return check_array(c, n, v);
        if (json_is_string(v))
                return check_string(c, n, v);
        return !json_is_number(v) || check_number(c, n, v);
}

static bool check(struct checker *c, const struct schema_node *n, const json_t *v) {
        if (c->work == 0)
                return false;
        charge(c, 8);
        if (n->never)
                return say(c, "nothing is allowed here");
        return check_type(c, n, v) && check_equal(c, n, v) && check_by_type(c, n, v) && (!n->ref || check(c, n->ref, v)) &&
               check_combined(c, n, v) && check_condition(c, n, v);
}

int schema_check_value(const struct crew_schema *s, const json_t *value, struct crew_err *err) {
        struct checker c = {.err = err, .work = SCHEMA_WORK};
        bool ok = check(&c, s->root, value);

        if (c.fault < 0)
                return crew_fail(err, -c.fault, "out of memory checking JSON");
        /* A spent budget says nothing about the value: a "not" may have turned it around. */
        if (c.work == 0)
                return schema_invalid(err, "/: checking this value takes too much work");
        return ok ? 0 : 1;
}
