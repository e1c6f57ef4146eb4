/* SPDX-License-Identifier: Apache-2.0 */
/* Enum names. */
#include "names.h"

#include "common/util.h"
#include "ipc-schema/ipc.h"

static const char *pick(const char *const *names, size_t n, int i) {
        return i >= 0 && (size_t)i < n && names[i] ? names[i] : "unknown";
}

const char *name_agent_state(int state) {
        static const char *const names[] = {
                [CREW__AGENT_STATE__AGENT_DECLARED] = "declared",
                [CREW__AGENT_STATE__AGENT_SPAWNING] = "spawning",
                [CREW__AGENT_STATE__AGENT_READY] = "ready",
                [CREW__AGENT_STATE__AGENT_WORKING] = "working",
                [CREW__AGENT_STATE__AGENT_STOPPING] = "stopping",
                [CREW__AGENT_STATE__AGENT_TERMINATED] = "terminated",
                [CREW__AGENT_STATE__AGENT_FAILED] = "failed",
                [CREW__AGENT_STATE__AGENT_RESTARTING] = "restarting",
                [CREW__AGENT_STATE__AGENT_POLICY_ONLY] = "policy-only",
        };
        return pick(names, ELEMENTSOF(names), state);
}

const char *name_cause(int cause) {
        static const char *const names[] = {
                [CREW__CAUSE__CAUSE_OPERATOR] = "operator",
                [CREW__CAUSE__CAUSE_ORCHESTRATOR] = "orchestrator",
                [CREW__CAUSE__CAUSE_POLICY_VIOLATION] = "policy-violation",
                [CREW__CAUSE__CAUSE_SIGSYS] = "sigsys",
                [CREW__CAUSE__CAUSE_OOM] = "oom",
                [CREW__CAUSE__CAUSE_DEADLINE] = "deadline",
                [CREW__CAUSE__CAUSE_LIMIT] = "limit",
                [CREW__CAUSE__CAUSE_CRASH] = "crash",
                [CREW__CAUSE__CAUSE_EXIT] = "exit",
                [CREW__CAUSE__CAUSE_HEARTBEAT] = "heartbeat-lost",
                [CREW__CAUSE__CAUSE_SUPERVISOR_SHUTDOWN] = "supervisor-shutdown",
                [CREW__CAUSE__CAUSE_START_FAILED] = "start-failed",
                [CREW__CAUSE__CAUSE_HEALTH] = "unhealthy",
                [CREW__CAUSE__CAUSE_SUPERVISOR_LOST] = "supervisor-lost",
        };
        return pick(names, ELEMENTSOF(names), cause);
}

const char *name_outcome(int outcome) {
        static const char *const names[] = {
                [CREW__OUTCOME__OUTCOME_OK] = "ok",
                [CREW__OUTCOME__OUTCOME_FAILED] = "failed",
                [CREW__OUTCOME__OUTCOME_TIMEOUT] = "timeout",
                [CREW__OUTCOME__OUTCOME_CANCELLED] = "cancelled",
                [CREW__OUTCOME__OUTCOME_TERMINATED] = "terminated",
                [CREW__OUTCOME__OUTCOME_REFUSED] = "refused",
        };
        return pick(names, ELEMENTSOF(names), outcome);
}
