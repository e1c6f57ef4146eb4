/* SPDX-License-Identifier: Apache-2.0 */
/* Shared memory: rights, quotas, and a random trace against a naive model. */
#include "supervisor/memory.h"

#include "test.h"

static uint8_t open_rights[3] = {3, 1, 0}, own_rights[3] = {0, 3, 3};
static struct crew_memory spaces[] = {
        {.name = "open", .rights = open_rights, .max_bytes = 100, .agent_bytes = 60, .max_keys = 3},
        {.name = "own", .rights = own_rights, .max_bytes = 100, .agent_bytes = 60, .max_keys = 8},
};
static struct crew_file crew = {.memory = spaces, .n_memory = 2, .n_agents = 3};
static struct memory *m;

static int setup(void **state) {
        (void)state;
        m = memory_new(&crew, (uint32_t)crew.n_agents);
        return m ? 0 : -1;
}

static int teardown(void **state) {
        (void)state;
        m = memory_free(m);
        return 0;
}

static int put(uint32_t agent, const char *space, const char *key, const char *json) {
        return memory_put(m, agent, space, key, json, json ? strlen(json) : 0);
}

static const char *get(uint32_t agent, const char *space, const char *key) {
        struct memory_value v;

        assert_int_equal(memory_get(m, agent, space, key, &v), MEMORY_OK);
        return v.json;
}

static void count_key(const struct memory_value *v, void *user) {
        (void)v;
        ++*(int *)user;
}

static void rights_are_per_agent_and_namespace(void **state) {
        struct memory_value v;
        int n = 0;
        (void)state;
        assert_int_equal(put(0, "open", "k", "1"), MEMORY_OK);
        assert_int_equal(put(1, "open", "k", "2"), MEMORY_DENIED);
        assert_string_equal(get(1, "open", "k"), "1");
        assert_int_equal(memory_get(m, 2, "open", "k", &v), MEMORY_DENIED);
        assert_null(v.json);
        assert_int_equal(memory_list(m, 2, "open", count_key, &n), MEMORY_DENIED);
        assert_int_equal(n, 0);
        assert_int_equal(memory_get(m, 0, "own", "k", &v), MEMORY_DENIED);
        assert_int_equal(put(0, "nosuch", "k", "1"), MEMORY_NO_NAMESPACE);
        assert_int_equal(put(7, "open", "k", "1"), MEMORY_DENIED);
}

static void a_put_replaces_and_null_removes(void **state) {
        (void)state;
        put(1, "own", "k", "[1]");
        put(2, "own", "k", "[2]");
        assert_string_equal(get(1, "own", "k"), "[2]");
        assert_int_equal(memory_bytes(m, "own"), 4);
        assert_int_equal(put(1, "own", "k", NULL), MEMORY_OK);
        assert_null(get(1, "own", "k"));
        assert_int_equal(put(1, "own", "k", NULL), MEMORY_OK);
        assert_int_equal(memory_bytes(m, "own"), 0);
}

static void quotas_hold_and_a_refused_put_changes_nothing(void **state) {
        char big[128];
        (void)state;
        memset(big, '1', sizeof(big));
        big[59] = '\0';
        assert_int_equal(put(1, "own", "k", big), MEMORY_OK); /* 60 with its key */
        assert_int_equal(put(1, "own", "j", "1"), MEMORY_SHARE_USED);
        assert_int_equal(put(2, "own", "j", "1"), MEMORY_OK);
        big[59] = '1', big[60] = '\0';
        assert_int_equal(put(1, "own", "k", big), MEMORY_SHARE_USED);
        assert_int_equal(strlen(get(1, "own", "k")), 59);
        big[40] = '\0';
        assert_int_equal(put(2, "own", "l", big), MEMORY_TOO_MUCH);
        assert_int_equal(put(2, "own", "k", big), MEMORY_OK); /* another's is replaced: its charge goes back */
        assert_int_equal(put(1, "own", "m", "12345"), MEMORY_OK);
        for (const char *k = "abc"; *k; k++)
                assert_int_equal(put(0, "open", (char[]){*k, '\0'}, "1"), MEMORY_OK);
        assert_int_equal(put(0, "open", "d", "1"), MEMORY_TOO_MANY_KEYS);
        assert_int_equal(put(0, "open", "a", "2"), MEMORY_OK);
}

static void random_puts_agree_with_a_model(void **state) {
        struct {
                char value[40];
                uint32_t by;
                bool there;
        } model[6] = {0};
        uint64_t seed = 42;
        (void)state;
        for (int step = 0; step < 20000; step++) {
                uint32_t k = test_random(&seed, 6), agent = 1 + test_random(&seed, 2), len = 1 + test_random(&seed, 39);
                char key[2] = {(char)('a' + k), '\0'}, value[40];
                memset(value, '0' + (char)test_random(&seed, 10), len);
                value[len] = '\0';
                bool remove = test_random(&seed, 5) == 0;
                uint64_t all = remove ? 0 : len + 1, own = all;
                for (uint32_t i = 0; i < 6; i++) {
                        size_t cost = model[i].there && i != k ? strlen(model[i].value) + 1 : 0;
                        all += cost;
                        own += model[i].by == agent ? cost : 0;
                }
                int want = remove || (all <= 100 && own <= 60) ? MEMORY_OK
                           : all > 100                         ? MEMORY_TOO_MUCH
                                                               : MEMORY_SHARE_USED;
                assert_int_equal(put(agent, "own", key, remove ? NULL : value), want);
                if (want == MEMORY_OK) {
                        model[k].there = !remove;
                        model[k].by = agent;
                        memcpy(model[k].value, value, sizeof(value));
                }
                const char *got = get(1, "own", key);
                assert_int_equal(got != NULL, model[k].there);
                if (got)
                        assert_string_equal(got, model[k].value);
                int n = 0, there = 0;
                memory_list(m, 1, "own", count_key, &n);
                for (uint32_t i = 0; i < 6; i++)
                        there += model[i].there;
                assert_int_equal(n, there);
        }
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(rights_are_per_agent_and_namespace, setup, teardown),
                cmocka_unit_test_setup_teardown(a_put_replaces_and_null_removes, setup, teardown),
                cmocka_unit_test_setup_teardown(quotas_hold_and_a_refused_put_changes_nothing, setup, teardown),
                cmocka_unit_test_setup_teardown(random_puts_agree_with_a_model, setup, teardown),
        };
        cmocka_set_message_output(CM_OUTPUT_TAP);
        return cmocka_run_group_tests(tests, NULL, NULL);
}
