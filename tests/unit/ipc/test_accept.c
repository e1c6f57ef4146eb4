/* SPDX-License-Identifier: Apache-2.0 */
/* The accept pipeline, with frames made byte by byte where a well-behaved packer could not make them. */
#include "common/sanitized.h"
#include "common/util.h"
#include "ipc-schema/ipc.h"

#include <errno.h>
#include <malloc.h>
#include <string.h>

/* cmocka wants these in front */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#define MIB (1u << 20)

/* ---- frames by hand ---- */

struct frame {
        uint8_t *bytes;
        size_t n, room;
};

static void put(struct frame *f, const void *bytes, size_t n) {
        if (f->n + n > f->room) {
                f->room = 2 * (f->n + n);
                f->bytes = realloc(f->bytes, f->room);
                assert_non_null(f->bytes);
        }
        if (n)
                memcpy(f->bytes + f->n, bytes, n);
        f->n += n;
}

static void put_varint(struct frame *f, uint64_t v) {
        do {
                uint8_t byte = (v & 0x7f) | (v > 0x7f ? 0x80 : 0);
                put(f, &byte, 1);
                v >>= 7;
        } while (v);
}

static void put_number(struct frame *f, uint32_t field, uint64_t v) {
        put_varint(f, field << 3);
        put_varint(f, v);
}

static void put_bytes(struct frame *f, uint32_t field, const void *bytes, size_t n) {
        put_varint(f, field << 3 | 2);
        put_varint(f, n);
        put(f, bytes, n);
}

static void put_text(struct frame *f, uint32_t field, const char *text) {
        put_bytes(f, field, text, strlen(text));
}

/* An envelope of version 1, seq 1, around a body. */
static struct frame wrap(uint32_t body_field, struct frame *body) {
        struct frame f = {0};

        put_number(&f, 1, 1);
        put_number(&f, 2, 1);
        put_bytes(&f, body_field, body->bytes, body->n);
        free(body->bytes);
        *body = (struct frame){0};
        return f;
}

/* ---- asking ---- */

static struct ipc_arena *arena;
static struct ipc_refusal refusal;

static enum ipc_reject ask(enum ipc_side sender, uint32_t state, struct frame *f) {
        const Crew__Envelope *e;

        /* An exact copy on the heap, so that the address sanitizer sees one byte too far. */
        uint8_t *copy = malloc(f->n ? f->n : 1);
        assert_non_null(copy);
        if (f->n)
                memcpy(copy, f->bytes, f->n);
        enum ipc_reject r = ipc_accept(arena, sender, state, copy, f->n, &e, &refusal);
        assert_int_equal(r, refusal.why);
        assert_int_equal(r == IPC_ACCEPTED, e != NULL);
        free(copy);
        free(f->bytes);
        *f = (struct frame){0};
        return r;
}

#define assert_refused(r, reason, where)                                                                                   \
        do {                                                                                                               \
                assert_string_equal(ipc_reject_names[r], ipc_reject_names[reason]);                                        \
                assert_string_equal(refusal.field, where);                                                                 \
        } while (0)

static struct frame tool_call(const char *tool, const char *arguments) {
        struct frame body = {0};

        put_text(&body, 1, tool);
        put_text(&body, 2, arguments);
        return wrap(13, &body);
}

static struct frame hello(void) {
        struct frame body = {0};

        put_number(&body, 1, 1);
        put_text(&body, 2, "collector");
        put_number(&body, 3, 7);
        return wrap(10, &body);
}

static void good_frames_are_accepted(void **state) {
        struct frame f = tool_call("market_api_tool", "{\"symbols\":[\"ACME\"]}");
        assert_int_equal(ask(IPC_WORKER, IPC_STATE_WORKING, &f), IPC_ACCEPTED);
        f = hello();
        assert_int_equal(ask(IPC_WORKER, IPC_STATE_SPAWNING, &f), IPC_ACCEPTED);
        f = tool_call("\xc3\xbc \xe2\x82\xac \xf0\x9f\x8d\x8b", "null");
        assert_int_equal(ask(IPC_WORKER, IPC_STATE_READY, &f), IPC_ACCEPTED);
}

