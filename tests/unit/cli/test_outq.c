/* SPDX-License-Identifier: Apache-2.0 */
/* Output that waits: in order, bounded, dropped when nobody reads. */
#include "cli/outq.h"

#include <errno.h>
#include <limits.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static void bytes_come_out_in_order(void **state) {
        char in[3 * PIPE_BUF], out[sizeof(in)];
        size_t got = 0;
        int fds[2];
        struct outq q = {0};

        assert_int_equal(pipe(fds), 0);
        q.fd = fds[1];
        for (size_t i = 0; i < sizeof(in); i++)
                in[i] = (char)(i * 31);
        for (size_t i = 0; i < sizeof(in); i += 1000) {
                size_t n = sizeof(in) - i < 1000 ? sizeof(in) - i : 1000;
                assert_int_equal(outq_put(&q, in + i, n), 0);
                if (i % 3000 == 0) { /* what waits moves while more comes */
                        assert_int_equal(outq_write(&q), 0);
                        got += (size_t)read(fds[0], out + got, sizeof(out) - got);
                }
        }
        while (got < sizeof(in)) {
                assert_int_equal(outq_write(&q), 0);
                ssize_t n = read(fds[0], out + got, sizeof(out) - got);
                assert_true(n > 0);
                got += (size_t)n;
        }
        assert_memory_equal(in, out, sizeof(in));
        assert_int_equal(q.used, 0);
        outq_fini(&q);
        close(fds[0]);
        close(fds[1]);
}

static void one_write_never_exceeds_what_a_ready_pipe_takes(void **state) {
        char in[2 * PIPE_BUF] = {0}, out[sizeof(in)];
        int fds[2];
        struct outq q = {0};

        assert_int_equal(pipe(fds), 0);
        q.fd = fds[1];
        assert_int_equal(outq_put(&q, in, sizeof(in)), 0);
        assert_int_equal(outq_write(&q), 0);
        assert_int_equal(read(fds[0], out, sizeof(out)), PIPE_BUF);
        assert_int_equal(outq_flush(&q), 0);
        assert_int_equal(read(fds[0], out, sizeof(out)), PIPE_BUF);
        outq_fini(&q);
        close(fds[0]);
        close(fds[1]);
}

static void what_waits_is_bounded(void **state) {
        size_t step = 1u << 20;
        char *piece = calloc(1, step);
        struct outq q = {.fd = -1};

        for (size_t n = 0; n < OUTQ_MAX; n += step)
                assert_int_equal(outq_put(&q, piece, step), 0);
        assert_int_equal(outq_put(&q, piece, 1), -ENOBUFS);
        assert_int_equal(q.used, OUTQ_MAX);
        outq_fini(&q);
        free(piece);
}

static void nothing_waits_for_a_reader_that_left(void **state) {
        int fds[2];
        struct outq q = {0};

        assert_int_equal(pipe(fds), 0);
        close(fds[0]);
        signal(SIGPIPE, SIG_IGN);
        q.fd = fds[1];
        assert_int_equal(outq_put(&q, "x", 1), 0);
        assert_int_equal(outq_write(&q), -EPIPE);
        assert_true(q.gone);
        assert_int_equal(outq_put(&q, "x", 1), 0);
        assert_int_equal(q.used, 0);
        assert_int_equal(outq_flush(&q), 0);
        outq_fini(&q);
        close(fds[1]);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(bytes_come_out_in_order),
                cmocka_unit_test(one_write_never_exceeds_what_a_ready_pipe_takes),
                cmocka_unit_test(what_waits_is_bounded),
                cmocka_unit_test(nothing_waits_for_a_reader_that_left),
        };
        cmocka_set_message_output(CM_OUTPUT_TAP);
        return cmocka_run_group_tests(tests, NULL, NULL);
}
