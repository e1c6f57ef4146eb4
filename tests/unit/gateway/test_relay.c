/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/relay.h"

#include "common/util.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/sockios.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>

#include <cmocka.h>

static struct hub hub;
static struct relay_way way;
static struct relay_end from, to;
static int client, server;
static uint64_t allowance;

static int open_all(void **state) {
        int a[2], b[2];

        if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, a) < 0 ||
            socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, b) < 0)
                return -1;
        memset(&hub, 0, sizeof(hub));
        way = RELAY_WAY_NULL;
        client = a[0];
        server = b[1];
        from = (struct relay_end){.fd = a[1], .readable = true, .writable = true};
        to = (struct relay_end){.fd = b[0], .readable = true, .writable = true};
        allowance = UINT64_MAX;
        return 0;
}

static int close_all(void **state) {
        relay_way_fini(&hub, &way);
        while (hub.n_pipes > 0) {
                hub.n_pipes--;
                close(hub.pipes[hub.n_pipes][0]);
                close(hub.pipes[hub.n_pipes][1]);
        }
        crew_close(&client);
        crew_close(&server);
        crew_close(&from.fd);
        crew_close(&to.fd);
        return 0;
}

static int move(void) {
        return relay_move(&hub, &way, &from, &to, &allowance);
}

static void bytes_arrive_and_the_pipe_goes_back(void **state) {
        char buf[16];

        assert_int_equal(write(client, "hello", 5), 5);
        assert_int_equal(move(), RELAY_WAITS);
        assert_int_equal(read(server, buf, sizeof(buf)), 5);
        assert_int_equal(way.bytes, 5);
        assert_int_equal(way.pipe[0], -1);
        assert_int_equal(hub.n_pipes, 1);
        assert_false(from.readable);
        assert_true(to.writable);
}

static void an_end_is_passed_on_after_the_bytes(void **state) {
        char buf[16];

        assert_int_equal(write(client, "bye", 3), 3);
        shutdown(client, SHUT_WR);
        relay_note(&from, EPOLLIN | EPOLLRDHUP);
        assert_int_equal(move(), RELAY_WAITS);
        assert_true(way.end_passed);
        assert_int_equal(read(server, buf, sizeof(buf)), 3);
        assert_int_equal(read(server, buf, sizeof(buf)), 0);
        assert_int_equal(way.pipe[0], -1);
}

static void an_end_that_comes_later_is_passed_on(void **state) {
        char buf[16];

        assert_int_equal(write(client, "bye", 3), 3);
        assert_int_equal(move(), RELAY_WAITS);
        assert_false(way.end_seen);
        shutdown(client, SHUT_WR);
        relay_note(&from, EPOLLIN | EPOLLRDHUP);
        assert_int_equal(move(), RELAY_WAITS);
        assert_true(way.end_passed && from.spent);
        assert_int_equal(read(server, buf, sizeof(buf)), 3);
        assert_int_equal(read(server, buf, sizeof(buf)), 0);
}

static void the_second_end_is_left_to_the_close(void **state) {
        char c;

        to.spent = true;
        shutdown(client, SHUT_WR);
        relay_note(&from, EPOLLIN | EPOLLRDHUP);
        assert_int_equal(move(), RELAY_WAITS);
        assert_true(way.end_passed);
        assert_int_equal(read(server, &c, 1), -1);
        assert_int_equal(errno, EAGAIN);
}

