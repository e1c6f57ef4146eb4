/* SPDX-License-Identifier: Apache-2.0 */
#include "text.h"

#include "common/util.h"

#include <string.h>

/* Bytes of the character at s, 0 when there is none. */
static size_t character(const char *s, size_t n) {
        for (size_t k = 1; k <= 4 && k <= n; k++) {
                if (crew_utf8_ok(s, k))
                        return k;
        }
        return 0;
}

size_t text_copy(char *dst, size_t dst_size, const char *src, size_t n) {
        size_t used = 0;

        if (n == SIZE_MAX)
                n = strlen(src);
        for (size_t i = 0; i < n;) {
                unsigned char c = (unsigned char)src[i];
                size_t k = character(src + i, n - i);
                size_t take = k ? k : 1;
                bool keep = k > 1 || (k == 1 && ((c >= 0x20 && c != 0x7f) || c == '\n' || c == '\t'));
                size_t put = keep ? k : 1;
                if (used + put >= dst_size)
                        break;
                if (keep)
                        memcpy(dst + used, src + i, k);
                else
                        dst[used] = '?';
                used += put;
                i += take;
        }
        dst[used] = '\0';
        return used;
}
