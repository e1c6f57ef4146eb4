/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/report.h"

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

static int open_pair(void **state) {
        int pair[2];

        if (socketpair(AF_UNIX, SOCK_SEQPACKET, 0, pair) < 0)
                return -1;
        crewd = pair[0];
        gateway = pair[1];
        report_init(&report, gateway);
        return 0;
}

static int close_pair(void **state) {
        close(crewd);
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
                assert_int_equal(report_denied(&report, 1, GATE_DNS, 0, "x.test"), 0);
        assert_int_equal(take(1, &denials), 1);
        assert_int_equal(report_flush(&report), 0);
        assert_int_equal(take(1, &denials), 1);
        assert_int_equal(denials, 1000);
}

/* The socket blocks, and it is the one of all jails: the socket pair of this test would be full after a few hundred. */
static void names_without_end_are_few_messages_and_no_count_is_lost(void **state) {
        uint64_t denials = 0;
        char name[32];

        for (int i = 0; i < 20000; i++) {
                snprintf(name, sizeof(name), "n%d.test", i);
                assert_int_equal(report_denied(&report, 1, i % 2 ? GATE_DNS : GATE_TCP, (uint32_t)i % 2 * 443, name), 0);
        }
        assert_in_range(take(1, &denials), REPORT_DIFFERENT_MAX, REPORT_DIFFERENT_MAX + 2);
        assert_int_equal(report_flush(&report), 0);
        assert_int_equal(take(1, &denials), 2);
        assert_int_equal(denials, 20000);
}

static void one_that_floods_does_not_hide_another(void **state) {
        uint64_t denials = 0;
        char name[32];

        for (int i = 0; i < 1000; i++) {
                snprintf(name, sizeof(name), "n%d.test", i);
                assert_int_equal(report_denied(&report, 1, GATE_DNS, 0, name), 0);
        }
        take(2, &denials);
        assert_int_equal(report_denied(&report, 2, GATE_DNS, 0, "quiet.test"), 0);
        assert_int_equal(take(2, &denials), 1);
        assert_int_equal(denials, 1);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(the_first_is_sent_at_once_and_the_same_are_counted, open_pair, close_pair),
                cmocka_unit_test_setup_teardown(names_without_end_are_few_messages_and_no_count_is_lost, open_pair,
                                                close_pair),
                cmocka_unit_test_setup_teardown(one_that_floods_does_not_hide_another, open_pair, close_pair),
        };

        cmocka_set_message_output(CM_OUTPUT_TAP);
        alarm(30); /* the code before blocked here */
        return cmocka_run_group_tests(tests, NULL, NULL);
}
