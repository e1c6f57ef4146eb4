/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The stdio-rpc driver.  A request is open from the line we write to the answer, or to its deadline:
 *
 *   OPEN --answer--> reported            OPEN --deadline, cancel--> ENDING (we sent "cancel")
 *   ENDING --any answer--> reported as timed out or cancelled; the process lives
 *   ENDING --grace over--> reported; the process is stuck and is stopped
 */
#include "rpc_agent.h"

#include "common/util.h"
#include "inbox.h"
#include "jsonrpc.h"
#include "tasks.h"

#include <errno.h>
#include <string.h>

#define MAX_WAITING (32u << 20)
#define CANCEL_GRACE_MS 2000u

struct request {
        struct list link;
        struct rpc_agent *agent;
        uint64_t id;
        char task_id[64]; /* a task's; "" for an ask */
        uint64_t corr;    /* an ask's or a ping's */
        bool ping;
        uint64_t started_ns, timeout_ms;
        Crew__Outcome ending; /* UNSET: open */
        struct timer timer;
};

struct rpc_agent {
        struct program program;
        struct strbuf line;
        struct list requests;
        unsigned n_requests, faults;
        char stopped_for[256]; /* why we stopped it; "" we did not */
        uint64_t next_id;
};

static void send_pong(struct worker *w, uint64_t corr) {
        Crew__Pong body = CREW__PONG__INIT;

        body.program = true;
        worker_send(w, &ENVELOPE(PONG, .corr = corr, .pong = &body));
}

static void report(struct request *q, Crew__Outcome outcome, const char *result, const char *error) {
        struct worker *w = q->agent->program.w;

        if (q->ping)
                send_pong(w, q->corr);
        else if (q->task_id[0])
                task_report(w, &(struct task_report){.id = q->task_id,
                                                     .outcome = outcome,
                                                     .result = result,
                                                     .error = error,
                                                     .duration_us = (crew_now_ns() - q->started_ns) / 1000u});
        else
                inbox_answer(w, q->corr, result, error);
        timer_stop(&q->timer);
        list_remove(&q->link);
        q->agent->n_requests--;
        w->n_tasks -= q->task_id[0] != '\0';
        free(q);
}

static void report_ending(struct request *q) {
        char text[96] = "cancelled";

        if (q->ending == CREW__OUTCOME__OUTCOME_TIMEOUT)
                snprintf(text, sizeof(text), "timed out after %llu ms", (unsigned long long)q->timeout_ms);
        report(q, q->ending, NULL, text);
}

static void on_grace_over(struct timer *t) {
        struct request *q = container_of(t, struct request, timer);
        struct program *p = &q->agent->program;

        char task[96] = "an ask";
        if (q->task_id[0])
                snprintf(task, sizeof(task), "task %s", q->task_id);
        /* The first reason is the one it is stopped for. */
        if (!q->agent->stopped_for[0])
                snprintf(q->agent->stopped_for, sizeof(q->agent->stopped_for),
                         "%s was %s, and the program did not answer 'cancel' in %u ms", task,
                         q->ending == CREW__OUTCOME__OUTCOME_TIMEOUT ? "over its time" : "cancelled", CANCEL_GRACE_MS);
        /* A task is over with its program, which crewd hears of: a result would make it look free for the next one. */
        if (!q->task_id[0])
                report_ending(q);
        worker_observe(p->w, "limit-cancel", "the agent did not answer 'cancel' in %u ms and is stopped", CANCEL_GRACE_MS);
        program_stop(p, PROGRAM_TIMED_OUT, TERM_GRACE_MS);
}

static void end_request(struct request *q, Crew__Outcome why) {
        struct strbuf b = STRBUF_MAX(512);

        if (q->ending != CREW__OUTCOME__OUTCOME_UNSET)
                return;
        q->ending = why;
        timer_start(&q->agent->program.w->loop, &q->timer, CANCEL_GRACE_MS, on_grace_over);
        strbuf_puts(&b, "{\"jsonrpc\":\"2.0\",\"method\":\"cancel\",\"params\":{");
        if (q->task_id[0]) {
                strbuf_puts(&b, "\"task_id\":");
                strbuf_json_string(&b, q->task_id, strlen(q->task_id));
                strbuf_puts(&b, ",");
        }
        strbuf_printf(&b, "\"id\":%llu}}\n", (unsigned long long)q->id);
        program_write(&q->agent->program, b.p, b.n, MAX_WAITING);
        strbuf_fini(&b);
}

