/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One worker's link: libnng's ipc stream underneath, the pair1 wire of common/spwire on top.
 *
 * Why not an nng pair1 socket: closing a pipe of nng 1.5.2 while a message is half read or half written leaves an
 * operation that never ends, and nng's reaper, which all sockets share, waits for it for good; nng_close() then blocks
 * its caller.  A worker that floods us while it is killed does that within a few tries.  The stream below has no such
 * state, and the message layer on top of it is ours, so a length is judged before anything is allocated for it.
 *
 * Why the loop itself watches the connection: nng's way from bytes that came in to a callback is two threads long, each
 * to be woken, and a third wake-up is the loop's.  Under many small frames that was a third of what a message cost.
 * nng does not tell a connection's descriptor; it is found by the path it was accepted on, which no other has.
 *
 * Guarantees: no send or receive waits; nothing is delivered after on_down or link_close; the listener takes one
 * connection and is gone, so what was queued for a peer that went away can reach nobody.
 * Trusts libnng to move bytes.  Its threads run on_done() only, which sets a flag and wakes the loop.
 */
#include "link.h"

#include "common/spwire.h"
#include "common/util.h"

#include <errno.h>
#include <fcntl.h>
#include <nng/nng.h>
#include <nng/transport/ipc/ipc.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#define NNG_TRIAL_S 2
#define FIRST_READS 4
#define DESCRIPTORS_MAX (1 << 20) /* what a limit of "infinity" would have us look through */

/* An operation that completes on one of nng's threads. */
struct op {
        nng_aio *aio;
        struct link *link;
        bool pending;      /* the loop's view */
        _Atomic bool done; /* set on nng's thread */
};

struct queued {
        struct queued *next;
        size_t n, sent;
        uint8_t bytes[];
};

struct link {
        const struct link_callbacks *cb;
        void *user;
        char path[sizeof(((struct sockaddr_un *)0)->sun_path)];

        nng_stream_listener *listener;
        nng_stream *conn;
        struct op accept, send;
        nng_aio *at_once; /* has no callback: what the socket takes or has at once costs no thread switch */
        uv_async_t wake;
        uv_poll_t poll; /* on the descriptor of conn, which is nng's: watched, never read or closed here */
        bool polled;    /* poll is a handle of the loop */
        int n_handles;

        struct spwire_in in;
        bool more;                   /* in may hold whole frames */
        struct queued *head, **tail; /* while anything is here, send is pending on the head */
        size_t queued_bytes, n_queued;

        bool up, down, closing, send_broken, paused, deaf;
        void (*on_closed)(void *user);
        void *closed_user;
};

static int link_fail(struct crew_err *err, int rv, const char *what) {
        int code = rv & NNG_ESYSERR ? rv & ~NNG_ESYSERR : rv == NNG_ENOMEM ? ENOMEM : EIO;
        return crew_fail(err, code, "%s: %s", what, nng_strerror(rv));
}

/* ---- nng's own start ---- */

static _Noreturn void try_nng(void) {
        const struct rlimit no_core = {0, 0};
        nng_aio *aio;

        /* No orphan, no core file, none of nng's last words; and killed when it hangs. */
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        setrlimit(RLIMIT_CORE, &no_core);
        close(STDERR_FILENO);
        signal(SIGALRM, SIG_DFL);
        alarm(NNG_TRIAL_S);
        _exit(nng_aio_alloc(&aio, NULL, NULL) == 0 ? 0 : 1);
}

/*
 * nng 1.5.2 crashes or hangs when it cannot have all its threads or memory at its first call: a limit on processes is
 * enough.  So a child makes that call first, under the same limits, and is looked at.
 */
