/* SPDX-License-Identifier: Apache-2.0 */
/* $CREW_SOCKET under a real worker: the protocol, its limits, tools, messages and asks. */
#include "common/util.h"
#include "fake_crewd.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include <cmocka.h>

static void start(struct fake_crewd *f, const char *script) {
        fake_start(f, &(struct fake_agent){
                              .driver = PLAN_DRIVER_EXEC_JSON,
                              .script = script,
                              .tools = {{"echo_tool", "cat", 0},
                                        {"slow_tool", "sleep 60", 300},
                                        {"bad_tool", "echo 'no data' >&2; exit 4", 0}},
                      });
}

static void assert_answer(int fd, const char *want) {
        const char *line = agent_hear(fd);

        assert_non_null(line);
        if (!strstr(line, want))
                fail_msg("'%s' is not in '%s'", want, line);
}

static void assert_asks(int fd, const char *line, const char *want) {
        agent_say(fd, line);
        assert_answer(fd, want);
}

static void answer_call(struct fake_crewd *f, uint64_t corr, const char *result) {
        Crew__CallResult r = CREW__CALL_RESULT__INIT;

        r.ok = true;
        r.result = (char *)result;
        fake_send(f, &FAKE_ENVELOPE(CALL_RESULT, .corr = corr, .call_result = &r));
}

static void refuse_call(struct fake_crewd *f, uint64_t corr, int code, const char *message, const char *rule) {
        char *steps[] = {(char *)"ask the operator"};
        Crew__CallResult r = CREW__CALL_RESULT__INIT;
        Crew__CallError e = CREW__CALL_ERROR__INIT;

        e.code = code;
        e.message = (char *)message;
        e.rule = (char *)rule;
        e.next_steps = steps;
        e.n_next_steps = 1;
        r.error = &e;
        fake_send(f, &FAKE_ENVELOPE(CALL_RESULT, .corr = corr, .call_result = &r));
}

static void grant(struct fake_crewd *f, uint64_t corr, const char *tool, const char *arguments) {
        Crew__ToolGrant g = CREW__TOOL_GRANT__INIT;

        g.tool = (char *)tool;
        g.arguments = (char *)arguments;
        fake_send(f, &FAKE_ENVELOPE(TOOL_GRANT, .corr = corr, .tool_grant = &g));
}

static uint64_t deliver(struct fake_crewd *f, bool ask, const char *payload) {
        Crew__Deliver d = CREW__DELIVER__INIT;

        d.sender = (char *)"other";
        d.ask = ask;
        d.payload = (char *)payload;
        return fake_send(f, &FAKE_ENVELOPE(DELIVER, .deliver = &d));
}

/* ---- the protocol ---- */

static void mcp_versions_are_negotiated(void **state) {
        static const char *const cases[][2] = {
                {"2025-11-25", "2025-11-25"}, {"2025-06-18", "2025-06-18"}, {"2025-03-26", "2024-11-05"},
                {"2099-01-01", "2025-11-25"}, {"1999-01-01", "2025-11-25"},
        };
        struct fake_crewd f;
        char line[256], want[64];

        start(&f, "cat");
        int fd = agent_connect(&f);
        for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
                snprintf(line, sizeof(line),
                         "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"initialize\",\"params\":{\"protocolVersion\":\"%s\","
                         "\"capabilities\":{},\"clientInfo\":{\"name\":\"t\",\"version\":\"1\"}}}",
                         cases[i][0]);
                snprintf(want, sizeof(want), "\"protocolVersion\":\"%s\"", cases[i][1]);
                assert_asks(fd, line, want);
        }
        agent_say(fd, "{\"jsonrpc\":\"2.0\",\"method\":\"notifications/initialized\"}");
        assert_asks(fd, "{\"jsonrpc\":\"2.0\",\"id\":\"p\",\"method\":\"ping\"}",
                    "{\"jsonrpc\":\"2.0\",\"id\":\"p\",\"result\":{}}");
        close(fd);
        fake_stop(&f);
}

