/* SPDX-License-Identifier: Apache-2.0 */
/*
 * From a worker's bytes to the parts.  A rejected frame still counts in the sequence, and whoever waits for an answer to
 * it gets one, so that a refusal never looks like a lost message.
 */
#include "dispatch.h"

#include "adopt.h"
#include "common/util.h"
#include "crewd.h"
#include "death.h"
#include "execs.h"
#include "health.h"
#include "instance.h"
#include "journal.h"
#include "late_result.h"
#include "manager.h"
#include "router.h"
#include "scheduler.h"
#include "sharing.h"
#include "state_dir.h"
#include "toolgate.h"
#include "usage.h"

#include <string.h>

void dispatch_violation(struct agent *a, const char *body, const char *field, const char *rule, bool fatal) {
        char text[256];

        journal_rejected(a, body, field, rule);
        bool many = rate_exceeded_by(&a->in.violations, crew_now_ns());
        if (!fatal && !many)
                return;
        snprintf(text, sizeof(text), "%s %s.%s: %s",
                 many && !fatal ? "too many protocol violations, the last:" : "protocol violation:", body, field, rule);
        death_kill(a, CREW__CAUSE__CAUSE_POLICY_VIOLATION, "crewd", text);
}

/* --- handlers --- */

static void on_hello(struct agent *a, const Crew__Envelope *e) {
        Crew__Welcome body = CREW__WELCOME__INIT;
        Crew__Envelope out = CREW__ENVELOPE__INIT;

        if (a->in.greeted)
                return dispatch_violation(a, "hello", "", "only once", true);
        if (strcmp(e->hello->agent, agent_name(a)) != 0)
                return dispatch_violation(a, "hello", "agent", "is not this link's agent", true);
        if (e->hello->incarnation != a->incarnation)
                return dispatch_violation(a, "hello", "incarnation", "is not this link's instance", true);
        a->in.greeted = true;
        body.protocol = 1;
        out.corr = e->seq;
        out.body_case = CREW__ENVELOPE__BODY_WELCOME;
        out.welcome = &body;
        agent_send_or_kill(a, &out);
}

static void on_ready(struct agent *a, const Crew__Envelope *e) {
        (void)e;
        if (!a->in.greeted)
                return dispatch_violation(a, "ready", "", "before hello", true);
        instance_on_ready(a);
}

void dispatch_task_result(struct agent *a, const Crew__TaskResult *b) {
        struct sched_result r = {.agent = a->index,
                                 .task_id = b->task_id,
                                 .outcome = b->outcome,
                                 .result = b->result,
                                 .result_len = strlen(b->result),
                                 .error = b->error};

        if (scheduler_result(a->crewd->scheduler, &r, crew_now_ns()) != 0)
                return dispatch_violation(a, "task_result", "task_id", "is no task in flight on this agent", false);
        state_dir_measure(a);
        agent_event(a, AGENT_EV_TASK_END);
}

static void on_task_result(struct agent *a, const Crew__Envelope *e) {
        if (!late_result_hold(a, e->task_result))
                dispatch_task_result(a, e->task_result);
}

static void on_tool_call(struct agent *a, const Crew__Envelope *e) {
        toolgate_call(a->crewd->tools, a, e);
}

static void on_tool_return(struct agent *a, const Crew__Envelope *e) {
        if (!toolgate_return(a->crewd->tools, a, e))
                dispatch_violation(a, "tool_return", "corr", "is no tool call in flight", false);
}

static uint64_t timeout_of(const Crew__Envelope *e) {
        uint64_t now_ms = crew_realtime_ns() / 1000000u;

        if (e->deadline_ms == 0)
                return 0;
        uint64_t ms = e->deadline_ms > now_ms ? e->deadline_ms - now_ms : 1;
        return MIN_OF(ms, ROUTER_TIMEOUT_MAX_NS / 1000000u) * 1000000u;
}

