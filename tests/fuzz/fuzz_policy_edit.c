/* SPDX-License-Identifier: Apache-2.0 */
/* The edit of `approve --always` over arbitrary files: what comes out holds every byte that went in, in order. */
#include "supervisor/policy/edit.h"

#include "common/util.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static bool holds(const char *big, size_t n_big, const char *small, size_t n_small) {
        size_t at = 0;

        for (size_t i = 0; i < n_big && at < n_small; i++)
                at += big[i] == small[at];
        return at == n_small;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
        static const char endpoint[] = "news.example.com:443";
        struct crew_err err = CREW_ERR_NULL;
        struct policy_edit out, again;
        int r = policy_edit_add_endpoint("fuzz.yaml", (const char *)data, n, NULL, endpoint, &out, &err);

        crew_assert((r == POLICY_EDIT_DONE) == (out.bytes != NULL));
        if (r != POLICY_EDIT_DONE)
                return 0;
        crew_assert(out.line > 0 && out.n > n && holds(out.bytes, out.n, (const char *)data, n));
        crew_assert(policy_edit_add_endpoint("fuzz.yaml", out.bytes, out.n, NULL, endpoint, &again, &err) ==
                    POLICY_EDIT_LISTED);
        crew_assert(again.line == out.line);
        free(out.bytes);
        return 0;
}
