/* SPDX-License-Identifier: Apache-2.0 */
/* From a frame to the memory and back. */
#include "sharing.h"

#include "common/util.h"
#include "crewd.h"
#include "journal.h"
#include "jsontext.h"
#include "memory.h"
#include "router.h"
#include "supervisor/schema/schema.h"
#include "text.h"
#include "toolgate.h"

#include <errno.h>
#include <string.h>

#define ANSWER_MAX 4194304u /* CallResult.result */

struct access {
        struct agent *a;
        uint64_t seq;
        const char *verb, *space, *key; /* key "": of a list */
};

static void fail(const struct access *x, enum call_code code, const char *rule, const char *text) {
        journal_memory(
                x->a,
                &(struct journal_memory){
                        .verb = x->verb, .space = x->space, .key = x->key, .denied = true, .rule = rule, .reason = text});
        toolgate_reply(x->a, x->seq, &(struct call_reply){.code = code, .message = text, .rule = rule});
}

/* What an outcome that is not MEMORY_OK says, and to whom. */
static void refuse(const struct access *x, int outcome) {
        const struct crew_file *f = x->a->crewd->file;
        const struct crew_memory *d = memory_decl(x->a->crewd->memory, x->space);
        bool put = strcmp(x->verb, "put") == 0;
        enum call_code code = CALL_QUEUE_FULL;
        char rule[640] = "", raw[256] = "out of memory", text[256];

        if (d)
                snprintf(rule, sizeof(rule), "%.600s:%u", f->path, d->mark.line);
        switch (d ? outcome : MEMORY_NO_NAMESPACE) {
        case MEMORY_NO_NAMESPACE:
        case MEMORY_DENIED: /* which namespaces there are is for those who may use them */
                code = CALL_DENIED;
                snprintf(raw, sizeof(raw), "no memory '%.63s' that this agent may %s", x->space, put ? "write" : "read");
                rule[0] = '\0';
                break;
        case MEMORY_TOO_MANY_KEYS:
                snprintf(raw, sizeof(raw), "memory '%s' holds %u keys, which is its max_keys", x->space, d->max_keys);
                break;
        case MEMORY_TOO_MUCH:
                snprintf(raw, sizeof(raw), "memory '%s' would hold more than its max_bytes, %llu", x->space,
                         (unsigned long long)d->max_bytes);
                break;
        case MEMORY_SHARE_USED:
                snprintf(raw, sizeof(raw), "this agent would hold more than agent_bytes of memory '%s', %llu", x->space,
                         (unsigned long long)d->agent_bytes);
                break;
        }
        text_copy(text, sizeof(text), raw, SIZE_MAX);
        fail(x, code, rule[0] ? rule : NULL, text);
}

static void answer(const struct access *x, struct json_text *t) {
        _cleanup_free_ char *text = NULL;
        size_t n;

        if (json_text_take(t, &text, &n) == 0)
                toolgate_reply(x->a, x->seq, &(struct call_reply){.ok = true, .result = text});
        else
                toolgate_reply(
                        x->a, x->seq,
                        &(struct call_reply){.code = CALL_TOOL_FAILED, .message = "the answer is larger than 4 MiB"});
}

/* --- put --- */

static bool is_null(const char *json) {
        const char *at = json + strspn(json, " \t\r\n");

        return strncmp(at, "null", 4) == 0;
}

static void on_put(const struct access *x, const char *json) {
        struct crewd *c = x->a->crewd;
        struct crew_err err = CREW_ERR_NULL;
        size_t n = strlen(json);

        if (schema_check(NULL, json, n, &err) != 0)
                return fail(x, CALL_BAD_ARGUMENTS, NULL, err.msg);
        const char *value = is_null(json) ? NULL : json;
        int r = memory_may_put(c->memory, x->a->index, x->space, x->key, value, n);
        if (r != MEMORY_OK)
                return refuse(x, r);
        /* On record before anybody can read it. */
        struct journal_memory done = {.verb = x->verb, .space = x->space, .key = x->key, .value = json, .value_len = n};
        if (journal_memory(x->a, &done) < 0)
                return toolgate_reply(x->a, x->seq,
                                      &(struct call_reply){.code = CALL_DENIED, .message = "the audit cannot be written"});
        if ((r = memory_put(c->memory, x->a->index, x->space, x->key, value, n)) != MEMORY_OK)
                return refuse(x, r);
        x->a->in.effects = true;
        toolgate_reply(x->a, x->seq, &(struct call_reply){.ok = true, .result = "{\"stored\":true}"});
}

/* --- get, list --- */

static void put_value(struct json_text *t, const struct crewd *c, const struct memory_value *v) {
        json_key(t, "by"), json_str(t, v->json ? agent_name(&c->agents[v->by]) : NULL);
        json_key(t, "bytes"), json_int(t, (int64_t)v->len);
}

static void on_get(const struct access *x) {
        struct json_text t = JSON_TEXT(ANSWER_MAX);
        struct memory_value v;

        int r = memory_get(x->a->crewd->memory, x->a->index, x->space, x->key, &v);
        if (r != MEMORY_OK)
                return refuse(x, r);
        journal_memory(x->a,
                       &(struct journal_memory){
                               .verb = x->verb, .space = x->space, .key = x->key, .value = v.json, .value_len = v.len});
        json_open(&t, '{');
        json_key(&t, "key"), json_str(&t, x->key);
        json_key(&t, "value"), json_raw(&t, v.json ? v.json : "null", SIZE_MAX);
        put_value(&t, x->a->crewd, &v);
        json_close(&t, '}');
        answer(x, &t);
}

struct listing {
        struct json_text t;
        const struct crewd *c;
};

static void list_key(const struct memory_value *v, void *user) {
        struct listing *l = user;

        json_open(&l->t, '{');
        json_key(&l->t, "key"), json_str(&l->t, v->key);
        put_value(&l->t, l->c, v);
        json_close(&l->t, '}');
}

static void on_list(const struct access *x) {
        struct listing l = {.t = JSON_TEXT(ANSWER_MAX), .c = x->a->crewd};
        const struct crew_memory *d = memory_decl(l.c->memory, x->space);

        json_open(&l.t, '{');
        json_key(&l.t, "keys");
        json_open(&l.t, '[');
        int r = memory_list(l.c->memory, x->a->index, x->space, list_key, &l);
        if (r != MEMORY_OK) {
                json_text_fini(&l.t);
                return refuse(x, r);
        }
        json_close(&l.t, ']');
        json_key(&l.t, "bytes"), json_int(&l.t, (int64_t)memory_bytes(l.c->memory, x->space));
        json_key(&l.t, "max_bytes"), json_int(&l.t, (int64_t)d->max_bytes);
        json_close(&l.t, '}');
        journal_memory(x->a, &(struct journal_memory){.verb = x->verb, .space = x->space});
        answer(x, &l.t);
}

void sharing_request(struct agent *a, const Crew__Envelope *e) {
        struct access x = {.a = a, .seq = e->seq, .key = ""};

        switch ((int)e->body_case) {
        case CREW__ENVELOPE__BODY_MEMORY_PUT:
                x.verb = "put", x.space = e->memory_put->space, x.key = e->memory_put->key;
                return on_put(&x, e->memory_put->value);
        case CREW__ENVELOPE__BODY_MEMORY_GET:
                x.verb = "get", x.space = e->memory_get->space, x.key = e->memory_get->key;
                return on_get(&x);
        case CREW__ENVELOPE__BODY_MEMORY_LIST:
                x.verb = "list", x.space = e->memory_list->space;
                return on_list(&x);
        }
        crew_assert(false);
}
