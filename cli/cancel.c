/* SPDX-License-Identifier: Apache-2.0 */
#include "cancel.h"

#define CANCEL_MS 30000

static Crew__CancelTask request_of(const char *task, const char *reason) {
        Crew__CancelTask request = CREW__CANCEL_TASK__INIT;

        request.task = (char *)task;
        request.reason = (char *)(reason ? reason : "");
        return request;
}

int cancel_send(struct client *c, const char *task, const char *reason, uint64_t *seq, struct cli_problem *p) {
        Crew__CancelTask request = request_of(task, reason);
        Crew__Envelope e = CREW__ENVELOPE__INIT;

        e.body_case = CREW__ENVELOPE__BODY_CANCEL_TASK;
        e.cancel_task = &request;
        return client_send(c, &e, seq, p);
}

int cancel_call(struct client *c, const char *task, const char *reason, const Crew__TaskCancelled **out,
                struct cli_problem *p) {
        Crew__CancelTask request = request_of(task, reason);
        Crew__Envelope e = CREW__ENVELOPE__INIT;
        const Crew__Envelope *answer = NULL;

        e.body_case = CREW__ENVELOPE__BODY_CANCEL_TASK;
        e.cancel_task = &request;
        if (client_call(c, &e, CANCEL_MS, &answer, p) < 0)
                return -1;
        if (answer->body_case != CREW__ENVELOPE__BODY_TASK_CANCELLED)
                return cli_problem_set(p, CLI_INTERNAL, "protocol", "crewd did not say whether the task is cancelled");
        *out = answer->task_cancelled;
        return 0;
}
