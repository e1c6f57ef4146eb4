/* SPDX-License-Identifier: Apache-2.0 */
/* Whatever the bytes: a name only with a verdict that says so, printable, and the same however the bytes arrive. */
#include "common/err.h"
#include "gateway/hello.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
        char name[HELLO_NAME_MAX], shorter[HELLO_NAME_MAX];
        size_t end, shorter_end;
        enum hello what = hello_parse(data, n, name, &end);

        crew_assert(memchr(name, 0, sizeof(name)));
        crew_assert((what == HELLO_NAMED) == (name[0] != '\0'));
        for (const char *p = name; *p; p++)
                crew_assert(*p > ' ' && *p < 0x7f);
        crew_assert(what != HELLO_MORE || n < HELLO_MAX);
        crew_assert(end <= n && (end > 0) == (what == HELLO_NAMED || what == HELLO_UNNAMED));
        /* A second hello is one only if it would be a first: from some record on. */
        enum hello second = hello_parse_second(data, n, shorter);
        crew_assert(second != HELLO_PLAIN && (second == HELLO_NAMED) == (shorter[0] != '\0'));
        crew_assert(what != HELLO_NAMED || (second == what && strcmp(shorter, name) == 0));
        crew_assert(second != HELLO_MORE || n < HELLO_MAX);
        crew_assert(hello_answer_parse(data, n) != HELLO_ANSWER_MORE || n < HELLO_ANSWER_BYTES);
        /* A verdict about a beginning is the verdict about the whole: nothing that comes later changes what was judged. */
        for (size_t k = 0; k < n && n <= HELLO_MAX; k += 1 + k / 8) {
                enum hello before = hello_parse(data, k, shorter, &shorter_end);
                crew_assert(before == HELLO_MORE || (before == what && strcmp(shorter, name) == 0));
        }
        return 0;
}
