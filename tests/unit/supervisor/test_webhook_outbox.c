/* SPDX-License-Identifier: Apache-2.0 */
/* The webhook's outbox: each record is handed out once, the oldest first, however many wait. */
#include "supervisor/webhook_outbox.h"

#include "common/util.h"
#include "test.h"

#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#define MANY (3 * WEBHOOK_OUTBOX_IDS + 7)

static char dir[] = "/tmp/crew-webhook-XXXXXX";

static int setup(void **state) {
        (void)state;
        return mkdtemp(dir) ? 0 : -1;
}

static void path_of(uint64_t id, char path[PATH_MAX]) {
        snprintf(path, PATH_MAX, "%s/%020llu.json", dir, (unsigned long long)id);
}

static void forget(uint64_t below) {
        char path[PATH_MAX];

        for (uint64_t id = 0; id < below; id++) {
                path_of(id, path);
                unlink(path);
        }
}

static int teardown(void **state) {
        (void)state;
        forget(2 * MANY);
        return rmdir(dir);
}

/* Only its name counts until it is read; a whole write waits for the disk. */
static void touch(uint64_t id) {
        char path[PATH_MAX];

        path_of(id, path);
        FILE *f = fopen(path, "we");
        assert_non_null(f);
        fclose(f);
}

static bool on_disk(uint64_t id) {
        char path[PATH_MAX];

        path_of(id, path);
        return access(path, F_OK) == 0;
}

static struct webhook_outbox *opened(void) {
        struct webhook_outbox *o = NULL;

        assert_int_equal(webhook_outbox_open(dir, &o, NULL), 0);
        return o;
}

static bool keep(struct webhook_outbox *o, uint64_t id) {
        touch(id);
        return webhook_outbox_send(o, id);
}

static uint64_t look(struct webhook_outbox *o, uint32_t *steps) {
        uint64_t found = 0;

        *steps = 0;
        while (webhook_outbox_must_look(o)) {
                ++*steps;
                if (webhook_outbox_step(o, &found))
                        break;
        }
        return found;
}

/* 0: none. */
static uint64_t next(struct webhook_outbox *o) {
        uint64_t id = 0;
        uint32_t steps;

        if (webhook_outbox_must_look(o))
                look(o, &steps);
        return webhook_outbox_next(o, &id) ? id : 0;
}

static void fill(struct webhook_outbox *o) {
        for (uint64_t id = 1; id <= WEBHOOK_WAITING_MAX; id++)
                assert_true(keep(o, id));
}

static void what_is_put_off_follows_in_order_and_is_not_overtaken(void **state) {
        struct webhook_outbox *o = opened();
        uint64_t last = 80;
        (void)state;
        fill(o);
        for (uint64_t id = 65; id <= 80; id++)
                assert_false(keep(o, id));
        assert_false(webhook_outbox_must_look(o)); /* the directory is not read for so few */
        assert_int_equal(next(o), 0);
        for (uint64_t id = 1; id <= 80; id++) {
                webhook_outbox_end(o, id, true);
                assert_false(on_disk(id));
                assert_int_equal(next(o), id + 64 <= last ? id + 64 : 0);
                if (id == 3)
                        assert_false(keep(o, ++last)); /* there is room, but not for it */
        }
        webhook_outbox_end(o, 81, true);
        assert_false(webhook_outbox_putting_off(o));
        assert_true(keep(o, 82));
        webhook_outbox_close(o);
        forget(100);
}

static void many_more_than_memory_holds_follow_all_the_same(void **state) {
        struct webhook_outbox *o = opened();
        (void)state;
        fill(o);
        for (uint64_t id = 65; id <= MANY; id++)
                assert_false(keep(o, id));
        uint64_t last = MANY;
        for (uint64_t id = 1; id <= last; id++) {
                webhook_outbox_end(o, id, true);
                assert_int_equal(next(o), id + 64 <= last ? id + 64 : 0);
                if (last < MANY + 50)
                        assert_false(keep(o, ++last));
        }
        assert_false(webhook_outbox_putting_off(o));
        assert_int_equal(webhook_outbox_sent(o), 0);
        webhook_outbox_close(o);
}

static void a_look_is_in_steps_and_loses_nothing_that_comes_between(void **state) {
        struct webhook_outbox *o = opened();
        uint64_t found = 0, last = MANY;
        uint32_t steps;
        (void)state;
        for (uint64_t id = 2; id <= MANY; id++)
                touch(id);
        webhook_outbox_look(o);
        assert_false(webhook_outbox_step(o, &found));
        assert_int_equal(next(o), 2); /* ends it; nothing was handed out before */
        webhook_outbox_look(o);
        assert_false(webhook_outbox_step(o, &found));
        assert_false(keep(o, ++last));
        assert_false(keep(o, 1)); /* the clock was set back */
        assert_in_range(look(o, &steps), MANY - 1, MANY + 1);
        assert_in_range(steps, 2, MANY / WEBHOOK_OUTBOX_NAMES + 2);
        for (uint64_t id = 1; id <= last; id++) {
                assert_int_equal(next(o), id);
                webhook_outbox_end(o, id, true);
        }
        assert_int_equal(next(o), 0);
        assert_false(webhook_outbox_putting_off(o));
        webhook_outbox_close(o);
}

