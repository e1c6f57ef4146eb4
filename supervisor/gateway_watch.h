/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Whether the gateway still does anything.  One that has said nothing since the last look is asked, and one that does not
 * say a word after that hangs.  Whoever was held up itself (a machine that was paused) finds its deadline passed with the
 * answer still on its way: so at the end the gateway has one more moment, in which crewd reads.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#define GATEWAY_QUIET_NS 5000000000ull
#define GATEWAY_PATIENCE_NS 10000000000ull
#define GATEWAY_MOMENT_NS 1000000000ull

struct gateway_watch { /* zeroed: nothing is watched */
        uint64_t due_ns;
        enum { GATEWAY_WELL, GATEWAY_ASKED, GATEWAY_OVERDUE } state;
        bool heard;
};

enum gateway_watch_what { GATEWAY_NOTHING, GATEWAY_ASK /* send GATE_PING */, GATEWAY_HANGS };

/* It is up. */
void gateway_watch_begin(struct gateway_watch *w, uint64_t now_ns);
/* It has said something, whatever it was. */
static inline void gateway_watch_heard(struct gateway_watch *w) {
        w->heard = true;
}
/* It could not be asked: as if it had not been thought of. */
void gateway_watch_unasked(struct gateway_watch *w, uint64_t now_ns);
/* What is to be done now; due_ns says when to ask again. */
enum gateway_watch_what gateway_watch_look(struct gateway_watch *w, uint64_t now_ns);
