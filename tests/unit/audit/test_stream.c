/* SPDX-License-Identifier: Apache-2.0 */
#include "supervisor/audit/audit.h"
#include "supervisor/audit/audit_digest.h"

#include "supervisor/audit/audit_internal.h"
#include "supervisor/audit/audit_life.h"

#include "stream_dir.h"

#include "common/util.h"
#include "tests/unit/skipped.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>

static unsigned syncs;
static bool sync_fails;

/* In the C library's place: what a disk loses is in no other way to be seen. */
int fdatasync(int fd) {
        (void)fd;
        syncs++;
        errno = EIO;
        return sync_fails ? -1 : 0;
}

static void the_fast_digest_is_the_other_one(void **state) {
        char bytes[200], fast[CREW_SHA256_HEX], other[CREW_SHA256_HEX];

        for (size_t n = 0; n < sizeof(bytes); n++) {
                bytes[n] = (char)(n * 7);
                audit_digest_hex(bytes, n, fast);
                crew_sha256_hex(bytes, n, other);
                assert_string_equal(fast, other);
        }
        audit_digest_hex("abc", 3, fast); /* FIPS 180-4's own example */
        assert_string_equal(fast, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
}

static void a_stream_verifies_and_continues(void **state) {
        struct audit_stream *s = opened();
        uint64_t seq = 0;
        struct stat st;

        assert_int_equal(audit_append_durable(s, denied("/etc/shadow"), &seq), 0);
        assert_int_equal(seq, 2);
        audit_set_incarnation(s, 3);
        assert_int_equal(audit_append(s, denied("/x"), &seq), 0);
        assert_int_equal(audit_seq(s), 3);
        assert_int_equal(audit_count(s, RECORD_FILE_DENIED), 2);
        assert_string_equal(audit_path(s), log_path());
        assert_null(audit_close(s));
        assert_int_equal(verified().records, 3);
        assert_int_equal(stat(log_path(), &st), 0);
        assert_int_equal(st.st_mode & 07777, 0600);

        s = opened();
        assert_int_equal(audit_seq(s), 4);
        assert_int_equal(audit_append(s, denied("/y"), NULL), 0);
        audit_close(s);
        struct record_verify v = verified();
        assert_int_equal(v.records, 5);
        assert_int_equal(v.bad_seq, 0);
}

static void appended_lines_reach_the_file_with_the_next_sync(void **state) {
        struct audit_stream *s = opened();

        assert_int_equal(audit_append(s, denied("/a"), NULL), 0);
        assert_int_equal(verified().records, 1);
        assert_int_equal(audit_sync(s), 0);
        assert_int_equal(verified().records, 2);
        audit_close(s);
}

static void a_durable_line_takes_those_before_it_along(void **state) {
        struct audit_stream *s = opened();

        syncs = 0;
        assert_int_equal(audit_append(s, denied("/a"), NULL), 0);
        assert_int_equal(syncs, 0);
        assert_int_equal(audit_append_durable(s, denied("/b"), NULL), 0);
        assert_int_equal(syncs, 1);
        assert_int_equal(verified().records, 3);
        audit_close(s);
}

/* Sound once more or not: what was accepted may be gone, and nobody would see it. */
static void a_sync_that_fails_poisons_for_good(void **state) {
        struct audit_stream *s = opened();

        sync_fails = true;
        assert_int_equal(audit_append_durable(s, denied("/a"), NULL), -EIO);
        sync_fails = false;
        assert_true(audit_poisoned(s));
        assert_int_equal(audit_append(s, denied("/b"), NULL), -EIO);
        assert_int_equal(audit_append_durable(s, denied("/b"), NULL), -EIO);
        audit_close(s);
}

static void what_is_written_while_another_thread_syncs_is_synced_next_time(void **state) {
        struct audit_stream *s = opened();
        int fd = -1;

        assert_int_equal(audit_sync_begin(s, &fd), 0); /* opening has synced */
        assert_int_equal(audit_append(s, denied("/a"), NULL), 0);
        assert_int_equal(audit_sync_begin(s, &fd), 1);
        assert_int_equal(verified().records, 2);
        assert_int_equal(fdatasync(fd), 0);
        assert_int_equal(audit_append(s, denied("/b"), NULL), 0);
        assert_int_equal(audit_sync(s), 0); /* written and synced by us meanwhile */
        assert_int_equal(audit_append(s, denied("/c"), NULL), 0);
        assert_int_equal(audit_sync_end(s, 0), 0);
        assert_int_equal(audit_sync_begin(s, &fd), 1);
        assert_int_equal(verified().records, 4);
        assert_int_equal(audit_sync_end(s, 0), 0);
        assert_int_equal(audit_sync_begin(s, &fd), 0);
        audit_close(s);
}

static void a_sync_of_another_thread_that_fails_poisons(void **state) {
        struct audit_stream *s = opened();
        int fd = -1;

        assert_int_equal(audit_append(s, denied("/a"), NULL), 0);
        assert_int_equal(audit_sync_begin(s, &fd), 1);
        assert_int_equal(audit_sync_end(s, EIO), -EIO);
        assert_true(audit_poisoned(s));
        assert_int_equal(audit_append(s, denied("/b"), NULL), -EIO);
        assert_int_equal(audit_append_durable(s, denied("/b"), NULL), -EIO);
        assert_int_equal(audit_sync_begin(s, &fd), -EIO);
        audit_close(s);
}

static void many_large_lines_pass_through_the_buffer(void **state) {
        struct audit_stream *s = opened();
        char big[5000];

        memset(big, '\n', sizeof(big));
        for (int i = 0; i < 100; i++) {
                record_init(&rec, RECORD_STDERR, "worker");
                record_bytes(&rec, "text", big, sizeof(big));
                assert_int_equal(audit_append(s, &rec, NULL), 0);
        }
        audit_close(s);
        struct record_verify v = verified();
        assert_int_equal(v.records, 101);
        assert_int_equal(v.bad_seq, 0);
}

static void two_writers_cannot_share_a_stream(void **state) {
        struct audit_stream *s = opened(), *other = NULL;
        struct crew_err err = CREW_ERR_NULL;

        assert_int_equal(audit_open(dir, "desk", "writer", NULL, &other, &err), -EBUSY);
        assert_non_null(strstr(err.msg, "another process"));
        assert_null(other);
        audit_close(s);
        audit_close(opened());
}

static void append_raw(const char *bytes, size_t n) {
        int fd = open(log_path(), O_WRONLY | O_APPEND);

        assert_true(fd >= 0);
        assert_int_equal(write(fd, bytes, n), n);
        close(fd);
}

static void a_torn_tail_is_put_aside_and_said(void **state) {
        char zeros[3 * RECORD_LINE_MAX] = "";
        struct audit_stream *s = opened();
        struct stat st;
        char path[160];

        audit_append(s, denied("/a"), NULL);
        audit_close(s);
        append_raw("{\"access\":\"fs.re", 16);
        audit_close(opened());
        append_raw(zeros, sizeof(zeros)); /* what a power cut can leave */
        s = opened();
        assert_int_equal(audit_seq(s), 4);
        audit_close(s);

        struct record_verify v = verified();
        assert_int_equal(v.records, 4);
        assert_int_equal(v.bad_seq, 0);
        assert_false(v.torn_tail);
        snprintf(path, sizeof(path), "%s.torn-1", log_path());
        assert_int_equal(stat(path, &st), 0);
        assert_int_equal(st.st_size, 16);
        snprintf(path, sizeof(path), "%s.torn-2", log_path());
        assert_int_equal(stat(path, &st), 0);
        assert_int_equal(st.st_size, sizeof(zeros));
        assert_int_equal(summed("torn_bytes"), 16 + sizeof(zeros));
}

static void a_file_that_is_only_a_torn_line_starts_anew(void **state) {
        char path[128];

        snprintf(path, sizeof(path), "%s/writer", dir);
        mkdir(path, 0700);
        int fd = open(log_path(), O_WRONLY | O_CREAT, 0600);
        assert_int_equal(write(fd, "{\"a", 3), 3);
        close(fd);
        struct audit_stream *s = opened();
        assert_int_equal(audit_seq(s), 1);
        audit_close(s);
        assert_int_equal(verified().records, 1);
}

static void a_foreign_last_line_is_refused(void **state) {
        static const char other[] =
                "{\"agent\":\"other\",\"crew\":\"desk\",\"inc\":1,\"kind\":\"x\",\"prev\":\"0\",\"seq\":9,"
                "\"src\":\"x\",\"t\":1}\n";
        const char *const tails[] = {"hello\n", "{}\n", "\n", other};
        for (size_t i = 0; i < ELEMENTSOF(tails); i++) {
                struct audit_stream *s = NULL;
                struct crew_err err = CREW_ERR_NULL;
                unlink(log_path());
                audit_close(opened());
                append_raw(tails[i], strlen(tails[i]));
                assert_int_equal(audit_open(dir, "desk", "writer", NULL, &s, &err), -EBADMSG);
                assert_non_null(strstr(err.msg, "audit verify"));
        }
}

static void a_planted_link_is_not_followed(void **state) {
        struct audit_stream *s = NULL;
        struct crew_err err = CREW_ERR_NULL;
        char path[128];

        snprintf(path, sizeof(path), "%s/writer", dir);
        mkdir(path, 0700);
        assert_int_equal(symlink("/tmp/crew-audit-target", log_path()), 0);
        assert_int_equal(audit_open(dir, "desk", "writer", NULL, &s, &err), -ELOOP);
        unlink(log_path());
        snprintf(path, sizeof(path), "%s/elsewhere", dir);
        close(open(path, O_CREAT | O_WRONLY, 0600));
        assert_int_equal(link(path, log_path()), 0);
        assert_int_equal(audit_open(dir, "desk", "writer", NULL, &s, &err), -EINVAL);
        assert_int_equal(audit_open(dir, "desk", "../x", NULL, &s, &err), -EINVAL);
}

/* The kernel stops a write in the middle of a line: the line is cut off again and the stream refuses everything. */
static void a_short_write_poisons_and_leaves_whole_lines(void **state) {
        struct audit_stream *s = opened();
        struct rlimit old, limit;
        struct stat st;

        signal(SIGXFSZ, SIG_IGN);
        getrlimit(RLIMIT_FSIZE, &old);
        for (int i = 0; i < 10; i++)
                assert_int_equal(audit_append(s, denied("/somewhere/else"), NULL), 0);
        assert_int_equal(stat(log_path(), &st), 0);
        limit = (struct rlimit){(rlim_t)st.st_size + 1000, old.rlim_max};
        setrlimit(RLIMIT_FSIZE, &limit);
        assert_int_equal(audit_sync(s), -EFBIG);
        setrlimit(RLIMIT_FSIZE, &old);
        assert_true(audit_poisoned(s));
        assert_int_equal(audit_append(s, denied("/x"), NULL), -EFBIG);
        assert_int_equal(audit_append_durable(s, denied("/x"), NULL), -EFBIG);
        assert_int_equal(audit_observe(s, denied("/x"), 1), -EFBIG);
        assert_int_equal(audit_sync(s), -EFBIG);
        audit_close(s);
        struct record_verify v = verified();
        assert_false(v.torn_tail);
        assert_int_equal(v.bad_seq, 0);
        assert_true(v.records > 1 && v.records < 11);

        s = opened(); /* and a new one goes on */
        assert_int_equal(audit_seq(s), v.records + 1);
        audit_close(s);
}

static bool write_proc(const char *path, const char *text) {
        _cleanup_close_ int fd = open(path, O_WRONLY | O_CLOEXEC);

        return fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text);
}