static void a_small_message_that_finds_no_room_waits_in_the_pipe(void **state) {
        static char buf[65536];
        ssize_t n, last = 0;

        for (size_t piece = sizeof(buf); piece > 0; piece /= 2) {
                while (send(to.fd, buf, piece, MSG_DONTWAIT) > 0)
                        ;
        }
        assert_int_equal(write(client, "hello", 5), 5);
        assert_int_equal(move(), RELAY_WAITS);
        assert_int_equal(way.in_pipe, 5);
        assert_int_equal(way.bytes, 0);
        assert_false(to.writable);
        while (read(server, buf, sizeof(buf)) > 0)
                ;
        relay_note(&to, EPOLLOUT);
        assert_int_equal(move(), RELAY_WAITS);
        while ((n = read(server, buf, sizeof(buf))) > 0)
                last = n;
        assert_int_equal(last, 5);
        assert_memory_equal(buf, "hello", 5);
        assert_int_equal(way.bytes, 5);
}

/* A read stops at an urgent mark: what is behind it is there all the same. */
static void bytes_behind_an_urgent_mark_arrive(void **state) {
        struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
        int l = socket(AF_INET, SOCK_STREAM, 0), c = socket(AF_INET, SOCK_STREAM, 0);
        socklen_t n = sizeof(at);
        char buf[16];

        assert_int_equal(bind(l, (struct sockaddr *)&at, n), 0);
        assert_int_equal(listen(l, 1), 0);
        assert_int_equal(getsockname(l, (struct sockaddr *)&at, &n), 0);
        assert_int_equal(connect(c, (struct sockaddr *)&at, n), 0);
        crew_close(&from.fd);
        from.fd = accept4(l, NULL, NULL, SOCK_NONBLOCK);
        assert_int_equal(send(c, "ab", 2, 0), 2);
        assert_int_equal(send(c, "!", 1, MSG_OOB), 1);
        assert_int_equal(send(c, "cd", 2, 0), 2);
        relay_note(&from, EPOLLIN | EPOLLPRI);
        assert_int_equal(move(), RELAY_WAITS);
        assert_int_equal(read(server, buf, sizeof(buf)), 4);
        assert_memory_equal(buf, "abcd", 4);
        close(c);
        close(l);
}

static void more_than_a_small_message_arrives_whole_and_in_order(void **state) {
        static char out[100000], in[sizeof(out)];
        size_t got = 0;
        ssize_t n;

        for (size_t i = 0; i < sizeof(out); i++)
                out[i] = (char)(i * 7 + i / 251);
        assert_int_equal(write(client, out, sizeof(out)), sizeof(out));
        while (got < sizeof(in)) {
                relay_note(&to, EPOLLOUT);
                relay_note(&from, EPOLLIN);
                assert_true(move() >= 0);
                while ((n = read(server, in + got, sizeof(in) - got)) > 0)
                        got += (size_t)n;
        }
        assert_memory_equal(in, out, sizeof(out));
        assert_int_equal(way.bytes, sizeof(out));
}

static void a_slow_reader_costs_one_pipe_and_loses_nothing(void **state) {
        static char buf[1 << 20];
        size_t sent = 0, got = 0;
        ssize_t n;

        do {
                while ((n = write(client, buf, 65536)) > 0)
                        sent += (size_t)n;
                from.readable = true;
        } while (move() == RELAY_MORE || to.writable);
        assert_true(way.in_pipe > 0 && way.in_pipe <= 65536);
        assert_false(to.writable);
        shutdown(client, SHUT_WR);
        while (!way.end_passed) {
                while ((n = read(server, buf, sizeof(buf))) > 0)
                        got += (size_t)n;
                from.readable = to.writable = true;
                assert_true(move() >= 0);
        }
        while ((n = read(server, buf, sizeof(buf))) > 0)
                got += (size_t)n;
        assert_int_equal(got, sent);
        assert_int_equal(way.bytes, sent);
}

