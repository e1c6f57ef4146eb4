/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Accepts what a jail dials and reads the destination that the kernel kept (SO_ORIGINAL_DST); answers what it asks a name
 * server.  Out of descriptors it stops accepting for a while: the jail's dials wait in the backlog, the loop does not spin.
 */
#include "capture.h"

#include "addr.h"
#include "conn.h"
#include "dns.h"

#include "common/util.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/netfilter_ipv4.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>

#define BUDGET 64 /* connections or datagrams a wake-up, so that one jail cannot starve the others */
#define PAUSE_MS 100
#ifndef IP6T_SO_ORIGINAL_DST
#define IP6T_SO_ORIGINAL_DST 80 /* linux/netfilter_ipv6/ip6_tables.h, which does not compile beside netinet/in.h */
#endif

enum { TCP4, TCP6, UDP4, UDP6, SOCKET_N };
static_assert(SOCKET_N == GATE_LISTENERS, "the listeners of GATE_ADD");

struct handle {
        struct capture *capture;
        uv_poll_t poll;
        int fd;
        bool open, paused;
};

struct capture {
        struct agent *agent;
        struct handle handles[SOCKET_N];
        struct hub_deadline resume;
        unsigned n_open;
        bool closing;
};

static void on_handle_closed(uv_handle_t *h) {
        struct handle *x = h->data;
        struct capture *c = x->capture;
        struct agent *a = c->agent;

        crew_close(&x->fd);
        if (--c->n_open > 0)
                return;
        free(c);
        agent_unref(a);
}

void capture_close(struct capture *c) {
        if (!c || c->closing)
                return;
        c->closing = true;
        hub_deadline_clear(&c->resume);
        for (size_t i = 0; i < SOCKET_N; i++) {
                struct handle *x = &c->handles[i];
                if (!x->open)
                        continue;
                /* Not one more connection is taken from here on, whenever the handle is closed: the kernel resets those
                 * in the backlog, and refuses new ones. */
                if (i <= TCP6)
                        shutdown(x->fd, SHUT_RD);
                uv_close((uv_handle_t *)&x->poll, on_handle_closed);
        }
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

static void on_tcp(uv_poll_t *p, int status, int events);
static void on_udp(uv_poll_t *p, int status, int events);

static void on_resume(struct hub_deadline *d) {
        struct capture *c = (struct capture *)((char *)d - offsetof(struct capture, resume));

        for (size_t i = 0; i <= TCP6; i++) {
                struct handle *x = &c->handles[i];
                if (x->paused && uv_poll_start(&x->poll, UV_READABLE, on_tcp) == 0)
                        x->paused = false;
        }
}

static void pause_accepting(struct handle *x) {
        x->paused = true;
        uv_poll_stop(&x->poll);
        hub_deadline_set(x->capture->agent->hub, &x->capture->resume, PAUSE_MS);
}

static bool exhausted(int error) {
        return error == EMFILE || error == ENFILE || error == ENOBUFS || error == ENOMEM;
}

static void on_tcp(uv_poll_t *p, int status, int events) {
        struct handle *x = p->data;

        for (int i = 0; i < BUDGET && !x->capture->closing; i++) {
                struct sockaddr_storage to;
                int fd = accept4(x->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
                if (fd < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
                        return;
                if (fd < 0 && exhausted(errno))
                        return pause_accepting(x);
                if (fd < 0)
                        continue; /* ECONNABORTED and the like: the next one */
                original_destination(fd, &to);
                conn_start(x->capture->agent, fd, (const struct sockaddr *)&to);
        }
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

static void on_udp(uv_poll_t *p, int status, int events) {
        struct handle *x = p->data;

        for (int i = 0; i < BUDGET && !x->capture->closing; i++) {
                uint8_t msg[DNS_MESSAGE_MAX + 1], out[DNS_MESSAGE_MAX]; /* one more shows that it is too long */
                struct sockaddr_storage peer;
                socklen_t len = sizeof(peer);
                ssize_t n = recvfrom(x->fd, msg, sizeof(msg), MSG_DONTWAIT, (struct sockaddr *)&peer, &len);
                if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
                        return;
                if (n < 0)
                        continue;
                size_t k = answer(x->capture->agent, msg, (size_t)n, out);
                /* A full socket buffer drops the answer, as any resolver would; the report does not depend on it. */
                if (k > 0)
                        sendto(x->fd, out, k, MSG_DONTWAIT | MSG_NOSIGNAL, (struct sockaddr *)&peer, len);
        }
}

/* --- life --- */

static int open_handle(uv_loop_t *loop, struct capture *c, size_t i, int *fd, struct crew_err *err) {
        struct handle *x = &c->handles[i];
        int r;

        if ((r = uv_poll_init(loop, &x->poll, *fd)) < 0)
                return crew_fail(err, -r, "cannot watch listener %zu: %s", i, uv_strerror(r));
        x->poll.data = x;
        x->fd = crew_steal_fd(fd);
        x->open = true;
        c->n_open++;
        if ((r = uv_poll_start(&x->poll, UV_READABLE, i <= TCP6 ? on_tcp : on_udp)) < 0)
                return crew_fail(err, -r, "cannot watch listener %zu: %s", i, uv_strerror(r));
        return 0;
}

int capture_open(uv_loop_t *loop, struct agent *a, int *fds, struct capture **out, struct crew_err *err) {
        struct capture *c = calloc(1, sizeof(*c));
        int r = 0;

        if (!c)
                return crew_fail(err, ENOMEM, "out of memory for the listeners of instance %u", a->id);
        c->agent = a;
        c->resume.on_deadline = on_resume;
        agent_ref(a);
        for (size_t i = 0; i < SOCKET_N; i++)
                c->handles[i] = (struct handle){.capture = c, .fd = -1};
        for (size_t i = 0; i < SOCKET_N && r == 0; i++)
                r = open_handle(loop, c, i, &fds[i], err);
        if (r == 0) {
                *out = c;
                return 0;
        }
        if (c->n_open) {
                capture_close(c);
                return r;
        }
        free(c);
        agent_unref(a);
        return r;
}
