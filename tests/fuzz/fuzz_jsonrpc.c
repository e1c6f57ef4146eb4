/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Lines of the agents' socket: no crash, and the same verdict as jansson, which crewd uses on the payloads.
 *
 * jansson is stricter about the size of numbers, laxer about depth, and swallows a NUL byte behind a number; all else
 * must agree, or a payload could mean one thing to the worker and another to crewd.
 */
#include "common/util.h"
#include "worker/jsonrpc.h"

#include <jansson.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static const char *input;
static size_t input_n;

static void require(bool ok, const char *what) {
        if (ok)
                return;
        fprintf(stderr, "fuzz_jsonrpc: %s:", what);
        for (size_t i = 0; i < input_n; i++)
                fprintf(stderr, " %02x", (unsigned char)input[i]);
        fprintf(stderr, "\n");
        abort();
}

static void compare(const char *text, size_t n, const struct json_problem *why, struct json_span v) {
        json_error_t error;
        json_t *tree = json_loadb(text, n, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY, &error);

        if (tree && !v.p && !memchr(text, '\0', n))
                require(strstr(why->what, "nested deeper") != NULL, "refused what jansson accepts");
        if (!tree && v.p)
                require(json_error_code(&error) == json_error_numeric_overflow, "accepted what jansson refuses");
        json_decref(tree);
}

/* Every value that the walk finds is one JSON value again. */
static void walk(struct json_span v, unsigned depth) {
        struct json_span key, value, again;
        struct json_problem why;
        size_t at = 0;

        require(depth <= JSON_MAX_DEPTH, "walked deeper than the text is");
        while (json_next(v, &at, &key, &value)) {
                require(value.p >= v.p && value.p + value.n <= v.p + v.n, "a span outside its container");
                require(json_check(value.p, value.n, &again, &why) == 0 && again.n == value.n, "a span that is no value");
                walk(value, depth + 1);
        }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
        const char *text = (const char *)data;
        struct json_problem why;
        struct rpc_message m;
        struct json_span v;
        char out[64];

        if (n > 4096)
                return 0;
        input = text;
        input_n = n;
        (void)json_check(text, n, &v, &why);
        compare(text, n, &why, v);
        if (v.p) {
                walk(v, 0);
                (void)json_decode(v, out, sizeof(out));
        }
        rpc_parse(text, n, &m);
        require(m.id.p && m.id.n <= RPC_MAX_ID, "no id to echo");
        return 0;
}
