/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Accepts what a jail dials, reads the destination the kernel kept (SO_ORIGINAL_DST), reports it and resets the
 * connection at once, so that an agent sees a refusal and not a time-out.  DNS questions get REFUSED.
 */
#include "capture.h"

#include "dns.h"

#include "common/util.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/netfilter_ipv4.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>

#define BUDGET 64 /* connections or datagrams a wake-up, so that one jail cannot starve the others */
#ifndef IP6T_SO_ORIGINAL_DST
#define IP6T_SO_ORIGINAL_DST 80 /* linux/netfilter_ipv6/ip6_tables.h, which does not compile beside netinet/in.h */
#endif

struct capture_handle {
        struct capture *capture;
        uv_poll_t poll;
        int fd;
        bool open;
};

struct capture {
        uint32_t id;
        struct report *report;
        struct capture_handle handles[CAPTURE_SOCKET_N];
        unsigned n_open;
        bool closing;
};

static void on_handle_closed(uv_handle_t *h) {
        struct capture_handle *x = h->data;
        struct capture *c = x->capture;

        crew_close(&x->fd);
        if (--c->n_open == 0)
                free(c);
}

void capture_close(struct capture *c) {
        if (!c || c->closing)
                return;
        c->closing = true;
        for (size_t i = 0; i < CAPTURE_SOCKET_N; i++) {
                if (c->handles[i].open)
                        uv_close((uv_handle_t *)&c->handles[i].poll, on_handle_closed);
        }
}

uint32_t capture_id(const struct capture *c) {
        return c->id;
}

/* Where the peer wanted to go; the socket's own address when the kernel has no translation (a dial to 127.0.0.1:1). */
static void original_destination(int fd, char name[GATE_NAME_MAX], uint32_t *port) {
        struct sockaddr_in v4;
        struct sockaddr_in6 v6;
        socklen_t n = sizeof(v4);

        snprintf(name, GATE_NAME_MAX, "unknown");
        *port = 0;
        if (getsockopt(fd, SOL_IP, SO_ORIGINAL_DST, &v4, &n) == 0 && n == sizeof(v4)) {
                inet_ntop(AF_INET, &v4.sin_addr, name, GATE_NAME_MAX);
                *port = ntohs(v4.sin_port);
                return;
        }
        n = sizeof(v6);
        if (getsockopt(fd, SOL_IPV6, IP6T_SO_ORIGINAL_DST, &v6, &n) == 0 && n == sizeof(v6)) {
                inet_ntop(AF_INET6, &v6.sin6_addr, name, GATE_NAME_MAX);
                *port = ntohs(v6.sin6_port);
                return;
        }
        n = sizeof(v6);
        if (getsockname(fd, (struct sockaddr *)&v6, &n) < 0)
                return;
        if (v6.sin6_family == AF_INET6) {
                inet_ntop(AF_INET6, &v6.sin6_addr, name, GATE_NAME_MAX);
                *port = ntohs(v6.sin6_port);
        } else if (v6.sin6_family == AF_INET) {
                memcpy(&v4, &v6, sizeof(v4));
                inet_ntop(AF_INET, &v4.sin_addr, name, GATE_NAME_MAX);
                *port = ntohs(v4.sin_port);
        }
}

static void reset(int fd) {
        const struct linger now = {.l_onoff = 1, .l_linger = 0};

        setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof(now));
        close(fd);
}

static void on_tcp(uv_poll_t *p, int status, int events) {
        struct capture_handle *x = p->data;
        struct capture *c = x->capture;

        if (c->closing || status < 0)
                return;
        for (int i = 0; i < BUDGET; i++) {
                char name[GATE_NAME_MAX];
                uint32_t port;
                int fd = accept4(x->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
                if (fd < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
                        return;
                if (fd < 0)
                        continue; /* ECONNABORTED and the like: the next one */
                original_destination(fd, name, &port);
                reset(fd);
                if (report_denied(c->report, c->id, GATE_TCP, port, name) < 0)
                        uv_stop(p->loop);
        }
}

static void answer_dns(struct capture_handle *x, const uint8_t *msg, size_t n, const struct sockaddr *peer, socklen_t len) {
        struct capture *c = x->capture;
        uint8_t out[DNS_MESSAGE_MAX];
        struct dns_question q;
        enum dns_parse what = dns_parse_query(msg, n, &q);

        if (what == DNS_IGNORE)
                return;
        size_t k = dns_answer_error(msg, &q, what == DNS_OK ? DNS_RCODE_REFUSED : DNS_RCODE_FORMERR, out);
        /* A full socket buffer drops the answer, as any resolver would; the report does not depend on it. */
        sendto(x->fd, out, k, MSG_DONTWAIT | MSG_NOSIGNAL, peer, len);
        if (report_denied(c->report, c->id, GATE_DNS, 0, what == DNS_OK ? q.name : "(malformed query)") < 0)
                uv_stop(x->poll.loop);
}

static void on_udp(uv_poll_t *p, int status, int events) {
        struct capture_handle *x = p->data;

        if (x->capture->closing || status < 0)
                return;
        for (int i = 0; i < BUDGET; i++) {
                uint8_t msg[DNS_MESSAGE_MAX + 1]; /* one more shows that it is too long */
                struct sockaddr_storage peer;
                socklen_t len = sizeof(peer);
                ssize_t n = recvfrom(x->fd, msg, sizeof(msg), MSG_DONTWAIT, (struct sockaddr *)&peer, &len);
                if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
                        return;
                if (n >= 0)
                        answer_dns(x, msg, (size_t)n, (struct sockaddr *)&peer, len);
        }
}

static int open_handle(uv_loop_t *loop, struct capture *c, size_t i, struct crew_err *err) {
        struct capture_handle *x = &c->handles[i];
        int r;

        if (fcntl(x->fd, F_SETFL, O_NONBLOCK) < 0)
                return crew_fail_errno(err, "cannot make listener %zu non-blocking", i);
        if ((r = uv_poll_init(loop, &x->poll, x->fd)) < 0)
                return crew_fail(err, -r, "cannot watch listener %zu: %s", i, uv_strerror(r));
        x->poll.data = x;
        x->open = true;
        c->n_open++;
        if ((r = uv_poll_start(&x->poll, UV_READABLE, i <= CAPTURE_TCP6 ? on_tcp : on_udp)) < 0)
                return crew_fail(err, -r, "cannot watch listener %zu: %s", i, uv_strerror(r));
        return 0;
}

int capture_open(uv_loop_t *loop, struct report *report, uint32_t id, const int fds[CAPTURE_SOCKET_N], struct capture **out,
                 struct crew_err *err) {
        struct capture *c = calloc(1, sizeof(*c));
        int r = 0;

        for (size_t i = 0; c && i < CAPTURE_SOCKET_N; i++)
                c->handles[i] = (struct capture_handle){.capture = c, .fd = fds[i]};
        if (!c) {
                for (size_t i = 0; i < CAPTURE_SOCKET_N; i++)
                        close(fds[i]);
                return crew_fail(err, ENOMEM, "out of memory for the listeners of instance %u", id);
        }
        c->id = id;
        c->report = report;
        for (size_t i = 0; i < CAPTURE_SOCKET_N && r == 0; i++)
                r = open_handle(loop, c, i, err);
        if (r == 0) {
                *out = c;
                return 0;
        }
        for (size_t i = 0; i < CAPTURE_SOCKET_N; i++) {
                if (!c->handles[i].open)
                        crew_close(&c->handles[i].fd);
        }
        if (c->n_open)
                capture_close(c);
        else
                free(c);
        return r;
}
