/* SPDX-License-Identifier: Apache-2.0 */
/*
 * crew-gateway: the only process that meets the agents' network traffic.  It runs without privilege, without a file
 * system and under its own system-call list.  crewd hands it each jail's capture listeners and network policy; it lets
 * through what the policy lists and tells crewd what was dialled.
 *
 * usage: crew-gateway --fd N [--inspect] [--credentials FILE]      (N: the SOCK_SEQPACKET to crewd; started by crewd only)
 *
 * Beside it run the resolver and its keeper (resolver.h), forked before anything is read.
 *
 * Trusts crewd.  Trusts nothing that arrives on a listener or from a server.  When crewd goes away it exits, and with it
 * every listener and connection: what is dialled then is refused by the kernel.
 */
#include "agent.h"
#include "conn.h"
#include "held.h"
#include "http_conn.h"
#include "http_plain.h"
#include "http_setup.h"
#include "hub.h"
#include "resolver.h"

#include "common/confine.h"
#include "common/gate.h"
#include "common/nofile.h"
#include "common/util.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>

#define CONTROL_BUDGET 64

struct gateway {
        struct hub hub;
        struct hub_source control;
        struct hub_deadline window; /* set only while something is pending: an idle gateway wakes only when crewd asks
                                       whether it still lives */
        int fd;
        uint32_t control_events;
        struct agent *agents[GATE_INSTANCES_MAX];
        size_t n_agents;
};

/* What the loop, the listeners, the connections and the C library need after start-up. */
static const int allowed_calls[] = {
        SYS_splice,
        SYS_recvfrom,
        SYS_sendto,
        SYS_epoll_wait,
        SYS_epoll_pwait,
        SYS_epoll_ctl,
        SYS_read,
        SYS_write,
        SYS_close,
        SYS_accept4,
        SYS_socket, /* AF_INET and AF_INET6 only */
        SYS_connect,
        SYS_shutdown,
        SYS_pipe2,
        SYS_recvmsg,
        SYS_sendmsg,
        SYS_getsockopt,
        SYS_setsockopt,
        SYS_getsockname,
        SYS_fcntl,
        SYS_fstat, /* of a policy, and of stderr */
        SYS_newfstatat,
        SYS_mmap,
        SYS_munmap,
        SYS_mremap,
        SYS_brk,
        SYS_madvise,
        SYS_mprotect,
        SYS_clock_gettime,
        SYS_futex,
        SYS_rt_sigaction,
        SYS_rt_sigprocmask,
        SYS_rt_sigreturn,
        SYS_exit,
        SYS_exit_group,
        SYS_getpid,
        SYS_gettid,
        SYS_tgkill,
        SYS_restart_syscall,
        SYS_sigaltstack,
        SYS_getrandom, /* OpenSSL */
};

/* --- reports --- */

static void on_window(struct hub_deadline *d) {
        struct gateway *g = (struct gateway *)((char *)d - offsetof(struct gateway, window));

        int r = report_flush(&g->hub.report);
        if (r < 0)
                hub_stop_unheard(&g->hub, r);
}

/* What is pending gets its window, and what crewd has no room for is written when it has. */
static void before_sleep(void *user) {
        struct gateway *g = user;
        uint32_t events = EPOLLIN | (report_behind(&g->hub.report) ? EPOLLOUT : 0u);

        if (report_pending(&g->hub.report) && !g->window.prev)
                hub_deadline_set(&g->hub, &g->window, REPORT_WINDOW_MS);
        if (events != g->control_events && hub_rewatch_level(&g->hub, g->fd, &g->control, events) < 0)
                hub_stop(&g->hub, "cannot watch crewd");
        g->control_events = events;
}

static void report(struct gateway *g, const struct gate_msg *m) {
        int r = report_send(&g->hub.report, m, NULL, NULL);
        if (r < 0)
                hub_stop_unheard(&g->hub, r);
}

/* --- what crewd says --- */

static struct agent **find(struct gateway *g, uint32_t id) {
        for (size_t i = 0; i < g->n_agents; i++) {
                if (g->agents[i]->id == id)
                        return &g->agents[i];
        }
        return NULL;
}

