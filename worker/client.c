/* SPDX-License-Identifier: Apache-2.0 */
/* Connections.  A client is freed at the end of its own event or of an answer to it, never in between. */
#include "client.h"

#include "common/util.h"
#include "inbox.h"
#include "methods.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#define READ_BYTES 4096u
#define READS_A_TURN 32
#define PAUSE_UNSENT (1u << 20) /* no more requests are read from a client that does not read answers */
#define MAX_UNSENT (16u << 20)  /* more closes the connection */
#define MAX_UNSENT_ALL (32u << 20)

/* ---- calls ---- */

struct call *call_new(struct client *c, enum call_kind kind, struct json_span id, uint64_t timeout_ms) {
        struct worker *w = c->w;
        struct call *k = w->n_calls < MAX_CALLS ? calloc(1, sizeof(*k)) : NULL;

        if (!k) {
                rpc_error(&c->out, id, RPC_TOO_MANY, "too many calls wait for an answer", NULL, 0);
                return NULL;
        }
        *k = (struct call){.w = w, .client = c, .kind = kind, .timeout_ms = timeout_ms, .n_id = id.n};
        memcpy(k->id, id.p, id.n);
        list_append(&w->calls, &k->link);
        w->n_calls++;
        c->n_calls++;
        return k;
}

void call_free(struct call *k) {
        timer_stop(&k->timer);
        list_remove(&k->link);
        k->w->n_calls--;
        if (k->client)
                k->client->n_calls--;
        free(k);
}

struct call *call_find(struct worker *w, uint64_t seq) {
        list_for_each(it, &w->calls) {
                struct call *k = container_of(it, struct call, link);
                if (seq && k->seq == seq)
                        return k;
        }
        return NULL;
}

static void client_settle(struct client *c);

void call_finish(struct call *k) {
        struct client *c = k->client;

        call_free(k);
        if (c)
                client_settle(c);
}

void call_cancel(struct client *c, struct json_span id) {
        list_for_each(it, &c->w->calls) {
                struct call *k = container_of(it, struct call, link);
                if (k->client != c || k->n_id != id.n || memcmp(k->id, id.p, id.n) != 0)
                        continue;
                if (k->kind == CALL_RECEIVE) {
                        call_free(k);
                } else { /* crewd decides it all the same */
                        k->client = NULL;
                        c->n_calls--;
                }
                return;
        }
}

static struct call *first_receiver(const struct worker *w) {
        list_for_each(it, &w->calls) {
                struct call *k = container_of(it, struct call, link);
                if (k->kind == CALL_RECEIVE)
                        return k;
        }
        return NULL;
}

bool client_waits(const struct worker *w) {
        return first_receiver(w) != NULL;
}

void client_letter(struct worker *w) {
        struct strbuf letter = STRBUF_MAX(2u << 20);
        struct call *k = first_receiver(w);

        if (k && inbox_take(w, &letter)) {
                rpc_result_begin(&k->client->out, call_id(k));
                strbuf_put(&k->client->out, letter.p, letter.n);
                rpc_result_end(&k->client->out);
                call_finish(k);
        }
        strbuf_fini(&letter);
}

/* ---- one connection ---- */

static void client_free(struct client *c) {
        struct worker *w = c->w;

        list_for_each(it, &w->calls) {
                struct call *k = container_of(it, struct call, link);
                if (k->client != c)
                        continue;
                k->client = NULL;
                if (k->kind == CALL_RECEIVE)
                        call_free(k);
        }
        watch_close(&w->loop, &c->watch);
        list_remove(&c->link);
        w->n_clients--;
        strbuf_fini(&c->in);
        strbuf_fini(&c->out);
        strbuf_fini(&c->tools);
        free(c);
}

static size_t unsent_of_all(const struct worker *w) {
        size_t sum = 0;

        list_for_each(it, &w->clients) {
                const struct client *c = container_of(it, struct client, link);
                sum += c->out.n - c->sent;
        }
        return sum;
}

static void flush_out(struct client *c) {
        while (c->sent < c->out.n) {
                ssize_t r = send(c->watch.fd, c->out.p + c->sent, c->out.n - c->sent, MSG_NOSIGNAL | MSG_DONTWAIT);
                if (r < 0 && errno == EINTR)
                        continue;
                if (r < 0 && errno != EAGAIN)
                        c->dead = true;
                if (r < 0)
                        break;
                c->sent += (size_t)r;
        }
        if (c->sent == c->out.n || c->sent > MAX_UNSENT / 2) {
                strbuf_drop(&c->out, c->sent);
                c->sent = 0;
        }
        size_t left = c->out.n - c->sent;
        if (c->out.failed || (left > PAUSE_UNSENT && unsent_of_all(c->w) > MAX_UNSENT_ALL))
                c->dead = true;
}

static bool client_reads(const struct client *c) {
        return !c->eof && !c->closing && c->out.n - c->sent <= PAUSE_UNSENT && !uplink_busy(&c->w->up);
}

