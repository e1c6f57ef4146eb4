/* SPDX-License-Identifier: Apache-2.0 */
/* Parameters by table: what a verb does not list is an error that names it, as is a value that is not in its range. */
#include "verbs.h"

#include "common/util.h"

#include <assert.h>
#include <string.h>

struct params {
        char *text[10];
        uint64_t number[5];
};
enum { AGENT, TASK, DESCRIPTION, INPUT, KEY, TASK_ID, REASON, TARGET, SPACE, TOOL, N_TEXTS };
enum { PRIORITY, RETRIES, TIMEOUT, ID, IDLE, N_NUMBERS };
static_assert(N_TEXTS == ELEMENTSOF(((struct params *)0)->text), "a place for each text");
static_assert(N_NUMBERS == ELEMENTSOF(((struct params *)0)->number), "a place for each number");

enum param_kind { PARAM_TEXT, PARAM_TOKEN, PARAM_JSON, PARAM_NUMBER };

static const struct param {
        const char *name;
        enum param_kind kind;
        unsigned place;
        uint64_t max; /* bytes, or the largest number */
} known[] = {
        {"agent", PARAM_TEXT, AGENT, 63},
        {"task", PARAM_TEXT, TASK, 63},
        {"description", PARAM_TEXT, DESCRIPTION, 65536},
        {"input", PARAM_JSON, INPUT, 1u << 20},
        {"key", PARAM_TOKEN, KEY, 63},
        {"task_id", PARAM_TEXT, TASK_ID, 63},
        {"reason", PARAM_TEXT, REASON, 256},
        {"target", PARAM_TEXT, TARGET, 63},
        {"space", PARAM_TEXT, SPACE, 63},
        {"key", PARAM_TOKEN, KEY, 128},
        {"value", PARAM_JSON, INPUT, 1u << 20},
        {"tool", PARAM_TEXT, TOOL, 63},
        {"payload", PARAM_JSON, INPUT, 1u << 20},
        {"priority", PARAM_NUMBER, PRIORITY, 100},
        {"retries", PARAM_NUMBER, RETRIES, 10},
        {"timeout_ms", PARAM_NUMBER, TIMEOUT, 86400000},
        {"id", PARAM_NUMBER, ID, 1ull << 53},
        {"idle_ms", PARAM_NUMBER, IDLE, 86400000},
};
#define BIT(i) (1u << (i))
enum {
        P_AGENT,
        P_TASK,
        P_DESCRIPTION,
        P_INPUT,
        P_KEY,
        P_TASK_ID,
        P_REASON,
        P_TARGET,
        P_SPACE,
        P_MEMORY_KEY,
        P_VALUE,
        P_TOOL,
        P_PAYLOAD,
        P_PRIORITY,
        P_RETRIES,
        P_TIMEOUT,
        P_ID,
        P_IDLE
};

/* --- the messages --- */

static uint64_t deadline(uint64_t timeout_ms, uint64_t otherwise) {
        return crew_realtime_ns() / 1000000u + (timeout_ms ? timeout_ms : otherwise);
}

static char *given(char *text) {
        return text ? text : (char *)"";
}

static uint64_t send_agents(struct worker *w, const struct params *p) {
        Crew__ListAgents body = CREW__LIST_AGENTS__INIT;

        return uplink_send(&w->up, &ENVELOPE(LIST_AGENTS, .list_agents = &body));
}

static uint64_t send_submit(struct worker *w, const struct params *p) {
        Crew__SubmitWork body = CREW__SUBMIT_WORK__INIT;

        body.agent = given(p->text[AGENT]);
        body.task = given(p->text[TASK]);
        body.description = given(p->text[DESCRIPTION]);
        body.input = given(p->text[INPUT]);
        body.key = given(p->text[KEY]);
        body.priority = (uint32_t)p->number[PRIORITY];
        body.retries = (uint32_t)p->number[RETRIES];
        body.timeout_ms = p->number[TIMEOUT];
        return uplink_send(&w->up, &ENVELOPE(SUBMIT_WORK, .submit_work = &body));
}

static uint64_t send_wait(struct worker *w, const struct params *p) {
        Crew__WaitWork body = CREW__WAIT_WORK__INIT;

        body.task_id = p->text[TASK_ID];
        return uplink_send(&w->up, &ENVELOPE(WAIT_WORK, .wait_work = &body,
                                             .deadline_ms = deadline(p->number[TIMEOUT], DEFAULT_ASK_MS)));
}

static uint64_t send_cancel(struct worker *w, const struct params *p) {
        Crew__CancelWork body = CREW__CANCEL_WORK__INIT;

        body.task_id = p->text[TASK_ID];
        body.reason = given(p->text[REASON]);
        return uplink_send(&w->up, &ENVELOPE(CANCEL_WORK, .cancel_work = &body));
}

