/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Decoder of the SP ipc stream, byte for byte what nng 1.5 sends for pair1.
 *
 * Guarantees: an announced length is judged before anything is allocated for it; the buffer grows with the bytes that
 * really came, at most to one frame; a wrong byte is an error as soon as it is there.  Trusts nothing.
 */
#include "spwire.h"

#include "util.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define SPWIRE_MESSAGE 1u
#define SPWIRE_HOPS 1u
#define HOPS_BYTES 4u
#define LENGTH_END 9u
#define FIRST_ROOM 4096u
#define KEEP_ROOM (64u << 10) /* a larger buffer is given back when nothing is pending */

const uint8_t spwire_hello[SPWIRE_HELLO_BYTES] = {0, 'S', 'P', 0, 0, 0x11, 0, 0};

static void put_be(uint8_t *p, uint64_t v, unsigned bytes) {
        while (bytes-- > 0) {
                p[bytes] = (uint8_t)v;
                v >>= 8;
        }
}

static uint64_t get_be(const uint8_t *p, unsigned bytes) {
        uint64_t v = 0;

        while (bytes-- > 0)
                v = v << 8 | *p++;
        return v;
}

void spwire_header(uint8_t out[SPWIRE_HEADER_BYTES], size_t n) {
        out[0] = SPWIRE_MESSAGE;
        put_be(out + 1, (uint64_t)n + HOPS_BYTES, 8);
        put_be(out + LENGTH_END, SPWIRE_HOPS, HOPS_BYTES);
}

void spwire_in_init(struct spwire_in *in, size_t max_frame) {
        *in = (struct spwire_in){.max_frame = max_frame};
}

void spwire_in_fini(struct spwire_in *in) {
        free(in->buf);
        *in = SPWIRE_IN_NULL;
}

static int check_greeting(struct spwire_in *in) {
        size_t have = MIN_OF(in->used - in->taken, sizeof(spwire_hello));

        if (have && memcmp(in->buf + in->taken, spwire_hello, have) != 0)
                return -EPROTO;
        if (have < sizeof(spwire_hello))
                return 0;
        in->taken += sizeof(spwire_hello);
        in->greeted = true;
        return 1;
}

/* 1: the header at `taken` is whole and sane, *payload is what it announces; 0: not there yet. */
static int check_header(const struct spwire_in *in, size_t *payload) {
        size_t have = in->used - in->taken;

        if (have == 0)
                return 0;
        const uint8_t *p = in->buf + in->taken;
        if (p[0] != SPWIRE_MESSAGE)
                return -EPROTO;
        if (have < LENGTH_END)
                return 0;
        uint64_t length = get_be(p + 1, 8);
        if (length < HOPS_BYTES)
                return -EPROTO;
        if (length - HOPS_BYTES > in->max_frame)
                return -EMSGSIZE;
        if (have < SPWIRE_HEADER_BYTES)
                return 0;
        if (get_be(p + LENGTH_END, HOPS_BYTES) != SPWIRE_HOPS)
                return -EPROTO;
        *payload = (size_t)length - HOPS_BYTES;
        return 1;
}

static void compact(struct spwire_in *in) {
        if (in->taken == 0)
                return;
        memmove(in->buf, in->buf + in->taken, in->used - in->taken);
        in->used -= in->taken;
        in->taken = 0;
}

int spwire_in_room(struct spwire_in *in, uint8_t **where, size_t *n) {
        size_t payload, most = FIRST_ROOM;

        compact(in);
        int r = in->greeted ? check_header(in, &payload) : 0;
        if (r < 0)
                return r;
        if (r > 0)
                most = MAX_OF(most, SPWIRE_HEADER_BYTES + payload);
        most = MIN_OF(most, MAX_OF(SPWIRE_HELLO_BYTES, SPWIRE_HEADER_BYTES + in->max_frame));
        if (in->used == in->room) {
                size_t room = MIN_OF(MAX_OF(FIRST_ROOM, 2 * in->room), most);
                if (room <= in->used)
                        return -ENOBUFS; /* whole frames are waiting: spwire_in_next() first */
                uint8_t *buf = realloc(in->buf, room);
                if (!buf)
                        return -ENOMEM;
                in->buf = buf;
                in->room = room;
        }
        *where = in->buf + in->used;
        *n = in->room - in->used;
        return 0;
}

void spwire_in_added(struct spwire_in *in, size_t n) {
        crew_assert(n <= in->room - in->used);
        in->used += n;
}

static void give_back(struct spwire_in *in) {
        in->used = in->taken = 0;
        if (in->room > KEEP_ROOM) {
                free(in->buf);
                in->buf = NULL;
                in->room = 0;
        }
}

int spwire_in_next(struct spwire_in *in, const uint8_t **frame, size_t *n) {
        size_t payload;
        int r = 1;

        if (in->taken == in->used)
                give_back(in);
        if (!in->greeted)
                r = check_greeting(in);
        if (r > 0)
                r = check_header(in, &payload);
        if (r <= 0)
                return r;
        if (in->used - in->taken - SPWIRE_HEADER_BYTES < payload)
                return 0;
        *frame = in->buf + in->taken + SPWIRE_HEADER_BYTES;
        *n = payload;
        in->taken += SPWIRE_HEADER_BYTES + payload;
        return 1;
}
