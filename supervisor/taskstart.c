/* SPDX-License-Identifier: Apache-2.0 */
#include "taskstart.h"

#include "common/util.h"
#include "crewd.h"
#include "journal.h"
#include "jsontext.h"
#include "scheduler.h"

#include <errno.h>
#include <string.h>

#define INPUT_MAX 16711680u /* TaskStart.input */

/* False: the scheduler has started what it should not have. */
static bool put_context(struct json_text *t, const struct crewd *c, const struct job *j) {
        json_key(t, "context");
        json_open(t, '{');
        for (size_t i = 0; j->task && i < j->task->n_context; i++) {
                const struct job *dep = scheduler_run_job(c->scheduler, j->task->context[i]);
                if (!dep || !dep->result)
                        return false;
                json_key(t, dep->name);
                json_raw(t, dep->result, dep->result_len);
        }
        json_close(t, '}');
        return true;
}

static void put_agent(struct json_text *t, const struct agent *a) {
        json_key(t, "agent");
        json_open(t, '{');
        json_key(t, "name"), json_str(t, agent_name(a));
        json_key(t, "role"), json_str(t, a->decl->role);
        json_key(t, "goal"), json_str(t, a->decl->goal);
        json_key(t, "backstory"), json_str(t, a->decl->backstory);
        json_close(t, '}');
}

static int make_input(const struct agent *a, const struct job *j, char **out, size_t *n) {
        struct json_text t = JSON_TEXT(INPUT_MAX);
        const char *input = j->task ? j->task->input_json : j->input;

        json_open(&t, '{');
        json_key(&t, "kind"), json_str(&t, j->ballot ? "vote" : "task");
        json_key(&t, "task"), json_str(&t, j->name);
        json_key(&t, "task_id"), json_str(&t, j->id);
        json_key(&t, "description"), json_str(&t, j->task ? j->task->description : j->description);
        json_key(&t, "expected_output"), json_str(&t, j->task ? j->task->expected_output : NULL);
        json_key(&t, "input");
        if (j->input)
                input = j->input; /* what a client submits goes before the crew file's */
        json_raw(&t, input ? input : "null", SIZE_MAX);
        if (!put_context(&t, a->crewd, j)) {
                json_text_fini(&t);
                return -ENODATA;
        }
        put_agent(&t, a);
        json_close(&t, '}');
        return json_text_take(&t, out, n);
}

int taskstart_send(struct agent *a, struct job *j, struct crew_err *err) {
        Crew__TaskStart body = CREW__TASK_START__INIT;
        Crew__Envelope e = CREW__ENVELOPE__INIT;
        _cleanup_free_ char *input = NULL;
        size_t n;

        int r = make_input(a, j, &input, &n);
        if (r < 0)
                return crew_fail(err, -r,
                                 r == -E2BIG     ? "the input with its context is larger than %u bytes"
                                 : r == -ENODATA ? "a result of its context is not there (%u)"
                                                 : "out of memory (%u)",
                                 INPUT_MAX);
        if (journal_task_started(a, j, input, n) < 0)
                return crew_fail(err, EIO, "the audit stream of %s cannot be written", agent_name(a));
        body.task_id = j->id;
        body.task = (char *)j->name;
        body.input = input;
        body.timeout_ms = j->timeout_ns / 1000000u;
        e.body_case = CREW__ENVELOPE__BODY_TASK_START;
        e.task_start = &body;
        r = agent_send(a, &e, NULL);
        if (r < 0)
                return crew_fail(err, -r, "agent %s does not take the task: %s", agent_name(a), strerror(-r));
        meter_fill(&a->in.stderr_bytes);
        agent_event(a, AGENT_EV_TASK_BEGIN);
        return 0;
}

void taskstart_cancel(struct agent *a, struct job *j, const char *reason) {
        Crew__TaskCancel body = CREW__TASK_CANCEL__INIT;
        Crew__Envelope e = CREW__ENVELOPE__INIT;

        body.task_id = j->id;
        body.reason = (char *)reason;
        e.body_case = CREW__ENVELOPE__BODY_TASK_CANCEL;
        e.task_cancel = &body;
        agent_send(a, &e, NULL);
}
