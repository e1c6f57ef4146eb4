/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The wire decoder.  The first byte is the size of the pieces the rest arrives in.  However it is cut, the same frames must
 * come out and the same error must end it, and no more memory may be held than one frame and its header.
 */
#include "common/spwire.h"
#include "common/util.h"

#include <string.h>

#define MAX_FRAME 600u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

struct outcome {
        uint64_t digest; /* of sizes and contents, in order */
        unsigned frames;
        int error;
};

static void note_frame(struct outcome *o, const uint8_t *frame, size_t n) {
        o->frames++;
        o->digest = (o->digest ^ n) * 0x100000001b3u;
        for (size_t i = 0; i < n; i++)
                o->digest = (o->digest ^ frame[i]) * 0x100000001b3u;
}

static void take_all(struct spwire_in *in, struct outcome *o) {
        const uint8_t *frame;
        size_t n;
        int r;

        while ((r = spwire_in_next(in, &frame, &n)) == 1) {
                crew_assert(n <= MAX_FRAME);
                note_frame(o, frame, n);
        }
        o->error = r;
}

static struct outcome decode(const uint8_t *data, size_t n, size_t piece) {
        struct outcome o = {0};
        struct spwire_in in;
        uint8_t *where;
        size_t room;

        spwire_in_init(&in, MAX_FRAME);
        while (n > 0 && o.error == 0) {
                crew_assert(spwire_in_room(&in, &where, &room) == 0 && room > 0);
                room = MIN_OF(MIN_OF(room, n), piece);
                memcpy(where, data, room);
                spwire_in_added(&in, room);
                data += room;
                n -= room;
                take_all(&in, &o);
                crew_assert(in.room <= MAX_FRAME + SPWIRE_HEADER_BYTES);
        }
        spwire_in_fini(&in);
        return o;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
        if (n == 0)
                return 0;
        struct outcome whole = decode(data + 1, n - 1, SIZE_MAX), cut = decode(data + 1, n - 1, data[0] + 1u),
                       bytes = decode(data + 1, n - 1, 1);
        crew_assert(whole.error == cut.error && whole.frames == cut.frames && whole.digest == cut.digest);
        crew_assert(whole.error == bytes.error && whole.frames == bytes.frames && whole.digest == bytes.digest);
        return 0;
}