static void bad_lines_are_answered_and_the_connection_goes_on(void **state) {
        static char deep[20100];
        struct fake_crewd f;

        start(&f, "cat");
        int fd = agent_connect(&f);
        assert_asks(fd, "{\"jsonrpc\":", "\"code\":-32700");
        assert_asks(fd, "[{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"ping\"}]", "batches are not supported");
        memset(deep, '[', 10000);
        memset(deep + 10000, ']', 10000);
        assert_asks(fd, deep, "nested deeper than 64 levels");
        assert_asks(fd, "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"shutdown\"}", "\"code\":-32601");
        assert_asks(fd, "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"tools/call\"}", "\"code\":-32602");
        assert_asks(fd,
                    "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"tools/call\",\"params\":{\"name\":\"x\",\"arguments\":[]}}",
                    "params.arguments must be an object");
        assert_asks(fd, "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"crew/ask\",\"params\":{\"timeout_ms\":-5}}",
                    "timeout_ms must be");
        assert_asks(fd, "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"crew/answer\",\"params\":{\"id\":\"1\",\"payload\":1}}",
                    "not an ask");
        assert_asks(fd, "{\"jsonrpc\":\"2.0\",\"id\":2,\"method\":\"ping\"}", "\"id\":2,\"result\":{}");
        close(fd);
        fake_stop(&f);
}

/* ---- limits ---- */

static void a_line_of_one_gigabyte_ends_its_connection_only(void **state) {
        static char block[65536];
        struct fake_crewd f;
        size_t sent = 0;

        start(&f, "cat");
        int other = agent_connect(&f), fd = agent_connect(&f);
        memset(block, 'x', sizeof(block));
        while (sent < 1u << 30) {
                ssize_t r = send(fd, block, sizeof(block), MSG_NOSIGNAL);
                if (r < 0)
                        break;
                sent += (size_t)r;
        }
        assert_true(sent < 4u << 20);
        assert_answer(fd, "line longer than 1048576 bytes");
        assert_asks(other, "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"ping\"}", "\"result\":{}");
        close(fd);
        close(other);
        fake_stop(&f);
}

static void the_65th_connection_is_refused_with_a_reason(void **state) {
        struct fake_crewd f;
        int fds[65];

        start(&f, "cat");
        for (int i = 0; i < 64; i++) {
                fds[i] = agent_connect(&f);
                assert_asks(fds[i], "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"ping\"}", "\"result\":{}");
        }
        fds[64] = agent_connect(&f);
        assert_answer(fds[64], "more than 64 connections");
        assert_null(agent_hear(fds[64]));
        close(fds[0]);
        for (int i = 0; i < 200; i++) { /* its place is free again */
                close(fds[64]);
                fds[64] = agent_connect(&f);
                if (send(fds[64], "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"ping\"}\n", 42, MSG_NOSIGNAL) < 0)
                        continue;
                const char *line = agent_hear(fds[64]);
                if (line && strstr(line, "\"result\":{}"))
                        break;
                assert_true(i < 199);
                usleep(5000);
        }
        for (int i = 1; i < 65; i++)
                close(fds[i]);
        fake_stop(&f);
}

static void too_many_open_calls_are_refused_one_by_one(void **state) {
        struct fake_crewd f;

        start(&f, "cat");
        int fd = agent_connect(&f);
        for (int i = 0; i < 65; i++)
                agent_say(fd,
                          "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"tools/call\",\"params\":{\"name\":\"echo_tool\"}}");
        assert_answer(fd, "\"code\":-32006");
        for (int i = 0; i < 64; i++)
                answer_call(&f, fake_expect(&f, CREW__ENVELOPE__BODY_TOOL_CALL)->seq, "{}");
        for (int i = 0; i < 64; i++)
                assert_answer(fd, "\"isError\":false");
        close(fd);
        fake_stop(&f);
}

static void a_half_closed_connection_still_gets_its_answer(void **state) {
        struct fake_crewd f;

        start(&f, "cat");
        int fd = agent_connect(&f);
        agent_say(fd, "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"tools/call\",\"params\":{\"name\":\"echo_tool\"}}");
        shutdown(fd, SHUT_WR);
        const Crew__Envelope *e = fake_expect(&f, CREW__ENVELOPE__BODY_TOOL_CALL);
        assert_string_equal(e->tool_call->arguments, "{}");
        answer_call(&f, e->seq, "{\"a\":1}");
        assert_answer(fd, "\"structuredContent\":{\"a\":1}");
        assert_null(agent_hear(fd));
        close(fd);
        fake_stop(&f);
}

