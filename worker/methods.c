/* SPDX-License-Identifier: Apache-2.0 */
/* The method table and one function a method. */
#include "methods.h"

#include "common/util.h"
#include "inbox.h"
#include "verbs.h"

#include <string.h>

#define MAX_TIMEOUT_MS 86400000u
#define MAX_NAME 63u

static const char instructions[] =
        "You run inside a crewd jail. tools/list shows exactly the tools your policy allows; a refusal names the rule that "
        "decided. crew/send, crew/ask, crew/receive and crew/answer reach the other agents.";

/* ---- parameters ---- */

/* A notification is never answered (JSON-RPC 2.0, 4.1): what is wrong with one is for the audit. */
static void refuse(struct client *c, const struct rpc_message *m, int code, const char *what) {
        if (m->kind == RPC_NOTIFICATION)
                worker_observe(c->w, "limit-protocol", "%s: %s", m->method, what);
        else
                rpc_error(&c->out, m->id, code, what, NULL, 0);
}

static void invalid(struct client *c, const struct rpc_message *m, const char *what) {
        refuse(c, m, RPC_INVALID_PARAMS, what);
}

/* A required name of another agent or a tool.  Which ones exist is crewd's to say. */
static bool read_name(struct client *c, const struct rpc_message *m, const char *key, char out[MAX_NAME + 1]) {
        char what[96];

        if (json_decode(json_member(m->params, key), out, MAX_NAME + 1) > 0)
                return true;
        snprintf(what, sizeof(what), "params.%s must be a string of 1 to %u bytes", key, MAX_NAME);
        invalid(c, m, what);
        return false;
}

/* Optional timeout_ms; 0 when absent. */
static bool read_timeout(struct client *c, const struct rpc_message *m, uint64_t *ms, bool *present) {
        struct json_span v = json_member(m->params, "timeout_ms");

        *ms = 0;
        *present = v.p != NULL;
        if (!v.p || (json_u64(v, ms) && *ms <= MAX_TIMEOUT_MS))
                return true;
        invalid(c, m, "params.timeout_ms must be a whole number of milliseconds, at most 86400000");
        return false;
}

/* A copy with a NUL, for a frame; NULL when memory is out (answered). */
static char *copy_text(struct client *c, const struct rpc_message *m, struct json_span v, const char *absent) {
        char *text = v.p ? strndup(v.p, v.n) : strdup(absent);

        if (!text)
                refuse(c, m, RPC_INTERNAL, "out of memory");
        return text;
}

static void put_literal(struct client *c, struct json_span id, const char *json) {
        rpc_result_begin(&c->out, id);
        strbuf_puts(&c->out, json);
        rpc_result_end(&c->out);
}

/* Sends the frame of a waiting call; a call that cannot be sent is answered. */
static void send_call(struct call *k, Crew__Envelope *e) {
        k->seq = uplink_send(&k->w->up, e);
        if (k->seq)
                return;
        rpc_error(&k->client->out, call_id(k), RPC_INTERNAL, "the call could not be sent", NULL, 0);
        call_free(k);
}

/* ---- MCP ---- */

/* The newest first.  2025-03-26 is left out: it demands batches. */
static const char *const mcp_versions[] = {"2025-11-25", "2025-06-18", "2024-11-05"};

/* The client's version when we speak it, else our newest that is older, else our newest (dates sort as text). */
static const char *negotiate(const char *asked) {
        for (size_t i = 0; i < ELEMENTSOF(mcp_versions); i++)
                if (strcmp(mcp_versions[i], asked) <= 0)
                        return mcp_versions[i];
        return mcp_versions[0];
}

static void on_initialize(struct client *c, const struct rpc_message *m) {
        char asked[32];

        if (json_decode(json_member(m->params, "protocolVersion"), asked, sizeof(asked)) < 0) {
                invalid(c, m, "params.protocolVersion must be a string");
                return;
        }
        rpc_result_begin(&c->out, m->id);
        strbuf_printf(&c->out,
                      "{\"protocolVersion\":\"%s\",\"capabilities\":{\"tools\":{\"listChanged\":false}},"
                      "\"serverInfo\":{\"name\":\"crewd\",\"version\":\"" CREW_VERSION "\"},\"instructions\":\"",
                      negotiate(asked));
        strbuf_puts(&c->out, instructions);
        strbuf_puts(&c->out, "\"}");
        rpc_result_end(&c->out);
}

static void on_ping(struct client *c, const struct rpc_message *m) {
        put_literal(c, m->id, "{}");
}

static void put_tools(struct client *c, struct json_span id) {
        rpc_result_begin(&c->out, id);
        strbuf_put(&c->out, c->tools.p, c->tools.n);
        rpc_result_end(&c->out);
}

