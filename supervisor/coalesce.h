/* SPDX-License-Identifier: Apache-2.0 */
/*
 * When the loop rests before it looks who has something to say.
 *
 * Messages that nobody waits for (crew/send as a notification) come one at a time from many workers, and each would wake
 * crewd: under load that costs more than the message.  While there are many of them, and nothing else, the loop rests for
 * a moment first and takes together what has come, as a network card does with interrupts.  Whatever somebody waits for
 * ends that at once.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#define COALESCE_WINDOW_NS 2000000u
#define COALESCE_MANY 16u       /* in a window: 8,000 a second */
#define COALESCE_REST_NS 50000u /* and what the kernel adds to it, as much again */

struct coalesce { /* zeroed: nothing has come */
        uint64_t since_ns;
        uint32_t n;
        bool on;
};

/* One frame has come; somebody waits for what becomes of it, or not. */
void coalesce_note(struct coalesce *c, bool waited);
/* How long to rest now, ns; 0: not at all. */
uint64_t coalesce_rest_ns(struct coalesce *c, uint64_t now_ns);
