/* SPDX-License-Identifier: Apache-2.0 */
/* Listener, connections and their queues.  What the requests mean is in requests.c. */
#include "control.h"

#include "common/spwire.h"
#include "common/util.h"
#include "crewd.h"
#include "execs.h"
#include "requests.h"
#include "scheduler.h"
#include "text.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#define CONTROL_ACCEPTS 16 /* per wake-up, before other work gets a turn */
#define CONTROL_LISTEN_AGAIN_NS 100000000u

struct client {
        uv_pipe_t pipe; /* first: the handle is the client */
        struct control *control;
        uint64_t id;
        uid_t uid;
        char name[160];
        bool orchestrator;
        uint32_t ipc_state; /* IPC_STATE_NEW, IPC_STATE_OPEN */
        bool subscribed, closing, draining;
        uint64_t follows; /* approvals: number of its request; 0: it does not */
        uint64_t seq_in, seq_out, hello_by_ns;
        struct spwire_in in;
        struct packet *held, **held_end; /* owned; until control_flush() */
        size_t held_bytes;
};

struct packet {
        uv_write_t req; /* first */
        struct packet *next;
        size_t n;
        uint8_t *bytes;
};

struct control {
        struct crewd *crewd;
        uv_poll_t listener;
        int listen_fd; /* owned */
        uint64_t listen_again_ns;
        bool listening, closing;
        uint64_t next_id;
        uint32_t n_clients;
        struct client *clients[CONTROL_CLIENTS_MAX];
};

static struct client *find(struct control *k, uint64_t id) {
        for (uint32_t i = 0; k && i < CONTROL_CLIENTS_MAX; i++) {
                if (k->clients[i] && k->clients[i]->id == id && !k->clients[i]->closing)
                        return k->clients[i];
        }
        return NULL;
}

static void on_client_closed(uv_handle_t *h) {
        struct client *cl = (struct client *)h;
        struct control *k = cl->control;

        for (uint32_t i = 0; i < CONTROL_CLIENTS_MAX; i++) {
                if (k->clients[i] == cl)
                        k->clients[i] = NULL;
        }
        k->n_clients--;
        while (cl->held) {
                struct packet *p = cl->held;
                cl->held = p->next;
                free(p->bytes);
                free(p);
        }
        spwire_in_fini(&cl->in);
        free(cl);
        crewd_progress(k->crewd);
}

static void drop(struct client *cl) {
        struct crewd *c = cl->control->crewd;

        if (cl->closing)
                return;
        cl->closing = true;
        scheduler_forget_client(c->scheduler, cl->id);
        execs_client_gone(c->execs, cl->id);
        uv_close((uv_handle_t *)&cl->pipe, on_client_closed);
}

/* --- output --- */

static size_t queued(const struct client *cl) {
        return cl->held_bytes + uv_stream_get_write_queue_size((const uv_stream_t *)&cl->pipe);
}

static void on_written(uv_write_t *req, int status) {
        struct packet *p = (struct packet *)req;
        struct client *cl = (struct client *)req->handle;

        free(p->bytes);
        free(p);
        if (status < 0 || (cl->draining && queued(cl) == 0))
                drop(cl);
        else if (!cl->closing && queued(cl) == 0)
                execs_client_reads(cl->control->crewd->execs, cl->id);
}

static void too_slow(struct client *cl) {
        drop(cl);
        crewd_log(cl->control->crewd, "%s does not read: dropped", cl->name);
}

static bool write_packet(struct client *cl, struct packet *p) {
        uv_buf_t buf = uv_buf_init((char *)p->bytes, (unsigned)p->n);

        if (uv_write(&p->req, (uv_stream_t *)&cl->pipe, &buf, 1, on_written) == 0)
                return true;
        free(p->bytes);
        free(p);
        return false;
}

/* Takes bytes over.  A client whose queue is full is dropped: nobody waits for it. */
static void put(struct client *cl, uint8_t *bytes, size_t n) {
        struct packet *p = queued(cl) + n <= CONTROL_QUEUE_MAX ? malloc(sizeof(*p)) : NULL;

        if (!p) {
                free(bytes);
                return too_slow(cl);
        }
        *p = (struct packet){.bytes = bytes, .n = n};
        if (!cl->held)
                cl->held_end = &cl->held;
        *cl->held_end = p;
        cl->held_end = &p->next;
        cl->held_bytes += n;
}

void control_flush(struct control *k) {
        for (uint32_t i = 0; k && i < CONTROL_CLIENTS_MAX; i++) {
                struct client *cl = k->clients[i];
                while (cl && cl->held && !cl->closing) {
                        struct packet *p = cl->held;
                        cl->held = p->next;
                        cl->held_bytes -= p->n;
                        if (!write_packet(cl, p))
                                too_slow(cl);
                }
        }
}

