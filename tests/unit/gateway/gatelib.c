/* SPDX-License-Identifier: Apache-2.0 */
#include "gatelib.h"

#include "common/netrules.h"
#include "common/util.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/netlink.h>
#include <netinet/in.h>
#include <poll.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include <cmocka.h>

#define PATIENCE_MS 60000 /* for what comes at once unless the machine is busy */
#define RETRY_MS 2000

const char *gateway_path;
struct world world;
struct jail jail;
int server;
uint16_t server_port;

/* --- inside --- */

struct command {
        int type; /* SOCK_STREAM, SOCK_DGRAM */
        uint16_t port;
        char host[64];
};

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
        int fd = socket(family, type | SOCK_CLOEXEC, 0);
        int r = family == AF_INET ? bind(fd, (void *)&v4, sizeof(v4)) : bind(fd, (void *)&v6, sizeof(v6));

        return r < 0 || (type == SOCK_STREAM && listen(fd, 128) < 0) ? -1 : fd;
}

static int dial(const struct command *c) {
        struct sockaddr_in v4 = {.sin_family = AF_INET, .sin_port = htons(c->port)};
        struct sockaddr_in6 v6 = {.sin6_family = AF_INET6, .sin6_port = htons(c->port)};
        bool six = strchr(c->host, ':') != NULL;
        int fd = socket(six ? AF_INET6 : AF_INET, c->type | SOCK_CLOEXEC, 0);

        if (six)
                inet_pton(AF_INET6, c->host, &v6.sin6_addr);
        else
                inet_pton(AF_INET, c->host, &v4.sin_addr);
        if (fd >= 0 && connect(fd, six ? (void *)&v6 : (void *)&v4, six ? sizeof(v6) : sizeof(v4)) < 0) {
                int r = -errno;
                close(fd);
                return r;
        }
        return fd < 0 ? -errno : fd;
}

static _Noreturn void inside(int sock) {
        struct command c;

        prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (dup2(sock, 3) < 0 || close_range(4, ~0u, 0) < 0) /* the test's own ends among them */
                _exit(1);
        sock = 3;
        if (unshare(CLONE_NEWUSER | CLONE_NEWNET) < 0)
                _exit(77);
        int r = apply_rules();
        int fds[] = {listener(AF_INET, SOCK_STREAM, GATE_TCP_PORT), listener(AF_INET6, SOCK_STREAM, GATE_TCP_PORT),
                     listener(AF_INET, SOCK_DGRAM, GATE_UDP_PORT), listener(AF_INET6, SOCK_DGRAM, GATE_UDP_PORT)};
        crew_send_fds(sock, &r, sizeof(r), fds, r == 0 ? 4 : 0);
        for (int i = 0; i < 4; i++)
                close(fds[i]);
        while (recv(sock, &c, sizeof(c), 0) == sizeof(c)) {
                r = dial(&c);
                crew_send_fds(sock, &r, sizeof(r), &r, r >= 0 ? 1 : 0);
                if (r >= 0)
                        close(r);
        }
        _exit(0);
}

/* --- outside --- */

int jail_start(struct jail *j) {
        int pair[2], r;
        size_t n_fds = GATE_LISTENERS;

        assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
        j->pid = fork();
        if (j->pid == 0)
                inside(pair[1]);
        close(pair[1]);
        j->sock = pair[0];
        if (crew_recv_fds(j->sock, &r, sizeof(r), j->listeners, &n_fds, 0) != sizeof(r))
                return 77;
        assert_int_equal(r, 0);
        assert_int_equal(n_fds, GATE_LISTENERS);
        return 0;
}

void jail_stop(struct jail *j) {
        close(j->sock);
        assert_int_equal(waitpid(j->pid, NULL, 0), j->pid);
}

void world_start(struct world *w) {
        world_start_with(w, 0);
}

void world_start_with(struct world *w, unsigned max_files) {
        const struct rlimit files = {max_files, max_files};
        int pair[2];
        char number[16];

        assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, pair), 0);
        w->gateway = fork();
        if (w->gateway == 0) {
                close(pair[0]);
                if (max_files)
                        setrlimit(RLIMIT_NOFILE, &files);
                snprintf(number, sizeof(number), "%d", pair[1]);
                execl(gateway_path, gateway_path, "--fd", number, (char *)NULL);
                _exit(127);
        }
        close(pair[1]);
        w->gate = pair[0];
        fcntl(w->gate, F_SETFD, FD_CLOEXEC);
        world_expect(w, GATE_HELLO);
}

int world_stop(struct world *w) {
        int status;

        close(w->gate);
        assert_int_equal(waitpid(w->gateway, &status, 0), w->gateway);
        return status;
}

void world_send(struct world *w, struct gate_msg m, const int *fds, size_t n_fds) {
        assert_true(crew_send_fds(w->gate, &m, sizeof(m), fds, n_fds) == sizeof(m));
}