static int nng_starts(struct crew_err *err) {
        static enum { UNTRIED, STARTS, FAILS } state; /* tried once: it may take the whole time */
        int status = -1;

        if (state == UNTRIED) {
                pid_t pid = fork();
                if (pid == 0)
                        try_nng();
                if (pid < 0)
                        return crew_fail_errno(err, "cannot try out libnng");
                while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
                        ;
                state = status == 0 ? STARTS : FAILS;
        }
        if (state == STARTS)
                return 0;
        return crew_fail(err, EAGAIN,
                         "libnng cannot start: too little memory, or too few threads allowed (ulimit -u, TasksMax, "
                         "pids.max)");
}

/* ---- operations ---- */

static void on_done(void *arg) {
        struct op *o = arg;

        atomic_store(&o->done, true);
        uv_async_send(&o->link->wake);
}

static int op_init(struct op *o, struct link *l) {
        o->link = l;
        return nng_aio_alloc(&o->aio, on_done, o);
}

static void op_start(struct op *o, void *bytes, size_t n) {
        nng_iov iov = {.iov_buf = bytes, .iov_len = n};

        o->pending = true;
        nng_aio_set_iov(o->aio, 1, &iov); /* cannot fail for one vector */
}

/* True once for each completed operation. */
static bool op_finished(struct op *o) {
        if (!o->pending || !atomic_exchange(&o->done, false))
                return false;
        o->pending = false;
        return true;
}

/* ---- sending ---- */

static void drop_queue(struct link *l) {
        while (l->head) {
                struct queued *q = l->head;
                l->head = q->next;
                free(q);
        }
        l->tail = &l->head;
        l->queued_bytes = l->n_queued = 0;
}

static void start_send(struct link *l) {
        struct queued *q = l->head;

        op_start(&l->send, q->bytes + q->sent, q->n - q->sent);
        nng_stream_send(l->conn, l->send.aio);
}

/*
 * A failed send ends sending only: what the peer sent before it went is still to be read.  On a stream that is closed
 * nothing may be started any more: nng 1.5.2 never ends it, and the link would never be closed.
 */
static void on_sent(struct link *l) {
        struct queued *q = l->head;

        if (nng_aio_result(l->send.aio) || l->send_broken || l->closing || l->down) {
                l->send_broken = true;
                drop_queue(l);
                return;
        }
        q->sent += nng_aio_count(l->send.aio);
        if (q->sent == q->n) {
                l->head = q->next;
                if (!l->head)
                        l->tail = &l->head;
                l->queued_bytes -= q->n;
                l->n_queued--;
                free(q);
        }
        if (l->head)
                start_send(l);
}

/* Moves what can be moved without waiting; the operation is over, one way or the other, on return. */
static int at_once(struct link *l, void (*start)(nng_stream *, nng_aio *), void *bytes, size_t n, size_t *moved) {
        nng_iov iov = {.iov_buf = bytes, .iov_len = n};

        nng_aio_set_iov(l->at_once, 1, &iov);
        start(l->conn, l->at_once);
        nng_aio_cancel(l->at_once);
        nng_aio_wait(l->at_once);
        int rv = nng_aio_result(l->at_once);
        *moved = rv == 0 ? nng_aio_count(l->at_once) : 0;
        return rv == NNG_ECANCELED ? 0 : rv;
}

static int enqueue(struct link *l, struct queued *q) {
        if (!l->head && at_once(l, nng_stream_send, q->bytes, q->n, &q->sent)) {
                l->send_broken = true;
                free(q);
                return -EPIPE;
        }
        if (q->sent == q->n) {
                free(q);
                return 0;
        }
        *l->tail = q;
        l->tail = &q->next;
        l->queued_bytes += q->n;
        l->n_queued++;
        if (l->head == q)
                start_send(l);
        return 0;
}

static struct queued *queued_new(size_t n) {
        struct queued *q = malloc(sizeof(*q) + n);

        if (q)
                *q = (struct queued){.n = n};
        return q;
}

size_t link_queued(const struct link *l, size_t *frames) {
        if (frames)
                *frames = l->n_queued;
        return l->queued_bytes;
}

