/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One worker's link on libnng: pair1, its own listener, one peer, ever.
 *
 * Guarantees: no send or receive waits; link_close() cuts the peer off at once and leaves the wait for nng's reaper
 * (0.1 ms) to a later turn of the loop; no frame larger than max_frame is ever allocated for; after on_down or link_close
 * nothing is delivered; what was queued for a peer that went away is dropped, because no second peer can take its place.
 * Trusts libnng to frame the stream.  Its threads touch a link only in on_peer_event, and only through atomics.
 */
#include "link.h"

#include "common/util.h"

#include <errno.h>
#include <nng/nng.h>
#include <nng/protocol/pair1/pair.h>
#include <nng/transport/ipc/ipc.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/un.h>

/* RECVMAXSZ counts pair1's hop count. */
#define HOPS_BYTES 4u
/* Messages nng itself holds: enough that a frame on its way out does not stall the next one, no more. */
#define NNG_RECV_QUEUE 2
#define NNG_SEND_QUEUE 2

#define NO_PIPE UINT32_MAX

struct queued {
        struct queued *next;
        nng_msg *msg;
};

struct link {
        const struct link_callbacks *cb;
        void *user;
        char path[sizeof(((struct sockaddr_un *)0)->sun_path)];

        nng_socket sock;
        nng_aio *aio; /* for the calls that must not wait; idle between them */
        uv_async_t wake;
        uv_poll_t readable, writable;
        unsigned polls; /* not yet closed */

        /* Written on nng's threads: claim first, then pid and uid, then up. */
        _Atomic uint32_t pipe_id; /* 0: not claimed yet; NO_PIPE: closed before anybody came */
        _Atomic bool up, gone;
        pid_t peer_pid;
        uid_t peer_uid;

        bool up_told, down_told, closing, has_wake, has_readable, has_writable;
        struct queued *head, **tail;
        size_t queued_bytes;
        void (*on_closed)(void *user);
        void *closed_user;
};

static int link_fail(struct crew_err *err, int rv, const char *what) {
        int code = rv & NNG_ESYSERR       ? rv & ~NNG_ESYSERR
                   : rv == NNG_ENOMEM     ? ENOMEM
                   : rv == NNG_EADDRINUSE ? EADDRINUSE
                                          : EIO;
        return crew_fail(err, code, "%s: %s", what, nng_strerror(rv));
}

static bool pipe_peer(nng_pipe p, struct link *l) {
        uint64_t pid, uid;

        if (nng_pipe_get_uint64(p, NNG_OPT_IPC_PEER_PID, &pid) || nng_pipe_get_uint64(p, NNG_OPT_IPC_PEER_UID, &uid))
                return false;
        l->peer_pid = (pid_t)pid;
        l->peer_uid = (uid_t)uid;
        return true;
}

/* On one of nng's threads.  The first pipe claims the link for good; any other is refused before it can say a word. */
static void on_peer_event(nng_pipe p, nng_pipe_ev ev, void *arg) {
        struct link *l = arg;
        uint32_t id = (uint32_t)nng_pipe_id(p), nobody = 0;

        if (ev == NNG_PIPE_EV_ADD_PRE) {
                if (!atomic_compare_exchange_strong(&l->pipe_id, &nobody, id)) {
                        nng_pipe_close(p);
                        return;
                }
                unlink(l->path);
                if (!pipe_peer(p, l)) {
                        nng_pipe_close(p);
                        return;
                }
                atomic_store(&l->up, true);
        } else if (id == atomic_load(&l->pipe_id)) {
                atomic_store(&l->gone, true);
        } else {
                return;
        }
        uv_async_send(&l->wake);
}

static void drop_queue(struct link *l) {
        while (l->head) {
                struct queued *q = l->head;
                l->head = q->next;
                nng_msg_free(q->msg);
                free(q);
        }
        l->tail = &l->head;
        l->queued_bytes = 0;
        if (l->has_writable && !uv_is_closing((uv_handle_t *)&l->writable))
                uv_poll_stop(&l->writable);
}

/* 0, NNG_ETIMEDOUT when it would have to wait, or another nng error.  nng owns msg after 0. */
static int send_now(struct link *l, nng_msg *msg) {
        nng_aio_set_msg(l->aio, msg);
        nng_send_aio(l->sock, l->aio);
        nng_aio_wait(l->aio);
        return nng_aio_result(l->aio);
}

/* As send_now; *msg is the caller's after 0. */
static int receive_now(struct link *l, nng_msg **msg) {
        nng_recv_aio(l->sock, l->aio);
        nng_aio_wait(l->aio);
        int rv = nng_aio_result(l->aio);
        *msg = rv ? NULL : nng_aio_get_msg(l->aio);
        return rv;
}

