/* SPDX-License-Identifier: Apache-2.0 */
#include "common/err.h"
#include "gateway/creds_file.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
        static struct creds_file f;
        struct crew_err err = CREW_ERR_NULL;

        if (creds_file_parse((const char *)data, n, &f, &err) < 0) {
                crew_assert(err.msg[0] >= '1' && err.msg[0] <= '9');
                for (const char *p = err.msg; *p; p++)
                        crew_assert(*p >= ' ' && *p < 0x7f);
                return 0;
        }
        for (unsigned i = 0; i < f.n; i++) {
                const struct cred_spec *s = &f.specs[i];
                crew_assert(s->name[0] && s->host[0] && s->port && s->header[0] && s->n_paths && s->source != CRED_NONE);
        }
        return 0;
}
