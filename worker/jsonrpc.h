/* SPDX-License-Identifier: Apache-2.0 */
/*
 * JSON-RPC 2.0, one message a line: what a line is, and the lines we answer.  No state, no I/O.
 *
 * Guarantees: a request is handed on only when it is well-formed in every part that is looked at here; its id is echoed
 * byte for byte; every line that deserves an answer and is not a request gets an error that names the problem.
 */
#pragma once

#include "json_scan.h"
#include "strbuf.h"

#define RPC_MAX_LINE (1u << 20)
#define RPC_MAX_ID 256u
#define RPC_MAX_METHOD 64u

/* Standard codes; the others are ours (docs/AGENTS.md lists them). */
enum rpc_code {
        RPC_PARSE_ERROR = -32700,
        RPC_INVALID_REQUEST = -32600,
        RPC_NO_METHOD = -32601,
        RPC_INVALID_PARAMS = -32602,
        RPC_INTERNAL = -32603,
        RPC_DENIED = -32001,
        RPC_BAD_ARGUMENTS = -32002,
        RPC_TOOL_FAILED = -32003,
        RPC_BAD_RESULT = -32004,
        RPC_TIMED_OUT = -32005,
        RPC_TOO_MANY = -32006,
        RPC_NO_AGENT = -32007,
        RPC_TERMINATED = -32008,
        RPC_REJECTED = -32009,
};

enum rpc_kind {
        RPC_REQUEST,
        RPC_NOTIFICATION,
        RPC_RESPONSE, /* result or error are set; id as in the request */
        RPC_REFUSED,  /* code and what are set; id when it could be read */
};

struct rpc_message {
        enum rpc_kind kind;
        struct json_span id; /* text; "null" when there is none to echo */
        char method[RPC_MAX_METHOD];
        struct json_span params; /* an object, or absent */
        struct json_span result, error;
        enum rpc_code code;
        char what[160];
};

/* Reads one line (without its '\n').  The spans point into it. */
void rpc_parse(const char *line, size_t n, struct rpc_message *out);

/* {"jsonrpc":"2.0","id":ID,"result":  ... the caller appends a value, then rpc_result_end(). */
void rpc_result_begin(struct strbuf *b, struct json_span id);
void rpc_result_end(struct strbuf *b);
/* A whole error line; data is the text of a JSON value, or NULL. */
void rpc_error(struct strbuf *b, struct json_span id, int code, const char *message, const char *data, size_t data_n);
