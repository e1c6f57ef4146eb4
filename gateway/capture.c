/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Accepts what a jail dials and reads the destination that the kernel kept (SO_ORIGINAL_DST); answers what it asks a name
 * server.  Out of descriptors it stops accepting for a while: the jail's dials wait in the backlog, the loop does not spin.
 */
#include "capture.h"

#include "addr.h"
#include "conn.h"
#include "dns.h"
#include "relay.h"

#include "common/util.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/netfilter_ipv4.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#define PAUSE_MS 100
#ifndef IP6T_SO_ORIGINAL_DST
#define IP6T_SO_ORIGINAL_DST 80 /* linux/netfilter_ipv6/ip6_tables.h, which does not compile beside netinet/in.h */
#endif

enum { TCP4, TCP6, UDP4, UDP6, SOCKET_N };
static_assert(SOCKET_N == GATE_LISTENERS, "the listeners of GATE_ADD");

struct listener {
        struct hub_source source;
        struct capture *capture;
        int fd;
        bool paused;
};

struct capture {
        struct agent *agent;
        struct listener listeners[SOCKET_N];
        struct hub_deadline resume;
        struct hub_grave grave;
};

static void bury(struct hub_grave *g) {
        struct capture *c = (struct capture *)((char *)g - offsetof(struct capture, grave));
        struct agent *a = c->agent;

        free(c);
        agent_unref(a);
}

void capture_close(struct capture *c) {
        if (!c)
                return;
        hub_deadline_clear(&c->resume);
        for (size_t i = 0; i < SOCKET_N; i++) {
                struct listener *l = &c->listeners[i];
                l->source.dead = true;
                if (l->fd < 0)
                        continue;
                /* crewd and the jail have descriptors of it too: not one more connection is taken from here on.  The
                 * kernel resets those in the backlog, and refuses new ones. */
                if (i <= TCP6)
                        shutdown(l->fd, SHUT_RD);
                epoll_ctl(c->agent->hub->epoll_fd, EPOLL_CTL_DEL, l->fd, NULL);
                crew_close(&l->fd);
        }
        hub_retire(c->agent->hub, &c->grave, bury);
}

/* --- TCP --- */

/* Where the peer wanted to go; the socket's own address when the kernel has no translation (a dial to 127.0.0.1:1). */
static void original_destination(int fd, struct sockaddr_storage *to) {
        socklen_t n = sizeof(struct sockaddr_in);

        memset(to, 0, sizeof(*to));
        if (getsockopt(fd, SOL_IP, SO_ORIGINAL_DST, to, &n) == 0 && to->ss_family == AF_INET)
                return;
        n = sizeof(struct sockaddr_in6);
        if (getsockopt(fd, SOL_IPV6, IP6T_SO_ORIGINAL_DST, to, &n) == 0 && to->ss_family == AF_INET6)
                return addr_unmap(to);
        n = sizeof(*to);
        if (getsockname(fd, (struct sockaddr *)to, &n) < 0 || (to->ss_family != AF_INET && to->ss_family != AF_INET6)) {
                memset(to, 0, sizeof(*to));
                to->ss_family = AF_INET; /* 0.0.0.0:0, which no policy lists */
        }
        addr_unmap(to);
}

static void on_resume(struct hub_deadline *d) {
        struct capture *c = (struct capture *)((char *)d - offsetof(struct capture, resume));

        for (size_t i = 0; i <= TCP6; i++) {
                struct listener *l = &c->listeners[i];
                if (l->paused && hub_rewatch_level(c->agent->hub, l->fd, &l->source, EPOLLIN) == 0)
                        l->paused = false;
        }
}

static void pause_accepting(struct listener *l) {
        struct hub *h = l->capture->agent->hub;

        l->paused = hub_rewatch_level(h, l->fd, &l->source, 0) == 0;
        hub_deadline_set(h, &l->capture->resume, PAUSE_MS);
}

static bool exhausted(int error) {
        return error == EMFILE || error == ENFILE || error == ENOBUFS || error == ENOMEM;
}