static void every_truncation_is_refused(void **state) {
        struct frame whole = tool_call("market_api_tool", "{}");

        for (size_t n = 0; n < whole.n; n++) {
                struct frame f = {0};
                put(&f, whole.bytes, n);
                assert_int_not_equal(ask(IPC_WORKER, IPC_STATE_WORKING, &f), IPC_ACCEPTED);
        }
        assert_int_equal(ask(IPC_WORKER, IPC_STATE_WORKING, &whole), IPC_ACCEPTED);
}

static void trailing_bytes_are_refused(void **state) {
        for (unsigned byte = 0; byte < 256; byte++) {
                struct frame f = tool_call("a", "{}");
                put(&f, &(uint8_t){(uint8_t)byte}, 1);
                assert_int_not_equal(ask(IPC_WORKER, IPC_STATE_WORKING, &f), IPC_ACCEPTED);
        }
}

static void frame_over_the_senders_cap_is_refused_unread(void **state) {
        struct frame f = {0};
        uint8_t *zeros = calloc(1, ipc_max_frame[IPC_WORKER] + 1);

        put(&f, zeros, ipc_max_frame[IPC_WORKER] + 1);
        free(zeros);
        assert_refused(ask(IPC_WORKER, IPC_STATE_ANY, &f), IPC_TOO_LARGE, "frame");
}

static void frame_over_its_types_cap_is_refused(void **state) {
        char word[4097];
        struct frame body = {0};

        memset(word, 'w', 4096);
        word[4096] = '\0';
        put_text(&body, 1, "collector");
        for (unsigned i = 0; i < 40; i++)
                put_text(&body, 2, word);
        struct frame f = wrap(77, &body); /* ClientExec: 131072 */
        assert_refused(ask(IPC_CLIENT, IPC_STATE_OPEN, &f), IPC_TOO_LARGE, "client_exec");
        assert_string_equal(refusal.rule, "max_bytes 131072");
}

static void deep_nesting_is_refused(void **state) {
        struct frame inner = {0};

        for (unsigned depth = 0; depth < 8000; depth++) {
                struct frame outer = {0};
                put_bytes(&outer, 3, inner.bytes, inner.n);
                free(inner.bytes);
                inner = outer;
        }
        struct frame f = wrap(44, &inner); /* CallResult.error.rule... */
        assert_int_not_equal(ask(IPC_SUPERVISOR, IPC_STATE_ANY, &f), IPC_ACCEPTED);
}

static void unknown_fields_are_refused_at_every_level(void **state) {
        struct frame body = {0}, error = {0};

        struct frame f = tool_call("a", "{}");
        put_text(&f, 199, "x");
        assert_refused(ask(IPC_WORKER, IPC_STATE_WORKING, &f), IPC_UNKNOWN_FIELD, "frame");
        assert_string_equal(refusal.rule, "unknown field 199");

        put_text(&body, 1, "a");
        put_number(&body, 17, 1);
        f = wrap(13, &body);
        assert_refused(ask(IPC_WORKER, IPC_STATE_WORKING, &f), IPC_UNKNOWN_FIELD, "tool_call");

        put_text(&error, 2, "no");
        put_number(&error, 9, 1);
        put_bytes(&body, 3, error.bytes, error.n);
        free(error.bytes);
        f = wrap(44, &body);
        assert_refused(ask(IPC_SUPERVISOR, IPC_STATE_ANY, &f), IPC_UNKNOWN_FIELD, "call_result.error");
}

static void unknown_body_type_is_refused(void **state) {
        struct frame body = {0};

        put_text(&body, 1, "a");
        struct frame f = wrap(200, &body);
        assert_refused(ask(IPC_WORKER, IPC_STATE_WORKING, &f), IPC_UNKNOWN_FIELD, "frame");
}

