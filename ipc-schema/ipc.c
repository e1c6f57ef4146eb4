/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The accept pipeline and its mirror, packing.
 *
 * Guarantees: bytes that come out as accepted keep every limit of the schema and pack to the same bytes again; nothing
 * that a peer sends aborts, overflows the stack, or makes us hold more than a small multiple of what it sent.
 * Trusts: the generated tables, protobuf-c's unpack and pack.
 */
#include "ipc.h"

#include "common/util.h"
#include "ipc-schema/arena.h"
#include "ipc-schema/check.h"

#include <errno.h>
#include <string.h>

#define IPC_VERSION 1u
/* What unpacking may cost: a constant for structures, plus the frame times this.  Nothing a worker or client sends has
 * long lists, so twice its size is ample; status lists of crewd's are many small messages. */
#define UNPACK_BASE_BYTES (64u << 10)
static const uint8_t unpack_factor[IPC_SIDE_N] = {[IPC_WORKER] = 2, [IPC_CLIENT] = 2, [IPC_SUPERVISOR] = 32};

const char *const ipc_reject_names[IPC_REJECT_N] = {
        [IPC_ACCEPTED] = "accepted",           [IPC_TOO_LARGE] = "too-large",     [IPC_MALFORMED] = "malformed",
        [IPC_UNKNOWN_FIELD] = "unknown-field", [IPC_BAD_VERSION] = "bad-version", [IPC_WRONG_SENDER] = "wrong-sender",
        [IPC_WRONG_STATE] = "wrong-state",     [IPC_WRONG_ROLE] = "wrong-role",   [IPC_FIELD_RULE] = "field-rule",
        [IPC_NOT_CANONICAL] = "not-canonical",
};

static enum ipc_reject reject(struct ipc_refusal *ref, enum ipc_reject why, const char *field, const char *fmt, ...)
        __attribute__((format(printf, 4, 5)));
static enum ipc_reject reject(struct ipc_refusal *ref, enum ipc_reject why, const char *field, const char *fmt, ...) {
        va_list ap;

        ref->why = why;
        snprintf(ref->field, sizeof(ref->field), "%s", field);
        va_start(ap, fmt);
        vsnprintf(ref->rule, sizeof(ref->rule), fmt, ap);
        va_end(ap);
        return why;
}

/* The field of the body that is set, or NULL when there is no body. */
static const ProtobufCFieldDescriptor *body_field(const Crew__Envelope *e) {
        const ProtobufCFieldDescriptor *f =
                protobuf_c_message_descriptor_get_field(&crew__envelope__descriptor, e->body_case);

        return f && f->flags & PROTOBUF_C_FIELD_FLAG_ONEOF ? f : NULL;
}

static const struct message_rule *body_row(const ProtobufCFieldDescriptor *f) {
        return rules_envelope.fields[f - crew__envelope__descriptor.fields].sub;
}

/*
 * An envelope as protobuf-c is to pack it.  It looks at each field of the descriptor, in their order, and of the eighty
 * bodies one is there: with the others left out it packs the same bytes.
 */
#define PLAIN_MAX 8
struct narrowed {
        Crew__Envelope envelope;
        ProtobufCMessageDescriptor descriptor;
        ProtobufCFieldDescriptor fields[PLAIN_MAX + 1];
};

static const ProtobufCMessage *narrow(struct narrowed *x, const Crew__Envelope *e, const ProtobufCFieldDescriptor *body) {
        const uint32_t n = rules_envelope.n_plain;

        crew_assert(n <= PLAIN_MAX);
        x->envelope = *e;
        x->envelope.base.descriptor = &x->descriptor;
        x->descriptor = crew__envelope__descriptor;
        x->descriptor.fields = x->fields;
        x->descriptor.n_fields = n + 1;
        memcpy(x->fields, crew__envelope__descriptor.fields, n * sizeof(x->fields[0]));
        x->fields[n] = *body;
        return &x->envelope.base;
}

/* Compares instead of storing: is what would be packed the bytes that came? */
struct compare_buffer {
        ProtobufCBuffer base;
        const uint8_t *expected;
        size_t left;
        bool same;
};

static void compare_append(ProtobufCBuffer *base, size_t n, const uint8_t *bytes) {
        struct compare_buffer *c = (struct compare_buffer *)base;

        c->same = c->same && n <= c->left && memcmp(c->expected, bytes, n) == 0;
        if (c->same) {
                c->expected += n;
                c->left -= n;
        }
}

