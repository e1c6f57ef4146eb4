/* SPDX-License-Identifier: Apache-2.0 */
/* exec-json.  The process is started by TaskStart and owned by its struct task. */
#include "tasks.h"

#include "common/util.h"
#include "inbox.h"
#include "json_scan.h"
#include "rpc_agent.h"

#include <errno.h>
#include <string.h>

struct task {
        struct list link;
        struct program program;
        char id[64];
};

void tasks_init(struct worker *w) {
        list_init(&w->tasks);
}

void task_report(struct worker *w, const struct task_report *r) {
        Crew__TaskResult body = CREW__TASK_RESULT__INIT;

        body.task_id = (char *)r->id;
        body.outcome = r->outcome;
        body.result = (char *)(r->result ? r->result : "");
        body.error = (char *)(r->error ? r->error : "");
        body.exit_code = r->exit_code;
        body.term_signal = r->term_signal;
        body.duration_us = r->duration_us;
        worker_send(w, &ENVELOPE(TASK_RESULT, .task_result = &body));
}

uint64_t task_timeout(const struct worker *w, uint64_t asked_ms) {
        if (asked_ms)
                return asked_ms;
        return w->agent->timeout_ms ? w->agent->timeout_ms : w->plan->limits.wall_ms;
}

const char *program_json(struct program *p, size_t max, char *text, size_t room) {
        struct json_problem why;
        struct json_span value;

        if (!program_succeeded(p)) {
                program_describe(p, text, room);
                return NULL;
        }
        if (json_check(p->output.p, p->output.n, &value, &why) < 0) {
                if (!p->output.n)
                        snprintf(text, room, "exited with status 0 but printed nothing; one JSON value is expected");
                else
                        snprintf(text, room, "its output is not one JSON value: %s at byte %zu", why.what, why.at);
                return NULL;
        }
        if (value.n > max) {
                snprintf(text, room, "its output is larger than %zu bytes", max);
                return NULL;
        }
        strbuf_put(&p->output, "", 1);
        if (p->output.failed) {
                snprintf(text, room, "out of memory");
                return NULL;
        }
        /* The buffer may have moved; only blanks follow the value. */
        char *at = p->output.p;
        while (strchr(" \t\r\n", *at))
                at++;
        at[value.n] = '\0';
        return at;
}

static void on_task_end(struct program *p) {
        struct task *t = container_of(p, struct task, program);
        struct worker *w = p->w;
        char text[768];
        const char *result = program_json(p, MAX_RESULT, text, sizeof(text));
        Crew__Outcome outcome = program_outcome(p);

        if (!result && outcome == CREW__OUTCOME__OUTCOME_OK)
                outcome = CREW__OUTCOME__OUTCOME_FAILED;
        task_report(w, &(struct task_report){.id = t->id,
                                             .outcome = outcome,
                                             .result = result,
                                             .error = result ? NULL : text,
                                             .exit_code = program_exit_code(p),
                                             .term_signal = program_term_signal(p),
                                             .duration_us = program_duration_us(p)});
        list_remove(&t->link);
        w->n_tasks--;
        strbuf_fini(&p->output);
        free(t);
        inbox_programs_ended(w);
}

static const struct program_ops task_ops = {.on_end = on_task_end};

static struct task *find_task(struct worker *w, const char *id) {
        list_for_each(it, &w->tasks) {
                struct task *t = container_of(it, struct task, link);
                if (strcmp(t->id, id) == 0)
                        return t;
        }
        return NULL;
}

static int start_process(struct worker *w, struct task *t, const Crew__TaskStart *s, struct crew_err *err) {
        struct strbuf input = STRBUF_MAX(SIZE_MAX / 2);

        strbuf_puts(&input, s->input);
        strbuf_put(&input, "\n", 1);
        if (input.failed)
                return crew_fail(err, ENOMEM, "no memory for the task's input");
        snprintf(t->id, sizeof(t->id), "%s", s->task_id);
        int r = program_start(w, &t->program,
                              &(struct program_spec){.ops = &task_ops,
                                                     .source = "agent",
                                                     .program = w->agent,
                                                     .task = s->task[0] ? s->task : s->task_id,
                                                     .input = &input,
                                                     .timeout_ms = task_timeout(w, s->timeout_ms),
                                                     .max_output = MIN_OF(w->agent->max_output, MAX_RESULT)},
                              err);
        strbuf_fini(&input);
        return r;
}

static void refuse_task(struct worker *w, const char *id, const char *why) {
        task_report(w, &(struct task_report){
                               .id = id, .outcome = CREW__OUTCOME__OUTCOME_FAILED, .error = why, .exit_code = -1});
}

void task_start(struct worker *w, const Crew__TaskStart *s) {
        struct crew_err err = CREW_ERR_NULL;

        if (w->rpc) {
                rpc_agent_task(w, s);
                return;
        }
        if (find_task(w, s->task_id)) {
                worker_quit(w, WORKER_EXIT_LINK); /* crewd's own mistake: two tasks would share one answer */
                return;
        }
        struct task *t = w->n_tasks < MAX_TASKS ? calloc(1, sizeof(*t)) : NULL;
        if (!t) {
                refuse_task(w, s->task_id, "too many tasks at once");
                return;
        }
        if (start_process(w, t, s, &err) < 0) {
                refuse_task(w, s->task_id, err.msg);
                free(t);
                return;
        }
        list_append(&w->tasks, &t->link);
        w->n_tasks++;
}

void task_cancel(struct worker *w, const Crew__TaskCancel *c) {
        struct task *t = find_task(w, c->task_id);

        if (w->rpc)
                rpc_agent_cancel(w, c->task_id);
        else if (t)
                program_stop(&t->program, PROGRAM_CANCELLED, TERM_GRACE_MS);
}
