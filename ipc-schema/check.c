/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Walks an unpacked message along its rule table.
 *
 * Guarantees: depth is bounded by the schema (gen_rules.py refuses recursion), items by max_items, and no text of the
 * message itself gets into a refusal.  Trusts protobuf-c's descriptors and unpacked structures.
 */
#include "ipc-schema/check.h"

#include "common/util.h"
#include "ipc-schema/arena.h"

#include <string.h>

static bool refuse(struct ipc_refusal *ref, const char *name, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
static bool refuse(struct ipc_refusal *ref, const char *name, const char *fmt, ...) {
        va_list ap;

        snprintf(ref->field, sizeof(ref->field), "%s", name);
        va_start(ap, fmt);
        vsnprintf(ref->rule, sizeof(ref->rule), fmt, ap);
        va_end(ap);
        return false;
}

/* The place was named from the inside; each level above puts its own field in front. */
static bool within(struct ipc_refusal *ref, const ProtobufCFieldDescriptor *f, size_t item) {
        char inner[sizeof(ref->field)];

        memcpy(inner, ref->field, sizeof(inner));
        const char *dot = *inner ? "." : "";
        if (f->label == PROTOBUF_C_LABEL_REPEATED)
                snprintf(ref->field, sizeof(ref->field), "%s[%zu]%s%.60s", f->name, item, dot, inner);
        else
                snprintf(ref->field, sizeof(ref->field), "%s%s%.60s", f->name, dot, inner);
        return false;
}

/* Where the values of one field are: n of them, `stride` apart.  An absent one has n = 0. */
struct values {
        const uint8_t *at;
        size_t n, stride;
};

static size_t value_size(ProtobufCType type) {
        switch (type) {
        case PROTOBUF_C_TYPE_STRING:
        case PROTOBUF_C_TYPE_MESSAGE:
                return sizeof(void *);
        case PROTOBUF_C_TYPE_BYTES:
                return sizeof(ProtobufCBinaryData);
        default: /* not repeated in any schema that gen_rules.py lets through */
                return 0;
        }
}

static struct values values_of(const ProtobufCMessage *m, const ProtobufCFieldDescriptor *f) {
        const uint8_t *at = (const uint8_t *)m + f->offset;

        if (f->label == PROTOBUF_C_LABEL_REPEATED) {
                size_t n = *(const size_t *)((const uint8_t *)m + f->quantifier_offset);
                return (struct values){*(const uint8_t *const *)at, n, value_size(f->type)};
        }
        if (f->flags & PROTOBUF_C_FIELD_FLAG_ONEOF &&
            *(const uint32_t *)((const uint8_t *)m + f->quantifier_offset) != f->id)
                return (struct values){NULL, 0, 0};
        if (f->type == PROTOBUF_C_TYPE_MESSAGE && !*(const void *const *)at)
                return (struct values){NULL, 0, 0};
        return (struct values){at, 1, 0};
}

/* The field of the oneof that is set: the others need no look, and Envelope has sixty.  NULL: none. */
static const ProtobufCFieldDescriptor *chosen(const struct message_rule *rule, const ProtobufCMessage *m) {
        if (!rule->case_offset)
                return NULL;
        uint32_t id = *(const uint32_t *)((const uint8_t *)m + rule->case_offset);
        return id ? protobuf_c_message_descriptor_get_field(rule->desc, id) : NULL;
}

static const struct field_rule *rule_of(const struct message_rule *rule, const ProtobufCFieldDescriptor *f) {
        return &rule->fields[f - rule->desc->fields];
}

static bool known_within(const struct message_rule *rule, const ProtobufCFieldDescriptor *f, const ProtobufCMessage *m,
                         struct ipc_refusal *ref) {
        const struct message_rule *sub_rule = rule_of(rule, f)->sub;

        if (!sub_rule)
                return true;
        struct values v = values_of(m, f);
        for (size_t k = 0; k < v.n; k++) {
                const ProtobufCMessage *sub = *(const ProtobufCMessage *const *)(v.at + k * v.stride);
                if (sub && !check_known(sub_rule, sub, ref))
                        return within(ref, f, k);
        }
        return true;
}

bool check_known(const struct message_rule *rule, const ProtobufCMessage *m, struct ipc_refusal *ref) {
        const ProtobufCFieldDescriptor *f = chosen(rule, m);

        if (m->n_unknown_fields > 0)
                return refuse(ref, "", "unknown field %u", m->unknown_fields[0].tag);
        for (uint32_t i = 0; i < rule->n_plain; i++) {
                if (!known_within(rule, &rule->desc->fields[i], m, ref))
                        return false;
        }
        return !f || known_within(rule, f, m, ref);
}

static size_t ascii_prefix(const char *s, size_t n) {
        size_t i = 0;

        for (uint64_t word; i + sizeof(word) <= n; i += sizeof(word)) {
                memcpy(&word, s + i, sizeof(word));
                if (word & 0x8080808080808080u)
                        break;
        }
        return i;
}

static bool text_ok(const char *s, size_t n) {
        size_t ascii = ascii_prefix(s, n);
        return crew_utf8_ok(s + ascii, n - ascii);
}

static bool name_ok(const char *s, size_t n) {
        return n == 0 || crew_name_ok(s); /* min_len is what forbids an empty one */
}

static bool tool_ok(const char *s, size_t n) {
        return n == 0 || crew_tool_name_ok(s);
}

static bool agent_ok(const char *s, size_t n) {
        return n == 0 || crew_agent_name_ok(s);
}

static bool token_ok(const char *s, size_t n) {
        for (size_t i = 0; i < n; i++) {
                if (s[i] < 0x21 || s[i] > 0x7e)
                        return false;
        }
        return true;
}

static const struct {
        const char *rule;
        bool (*ok)(const char *s, size_t n);
} charsets[] = {
        [CHARSET_TEXT] = {"valid UTF-8", text_ok},
        [CHARSET_NAME] = {"a name of [a-z0-9-]", name_ok},
        [CHARSET_TOOL] = {"a name of [a-z0-9_-]", tool_ok},
        [CHARSET_TOKEN] = {"printable ASCII without blanks", token_ok},
        [CHARSET_JSON] = {"valid UTF-8", text_ok},
        [CHARSET_AGENT] = {"a name of [a-z0-9-], maybe with #N", agent_ok},
};

static bool check_length(const struct field_rule *r, const char *name, size_t n, struct ipc_refusal *ref) {
        if (n > r->max_len)
                return refuse(ref, name, "max_len %u", r->max_len);
        if (n < r->min_len)
                return refuse(ref, name, "min_len %u", r->min_len);
        return true;
}

static bool check_string(const struct field_rule *r, const char *name, const char *s, bool unpacked,
                         struct ipc_refusal *ref) {
        size_t n;

        if (!s)
                s = protobuf_c_empty_string;
        if (unpacked && s != protobuf_c_empty_string) {
                n = arena_block_size(s) - 1; /* protobuf-c adds a NUL to what the wire had */
                if (memchr(s, '\0', n))
                        return refuse(ref, name, "no NUL");
        } else {
                n = strlen(s);
        }
        if (!check_length(r, name, n, ref))
                return false;
        if (!charsets[r->charset].ok(s, n))
                return refuse(ref, name, "%s", charsets[r->charset].rule);
        return true;
}

static bool check_range(const struct field_rule *r, const char *name, uint64_t v, struct ipc_refusal *ref) {
        if (v < r->min)
                return refuse(ref, name, "min %llu", (unsigned long long)r->min);
        if (r->max && v > r->max)
                return refuse(ref, name, "max %llu", (unsigned long long)r->max);
        return true;
}

static bool check_enum(const struct field_rule *r, const ProtobufCFieldDescriptor *f, int v, struct ipc_refusal *ref) {
        if (!protobuf_c_enum_descriptor_get_value(f->descriptor, v))
                return refuse(ref, f->name, "a known value");
        if (r->required && v == 0)
                return refuse(ref, f->name, "required");
        return true;
}

static bool check_bytes(const struct field_rule *r, const char *name, const ProtobufCBinaryData *b,
                        struct ipc_refusal *ref) {
        if (b->len && !b->data)
                return refuse(ref, name, "data present");
        return check_length(r, name, b->len, ref);
}

static bool check_value(const struct field_rule *r, const ProtobufCFieldDescriptor *f, const void *at, bool unpacked,
                        struct ipc_refusal *ref) {
        switch (f->type) {
        case PROTOBUF_C_TYPE_STRING:
                return check_string(r, f->name, *(const char *const *)at, unpacked, ref);
        case PROTOBUF_C_TYPE_BYTES:
                return check_bytes(r, f->name, at, ref);
        case PROTOBUF_C_TYPE_ENUM:
                return check_enum(r, f, *(const int *)at, ref);
        case PROTOBUF_C_TYPE_UINT32:
                return check_range(r, f->name, *(const uint32_t *)at, ref);
        case PROTOBUF_C_TYPE_UINT64:
                return check_range(r, f->name, *(const uint64_t *)at, ref);
        case PROTOBUF_C_TYPE_MESSAGE:
                return true;
        default: /* signed integers and booleans have no rules */
                return true;
        }
}

/* Items of a repeated field are named with their index; so are sub-messages on the way out. */
static bool check_field(const struct field_rule *r, const ProtobufCFieldDescriptor *f, const ProtobufCMessage *m,
                        bool unpacked, struct ipc_refusal *ref) {
        struct values v = values_of(m, f);
        bool repeated = f->label == PROTOBUF_C_LABEL_REPEATED;

        if (repeated && v.n > r->max_items)
                return refuse(ref, f->name, "max_items %u", r->max_items);
        if (v.n == 0 && !repeated && r->required)
                return refuse(ref, f->name, "required");
        for (size_t i = 0; i < v.n; i++) {
                const void *at = v.at + i * v.stride;
                if (repeated && f->type != PROTOBUF_C_TYPE_BYTES && !*(const void *const *)at)
                        return refuse(ref, f->name, "no empty item");
                if (!check_value(r, f, at, unpacked, ref))
                        return false;
                if (r->sub && !check_rules(r->sub, *(const ProtobufCMessage *const *)at, unpacked, ref))
                        return within(ref, f, i);
        }
        return true;
}

bool check_rules(const struct message_rule *rule, const ProtobufCMessage *m, bool unpacked, struct ipc_refusal *ref) {
        const ProtobufCFieldDescriptor *f = chosen(rule, m);

        for (uint32_t i = 0; i < rule->n_plain; i++) {
                if (!check_field(&rule->fields[i], &rule->desc->fields[i], m, unpacked, ref))
                        return false;
        }
        return !f || check_field(rule_of(rule, f), f, m, unpacked, ref);
}