static void on_add(struct gateway *g, const struct gate_msg *m, int *fds, size_t n_fds) {
        struct crew_err err = CREW_ERR_NULL;

        /* Without its listeners the jail's dials are refused by the kernel: closed, and said. */
        if (g->n_agents == GATE_INSTANCES_MAX || find(g, m->id)) {
                fprintf(stderr, "crew-gateway: instance %u: %s\n", m->id, find(g, m->id) ? "is there already" : "too many");
                return;
        }
        if (agent_open(&g->hub, m->id, fds, n_fds, &g->agents[g->n_agents], &err) < 0)
                fprintf(stderr, "crew-gateway: instance %u: %s\n", m->id, err.msg);
        else
                g->n_agents++;
}

static void on_remove(struct gateway *g, const struct gate_msg *m, int *fds, size_t n_fds) {
        const struct gate_msg removed = {.op = GATE_REMOVED, .id = m->id};
        struct agent **at = find(g, m->id);

        if (at) {
                struct agent *a = *at;
                *at = g->agents[--g->n_agents];
                agent_close(a);
        }
        report(g, &removed);
}

static void on_policy(struct gateway *g, const struct gate_msg *m, int *fds, size_t n_fds) {
        struct gate_msg answer = {.op = GATE_REJECTED, .id = m->id, .generation = m->generation};
        struct agent **at = find(g, m->id);
        struct crew_err err = CREW_ERR_NULL;

        if (!at) {
                crew_fail(&err, ENOENT, "no such instance");
        } else if (n_fds != 1) {
                crew_fail(&err, EPROTO, "%zu descriptors with a policy", n_fds);
        } else if (agent_reload(*at, fds[0], &answer.count, &err) == 0) {
                answer.op = GATE_APPLIED;
                answer.generation = (*at)->policy->generation;
        }
        snprintf(answer.text, sizeof(answer.text), "%.*s", (int)sizeof(answer.text) - 1, err.msg);
        report(g, &answer);
}

static void on_answer(struct gateway *g, const struct gate_msg *m, int *fds, size_t n_fds) {
        struct agent **at = find(g, m->id);
        char why[sizeof(m->text)];

        snprintf(why, sizeof(why), "%.*s", (int)sizeof(m->text) - 1, m->text);
        if (at)
                held_answer(*at, m->ask, m->verdict, m->scope, why);
}

static void on_ping(struct gateway *g, const struct gate_msg *m, int *fds, size_t n_fds) {
        const struct gate_msg pong = {.op = GATE_PONG};

        report(g, &pong);
}

static void (*const handlers[])(struct gateway *g, const struct gate_msg *m, int *fds, size_t n_fds) = {
        [GATE_ADD] = on_add,       [GATE_REMOVE] = on_remove, [GATE_POLICY] = on_policy,
        [GATE_ANSWER] = on_answer, [GATE_PING] = on_ping,
};

static bool take_one(struct gateway *g) {
        int fds[GATE_LISTENERS + 1];
        size_t n_fds = ELEMENTSOF(fds);
        struct gate_msg m;
        ssize_t n = crew_recv_fds(g->fd, &m, sizeof(m), fds, &n_fds, MSG_DONTWAIT);

        if (n == -EAGAIN || n == -EWOULDBLOCK)
                return false;
        if (n != (ssize_t)sizeof(m)) { /* crewd is gone, or we disagree about the format: stop, fail closed */
                hub_stop(&g->hub, NULL);
                return false;
        }
        if (m.op < ELEMENTSOF(handlers) && handlers[m.op])
                handlers[m.op](g, &m, fds, n_fds);
        for (size_t i = 0; i < n_fds; i++)
                crew_close(&fds[i]);
        return true;
}

static void on_control(struct hub_source *source, uint32_t events) {
        struct gateway *g = (struct gateway *)((char *)source - offsetof(struct gateway, control));
        int r = events & EPOLLOUT ? report_write(&g->hub.report) : 0;

        if (r < 0)
                hub_stop_unheard(&g->hub, r);
        for (int i = 0; events & ~(uint32_t)EPOLLOUT && i < CONTROL_BUDGET && take_one(g); i++)
                ;
}