static void refuse_message(struct agent *a, uint64_t seq) {
        char text[128];
        const struct call_reply reply = {
                .code = CALL_QUEUE_FULL, .message = text, .next_step = "send less often: one message can carry much"};

        snprintf(text, sizeof(text), "more than limits.messages: %llu a second",
                 (unsigned long long)usage_max(a, USAGE_MESSAGES));
        toolgate_reply(a, seq, &reply);
}

static void on_send_message(struct agent *a, const Crew__Envelope *e) {
        const Crew__SendMessage *b = e->send_message;
        struct router_send s = {.from = a->index,
                                .incarnation = a->incarnation,
                                .seq = e->seq,
                                .target = b->target,
                                .ask = b->ask,
                                .unanswered = b->unanswered,
                                .payload = b->payload,
                                .payload_len = strlen(b->payload),
                                .timeout_ns = timeout_of(e)};

        uint64_t now = crew_now_ns();

        if (b->ask && b->unanswered)
                return dispatch_violation(a, "send_message", "unanswered", "is of a send, not of an ask", false);
        if (usage_message(a, now))
                return router_send(a->crewd->router, &s, now);
        if (!a->in.cut && !b->unanswered)
                refuse_message(a, e->seq);
}

static void on_ask_answer(struct agent *a, const Crew__Envelope *e) {
        const Crew__AskAnswer *b = e->ask_answer;
        struct crew_err err = CREW_ERR_NULL;

        switch (router_answer(a->crewd->router, a->index, e->corr, b->ok, b->payload, strlen(b->payload), b->error, &err)) {
        case ROUTER_ANSWERED:
        case ROUTER_ANSWERED_LATE:
                break;
        case ROUTER_NO_SUCH_ASK:
                dispatch_violation(a, "ask_answer", "corr", "is no ask this agent owes an answer to", false);
                break;
        case ROUTER_BAD_ANSWER:
                /* Its program's fault, not the worker's: recorded, not counted. */
                journal_rejected(a, "ask_answer", "payload", err.msg);
                break;
        }
}

static void on_list_tools(struct agent *a, const Crew__Envelope *e) {
        toolgate_list(a->crewd->tools, a, e->seq);
}

static void keep_tail(struct instance *in, const uint8_t *p, size_t n) {
        if (!in->stderr_tail && !(in->stderr_tail = calloc(1, AGENT_STDERR_TAIL + 1)))
                return;
        if (n > AGENT_STDERR_TAIL) {
                p += n - AGENT_STDERR_TAIL;
                n = AGENT_STDERR_TAIL;
        }
        size_t keep = MIN_OF(in->stderr_used, AGENT_STDERR_TAIL - n);
        memmove(in->stderr_tail, in->stderr_tail + in->stderr_used - keep, keep);
        memcpy(in->stderr_tail + keep, p, n);
        in->stderr_used = keep + n;
}

/* A worker may say it dropped any number. */
static uint64_t add_up(uint64_t a, uint64_t b) {
        return MIN_OF(a, (uint64_t)INT64_MAX / 2) + MIN_OF(b, (uint64_t)INT64_MAX / 2);
}

static void on_stderr(struct agent *a, const Crew__Envelope *e) {
        const Crew__Stderr *b = e->stderr_text;

        if (b->text.len)
                keep_tail(&a->in, b->text.data, b->text.len);
        if (!meter_take(&a->in.stderr_bytes, MAX_OF((int64_t)b->text.len, 256), crew_now_ns())) {
                a->in.stderr_cut = add_up(a->in.stderr_cut, add_up(b->text.len, b->dropped));
                journal_limit(a, &(struct journal_limit){.limit = "stderr",
                                                         .count = 1,
                                                         .text = "more standard error than a program may have is cut"});
                return;
        }
        journal_stderr(a, b->source, b->text.data, b->text.len, add_up(b->dropped, a->in.stderr_cut));
        a->in.stderr_cut = 0;
}

