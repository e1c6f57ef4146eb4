/* SPDX-License-Identifier: Apache-2.0 */
#include "supervisor/evidence/outbox.h"

#include "common/util.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include <cmocka.h>

static struct server sv;
static int crewd;
static const struct instance in = {.id = 5, .uid = 200001};

static int setup(void **state) {
        int pair[2];

        if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK, 0, pair) < 0)
                return -1;
        sv = (struct server){.epoll = epoll_create1(0), .crewd = {.fd = pair[0]}};
        crewd = pair[1];
        return server_add(&sv, &sv.crewd, EPOLLIN, NULL);
}

static int teardown(void **state) {
        close(sv.crewd.fd);
        close(sv.epoll);
        close(crewd);
        return 0;
}

static void add(struct outbox *o, const char *path, uint64_t count) {
        const struct event ev = {.source = EVIDENCE_LANDLOCK,
                                 .what = EVIDENCE_FILE_DENIED,
                                 .count = count,
                                 .access = "fs.read_file",
                                 .path = path,
                                 .path_len = strlen(path)};
        outbox_add(o, &ev);
}

static bool next(struct evidence_msg *m) {
        return recv(crewd, m, sizeof(*m), MSG_DONTWAIT) == (ssize_t)sizeof(*m);
}

static void equal_events_that_wait_are_one_message(void **state) {
        struct outbox *o = outbox_new();
        struct evidence_msg m;

        for (int i = 0; i < 10; i++) {
                add(o, "/a", 1);
                add(o, "/b", 2);
        }
        assert_int_equal(outbox_flush(o, &sv, &in, false), 0);
        assert_true(next(&m));
        assert_int_equal(m.op, EVIDENCE_EVENT);
        assert_int_equal(m.id, 5);
        assert_int_equal(m.count, 10);
        assert_memory_equal(m.path, "/a", 2);
        assert_string_equal(m.access, "fs.read_file");
        assert_true(next(&m));
        assert_int_equal(m.count, 20);
        assert_false(next(&m));
        assert_true(outbox_empty(o));
        add(o, "/a", 1); /* after it was sent: a new one */
        assert_int_equal(outbox_flush(o, &sv, &in, false), 0);
        assert_true(next(&m));
        assert_int_equal(m.count, 1);
        outbox_free(o);
}

static void losses_keep_their_place(void **state) {
        struct outbox *o = outbox_new();
        struct evidence_msg m;

        add(o, "/a", 1);
        outbox_add_lost(o, EVIDENCE_LANDLOCK, 17);
        outbox_add_lost(o, EVIDENCE_FANOTIFY, 0);
        add(o, "/b", 1);
        assert_int_equal(outbox_flush(o, &sv, &in, true), 0);
        assert_true(next(&m) && m.op == EVIDENCE_EVENT);
        assert_true(next(&m) && m.op == EVIDENCE_LOST && m.count == 17 && m.source == EVIDENCE_LANDLOCK);
        assert_true(next(&m) && m.op == EVIDENCE_LOST && m.count == 0 && m.source == EVIDENCE_FANOTIFY);
        assert_true(next(&m) && m.op == EVIDENCE_EVENT);
        outbox_free(o);
}

/* crewd reads slowly and the paths have no end: the sum is exact all the same. */
static void no_count_is_lost_when_the_box_overflows(void **state) {
        struct outbox *o = outbox_new();
        struct evidence_msg m;
        uint64_t put = 0, seen = 0, messages = 0;
        char path[512];

        memset(path, 'x', sizeof(path));
        for (unsigned i = 0; i < 200000; i++) {
                snprintf(path, sizeof(path), "/p%u/", i % 50000);
                path[strlen(path)] = 'x';
                path[sizeof(path) - 1] = '\0';
                add(o, path, i % 3 + 1);
                put += i % 3 + 1;
                if (i % 1000 == 0) {
                        assert_true(outbox_flush(o, &sv, &in, false) >= 0);
                        for (int k = 0; k < 20 && next(&m); k++, messages++)
                                seen += m.count;
                }
        }
        for (int r = 1; r;) {
                r = outbox_flush(o, &sv, &in, true);
                assert_true(r >= 0);
                while (next(&m)) {
                        seen += m.count;
                        messages++;
                }
        }
        assert_int_equal(seen, put);
        assert_true(messages < 10000);
        assert_int_equal(m.path_len, strlen(EVIDENCE_OTHER_PATHS));
        assert_memory_equal(m.path, EVIDENCE_OTHER_PATHS, m.path_len);
        assert_true(outbox_empty(o));
        outbox_free(o);
}

static void counts_beyond_32_bits_go_out_in_pieces(void **state) {
        struct outbox *o = outbox_new();
        struct evidence_msg m;

        add(o, "/a", 5000000000u);
        assert_int_equal(outbox_flush(o, &sv, &in, false), 0);
        assert_true(next(&m));
        uint64_t sum = m.count;
        assert_true(next(&m));
        assert_int_equal(sum + m.count, 5000000000u);
        outbox_free(o);
}

static void a_gone_crewd_stops_the_server(void **state) {
        struct outbox *o = outbox_new();

        close(crewd);
        crewd = -1;
        add(o, "/a", 1);
        assert_int_equal(outbox_flush(o, &sv, &in, false), -EPIPE);
        assert_true(sv.stop);
        outbox_free(o);
}

#define OUTBOX_TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
int main(void) {
        const struct CMUnitTest tests[] = {
                OUTBOX_TEST(equal_events_that_wait_are_one_message),  OUTBOX_TEST(losses_keep_their_place),
                OUTBOX_TEST(no_count_is_lost_when_the_box_overflows), OUTBOX_TEST(counts_beyond_32_bits_go_out_in_pieces),
                OUTBOX_TEST(a_gone_crewd_stops_the_server),
        };
        cmocka_set_message_output(CM_OUTPUT_TAP);
        return cmocka_run_group_tests(tests, NULL, NULL);
}