static void wrong_version_is_refused(void **state) {
        struct frame f = {0}, body = {0};

        put_number(&f, 1, 2);
        put_number(&f, 2, 1);
        put_text(&body, 1, "a");
        put_bytes(&f, 13, body.bytes, body.n);
        free(body.bytes);
        assert_refused(ask(IPC_WORKER, IPC_STATE_WORKING, &f), IPC_BAD_VERSION, "version");
        assert_int_equal(ask(IPC_WORKER, IPC_STATE_WORKING, &f), IPC_BAD_VERSION); /* empty: version 0 */
}

static void missing_body_is_refused(void **state) {
        struct frame f = {0};

        put_number(&f, 1, 1);
        put_number(&f, 2, 1);
        assert_refused(ask(IPC_WORKER, IPC_STATE_WORKING, &f), IPC_FIELD_RULE, "body");
}

static void body_of_another_sender_is_refused(void **state) {
        struct frame body = {0};

        put_number(&body, 1, 1);
        struct frame f = wrap(40, &body); /* Welcome is crewd's */
        assert_refused(ask(IPC_WORKER, IPC_STATE_ANY, &f), IPC_WRONG_SENDER, "welcome");
        f = tool_call("a", "{}");
        assert_refused(ask(IPC_CLIENT, IPC_STATE_ANY, &f), IPC_WRONG_SENDER, "tool_call");
        f = tool_call("a", "{}");
        assert_refused(ask(IPC_SUPERVISOR, IPC_STATE_ANY, &f), IPC_WRONG_SENDER, "tool_call");
        f = wrap(75, &body); /* KillAgent is a client's */
        assert_refused(ask(IPC_WORKER, IPC_STATE_ANY, &f), IPC_WRONG_SENDER, "kill_agent");
}

static void body_in_the_wrong_state_is_refused(void **state) {
        struct frame f = tool_call("a", "{}"), body = {0};

        assert_refused(ask(IPC_WORKER, IPC_STATE_SPAWNING, &f), IPC_WRONG_STATE, "tool_call");
        f = tool_call("a", "{}");
        assert_refused(ask(IPC_WORKER, IPC_STATE_STOPPING, &f), IPC_WRONG_STATE, "tool_call");
        f = hello();
        assert_refused(ask(IPC_WORKER, IPC_STATE_READY, &f), IPC_WRONG_STATE, "hello");
        f = wrap(71, &body);
        assert_refused(ask(IPC_CLIENT, IPC_STATE_NEW, &f), IPC_WRONG_STATE, "get_status");
        f = wrap(71, &body);
        assert_int_equal(ask(IPC_CLIENT, IPC_STATE_OPEN, &f), IPC_ACCEPTED);
}

static void body_of_the_manager_is_refused_from_others(void **state) {
        struct frame body = {0};

        for (uint32_t field = 23; field <= 28; field++) {
                struct frame f = wrap(field, &body);
                assert_int_equal(ask(IPC_WORKER, IPC_STATE_WORKING, &f), IPC_WRONG_ROLE);
                f = wrap(field, &body);
                assert_int_equal(ask(IPC_CLIENT, IPC_STATE_OPEN | IPC_STATE_MANAGER, &f), IPC_WRONG_SENDER);
                f = wrap(field, &body);
                assert_int_equal(ask(IPC_WORKER, IPC_STATE_STOPPING | IPC_STATE_MANAGER, &f), IPC_WRONG_STATE);
                f = wrap(field, &body); /* the role says nothing about the content */
                enum ipc_reject r = ask(IPC_WORKER, IPC_STATE_WORKING | IPC_STATE_MANAGER, &f);
                assert_true(r == IPC_ACCEPTED || r == IPC_FIELD_RULE);
        }
        struct frame f = wrap(23, &body);
        assert_int_equal(ask(IPC_WORKER, IPC_STATE_READY | IPC_STATE_MANAGER, &f), IPC_ACCEPTED);
        put_text(&body, 1, "t-1");
        put_number(&body, 2, 101);
        f = wrap(27, &body);
        assert_refused(ask(IPC_WORKER, IPC_STATE_WORKING | IPC_STATE_MANAGER, &f), IPC_FIELD_RULE,
                       "reprioritise_work.priority");
}

