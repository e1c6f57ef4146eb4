/* SPDX-License-Identifier: Apache-2.0 */
/* The tree of a stream is that of the lines in its file, whatever happened; what is signed is on disk, and of no other. */
#include "supervisor/audit/audit.h"
#include "supervisor/audit/audit_key.h"

#include "supervisor/audit/audit_internal.h"

#include "stream_dir.h"

#include "common/util.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>

static struct sign_key *key;
static uint64_t now_ns = 5000000000u;

static uint64_t test_clock(void) {
        return now_ns;
}

static int set_up(void **state) {
        return make_dir(state) < 0 ? -1 : sign_key_make("crewd/desk", &key, NULL);
}

static int tear_down(void **state) {
        key = sign_key_free(key);
        return remove_dir(state);
}

static struct audit_stream *open_signed(void) {
        struct crew_err err = CREW_ERR_NULL;
        struct audit_stream *s = NULL;

        if (audit_open(dir, "desk", "writer", key, &s, &err) < 0)
                fail_msg("%s", err.msg);
        return s;
}

static void add(struct audit_stream *s, unsigned n) {
        for (unsigned i = 0; i < n; i++)
                assert_int_equal(audit_append(s, denied("/etc/shadow"), NULL), 0);
}

/* The tree of the file, from its first byte. */
static uint64_t file_root(uint8_t root[CREW_SHA256_BYTES]) {
        static char line[RECORD_LINE_MAX];
        struct merkle m;
        FILE *f = fopen(log_path(), "r");

        assert_non_null(f);
        merkle_init(&m, crew_sha256_parts);
        while (fgets(line, sizeof(line), f) && strchr(line, '\n'))
                merkle_add(&m, line, strlen(line) - 1);
        fclose(f);
        merkle_root(&m, root);
        return m.n;
}

static void tree_is_the_files(const struct audit_stream *s) {
        uint8_t own[CREW_SHA256_BYTES], root[CREW_SHA256_BYTES];

        assert_int_equal(s->tree.n, file_root(root));
        merkle_root(&s->tree, own);
        assert_memory_equal(own, root, sizeof(root));
}

static const char *path_of(const char *name) {
        static char path[160];

        snprintf(path, sizeof(path), "%s/writer/%s", dir, name);
        return path;
}

/* Lines of the checkpoint on disk, which must be authentic; 0: there is none. */
static uint64_t signed_lines(void) {
        char text[NOTE_MAX];
        struct note note;
        FILE *f = fopen(path_of("checkpoint"), "r");

        if (!f)
                return 0;
        size_t n = fread(text, 1, sizeof(text), f);
        fclose(f);
        assert_int_equal(note_parse(text, n, sign_key_public(key), &note), NOTE_OK);
        assert_string_equal(note.origin, "crewd/desk/writer");
        return note.lines;
}

static void last_found(const char *found, int64_t checkpoint_records) {
        static char line[RECORD_LINE_MAX];
        char last[RECORD_LINE_MAX] = "";
        struct record_line l;
        uint64_t n = 0;
        FILE *f = fopen(log_path(), "r");

        assert_non_null(f);
        while (fgets(line, sizeof(line), f))
                if (strstr(line, "\"log.opened\""))
                        strcpy(last, line);
        fclose(f);
        assert_int_equal(record_line_parse(last, strlen(last) - 1, &l), 0);
        if (!record_line_is(&l, "found", found))
                fail_msg("not %s: %s", found, last);
        assert_int_equal(record_line_u64(&l, "checkpoint_records", &n) ? (int64_t)n : -1, checkpoint_records);
}

static void truncate_by_lines(unsigned lines) {
        static char text[1 << 20];
        FILE *f = fopen(log_path(), "r");
        size_t n = fread(text, 1, sizeof(text), f);

        fclose(f);
        for (; lines > 0; lines--)
                n = (size_t)((char *)memrchr(text, '\n', n - 1) + 1 - text);
        assert_int_equal(truncate(log_path(), (off_t)n), 0);
}

/* --- the tree --- */

static void only_what_is_in_the_file_is_in_the_tree(void **state) {
        struct audit_stream *s = open_signed();

        assert_int_equal(s->tree.n, 1);
        add(s, 3);
        assert_int_equal(s->tree.n, 1); /* still in the buffer */
        assert_int_equal(audit_write(s), 0);
        assert_int_equal(s->tree.n, 4);
        tree_is_the_files(s);
        audit_hold(s);
        add(s, 2);
        assert_int_equal(audit_sync(s), 0);
        assert_int_equal(s->tree.n, 4);
        assert_true(audit_release(s, true) >= 0);
        assert_int_equal(s->tree.n, 6);
        tree_is_the_files(s);
        audit_close(s);
        assert_int_equal(signed_lines(), 6);
}