static void one_that_was_given_up_waits_for_the_next_look_from_the_start(void **state) {
        struct webhook_outbox *o = opened();
        (void)state;
        fill(o);
        for (uint64_t id = 65; id <= MANY; id++)
                assert_false(keep(o, id));
        webhook_outbox_end(o, 1, false);
        webhook_outbox_end(o, 2, true);
        for (uint64_t id = 65; id <= MANY; id++) {
                assert_int_equal(next(o), id);
                webhook_outbox_end(o, id, id % 100 != 0);
        }
        assert_int_equal(next(o), 0);
        assert_true(on_disk(1) && on_disk(100));
        webhook_outbox_look(o); /* a next one: 3 to 64 were on their way to the one before */
        assert_int_equal(next(o), 1);
        for (uint64_t id = 3; id <= 64; id++)
                assert_int_equal(next(o), id);
        assert_int_equal(next(o), 100);
        webhook_outbox_close(o);
        forget(MANY + 1);
}

/* A clock that was set back, with more than memory holds: none is lost, and none twice at a time. */
static void ids_in_any_order_are_all_handed_out(void **state) {
        struct webhook_outbox *o = opened();
        static bool seen[MANY + 1];
        (void)state;
        uint64_t sent[WEBHOOK_WAITING_MAX];
        uint32_t n = 0;
        for (uint64_t i = 0; i < MANY; i++) {
                uint64_t id = 1 + i * 1009 % MANY;
                if (keep(o, id))
                        sent[n++] = id;
        }
        assert_int_equal(n, WEBHOOK_WAITING_MAX);
        for (uint32_t i = 0; i < n; i++) {
                seen[sent[i]] = true;
                webhook_outbox_end(o, sent[i], true);
        }
        for (uint64_t id; (id = next(o)) != 0;) {
                assert_false(seen[id]);
                seen[id] = true;
                webhook_outbox_end(o, id, true);
        }
        for (uint64_t id = 1; id <= MANY; id++)
                assert_true(seen[id]);
        webhook_outbox_close(o);
}

static void what_is_not_a_record_is_left_alone(void **state) {
        struct webhook_outbox *o = opened();
        char other[PATH_MAX];
        uint32_t steps;
        (void)state;
        snprintf(other, sizeof(other), "%s/00000000000000000009.json.x7hA2b", dir); /* a write that was cut off */
        FILE *f = fopen(other, "we");
        assert_non_null(f);
        fclose(f);
        webhook_outbox_look(o);
        assert_int_equal(look(o, &steps), 0);
        assert_int_equal(next(o), 0);
        webhook_outbox_close(o);
        unlink(other);
}

static void a_record_is_read_as_it_was_written(void **state) {
        struct webhook_outbox *o = opened();
        _cleanup_free_ char *json = NULL;
        size_t n = 0;
        (void)state;
        assert_int_equal(webhook_outbox_write(o, 5, "{\"id\":5}", 8, NULL), 0);
        assert_int_equal(webhook_outbox_read(o, 5, &json, &n, NULL), 0);
        assert_int_equal(n, 8);
        assert_memory_equal(json, "{\"id\":5}", 8);
        webhook_outbox_end(o, 5, true);
        assert_int_equal(webhook_outbox_read(o, 5, &json, &n, NULL), -ENOENT);
        webhook_outbox_close(o);
}

static unsigned files(const char *ending) {
        unsigned n = 0;
        DIR *d = opendir(dir);

        assert_non_null(d);
        for (const struct dirent *e; (e = readdir(d));)
                n += strstr(e->d_name, ending) != NULL;
        closedir(d);
        return n;
}

static void files_are_made_ahead_and_none_is_left(void **state) {
        struct webhook_outbox *o = opened();
        unsigned steps = 1;
        (void)state;
        while (webhook_outbox_prepare(o))
                steps++;
        assert_int_equal(steps, WEBHOOK_OUTBOX_SPARE / WEBHOOK_OUTBOX_MADE);
        assert_int_equal(files("spare."), WEBHOOK_OUTBOX_SPARE);
        /* More than there are: those are made as they come. */
        for (uint64_t id = 1; id <= WEBHOOK_OUTBOX_SPARE + 2; id++) {
                _cleanup_free_ char *json = NULL;
                size_t n = 0;
                assert_int_equal(webhook_outbox_write(o, id, "{\"id\":1}", 8, NULL), 0);
                assert_int_equal(webhook_outbox_read(o, id, &json, &n, NULL), 0);
                assert_int_equal(n, 8);
        }
        assert_int_equal(files("spare."), 0);
        webhook_outbox_prepare(o);
        webhook_outbox_close(o);
        assert_int_equal(files("spare."), 0);
        assert_int_equal(files(".json"), WEBHOOK_OUTBOX_SPARE + 2);
        forget(MANY + 1);
}

