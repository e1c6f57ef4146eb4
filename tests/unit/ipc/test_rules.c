/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Properties of every message in the schema, found through the generated tables: each type is filled to its limits and
 * must pass; each limit is then exceeded by one and must be refused with that field's name.
 */
#include "common/util.h"
#include "ipc-schema/rules.h"

#include <string.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#define NESTED_TEXT_MAX 200u /* longer fields are filled to this, so that lists of them fit their frame */

static struct ipc_arena *arena;

/* ---- filling a message by its rules ---- */

static void *zeroed(size_t n) {
        void *p = calloc(1, n ? n : 1);
        assert_non_null(p);
        return p;
}

static char *text_of(const struct field_rule *r, size_t n) {
        char *s = zeroed(n + 1);
        memset(s, r->charset == CHARSET_TEXT ? '~' : 'a', n);
        return s;
}

static void *new_message(const struct message_rule *rule, bool top);

static void fill_one(const struct field_rule *r, const ProtobufCFieldDescriptor *f, void *at, bool top) {
        size_t n = top ? r->max_len : MIN_OF(r->max_len, NESTED_TEXT_MAX);

        switch (f->type) {
        case PROTOBUF_C_TYPE_STRING:
                *(char **)at = text_of(r, n);
                break;
        case PROTOBUF_C_TYPE_BYTES:
                *(ProtobufCBinaryData *)at = (ProtobufCBinaryData){n, (uint8_t *)text_of(r, n)};
                break;
        case PROTOBUF_C_TYPE_MESSAGE:
                *(void **)at = new_message(r->sub, false);
                break;
        case PROTOBUF_C_TYPE_ENUM: {
                const ProtobufCEnumDescriptor *e = f->descriptor;
                *(int *)at = e->values[e->n_values - 1].value;
                break;
        }
        case PROTOBUF_C_TYPE_UINT32:
                *(uint32_t *)at = r->max ? (uint32_t)r->max : UINT32_MAX;
                break;
        case PROTOBUF_C_TYPE_UINT64:
                *(uint64_t *)at = r->max ? r->max : UINT64_MAX;
                break;
        case PROTOBUF_C_TYPE_INT32:
                *(int32_t *)at = INT32_MIN;
                break;
        case PROTOBUF_C_TYPE_BOOL:
                *(protobuf_c_boolean *)at = true;
                break;
        default:
                fail_msg("%s: a type the schema should not have", f->name);
        }
}

static void fill(const struct message_rule *rule, const struct field_rule *r, ProtobufCMessage *m, bool top) {
        const ProtobufCFieldDescriptor *f = &rule->desc->fields[r - rule->fields];
        uint8_t *at = (uint8_t *)m + f->offset;

        if (f->label != PROTOBUF_C_LABEL_REPEATED) {
                fill_one(r, f, at, top);
                return;
        }
        size_t n = 2, size = f->type == PROTOBUF_C_TYPE_BYTES ? sizeof(ProtobufCBinaryData) : sizeof(void *);
        uint8_t *items = zeroed(n * size);
        for (size_t i = 0; i < n; i++)
                fill_one(r, f, items + i * size, false);
        *(uint8_t **)at = items;
        *(size_t *)((uint8_t *)m + f->quantifier_offset) = n;
}

static void *new_message(const struct message_rule *rule, bool top) {
        ProtobufCMessage *m = zeroed(rule->desc->sizeof_message);

        rule->desc->message_init(m);
        for (uint32_t i = 0; i < rule->n_fields; i++)
                fill(rule, &rule->fields[i], m, top);
        return m;
}

/* The types are filled with malloc'd parts only, so protobuf-c can free them. */
static void free_message(void *m) {
        protobuf_c_message_free_unpacked(m, NULL);
}

static Crew__Envelope envelope_of(uint32_t body_field, void *body) {
        Crew__Envelope e = CREW__ENVELOPE__INIT;

        e.version = e.seq = 1;
        e.corr = e.deadline_ms = UINT64_MAX;
        e.body_case = body_field;
        e.hello = body; /* a union of pointers */
        return e;
}

static enum ipc_side sender_of(const struct message_rule *row) {
        for (enum ipc_side s = 0; s < IPC_SIDE_N; s++) {
                if (row->from & 1u << s)
                        return s;
        }
        fail_msg("%s: nobody may send it", row->desc->name);
        return IPC_SIDE_N;
}

static enum ipc_reject offer(const struct message_rule *row, const Crew__Envelope *e, struct ipc_refusal *refusal) {
        const Crew__Envelope *got;
        size_t n = crew__envelope__get_packed_size(e);
        uint8_t *bytes = zeroed(n);

