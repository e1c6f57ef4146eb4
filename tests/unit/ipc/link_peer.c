/* SPDX-License-Identifier: Apache-2.0 */
#include "link_peer.h"

#include "common/spwire.h"
#include "common/util.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

static char dir[] = "/tmp/test_link.XXXXXX";
static unsigned next_path;

uv_loop_t loop;
struct seen seen;

void on_closed(void *user) {
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

const struct link_callbacks callbacks = {on_up, on_frame, on_down};

static void on_limit(uv_timer_t *t) {
        bool *late = t->data;
        *late = true;
}

/* Turns the loop until *counter is at least n. */
void wait_for(const unsigned *counter, unsigned n) {
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
void settle(unsigned ms) {
        uint64_t end = crew_now_ns() + ms * 1000000ull;

        while (crew_now_ns() < end) {
                uv_run(&loop, UV_RUN_NOWAIT);
                usleep(1000);
        }
}

void next_socket_path(char path[108]) {
        snprintf(path, 108, "%s/%u", dir, next_path++);
}

void listen_here(void) {
        struct crew_err err = CREW_ERR_NULL;

        seen = (struct seen){0};
        next_socket_path(seen.path);
        if (link_listen(&loop, seen.path, MAX_FRAME, &callbacks, &seen, &seen.link, &err) < 0)
                fail_msg("%s", err.msg);
}

void close_here(void) {
        link_close(seen.link, on_closed, &seen);
        wait_for(&seen.closed, 1);
        assert_int_equal(seen.closed, 1);
        assert_int_equal(uv_loop_alive(&loop), 0);
}

int connect_raw(void) {
        struct sockaddr_un sa = {.sun_family = AF_UNIX};
        int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

        assert_true(fd >= 0);
        snprintf(sa.sun_path, sizeof(sa.sun_path), "%s", seen.path);
        assert_int_equal(connect(fd, (struct sockaddr *)&sa, sizeof(sa)), 0);
        return fd;
}

int connect_and_greet(void) {
        int fd = connect_raw();
        uint8_t hello[SPWIRE_HELLO_BYTES];

        assert_int_equal(crew_write_full(fd, spwire_hello, sizeof(spwire_hello)), 0);
        wait_for(&seen.ups, 1);
        assert_int_equal(crew_read_full(fd, hello, sizeof(hello)), 0);
        assert_memory_equal(hello, spwire_hello, sizeof(hello));
        return fd;
}

void write_frame(int fd, const void *bytes, size_t n) {
        uint8_t *message = malloc(SPWIRE_HEADER_BYTES + n);

        assert_non_null(message);
        spwire_header(message, n);
        memcpy(message + SPWIRE_HEADER_BYTES, bytes, n);
        /* The peer may be gone in the tests where it should be. */
        int r = crew_write_full(fd, message, SPWIRE_HEADER_BYTES + n);
        assert_true(r == 0 || r == -EPIPE || r == -ECONNRESET);
        free(message);
}

int link_setup(void **state) {
        signal(SIGPIPE, SIG_IGN);
        return mkdtemp(dir) && uv_loop_init(&loop) == 0 ? 0 : -1;
}

int link_teardown(void **state) {
        /* Nothing left over: no handle, no socket file. */
        return uv_loop_close(&loop) == 0 && rmdir(dir) == 0 ? 0 : -1;
}