static void on_tools_list(struct client *c, const struct rpc_message *m) {
        Crew__ListTools body = CREW__LIST_TOOLS__INIT;
        struct call *k;

        if (c->tools.n > 0) {
                put_tools(c, m->id);
        } else if ((k = call_new(c, CALL_LIST, m->id, 0))) {
                send_call(k, &ENVELOPE(LIST_TOOLS, .list_tools = &body));
        }
}

static void send_tool_call(struct client *c, struct json_span id, char *name, char *arguments) {
        struct call *k = call_new(c, CALL_TOOL, id, 0);
        Crew__ToolCall body = CREW__TOOL_CALL__INIT;

        body.tool = name;
        body.arguments = arguments;
        if (k)
                send_call(k, &ENVELOPE(TOOL_CALL, .tool_call = &body));
}

static void on_tools_call(struct client *c, const struct rpc_message *m) {
        struct json_span args = json_member(m->params, "arguments");
        char name[MAX_NAME + 1];

        if (!read_name(c, m, "name", name))
                return;
        if (args.p && !json_is(args, JSON_T_OBJECT)) {
                invalid(c, m, "params.arguments must be an object");
                return;
        }
        enum crew_verb verb = crew_verb_by_tool(name);
        if (verb != CREW_VERB_N) {
                verb_call(c, m->id, verb, args, CALL_TOOL);
                return;
        }
        char *text = copy_text(c, m, args, "{}");
        if (text)
                send_tool_call(c, m->id, name, text);
        free(text);
}

static void on_cancelled(struct client *c, const struct rpc_message *m) {
        struct json_span id = json_member(m->params, "requestId");

        if (id.p)
                call_cancel(c, id);
}

/* ---- the crew ---- */

static void on_call_timeout(struct timer *t) {
        struct call *k = container_of(t, struct call, timer);
        char what[80];

        if (k->client && k->kind == CALL_RECEIVE) {
                put_literal(k->client, call_id(k), "null");
        } else if (k->client) {
                snprintf(what, sizeof(what), "no answer in %llu ms", (unsigned long long)k->timeout_ms);
                rpc_error(&k->client->out, call_id(k), RPC_TIMED_OUT, what, NULL, 0);
        }
        call_finish(k);
}

static void send_letter(struct client *c, struct json_span id, bool ask, uint64_t timeout_ms, char *target, char *payload) {
        struct call *k = call_new(c, ask ? CALL_ASK : CALL_SEND, id, timeout_ms);
        Crew__SendMessage body = CREW__SEND_MESSAGE__INIT;

        if (!k)
                return;
        body.target = target;
        body.ask = ask;
        body.payload = payload;
        if (timeout_ms)
                timer_start(&c->w->loop, &k->timer, timeout_ms, on_call_timeout);
        send_call(k, &ENVELOPE(SEND_MESSAGE, .send_message = &body,
                               .deadline_ms = timeout_ms ? crew_realtime_ns() / 1000000u + timeout_ms : 0));
}

/* Nobody waits for what becomes of it. */
static void send_note(struct client *c, const struct rpc_message *m, char *target, char *payload) {
        Crew__SendMessage body = CREW__SEND_MESSAGE__INIT;

        body.target = target;
        body.payload = payload;
        body.unanswered = true;
        if (!uplink_send(&c->w->up, &ENVELOPE(SEND_MESSAGE, .send_message = &body)))
                refuse(c, m, RPC_INTERNAL, "it could not be sent");
}

static void read_letter(struct client *c, const struct rpc_message *m, bool ask, uint64_t timeout_ms) {
        struct json_span payload = json_member(m->params, "payload");
        char target[MAX_NAME + 1];

        if (!read_name(c, m, "target", target))
                return;
        if (!payload.p) {
                invalid(c, m, "params.payload is missing");
                return;
        }
        char *text = copy_text(c, m, payload, "");
        if (text && m->kind == RPC_NOTIFICATION)
                send_note(c, m, target, text);
        else if (text)
                send_letter(c, m->id, ask, timeout_ms, target, text);
        free(text);
}

static void on_send(struct client *c, const struct rpc_message *m) {
        read_letter(c, m, false, 0);
}

static void on_ask(struct client *c, const struct rpc_message *m) {
        uint64_t timeout_ms;
        bool present;

        if (read_timeout(c, m, &timeout_ms, &present))
                read_letter(c, m, true, timeout_ms ? timeout_ms : DEFAULT_ASK_MS);
}

