/* SPDX-License-Identifier: Apache-2.0 */
/*
 * JSON Schema (draft 2020-12), a documented subset compiled at load; any unknown keyword is a load error.
 * Subset: type, enum, const, properties, required, additionalProperties, patternProperties-free; items, prefixItems,
 * minItems, maxItems, uniqueItems; minLength, maxLength, pattern (POSIX ERE, documented), format-free; minimum, maximum,
 * exclusiveMinimum, exclusiveMaximum, multipleOf; allOf, anyOf, oneOf, not, if/then/else; $defs and local $ref
 * (acyclic in depth by a bound); title, description, default, examples, $schema, $id, $comment are annotations.
 */
#pragma once

#include "common/err.h"

#include <stddef.h>

struct crew_schema;
int schema_load_file(const char *path, struct crew_schema **out, struct crew_err *err);
int schema_compile(const char *name, const char *json, size_t n, struct crew_schema **out, struct crew_err *err);
struct crew_schema *schema_free(struct crew_schema *s);
const char *schema_text(const struct crew_schema *s); /* the source as compact JSON, for MCP tools/list */
/* Parses json strictly (one value, no duplicate keys, depth <= 64) and checks it; s NULL checks the JSON alone.
 * 0 valid; 1 invalid with err->msg "/portfolio/3/value: expected a number >= 0, got string"; negative fault. */
int schema_check(const struct crew_schema *s, const char *json, size_t n, struct crew_err *err);