int link_send(struct link *l, const uint8_t *bytes, size_t n) {
        if (op_finished(&l->send))
                on_sent(l);
        if (l->closing || !l->up || l->down || l->send_broken)
                return -EPIPE;
        if (l->queued_bytes && l->queued_bytes + SPWIRE_HEADER_BYTES + n > LINK_MAX_QUEUED_BYTES)
                return -EAGAIN;
        struct queued *q = queued_new(SPWIRE_HEADER_BYTES + n);
        if (!q)
                return -EAGAIN;
        spwire_header(q->bytes, n);
        memcpy(q->bytes + SPWIRE_HEADER_BYTES, bytes, n);
        return enqueue(l, q);
}

/* ---- receiving ---- */

static void on_poll(uv_poll_t *handle, int status, int events);

static bool listens(const struct link *l) {
        return !l->closing && !l->down && !l->paused && !l->deaf;
}

static void watch(struct link *l) {
        if (!l->polled || !listens(l))
                return;
        uv_poll_start(&l->poll, UV_READABLE, on_poll); /* cannot fail: the descriptor is good */
}

static void go_down(struct link *l, int why) {
        l->down = true;
        if (l->polled)
                uv_poll_stop(&l->poll);
        nng_stream_close(l->conn);
        if (!l->closing)
                l->cb->on_down(l, why, l->user);
}

static void tell_up(struct link *l) {
        uint64_t pid, uid;

        if (nng_stream_get_uint64(l->conn, NNG_OPT_IPC_PEER_PID, &pid) ||
            nng_stream_get_uint64(l->conn, NNG_OPT_IPC_PEER_UID, &uid)) {
                go_down(l, -EIO);
                return;
        }
        l->up = true;
        l->cb->on_up(l, (pid_t)pid, (uid_t)uid, l->user);
        nng_stream_listener_free(l->listener); /* drops whoever else is waiting there */
        l->listener = NULL;
}

/* Takes what is there, within the budget. */
static void take_frames(struct link *l) {
        const uint8_t *frame;
        size_t n;
        uint64_t until = crew_now_ns() + LINK_BUDGET_NS;
        int r = 1;

        for (unsigned i = 0; i < LINK_BUDGET && r > 0 && (i == 0 || crew_now_ns() < until); i++) {
                if (l->paused || l->deaf)
                        return; /* link_pause() goes on here */
                r = spwire_in_next(&l->in, &frame, &n);
                if (l->in.greeted && !l->up)
                        tell_up(l);
                if (r > 0 && !l->closing && !l->down)
                        l->cb->on_frame(l, frame, n, l->user);
                if (l->closing || l->down)
                        return;
        }
        l->more = r > 0;
        if (r < 0)
                go_down(l, r);
        else if (r > 0)
                uv_async_send(&l->wake); /* the others' turn first */
}

/* One read a turn: who has more to say is still readable in the next.  False: there was nothing, or no more is to come. */
static bool receive(struct link *l) {
        uint8_t *where;
        size_t n;

        int r = spwire_in_room(&l->in, &where, &n);
        if (r < 0 || at_once(l, nng_stream_recv, where, n, &n)) {
                go_down(l, r);
                return false;
        }
        if (n == 0)
                return false;
        spwire_in_added(&l->in, n);
        l->more = true;
        take_frames(l);
        return listens(l) && !l->more;
}

/* After a read that found nothing nng's poller waits for one more event, and hears of none from then on.  Else it hears of
 * the end of the connection, and has nobody to tell: it goes round and round until the link is closed, which is when
 * whoever dies needs that processor. */
static void receive_first(struct link *l) {
        for (int i = 0; i < FIRST_READS && receive(l); i++)
                ;
}

