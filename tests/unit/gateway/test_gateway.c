/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The real crew-gateway over a real network namespace with the real rules: a child makes the namespace (unprivileged),
 * applies common/netrules.h, binds the listeners and hands them out; the test plays crewd.
 */
#include "common/gate.h"
#include "common/netrules.h"
#include "common/sanitized.h"
#include "common/util.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/netlink.h>
#include <netinet/in.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include <cmocka.h>

static const char *gateway_path;

static int apply_section(const struct netrules_section *s, const void *bytes) {
        const struct sockaddr_nl kernel = {.nl_family = AF_NETLINK};
        _cleanup_close_ int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, (int)s->protocol);
        char buf[16384];

        if (fd < 0 || sendto(fd, bytes, s->bytes, 0, (const struct sockaddr *)&kernel, sizeof(kernel)) < 0)
                return -errno;
        for (unsigned got = 0; got < s->acks;) {
                ssize_t n = recv(fd, buf, sizeof(buf), 0);
                if (n < 0)
                        return -errno;
                for (struct nlmsghdr *h = (void *)buf; NLMSG_OK(h, (size_t)n); h = NLMSG_NEXT(h, n), got++) {
                        if (h->nlmsg_type != NLMSG_ERROR)
                                return -EPROTO;
                        int error = ((struct nlmsgerr *)NLMSG_DATA(h))->error;
                        if (error)
                                return error;
                }
        }
        return 0;
}

static int apply_rules(void) {
        for (size_t at = 0; at < crew_netrules_bytes;) {
                struct netrules_section s;
                memcpy(&s, crew_netrules + at, sizeof(s));
                at += sizeof(s);
                int r = apply_section(&s, crew_netrules + at);
                if (r < 0)
                        return r;
                at += s.bytes;
        }
        return 0;
}

static int listener(int family, int type, uint16_t port) {
        struct sockaddr_in v4 = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr = {htonl(INADDR_LOOPBACK)}};
        struct sockaddr_in6 v6 = {.sin6_family = AF_INET6, .sin6_port = htons(port), .sin6_addr = IN6ADDR_LOOPBACK_INIT};
        int fd = socket(family, type, 0);
        int r = family == AF_INET ? bind(fd, (void *)&v4, sizeof(v4)) : bind(fd, (void *)&v6, sizeof(v6));

        return r < 0 || (type == SOCK_STREAM && listen(fd, 128) < 0) ? -1 : fd;
}

/* errno of dialling host:port over TCP and reading one byte; 0 when a byte or an orderly end came. */
static int dial(const char *host, uint16_t port) {
        struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(port)};
        _cleanup_close_ int fd = socket(AF_INET, SOCK_STREAM, 0);
        char c;

        inet_pton(AF_INET, host, &a.sin_addr);
        if (connect(fd, (void *)&a, sizeof(a)) < 0 || read(fd, &c, 1) < 0)
                return errno;
        return 0;
}

/* rcode of asking the resolver at host for x.test, or -errno */
static int ask(const char *host) {
        static const uint8_t q[] = {0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 1, 'x', 4, 't', 'e', 's', 't', 0, 0, 1, 0, 1};
        struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(53)};
        struct timeval limit = {.tv_sec = 5};
        uint8_t answer[512];
        _cleanup_close_ int fd = socket(AF_INET, SOCK_DGRAM, 0);

        inet_pton(AF_INET, host, &a.sin_addr);
        setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
        if (connect(fd, (void *)&a, sizeof(a)) < 0 || send(fd, q, sizeof(q), 0) < 0)
                return -errno;
        ssize_t n = recv(fd, answer, sizeof(answer), 0);
        return n < 12 ? -errno : answer[3] & 15;
}

static int send_udp(const char *host, uint16_t port) {
        struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(port)};
        _cleanup_close_ int fd = socket(AF_INET, SOCK_DGRAM, 0);

        inet_pton(AF_INET, host, &a.sin_addr);
        return sendto(fd, "x", 1, 0, (void *)&a, sizeof(a)) < 0 ? errno : 0;
}

/* Outcomes the child in the namespace reports. */
struct outcomes {
        int rules, dial_addr, dial_again, ask_loopback, ask_remote, udp, own_server;
};

static int own_server(void) {
        _cleanup_close_ int l = listener(AF_INET, SOCK_STREAM, 8080);
        struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(8080), .sin_addr = {htonl(INADDR_LOOPBACK)}};
        _cleanup_close_ int c = socket(AF_INET, SOCK_STREAM, 0);

        return l < 0 || connect(c, (void *)&a, sizeof(a)) < 0 ? errno : 0;
}

static void in_namespace(int sock) {
        struct outcomes o = {0};
        char go;

        if (unshare(CLONE_NEWUSER | CLONE_NEWNET) < 0)
                _exit(77);
        o.rules = apply_rules();
        int fds[] = {listener(AF_INET, SOCK_STREAM, GATE_TCP_PORT), listener(AF_INET6, SOCK_STREAM, GATE_TCP_PORT),
                     listener(AF_INET, SOCK_DGRAM, GATE_UDP_PORT), listener(AF_INET6, SOCK_DGRAM, GATE_UDP_PORT)};
        crew_send_fds(sock, "L", 1, fds, 4);
        if (read(sock, &go, 1) != 1)
                _exit(1);
        o.dial_addr = dial("93.184.216.34", 443);
        o.dial_again = dial("93.184.216.34", 443);
        o.ask_loopback = ask("127.0.0.1");
        o.ask_remote = ask("8.8.8.8");
        o.udp = send_udp("8.8.8.8", 123);
        o.own_server = own_server();
        crew_write_full(sock, &o, sizeof(o));
        _exit(0);
}

