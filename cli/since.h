/* SPDX-License-Identifier: Apache-2.0 */
/* A point in time as people write it. */
#pragma once

#include <stdint.h>

/* "5m" (ago), "@1774000000", "2026-03-20", "2026-03-20 09:15[:01]" (a 'T' will do; 'Z' means UTC), "09:15[:01]" (today):
 * nanoseconds since 1970.  Without 'Z' in local time.  0 or -EINVAL. */
int since_parse(const char *s, uint64_t now_ns, uint64_t *out_ns);