/* Into the next stream's, were it kept. */
static void what_a_stream_left_in_its_pipe_reaches_no_other(void **state) {
        static char buf[65536];
        ssize_t n;

        way.bulk = true;
        do {
                while (write(client, buf, sizeof(buf)) > 0)
                        ;
                from.readable = true;
        } while (move() == RELAY_MORE || to.writable);
        assert_true(way.in_pipe > 0);
        relay_way_fini(&hub, &way);
        assert_int_equal(hub.n_pipes, 0);
        while ((n = read(server, buf, sizeof(buf))) > 0 || (n = read(from.fd, buf, sizeof(buf))) > 0)
                ;
        way.bulk = true;
        relay_note(&from, EPOLLIN);
        relay_note(&to, EPOLLOUT);
        assert_int_equal(write(client, "hello", 5), 5);
        assert_int_equal(move(), RELAY_WAITS);
        assert_int_equal(read(server, buf, sizeof(buf)), 5);
        assert_memory_equal(buf, "hello", 5);
        relay_way_fini(&hub, &way);
        assert_int_equal(hub.n_pipes, 1); /* an empty one is */
}

/* Of a connection whose reader is slow the kernel holds little that it could not send yet. */
static void what_is_unsent_is_bounded(void **state) {
        enum { UNSENT = 256 << 10, PIPE = 64 << 10 };
        struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
        int l = socket(AF_INET, SOCK_STREAM, 0), small = 4096, unsent = 0;
        socklen_t n = sizeof(at);
        static char buf[65536];

        assert_int_equal(bind(l, (struct sockaddr *)&at, n), 0);
        setsockopt(l, SOL_SOCKET, SO_RCVBUF, &small, sizeof(small));
        assert_int_equal(listen(l, 1), 0);
        assert_int_equal(getsockname(l, (struct sockaddr *)&at, &n), 0);
        crew_close(&to.fd);
        to.fd = socket(AF_INET, SOCK_STREAM, 0);
        relay_set_options(to.fd);
        assert_int_equal(connect(to.fd, (struct sockaddr *)&at, n), 0);
        fcntl(to.fd, F_SETFL, O_NONBLOCK);
        for (int i = 0; i < 200; i++) {
                while (write(client, buf, sizeof(buf)) > 0)
                        ;
                relay_note(&from, EPOLLIN);
                relay_note(&to, EPOLLOUT);
                assert_true(move() >= 0);
        }
        assert_int_equal(ioctl(to.fd, SIOCOUTQNSD, &unsent), 0);
        assert_in_range(unsent, 1, UNSENT + PIPE);
        close(l);
}

/* From a file, which is there at once, into nothing, which takes everything. */
static void a_stream_that_never_pauses_has_its_turn_and_no_more(void **state) {
        int file = memfd_create("stream", MFD_CLOEXEC), nothing = open("/dev/null", O_WRONLY | O_CLOEXEC);

        assert_int_equal(ftruncate(file, 3 * RELAY_TURN), 0);
        crew_close(&from.fd);
        crew_close(&to.fd);
        from.fd = file;
        to.fd = nothing;
        way.bulk = true; /* else it would be received, as from a socket */
        assert_int_equal(move(), RELAY_MORE);
        assert_in_range(way.bytes, RELAY_TURN, RELAY_TURN + 65536);
}

static void an_allowance_that_is_used_up_stops_reading(void **state) {
        char buf[64];

        allowance = 10;
        assert_int_equal(write(client, "0123456789abcdef", 16), 16);
        assert_int_equal(move(), RELAY_DRY);
        assert_int_equal(allowance, 0);
        assert_int_equal(read(server, buf, sizeof(buf)), 10);
        allowance = 100;
        assert_int_equal(move(), RELAY_WAITS);
        assert_int_equal(read(server, buf, sizeof(buf)), 6);
}

static void a_reader_that_is_gone_is_an_error(void **state) {
        crew_close(&server);
        assert_int_equal(write(client, "x", 1), 1);
        assert_int_equal(move(), -EPIPE);
}

