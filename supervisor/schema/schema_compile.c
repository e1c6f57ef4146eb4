/* SPDX-License-Identifier: Apache-2.0 */
/*
 * JSON document -> nodes.  One table row a keyword; what has no row is an error, so a schema never means less than its
 * author thinks.  References are resolved after all nodes exist; a chain of references and applicators that returns to
 * the same value without descending into it is refused here, so that a check always ends.
 */
#include "schema_internal.h"

#include "common/util.h"

#include <ctype.h>
#include <errno.h>
#include <string.h>

#define DIALECT "https://json-schema.org/draft/2020-12/schema"

struct compiler {
        struct crew_schema *s;
        struct crew_err *err;
        size_t path_len;
        char path[512]; /* JSON pointer of where we are, for messages */
};

struct keyword {
        const char *name;
        int (*compile)(struct compiler *c, struct schema_node *n, const json_t *v, const struct keyword *k);
        size_t offset; /* of the field it fills, or an index */
};
#define FIELD(type, node, k) ((type *)((char *)(node) + (k)->offset))

static int compile_node(struct compiler *c, const json_t *v, struct schema_node **out);

static size_t path_push(struct compiler *c, const char *token) {
        size_t before = c->path_len;

        if (c->path_len + 2 < sizeof(c->path)) {
                c->path[c->path_len++] = '/';
                c->path_len +=
                        schema_print_token(c->path + c->path_len, sizeof(c->path) - c->path_len, token, strlen(token));
        }
        return before;
}

static size_t path_push_index(struct compiler *c, size_t i) {
        char token[24];

        snprintf(token, sizeof(token), "%zu", i);
        return path_push(c, token);
}

static void path_pop(struct compiler *c, size_t before) {
        c->path_len = before;
        c->path[before] = '\0';
}

static int bad(struct compiler *c, const char *what) {
        return crew_fail(c->err, EINVAL, "%s: %s", c->path_len ? c->path : "/", what);
}

static int no_memory(struct compiler *c) {
        return crew_fail(c->err, ENOMEM, "out of memory compiling a schema");
}

static int kw_annotation(struct compiler *c, struct schema_node *n, const json_t *v, const struct keyword *k) {
        return 0;
}

static int kw_text(struct compiler *c, struct schema_node *n, const json_t *v, const struct keyword *k) {
        return json_is_string(v) ? 0 : bad(c, "expected a string");
}

static int kw_examples(struct compiler *c, struct schema_node *n, const json_t *v, const struct keyword *k) {
        return json_is_array(v) ? 0 : bad(c, "expected an array");
}

static int kw_dialect(struct compiler *c, struct schema_node *n, const json_t *v, const struct keyword *k) {
        const char *s = json_string_value(v);
        size_t len = strlen(DIALECT);

        if (s && strncmp(s, DIALECT, len) == 0 && (s[len] == '\0' || strcmp(s + len, "#") == 0))
                return 0;
        return bad(c, "only " DIALECT " is understood");
}

/* An $id deeper down would change what references mean. */
static int kw_id(struct compiler *c, struct schema_node *n, const json_t *v, const struct keyword *k) {
        if (n->source != c->s->document)
                return bad(c, "allowed at the root only");
        return kw_text(c, n, v, k);
}

static int one_type(struct compiler *c, struct schema_node *n, const json_t *v) {
        for (unsigned i = 0; json_is_string(v) && i < SCHEMA_TYPE_N; i++)
                if (strcmp(json_string_value(v), schema_type_names[i]) == 0) {
                        n->types |= 1u << i;
                        return 0;
                }
        return bad(c, "expected null, boolean, object, array, number, string or integer");
}

static int kw_type(struct compiler *c, struct schema_node *n, const json_t *v, const struct keyword *k) {
        if (!json_is_array(v))
                return one_type(c, n, v);
        if (json_array_size(v) == 0)
                return bad(c, "an empty list of types");
        for (size_t i = 0; i < json_array_size(v); i++) {
                int r = one_type(c, n, json_array_get(v, i));
                if (r < 0)
                        return r;
        }
        return 0;
}

static int kw_enum(struct compiler *c, struct schema_node *n, const json_t *v, const struct keyword *k) {
        if (!json_is_array(v) || json_array_size(v) == 0)
                return bad(c, "expected a non-empty array");
        n->enum_ = v;
        return 0;
}

