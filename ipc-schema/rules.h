/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The field rules and the message table, as gen_rules.py writes them from the options in crew.proto.
 * Private to ipc-schema; fields stand in the order of protobuf-c's descriptor (by number).
 */
#pragma once

#include "ipc-schema/ipc.h"

enum charset {
        CHARSET_UNSET,
        CHARSET_TEXT,
        CHARSET_NAME,
        CHARSET_TOOL,
        CHARSET_TOKEN,
        CHARSET_JSON,
        CHARSET_AGENT,
};

struct message_rule;
struct field_rule {
        const struct message_rule *sub; /* message fields */
        uint64_t min, max;              /* unsigned integers; max 0: none */
        uint32_t id;
        uint32_t max_len, min_len; /* strings and bytes */
        uint32_t max_items;        /* repeated */
        uint8_t charset;
        bool required;
};

struct message_rule {
        const ProtobufCMessageDescriptor *desc;
        const struct field_rule *fields;
        uint32_t n_fields;
        uint32_t n_plain;     /* fields outside the oneof, which come first */
        uint32_t case_offset; /* of the number of the oneof's field that is set; 0: there is no oneof */
        uint32_t max_bytes;   /* bodies: of the whole frame */
        uint32_t from;        /* bodies: 1 << enum ipc_side */
        uint32_t states;      /* bodies: IPC_STATE_* */
        uint32_t role;        /* bodies: IPC_STATE_MANAGER, or 0 */
};

extern const struct message_rule rules_envelope;
