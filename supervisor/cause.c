/* SPDX-License-Identifier: Apache-2.0 */
/* The rows are tried from the top; the first that fits is the cause. */
#include "cause.h"

#include "common/util.h"

#include <assert.h>
#include <signal.h>
#include <string.h>

static const char *const names[] = {
        [CREW__CAUSE__CAUSE_UNSET] = "unknown",
        [CREW__CAUSE__CAUSE_OPERATOR] = "operator",
        [CREW__CAUSE__CAUSE_ORCHESTRATOR] = "orchestrator",
        [CREW__CAUSE__CAUSE_POLICY_VIOLATION] = "policy violation",
        [CREW__CAUSE__CAUSE_SIGSYS] = "forbidden system call",
        [CREW__CAUSE__CAUSE_OOM] = "out of memory",
        [CREW__CAUSE__CAUSE_DEADLINE] = "deadline",
        [CREW__CAUSE__CAUSE_LIMIT] = "limit",
        [CREW__CAUSE__CAUSE_CRASH] = "crash",
        [CREW__CAUSE__CAUSE_EXIT] = "exit",
        [CREW__CAUSE__CAUSE_HEARTBEAT] = "heartbeat lost",
        [CREW__CAUSE__CAUSE_SUPERVISOR_SHUTDOWN] = "supervisor shutdown",
        [CREW__CAUSE__CAUSE_START_FAILED] = "start failed",
        [CREW__CAUSE__CAUSE_HEALTH] = "unhealthy",
        [CREW__CAUSE__CAUSE_SUPERVISOR_LOST] = "supervisor lost",
};
static_assert(ELEMENTSOF(names) == CREW__CAUSE__CAUSE_SUPERVISOR_LOST + 1, "a name for each cause");

const char *cause_name(Crew__Cause cause) {
        return (size_t)cause < ELEMENTSOF(names) ? names[cause] : names[0];
}

#define ANY (-2)    /* whatever it was */
#define SIGNAL (-3) /* some signal */

static const struct row {
        Crew__AgentEnd end; /* UNSET: whatever was told */
        int signal;         /* ANY, SIGNAL, or this one */
        int code;           /* ANY or this one */
        bool oom;           /* the kernel's counter must say so too */
        Crew__Cause cause;
        const char *initiator, *text; /* NULL: what the worker said, or "the worker ..." */
        const char *limit;            /* NULL: none */
} rows[] = {
        {CREW__AGENT_END__AGENT_END_NOT_STARTED, ANY, ANY, false, CREW__CAUSE__CAUSE_START_FAILED, "crewd", NULL, NULL},
        {CREW__AGENT_END__AGENT_END_DEADLINE, ANY, ANY, false, CREW__CAUSE__CAUSE_DEADLINE, "crewd", NULL, NULL},
        {CREW__AGENT_END__AGENT_END_LIMIT, ANY, ANY, false, CREW__CAUSE__CAUSE_LIMIT, "crewd", NULL, "output"},
        {CREW__AGENT_END__AGENT_END_UNSET, SIGSYS, ANY, false, CREW__CAUSE__CAUSE_SIGSYS, "kernel",
         "a forbidden system call", NULL},
        {CREW__AGENT_END__AGENT_END_UNSET, SIGKILL, ANY, true, CREW__CAUSE__CAUSE_OOM, "kernel", "the memory limit was hit",
         "memory"},
        /* A shell says so of its last command, and ends. */
        {CREW__AGENT_END__AGENT_END_UNSET, 0, 128 + SIGKILL, true, CREW__CAUSE__CAUSE_OOM, "kernel",
         "the memory limit was hit", "memory"},
        {CREW__AGENT_END__AGENT_END_UNSET, SIGXFSZ, ANY, false, CREW__CAUSE__CAUSE_LIMIT, "kernel",
         "wrote a file larger than limits.output", "output"},
        {CREW__AGENT_END__AGENT_END_UNSET, SIGNAL, ANY, false, CREW__CAUSE__CAUSE_CRASH, "kernel", NULL, NULL},
        {CREW__AGENT_END__AGENT_END_UNSET, ANY, ANY, false, CREW__CAUSE__CAUSE_EXIT, "agent", NULL, NULL},
};

static bool fits(const struct row *r, const struct cause_told *told, const struct cause *c, bool oom) {
        if (r->end != CREW__AGENT_END__AGENT_END_UNSET && (!told->told || told->end != r->end))
                return false;
        if (r->signal == SIGNAL ? c->signal == 0 : r->signal != ANY && r->signal != c->signal)
                return false;
        if (r->code != ANY && r->code != c->code)
                return false;
        return !r->oom || oom;
}

static void explain(const struct row *r, const struct cause_told *told, struct cause *c) {
        if (r->text)
                snprintf(c->reason, sizeof(c->reason), "%s", r->text);
        else if (told->told)
                snprintf(c->reason, sizeof(c->reason), "%s", told->detail);
        else if (c->signal)
                snprintf(c->reason, sizeof(c->reason), "the worker died of signal %d (%s)", c->signal,
                         sigdescr_np(c->signal) ?: "?");
        else
                snprintf(c->reason, sizeof(c->reason), "exited by itself with code %d", c->code);
}

void cause_find(const struct cause_told *told, int code, int signal, bool oom, struct cause *out) {
        const struct row *r = rows;

        *out = (struct cause){.code = told->told ? told->code : code, .signal = told->told ? told->signal : signal};
        /* The last row fits everything. */
        while (!fits(r, told, out, oom))
                r++;
        out->cause = r->cause;
        out->initiator = r->initiator;
        out->limit = r->limit;
        explain(r, told, out);
}
