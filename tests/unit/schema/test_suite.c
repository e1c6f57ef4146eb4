/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The public JSON Schema test suite (Debian: json-schema-test-suite), whichever of draft2020-12 and draft7 is there.
 *
 * Every group either runs in full or is listed below with the reason why it cannot; a listed group must indeed be
 * refused at load, so the list cannot hide a wrong answer.  Draft 7 spells two keywords differently; the texts are
 * translated ("definitions", an array of "items").
 */
#include "supervisor/schema/schema.h"

#include "common/util.h"
#include "tests/unit/skipped.h"

#include <jansson.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#define SUITE "/usr/share/json-schema-test-suite/tests/"

/* Files whose keyword is in the subset. */
static const char *const supported_files[] = {
        "additionalProperties",
        "allOf",
        "anyOf",
        "boolean_schema",
        "const",
        "default",
        "defs",
        "enum",
        "infinite-loop-detection",
        "exclusiveMaximum",
        "exclusiveMinimum",
        "if-then-else",
        "items",
        "maxItems",
        "maxLength",
        "maxProperties",
        "maximum",
        "minItems",
        "minLength",
        "minProperties",
        "minimum",
        "multipleOf",
        "not",
        "oneOf",
        "pattern",
        "prefixItems",
        "properties",
        "ref",
        "required",
        "type",
        "uniqueItems",
};
/* Files whose keyword is outside: every schema of theirs must be refused, or be without the keyword. */
static const char *const unsupported_files[] = {
        "additionalItems",
        "anchor",
        "contains",
        "content",
        "definitions",
        "dependencies",
        "dependentRequired",
        "dependentSchemas",
        "dynamicRef",
        "format",
        "id",
        "maxContains",
        "minContains",
        "patternProperties",
        "propertyNames",
        "refRemote",
        "unevaluatedItems",
        "unevaluatedProperties",
        "unknownKeyword",
        "vocabulary",
        "anchor",
};

static const char *suite_dir(void) {
        const char *env = getenv("JSON_SCHEMA_SUITE"); /* a directory of another release */

        if (env)
                return env;
        if (access(SUITE "draft2020-12", R_OK) == 0)
                return SUITE "draft2020-12";
        return access(SUITE "draft7", R_OK) == 0 ? SUITE "draft7" : NULL;
}

/*
 * Groups of supported files that do not apply, by a unique part of their description, and why.  A row without
 * "wrong" must be refused at load; "wrong" rows load and mean something else in another dialect.
 */
static const struct exception {
        const char *file, *group, *why;
        bool wrong;
} exceptions[] = {
        {"additionalProperties", "additionalProperties being false does not allow", "patternProperties", false},
        {"additionalProperties", "non-ASCII pattern", "patternProperties", false},
        {"additionalProperties", "with propertyNames", "propertyNames", false},
        {"additionalProperties", "dependentSchemas", "dependentSchemas", false},
        {"const", "nul characters", "U+0000 is refused in every text", false},
        {"enum", "nul characters", "U+0000 is refused in every text", false},
        {"enum", "empty enum", "matches nothing: a mistake", false},
        {"defs", "metaschema", "remote $ref", false},
        {"not", "inside a 'not'", "unevaluatedProperties", false},
        {"pattern", "Unicode property escape", "\\p in a pattern", false},
        {"properties", "patternProperties", "patternProperties", false},
        {"ref", "remote ref", "remote $ref", false},
        {"ref", "Recursive references between", "$id below the root", false},
        {"ref", "creates new scope", "unevaluatedProperties", false},
        {"ref", "refs with relative uris", "$id below the root", false},
        {"ref", "relative refs with absolute", "$id below the root", false},
        {"ref", "nearest parent", "$id below the root", false},
        {"ref", "order of evaluation", "$id, $anchor", false},
        {"ref", "URN base URI with URN", "URN reference", false},
        {"ref", "with $ref via the URN", "URN reference", false},
        {"ref", "URN ref with nested", "URN reference", false},
        {"ref", "ref to if", "URI reference", false},
        {"ref", "ref to then", "URI reference", false},
        {"ref", "ref to else", "URI reference", false},
        {"ref", "absolute-path-reference", "$id below the root", false},
        {"ref", "escaped pointer ref", "draft 7 only: schemas outside of any keyword", true},
        {"ref", "ref overrides any sibling", "draft 7 only; siblings apply in 2020-12", true},
};

static const struct exception *exception_for(const char *file, const char *group) {
        for (size_t i = 0; i < ELEMENTSOF(exceptions); i++)
                if (strcmp(exceptions[i].file, file) == 0 && strstr(group, exceptions[i].group))
                        return &exceptions[i];
        return NULL;
}