static void invalid_utf8_is_refused(void **state) {
        static const char *const bad[] = {"\x80",
                                          "\xc0\x80",
                                          "\xc1\xbf",
                                          "\xe0\x80\x80",
                                          "\xed\xa0\x80",
                                          "\xf0\x80\x80\x80",
                                          "\xf4\x90\x80\x80",
                                          "\xf5\x80\x80\x80",
                                          "\xff",
                                          "\xc3",
                                          "ok then \xe2\x82",
                                          "0123456789abcdef\3760123456789abcdef"};

        for (size_t i = 0; i < ELEMENTSOF(bad); i++) {
                struct frame f = tool_call(bad[i], "{}");
                assert_refused(ask(IPC_WORKER, IPC_STATE_WORKING, &f), IPC_FIELD_RULE, "tool_call.tool");
                f = tool_call("a", bad[i]);
                assert_refused(ask(IPC_WORKER, IPC_STATE_WORKING, &f), IPC_FIELD_RULE, "tool_call.arguments");
                assert_string_equal(refusal.rule, "valid UTF-8");
        }
}

static void embedded_nul_is_refused(void **state) {
        static const struct {
                const char *text;
                size_t n;
        } bad[] = {{"a\0b", 3}, {"\0", 1}, {"a\0", 2}, {"\0\0\0\0\0\0\0\0", 8}};

        for (size_t i = 0; i < ELEMENTSOF(bad); i++) {
                struct frame body = {0};
                put_bytes(&body, 1, bad[i].text, bad[i].n);
                struct frame f = wrap(13, &body);
                assert_refused(ask(IPC_WORKER, IPC_STATE_WORKING, &f), IPC_FIELD_RULE, "tool_call.tool");
                assert_string_equal(refusal.rule, "no NUL");
        }
}

static void names_keep_their_character_set(void **state) {
        static const char *const bad[] = {"Collector", "a b", "-a", "a-", "a_b", "a/b", "\xc3\xa4", "a\n"};

        for (size_t i = 0; i < ELEMENTSOF(bad); i++) {
                struct frame body = {0};
                put_number(&body, 1, 1);
                put_text(&body, 2, bad[i]);
                put_number(&body, 3, 1);
                struct frame f = wrap(10, &body);
                assert_refused(ask(IPC_WORKER, IPC_STATE_SPAWNING, &f), IPC_FIELD_RULE, "hello.agent");
        }
        struct frame body = {0};
        put_text(&body, 1, "t 1");
        put_number(&body, 2, 1);
        struct frame f = wrap(12, &body);
        assert_refused(ask(IPC_WORKER, IPC_STATE_WORKING, &f), IPC_FIELD_RULE, "task_result.task_id");
}

static void lengths_and_ranges_are_enforced(void **state) {
        char name[65];
        struct frame body = {0};

        memset(name, 'n', 64);
        name[64] = '\0';
        struct frame f = tool_call(name, "{}");
        assert_refused(ask(IPC_WORKER, IPC_STATE_WORKING, &f), IPC_FIELD_RULE, "tool_call.tool");
        assert_string_equal(refusal.rule, "max_len 63");
        f = tool_call(name + 1, "{}");
        assert_int_equal(ask(IPC_WORKER, IPC_STATE_WORKING, &f), IPC_ACCEPTED);
        put_text(&body, 2, "{}");
        f = wrap(13, &body);
        assert_refused(ask(IPC_WORKER, IPC_STATE_WORKING, &f), IPC_FIELD_RULE, "tool_call.tool");
        assert_string_equal(refusal.rule, "min_len 1");

        put_number(&body, 1, 3); /* ExecOutput.stream */
        f = wrap(21, &body);
        assert_refused(ask(IPC_WORKER, IPC_STATE_READY, &f), IPC_FIELD_RULE, "exec_output.stream");
        assert_string_equal(refusal.rule, "max 2");
        put_number(&body, 1, 1);
        put_text(&body, 2, "collector");
        f = wrap(10, &body);
        assert_refused(ask(IPC_WORKER, IPC_STATE_SPAWNING, &f), IPC_FIELD_RULE, "hello.incarnation");
}

