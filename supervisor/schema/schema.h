/* SPDX-License-Identifier: Apache-2.0 */
/*
 * JSON Schema (draft 2020-12), a documented subset (docs/SCHEMA.md) compiled at load; any unknown keyword is a load
 * error.  Subset: boolean schemas; type, enum, const; properties, required, additionalProperties, minProperties,
 * maxProperties; items, prefixItems, minItems, maxItems, uniqueItems; minLength, maxLength, pattern (the regular part
 * of ECMA-262, linear time); minimum, maximum, exclusiveMinimum, exclusiveMaximum, multipleOf; allOf, anyOf, oneOf,
 * not, if/then/else; $defs and local $ref; title, description, default, examples, $schema, $id (root only) and
 * $comment are annotations.  No format, patternProperties, contains, dependent*, unevaluated*, anchors, remote $ref.
 *
 * What is checked comes out of a jail: depth, work and memory of a check are bounded, and running out of the bound
 * means "invalid".
 */
#pragma once

#include "common/err.h"

#include <stddef.h>

#define SCHEMA_MAX_BYTES (1u << 20)
#define SCHEMA_MAX_DEPTH 64u
#define SCHEMA_MAX_MEMORY (64u << 20) /* of one parsed value; 1.6 million small numbers, 200,000 small objects */

struct crew_schema;
int schema_load_file(const char *path, struct crew_schema **out, struct crew_err *err);
int schema_compile(const char *name, const char *json, size_t n, struct crew_schema **out, struct crew_err *err);
struct crew_schema *schema_free(struct crew_schema *s);
const char *schema_text(const struct crew_schema *s); /* the source as compact JSON, for MCP tools/list */
/* Parses json strictly (one value, no duplicate keys, depth <= 64) and checks it; s NULL checks the JSON alone.
 * 0 valid; 1 invalid with err->msg "/portfolio/3/value: expected a number >= 0, got -1" (err->code 0); negative fault. */
int schema_check(const struct crew_schema *s, const char *json, size_t n, struct crew_err *err);