/* Draft 7 -> 2020-12, recursively; only inside schemas, where these words are keywords in the suite's texts. */
static void translate(json_t *v) {
        const char *key;
        void *tmp;
        json_t *member;

        if (json_is_array(v))
                for (size_t i = 0; i < json_array_size(v); i++)
                        translate(json_array_get(v, i));
        if (!json_is_object(v))
                return;
        json_object_foreach_safe(v, tmp, key, member) translate(member);
        if ((member = json_object_get(v, "definitions"))) {
                json_object_set(v, "$defs", member);
                json_object_del(v, "definitions");
        }
        if (json_is_array(member = json_object_get(v, "items"))) {
                json_object_set(v, "prefixItems", member);
                json_object_del(v, "items");
        }
        const char *ref = json_string_value(json_object_get(v, "$ref"));
        if (ref && strncmp(ref, "#/definitions/", 14) == 0)
                json_object_set_new(v, "$ref", json_sprintf("#/$defs/%s", ref + 14));
        else if (ref && strncmp(ref, "#/items/", 8) == 0)
                json_object_set_new(v, "$ref", json_sprintf("#/prefixItems/%s", ref + 8));
}

struct tally {
        size_t groups, refused, vectors, wrong;
};

static void run_vector(const struct crew_schema *s, const char *file, const char *group, const json_t *t,
                       struct tally *tally) {
        _cleanup_free_ char *data = json_dumps(json_object_get(t, "data"), JSON_ENCODE_ANY);
        struct crew_err err = CREW_ERR_NULL;

        int r = schema_check(s, data, strlen(data), &err);
        bool want = json_is_true(json_object_get(t, "valid"));
        tally->vectors++;
        if ((r == 0) == want && r >= 0)
                return;
        tally->wrong++;
        fprintf(stderr, "# %s: %s: %s: got %d, want %s (%s)\n", file, group,
                json_string_value(json_object_get(t, "description")), r, want ? "valid" : "invalid", err.msg);
}

static void complain(struct tally *tally, const char *file, const char *group, const char *what) {
        tally->wrong++;
        fprintf(stderr, "# %s: %s: %s\n", file, group, what);
}

static void run_group(const char *file, const json_t *group, bool supported, struct tally *tally) {
        const char *name = json_string_value(json_object_get(group, "description"));
        const struct exception *exception = supported ? exception_for(file, name) : NULL;
        _cleanup_free_ char *text = json_dumps(json_object_get(group, "schema"), JSON_ENCODE_ANY | JSON_COMPACT);
        struct crew_err err = CREW_ERR_NULL;
        struct crew_schema *s = NULL;

        tally->groups++;
        if (exception && exception->wrong)
                return;
        int r = schema_compile(file, text, strlen(text), &s, &err);
        if (r < 0) {
                tally->refused++;
                if (supported && !exception)
                        complain(tally, file, name, err.msg);
                return;
        }
        if (exception)
                complain(tally, file, name, "listed as an exception, but it loads");
        for (size_t i = 0; i < json_array_size(json_object_get(group, "tests")); i++)
                run_vector(s, file, name, json_array_get(json_object_get(group, "tests"), i), tally);
        schema_free(s);
}

static bool run_file(const char *dir, const char *file, bool supported, struct tally *tally) {
        char path[256];
        json_error_t e;

        snprintf(path, sizeof(path), "%s/%s.json", dir, file);
        json_t *groups = json_load_file(path, JSON_ALLOW_NUL, &e);
        if (!groups)
                return false;
        for (size_t i = 0; i < json_array_size(groups); i++) {
                json_t *group = json_array_get(groups, i);
                if (strstr(dir, "draft7") && supported)
                        translate(json_object_get(group, "schema"));
                run_group(file, group, supported, tally);
        }
        json_decref(groups);
        return true;
}

static void supported_keywords_agree_with_the_public_suite(void **state) {
        const char *dir = suite_dir();
        struct tally t = {0};
        size_t files = 0;

        if (!dir)
                skip_because("json-schema-test-suite is not installed");
        for (size_t i = 0; i < ELEMENTSOF(supported_files); i++)
                files += run_file(dir, supported_files[i], true, &t);
        fprintf(stderr, "# %s: %zu files, %zu groups, %zu refused, %zu vectors, %zu wrong\n", dir, files, t.groups,
                t.refused, t.vectors, t.wrong);
        assert_int_equal(t.wrong, 0);
        assert_true(files >= 25);
        assert_true(t.vectors >= 250);
}

/* What compiles of the other files must still be answered rightly; nothing may be silently ignored. */
static void unsupported_keywords_are_refused_not_ignored(void **state) {
        const char *dir = suite_dir();
        struct tally t = {0};

        if (!dir)
                skip_because("json-schema-test-suite is not installed");
        for (size_t i = 0; i < ELEMENTSOF(unsupported_files); i++)
                run_file(dir, unsupported_files[i], false, &t);
        fprintf(stderr, "# unsupported: %zu groups, %zu refused, %zu vectors, %zu wrong\n", t.groups, t.refused, t.vectors,
                t.wrong);
        assert_int_equal(t.wrong, 0);
        assert_true(t.refused >= 20);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(supported_keywords_agree_with_the_public_suite),
                cmocka_unit_test(unsupported_keywords_are_refused_not_ignored),
        };
        cmocka_set_message_output(CM_OUTPUT_TAP);
        return cmocka_run_group_tests(tests, NULL, NULL);
}