static void a_client_that_does_not_read_is_cut_off(void **state) {
        static char big[(1 << 20) + 1], sink[65536];
        struct fake_crewd f;
        uint64_t seqs[20];
        size_t got = 0;

        start(&f, "cat");
        int fd = agent_connect(&f);
        memset(big, 'x', sizeof(big) - 1);
        big[0] = big[sizeof(big) - 2] = '"';
        for (int i = 0; i < 20; i++) {
                agent_say(fd,
                          "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"tools/call\",\"params\":{\"name\":\"echo_tool\"}}");
                seqs[i] = fake_expect(&f, CREW__ENVELOPE__BODY_TOOL_CALL)->seq;
        }
        for (int i = 0; i < 20; i++) /* 2 MiB of answer each */
                answer_call(&f, seqs[i], big);
        int other = agent_connect(&f);
        assert_asks(other, "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"ping\"}", "\"result\":{}");
        for (ssize_t r; (r = recv(fd, sink, sizeof(sink), 0)) > 0;)
                got += (size_t)r;
        assert_true(got < 1u << 20); /* what was in the socket when it was cut */
        close(fd);
        close(other);
        fake_stop(&f);
}

/* ---- tools ---- */

static void tools_are_listed_once_a_connection(void **state) {
        Crew__ToolInfo info = CREW__TOOL_INFO__INIT, other = CREW__TOOL_INFO__INIT;
        Crew__ToolInfo *infos[] = {&info, &other};
        Crew__ToolList list = CREW__TOOL_LIST__INIT;
        struct fake_crewd f;

        info.name = (char *)"echo_tool";
        info.description = (char *)"Says \"it\" back";
        info.input_schema = (char *)"{\"type\":\"object\",\n\"properties\":{}}";
        other.name = (char *)"any_tool";
        list.tools = infos;
        list.n_tools = 2;
        start(&f, "cat");
        int fd = agent_connect(&f);
        agent_say(fd, "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"tools/list\"}");
        const Crew__Envelope *e = fake_expect(&f, CREW__ENVELOPE__BODY_LIST_TOOLS);
        fake_send(&f, &FAKE_ENVELOPE(TOOL_LIST, .corr = e->seq, .tool_list = &list));
        static const char want[] =
                "{\"tools\":[{\"name\":\"echo_tool\",\"description\":\"Says \\\"it\\\" back\",\"inputSchema\":"
                "{\"type\":\"object\", \"properties\":{}}},"
                "{\"name\":\"any_tool\",\"description\":\"\",\"inputSchema\":{\"type\":\"object\"}}]}";
        assert_answer(fd, want);
        assert_asks(fd, "{\"jsonrpc\":\"2.0\",\"id\":2,\"method\":\"tools/list\",\"params\":{}}", want);
        close(fd);
        fake_stop(&f);
}

static void a_granted_tool_runs_and_its_output_comes_back(void **state) {
        struct fake_crewd f;

        start(&f, "cat");
        int fd = agent_connect(&f);
        agent_say(
                fd,
                "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"tools/call\",\"params\":{\"name\":\"echo_tool\",\"arguments\":"
                "{\"rate\": 0.10}}}");
        const Crew__Envelope *e = fake_expect(&f, CREW__ENVELOPE__BODY_TOOL_CALL);
        uint64_t call = e->seq;
        assert_string_equal(e->tool_call->tool, "echo_tool");
        assert_string_equal(e->tool_call->arguments, "{\"rate\": 0.10}");
        grant(&f, call, "echo_tool", "{\"rate\": 0.10}");
        e = fake_expect(&f, CREW__ENVELOPE__BODY_TOOL_RETURN);
        assert_int_equal(e->corr, call);
        assert_int_equal(e->tool_return->outcome, CREW__OUTCOME__OUTCOME_OK);
        assert_string_equal(e->tool_return->output, "{\"rate\": 0.10}");
        answer_call(&f, call, "{\"rate\": 0.10}");
        assert_answer(fd, "{\"content\":[{\"type\":\"text\",\"text\":\"{\\\"rate\\\": 0.10}\"}],"
                          "\"structuredContent\":{\"rate\": 0.10},\"isError\":false}");
        close(fd);
        fake_stop(&f);
}

static void a_tool_result_that_is_no_object_is_wrapped(void **state) {
        struct fake_crewd f;

        start(&f, "cat");
        int fd = agent_connect(&f);
        agent_say(fd, "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"tools/call\",\"params\":{\"name\":\"echo_tool\"}}");
        answer_call(&f, fake_expect(&f, CREW__ENVELOPE__BODY_TOOL_CALL)->seq, "[1,2]");
        assert_answer(fd, "\"text\":\"[1,2]\"}],\"structuredContent\":{\"result\":[1,2]}");
        close(fd);
        fake_stop(&f);
}

