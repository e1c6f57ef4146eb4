/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The link against real peers: raw ones that speak common/spwire, hostile ones that speak something else, and libnng.
 * Runs a libuv loop; every wait has a limit, so a hang is a failure.
 */
#include "common/spwire.h"
#include "common/util.h"
#include "supervisor/link.h"

#include <dirent.h>
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

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#define MAX_FRAME 100000u
#define LIMIT_MS 10000u

static char dir[] = "/tmp/test_link.XXXXXX";
static unsigned next_path;
static uv_loop_t loop;

/* What the callbacks saw of the one link of a test. */
static struct seen {
        struct link *link;
        char path[108];
        unsigned ups, frames, downs, closed;
        pid_t pid;
        uid_t uid;
        size_t bytes, last_n;
        uint8_t last[64];
        bool echo, close_in_frame, close_in_up;
        int why;
} seen;

static void on_closed(void *user) {
        struct seen *s = user;
        s->closed++;
}

static void on_up(struct link *l, pid_t pid, uid_t uid, void *user) {
        struct seen *s = user;
        assert_int_equal(s->frames + s->downs, 0);
        s->ups++;
        s->pid = pid;
        s->uid = uid;
        if (s->close_in_up)
                link_close(l, on_closed, s);
}

static void on_frame(struct link *l, const uint8_t *bytes, size_t n, void *user) {
        struct seen *s = user;
        assert_int_equal(s->downs, 0);
        s->frames++;
        s->bytes += n;
        s->last_n = n;
        memcpy(s->last, bytes, MIN_OF(n, sizeof(s->last)));
        if (s->echo)
                assert_int_equal(link_send(l, bytes, n), 0);
        if (s->close_in_frame)
                link_close(l, on_closed, s);
}

static void on_down(struct link *l, int why, void *user) {
        struct seen *s = user;
        s->downs++;
        s->why = why;
}

static const struct link_callbacks callbacks = {on_up, on_frame, on_down};

static void on_limit(uv_timer_t *t) {
        bool *late = t->data;
        *late = true;
}

/* Turns the loop until *counter is at least n. */
static void wait_for(const unsigned *counter, unsigned n) {
        bool late = false;
        uv_timer_t limit;

        uv_timer_init(&loop, &limit);
        limit.data = &late;
        uv_timer_start(&limit, on_limit, LIMIT_MS, 0);
        while (*counter < n && !late)
                uv_run(&loop, UV_RUN_ONCE);
        uv_close((uv_handle_t *)&limit, NULL);
        uv_run(&loop, UV_RUN_NOWAIT);
        assert_false(late);
}

/* Lets nng's threads and the loop do whatever they still want to. */
static void settle(unsigned ms) {
        uint64_t end = crew_now_ns() + ms * 1000000ull;

        while (crew_now_ns() < end) {
                uv_run(&loop, UV_RUN_NOWAIT);
                usleep(1000);
        }
}

static void listen_here(void) {
        struct crew_err err = CREW_ERR_NULL;

        seen = (struct seen){0};
        snprintf(seen.path, sizeof(seen.path), "%s/%u", dir, next_path++);
        if (link_listen(&loop, seen.path, MAX_FRAME, &callbacks, &seen, &seen.link, &err) < 0)
                fail_msg("%s", err.msg);
}

static void close_here(void) {
        link_close(seen.link, on_closed, &seen);
        wait_for(&seen.closed, 1);
        assert_int_equal(seen.closed, 1);
        assert_int_equal(uv_loop_alive(&loop), 0);
}

static int connect_raw(void) {
        struct sockaddr_un sa = {.sun_family = AF_UNIX};
        int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

        assert_true(fd >= 0);
        snprintf(sa.sun_path, sizeof(sa.sun_path), "%s", seen.path);
        assert_int_equal(connect(fd, (struct sockaddr *)&sa, sizeof(sa)), 0);
        return fd;
}

static int connect_and_greet(void) {
        int fd = connect_raw();
        uint8_t hello[SPWIRE_HELLO_BYTES];

        assert_int_equal(crew_write_full(fd, spwire_hello, sizeof(spwire_hello)), 0);
        wait_for(&seen.ups, 1);
        assert_int_equal(crew_read_full(fd, hello, sizeof(hello)), 0);
        assert_memory_equal(hello, spwire_hello, sizeof(hello));
        return fd;
}

