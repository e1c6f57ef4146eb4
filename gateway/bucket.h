/* SPDX-License-Identifier: Apache-2.0 */
/* A token bucket: so many a second, a burst of as many as one second gives.  The clock is the caller's. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct bucket {
        uint64_t rate; /* a second; 0: no limit */
        uint64_t burst, level;
        uint64_t last_ns;
};

/* burst 0: what one second gives. */
void bucket_init(struct bucket *b, uint64_t rate, uint64_t burst, uint64_t now_ns);
/* A new rate; what was saved up is kept, at most the new burst. */
void bucket_change(struct bucket *b, uint64_t rate, uint64_t burst, uint64_t now_ns);
/* How many could be taken now; UINT64_MAX without a limit. */
uint64_t bucket_level(struct bucket *b, uint64_t now_ns);
/* Takes n, or all there is: bytes that moved already. */
void bucket_take(struct bucket *b, uint64_t n);
