/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Loading, strict parsing and the ordering of JSON values.
 *
 * jansson recurses, and a value of two characters may take it 256 bytes: so depth and memory of a text are counted before
 * it is parsed; 10,000 opening brackets, or a million empty objects, cost a scan.
 */
#include "schema_internal.h"

#include "common/util.h"

#include <errno.h>
#include <string.h>

const char *const schema_type_names[SCHEMA_TYPE_N] = {"null", "boolean", "object", "array", "number", "string", "integer"};

int schema_invalid(struct crew_err *err, const char *fmt, ...) {
        va_list ap;

        va_start(ap, fmt);
        crew_err_vset_at(err, __FILE__, __LINE__, EINVAL, fmt, ap);
        va_end(ap);
        if (err)
                err->code = 0;
        return 1;
}

/* About what jansson allocates, by the character that a value, a member or a container begins with. */
static const uint16_t costs[256] = {['{'] = 256, ['['] = 128, [','] = 40, [':'] = 64};

static int scan(const char *s, size_t n, struct crew_err *err) {
        unsigned depth = 0;
        size_t memory = 0;
        bool in_string = false;

        for (size_t i = 0; i < n; i++) {
                unsigned char c = (unsigned char)s[i];
                if (in_string) {
                        i += c == '\\';
                        in_string = c != '"';
                        continue;
                }
                memory += costs[c];
                in_string = c == '"';
                if ((c == '[' || c == '{') && ++depth > SCHEMA_MAX_DEPTH)
                        return schema_invalid(err, "JSON nests deeper than %u levels", SCHEMA_MAX_DEPTH);
                if ((c == ']' || c == '}') && depth > 0)
                        depth--;
        }
        if (memory > SCHEMA_MAX_MEMORY)
                return schema_invalid(err, "JSON of too many values: they need more than %u MiB", SCHEMA_MAX_MEMORY >> 20);
        return 0;
}

int schema_parse(const char *json, size_t n, json_t **out, struct crew_err *err) {
        json_error_t e;

        int r = scan(json, n, err);
        if (r != 0)
                return r;
        *out = json_loadb(json, n, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY, &e);
        if (*out)
                return 0;
        if (json_error_code(&e) == json_error_out_of_memory)
                return crew_fail(err, ENOMEM, "out of memory parsing JSON");
        for (char *p = e.text; *p; p++)
                if (*p < 0x20 || *p > 0x7e)
                        *p = '?';
        return schema_invalid(err, "not JSON at line %d, column %d: %s", e.line, e.column, e.text);
}

size_t schema_print_token(char *out, size_t room, const char *s, size_t n) {
        size_t used = 0;

        if (room == 0)
                return 0;
        for (size_t i = 0; i < n; i++) {
                unsigned char c = (unsigned char)s[i];
                char one[8];
                if (c == '~')
                        strcpy(one, "~0");
                else if (c == '/')
                        strcpy(one, "~1");
                else if (c < 0x20 || c >= 0x7f || c == '\\')
                        snprintf(one, sizeof(one), "\\x%02x", c);
                else
                        snprintf(one, sizeof(one), "%c", c);
                size_t len = strlen(one);
                if (used + len + 1 > room)
                        break;
                memcpy(out + used, one, len);
                used += len;
        }
        out[used] = '\0';
        return used;
}

static int compare_sizes(size_t a, size_t b) {
        return a < b ? -1 : a > b;
}

static int compare_numbers(const json_t *a, const json_t *b) {
        if (json_is_integer(a) && json_is_integer(b)) {
                json_int_t x = json_integer_value(a), y = json_integer_value(b);
                return x < y ? -1 : x > y;
        }
        /* Wide enough for both a 64-bit integer and a double on x86-64 and arm64. */
        long double x = json_is_integer(a) ? (long double)json_integer_value(a) : (long double)json_real_value(a);
        long double y = json_is_integer(b) ? (long double)json_integer_value(b) : (long double)json_real_value(b);
        return x < y ? -1 : x > y;
}

static int compare_strings(const json_t *a, const json_t *b, uint64_t *work) {
        size_t na = json_string_length(a), nb = json_string_length(b), n = MIN_OF(na, nb);

        *work -= MIN_OF(*work, n / 16);
        int r = memcmp(json_string_value(a), json_string_value(b), n);
        return r ? r : compare_sizes(na, nb);
}

static int compare_arrays(const json_t *a, const json_t *b, uint64_t *work) {
        int r = compare_sizes(json_array_size(a), json_array_size(b));

        for (size_t i = 0; r == 0 && i < json_array_size(a); i++)
                r = schema_compare(json_array_get(a, i), json_array_get(b, i), work);
        return r;
}

