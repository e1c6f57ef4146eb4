/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The link against real peers: raw ones that speak common/spwire, hostile ones that speak something else, and libnng.
 */
#include "link_peer.h"

#include "common/spwire.h"
#include "common/util.h"

#include <errno.h>
#include <fcntl.h>
#include <nng/nng.h>
#include <nng/protocol/pair1/pair.h>
#include <poll.h>
#include <pthread.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

/* Reads until the end of the stream; bytes seen. */
static size_t read_to_end(int fd) {
        struct pollfd p = {fd, POLLIN, 0};
        uint8_t buf[4096];
        size_t total = 0;
        ssize_t n;

        do {
                uv_run(&loop, UV_RUN_NOWAIT);
                assert_true(poll(&p, 1, LIMIT_MS) == 1);
                n = read(fd, buf, sizeof(buf));
                total += n > 0 ? (size_t)n : 0;
        } while (n > 0);
        return total;
}

static void raw_peer_is_identified_and_heard(void **state) {
        struct spwire_in in;
        const uint8_t *frame;
        uint8_t *room;
        size_t n;
        int r;

        listen_here();
        struct stat st;
        assert_int_equal(stat(seen.path, &st), 0);
        assert_int_equal(st.st_mode & 0777, 0600);
        int fd = connect_raw();
        assert_int_equal(crew_write_full(fd, spwire_hello, sizeof(spwire_hello)), 0);
        wait_for(&seen.ups, 1);
        assert_int_equal(seen.pid, getpid());
        assert_int_equal(seen.uid, getuid());
        assert_int_equal(access(seen.path, F_OK), -1); /* nobody else can come */

        seen.echo = true;
        write_frame(fd, "over the wire", 13);
        wait_for(&seen.frames, 1);
        assert_int_equal(seen.last_n, 13);
        assert_memory_equal(seen.last, "over the wire", 13);
        spwire_in_init(&in, MAX_FRAME);
        while ((r = spwire_in_next(&in, &frame, &n)) == 0) {
                assert_int_equal(spwire_in_room(&in, &room, &n), 0);
                ssize_t got = read(fd, room, n);
                assert_true(got > 0);
                spwire_in_added(&in, (size_t)got);
        }
        assert_int_equal(r, 1);
        assert_int_equal(n, 13);
        assert_memory_equal(frame, "over the wire", 13);
        spwire_in_fini(&in);
        close(fd);
        wait_for(&seen.downs, 1);
        close_here();
}

static void nng_peer_is_heard_too(void **state) {
        char url[128], *got;
        nng_socket peer;
        size_t n;

        listen_here();
        seen.echo = true;
        snprintf(url, sizeof(url), "ipc://%s", seen.path);
        assert_int_equal(nng_pair1_open(&peer), 0);
        assert_int_equal(nng_socket_set_ms(peer, NNG_OPT_RECVTIMEO, LIMIT_MS), 0);
        assert_int_equal(nng_dial(peer, url, NULL, NNG_FLAG_NONBLOCK), 0);
        assert_int_equal(nng_socket_set_ms(peer, NNG_OPT_SENDTIMEO, LIMIT_MS), 0);
        wait_for(&seen.ups, 1);
        assert_int_equal(nng_send(peer, (void *)(uintptr_t) "from nng", 8, 0), 0);
        wait_for(&seen.frames, 1);
        assert_memory_equal(seen.last, "from nng", 8);
        assert_int_equal(nng_recv(peer, &got, &n, NNG_FLAG_ALLOC), 0);
        assert_int_equal(n, 8);
        nng_free(got, n);
        nng_close(peer);
        wait_for(&seen.downs, 1);
        close_here();
}