static void on_poll(uv_poll_t *handle, int status, int events) {
        struct link *l = handle->data;

        (void)events; /* an error, too, is found by reading: behind all that was said before it */
        if (listens(l) && !l->more)
                receive(l);
        if (status < 0)
                watch(l); /* libuv lets go of what has an error: here a peer that went and had not read everything */
}

void link_pause(struct link *l, bool paused) {
        l->paused = paused;
        if (paused && l->polled)
                uv_poll_stop(&l->poll);
        watch(l);
        if (!paused && !l->closing)
                uv_async_send(&l->wake);
}

void link_deafen(struct link *l) {
        l->deaf = true;
        if (l->polled)
                uv_poll_stop(&l->poll);
}

/* ---- the one connection ---- */

static bool is_connection(int fd, const char *path) {
        struct sockaddr_un name;
        socklen_t n = sizeof(name), n_listens = sizeof(int);
        int listens = 1;

        memset(&name, 0, sizeof(name));
        return getsockname(fd, (struct sockaddr *)&name, &n) == 0 && name.sun_family == AF_UNIX &&
               strncmp(name.sun_path, path, sizeof(name.sun_path)) == 0 &&
               getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listens, &n_listens) == 0 && !listens;
}

/*
 * The descriptor of what was accepted on path.  It was the lowest that was free then, so it is near the one that is now, or
 * near the one of the link that came up before: when many start, a search from the bottom would cost more than the rest.
 */
static int find_connection(const char *path) {
        static int before;
        int now = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 0);
        long limit = sysconf(_SC_OPEN_MAX);
        int max = limit < 0 || limit > DESCRIPTORS_MAX ? DESCRIPTORS_MAX : (int)limit;

        if (now < 0)
                return -errno;
        close(now);
        for (int d = 0; d < max; d++) {
                const int near[] = {now - d, before + d, before - d, now + d};
                for (size_t i = 0; i < ELEMENTSOF(near); i++) {
                        if (near[i] >= 0 && near[i] < max && is_connection(near[i], path))
                                return before = near[i];
                }
        }
        return -ENOENT;
}

static int start_watching(struct link *l) {
        int fd = find_connection(l->path);
        int r = fd < 0 ? fd : uv_poll_init(l->wake.loop, &l->poll, fd);

        if (r < 0)
                return r;
        l->poll.data = l;
        l->polled = true;
        l->n_handles++;
        watch(l);
        return 0;
}

static void greet(struct link *l) {
        struct queued *q = queued_new(sizeof(spwire_hello));

        if (!q) {
                go_down(l, -ENOMEM);
                return;
        }
        memcpy(q->bytes, spwire_hello, sizeof(spwire_hello));
        enqueue(l, q);
        int r = start_watching(l);
        if (r < 0)
                return go_down(l, r);
        receive_first(l);
}

static void on_accepted(struct link *l) {
        bool ok = nng_aio_result(l->accept.aio) == 0;

        nng_stream_listener_close(l->listener); /* unlinks the path; freed a little later, it waits for nng's poller */
        if (ok)
                l->conn = nng_aio_get_output(l->accept.aio, 0);
        if (l->closing && ok) {
                nng_stream_close(l->conn);
        } else if (ok) {
                greet(l);
        } else if (!l->closing) {
                l->down = true;
                l->cb->on_down(l, -EIO, l->user);
        }
}

/* ---- closing ---- */

static void free_nng(struct link *l) {
        /* Each waits for its callback to have returned: no thread of nng's knows this link afterwards. */
        nng_aio_free(l->accept.aio);
        nng_aio_free(l->send.aio);
        nng_aio_free(l->at_once);
        if (l->conn)
                nng_stream_free(l->conn);
        if (l->listener)
                nng_stream_listener_free(l->listener);
}

static void on_handle_closed(uv_handle_t *handle) {
        struct link *l = handle->data;

        if (--l->n_handles > 0)
                return;
        drop_queue(l);
        spwire_in_fini(&l->in);
        if (l->on_closed)
                l->on_closed(l->closed_user);
        free(l);
}