/* A mount namespace of our own with a tiny disk at dir; as an ordinary user with the help of a user namespace. */
static bool mount_tiny_disk(void) {
        char uid_map[32], gid_map[32];

        snprintf(uid_map, sizeof(uid_map), "0 %u 1", (unsigned)geteuid());
        snprintf(gid_map, sizeof(gid_map), "0 %u 1", (unsigned)getegid());
        if (geteuid() != 0 && (unshare(CLONE_NEWUSER) < 0 || !write_proc("/proc/self/setgroups", "deny") ||
                               !write_proc("/proc/self/uid_map", uid_map) || !write_proc("/proc/self/gid_map", gid_map)))
                return false;
        return unshare(CLONE_NEWNS) == 0 && mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0 &&
               mount("none", dir, "tmpfs", 0, "size=512k") == 0;
}

/* 1: no tiny disk to be had here. */
static int fill_tiny_disk(void) {
        struct audit_stream *s = NULL;
        struct crew_err err = CREW_ERR_NULL;
        uint64_t accepted = 0, seq = 0;
        int r = 0;

        if (!mount_tiny_disk())
                return 1;
        if (audit_open(dir, "desk", "writer", NULL, &s, &err) < 0)
                return 2;
        while (r == 0 && accepted < 100000) {
                r = audit_append(s, denied("/some/path/that/is/denied"), &seq);
                accepted = r == 0 ? seq : accepted;
        }
        if (r != -ENOSPC || !audit_poisoned(s) || audit_append(s, denied("/x"), NULL) != -ENOSPC)
                return 3;
        audit_close(s);
        FILE *f = fopen(log_path(), "r");
        struct record_verify v;
        if (!f || record_verify_stream(f, &v, &err) < 0 || v.bad_seq || v.torn_tail)
                return 4;
        /* Every line that was accepted is there. */
        return v.records == accepted ? 0 : 5;
}

