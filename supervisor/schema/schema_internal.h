/* SPDX-License-Identifier: Apache-2.0 */
/* What schema_compile.c makes and schema_check.c walks.  Nodes borrow from the schema's own document. */
#pragma once

#include "regex.h"
#include "schema.h"

#include <jansson.h>
#include <stdbool.h>

#define SCHEMA_MAX_NODES 4096u
#define SCHEMA_MAX_IN_PLACE 32u /* applicators and $ref stacked on one and the same value */
#define SCHEMA_WORK (32u << 20) /* of one check; about a quarter of a second */

enum schema_type {
        SCHEMA_NULL = 1u << 0,
        SCHEMA_BOOLEAN = 1u << 1,
        SCHEMA_OBJECT = 1u << 2,
        SCHEMA_ARRAY = 1u << 3,
        SCHEMA_NUMBER = 1u << 4,
        SCHEMA_STRING = 1u << 5,
        SCHEMA_INTEGER = 1u << 6,
};
#define SCHEMA_TYPE_N 7
extern const char *const schema_type_names[SCHEMA_TYPE_N]; /* by bit */

enum schema_limit {
        LIMIT_MINIMUM,
        LIMIT_MAXIMUM,
        LIMIT_EXCLUSIVE_MINIMUM,
        LIMIT_EXCLUSIVE_MAXIMUM,
        LIMIT_MULTIPLE_OF,
        LIMIT_NUMBER_N,
};
enum schema_count {
        COUNT_MIN_LENGTH,
        COUNT_MAX_LENGTH,
        COUNT_MIN_ITEMS,
        COUNT_MAX_ITEMS,
        COUNT_MIN_PROPERTIES,
        COUNT_MAX_PROPERTIES,
        COUNT_N,
};

struct schema_list {
        size_t n;
        struct schema_node **nodes;
};

struct schema_node {
        const json_t *source;
        bool never; /* the schema false */
        bool unique_items;
        unsigned types;  /* bit set; 0: any */
        unsigned height; /* compile: longest in-place chain below, 0 unknown */
        bool on_path;    /* compile: cycle search */
        const json_t *enum_, *const_, *required, *limits[LIMIT_NUMBER_N];
        json_int_t counts[COUNT_N]; /* -1: absent */
        struct regex *pattern;
        const char *pattern_text;
        const char *ref_text;
        struct schema_node *ref, *additional, *items, *not_, *if_, *then_, *else_;
        struct schema_list properties; /* in the order of the "properties" object */
        const json_t *properties_source;
        json_t *property_index; /* name -> index into properties */
        struct schema_list prefix_items, all_of, any_of, one_of;
};

struct crew_schema {
        char *name;
        char *text;
        json_t *document;
        struct schema_node *root;
        size_t n_nodes;
        struct schema_node *nodes[SCHEMA_MAX_NODES];
};

/* Strict JSON: one value, no duplicate keys, bounded depth.  0; 1 with err->msg; -ENOMEM. */
int schema_parse(const char *json, size_t n, json_t **out, struct crew_err *err);
int schema_invalid(struct crew_err *err, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
int schema_compile_document(struct crew_schema *s, struct crew_err *err);
int schema_check_value(const struct crew_schema *s, const json_t *value, struct crew_err *err);

/* A total order over JSON values in which numbers compare by value (1 equals 1.0) and objects by sorted keys.
 * *work is lowered by what it cost; when it is spent the result means nothing. */
int schema_compare(const json_t *a, const json_t *b, uint64_t *work);
/* Prints a key or pointer token: ~ and / as RFC 6901, what is not printable ASCII as \uXXXX.  Returns the length. */
size_t schema_print_token(char *out, size_t room, const char *s, size_t n);
