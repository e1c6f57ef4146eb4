/* SPDX-License-Identifier: Apache-2.0 */
#include "toolgate.h"

#include "bytes.h"
#include "common/util.h"
#include "common/verbs.h"
#include "crewd.h"
#include "inflight.h"
#include "journal.h"
#include "manager.h"
#include "scheduler.h"
#include "supervisor/schema/schema.h"
#include "text.h"

#include <errno.h>
#include <string.h>

struct granted {
        struct granted *next;
        char tool[];
};

struct toolgate {
        struct crewd *crewd;
        struct inflight *calls;
        struct granted **granted; /* for each agent: on request, to the instance that is alive */
};

struct toolgate *toolgate_new(struct crewd *c) {
        static const struct inflight_limits limits = {
                .per_caller = TOOLGATE_OPEN_MAX, .per_callee = 2 * TOOLGATE_OPEN_MAX, .callee_bytes = 64u << 20};
        struct toolgate *t = calloc(1, sizeof(*t));

        if (!t)
                return NULL;
        t->crewd = c;
        t->calls = inflight_new(c->room, &limits);
        t->granted = calloc(c->room, sizeof(struct granted *));
        return t->calls && t->granted ? t : toolgate_free(t);
}

static void forget_granted(struct toolgate *t, uint32_t agent) {
        while (t->granted[agent]) {
                struct granted *g = t->granted[agent];
                t->granted[agent] = g->next;
                free(g);
        }
}

struct toolgate *toolgate_free(struct toolgate *t) {
        if (t) {
                for (uint32_t i = 0; t->granted && i < t->crewd->room; i++)
                        forget_granted(t, i);
                inflight_free(t->calls);
                free(t->granted);
        }
        free(t);
        return NULL;
}

void toolgate_reply(struct agent *a, uint64_t corr, const struct call_reply *reply) {
        static const struct call_reply too_much = {.code = CALL_QUEUE_FULL,
                                                   .message = "the answer was dropped: too many others are unread"};
        char message[1024], rule[640], step[256], *steps[1] = {step};
        Crew__CallError error = CREW__CALL_ERROR__INIT;
        Crew__CallResult body = CREW__CALL_RESULT__INIT;
        Crew__Envelope e = CREW__ENVELOPE__INIT;

        if (reply->ok && !agent_takes_answer(a, strlen(reply->result)))
                reply = &too_much;
        body.ok = reply->ok;
        if (reply->ok) {
                body.result = (char *)reply->result;
        } else {
                text_copy(message, sizeof(message), reply->message ? reply->message : "", SIZE_MAX);
                text_copy(rule, sizeof(rule), reply->rule ? reply->rule : "", SIZE_MAX);
                text_copy(step, sizeof(step), reply->next_step ? reply->next_step : "", SIZE_MAX);
                error.code = reply->code;
                error.message = message;
                error.rule = rule;
                error.next_steps = steps;
                error.n_next_steps = step[0] ? 1 : 0;
                body.error = &error;
        }
        e.corr = corr;
        e.body_case = CREW__ENVELOPE__BODY_CALL_RESULT;
        e.call_result = &body;
        agent_send_or_kill(a, &e);
}

static void refuse(struct agent *a, const struct journal_call *call, enum call_code code, const char *rule,
                   const char *text) {
        journal_tool_refused(a, call, rule, text);
        toolgate_reply(a, call->seq, &(struct call_reply){.code = code, .message = text, .rule = rule});
}

/* --- a call --- */

static bool granted(const struct agent *a, const char *tool) {
        for (const struct granted *g = a->crewd->tools->granted[a->index]; g; g = g->next) {
                if (strcmp(g->tool, tool) == 0)
                        return true;
        }
        return false;
}

static int give(struct agent *a, const char *tool) {
        struct toolgate *t = a->crewd->tools;
        size_t n = strlen(tool) + 1;
        struct granted *g = malloc(sizeof(*g) + n);

        if (!g)
                return -ENOMEM;
        memcpy(g->tool, tool, n);
        g->next = t->granted[a->index];
        t->granted[a->index] = g;
        return 0;
}

/* Has it been given the tool, by its `tools` in the crew file or on request? */
static bool has_tool(const struct agent *a, const char *name) {
        const struct crew_tool *tool = crew_find_tool(a->file, name);

        for (size_t i = 0; i < a->decl->n_tools; i++)
                if (strcmp(a->decl->tools[i], name) == 0)
                        return true;
        return !a->decl->tools || (tool && granted(a, tool->name));
}

