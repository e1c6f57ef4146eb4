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
#define ACK_FRAMES 32u /* after so many, or so much, without a frame of ours they are acknowledged by one of its own */
#define ACK_BYTES (64u << 10)

struct out_frame {
        struct list link;
        uint64_t seq;   /* 0: not an envelope that is counted */
        uint8_t *bytes; /* owned */
        size_t n, sent;
};

static void free_frame(struct uplink *u, struct out_frame *f) {
        u->queued -= f->n;
        free(f->bytes);
        free(f);
}

static void link_down(struct uplink *u, const char *why) {
        if (u->down)
                return;
        u->down = true;
        watch_close(u->loop, &u->watch);
        u->cb->on_down(u, why);
}

static struct out_frame *frame_of(struct list *node) {
        return container_of(node, struct out_frame, link);
}

/* What was sent is to be sent again, in front of what was not; what belongs to the old link alone is forgotten. */
static void take_back(struct uplink *u) {
        struct list *node, again;

        list_init(&again);
        while ((node = list_pop(&u->kept)))
                list_append(&again, node);
        while ((node = list_pop(&u->out))) {
                if (frame_of(node)->seq)
                        list_append(&again, node);
                else
                        free_frame(u, frame_of(node));
        }
        while ((node = list_pop(&again))) {
                frame_of(node)->sent = 0;
                list_append(&u->out, node);
        }
}

/* The peer is gone.  A peer that breaks the protocol is crewd itself gone wrong: that ends the worker in any case. */
static void link_lost(struct uplink *u) {
        if (!u->keeps) {
                link_down(u, NULL);
                return;
        }
        if (u->away || u->down)
                return;
        u->away = true;
        u->resuming = false;
        watch_close(u->loop, &u->watch);
        spwire_in_fini(&u->in);
        spwire_in_init(&u->in, ipc_max_frame[IPC_SUPERVISOR]);
        take_back(u);
        u->cb->on_away(u);
}

static void watch_again(struct uplink *u) {
        if (!u->away)
                (void)watch_set(u->loop, &u->watch, EPOLLIN | (list_empty(&u->out) || u->resuming ? 0 : EPOLLOUT));
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
        }
        return 1;
}

/* Sends what the socket takes.  0, or -errno when the link is broken. */
static int send_some(struct uplink *u) {
        struct list *node;

        while (!u->away && !u->resuming && (node = list_pop(&u->out))) {
                struct out_frame *f = frame_of(node);
                int r = send_frame(u, f);
                if (r <= 0) {
                        list_prepend(&u->out, node);
                        return r;
                }
                if (u->keeps && f->seq)
                        list_append(&u->kept, node);
                else
                        free_frame(u, f);
        }
        return 0;
}

static int queue_bytes(struct uplink *u, uint64_t seq, uint8_t *bytes, size_t n) {
        struct out_frame *f = malloc(sizeof(*f));

        if (!f) {
                free(bytes);
                return -ENOMEM;
        }
        *f = (struct out_frame){.seq = seq, .bytes = bytes, .n = n};
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
        e->ack = u->keeps ? u->seq_in : 0;
        if (ipc_pack(e, SPWIRE_HEADER_BYTES, &bytes, &n, NULL) < 0)
                return 0;
        spwire_header(bytes, n);
        if (queue_bytes(u, e->seq, bytes, SPWIRE_HEADER_BYTES + n) < 0)
                return 0;
        u->unacked = 0;
        u->unacked_bytes = 0;
        return ++u->seq_out;
}

/* ---- on_supervisor_loss: hold ---- */

static void drop_until(struct uplink *u, struct list *frames, uint64_t seq) {
        struct list *node;

        while ((node = list_pop(frames))) {
                if (frame_of(node)->seq > seq) {
                        list_prepend(frames, node);
                        return;
                }
                free_frame(u, frame_of(node));
        }
}

static void make_room(struct uplink *u) {
        if (u->was_busy && u->queued < UPLINK_ROOM_BYTES) {
                u->was_busy = false;
                u->cb->on_room(u);
        }
}

static void acknowledged(struct uplink *u, uint64_t seq) {
        drop_until(u, &u->kept, seq);
        make_room(u);
}

/* One that is all about the link: not counted, not kept, and before everything else. */
static int send_uncounted(struct uplink *u, uint8_t *bytes, size_t n) {
        struct out_frame f = {.bytes = bytes, .n = n};

        return send_frame(u, &f) == 1 ? 0 : -EPIPE; /* an empty socket takes as little as that */
}

static int say_resume(struct uplink *u) {
        Crew__Envelope e = CREW__ENVELOPE__INIT;
        Crew__Resume body = CREW__RESUME__INIT;
        uint8_t *bytes, hello[SPWIRE_HELLO_BYTES];
        size_t n;

        body.incarnation = u->incarnation;
        body.received = u->seq_in;
        body.sent = u->seq_out;
        e.version = LINK_PROTOCOL;
        e.seq = 1;
        e.body_case = CREW__ENVELOPE__BODY_RESUME;
        e.resume = &body;
        if (ipc_pack(&e, SPWIRE_HEADER_BYTES, &bytes, &n, NULL) < 0)
                return -ENOMEM;
        spwire_header(bytes, n);
        memcpy(hello, spwire_hello, sizeof(hello));
        int r = send_uncounted(u, hello, sizeof(hello));
        if (r == 0)
                r = send_uncounted(u, bytes, SPWIRE_HEADER_BYTES + n);
        free(bytes);
        return r;
}