static void a_full_disk_refuses_lines_and_loses_none(void **state) {
        int status;
        pid_t pid = fork();

        assert_true(pid >= 0);
        if (pid == 0)
                _exit(fill_tiny_disk());
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_true(WIFEXITED(status));
        if (WEXITSTATUS(status) == 1)
                skip_because("cannot mount a tmpfs here (no mount namespaces)");
        assert_int_equal(WEXITSTATUS(status), 0);
}

/* --- the last life --- */

static void put_as(struct audit_stream *s, uint32_t incarnation, enum record_kind kind, const char *key,
                   const char *value) {
        audit_set_incarnation(s, incarnation);
        record_init(&rec, kind, "crewd");
        record_str(&rec, key, value);
        if (kind == RECORD_TASK_STARTED) {
                record_str(&rec, "task_id", "t-7");
                record_int(&rec, "attempt", 2);
        }
        assert_int_equal(audit_append(s, &rec, NULL), 0);
}

/* As the next crewd finds it. */
static struct audit_life life_after(struct audit_stream *s) {
        struct crew_err err = CREW_ERR_NULL;
        struct audit_life life;

        audit_close(s);
        s = opened();
        assert_int_equal(audit_last_life(s, &life, &err), 0);
        audit_close(s);
        return life;
}

static void a_life_without_an_end_is_open(void **state) {
        struct audit_stream *s = opened();

        put_as(s, 1, RECORD_SPAWNED, "verdict", "good");
        put_as(s, 1, RECORD_TERMINATED, "cause", "crash");
        put_as(s, 2, RECORD_SPAWNED, "verdict", "good");
        put_as(s, 2, RECORD_TASK_STARTED, "task", "collect");
        struct audit_life life = life_after(s);
        assert_true(life.open);
        assert_int_equal(life.incarnation, 2);
        assert_string_equal(life.task, "collect");
        assert_string_equal(life.task_id, "t-7");
        assert_int_equal(life.attempt, 2);
        assert_false(life.effects);
        assert_true(life.spawned_ms > 1700000000000ull);
}

