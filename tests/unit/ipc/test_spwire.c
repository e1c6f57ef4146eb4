/* SPDX-License-Identifier: Apache-2.0 */
/* The pair1 wire decoder: what it takes, what it refuses, and at which byte. */
#include "common/spwire.h"
#include "common/util.h"

#include <errno.h>
#include <string.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#define MAX_FRAME 100000u

/* Offers bytes as one read(2) would, a piece at a time when the decoder gives less room. */
static int feed(struct spwire_in *in, const void *bytes, size_t n) {
        const uint8_t *p = bytes;

        while (n > 0) {
                uint8_t *where;
                size_t room;
                int r = spwire_in_room(in, &where, &room);
                if (r < 0)
                        return r;
                room = MIN_OF(room, n);
                memcpy(where, p, room);
                spwire_in_added(in, room);
                p += room;
                n -= room;
        }
        return 0;
}

static struct spwire_in greeted(void) {
        struct spwire_in in;
        const uint8_t *frame;
        size_t n;

        spwire_in_init(&in, MAX_FRAME);
        assert_int_equal(feed(&in, spwire_hello, sizeof(spwire_hello)), 0);
        assert_int_equal(spwire_in_next(&in, &frame, &n), 0);
        assert_true(in.greeted);
        return in;
}

/* The decoder's answer to these header bytes, given one at a time, and how many it took. */
static int answer_to(const uint8_t *bytes, size_t n, size_t *taken) {
        struct spwire_in in = greeted();
        const uint8_t *frame;
        size_t size;
        int r = 0;

        for (*taken = 0; *taken < n && r == 0; ++*taken) {
                assert_int_equal(feed(&in, bytes + *taken, 1), 0);
                r = spwire_in_next(&in, &frame, &size);
        }
        assert_in_range(in.room, 0, 4096);
        spwire_in_fini(&in);
        return r;
}

static void header_has_nngs_bytes(void **state) {
        static const uint8_t expected[] = {1, 0, 0, 0, 0, 0, 0, 0x12, 0x38, 0, 0, 0, 1};
        static const uint8_t hello[] = {0, 'S', 'P', 0, 0, 0x11, 0, 0};
        uint8_t header[SPWIRE_HEADER_BYTES];

        spwire_header(header, 0x1234);
        assert_memory_equal(header, expected, sizeof(expected));
        assert_memory_equal(spwire_hello, hello, sizeof(hello));
}

static void another_greeting_is_refused_at_its_first_wrong_byte(void **state) {
        for (size_t wrong = 0; wrong < sizeof(spwire_hello); wrong++) {
                struct spwire_in in;
                const uint8_t *frame;
                size_t n;
                spwire_in_init(&in, MAX_FRAME);
                assert_int_equal(feed(&in, spwire_hello, wrong), 0);
                assert_int_equal(spwire_in_next(&in, &frame, &n), 0);
                assert_int_equal(feed(&in, &(uint8_t){spwire_hello[wrong] ^ 1}, 1), 0);
                assert_int_equal(spwire_in_next(&in, &frame, &n), -EPROTO);
                spwire_in_fini(&in);
        }
}

static void length_is_rejected_before_allocation(void **state) {
        static const uint8_t hostile[] = {1, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xdf};
        uint8_t over[SPWIRE_HEADER_BYTES];
        size_t taken;

        assert_int_equal(answer_to(hostile, sizeof(hostile), &taken), -EMSGSIZE);
        assert_int_equal(taken, 9);
        spwire_header(over, MAX_FRAME + 1);
        assert_int_equal(answer_to(over, sizeof(over), &taken), -EMSGSIZE);
        assert_int_equal(taken, 9);
        spwire_header(over, MAX_FRAME);
        assert_int_equal(answer_to(over, sizeof(over), &taken), 0);
}

static void bad_headers_are_refused(void **state) {
        static const uint8_t hops[][4] = {{0, 0, 0, 0}, {0, 0, 0, 2}, {0, 0, 0, 0xff}, {1, 0, 0, 1}, {0, 0, 1, 1}};
        uint8_t header[SPWIRE_HEADER_BYTES];
        size_t taken;

        for (unsigned type = 0; type < 256; type++) {
                assert_int_equal(answer_to(&(uint8_t){(uint8_t)type}, 1, &taken), type == 1 ? 0 : -EPROTO);
        }
        for (uint8_t length = 0; length < 4; length++) {
                spwire_header(header, 0);
                header[8] = length; /* no room for the hop count */
                assert_int_equal(answer_to(header, sizeof(header), &taken), -EPROTO);
                assert_int_equal(taken, 9);
        }
        for (size_t i = 0; i < ELEMENTSOF(hops); i++) {
                spwire_header(header, 5);
                memcpy(header + 9, hops[i], 4);
                assert_int_equal(answer_to(header, sizeof(header), &taken), -EPROTO);
        }
}