static int kw_const(struct compiler *c, struct schema_node *n, const json_t *v, const struct keyword *k) {
        n->const_ = v;
        return 0;
}

static int kw_limit(struct compiler *c, struct schema_node *n, const json_t *v, const struct keyword *k) {
        if (!json_is_number(v))
                return bad(c, "expected a number");
        if (k->offset == LIMIT_MULTIPLE_OF && json_number_value(v) <= 0)
                return bad(c, "expected a number > 0");
        n->limits[k->offset] = v;
        return 0;
}

static int kw_count(struct compiler *c, struct schema_node *n, const json_t *v, const struct keyword *k) {
        json_int_t count = json_integer_value(v);

        if (json_is_real(v) && json_real_value(v) >= 0 && json_real_value(v) < 1e15) {
                count = (json_int_t)json_real_value(v);
                if ((double)count != json_real_value(v))
                        return bad(c, "expected a whole number >= 0");
        } else if (!json_is_integer(v) || count < 0) {
                return bad(c, "expected a whole number >= 0");
        }
        n->counts[k->offset] = count;
        return 0;
}

static int kw_unique(struct compiler *c, struct schema_node *n, const json_t *v, const struct keyword *k) {
        if (!json_is_boolean(v))
                return bad(c, "expected true or false");
        n->unique_items = json_is_true(v);
        return 0;
}

static int kw_pattern(struct compiler *c, struct schema_node *n, const json_t *v, const struct keyword *k) {
        if (!json_is_string(v))
                return bad(c, "expected a string");
        n->pattern_text = json_string_value(v);
        int r = regex_compile(n->pattern_text, json_string_length(v), &n->pattern, c->err);
        if (r < 0)
                crew_err_add(c->err, "%s", c->path);
        return r;
}

static int kw_required(struct compiler *c, struct schema_node *n, const json_t *v, const struct keyword *k) {
        if (!json_is_array(v))
                return bad(c, "expected an array of strings");
        for (size_t i = 0; i < json_array_size(v); i++)
                if (!json_is_string(json_array_get(v, i)))
                        return bad(c, "expected an array of strings");
        n->required = v;
        return 0;
}

static int kw_schema(struct compiler *c, struct schema_node *n, const json_t *v, const struct keyword *k) {
        return compile_node(c, v, FIELD(struct schema_node *, n, k));
}

static int kw_list(struct compiler *c, struct schema_node *n, const json_t *v, const struct keyword *k) {
        struct schema_list *list = FIELD(struct schema_list, n, k);
        int r = 0;

        if (!json_is_array(v) || json_array_size(v) == 0)
                return bad(c, "expected a non-empty array of schemas");
        if (!(list->nodes = calloc(json_array_size(v), sizeof(void *))))
                return no_memory(c);
        for (size_t i = 0; i < json_array_size(v) && r == 0; i++) {
                size_t before = path_push_index(c, i);
                r = compile_node(c, json_array_get(v, i), &list->nodes[list->n]);
                list->n += r == 0;
                path_pop(c, before);
        }
        return r;
}

static int compile_members(struct compiler *c, const json_t *v, struct schema_list *list, json_t *index) {
        const char *key;
        json_t *member;
        int r = 0;

        json_object_foreach((json_t *)v, key, member) {
                size_t before = path_push(c, key);
                r = compile_node(c, member, &list->nodes[list->n]);
                if (r == 0 && index && json_object_set_new(index, key, json_integer((json_int_t)list->n)) < 0)
                        r = no_memory(c);
                if (r < 0)
                        return r;
                list->n++;
                path_pop(c, before);
        }
        return r;
}

static int kw_properties(struct compiler *c, struct schema_node *n, const json_t *v, const struct keyword *k) {
        if (!json_is_object(v))
                return bad(c, "expected an object of schemas");
        n->properties.nodes = calloc(json_object_size(v) + 1, sizeof(void *));
        n->property_index = json_object();
        if (!n->properties.nodes || !n->property_index)
                return no_memory(c);
        return compile_members(c, v, &n->properties, n->property_index);
}

static int kw_defs(struct compiler *c, struct schema_node *n, const json_t *v, const struct keyword *k) {
        if (!json_is_object(v))
                return bad(c, "expected an object of schemas");
        _cleanup_free_ struct schema_node **nodes = calloc(json_object_size(v) + 1, sizeof(void *));
        struct schema_list list = {.nodes = nodes};
        return nodes ? compile_members(c, v, &list, NULL) : no_memory(c);
}