        assert_int_equal(crew__envelope__pack(e, bytes), n);
        enum ipc_reject r = ipc_accept(arena, sender_of(row), row->states | row->role, bytes, n, &got, refusal);
        if (r == IPC_ACCEPTED) {
                uint8_t *again;
                size_t again_n;
                struct crew_err err = CREW_ERR_NULL;
                if (ipc_pack(got, 0, &again, &again_n, &err) < 0)
                        fail_msg("accepted, but not packed: %s", err.msg);
                assert_int_equal(again_n, n);
                assert_memory_equal(again, bytes, n);
                free(again);
        }
        free(bytes);
        return r;
}

/* Calls check for every body of the schema. */
static void each_body(void (*check)(uint32_t field, const struct message_rule *row, const char *name)) {
        unsigned bodies = 0;

        for (uint32_t i = 0; i < rules_envelope.n_fields; i++) {
                const struct field_rule *r = &rules_envelope.fields[i];
                if (!r->sub)
                        continue;
                check(r->id, r->sub, rules_envelope.desc->fields[i].name);
                bodies++;
        }
        assert_true(bodies >= 40);
}

static void walk(const struct message_rule *rule) {
        assert_int_equal(rule->n_fields, rule->desc->n_fields);
        for (uint32_t i = 0; i < rule->n_fields; i++) {
                const ProtobufCFieldDescriptor *f = &rule->desc->fields[i];
                assert_int_equal(rule->fields[i].id, f->id);
                assert_int_equal(rule->fields[i].sub != NULL, f->type == PROTOBUF_C_TYPE_MESSAGE);
                if (rule->fields[i].sub) {
                        assert_ptr_equal(rule->fields[i].sub->desc, f->descriptor);
                        walk(rule->fields[i].sub);
                }
        }
}

static void tables_follow_the_descriptors(void **state) {
        walk(&rules_envelope);
}

static void check_full(uint32_t field, const struct message_rule *row, const char *name) {
        struct ipc_refusal refusal;
        void *body = new_message(row, true);
        Crew__Envelope e = envelope_of(field, body);
        enum ipc_reject r = offer(row, &e, &refusal);

        if (r != IPC_ACCEPTED)
                fail_msg("%s: %s %s %s", name, ipc_reject_names[r], refusal.field, refusal.rule);
        free_message(body);
}

static void every_type_filled_to_its_limits_is_accepted(void **state) {
        each_body(check_full);
}

static void check_empty(uint32_t field, const struct message_rule *row, const char *name) {
        ProtobufCMessage *body = zeroed(row->desc->sizeof_message);
        struct ipc_refusal refusal;
        bool needs_something = false;

        row->desc->message_init(body);
        for (uint32_t i = 0; i < row->n_fields; i++)
                needs_something |= row->fields[i].required || row->fields[i].min || row->fields[i].min_len;
        Crew__Envelope e = envelope_of(field, body);
        if (offer(row, &e, &refusal) != (needs_something ? IPC_FIELD_RULE : IPC_ACCEPTED))
                fail_msg("%s: empty is %s %s %s", name, ipc_reject_names[refusal.why], refusal.field, refusal.rule);
        free(body);
}

static void empty_types_pass_only_when_nothing_is_required(void **state) {
        each_body(check_empty);
}

/* Breaks the first value of one field by one step beyond its rule; false when it has no such rule. */
static bool exceed(const struct field_rule *r, const ProtobufCFieldDescriptor *f, ProtobufCMessage *m) {
        uint8_t *at = (uint8_t *)m + f->offset;
        bool repeated = f->label == PROTOBUF_C_LABEL_REPEATED;

        if (repeated)
                at = *(uint8_t **)at;
        if (f->type == PROTOBUF_C_TYPE_STRING) {
                free(*(char **)at);
                *(char **)at = text_of(r, (size_t)r->max_len + 1);
        } else if (f->type == PROTOBUF_C_TYPE_BYTES) {
                ProtobufCBinaryData *b = (ProtobufCBinaryData *)at;
                free(b->data);
                *b = (ProtobufCBinaryData){(size_t)r->max_len + 1, (uint8_t *)text_of(r, (size_t)r->max_len + 1)};
        } else if (f->type == PROTOBUF_C_TYPE_ENUM) {
                *(int *)at += 1;
        } else if (f->type == PROTOBUF_C_TYPE_UINT32 && r->max) {
                *(uint32_t *)at = (uint32_t)r->max + 1;
        } else if (f->type == PROTOBUF_C_TYPE_UINT64 && r->max) {
                *(uint64_t *)at = r->max + 1;
        } else {
                return false;
        }
        return true;
}

static unsigned exceeded;