static void a_life_with_an_end_is_closed(void **state) {
        struct audit_stream *s = opened();

        put_as(s, 1, RECORD_SPAWNED, "verdict", "good");
        put_as(s, 1, RECORD_TASK_STARTED, "task", "collect");
        put_as(s, 1, RECORD_TERMINATED, "cause", "crash");
        struct audit_life life = life_after(s);
        assert_false(life.open);
        assert_string_equal(life.task_id, "");
        assert_false(life_after(opened()).open);
}

static void a_task_that_ended_is_not_open_and_a_tool_that_ran_is_an_effect(void **state) {
        struct audit_stream *s = opened();

        put_as(s, 1, RECORD_SPAWNED, "verdict", "good");
        put_as(s, 1, RECORD_TASK_STARTED, "task", "collect");
        put_as(s, 1, RECORD_TOOL_CALL, "verdict", "allowed");
        put_as(s, 1, RECORD_TASK_FINISHED, "task_id", "t-7");
        struct audit_life life = life_after(s);
        assert_true(life.open && life.effects);
        assert_string_equal(life.task_id, "");
}

/* The deciding record may be far back, behind lines of every length, on whatever block boundary. */
static void a_life_is_found_behind_any_amount_of_lines(void **state) {
        static char text[RECORD_VALUE_MAX];
        struct audit_stream *s = opened();

        put_as(s, 3, RECORD_SPAWNED, "verdict", "good");
        put_as(s, 3, RECORD_TASK_STARTED, "task", "long");
        memset(text, '"', sizeof(text) - 1);
        for (unsigned i = 0; i < 700; i++) {
                text[(i * 37) % (sizeof(text) - 1)] = '\0';
                put_as(s, 3, RECORD_STDERR, "text", text);
                text[(i * 37) % (sizeof(text) - 1)] = '"';
        }
        put_as(s, 3, RECORD_STDERR, "text", "\"kind\":\"agent.terminated\"");
        struct audit_life life = life_after(s);
        assert_true(life.open);
        assert_int_equal(life.incarnation, 3);
        assert_string_equal(life.task, "long");
}

