/* SPDX-License-Identifier: Apache-2.0 */
/* A worker that lies about a signal learns what it knows: that a process of its own jail was killed. */
#include "late_result.h"

#include "common/util.h"
#include "crewd.h"
#include "dispatch.h"
#include "scheduler.h"
#include "spawner.h"
#include "text.h"
#include "usage.h"

#include <signal.h>
#include <string.h>

/* A shell says so of its last command, and ends. */
static bool may_be_for_memory(const struct agent *a, const Crew__TaskResult *r) {
        return r->outcome == CREW__OUTCOME__OUTCOME_FAILED && usage_max(a, USAGE_MEMORY) > 0 &&
               (r->term_signal == SIGKILL || r->exit_code == 128 + SIGKILL);
}

static void ask(struct agent *a) {
        a->in.late.asked = spawner_stats(a->crewd->spawner, a->in.id, LATE_RESULT_COOKIE) == 0;
}

bool late_result_hold(struct agent *a, const Crew__TaskResult *r) {
        struct late_result *l = &a->in.late;

        if (l->task_id[0] || !may_be_for_memory(a, r))
                return false;
        text_copy(l->error, sizeof(l->error), r->error, SIZE_MAX);
        ask(a);
        if (!l->asked)
                return false;
        text_copy(l->task_id, sizeof(l->task_id), r->task_id, SIZE_MAX);
        return true;
}

void late_result_settle(struct agent *a) {
        const struct late_result l = a->in.late;
        char memory[128];

        if (!l.task_id[0] || !l.asked)
                return;
        a->in.late = (struct late_result){0};
        snprintf(memory, sizeof(memory), "out of memory: limits.memory is %llu KiB",
                 (unsigned long long)(usage_max(a, USAGE_MEMORY) >> 10));
        const struct job *j = scheduler_job_of(a->crewd->scheduler, a->index);
        bool oom = j && a->in.usage.oom_ns >= j->started_ns && j->started_ns;
        Crew__TaskResult r = CREW__TASK_RESULT__INIT;
        r.task_id = (char *)l.task_id;
        r.outcome = CREW__OUTCOME__OUTCOME_FAILED;
        r.error = oom ? memory : (char *)l.error;
        dispatch_task_result(a, &r);
}

void late_result_ask_again(struct agent *a) {
        if (a->in.late.task_id[0])
                ask(a);
}