static void unknown_and_missing_enum_values_are_refused(void **state) {
        static const uint64_t bad[] = {7, 1000, (uint64_t)-1, 0x7fffffff};
        struct frame body = {0}, f;

        for (size_t i = 0; i < ELEMENTSOF(bad); i++) {
                put_text(&body, 1, "t-1");
                put_number(&body, 2, bad[i]);
                f = wrap(12, &body);
                assert_refused(ask(IPC_WORKER, IPC_STATE_WORKING, &f), IPC_FIELD_RULE, "task_result.outcome");
                assert_string_equal(refusal.rule, "a known value");
        }
        put_text(&body, 1, "t-1");
        f = wrap(12, &body);
        assert_refused(ask(IPC_WORKER, IPC_STATE_WORKING, &f), IPC_FIELD_RULE, "task_result.outcome");
        assert_string_equal(refusal.rule, "required");
}

static void too_many_items_are_refused(void **state) {
        struct frame body = {0}, f;

        put_text(&body, 1, "collector");
        for (unsigned i = 0; i < 257; i++)
                put_text(&body, 2, "w");
        f = wrap(77, &body);
        assert_refused(ask(IPC_CLIENT, IPC_STATE_OPEN, &f), IPC_FIELD_RULE, "client_exec.argv");
        assert_string_equal(refusal.rule, "max_items 256");
}

static void broken_item_of_a_list_is_named_with_its_index(void **state) {
        struct frame body = {0}, agent = {0}, f;

        for (unsigned i = 0; i < 3; i++) {
                put_text(&agent, 1, i == 2 ? "Not A Name" : "fine");
                put_bytes(&body, 5, agent.bytes, agent.n);
                agent.n = 0;
        }
        free(agent.bytes);
        f = wrap(91, &body);
        assert_refused(ask(IPC_SUPERVISOR, IPC_STATE_ANY, &f), IPC_FIELD_RULE, "status.agents[2].name");
}

/* Each of these unpacks to something that passes every rule, from bytes that are not the one encoding of it. */
static void other_encodings_of_the_same_message_are_refused(void **state) {
        static const struct {
                const char *what, *bytes;
                size_t n;
        } same[] = {
#define B(s) s, sizeof(s) - 1
                {"padded varint in version", B("\x08\x81\x00\x10\x01\x6a\x03\x0a\x01\x61")},
                {"padded length", B("\x08\x01\x10\x01\x6a\x83\x00\x0a\x01\x61")},
                {"padded tag", B("\x88\x00\x01\x10\x01\x6a\x03\x0a\x01\x61")},
                {"explicit default", B("\x08\x01\x10\x01\x18\x00\x6a\x03\x0a\x01\x61")},
                {"explicit empty string", B("\x08\x01\x10\x01\x6a\x05\x0a\x01\x61\x12\x00")},
                {"fields out of order", B("\x10\x01\x08\x01\x6a\x03\x0a\x01\x61")},
                {"body before version", B("\x6a\x03\x0a\x01\x61\x08\x01\x10\x01")},
                {"duplicate scalar", B("\x08\x01\x10\x01\x10\x01\x6a\x03\x0a\x01\x61")},
                {"duplicate string", B("\x08\x01\x10\x01\x6a\x06\x0a\x01\x62\x0a\x01\x61")},
                {"duplicate body", B("\x08\x01\x10\x01\x6a\x03\x0a\x01\x61\x6a\x03\x0a\x01\x61")},
                {"two bodies", B("\x08\x01\x10\x01\x8a\x01\x00\x6a\x03\x0a\x01\x61")},
                {"version over 32 bits", B("\x08\x81\x80\x80\x80\x10\x10\x01\x6a\x03\x0a\x01\x61")},
#undef B
        };

        for (size_t i = 0; i < ELEMENTSOF(same); i++) {
                struct frame f = {0};
                put(&f, same[i].bytes, same[i].n);
                enum ipc_reject r = ask(IPC_WORKER, IPC_STATE_WORKING, &f);
                if (r != IPC_NOT_CANONICAL)
                        fail_msg("%s: %s %s %s", same[i].what, ipc_reject_names[r], refusal.field, refusal.rule);
        }
        struct frame f = {0};
        put(&f, "\x08\x01\x10\x01\x6a\x03\x0a\x01\x61", 9);
        assert_int_equal(ask(IPC_WORKER, IPC_STATE_WORKING, &f), IPC_ACCEPTED);
}