/* The other way round: our codec listens, libnng dials, as a client library of someone else's would. */
static void our_codec_serves_an_nng_dialer(void **state) {
        struct sockaddr_un sa = {.sun_family = AF_UNIX};
        struct spwire_in in;
        const uint8_t *frame;
        char url[128], *got;
        uint8_t *room;
        nng_socket peer;
        size_t n;
        int r;

        next_socket_path(sa.sun_path);
        snprintf(url, sizeof(url), "ipc://%s", sa.sun_path);
        int server = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
        assert_int_equal(bind(server, (struct sockaddr *)&sa, sizeof(sa)), 0);
        assert_int_equal(listen(server, 1), 0);
        assert_int_equal(nng_pair1_open(&peer), 0);
        assert_int_equal(nng_socket_set_ms(peer, NNG_OPT_RECVTIMEO, LIMIT_MS), 0);
        assert_int_equal(nng_socket_set_ms(peer, NNG_OPT_SENDTIMEO, LIMIT_MS), 0);
        assert_int_equal(nng_dial(peer, url, NULL, NNG_FLAG_NONBLOCK), 0);
        int fd = accept(server, NULL, NULL);
        assert_true(fd >= 0);
        assert_int_equal(crew_write_full(fd, spwire_hello, sizeof(spwire_hello)), 0);
        assert_int_equal(nng_send(peer, (void *)(uintptr_t) "dialled", 7, 0), 0);
        spwire_in_init(&in, MAX_FRAME);
        while ((r = spwire_in_next(&in, &frame, &n)) == 0) {
                assert_int_equal(spwire_in_room(&in, &room, &n), 0);
                ssize_t k = read(fd, room, n);
                assert_true(k > 0);
                spwire_in_added(&in, (size_t)k);
        }
        assert_int_equal(r, 1);
        assert_int_equal(n, 7);
        assert_memory_equal(frame, "dialled", 7);
        write_frame(fd, "answer", 6);
        assert_int_equal(nng_recv(peer, &got, &n, NNG_FLAG_ALLOC), 0);
        assert_int_equal(n, 6);
        assert_memory_equal(got, "answer", 6);
        nng_free(got, n);
        spwire_in_fini(&in);
        nng_close(peer);
        close(fd);
        close(server);
        unlink(sa.sun_path);
}

/* Without RECVMAXSZ these nine bytes abort the process. */
static void nine_byte_frame_only_costs_the_peer_its_link(void **state) {
        static const uint8_t hostile[] = {1, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xdf};

        listen_here();
        int fd = connect_and_greet();
        assert_int_equal(crew_write_full(fd, hostile, sizeof(hostile)), 0);
        wait_for(&seen.downs, 1);
        assert_int_equal(seen.frames, 0);
        assert_int_equal(seen.why, -EMSGSIZE);
        close(fd);
        close_here();
}

static void frame_over_the_maximum_ends_the_link_and_one_at_it_does_not(void **state) {
        uint8_t *big = calloc(1, MAX_FRAME + 1);

        listen_here();
        int fd = connect_and_greet();
        write_frame(fd, big, MAX_FRAME);
        wait_for(&seen.frames, 1);
        assert_int_equal(seen.bytes, MAX_FRAME);
        write_frame(fd, big, MAX_FRAME + 1);
        wait_for(&seen.downs, 1);
        assert_int_equal(seen.frames, 1);
        assert_int_equal(seen.why, -EMSGSIZE);
        free(big);
        close(fd);
        close_here();
}

static void broken_messages_end_the_link(void **state) {
        static const struct {
                const char *bytes;
                size_t n;
        } bad[] = {
                {"\x02\0\0\0\0\0\0\0\x05\0\0\0\x01x", 14},   /* message type 2 */
                {"\x01\0\0\0\0\0\0\0\x03\0\0\0", 12},        /* shorter than a hop count */
                {"\x01\0\0\0\0\0\0\0\x05\x01\0\0\x01x", 14}, /* a hop count over 255 */
        };

        for (size_t i = 0; i < ELEMENTSOF(bad); i++) {
                listen_here();
                int fd = connect_and_greet();
                assert_int_equal(crew_write_full(fd, bad[i].bytes, bad[i].n), 0);
                wait_for(&seen.downs, 1);
                assert_int_equal(seen.frames, 0);
                assert_int_equal(seen.why, -EPROTO);
                close(fd);
                close_here();
        }
}