/* --- lines that wait for their turn to be written down elsewhere --- */

static uint64_t file_bytes(void) {
        struct stat st;

        assert_int_equal(stat(log_path(), &st), 0);
        return (uint64_t)st.st_size;
}

static void what_is_held_is_not_in_the_file_until_it_is_let_go(void **state) {
        struct audit_stream *s = opened();
        uint64_t before = file_bytes(), at;
        const char *lines;
        size_t n;

        audit_hold(s);
        assert_int_equal(audit_append(s, denied("/a"), NULL), 0);
        assert_int_equal(audit_append_durable(s, denied("/b"), NULL), 0);
        assert_int_equal(audit_sync(s), 0);
        assert_int_equal(file_bytes(), before);
        assert_int_equal(audit_held(s, &lines, &n, &at), 0);
        assert_int_equal(at, before);
        assert_int_equal(audit_release(s, true), 0);
        assert_int_equal(file_bytes(), before + n);
        assert_int_equal(audit_append(s, denied("/c"), NULL), 0);
        assert_int_equal(audit_release(s, true), 1); /* not on disk yet */
        assert_int_equal(audit_append(s, denied("/d"), NULL), 0);
        audit_close(s);
        assert_int_equal(verified().records, 5);
}

static void more_than_the_buffer_takes_is_held(void **state) {
        static char text[RECORD_VALUE_MAX];
        struct audit_stream *s = opened();
        uint64_t before = file_bytes(), at;
        const char *lines;
        size_t n;

        memset(text, 'x', sizeof(text) - 1);
        audit_hold(s);
        for (unsigned i = 0; i < 200; i++)
                put_as(s, 1, RECORD_STDERR, "text", text);
        assert_int_equal(file_bytes(), before);
        assert_int_equal(audit_held(s, &lines, &n, &at), 0);
        assert_true(n > 100 * sizeof(text));
        assert_int_equal(audit_release(s, false), 1);
        assert_int_equal(file_bytes(), before + n);
        audit_close(s);
        struct record_verify v = verified();
        assert_int_equal(v.records, 201);
        assert_int_equal(v.bad_seq, 0);
}