static void numbers_have_one_encoding(void **state) {
        struct frame body = {0}, f;

        put_number(&body, 1, 0xffffffffu); /* ExecExit.exit_code -1 in five bytes instead of ten */
        f = wrap(22, &body);
        assert_refused(ask(IPC_WORKER, IPC_STATE_READY, &f), IPC_NOT_CANONICAL, "frame");
        put_number(&body, 1, (uint64_t)-1);
        f = wrap(22, &body);
        assert_int_equal(ask(IPC_WORKER, IPC_STATE_READY, &f), IPC_ACCEPTED);
        put_text(&body, 1, "bob");
        put_number(&body, 2, 2); /* SendMessage.ask */
        f = wrap(15, &body);
        assert_refused(ask(IPC_WORKER, IPC_STATE_READY, &f), IPC_NOT_CANONICAL, "frame");
}

static void wrong_wire_type_is_refused(void **state) {
        struct frame body = {0}, f;

        put_number(&body, 1, 5); /* ToolCall.tool as a number */
        f = wrap(13, &body);
        assert_int_not_equal(ask(IPC_WORKER, IPC_STATE_WORKING, &f), IPC_ACCEPTED);
        put_text(&body, 1, "x"); /* Hello.protocol as a string */
        f = wrap(10, &body);
        assert_int_not_equal(ask(IPC_WORKER, IPC_STATE_SPAWNING, &f), IPC_ACCEPTED);
}

static size_t heap_in_use(void) {
        struct mallinfo2 m = mallinfo2();
        return m.uordblks + m.hblkhd;
}

/* The address sanitizer has its own allocator, which mallinfo2() does not see. */
#if CREW_SANITIZED
#define SEES_HEAP false
#endif
#ifndef SEES_HEAP
#define SEES_HEAP true
#endif

static void hostile_frame_cannot_inflate(void **state) {
        struct frame body = {0};

        while (body.n < MIB)
                put(&body, "\x2a\x00", 2); /* CrewDone.tasks: an empty TaskStatus, 2 bytes against 80 */
        struct frame f = wrap(97, &body);
        const Crew__Envelope *e;
        size_t before = heap_in_use();
        enum ipc_reject r = ipc_accept(arena, IPC_WORKER, IPC_STATE_ANY, f.bytes, f.n, &e, &refusal);
        size_t held = heap_in_use() - before;
        free(f.bytes);
        assert_refused(r, IPC_TOO_LARGE, "frame");
        if (SEES_HEAP)
                assert_in_range(held, 0, 3 * MIB);
}

static void arena_gives_memory_back(void **state) {
        char *big = calloc(1, MIB);

        ipc_arena_reset(arena);
        memset(big, 'x', MIB - 1);
        struct frame f = tool_call("a", big);
        free(big);
        size_t before = heap_in_use() - (f.n > 0 ? malloc_usable_size(f.bytes) : 0);
        assert_int_equal(ask(IPC_WORKER, IPC_STATE_WORKING, &f), IPC_ACCEPTED);
        if (SEES_HEAP)
                assert_true(heap_in_use() >= before + MIB);
        ipc_arena_reset(arena);
        if (SEES_HEAP)
                assert_in_range(heap_in_use(), 0, before + 1024);
}