static void partial_handshakes_end_the_link(void **state) {
        for (size_t n = 0; n < sizeof(spwire_hello); n++) {
                listen_here();
                int fd = connect_raw();
                assert_int_equal(crew_write_full(fd, spwire_hello, n), 0);
                close(fd);
                wait_for(&seen.downs, 1);
                assert_int_equal(seen.ups + seen.frames, 0);
                assert_int_equal(seen.why, 0);
                close_here();
        }
}

static void wrong_handshakes_never_come_up(void **state) {
        for (size_t wrong = 0; wrong < sizeof(spwire_hello); wrong++) {
                uint8_t hello[sizeof(spwire_hello)];
                memcpy(hello, spwire_hello, sizeof(hello));
                hello[wrong] ^= 0x21;
                listen_here();
                int fd = connect_raw();
                assert_int_equal(crew_write_full(fd, hello, sizeof(hello)), 0);
                write_frame(fd, "x", 1);
                wait_for(&seen.downs, 1);
                assert_int_equal(seen.ups + seen.frames, 0);
                assert_int_equal(seen.why, -EPROTO);
                close(fd);
                close_here();
        }
}

static void second_peer_is_refused_and_the_first_goes_on(void **state) {
        listen_here();
        int first = connect_raw(), second = connect_raw(); /* while the path is still there */
        assert_int_equal(crew_write_full(first, spwire_hello, sizeof(spwire_hello)), 0);
        wait_for(&seen.ups, 1);
        crew_write_full(second, spwire_hello, sizeof(spwire_hello));
        write_frame(second, "let me in", 9);
        assert_in_range(read_to_end(second), 0, SPWIRE_HELLO_BYTES);
        write_frame(first, "still here", 10);
        wait_for(&seen.frames, 1);
        assert_int_equal(seen.frames, 1);
        assert_memory_equal(seen.last, "still here", 10);
        assert_int_equal(seen.ups, 1);
        assert_int_equal(seen.downs, 0);
        close(first);
        close(second);
        wait_for(&seen.downs, 1);
        close_here();
}

static void queue_is_bounded_and_never_waits(void **state) {
        uint8_t *frame = calloc(1, MAX_FRAME);
        unsigned taken = 0;
        int r;

        listen_here();
        int fd = connect_and_greet();
        uint64_t start = crew_now_ns();
        while ((r = link_send(seen.link, frame, MAX_FRAME)) == 0)
                taken++;
        assert_int_equal(r, -EAGAIN);
        assert_true(crew_now_ns() - start < LIMIT_MS * 1000000ull);
        assert_in_range(taken, LINK_MAX_QUEUED_BYTES / MAX_FRAME, LINK_MAX_QUEUED_BYTES / MAX_FRAME + 16);

        /* Once the peer reads, everything arrives and there is room again. */
        size_t expected = taken * (SPWIRE_HEADER_BYTES + (size_t)MAX_FRAME), got = 0;
        while (got < expected) {
                struct pollfd p = {fd, POLLIN, 0};
                uint8_t buf[65536];
                uv_run(&loop, UV_RUN_NOWAIT);
                if (poll(&p, 1, 10) == 1) {
                        ssize_t n = read(fd, buf, sizeof(buf));
                        assert_true(n > 0);
                        got += (size_t)n;
                }
                assert_true(crew_now_ns() - start < LIMIT_MS * 1000000ull);
        }
        assert_int_equal(link_send(seen.link, frame, MAX_FRAME), 0);
        free(frame);
        close(fd);
        wait_for(&seen.downs, 1);
        close_here();
}

static void queue_for_a_dead_peer_reaches_nobody(void **state) {
        uint8_t *frame = calloc(1, MAX_FRAME);

        listen_here();
        int first = connect_raw(), second = connect_raw();
        assert_int_equal(crew_write_full(first, spwire_hello, sizeof(spwire_hello)), 0);
        wait_for(&seen.ups, 1);
        while (link_send(seen.link, frame, MAX_FRAME) == 0)
                ;
        close(first);
        wait_for(&seen.downs, 1);
        crew_write_full(second, spwire_hello, sizeof(spwire_hello));
        assert_in_range(read_to_end(second), 0, SPWIRE_HELLO_BYTES);
        assert_int_equal(seen.ups, 1);
        assert_int_equal(link_send(seen.link, frame, 1), -EPIPE);
        free(frame);
        close(second);
        close_here();
}