/* Wherever the writer died: with none of them in the file, with some bytes, with all, or with lines behind them. */
static void another_process_completes_what_was_held_exactly_once(void **state) {
        struct audit_stream *s = opened();
        struct crew_err err = CREW_ERR_NULL;
        const char *held;
        uint64_t at;
        size_t n;

        audit_hold(s);
        for (unsigned i = 0; i < 3; i++)
                assert_int_equal(audit_append_durable(s, denied(i % 2 ? "/a" : "/b"), NULL), 0);
        assert_int_equal(audit_held(s, &held, &n, &at), 0);
        char *lines = memcpy(malloc(n), held, n);
        audit_close(s);
        for (size_t there = 0; there <= n; there += there == n ? 1 : MIN_OF(n - there, (size_t)7)) {
                assert_int_equal(truncate(log_path(), (off_t)(at + there)), 0);
                assert_int_equal(audit_complete(dir, "writer", lines, n, at, &err), 0);
                assert_int_equal(verified().records, 4);
                assert_int_equal(file_bytes(), at + n);
        }
        audit_close(opened());
        assert_int_equal(audit_complete(dir, "writer", lines, n, at, &err), 0);
        struct record_verify v = verified();
        assert_int_equal(v.records, 5);
        assert_int_equal(v.bad_seq, 0);
        lines[n / 2] ^= 1;
        assert_int_equal(audit_complete(dir, "writer", lines, n, at, &err), -EBADMSG);
        assert_int_equal(audit_complete(dir, "writer", lines, n, at + n + 4096, &err), -EBADMSG);
        assert_int_equal(verified().records, 5);
        free(lines);
}

static void what_is_let_go_and_cannot_be_written_poisons(void **state) {
        struct rlimit was, small;
        struct audit_stream *s = opened();

        audit_hold(s);
        assert_int_equal(audit_append_durable(s, denied("/a"), NULL), 0);
        assert_int_equal(getrlimit(RLIMIT_FSIZE, &was), 0);
        small = (struct rlimit){.rlim_cur = file_bytes() + 10, .rlim_max = was.rlim_max};
        signal(SIGXFSZ, SIG_IGN);
        assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
        assert_int_equal(audit_release(s, true), -EFBIG);
        assert_true(audit_poisoned(s));
        assert_int_equal(audit_append(s, denied("/b"), NULL), -EFBIG);
        assert_int_equal(setrlimit(RLIMIT_FSIZE, &was), 0);
        audit_close(s);
        assert_int_equal(verified().records, 1);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(the_fast_digest_is_the_other_one),
                STREAM_TEST(a_stream_verifies_and_continues),
                STREAM_TEST(appended_lines_reach_the_file_with_the_next_sync),
                STREAM_TEST(a_durable_line_takes_those_before_it_along),
                STREAM_TEST(a_sync_that_fails_poisons_for_good),
                STREAM_TEST(what_is_written_while_another_thread_syncs_is_synced_next_time),
                STREAM_TEST(a_sync_of_another_thread_that_fails_poisons),
                STREAM_TEST(many_large_lines_pass_through_the_buffer),
                STREAM_TEST(two_writers_cannot_share_a_stream),
                STREAM_TEST(a_torn_tail_is_put_aside_and_said),
                STREAM_TEST(a_file_that_is_only_a_torn_line_starts_anew),
                STREAM_TEST(a_foreign_last_line_is_refused),
                STREAM_TEST(a_planted_link_is_not_followed),
                STREAM_TEST(a_short_write_poisons_and_leaves_whole_lines),
                STREAM_TEST(a_full_disk_refuses_lines_and_loses_none),
                STREAM_TEST(a_life_without_an_end_is_open),
                STREAM_TEST(a_life_with_an_end_is_closed),
                STREAM_TEST(a_task_that_ended_is_not_open_and_a_tool_that_ran_is_an_effect),
                STREAM_TEST(a_life_is_found_behind_any_amount_of_lines),
                STREAM_TEST(what_is_held_is_not_in_the_file_until_it_is_let_go),
                STREAM_TEST(more_than_the_buffer_takes_is_held),
                STREAM_TEST(another_process_completes_what_was_held_exactly_once),
                STREAM_TEST(what_is_let_go_and_cannot_be_written_poisons),
        };
        cmocka_set_message_output(CM_OUTPUT_TAP);
        return cmocka_run_group_tests(tests, NULL, NULL);
}
