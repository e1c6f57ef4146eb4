/* SPDX-License-Identifier: Apache-2.0 */
/* The crew file loader over arbitrary bytes, from a file as in life: a crew or a reported problem, and nothing leaks. */
#include "common/util.h"
#include "supervisor/policy/crew_file.h"

#include <string.h>
#include <sys/mman.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static int memory_file(void) {
        static int fd = -1;

        if (fd < 0)
                fd = memfd_create("crew.yaml", MFD_CLOEXEC);
        crew_assert(fd >= 0);
        return fd;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
        struct policy_report report = {0};
        struct crew_err err = CREW_ERR_NULL;
        struct crew_file *c = NULL;
        char path[64];
        int fd = memory_file();

        setenv("CREWD_HOME", "/nonexistent/crewd-fuzz", 0);
        crew_assert(ftruncate(fd, 0) == 0 && pwrite(fd, data, n, 0) == (ssize_t)n);
        snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
        int r = crew_load(path, &c, &report, &err);
        crew_assert((r == 0) == (c != NULL));
        crew_assert((r == 0) == (report.errors == 0));
        for (size_t i = 0; c && i < c->n_tasks; i++)
                crew_assert(c->tasks[i].agent_index < c->n_agents && c->tasks[i].name && c->tasks[i].timeout_ms);
        crew_file_free(c);
        policy_report_fini(&report);
        return 0;
}