static void empty_queue_takes_a_frame_of_any_size(void **state) {
        uint8_t *frame = calloc(1, 2 * LINK_MAX_QUEUED_BYTES);

        listen_here();
        int fd = connect_and_greet();
        assert_int_equal(link_send(seen.link, frame, 2 * LINK_MAX_QUEUED_BYTES), 0);
        assert_int_equal(link_send(seen.link, frame, 1), -EAGAIN);
        free(frame);
        close(fd);
        wait_for(&seen.downs, 1);
        close_here();
}

static void last_frames_come_before_the_end(void **state) {
        listen_here();
        int fd = connect_and_greet();
        for (unsigned i = 0; i < 3 * LINK_BUDGET; i++)
                write_frame(fd, &i, sizeof(i));
        close(fd);
        wait_for(&seen.downs, 1);
        assert_int_equal(seen.frames, 3 * LINK_BUDGET);
        assert_int_equal(seen.downs, 1);
        close_here();
}

/* The kernel calls that an error of the connection; what the peer had said is to be heard all the same. */
static void last_frames_of_one_that_did_not_read_come_before_the_end(void **state) {
        uint8_t frame[1000] = {0};

        listen_here();
        int fd = connect_and_greet();
        assert_int_equal(link_send(seen.link, frame, sizeof(frame)), 0);
        for (unsigned i = 0; i < 2 * LINK_BUDGET; i++)
                write_frame(fd, frame, sizeof(frame));
        close(fd);
        wait_for(&seen.downs, 1);
        assert_int_equal(seen.frames, 2 * LINK_BUDGET);
        assert_int_equal(seen.why, 0);
        close_here();
}

static void nothing_is_delivered_after_close(void **state) {
        listen_here();
        int fd = connect_and_greet();
        seen.close_in_frame = true;
        for (unsigned i = 0; i < 20; i++)
                write_frame(fd, "x", 1);
        wait_for(&seen.closed, 1);
        settle(20);
        assert_int_equal(seen.frames, 1);
        assert_int_equal(seen.downs, 0);
        assert_int_equal(read_to_end(fd), 0);
        close(fd);

        listen_here();
        seen.close_in_up = true;
        fd = connect_raw();
        assert_int_equal(crew_write_full(fd, spwire_hello, sizeof(spwire_hello)), 0);
        write_frame(fd, "x", 1);
        wait_for(&seen.closed, 1);
        settle(20);
        assert_int_equal(seen.frames + seen.downs, 0);
        close(fd);
}

/* Writes and reads as fast as it can, until the link is cut. */
static void *flood(void *arg) {
        int fd = *(int *)arg;
        uint8_t message[SPWIRE_HEADER_BYTES + 3000] = {0}, buf[30000];

        spwire_header(message, sizeof(message) - SPWIRE_HEADER_BYTES);
        for (size_t at = 0;; at = at == sizeof(message) ? 0 : at) {
                ssize_t n = send(fd, message + at, sizeof(message) - at, MSG_DONTWAIT);
                if (n < 0 && errno != EAGAIN)
                        break;
                at += n > 0 ? (size_t)n : 0;
                if (recv(fd, buf, sizeof(buf), MSG_DONTWAIT) == 0)
                        break;
        }
        return NULL;
}

/* An nng pair1 socket does not survive this: see link.c. */
static void flooding_peer_cannot_hold_up_a_close(void **state) {
        uint8_t *frame = calloc(1, MAX_FRAME);

        for (unsigned round = 0; round < 60; round++) {
                pthread_t thread;
                listen_here();
                int fd = connect_and_greet();
                assert_int_equal(pthread_create(&thread, NULL, flood, &fd), 0);
                while (link_send(seen.link, frame, MAX_FRAME) == 0) /* half-written messages, too */
                        ;
                wait_for(&seen.frames, round);
                close_here();
                pthread_join(thread, NULL);
                close(fd);
        }
        free(frame);
}

