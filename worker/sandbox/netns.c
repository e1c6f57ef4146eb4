/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Runs in the jail while it still has capabilities over its own network namespace.  The rules are bytes made at build
 * time: nothing here knows nftables.
 */
#include "netns.h"

#include "common/gate.h"
#include "common/netrules.h"
#include "common/util.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/netlink.h>
#include <net/if.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#define BACKLOG 128

int netns_lo_up(struct crew_err *err) {
        struct ifreq ifr = {.ifr_name = "lo", .ifr_flags = IFF_UP | IFF_RUNNING};
        _cleanup_close_ int s = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

        if (s < 0 || ioctl(s, SIOCSIFFLAGS, &ifr) < 0)
                return crew_fail_errno(err, "cannot bring lo up");
        return 0;
}

/* Counts the acknowledgements in one datagram; the first refusal ends it. */
static int count_acks(const char *buf, size_t n, uint32_t *acks) {
        const struct nlmsghdr *h;
        size_t left = n;

        for (h = (const struct nlmsghdr *)buf; left >= sizeof(*h) && h->nlmsg_len >= sizeof(*h) && h->nlmsg_len <= left;) {
                if (h->nlmsg_type == NLMSG_ERROR) {
                        const struct nlmsgerr *e = NLMSG_DATA(h);
                        if (h->nlmsg_len < NLMSG_LENGTH(sizeof(*e)))
                                return -EPROTO;
                        if (e->error)
                                return e->error;
                        (*acks)++;
                }
                size_t step = NLMSG_ALIGN(h->nlmsg_len);
                if (step >= left)
                        break;
                left -= step;
                h = (const struct nlmsghdr *)((const char *)h + step);
        }
        return 0;
}

static int send_section(const struct netrules_section *s, const char *bytes) {
        _cleanup_close_ int nl = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, (int)s->protocol);
        _Alignas(struct nlmsghdr) char buf[16384];
        uint32_t acks = 0;

        if (nl < 0 || send(nl, bytes, s->bytes, 0) != (ssize_t)s->bytes)
                return -errno;
        while (acks < s->acks) {
                ssize_t n = recv(nl, buf, sizeof(buf), 0);
                if (n <= 0)
                        return n < 0 ? -errno : -EPROTO;
                int r = count_acks(buf, (size_t)n, &acks);
                if (r < 0)
                        return r;
        }
        return 0;
}

int netns_apply(const void *rules, size_t left, struct crew_err *err) {
        const char *p = rules;

        if (left == 0)
                return crew_fail(err, EINVAL, "no network rules");
        while (left > 0) {
                struct netrules_section s;
                if (left < sizeof(s))
                        return crew_fail(err, EPROTO, "network rules: cut off");
                memcpy(&s, p, sizeof(s));
                if (s.bytes > left - sizeof(s) || s.bytes % 4 != 0)
                        return crew_fail(err, EPROTO, "network rules: a section of %u bytes, %zu left", s.bytes, left);
                int r = send_section(&s, p + sizeof(s));
                if (r < 0)
                        return crew_fail(err, -r, "network rules (%s): %s",
                                         s.protocol == NETLINK_ROUTE ? "routes" : "nftables", strerror(-r));
                p += sizeof(s) + s.bytes;
                left -= sizeof(s) + s.bytes;
        }
        return 0;
}

/* What connects is reset, not ended, when nobody is left to take it or who took it dies: from the first one on. */
static int listening(int *s, int type) {
        static const struct linger none = {.l_onoff = 1};

        if (type == SOCK_STREAM &&
            (setsockopt(*s, SOL_SOCKET, SO_LINGER, &none, sizeof(none)) < 0 || listen(*s, BACKLOG) < 0))
                return -errno;
        return crew_steal_fd(s);
}

static int listen4(int type, uint16_t port) {
        struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr = {htonl(INADDR_LOOPBACK)}};
        _cleanup_close_ int s = socket(AF_INET, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

        return s < 0 || bind(s, (struct sockaddr *)&a, sizeof(a)) < 0 ? -errno : listening(&s, type);
}

static int listen6(int type, uint16_t port) {
        struct sockaddr_in6 a = {.sin6_family = AF_INET6, .sin6_port = htons(port), .sin6_addr = IN6ADDR_LOOPBACK_INIT};
        _cleanup_close_ int s = socket(AF_INET6, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

        return s < 0 || bind(s, (struct sockaddr *)&a, sizeof(a)) < 0 ? -errno : listening(&s, type);
}

int netns_listen(int listeners[4], struct crew_err *err) {
        static const struct {
                const char *name;
                int (*make)(int type, uint16_t port);
                int type;
                uint16_t port;
        } rows[4] = {
                {"tcp4", listen4, SOCK_STREAM, GATE_TCP_PORT},
                {"tcp6", listen6, SOCK_STREAM, GATE_TCP_PORT},
                {"udp4", listen4, SOCK_DGRAM, GATE_UDP_PORT},
                {"udp6", listen6, SOCK_DGRAM, GATE_UDP_PORT},
        };

        for (size_t i = 0; i < ELEMENTSOF(rows); i++) {
                int fd = rows[i].make(rows[i].type, rows[i].port);
                if (rows[i].make == listen6 && (fd == -EAFNOSUPPORT || fd == -EADDRNOTAVAIL))
                        fd = dup(listeners[i - 1]); /* no IPv6: nothing can come in on it either */
                if (fd < 0)
                        return crew_fail(err, -fd, "capture listener %s: %s", rows[i].name, strerror(-fd));
                listeners[i] = fd;
        }
        return 0;
}
