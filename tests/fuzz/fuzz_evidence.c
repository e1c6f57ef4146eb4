/* SPDX-License-Identifier: Apache-2.0 */
/* Any bytes: as the text of each kind of audit record, and as directory and path of a notified call. */
#include "supervisor/evidence/parse.h"

#include "common/util.h"

#include <string.h>

static void as_paths(const char *s, size_t n) {
        char out[256];
        const char *nl = n ? memchr(s, '\n', n) : NULL;
        size_t dir_len = nl ? (size_t)(nl - s) : 0;
        const char *path = nl ? nl + 1 : s;

        size_t len = parse_join(s, dir_len, path, n - (size_t)(path - s), out, sizeof(out));
        crew_assert(len <= sizeof(out));
        if (len == 0)
                return;
        /* Clean: absolute, no empty, "." or ".." components. */
        crew_assert(out[0] == '/' && (len == 1 || out[len - 1] != '/'));
        crew_assert(!memmem(out, len, "//", 2) && !memmem(out, len, "/../", 4) && !memmem(out, len, "/./", 3));
        crew_assert(parse_within("/", 1, out, len));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
        static struct parse_record r;
        const char *s = (const char *)data;

        for (uint32_t type = AUDIT_TYPE_LANDLOCK_ACCESS - 1; type <= AUDIT_TYPE_LANDLOCK_DOMAIN; type++)
                if (parse_audit(type, s, n, &r))
                        crew_assert(r.path_len <= sizeof(r.path) && memchr(r.access, '\0', sizeof(r.access)));
        as_paths(s, n);
        return 0;
}