static void on_deadline(struct timer *t) {
        struct request *q = container_of(t, struct request, timer);

        worker_observe(q->agent->program.w, "limit-wall", "agent: no answer after %llu ms",
                       (unsigned long long)q->timeout_ms);
        end_request(q, CREW__OUTCOME__OUTCOME_TIMEOUT);
}

/* ---- what it says ---- */

static void fault(struct rpc_agent *a, const char *what) {
        if (a->faults++ > RPC_MAX_FAULTS)
                return;
        worker_observe(a->program.w, "limit-protocol", "%s", what);
        if (a->faults <= RPC_MAX_FAULTS)
                return;
        snprintf(a->stopped_for, sizeof(a->stopped_for),
                 "more than %u lines on its standard output mean nothing, the last: %.160s", RPC_MAX_FAULTS, what);
        program_stop(&a->program, PROGRAM_CANCELLED, 0);
}

static struct request *find_request(struct rpc_agent *a, uint64_t id) {
        list_for_each(it, &a->requests) {
                struct request *q = container_of(it, struct request, link);
                if (q->id == id)
                        return q;
        }
        return NULL;
}

static void report_error(struct request *q, struct json_span error) {
        struct json_span message = json_member(error, "message");
        char *text = malloc(message.n + 1), clean[768] = "the agent answered with an error";

        ssize_t n = text && message.p ? json_decode(message, text, message.n + 1) : -1;
        if (n > 0)
                text_clean(text, (size_t)n, clean, sizeof(clean));
        free(text);
        report(q, CREW__OUTCOME__OUTCOME_FAILED, NULL, clean);
}

static void report_result(struct request *q, struct json_span result) {
        size_t max = q->task_id[0] ? MAX_RESULT : MAX_ANSWER;

        if (result.n > max) {
                report(q, CREW__OUTCOME__OUTCOME_FAILED, NULL, "the agent's result is too large");
                return;
        }
        char *text = strndup(result.p, result.n);
        report(q, text ? CREW__OUTCOME__OUTCOME_OK : CREW__OUTCOME__OUTCOME_FAILED, text, text ? NULL : "out of memory");
        free(text);
}

static void take_response(struct rpc_agent *a, const struct rpc_message *m) {
        struct request *q;
        char what[160];
        uint64_t id;

        if (a->stopped_for[0])
                return; /* too late */
        if (!json_u64(m->id, &id) || !(q = find_request(a, id))) {
                snprintf(what, sizeof(what), "an answer to id %.*s, which is not open", (int)MIN_OF(m->id.n, 40u), m->id.p);
                fault(a, what);
        } else if (q->ending != CREW__OUTCOME__OUTCOME_UNSET) {
                report_ending(q);
        } else if (m->error.p) {
                report_error(q, m->error);
        } else {
                report_result(q, m->result);
        }
}

static void take_line(struct rpc_agent *a, const char *line, size_t n) {
        struct rpc_message m;
        char what[200];

        rpc_parse(line, n, &m);
        switch (m.kind) {
        case RPC_RESPONSE:
                take_response(a, &m);
                break;
        case RPC_REQUEST:
        case RPC_NOTIFICATION:
                fault(a, "a request on stdout: use $CREW_SOCKET");
                break;
        case RPC_REFUSED:
                snprintf(what, sizeof(what), "stdout: %s", m.what);
                fault(a, what);
                break;
        }
}

static bool on_agent_stdout(struct program *p, const char *data, size_t n) {
        struct rpc_agent *a = container_of(p, struct rpc_agent, program);
        const char *nl;

        for (; n > 0 && (nl = memchr(data, '\n', n)); n -= (size_t)(nl + 1 - data), data = nl + 1) {
                strbuf_put(&a->line, data, (size_t)(nl - data));
                if (a->line.failed)
                        return false;
                if (a->line.n > 0)
                        take_line(a, a->line.p, a->line.n);
                strbuf_drop(&a->line, a->line.n);
        }
        strbuf_put(&a->line, data, n);
        return !a->line.failed;
}