static void send_to(struct client *cl, Crew__Envelope *e) {
        struct crew_err err = CREW_ERR_NULL;
        uint8_t *bytes;
        size_t n;

        e->version = 1;
        e->seq = cl->seq_out + 1;
        if (ipc_pack(e, SPWIRE_HEADER_BYTES, &bytes, &n, &err) < 0) {
                crewd_log(cl->control->crewd, "cannot send %s to %s: %s", ipc_body_name(e), cl->name, err.msg);
                return drop(cl);
        }
        spwire_header(bytes, n);
        cl->seq_out++;
        put(cl, bytes, SPWIRE_HEADER_BYTES + n);
}

void control_send(struct control *k, uint64_t client, Crew__Envelope *e) {
        struct client *cl = find(k, client);

        if (cl)
                send_to(cl, e);
}

static void refuse(struct client *cl, uint64_t corr, const char *code, const char *hint, const char *message) {
        Crew__Refused body = CREW__REFUSED__INIT;
        Crew__Envelope e = CREW__ENVELOPE__INIT;
        char text[1024], more[1024];

        text_copy(text, sizeof(text), message, SIZE_MAX);
        text_copy(more, sizeof(more), hint, SIZE_MAX);
        body.code = (char *)code;
        body.message = text;
        body.hint = more;
        e.corr = corr;
        e.body_case = CREW__ENVELOPE__BODY_REFUSED;
        e.refused = &body;
        send_to(cl, &e);
}

void control_refuse(struct control *k, uint64_t client, uint64_t corr, const char *code, const char *hint, const char *fmt,
                    ...) {
        struct client *cl = find(k, client);
        char message[1024];
        va_list ap;

        va_start(ap, fmt);
        vsnprintf(message, sizeof(message), fmt, ap);
        va_end(ap);
        if (cl)
                refuse(cl, corr, code, hint, message);
}

void control_event(struct control *k, const Crew__Event *event) {
        for (uint32_t i = 0; k && i < CONTROL_CLIENTS_MAX; i++) {
                struct client *cl = k->clients[i];
                Crew__Envelope e = CREW__ENVELOPE__INIT;
                if (!cl || cl->closing || !cl->subscribed)
                        continue;
                e.body_case = CREW__ENVELOPE__BODY_EVENT;
                e.event = (Crew__Event *)event;
                send_to(cl, &e);
        }
}

void control_follow(struct control *k, uint64_t client, uint64_t corr) {
        struct client *cl = find(k, client);

        if (cl)
                cl->follows = corr;
}

static bool follows(const struct client *cl) {
        return cl && cl->follows && !cl->closing && !cl->draining;
}

bool control_followed(const struct control *k) {
        for (uint32_t i = 0; k && i < CONTROL_CLIENTS_MAX; i++) {
                if (follows(k->clients[i]))
                        return true;
        }
        return false;
}

void control_approval(struct control *k, Crew__ApprovalChanged *body) {
        for (uint32_t i = 0; k && i < CONTROL_CLIENTS_MAX; i++) {
                Crew__Envelope e = CREW__ENVELOPE__INIT;
                if (!follows(k->clients[i]))
                        continue;
                e.corr = k->clients[i]->follows;
                e.body_case = CREW__ENVELOPE__BODY_APPROVAL_CHANGED;
                e.approval_changed = body;
                send_to(k->clients[i], &e);
        }
}

const char *control_client_name(struct control *k, uint64_t client) {
        const struct client *cl = find(k, client);

        return cl ? cl->name : "a client";
}

Crew__Cause control_client_cause(struct control *k, uint64_t client) {
        const struct client *cl = find(k, client);

        return cl && cl->orchestrator ? CREW__CAUSE__CAUSE_ORCHESTRATOR : CREW__CAUSE__CAUSE_OPERATOR;
}

void control_subscribe(struct control *k, uint64_t client) {
        struct client *cl = find(k, client);

        if (cl)
                cl->subscribed = true;
}

bool control_subscribed(struct control *k, uint64_t client) {
        const struct client *cl = find(k, client);

        return cl && cl->subscribed;
}

/* --- input --- */

static void greet(struct client *cl, const Crew__Envelope *e) {
        char name[sizeof(cl->name)];

        cl->ipc_state = IPC_STATE_OPEN;
        cl->hello_by_ns = 0;
        text_copy(name, sizeof(name), e->client_hello->client, SIZE_MAX);
        cl->orchestrator = e->client_hello->orchestrator;
        snprintf(cl->name, sizeof(cl->name), "uid %u (%.100s)", (unsigned)cl->uid, name);
        /* The text goes into records and one-line displays. */
        for (char *p = cl->name; *p; p++)
                *p = *p == '\n' || *p == '\t' ? ' ' : *p;
}

