#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""The build must fail on a schema that bounds nothing, and say which field it is.

usage: test_gen_rules.py SOURCE_ROOT PROTOC
"""
import os
import subprocess
import sys
import tempfile
import unittest

ROOT, PROTOC = sys.argv[1:3]
SCHEMA = os.path.join(ROOT, "ipc-schema")
HEAD = """
syntax = "proto3";
package crew;
import "rules.proto";
message Envelope { uint32 version = 1; oneof body { Body body_field = 2; } }
"""
ROW = 'option (rules.m) = {max_bytes: 1000, from: "worker", states: "ready"};'


def generate(proto, mode="tables"):
    """(exit status, standard error, what was written or None)."""
    with tempfile.TemporaryDirectory() as tmp:
        source, blob, out = (os.path.join(tmp, n) for n in ("t.proto", "t.desc", "out"))
        with open(source, "w", encoding="utf-8") as f:
            f.write(proto)
        subprocess.run([PROTOC, "-I", tmp, "-I", SCHEMA, "--include_imports", f"--descriptor_set_out={blob}", source],
                       stderr=subprocess.DEVNULL, check=True)
        r = subprocess.run([sys.executable, os.path.join(SCHEMA, "gen_rules.py"), mode, blob, out],
                           stderr=subprocess.PIPE, check=False)
        written = None
        if os.path.exists(out):
            with open(out, encoding="utf-8", errors="replace") as f:
                written = f.read()
        return r.returncode, r.stderr.decode(), written


def body(fields, row=ROW, more=""):
    return HEAD + f"message Body {{ {row} {fields} }}\n{more}"


class Refused(unittest.TestCase):
    def refused(self, proto, text):
        for mode in ("tables", "plain", "python"):
            status, err, written = generate(proto, mode)
            self.assertEqual(status, 1, err)
            self.assertIn(text, err)
            self.assertIsNone(written)

    def test_control_schema_passes(self):
        status, err, written = generate(body('string s = 1 [(rules.f) = {max_len: 5, charset: TEXT}];'))
        self.assertEqual((status, err), (0, ""))
        self.assertIn(".max_len = 5u, .charset = CHARSET_TEXT", written)

    def test_string_without_limit(self):
        self.refused(body('string s = 1 [(rules.f) = {charset: TEXT}];'), "Body.s: a string or bytes field needs max_len")

    def test_bytes_without_limit(self):
        self.refused(body('bytes b = 1;'), "Body.b: a string or bytes field needs max_len")

    def test_string_without_charset(self):
        self.refused(body('string s = 1 [(rules.f) = {max_len: 5}];'), "Body.s: a string needs a charset")

    def test_repeated_without_limit(self):
        self.refused(body('repeated string s = 1 [(rules.f) = {max_len: 5, charset: TEXT}];'),
                     "Body.s: a repeated field needs max_items")

    def test_nested_field_without_limit(self):
        self.refused(body('Inner i = 1;', more='message Inner { bytes deep = 1; }'), "Inner.deep: a string or bytes")

    def test_recursive_message(self):
        self.refused(body('Body again = 1;'), "recursive through")

    def test_message_recursive_through_another(self):
        self.refused(body('Inner i = 1;', more='message Inner { Body back = 1; }'), "recursive through")

    def test_list_of_scalars(self):
        self.refused(body('repeated uint32 n = 1 [(rules.f) = {max_items: 5}];'), "packed scalars")

    def test_types_with_more_than_one_encoding(self):
        for kind in ("double", "float", "fixed32", "sint64"):
            self.refused(body(f'{kind} n = 1;'), "Body.n: this type is not supported")

    def test_map(self):
        self.refused(body('map<string, string> m = 1;'), "nested types and maps are not supported")

    def test_optional(self):
        self.refused(body('optional uint32 n = 1;'), "Body.n: proto3 optional")

    def test_body_without_row(self):
        self.refused(body('uint32 n = 1;', row=''), "Body: a body needs max_bytes")

    def test_body_of_a_worker_without_states(self):
        self.refused(body('', row='option (rules.m) = {max_bytes: 9, from: "worker"};'), "needs states")

    def test_unknown_side_or_state(self):
        self.refused(body('', row='option (rules.m) = {max_bytes: 9, from: "wroker", states: "ready"};'), "'wroker'")
        self.refused(body('', row='option (rules.m) = {max_bytes: 9, from: "worker", states: "raedy"};'), "'raedy'")

    def test_unknown_role_and_role_of_a_client(self):
        self.refused(body('', row='option (rules.m) = {max_bytes: 9, from: "worker", states: "ready", role: "boss"};'), "'boss'")
        self.refused(body('', row='option (rules.m) = {max_bytes: 9, from: "client", states: "open", role: "manager"};'),
                     "role is for bodies of workers")

    def test_field_larger_than_its_frame(self):
        self.refused(body('bytes b = 1 [(rules.f) = {max_len: 1000}];'), "max_len is over the message's max_bytes")

    def test_plain_field_behind_the_oneof(self):
        late = body('').replace("uint32 version = 1;", "uint32 version = 1; uint32 late = 9;")
        self.refused(late, "Envelope: a message has one oneof at most, whose fields have the highest numbers")

    def test_rules_that_do_not_fit_the_type(self):
        self.refused(body('uint32 n = 1 [(rules.f) = {max_len: 5}];'), "are for strings and bytes")
        self.refused(body('int32 n = 1 [(rules.f) = {min: 1}];'), "are for unsigned integers")
        self.refused(body('uint32 n = 1 [(rules.f) = {max: 4294967296}];'), "does not fit")
        self.refused(body('uint32 n = 1 [(rules.f) = {required: true}];'), "required is for")
        self.refused(body('string n = 1 [(rules.f) = {max_len: 64, charset: NAME}];'), "at most 63")


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1])