static uint64_t send_reprioritise(struct worker *w, const struct params *p) {
        Crew__ReprioritiseWork body = CREW__REPRIORITISE_WORK__INIT;

        body.task_id = p->text[TASK_ID];
        body.priority = (uint32_t)p->number[PRIORITY];
        return uplink_send(&w->up, &ENVELOPE(REPRIORITISE_WORK, .reprioritise_work = &body));
}

static uint64_t send_result(struct worker *w, const struct params *p) {
        Crew__ReadResult body = CREW__READ_RESULT__INIT;

        body.task_id = p->text[TASK_ID];
        return uplink_send(&w->up, &ENVELOPE(READ_RESULT, .read_result = &body));
}

static uint64_t send_terminations(struct worker *w, const struct params *p) {
        Crew__ListTerminations body = CREW__LIST_TERMINATIONS__INIT;

        return uplink_send(&w->up, &ENVELOPE(LIST_TERMINATIONS, .list_terminations = &body));
}

static uint64_t send_seen(struct worker *w, const struct params *p) {
        Crew__TerminationSeen body = CREW__TERMINATION_SEEN__INIT;

        body.id = p->number[ID];
        return uplink_send(&w->up, &ENVELOPE(TERMINATION_SEEN, .termination_seen = &body));
}

static uint64_t send_spawn(struct worker *w, const struct params *p) {
        Crew__SpawnInstance body = CREW__SPAWN_INSTANCE__INIT;

        body.agent = p->text[AGENT];
        body.idle_ms = p->number[IDLE];
        return uplink_send(&w->up, &ENVELOPE(SPAWN_INSTANCE, .spawn_instance = &body));
}

static uint64_t send_retire(struct worker *w, const struct params *p) {
        Crew__RetireInstance body = CREW__RETIRE_INSTANCE__INIT;

        body.agent = p->text[AGENT];
        body.reason = given(p->text[REASON]);
        return uplink_send(&w->up, &ENVELOPE(RETIRE_INSTANCE, .retire_instance = &body));
}

static uint64_t send_memory_put(struct worker *w, const struct params *p) {
        Crew__MemoryPut body = CREW__MEMORY_PUT__INIT;

        body.space = p->text[SPACE];
        body.key = p->text[KEY];
        body.value = p->text[INPUT];
        return uplink_send(&w->up, &ENVELOPE(MEMORY_PUT, .memory_put = &body));
}

static uint64_t send_memory_get(struct worker *w, const struct params *p) {
        Crew__MemoryGet body = CREW__MEMORY_GET__INIT;

        body.space = p->text[SPACE];
        body.key = p->text[KEY];
        return uplink_send(&w->up, &ENVELOPE(MEMORY_GET, .memory_get = &body));
}

static uint64_t send_memory_list(struct worker *w, const struct params *p) {
        Crew__MemoryList body = CREW__MEMORY_LIST__INIT;

        body.space = p->text[SPACE];
        return uplink_send(&w->up, &ENVELOPE(MEMORY_LIST, .memory_list = &body));
}

static uint64_t send_request_tool(struct worker *w, const struct params *p) {
        Crew__RequestTool body = CREW__REQUEST_TOOL__INIT;

        /* What the connections have been told of the tools may be old now. */
        list_for_each(it, &w->clients) strbuf_drop(&container_of(it, struct client, link)->tools, SIZE_MAX);
        body.tool = p->text[TOOL];
        body.reason = given(p->text[REASON]);
        return uplink_send(&w->up, &ENVELOPE(REQUEST_TOOL, .request_tool = &body));
}

static uint64_t send_ask(struct worker *w, const struct params *p) {
        Crew__SendMessage body = CREW__SEND_MESSAGE__INIT;

        body.target = p->text[TARGET];
        body.payload = p->text[INPUT];
        body.ask = true;
        return uplink_send(&w->up, &ENVELOPE(SEND_MESSAGE, .send_message = &body,
                                             .deadline_ms = deadline(p->number[TIMEOUT], DEFAULT_ASK_MS)));
}

