/* SPDX-License-Identifier: Apache-2.0 */
/* The outbox: what was put is there after any end of the one who put it, in order; what was acknowledged is not. */
#include "supervisor/hook_outbox.h"

#include "common/util.h"
#include "test.h"

#include <errno.h>
#include <limits.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>

static unsigned syncs;

/* In the C library's place: what a power cut would take along is in no other way to be seen. */
int fdatasync(int fd) {
        (void)fd;
        syncs++;
        return 0;
}

static char dir[] = "/tmp/crew-outbox-XXXXXX", path[PATH_MAX];

static int setup(void **state) {
        (void)state;
        if (!mkdtemp(dir))
                return -1;
        snprintf(path, sizeof(path), "%s/outbox", dir);
        return 0;
}

static int teardown(void **state) {
        (void)state;
        unlink(path);
        return rmdir(dir);
}

static struct hook_outbox *opened(uint32_t dropped) {
        struct crew_err err = CREW_ERR_NULL;
        struct hook_outbox *o = NULL;
        uint32_t n;

        assert_int_equal(hook_outbox_open(path, &o, &n, &err), 0);
        assert_int_equal(n, dropped);
        return o;
}

static struct hook_outbox *fresh(void) {
        unlink(path);
        return opened(0);
}

static void put_of(struct hook_outbox *o, uint64_t id, const char *agent) {
        struct crew_err err = CREW_ERR_NULL;
        char json[64];
        int n = snprintf(json, sizeof(json), "{\"id\":%llu}", (unsigned long long)id);

        assert_int_equal(hook_outbox_put(o, id, agent, json, (size_t)n, &err), 0);
}

static void put(struct hook_outbox *o, uint64_t id) {
        put_of(o, id, "a");
}

static void ack_first(struct hook_outbox *o) {
        hook_outbox_ack(o, hook_outbox_first(o)->id);
}

static void expect_first(const struct hook_outbox *o, uint64_t id) {
        const struct hook_outbox_item *i = hook_outbox_first(o);
        char json[64];

        assert_non_null(i);
        snprintf(json, sizeof(json), "{\"id\":%llu}", (unsigned long long)id);
        assert_int_equal(i->id, id);
        assert_string_equal(i->agent, "a");
        assert_string_equal(i->json, json);
        assert_int_equal(i->n, strlen(json));
}

static void write_text(const char *text) {
        struct crew_err err = CREW_ERR_NULL;
        assert_int_equal(crew_write_file_atomic(path, text, strlen(text), 0600, &err), 0);
}

static off_t size_now(void) {
        struct stat st;
        assert_int_equal(stat(path, &st), 0);
        assert_int_equal(st.st_mode & 0777, 0600);
        return st.st_size;
}

static void what_was_put_is_there_after_a_crash_in_order(void **state) {
        struct hook_outbox *o = fresh();
        (void)state;
        for (uint64_t id = 1; id <= 5; id++)
                put(o, id * 1000);
        ack_first(o);
        ack_first(o);
        /* Not closed first: this is what another process would find. */
        struct hook_outbox *again = opened(0);
        hook_outbox_close(o);
        assert_int_equal(hook_outbox_count(again), 3);
        for (uint64_t id = 3; id <= 5; id++) {
                expect_first(again, id * 1000);
                ack_first(again);
        }
        assert_null(hook_outbox_first(again));
        assert_true(size_now() > 0); /* in a burst others follow; freeing blocks is for later */
        hook_outbox_tidy(again);
        assert_int_equal(size_now(), 0);
        put(again, 6000);
        hook_outbox_tidy(again);
        assert_true(size_now() > 0);
        ack_first(again);
        hook_outbox_close(again);
        again = opened(0);
        assert_int_equal(hook_outbox_count(again), 0);
        hook_outbox_close(again);
}

/* At every byte: nothing that was complete is lost, nothing is made up, and the next entries stand on lines of their own.
 */