static void on_client_frame(struct client *cl, const uint8_t *bytes, size_t n) {
        struct crewd *c = cl->control->crewd;
        struct ipc_refusal why;
        const Crew__Envelope *e;
        char text[256];

        coalesce_note(&c->coalesce, true);
        if (ipc_accept(c->arena, IPC_CLIENT, cl->ipc_state, bytes, n, &e, &why) != IPC_ACCEPTED) {
                snprintf(text, sizeof(text), "%s: %s %s", ipc_reject_names[why.why], why.field, why.rule);
                refuse(cl, ++cl->seq_in, why.why == IPC_WRONG_STATE ? "wrong-state" : "bad-frame", "", text);
                cl->draining = true;
                return;
        }
        if (!ipc_seq_next(&cl->seq_in, e->seq)) {
                refuse(cl, e->seq, "bad-frame", "", "the sequence number does not follow the frame before");
                cl->draining = true;
                return;
        }
        if (cl->ipc_state == IPC_STATE_NEW)
                greet(cl, e);
        request_handle(c, cl->id, e);
        ipc_arena_reset(c->arena);
}

static void on_alloc(uv_handle_t *h, size_t suggested, uv_buf_t *buf) {
        struct client *cl = (struct client *)h;
        uint8_t *where;
        size_t n;

        (void)suggested;
        *buf = spwire_in_room(&cl->in, &where, &n) == 0 ? uv_buf_init((char *)where, (unsigned)MIN_OF(n, (size_t)1 << 20))
                                                        : uv_buf_init(NULL, 0);
}

static void on_read(uv_stream_t *stream, ssize_t n, const uv_buf_t *buf) {
        struct client *cl = (struct client *)stream;
        const uint8_t *frame;
        size_t frame_len;
        int r;

        (void)buf;
        if (n == 0 || cl->closing)
                return;
        if (n < 0)
                return drop(cl);
        spwire_in_added(&cl->in, (size_t)n);
        while (!cl->closing && !cl->draining && (r = spwire_in_next(&cl->in, &frame, &frame_len)) != 0) {
                if (r < 0)
                        return drop(cl);
                on_client_frame(cl, frame, frame_len);
        }
        if (cl->draining && !cl->closing) {
                uv_read_stop(stream);
                if (queued(cl) == 0)
                        drop(cl);
        }
}

/* --- the listener --- */

static bool peer_ok(struct client *cl) {
        struct ucred cred;
        socklen_t n = sizeof(cred);
        int fd;

        if (uv_fileno((uv_handle_t *)&cl->pipe, &fd) < 0 || getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &n) < 0)
                return false;
        cl->uid = cred.uid;
        snprintf(cl->name, sizeof(cl->name), "uid %u", (unsigned)cred.uid);
        return cred.uid == geteuid() || cred.uid == 0;
}

static void begin(struct client *cl) {
        uint8_t *hello = malloc(SPWIRE_HELLO_BYTES);

        cl->hello_by_ns = crew_now_ns() + CONTROL_HELLO_NS;
        cl->ipc_state = IPC_STATE_NEW;
        spwire_in_init(&cl->in, ipc_max_frame[IPC_CLIENT]);
        if (!hello || !peer_ok(cl)) {
                free(hello);
                return drop(cl);
        }
        memcpy(hello, spwire_hello, SPWIRE_HELLO_BYTES);
        put(cl, hello, SPWIRE_HELLO_BYTES);
        if (!cl->closing && uv_read_start((uv_stream_t *)&cl->pipe, on_alloc, on_read) < 0)
                drop(cl);
}

static void on_refused_closed(uv_handle_t *h) {
        free(h);
}

static void adopt(struct control *k, int fd) {
        struct client *cl = k->n_clients < CONTROL_CLIENTS_MAX ? calloc(1, sizeof(*cl)) : NULL;

        if (!cl) {
                close(fd);
                return;
        }
        uv_pipe_init(&k->crewd->loop, &cl->pipe, 0);
        if (uv_pipe_open(&cl->pipe, fd) < 0) {
                close(fd);
                uv_close((uv_handle_t *)&cl->pipe, on_refused_closed);
                return;
        }
        cl->control = k;
        cl->id = ++k->next_id;
        for (uint32_t i = 0; i < CONTROL_CLIENTS_MAX; i++) {
                if (!k->clients[i]) {
                        k->clients[i] = cl;
                        break;
                }
        }
        k->n_clients++;
        begin(cl);
}