static int kw_ref(struct compiler *c, struct schema_node *n, const json_t *v, const struct keyword *k) {
        const char *s = json_string_value(v);

        if (!s || s[0] != '#' || (s[1] != '\0' && s[1] != '/'))
                return bad(c, "only references into the same document are supported (\"#\" or \"#/$defs/NAME\")");
        n->ref_text = s + 1;
        return 0;
}

#define AT(field) offsetof(struct schema_node, field)
static const struct keyword keywords[] = {
        {"type", kw_type, 0},
        {"enum", kw_enum, 0},
        {"const", kw_const, 0},
        {"properties", kw_properties, 0},
        {"required", kw_required, 0},
        {"additionalProperties", kw_schema, AT(additional)},
        {"minProperties", kw_count, COUNT_MIN_PROPERTIES},
        {"maxProperties", kw_count, COUNT_MAX_PROPERTIES},
        {"items", kw_schema, AT(items)},
        {"prefixItems", kw_list, AT(prefix_items)},
        {"minItems", kw_count, COUNT_MIN_ITEMS},
        {"maxItems", kw_count, COUNT_MAX_ITEMS},
        {"uniqueItems", kw_unique, 0},
        {"minLength", kw_count, COUNT_MIN_LENGTH},
        {"maxLength", kw_count, COUNT_MAX_LENGTH},
        {"pattern", kw_pattern, 0},
        {"minimum", kw_limit, LIMIT_MINIMUM},
        {"maximum", kw_limit, LIMIT_MAXIMUM},
        {"exclusiveMinimum", kw_limit, LIMIT_EXCLUSIVE_MINIMUM},
        {"exclusiveMaximum", kw_limit, LIMIT_EXCLUSIVE_MAXIMUM},
        {"multipleOf", kw_limit, LIMIT_MULTIPLE_OF},
        {"allOf", kw_list, AT(all_of)},
        {"anyOf", kw_list, AT(any_of)},
        {"oneOf", kw_list, AT(one_of)},
        {"not", kw_schema, AT(not_)},
        {"if", kw_schema, AT(if_)},
        {"then", kw_schema, AT(then_)},
        {"else", kw_schema, AT(else_)},
        {"$defs", kw_defs, 0},
        {"$ref", kw_ref, 0},
        {"$schema", kw_dialect, 0},
        {"$id", kw_id, 0},
        {"$comment", kw_text, 0},
        {"title", kw_text, 0},
        {"description", kw_text, 0},
        {"default", kw_annotation, 0},
        {"examples", kw_examples, 0},
};

static int unknown_keyword(struct compiler *c, const char *key) {
        const char *names[ELEMENTSOF(keywords)];
        char printed[64];

        for (size_t i = 0; i < ELEMENTSOF(keywords); i++)
                names[i] = keywords[i].name;
        const char *near = strlen(key) < 64 ? crew_nearest(key, names, ELEMENTSOF(keywords)) : NULL;
        schema_print_token(printed, sizeof(printed), key, strlen(key));
        return crew_fail(c->err, EINVAL, "%s: unsupported keyword '%s'%s%s%s", c->path_len ? c->path : "/", printed,
                         near ? " (did you mean '" : "", near ? near : "", near ? "'?)" : "");
}

static int compile_keyword(struct compiler *c, struct schema_node *n, const char *key, const json_t *v) {
        for (size_t i = 0; i < ELEMENTSOF(keywords); i++) {
                if (strcmp(keywords[i].name, key) != 0)
                        continue;
                size_t before = path_push(c, key);
                int r = keywords[i].compile(c, n, v, &keywords[i]);
                path_pop(c, before);
                return r;
        }
        return unknown_keyword(c, key);
}

static int compile_node(struct compiler *c, const json_t *v, struct schema_node **out) {
        const char *key;
        json_t *member;

        if (!json_is_object(v) && !json_is_boolean(v))
                return bad(c, "expected a schema (an object, true or false)");
        if (c->s->n_nodes == SCHEMA_MAX_NODES)
                return bad(c, "too many schemas in one document");
        struct schema_node *n = calloc(1, sizeof(*n));
        if (!n)
                return no_memory(c);
        c->s->nodes[c->s->n_nodes++] = n;
        n->source = v;
        n->never = json_is_false(v);
        for (size_t i = 0; i < COUNT_N; i++)
                n->counts[i] = -1;
        json_object_foreach((json_t *)v, key, member) {
                int r = compile_keyword(c, n, key, member);
                if (r < 0)
                        return r;
        }
        *out = n;
        return 0;
}

