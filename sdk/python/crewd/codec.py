# SPDX-License-Identifier: Apache-2.0
"""The protobuf encoding of crew.proto's messages, from the table in _schema.py.

crewd takes one encoding of a message only: fields by number, defaults left out, shortest varints.  encode() makes that
one; decode() refuses any other, as crewd does, so a frame that decodes says exactly what was sent.
"""
import enum

from ._schema import BODIES, ENUMS, MESSAGES

VERSION = 1


class CodecError(ValueError):
    """A message that cannot be encoded, or bytes that are not a message of the schema."""


_ENUM_TYPES = {name: enum.IntEnum(name, values, module=__name__) for name, values in ENUMS.items()}
Outcome = _ENUM_TYPES["Outcome"]
Cause = _ENUM_TYPES["Cause"]
AgentState = _ENUM_TYPES["AgentState"]

_DEFAULTS = {"u32": 0, "u64": 0, "i32": 0, "i64": 0, "bool": False, "str": "", "bytes": b""}
_RANGES = {"u32": (0, 2**32 - 1), "u64": (0, 2**64 - 1), "i32": (-2**31, 2**31 - 1), "i64": (-2**63, 2**63 - 1)}


class Message:
    """One message; fields are attributes, absent ones have their default (None for messages, [] for lists)."""

    __slots__ = ("_type", "_values")

    def __init__(self, type_name, **values):
        if type_name not in MESSAGES:
            raise CodecError(f"no message {type_name}")
        known = {name for _, name, _, _, _ in MESSAGES[type_name]}
        for name in values:
            if name not in known:
                raise CodecError(f"{type_name} has no field '{name}'")
        self._type = type_name
        self._values = {k: v for k, v in values.items() if v is not None}

    @property
    def type_name(self):
        return self._type

    def __getattr__(self, name):
        if name.startswith("_"):
            raise AttributeError(name)
        if name in self._values:
            return self._values[name]
        for _, field, kind, repeated, _ in MESSAGES[self._type]:
            if field == name:
                return _default(kind, repeated)
        raise AttributeError(f"{self._type} has no field '{name}'")

    def __eq__(self, other):
        return isinstance(other, Message) and self._type == other._type and encode(self) == encode(other)

    __hash__ = None

    def __repr__(self):
        return f"{self._type}({', '.join(f'{k}={v!r}' for k, v in self._values.items())})"

    def to_dict(self):
        """Every field, defaults too; enums by name, bytes as they are: what json.dumps takes where there are no bytes."""
        return {name: _plain(getattr(self, name)) for _, name, _, _, _ in MESSAGES[self._type]}


def _plain(value):
    if isinstance(value, Message):
        return value.to_dict()
    if isinstance(value, list):
        return [_plain(v) for v in value]
    return value.name if isinstance(value, enum.Enum) else value


def _default(kind, repeated):
    if repeated:
        return []
    if kind.startswith("enum:"):
        return _ENUM_TYPES[kind[5:]](0)
    return _DEFAULTS.get(kind)


# ---- encoding ----

def _varint(v):
    out = bytearray()
    while v > 0x7F:
        out.append(v & 0x7F | 0x80)
        v >>= 7
    out.append(v)
    return bytes(out)


def _number(kind, value, where):
    if kind == "bool":
        return _varint(1 if value else 0)
    if kind.startswith("enum:"):
        try:
            return _varint(_ENUM_TYPES[kind[5:]](value))
        except ValueError:
            raise CodecError(f"{where}: {value!r} is no {kind[5:]}") from None
    low, high = _RANGES[kind]
    if not isinstance(value, int) or not low <= value <= high:
        raise CodecError(f"{where}: {value!r} is not in {low}..{high}")
    return _varint(value & 2**64 - 1)  # negative numbers take ten bytes


def _payload(kind, value, max_len, where):
    if kind.startswith("msg:"):
        if not isinstance(value, Message) or value.type_name != kind[4:]:
            raise CodecError(f"{where}: a {kind[4:]} is expected")
        return encode(value, where)
    if not isinstance(value, str if kind == "str" else (bytes, bytearray)):
        raise CodecError(f"{where}: {kind} is expected, got {type(value).__name__}")
    try:
        data = value.encode() if kind == "str" else bytes(value)
    except UnicodeEncodeError:
        raise CodecError(f"{where}: not valid Unicode") from None
    if len(data) > max_len:
        raise CodecError(f"{where}: {len(data)} bytes, at most {max_len} are allowed")
    if kind == "str" and b"\0" in data:
        raise CodecError(f"{where}: contains a NUL")
    return data