static void write_frame(int fd, const void *bytes, size_t n) {
        uint8_t *message = malloc(SPWIRE_HEADER_BYTES + n);

        assert_non_null(message);
        spwire_header(message, n);
        memcpy(message + SPWIRE_HEADER_BYTES, bytes, n);
        /* The peer may be gone in the tests where it should be. */
        int r = crew_write_full(fd, message, SPWIRE_HEADER_BYTES + n);
        assert_true(r == 0 || r == -EPIPE || r == -ECONNRESET);
        free(message);
}

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

        snprintf(sa.sun_path, sizeof(sa.sun_path), "%s/codec", dir);
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

static unsigned open_descriptors(void) {
        DIR *d = opendir("/proc/self/fd");
        unsigned n = 0;

        assert_non_null(d);
        while (readdir(d))
                n++;
        closedir(d);
        return n;
}

static void links_leave_no_descriptors_behind(void **state) {
        uint8_t *frame = calloc(1, MAX_FRAME);
        unsigned before = 0;

        for (unsigned i = 0; i < 20; i++) {
                if (i == 2) {
                        settle(20); /* nng's reaper */
                        before = open_descriptors();
                }
                listen_here();
                int fd = connect_and_greet();
                while (link_send(seen.link, frame, MAX_FRAME) == 0) /* so that the send descriptor exists too */
                        ;
                close(fd);
                close_here();
        }
        settle(20);
        assert_int_equal(open_descriptors(), before);
        free(frame);
}

static bool blocks_all_signals(const char *tid) {
        char path[64], line[256];
        unsigned long long mask = 0;

        snprintf(path, sizeof(path), "/proc/self/task/%.20s/status", tid);
        FILE *f = fopen(path, "re");
        assert_non_null(f);
        while (fgets(line, sizeof(line), f)) {
                if (sscanf(line, "SigBlk: %llx", &mask) == 1)
                        break;
        }
        fclose(f);
        /* all but KILL, STOP and the two that belong to the C library */
        return (mask | 1ull << 8 | 1ull << 18 | 3ull << 31) == ~0ull;
}

static void nngs_threads_take_no_signals(void **state) {
        unsigned others = 0;
        char self[16];
        DIR *d;
        struct dirent *e;

        listen_here();
        snprintf(self, sizeof(self), "%d", gettid());
        d = opendir("/proc/self/task");
        assert_non_null(d);
        while ((e = readdir(d))) {
                if (e->d_name[0] == '.' || strcmp(e->d_name, self) == 0)
                        continue;
                others++;
                assert_true(blocks_all_signals(e->d_name));
        }
        closedir(d);
        assert_true(others > 0);
        assert_false(blocks_all_signals(self));
        close_here();
}

/* nng does not tell which descriptor it is: with room for it below and behind others, it must be found all the same. */
static void connection_is_found_among_many_descriptors(void **state) {
        int below[64], above[64];

        for (size_t i = 0; i < ELEMENTSOF(below); i++)
                assert_true((below[i] = dup(STDERR_FILENO)) >= 0);
        listen_here();
        int fd = connect_raw();
        usleep(20000); /* accepted by nng's thread; the loop does not know yet */
        for (size_t i = 0; i < ELEMENTSOF(above); i++)
                assert_true((above[i] = dup(STDERR_FILENO)) >= 0);
        for (size_t i = 0; i < ELEMENTSOF(below); i++)
                close(below[i]);
        assert_int_equal(crew_write_full(fd, spwire_hello, sizeof(spwire_hello)), 0);
        wait_for(&seen.ups, 1);
        write_frame(fd, "here", 4);
        wait_for(&seen.frames, 1);
        assert_memory_equal(seen.last, "here", 4);
        close(fd);
        wait_for(&seen.downs, 1);
        for (size_t i = 0; i < ELEMENTSOF(above); i++)
                close(above[i]);
        close_here();
}

/* How often the threads other than this one have gone to sleep, which is how often they were woken. */
static unsigned long wakeups_of_others(void) {
        unsigned long sum = 0, n;
        char path[300], line[256], self[16];
        DIR *d = opendir("/proc/self/task");
        struct dirent *e;

        assert_non_null(d);
        snprintf(self, sizeof(self), "%d", gettid());
        while ((e = readdir(d))) {
                snprintf(path, sizeof(path), "/proc/self/task/%s/status", e->d_name);
                FILE *f = e->d_name[0] == '.' || strcmp(e->d_name, self) == 0 ? NULL : fopen(path, "re");
                while (f && fgets(line, sizeof(line), f)) {
                        if (sscanf(line, "voluntary_ctxt_switches: %lu", &n) == 1)
                                sum += n;
                }
                if (f)
                        fclose(f);
        }
        closedir(d);
        return sum;
}