/* The two decodings of a pointer in a fragment, in place: percent first, then ~1 and ~0 token by token. */
static void unescape_percent(char *s) {
        char *out = s, hex[3] = "";

        for (; *s; s++) {
                if (*s == '%' && isxdigit((unsigned char)s[1]) && isxdigit((unsigned char)s[2])) {
                        memcpy(hex, s + 1, 2);
                        *out++ = (char)strtoul(hex, NULL, 16);
                        s += 2;
                } else {
                        *out++ = *s;
                }
        }
        *out = '\0';
}

static void unescape_tildes(char *s) {
        char *out = s;

        for (; *s; s++)
                if (*s == '~' && (s[1] == '0' || s[1] == '1'))
                        *out++ = *++s == '0' ? '~' : '/';
                else
                        *out++ = *s;
        *out = '\0';
}

static const json_t *pointer_step(const json_t *v, char *token) {
        uint64_t i;

        unescape_tildes(token);
        if (json_is_array(v))
                return crew_parse_u64(token, &i) == 0 ? json_array_get(v, i) : NULL;
        return json_object_get(v, token);
}

static struct schema_node *node_of(const struct crew_schema *s, const json_t *source) {
        for (size_t i = 0; source && i < s->n_nodes; i++)
                if (s->nodes[i]->source == source)
                        return s->nodes[i];
        return NULL;
}

static int resolve_ref(struct compiler *c, struct schema_node *n) {
        _cleanup_free_ char *text = strdup(n->ref_text);
        const json_t *v = c->s->document;

        if (!text)
                return no_memory(c);
        unescape_percent(text);
        for (char *at = text; v && *at == '/';) {
                char *token = at + 1;
                at = strchrnul(token, '/');
                bool last = *at == '\0';
                *at = '\0';
                v = pointer_step(v, token);
                if (last)
                        break;
                *at = '/';
        }
        if (!(n->ref = node_of(c->s, v))) {
                char printed[128];
                schema_print_token(printed, sizeof(printed), n->ref_text, strlen(n->ref_text));
                return crew_fail(c->err, EINVAL, "$ref '#%s' does not name a schema of this document", printed);
        }
        return 0;
}

static int measure(struct compiler *c, struct schema_node *n);

static int measure_list(struct compiler *c, const struct schema_list *list, unsigned *height) {
        for (size_t i = 0; i < list->n; i++) {
                int r = measure(c, list->nodes[i]);
                if (r < 0)
                        return r;
                *height = MAX_OF(*height, list->nodes[i]->height);
        }
        return 0;
}

/* Longest chain of schemas that apply to one and the same value. */
static int measure(struct compiler *c, struct schema_node *n) {
        struct schema_node *single[] = {n->ref, n->not_, n->if_, n->then_, n->else_};
        const struct schema_list *lists[] = {&n->all_of, &n->any_of, &n->one_of};
        unsigned height = 0;
        int r = 0;

        if (n->on_path)
                return crew_fail(c->err, EINVAL, "a $ref leads back to itself without descending into the value");
        if (n->height)
                return 0;
        n->on_path = true;
        for (size_t i = 0; i < ELEMENTSOF(single) && r == 0; i++)
                if (single[i])
                        r = measure_list(c, &(struct schema_list){1, &single[i]}, &height);
        for (size_t i = 0; i < ELEMENTSOF(lists) && r == 0; i++)
                r = measure_list(c, lists[i], &height);
        n->on_path = false;
        n->height = height + 1;
        if (r == 0 && n->height > SCHEMA_MAX_IN_PLACE)
                return crew_fail(c->err, EINVAL, "more than %u schemas stacked on one value", SCHEMA_MAX_IN_PLACE);
        return r;
}

int schema_compile_document(struct crew_schema *s, struct crew_err *err) {
        struct compiler c = {.s = s, .err = err};

        int r = compile_node(&c, s->document, &s->root);
        for (size_t i = 0; i < s->n_nodes && r == 0; i++)
                if (s->nodes[i]->ref_text)
                        r = resolve_ref(&c, s->nodes[i]);
        for (size_t i = 0; i < s->n_nodes && r == 0; i++)
                r = measure(&c, s->nodes[i]);
        return r;
}