void uplink_keep(struct uplink *u, uint32_t incarnation) {
        u->keeps = true;
        u->incarnation = incarnation;
}

void uplink_resume(struct uplink *u, int fd) {
        link_lost(u); /* the one before may not have been seen to break */
        if (u->down) {
                close(fd);
                return;
        }
        u->watch = (struct watch){.fd = fd, .on_ready = u->watch.on_ready};
        u->away = false;
        u->resuming = true;
        if (say_resume(u) < 0)
                link_lost(u);
        else
                watch_again(u);
}

/* What the next crewd has seen is not sent again. */
static void on_resume_from(struct uplink *u, const Crew__Envelope *e) {
        if (e->body_case != CREW__ENVELOPE__BODY_RESUME_FROM || e->seq != 1 || e->resume_from->received > u->seq_out) {
                link_down(u, "not the answer to Resume");
                return;
        }
        u->resuming = false;
        drop_until(u, &u->out, e->resume_from->received);
        u->cb->on_back(u);
        make_room(u);
        (void)send_some(u);
}

/* Frames that get no answer are acknowledged now and then. */
static void note_taken(struct uplink *u, size_t n) {
        Crew__Envelope e = CREW__ENVELOPE__INIT;
        Crew__Ack body = CREW__ACK__INIT;

        u->unacked++;
        u->unacked_bytes += n;
        if (!u->keeps || u->down || (u->unacked < ACK_FRAMES && u->unacked_bytes < ACK_BYTES))
                return;
        e.body_case = CREW__ENVELOPE__BODY_ACK_ONLY;
        e.ack_only = &body;
        (void)uplink_send(u, &e);
}

static void take_frame(struct uplink *u, const uint8_t *bytes, size_t n) {
        struct ipc_refusal ref;
        const Crew__Envelope *e;
        char why[256];

        if (ipc_accept(u->arena, IPC_SUPERVISOR, IPC_STATE_ANY, bytes, n, &e, &ref) != IPC_ACCEPTED) {
                snprintf(why, sizeof(why), "frame refused: %s (%s: %s)", ipc_reject_names[ref.why], ref.field, ref.rule);
                link_down(u, why);
        } else if (u->resuming) {
                on_resume_from(u, e);
        } else if (!ipc_seq_next(&u->seq_in, e->seq)) {
                link_down(u, "sequence number out of order");
        } else {
                acknowledged(u, e->ack);
                if (e->body_case != CREW__ENVELOPE__BODY_ACK_ONLY)
                        u->cb->on_frame(u, e);
                note_taken(u, n);
        }
        ipc_arena_reset(u->arena);
}

static void take_frames(struct uplink *u) {
        const uint8_t *frame;
        size_t n;

        for (;;) {
                int r = u->down || u->away ? 0 : spwire_in_next(&u->in, &frame, &n);
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
                        link_lost(u);
                return false;
        }
        spwire_in_added(&u->in, (size_t)r);
        take_frames(u);
        return !u->down && !u->away && (size_t)r == room;
}

static void on_link_ready(struct watch *w, uint32_t events) {
        struct uplink *u = container_of(w, struct uplink, watch);

        if (events & EPOLLOUT && send_some(u) < 0) {
                link_lost(u);
                return;
        }
        make_room(u);
        for (int i = 0; events & ~(uint32_t)EPOLLOUT && i < FRAMES_A_TURN && read_some(u); i++)
                ;
        if (!u->down)
                watch_again(u);
}

int uplink_init(struct uplink *u, struct loop *l, int fd, const struct uplink_callbacks *cb, struct crew_err *err) {
        *u = (struct uplink){.loop = l, .cb = cb, .watch = {.fd = fd, .on_ready = on_link_ready}};
        list_init(&u->out);
        list_init(&u->kept);
        spwire_in_init(&u->in, ipc_max_frame[IPC_SUPERVISOR]);
        u->arena = ipc_arena_new(ipc_max_frame[IPC_SUPERVISOR] + (128u << 10));
        uint8_t *hello = malloc(SPWIRE_HELLO_BYTES);
        if (!u->arena || !hello) {
                free(hello);
                return crew_fail(err, ENOMEM, "no memory for the link");
        }
        memcpy(hello, spwire_hello, SPWIRE_HELLO_BYTES);
        int r = queue_bytes(u, 0, hello, SPWIRE_HELLO_BYTES);
        return r < 0 ? crew_fail(err, -r, "cannot greet crewd") : 0;
}

void uplink_fini(struct uplink *u) {
        watch_close(u->loop, &u->watch);
        for (struct list *node; (node = list_pop(&u->out)) || (node = list_pop(&u->kept));)
                free_frame(u, frame_of(node));
        spwire_in_fini(&u->in);
        u->arena = ipc_arena_free(u->arena);
}

void uplink_flush(struct uplink *u, uint64_t timeout_ms) {
        uint64_t end = crew_now_ns() + timeout_ms * 1000000u;

        while (!u->down && !u->away && !list_empty(&u->out) && send_some(u) == 0 && !list_empty(&u->out)) {
                struct pollfd p = {.fd = u->watch.fd, .events = POLLOUT};
                uint64_t now = crew_now_ns();
                if (now >= end || poll(&p, 1, (int)((end - now) / 1000000u) + 1) <= 0)
                        return;
        }
}
