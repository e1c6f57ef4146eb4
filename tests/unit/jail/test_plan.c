/* SPDX-License-Identifier: Apache-2.0 */
/* Spawn plans: what the builder makes can be read back, and no damaged block passes the checker. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "common/plan.h"
#include "common/util.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>

static const struct plan head = {
        .crew = "c", .agent = "a", .host_uid = 200000, .host_gid = 200000, .inner_uid = 1000, .inner_gid = 1000};

static struct plan_builder *sample(void) {
        static const char *const argv[] = {"python3", "x.py"};
        struct plan_builder *b = plan_builder_new(&head);
        static const uint64_t insn[3] = {6, 6, 6};

        plan_add_mount(b, PLAN_MOUNT_BIND, PLAN_MOUNT_RO, "/usr", "/usr", 0, 0, 0, 0);
        plan_add_file(b, "/etc/x", "\0y", 2, 0444);
        plan_add_mount(b, PLAN_MOUNT_SYMLINK, 0, "usr/bin", "/bin", 0, 0, 0, 0);
        plan_add_layer(b, PLAN_LAYER_OUTER);
        plan_add_rule(b, "/usr", 5, 0);
        plan_add_layer(b, PLAN_LAYER_AGENT);
        plan_add_rule(b, "/usr", 4, 0);
        plan_add_rule(b, "/tmp", 3, PLAN_MOUNT_OPTIONAL);
        plan_add_program(b, PLAN_PROGRAM_AGENT, PLAN_DRIVER_EXEC_JSON, "a", argv, 2, 1, 1000, 4096);
        plan_add_env(b, "HOME", "/home/agent");
        plan_add_env(b, "EMPTY", "");
        plan_set_workdir(b, "/home/agent");
        plan_set_bpf(b, insn, 3);
        plan_set_netrules(b, "abcd", 4);
        return b;
}

static struct plan *finish(struct plan_builder *b, size_t *n) {
        struct crew_err err = CREW_ERR_NULL;
        void *block;

        if (plan_builder_finish(b, &block, n, &err) < 0)
                fail_msg("%s", err.msg);
        plan_builder_free(b);
        return block;
}

static void what_is_built_reads_back(void **state) {
        size_t n;
        struct plan *p = finish(sample(), &n);

        assert_int_equal(plan_check(p, n, NULL), 0);
        assert_int_equal(p->n_mounts, 3);
        assert_string_equal(plan_str(p, plan_mount_at(p, 0)->src), "/usr");
        assert_int_equal(plan_mount_at(p, 1)->src_len, 2);
        assert_memory_equal(plan_str(p, plan_mount_at(p, 1)->src), "\0y", 2);
        assert_string_equal(plan_str(p, plan_mount_at(p, 2)->src), "usr/bin");
        assert_int_equal(plan_layer_at(p, 1)->first_rule, 1);
        assert_int_equal(plan_layer_at(p, 1)->n_rules, 2);
        assert_string_equal(plan_str(p, plan_rule_at(p, 2)->path), "/tmp");
        const struct plan_program *g = plan_program_find(p, PLAN_PROGRAM_AGENT, "a");
        assert_non_null(g);
        assert_null(plan_program_find(p, PLAN_PROGRAM_TOOL, "a"));
        assert_string_equal(plan_string_at(p, g->first_arg + 1), "x.py");
        assert_int_equal(p->n_env, 2);
        assert_string_equal(plan_string_at(p, p->first_env), "HOME=/home/agent");
        assert_string_equal(plan_string_at(p, p->first_env + 1), "EMPTY=");
        assert_string_equal(plan_str(p, p->workdir), "/home/agent");
        assert_memory_equal(plan_str(p, p->netrules), "abcd", 4);
        assert_null(plan_mount_at(p, 3));
        assert_null(plan_string_at(p, 1000));
        free(p);
}

static void every_single_byte_may_be_hostile(void **state) {
        size_t n;
        struct plan *p = finish(sample(), &n);

        /* The checker must never read outside; the sanitizer build sees to it.  Accessors must stay in range after a yes.
         */
        for (size_t i = 0; i < n; i++) {
                for (unsigned v = 0; v < 256; v += i < sizeof(*p) ? 1 : 17) {
                        unsigned char *copy = malloc(n);
                        memcpy(copy, p, n);
                        copy[i] = (unsigned char)v;
                        const struct plan *q = (const struct plan *)copy;
                        if (plan_check(copy, n, NULL) == 0) {
                                for (uint32_t k = 0; k < q->n_mounts; k++)
                                        assert_true(strlen(plan_str(q, plan_mount_at(q, k)->dst)) < n);
                                for (uint32_t k = 0; k < q->n_strings; k++)
                                        assert_true(strlen(plan_string_at(q, k)) < n);
                        }
                        free(copy);
                }
        }
        free(p);
}

static void a_cut_block_is_refused(void **state) {
        size_t n;
        struct plan *p = finish(sample(), &n);

        for (size_t cut = 0; cut < n; cut++) {
                char *copy = malloc(cut ? cut : 1);
                memcpy(copy, p, cut);
                assert_int_equal(plan_check(copy, cut, NULL), -EPROTO);
                free(copy);
        }
        free(p);
}

