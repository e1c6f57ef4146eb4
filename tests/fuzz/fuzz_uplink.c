/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A worker's end of its link, over a loss.  The input is steps: a byte that says what, and for bytes on the wire their
 * number and them.  Whatever comes: the link goes on, waits for another, or is down and stays so; frames are delivered in
 * order, and what the worker has sent is sent again under its own number or was acknowledged.
 */
#include "common/spwire.h"
#include "common/util.h"
#include "worker/uplink.h"

#include <string.h>
#include <sys/socket.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

enum step { STEP_FRAME, STEP_WIRE, STEP_BREAK, STEP_RESUME, STEP_SEND, STEP_N };

static int peer; /* crewd's end; -1: there is none */
static unsigned downs, aways, backs;
static uint64_t last_seq;

static void on_frame(struct uplink *u, const Crew__Envelope *e) {
        crew_assert(!u->down && !u->away && !u->resuming && e->seq == last_seq + 1);
        last_seq = e->seq;
}

static void on_room(struct uplink *u) {
        crew_assert(!uplink_busy(u));
}

static void on_away(struct uplink *u) {
        crew_assert(u->keeps && u->away && !u->down);
        aways++;
}

static void on_back(struct uplink *u) {
        crew_assert(!u->resuming && backs < aways);
        backs = aways;
}

static void on_down(struct uplink *u, const char *why) {
        (void)why;
        crew_assert(u->down && downs == 0);
        downs++;
}

static void turn(struct uplink *u) {
        if (!u->down && !u->away)
                u->watch.on_ready(&u->watch, EPOLLIN | EPOLLOUT);
}

/* crewd reads, so that nothing is ever full. */
static void drain(void) {
        char buf[4096];

        while (peer >= 0 && recv(peer, buf, sizeof(buf), MSG_DONTWAIT) > 0)
                ;
}

static void put(struct uplink *u, const void *p, size_t n) {
        if (peer >= 0 && n > 0 && send(peer, p, n, MSG_NOSIGNAL | MSG_DONTWAIT) == (ssize_t)n)
                turn(u);
        drain();
}

static int connected(void) {
        int pair[2];

        crew_assert(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) == 0);
        crew_close(&peer);
        peer = pair[1];
        crew_assert(send(peer, spwire_hello, SPWIRE_HELLO_BYTES, MSG_NOSIGNAL) == SPWIRE_HELLO_BYTES);
        return pair[0];
}

static void send_pong(struct uplink *u) {
        Crew__Envelope e = CREW__ENVELOPE__INIT;
        Crew__Pong body = CREW__PONG__INIT;
        uint64_t before = u->seq_out;

        e.body_case = CREW__ENVELOPE__BODY_PONG;
        e.pong = &body;
        uint64_t seq = uplink_send(u, &e);
        crew_assert(seq == 0 || seq == before + 1);
}

static void put_frame(struct uplink *u, const uint8_t *p, size_t n) {
        uint8_t header[SPWIRE_HEADER_BYTES];

        spwire_header(header, n);
        put(u, header, sizeof(header));
        put(u, p, n);
}

static void take_step(struct uplink *u, enum step step, const uint8_t *p, size_t n) {
        switch (step) {
        case STEP_FRAME:
                put_frame(u, p, n);
                break;
        case STEP_WIRE:
                put(u, p, n);
                break;
        case STEP_BREAK:
                crew_close(&peer);
                turn(u);
                break;
        case STEP_RESUME:
                uplink_resume(u, connected());
                turn(u);
                drain();
                break;
        case STEP_SEND:
                send_pong(u);
                drain();
                break;
        case STEP_N:
                break;
        }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
        static const struct uplink_callbacks cb = {
                .on_frame = on_frame, .on_room = on_room, .on_away = on_away, .on_back = on_back, .on_down = on_down};
        struct crew_err err = CREW_ERR_NULL;
        struct uplink u;
        struct loop l;

        peer = -1;
        downs = aways = backs = 0;
        last_seq = 0;
        if (loop_init(&l, &err) < 0 || uplink_init(&u, &l, connected(), &cb, &err) < 0)
                return 0;
        uplink_keep(&u, 1);
        while (n > 0) {
                enum step step = (enum step)(data[0] % STEP_N);
                bool bytes = step == STEP_FRAME || step == STEP_WIRE;
                size_t len = bytes && n > 1 ? MIN_OF((size_t)data[1], n - 2) : 0, head = bytes && n > 1 ? 2 : 1;
                take_step(&u, step, data + head, len);
                crew_assert(u.down == (downs == 1) && (!u.resuming || !u.away));
                data += head + len;
                n -= head + len;
        }
        uplink_fini(&u);
        loop_fini(&l);
        crew_close(&peer);
        return 0;
}
