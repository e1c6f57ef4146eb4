/* SPDX-License-Identifier: Apache-2.0 */
/* One line in, one struct out.  Trusts nothing; allocates only inside json_check. */
#include "jsonrpc.h"

#include <stdio.h>
#include <string.h>

static const struct json_span null_id = {"null", 4};

static void refuse(struct rpc_message *m, enum rpc_code code, const char *what) {
        m->kind = RPC_REFUSED;
        m->code = code;
        snprintf(m->what, sizeof(m->what), "%s", what);
}

enum { MEMBER_JSONRPC, MEMBER_ID, MEMBER_METHOD, MEMBER_PARAMS, MEMBER_RESULT, MEMBER_ERROR, MEMBER_N };

/* All that counts in one walk: a message is long where its parameters are. */
static void read_members(struct json_span root, struct json_span found[MEMBER_N]) {
        static const char *const names[] = {
                [MEMBER_JSONRPC] = "jsonrpc", [MEMBER_ID] = "id",         [MEMBER_METHOD] = "method",
                [MEMBER_PARAMS] = "params",   [MEMBER_RESULT] = "result", [MEMBER_ERROR] = "error"};
        struct json_span key = JSON_ABSENT, value;

        for (size_t at = 0; json_next(root, &at, &key, &value);) {
                size_t i = 0;
                while (i < MEMBER_N && !json_equals(key, names[i]))
                        i++;
                if (i < MEMBER_N)
                        found[i] = value;
        }
}

/* A string or a number of bounded length; null and absent are both "null". */
static bool read_id(struct json_span id, struct rpc_message *m) {
        if (!id.p)
                return true;
        enum json_type t = json_type_of(id);
        if ((t != JSON_T_STRING && t != JSON_T_NUMBER && t != JSON_T_NULL) || id.n > RPC_MAX_ID)
                return false;
        m->id = id;
        return true;
}

static void read_response(const struct json_span found[MEMBER_N], struct rpc_message *m) {
        m->result = found[MEMBER_RESULT];
        m->error = found[MEMBER_ERROR];
        m->kind = RPC_RESPONSE;
        if ((!m->result.p && !m->error.p) || (m->result.p && m->error.p) || !found[MEMBER_ID].p)
                refuse(m, RPC_INVALID_REQUEST,
                       "neither a request (no method) nor a response (one of result and error, and an id)");
}

static void read_object(struct json_span root, struct rpc_message *m) {
        struct json_span found[MEMBER_N] = {0};

        read_members(root, found);
        struct json_span method = found[MEMBER_METHOD];
        if (!read_id(found[MEMBER_ID], m)) {
                refuse(m, RPC_INVALID_REQUEST, "id must be a string, a number or null, of at most 256 bytes");
                return;
        }
        if (!json_equals(found[MEMBER_JSONRPC], "2.0")) {
                refuse(m, RPC_INVALID_REQUEST, "jsonrpc must be \"2.0\"");
                return;
        }
        if (!method.p) {
                read_response(found, m);
                return;
        }
        if (!json_is(method, JSON_T_STRING)) {
                refuse(m, RPC_INVALID_REQUEST, "method must be a string");
                return;
        }
        if (json_decode(method, m->method, sizeof(m->method)) < 0) {
                refuse(m, RPC_NO_METHOD, "method not found");
                return;
        }
        m->params = found[MEMBER_PARAMS];
        if (json_is(m->params, JSON_T_NULL))
                m->params = JSON_ABSENT;
        m->kind = found[MEMBER_ID].p ? RPC_REQUEST : RPC_NOTIFICATION;
        if (m->params.p && !json_is(m->params, JSON_T_OBJECT))
                refuse(m, RPC_INVALID_PARAMS, "params must be an object");
}

void rpc_parse(const char *line, size_t n, struct rpc_message *m) {
        struct json_problem why;
        struct json_span root;

        *m = (struct rpc_message){.id = null_id};
        if (json_check(line, n, &root, &why) < 0) {
                refuse(m, RPC_PARSE_ERROR, "");
                snprintf(m->what, sizeof(m->what), "not JSON: %s at byte %zu", why.what, why.at);
        } else if (json_type_of(root) == JSON_T_ARRAY) {
                refuse(m, RPC_INVALID_REQUEST, "batches are not supported: send one message a line");
        } else if (json_type_of(root) != JSON_T_OBJECT) {
                refuse(m, RPC_INVALID_REQUEST, "a message must be an object");
        } else {
                read_object(root, m);
        }
}

void rpc_result_begin(struct strbuf *b, struct json_span id) {
        strbuf_puts(b, "{\"jsonrpc\":\"2.0\",\"id\":");
        strbuf_put(b, id.p, id.n);
        strbuf_puts(b, ",\"result\":");
}

void rpc_result_end(struct strbuf *b) {
        strbuf_puts(b, "}\n");
}

void rpc_error(struct strbuf *b, struct json_span id, int code, const char *message, const char *data, size_t data_n) {
        strbuf_puts(b, "{\"jsonrpc\":\"2.0\",\"id\":");
        strbuf_put(b, id.p, id.n);
        strbuf_printf(b, ",\"error\":{\"code\":%d,\"message\":", code);
        strbuf_json_string(b, message, strlen(message));
        if (data) {
                strbuf_puts(b, ",\"data\":");
                strbuf_json_text(b, data, data_n);
        }
        strbuf_puts(b, "}}\n");
}
