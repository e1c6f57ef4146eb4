/* SPDX-License-Identifier: Apache-2.0 */
#include "channel.h"

#include "common/paths.h"
#include "common/util.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>

#define HEAR_OUT_TURNS 1024 /* more than a socket holds: one that should be gone and goes on talking is not waited for */

struct packet {
        struct packet *next;
        size_t n_fds;
        int fds[CHANNEL_FDS_MAX];
        size_t n;
        char bytes[];
};

struct channel {
        uv_poll_t poll;
        uv_timer_t gather; /* active: what comes in waits for it */
        unsigned n_open;   /* handles */
        struct channel_callbacks cb;
        void *user;
        int fd;
        size_t msg_bytes;
        struct packet *head, **tail; /* waiting to be sent */
        size_t n_queued;
        int events;
        bool holds;    /* what is sent from now on waits for channel_release() */
        size_t n_held; /* the last of the queue that do */
        bool closing;
        char *in; /* msg_bytes + 1, to notice a longer message */
};

static struct packet *packet_free(struct packet *p) {
        for (size_t i = 0; i < p->n_fds; i++)
                crew_close(&p->fds[i]);
        free(p);
        return NULL;
}

static void on_closed(uv_handle_t *h) {
        struct channel *c = h->data;

        if (--c->n_open > 0)
                return;
        while (c->head) {
                struct packet *p = c->head;
                c->head = p->next;
                packet_free(p);
        }
        crew_close(&c->fd);
        free(c->in);
        free(c);
}

void channel_close(struct channel *c) {
        if (!c || c->closing)
                return;
        c->closing = true;
        uv_poll_stop(&c->poll);
        uv_close((uv_handle_t *)&c->poll, on_closed);
        uv_close((uv_handle_t *)&c->gather, on_closed);
}

static void hang_up(struct channel *c) {
        if (c->closing)
                return;
        uv_poll_stop(&c->poll);
        uv_timer_stop(&c->gather);
        c->events = 0;
        void (*tell)(void *) = c->cb.on_hangup;
        c->cb.on_hangup = NULL;
        if (tell)
                tell(c->user);
}

/* Whole, or as much of it as there has to be. */
static bool complete(struct channel *c, size_t n) {
        if (n == c->msg_bytes)
                return true;
        if (!c->cb.head_bytes || n < c->cb.head_bytes || n > c->msg_bytes)
                return false;
        memset(c->in + n, 0, c->msg_bytes - n);
        return true;
}

/* 1: a message was taken; 0: none there; negative: the channel is finished. */
static int take_one(struct channel *c) {
        int fds[CHANNEL_FDS_MAX];
        size_t n_fds = CHANNEL_FDS_MAX;
        ssize_t n = crew_recv_fds(c->fd, c->in, c->msg_bytes + 1, fds, &n_fds, MSG_DONTWAIT);

        if (n == -ECONNRESET) { /* said once; behind it is what the helper had sent */
                n_fds = CHANNEL_FDS_MAX;
                n = crew_recv_fds(c->fd, c->in, c->msg_bytes + 1, fds, &n_fds, MSG_DONTWAIT);
        }
        if (n == -EAGAIN)
                return 0;
        if (n < 0)
                return (int)n;
        int r = 1;
        if (complete(c, (size_t)n))
                c->cb.on_message(c->in, fds, n_fds, c->user);
        else
                r = n == 0 ? -EPIPE : -EPROTO;
        for (size_t i = 0; i < n_fds; i++)
                crew_close(&fds[i]);
        return r;
}

/* 0: sent; -EAGAIN: the socket is full. */
static int send_one(struct channel *c, const void *msg, size_t n, const int *fds, size_t n_fds) {
        ssize_t r = crew_send_fds(c->fd, msg, n, fds, n_fds);

        return r < 0 ? (int)r : 0;
}

static int watch(struct channel *c);

static int flush(struct channel *c) {
        while (c->head && c->n_queued > c->n_held) {
                struct packet *p = c->head;
                int r = send_one(c, p->bytes, p->n, p->fds, p->n_fds);
                if (r < 0)
                        return r == -EAGAIN ? watch(c) : r;
                c->head = p->next;
                if (!c->head)
                        c->tail = &c->head;
                c->n_queued--;
                packet_free(p);
        }
        return watch(c);
}

static int take_turn(struct channel *c) {
        int n = 0;

        while (n < CHANNEL_BUDGET && !c->closing) {
                int r = take_one(c);
                if (r < 0)
                        hang_up(c);
                if (r <= 0)
                        return r < 0 ? r : n;
                n++;
        }
        return n;
}

/* How many were taken; negative: the channel has hung up. */
static int take_some(struct channel *c) {
        if (c->cb.on_turn)
                c->cb.on_turn(true, c->user);
        int r = take_turn(c);
        if (c->cb.on_turn)
                c->cb.on_turn(false, c->user);
        return r;
}

static void on_gather(uv_timer_t *t);

/* More of them are on their way: they wait in the socket, and so does the end of the stream. */
static void gather(struct channel *c, int taken) {
        if (taken > 0 && c->cb.gather_ms && c->cb.on_hangup && !c->closing)
                uv_timer_start(&c->gather, on_gather, taken < CHANNEL_BUDGET ? c->cb.gather_ms : 0, 0);
        if (!c->closing && c->cb.on_hangup && watch(c) < 0)
                hang_up(c);
}

static void on_gather(uv_timer_t *t) {
        struct channel *c = t->data;

        gather(c, take_some(c));
}