static void the_tree_goes_on_over_close_and_open(void **state) {
        for (unsigned i = 0; i < 40; i++) {
                struct audit_stream *s = open_signed();
                tree_is_the_files(s);
                assert_int_equal(s->signed_lines, s->tree.n - 1);
                last_found(i ? "continued" : "new", -1);
                add(s, i % 5);
                audit_close(s);
                assert_int_equal(signed_lines(), verified().records);
        }
}

/* Only the tail is read again: what is in front of it may even have become something else. */
static void only_what_is_behind_the_checkpoint_is_read(void **state) {
        struct audit_stream *s = open_signed();

        add(s, 5);
        audit_close(s);
        int fd = open(log_path(), O_WRONLY);
        assert_int_equal(pwrite(fd, "[", 1, 0), 1);
        close(fd);
        s = open_signed();
        assert_int_equal(s->tree.n, 7);
        last_found("continued", -1);
        uint8_t root[CREW_SHA256_BYTES], own[CREW_SHA256_BYTES];
        merkle_root(&s->tree, own);
        assert_int_equal(file_root(root), 7);
        assert_memory_not_equal(own, root, sizeof(root)); /* as whoever verifies will see */
        audit_close(s);
}

static void lines_behind_the_checkpoint_are_found(void **state) {
        struct audit_stream *s = open_signed();

        add(s, 5);
        assert_int_equal(audit_checkpoint_now(s, NULL), 1);
        assert_int_equal(audit_checkpoint_now(s, NULL), 0);
        add(s, 600);
        assert_int_equal(audit_sync(s), 0);
        s->key = NULL; /* killed */
        audit_close(s);
        assert_int_equal(signed_lines(), 6);
        s = open_signed();
        assert_int_equal(s->tree.n, 607);
        tree_is_the_files(s);
        last_found("continued", -1);
        audit_close(s);
}

static void a_torn_tail_is_not_in_the_tree(void **state) {
        struct audit_stream *s = open_signed();

        add(s, 2);
        audit_close(s);
        int fd = open(log_path(), O_WRONLY | O_APPEND);
        assert_int_equal(write(fd, "{\"agent\":\"wri", 13), 13);
        close(fd);
        s = open_signed();
        tree_is_the_files(s);
        last_found("torn", -1);
        audit_close(s);
}

static void what_a_crewd_had_held_is_in_the_tree_of_the_next(void **state) {
        struct audit_stream *s = open_signed();
        struct crew_err err = CREW_ERR_NULL;
        const char *held;
        uint64_t at;
        size_t n;

        audit_hold(s);
        add(s, 4);
        assert_int_equal(audit_held(s, &held, &n, &at), 0);
        char *lines = memcpy(malloc(n), held, n);
        s->n_held = 0; /* killed */
        audit_close(s);
        assert_int_equal(audit_complete(dir, "writer", lines, n, at, &err), 0);
        free(lines);
        s = open_signed();
        assert_int_equal(s->tree.n, 6);
        tree_is_the_files(s);
        last_found("continued", -1);
        audit_close(s);
}

static void a_write_that_fails_leaves_tree_and_file_alike(void **state) {
        struct rlimit was, small;
        struct audit_stream *s = open_signed();
        struct stat st;

        add(s, 3);
        assert_int_equal(stat(log_path(), &st), 0);
        assert_int_equal(getrlimit(RLIMIT_FSIZE, &was), 0);
        small = (struct rlimit){.rlim_cur = (rlim_t)st.st_size + s->used * 2 / 3 + 20, .rlim_max = was.rlim_max};
        signal(SIGXFSZ, SIG_IGN);
        assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
        assert_int_equal(audit_sync(s), -EFBIG);
        assert_int_equal(setrlimit(RLIMIT_FSIZE, &was), 0);
        assert_int_equal(s->tree.n, 3);
        tree_is_the_files(s);
        assert_int_equal(audit_checkpoint_due(s), UINT64_MAX);
        audit_close(s);
        assert_int_equal(signed_lines(), 0);
        audit_close(open_signed());
        assert_int_equal(signed_lines(), 4);
}

/* --- another checkpoint than its own last one --- */