static bool is_canonical(const Crew__Envelope *e, const uint8_t *bytes, size_t n) {
        struct compare_buffer c = {{compare_append}, bytes, n, true};
        _not_cleared_ struct narrowed x;

        protobuf_c_message_pack_to_buffer(narrow(&x, e, body_field(e)), &c.base);
        return c.same && c.left == 0;
}

static enum ipc_reject check_row(const Crew__Envelope *e, enum ipc_side sender, uint32_t state, size_t n,
                                 struct ipc_refusal *ref) {
        const ProtobufCFieldDescriptor *body = body_field(e);

        if (!body)
                return reject(ref, IPC_FIELD_RULE, "body", "required");
        const struct message_rule *row = body_row(body);
        if (!(row->from & 1u << sender))
                return reject(ref, IPC_WRONG_SENDER, body->name, "not for this sender");
        if (!(row->states & state))
                return reject(ref, IPC_WRONG_STATE, body->name, "not in this state");
        if (row->role && !(row->role & state))
                return reject(ref, IPC_WRONG_ROLE, body->name, "for the crew's manager only");
        if (n > row->max_bytes)
                return reject(ref, IPC_TOO_LARGE, body->name, "max_bytes %u", row->max_bytes);
        return IPC_ACCEPTED;
}

static enum ipc_reject unpack(struct ipc_arena *a, enum ipc_side sender, const uint8_t *bytes, size_t n,
                              Crew__Envelope **out, struct ipc_refusal *ref) {
        size_t limit = UNPACK_BASE_BYTES + unpack_factor[sender] * n;

        arena_begin(a, limit);
        *out = crew__envelope__unpack(arena_allocator(a), n, bytes);
        if (*out)
                return IPC_ACCEPTED;
        if (arena_exhausted(a))
                return reject(ref, IPC_TOO_LARGE, "frame", "unpacks to over %zu bytes", limit);
        return reject(ref, IPC_MALFORMED, "frame", "protobuf encoding");
}

enum ipc_reject ipc_accept(struct ipc_arena *a, enum ipc_side sender, uint32_t state, const uint8_t *bytes, size_t n,
                           const Crew__Envelope **out, struct ipc_refusal *refusal) {
        Crew__Envelope *e;
        enum ipc_reject r;

        *out = NULL;
        *refusal = (struct ipc_refusal){IPC_ACCEPTED};
        if (n > ipc_max_frame[sender])
                return reject(refusal, IPC_TOO_LARGE, "frame", "max_bytes %u", ipc_max_frame[sender]);
        if ((r = unpack(a, sender, bytes, n, &e, refusal)))
                return r;
        if (!check_known(&rules_envelope, &e->base, refusal)) {
                if (!refusal->field[0])
                        snprintf(refusal->field, sizeof(refusal->field), "frame");
                return refusal->why = IPC_UNKNOWN_FIELD;
        }
        if (e->version != IPC_VERSION)
                return reject(refusal, IPC_BAD_VERSION, "version", "%u", IPC_VERSION);
        if ((r = check_row(e, sender, state, n, refusal)))
                return r;
        if (!check_rules(&rules_envelope, &e->base, true, refusal))
                return refusal->why = IPC_FIELD_RULE;
        if (!is_canonical(e, bytes, n))
                return reject(refusal, IPC_NOT_CANONICAL, "frame", "the one encoding");
        *out = e;
        return IPC_ACCEPTED;
}

int ipc_pack(const Crew__Envelope *e, size_t reserve, uint8_t **out, size_t *n, struct crew_err *err) {
        struct ipc_refusal ref = {IPC_ACCEPTED};
        const ProtobufCFieldDescriptor *body = body_field(e);
        _not_cleared_ struct narrowed x;

        if (!body)
                return crew_fail(err, EINVAL, "envelope has no body");
        if (!check_known(&rules_envelope, &e->base, &ref) || !check_rules(&rules_envelope, &e->base, false, &ref))
                return crew_fail(err, EINVAL, "%s: %s", ref.field, ref.rule);
        const ProtobufCMessage *m = narrow(&x, e, body);
        size_t size = protobuf_c_message_get_packed_size(m);
        uint32_t max = body_row(body)->max_bytes;
        if (size > max)
                return crew_fail(err, EMSGSIZE, "%s: %zu bytes, max_bytes %u", body->name, size, max);
        uint8_t *p = malloc(reserve + size);
        if (!p)
                return crew_fail(err, ENOMEM, "no memory for a frame of %zu bytes", size);
        *n = protobuf_c_message_pack(m, p + reserve);
        *out = p;
        return 0;
}

const char *ipc_body_name(const Crew__Envelope *e) {
        const ProtobufCFieldDescriptor *body = body_field(e);

        return body ? body->name : "none";
}
