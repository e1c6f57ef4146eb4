/* SPDX-License-Identifier: Apache-2.0 */
/* Any bytes: as a stream to verify, as a line to render and filter, and as a value to put into a record. */
#include "common/record.h"

#include "common/record_line.h"
#include "common/util.h"

#include <string.h>

static void as_value(const uint8_t *data, size_t n) {
        static const char zeros[] = "0000000000000000000000000000000000000000000000000000000000000000";
        static char line[RECORD_LINE_MAX], text[RECORD_TEXT_MAX];
        static struct record r;
        const struct record_head head = {.crew = "c", .agent = "a", .seq = 1, .prev_hex = zeros};
        struct record_line l;

        record_init(&r, RECORD_FILE_DENIED, "landlock");
        record_bytes(&r, "path", data, n);
        record_bytes(&r, "comm", data, n / 2);
        size_t len = record_format(&r, &head, line, sizeof(line));
        crew_assert(record_line_parse(line, len - 1, &l) == 0);
        crew_assert(record_render(line, len, text, sizeof(text)) == 0);
        crew_assert(crew_utf8_ok(text, strlen(text)) && !strpbrk(text, "\n\r\x1b\x7f"));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
        static char text[4096];
        struct record_verify v;
        struct crew_err err = CREW_ERR_NULL;

        as_value(data, n);
        (void)record_render((const char *)data, n, text, sizeof(text));
        (void)record_matches((const char *)data, n, "denied");
        if (n == 0)
                return 0;
        FILE *f = fmemopen((void *)data, n, "r");
        if (f) {
                (void)record_verify_stream(f, &v, &err);
                fclose(f);
        }
        return 0;
}