static void tell_end(struct worker *w, Crew__AgentEnd end, int code, int sig, const char *text) {
        Crew__AgentEnded body = CREW__AGENT_ENDED__INIT;
        char clean[512];

        text_clean(text, strlen(text), clean, sizeof(clean));
        body.end = end;
        body.exit_code = code;
        body.term_signal = sig;
        body.detail = clean;
        worker_send(w, &ENVELOPE(AGENT_ENDED, .agent_ended = &body));
}

/* What to say of a program that ended by itself: also that somebody still waits for it. */
static void describe_end(struct program *p, char *text, size_t room) {
        char how[400];
        const char *task = NULL;

        program_describe(p, how, sizeof(how));
        list_for_each(it, &p->w->rpc->requests) {
                struct request *q = container_of(it, struct request, link);
                if (q->task_id[0])
                        task = q->task_id;
        }
        snprintf(text, room, "its program %s%s%s", how, task ? "; no result for task " : "", task ? task : "");
}

static void tell_agent_end(struct program *p) {
        static const Crew__AgentEnd ends[] = {
                [PROGRAM_BY_ITSELF] = CREW__AGENT_END__AGENT_END_BY_ITSELF,
                [PROGRAM_TIMED_OUT] = CREW__AGENT_END__AGENT_END_DEADLINE,
                [PROGRAM_CANCELLED] = CREW__AGENT_END__AGENT_END_LIMIT, /* garbage: nothing else cancels it */
                [PROGRAM_TOO_MUCH] = CREW__AGENT_END__AGENT_END_LIMIT,
                [PROGRAM_STOPPED] = CREW__AGENT_END__AGENT_END_BY_ITSELF,
        };
        char text[512];

        if (p->end == PROGRAM_TOO_MUCH)
                snprintf(text, sizeof(text), "wrote a line of more than %zu bytes", p->max_output);
        else if (p->w->rpc->stopped_for[0])
                snprintf(text, sizeof(text), "%s", p->w->rpc->stopped_for);
        else
                describe_end(p, text, sizeof(text));
        tell_end(p->w, ends[p->end], program_exit_code(p), program_term_signal(p), text);
}

/* The agent is over.  Nothing is reported for what is in flight: crewd knows, and may give it to the next instance. */
static void on_agent_end(struct program *p) {
        struct worker *w = p->w;
        int sig = program_term_signal(p);

        if (w->phase == WORKER_STOPPING) {
                for (struct list *node; (node = list_pop(&w->rpc->requests));)
                        report(container_of(node, struct request, link), CREW__OUTCOME__OUTCOME_CANCELLED, NULL,
                               "the agent was told to end");
                return;
        }
        tell_agent_end(p);
        worker_quit(w, sig ? 128 + sig : program_exit_code(p));
}

static const struct program_ops agent_ops = {.on_stdout = on_agent_stdout, .on_end = on_agent_end};

int rpc_agent_start(struct worker *w, struct crew_err *err) {
        struct rpc_agent *a = calloc(1, sizeof(*a));

        if (!a)
                return crew_fail(err, ENOMEM, "out of memory");
        list_init(&a->requests);
        a->line = STRBUF_MAX(MAX_RESULT + 1024);
        w->rpc = a;
        int r = program_start(w, &a->program,
                              &(struct program_spec){.ops = &agent_ops,
                                                     .source = "agent",
                                                     .program = w->agent,
                                                     .keep_stdin = true,
                                                     .max_output = a->line.max},
                              err);
        if (r < 0)
                tell_end(w, CREW__AGENT_END__AGENT_END_NOT_STARTED, -1, 0, err->msg);
        return r;
}

/* ---- what we ask ---- */

static struct request *new_request(struct worker *w, uint64_t timeout_ms) {
        struct rpc_agent *a = w->rpc;
        struct request *q = a->n_requests < MAX_ASKS ? calloc(1, sizeof(*q)) : NULL;

        if (!q)
                return NULL;
        *q = (struct request){.agent = a, .id = ++a->next_id, .started_ns = crew_now_ns(), .timeout_ms = timeout_ms};
        list_append(&a->requests, &q->link);
        a->n_requests++;
        if (timeout_ms)
                timer_start(&w->loop, &q->timer, timeout_ms, on_deadline);
        return q;
}

