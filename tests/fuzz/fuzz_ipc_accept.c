/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The accept pipeline.  The first byte chooses sender and state, the rest is the frame.  What is accepted must pack to the
 * same bytes; what is refused must be refused with printable words of ours.
 */
#include "common/util.h"
#include "ipc-schema/ipc.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static void check_printable(const char *s, size_t room) {
        size_t n = strnlen(s, room);

        crew_assert(n < room);
        for (size_t i = 0; i < n; i++)
                crew_assert(s[i] >= ' ' && s[i] <= '~');
}

static void check_accepted(const Crew__Envelope *e, const uint8_t *bytes, size_t n) {
        struct crew_err err = CREW_ERR_NULL;
        uint8_t *again;
        size_t again_n;

        crew_assert(ipc_pack(e, 0, &again, &again_n, &err) == 0);
        crew_assert(again_n == n && memcmp(again, bytes, n) == 0);
        free(again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
        static const uint32_t states[] = {IPC_STATE_ANY, IPC_STATE_SPAWNING, IPC_STATE_WORKING, IPC_STATE_OPEN};
        static struct ipc_arena *arena;
        struct ipc_refusal refusal;
        const Crew__Envelope *e;

        if (!arena)
                arena = ipc_arena_new(4u << 20);
        if (n == 0 || !arena)
                return 0;
        enum ipc_side side = data[0] % IPC_SIDE_N;
        uint32_t state = states[data[0] / 4 % ELEMENTSOF(states)];
        if (ipc_accept(arena, side, state, data + 1, n - 1, &e, &refusal) == IPC_ACCEPTED)
                check_accepted(e, data + 1, n - 1);
        check_printable(refusal.field, sizeof(refusal.field));
        check_printable(refusal.rule, sizeof(refusal.rule));
        ipc_arena_reset(arena);
        return 0;
}