static int with_path(const char *path) {
        struct plan_builder *b = plan_builder_new(&head);
        void *block = NULL;
        size_t n;

        plan_add_mount(b, PLAN_MOUNT_DIR, 0, NULL, path, 0, 0, 0, 0);
        int r = plan_builder_finish(b, &block, &n, NULL);
        plan_builder_free(b);
        free(block);
        return r;
}

static void paths_are_absolute_and_plain(void **state) {
        static const char *const bad[] = {"", "etc", "/etc/", "//etc", "/etc//x", "/..", "/a/../b", "/a/.", "./a", "/./a"};

        for (size_t i = 0; i < ELEMENTSOF(bad); i++)
                assert_int_equal(with_path(bad[i]), -EPROTO);
        assert_int_equal(with_path("/"), 0);
        assert_int_equal(with_path("/a/..b/c..d/...x"), 0);
}

static int with_head(const struct plan *h) {
        struct plan_builder *b = plan_builder_new(h);
        void *block = NULL;
        size_t n;
        int r = plan_builder_finish(b, &block, &n, NULL);

        plan_builder_free(b);
        free(block);
        return r;
}

static void an_agent_is_never_root(void **state) {
        struct plan h = head;

        assert_int_equal(with_head(&h), 0);
        h.host_uid = 0;
        assert_int_equal(with_head(&h), -EPROTO);
        h = head;
        h.host_gid = 0;
        assert_int_equal(with_head(&h), -EPROTO);
        h = head;
        h.inner_uid = 0;
        assert_int_equal(with_head(&h), -EPROTO);
        h = head;
        h.host_uid = UINT32_MAX;
        assert_int_equal(with_head(&h), -EPROTO);
}

static void names_are_checked(void **state) {
        struct plan h = head;

        memset(h.agent, 'a', sizeof(h.agent));
        assert_int_equal(with_head(&h), -EPROTO);
        h = head;
        strcpy(h.agent, "../x");
        assert_int_equal(with_head(&h), -EPROTO);
        h = head;
        h.crew[0] = '\0';
        assert_int_equal(with_head(&h), -EPROTO);
        h.flags = PLAN_SANDBOX;
        assert_int_equal(with_head(&h), 0);
}

static void a_program_never_runs_in_the_outer_layer(void **state) {
        static const char *const argv[] = {"x"};
        struct plan_builder *b = plan_builder_new(&head);
        void *block;
        size_t n;

        plan_add_layer(b, PLAN_LAYER_OUTER);
        plan_add_program(b, PLAN_PROGRAM_AGENT, PLAN_DRIVER_EXEC_JSON, "a", argv, 1, 0, 0, 0);
        assert_int_equal(plan_builder_finish(b, &block, &n, NULL), -EPROTO);
        plan_builder_free(b);
}

static void the_first_failure_sticks(void **state) {
        struct plan_builder *b = plan_builder_new(&head);
        struct crew_err err = CREW_ERR_NULL;
        void *block;
        size_t n;

        assert_int_equal(plan_add_rule(b, "/usr", 1, 0), -EINVAL);
        assert_int_equal(plan_add_layer(b, PLAN_LAYER_OUTER), -EINVAL);
        assert_int_equal(plan_builder_finish(b, &block, &n, &err), -EINVAL);
        assert_non_null(strstr(err.msg, "a rule before its layer"));
        plan_builder_free(b);
        b = plan_builder_new(&head);
        for (unsigned i = 0; i < PLAN_MAX_MOUNTS; i++)
                assert_int_equal(plan_add_mount(b, PLAN_MOUNT_DIR, 0, NULL, "/x", 0, 0, 0, 0), 0);
        assert_int_equal(plan_add_mount(b, PLAN_MOUNT_DIR, 0, NULL, "/x", 0, 0, 0, 0), -E2BIG);
        plan_builder_free(b);
}

static void only_a_sealed_memfd_is_opened(void **state) {
        size_t n;
        struct plan *p = finish(sample(), &n);
        const struct plan *got;

        int fd = memfd_create("plan", MFD_CLOEXEC | MFD_ALLOW_SEALING);
        assert_int_equal(crew_write_full(fd, p, n), 0);
        assert_int_equal(plan_open(fd, &got, NULL), -EPROTO);
        assert_int_equal(fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW), 0);
        assert_int_equal(plan_open(fd, &got, NULL), -EPROTO);
        assert_int_equal(fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE), 0);
        assert_int_equal(plan_open(fd, &got, NULL), 0);
        assert_memory_equal(got, p, n);
        plan_close(got);
        close(fd);
        free(p);
}

int main(int argc, char **argv) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(what_is_built_reads_back),
                cmocka_unit_test(every_single_byte_may_be_hostile),
                cmocka_unit_test(a_cut_block_is_refused),
                cmocka_unit_test(paths_are_absolute_and_plain),
                cmocka_unit_test(an_agent_is_never_root),
                cmocka_unit_test(names_are_checked),
                cmocka_unit_test(a_program_never_runs_in_the_outer_layer),
                cmocka_unit_test(the_first_failure_sticks),
                cmocka_unit_test(only_a_sealed_memfd_is_opened),
        };
        cmocka_set_message_output(CM_OUTPUT_TAP);
        return cmocka_run_group_tests_name("plan", tests, NULL, NULL);
}
