/* SPDX-License-Identifier: Apache-2.0 */
/* The network: there is none, whatever the socket is called. */
#include "attack.h"

#include <arpa/inet.h>
#include <errno.h>
#include <net/if.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#ifndef IPPROTO_MPTCP
#define IPPROTO_MPTCP 262
#endif

static int address(const char *host, const char *port, struct sockaddr_storage *out, socklen_t *n) {
        struct sockaddr_in *v4 = (struct sockaddr_in *)out;
        struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)out;

        memset(out, 0, sizeof(*out));
        if (inet_pton(AF_INET, host, &v4->sin_addr) == 1) {
                v4->sin_family = AF_INET;
                v4->sin_port = htons((uint16_t)atoi(port));
                *n = sizeof(*v4);
                return 0;
        }
        if (inet_pton(AF_INET6, host, &v6->sin6_addr) == 1) {
                v6->sin6_family = AF_INET6;
                v6->sin6_port = htons((uint16_t)atoi(port));
                *n = sizeof(*v6);
                return 0;
        }
        return -1;
}

static int open_socket(const struct sockaddr_storage *to, int type, int protocol) {
        int fd = socket(to->ss_family, type, protocol);
        struct timeval limit = {.tv_sec = 3};

        if (fd >= 0)
                setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit));
        return fd;
}

static int dial(char **a, int protocol) {
        struct sockaddr_storage to;
        socklen_t n;

        if (address(a[0], a[1], &to, &n) < 0)
                return broken("%s", a[0]);
        int fd = open_socket(&to, SOCK_STREAM, protocol);
        return fd < 0 ? denied(errno) : judge(connect(fd, (struct sockaddr *)&to, n));
}

/* ADDRESS PORT */
static int tcp(char **a) {
        return dial(a, 0);
}

static int mptcp(char **a) {
        return dial(a, IPPROTO_MPTCP);
}

static int sctp(char **a) {
        return dial(a, IPPROTO_SCTP);
}

static int fast_open(char **a) {
        struct sockaddr_storage to;
        socklen_t n;

        if (address(a[0], a[1], &to, &n) < 0)
                return broken("%s", a[0]);
        int fd = open_socket(&to, SOCK_STREAM, 0);
        return fd < 0 ? denied(errno) : judge(sendto(fd, "x", 1, MSG_FASTOPEN | MSG_NOSIGNAL, (struct sockaddr *)&to, n));
}

static int udp(char **a) {
        struct sockaddr_storage to;
        socklen_t n;

        if (address(a[0], a[1], &to, &n) < 0)
                return broken("%s", a[0]);
        int fd = open_socket(&to, SOCK_DGRAM, 0);
        return fd < 0 ? denied(errno) : judge(sendto(fd, "x", 1, 0, (struct sockaddr *)&to, n));
}

/* NAME */
static int lookup(char **a) {
        struct addrinfo *found, hints = {.ai_socktype = SOCK_STREAM};
        int r = getaddrinfo(a[0], NULL, &hints, &found);
        return r == 0 ? won("resolved %s", a[0]) : denied(EHOSTUNREACH);
}

/* Interfaces other than the loopback one */
static int interfaces(char **a) {
        int fd = socket(AF_INET, SOCK_DGRAM, 0);

        if (fd < 0)
                return denied(errno);
        for (int i = 1; i < 64; i++) {
                struct ifreq r = {.ifr_ifindex = i};
                if (ioctl(fd, SIOCGIFNAME, &r) == 0 && strcmp(r.ifr_name, "lo") != 0)
                        return won("%s", r.ifr_name);
        }
        return denied(ENODEV);
}

const struct attack network_attacks[] = {
        {"tcp", tcp, 2},
        {"mptcp", mptcp, 2},
        {"sctp", sctp, 2},
        {"fast_open", fast_open, 2},
        {"udp", udp, 2},
        {"lookup", lookup, 1},
        {"interfaces", interfaces, 0},
        {NULL, NULL, 0},
};
