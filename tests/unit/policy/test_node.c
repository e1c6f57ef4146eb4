/* SPDX-License-Identifier: Apache-2.0 */
/* YAML that is no plain tree, or too big a one, is refused where it stands. */
#include "support.h"

#include "common/util.h"
#include "supervisor/policy/node.h"

#include <string.h>

struct parsed {
        int r;
        struct arena arena;
        struct node *docs;
        struct policy_report report;
};

static void parse_n(struct parsed *p, const char *bytes, size_t n) {
        *p = (struct parsed){0};
        p->r = node_parse("f.yaml", bytes, n, &p->arena, &p->docs, &p->report, NULL);
}

static void parsed_fini(struct parsed *p) {
        arena_fini(&p->arena);
        policy_report_fini(&p->report);
}

static void refused_n(const char *bytes, size_t n, int line, int column, const char *text) {
        struct parsed p;

        parse_n(&p, bytes, n);
        assert_int_equal(p.r, -EINVAL);
        assert_int_equal(p.report.errors, 1);
        if (!strstr(p.report.items[0].text, text) || (line && p.report.items[0].line != line) ||
            (column && p.report.items[0].column != column))
                fail_msg("%d:%d: %s, expected %d:%d: %s", p.report.items[0].line, p.report.items[0].column,
                         p.report.items[0].text, line, column, text);
        parsed_fini(&p);
}

static void refused(const char *yaml, int line, int column, const char *text) {
        refused_n(yaml, strlen(yaml), line, column, text);
}

static void an_alias_bomb_is_refused_at_its_first_anchor(void **state) {
        refused("a: &a [x, x, x, x, x, x, x, x, x]\n"
                "b: &b [*a, *a, *a, *a, *a, *a, *a, *a, *a]\n"
                "c: &c [*b, *b, *b, *b, *b, *b, *b, *b, *b]\n",
                1, 4, "anchors are not accepted (&a)");
}

static void anchors_aliases_tags_and_merge_keys_are_refused(void **state) {
        refused("a: 1\nb: *a\n", 2, 4, "aliases are not accepted (*a)");
        refused("a: &x {b: 1}\n", 1, 4, "anchors are not accepted (&x)");
        refused("a: &x\n  - 1\n", 1, 4, "anchors are not accepted (&x)");
        refused("a: !!str 1\n", 1, 4, "tags are not accepted");
        refused("a: !!python/object:os.system {}\n", 1, 4, "tags are not accepted");
        refused("a: !local [1]\n", 1, 4, "tags are not accepted (!local)");
        refused("a:\n  <<: {b: 1}\n", 2, 3, "merge keys");
        refused("%YAML 1.1\n---\na: 1\n", 1, 0, "directives are not accepted");
        refused("%TAG ! tag:x,2000:\n---\na: 1\n", 1, 0, "directives are not accepted");
}

static void a_duplicate_key_names_both_lines(void **state) {
        refused("a: 1\nb: 2\na: 3\n", 3, 1, "duplicate key 'a' (first on line 1)");
        refused("x: {read: [], read: []}\n", 1, 15, "duplicate key 'read' (first on line 1)");
        refused("\"a\": 1\na: 3\n", 2, 1, "duplicate key 'a' (first on line 1)");
}

static void keys_must_be_words(void **state) {
        refused("? [a]\n: 1\n", 1, 3, "a key must be a single word, not a list");
        refused("? {a: b}\n: 1\n", 1, 3, "a key must be a single word, not a map");
}

static void a_tab_does_not_indent(void **state) {
        refused("a:\n\tb: 1\n", 2, 1, "a tab cannot indent YAML");
}

static void syntax_errors_say_where(void **state) {
        refused("a: [1, 2\nb: 3\n", 2, 0, "not valid YAML");
        refused("a: \"unfinished\n", 0, 0, "not valid YAML");
        refused("a: b: c\n", 1, 0, "not valid YAML");
        refused("}", 1, 1, "not valid YAML");
}

