/* SPDX-License-Identifier: Apache-2.0 */
/* The outboxes first, then the durable record, which closes the life: killed in between, the next start does it again, and
 * under the same id. */
#include "orphans.h"

#include "common/util.h"
#include "crewd.h"
#include "death.h"
#include "hooks.h"
#include "instance.h"
#include "journal.h"
#include "manager.h"
#include "rundir.h"
#include "supervisor/audit/audit_life.h"
#include "webhook.h"

#include <signal.h>
#include <string.h>

#define ID_EPOCH_MS 1577836800000ull /* 2020 */

/* Of the instance and not of today's telling: two agents may have been spawned in one millisecond.  Below 2^53 (death.c)
 * for sixty years, and far from what its clock gives now. */
static uint64_t id_of(const struct agent *a, const struct audit_life *life) {
        return (MAX_OF(life->spawned_ms, ID_EPOCH_MS) - ID_EPOCH_MS) << INSTANCE_INDEX_BITS | a->index;
}

static struct termination *describe(struct agent *a, const struct audit_life *life) {
        pid_t before = rundir_predecessor(a->crewd->rundir);
        struct termination *t = calloc(1, sizeof(*t));

        if (!t)
                return NULL;
        *t = (struct termination){
                .id = id_of(a, life),
                .incarnation = life->incarnation,
                .death = {.decided = true, .cause = CREW__CAUSE__CAUSE_SUPERVISOR_LOST, .initiator = "crewd"},
                .exit_code = -1,
                .signal = SIGKILL,
                .effects = life->effects,
                .action = "fail_task",
                .attempt = life->attempt,
                .time_ms = crew_realtime_ns() / 1000000u};
        memcpy(t->task, life->task, sizeof(t->task));
        if (before)
                snprintf(t->death.reason, sizeof(t->death.reason),
                         "its crewd, process %d, did not end in order; the agent ended with it", (int)before);
        else
                snprintf(t->death.reason, sizeof(t->death.reason),
                         "its crewd did not end in order; the agent ended with it");
        return t;
}

static void report(struct agent *a, const struct audit_life *life) {
        struct crewd *c = a->crewd;
        struct termination *t = describe(a, life);

        if (!t)
                return; /* it stays open for the next start */
        audit_set_incarnation(a->audit, life->incarnation);
        if (life->task_id[0])
                journal_task_lost(a, life->task, life->task_id, t->death.reason);
        t->audit_seq = audit_seq(a->audit) + 1;
        hooks_keep(c->hooks, a, t);
        webhook_keep(c->webhook, a, t);
        journal_terminated(a, t);
        audit_set_incarnation(a->audit, 0);
        death_tell(a, t);
        manager_tell(c, a, t);
        free(a->last);
        a->last = t;
}

void orphans_report(struct crewd *c) {
        for (uint32_t i = 0; i < c->n_agents; i++) {
                struct agent *a = &c->agents[i];
                struct crew_err err = CREW_ERR_NULL;
                struct audit_life life;

                if (a->state == AGENT_POLICY_ONLY)
                        continue;
                if (audit_last_life(a->audit, &life, &err) < 0)
                        crewd_log(c, "agent %s: what became of its last instance is not known: %s", agent_name(a), err.msg);
                else if (life.open)
                        report(a, &life);
        }
        hooks_run(c->hooks);
}