static size_t put_frame(uint8_t *out, size_t n, uint8_t fill) {
        spwire_header(out, n);
        memset(out + SPWIRE_HEADER_BYTES, fill, n);
        return SPWIRE_HEADER_BYTES + n;
}

static void expect_frame(struct spwire_in *in, size_t n, uint8_t fill) {
        const uint8_t *frame;
        size_t got;

        assert_int_equal(spwire_in_next(in, &frame, &got), 1);
        assert_int_equal(got, n);
        for (size_t i = 0; i < n; i++)
                assert_int_equal(frame[i], fill);
}

static void frames_come_out_whole_however_they_are_cut(void **state) {
        static const size_t sizes[] = {0, 1, 13, 300, 0, 5000};
        uint8_t stream[8192];
        size_t n = 0;

        for (size_t i = 0; i < ELEMENTSOF(sizes); i++)
                n += put_frame(stream + n, sizes[i], (uint8_t)i);
        for (size_t piece = 1; piece < 700; piece += 7) {
                struct spwire_in in = greeted();
                const uint8_t *frame;
                size_t got, seen = 0;
                for (size_t at = 0; at < n; at += piece) {
                        int r;
                        assert_int_equal(feed(&in, stream + at, MIN_OF(piece, n - at)), 0);
                        while ((r = spwire_in_next(&in, &frame, &got)) == 1) {
                                assert_int_equal(got, sizes[seen]);
                                if (got)
                                        assert_int_equal(frame[got - 1], seen);
                                seen++;
                        }
                        assert_int_equal(r, 0);
                }
                assert_int_equal(seen, ELEMENTSOF(sizes));
                spwire_in_fini(&in);
        }
}

static void greeting_and_frames_may_share_a_read(void **state) {
        uint8_t stream[64];
        struct spwire_in in;
        const uint8_t *frame;
        size_t n = sizeof(spwire_hello);

        memcpy(stream, spwire_hello, n);
        n += put_frame(stream + n, 3, 7);
        n += put_frame(stream + n, 4, 8);
        spwire_in_init(&in, MAX_FRAME);
        assert_int_equal(feed(&in, stream, n), 0);
        expect_frame(&in, 3, 7);
        expect_frame(&in, 4, 8);
        assert_int_equal(spwire_in_next(&in, &frame, &n), 0);
        spwire_in_fini(&in);
}

static void memory_follows_the_bytes_that_came(void **state) {
        struct spwire_in in = greeted();
        uint8_t *big = malloc(SPWIRE_HEADER_BYTES + MAX_FRAME);
        const uint8_t *frame;
        size_t n, total = put_frame(big, MAX_FRAME, 'm');

        assert_int_equal(feed(&in, big, 100), 0); /* announced, not sent */
        assert_int_equal(spwire_in_next(&in, &frame, &n), 0);
        assert_in_range(in.room, 100, 4096);
        assert_int_equal(feed(&in, big + 100, total - 100), 0);
        assert_in_range(in.room, total, SPWIRE_HEADER_BYTES + MAX_FRAME);
        expect_frame(&in, MAX_FRAME, 'm');
        assert_int_equal(spwire_in_next(&in, &frame, &n), 0);
        assert_int_equal(in.room, 0); /* idle again: given back */
        free(big);
        spwire_in_fini(&in);
}

static void unread_frames_are_not_overrun(void **state) {
        struct spwire_in in = greeted();
        uint8_t stream[4096], *where;
        size_t n, put = 0;

        while (put + 113 <= sizeof(stream))
                put += put_frame(stream + put, 100, 1);
        assert_int_equal(feed(&in, stream, put), 0);
        assert_int_equal(feed(&in, stream, sizeof(stream) - put), 0);
        assert_int_equal(spwire_in_room(&in, &where, &n), -ENOBUFS);
        expect_frame(&in, 100, 1);
        assert_int_equal(spwire_in_room(&in, &where, &n), 0);
        assert_int_equal(n, 113);
        spwire_in_fini(&in);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(header_has_nngs_bytes),
                cmocka_unit_test(another_greeting_is_refused_at_its_first_wrong_byte),
                cmocka_unit_test(length_is_rejected_before_allocation),
                cmocka_unit_test(bad_headers_are_refused),
                cmocka_unit_test(frames_come_out_whole_however_they_are_cut),
                cmocka_unit_test(greeting_and_frames_may_share_a_read),
                cmocka_unit_test(memory_follows_the_bytes_that_came),
                cmocka_unit_test(unread_frames_are_not_overrun),
        };

        cmocka_set_message_output(CM_OUTPUT_TAP);
        return cmocka_run_group_tests(tests, NULL, NULL);
}