static void without_a_checkpoint_it_is_made_anew(void **state) {
        struct audit_stream *s = open_signed();

        add(s, 700); /* more than a block */
        audit_close(s);
        assert_int_equal(unlink(path_of("checkpoint")), 0);
        s = open_signed();
        tree_is_the_files(s);
        last_found("continued", -1);
        audit_close(s);
        s = opened(); /* nor with no key */
        tree_is_the_files(s);
        audit_close(s);
}

/* The key has been used before: there was one, or the agent had not lived for a second. */
static void without_a_checkpoint_that_there_should_be_it_is_said_to_be_unsigned(void **state) {
        struct sign_key *made = key;
        struct crew_err err = CREW_ERR_NULL;
        char text[KEY_TEXT_MAX];
        struct audit_stream *s = open_signed();

        add(s, 3);
        audit_close(s);
        sign_key_text(made, text);
        assert_int_equal(sign_key_parse(text, strlen(text), &key, &err), 0);
        s = open_signed();
        last_found("continued", -1);
        audit_close(s);
        assert_int_equal(unlink(path_of("checkpoint")), 0);
        s = open_signed();
        tree_is_the_files(s);
        last_found("unsigned", 0);
        audit_close(s);
        sign_key_free(key);
        key = made;
}

static void a_foreign_or_broken_checkpoint_is_passed_over(void **state) {
        static const char *const texts[] = {"", "hello\n", "crewd/desk/writer\n1\nAAAA\n\n"};
        struct audit_stream *s = open_signed();
        struct sign_key *other = NULL, *own = key;

        add(s, 5);
        audit_close(s);
        for (size_t i = 0; i < ELEMENTSOF(texts); i++) {
                FILE *f = fopen(path_of("checkpoint"), "w");
                fputs(texts[i], f);
                fclose(f);
                s = open_signed();
                tree_is_the_files(s);
                last_found("continued", -1);
                audit_close(s);
        }
        assert_int_equal(sign_key_make("crewd/desk", &other, NULL), 0);
        key = other; /* what the first key signed is nothing to this one */
        s = open_signed();
        assert_int_equal(s->signed_lines, 0);
        tree_is_the_files(s);
        last_found("continued", -1);
        audit_close(s);
        key = own;
        sign_key_free(other);
}

static void a_log_that_was_cut_is_said_to_be(void **state) {
        struct audit_stream *s = open_signed();

        add(s, 9);
        audit_close(s);
        truncate_by_lines(3);
        s = open_signed();
        last_found("cut", 10);
        tree_is_the_files(s);
        assert_int_equal(s->tree.n, 8);
        audit_close(s);
        assert_int_equal(signed_lines(), 8);
        audit_close(open_signed());
        last_found("continued", -1);
        assert_int_equal(truncate(log_path(), 0), 0);
        audit_close(open_signed());
        last_found("cut", 9);
}

static void a_log_of_other_lines_is_said_to_be_changed(void **state) {
        static char text[1 << 16];
        char kept[160];
        struct audit_stream *s = open_signed();

        add(s, 4);
        audit_close(s);
        unlink(log_path());
        snprintf(kept, sizeof(kept), "%s", path_of("kept"));
        rename(path_of("checkpoint"), kept);
        s = open_signed();
        record_init(&rec, RECORD_STDERR, "worker");
        memset(text, 'x', 5000);
        record_bytes(&rec, "text", text, 5000);
        for (int i = 0; i < 9; i++)
                assert_int_equal(audit_append(s, &rec, NULL), 0);
        audit_close(s);
        rename(kept, path_of("checkpoint"));
        s = open_signed();
        last_found("changed", 5);
        tree_is_the_files(s);
        audit_close(s);
}

/* --- when --- */

static struct audit_checkpoint point;

static void a_checkpoint_is_due_a_second_after_the_last(void **state) {
        struct audit_stream *s = open_signed();

        audit_set_clock(s, test_clock);
        s->signed_ns = now_ns;
        assert_int_equal(audit_checkpoint_due(s), now_ns + AUDIT_SIGN_NS); /* log.opened */
        assert_false(audit_checkpoint_begin(s, &point));
        now_ns += AUDIT_SIGN_NS;
        assert_true(audit_checkpoint_begin(s, &point));
        assert_int_equal(point.note.lines, 1);
        assert_int_equal(audit_checkpoint_write(&point), 0);
        audit_checkpoint_end(s, &point, 0);
        assert_int_equal(signed_lines(), 1);
        assert_int_equal(audit_checkpoint_due(s), UINT64_MAX); /* at rest */
        now_ns += 10 * (uint64_t)AUDIT_SIGN_NS;
        add(s, 1);
        assert_int_not_equal(audit_checkpoint_due(s), UINT64_MAX);
        assert_false(audit_checkpoint_begin(s, &point)); /* it is not in the file */
        assert_int_equal(audit_sync(s), 0);
        assert_true(audit_checkpoint_begin(s, &point));
        audit_checkpoint_end(s, &point, -ENOSPC); /* later again */
        assert_int_equal(audit_checkpoint_due(s), now_ns + AUDIT_SIGN_NS);
        assert_int_equal(audit_sync(s), 0);
        audit_close(s);
        assert_int_equal(signed_lines(), 2);
}