static void exceed_each(uint32_t field, const struct message_rule *row, const char *name, const struct message_rule *rule,
                        const size_t *path, size_t depth, const char *where);

/* The message that path leads to, from the body. */
static ProtobufCMessage *follow(ProtobufCMessage *m, const size_t *path, size_t depth) {
        for (size_t i = 0; i < depth; i++) {
                const ProtobufCFieldDescriptor *f = &m->descriptor->fields[path[i]];
                void *at = *(void **)((uint8_t *)m + f->offset);
                m = f->label == PROTOBUF_C_LABEL_REPEATED ? *(ProtobufCMessage **)at : at;
        }
        return m;
}

static void exceed_one(uint32_t field, const struct message_rule *row, const struct message_rule *rule, size_t i,
                       const size_t *path, size_t depth, const char *where) {
        struct ipc_refusal refusal;
        ProtobufCMessage *body = new_message(row, depth == 0);

        if (exceed(&rule->fields[i], &rule->desc->fields[i], follow(body, path, depth))) {
                Crew__Envelope e = envelope_of(field, body);
                enum ipc_reject r = offer(row, &e, &refusal);
                /* A field may be as large as its frame: then the cap of the type speaks first. */
                if (r != IPC_TOO_LARGE && (r != IPC_FIELD_RULE || strcmp(refusal.field, where) != 0))
                        fail_msg("%s exceeded: %s %s %s", where, ipc_reject_names[r], refusal.field, refusal.rule);
                exceeded += r == IPC_FIELD_RULE;
        }
        free_message(body);
}

static void exceed_each(uint32_t field, const struct message_rule *row, const char *name, const struct message_rule *rule,
                        const size_t *path, size_t depth, const char *where) {
        for (size_t i = 0; i < rule->n_fields; i++) {
                const ProtobufCFieldDescriptor *f = &rule->desc->fields[i];
                char here[96];
                size_t deeper[4];
                bool item = rule->fields[i].sub && f->label == PROTOBUF_C_LABEL_REPEATED;

                snprintf(here, sizeof(here), "%s.%s%s", where, f->name, item ? "[0]" : "");
                if (rule->fields[i].sub) {
                        assert_true(depth < ELEMENTSOF(deeper));
                        memcpy(deeper, path, depth * sizeof(*path));
                        deeper[depth] = i;
                        exceed_each(field, row, name, rule->fields[i].sub, deeper, depth + 1, here);
                } else {
                        exceed_one(field, row, rule, i, path, depth, here);
                }
        }
}

static void check_exceeded(uint32_t field, const struct message_rule *row, const char *name) {
        size_t path[1] = {0};

        exceed_each(field, row, name, row, path, 0, name);
}

static void every_limit_exceeded_by_one_is_refused_by_name(void **state) {
        exceeded = 0;
        each_body(check_exceeded);
        assert_true(exceeded > 100);
}

static void check_senders(uint32_t field, const struct message_rule *row, const char *name) {
        ProtobufCMessage *body = new_message(row, false);
        Crew__Envelope e = envelope_of(field, body);
        size_t n = crew__envelope__get_packed_size(&e);
        uint8_t *bytes = zeroed(n);
        struct ipc_refusal refusal;
        const Crew__Envelope *got;

        crew__envelope__pack(&e, bytes);
        for (enum ipc_side s = 0; s < IPC_SIDE_N; s++) {
                bool may = row->from & 1u << s;
                assert_int_equal(ipc_accept(arena, s, IPC_STATE_ANY, bytes, n, &got, &refusal),
                                 may ? IPC_ACCEPTED : IPC_WRONG_SENDER);
                if (may && row->states != IPC_STATE_ANY)
                        assert_int_equal(ipc_accept(arena, s, ~row->states, bytes, n, &got, &refusal), IPC_WRONG_STATE);
        }
        free(bytes);
        free_message(body);
}

static void every_type_is_accepted_from_its_senders_and_states_only(void **state) {
        each_body(check_senders);
}

static int setup(void **state) {
        arena = ipc_arena_new(64u << 20);
        return arena ? 0 : -1;
}

static int teardown(void **state) {
        arena = ipc_arena_free(arena);
        return 0;
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(tables_follow_the_descriptors),
                cmocka_unit_test(every_type_filled_to_its_limits_is_accepted),
                cmocka_unit_test(empty_types_pass_only_when_nothing_is_required),
                cmocka_unit_test(every_limit_exceeded_by_one_is_refused_by_name),
                cmocka_unit_test(every_type_is_accepted_from_its_senders_and_states_only),
        };

        cmocka_set_message_output(CM_OUTPUT_TAP);
        return cmocka_run_group_tests(tests, setup, teardown);
}