/*
 * Not uv_listen(): a connection that libuv has taken and we have no memory for would be the last one it ever takes, and
 * an accept() that keeps failing (a full file table) keeps it busy for good.
 */
static void on_connection(uv_poll_t *h, int status, int events) {
        struct control *k = h->data;

        (void)events;
        for (int i = 0; status == 0 && i < CONTROL_ACCEPTS; i++) {
                int fd = accept4(k->listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
                if (fd >= 0) {
                        adopt(k, fd);
                        continue;
                }
                if (errno == EAGAIN || errno == ECONNABORTED || errno == EINTR)
                        return;
                status = -errno;
        }
        if (status < 0) {
                uv_poll_stop(h);
                k->listen_again_ns = crew_now_ns() + CONTROL_LISTEN_AGAIN_NS;
        }
}

static int listen_on(struct control *k) {
        k->listen_again_ns = 0;
        return uv_poll_start(&k->listener, UV_READABLE, on_connection);
}

/* Bound by hand: the socket must never exist with a wider mode than 0600. */
static int make_socket(const char *dir, struct crew_err *err) {
        struct sockaddr_un addr = {.sun_family = AF_UNIX};
        _cleanup_close_ int at = open(dir, O_PATH | O_DIRECTORY | O_CLOEXEC);

        if (at < 0)
                return crew_fail_errno(err, "cannot open %s", dir);
        /* Through the descriptor: the path may be longer than a socket address. */
        snprintf(addr.sun_path, sizeof(addr.sun_path), "/proc/self/fd/%d/control.sock", at);
        _cleanup_close_ int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        if (fd < 0)
                return crew_fail_errno(err, "cannot make a socket");
        mode_t before = umask(0177);
        int r = bind(fd, (struct sockaddr *)&addr, sizeof(addr));
        int saved = errno;
        umask(before);
        errno = saved;
        if (r < 0)
                return crew_fail_errno(err, "cannot bind %s/control.sock", dir);
        return crew_steal_fd(&fd);
}

int control_open(struct crewd *c, const char *dir, struct control **out, struct crew_err *err) {
        struct control *k = calloc(1, sizeof(*k));
        _cleanup_close_ int fd = make_socket(dir, err);

        if (!k || fd < 0) {
                free(k);
                return fd < 0 ? fd : crew_fail(err, ENOMEM, "out of memory");
        }
        k->crewd = c;
        int r = listen(fd, 128) < 0 ? -errno : uv_poll_init(&c->loop, &k->listener, fd);
        if (r == 0) {
                k->listener.data = k;
                k->listen_fd = crew_steal_fd(&fd);
                k->listening = true;
                r = listen_on(k);
        }
        *out = k; /* control_close() cleans up */
        return r < 0 ? crew_fail(err, -r, "cannot listen in %s: %s", dir, uv_strerror(r)) : 0;
}

void control_close(struct control *k, bool at_once) {
        if (!k)
                return;
        if (k->listening) {
                uv_close((uv_handle_t *)&k->listener, NULL);
                crew_close(&k->listen_fd);
        }
        k->listening = false;
        k->closing = true;
        if (at_once && !k->crewd->checkpoint)
                control_flush(k);
        for (uint32_t i = 0; i < CONTROL_CLIENTS_MAX; i++) {
                struct client *cl = k->clients[i];
                if (!cl || cl->closing)
                        continue;
                cl->draining = true;
                uv_read_stop((uv_stream_t *)&cl->pipe);
                if (at_once || queued(cl) == 0)
                        drop(cl);
        }
}

bool control_drained(const struct control *k) {
        return !k || k->n_clients == 0;
}

void control_free(struct control *k) {
        free(k);
}

/* --- time --- */

void control_expire(struct control *k, uint64_t now_ns) {
        if (k && k->listening && k->listen_again_ns && now_ns >= k->listen_again_ns)
                listen_on(k);
        for (uint32_t i = 0; k && i < CONTROL_CLIENTS_MAX; i++) {
                struct client *cl = k->clients[i];
                if (cl && !cl->closing && cl->hello_by_ns && now_ns >= cl->hello_by_ns)
                        drop(cl);
        }
}

uint64_t control_next_deadline(const struct control *k) {
        uint64_t next = k && k->listening && k->listen_again_ns ? k->listen_again_ns : UINT64_MAX;

        for (uint32_t i = 0; k && i < CONTROL_CLIENTS_MAX; i++) {
                const struct client *cl = k->clients[i];
                if (cl && !cl->closing && cl->hello_by_ns)
                        next = MIN_OF(next, cl->hello_by_ns);
        }
        return next;
}
