/* SPDX-License-Identifier: Apache-2.0 */
/* Frames in, frames out.  Writes at once when nothing waits; reads a bounded number of frames a turn. */
#include "uplink.h"

#include "common/util.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#define FRAMES_A_TURN 32

struct out_frame {
        struct list link;
        uint8_t *bytes; /* owned */
        size_t n, sent;
};

static void link_down(struct uplink *u, const char *why) {
        if (u->down)
                return;
        u->down = true;
        watch_close(u->loop, &u->watch);
        u->cb->on_down(u, why);
}

static void watch_again(struct uplink *u) {
        (void)watch_set(u->loop, &u->watch, EPOLLIN | (list_empty(&u->out) ? 0 : EPOLLOUT));
}

/* 1: all of it is gone; 0: the socket is full; -errno. */
static int send_frame(struct uplink *u, struct out_frame *f) {
        while (f->sent < f->n) {
                ssize_t r = send(u->watch.fd, f->bytes + f->sent, f->n - f->sent, MSG_NOSIGNAL | MSG_DONTWAIT);
                if (r < 0 && errno == EINTR)
                        continue;
                if (r < 0)
                        return errno == EAGAIN ? 0 : -errno;
                f->sent += (size_t)r;
                u->queued -= (size_t)r;
        }
        return 1;
}

/* Sends what the socket takes.  0, or -errno when the link is broken. */
static int send_some(struct uplink *u) {
        struct list *node;

        while ((node = list_pop(&u->out))) {
                struct out_frame *f = container_of(node, struct out_frame, link);
                int r = send_frame(u, f);
                if (r <= 0) {
                        list_prepend(&u->out, node);
                        return r;
                }
                free(f->bytes);
                free(f);
        }
        return 0;
}

static int queue_bytes(struct uplink *u, uint8_t *bytes, size_t n) {
        struct out_frame *f = malloc(sizeof(*f));

        if (!f) {
                free(bytes);
                return -ENOMEM;
        }
        *f = (struct out_frame){.bytes = bytes, .n = n};
        list_append(&u->out, &f->link);
        u->queued += n;
        /* A broken socket shows up as a hang-up in the loop: handlers are not torn down under their callers. */
        (void)send_some(u);
        u->was_busy |= uplink_busy(u);
        watch_again(u);
        return 0;
}

uint64_t uplink_send(struct uplink *u, Crew__Envelope *e) {
        uint8_t *bytes;
        size_t n;

        if (u->down)
                return 0;
        e->version = LINK_PROTOCOL;
        e->seq = u->seq_out + 1;
        if (ipc_pack(e, SPWIRE_HEADER_BYTES, &bytes, &n, NULL) < 0)
                return 0;
        spwire_header(bytes, n);
        if (queue_bytes(u, bytes, SPWIRE_HEADER_BYTES + n) < 0)
                return 0;
        return ++u->seq_out;
}

static void take_frame(struct uplink *u, const uint8_t *bytes, size_t n) {
        struct ipc_refusal ref;
        const Crew__Envelope *e;
        char why[256];

        if (ipc_accept(u->arena, IPC_SUPERVISOR, IPC_STATE_ANY, bytes, n, &e, &ref) != IPC_ACCEPTED) {
                snprintf(why, sizeof(why), "frame refused: %s (%s: %s)", ipc_reject_names[ref.why], ref.field, ref.rule);
                link_down(u, why);
        } else if (!ipc_seq_next(&u->seq_in, e->seq)) {
                link_down(u, "sequence number out of order");
        } else {
                u->cb->on_frame(u, e);
        }
        ipc_arena_reset(u->arena);
}

static void take_frames(struct uplink *u) {
        const uint8_t *frame;
        size_t n;

        for (;;) {
                int r = u->down ? 0 : spwire_in_next(&u->in, &frame, &n);
                if (r < 0)
                        link_down(u, "not the wire protocol");
                if (r <= 0)
                        return;
                take_frame(u, frame, n);
        }
}

/* One read; a frame that came whole is handled before the next. */
static bool read_some(struct uplink *u) {
        uint8_t *where;
        size_t room;

        if (spwire_in_room(&u->in, &where, &room) < 0) {
                link_down(u, "no memory for a frame");
                return false;
        }
        ssize_t r = recv(u->watch.fd, where, room, MSG_DONTWAIT);
        if (r <= 0) {
                if (r == 0 || (errno != EAGAIN && errno != EINTR))
                        link_down(u, NULL);
                return false;
        }
        spwire_in_added(&u->in, (size_t)r);
        take_frames(u);
        return !u->down && (size_t)r == room;
}

static void on_link_ready(struct watch *w, uint32_t events) {
        struct uplink *u = container_of(w, struct uplink, watch);

        if (events & EPOLLOUT && send_some(u) < 0) {
                link_down(u, NULL);
                return;
        }
        if (u->was_busy && u->queued < UPLINK_ROOM_BYTES) {
                u->was_busy = false;
                u->cb->on_room(u);
        }
        for (int i = 0; events & ~(uint32_t)EPOLLOUT && i < FRAMES_A_TURN && read_some(u); i++)
                ;
        if (!u->down)
                watch_again(u);
}

int uplink_init(struct uplink *u, struct loop *l, int fd, const struct uplink_callbacks *cb, struct crew_err *err) {
        *u = (struct uplink){.loop = l, .cb = cb, .watch = {.fd = fd, .on_ready = on_link_ready}};
        list_init(&u->out);
        spwire_in_init(&u->in, ipc_max_frame[IPC_SUPERVISOR]);
        u->arena = ipc_arena_new(ipc_max_frame[IPC_SUPERVISOR] + (128u << 10));
        uint8_t *hello = malloc(SPWIRE_HELLO_BYTES);
        if (!u->arena || !hello) {
                free(hello);
                return crew_fail(err, ENOMEM, "no memory for the link");
        }
        memcpy(hello, spwire_hello, SPWIRE_HELLO_BYTES);
        int r = queue_bytes(u, hello, SPWIRE_HELLO_BYTES);
        return r < 0 ? crew_fail(err, -r, "cannot greet crewd") : 0;
}

void uplink_fini(struct uplink *u) {
        watch_close(u->loop, &u->watch);
        for (struct list *node; (node = list_pop(&u->out));) {
                struct out_frame *f = container_of(node, struct out_frame, link);
                free(f->bytes);
                free(f);
        }
        spwire_in_fini(&u->in);
        u->arena = ipc_arena_free(u->arena);
}

void uplink_flush(struct uplink *u, uint64_t timeout_ms) {
        uint64_t end = crew_now_ns() + timeout_ms * 1000000u;

        while (!u->down && !list_empty(&u->out) && send_some(u) == 0 && !list_empty(&u->out)) {
                struct pollfd p = {.fd = u->watch.fd, .events = POLLOUT};
                uint64_t now = crew_now_ns();
                if (now >= end || poll(&p, 1, (int)((end - now) / 1000000u) + 1) <= 0)
                        return;
        }
}