/* After anything happened to c: sends, then frees it or waits for what it can do next. */
static void client_settle(struct client *c) {
        flush_out(c);
        bool pending = c->out.n > c->sent;
        if (c->dead || (!pending && (c->closing || (c->eof && !c->n_calls)))) {
                client_free(c);
                return;
        }
        /* Always something, so that a peer that is gone altogether is noticed. */
        uint32_t events = EPOLLHUP | (client_reads(c) ? EPOLLIN : 0) | (pending ? EPOLLOUT : 0);
        if (watch_set(&c->w->loop, &c->watch, events) < 0)
                client_free(c);
}

/* The last thing this connection hears. */
static void client_refuse(struct client *c, int code, const char *what) {
        rpc_error(&c->out, (struct json_span){"null", 4}, code, what, NULL, 0);
        c->closing = true;
        strbuf_fini(&c->in);
        (void)shutdown(c->watch.fd, SHUT_RD);
}

static void take_lines(struct client *c) {
        size_t from = 0;
        char *nl;

        while (!c->closing && !c->dead && c->scanned < c->in.n &&
               (nl = memchr(c->in.p + c->scanned, '\n', c->in.n - c->scanned))) {
                size_t end = (size_t)(nl - c->in.p);
                if (end > from)
                        method_line(c, c->in.p + from, end - from);
                from = c->scanned = end + 1;
        }
        if (c->closing)
                return;
        strbuf_drop(&c->in, from);
        c->scanned = c->in.n;
        if (c->in.n >= RPC_MAX_LINE)
                client_refuse(c, RPC_INVALID_REQUEST, "line longer than 1048576 bytes");
}

/* True when there may be more at once. */
static bool client_read(struct client *c) {
        char *where = strbuf_room(&c->in, READ_BYTES);
        ssize_t r = where ? recv(c->watch.fd, where, READ_BYTES, MSG_DONTWAIT) : -1;

        if (r < 0 && where && (errno == EAGAIN || errno == EINTR))
                return false;
        if (r < 0)
                c->dead = true;
        else if (r == 0)
                c->eof = true;
        if (r <= 0)
                return false;
        strbuf_added(&c->in, (size_t)r);
        take_lines(c);
        return r == READ_BYTES;
}

static void on_client_ready(struct watch *watch, uint32_t events) {
        struct client *c = container_of(watch, struct client, watch);

        for (int i = 0; events & EPOLLIN && i < READS_A_TURN && client_reads(c) && !c->dead && client_read(c); i++)
                ;
        if (events & (EPOLLHUP | EPOLLERR) && !(events & EPOLLIN && client_reads(c)))
                c->dead = true; /* it will hear nothing more */
        client_settle(c);
}

/* ---- the listener ---- */

static void refuse_connection(int fd) {
        struct strbuf b = STRBUF_MAX(512);

        rpc_error(&b, (struct json_span){"null", 4}, RPC_TOO_MANY, "more than 64 connections", NULL, 0);
        if (!b.failed)
                (void)send(fd, b.p, b.n, MSG_NOSIGNAL | MSG_DONTWAIT);
        strbuf_fini(&b);
        close(fd);
}

static void on_listener_ready(struct watch *watch, uint32_t events) {
        struct worker *w = container_of(watch, struct worker, listener);
        int fd = accept4(watch->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
        struct client *c;

        if (fd < 0)
                return;
        if (w->n_clients >= MAX_CLIENTS || !(c = calloc(1, sizeof(*c)))) {
                refuse_connection(fd);
                return;
        }
        *c = (struct client){.w = w,
                             .watch = {.fd = fd, .on_ready = on_client_ready},
                             .in = STRBUF_MAX(RPC_MAX_LINE + READ_BYTES),
                             .out = STRBUF_MAX(MAX_UNSENT),
                             .tools = STRBUF_MAX(8u << 20)};
        list_append(&w->clients, &c->link);
        w->n_clients++;
        client_settle(c);
}

int clients_listen(struct worker *w, struct crew_err *err) {
        struct sockaddr_un sun = {.sun_family = AF_UNIX};
        const char *path = w->cfg->socket_path;

        list_init(&w->clients);
        list_init(&w->calls);
        if (strlen(path) >= sizeof(sun.sun_path))
                return crew_fail(err, ENAMETOOLONG, "%s", path);
        strcpy(sun.sun_path, path);
        _cleanup_close_ int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        if (fd < 0)
                return crew_fail_errno(err, "socket");
        /* Who may connect is decided by the jail: nobody else can see the path. */
        if (bind(fd, (struct sockaddr *)&sun, sizeof(sun)) < 0 || chmod(path, 0666) < 0 || listen(fd, MAX_CLIENTS) < 0)
                return crew_fail_errno(err, "%s", path);
        w->listener = (struct watch){.fd = crew_steal_fd(&fd), .on_ready = on_listener_ready};
        int r = watch_set(&w->loop, &w->listener, EPOLLIN);
        return r < 0 ? crew_fail(err, -r, "cannot watch %s", path) : 0;
}

void clients_close(struct worker *w) {
        watch_close(&w->loop, &w->listener);
        list_for_each(it, &w->clients) client_free(container_of(it, struct client, link));
}

void clients_resume(struct worker *w) {
        list_for_each(it, &w->clients) client_settle(container_of(it, struct client, link));
}
