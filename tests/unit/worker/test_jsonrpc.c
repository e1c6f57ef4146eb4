/* SPDX-License-Identifier: Apache-2.0 */
#include "common/util.h"
#include "worker/jsonrpc.h"
#include "worker/strbuf.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

static struct rpc_message parsed(const char *line) {
        struct rpc_message m;

        rpc_parse(line, strlen(line), &m);
        return m;
}

static void assert_id(const struct rpc_message *m, const char *id) {
        assert_int_equal(m->id.n, strlen(id));
        assert_memory_equal(m->id.p, id, m->id.n);
}

static void requests_keep_their_id_as_written(void **state) {
        static const char *const ids[] = {"1", "\"a\\u0062\"", "1.50", "-7", "null"};
        char line[128];

        for (size_t i = 0; i < ELEMENTSOF(ids); i++) {
                snprintf(line, sizeof(line), "{\"jsonrpc\":\"2.0\",\"id\":%s,\"method\":\"ping\"}", ids[i]);
                struct rpc_message m = parsed(line);
                assert_int_equal(m.kind, RPC_REQUEST);
                assert_string_equal(m.method, "ping");
                assert_id(&m, ids[i]);
        }
}

static void a_line_without_id_is_a_notification(void **state) {
        struct rpc_message m = parsed("{\"jsonrpc\":\"2.0\",\"method\":\"notifications/initialized\"}");

        assert_int_equal(m.kind, RPC_NOTIFICATION);
}

static void responses_are_told_from_requests(void **state) {
        struct rpc_message m = parsed("{\"jsonrpc\":\"2.0\",\"id\":4,\"result\":{\"a\":1}}");

        assert_int_equal(m.kind, RPC_RESPONSE);
        assert_memory_equal(m.result.p, "{\"a\":1}", m.result.n);
        m = parsed("{\"jsonrpc\":\"2.0\",\"id\":4,\"result\":1,\"error\":{}}");
        assert_int_equal(m.kind, RPC_REFUSED);
}

static void bad_lines_get_the_code_of_the_standard(void **state) {
        static const struct {
                const char *line;
                int code;
                const char *what, *id;
        } bad[] = {
                {"{", RPC_PARSE_ERROR, "not JSON: ends too early at byte 1", "null"},
                {"{\"id\":1,\"id\":2}", RPC_PARSE_ERROR, "duplicate key", "null"},
                {"[{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"ping\"}]", RPC_INVALID_REQUEST, "batches", "null"},
                {"7", RPC_INVALID_REQUEST, "must be an object", "null"},
                {"{\"id\":3,\"method\":\"ping\"}", RPC_INVALID_REQUEST, "jsonrpc", "3"},
                {"{\"jsonrpc\":2.0,\"id\":3,\"method\":\"ping\"}", RPC_INVALID_REQUEST, "jsonrpc", "3"},
                {"{\"jsonrpc\":\"2.0\",\"id\":{},\"method\":\"ping\"}", RPC_INVALID_REQUEST, "id must be", "null"},
                {"{\"jsonrpc\":\"2.0\",\"id\":true,\"method\":\"ping\"}", RPC_INVALID_REQUEST, "id must be", "null"},
                {"{\"jsonrpc\":\"2.0\",\"id\":3}", RPC_INVALID_REQUEST, "neither a request", "3"},
                {"{\"jsonrpc\":\"2.0\",\"id\":3,\"method\":7}", RPC_INVALID_REQUEST, "method must be", "3"},
                {"{\"jsonrpc\":\"2.0\",\"id\":3,\"method\":\"ping\",\"params\":[1]}", RPC_INVALID_PARAMS, "object", "3"},
        };

        for (size_t i = 0; i < ELEMENTSOF(bad); i++) {
                struct rpc_message m = parsed(bad[i].line);
                assert_int_equal(m.kind, RPC_REFUSED);
                assert_int_equal(m.code, bad[i].code);
                assert_non_null(strstr(m.what, bad[i].what));
                assert_id(&m, bad[i].id);
        }
}

static void overlong_ids_are_not_echoed(void **state) {
        char line[512], id[300];

        memset(id, '1', sizeof(id));
        id[sizeof(id) - 1] = '\0';
        snprintf(line, sizeof(line), "{\"jsonrpc\":\"2.0\",\"id\":%s,\"method\":\"ping\"}", id);
        struct rpc_message m = parsed(line);
        assert_int_equal(m.code, RPC_INVALID_REQUEST);
        assert_id(&m, "null");
}

static void answers_are_one_line_whatever_is_in_them(void **state) {
        struct strbuf b = STRBUF_MAX(4096);

        rpc_error(&b, (struct json_span){"1", 1}, RPC_DENIED, "line\nbreak \"q\" \x01", "{\n\"a\":\r1}", 9);
        strbuf_put(&b, "", 1);
        assert_string_equal(b.p,
                            "{\"jsonrpc\":\"2.0\",\"id\":1,\"error\":{\"code\":-32001,\"message\":\"line\\nbreak \\\"q\\\" "
                            "\\u0001\",\"data\":{ \"a\": 1}}}\n");
        strbuf_fini(&b);
}

static void a_full_buffer_says_so_and_stays_as_it_was(void **state) {
        struct strbuf b = STRBUF_MAX(4);

        strbuf_puts(&b, "abc");
        strbuf_puts(&b, "de");
        assert_true(b.failed);
        assert_int_equal(b.n, 3);
        strbuf_fini(&b);
}

static void text_of_any_origin_becomes_clean(void **state) {
        char out[16];

        text_clean("a\n\xff\xc3\xa9\x1b[", 7, out, sizeof(out));
        assert_string_equal(out, "a ?\xc3\xa9 [");
        text_clean("abc\xc3\xa9", 5, out, 5);
        assert_string_equal(out, "abc");
}

/* One line of a megabyte must not cost each connection a megabyte for good. */
static void an_empty_buffer_keeps_little(void **state) {
        struct strbuf b = STRBUF_MAX(4u << 20);

        assert_non_null(strbuf_room(&b, 1u << 20));
        strbuf_added(&b, 1u << 20);
        strbuf_drop(&b, (1u << 20) - 1);
        assert_true(b.room >= 1u << 20);
        strbuf_drop(&b, 1);
        assert_null(b.p);
        assert_int_equal(b.room, 0);
        strbuf_puts(&b, "short");
        char *kept = b.p;
        strbuf_drop(&b, b.n);
        assert_ptr_equal(b.p, kept);
        assert_int_equal(b.n, 0);
        strbuf_puts(&b, "another");
        assert_int_equal(b.n, strlen("another"));
        assert_memory_equal(b.p, "another", b.n);
        strbuf_fini(&b);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(an_empty_buffer_keeps_little),
                cmocka_unit_test(requests_keep_their_id_as_written),
                cmocka_unit_test(a_line_without_id_is_a_notification),
                cmocka_unit_test(responses_are_told_from_requests),
                cmocka_unit_test(bad_lines_get_the_code_of_the_standard),
                cmocka_unit_test(overlong_ids_are_not_echoed),
                cmocka_unit_test(answers_are_one_line_whatever_is_in_them),
                cmocka_unit_test(a_full_buffer_says_so_and_stays_as_it_was),
                cmocka_unit_test(text_of_any_origin_becomes_clean),
        };

        cmocka_set_message_output(CM_OUTPUT_TAP);
        return cmocka_run_group_tests(tests, NULL, NULL);
}