/* By the policy as it is now; a tool that it has allowed since the start is not in the jail. */
static struct policy_verdict allowed(const struct agent *a, const char *tool) {
        struct policy_verdict v = policy_decide(a->decl->policy, POLICY_DO_TOOL, tool);

        if (!v.allowed || policy_decide(agent_jail_policy(a), POLICY_DO_TOOL, tool).allowed)
                return v;
        v.allowed = false;
        snprintf(v.text, sizeof(v.text), "allowed since the agent was started, and not in its jail yet");
        snprintf(v.next_step, sizeof(v.next_step),
                 "the operator can start it again: crewctl policy reload --agent %s --restart", agent_name(a));
        return v;
}

static struct policy_verdict decide(const struct agent *a, const char *tool) {
        struct policy_verdict v = allowed(a, tool);

        if (!v.allowed || has_tool(a, tool))
                return v;
        v.allowed = false;
        snprintf(v.rule, sizeof(v.rule), "%.600s:%u", a->file->path, a->decl->mark.line);
        snprintf(v.text, sizeof(v.text), "not among the tools this agent was given");
        if (a->file->tool_delegation == CREW_TOOLS_WITHIN_ALLOWED)
                snprintf(v.next_step, sizeof(v.next_step), "ask for it: tools/request, or crew-call request %.63s", tool);
        else
                snprintf(v.next_step, sizeof(v.next_step),
                         "the operator can list it in the agent's tools in the crew file");
        return v;
}

static bool permitted(struct agent *a, const struct journal_call *call, struct policy_verdict *v) {
        char text[512];

        *v = decide(a, call->tool);
        if (v->allowed)
                return true;
        journal_tool_call(a, call, v);
        snprintf(text, sizeof(text), "tool '%s' is %s", call->tool, v->text[0] ? v->text : "not in tools.allowed");
        toolgate_reply(
                a, call->seq,
                &(struct call_reply){.code = CALL_DENIED, .message = text, .rule = v->rule, .next_step = v->next_step});
        return false;
}

static bool arguments_ok(struct agent *a, const struct journal_call *call, const struct crew_tool *tool) {
        struct crew_err err = CREW_ERR_NULL;
        char text[CREW_ERR_MSG_MAX + 128];

        if (schema_check(tool->input, call->value, call->value_len, &err) == 0)
                return true;
        snprintf(text, sizeof(text), "arguments of '%s' are not valid: %s", tool->name, err.msg);
        refuse(a, call, CALL_BAD_ARGUMENTS, tool->input_file, text);
        return false;
}

static void has_effect(uint32_t agent, void *user) {
        struct agent *a = &((struct crewd *)user)->agents[agent];

        a->in.effects = true;
        scheduler_note_effect(a->crewd->scheduler, agent);
}

/* A tool that is not idempotent is about to run: for this agent's task, and for those of all that wait for what it says. */
static void note_effect(struct agent *a) {
        struct crewd *c = a->crewd;

        has_effect(a->index, c);
        router_each_asker(c->router, a->index, has_effect, c);
}

static void grant(struct toolgate *t, struct agent *a, const struct crew_tool *tool, const char *arguments, uint64_t seq) {
        struct inflight_end end = {.agent = a->index, .incarnation = a->incarnation, .seq = seq};
        uint64_t now = crew_now_ns();
        struct inflight_call want = {.caller = end,
                                     .callee = end,
                                     .started_ns = now,
                                     .deadline_ns = now + tool->timeout_ms * 1000000u + TOOLGATE_SLACK_NS,
                                     .bytes = strlen(arguments),
                                     .what = tool};
        Crew__ToolGrant body = CREW__TOOL_GRANT__INIT;
        Crew__Envelope out = CREW__ENVELOPE__INIT;
        struct inflight_call *c;

        if (inflight_add(t->calls, &want, &c) != INFLIGHT_ADDED) {
                toolgate_reply(a, seq,
                               &(struct call_reply){.code = CALL_QUEUE_FULL, .message = "too many tool calls in flight"});
                return;
        }
        if (!tool->idempotent)
                note_effect(a);
        body.tool = (char *)tool->name;
        body.arguments = (char *)arguments;
        out.corr = seq;
        out.body_case = CREW__ENVELOPE__BODY_TOOL_GRANT;
        out.tool_grant = &body;
        agent_send_or_kill(a, &out);
}

