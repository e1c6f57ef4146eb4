/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The network of an agent that has endpoints: what it reaches beside them.  A server answers "reached ..." to whoever
 * gets through to it, so an attack has won only when that arrives: a connection that the jail's own kernel completes is
 * not yet one.
 */
#include "attack.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#ifndef IPPROTO_MPTCP
#define IPPROTO_MPTCP 262
#endif
#define PATIENCE_S 20

struct destination {
        struct sockaddr_storage addr;
        socklen_t n;
};

/* 0, or an errno.  Addresses in any notation the C library knows, and names. */
static int find(const char *host, const char *port, int type, struct destination *to) {
        struct addrinfo *found, hints = {.ai_socktype = type, .ai_flags = AI_NUMERICSERV};

        if (getaddrinfo(host, port, &hints, &found) != 0)
                return EHOSTUNREACH;
        memcpy(&to->addr, found->ai_addr, found->ai_addrlen);
        to->n = found->ai_addrlen;
        freeaddrinfo(found);
        return 0;
}

static int make(const struct destination *to, int type, int protocol) {
        const struct timeval limit = {.tv_sec = PATIENCE_S};
        int fd = socket(to->addr.ss_family, type, protocol);

        if (fd >= 0) {
                setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit));
                setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
        }
        return fd;
}

/* Whether the other side really is one of ours. */
static int hear(int fd) {
        char buf[128];
        ssize_t n = recv(fd, buf, sizeof(buf) - 1, 0);

        if (n < 0)
                return denied(errno == EAGAIN ? ETIMEDOUT : errno);
        buf[n] = '\0';
        buf[strcspn(buf, "\n")] = '\0';
        return strncmp(buf, "reached", 7) == 0 ? won("%s", buf) : denied(n == 0 ? ECONNABORTED : EPROTO);
}

static int reach_by(char **a, int protocol) {
        struct destination to;
        int e = find(a[0], a[1], SOCK_STREAM, &to);

        if (e)
                return denied(e);
        int fd = make(&to, SOCK_STREAM, protocol);
        if (fd < 0 || connect(fd, (struct sockaddr *)&to.addr, to.n) < 0)
                return denied(errno);
        return hear(fd);
}

/* HOST PORT */
static int reach(char **a) {
        return reach_by(a, 0);
}

static int reach_mptcp(char **a) {
        return reach_by(a, IPPROTO_MPTCP);
}

static int reach_sctp(char **a) {
        return reach_by(a, IPPROTO_SCTP);
}

/* Data in the very first packet. */
static int reach_fast_open(char **a) {
        struct destination to;
        int e = find(a[0], a[1], SOCK_STREAM, &to);

        if (e)
                return denied(e);
        int fd = make(&to, SOCK_STREAM, 0);
        if (fd < 0 || sendto(fd, "x", 1, MSG_FASTOPEN | MSG_NOSIGNAL, (struct sockaddr *)&to.addr, to.n) < 0)
                return denied(errno);
        return hear(fd);
}

static int reach_udp(char **a) {
        struct destination to;
        int e = find(a[0], a[1], SOCK_DGRAM, &to);

        if (e)
                return denied(e);
        int fd = make(&to, SOCK_DGRAM, 0);
        /* Not connected: the error of a refusal must come from the call itself. */
        if (fd < 0 || sendto(fd, "x", 1, 0, (struct sockaddr *)&to.addr, to.n) < 0)
                return denied(errno);
        return hear(fd);
}

/* --- DNS --- */

static size_t put_name(uint8_t *out, const char *name) {
        size_t n = 0;

        while (*name) {
                size_t len = strcspn(name, ".");
                if (len > 63)
                        len = 63;
                out[n++] = (uint8_t)len;
                memcpy(out + n, name, len);
                n += len;
                name += len + (name[len] == '.');
        }
        out[n++] = 0;
        return n;
}

static size_t put_query(uint8_t out[300], const char *name, unsigned type) {
        static const uint8_t head[12] = {0x13, 0x37, 0x01, 0x00, 0, 1, 0, 0, 0, 0, 0, 0};
        size_t n = sizeof(head);

        memcpy(out, head, n);
        n += put_name(out + n, name);
        out[n++] = (uint8_t)(type >> 8);
        out[n++] = (uint8_t)type;
        out[n++] = 0;
        out[n++] = 1;
        return n;
}

/* The one record is an address of the jail's own: nobody outside was asked. */
static bool is_made_up(const uint8_t *m, ssize_t n) {
        const uint8_t *a = m + n - 4;

        return n >= 16 && m[6] == 0 && m[7] == 1 && a[0] == 198 && (a[1] & 0xfe) == 18;
}

static int judge_answer(const uint8_t *m, ssize_t n) {
        if (n < 0)
                return denied(errno == EAGAIN ? ETIMEDOUT : errno);
        if (n < 12)
                return denied(ECONNRESET);
        switch (m[3] & 0xf) {
        case 0:
                if (is_made_up(m, n))
                        return denied(ENONET);
                return m[6] || m[7] ? won("%d answers", m[6] << 8 | m[7]) : denied(ENODATA);
        case 3:
                return denied(ENOENT);
        default:
                return denied(EPERM); /* REFUSED and the like */
        }
}

