/* SPDX-License-Identifier: Apache-2.0 */
#include "nofile.h"

#include <stdbool.h>
#include <sys/resource.h>

static rlim_t before;
static bool raised;

void nofile_raise(void) {
        struct rlimit files;

        if (getrlimit(RLIMIT_NOFILE, &files) < 0 || files.rlim_cur >= files.rlim_max)
                return;
        before = files.rlim_cur;
        files.rlim_cur = files.rlim_max;
        raised = setrlimit(RLIMIT_NOFILE, &files) == 0;
}

void nofile_lower(void) {
        struct rlimit files;

        if (!raised || getrlimit(RLIMIT_NOFILE, &files) < 0)
                return;
        files.rlim_cur = before;
        setrlimit(RLIMIT_NOFILE, &files);
}

uint64_t nofile_limit(void) {
        struct rlimit files;

        return getrlimit(RLIMIT_NOFILE, &files) < 0 ? 0 : files.rlim_cur;
}