static void on_receive(struct client *c, const struct rpc_message *m) {
        struct strbuf letter = STRBUF_MAX(2u << 20);
        uint64_t timeout_ms;
        bool present;
        struct call *k;

        if (!read_timeout(c, m, &timeout_ms, &present))
                return;
        if (inbox_take(c->w, &letter)) {
                rpc_result_begin(&c->out, m->id);
                strbuf_put(&c->out, letter.p, letter.n);
                rpc_result_end(&c->out);
        } else if (present && timeout_ms == 0) {
                put_literal(c, m->id, "null");
        } else if ((k = call_new(c, CALL_RECEIVE, m->id, timeout_ms)) && timeout_ms) {
                timer_start(&c->w->loop, &k->timer, timeout_ms, on_call_timeout);
        }
        strbuf_fini(&letter);
}

/* The id of an ask is the string that crew/receive gave, or that number. */
static bool read_ask_id(struct json_span v, uint64_t *seq) {
        char digits[24];

        if (json_is(v, JSON_T_STRING))
                return json_decode(v, digits, sizeof(digits)) > 0 && crew_parse_u64(digits, seq) == 0;
        return json_u64(v, seq);
}

static void on_answer(struct client *c, const struct rpc_message *m) {
        struct json_span payload = json_member(m->params, "payload"), error = json_member(m->params, "error");
        char why[768];
        uint64_t seq;

        if (!payload.p == !error.p || (error.p && json_decode(error, why, sizeof(why)) < 0)) {
                invalid(c, m, "give params.payload, or params.error as a string of at most 767 bytes");
                return;
        }
        if (payload.n > 1u << 20) {
                invalid(c, m, "params.payload is larger than 1 MiB");
                return;
        }
        char *text = copy_text(c, m, payload, "");
        if (!text)
                return;
        if (!read_ask_id(json_member(m->params, "id"), &seq) ||
            !inbox_answer_taken(c->w, seq, payload.p ? text : NULL, why))
                invalid(c, m, "params.id is not an ask that crew/receive gave and that still waits");
        else
                put_literal(c, m->id, "{\"answered\":true}");
        free(text);
}

static void on_verb(struct client *c, const struct rpc_message *m) {
        verb_call(c, m->id, verb_by_method(m->method), m->params, CALL_VERB);
}

/* ---- the table ---- */

static const struct method {
        const char *name;
        bool notification; /* else a request; a line of the other kind is not for it */
        void (*on_line)(struct client *c, const struct rpc_message *m);
} methods[] = {
        {"initialize", false, on_initialize}, {"ping", false, on_ping},
        {"tools/list", false, on_tools_list}, {"tools/call", false, on_tools_call},
        {"crew/send", false, on_send},        {"crew/send", true, on_send}, /* never answered */
        {"crew/ask", false, on_ask},          {"crew/receive", false, on_receive},
        {"crew/answer", false, on_answer},    {"memory/put", false, on_verb},
        {"memory/get", false, on_verb},       {"memory/list", false, on_verb},
        {"tools/request", false, on_verb},    {"crew/agents", false, on_verb},
        {"crew/submit", false, on_verb},      {"crew/wait", false, on_verb},
        {"crew/cancel", false, on_verb},      {"crew/reprioritise", false, on_verb},
        {"crew/result", false, on_verb},      {"crew/terminations", false, on_verb},
        {"crew/seen", false, on_verb},        {"crew/spawn", false, on_verb},
        {"crew/retire", false, on_verb},      {"notifications/cancelled", true, on_cancelled},
};

static const struct method *find_method(const struct rpc_message *m) {
        for (size_t i = 0; i < ELEMENTSOF(methods); i++)
                if (strcmp(methods[i].name, m->method) == 0 && methods[i].notification == (m->kind == RPC_NOTIFICATION))
                        return &methods[i];
        return NULL;
}

void method_line(struct client *c, const char *line, size_t n) {
        const struct method *method;
        struct rpc_message m;
        char what[128];

        if (strspn(line, " \t\r") >= n)
                return;
        rpc_parse(line, n, &m);
        if (m.kind == RPC_REFUSED) {
                rpc_error(&c->out, m.id, m.code, m.what, NULL, 0);
        } else if (m.kind == RPC_RESPONSE) {
                return; /* we ask clients nothing */
        } else if ((method = find_method(&m))) {
                if (c->w->phase == WORKER_RUNNING)
                        method->on_line(c, &m);
                else if (m.kind == RPC_REQUEST)
                        rpc_error(&c->out, m.id, RPC_TERMINATED, "the agent was told to end", NULL, 0);
        } else if (m.kind == RPC_REQUEST) {
                snprintf(what, sizeof(what), "method not found: %s", m.method);
                rpc_error(&c->out, m.id, RPC_NO_METHOD, what, NULL, 0);
        }
}

/* ---- crewd's answers ---- */

