/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A YAML file as a small tree that remembers where each value stands.
 *
 * Over libyaml's events.  Refused, with file:line:column: anchors, aliases, tags, directives, merge keys, duplicate
 * keys, keys that are not plain text, NUL characters, and anything beyond the bounds below.
 */
#pragma once

#include "arena.h"
#include "policy.h"

#define NODE_MAX_BYTES (1u << 20)
#define NODE_MAX_NODES 65536u
#define NODE_MAX_ENTRIES 4096u /* of one map or list */
#define NODE_MAX_DEPTH 32u
#define NODE_MAX_DOCUMENTS 64u

enum node_kind { NODE_SCALAR, NODE_MAP, NODE_LIST };

struct node {
        enum node_kind kind;
        bool plain; /* scalar without quotes */
        struct policy_mark mark;
        struct policy_mark end; /* just behind it; line 0 for a map or list in block style */
        const char *text;       /* scalar: UTF-8, NUL-terminated */
        size_t len;
        const struct node *key; /* of a map's entry: its key */
        struct node *first, *next;
        size_t n; /* entries */
};

/* *docs: the roots of all documents, chained by next.  0, or -EINVAL with the problem in report, or a fault. */
int node_parse(const char *file, const char *bytes, size_t n, struct arena *arena, struct node **docs,
               struct policy_report *report, struct crew_err *err);
/* The value of key in a map, or NULL. */
const struct node *node_get(const struct node *map, const char *key);
/* "a list", "a map", "nothing", "'text'": what the reader finds there, for messages. */
const char *node_describe(const struct node *n, char *buf, size_t size);
/* True for a scalar that YAML reads as no value: empty, ~ or null without quotes. */
bool node_is_null(const struct node *n);
