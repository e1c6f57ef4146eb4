/* SPDX-License-Identifier: Apache-2.0 */
/* The first line of a stream: the verdict does not depend on the pieces it comes in, and whatever the strict parser takes
 * for a request, also behind blank lines, was seen as one before its line ended. */
#include "common/err.h"
#include "gateway/http_first.h"
#include "gateway/http_head.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static bool is_request(const char *p, size_t n) {
        struct http_head h;
        const char *why = NULL;
        size_t scanned = 0, end;

        return http_head_find(p, n, &scanned, &end, &why) == HTTP_OK && http_parse_request(p, end, &h, &why) == HTTP_OK;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
        struct http_first_line whole = {0}, slow = {0};
        const enum http_first is = http_first_read(&whole, data, n);
        size_t at = 0, step = 1, blank = 0;

        for (; at < n; at += step, step = step * 3 % 7) {
                step = step > n - at ? n - at : step;
                enum http_first now = http_first_read(&slow, data + at, step);
                crew_assert(now == HTTP_FIRST_OPEN || now == is);
        }
        crew_assert(slow.is == is);
        while (blank < n && (data[blank] == '\r' || data[blank] == '\n'))
                blank++;
        if (is_request((const char *)data + blank, n - blank))
                crew_assert(is == HTTP_FIRST_YES);
        return 0;
}