static void failing_and_hanging_tools_are_returned_as_such(void **state) {
        const Crew__Envelope *e;
        struct fake_crewd f;

        start(&f, "cat");
        grant(&f, 91, "bad_tool", "{}");
        e = fake_expect(&f, CREW__ENVELOPE__BODY_TOOL_RETURN);
        assert_int_equal(e->corr, 91);
        assert_int_equal(e->tool_return->outcome, CREW__OUTCOME__OUTCOME_FAILED);
        assert_string_equal(e->tool_return->error, "exited with status 4: no data");
        grant(&f, 92, "slow_tool", "{}");
        e = fake_expect(&f, CREW__ENVELOPE__BODY_TOOL_RETURN);
        assert_int_equal(e->tool_return->outcome, CREW__OUTCOME__OUTCOME_TIMEOUT);
        grant(&f, 93, "no_such_tool", "{}");
        e = fake_expect(&f, CREW__ENVELOPE__BODY_TOOL_RETURN);
        assert_int_equal(e->corr, 93);
        assert_string_equal(e->tool_return->error, "the tool is not in this agent's plan");
        fake_stop(&f);
}

/* Tools that run until they are told to end, a byte each. */
static int start_with_held_tools(struct fake_crewd *f, const char *dir) {
        char path[64], script[128];

        snprintf(path, sizeof(path), "%s/go", dir);
        snprintf(script, sizeof(script), "read x < %s; echo 1", path);
        assert_int_equal(mkfifo(path, 0600), 0);
        int go = open(path, O_RDWR | O_CLOEXEC);
        assert_true(go >= 0);
        fake_start(f, &(struct fake_agent){
                              .driver = PLAN_DRIVER_EXEC_JSON, .script = "cat", .tools = {{"held_tool", script, 120000}}});
        return go;
}

static void end_with_held_tools(struct fake_crewd *f, int go, const char *dir) {
        char path[64];

        fake_stop(f);
        close(go);
        snprintf(path, sizeof(path), "%s/go", dir);
        unlink(path);
        rmdir(dir);
}

static void tools_run_side_by_side_up_to_the_limit(void **state) {
        char dir[] = "/tmp/crew-worker-test.XXXXXX";
        struct fake_crewd f;

        assert_non_null(mkdtemp(dir));
        int go = start_with_held_tools(&f, dir);
        for (uint64_t i = 0; i < 20; i++)
                grant(&f, 100 + i, "held_tool", "{}");
        for (unsigned left = 20, n; left > 0; left -= n) {
                n = MIN_OF(left, 8u);
                fake_processes_become(&f, 1 + n);
                assert_int_equal(crew_write_full(go, "\n\n\n\n\n\n\n\n", n), 0);
                for (unsigned i = 0; i < n; i++)
                        assert_int_equal(fake_expect(&f, CREW__ENVELOPE__BODY_TOOL_RETURN)->tool_return->outcome,
                                         CREW__OUTCOME__OUTCOME_OK);
        }
        fake_processes_become(&f, 1);
        end_with_held_tools(&f, go, dir);
}

static void more_waiting_tools_than_the_limit_are_returned_at_once(void **state) {
        char dir[] = "/tmp/crew-worker-test.XXXXXX";
        struct fake_crewd f;

        assert_non_null(mkdtemp(dir));
        int go = start_with_held_tools(&f, dir);
        for (uint64_t i = 0; i < 8 + 64 + 1; i++)
                grant(&f, 100 + i, "held_tool", "{}");
        const Crew__Envelope *e = fake_expect(&f, CREW__ENVELOPE__BODY_TOOL_RETURN);
        assert_int_equal(e->corr, 100 + 72);
        assert_string_equal(e->tool_return->error, "too many tool calls are waiting");
        end_with_held_tools(&f, go, dir);
}

static void a_refusal_is_an_error_and_a_failure_is_a_result(void **state) {
        struct fake_crewd f;

        start(&f, "cat");
        int fd = agent_connect(&f);
        agent_say(fd, "{\"jsonrpc\":\"2.0\",\"id\":7,\"method\":\"tools/call\",\"params\":{\"name\":\"wire_transfer\"}}");
        refuse_call(&f, fake_expect(&f, CREW__ENVELOPE__BODY_TOOL_CALL)->seq, -32001,
                    "tool 'wire_transfer' is not in tools.allowed", "policies/roles/x.yaml:14");
        assert_answer(
                fd, "{\"jsonrpc\":\"2.0\",\"id\":7,\"error\":{\"code\":-32001,\"message\":\"tool 'wire_transfer' is not in "
                    "tools.allowed\",\"data\":{\"rule\":\"policies/roles/x.yaml:14\",\"next_steps\":[\"ask the "
                    "operator\"]}}}");
        agent_say(fd, "{\"jsonrpc\":\"2.0\",\"id\":8,\"method\":\"tools/call\",\"params\":{\"name\":\"bad_tool\"}}");
        refuse_call(&f, fake_expect(&f, CREW__ENVELOPE__BODY_TOOL_CALL)->seq, -32003, "exited with status 4", "");
        assert_answer(fd, "\"isError\":true");
        close(fd);
        fake_stop(&f);
}