void toolgate_call(struct toolgate *t, struct agent *a, const Crew__Envelope *e) {
        const Crew__ToolCall *b = e->tool_call;
        const struct crew_tool *tool = crew_find_tool(a->file, b->tool);
        struct journal_call call = {.tool = b->tool,
                                    .seq = e->seq,
                                    .value = b->arguments,
                                    .value_len = strlen(b->arguments),
                                    .full = tool && tool->audit_full};
        struct policy_verdict v;

        if (!permitted(a, &call, &v))
                return;
        if (!tool)
                return refuse(a, &call, CALL_DENIED, NULL,
                              "the policy allows this tool, but the crew file has none of that name");
        if (inflight_open(t->calls, a->index) >= TOOLGATE_OPEN_MAX)
                return refuse(a, &call, CALL_QUEUE_FULL, NULL, "too many tool calls in flight");
        if (!arguments_ok(a, &call, tool))
                return;
        if (journal_tool_call(a, &call, &v) < 0)
                toolgate_reply(a, e->seq,
                               &(struct call_reply){.code = CALL_DENIED, .message = "the audit cannot be written"});
        else
                grant(t, a, tool, b->arguments, e->seq);
}

/* --- a return --- */

struct verdict {
        bool ok;
        enum call_code code;
        const char *outcome;
        char text[CREW_ERR_MSG_MAX + 128];
};

static void judge(const struct crew_tool *tool, const Crew__ToolReturn *b, struct verdict *v) {
        struct crew_err err = CREW_ERR_NULL;
        const char *error = b->error && *b->error ? b->error : "failed";

        *v = (struct verdict){.code = CALL_TOOL_FAILED, .outcome = "failed"};
        if (b->outcome == CREW__OUTCOME__OUTCOME_TIMEOUT) {
                *v = (struct verdict){.code = CALL_TIMED_OUT, .outcome = "timeout"};
                snprintf(v->text, sizeof(v->text), "tool '%s' gave no result within %.1f s", tool->name,
                         (double)tool->timeout_ms / 1e3);
        } else if (b->outcome != CREW__OUTCOME__OUTCOME_OK) {
                snprintf(v->text, sizeof(v->text), "tool '%s' failed: %s", tool->name, error);
        } else if (schema_check(tool->output, b->output, strlen(b->output), &err) != 0) {
                *v = (struct verdict){.code = CALL_BAD_RESULT, .outcome = "bad result"};
                snprintf(v->text, sizeof(v->text), "the result of '%s' is not valid: %s", tool->name, err.msg);
        } else {
                *v = (struct verdict){.ok = true, .outcome = "ok"};
        }
}

bool toolgate_return(struct toolgate *t, struct agent *a, const Crew__Envelope *e) {
        struct inflight_call *c = inflight_owed(t->calls, a->index, e->corr);
        const Crew__ToolReturn *b = e->tool_return;
        struct verdict v;

        if (!c)
                return false;
        const struct crew_tool *tool = c->what;
        judge(tool, b, &v);
        struct journal_call call = {.tool = tool->name,
                                    .seq = e->corr,
                                    .value = b->output,
                                    .value_len = strlen(b->output),
                                    .full = tool->audit_full};
        int r = journal_tool_return(a, &call, v.outcome, v.ok ? NULL : v.text, b->duration_us);
        bool wanted = inflight_settle(t->calls, c);
        inflight_drop(t->calls, c);
        if (!wanted)
                return true; /* too late: the caller was told so */
        if (r < 0)
                v = (struct verdict){.code = CALL_TOOL_FAILED, .text = "the audit cannot be written"};
        toolgate_reply(a, e->corr,
                       &(struct call_reply){.ok = v.ok, .result = b->output, .code = v.code, .message = v.text});
        return true;
}

/* --- the list --- */

struct tool_list {
        Crew__ToolInfo info[64], *items[64];
        size_t n;
};

static void add_tool(struct tool_list *l, const struct agent *a, const struct crew_tool *tool) {
        Crew__ToolInfo *info = &l->info[l->n];
        const char *schema = tool->input ? schema_text(tool->input) : NULL;

        if (l->n == ELEMENTSOF(l->info) || !decide(a, tool->name).allowed)
                return;
        crew__tool_info__init(info);
        info->name = (char *)tool->name;
        info->description = (char *)(tool->description ? tool->description : "");
        info->input_schema = (char *)(schema && strlen(schema) <= 65536 ? schema : "{\"type\":\"object\"}");
        l->items[l->n++] = info;
}

static void add_verb(struct tool_list *l, const struct crew_verb_row *verb) {
        Crew__ToolInfo *info = &l->info[l->n];

        if (l->n == ELEMENTSOF(l->info))
                return;
        crew__tool_info__init(info);
        info->name = (char *)verb->tool;
        info->description = (char *)verb->description;
        info->input_schema = (char *)verb->schema;
        l->items[l->n++] = info;
}