static void text_must_be_utf8_without_nul(void **state) {
        refused_n("a: \xff\n", 5, 1, 0, "not UTF-8 text");
        refused_n("a: b\0"
                  "c\n",
                  7, 1, 0, "not UTF-8 text");
        refused_n("\xff\xfe"
                  "a\0:\0",
                  6, 1, 0, "not UTF-8 text");
        refused("a: \"x\\0y\"\n", 1, 4, "a NUL character");
}

static void depth_is_bounded(void **state) {
        char deep[20000];

        memset(deep, '[', sizeof(deep));
        refused_n(deep, sizeof(deep), 1, 33, "nested more than 32 levels deep");
}

static char *repeat(const char *unit, size_t times, size_t *n) {
        size_t k = strlen(unit);
        char *s = malloc(k * times + 1);

        assert_non_null(s);
        for (size_t i = 0; i < times; i++)
                memcpy(s + i * k, unit, k);
        s[k * times] = '\0';
        *n = k * times;
        return s;
}

static void numbers_of_things_are_bounded(void **state) {
        size_t n;
        _cleanup_free_ char *entries = repeat("- 1\n", NODE_MAX_ENTRIES + 1, &n);
        refused_n(entries, n, 1, 0, "more than 4096 entries in one list");
        _cleanup_free_ char *docs = repeat("--- 1\n", NODE_MAX_DOCUMENTS + 1, &n);
        refused_n(docs, n, 65, 0, "more than 64 documents");
        _cleanup_free_ char *nodes = repeat("- [1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1]\n", 3000, &n);
        refused_n(nodes, n, 0, 0, "more than 65536 values");
}

static void size_is_bounded(void **state) {
        size_t n;
        _cleanup_free_ char *big = repeat("# comment\n", NODE_MAX_BYTES / 10 + 1, &n);

        refused_n(big, n, 0, 0, "larger than 1048576 bytes");
}

static void what_is_left_keeps_its_place(void **state) {
        struct parsed p;
        const char *yaml = "a: x\nb:\n  - 'é': {c: \"d\"}\n---\nsecond\n";

        parse_n(&p, yaml, strlen(yaml));
        assert_int_equal(p.r, 0);
        const struct node *b = node_get(p.docs, "b");
        assert_int_equal(b->mark.line, 3);
        assert_int_equal(b->key->mark.line, 2);
        const struct node *c = node_get(b->first->first, "c");
        assert_string_equal(c->text, "d");
        assert_false(c->plain);
        assert_int_equal(c->mark.line, 3);
        assert_int_equal(c->mark.column, 14); /* characters, not bytes */
        assert_true(node_get(p.docs, "a")->plain);
        assert_string_equal(p.docs->next->text, "second");
        assert_null(p.docs->next->next);
        parsed_fini(&p);
}

static void an_empty_file_has_no_document(void **state) {
        struct parsed p;

        parse_n(&p, "# only a comment\n", 17);
        assert_int_equal(p.r, 0);
        assert_null(p.docs);
        parsed_fini(&p);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(an_alias_bomb_is_refused_at_its_first_anchor),
                cmocka_unit_test(anchors_aliases_tags_and_merge_keys_are_refused),
                cmocka_unit_test(a_duplicate_key_names_both_lines),
                cmocka_unit_test(keys_must_be_words),
                cmocka_unit_test(a_tab_does_not_indent),
                cmocka_unit_test(syntax_errors_say_where),
                cmocka_unit_test(text_must_be_utf8_without_nul),
                cmocka_unit_test(depth_is_bounded),
                cmocka_unit_test(numbers_of_things_are_bounded),
                cmocka_unit_test(size_is_bounded),
                cmocka_unit_test(what_is_left_keeps_its_place),
                cmocka_unit_test(an_empty_file_has_no_document),
        };

        cmocka_set_message_output(CM_OUTPUT_TAP);
        return cmocka_run_group_tests(tests, NULL, NULL);
}