/* What an earlier crewd has left may hold half a record, or be somebody's link. */
static void a_file_made_ahead_is_used_only_while_it_is_as_it_was_made(void **state) {
        struct webhook_outbox *o = opened();
        _cleanup_free_ char *json = NULL;
        char spare[PATH_MAX], id[PATH_MAX];
        size_t n = 0;
        (void)state;
        webhook_outbox_prepare(o);
        snprintf(spare, sizeof(spare), "%s/spare.0", dir);
        path_of(9, id);
        assert_int_equal(unlink(spare), 0);
        touch(9);
        assert_int_equal(link(id, spare), 0);
        assert_int_equal(webhook_outbox_write(o, 1, "{\"id\":1}", 8, NULL), 0);
        assert_int_equal(webhook_outbox_read(o, 1, &json, &n, NULL), 0);
        assert_int_equal(n, 8);
        struct stat st;
        assert_int_equal(stat(id, &st), 0);
        assert_int_equal(st.st_size, 0);
        webhook_outbox_close(o);
        forget(MANY + 1);
}

static void what_is_in_the_way_of_a_file_made_ahead_is_removed_and_not_written_to(void **state) {
        struct webhook_outbox *o = opened();
        _cleanup_free_ char *json = NULL;
        char path[PATH_MAX], id[PATH_MAX];
        size_t n = 0;
        (void)state;
        assert_int_equal(webhook_outbox_write(o, 9, "{\"id\":9}", 8, NULL), 0);
        path_of(9, id);
        snprintf(path, sizeof(path), "%s/spare.0", dir);
        assert_int_equal(link(id, path), 0);
        snprintf(path, sizeof(path), "%s/spare.1", dir);
        assert_int_equal(mkfifo(path, 0600), 0);
        snprintf(path, sizeof(path), "%s/spare.2", dir);
        assert_int_equal(symlink(id, path), 0);
        while (webhook_outbox_prepare(o))
                ;
        assert_int_equal(files("spare."), WEBHOOK_OUTBOX_SPARE);
        assert_int_equal(webhook_outbox_write(o, 1, "{\"id\":1}", 8, NULL), 0);
        assert_int_equal(webhook_outbox_read(o, 9, &json, &n, NULL), 0);
        assert_int_equal(n, 8);
        webhook_outbox_close(o);
        assert_int_equal(files("spare."), 0);
        forget(MANY + 1);
}

static void what_was_delivered_is_no_record_and_its_file_goes_later(void **state) {
        struct webhook_outbox *o = opened();
        struct webhook_outbox_done done;
        uint32_t steps;
        (void)state;
        for (uint64_t id = 1; id <= 6; id++)
                assert_true(keep(o, id));
        for (uint64_t id = 1; id <= 6; id++)
                webhook_outbox_end(o, id, true);
        assert_int_equal(files(".json"), 0);
        assert_int_equal(files(".done"), 6);
        webhook_outbox_take_done(o, &done);
        assert_int_equal(done.n, WEBHOOK_OUTBOX_DONE_STEP);
        webhook_outbox_remove(o, &done);
        assert_int_equal(files(".done"), 2);
        /* Killed now: the next one sends none of them again, and removes them. */
        struct webhook_outbox *again = opened();
        webhook_outbox_look(again);
        assert_int_equal(look(again, &steps), 0);
        assert_int_equal(next(again), 0);
        webhook_outbox_close(again);
        assert_int_equal(files(".done"), 0);
        webhook_outbox_close(o);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(what_is_put_off_follows_in_order_and_is_not_overtaken),
                cmocka_unit_test(many_more_than_memory_holds_follow_all_the_same),
                cmocka_unit_test(a_look_is_in_steps_and_loses_nothing_that_comes_between),
                cmocka_unit_test(one_that_was_given_up_waits_for_the_next_look_from_the_start),
                cmocka_unit_test(ids_in_any_order_are_all_handed_out),
                cmocka_unit_test(what_is_not_a_record_is_left_alone),
                cmocka_unit_test(a_record_is_read_as_it_was_written),
                cmocka_unit_test(files_are_made_ahead_and_none_is_left),
                cmocka_unit_test(a_file_made_ahead_is_used_only_while_it_is_as_it_was_made),
                cmocka_unit_test(what_is_in_the_way_of_a_file_made_ahead_is_removed_and_not_written_to),
                cmocka_unit_test(what_was_delivered_is_no_record_and_its_file_goes_later),
        };
        cmocka_set_message_output(CM_OUTPUT_TAP);
        return cmocka_run_group_tests(tests, setup, teardown);
}