static void a_kill_and_an_end_are_signed_at_once(void **state) {
        static const enum record_kind kinds[] = {RECORD_KILL, RECORD_TERMINATED};
        struct audit_stream *s = open_signed();

        audit_set_clock(s, test_clock);
        s->signed_ns = now_ns;
        for (size_t i = 0; i < ELEMENTSOF(kinds); i++) {
                add(s, 1);
                assert_int_equal(audit_sync(s), 0);
                assert_false(audit_checkpoint_begin(s, &point));
                record_init(&rec, kinds[i], "crewd");
                assert_int_equal(audit_append_durable(s, &rec, NULL), 0);
                assert_int_equal(audit_checkpoint_due(s), 0);
                assert_true(audit_checkpoint_begin(s, &point));
                audit_checkpoint_end(s, &point, 0);
                assert_int_equal(audit_checkpoint_due(s), UINT64_MAX);
        }
        audit_close(s);
}

static void what_is_held_is_not_signed(void **state) {
        struct audit_stream *s = open_signed();

        audit_hold(s);
        record_init(&rec, RECORD_KILL, "crewd");
        assert_int_equal(audit_append_durable(s, &rec, NULL), 0);
        assert_true(audit_checkpoint_begin(s, &point));
        assert_int_equal(point.note.lines, 1);
        audit_checkpoint_end(s, &point, 0);
        assert_int_equal(audit_checkpoint_due(s), 0); /* the kill is still to be */
        assert_int_equal(audit_release(s, true), 0);
        assert_true(audit_checkpoint_begin(s, &point));
        assert_int_equal(point.note.lines, 2);
        audit_checkpoint_end(s, &point, 0);
        add(s, 1);
        assert_int_equal(audit_release(s, true), 1);
        add(s, 1);
        assert_int_equal(audit_checkpoint_now(s, &point), 0); /* in the file and not on disk */
        audit_close(s);
        assert_int_equal(signed_lines(), 4);
}

static void nothing_of_a_poisoned_stream_is_signed(void **state) {
        struct audit_stream *s = open_signed();

        add(s, 1);
        int fd;
        assert_int_equal(audit_sync_begin(s, &fd), 1);
        assert_int_equal(audit_sync_end(s, EIO), -EIO);
        assert_int_equal(audit_checkpoint_due(s), UINT64_MAX);
        assert_int_equal(audit_checkpoint_now(s, NULL), -EIO);
        audit_close(s);
        assert_int_equal(signed_lines(), 0);
}

static void a_stream_without_a_key_has_no_checkpoint(void **state) {
        struct audit_stream *s = opened();

        add(s, 3);
        assert_int_equal(audit_checkpoint_due(s), UINT64_MAX);
        assert_int_equal(audit_checkpoint_now(s, NULL), 0);
        audit_close(s);
        assert_int_equal(access(path_of("checkpoint"), F_OK), -1);
}

static void the_crews_own_stream_has_a_name_of_its_own(void **state) {
        struct audit_stream *s = NULL;

        assert_int_equal(audit_open(dir, "desk", AUDIT_CREW, key, &s, NULL), 0);
        audit_close(s);
        assert_int_equal(audit_open(dir, "desk", "@crews", key, &s, NULL), -EINVAL);
        assert_int_equal(audit_open(dir, "@crew", "writer", key, &s, NULL), -EINVAL);
}

/* --- its key --- */

static int open_key(struct sign_key **out, struct audit_key_found *found, struct crew_err *err) {
        *err = CREW_ERR_NULL;
        return audit_key_open(dir, "desk", out, found, err);
}

static const char *key_path(const char *name) {
        static char path[160];

        snprintf(path, sizeof(path), "%s/@crew/%s", dir, name);
        return path;
}