static int compare_keys(const void *a, const void *b) {
        return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static const char **sorted_keys(const json_t *o) {
        const char **keys = calloc(json_object_size(o) + 1, sizeof(*keys));
        size_t n = 0;
        const char *key;
        json_t *v;

        if (!keys)
                return NULL;
        json_object_foreach((json_t *)o, key, v) keys[n++] = key;
        qsort(keys, n, sizeof(*keys), compare_keys);
        return keys;
}

static int compare_objects(const json_t *a, const json_t *b, uint64_t *work) {
        size_t n = json_object_size(a);
        int r = compare_sizes(n, json_object_size(b));

        if (r != 0)
                return r;
        *work -= MIN_OF(*work, 8 * n);
        _cleanup_free_ const char **ka = sorted_keys(a), **kb = sorted_keys(b);
        if (!ka || !kb) {
                *work = 0; /* out of memory: fail the check */
                return 0;
        }
        for (size_t i = 0; r == 0 && i < n; i++) {
                r = strcmp(ka[i], kb[i]);
                if (r == 0)
                        r = schema_compare(json_object_get(a, ka[i]), json_object_get(b, kb[i]), work);
        }
        return r;
}

static int rank(const json_t *v) {
        return json_is_number(v) ? (int)JSON_REAL : (int)json_typeof(v);
}

int schema_compare(const json_t *a, const json_t *b, uint64_t *work) {
        if (*work == 0)
                return 0;
        --*work;
        if (rank(a) != rank(b))
                return rank(a) < rank(b) ? -1 : 1;
        if (json_is_number(a))
                return compare_numbers(a, b);
        if (json_is_string(a))
                return compare_strings(a, b, work);
        if (json_is_array(a))
                return compare_arrays(a, b, work);
        if (json_is_object(a))
                return compare_objects(a, b, work);
        return 0;
}

int schema_load_file(const char *path, struct crew_schema **out, struct crew_err *err) {
        _cleanup_free_ char *json = NULL;
        size_t n;

        int r = crew_read_file(path, SCHEMA_MAX_BYTES, &json, &n, err);
        return r < 0 ? r : schema_compile(path, json, n, out, err);
}

static int compile_text(struct crew_schema *s, const char *name, const char *json, size_t n, struct crew_err *err) {
        if (!(s->name = strdup(name)))
                return crew_fail(err, ENOMEM, "out of memory loading a schema");
        if (n > SCHEMA_MAX_BYTES)
                return crew_fail(err, EFBIG, "larger than %u bytes", SCHEMA_MAX_BYTES);
        int r = schema_parse(json, n, &s->document, err);
        if (r == 0)
                r = schema_compile_document(s, err);
        if (r == 0 && !(s->text = json_dumps(s->document, JSON_COMPACT | JSON_ENCODE_ANY)))
                r = crew_fail(err, ENOMEM, "out of memory loading a schema");
        return r;
}

int schema_compile(const char *name, const char *json, size_t n, struct crew_schema **out, struct crew_err *err) {
        struct crew_schema *s = calloc(1, sizeof(*s));

        if (!s)
                return crew_fail(err, ENOMEM, "out of memory loading a schema");
        int r = compile_text(s, name, json, n, err);
        if (r == 0) {
                *out = s;
                return 0;
        }
        if (r > 0) { /* no JSON: for a schema that is a fault */
                r = -EINVAL;
                if (err)
                        err->code = EINVAL;
        }
        crew_err_add(err, "%s", name);
        schema_free(s);
        return r;
}

static void node_free(struct schema_node *n) {
        regex_free(n->pattern);
        json_decref(n->property_index);
        free(n->properties.nodes);
        free(n->prefix_items.nodes);
        free(n->all_of.nodes);
        free(n->any_of.nodes);
        free(n->one_of.nodes);
        free(n);
}

struct crew_schema *schema_free(struct crew_schema *s) {
        if (!s)
                return NULL;
        for (size_t i = 0; i < s->n_nodes; i++)
                node_free(s->nodes[i]);
        json_decref(s->document);
        free(s->text); /* jansson's allocator is malloc */
        free(s->name);
        free(s);
        return NULL;
}

const char *schema_text(const struct crew_schema *s) {
        return s->text;
}

int schema_check(const struct crew_schema *s, const char *json, size_t n, struct crew_err *err) {
        json_t *value = NULL;

        int r = schema_parse(json, n, &value, err);
        if (r == 0 && s)
                r = schema_check_value(s, value, err);
        json_decref(value);
        return r;
}