static const struct verb {
        uint64_t (*send)(struct worker *w, const struct params *p);
        unsigned takes, needs;
} verbs[] = {
        [CREW_VERB_AGENTS] = {send_agents},
        [CREW_VERB_SUBMIT] = {send_submit, BIT(P_AGENT) | BIT(P_TASK) | BIT(P_DESCRIPTION) | BIT(P_INPUT) | BIT(P_KEY) |
                                                   BIT(P_PRIORITY) | BIT(P_RETRIES) | BIT(P_TIMEOUT)},
        [CREW_VERB_WAIT] = {send_wait, BIT(P_TASK_ID) | BIT(P_TIMEOUT), BIT(P_TASK_ID)},
        [CREW_VERB_CANCEL] = {send_cancel, BIT(P_TASK_ID) | BIT(P_REASON), BIT(P_TASK_ID)},
        [CREW_VERB_REPRIORITISE] = {send_reprioritise, BIT(P_TASK_ID) | BIT(P_PRIORITY), BIT(P_TASK_ID) | BIT(P_PRIORITY)},
        [CREW_VERB_RESULT] = {send_result, BIT(P_TASK_ID), BIT(P_TASK_ID)},
        [CREW_VERB_TERMINATIONS] = {send_terminations},
        [CREW_VERB_SEEN] = {send_seen, BIT(P_ID), BIT(P_ID)},
        [CREW_VERB_SPAWN] = {send_spawn, BIT(P_AGENT) | BIT(P_IDLE), BIT(P_AGENT)},
        [CREW_VERB_RETIRE] = {send_retire, BIT(P_AGENT) | BIT(P_REASON), BIT(P_AGENT)},
        [CREW_VERB_MEMORY_PUT] = {send_memory_put, BIT(P_SPACE) | BIT(P_MEMORY_KEY) | BIT(P_VALUE),
                                  BIT(P_SPACE) | BIT(P_MEMORY_KEY) | BIT(P_VALUE)},
        [CREW_VERB_MEMORY_GET] = {send_memory_get, BIT(P_SPACE) | BIT(P_MEMORY_KEY), BIT(P_SPACE) | BIT(P_MEMORY_KEY)},
        [CREW_VERB_MEMORY_LIST] = {send_memory_list, BIT(P_SPACE), BIT(P_SPACE)},
        [CREW_VERB_REQUEST_TOOL] = {send_request_tool, BIT(P_TOOL) | BIT(P_REASON), BIT(P_TOOL)},
        [CREW_VERB_ASK] = {send_ask, BIT(P_TARGET) | BIT(P_PAYLOAD) | BIT(P_TIMEOUT), BIT(P_TARGET) | BIT(P_PAYLOAD)},
};
static_assert(ELEMENTSOF(verbs) == CREW_VERB_N, "a row for each verb");

/* --- reading --- */

static bool is_token(const char *s) {
        while (*s > 0x20 && *s < 0x7f)
                s++;
        return !*s;
}

/* False: what says what was expected. */
static bool read_param(const struct param *k, struct json_span v, struct params *out, char what[128]) {
        if (k->kind == PARAM_NUMBER) {
                uint64_t *n = &out->number[k->place];
                snprintf(what, 128, "params.%s must be a whole number, at most %llu", k->name, (unsigned long long)k->max);
                return json_u64(v, n) && *n <= k->max;
        }
        char **text = &out->text[k->place];
        if (k->kind == PARAM_JSON) {
                snprintf(what, 128, "params.%s is larger than %llu bytes", k->name, (unsigned long long)k->max);
                return v.n <= k->max && (*text = strndup(v.p, v.n));
        }
        snprintf(what, 128, "params.%s must be a string of 1 to %llu bytes%s", k->name, (unsigned long long)k->max,
                 k->kind == PARAM_TOKEN ? " of printable ASCII without blanks" : "");
        size_t room = MIN_OF(v.n, (size_t)k->max) + 1;
        *text = malloc(room);
        return *text && json_decode(v, *text, room) > 0 && (k->kind != PARAM_TOKEN || is_token(*text));
}

static bool read_params(const struct verb *verb, struct json_span params, struct params *out, char what[128]) {
        struct json_span key, value;
        unsigned seen = 0;
        char name[32];

        for (size_t at = 0; params.p && json_next(params, &at, &key, &value);) {
                size_t i = 0;
                if (json_decode(key, name, sizeof(name)) < 0)
                        name[0] = '\0';
                while (i < ELEMENTSOF(known) && !(verb->takes & BIT(i) && strcmp(known[i].name, name) == 0))
                        i++;
                if (i == ELEMENTSOF(known)) {
                        snprintf(what, 128, "params has a member that this verb does not take%s%s", *name ? ": " : "",
                                 name);
                        return false;
                }
                if (!read_param(&known[i], value, out, what))
                        return false;
                seen |= BIT(i);
        }
        for (size_t i = 0; i < ELEMENTSOF(known); i++) {
                if (!(verb->needs & BIT(i)) || seen & BIT(i))
                        continue;
                snprintf(what, 128, "params.%s is missing", known[i].name);
                return false;
        }
        return true;
}

enum crew_verb verb_by_method(const char *method) {
        size_t i = 0;

        while (i < CREW_VERB_N && strcmp(crew_verbs[i].method, method) != 0)
                i++;
        return (enum crew_verb)i;
}

void verb_call(struct client *c, struct json_span id, enum crew_verb verb, struct json_span params, enum call_kind kind) {
        struct params p = {0};
        char what[128];
        struct call *k;

        if (!read_params(&verbs[verb], params, &p, what)) {
                rpc_error(&c->out, id, RPC_INVALID_PARAMS, what, NULL, 0);
        } else if ((k = call_new(c, kind, id, 0)) && !(k->seq = verbs[verb].send(c->w, &p))) {
                rpc_error(&c->out, id, RPC_INTERNAL, "the call could not be sent", NULL, 0);
                call_free(k);
        }
        for (size_t i = 0; i < ELEMENTSOF(p.text); i++)
                free(p.text[i]);
}