static void a_write_that_was_cut_off_loses_only_itself(void **state) {
        static const char text[] = "put 7 a {\"id\":7}\nput 8 a {\"id\":8}\nack 7\nput 9 a {\"id\":9}\n";
        (void)state;
        for (size_t cut = 0; cut < sizeof(text); cut++) {
                char part[sizeof(text)];
                memcpy(part, text, cut);
                part[cut] = '\0';
                write_text(part);
                bool partial = cut > 0 && part[cut - 1] != '\n';
                struct hook_outbox *o = opened(partial);
                size_t puts = (size_t)(cut >= 17) + (cut >= 34) + (cut >= 57), acks = cut >= 40;
                assert_int_equal(hook_outbox_count(o), puts - acks);
                put(o, 10);
                hook_outbox_close(o);
                o = opened(0);
                assert_int_equal(hook_outbox_count(o), puts - acks + 1);
                if (puts - acks > 0)
                        expect_first(o, acks ? 8 : 7);
                hook_outbox_close(o);
        }
}

static void lines_without_a_meaning_are_dropped_and_counted(void **state) {
        (void)state;
        write_text("put 1 a {\"id\":1}\n"
                   "put 1 a {\"id\":1}\n" /* twice */
                   "put x a {}\nput 2\nput 2 A {}\nput 2 a 5\nack\nack 3\nhello\n\n"
                   "put 4 a {\"id\":4}\n");
        struct hook_outbox *o = opened(9);
        assert_int_equal(hook_outbox_count(o), 2);
        expect_first(o, 1);
        ack_first(o);
        expect_first(o, 4);
        hook_outbox_close(o);
}

static void the_file_does_not_grow_while_something_always_waits(void **state) {
        struct hook_outbox *o = fresh();
        (void)state;
        _cleanup_free_ char *json = malloc(40001);
        struct crew_err err = CREW_ERR_NULL;
        memset(json, 'x', 40000);
        json[0] = '{';
        for (uint64_t id = 1; id <= 200; id++) {
                assert_int_equal(hook_outbox_put(o, id, "a", json, 40000, &err), 0);
                if (id > 2)
                        ack_first(o);
                assert_true(size_now() < (off_t)HOOK_OUTBOX_SPARE + 5 * 41000);
        }
        hook_outbox_close(o);
        o = opened(0);
        assert_int_equal(hook_outbox_count(o), 2);
        assert_int_equal(hook_outbox_first(o)->id, 199);
        hook_outbox_close(o);
}

static void it_is_on_disk_before_anybody_is_told(void **state) {
        struct hook_outbox *o = fresh();
        (void)state;
        for (uint64_t id = 1; id <= 3; id++) {
                syncs = 0;
                put(o, id);
                assert_int_equal(syncs, 1);
        }
        ack_first(o); /* what is lost of that is told once more */
        assert_int_equal(syncs, 1);
        hook_outbox_close(o);
}

static void several_reach_the_disk_with_one_sync(void **state) {
        struct hook_outbox *o = fresh();
        struct crew_err err = CREW_ERR_NULL;
        (void)state;
        syncs = 0;
        assert_int_equal(hook_outbox_sync(o, &err), 0);
        assert_int_equal(syncs, 0);
        for (uint64_t id = 1; id <= 3; id++)
                assert_int_equal(hook_outbox_add(o, id, "a", "{}", 2, &err), 0);
        assert_int_equal(syncs, 0);
        assert_int_equal(hook_outbox_sync(o, &err), 0);
        assert_int_equal(hook_outbox_sync(o, &err), 0);
        assert_int_equal(syncs, 1);
        struct hook_outbox *again = opened(0);
        assert_int_equal(hook_outbox_count(again), 3);
        hook_outbox_close(again);
        hook_outbox_close(o);
}

