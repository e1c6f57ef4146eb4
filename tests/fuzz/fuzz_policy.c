/* SPDX-License-Identifier: Apache-2.0 */
/* The policy loader and its decisions over arbitrary bytes: an image or a reported problem, never both, never neither. */
#include "supervisor/policy/policy.h"

#include "common/err.h"
#include "common/util.h"
#include "supervisor/policy/netpolicy_make.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static void decide_all(const struct policy_image *p, const uint8_t *data, size_t n) {
        char object[256];
        size_t k = n < sizeof(object) - 1 ? n : sizeof(object) - 1;

        memcpy(object, data + (n - k), k);
        object[k] = '\0';
        for (int v = 0; v < POLICY_VERB_N; v++) {
                struct policy_verdict d = policy_decide(p, (enum policy_verb)v, object);
                crew_assert(d.section && memchr(d.text, '\0', sizeof(d.text)) &&
                            memchr(d.next_step, '\0', sizeof(d.next_step)));
                crew_assert(!policy_decide(p, (enum policy_verb)v, "").allowed);
        }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
        struct policy_report report = {0};
        struct crew_err err = CREW_ERR_NULL;
        struct policy_image *p = NULL;

        setenv("CREWD_HOME", "/nonexistent/crewd-fuzz", 0);
        int r = policy_load_bytes("fuzz.yaml", (const char *)data, n, NULL, "/usr", &p, &report, &err);
        crew_assert((r == 0) == (p != NULL));
        crew_assert((r == 0) == (report.errors == 0));
        if (p) {
                decide_all(p, data, n);
                /* What loads is compiled for the gateway, whatever it says. */
                _cleanup_close_ int fd = netpolicy_make(p, NULL, 1, &err);
                crew_assert(fd >= 0);
        }
        policy_image_free(p);
        policy_report_fini(&report);
        return 0;
}
