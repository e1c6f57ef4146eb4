/* SPDX-License-Identifier: Apache-2.0 */
#include "descriptors.h"

#include "common/nofile.h"
#include "control.h"
#include "starts.h"
#include "supervisor/policy/crew_file.h"

#include <errno.h>
#include <unistd.h>

enum {
        OWN = 32,              /* helpers, loop, locks */
        PER_START = 8,         /* while it is under way: what the spawner and crewd hand to each other */
        STREAM = 3,            /* an audit stream: written, waited for, and where its checkpoint goes */
        CREW_LOG = STREAM + 1, /* and the checkpoint that is being written */
        STATE_LOCK = 1,
        UID_LOCK = 1, /* in root mode; a place that is kept for a name has it too */
        LINK = 2,     /* of this instance, and what listens for the next */
        PLAN = 1,     /* of the next */
        NETWORK = 5,  /* capture listeners and policy, for a gateway that comes after this one */
};

static bool runs(const struct crew_file *f, size_t i) {
        return f && i < f->n_agents && !f->agents[i].absent && !f->agents[i].orchestrator;
}

/* At a place of both files: what the second one no longer has is ended after what is new in it has come up. */
static uint64_t of_place(const struct crew_file *now, const struct crew_file *next, size_t i) {
        const uint64_t kept = STREAM + (geteuid() == 0 ? UID_LOCK : 0);

        return runs(now, i) || runs(next, i) ? kept + STATE_LOCK + LINK + PLAN + NETWORK : kept;
}

int descriptors_check(const struct crew_file *now, const struct crew_file *next, struct crew_err *err) {
        const uint64_t limit = nofile_limit();
        uint64_t n = OWN + CREW_LOG + CONTROL_CLIENTS_MAX + (uint64_t)PER_START * starts_places();
        size_t fitting = 0;

        for (size_t i = 0; i < next->n_agents; i++) {
                n += of_place(now, next, i);
                fitting += n <= limit;
        }
        if (n <= limit)
                return 0;
        return crew_fail(err, EMFILE,
                         "the crew's %zu agents need %llu open files, and crewd may have %llu, enough for %zu: raise the "
                         "hard limit (ulimit -Hn, or LimitNOFILE= of the unit), or take fewer agents",
                         next->n_agents, (unsigned long long)n, (unsigned long long)limit, fitting);
}
