#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""From a FileDescriptorSet with the options of rules.proto, at build time:

  gen_rules.py plain  SET OUT     the same messages without options, for protoc-c (which has no use for them)
  gen_rules.py tables SET OUT.c   the rule tables of ipc-schema/rules.h
  gen_rules.py python SET OUT.py  the schema table of sdk/python
  gen_rules.py reference SET OUT  the message reference of docs/PROTOCOL.md

Every mode first checks that the schema bounds what a peer can make us hold: a field without a limit, a string without
a character set, a recursive message or a type that has no one encoding ends the build with the field's name.
"""
import os
import sys

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

MAX_FRAME = 16 << 20  # IPC_MAX_FRAME in ipc.h
SIDES = {"worker": "IPC_WORKER", "supervisor": "IPC_SUPERVISOR", "client": "IPC_CLIENT"}
STATES = {"spawning": "SPAWNING", "ready": "READY", "working": "WORKING", "stopping": "STOPPING", "new": "NEW",
          "open": "OPEN"}
ROLES = {"": "0", "manager": "IPC_STATE_MANAGER"}
CHARSETS = ["UNSET", "TEXT", "NAME", "TOOL", "TOKEN", "JSON", "AGENT"]

FD = descriptor_pb2.FieldDescriptorProto
UNSIGNED = {FD.TYPE_UINT32: (1 << 32) - 1, FD.TYPE_UINT64: (1 << 64) - 1}
SCALARS = set(UNSIGNED) | {FD.TYPE_INT32, FD.TYPE_INT64, FD.TYPE_BOOL}


class SchemaError(Exception):
    pass


def need(cond, where, text):
    if not cond:
        raise SchemaError(f"{where}: {text}")


class Schema:
    """The messages of the one file that is ours, with their rules."""

    def __init__(self, blob):
        files = descriptor_pb2.FileDescriptorSet.FromString(blob)
        pool = descriptor_pool.DescriptorPool()
        for f in files.file:
            pool.Add(f)
        self._field_ext = pool.FindExtensionByName("crew.rules.f")
        self._message_ext = pool.FindExtensionByName("crew.rules.m")
        factory = message_factory.MessageFactory(pool)
        self._field_options = factory.GetPrototype(pool.FindMessageTypeByName("google.protobuf.FieldOptions"))
        self._message_options = factory.GetPrototype(pool.FindMessageTypeByName("google.protobuf.MessageOptions"))
        ours = [f for f in files.file if f.package == "crew"]
        need(len(ours) == 1, "schema", "exactly one file has package crew")
        self.file = ours[0]
        self.messages = {m.name: m for m in self.file.message_type}
        self.enums = {e.name: e for e in self.file.enum_type}

    def rule(self, field):
        return self._field_options.FromString(field.options.SerializeToString()).Extensions[self._field_ext]

    def row(self, message):
        return self._message_options.FromString(message.options.SerializeToString()).Extensions[self._message_ext]

    def sub(self, field):
        return self.messages[field.type_name.removeprefix(".crew.")]

    def bodies(self):
        """(field of Envelope, message) for each member of the oneof."""
        return [(f, self.sub(f)) for f in self.messages["Envelope"].field if f.HasField("oneof_index")]


def check_field(schema, message, field):
    where = f"{message.name}.{field.name}"
    rule = schema.rule(field)
    need(not field.proto3_optional, where, "proto3 optional is not understood by protoc-c")
    need(field.label != FD.LABEL_REQUIRED, where, "required is not proto3")
    if field.label == FD.LABEL_REPEATED:
        need(rule.max_items > 0, where, "a repeated field needs max_items")
        need(field.type in (FD.TYPE_STRING, FD.TYPE_BYTES, FD.TYPE_MESSAGE), where, "packed scalars are not supported")
    else:
        need(not rule.max_items, where, "max_items is for repeated fields")
    if field.type in (FD.TYPE_STRING, FD.TYPE_BYTES):
        need(0 < rule.max_len <= MAX_FRAME, where, "a string or bytes field needs max_len")
        need(rule.min_len <= rule.max_len, where, "min_len is over max_len")
    else:
        need(not rule.max_len and not rule.min_len, where, "max_len and min_len are for strings and bytes")
    if field.type == FD.TYPE_STRING:
        need(rule.charset, where, "a string needs a charset")
        need(CHARSETS[rule.charset] not in ("NAME", "TOOL", "AGENT") or rule.max_len <= 63, where, "a name has at most 63 bytes")
    else:
        need(not rule.charset, where, "charset is for strings")
    if rule.min or rule.max:
        need(field.type in UNSIGNED, where, "min and max are for unsigned integers")
        need(max(rule.min, rule.max) <= UNSIGNED[field.type], where, "min or max does not fit the type")
        need(not rule.max or rule.min <= rule.max, where, "min is over max")
    if rule.required:
        need(field.type in (FD.TYPE_MESSAGE, FD.TYPE_ENUM) and field.label != FD.LABEL_REPEATED
             and not field.HasField("oneof_index"), where, "required is for single messages and enums")
    need(field.type in SCALARS | {FD.TYPE_STRING, FD.TYPE_BYTES, FD.TYPE_MESSAGE, FD.TYPE_ENUM}, where,
         "this type is not supported (no floats, fixed, zigzag, groups)")


def check_not_recursive(schema, message, above=()):
    need(message.name not in above, message.name, "recursive through " + " -> ".join(above + (message.name,)))
    for f in message.field:
        if f.type == FD.TYPE_MESSAGE:
            check_not_recursive(schema, schema.sub(f), above + (message.name,))


def check_body(schema, field, message):
    row = schema.row(message)
    senders = getattr(row, "from").split("|")
    need(0 < row.max_bytes <= MAX_FRAME, message.name, "a body needs max_bytes, at most 16 MiB")
    for s in senders:
        need(s in SIDES, message.name, f"from: '{s}' is not worker, supervisor or client")
    states = row.states.split("|") if row.states else []
    for s in states:
        need(s in STATES, message.name, f"states: '{s}' is unknown")
    need(row.role in ROLES, message.name, f"role: '{row.role}' is unknown")
    need(not row.role or senders == ["worker"], message.name, "role is for bodies of workers")
    need(states or senders == ["supervisor"], message.name, "a body that a worker or client may send needs states")
    for f in message.field:
        need(schema.rule(f).max_len < row.max_bytes, f"{message.name}.{f.name}", "max_len is over the message's max_bytes")


def n_plain(message):
    """How many fields come before the first of the oneof."""
    fields = sorted(message.field, key=lambda f: f.number)
    return next((i for i, f in enumerate(fields) if f.HasField("oneof_index")), len(fields))


def check(schema):
    need("Envelope" in schema.messages, "schema", "no message Envelope")
    need(schema.file.syntax == "proto3", "schema", "not proto3")
    for m in schema.file.message_type:
        need(not m.nested_type and not m.enum_type, m.name, "nested types and maps are not supported")
    for m in schema.file.message_type:
        for f in m.field:
            check_field(schema, m, f)
        need(m.name == "Envelope" or not m.oneof_decl, m.name, "only Envelope has a oneof")
        need(len(m.oneof_decl) <= 1 and n_plain(m) == sum(not f.HasField("oneof_index") for f in m.field), m.name,
             "a message has one oneof at most, whose fields have the highest numbers")
        check_not_recursive(schema, m)
    for field, message in schema.bodies():
        need(field.type == FD.TYPE_MESSAGE, f"Envelope.{field.name}", "a body is a message")
        check_body(schema, field, message)
    for e in schema.file.enum_type:
        need(e.value[0].number == 0, e.name, "the first value is 0")


def plain(schema):
    f = descriptor_pb2.FileDescriptorProto()
    f.CopyFrom(schema.file)
    f.ClearField("dependency")
    f.ClearField("source_code_info")
    for m in f.message_type:
        m.ClearField("options")
        for field in m.field:
            field.ClearField("options")
    return descriptor_pb2.FileDescriptorSet(file=[f]).SerializeToString()


def bits(words, table, prefix):
    return " | ".join(f"{prefix}{table[w]}" for w in words)


def snake(name):
    return "".join(("_" if i and c.isupper() else "") + c.lower() for i, c in enumerate(name))


def field_initialiser(schema, field):
    rule = schema.rule(field)
    parts = [f".id = {field.number}"]
    for key in ("max_len", "min_len", "max_items"):
        if getattr(rule, key):
            parts.append(f".{key} = {getattr(rule, key)}u")
    for key in ("min", "max"):
        if getattr(rule, key):
            parts.append(f".{key} = {getattr(rule, key)}u")
    if rule.charset:
        parts.append(f".charset = CHARSET_{CHARSETS[rule.charset]}")
    if rule.required:
        parts.append(".required = true")
    if field.type == FD.TYPE_MESSAGE:
        parts.append(f".sub = &rules_{snake(schema.sub(field).name)}")
    return "        {" + ", ".join(parts) + "},"


def message_table(schema, message):
    name = snake(message.name)
    out = []
    fields = sorted(message.field, key=lambda f: f.number)  # the order of protobuf-c's descriptors
    if fields:
        out.append(f"static const struct field_rule fields_{name}[] = {{")
        out += [field_initialiser(schema, f) for f in fields]
        out.append("};")
    row = schema.row(message)
    parts = [f".desc = &crew__{name}__descriptor", f".n_fields = {len(fields)}", f".n_plain = {n_plain(message)}"]
    if fields:
        parts.append(f".fields = fields_{name}")
    if message.oneof_decl:
        parts.append(f".case_offset = offsetof(Crew__{message.name}, {message.oneof_decl[0].name}_case)")
    if row.max_bytes:
        senders = " | ".join(f"1u << {SIDES[s]}" for s in getattr(row, "from").split("|"))
        states = bits(row.states.split("|"), STATES, "IPC_STATE_") if row.states else "IPC_STATE_ANY"
        parts += [f".max_bytes = {row.max_bytes}u", f".from = {senders}", f".states = {states}"]
        if row.role:
            parts.append(f".role = {ROLES[row.role]}")
    linkage = "" if message.name == "Envelope" else "static "
    out.append(f"{linkage}const struct message_rule rules_{name} = {{")
    out.append("        " + ",\n        ".join(parts) + ",")
    out.append("};")
    return out


def in_dependency_order(schema):
    done = {}

    def visit(m):
        for f in m.field:
            if f.type == FD.TYPE_MESSAGE:
                visit(schema.sub(f))
        done.setdefault(m.name, m)

    visit(schema.messages["Envelope"])
    return list(done.values())


def tables(schema):
    out = ["/* Generated by gen_rules.py from crew.proto; do not edit. */", '#include "ipc-schema/rules.h"', ""]
    for m in in_dependency_order(schema):
        out += message_table(schema, m) + [""]
    largest = {s: 0 for s in SIDES}
    for _, m in schema.bodies():
        row = schema.row(m)
        for s in getattr(row, "from").split("|"):
            largest[s] = max(largest[s], row.max_bytes)
    out.append("const uint32_t ipc_max_frame[IPC_SIDE_N] = {")
    out += [f"        [{SIDES[s]}] = {n}u," for s, n in largest.items()]
    out.append("};")
    return ("\n".join(out) + "\n").encode()


PY_TYPES = {FD.TYPE_UINT32: "u32", FD.TYPE_UINT64: "u64", FD.TYPE_INT32: "i32", FD.TYPE_INT64: "i64",
            FD.TYPE_BOOL: "bool", FD.TYPE_STRING: "str", FD.TYPE_BYTES: "bytes"}


def python_field(schema, f):
    kind = PY_TYPES.get(f.type)
    if f.type == FD.TYPE_ENUM:
        kind = "enum:" + f.type_name.removeprefix(".crew.")
    elif f.type == FD.TYPE_MESSAGE:
        kind = "msg:" + f.type_name.removeprefix(".crew.")
    limit = schema.rule(f).max_len
    return f"({f.number}, {f.name!r}, {kind!r}, {f.label == FD.LABEL_REPEATED}, {limit})".replace("'", '"')


def python(schema):
    out = ["# SPDX-License-Identifier: Apache-2.0",
           '"""Made by ipc-schema/gen_rules.py from crew.proto; do not edit (a test compares)."""', "",
           "# message: (number, name, type, repeated, max_len) by number", "MESSAGES = {"]
    for m in schema.file.message_type:
        fields = sorted(m.field, key=lambda f: f.number)
        out.append(f'    "{m.name}": [')
        out += [f"        {python_field(schema, f)}," for f in fields]
        out.append("    ],")
    out += ["}", "", "# field of Envelope: (message, max_bytes)", "BODIES = {"]
    out += [f'    "{f.name}": ("{m.name}", {schema.row(m).max_bytes}),' for f, m in schema.bodies()]
    out += ["}", "", "ENUMS = {"]
    for e in schema.file.enum_type:
        prefix = os.path.commonprefix([v.name for v in e.value])
        out.append(f'    "{e.name}": {{')
        out += [f'        "{v.name.removeprefix(prefix) if v.number else "UNSET"}": {v.number},' for v in e.value]
        out.append("    },")
    out += ["}"]
    return ("\n".join(out) + "\n").encode()


TYPE_NAMES = {FD.TYPE_UINT32: "uint32", FD.TYPE_UINT64: "uint64", FD.TYPE_INT32: "int32", FD.TYPE_INT64: "int64",
              FD.TYPE_BOOL: "bool", FD.TYPE_STRING: "string", FD.TYPE_BYTES: "bytes"}


def limits(rule):
    out = [CHARSETS[rule.charset]] if rule.charset else []
    if rule.max_len:
        out.append(f"{rule.min_len}..{rule.max_len} bytes" if rule.min_len else f"at most {rule.max_len} bytes")
    if rule.max_items:
        out.append(f"at most {rule.max_items} items")
    if rule.min or rule.max:
        out.append(f"at least {rule.min}" if not rule.max else f"{rule.min}..{rule.max}" if rule.min != rule.max
                   else f"{rule.min}")
    if rule.required:
        out.append("required")
    return ", ".join(out)


def reference_message(schema, index, message, comments):
    row = schema.row(message)
    bodies = [f.number for f, m in schema.bodies() if m is message]
    out = [f"### {message.name}", ""]
    facts = [comments.get((4, index), "")]
    if bodies:
        states = f" in state {row.states.replace('|', ', ')}" if row.states else ""
        role = f" of the {row.role}" if row.role else ""
        facts.append(f"Body {bodies[0]}, from {getattr(row, 'from').replace('|', ' or ')}{role}{states}, frame at most "
                     f"{row.max_bytes} bytes.")
    if any(facts):
        out += [" ".join(f for f in facts if f), ""]
    if message.field:
        out += ["| no. | field | type | limits | |", "|--:|---|---|---|---|"]
    for n, f in enumerate(message.field):
        kind = TYPE_NAMES.get(f.type) or f.type_name.removeprefix(".crew.")
        kind = f"list of {kind}" if f.label == FD.LABEL_REPEATED else kind
        note = comments.get((4, index, 2, n), "").replace("|", "\\|")
        out.append(f"| {f.number} | `{f.name}` | {kind} | {limits(schema.rule(f))} | {note} |")
    return out + ([""] if message.field else [])


def reference(schema):
    """Messages and enums with their limits and the comments beside them in crew.proto."""
    comments = {tuple(loc.path): " ".join(loc.trailing_comments.split()) for loc in schema.file.source_code_info.location
                if loc.trailing_comments}
    comments = {k: v[0].upper() + v[1:] + "." if len(k) == 2 else v for k, v in comments.items()}
    out = []
    for i, m in enumerate(schema.file.message_type):
        if m.name != "Envelope":
            out += reference_message(schema, i, m, comments)
    for e in schema.file.enum_type:
        out += [f"### {e.name}", "", ", ".join(f"{v.number} `{v.name}`" for v in e.value), ""]
    return "\n".join(out).encode()


MODES = {"plain": plain, "tables": tables, "python": python, "reference": reference}


def main(argv):
    if len(argv) != 4 or argv[1] not in MODES:
        print(__doc__, file=sys.stderr)
        return 2
    with open(argv[2], "rb") as f:
        blob = f.read()
    try:
        schema = Schema(blob)
        check(schema)
        text = MODES[argv[1]](schema)
    except SchemaError as e:
        print(f"gen_rules.py: {e}", file=sys.stderr)
        return 1
    with open(argv[3], "wb") as f:
        f.write(text)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv))