static void frames_wake_no_thread_of_nngs(void **state) {
        enum { FRAMES = 500 };
        uint8_t back[SPWIRE_HEADER_BYTES + 4];

        listen_here();
        int fd = connect_and_greet();
        seen.echo = true;
        settle(20);
        unsigned long before = wakeups_of_others();
        for (unsigned i = 1; i <= FRAMES; i++) {
                write_frame(fd, "ping", 4);
                wait_for(&seen.frames, i);
                assert_int_equal(crew_read_full(fd, back, sizeof(back)), 0);
        }
        assert_in_range(wakeups_of_others() - before, 0, FRAMES / 10);
        close(fd);
        close_here();
}

static uint64_t cpu_ns(clockid_t clock) {
        struct timespec t;

        assert_int_equal(clock_gettime(clock, &t), 0);
        return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static uint64_t cpu_of_others_ns(void) {
        return cpu_ns(CLOCK_PROCESS_CPUTIME_ID) - cpu_ns(CLOCK_THREAD_CPUTIME_ID);
}

/* As at a kill: whoever dies closes its end when others have better things to do.  nng's poller, if it hears of it, goes
 * round and round until the link is closed. */
static void end_of_a_deafened_link_wakes_nobody(void **state) {
        uint8_t back[SPWIRE_HEADER_BYTES + 3];

        listen_here();
        int fd = connect_and_greet();
        write_frame(fd, "heard", 5);
        wait_for(&seen.frames, 1);
        settle(20);
        link_deafen(seen.link);
        write_frame(fd, "lost", 4);
        assert_int_equal(link_send(seen.link, (const uint8_t *)"bye", 3), 0);
        settle(20);
        assert_int_equal(crew_read_full(fd, back, sizeof(back)), 0);
        unsigned long before = wakeups_of_others();
        uint64_t cpu = cpu_of_others_ns();
        close(fd);
        link_pause(seen.link, true);
        link_pause(seen.link, false);
        settle(50);
        assert_int_equal(wakeups_of_others(), before);
        assert_true(cpu_of_others_ns() < cpu + 10000000);
        assert_int_equal(seen.frames, 1);
        assert_int_equal(seen.downs, 0);
        close_here();
}

static void link_costs_little_memory(void **state) {
        enum { LINKS = 50 };
        struct seen many[LINKS] = {0};
        struct crew_err err = CREW_ERR_NULL;
        int fds[LINKS];
        long pages, before = 0;

        for (unsigned i = 0; i < LINKS; i++) {
                FILE *f = fopen("/proc/self/statm", "re");
                assert_int_equal(fscanf(f, "%*d %ld", &pages), 1);
                fclose(f);
                if (i == 10)
                        before = pages;
                snprintf(many[i].path, sizeof(many[i].path), "%s/%u", dir, next_path++);
                assert_int_equal(link_listen(&loop, many[i].path, 4u << 20, &callbacks, &many[i], &many[i].link, &err), 0);
                memcpy(seen.path, many[i].path, sizeof(seen.path));
                fds[i] = connect_raw();
                assert_int_equal(crew_write_full(fds[i], spwire_hello, sizeof(spwire_hello)), 0);
                wait_for(&many[i].ups, 1);
        }
        long each = (pages - before) * sysconf(_SC_PAGESIZE) / (LINKS - 11);
        print_message("# %ld bytes a link\n", each);
        assert_in_range(each, 0, 100 * 1024);
        for (unsigned i = 0; i < LINKS; i++) {
                close(fds[i]);
                link_close(many[i].link, on_closed, &many[i]);
                wait_for(&many[i].closed, 1);
        }
}

static int setup(void **state) {
        signal(SIGPIPE, SIG_IGN);
        return mkdtemp(dir) && uv_loop_init(&loop) == 0 ? 0 : -1;
}

static int teardown(void **state) {
        /* Nothing left over: no handle, no socket file. */
        return uv_loop_close(&loop) == 0 && rmdir(dir) == 0 ? 0 : -1;
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
                cmocka_unit_test(links_leave_no_descriptors_behind),
                cmocka_unit_test(nngs_threads_take_no_signals),
                cmocka_unit_test(connection_is_found_among_many_descriptors),
                cmocka_unit_test(frames_wake_no_thread_of_nngs),
                cmocka_unit_test(end_of_a_deafened_link_wakes_nobody),
                cmocka_unit_test(link_costs_little_memory),
        };

        cmocka_set_message_output(CM_OUTPUT_TAP);
        return cmocka_run_group_tests(tests, setup, teardown);
}