static void finish_close(struct link *l) {
        if (l->accept.pending || l->send.pending || uv_is_closing((uv_handle_t *)&l->wake))
                return;
        if (l->polled)
                uv_close((uv_handle_t *)&l->poll, on_handle_closed);
        free_nng(l);
        uv_close((uv_handle_t *)&l->wake, on_handle_closed);
}

void link_close(struct link *l, void (*on_closed)(void *user), void *user) {
        if (l->closing)
                return;
        l->closing = true;
        l->on_closed = on_closed;
        l->closed_user = user;
        if (l->listener)
                nng_stream_listener_close(l->listener);
        if (l->polled)
                uv_poll_stop(&l->poll);
        if (l->conn)
                nng_stream_close(l->conn);
        uv_async_send(&l->wake); /* the operations end by themselves now; the rest when no callback is on the stack */
}

/* Everything a link tells its owner comes from here or below. */
static void on_wake(uv_async_t *handle) {
        struct link *l = handle->data;

        if (op_finished(&l->accept))
                on_accepted(l);
        if (op_finished(&l->send) && !l->closing)
                on_sent(l);
        if (l->more && listens(l))
                take_frames(l);
        if (l->closing)
                finish_close(l);
}

/* ---- opening ---- */

static int start_listener(struct link *l) {
        char url[sizeof(l->path) + sizeof("ipc://")];
        sigset_t all, before;

        snprintf(url, sizeof(url), "ipc://%s", l->path);
        /* The first call starts nng's threads: none of them may take a signal that the loop thread waits for. */
        sigfillset(&all);
        pthread_sigmask(SIG_SETMASK, &all, &before);
        int rv = nng_stream_listener_alloc(&l->listener, url);
        pthread_sigmask(SIG_SETMASK, &before, NULL);
        if (!rv)
                rv = nng_stream_listener_set_int(l->listener, NNG_OPT_IPC_PERMISSIONS, 0600);
        if (!rv)
                rv = nng_stream_listener_listen(l->listener);
        return rv;
}

static int start_accept(struct link *l) {
        int rv = op_init(&l->accept, l);

        if (!rv)
                rv = op_init(&l->send, l);
        if (!rv)
                rv = nng_aio_alloc(&l->at_once, NULL, NULL);
        if (rv)
                return rv;
        l->accept.pending = true;
        nng_stream_listener_accept(l->listener, l->accept.aio);
        return 0;
}

static struct link *link_new(const char *path, size_t max_frame, const struct link_callbacks *cb, void *user) {
        struct link *l = calloc(1, sizeof(*l));

        if (l) {
                strcpy(l->path, path);
                l->cb = cb;
                l->user = user;
                l->tail = &l->head;
                spwire_in_init(&l->in, max_frame);
        }
        return l;
}

int link_listen(uv_loop_t *loop, const char *path, size_t max_frame, const struct link_callbacks *cb, void *user,
                struct link **out, struct crew_err *err) {
        *out = NULL;
        if (path[0] != '/' || strlen(path) >= sizeof((*out)->path))
                return crew_fail(err, EINVAL, "%s: not an absolute path of less than %zu bytes", path,
                                 sizeof((*out)->path));
        int rv, r = nng_starts(err);
        if (r < 0)
                return r;
        struct link *l = link_new(path, max_frame, cb, user);
        if (!l)
                return crew_fail(err, ENOMEM, "%s: no memory for a link", path);
        r = uv_async_init(loop, &l->wake, on_wake);
        if (r < 0) {
                free(l);
                return crew_fail(err, -r, "%s: %s", path, uv_strerror(r));
        }
        l->wake.data = l;
        l->n_handles = 1;
        if ((rv = start_listener(l)) || (rv = start_accept(l))) {
                r = link_fail(err, rv, path);
                link_close(l, NULL, NULL);
                return r;
        }
        *out = l;
        return 0;
}
