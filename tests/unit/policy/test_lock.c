/* SPDX-License-Identifier: Apache-2.0 */
/* crew.lock: what is in it, that its text is stable and read strictly, and that every difference is named. */
#include "support.h"

#include "common/digest.h"
#include "common/util.h"
#include "supervisor/policy/lock.h"

#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#define ROLE(agent, body) "agent: " agent "\nsandbox:\n  mode: deny-by-default\n" body
#define CREW                                                                                                               \
        "crew: demo\npolicies: ../roles\n"                                                                                 \
        "tools:\n  quote: {command: [\"${CREW_DIR}/tools/quote.sh\"], input: ../any.json}\n"                               \
        "agents:\n  a: {policy: a.yaml, command: [sh, \"${CREW_DIR}/a.sh\"]}\n"                                            \
        "hooks: {on_agent_terminated: {command: [\"${CREW_DIR}/hook.sh\"]}}\n"

static struct scratch s;

static int setup(void **state) {
        scratch_init(&s);
        scratch_file(&s, "roles/a.yaml",
                     ROLE("a", "  network: {presets: [pypi]}\n  tools: {allowed: [quote], denied: [\"*\"]}\n"));
        scratch_file(&s, "any.json", "true");
        scratch_file(&s, "crew/tools/quote.sh", "#!/bin/sh\ncat\n");
        scratch_file(&s, "crew/a.sh", "#!/usr/bin/env -S sh\ncat\n");
        scratch_file(&s, "crew/hook.sh", "#!/bin/sh\n");
        scratch_file(&s, "crew/crew.yaml", CREW);
        return 0;
}

static int teardown(void **state) {
        scratch_fini(&s);
        return 0;
}

static struct crew_lock *take(struct loaded *l) {
        struct crew_lock *lock = NULL;
        struct crew_err err = CREW_ERR_NULL;

        load_crew(l, scratch_path(&s, "crew/crew.yaml"));
        if (l->r != 0)
                fail_msg("%s", l->err.msg);
        if (crew_lock_take(l->crew, &lock, &err) < 0)
                fail_msg("%s", err.msg);
        return lock;
}

static char *format(const struct crew_lock *lock) {
        char *text = NULL;
        size_t n;

        assert_int_equal(lock_format(&lock->files, "demo", &text, &n, NULL), 0);
        return text;
}

static bool has(const struct crew_lock *lock, enum lock_kind kind, const char *name) {
        for (size_t i = 0; i < lock->files.n; i++) {
                if (lock->files.items[i].kind == kind && strcmp(lock->files.items[i].name, name) == 0)
                        return true;
        }
        return false;
}

static void lock_now(void) {
        struct loaded l;
        struct crew_lock *lock = take(&l);
        char *text = format(lock);

        scratch_file(&s, "crew/crew.lock", text);
        free(text);
        crew_lock_free(lock);
        loaded_fini(&l);
}

/* The report of a check against crew.lock; the result is in l->r. */
static void verify(struct loaded *l) {
        load_crew(l, scratch_path(&s, "crew/crew.yaml"));
        assert_int_equal(l->r, 0);
        l->r = crew_lock_verify(l->crew, NULL, &l->report, &l->err);
}

static void everything_that_is_used_is_listed(void **state) {
        struct loaded l;
        struct crew_lock *lock = take(&l);

        assert_true(has(lock, LOCK_CREW, "crew.yaml"));
        assert_true(has(lock, LOCK_POLICY, "../roles/a.yaml"));
        assert_true(has(lock, LOCK_SCHEMA, "../any.json"));
        assert_true(has(lock, LOCK_TOOL, "tools/quote.sh"));
        assert_true(has(lock, LOCK_PROGRAM, "a.sh"));
        assert_true(has(lock, LOCK_HOOK, "hook.sh"));
        assert_true(has(lock, LOCK_PRESET, "pypi"));
        assert_true(has(lock, LOCK_RUNTIME, "base"));
        crew_lock_free(lock);
        loaded_fini(&l);
}

static void interpreters_of_scripts_are_listed(void **state) {
        struct loaded l;
        struct crew_lock *lock = take(&l);

        assert_true(has(lock, LOCK_TOOL, "/usr/bin/sh") || has(lock, LOCK_TOOL, "/bin/sh"));
        assert_true(has(lock, LOCK_PROGRAM, "/usr/bin/env"));
        assert_true(has(lock, LOCK_PROGRAM, "/usr/bin/sh")); /* by env, over -S */
        crew_lock_free(lock);
        loaded_fini(&l);
}

