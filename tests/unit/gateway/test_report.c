/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/report.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

static int crewd, gateway;
static struct report report;
static struct denials of[3]; /* by instance */

static int denied(uint32_t id, enum gate_proto proto, uint32_t port, const char *name) {
        struct gate_msg m = {.id = id, .proto = proto, .port = port};

        snprintf(m.name, sizeof(m.name), "%s", name);
        return report_denied(&report, &of[id], &m);
}

static int open_pair(void **state) {
        int pair[2];

        if (socketpair(AF_UNIX, SOCK_SEQPACKET, 0, pair) < 0)
                return -1;
        crewd = pair[0];
        gateway = pair[1];
        fcntl(gateway, F_SETFL, O_NONBLOCK);
        report_init(&report, gateway);
        memset(of, 0, sizeof(of));
        return 0;
}

static int close_pair(void **state) {
        close(crewd);
        for (size_t i = 0; i < 3; i++)
                report_flush_one(&report, &of[i]);
        report_fini(&report);
        close(gateway);
        return 0;
}

/* What crewd got since the last time: messages, and denials of one instance in all of them. */
static unsigned take(uint32_t id, uint64_t *denials) {
        struct gate_msg m;
        unsigned n = 0;

        for (; recv(crewd, &m, sizeof(m), MSG_DONTWAIT) == (ssize_t)sizeof(m); n++)
                *denials += m.id == id ? m.count : 0;
        return n;
}

static void the_first_is_sent_at_once_and_the_same_are_counted(void **state) {
        uint64_t denials = 0;

        for (int i = 0; i < 1000; i++)
                assert_int_equal(denied(1, GATE_DNS, 0, "x.test"), 0);
        assert_int_equal(take(1, &denials), 1);
        assert_int_equal(report_flush(&report), 0);
        assert_int_equal(take(1, &denials), 1);
        assert_int_equal(denials, 1000);
}

/* It is the socket of all jails: the pair of this test is full after a few hundred. */
static void names_without_end_are_few_messages_and_no_count_is_lost(void **state) {
        uint64_t denials = 0;
        char name[32];

        for (int i = 0; i < 20000; i++) {
                snprintf(name, sizeof(name), "n%d.test", i);
                assert_int_equal(denied(1, i % 2 ? GATE_DNS : GATE_TCP, (uint32_t)i % 2 * 443, name), 0);
        }
        assert_in_range(take(1, &denials), REPORT_DIFFERENT_MAX, REPORT_DIFFERENT_MAX + 2);
        assert_int_equal(report_flush(&report), 0);
        assert_int_equal(take(1, &denials), 2);
        assert_int_equal(denials, 20000);
}

static void names_that_are_asked_for_do_not_hide_what_is_dialled(void **state) {
        struct gate_msg m;
        unsigned dials = 0;
        char name[32];

        for (int i = 0; i < 1000; i++) {
                snprintf(name, sizeof(name), "n%d.test", i);
                assert_int_equal(denied(1, GATE_DNS, 0, name), 0);
        }
        for (int i = 0; i < 10; i++) {
                snprintf(name, sizeof(name), "dialled%d.test", i);
                assert_int_equal(denied(1, GATE_TCP, 443, name), 0);
        }
        while (recv(crewd, &m, sizeof(m), MSG_DONTWAIT) == (ssize_t)sizeof(m))
                dials += strncmp(m.name, "dialled", 7) == 0;
        assert_int_equal(dials, 10);
}

static void one_that_floods_does_not_hide_another(void **state) {
        uint64_t denials = 0;
        char name[32];

        for (int i = 0; i < 1000; i++) {
                snprintf(name, sizeof(name), "n%d.test", i);
                assert_int_equal(denied(1, GATE_DNS, 0, name), 0);
        }
        take(2, &denials);
        assert_int_equal(denied(2, GATE_DNS, 0, "quiet.test"), 0);
        assert_int_equal(take(2, &denials), 1);
        assert_int_equal(denials, 1);
}

static unsigned told;
static void on_sent(void *user) {
        told++;
}

static void a_crewd_that_does_not_read_gets_all_in_order_later(void **state) {
        struct gate_msg m = {.op = GATE_CLOSED, .id = 1};
        unsigned queued = 0, next = 0;

        told = 0;
        for (m.conn = 0; m.conn < 2000; m.conn++) {
                int rc = report_send(&report, &m, on_sent, NULL);
                assert_in_range(rc, 0, 1);
                queued += (unsigned)rc;
        }
        assert_true(queued > 0);
        assert_int_equal(told, 0);
        while (next < 2000) {
                assert_int_equal(recv(crewd, &m, sizeof(m), MSG_DONTWAIT), sizeof(m));
                assert_int_equal(m.conn, next++);
                assert_int_equal(report_write(&report), 0);
        }
        assert_int_equal(told, queued);
        assert_false(report_behind(&report));
}

static void denials_do_not_lengthen_the_queue_and_are_counted(void **state) {
        struct gate_msg m = {.op = GATE_CLOSED, .id = 2};
        uint64_t denials = 0;

        while (!report_behind(&report))
                assert_in_range(report_send(&report, &m, NULL, NULL), 0, 1);
        size_t before = report.n_queued;
        for (int i = 0; i < 5000; i++)
                assert_int_equal(denied(1, GATE_DNS, 0, "x.test"), 0);
        assert_int_equal(report_flush(&report), 0);
        assert_int_equal(report.n_queued, before);
        take(1, &denials);
        assert_int_equal(report_write(&report), 0);
        assert_int_equal(report_flush(&report), 0);
        take(1, &denials);
        assert_int_equal(denials, 5000);
}