/* One a turn: others have theirs between two of one jail's, and nothing is asked to learn that there is no second. */
static void on_tcp(struct hub_source *source, uint32_t events) {
        struct listener *l = (struct listener *)((char *)source - offsetof(struct listener, source));
        struct sockaddr_storage to;
        int fd = accept4(l->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

        (void)events;
        if (fd < 0) {
                if (exhausted(errno))
                        pause_accepting(l);
                return; /* ECONNABORTED and the like: the next one */
        }
        original_destination(fd, &to);
        conn_start(l->capture->agent, fd, (const struct sockaddr *)&to);
}

/* --- DNS --- */

/* -ENOENT: there is none for such a question. */
static int find_address(struct agent *a, const struct dns_question *q, struct in_addr *out) {
        char canonical[NETPOLICY_NAME_MAX];

        netpolicy_canonical(q->name, canonical);
        if (q->class_ != DNS_CLASS_IN || !canonical[0])
                return -ENOENT;
        if (a->policy && netpolicy_knows_name(a->policy, canonical))
                return names_address(a->names, canonical, out);
        /* It is the dial that is refused or asked about: that has a port.  No AAAA must not look like no such name. */
        if (q->type != DNS_TYPE_A && q->type != DNS_TYPE_AAAA)
                return -ENOENT;
        return agent_unlisted_address(a, canonical, q->type == DNS_TYPE_A ? UNLISTED_A : UNLISTED_AAAA, out);
}

/* Is there an address for this name?  Reports it when there is none. */
static bool name_address(struct agent *a, const struct dns_question *q, struct in_addr *out) {
        int r = find_address(a, q, out);

        if (r < 0)
                agent_denied(a, GATE_DNS, q->name, 0, GATE_REFUSE,
                             r == -ENOENT ? "not in allowed_endpoints" : "too many names");
        return r == 0;
}

static size_t answer(struct agent *a, const uint8_t *msg, size_t n, uint8_t out[DNS_MESSAGE_MAX]) {
        struct dns_question q;
        struct in_addr addr;

        switch (dns_parse_query(msg, n, &q)) {
        case DNS_IGNORE:
                return 0;
        case DNS_FORMAT_ERROR:
                agent_denied(a, GATE_DNS, "(malformed query)", 0, GATE_REFUSE, "not a plain question");
                return dns_answer_error(msg, &q, DNS_RCODE_FORMERR, out);
        case DNS_OK:
                break;
        }
        if (bucket_level(&a->dns, crew_now_ns()) == 0) {
                agent_denied(a, GATE_DNS, q.name, 0, GATE_REFUSE, "limits.dns");
                return dns_answer_error(msg, &q, DNS_RCODE_REFUSED, out);
        }
        bucket_take(&a->dns, 1);
        if (!name_address(a, &q, &addr))
                return dns_answer_error(msg, &q, DNS_RCODE_REFUSED, out);
        if (q.type != DNS_TYPE_A && q.type != DNS_TYPE_ANY)
                return dns_answer_error(msg, &q, DNS_RCODE_OK, out); /* no record of that type */
        return dns_answer_a(msg, &q, &addr, out);
}

static void on_udp(struct hub_source *source, uint32_t events) {
        struct listener *l = (struct listener *)((char *)source - offsetof(struct listener, source));
        uint8_t msg[DNS_MESSAGE_MAX + 1], out[DNS_MESSAGE_MAX]; /* one more shows that it is too long */
        struct sockaddr_storage peer;
        socklen_t len = sizeof(peer);
        ssize_t n = recvfrom(l->fd, msg, sizeof(msg), MSG_DONTWAIT, (struct sockaddr *)&peer, &len);

        (void)events;
        if (n < 0)
                return;
        size_t k = answer(l->capture->agent, msg, (size_t)n, out);
        /* A full socket buffer drops the answer, as any resolver would; the report does not depend on it. */
        if (k > 0)
                sendto(l->fd, out, k, MSG_DONTWAIT | MSG_NOSIGNAL, (struct sockaddr *)&peer, len);
}

/* --- life --- */

static int open_listener(struct capture *c, size_t i, int *fd, struct crew_err *err) {
        struct listener *l = &c->listeners[i];

        if (fcntl(*fd, F_SETFL, O_NONBLOCK) < 0)
                return crew_fail_errno(err, "listener %zu", i);
        if (i <= TCP6)
                relay_set_options(*fd); /* what is accepted inherits them */
        l->source.on_event = i <= TCP6 ? on_tcp : on_udp;
        int r = hub_watch_level(c->agent->hub, *fd, &l->source, EPOLLIN);
        if (r < 0)
                return crew_fail(err, -r, "cannot watch listener %zu: %s", i, strerror(-r));
        l->fd = crew_steal_fd(fd);
        return 0;
}

int capture_open(struct agent *a, int *fds, struct capture **out, struct crew_err *err) {
        struct capture *c = calloc(1, sizeof(*c));
        int r = 0;

        if (!c)
                return crew_fail(err, ENOMEM, "out of memory for the listeners of instance %u", a->id);
        c->agent = a;
        c->resume.on_deadline = on_resume;
        agent_ref(a);
        for (size_t i = 0; i < SOCKET_N; i++)
                c->listeners[i] = (struct listener){.capture = c, .fd = -1};
        for (size_t i = 0; i < SOCKET_N && r == 0; i++)
                r = open_listener(c, i, &fds[i], err);
        if (r == 0)
                *out = c;
        else
                capture_close(c);
        return r;
}