static void arena_keeps_its_own_maximum(void **state) {
        struct ipc_arena *small = ipc_arena_new(64);
        struct frame f = tool_call("a", "{}");
        const Crew__Envelope *e;

        assert_int_equal(ipc_accept(small, IPC_WORKER, IPC_STATE_WORKING, f.bytes, f.n, &e, &refusal), IPC_TOO_LARGE);
        free(f.bytes);
        ipc_arena_free(small);
}

static void long_status_lists_are_accepted(void **state) {
        Crew__AgentStatus agents[1000], *list[1000];
        Crew__Status status = CREW__STATUS__INIT;
        Crew__Envelope e = CREW__ENVELOPE__INIT;
        struct crew_err err = CREW_ERR_NULL;
        const Crew__Envelope *got;
        uint8_t *bytes;
        size_t n;

        for (size_t i = 0; i < ELEMENTSOF(agents); i++) {
                crew__agent_status__init(list[i] = &agents[i]);
                agents[i].name = "a";
                agents[i].state = CREW__AGENT_STATE__AGENT_READY;
                agents[i].incarnation = agents[i].pid = agents[i].uid = agents[i].processes = 1;
                agents[i].up_ms = agents[i].memory_bytes = agents[i].memory_max = agents[i].cpu_ns = 1;
                agents[i].processes_max = agents[i].cpu_percent = agents[i].restarts = agents[i].landlock_abi = 1;
                agents[i].denied = agents[i].spawn_us = agents[i].audit_seq = 1;
        }
        status.agents = list;
        status.n_agents = ELEMENTSOF(list);
        e.version = e.seq = 1;
        e.body_case = CREW__ENVELOPE__BODY_STATUS;
        e.status = &status;
        assert_int_equal(ipc_pack(&e, 0, &bytes, &n, &err), 0);
        assert_int_equal(ipc_accept(arena, IPC_SUPERVISOR, IPC_STATE_ANY, bytes, n, &got, &refusal), IPC_ACCEPTED);
        assert_int_equal(got->status->n_agents, 1000);
        free(bytes);
}

/* ---- packing ---- */

static Crew__ToolCall call;
static Crew__Envelope *envelope(void) {
        static Crew__Envelope e;

        crew__tool_call__init(&call);
        crew__envelope__init(&e);
        call.tool = "t";
        e.version = e.seq = 1;
        e.body_case = CREW__ENVELOPE__BODY_TOOL_CALL;
        e.tool_call = &call;
        return &e;
}

static int try_pack(Crew__Envelope *e, struct crew_err *err) {
        uint8_t *bytes;
        size_t n;

        *err = CREW_ERR_NULL;
        int r = ipc_pack(e, 0, &bytes, &n, err);
        if (r == 0)
                free(bytes);
        return r;
}

static void packing_reserves_room_in_front(void **state) {
        struct crew_err err = CREW_ERR_NULL;
        const Crew__Envelope *got;
        uint8_t *bytes;
        size_t n;

        assert_int_equal(ipc_pack(envelope(), 13, &bytes, &n, &err), 0);
        memset(bytes, 0xee, 13);
        assert_int_equal(ipc_accept(arena, IPC_WORKER, IPC_STATE_WORKING, bytes + 13, n, &got, &refusal), IPC_ACCEPTED);
        assert_string_equal(got->tool_call->tool, "t");
        assert_string_equal(ipc_body_name(got), "tool_call");
        free(bytes);
}

static void our_own_mistakes_are_errors_when_packing(void **state) {
        struct crew_err err;
        Crew__Envelope *e = envelope();

        e->body_case = CREW__ENVELOPE__BODY__NOT_SET;
        assert_int_equal(try_pack(e, &err), -EINVAL);
        e = envelope();
        e->version = 2;
        assert_int_equal(try_pack(e, &err), -EINVAL);
        assert_string_equal(err.msg, "version: max 1");
        e = envelope();
        e->seq = 0;
        assert_int_equal(try_pack(e, &err), -EINVAL);
        e = envelope();
        call.tool = "\xff";
        assert_int_equal(try_pack(e, &err), -EINVAL);
        assert_string_equal(err.msg, "tool_call.tool: valid UTF-8");
        e = envelope();
        call.tool = NULL;
        assert_int_equal(try_pack(e, &err), -EINVAL);
        e = envelope();
        call.arguments = NULL;
        assert_int_equal(try_pack(e, &err), 0);
}