static bool has_memory(const struct agent *a) {
        const struct crew_file *f = a->file;
        uint8_t rights = 0;

        for (size_t i = 0; i < f->n_memory; i++)
                rights |= f->memory[i].rights[a->index];
        return rights != 0;
}

static bool may_use(const struct agent *a, enum crew_verb verb) {
        switch (verb) {
        case CREW_VERB_MEMORY_PUT:
        case CREW_VERB_MEMORY_GET:
        case CREW_VERB_MEMORY_LIST:
                return has_memory(a);
        case CREW_VERB_REQUEST_TOOL:
                return a->decl->tools && a->file->tool_delegation == CREW_TOOLS_WITHIN_ALLOWED;
        case CREW_VERB_AGENTS:
        case CREW_VERB_SUBMIT:
        case CREW_VERB_WAIT:
        case CREW_VERB_CANCEL:
        case CREW_VERB_REPRIORITISE:
        case CREW_VERB_RESULT:
        case CREW_VERB_TERMINATIONS:
        case CREW_VERB_SEEN:
        case CREW_VERB_SPAWN:
        case CREW_VERB_RETIRE:
        case CREW_VERB_ASK:
        case CREW_VERB_N:
                break;
        }
        return manager_is(a);
}

void toolgate_list(struct toolgate *t, struct agent *a, uint64_t corr) {
        Crew__ToolList body = CREW__TOOL_LIST__INIT;
        Crew__Envelope e = CREW__ENVELOPE__INIT;
        struct tool_list list = {.n = 0};

        for (size_t i = 0; i < CREW_VERB_N; i++)
                if (may_use(a, (enum crew_verb)i))
                        add_verb(&list, &crew_verbs[i]);
        for (size_t i = 0; i < a->file->n_tools; i++)
                add_tool(&list, a, &a->file->tools[i]);
        body.n_tools = list.n;
        body.tools = list.items;
        e.corr = corr;
        e.body_case = CREW__ENVELOPE__BODY_TOOL_LIST;
        e.tool_list = &body;
        agent_send_or_kill(a, &e);
}

/* --- a request for one --- */

static void deny_request(struct agent *a, const Crew__Envelope *e, const struct policy_verdict *v) {
        const Crew__RequestTool *b = e->request_tool;
        char raw[512], text[512];

        snprintf(raw, sizeof(raw), "tool '%s' is %s", b->tool, v->text[0] ? v->text : "not in tools.allowed");
        text_copy(text, sizeof(text), raw, SIZE_MAX);
        journal_tool_request(a, b->tool, b->reason, false, v->rule, v->text[0] ? v->text : "not in tools.allowed");
        toolgate_reply(
                a, e->seq,
                &(struct call_reply){.code = CALL_DENIED, .message = text, .rule = v->rule, .next_step = v->next_step});
}

void toolgate_request(struct toolgate *t, struct agent *a, const Crew__Envelope *e) {
        const Crew__RequestTool *b = e->request_tool;
        const struct crew_tool *tool = crew_find_tool(a->file, b->tool);
        struct policy_verdict v = allowed(a, b->tool);

        if (!v.allowed)
                return deny_request(a, e, &v);
        if (!tool || (a->file->tool_delegation == CREW_TOOLS_LOCKED && !has_tool(a, b->tool))) {
                snprintf(v.rule, sizeof(v.rule), "%.600s:%u", a->file->path, a->decl->mark.line);
                snprintf(v.text, sizeof(v.text), "%s",
                         tool ? "allowed by the policy, but tool_delegation of this crew is locked"
                              : "allowed by the policy, but the crew file has none of that name");
                return deny_request(a, e, &v);
        }
        bool had = has_tool(a, b->tool);
        if (journal_tool_request(a, b->tool, b->reason, true, v.rule, had ? "it had it already" : NULL) < 0)
                return toolgate_reply(a, e->seq,
                                      &(struct call_reply){.code = CALL_DENIED, .message = "the audit cannot be written"});
        if (!had && give(a, tool->name) < 0)
                return toolgate_reply(a, e->seq,
                                      &(struct call_reply){.code = CALL_TOOL_FAILED, .message = "out of memory"});
        toolgate_reply(a, e->seq, &(struct call_reply){.ok = true, .result = "{\"granted\":true}"});
}

/* --- ends --- */

void toolgate_agent_gone(struct toolgate *t, uint32_t agent) {
        struct inflight_call *c;

        forget_granted(t, agent); /* what was granted was granted to that instance */

        /* Caller and callee are the same jail: nobody is left to be told. */
        while ((c = inflight_any_by_callee(t->calls, agent)))
                inflight_drop(t->calls, c);
}

