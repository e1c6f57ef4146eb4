/* SPDX-License-Identifier: Apache-2.0 */
#include "looplib.h"

#include "gatelib.h"

#include "gateway/addr.h"
#include "gateway/http_conn.h"
#include "gateway/http_plain.h"

#include "common/util.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <sys/socket.h>

#include <cmocka.h>

#define PATIENCE 20000 /* turns with a millisecond between them */

struct loop loop;
static uint64_t now_ns = 1000000000000ull;
static unsigned turns_left;

uint64_t __wrap_crew_now_ns(void);
uint64_t __wrap_crew_now_ns(void) {
        return now_ns;
}

/* --- turns --- */

static void nothing(struct hub_task *t) {
}

/* A task in waiting keeps the loop from sleeping. */
static void before_sleep(void *user) {
        static struct hub_task awake = {.run = nothing};

        if (turns_left-- > 0)
                return hub_later(&loop.hub, &awake);
        hub_not_later(&loop.hub, &awake);
        loop.hub.stopped = true;
}

void loop_turns(unsigned n) {
        assert_false(loop.hub.stopped);
        turns_left = n;
        hub_run(&loop.hub, before_sleep, NULL);
        assert_int_equal(turns_left, UINT32_MAX); /* else it has ended by itself */
        loop.hub.stopped = false;
}

void loop_turn_of_many(unsigned n, const char *what) {
        if (n > PATIENCE)
                fail_msg("not so: %s", what);
        if (n > 10)
                usleep(1000);
        loop_turns(1);
}

/* Deadlines are looked at every 100 ms. */
void loop_pass(uint64_t ms) {
        now_ns += ms * 1000000;
        loop_turns(3);
}

/* --- the jail --- */

static int listener(int type, struct sockaddr_in *at) {
        socklen_t n = sizeof(*at);
        int fd = socket(AF_INET, type | SOCK_CLOEXEC, 0);

        *at = (struct sockaddr_in){.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
        assert_int_equal(bind(fd, (void *)at, sizeof(*at)), 0);
        assert_true(type == SOCK_DGRAM || listen(fd, 8) == 0);
        assert_int_equal(getsockname(fd, (void *)at, &n), 0);
        return fd;
}

/* Both ends of a TCP connection: what an accepted dial is. */
static void tcp_pair(int *ours, int *theirs) {
        struct sockaddr_in at;
        _cleanup_close_ int fd = listener(SOCK_STREAM, &at);

        *ours = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        assert_int_equal(connect(*ours, (void *)&at, sizeof(at)), 0);
        *theirs = accept4(fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
        assert_true(*theirs >= 0);
        fcntl(*ours, F_SETFL, O_NONBLOCK);
}

int loop_dial(const char *host, uint16_t port) {
        struct sockaddr_storage to = {.ss_family = strchr(host, ':') ? AF_INET6 : AF_INET};
        struct sockaddr_in *v4 = (void *)&to;
        struct sockaddr_in6 *v6 = (void *)&to;
        int ours, theirs;

        if (to.ss_family == AF_INET6)
                assert_int_equal(inet_pton(AF_INET6, host, &v6->sin6_addr), 1);
        else if (inet_pton(AF_INET, host, &v4->sin_addr) != 1)
                assert_int_equal(names_address(loop.agent->names, host, &v4->sin_addr), 0);
        v4->sin_port = htons(port); /* the same place in both */
        tcp_pair(&ours, &theirs);
        conn_start(loop.agent, theirs, (void *)&to);
        return ours;
}

bool loop_readable(int fd) {
        struct pollfd p = {.fd = fd, .events = POLLIN};

        loop_turns(5);
        return poll(&p, 1, 0) == 1;
}

int loop_end_of(int fd) {
        char c;

        loop_until(loop_readable(fd));
        ssize_t n = read(fd, &c, 1);
        return n < 0 ? errno : n == 0 ? 0 : -1;
}

/* --- crewd --- */

bool loop_quiet(void) {
        struct pollfd p = {.fd = loop.gate, .events = POLLIN};

        loop_turns(5);
        return poll(&p, 1, 0) == 0;
}

struct gate_msg loop_expect(enum gate_op op) {
        struct gate_msg m = {0};

        loop_until(recv(loop.gate, &m, sizeof(m), MSG_DONTWAIT) == (ssize_t)sizeof(m));
        if (m.op != op)
                fail_msg("got %u (%s %s %s), expected %u", m.op, m.name, m.text, m.why, op);
        return m;
}

/* --- the resolver --- */

struct resolver_ask loop_asked(void) {
        struct resolver_ask ask = {0};

        loop_until(recv(loop.lookups, &ask, sizeof(ask), MSG_DONTWAIT) == (ssize_t)sizeof(ask));
        return ask;
}

void loop_answer(const struct resolver_ask *ask, const char *const addrs[]) {
        struct resolver_answer a = {.id = ask->id};

        for (; addrs[a.n]; a.n++) {
                const bool six = strchr(addrs[a.n], ':') != NULL;
                a.addrs[a.n].family = six ? AF_INET6 : AF_INET;
                assert_int_equal(inet_pton(six ? AF_INET6 : AF_INET, addrs[a.n], a.addrs[a.n].addr), 1);
        }
        assert_int_equal(send(loop.lookups, &a, sizeof(a), 0), sizeof(a));
        loop_turns(5);
}

/* --- life --- */

void loop_start(int policy) {
        struct crew_err err = CREW_ERR_NULL;
        struct sockaddr_in at;
        int pair[2], fds[GATE_LISTENERS + 1];

        assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
        loop.gate = pair[0];
        fcntl(pair[1], F_SETFL, O_NONBLOCK);
        assert_int_equal(hub_open(&loop.hub, pair[1], &err), 0);
        assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
        loop.lookups = pair[0];
        assert_int_equal(resolver_open(&loop.hub, pair[1], &loop.hub.resolver, &err), 0);
        conn_set_takers(&http_taker, &http_plain_taker);
        /* IPv4 in the place of IPv6 too, which not every machine has.  The jail's name server is the last one's. */
        for (int i = 0; i < GATE_LISTENERS; i++)
                fds[i] = listener(i < 2 ? SOCK_STREAM : SOCK_DGRAM, &at);
        fds[GATE_LISTENERS] = policy;
        loop.dns = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        assert_int_equal(connect(loop.dns, (void *)&at, sizeof(at)), 0);
        assert_int_equal(agent_open(&loop.hub, 7, fds, GATE_LISTENERS + 1, &loop.agent, &err), 0);
}

void loop_stop(void) {
        agent_close(loop.agent);
        loop_turns(3);
        int report_fd = loop.hub.report.fd;
        loop.hub.resolver = resolver_free(loop.hub.resolver);
        hub_fini(&loop.hub);
        close(report_fd);
        close(loop.gate);
        close(loop.lookups);
        close(loop.dns);
}

/* --- the scene of a test --- */

int loop_scene(void **state) {
        server = host_listen(&server_port);
        fcntl(server, F_SETFL, O_NONBLOCK);
        loop_start(loop_policy());
        return 0;
}

int loop_scene_end(void **state) {
        loop_stop();
        close(server);
        return 0;
}