static void an_answer_to_nobody_is_dropped(void **state) {
        struct fake_crewd f;

        start(&f, "cat");
        int fd = agent_connect(&f);
        agent_say(fd, "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"tools/call\",\"params\":{\"name\":\"echo_tool\"}}");
        uint64_t seq = fake_expect(&f, CREW__ENVELOPE__BODY_TOOL_CALL)->seq;
        close(fd);
        usleep(20000);
        answer_call(&f, seq, "{}");
        answer_call(&f, seq, "{}");
        answer_call(&f, 4711, "{}");
        assert_int_equal(fake_processes(&f), 1);
        fake_stop(&f);
}

/* ---- messages ---- */

static void sends_and_asks_go_through_crewd(void **state) {
        const Crew__Envelope *e;
        struct fake_crewd f;

        start(&f, "cat");
        int fd = agent_connect(&f);
        agent_say(fd, "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"crew/"
                      "send\",\"params\":{\"target\":\"other\",\"payload\":[1]}}");
        e = fake_expect(&f, CREW__ENVELOPE__BODY_SEND_MESSAGE);
        assert_false(e->send_message->ask);
        assert_string_equal(e->send_message->target, "other");
        assert_string_equal(e->send_message->payload, "[1]");
        answer_call(&f, e->seq, "");
        assert_answer(fd, "\"id\":1,\"result\":null");
        agent_say(fd, "{\"jsonrpc\":\"2.0\",\"id\":2,\"method\":\"crew/ask\",\"params\":{\"target\":\"other\",\"payload\":"
                      "\"q\",\"timeout_ms\":60000}}");
        e = fake_expect(&f, CREW__ENVELOPE__BODY_SEND_MESSAGE);
        assert_true(e->send_message->ask);
        assert_true(e->deadline_ms > crew_realtime_ns() / 1000000u);
        answer_call(&f, e->seq, "{\"answer\":42}");
        assert_answer(fd, "\"id\":2,\"result\":{\"answer\":42}");
        close(fd);
        fake_stop(&f);
}

#define CALL(method, params) "{\"jsonrpc\":\"2.0\",\"id\":7,\"method\":\"" method "\",\"params\":" params "}"

static void verbs_of_the_manager_become_messages(void **state) {
        const Crew__Envelope *e;
        struct fake_crewd f;

        start(&f, "cat");
        int fd = agent_connect(&f);
        agent_say(fd, CALL("crew/submit", "{\"agent\":\"a\",\"description\":\"x\\ny\",\"input\":{\"n\":[0.10]},"
                                          "\"priority\":7,\"retries\":2,\"timeout_ms\":9000,\"key\":\"k-1\"}"));
        e = fake_expect(&f, CREW__ENVELOPE__BODY_SUBMIT_WORK);
        assert_string_equal(e->submit_work->agent, "a");
        assert_string_equal(e->submit_work->description, "x\ny");
        assert_string_equal(e->submit_work->input, "{\"n\":[0.10]}");
        assert_int_equal(e->submit_work->priority, 7);
        assert_int_equal(e->submit_work->retries, 2);
        assert_int_equal(e->submit_work->timeout_ms, 9000);
        assert_string_equal(e->submit_work->key, "k-1");
        answer_call(&f, e->seq, "{\"task_id\":\"t-1\"}");
        assert_answer(fd, "\"id\":7,\"result\":{\"task_id\":\"t-1\"}");
        agent_say(fd, CALL("crew/wait", "{\"task_id\":\"t-1\",\"timeout_ms\":60000}"));
        e = fake_expect(&f, CREW__ENVELOPE__BODY_WAIT_WORK);
        assert_true(e->deadline_ms > crew_realtime_ns() / 1000000u);
        refuse_call(&f, e->seq, -32005, "task t-1 has no outcome yet", "");
        assert_answer(fd, "\"code\":-32005");
        agent_say(fd, CALL("crew/cancel", "{\"task_id\":\"t-1\",\"reason\":\"late\"}"));
        e = fake_expect(&f, CREW__ENVELOPE__BODY_CANCEL_WORK);
        assert_string_equal(e->cancel_work->reason, "late");
        answer_call(&f, e->seq, "1");
        assert_answer(fd, "\"result\":1");
        agent_say(fd, CALL("tools/call",
                           "{\"name\":\"crew_reprioritise\",\"arguments\":{\"task_id\":\"t-1\",\"priority\":100}}"));
        e = fake_expect(&f, CREW__ENVELOPE__BODY_REPRIORITISE_WORK);
        assert_int_equal(e->reprioritise_work->priority, 100);
        answer_call(&f, e->seq, "{\"state\":\"waiting\"}");
        assert_answer(fd, "\"structuredContent\":{\"state\":\"waiting\"},\"isError\":false");
        close(fd);
        fake_stop(&f);
}