void world_add(struct world *w, struct jail *j, uint32_t id, int policy) {
        int fds[GATE_LISTENERS + 1];

        memcpy(fds, j->listeners, sizeof(j->listeners));
        fds[GATE_LISTENERS] = policy;
        world_send(w, (struct gate_msg){.op = GATE_ADD, .id = id}, fds, policy < 0 ? 4 : 5);
        crew_close(&fds[GATE_LISTENERS]);
}

static int wait_for(int fd, short events, int ms) {
        struct pollfd p = {.fd = fd, .events = events};

        return poll(&p, 1, ms);
}

struct gate_msg world_next(struct world *w) {
        struct gate_msg m = {0};

        assert_int_equal(wait_for(w->gate, POLLIN, PATIENCE_MS), 1);
        assert_int_equal(recv(w->gate, &m, sizeof(m), 0), sizeof(m));
        return m;
}

int world_quiet(struct world *w, int ms) {
        return wait_for(w->gate, POLLIN, ms) == 0;
}

struct gate_msg world_expect(struct world *w, enum gate_op op) {
        struct gate_msg m = world_next(w);

        if (m.op != op)
                print_error("got %u (%s %s), expected %u\n", m.op, m.name, m.text, op);
        assert_int_equal(m.op, op);
        return m;
}

static int command(struct jail *j, int type, const char *host, uint16_t port) {
        struct command c = {.type = type, .port = port};
        int r = -1, fd = -1;
        size_t n = 1;

        snprintf(c.host, sizeof(c.host), "%s", host);
        assert_int_equal(send(j->sock, &c, sizeof(c), 0), sizeof(c));
        assert_int_equal(crew_recv_fds(j->sock, &r, sizeof(r), &fd, &n, 0), sizeof(r));
        return r < 0 ? r : fd;
}

int jail_dial(struct jail *j, const char *host, uint16_t port) {
        return command(j, SOCK_STREAM, host, port);
}

int jail_udp(struct jail *j, const char *host, uint16_t port) {
        return command(j, SOCK_DGRAM, host, port);
}

int jail_ask(struct jail *j, const char *name, unsigned type, char addr[16]) {
        uint8_t q[512] = {0x12, 0x34, 1, 0, 0, 1}, a[512];
        size_t n = 12;
        _cleanup_close_ int fd = jail_udp(j, "127.0.0.1", 53);

        for (const char *p = name, *end; *p; p = *end ? end + 1 : end) {
                end = strchrnul(p, '.');
                q[n++] = (uint8_t)(end - p);
                memcpy(q + n, p, (size_t)(end - p));
                n += (size_t)(end - p);
        }
        n++;
        q[n + 1] = (uint8_t)type;
        q[n + 3] = 1;
        n += 4;
        /* As resolvers do: a datagram that finds the queue full is lost. */
        int tries = 0;
        do {
                if (tries++ == PATIENCE_MS / RETRY_MS)
                        return -ETIMEDOUT;
                if (send(fd, q, n, 0) < 0)
                        return -errno;
        } while (wait_for(fd, POLLIN, RETRY_MS) != 1);
        ssize_t got = recv(fd, a, sizeof(a), 0);
        assert_true(got >= 12);
        assert_memory_equal(a, q, 2);
        addr[0] = '\0';
        if (a[7] == 1) {
                assert_int_equal(got, n + 16);
                inet_ntop(AF_INET, a + got - 4, addr, 16);
        }
        return a[3] & 15;
}

int jail_dial_name(struct jail *j, const char *name, uint16_t port) {
        char addr[16];

        assert_int_equal(jail_ask(j, name, 1, addr), 0);
        return jail_dial(j, addr, port);
}

int host_listen(uint16_t *port) {
        struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
        socklen_t n = sizeof(a);
        int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

        assert_int_equal(bind(fd, (void *)&a, sizeof(a)), 0);
        assert_int_equal(listen(fd, 1024), 0);
        assert_int_equal(getsockname(fd, (void *)&a, &n), 0);
        *port = ntohs(a.sin_port);
        return fd;
}

int host_accept(int listener_fd) {
        if (wait_for(listener_fd, POLLIN, PATIENCE_MS) != 1)
                return -ETIMEDOUT;
        return accept4(listener_fd, NULL, NULL, SOCK_CLOEXEC);
}

ssize_t read_n(int fd, void *buf, size_t n) {
        size_t got = 0;

        while (got < n) {
                if (wait_for(fd, POLLIN, PATIENCE_MS) != 1)
                        return -ETIMEDOUT;
                ssize_t k = read(fd, (char *)buf + got, n - got);
                if (k < 0)
                        return -errno;
                if (k == 0)
                        break;
                got += (size_t)k;
        }
        return (ssize_t)got;
}

int read_end(int fd) {
        char c;

        if (wait_for(fd, POLLIN, PATIENCE_MS) != 1)
                return -2;
        ssize_t n = read(fd, &c, 1);
        return n < 0 ? errno : n == 0 ? 0 : -1;
}

struct netpolicy_spec_rule rule_to(const char *name, uint16_t port, uint16_t to_port) {
        struct netpolicy_spec_rule r = {.host = name, .to_host = "127.0.0.1", .where = "role.yaml:7"};