static void on_observed(struct agent *a, const Crew__Envelope *e) {
        journal_observed(a, e->observed->what, e->observed->detail);
        usage_observed(a, e->observed->what);
}

static void on_pong(struct agent *a, const Crew__Envelope *e) {
        usage_pong(a, e->corr);
        health_pong(a, e); /* any frame is a sign of the worker's life; this one may be of its program's */
}

static void on_exec_output(struct agent *a, const Crew__Envelope *e) {
        if (!health_output(a, e) && !execs_output(a->crewd->execs, a, e))
                dispatch_violation(a, "exec_output", "corr", "is no command in flight", false);
}

static void on_exec_exit(struct agent *a, const Crew__Envelope *e) {
        if (!health_exit(a, e) && !execs_exit(a->crewd->execs, a, e))
                dispatch_violation(a, "exec_exit", "corr", "is no command in flight", false);
}

static void on_memory(struct agent *a, const Crew__Envelope *e) {
        sharing_request(a, e);
}

static void on_request_tool(struct agent *a, const Crew__Envelope *e) {
        toolgate_request(a->crewd->tools, a, e);
}

static void on_order(struct agent *a, const Crew__Envelope *e) {
        manager_order(a, e);
}

static void on_resume(struct agent *a, const Crew__Envelope *e) {
        (void)e;
        dispatch_violation(a, "resume", "", "on a link that was not made again", true);
}

static void on_ack(struct agent *a, const Crew__Envelope *e) {
        (void)a, (void)e; /* what there is to it is in every frame */
}

/* Its word counts when the jail has ended; it has a moment for that. */
static void on_agent_ended(struct agent *a, const Crew__Envelope *e) {
        const Crew__AgentEnded *b = e->agent_ended;
        struct cause_told *told = &a->in.told;

        if (told->told)
                return dispatch_violation(a, "agent_ended", "", "only once", true);
        *told = (struct cause_told){.told = true, .end = b->end, .code = b->exit_code, .signal = b->term_signal};
        snprintf(told->detail, sizeof(told->detail), "%s", b->detail);
        instance_on_program_ended(a);
}

#define ROW(BODY, fn) [CREW__ENVELOPE__BODY_##BODY] = fn
static void (*const handlers[])(struct agent *a, const Crew__Envelope *e) = {
        ROW(HELLO, on_hello),
        ROW(READY, on_ready),
        ROW(TASK_RESULT, on_task_result),
        ROW(TOOL_CALL, on_tool_call),
        ROW(TOOL_RETURN, on_tool_return),
        ROW(SEND_MESSAGE, on_send_message),
        ROW(ASK_ANSWER, on_ask_answer),
        ROW(LIST_TOOLS, on_list_tools),
        ROW(STDERR_TEXT, on_stderr),
        ROW(OBSERVED, on_observed),
        ROW(PONG, on_pong),
        ROW(EXEC_OUTPUT, on_exec_output),
        ROW(EXEC_EXIT, on_exec_exit),
        ROW(MEMORY_PUT, on_memory),
        ROW(MEMORY_GET, on_memory),
        ROW(MEMORY_LIST, on_memory),
        ROW(REQUEST_TOOL, on_request_tool),
        ROW(LIST_AGENTS, on_order),
        ROW(SUBMIT_WORK, on_order),
        ROW(WAIT_WORK, on_order),
        ROW(CANCEL_WORK, on_order),
        ROW(REPRIORITISE_WORK, on_order),
        ROW(READ_RESULT, on_order),
        ROW(LIST_TERMINATIONS, on_order),
        ROW(TERMINATION_SEEN, on_order),
        ROW(SPAWN_INSTANCE, on_order),
        ROW(RETIRE_INSTANCE, on_order),
        ROW(AGENT_ENDED, on_agent_ended),
        ROW(RESUME, on_resume),
        ROW(ACK_ONLY, on_ack),
};
#undef ROW