static void the_end_of_another_agent_comes_to_whoever_receives(void **state) {
        Crew__TerminationNotice body = CREW__TERMINATION_NOTICE__INIT;
        struct fake_crewd f;
        const char *line;

        (void)state;
        start(&f, "cat");
        body.id = 7;
        body.agent = (char *)"a";
        body.record = (char *)"{\"version\":1,\"id\":7,\"agent\":\"a\"}";
        fake_send(&f, &FAKE_ENVELOPE(TERMINATION_NOTICE, .termination_notice = &body));
        int fd = agent_connect(&f);
        agent_say(fd, CALL("crew/receive", "{\"timeout_ms\":60000}"));
        line = agent_hear(fd);
        assert_non_null(line);
        assert_non_null(strstr(line, "\"result\":{\"kind\":\"agent.terminated\",\"payload\":{\"version\":1,"));
        assert_null(strstr(line, "\"from\""));
        agent_say(fd, CALL("crew/receive", "{\"timeout_ms\":0}"));
        assert_answer(fd, "\"result\":null");
        agent_say(fd, CALL("crew/seen", "{\"id\":7}"));
        const Crew__Envelope *e = fake_expect(&f, CREW__ENVELOPE__BODY_TERMINATION_SEEN);
        assert_int_equal(e->termination_seen->id, 7);
        answer_call(&f, e->seq, "{\"acknowledged\":true}");
        assert_answer(fd, "\"result\":{\"acknowledged\":true}");
        agent_say(fd, CALL("crew/seen", "{\"id\":\"7\"}"));
        assert_answer(fd, "params.id must be a whole number");
        agent_say(fd, CALL("crew/terminations", "{}"));
        e = fake_expect(&f, CREW__ENVELOPE__BODY_LIST_TERMINATIONS);
        answer_call(&f, e->seq, "{\"terminations\":[],\"lost\":0}");
        assert_answer(fd, "\"lost\":0");
        close(fd);
        fake_stop(&f);
}

static void parameters_that_a_verb_does_not_take_are_named(void **state) {
        struct fake_crewd f;

        start(&f, "cat");
        int fd = agent_connect(&f);
        assert_asks(fd, CALL("crew/wait", "{}"), "params.task_id is missing");
        assert_asks(fd, CALL("crew/wait", "{\"task_id\":5}"), "params.task_id must be a string of 1 to 63 bytes");
        assert_asks(fd, CALL("crew/agents", "{\"all\":true}"), "does not take: all");
        assert_asks(fd, CALL("crew/result", "{\"task_id\":\"t\",\"priority\":1}"), "does not take: priority");
        assert_asks(fd, CALL("crew/submit", "{\"priority\":101}"), "params.priority must be a whole number, at most 100");
        assert_asks(fd, CALL("crew/submit", "{\"priority\":-1}"), "params.priority must be");
        assert_asks(fd, CALL("crew/submit", "{\"key\":\"a b\"}"), "printable ASCII without blanks");
        assert_asks(fd, CALL("crew/submit", "{\"\\u0000\":1}"), "\"error\"");
        close(fd);
        fake_stop(&f);
}

static void an_ask_without_answer_times_out_here_too(void **state) {
        struct fake_crewd f;

        start(&f, "cat");
        int fd = agent_connect(&f);
        agent_say(fd, "{\"jsonrpc\":\"2.0\",\"id\":2,\"method\":\"crew/ask\",\"params\":{\"target\":\"other\",\"payload\":"
                      "\"q\",\"timeout_ms\":50}}");
        uint64_t seq = fake_expect(&f, CREW__ENVELOPE__BODY_SEND_MESSAGE)->seq;
        assert_answer(fd, "\"code\":-32005,\"message\":\"no answer in 50 ms\"");
        answer_call(&f, seq, "\"late\"");
        assert_asks(fd, "{\"jsonrpc\":\"2.0\",\"id\":3,\"method\":\"ping\"}", "\"id\":3");
        close(fd);
        fake_stop(&f);
}