static void on_writable(uv_poll_t *handle, int status, int events) {
        struct link *l = handle->data;

        while (l->head && !l->closing) {
                struct queued *q = l->head;
                size_t n = nng_msg_len(q->msg);
                int rv = send_now(l, q->msg);
                if (rv == NNG_ETIMEDOUT)
                        return;
                if (rv)
                        nng_msg_free(q->msg);
                l->head = q->next;
                l->queued_bytes -= n;
                free(q);
        }
        drop_queue(l);
}

/* The descriptor that says when to go on exists only for links that were once full. */
static int watch_writable(struct link *l) {
        int fd;

        if (!l->has_writable) {
                if (nng_socket_get_int(l->sock, NNG_OPT_SENDFD, &fd))
                        return -ENOMEM;
                int r = uv_poll_init(l->wake.loop, &l->writable, fd);
                if (r < 0)
                        return r;
                l->writable.data = l;
                l->polls++;
                l->has_writable = true;
        }
        return uv_poll_start(&l->writable, UV_READABLE, on_writable);
}

static int enqueue(struct link *l, nng_msg *msg) {
        struct queued *q;

        if (nng_msg_len(msg) > LINK_MAX_QUEUED_BYTES - l->queued_bytes || !(q = malloc(sizeof(*q))))
                return -EAGAIN;
        if (!l->head && watch_writable(l) < 0) {
                free(q);
                return -EAGAIN;
        }
        *q = (struct queued){NULL, msg};
        *l->tail = q;
        l->tail = &q->next;
        l->queued_bytes += nng_msg_len(msg);
        return 0;
}

int link_send(struct link *l, const uint8_t *bytes, size_t n) {
        nng_msg *msg;

        if (l->closing || !l->up_told || atomic_load(&l->gone))
                return -EPIPE;
        if (nng_msg_alloc(&msg, n))
                return -EAGAIN;
        memcpy(nng_msg_body(msg), bytes, n);
        int rv = l->head ? NNG_ETIMEDOUT : send_now(l, msg);
        int r = rv == 0 ? 0 : rv == NNG_ETIMEDOUT ? enqueue(l, msg) : -EPIPE;
        if (r < 0)
                nng_msg_free(msg);
        return r;
}

/* Takes what is there, within the budget.  True when nothing is left. */
static bool take_frames(struct link *l) {
        nng_msg *msg;

        for (unsigned i = 0; i < LINK_BUDGET; i++) {
                if (receive_now(l, &msg))
                        return true;
                if ((uint32_t)nng_pipe_id(nng_msg_get_pipe(msg)) == atomic_load(&l->pipe_id))
                        l->cb->on_frame(l, nng_msg_body(msg), nng_msg_len(msg), l->user);
                nng_msg_free(msg);
                if (l->closing)
                        return false;
        }
        return false;
}

/* Everything a link tells its owner comes from here, in order: up, frames, down.  nng reports a peer's end after its
 * last frame, so `gone` is read before the frames are taken. */
static void pump(struct link *l) {
        bool gone = atomic_load(&l->gone);

        if (l->closing || l->down_told)
                return;
        if (!l->up_told && atomic_load(&l->up)) {
                l->up_told = true;
                l->cb->on_up(l, l->peer_pid, l->peer_uid, l->user);
        }
        bool empty = !l->closing && l->up_told && take_frames(l);
        if (l->closing || !gone || (l->up_told && !empty))
                return;
        l->down_told = true;
        uv_poll_stop(&l->readable);
        drop_queue(l);
        l->cb->on_down(l, l->user);
}

static void on_wake(uv_async_t *handle) {
        pump(handle->data);
}

static void on_readable(uv_poll_t *handle, int status, int events) {
        pump(handle->data);
}

static void on_wake_closed(uv_handle_t *handle) {
        struct link *l = handle->data;

        if (l->on_closed)
                l->on_closed(l->closed_user);
        free(l);
}

/* With the polls closed, nng may close their descriptors; nothing of nng's runs after nng_close(). */
static void close_nng(struct link *l) {
        nng_close(l->sock);
        nng_aio_free(l->aio);
        uv_close((uv_handle_t *)&l->wake, on_wake_closed);
}

static void on_poll_closed(uv_handle_t *handle) {
        struct link *l = handle->data;

        if (--l->polls == 0)
                close_nng(l);
}

void link_close(struct link *l, void (*on_closed)(void *user), void *user) {
        uint32_t nobody = 0;

        if (l->closing)
                return;
        l->closing = true;
        l->on_closed = on_closed;
        l->closed_user = user;
        drop_queue(l);
        if (!atomic_compare_exchange_strong(&l->pipe_id, &nobody, NO_PIPE))
                nng_pipe_close((nng_pipe){.id = nobody});
        if (l->has_writable)
                uv_close((uv_handle_t *)&l->writable, on_poll_closed);
        if (l->has_readable)
                uv_close((uv_handle_t *)&l->readable, on_poll_closed);
        else
                close_nng(l);
}