/* --- start --- */

static int gateway_start(struct gateway *g, int fd, int resolver_fd, struct crew_err *err) {
        int r;

        g->fd = fd;
        g->control.on_event = on_control;
        g->control_events = EPOLLIN;
        g->window.on_deadline = on_window;
        if (fcntl(fd, F_SETFL, O_NONBLOCK) < 0)
                return crew_fail_errno(err, "the channel to crewd");
        if ((r = hub_open(&g->hub, fd, err)) < 0)
                return r;
        if ((r = hub_watch_level(&g->hub, fd, &g->control, g->control_events)) < 0)
                return crew_fail(err, -r, "cannot watch crewd: %s", strerror(-r));
        return resolver_open(&g->hub, resolver_fd, &g->hub.resolver, err);
}

static int gateway_confine(struct crew_err *err) {
        const bool root = geteuid() == 0;
        const struct confine c = {
                .uid = root ? CONFINE_NOBODY : 0,
                .gid = root ? CONFINE_NOBODY : 0,
                .no_files = true,
                .inet_sockets_only = true,
                .syscalls = allowed_calls,
                .n_syscalls = ELEMENTSOF(allowed_calls),
        };
        return confine_self(&c, err);
}

struct options {
        int fd;
        struct http_options http;
};

static int parse_args(int argc, char **argv, struct options *o) {
        uint64_t v;

        *o = (struct options){.fd = -1};
        for (int i = 1; i < argc; i++) {
                if (strcmp(argv[i], "--fd") == 0 && i + 1 < argc && crew_parse_u64(argv[i + 1], &v) == 0 && v <= 1u << 20)
                        o->fd = (int)v, i++;
                else if (strcmp(argv[i], "--credentials") == 0 && i + 1 < argc)
                        o->http.credentials = argv[++i];
                else if (strcmp(argv[i], "--inspect") == 0)
                        o->http.inspect = true;
                else
                        return -EINVAL;
        }
        return o->fd < 0 || fcntl(o->fd, F_SETFD, FD_CLOEXEC) < 0 ? -EINVAL : 0;
}

/* The resolver first: it gets nothing that is read or opened later. */
static int prepare(struct gateway *g, const struct options *o, int *ca, struct crew_err *err) {
        int resolver_fd, r;

        if ((r = resolver_fork(&resolver_fd, err)) < 0 || (r = gateway_start(g, o->fd, resolver_fd, err)) < 0 ||
            (r = http_open(&o->http, err)) < 0)
                return r;
        *ca = http_ca_memfd(err);
        if (o->http.inspect && *ca < 0)
                return *ca;
        conn_set_takers(&http_taker, &http_plain_taker);
        return gateway_confine(err);
}

/* Ready, or why not. */
static int hello(int fd, int ca, const char *text) {
        struct gate_msg m = {.op = GATE_HELLO};

        snprintf(m.text, sizeof(m.text), "%s", text);
        ssize_t n = crew_send_fds(fd, &m, sizeof(m), &ca, ca >= 0 ? 1 : 0);
        return n < 0 ? (int)n : 0;
}

int main(int argc, char **argv) {
        static struct gateway g;
        struct crew_err err = CREW_ERR_NULL;
        struct options o;
        int ca = -1;

        if (parse_args(argc, argv, &o) < 0) {
                fputs("crew-gateway is started by crewd: crew-gateway --fd N [--inspect] [--credentials FILE]\n", stderr);
                return 2;
        }
        signal(SIGPIPE, SIG_IGN);
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        nofile_raise();
        if (prepare(&g, &o, &ca, &err) < 0) {
                fprintf(stderr, "crew-gateway: %s\n", err.msg);
                hello(o.fd, -1, err.msg);
                return 1;
        }
        if (hello(o.fd, ca, "") < 0)
                return 1;
        crew_close(&ca);
        hub_run(&g.hub, before_sleep, &g);
        report_flush(&g.hub.report);
        g.hub.resolver = resolver_free(g.hub.resolver);
        hub_fini(&g.hub);
        http_close();
        return 0;
}