/* What nng is asked to send on a stream that is closed never ends, and with it the link. */
static void send_that_ends_while_the_link_does_is_the_last(void **state) {
        uint8_t *frame = calloc(1, MAX_FRAME);

        listen_here();
        int fd = connect_and_greet();
        while (link_send(seen.link, frame, MAX_FRAME) == 0)
                ;
        for (unsigned i = 0; i < 100; i++) { /* nng's thread goes on with what is under way; the loop does not turn */
                uint8_t buf[65536];
                recv(fd, buf, sizeof(buf), MSG_DONTWAIT);
                usleep(1000);
        }
        link_close(seen.link, on_closed, &seen);
        assert_int_equal(link_send(seen.link, frame, 1), -EPIPE);
        wait_for(&seen.closed, 1);
        free(frame);
        close(fd);
}

static void closed_link_lets_nobody_in(void **state) {
        listen_here();
        int fd = connect_raw();
        close_here();
        crew_write_full(fd, spwire_hello, sizeof(spwire_hello));
        assert_in_range(read_to_end(fd), 0, SPWIRE_HELLO_BYTES);
        assert_int_equal(seen.ups, 0);
        close(fd);
}

static void sending_without_a_peer_is_an_error(void **state) {
        listen_here();
        assert_int_equal(link_send(seen.link, (const uint8_t *)"x", 1), -EPIPE);
        close(connect_and_greet());
        wait_for(&seen.downs, 1);
        assert_int_equal(link_send(seen.link, (const uint8_t *)"x", 1), -EPIPE);
        close_here();
}

static void bad_paths_are_refused(void **state) {
        struct crew_err err = CREW_ERR_NULL;
        struct link *l;
        char too_long[200];

        memset(too_long, 'a', sizeof(too_long));
        too_long[0] = '/';
        too_long[sizeof(too_long) - 1] = '\0';
        assert_int_equal(link_listen(&loop, "relative", MAX_FRAME, &callbacks, NULL, &l, &err), -EINVAL);
        assert_int_equal(link_listen(&loop, too_long, MAX_FRAME, &callbacks, NULL, &l, &err), -EINVAL);
        assert_true(link_listen(&loop, "/nonexistent-directory/x", MAX_FRAME, &callbacks, NULL, &l, &err) < 0);
        assert_null(l);
        settle(5);
        assert_int_equal(uv_loop_alive(&loop), 0);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(raw_peer_is_identified_and_heard),
                cmocka_unit_test(nng_peer_is_heard_too),
                cmocka_unit_test(our_codec_serves_an_nng_dialer),
                cmocka_unit_test(nine_byte_frame_only_costs_the_peer_its_link),
                cmocka_unit_test(frame_over_the_maximum_ends_the_link_and_one_at_it_does_not),
                cmocka_unit_test(broken_messages_end_the_link),
                cmocka_unit_test(partial_handshakes_end_the_link),
                cmocka_unit_test(wrong_handshakes_never_come_up),
                cmocka_unit_test(second_peer_is_refused_and_the_first_goes_on),
                cmocka_unit_test(queue_is_bounded_and_never_waits),
                cmocka_unit_test(queue_for_a_dead_peer_reaches_nobody),
                cmocka_unit_test(empty_queue_takes_a_frame_of_any_size),
                cmocka_unit_test(last_frames_come_before_the_end),
                cmocka_unit_test(last_frames_of_one_that_did_not_read_come_before_the_end),
                cmocka_unit_test(nothing_is_delivered_after_close),
                cmocka_unit_test(flooding_peer_cannot_hold_up_a_close),
                cmocka_unit_test(send_that_ends_while_the_link_does_is_the_last),
                cmocka_unit_test(closed_link_lets_nobody_in),
                cmocka_unit_test(sending_without_a_peer_is_an_error),
                cmocka_unit_test(bad_paths_are_refused),
        };

        cmocka_set_message_output(CM_OUTPUT_TAP);
        return cmocka_run_group_tests(tests, link_setup, link_teardown);
}