/* {"rule":...,"next_steps":[...]}, or empty. */
static void put_error_data(struct strbuf *b, const Crew__CallError *e) {
        if (!e->rule[0] && !e->n_next_steps)
                return;
        strbuf_puts(b, "{\"rule\":");
        strbuf_json_string(b, e->rule, strlen(e->rule));
        strbuf_puts(b, ",\"next_steps\":[");
        for (size_t i = 0; i < e->n_next_steps; i++) {
                strbuf_puts(b, i ? "," : "");
                strbuf_json_string(b, e->next_steps[i], strlen(e->next_steps[i]));
        }
        strbuf_puts(b, "]}");
}

/* A tool that ran and failed is a result a model can read; a refusal is an error of the call. */
static bool tool_ran(int code) {
        return code == RPC_TOOL_FAILED || code == RPC_BAD_RESULT || code == RPC_TIMED_OUT;
}

static void put_tool_failure(struct call *k, const Crew__CallError *e, const struct strbuf *data) {
        struct strbuf *b = &k->client->out;

        rpc_result_begin(b, call_id(k));
        strbuf_puts(b, "{\"content\":[{\"type\":\"text\",\"text\":");
        strbuf_json_string(b, e->message, strlen(e->message));
        strbuf_printf(b, "}],\"structuredContent\":{\"error\":{\"code\":%d,\"message\":", e->code);
        strbuf_json_string(b, e->message, strlen(e->message));
        if (data->n) {
                strbuf_puts(b, ",\"data\":");
                strbuf_put(b, data->p, data->n);
        }
        strbuf_puts(b, "}},\"isError\":true}");
        rpc_result_end(b);
}

static void put_failure(struct call *k, const Crew__CallError *e) {
        struct strbuf data = STRBUF_MAX(16384);

        put_error_data(&data, e);
        if (k->kind == CALL_TOOL && tool_ran(e->code))
                put_tool_failure(k, e, &data);
        else
                rpc_error(&k->client->out, call_id(k), e->code, e->message, data.p, data.n);
        strbuf_fini(&data);
}

/* Structured content must be an object in MCP; anything else is wrapped as its SDKs do. */
static void put_tool_result(struct strbuf *b, const char *result) {
        bool object = result[strspn(result, " \t\r\n")] == '{';
        size_t n = strlen(result);

        strbuf_puts(b, "{\"content\":[{\"type\":\"text\",\"text\":");
        strbuf_json_string(b, result, n);
        strbuf_puts(b, object ? "}],\"structuredContent\":" : "}],\"structuredContent\":{\"result\":");
        strbuf_json_text(b, result, n);
        strbuf_puts(b, object ? ",\"isError\":false}" : "},\"isError\":false}");
}

static void put_success(struct call *k, const char *result) {
        struct strbuf *b = &k->client->out;

        if (!result[0])
                result = "null";
        rpc_result_begin(b, call_id(k));
        if (k->kind == CALL_TOOL)
                put_tool_result(b, result);
        else
                strbuf_json_text(b, result, strlen(result));
        rpc_result_end(b);
}

void method_call_result(struct worker *w, uint64_t corr, const Crew__CallResult *r) {
        struct call *k = call_find(w, corr);

        if (!k)
                return; /* timed out here */
        if (k->client && r->ok)
                put_success(k, r->result);
        else if (k->client && r->error)
                put_failure(k, r->error);
        else if (k->client)
                rpc_error(&k->client->out, call_id(k), RPC_INTERNAL, "failed without a reason", NULL, 0);
        call_finish(k);
}

/* inputSchema must say type: object; a schema that does not is shown as one that allows anything. */
static void put_tool(struct strbuf *b, const Crew__ToolInfo *t) {
        struct json_problem why;
        struct json_span schema;

        strbuf_printf(b, "{\"name\":\"%s\",\"description\":", t->name);
        strbuf_json_string(b, t->description, strlen(t->description));
        strbuf_puts(b, ",\"inputSchema\":");
        if (json_check(t->input_schema, strlen(t->input_schema), &schema, &why) == 0 &&
            json_equals(json_member(schema, "type"), "object"))
                strbuf_json_text(b, schema.p, schema.n);
        else
                strbuf_puts(b, "{\"type\":\"object\"}");
        strbuf_puts(b, "}");
}

void method_tool_list(struct worker *w, uint64_t corr, const Crew__ToolList *l) {
        struct call *k = call_find(w, corr);
        struct strbuf *b;

        if (!k)
                return;
        if (k->client && !k->client->tools.n) {
                b = &k->client->tools;
                strbuf_puts(b, "{\"tools\":[");
                for (size_t i = 0; i < l->n_tools; i++) {
                        strbuf_puts(b, i ? "," : "");
                        put_tool(b, l->tools[i]);
                }
                strbuf_puts(b, "]}");
        }
        if (k->client && k->client->tools.failed)
                rpc_error(&k->client->out, call_id(k), RPC_INTERNAL, "the list of tools is too large", NULL, 0);
        else if (k->client)
                put_tools(k->client, call_id(k));
        call_finish(k);
}