static void it_is_bounded(void **state) {
        struct hook_outbox *o = fresh();
        struct crew_err err = CREW_ERR_NULL;
        (void)state;
        for (uint64_t id = 1; id <= HOOK_OUTBOX_MAX; id++)
                put(o, id);
        assert_int_equal(hook_outbox_put(o, 5000, "a", "{}", 2, &err), -ENOBUFS);
        ack_first(o);
        put(o, 5001);
        hook_outbox_close(o);
        o = opened(0);
        assert_int_equal(hook_outbox_count(o), HOOK_OUTBOX_MAX);
        expect_first(o, 2);
        hook_outbox_close(o);
}

/* A full disk: told, kept in memory, and the file stays whole. */
static void what_cannot_be_written_waits_all_the_same(void **state) {
        struct hook_outbox *o = fresh();
        struct crew_err err = CREW_ERR_NULL;
        struct rlimit was, tight = {30, RLIM_INFINITY};
        (void)state;
        put(o, 1);
        signal(SIGXFSZ, SIG_IGN);
        assert_int_equal(getrlimit(RLIMIT_FSIZE, &was), 0);
        tight.rlim_max = was.rlim_max;
        assert_int_equal(setrlimit(RLIMIT_FSIZE, &tight), 0);
        int r = hook_outbox_put(o, 2, "a", "{\"id\":2}", 8, &err);
        assert_int_equal(setrlimit(RLIMIT_FSIZE, &was), 0);
        assert_int_equal(r, -EFBIG);
        assert_int_equal(size_now(), 17);
        assert_int_equal(hook_outbox_count(o), 2);
        put(o, 3);
        ack_first(o);
        expect_first(o, 2);
        struct hook_outbox *again = opened(0);
        assert_int_equal(hook_outbox_count(again), 1);
        expect_first(again, 3);
        hook_outbox_close(again);
        hook_outbox_close(o);
}

static uint64_t run_next(struct hook_outbox *o) {
        struct hook_outbox_item *i = hook_outbox_next(o);

        if (i)
                i->running = true;
        return i ? i->id : 0;
}

static void several_run_in_order_and_an_agents_own_one_by_one(void **state) {
        struct hook_outbox *o = fresh();
        (void)state;
        put_of(o, 1, "a");
        put_of(o, 2, "b");
        put_of(o, 3, "a");
        put_of(o, 4, "c");
        put_of(o, 5, "a");
        assert_int_equal(run_next(o), 1);
        assert_int_equal(run_next(o), 2);
        assert_int_equal(run_next(o), 4);
        assert_int_equal(run_next(o), 0);
        hook_outbox_ack(o, 4); /* not the oldest */
        hook_outbox_ack(o, 4);
        assert_null(hook_outbox_find(o, 4));
        assert_int_equal(run_next(o), 0);
        hook_outbox_ack(o, 1);
        assert_int_equal(run_next(o), 3);
        assert_int_equal(run_next(o), 0);
        /* A crash here: all that have not ended are told again, in order. */
        struct hook_outbox *again = opened(0);
        hook_outbox_close(o);
        assert_int_equal(hook_outbox_count(again), 3);
        assert_int_equal(run_next(again), 2);
        assert_int_equal(run_next(again), 3);
        hook_outbox_ack(again, 3);
        hook_outbox_ack(again, 2);
        assert_int_equal(run_next(again), 5);
        hook_outbox_ack(again, 5);
        assert_int_equal(hook_outbox_count(again), 0);
        hook_outbox_close(again);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(what_was_put_is_there_after_a_crash_in_order),
                cmocka_unit_test(a_write_that_was_cut_off_loses_only_itself),
                cmocka_unit_test(lines_without_a_meaning_are_dropped_and_counted),
                cmocka_unit_test(the_file_does_not_grow_while_something_always_waits),
                cmocka_unit_test(it_is_on_disk_before_anybody_is_told),
                cmocka_unit_test(several_run_in_order_and_an_agents_own_one_by_one),
                cmocka_unit_test(several_reach_the_disk_with_one_sync),
                cmocka_unit_test(it_is_bounded),
                cmocka_unit_test(what_cannot_be_written_waits_all_the_same),
        };
        cmocka_set_message_output(CM_OUTPUT_TAP);
        return cmocka_run_group_tests(tests, setup, teardown);
}