static void the_digest_is_that_of_the_bytes(void **state) {
        uint8_t want[CREW_SHA256_BYTES];
        struct loaded l;
        struct crew_lock *lock = take(&l);

        crew_sha256("true", 4, want);
        for (size_t i = 0; i < lock->files.n; i++) {
                if (lock->files.items[i].kind == LOCK_SCHEMA)
                        assert_memory_equal(lock->files.items[i].sha256, want, sizeof(want));
        }
        crew_sha256("#!/bin/sh\ncat\n", 14, want);
        for (size_t i = 0; i < lock->files.n; i++) {
                if (strcmp(lock->files.items[i].name, "tools/quote.sh") == 0)
                        assert_memory_equal(lock->files.items[i].sha256, want, sizeof(want));
        }
        crew_lock_free(lock);
        loaded_fini(&l);
}

static void the_text_is_the_same_each_time_and_reads_back(void **state) {
        struct loaded l, again;
        struct crew_lock *a = take(&l), *b = take(&again);
        char *x = format(a), *y = format(b);
        struct crew_lock back = {.files = {.arena = &back.arena}};
        struct policy_report report = {0};

        assert_string_equal(x, y);
        assert_int_equal(lock_parse(&back.files, "crew.lock", "demo", x, strlen(x), &report, NULL), 0);
        lock_compare(&back.files, &a->files, "crew.lock", &report);
        assert_int_equal(report.n, 0);
        free(x);
        free(y);
        arena_fini(&back.arena);
        crew_lock_free(a);
        crew_lock_free(b);
        loaded_fini(&l);
        loaded_fini(&again);
}

static void what_was_locked_passes(void **state) {
        struct loaded l;

        lock_now();
        verify(&l);
        assert_int_equal(l.r, 0);
        loaded_fini(&l);
}

static void each_changed_file_is_named_with_both_digests(void **state) {
        static const struct {
                const char *file, *before, *after, *said;
        } rows[] = {
                {"crew/tools/quote.sh", "#!/bin/sh\ncat\n", "#!/bin/sh\ncat \n", "tool tools/quote.sh: expected "},
                {"crew/a.sh", "#!/usr/bin/env -S sh\ncat\n", "#!/usr/bin/env -S sh\n", "program a.sh: expected "},
                {"crew/hook.sh", "#!/bin/sh\n", "#!/bin/sh\n:\n", "hook hook.sh: expected "},
                {"any.json", "true", "true ", "schema ../any.json: expected "},
                {"crew/crew.yaml", CREW, CREW "# \n", "crew crew.yaml: expected "},
        };

        for (size_t i = 0; i < ELEMENTSOF(rows); i++) {
                char was[CREW_SHA256_HEX], is[CREW_SHA256_HEX];
                struct loaded l;
                lock_now();
                scratch_file(&s, rows[i].file, rows[i].after);
                verify(&l);
                assert_int_equal(l.r, -EKEYREJECTED);
                assert_int_equal(l.report.errors, 1);
                const struct policy_problem *p = problem_with(&l, rows[i].said);
                crew_sha256_hex(rows[i].before, strlen(rows[i].before), was);
                crew_sha256_hex(rows[i].after, strlen(rows[i].after), is);
                assert_non_null(strstr(p->text, was));
                assert_non_null(strstr(p->text, is));
                assert_true(p->line > 2);
                loaded_fini(&l);
                scratch_file(&s, rows[i].file, rows[i].before);
        }
}

static void a_file_that_is_new_or_no_longer_used_is_named(void **state) {
        struct loaded l;

        lock_now();
        scratch_file(&s, "crew/b.sh", "#!/bin/sh\n");
        scratch_file(
                &s, "crew/crew.yaml",
                "crew: demo\npolicies: ../roles\nagents:\n  a: {policy: a.yaml, command: [sh, \"${CREW_DIR}/b.sh\"]}\n");
        verify(&l);
        assert_int_equal(l.r, -EKEYREJECTED);
        problem_with(&l, "program b.sh: expected no such file to be used, found ");
        problem_with(&l, "found that it is not used");
        loaded_fini(&l);
}

static void without_a_lock_nothing_passes(void **state) {
        struct loaded l;

        verify(&l);
        assert_int_equal(l.r, -EKEYREJECTED);
        problem_with(&l, "cannot be read: No such file");
        loaded_fini(&l);
}