static void frame_over_its_types_cap_is_not_packed(void **state) {
        Crew__ExecStart start = CREW__EXEC_START__INIT;
        Crew__Envelope e = CREW__ENVELOPE__INIT;
        char word[4097], *argv[40];
        struct crew_err err;

        memset(word, 'w', 4096);
        word[4096] = '\0';
        for (size_t i = 0; i < ELEMENTSOF(argv); i++)
                argv[i] = word;
        start.argv = argv;
        start.n_argv = ELEMENTSOF(argv);
        e.version = e.seq = 1;
        e.body_case = CREW__ENVELOPE__BODY_EXEC_START;
        e.exec_start = &start;
        assert_int_equal(try_pack(&e, &err), -EMSGSIZE);
        argv[1] = NULL;
        assert_int_equal(try_pack(&e, &err), -EINVAL);
        assert_string_equal(err.msg, "exec_start.argv: no empty item");
}

static void sequence_has_no_gap_and_no_repeat(void **state) {
        uint64_t last = 0;

        assert_true(ipc_seq_next(&last, 1));
        assert_true(ipc_seq_next(&last, 2));
        assert_false(ipc_seq_next(&last, 2));
        assert_false(ipc_seq_next(&last, 1));
        assert_false(ipc_seq_next(&last, 4));
        assert_true(ipc_seq_next(&last, 3));
}

static int setup(void **state) {
        arena = ipc_arena_new(32u << 20);
        return arena ? 0 : -1;
}

static int teardown(void **state) {
        arena = ipc_arena_free(arena);
        return 0;
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(good_frames_are_accepted),
                cmocka_unit_test(every_truncation_is_refused),
                cmocka_unit_test(trailing_bytes_are_refused),
                cmocka_unit_test(frame_over_the_senders_cap_is_refused_unread),
                cmocka_unit_test(frame_over_its_types_cap_is_refused),
                cmocka_unit_test(deep_nesting_is_refused),
                cmocka_unit_test(unknown_fields_are_refused_at_every_level),
                cmocka_unit_test(unknown_body_type_is_refused),
                cmocka_unit_test(wrong_version_is_refused),
                cmocka_unit_test(missing_body_is_refused),
                cmocka_unit_test(body_of_another_sender_is_refused),
                cmocka_unit_test(body_in_the_wrong_state_is_refused),
                cmocka_unit_test(body_of_the_manager_is_refused_from_others),
                cmocka_unit_test(invalid_utf8_is_refused),
                cmocka_unit_test(embedded_nul_is_refused),
                cmocka_unit_test(names_keep_their_character_set),
                cmocka_unit_test(lengths_and_ranges_are_enforced),
                cmocka_unit_test(unknown_and_missing_enum_values_are_refused),
                cmocka_unit_test(too_many_items_are_refused),
                cmocka_unit_test(broken_item_of_a_list_is_named_with_its_index),
                cmocka_unit_test(other_encodings_of_the_same_message_are_refused),
                cmocka_unit_test(numbers_have_one_encoding),
                cmocka_unit_test(wrong_wire_type_is_refused),
                cmocka_unit_test(hostile_frame_cannot_inflate),
                cmocka_unit_test(arena_gives_memory_back),
                cmocka_unit_test(arena_keeps_its_own_maximum),
                cmocka_unit_test(long_status_lists_are_accepted),
                cmocka_unit_test(packing_reserves_room_in_front),
                cmocka_unit_test(our_own_mistakes_are_errors_when_packing),
                cmocka_unit_test(frame_over_its_types_cap_is_not_packed),
                cmocka_unit_test(sequence_has_no_gap_and_no_repeat),
        };

        cmocka_set_message_output(CM_OUTPUT_TAP);
        return cmocka_run_group_tests(tests, setup, teardown);
}