void toolgate_expire(struct toolgate *t, uint64_t now_ns) {
        struct inflight_call *c;

        while ((c = inflight_overdue(t->calls, now_ns))) {
                struct agent *a = &t->crewd->agents[c->caller.agent];
                const struct crew_tool *tool = c->what;
                struct journal_call call = {.tool = tool->name, .seq = c->caller.seq};
                char text[160];

                inflight_settle(t->calls, c);
                snprintf(text, sizeof(text), "tool '%s' gave no result in time", tool->name);
                journal_tool_return(a, &call, "timeout", text, (now_ns - c->started_ns) / 1000u);
                toolgate_reply(a, c->caller.seq, &(struct call_reply){.code = CALL_TIMED_OUT, .message = text});
        }
}

void toolgate_put_off(struct toolgate *t, uint32_t agent, int64_t ns) {
        inflight_put_off(t->calls, agent, ns);
}

struct needs {
        const struct crew_file *file;
        bool yes;
};

static void look_for(const struct inflight_call *c, void *user) {
        struct needs *n = user;

        for (size_t i = 0; i < n->file->n_tools; i++)
                n->yes |= c->what == &n->file->tools[i];
}

bool toolgate_needs(struct toolgate *t, const struct crew_file *file) {
        struct needs n = {.file = file};

        for (uint32_t i = 0; i < t->crewd->n_agents; i++)
                inflight_each(t->calls, i, look_for, &n);
        return n.yes;
}

uint64_t toolgate_next_deadline(const struct toolgate *t) {
        return inflight_next_deadline(t->calls);
}

struct describe {
        void (*fn)(const char *text, void *user);
        void *user;
};

static void describe_call(const struct inflight_call *c, void *user) {
        const struct crew_tool *tool = c->what;
        struct describe *d = user;
        char text[128];

        snprintf(text, sizeof(text), "tool %s", tool->name);
        d->fn(text, d->user);
}

void toolgate_describe(struct toolgate *t, uint32_t agent, void (*fn)(const char *text, void *user), void *user) {
        inflight_each(t->calls, agent, describe_call, &(struct describe){.fn = fn, .user = user});
}

/* --- for the next crewd --- */

struct save {
        struct toolgate *gate;
        struct bytes_out *out;
        uint64_t n;
};

static void count_call(const struct inflight_call *c, void *user) {
        (void)c;
        ((struct save *)user)->n++;
}

static void save_call(const struct inflight_call *c, void *user) {
        struct save *s = user;
        const struct crew_tool *tool = c->what;

        inflight_save(c, s->out);
        bytes_put_u64(s->out, (uint64_t)(tool - s->gate->crewd->file->tools));
}

static void save_granted(const struct toolgate *t, uint32_t agent, struct bytes_out *b) {
        uint64_t n = 0;

        for (const struct granted *g = t->granted[agent]; g; g = g->next)
                n++;
        bytes_put_u64(b, n);
        for (const struct granted *g = t->granted[agent]; g; g = g->next)
                bytes_put_text(b, g->tool, strlen(g->tool));
}

void toolgate_save(struct toolgate *t, struct bytes_out *b) {
        struct save s = {.gate = t, .out = b};

        for (uint32_t i = 0; i < t->crewd->n_agents; i++)
                save_granted(t, i, b);
        inflight_all(t->calls, count_call, &s);
        bytes_put_u64(b, s.n);
        inflight_all(t->calls, save_call, &s);
}

static int load_granted(struct agent *a, struct bytes_in *b) {
        uint64_t n = bytes_get_u64(b);
        int r = 0;

        for (uint64_t i = 0; i < n && r == 0; i++) {
                _cleanup_free_ char *tool = bytes_get_text(b, NULL);
                r = tool ? give(a, tool) : -EBADMSG;
        }
        return b->failed ? -EBADMSG : r;
}

static int load_call(struct toolgate *t, struct bytes_in *b) {
        struct inflight_call was, *c;

        inflight_load(&was, b);
        uint64_t tool = bytes_get_u64(b);

        if (b->failed || tool >= t->crewd->file->n_tools)
                return -EBADMSG;
        was.what = &t->crewd->file->tools[tool];
        return inflight_restore(t->calls, &was, &c);
}

int toolgate_load(struct toolgate *t, struct bytes_in *b) {
        int r = 0;

        for (uint32_t i = 0; i < t->crewd->n_agents && r == 0; i++)
                r = load_granted(&t->crewd->agents[i], b);
        uint64_t n = r == 0 ? bytes_get_u64(b) : 0;
        for (uint64_t i = 0; i < n && r == 0; i++)
                r = load_call(t, b);
        return b->failed ? -EBADMSG : r;
}