/* {"jsonrpc":"2.0","id":N,"method":METHOD,"params":...}; id 0: a notification. */
static void call_begin(struct strbuf *b, uint64_t id, const char *method) {
        strbuf_puts(b, "{\"jsonrpc\":\"2.0\",");
        if (id)
                strbuf_printf(b, "\"id\":%llu,", (unsigned long long)id);
        strbuf_puts(b, "\"method\":\"");
        strbuf_puts(b, method);
        strbuf_puts(b, "\",\"params\":");
}

static bool call_end(struct rpc_agent *a, struct strbuf *b) {
        strbuf_puts(b, "}\n");
        bool ok = !b->failed && program_write(&a->program, b->p, b->n, MAX_WAITING);
        strbuf_fini(b);
        return ok;
}

static bool write_call(struct rpc_agent *a, uint64_t id, const char *method, const char *params, size_t n) {
        struct strbuf b = STRBUF_MAX(MAX_WAITING);

        call_begin(&b, id, method);
        strbuf_json_text(&b, params, n);
        return call_end(a, &b);
}

void rpc_agent_task(struct worker *w, const Crew__TaskStart *s) {
        struct request *q = new_request(w, task_timeout(w, s->timeout_ms));

        if (!q) {
                task_report(w, &(struct task_report){.id = s->task_id,
                                                     .outcome = CREW__OUTCOME__OUTCOME_FAILED,
                                                     .error = "too many tasks at once"});
                return;
        }
        snprintf(q->task_id, sizeof(q->task_id), "%s", s->task_id);
        w->n_tasks++;
        w->rpc->program.stderr_left = STDERR_BUDGET; /* the budget is per task */
        if (!write_call(w->rpc, q->id, "task", s->input, strlen(s->input)))
                report(q, CREW__OUTCOME__OUTCOME_FAILED, NULL, "the agent does not read its stdin");
}

void rpc_agent_cancel(struct worker *w, const char *task_id) {
        list_for_each(it, &w->rpc->requests) {
                struct request *q = container_of(it, struct request, link);
                if (strcmp(q->task_id, task_id) == 0)
                        end_request(q, CREW__OUTCOME__OUTCOME_CANCELLED);
        }
}

static bool write_letter(struct worker *w, uint64_t id, const char *method, const char *from, const char *payload) {
        struct strbuf b = STRBUF_MAX(MAX_WAITING);

        if (!payload[0])
                payload = "null";
        call_begin(&b, id, method);
        strbuf_puts(&b, "{\"kind\":\"");
        strbuf_puts(&b, method);
        strbuf_puts(&b, "\",\"from\":\"");
        strbuf_puts(&b, from);
        strbuf_puts(&b, "\",\"payload\":");
        strbuf_json_text(&b, payload, strlen(payload));
        strbuf_puts(&b, "}");
        return call_end(w->rpc, &b);
}

bool rpc_agent_ask(struct worker *w, uint64_t seq, const char *from, const char *payload, uint64_t timeout_ms) {
        struct request *q = new_request(w, timeout_ms);

        if (!q)
                return false;
        q->corr = seq;
        if (!write_letter(w, q->id, "ask", from, payload))
                report(q, CREW__OUTCOME__OUTCOME_FAILED, NULL, "the agent does not read its stdin");
        return true;
}

bool rpc_agent_message(struct worker *w, const char *from, const char *payload) {
        return write_letter(w, 0, "message", from, payload);
}

bool rpc_agent_notice(struct worker *w, const char *method, const char *params) {
        return write_call(w->rpc, 0, method, params, strlen(params));
}

/* One at a time: an answer to an older one comes too late for crewd anyway, but shows that this one will be read. */
void rpc_agent_ping(struct worker *w, uint64_t seq) {
        struct request *q = NULL;

        list_for_each(it, &w->rpc->requests) {
                if (container_of(it, struct request, link)->ping)
                        return;
        }
        if (!(q = new_request(w, 0)))
                return;
        q->ping = true;
        q->corr = seq;
        write_call(w->rpc, q->id, "ping", "{}", 2);
}

bool rpc_agent_shutdown(struct worker *w, const char *params, size_t n) {
        bool ok = write_call(w->rpc, 0, "shutdown", params, n);

        program_end_stdin(&w->rpc->program);
        return ok;
}
