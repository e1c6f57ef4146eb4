/* SPDX-License-Identifier: Apache-2.0 */
/* A target that is accepted has a path without dot or empty segments, and what is sent to the server means that path. */
#include "common/err.h"
#include "gateway/http_path.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static struct http_target target, again;

static void check_segments(const char *path) {
        crew_assert(path[0] == '/');
        crew_assert(!strstr(path, "//") && !strstr(path, "/../") && !strstr(path, "/./"));
        const size_t n = strlen(path);
        crew_assert(n < 3 || strcmp(path + n - 3, "/..") != 0);
        crew_assert(n < 2 || strcmp(path + n - 2, "/.") != 0);
        for (const char *p = path; *p; p++)
                crew_assert((unsigned char)*p >= 0x20 && *p != 0x7f && *p != '\\');
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
        const char *why = NULL;

        for (size_t i = 0; i < n; i++) { /* what the head parser lets through */
                if (data[i] <= 0x20 || data[i] >= 0x7f)
                        return 0;
        }
        http_authority_is((const char *)data, n, "api.test", 443, 443);
        http_authority_is((const char *)data, n, "::1", 443, 443);
        if (!http_target_parse((const char *)data, n, "GET", &target, &why)) {
                crew_assert(why);
                return 0;
        }
        check_segments(target.path);
        crew_assert(strlen(target.wire) <= n + 1);
        crew_assert(http_target_parse(target.wire, strlen(target.wire), "GET", &again, &why));
        crew_assert(!again.absolute && strcmp(again.path, target.path) == 0 && strcmp(again.wire, target.wire) == 0);
        return 0;
}