static pid_t start_gateway(int *fd) {
        int pair[2];
        char number[16];

        assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, pair), 0);
        pid_t pid = fork();
        if (pid == 0) {
                close(pair[0]);
                snprintf(number, sizeof(number), "%d", pair[1]);
                execl(gateway_path, gateway_path, "--fd", number, (char *)NULL);
                _exit(127);
        }
        close(pair[1]);
        *fd = pair[0];
        return pid;
}

static struct gate_msg next_report(int fd) {
        struct gate_msg m = {0};

        assert_int_equal(recv(fd, &m, sizeof(m), 0), sizeof(m));
        return m;
}

static void dials_are_reset_and_names_refused_and_each_is_reported(void **state) {
        int gate, pair[2], fds[4];
        size_t n_fds = 4;
        char c;
        struct outcomes o;
        pid_t gateway = start_gateway(&gate);

        assert_int_equal(next_report(gate).op, GATE_HELLO);
        assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, pair), 0);
        pid_t jail = fork();
        if (jail == 0)
                in_namespace(pair[1]);
        close(pair[1]);
        assert_int_equal(crew_recv_fds(pair[0], &c, 1, fds, &n_fds, 0), 1);
        assert_int_equal(n_fds, 4);
        struct gate_msg add = {.op = GATE_ADD, .id = 7};
        assert_true(crew_send_fds(gate, &add, sizeof(add), fds, 4) == sizeof(add));
        for (int i = 0; i < 4; i++)
                close(fds[i]);
        assert_int_equal(crew_write_full(pair[0], "g", 1), 0);
        assert_int_equal(read(pair[0], &o, sizeof(o)), sizeof(o));
        assert_int_equal(o.rules, 0);
        assert_int_equal(o.dial_addr, ECONNRESET);
        assert_int_equal(o.dial_again, ECONNRESET);
        assert_int_equal(o.ask_loopback, 5);
        assert_int_equal(o.ask_remote, 5);
        assert_int_equal(o.udp, EPERM);
        assert_int_equal(o.own_server, 0);

        unsigned tcp = 0, dns = 0;
        while (tcp < 2 || dns < 2) {
                struct gate_msg m = next_report(gate);
                assert_int_equal(m.op, GATE_DENIED);
                assert_int_equal(m.id, 7);
                if (m.proto == GATE_TCP) {
                        assert_string_equal(m.name, "93.184.216.34");
                        assert_int_equal(m.port, 443);
                        tcp += m.count;
                } else {
                        assert_string_equal(m.name, "x.test");
                        dns += m.count;
                }
        }
        assert_int_equal(tcp, 2);
        assert_int_equal(dns, 2);
        struct gate_msg gone = {.op = GATE_REMOVE, .id = 7};
        assert_true(crew_send_fds(gate, &gone, sizeof(gone), NULL, 0) == sizeof(gone));
        assert_int_equal(next_report(gate).op, GATE_REMOVED);
        close(gate);
        int status;
        assert_int_equal(waitpid(gateway, &status, 0), gateway);
        assert_int_equal(status, 0);
        assert_int_equal(waitpid(jail, &status, 0), jail);
        close(pair[0]);
}

static void the_gateway_is_confined(void **state) {
        if (CREW_SANITIZED)
                return; /* such a build is not */
        char path[64], *text = NULL;
        int gate, status;
        pid_t gateway = start_gateway(&gate);
        struct crew_err err = CREW_ERR_NULL;

        assert_int_equal(next_report(gate).op, GATE_HELLO);
        snprintf(path, sizeof(path), "/proc/%d/status", gateway);
        assert_int_equal(crew_read_file(path, 65536, &text, NULL, &err), 0);
        assert_non_null(strstr(text, "NoNewPrivs:\t1\n"));
        assert_non_null(strstr(text, "Seccomp:\t2\n"));
        assert_non_null(strstr(text, "CapPrm:\t0000000000000000\n"));
        assert_non_null(strstr(text, "CapEff:\t0000000000000000\n"));
        if (geteuid() == 0)
                assert_non_null(strstr(text, "Uid:\t65534\t65534\t65534\t65534\n"));
        free(text);
        close(gate);
        assert_int_equal(waitpid(gateway, &status, 0), gateway);
}

static void a_message_of_the_wrong_size_ends_the_gateway(void **state) {
        int gate, status;
        pid_t gateway = start_gateway(&gate);

        assert_int_equal(next_report(gate).op, GATE_HELLO);
        assert_int_equal(crew_write_full(gate, "garbage", 7), 0);
        assert_int_equal(waitpid(gateway, &status, 0), gateway);
        close(gate);
}

int main(int argc, char **argv) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(dials_are_reset_and_names_refused_and_each_is_reported),
                cmocka_unit_test(the_gateway_is_confined),
                cmocka_unit_test(a_message_of_the_wrong_size_ends_the_gateway),
        };
        gateway_path = argc > 1 ? argv[1] : "crew-gateway";
        cmocka_set_message_output(CM_OUTPUT_TAP);
        return cmocka_run_group_tests(tests, NULL, NULL);
}