static void the_key_is_made_once(void **state) {
        struct audit_key_found found;
        struct sign_key *first, *again;
        struct crew_err err;
        struct stat st;
        FILE *f;

        assert_int_equal(open_key(&first, &found, &err), 0);
        assert_true(found.made && !found.public_rewritten);
        assert_string_equal(sign_key_public(first)->name, "crewd/desk");
        assert_true(sign_key_is_new(first));
        assert_int_equal(access(key_path("key"), F_OK), -1); /* not before there is a checkpoint */
        assert_int_equal(audit_key_keep(dir, first, &err), 0);
        assert_int_equal(stat(key_path("key"), &st), 0);
        assert_int_equal(st.st_mode & 0777, 0600);
        assert_int_equal(open_key(&again, &found, &err), 0);
        assert_true(!found.made && !found.public_rewritten && !sign_key_is_new(again));
        assert_memory_equal(sign_key_public(first)->public_key, sign_key_public(again)->public_key, 32);
        sign_key_free(again);
        assert_non_null(f = fopen(key_path("key.pub"), "w"));
        fputs("another\n", f);
        fclose(f);
        assert_int_equal(open_key(&again, &found, &err), 0);
        assert_true(found.public_rewritten);
        sign_key_free(again);
        unlink(key_path("key.pub"));
        assert_int_equal(open_key(&again, &found, &err), 0);
        assert_false(found.public_rewritten);
        sign_key_free(again);
        assert_int_equal(access(key_path("key.pub"), F_OK), 0);
        sign_key_free(first);
}

static void a_key_that_is_not_as_it_must_be_is_refused(void **state) {
        struct audit_key_found found;
        struct sign_key *k, *other;
        struct crew_err err;
        char text[KEY_TEXT_MAX];
        FILE *f;

        assert_int_equal(open_key(&k, &found, &err), 0);
        assert_int_equal(audit_key_keep(dir, k, &err), 0);
        sign_key_free(k);
        assert_int_equal(chmod(key_path("key"), 0640), 0);
        assert_int_equal(open_key(&k, &found, &err), -EPERM);
        assert_non_null(strstr(err.msg, "0600"));
        assert_null(k);
        assert_int_equal(chmod(key_path("key"), 0600), 0);
        assert_non_null(f = fopen(key_path("key"), "a"));
        fputs("x", f);
        fclose(f);
        assert_int_equal(open_key(&k, &found, &err), -EINVAL);
        assert_non_null(strstr(err.msg, "move it away"));
        assert_int_equal(sign_key_make("crewd/other", &other, NULL), 0);
        sign_key_text(other, text);
        sign_key_free(other);
        assert_non_null(f = fopen(key_path("key"), "w"));
        fputs(text, f);
        fclose(f);
        assert_int_equal(open_key(&k, &found, &err), -EINVAL);
        assert_non_null(strstr(err.msg, "another crew's"));
        assert_null(strstr(err.msg, "PRIVATE"));
        unlink(key_path("key"));
        assert_int_equal(symlink("key.pub", key_path("key")), 0);
        assert_int_equal(open_key(&k, &found, &err), -ELOOP);
}

int main(void) {
#define TREE_TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
        const struct CMUnitTest tests[] = {
                TREE_TEST(only_what_is_in_the_file_is_in_the_tree),
                TREE_TEST(the_tree_goes_on_over_close_and_open),
                TREE_TEST(only_what_is_behind_the_checkpoint_is_read),
                TREE_TEST(lines_behind_the_checkpoint_are_found),
                TREE_TEST(a_torn_tail_is_not_in_the_tree),
                TREE_TEST(what_a_crewd_had_held_is_in_the_tree_of_the_next),
                TREE_TEST(a_write_that_fails_leaves_tree_and_file_alike),
                TREE_TEST(without_a_checkpoint_it_is_made_anew),
                TREE_TEST(without_a_checkpoint_that_there_should_be_it_is_said_to_be_unsigned),
                TREE_TEST(a_foreign_or_broken_checkpoint_is_passed_over),
                TREE_TEST(a_log_that_was_cut_is_said_to_be),
                TREE_TEST(a_log_of_other_lines_is_said_to_be_changed),
                TREE_TEST(a_checkpoint_is_due_a_second_after_the_last),
                TREE_TEST(a_kill_and_an_end_are_signed_at_once),
                TREE_TEST(what_is_held_is_not_signed),
                TREE_TEST(nothing_of_a_poisoned_stream_is_signed),
                TREE_TEST(a_stream_without_a_key_has_no_checkpoint),
                TREE_TEST(the_crews_own_stream_has_a_name_of_its_own),
                TREE_TEST(the_key_is_made_once),
                TREE_TEST(a_key_that_is_not_as_it_must_be_is_refused),
        };
        cmocka_set_message_output(CM_OUTPUT_TAP);
        return cmocka_run_group_tests(tests, NULL, NULL);
}