/* The helper is gone, perhaps with words of ours unread: what it had said itself is still there. */
static void hear_out(struct channel *c) {
        for (int i = 0; i < HEAR_OUT_TURNS && take_some(c) > 0; i++)
                ;
        hang_up(c);
}

static void on_poll(uv_poll_t *h, int status, int events) {
        struct channel *c = h->data;

        if (status < 0 || ((events & UV_WRITABLE) && flush(c) < 0))
                return hear_out(c);
        if (events & (UV_READABLE | UV_DISCONNECT))
                gather(c, take_some(c));
}

static int watch(struct channel *c) {
        int events = uv_is_active((uv_handle_t *)&c->gather) ? 0 : UV_READABLE | UV_DISCONNECT;

        if (c->n_queued > c->n_held)
                events |= UV_WRITABLE;
        if (events == c->events)
                return 0;
        c->events = events;
        return events ? uv_poll_start(&c->poll, events, on_poll) : uv_poll_stop(&c->poll);
}

int channel_open(uv_loop_t *loop, int fd, size_t msg_bytes, const struct channel_callbacks *cb, void *user,
                 struct channel **out, struct crew_err *err) {
        struct channel *c = calloc(1, sizeof(*c));
        char *in = malloc(msg_bytes + 1);

        if (!c || !in || fcntl(fd, F_SETFL, O_NONBLOCK) < 0 || uv_poll_init(loop, &c->poll, fd) < 0) {
                free(in);
                free(c);
                close(fd);
                return crew_fail(err, ENOMEM, "cannot watch a helper process");
        }
        c->cb = *cb;
        c->user = user;
        c->fd = fd;
        c->msg_bytes = msg_bytes;
        c->in = in;
        c->tail = &c->head;
        uv_timer_init(loop, &c->gather); /* it never fails */
        c->n_open = 2;
        c->poll.data = c->gather.data = c;
        if (watch(c) < 0) {
                channel_close(c);
                return crew_fail(err, EIO, "cannot watch a helper process");
        }
        *out = c;
        return 0;
}

static int enqueue(struct channel *c, const void *msg, size_t n, const int *fds, size_t n_fds) {
        struct packet *p;

        if (c->n_queued >= CHANNEL_QUEUE_MAX)
                return -ENOBUFS;
        if (!(p = calloc(1, sizeof(*p) + n)))
                return -ENOMEM;
        memcpy(p->bytes, msg, n);
        p->n = n;
        for (; p->n_fds < n_fds; p->n_fds++) {
                p->fds[p->n_fds] = fcntl(fds[p->n_fds], F_DUPFD_CLOEXEC, 3);
                if (p->fds[p->n_fds] < 0) {
                        int r = -errno;
                        packet_free(p);
                        return r;
                }
        }
        *c->tail = p;
        c->tail = &p->next;
        c->n_queued++;
        c->n_held += c->holds;
        return watch(c) < 0 ? -EIO : 0;
}

static int send_or_queue(struct channel *c, const void *msg, size_t n, const int *fds, size_t n_fds) {
        if (c->closing || !c->cb.on_hangup)
                return -EPIPE;
        crew_assert(n_fds <= CHANNEL_FDS_MAX);
        int r = c->head || c->holds ? -EAGAIN : send_one(c, msg, n, fds, n_fds);
        return r == -EAGAIN ? enqueue(c, msg, n, fds, n_fds) : r;
}

int channel_send(struct channel *c, const void *msg, const int *fds, size_t n_fds) {
        return send_or_queue(c, msg, c->msg_bytes, fds, n_fds);
}

int channel_send_part(struct channel *c, const void *msg, size_t n) {
        crew_assert(n <= c->msg_bytes);
        return send_or_queue(c, msg, n, NULL, 0);
}

void channel_hold(struct channel *c) {
        c->holds = true;
}

void channel_release(struct channel *c, bool go_on) {
        c->holds = go_on;
        if (c->n_held == 0 || c->closing || !c->cb.on_hangup)
                return;
        c->n_held = 0;
        if (flush(c) < 0)
                hang_up(c);
}

static _Noreturn void exec_program(const char *path, const char *program, const char *option, const char *const *env,
                                   int fd) {
        char number[16];
        const char *const argv[] = {program, option, number, NULL};
        sigset_t none;

        /* A terminal's Ctrl-C is for crewd, which then ends its helpers in order. */
        setsid();
        sigemptyset(&none);
        sigprocmask(SIG_SETMASK, &none, NULL);
        snprintf(number, sizeof(number), "%d", fd);
        if (fcntl(fd, F_SETFD, 0) == 0)
                execve(path, (char *const *)argv, (char *const *)env);
        _exit(127);
}

int channel_pair(int pair[2]) {
        const int room = 4 << 20; /* the kernel cuts it to what it allows */

        if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
                return -errno;
        setsockopt(pair[0], SOL_SOCKET, SO_SNDBUF, &room, sizeof(room));
        setsockopt(pair[1], SOL_SOCKET, SO_SNDBUF, &room, sizeof(room));
        return 0;
}

int channel_start_program(const char *program, const char *option, const char *const *env, pid_t *pid,
                          struct crew_err *err) {
        char path[PATH_MAX];
        int pair[2], r = crew_program_path(program, path, err);

        if (r < 0)
                return r;
        if ((r = channel_pair(pair)) < 0)
                return crew_fail(err, -r, "cannot make a socket pair for %s: %s", program, strerror(-r));
        *pid = fork();
        if (*pid == 0)
                exec_program(path, program, option, env, pair[1]);
        close(pair[1]);
        if (*pid < 0) {
                close(pair[0]);
                return crew_fail_errno(err, "cannot start %s", program);
        }
        return pair[0];
}
