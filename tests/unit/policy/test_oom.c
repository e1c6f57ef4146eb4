/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Each allocation of a load fails once: the load must end in -ENOMEM or a reported problem, or succeed whole, and must
 * free everything (the sanitizer build watches that).  Never a policy with less in it than was written.
 */
#include "support.h"

#include "common/util.h"

#include <string.h>

void *__real_calloc(size_t n, size_t size);
void *__real_malloc(size_t n);
void *__real_realloc(void *p, size_t n);
void *__wrap_calloc(size_t n, size_t size);
void *__wrap_malloc(size_t n);
void *__wrap_realloc(void *p, size_t n);

static long countdown = -1; /* allocations until one fails; negative: none does */

static bool fails_now(void) {
        return countdown >= 0 && countdown-- == 0;
}
void *__wrap_calloc(size_t n, size_t size) {
        return fails_now() ? NULL : __real_calloc(n, size);
}
void *__wrap_malloc(size_t n) {
        return fails_now() ? NULL : __real_malloc(n);
}
void *__wrap_realloc(void *p, size_t n) {
        return fails_now() ? NULL : __real_realloc(p, n);
}

static struct scratch s;
static int setup(void **state) {
        scratch_init(&s);
        scratch_file(&s, "roles/a.yaml", "agent: a\nsandbox:\n  mode: deny-by-default\n  tools: {allowed: [t, u, v]}\n");
        scratch_file(&s, "ca.pem", "-----BEGIN CERTIFICATE-----\n");
        scratch_file(&s, "any.json",
                     "{\"type\": \"object\", \"properties\": {\"a\": {\"type\": \"string\", \"pattern\": \"^a+$\"}}}");
        scratch_file(&s, "crew.yaml",
                     "crew: x\npolicies: roles\nendpoints: {\"a.example.com:443\": {connect_to: \"127.0.0.1:1\", ca: "
                     "ca.pem}}\ntools: {t: {command: [cat], input: any.json}}\nagents: {a: {policy: "
                     "a.yaml, command: [cat]}}\n"
                     "tasks: {one: {agent: a, input: {k: [1, x]}}, two: {agent: a, context: [one]}}\n");
        return 0;
}
static int teardown(void **state) {
        scratch_fini(&s);
        return 0;
}

static void a_policy_is_whole_or_not_there(void **state) {
        const char *yaml = role(
                "  filesystem: {read: [\"/usr/share/\"], write: [\"/srv/crew-none/\"]}\n"
                "  tools: {allowed: [t, u, v], denied: [\"*\"]}\n"
                "  network:\n    presets: [pypi]\n    allowed_endpoints: [\"a.example.com:443\", {host: b.example.com, "
                "port: 80,\n        methods: [GET], paths: [/a, /b], credential: k}]\n");
        struct loaded whole, l;
        unsigned failed = 0;

        load_text(&whole, yaml, NULL);
        assert_int_equal(whole.r, 0);
        for (long n = 0; n < 2000; n++) {
                countdown = n;
                load_text(&l, yaml, NULL);
                bool reached = countdown < 0;
                countdown = -1;
                assert_int_equal(l.r == 0, l.image != NULL);
                if (l.image)
                        assert_memory_equal(policy_image_sha256(l.image), policy_image_sha256(whole.image), 32);
                failed += l.r != 0;
                loaded_fini(&l);
                if (!reached)
                        break;
        }
        assert_true(failed > 3);
        loaded_fini(&whole);
}

static void a_crew_is_whole_or_not_there(void **state) {
        char path[PATH_MAX];
        unsigned failed = 0;

        snprintf(path, sizeof(path), "%s", scratch_path(&s, "crew.yaml"));
        for (long n = 0; n < 5000; n++) {
                struct loaded l;
                countdown = n;
                load_crew(&l, path);
                bool reached = countdown < 0;
                countdown = -1;
                assert_int_equal(l.r == 0, l.crew != NULL);
                if (l.crew) {
                        assert_int_equal(l.crew->n_tasks, 2);
                        assert_non_null(l.crew->tools[0].input);
                        assert_int_equal(policy_n_names(l.crew->agents[0].policy, POLICY_TOOLS_ALLOWED), 3);
                        assert_string_equal(l.crew->tasks[0].input_json, "{\"k\":[1,\"x\"]}");
                }
                failed += l.r != 0;
                loaded_fini(&l);
                if (!reached)
                        break;
        }
        assert_true(failed > 10);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(a_policy_is_whole_or_not_there),
                cmocka_unit_test(a_crew_is_whole_or_not_there),
        };

        cmocka_set_message_output(CM_OUTPUT_TAP);
        return cmocka_run_group_tests(tests, setup, teardown);
}