/* A connection's end would else overtake its beginning. */
static void what_comes_later_waits_behind_what_waits(void **state) {
        struct gate_msg m = {.op = GATE_CLOSED, .id = 1};
        unsigned n;

        for (n = 0; !report_behind(&report); n++) {
                m.conn = n;
                assert_in_range(report_send(&report, &m, NULL, NULL), 0, 1);
        }
        assert_int_equal(recv(crewd, &m, sizeof(m), MSG_DONTWAIT), sizeof(m)); /* there is room */
        assert_int_equal(recv(crewd, &m, sizeof(m), MSG_DONTWAIT), sizeof(m));
        m.conn = n++;
        assert_int_equal(report_send(&report, &m, NULL, NULL), 1);
        for (unsigned next = 2; next < n; next++) {
                assert_int_equal(report_write(&report), 0);
                assert_int_equal(recv(crewd, &m, sizeof(m), MSG_DONTWAIT), sizeof(m));
                assert_int_equal(m.conn, next);
        }
}

/* Folded are denials that say the same, and nothing else. */
static void what_differs_in_anything_is_told_apart(void **state) {
        const struct gate_msg rows[] = {
                {.id = 1, .proto = GATE_TCP, .port = 443, .name = "x.test", .text = "not listed"},
                {.id = 1, .proto = GATE_TCP, .port = 444, .name = "x.test", .text = "not listed"},
                {.id = 1, .proto = GATE_DNS, .port = 443, .name = "x.test", .text = "not listed"},
                {.id = 1, .proto = GATE_TCP, .port = 443, .name = "y.test", .text = "not listed"},
                {.id = 1, .proto = GATE_TCP, .port = 443, .name = "x.test", .text = "limits.connections"},
                {.id = 1,
                 .proto = GATE_TCP,
                 .port = 443,
                 .name = "x.test",
                 .text = "not listed",
                 .verdict = GATE_WOULD_REFUSE},
        };
        enum { N = sizeof(rows) / sizeof(rows[0]) };
        struct gate_msg m;

        for (unsigned round = 0; round < 3; round++) {
                for (size_t i = 0; i < N; i++)
                        assert_int_equal(report_denied(&report, &of[1], &rows[i]), 0);
        }
        for (unsigned round = 0; round < 2; round++) { /* the first of each, and then how many more */
                for (size_t i = 0; i < N; i++) {
                        assert_int_equal(recv(crewd, &m, sizeof(m), MSG_DONTWAIT), sizeof(m));
                        assert_int_equal(m.proto, rows[i].proto);
                        assert_int_equal(m.port, rows[i].port);
                        assert_int_equal(m.verdict, rows[i].verdict);
                        assert_string_equal(m.name, rows[i].name);
                        assert_string_equal(m.text, rows[i].text);
                        assert_int_equal(m.count, round + 1);
                }
                assert_int_equal(recv(crewd, &m, sizeof(m), MSG_DONTWAIT), -1);
                assert_int_equal(report_flush(&report), 0);
        }
}

/* As many of the same as a number holds, and more. */
static void a_count_stops_at_its_largest(void **state) {
        struct gate_msg m = {.id = 1, .proto = GATE_DNS, .name = "x.test", .count = UINT32_MAX - 1};

        assert_int_equal(denied(1, GATE_DNS, 0, "x.test"), 0);
        for (int i = 0; i < 3; i++)
                assert_int_equal(report_denied(&report, &of[1], &m), 0);
        assert_int_equal(report_flush(&report), 0);
        for (int i = 0; i < 2; i++)
                assert_int_equal(recv(crewd, &m, sizeof(m), MSG_DONTWAIT), sizeof(m));
        assert_int_equal(m.count, UINT32_MAX);
}

static void a_crewd_that_is_gone_is_an_error(void **state) {
        struct gate_msg m = {.op = GATE_CLOSED};

        shutdown(crewd, SHUT_RDWR);
        assert_true(report_send(&report, &m, NULL, NULL) < 0);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(the_first_is_sent_at_once_and_the_same_are_counted, open_pair, close_pair),
                cmocka_unit_test_setup_teardown(names_without_end_are_few_messages_and_no_count_is_lost, open_pair,
                                                close_pair),
                cmocka_unit_test_setup_teardown(names_that_are_asked_for_do_not_hide_what_is_dialled, open_pair,
                                                close_pair),
                cmocka_unit_test_setup_teardown(one_that_floods_does_not_hide_another, open_pair, close_pair),
                cmocka_unit_test_setup_teardown(a_crewd_that_does_not_read_gets_all_in_order_later, open_pair, close_pair),
                cmocka_unit_test_setup_teardown(denials_do_not_lengthen_the_queue_and_are_counted, open_pair, close_pair),
                cmocka_unit_test_setup_teardown(what_comes_later_waits_behind_what_waits, open_pair, close_pair),
                cmocka_unit_test_setup_teardown(what_differs_in_anything_is_told_apart, open_pair, close_pair),
                cmocka_unit_test_setup_teardown(a_count_stops_at_its_largest, open_pair, close_pair),
                cmocka_unit_test_setup_teardown(a_crewd_that_is_gone_is_an_error, open_pair, close_pair),
        };

        cmocka_set_message_output(CM_OUTPUT_TAP);
        alarm(30); /* the code before blocked here */
        return cmocka_run_group_tests(tests, NULL, NULL);
}
