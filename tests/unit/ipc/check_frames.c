/* SPDX-License-Identifier: Apache-2.0 */
/*
 * For test_sdk.py: reads frames from standard input, each with a byte for the sender's side and a u32 (little-endian)
 * length in front, and says on a line what the accept pipeline makes of it in any state.
 */
#include "common/util.h"
#include "ipc-schema/ipc.h"

#include <string.h>

static const char *verdict(struct ipc_arena *a, enum ipc_side side, const uint8_t *bytes, uint32_t n,
                           struct ipc_refusal *ref) {
        const Crew__Envelope *e;
        struct crew_err err = CREW_ERR_NULL;
        uint8_t *again;
        size_t again_n;

        enum ipc_reject r = ipc_accept(a, side, IPC_STATE_ANY, bytes, n, &e, ref);
        if (r != IPC_ACCEPTED)
                return ipc_reject_names[r];
        if (ipc_pack(e, 0, &again, &again_n, &err) < 0)
                return "accepted, not packed";
        bool same = again_n == n && memcmp(again, bytes, n) == 0;
        free(again);
        return same ? "accepted" : "accepted, packed differently";
}

int main(void) {
        struct ipc_arena *a = ipc_arena_new(64u << 20);
        struct ipc_refusal ref;
        uint8_t side;
        uint32_t n;

        while (a && crew_read_full(STDIN_FILENO, &side, 1) == 0 && crew_read_full(STDIN_FILENO, &n, 4) == 0) {
                uint8_t *bytes = malloc(n ? n : 1);
                if (!bytes || side >= IPC_SIDE_N || crew_read_full(STDIN_FILENO, bytes, n) < 0)
                        return 1;
                const char *v = verdict(a, side, bytes, n, &ref);
                printf("%s|%s|%s\n", v, ref.field, ref.rule);
                free(bytes);
        }
        ipc_arena_free(a);
        return 0;
}