def _is_length_delimited(kind):
    return kind in ("str", "bytes") or kind.startswith("msg:")


def encode(message, where=None):
    """The one encoding of a Message."""
    out = bytearray()
    where = where or message.type_name
    for number, name, kind, repeated, max_len in MESSAGES[message.type_name]:
        value = message._values.get(name)
        here = f"{where}.{name}"
        if value is None or (not repeated and not kind.startswith("msg:") and value == _default(kind, False)):
            continue
        for item in value if repeated else [value]:
            if _is_length_delimited(kind):
                data = _payload(kind, item, max_len, here)
                out += _varint(number << 3 | 2) + _varint(len(data)) + data
            else:
                out += _varint(number << 3) + _number(kind, item, here)
    return bytes(out)


def encode_envelope(seq, body, message, corr=0, deadline_ms=0):
    """A frame: body is the field's name in Envelope ("get_status"), message its Message."""
    if body not in BODIES or BODIES[body][0] != message.type_name:
        raise CodecError(f"'{body}' is no body of type {message.type_name}")
    frame = encode(Message("Envelope", version=VERSION, seq=seq, corr=corr, deadline_ms=deadline_ms, **{body: message}))
    if len(frame) > BODIES[body][1]:
        raise CodecError(f"{body}: {len(frame)} bytes, at most {BODIES[body][1]} are allowed")
    return frame


# ---- decoding ----

def _read_varint(data, at):
    value = shift = 0
    while True:
        if at >= len(data) or shift > 63:
            raise CodecError("a number is cut off or too long")
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7


def _from_number(kind, value, where):
    if kind == "bool":
        return bool(value)
    if kind.startswith("enum:"):
        try:
            return _ENUM_TYPES[kind[5:]](value)
        except ValueError:
            raise CodecError(f"{where}: unknown value {value}") from None
    if kind in ("i32", "i64") and value >= 2**63:
        value -= 2**64
    low, high = _RANGES[kind]
    if not low <= value <= high:
        raise CodecError(f"{where}: {value} is out of range")
    return value


def _from_payload(kind, data, max_len, where):
    if kind.startswith("msg:"):
        return _decode(kind[4:], data, where)
    if len(data) > max_len:
        raise CodecError(f"{where}: {len(data)} bytes, at most {max_len} are allowed")
    if kind == "bytes":
        return bytes(data)
    try:
        return bytes(data).decode()
    except UnicodeDecodeError:
        raise CodecError(f"{where}: not valid UTF-8") from None


_BY_NUMBER = {name: {f[0]: f for f in fields} for name, fields in MESSAGES.items()}


def _decode(type_name, data, where):
    values, at = {}, 0
    while at < len(data):
        tag, at = _read_varint(data, at)
        field = _BY_NUMBER[type_name].get(tag >> 3)
        if field is None:
            raise CodecError(f"{where}: unknown field {tag >> 3}")
        _, name, kind, repeated, max_len = field
        here = f"{where}.{name}"
        if tag & 7 != (2 if _is_length_delimited(kind) else 0):
            raise CodecError(f"{here}: wrong wire type")
        value, at = _read_varint(data, at)
        if _is_length_delimited(kind):
            if value > len(data) - at:
                raise CodecError(f"{here}: cut off")
            value, at = _from_payload(kind, data[at:at + value], max_len, here), at + value
        else:
            value = _from_number(kind, value, here)
        if repeated:
            values.setdefault(name, []).append(value)
        else:
            values[name] = value
    return Message(type_name, **values)


def decode(type_name, data):
    """The Message that data is the one encoding of."""
    message = _decode(type_name, memoryview(data), type_name)
    if encode(message) != bytes(data):
        raise CodecError(f"{type_name}: not the canonical encoding")
    return message


def decode_envelope(frame):
    """(envelope, name of its body, the body's Message)."""
    envelope = decode("Envelope", frame)
    if envelope.version != VERSION:
        raise CodecError(f"version {envelope.version} is not spoken here")
    present = [name for name in BODIES if name in envelope._values]
    if len(present) != 1:
        raise CodecError("an envelope has one body")
    if len(frame) > BODIES[present[0]][1]:
        raise CodecError(f"{present[0]}: {len(frame)} bytes, at most {BODIES[present[0]][1]} are allowed")
    return envelope, present[0], getattr(envelope, present[0])