/* SERVER NAME TYPE: a question, asked of the port a resolver asks */
static int dns_udp(char **a) {
        struct destination to;
        uint8_t m[600];
        int e = find(a[0], "53", SOCK_DGRAM, &to);

        if (e)
                return denied(e);
        int fd = make(&to, SOCK_DGRAM, 0);
        if (fd < 0 || connect(fd, (struct sockaddr *)&to.addr, to.n) < 0)
                return denied(errno);
        size_t n = put_query(m, a[1], (unsigned)atoi(a[2]));
        if (send(fd, m, n, 0) < 0)
                return denied(errno);
        return judge_answer(m, recv(fd, m, sizeof(m), 0));
}

static int dns_tcp(char **a) {
        struct destination to;
        uint8_t m[600];
        int e = find(a[0], "53", SOCK_STREAM, &to);

        if (e)
                return denied(e);
        int fd = make(&to, SOCK_STREAM, 0);
        if (fd < 0 || connect(fd, (struct sockaddr *)&to.addr, to.n) < 0)
                return denied(errno);
        size_t n = put_query(m + 2, a[1], (unsigned)atoi(a[2]));
        m[0] = (uint8_t)(n >> 8);
        m[1] = (uint8_t)n;
        if (send(fd, m, n + 2, MSG_NOSIGNAL) < 0)
                return denied(errno);
        ssize_t got = recv(fd, m, sizeof(m), 0);
        return judge_answer(m + 2, got > 2 ? got - 2 : got);
}

/* --- in the place of the listeners --- */

static int bind_by(char **a, int type) {
        struct destination to;
        const int on = 1;
        int e = find(a[0], a[1], type, &to);

        if (e)
                return denied(e);
        int fd = make(&to, type, 0);
        if (fd < 0)
                return denied(errno);
        setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
        setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof(on));
        return judge(bind(fd, (struct sockaddr *)&to.addr, to.n));
}

/* ADDRESS PORT */
static int bind_tcp(char **a) {
        return bind_by(a, SOCK_STREAM);
}

static int bind_udp(char **a) {
        return bind_by(a, SOCK_DGRAM);
}

/* HOST PORT: answers one connection as the servers outside do; the control of another agent's listener */
static int serve(char **a) {
        struct destination to;
        const int on = 1;
        int e = find(a[0], a[1], SOCK_STREAM, &to);

        if (e)
                return denied(e);
        int fd = socket(to.addr.ss_family, SOCK_STREAM, 0);
        setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
        if (fd < 0 || bind(fd, (struct sockaddr *)&to.addr, to.n) < 0 || listen(fd, 8) < 0)
                return broken("%s:%s", a[0], a[1]);
        puts("listening");
        int s = accept(fd, NULL, NULL);
        return judge(write(s, "reached another agent\n", 22));
}

/* --- exhaustion --- */

/* Connections begun and neither refused nor reset after a while. */
static size_t still_open(struct pollfd *p, size_t n) {
        size_t open = 0;

        poll(p, (nfds_t)n, 0);
        for (size_t i = 0; i < n; i++)
                open += p[i].fd >= 0 && !(p[i].revents & (POLLERR | POLLHUP));
        return open;
}

/* HOST PORT N SECONDS: won when all N are held at once by somebody, until then or the end of standard input */
static int half_open(char **a) {
        size_t n = (size_t)atoi(a[2]), begun = 0;
        struct pollfd *p = calloc(n, sizeof(*p));
        struct destination to;
        int e = find(a[0], a[1], SOCK_STREAM, &to), last = 0;

        if (e || !p)
                return denied(e ? e : ENOMEM);
        for (size_t i = 0; i < n; i++) {
                p[i].events = POLLRDHUP;
                p[i].fd = socket(to.addr.ss_family, SOCK_STREAM | SOCK_NONBLOCK, 0);
                if (p[i].fd < 0)
                        return broken("connection %zu", i);
                int r = connect(p[i].fd, (struct sockaddr *)&to.addr, to.n);
                if (r < 0 && errno != EINPROGRESS)
                        last = errno;
                else
                        begun++;
        }
        puts("begun");
        poll(&(struct pollfd){.fd = STDIN_FILENO, .events = POLLIN}, 1, atoi(a[3]) * 1000);
        size_t held = still_open(p, n);
        printf("held %zu of %zu\n", held, begun);
        return held == n ? won("%zu held", held) : denied(last ? last : ECONNRESET);
}

const struct attack egress_attacks[] = {
        {"reach", reach, 2},           {"reach_mptcp", reach_mptcp, 2},
        {"reach_sctp", reach_sctp, 2}, {"reach_fast_open", reach_fast_open, 2},
        {"reach_udp", reach_udp, 2},   {"dns_udp", dns_udp, 3},
        {"dns_tcp", dns_tcp, 3},       {"bind_tcp", bind_tcp, 2},
        {"bind_udp", bind_udp, 2},     {"serve", serve, 2},
        {"half_open", half_open, 4},   {NULL, NULL, 0},
};