static void a_lock_that_is_not_right_is_refused(void **state) {
#define LINE "crew    aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa  "
        static const struct {
                const char *text, *said;
        } rows[] = {
                {"", "not a crew.lock"},
                {"# only a comment\n", "not a crew.lock"},
                {"crew.lock 2 demo\n", "not a crew.lock"},
                {"crew.lock 1 other\n", "of crew 'other', not of 'demo'"},
                {"crew.lock 1 demo\n" LINE "crew.yaml", "cut off"},
                {"crew.lock 1 demo\n" LINE "\n", "expected KIND SHA256 NAME"},
                {"crew.lock 1 demo\n" LINE "\x01\n", "expected KIND SHA256 NAME"},
                {"crew.lock 1 demo\ncrew aaaa crew.yaml\n", "expected KIND SHA256 NAME"},
                {"crew.lock 1 demo\n\n", "expected KIND SHA256 NAME"},
                {"crew.lock 1 demo\nfrog" LINE "x\n", "expected KIND SHA256 NAME"},
                {"crew.lock 1 demo\n" LINE "b\n" LINE "a\n", "not in order"},
                {"crew.lock 1 demo\n" LINE "b\n" LINE "b\n", "listed twice"},
        };

        for (size_t i = 0; i < ELEMENTSOF(rows); i++) {
                struct crew_lock lock = {.files = {.arena = &lock.arena}};
                struct loaded l = {0};
                l.r = lock_parse(&lock.files, "crew.lock", "demo", rows[i].text, strlen(rows[i].text), &l.report, &l.err);
                assert_int_equal(l.r, -EINVAL);
                problem_with(&l, rows[i].said);
                arena_fini(&lock.arena);
                loaded_fini(&l);
        }
}

static void a_program_that_changes_later_is_seen(void **state) {
        struct loaded l;
        struct crew_err err = CREW_ERR_NULL;
        struct crew_lock *lock = take(&l);

        assert_int_equal(crew_lock_recheck(lock, &err), 0);
        const char *path = scratch_file(&s, "crew/tools/quote.sh", "#!/bin/sh\ncat\n"); /* another file, the same bytes */
        assert_int_equal(crew_lock_recheck(lock, &err), 0);
        int fd = open(path, O_WRONLY | O_CLOEXEC); /* in place, the same length, the same time of change */
        struct stat st;
        assert_int_equal(fstat(fd, &st), 0);
        assert_int_equal(pwrite(fd, "tac", 3, 10), 3);
        assert_int_equal(futimens(fd, (const struct timespec[]){st.st_atim, st.st_mtim}), 0);
        close(fd);
        for (int i = 0; i < 2; i++) {
                assert_int_equal(crew_lock_recheck(lock, &err), -EKEYREJECTED);
                assert_non_null(strstr(err.msg, "tools/quote.sh"));
        }
        scratch_file(&s, "crew/tools/quote.sh", "#!/bin/sh\ncat\n");
        assert_int_equal(crew_lock_recheck(lock, &err), 0);
        assert_int_equal(unlink(path), 0);
        assert_int_equal(crew_lock_recheck(lock, &err), -ENOENT);
        crew_lock_free(lock);
        loaded_fini(&l);
}

static void an_agent_cannot_write_the_lock(void **state) {
        struct loaded l;

        lock_now();
        scratch_file(&s, "roles/a.yaml", ROLE("a", "  filesystem: {write: [\"${CREW_DIR}/crew.lock\"]}\n"));
        load_crew(&l, scratch_path(&s, "crew/crew.yaml"));
        assert_int_equal(l.r, -EINVAL);
        problem_with(&l, "crew.lock lies in its write tree");
        loaded_fini(&l);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
int main(void) {
        const struct CMUnitTest tests[] = {
                TEST(everything_that_is_used_is_listed),
                TEST(interpreters_of_scripts_are_listed),
                TEST(the_digest_is_that_of_the_bytes),
                TEST(the_text_is_the_same_each_time_and_reads_back),
                TEST(what_was_locked_passes),
                TEST(each_changed_file_is_named_with_both_digests),
                TEST(a_file_that_is_new_or_no_longer_used_is_named),
                TEST(without_a_lock_nothing_passes),
                TEST(a_lock_that_is_not_right_is_refused),
                TEST(a_program_that_changes_later_is_seen),
                TEST(an_agent_cannot_write_the_lock),
        };
        cmocka_set_message_output(CM_OUTPUT_TAP);
        return cmocka_run_group_tests(tests, NULL, NULL);
}