static void without_a_descriptor_for_a_pipe_it_waits(void **state) {
        struct rlimit now, none;
        char buf[16];

        getrlimit(RLIMIT_NOFILE, &now);
        none = now;
        none.rlim_cur = 0;
        assert_int_equal(write(client, "x", 1), 1);
        setrlimit(RLIMIT_NOFILE, &none);
        int r = move();
        setrlimit(RLIMIT_NOFILE, &now);
        assert_int_equal(r, RELAY_POOR);
        assert_int_equal(move(), RELAY_WAITS);
        assert_int_equal(read(server, buf, sizeof(buf)), 1);
}

static void without_a_descriptor_an_end_is_passed_on_nevertheless(void **state) {
        struct rlimit now, none;
        char buf[16];

        getrlimit(RLIMIT_NOFILE, &now);
        none = now;
        none.rlim_cur = 0;
        shutdown(client, SHUT_WR);
        setrlimit(RLIMIT_NOFILE, &none);
        int r = move();
        setrlimit(RLIMIT_NOFILE, &now);
        assert_int_equal(r, RELAY_WAITS);
        assert_true(way.end_passed);
        assert_int_equal(read(server, buf, sizeof(buf)), 0);
}

static void some_moves_exactly_so_many_and_passes_no_end_on(void **state) {
        char buf[64];

        assert_int_equal(write(client, "0123456789abcdef", 16), 16);
        shutdown(client, SHUT_WR);
        assert_int_equal(relay_some(&hub, &way, &from, &to, 10, &allowance), 10);
        assert_int_equal(read(server, buf, sizeof(buf)), 10);
        assert_int_equal(relay_some(&hub, &way, &from, &to, 100, &allowance), 6);
        assert_int_equal(read(server, buf, sizeof(buf)), 6);
        assert_int_equal(relay_some(&hub, &way, &from, &to, 94, &allowance), 0);
        assert_int_equal(read(server, buf, sizeof(buf)), -1);
        assert_int_equal(errno, EAGAIN);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(bytes_arrive_and_the_pipe_goes_back, open_all, close_all),
                cmocka_unit_test_setup_teardown(an_end_is_passed_on_after_the_bytes, open_all, close_all),
                cmocka_unit_test_setup_teardown(an_end_that_comes_later_is_passed_on, open_all, close_all),
                cmocka_unit_test_setup_teardown(the_second_end_is_left_to_the_close, open_all, close_all),
                cmocka_unit_test_setup_teardown(a_small_message_that_finds_no_room_waits_in_the_pipe, open_all, close_all),
                cmocka_unit_test_setup_teardown(bytes_behind_an_urgent_mark_arrive, open_all, close_all),
                cmocka_unit_test_setup_teardown(more_than_a_small_message_arrives_whole_and_in_order, open_all, close_all),
                cmocka_unit_test_setup_teardown(a_slow_reader_costs_one_pipe_and_loses_nothing, open_all, close_all),
                cmocka_unit_test_setup_teardown(what_a_stream_left_in_its_pipe_reaches_no_other, open_all, close_all),
                cmocka_unit_test_setup_teardown(what_is_unsent_is_bounded, open_all, close_all),
                cmocka_unit_test_setup_teardown(a_stream_that_never_pauses_has_its_turn_and_no_more, open_all, close_all),
                cmocka_unit_test_setup_teardown(an_allowance_that_is_used_up_stops_reading, open_all, close_all),
                cmocka_unit_test_setup_teardown(a_reader_that_is_gone_is_an_error, open_all, close_all),
                cmocka_unit_test_setup_teardown(without_a_descriptor_for_a_pipe_it_waits, open_all, close_all),
                cmocka_unit_test_setup_teardown(without_a_descriptor_an_end_is_passed_on_nevertheless, open_all, close_all),
                cmocka_unit_test_setup_teardown(some_moves_exactly_so_many_and_passes_no_end_on, open_all, close_all),
        };
        signal(SIGPIPE, SIG_IGN);
        alarm(60);
        cmocka_set_message_output(CM_OUTPUT_TAP);
        return cmocka_run_group_tests(tests, NULL, NULL);
}
