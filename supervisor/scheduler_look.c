/* SPDX-License-Identifier: Apache-2.0 */
/* What there is to do in a crew, for those who look for one of it. */
#include "scheduler_internal.h"

#include <stdlib.h>
#include <string.h>

void scheduler_each_open(struct scheduler *s, void (*fn)(struct job *j, void *user), void *user) {
        for (size_t i = 0; s->run.active && i < s->crew->n_tasks; i++) {
                if (s->run_jobs[i]->state < JOB_DONE)
                        fn(s->run_jobs[i], user);
        }
        for (struct job *j = s->ad_hoc; j; j = j->next)
                fn(j, user);
}

bool scheduler_gave_out(const struct scheduler *s, const char *id) {
        char again[sizeof(((struct job *)0)->id)];

        if (strncmp(id, "t-", 2) != 0)
                return false;
        unsigned long long n = strtoull(id + 2, NULL, 10);
        snprintf(again, sizeof(again), "t-%llu", n);
        return n > 0 && n <= s->next_id && strcmp(id, again) == 0;
}
