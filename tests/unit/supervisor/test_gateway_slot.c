/* SPDX-License-Identifier: Apache-2.0 */
/* Real listeners on loopback: what crewd keeps while there is no gateway. */
#include "supervisor/gateway_slot.h"

#include "common/netpolicy.h"
#include "common/util.h"
#include "test.h"

#include <errno.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>

static int listen_at(struct sockaddr_in *at) {
        socklen_t n = sizeof(*at);
        int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

        assert_int_equal(bind(fd, (struct sockaddr *)at, sizeof(*at)), 0);
        assert_int_equal(listen(fd, 8), 0);
        assert_int_equal(getsockname(fd, (struct sockaddr *)at, &n), 0);
        return fd;
}

/* On a port that was asked for, as in a jail: the kernel keeps only such a one across a shutdown. */
static void make_listeners(int fds[GATE_LISTENERS], struct sockaddr_in *at) {
        *at = (struct sockaddr_in){.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
        close(listen_at(at));
        fds[0] = listen_at(at);
        fds[1] = dup(fds[0]); /* as in a jail without IPv6 */
        fds[2] = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
        fds[3] = dup(fds[2]);
}

static int dial(const struct sockaddr_in *to) {
        _cleanup_close_ int s = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

        return connect(s, (const struct sockaddr *)to, sizeof(*to)) < 0 ? -errno : crew_steal_fd(&s);
}

static void a_shut_listener_refuses_resets_who_waits_and_listens_again_on_its_port(void **state) {
        struct gateway_slot s = GATEWAY_SLOT_NULL;
        int fds[GATE_LISTENERS];
        struct sockaddr_in at;
        char byte;

        (void)state;
        make_listeners(fds, &at);
        assert_int_equal(gateway_slot_take(&s, fds), 0);
        for (size_t i = 0; i < GATE_LISTENERS; i++)
                close(fds[i]);
        /* One that was served, and whose server end is in TIME_WAIT. */
        int served = dial(&at), server = accept(s.fds[0], NULL, NULL);
        assert_true(served >= 0 && server >= 0);
        close(server);
        assert_int_equal(recv(served, &byte, 1, 0), 0);
        close(served);
        int waiting = dial(&at);
        assert_true(waiting >= 0);
        gateway_slot_shut(&s);
        assert_int_equal(recv(waiting, &byte, 1, 0), -1);
        assert_int_equal(errno, ECONNRESET);
        close(waiting);
        assert_int_equal(dial(&at), -ECONNREFUSED);
        assert_int_equal(gateway_slot_listen(&s), 0);
        int again = dial(&at);
        assert_true(again >= 0);
        int taken = accept(s.fds[0], NULL, NULL);
        assert_true(taken >= 0);
        close(taken);
        close(again);
        gateway_slot_fini(&s);
        assert_int_equal(dial(&at), -ECONNREFUSED);
}

/* What a resolver sees: an answer of the server, or that nobody is there. */
static int ask(const struct sockaddr_in *to, int server) {
        _cleanup_close_ int s = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
        struct sockaddr_in from;
        socklen_t n = sizeof(from);
        char byte;

        assert_int_equal(connect(s, (const struct sockaddr *)to, sizeof(*to)), 0);
        if (send(s, "q", 1, 0) < 0)
                return -errno;
        if (recvfrom(server, &byte, 1, MSG_DONTWAIT, (struct sockaddr *)&from, &n) == 1)
                sendto(server, "a", 1, 0, (struct sockaddr *)&from, n);
        return recv(s, &byte, 1, 0) < 0 ? -errno : byte;
}

static void names_are_refused_while_it_is_shut_and_answered_again_later(void **state) {
        struct sockaddr_in at, name = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
        struct gateway_slot s = GATEWAY_SLOT_NULL;
        socklen_t n = sizeof(name);
        int fds[GATE_LISTENERS];

        (void)state;
        make_listeners(fds, &at);
        close(fds[2]);
        close(fds[3]);
        int probe = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
        assert_int_equal(bind(probe, (struct sockaddr *)&name, sizeof(name)), 0);
        assert_int_equal(getsockname(probe, (struct sockaddr *)&name, &n), 0);
        close(probe);
        fds[2] = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
        assert_int_equal(bind(fds[2], (struct sockaddr *)&name, sizeof(name)), 0);
        fds[3] = dup(fds[2]);
        assert_int_equal(gateway_slot_take(&s, fds), 0);
        for (size_t i = 0; i < GATE_LISTENERS; i++)
                close(fds[i]);
        assert_int_equal(ask(&name, s.fds[2]), 'a');
        gateway_slot_shut(&s);
        assert_int_equal(ask(&name, s.fds[2]), -ECONNREFUSED);
        assert_int_equal(gateway_slot_listen(&s), 0);
        assert_int_equal(ask(&name, s.fds[2]), 'a');
        gateway_slot_fini(&s);
}

static void listeners_are_taken_all_or_none(void **state) {
        struct gateway_slot s = GATEWAY_SLOT_NULL;
        int fds[GATE_LISTENERS];
        struct sockaddr_in at;

        (void)state;
        make_listeners(fds, &at);
        int last = fds[3];
        fds[3] = 1 << 19;
        assert_int_equal(gateway_slot_take(&s, fds), -EBADF);
        assert_false(s.listed);
        for (size_t i = 0; i < GATE_LISTENERS; i++)
                assert_int_equal(s.fds[i], -1);
        fds[3] = last;
        for (size_t i = 0; i < GATE_LISTENERS; i++)
                close(fds[i]);
        gateway_slot_fini(&s);
}

static int make_policy(uint32_t generation) {
        const struct netpolicy_spec spec = {
                .fixed = {.generation = generation, .max_conns = 1, .max_half_open = 1, .max_dns_per_s = 1},
                .where = "x:1"};
        struct crew_err err = CREW_ERR_NULL;
        int fd = netpolicy_build(&spec, &err);

        if (fd < 0)
                print_message("%s\n", err.msg);
        assert_true(fd >= 0);
        return fd;
}

static void a_pending_policy_takes_the_place_of_the_former_one_with_its_digest(void **state) {
        struct gateway_slot s = GATEWAY_SLOT_NULL;
        uint8_t second[CREW_SHA256_BYTES];

        (void)state;
        s.policy = make_policy(1);
        assert_int_equal(gateway_slot_digest(s.policy, s.sha256, NULL), 0);
        s.pending.policy = make_policy(2);
        assert_int_equal(gateway_slot_digest(s.pending.policy, s.pending.sha256, NULL), 0);
        assert_memory_not_equal(s.sha256, s.pending.sha256, sizeof(s.sha256));
        memcpy(second, s.pending.sha256, sizeof(second));
        gateway_slot_settle(&s);
        assert_int_equal(s.pending.policy, -1);
        assert_memory_equal(s.sha256, second, sizeof(second));
        gateway_slot_fini(&s);
}

static void what_is_no_policy_has_no_digest(void **state) {
        _cleanup_close_ int fd = crew_sealed_memfd("x", "garbage", 7, NULL);
        uint8_t sha256[CREW_SHA256_BYTES];

        (void)state;
        assert_int_equal(gateway_slot_digest(fd, sha256, NULL), -EPROTO);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(a_shut_listener_refuses_resets_who_waits_and_listens_again_on_its_port),
                cmocka_unit_test(names_are_refused_while_it_is_shut_and_answered_again_later),
                cmocka_unit_test(listeners_are_taken_all_or_none),
                cmocka_unit_test(a_pending_policy_takes_the_place_of_the_former_one_with_its_digest),
                cmocka_unit_test(what_is_no_policy_has_no_digest),
        };

        cmocka_set_message_output(CM_OUTPUT_TAP);
        return cmocka_run_group_tests(tests, NULL, NULL);
}
