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

/* A string or a number of bounded length; null and absent are both "null". */
static bool read_id(struct json_span root, struct rpc_message *m, bool *present) {
        struct json_span id = json_member(root, "id");

        *present = id.p != NULL;
        if (!id.p)
                return true;
        enum json_type t = json_type_of(id);
        if ((t != JSON_T_STRING && t != JSON_T_NUMBER && t != JSON_T_NULL) || id.n > RPC_MAX_ID)
                return false;
        m->id = id;
        return true;
}

static void read_response(struct json_span root, struct rpc_message *m, bool has_id) {
        m->result = json_member(root, "result");
        m->error = json_member(root, "error");
        m->kind = RPC_RESPONSE;
        if ((!m->result.p && !m->error.p) || (m->result.p && m->error.p) || !has_id)
                refuse(m, RPC_INVALID_REQUEST,
                       "neither a request (no method) nor a response (one of result and error, and an id)");
}

static void read_object(struct json_span root, struct rpc_message *m) {
        struct json_span method = json_member(root, "method");
        bool has_id;

        if (!read_id(root, m, &has_id)) {
                refuse(m, RPC_INVALID_REQUEST, "id must be a string, a number or null, of at most 256 bytes");
                return;
        }
        if (!json_equals(json_member(root, "jsonrpc"), "2.0")) {
                refuse(m, RPC_INVALID_REQUEST, "jsonrpc must be \"2.0\"");
                return;
        }
        if (!method.p) {
                read_response(root, m, has_id);
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
        m->params = json_member(root, "params");
        if (json_is(m->params, JSON_T_NULL))
                m->params = JSON_ABSENT;
        m->kind = has_id ? RPC_REQUEST : RPC_NOTIFICATION;
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