/* The part of "tool_call.arguments" before the dot, for the record. */
static void body_of(const char *field, char *out, size_t out_size) {
        size_t n = strcspn(field, ".");

        snprintf(out, out_size, "%.*s", (int)MIN_OF(n, out_size - 1), n ? field : "frame");
}

static void refuse(struct agent *a, const struct ipc_refusal *why) {
        char body[96], rule[160];
        const char *dot = strchr(why->field, '.');

        /* Whoever may be waiting for an answer to this frame gets one; its number is known though its content is not. */
        uint64_t seq = ++a->in.seq_in;
        /* It was on its way when this side began to stop the agent: nobody's fault. */
        if (why->why == IPC_WRONG_STATE && a->state == AGENT_STOPPING)
                return;
        body_of(why->field, body, sizeof(body));
        /* Its program asked for what it is not: that is refused and recorded, and no fault of the worker's. */
        if (why->why == IPC_WRONG_ROLE)
                return manager_refuse(a, body, seq);
        snprintf(rule, sizeof(rule), "%s%s%s", ipc_reject_names[why->why], why->rule[0] ? ": " : "", why->rule);
        if (a->state == AGENT_READY || a->state == AGENT_WORKING) {
                char text[300];
                snprintf(text, sizeof(text), "message rejected: %s %s", why->field, rule);
                struct call_reply reply = {.code = CALL_REJECTED, .message = text};
                toolgate_reply(a, seq, &reply);
        }
        dispatch_violation(a, body, dot ? dot + 1 : "", rule, false);
}

/* What is said by the way changes nothing. */
static void note_who_waits(struct crewd *c, const Crew__Envelope *e) {
        if (e->body_case == CREW__ENVELOPE__BODY_SEND_MESSAGE)
                coalesce_note(&c->coalesce, !e->send_message->unanswered);
        else if (e->body_case != CREW__ENVELOPE__BODY_PONG && e->body_case != CREW__ENVELOPE__BODY_ACK_ONLY &&
                 e->body_case != CREW__ENVELOPE__BODY_STDERR_TEXT && e->body_case != CREW__ENVELOPE__BODY_OBSERVED)
                coalesce_note(&c->coalesce, true);
}

void dispatch_frame(struct agent *a, const uint8_t *bytes, size_t n) {
        struct ipc_refusal why;
        const Crew__Envelope *e;

        a->in.pings_lost = 0;
        uint32_t ours = migrate_has_worker(a) ? IPC_STATE_READY : agent_state_ipc(a->state);
        uint32_t state = ours | (manager_is(a) ? IPC_STATE_MANAGER : 0);
        if (ipc_accept(a->crewd->arena, IPC_WORKER, state, bytes, n, &e, &why) != IPC_ACCEPTED)
                return a->in.resuming ? dispatch_violation(a, "resume", "", "the first word is none", true)
                                      : refuse(a, &why);
        if (a->in.resuming) {
                adopt_on_resume(a, e);
                ipc_arena_reset(a->crewd->arena);
                return;
        }
        if (!ipc_seq_next(&a->in.seq_in, e->seq))
                return dispatch_violation(a, ipc_body_name(e), "seq", "does not follow the frame before", true);
        if (e->ack > a->in.seq_out)
                return dispatch_violation(a, ipc_body_name(e), "ack", "is of a frame that was never sent", true);
        outbox_acknowledged(&a->in.outbox, e->ack);
        a->in.unacked++;
        a->in.unacked_bytes += n;
        void (*handle)(struct agent *, const Crew__Envelope *) =
                (size_t)e->body_case < ELEMENTSOF(handlers) ? handlers[e->body_case] : NULL;
        /* The message table lets no other body of a worker through. */
        crew_assert(handle);
        note_who_waits(a->crewd, e);
        if (!migrate_frame(a, e))
                handle(a, e);
        ipc_arena_reset(a->crewd->arena);
}
