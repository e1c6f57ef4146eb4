/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Schema and value from one input, split at the first newline: the schema is the operator's, the value is hostile, both
 * must be answered.  A third pass checks the value alone.
 */
#include "supervisor/schema/schema.h"

#include <stdint.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
        const char *text = (const char *)data, *end = n ? memchr(text, '\n', n) : NULL;
        size_t schema_len = end ? (size_t)(end - text) : n;
        const char *value = end ? end + 1 : "";
        size_t value_len = end ? n - schema_len - 1 : 0;
        struct crew_err err = CREW_ERR_NULL;
        struct crew_schema *s = NULL;

        if (schema_compile("fuzz", text, schema_len, &s, &err) == 0) {
                (void)schema_check(s, value, value_len, &err);
                schema_free(s);
        }
        (void)schema_check(NULL, value, value_len, &err);
        return 0;
}
