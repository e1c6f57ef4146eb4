/* SPDX-License-Identifier: Apache-2.0 */
/* Whatever the bytes: a name only with a verdict that says so, printable, and the same however the bytes arrive. */
#include "common/err.h"
#include "gateway/hello.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
        char name[HELLO_NAME_MAX], shorter[HELLO_NAME_MAX];
        enum hello what = hello_parse(data, n, name);

        crew_assert(memchr(name, 0, sizeof(name)));
        crew_assert((what == HELLO_NAMED) == (name[0] != '\0'));
        for (const char *p = name; *p; p++)
                crew_assert(*p > ' ' && *p < 0x7f);
        crew_assert(what != HELLO_MORE || n < HELLO_MAX);
        /* A verdict about a beginning is the verdict about the whole: nothing that comes later changes what was judged. */
        for (size_t k = 0; k < n && n <= HELLO_MAX; k += 1 + k / 8) {
                enum hello before = hello_parse(data, k, shorter);
                crew_assert(before == HELLO_MORE || (before == what && strcmp(shorter, name) == 0));
        }
        return 0;
}
