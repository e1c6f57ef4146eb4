/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway_watch.h"

void gateway_watch_begin(struct gateway_watch *w, uint64_t now_ns) {
        *w = (struct gateway_watch){.due_ns = now_ns + GATEWAY_QUIET_NS};
}

void gateway_watch_unasked(struct gateway_watch *w, uint64_t now_ns) {
        gateway_watch_begin(w, now_ns);
}

enum gateway_watch_what gateway_watch_look(struct gateway_watch *w, uint64_t now_ns) {
        if (!w->due_ns || now_ns < w->due_ns)
                return GATEWAY_NOTHING;
        if (w->heard) {
                gateway_watch_begin(w, now_ns);
                return GATEWAY_NOTHING;
        }
        switch (w->state) {
        case GATEWAY_WELL:
                w->state = GATEWAY_ASKED;
                w->due_ns = now_ns + GATEWAY_PATIENCE_NS;
                return GATEWAY_ASK;
        case GATEWAY_ASKED:
                w->state = GATEWAY_OVERDUE;
                w->due_ns = now_ns + GATEWAY_MOMENT_NS;
                return GATEWAY_NOTHING;
        default:
                return GATEWAY_HANGS;
        }
}
