/* SPDX-License-Identifier: Apache-2.0 */
/* The grant says which tool of the plan and with which arguments; what to execute is in the plan alone. */
#include "tools.h"

#include "common/util.h"
#include "tasks.h"

#include <errno.h>
#include <string.h>

struct tool_run {
        struct list link; /* in tools or tools_waiting */
        struct program program;
        const struct plan_program *tool;
        uint64_t corr;
        struct strbuf arguments;
};

void tools_init(struct worker *w) {
        list_init(&w->tools);
        list_init(&w->tools_waiting);
}

static void tool_return(struct worker *w, uint64_t corr, Crew__ToolReturn *body) {
        worker_send(w, &ENVELOPE(TOOL_RETURN, .corr = corr, .tool_return = body));
}

static void fail(struct worker *w, uint64_t corr, const char *why) {
        Crew__ToolReturn body = CREW__TOOL_RETURN__INIT;

        body.outcome = CREW__OUTCOME__OUTCOME_FAILED;
        body.error = (char *)why;
        body.exit_code = -1;
        tool_return(w, corr, &body);
}

static void free_run(struct tool_run *r) {
        list_remove(&r->link);
        strbuf_fini(&r->arguments);
        strbuf_fini(&r->program.output);
        free(r);
}

static void start_waiting(struct worker *w);

static void on_tool_end(struct program *p) {
        struct tool_run *r = container_of(p, struct tool_run, program);
        Crew__ToolReturn body = CREW__TOOL_RETURN__INIT;
        struct worker *w = p->w;
        char text[768] = "";
        const char *output = program_json(p, MAX_RESULT, text, sizeof(text));

        body.outcome = program_outcome(p);
        if (!output && body.outcome == CREW__OUTCOME__OUTCOME_OK)
                body.outcome = CREW__OUTCOME__OUTCOME_FAILED;
        body.output = (char *)(output ? output : "");
        body.error = text;
        body.exit_code = program_exit_code(p);
        body.term_signal = program_term_signal(p);
        body.duration_us = program_duration_us(p);
        tool_return(w, r->corr, &body);
        free_run(r);
        w->n_tools--;
        start_waiting(w);
}

static const struct program_ops tool_ops = {.on_end = on_tool_end};

static void start(struct worker *w, struct tool_run *r) {
        struct crew_err err = CREW_ERR_NULL;
        const struct program_spec spec = {
                .ops = &tool_ops,
                .source = plan_str(w->plan, r->tool->name),
                .program = r->tool,
                .input = &r->arguments,
                .timeout_ms = r->tool->timeout_ms,
                .max_output = MIN_OF(r->tool->max_output, MAX_RESULT),
        };

        if (program_start(w, &r->program, &spec, &err) < 0) {
                fail(w, r->corr, err.msg);
                free_run(r);
                return;
        }
        list_append(&w->tools, &r->link);
        w->n_tools++;
}

static void start_waiting(struct worker *w) {
        struct list *node;

        while (w->n_tools < MAX_TOOL_RUNS && (node = list_pop(&w->tools_waiting))) {
                struct tool_run *r = container_of(node, struct tool_run, link);
                w->n_tools_waiting--;
                if (w->phase == WORKER_STOPPING) {
                        fail(w, r->corr, "the agent was told to end");
                        free_run(r);
                } else {
                        start(w, r);
                }
        }
}

static struct tool_run *new_run(const struct plan_program *tool, uint64_t corr, const char *arguments) {
        struct tool_run *r = calloc(1, sizeof(*r));

        if (!r)
                return NULL;
        *r = (struct tool_run){.tool = tool, .corr = corr, .arguments = STRBUF_MAX(2u << 20)};
        strbuf_puts(&r->arguments, arguments[0] ? arguments : "{}");
        strbuf_put(&r->arguments, "\n", 1);
        if (r->arguments.failed) {
                free_run(r);
                return NULL;
        }
        return r;
}

void tool_grant(struct worker *w, uint64_t corr, const Crew__ToolGrant *g) {
        const struct plan_program *tool = plan_program_find(w->plan, PLAN_PROGRAM_TOOL, g->tool);
        struct tool_run *r;

        if (!tool) {
                fail(w, corr, "the tool is not in this agent's plan");
        } else if (w->phase == WORKER_STOPPING) {
                fail(w, corr, "the agent was told to end");
        } else if (w->n_tools_waiting >= MAX_TOOL_WAITING) {
                fail(w, corr, "too many tool calls are waiting");
        } else if (!(r = new_run(tool, corr, g->arguments))) {
                fail(w, corr, "out of memory");
        } else {
                list_append(&w->tools_waiting, &r->link);
                w->n_tools_waiting++;
                start_waiting(w);
        }
}
