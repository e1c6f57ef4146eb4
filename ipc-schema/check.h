/* SPDX-License-Identifier: Apache-2.0 */
/* The two walks over an unpacked message: unknown fields, and the field rules.  Private to ipc-schema. */
#pragma once

#include "ipc-schema/rules.h"

/* True when no message at any level kept a field that the schema does not know; else *ref names the place. */
bool check_known(const struct message_rule *rule, const ProtobufCMessage *m, struct ipc_refusal *ref);
/* True when every field keeps its rule; else *ref names field and rule.  unpacked: m came out of an ipc_arena, so
 * strings are as long as the wire said and a NUL inside shows. */
bool check_rules(const struct message_rule *rule, const ProtobufCMessage *m, bool unpacked, struct ipc_refusal *ref);