        r.fixed.kind = strncmp(name, "*.", 2) == 0 ? NETPOLICY_WILDCARD : NETPOLICY_NAME;
        if (r.fixed.kind == NETPOLICY_WILDCARD)
                r.host += 2;
        r.fixed.port = port;
        r.fixed.flags = NETPOLICY_TO;
        r.fixed.to_kind = NETPOLICY_ADDR4;
        r.fixed.to_port = to_port;
        memcpy(r.fixed.to_addr, (uint8_t[]){127, 0, 0, 1}, 4);
        return r;
}

struct netpolicy_spec spec_of(const struct netpolicy_spec_rule *rules, uint32_t n) {
        struct netpolicy_spec s = {.where = "role.yaml:5", .rules = rules, .n_rules = n};

        s.fixed.generation = 1;
        s.fixed.ask_s = 60;
        s.fixed.max_conns = 128;
        s.fixed.max_half_open = 32;
        s.fixed.max_dns_per_s = 1000;
        return s;
}

int policy_with(struct netpolicy_spec *spec) {
        struct crew_err err = CREW_ERR_NULL;
        int fd = netpolicy_build(spec, &err);

        if (fd < 0)
                print_error("%s\n", err.msg);
        assert_true(fd >= 0);
        return fd;
}

int policy_of(const struct netpolicy_spec_rule *rules, uint32_t n, uint32_t flags, uint32_t generation) {
        struct netpolicy_spec s = spec_of(rules, n);

        s.fixed.flags = flags;
        s.fixed.generation = generation;
        return policy_with(&s);
}

static void put16(uint8_t *p, size_t v) {
        p[0] = (uint8_t)(v >> 8);
        p[1] = (uint8_t)v;
}

size_t client_hello(const char *sni, uint8_t out[1024]) {
        size_t name = sni ? strlen(sni) : 0, ext = sni ? 9 + name : 0, body = 2 + 32 + 1 + 4 + 2 + 2 + ext, at = 0;

        memset(out, 0, 1024);
        memcpy(out, "\x16\x03\x01", 3);
        put16(out + 3, 4 + body);
        out[5] = 1;
        put16(out + 7, body);
        at = 9;
        memcpy(out + at, "\x03\x03", 2);
        at += 2 + 32 + 1;
        memcpy(out + at, "\x00\x02\x13\x01\x01\x00", 6);
        at += 6;
        put16(out + at, ext);
        at += 2;
        if (sni) {
                put16(out + at + 2, name + 5);
                put16(out + at + 4, name + 3);
                put16(out + at + 7, name);
                memcpy(out + at + 9, sni, name);
                at += 9 + name;
        }
        return at;
}

void pair_up(int *in, int *out) {
        *in = jail_dial_name(&jail, "api.test", 443);
        *out = host_accept(server);
        if (*in < 0 || *out < 0)
                print_error("dialled: %d, accepted: %d\n", *in, *out);
        assert_true(*in >= 0 && *out >= 0);
}

void say(int fd, const void *bytes, size_t n) {
        assert_int_equal(write(fd, bytes, n), (ssize_t)n);
}

void expect_bytes(int fd, const char *text) {
        char buf[1024];

        assert_in_range(strlen(text), 0, sizeof(buf));
        assert_int_equal(read_n(fd, buf, strlen(text)), strlen(text));
        assert_memory_equal(buf, text, strlen(text));
}

void expect_refused(int fd) {
        if (fd == -ECONNRESET)
                return;
        assert_true(fd >= 0);
        assert_int_equal(read_end(fd), ECONNRESET);
        close(fd);
}

void expect_denied(const char *name, uint16_t p, const char *text) {
        struct gate_msg m = world_expect(&world, GATE_DENIED);

        assert_string_equal(m.name, name);
        assert_int_equal(m.port, p);
        assert_string_equal(m.text, text);
}

static int start(void **state) {
        world_start(&world);
        if (jail_start(&jail) == 77)
                exit(77);
        server = host_listen(&server_port);
        return 0;
}

static int stop(void **state) {
        close(server);
        for (int i = 0; i < GATE_LISTENERS; i++)
                crew_close(&jail.listeners[i]);
        jail_stop(&jail);
        return world_stop(&world);
}

void add(uint32_t flags) {
        const struct netpolicy_spec_rule rules[] = {rule_to("api.test", 443, server_port),
                                                    rule_to("*.wild.test", 443, server_port)};

        world_add(&world, &jail, 7, policy_of(rules, 2, flags, 1));
}

int scene_main(int argc, char **argv, const struct CMUnitTest *tests, size_t n) {
        struct CMUnitTest scenes[64];

        assert_true(n <= 64);
        for (size_t i = 0; i < n; i++) {
                scenes[i] = tests[i];
                scenes[i].setup_func = start;
                scenes[i].teardown_func = stop;
        }
        gateway_path = argc > 1 ? argv[1] : "crew-gateway";
        if (argc > 2)
                cmocka_set_test_filter(argv[2]);
        signal(SIGPIPE, SIG_IGN);
        alarm(120);
        cmocka_set_message_output(CM_OUTPUT_TAP);
        return _cmocka_run_group_tests(argv[0], scenes, n, NULL, NULL);
}