#define RECEIVE(id, ms)                                                                                                    \
        "{\"jsonrpc\":\"2.0\",\"id\":" #id ",\"method\":\"crew/receive\",\"params\":{\"timeout_ms\":" #ms "}}"

static void letters_wait_in_the_inbox_in_order(void **state) {
        struct fake_crewd f;

        start(&f, "cat");
        int fd = agent_connect(&f);
        assert_asks(fd, RECEIVE(1, 0), "\"result\":null");
        assert_asks(fd, RECEIVE(2, 30), "\"result\":null");
        deliver(&f, false, "1");
        deliver(&f, false, "{\"n\":\n2}");
        fake_processes(&f);
        assert_asks(fd, RECEIVE(3, 0), "\"result\":{\"kind\":\"message\",\"from\":\"other\",\"payload\":1}");
        assert_asks(fd, RECEIVE(4, 0), "\"payload\":{\"n\": 2}");
        agent_say(fd, RECEIVE(5, 60000));
        deliver(&f, false, "3");
        assert_answer(fd, "\"id\":5,\"result\":{\"kind\":\"message\",\"from\":\"other\",\"payload\":3}");
        close(fd);
        fake_stop(&f);
}

static void a_cancelled_receive_takes_no_letter(void **state) {
        struct fake_crewd f;

        start(&f, "cat");
        int fd = agent_connect(&f);
        agent_say(fd, RECEIVE(1, 60000));
        agent_say(fd, "{\"jsonrpc\":\"2.0\",\"method\":\"notifications/cancelled\",\"params\":{\"requestId\":1}}");
        assert_asks(fd, "{\"jsonrpc\":\"2.0\",\"id\":2,\"method\":\"ping\"}", "\"id\":2");
        deliver(&f, false, "1");
        fake_processes(&f);
        assert_asks(fd, RECEIVE(3, 0), "\"id\":3,\"result\":{\"kind\":\"message\"");
        close(fd);
        fake_stop(&f);
}

static void a_full_inbox_drops_with_a_note(void **state) {
        struct fake_crewd f;

        start(&f, "cat");
        for (int i = 0; i < 257; i++)
                deliver(&f, false, "1");
        fake_processes(&f);
        assert_non_null(strstr(f.observed, "limit-inbox: from other: its inbox is full"));
        fake_stop(&f);
}

static void an_ask_starts_a_process_of_an_exec_json_agent(void **state) {
        struct fake_crewd f;

        start(&f, "cat");
        uint64_t seq = deliver(&f, true, "{\"q\":1}");
        const Crew__Envelope *e = fake_expect(&f, CREW__ENVELOPE__BODY_ASK_ANSWER);
        assert_int_equal(e->corr, seq);
        assert_true(e->ask_answer->ok);
        assert_string_equal(e->ask_answer->payload, "{\"kind\":\"ask\",\"from\":\"other\",\"payload\":{\"q\":1}}");
        fake_stop(&f);
        start(&f, "exit 1");
        deliver(&f, true, "1");
        e = fake_expect(&f, CREW__ENVELOPE__BODY_ASK_ANSWER);
        assert_false(e->ask_answer->ok);
        assert_string_equal(e->ask_answer->error, "exited with status 1");
        fake_stop(&f);
}

static void an_ask_goes_to_a_program_that_waits_and_is_answered_once(void **state) {
        struct fake_crewd f;
        char line[256];

        start(&f, "sleep 60");
        int fd = agent_connect(&f);
        fake_task(&f, "t-1", "{}", 0);
        agent_say(fd, RECEIVE(1, 60000));
        assert_asks(fd, "{\"jsonrpc\":\"2.0\",\"id\":9,\"method\":\"ping\"}", "\"id\":9"); /* so it waits now */
        uint64_t seq = deliver(&f, true, "\"why\"");
        assert_answer(fd, "{\"kind\":\"ask\",\"id\":\"");
        snprintf(line, sizeof(line),
                 "{\"jsonrpc\":\"2.0\",\"id\":2,\"method\":\"crew/"
                 "answer\",\"params\":{\"id\":\"%llu\",\"payload\":\"because\"}}",
                 (unsigned long long)seq);
        assert_asks(fd, line, "\"answered\":true");
        const Crew__Envelope *e = fake_expect(&f, CREW__ENVELOPE__BODY_ASK_ANSWER);
        assert_int_equal(e->corr, seq);
        assert_string_equal(e->ask_answer->payload, "\"because\"");
        assert_asks(fd, line, "\"code\":-32602");
        close(fd);
        fake_stop(&f);
}

