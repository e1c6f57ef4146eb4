/* SPDX-License-Identifier: Apache-2.0 */
/*
 * crew-gateway: the only process that meets the agents' network traffic.  It runs without privilege, without a file
 * system and under its own system-call list; crewd hands it each jail's capture listeners and is told what was dialled.
 *
 * usage: crew-gateway --fd N      (N: the SOCK_SEQPACKET to crewd; started by crewd only)
 *
 * Trusts crewd.  Trusts nothing that arrives on a listener.  When crewd goes away it exits, and with it every listener:
 * what is dialled then is refused by the kernel.
 */
#include "capture.h"

#include "common/confine.h"
#include "common/gate.h"
#include "common/util.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>

#define NOBODY 65534
#define CAPTURES_MAX 4096

struct gateway {
        uv_loop_t loop;
        uv_poll_t control;
        uv_prepare_t prepare;
        uv_timer_t window; /* runs only while something is pending: an idle gateway never wakes */
        int fd;
        struct report report;
        struct capture *captures[CAPTURES_MAX];
        size_t n_captures;
};

/* What libuv's loop, the listeners and the C library need after start-up. */
static const int allowed_calls[] = {
        SYS_read,
        SYS_write,
        SYS_close,
        SYS_epoll_wait,
        SYS_epoll_pwait,
        SYS_epoll_ctl,
        SYS_accept4,
        SYS_recvmsg,
        SYS_sendmsg,
        SYS_recvfrom,
        SYS_sendto,
        SYS_getsockopt,
        SYS_setsockopt,
        SYS_getsockname,
        SYS_fcntl,
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
        SYS_ioctl /* FIONBIO, by uv_poll_init */,
};

static void on_window(uv_timer_t *t) {
        struct gateway *g = t->data;

        if (report_flush(&g->report) < 0)
                uv_stop(&g->loop);
}

static void on_prepare(uv_prepare_t *p) {
        struct gateway *g = p->data;

        if (report_pending(&g->report) && !uv_is_active((uv_handle_t *)&g->window))
                uv_timer_start(&g->window, on_window, REPORT_WINDOW_MS, 0);
}

static void add_capture(struct gateway *g, uint32_t id, const int *fds, size_t n_fds) {
        struct crew_err err = CREW_ERR_NULL;

        if (n_fds != CAPTURE_SOCKET_N || g->n_captures == CAPTURES_MAX) {
                for (size_t i = 0; i < n_fds; i++)
                        close(fds[i]);
                fprintf(stderr, "crew-gateway: instance %u: %zu listeners, expected %d\n", id, n_fds, CAPTURE_SOCKET_N);
                return;
        }
        /* Without its listeners the jail's dials are refused by the kernel: closed, and said. */
        if (capture_open(&g->loop, &g->report, id, fds, &g->captures[g->n_captures], &err) < 0)
                fprintf(stderr, "crew-gateway: instance %u: %s\n", id, err.msg);
        else
                g->n_captures++;
}

static void remove_capture(struct gateway *g, uint32_t id) {
        for (size_t i = 0; i < g->n_captures; i++) {
                if (capture_id(g->captures[i]) != id)
                        continue;
                capture_close(g->captures[i]);
                g->captures[i] = g->captures[--g->n_captures];
                break;
        }
        if (report_flush(&g->report) < 0 || report_send(&g->report, GATE_REMOVED, id) < 0)
                uv_stop(&g->loop);
}

static void on_control(uv_poll_t *p, int status, int events) {
        struct gateway *g = p->data;
        int fds[CAPTURE_SOCKET_N];
        size_t n_fds = CAPTURE_SOCKET_N;
        struct gate_msg m;
        ssize_t n = crew_recv_fds(g->fd, &m, sizeof(m), fds, &n_fds, MSG_DONTWAIT);

        if (n == -EAGAIN || n == -EWOULDBLOCK)
                return;
        if (n != (ssize_t)sizeof(m)) { /* crewd is gone, or we disagree about the format: stop, fail closed */
                uv_stop(&g->loop);
                return;
        }
        if (m.op == GATE_ADD) {
                add_capture(g, m.id, fds, n_fds);
                return;
        }
        for (size_t i = 0; i < n_fds; i++)
                close(fds[i]);
        if (m.op == GATE_REMOVE)
                remove_capture(g, m.id);
}

static int gateway_start(struct gateway *g, int fd, struct crew_err *err) {
        int r;

        g->fd = fd;
        report_init(&g->report, fd);
        if ((r = uv_loop_init(&g->loop)) < 0 || (r = uv_poll_init(&g->loop, &g->control, fd)) < 0 ||
            (r = uv_timer_init(&g->loop, &g->window)) < 0 || (r = uv_prepare_init(&g->loop, &g->prepare)) < 0)
                return crew_fail(err, -r, "cannot start the event loop: %s", uv_strerror(r));
        g->control.data = g->window.data = g->prepare.data = g;
        if ((r = uv_poll_start(&g->control, UV_READABLE, on_control)) < 0 ||
            (r = uv_prepare_start(&g->prepare, on_prepare)) < 0)
                return crew_fail(err, -r, "cannot start the event loop: %s", uv_strerror(r));
        return 0;
}

static int gateway_confine(struct crew_err *err) {
        const bool root = geteuid() == 0;
        const struct confine c = {
                .uid = root ? NOBODY : 0,
                .gid = root ? NOBODY : 0,
                .no_files = true,
                .syscalls = allowed_calls,
                .n_syscalls = ELEMENTSOF(allowed_calls),
        };
        return confine_self(&c, err);
}

static int parse_args(int argc, char **argv, int *fd) {
        uint64_t v;

        if (argc != 3 || strcmp(argv[1], "--fd") != 0 || crew_parse_u64(argv[2], &v) < 0 || v > 1u << 20)
                return -EINVAL;
        *fd = (int)v;
        return fcntl(*fd, F_SETFD, FD_CLOEXEC) < 0 ? -errno : 0;
}

int main(int argc, char **argv) {
        static struct gateway g;
        struct crew_err err = CREW_ERR_NULL;
        struct rlimit files;
        int fd;

        if (parse_args(argc, argv, &fd) < 0) {
                fputs("crew-gateway is started by crewd: crew-gateway --fd N\n", stderr);
                return 2;
        }
        signal(SIGPIPE, SIG_IGN);
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
                files.rlim_cur = files.rlim_max;
                setrlimit(RLIMIT_NOFILE, &files);
        }
        if (gateway_start(&g, fd, &err) < 0 || gateway_confine(&err) < 0) {
                fprintf(stderr, "crew-gateway: %s\n", err.msg);
                return 1;
        }
        if (report_send(&g.report, GATE_HELLO, 0) < 0)
                return 1;
        uv_run(&g.loop, UV_RUN_DEFAULT);
        report_flush(&g.report);
        return 0;
}