/* The first call starts nng's threads: none of them may take a signal that the loop thread waits for. */
static int open_socket(nng_socket *sock) {
        sigset_t all, before;

        sigfillset(&all);
        pthread_sigmask(SIG_SETMASK, &all, &before);
        int rv = nng_pair1_open(sock);
        pthread_sigmask(SIG_SETMASK, &before, NULL);
        return rv;
}

static int configure(struct link *l, size_t max_frame) {
        int rv = nng_socket_set_size(l->sock, NNG_OPT_RECVMAXSZ, max_frame + HOPS_BYTES);
        if (!rv)
                rv = nng_socket_set_int(l->sock, NNG_OPT_RECVBUF, NNG_RECV_QUEUE);
        if (!rv)
                rv = nng_socket_set_int(l->sock, NNG_OPT_SENDBUF, NNG_SEND_QUEUE);
        if (!rv)
                rv = nng_pipe_notify(l->sock, NNG_PIPE_EV_ADD_PRE, on_peer_event, l);
        if (!rv)
                rv = nng_pipe_notify(l->sock, NNG_PIPE_EV_REM_POST, on_peer_event, l);
        if (!rv)
                rv = nng_aio_alloc(&l->aio, NULL, NULL);
        if (!rv)
                nng_aio_set_timeout(l->aio, NNG_DURATION_ZERO);
        return rv;
}

static int start_listener(struct link *l) {
        char url[sizeof(l->path) + sizeof("ipc://")];
        nng_listener listener;

        snprintf(url, sizeof(url), "ipc://%s", l->path);
        int rv = nng_listener_create(&listener, l->sock, url);
        if (!rv)
                rv = nng_listener_set_int(listener, NNG_OPT_IPC_PERMISSIONS, 0600);
        if (!rv)
                rv = nng_listener_start(listener, 0);
        return rv;
}

static int watch_readable(uv_loop_t *loop, struct link *l, struct crew_err *err) {
        int fd, r;
        int rv = nng_socket_get_int(l->sock, NNG_OPT_RECVFD, &fd);

        if (rv)
                return link_fail(err, rv, l->path);
        if ((r = uv_poll_init(loop, &l->readable, fd)) < 0)
                return crew_fail(err, -r, "%s: watching it: %s", l->path, uv_strerror(r));
        l->polls++;
        l->has_readable = true;
        if ((r = uv_poll_start(&l->readable, UV_READABLE, on_readable)) < 0)
                return crew_fail(err, -r, "%s: watching it: %s", l->path, uv_strerror(r));
        return 0;
}

/* What exists by now is closed the ordinary way; before the first handle there is only nng. */
static void abandon(struct link *l) {
        if (l->has_wake) {
                link_close(l, NULL, NULL);
                return;
        }
        nng_close(l->sock);
        nng_aio_free(l->aio);
        free(l);
}

static int link_start(uv_loop_t *loop, struct link *l, size_t max_frame, struct crew_err *err) {
        int r, rv;

        if ((rv = configure(l, max_frame)))
                return link_fail(err, rv, l->path);
        if ((r = uv_async_init(loop, &l->wake, on_wake)) < 0)
                return crew_fail(err, -r, "%s: %s", l->path, uv_strerror(r));
        l->has_wake = true;
        l->wake.data = l->readable.data = l->writable.data = l;
        if ((r = watch_readable(loop, l, err)) < 0)
                return r;
        if ((rv = start_listener(l)))
                return link_fail(err, rv, l->path);
        return 0;
}

int link_listen(uv_loop_t *loop, const char *path, size_t max_frame, const struct link_callbacks *cb, void *user,
                struct link **out, struct crew_err *err) {
        *out = NULL;
        if (path[0] != '/' || strlen(path) >= sizeof((*out)->path))
                return crew_fail(err, EINVAL, "%s: not an absolute path of less than %zu bytes", path,
                                 sizeof((*out)->path));
        struct link *l = calloc(1, sizeof(*l));
        if (!l)
                return crew_fail(err, ENOMEM, "%s: no memory for a link", path);
        strcpy(l->path, path);
        l->cb = cb;
        l->user = user;
        l->tail = &l->head;
        int rv = open_socket(&l->sock);
        if (rv) {
                free(l);
                return link_fail(err, rv, path);
        }
        int r = link_start(loop, l, max_frame, err);
        if (r < 0) {
                abandon(l);
                return r;
        }
        *out = l;
        return 0;
}