static void an_ask_that_was_taken_is_answered_when_its_program_ends(void **state) {
        struct fake_crewd f;
        char go[128];

        start(&f, "while [ ! -e $CREW_SOCKET.go ]; do sleep 0.02; done; rm $CREW_SOCKET.go; echo 1");
        int fd = agent_connect(&f);
        fake_task(&f, "t-1", "{}", 0);
        agent_say(fd, RECEIVE(1, 60000));
        assert_asks(fd, "{\"jsonrpc\":\"2.0\",\"id\":9,\"method\":\"ping\"}", "\"id\":9");
        uint64_t seq = deliver(&f, true, "\"why\"");
        assert_answer(fd, "\"kind\":\"ask\"");
        snprintf(go, sizeof(go), "%s.go", f.socket);
        close(open(go, O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
        fake_result(&f);
        const Crew__Envelope *e = fake_expect(&f, CREW__ENVELOPE__BODY_ASK_ANSWER);
        assert_int_equal(e->corr, seq);
        assert_false(e->ask_answer->ok);
        assert_string_equal(e->ask_answer->error, "the agent's program ended without answering");
        close(fd);
        fake_stop(&f);
}

static void asks_and_messages_reach_a_stdio_agent_on_its_stdin(void **state) {
        struct fake_crewd f;

        fake_start(&f, &(struct fake_agent){.driver = PLAN_DRIVER_STDIO_RPC,
                                            .python = "import sys,json\nseen=[]\n"
                                                      "for line in sys.stdin:\n"
                                                      "  m=json.loads(line)\n"
                                                      "  if m['method']=='message': seen.append(m['params']['payload'])\n"
                                                      "  else: print(json.dumps(dict(jsonrpc='2.0',id=m['id'],"
                                                      "result=[m['method'],m['params']['from'],seen])),flush=True)\n"});
        deliver(&f, false, "\"first\"");
        uint64_t seq = deliver(&f, true, "1");
        const Crew__Envelope *e = fake_expect(&f, CREW__ENVELOPE__BODY_ASK_ANSWER);
        assert_int_equal(e->corr, seq);
        assert_string_equal(e->ask_answer->payload, "[\"ask\", \"other\", [\"first\"]]");
        fake_stop(&f);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(mcp_versions_are_negotiated),
                cmocka_unit_test(bad_lines_are_answered_and_the_connection_goes_on),
                cmocka_unit_test(a_line_of_one_gigabyte_ends_its_connection_only),
                cmocka_unit_test(the_65th_connection_is_refused_with_a_reason),
                cmocka_unit_test(too_many_open_calls_are_refused_one_by_one),
                cmocka_unit_test(a_half_closed_connection_still_gets_its_answer),
                cmocka_unit_test(a_client_that_does_not_read_is_cut_off),
                cmocka_unit_test(tools_are_listed_once_a_connection),
                cmocka_unit_test(a_granted_tool_runs_and_its_output_comes_back),
                cmocka_unit_test(a_tool_result_that_is_no_object_is_wrapped),
                cmocka_unit_test(failing_and_hanging_tools_are_returned_as_such),
                cmocka_unit_test(tools_run_side_by_side_up_to_the_limit),
                cmocka_unit_test(more_waiting_tools_than_the_limit_are_returned_at_once),
                cmocka_unit_test(a_refusal_is_an_error_and_a_failure_is_a_result),
                cmocka_unit_test(an_answer_to_nobody_is_dropped),
                cmocka_unit_test(sends_and_asks_go_through_crewd),
                cmocka_unit_test(verbs_of_the_manager_become_messages),
                cmocka_unit_test(the_end_of_another_agent_comes_to_whoever_receives),
                cmocka_unit_test(parameters_that_a_verb_does_not_take_are_named),
                cmocka_unit_test(an_ask_without_answer_times_out_here_too),
                cmocka_unit_test(letters_wait_in_the_inbox_in_order),
                cmocka_unit_test(a_cancelled_receive_takes_no_letter),
                cmocka_unit_test(a_full_inbox_drops_with_a_note),
                cmocka_unit_test(an_ask_starts_a_process_of_an_exec_json_agent),
                cmocka_unit_test(an_ask_goes_to_a_program_that_waits_and_is_answered_once),
                cmocka_unit_test(an_ask_that_was_taken_is_answered_when_its_program_ends),
                cmocka_unit_test(asks_and_messages_reach_a_stdio_agent_on_its_stdin),
        };

        cmocka_set_message_output(CM_OUTPUT_TAP);
        return cmocka_run_group_tests(tests, NULL, NULL);
}
