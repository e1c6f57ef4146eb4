/* SPDX-License-Identifier: Apache-2.0 */
/* Points in time: how long ago, or a date and a time of day. */
#include "since.h"

#include "common/util.h"

#include <errno.h>
#include <string.h>
#include <time.h>

#define SECOND 1000000000u

/* The first format that takes all of s. */
static const char *match(const char *s, struct tm *tm, const char *const *formats, size_t n) {
        for (size_t i = 0; i < n; i++) {
                struct tm tried = *tm;
                const char *end = strptime(s, formats[i], &tried);
                if (end && (*end == '\0' || strcmp(end, "Z") == 0)) {
                        *tm = tried;
                        return end;
                }
        }
        return NULL;
}

int since_parse(const char *s, uint64_t now_ns, uint64_t *out_ns) {
        static const char *const dates[] = {"%Y-%m-%d %H:%M:%S", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%d %H:%M", "%Y-%m-%dT%H:%M",
                                            "%Y-%m-%d"};
        static const char *const times[] = {"%H:%M:%S", "%H:%M"};
        time_t now = (time_t)(now_ns / SECOND);
        uint64_t v = 0;

        if (crew_parse_duration(s, &v) == 0) {
                *out_ns = v < now_ns ? now_ns - v : 0;
                return 0;
        }
        if (s[0] == '@' && crew_parse_u64(s + 1, &v) == 0) {
                return __builtin_mul_overflow(v, (uint64_t)SECOND, out_ns) ? -EINVAL : 0;
        }
        struct tm tm = {0};
        const char *end = match(s, &tm, dates, ELEMENTSOF(dates));
        if (!end) {
                localtime_r(&now, &tm);
                tm.tm_sec = 0;
                end = match(s, &tm, times, ELEMENTSOF(times));
        }
        if (!end)
                return -EINVAL;
        tm.tm_isdst = -1;
        time_t t = *end == 'Z' ? timegm(&tm) : mktime(&tm);
        if (t < 0)
                return -EINVAL;
        *out_ns = (uint64_t)t * SECOND;
        return 0;
}
