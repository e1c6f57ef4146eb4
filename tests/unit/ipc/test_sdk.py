#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""sdk/python against google's protobuf, against the accept pipeline in C, and against a scripted crewd.

usage: test_sdk.py SOURCE_ROOT DESCRIPTOR_SET CHECK_FRAMES
"""
import json
import os
import random
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import unittest

ROOT, DESCRIPTOR_SET, CHECK_FRAMES = sys.argv[1:4]
sys.path.insert(0, os.path.join(ROOT, "sdk", "python"))

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory  # noqa: E402

import crewd  # noqa: E402
from crewd import Message, codec, wire  # noqa: E402
from crewd._schema import BODIES, ENUMS, MESSAGES  # noqa: E402

WORKER, SUPERVISOR, CLIENT = 0, 1, 2
FILLED = {"u32": 2**32 - 1, "u64": 2**64 - 1, "i32": -2**31, "bool": True}


def sample(rng, kind, max_len):
    if kind.startswith("msg:"):
        return filled(rng, kind[4:])
    if kind.startswith("enum:"):
        return rng.randrange(1, len(ENUMS[kind[5:]]))
    if kind in ("str", "bytes"):
        text = "x" * rng.randint(1, min(max_len, 63))
        return text if kind == "str" else text.encode()
    return rng.choice([1, 127, 128, 300, FILLED[kind]]) if kind in ("u32", "u64") else FILLED[kind]


def filled(rng, name):
    values = {}
    for _, field, kind, repeated, max_len in MESSAGES[name]:
        if rng.random() < 0.8:
            items = [sample(rng, kind, max_len) for _ in range(rng.randint(1, 3) if repeated else 1)]
            values[field] = items if repeated else items[0]
    return Message(name, **values)


def protobuf_classes():
    with open(DESCRIPTOR_SET, "rb") as f:
        files = descriptor_pb2.FileDescriptorSet.FromString(f.read())
    pool = descriptor_pool.DescriptorPool()
    for f in files.file:
        pool.Add(f)
    factory = message_factory.MessageFactory(pool)
    return {name: factory.GetPrototype(pool.FindMessageTypeByName(f"crew.{name}")) for name in MESSAGES}


def to_protobuf(classes, message):
    out = classes[message.type_name]()
    for _, name, kind, repeated, _ in MESSAGES[message.type_name]:
        value = message._values.get(name)
        if value is None:
            continue
        if kind.startswith("msg:"):
            target = getattr(out, name)
            if repeated:
                target.extend(to_protobuf(classes, v) for v in value)
            else:
                target.CopyFrom(to_protobuf(classes, value))
        elif repeated:
            getattr(out, name).extend(value)
        else:
            setattr(out, name, value)
    return out


def check_frames(frames):
    data = b"".join(struct.pack("<BI", side, len(f)) + f for side, f in frames)
    out = subprocess.run([CHECK_FRAMES], input=data, stdout=subprocess.PIPE, check=True).stdout.decode()
    return [line.split("|") for line in out.splitlines()]


class Codec(unittest.TestCase):
    def test_committed_schema_is_what_the_generator_writes(self):
        with tempfile.NamedTemporaryFile() as out:
            subprocess.run([sys.executable, os.path.join(ROOT, "ipc-schema", "gen_rules.py"), "python", DESCRIPTOR_SET,
                            out.name], check=True)
            with open(os.path.join(ROOT, "sdk", "python", "crewd", "_schema.py"), "rb") as committed:
                self.assertEqual(committed.read(), out.read(), "run ipc-schema/gen_rules.py python again")

    def test_encodes_and_decodes_as_protobuf_does(self):
        classes, rng = protobuf_classes(), random.Random(1)
        for name in MESSAGES:
            if name == "Envelope":
                continue
            for _ in range(20):
                message = filled(rng, name)
                data = codec.encode(message)
                self.assertEqual(data, to_protobuf(classes, message).SerializeToString(deterministic=True), name)
                self.assertEqual(codec.decode(name, data), message, name)

    def test_pipeline_in_c_takes_what_this_encodes(self):
        """Field rules are the pipeline's to judge; everything before and the canonical check must hold."""
        rng, frames, names = random.Random(2), [], []
        client = ["client_hello", "get_status", "subscribe", "run_tasks", "stop_crew", "submit_task", "kill_agent",
                  "cancel_task", "client_exec", "exec_input"]
        for body in client:
            for _ in range(20):
                message = filled(rng, BODIES[body][0])
                if body == "client_hello":
                    message._values["protocol"] = 1
                if body in ("kill_agent", "client_exec"):
                    message._values["agent"] = "a"
                if body == "cancel_task":
                    message._values["task"] = "t-7"
                if body == "submit_task":
                    message._values.update(key="k", retries=10)
                frames.append((CLIENT, codec.encode_envelope(len(frames) + 1, body, message)))
                names.append(body)
        for name, verdict in zip(names, check_frames(frames), strict=True):
            self.assertEqual(verdict[0], "accepted", f"{name}: {verdict}")

    def test_what_this_refuses_to_encode(self):
        bad = [("KillAgent", {"agent": "a" * 64}), ("KillAgent", {"agent": "a\0b"}), ("KillAgent", {"agent": "\ud800"}),
               ("KillAgent", {"agent": 5}), ("Subscribe", {"since_seq": -1}), ("Subscribe", {"since_seq": 2**64}),
               ("Subscribe", {"since_seq": "1"}), ("TaskResult", {"outcome": 99}), ("CallResult", {"error": "text"})]
        for name, values in bad:
            with self.assertRaises(crewd.CodecError, msg=f"{name} {values}"):
                codec.encode(Message(name, **values))
        with self.assertRaises(crewd.CodecError):
            Message("KillAgent", agnet="typo")
        with self.assertRaises(AttributeError):
            _ = Message("KillAgent").agnet

    def test_what_this_refuses_to_decode(self):
        bad = ["08", "0801100182", "08011001b20402", "0881001001b204020801", "100108019a0400",  # cut off, padded, order
               "08011001ba0400ba0400", "08011001ba0400b2040208010801", "08011001f82a01",  # twice, two bodies, unknown
               "080210019a0400", "08011001", "0a0101", "08011001b20404120280ff"]  # version, no body, wire type, UTF-8
        for data in bad:
            with self.assertRaises(crewd.CodecError, msg=data):
                codec.decode_envelope(bytes.fromhex(data))
        codec.decode_envelope(bytes.fromhex("08011001ba0400"))

    def test_every_byte_of_a_frame_matters(self):
        frame = codec.encode_envelope(7, "kill_agent", Message("KillAgent", agent="a", reason="why"), corr=3)
        for cut in range(len(frame)):
            with self.assertRaises(crewd.CodecError):
                codec.decode_envelope(frame[:cut])


class Documentation(unittest.TestCase):
    def setUp(self):
        with open(os.path.join(ROOT, "docs", "PROTOCOL.md"), encoding="utf-8") as f:
            self.text = f.read()

    def test_reference_is_what_the_generator_writes(self):
        with tempfile.NamedTemporaryFile("r", encoding="utf-8") as out:
            subprocess.run([sys.executable, os.path.join(ROOT, "ipc-schema", "gen_rules.py"), "reference", DESCRIPTOR_SET,
                            out.name], check=True)
            self.assertTrue(self.text.endswith(out.read()), "run ipc-schema/gen_rules.py reference again")

    def test_example_bytes_are_what_they_are_said_to_be(self):
        lines = self.text.split("```wire\n")[1].split("```")[0].splitlines()
        streams = {"client": b"", "crewd": b""}
        for line in lines:
            who, data = line.split(">")
            streams[who.strip()] += bytes.fromhex(data)
        frames = {}
        for who, data in streams.items():
            ours, theirs = socket.socketpair()
            with ours, theirs:
                theirs.sendall(data)
                w = wire.Wire(ours)
                frames[who] = [w.recv() for _ in range(2)]
        decoded = [codec.decode_envelope(f) for who in frames for f in frames[who]]
        self.assertEqual([(e.seq, e.corr, body) for e, body, _ in decoded],
                         [(1, 0, "client_hello"), (2, 0, "kill_agent"), (1, 1, "server_hello"), (2, 2, "refused")])
        self.assertEqual(decoded[0][2], Message("ClientHello", protocol=1, client="demo"))
        self.assertEqual(decoded[1][2], Message("KillAgent", agent="writer", reason="odd queries"))
        self.assertEqual(decoded[2][2].crew_file, "/srv/demo/crew.yaml")
        self.assertEqual(decoded[3][2].hint, "agents: reader")
        verdicts = check_frames([(CLIENT, f) for f in frames["client"]] + [(SUPERVISOR, f) for f in frames["crewd"]])
        self.assertEqual([v[0] for v in verdicts], ["accepted"] * 4)


class FakeCrewd(threading.Thread):
    """Accepts one client and runs script(wire, answer) with it."""

    def __init__(self, script, greet=True):
        super().__init__(daemon=True)
        self.directory = tempfile.TemporaryDirectory()
        # Longer than a socket address: the client must cope.
        self.deep = os.path.join(self.directory.name, "d" * 100)
        os.mkdir(self.deep)
        self.path = os.path.join(self.deep, "control.sock")
        self.listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        at = os.open(self.deep, os.O_PATH)
        self.listener.bind(f"/proc/self/fd/{at}/control.sock")
        os.close(at)
        self.listener.listen(1)
        self.script, self.greet, self.seq, self.error = script, greet, 0, None
        self.start()

    def answer(self, body, message, corr):
        self.seq += 1
        self.wire.send(codec.encode_envelope(self.seq, body, message, corr))

    def take(self, body):
        envelope, got, message = codec.decode_envelope(self.wire.recv())
        assert got == body, f"{got}, not {body}"
        return envelope.seq, message

    def run(self):
        try:
            self.conn, _ = self.listener.accept()
            if self.greet:
                self.wire = wire.Wire(self.conn)
                seq, _ = self.take("client_hello")
                self.answer("server_hello", Message("ServerHello", protocol=1, crew="c", version="1", pid=9), seq)
            self.script(self)
        except Exception as e:  # noqa: BLE001
            self.error = e
        finally:
            self.conn.close()

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.join(60)
        self.listener.close()
        self.directory.cleanup()
        if exc[0] is None and self.error:
            raise self.error


class ClientTests(unittest.TestCase):
    def test_status_and_greeting(self):
        def script(s):
            seq, _ = s.take("get_status")
            s.answer("status", Message("Status", crew="c", agents=[Message("AgentStatus", name="a", state=3)]), seq)

        with FakeCrewd(script) as s, crewd.Client(path=s.path) as c:
            self.assertEqual((c.crew, c.pid), ("c", 9))
            agents = c.status().agents
            self.assertEqual([(a.name, a.state) for a in agents], [("a", crewd.AgentState.READY)])
            self.assertEqual(json.loads(json.dumps(agents[0].to_dict()))["state"], "READY")

    def test_answers_find_their_requests_in_any_order(self):
        def script(s):
            first, _ = s.take("submit_task")
            s.answer("task_accepted", Message("TaskAccepted", task_id="t-1"), first)
            second, _ = s.take("submit_task")
            s.answer("task_accepted", Message("TaskAccepted", task_id="t-2"), second)
            s.answer("task_done", Message("TaskDone", task_id="t-2", outcome=1, result='{"n": 2}'), second)
            s.answer("event", Message("Event", event_seq=1, kind="log", text="between"), 0)
            s.answer("task_done", Message("TaskDone", task_id="t-1", outcome=1, result='{"n": 1}'), first)
            s.take("subscribe")

        with FakeCrewd(script) as s, crewd.Client(path=s.path) as c:
            one, two = c.submit("a"), c.submit("b", input={"x": "ü"})
            self.assertEqual((one.result(60), two.result(60)), ({"n": 1}, {"n": 2}))
            self.assertEqual(next(c.events(60)).text, "between")
            c.subscribe()

    def test_a_task_is_cancelled_by_what_it_is_called(self):
        def script(s):
            submit, _ = s.take("submit_task")
            s.answer("task_accepted", Message("TaskAccepted", task_id="t-1"), submit)
            for wanted in ("t-1", "collect"):
                seq, request = s.take("cancel_task")
                self.assertEqual((request.task, request.reason), (wanted, "late"))
                s.answer("task_cancelled", Message("TaskCancelled", task_id="t-1", task="collect", agent="a", running=True), seq)
            s.answer("task_done", Message("TaskDone", task_id="t-1", outcome=4, error="cancelled by you: late"), submit)
            for code in ("over", "unknown-task"):
                seq, _ = s.take("cancel_task")
                s.answer("refused", Message("Refused", code=code, message="no"), seq)

        with FakeCrewd(script) as s, crewd.Client(path=s.path) as c:
            task = c.submit("collect")
            self.assertTrue(task.cancel("late").running)
            self.assertEqual(c.cancel("collect", reason="late").agent, "a")
            with self.assertRaises(crewd.TaskFailed) as raised:
                task.result(60)
            self.assertEqual(raised.exception.outcome, crewd.Outcome.CANCELLED)
            with self.assertRaises(crewd.Refused) as raised:
                task.cancel()
            self.assertEqual(raised.exception.code, "over")
            with self.assertRaises(crewd.UnknownTask):
                c.cancel("t-9")

    def test_refusals_are_typed(self):
        def script(s):
            for code in ("unknown-agent", "not-running", "something-new"):
                seq, _ = s.take("kill_agent")
                s.answer("refused", Message("Refused", code=code, message="no", hint="agents: a, b"), seq)

        with FakeCrewd(script) as s, crewd.Client(path=s.path) as c:
            for kind in (crewd.UnknownAgent, crewd.NotRunning, crewd.Refused):
                with self.assertRaises(kind) as raised:
                    c.kill("x")
                self.assertEqual(raised.exception.hint, "agents: a, b")
                self.assertIsInstance(raised.exception, RuntimeError)

    def test_termination_carries_its_record(self):
        def script(s):
            seq, _ = s.take("submit_task")
            s.answer("task_accepted", Message("TaskAccepted", task_id="t-1"), seq)
            record = Message("AgentTerminated", agent="a", cause=5, term_signal=9)
            s.answer("task_done", Message("TaskDone", task_id="t-1", outcome=5, error="oom", terminated=record), seq)
            seq, _ = s.take("submit_task")
            s.answer("task_accepted", Message("TaskAccepted", task_id="t-2"), seq)
            s.answer("task_done", Message("TaskDone", task_id="t-2", outcome=2, error="broke"), seq)

        with FakeCrewd(script) as s, crewd.Client(path=s.path) as c:
            with self.assertRaises(crewd.AgentTerminated) as raised:
                c.submit("a").result(60)
            self.assertEqual(raised.exception.cause, crewd.Cause.OOM)
            with self.assertRaises(crewd.TaskFailed) as raised:
                c.submit("a").result(60)
            self.assertEqual(raised.exception.outcome, crewd.Outcome.FAILED)

    def test_exec_collects_both_streams(self):
        def script(s):
            seq, message = s.take("client_exec")
            assert message.argv == ["cat", "-"]
            data = b""
            while True:
                _, message = s.take("exec_input")
                data += message.data
                if message.eof:
                    break
            s.answer("exec_output", Message("ExecOutput", stream=1, data=data[:10]), seq)
            s.answer("exec_output", Message("ExecOutput", stream=2, data=b"note"), seq)
            s.answer("exec_output", Message("ExecOutput", stream=1, data=data[10:20]), seq)
            s.answer("done", Message("Done", exit_code=len(data) % 251), seq)

        with FakeCrewd(script) as s, crewd.Client(path=s.path) as c:
            done, out, err = c.exec("a", ["cat", "-"], input=b"0123456789" * 20000, timeout=60)
            self.assertEqual((out, err, done.exit_code), (b"0123456789" * 2, b"note", 200000 % 251))

    def test_timeout_is_an_error_of_its_own(self):
        def script(s):
            s.take("get_status")
            s.take("stop_crew")
            s.conn.recv(1)

        with FakeCrewd(script) as s, crewd.Client(path=s.path) as c:
            c.timeout = 0.2  # not for the greeting, which may take longer
            with self.assertRaises(TimeoutError):
                c.status()
            with self.assertRaises(crewd.CrewdError):
                c.stop()

    def test_hang_up_ends_every_wait(self):
        def script(s):
            s.take("run_tasks")
            s.answer("event", Message("Event", event_seq=1, kind="log"), 0)

        with FakeCrewd(script) as s, crewd.Client(path=s.path) as c:
            with self.assertRaises(crewd.ConnectionClosed):
                c.run(timeout=60)
            self.assertEqual(len(list(c.events(60))), 1)
            with self.assertRaises(crewd.ConnectionClosed):
                c.status()

    def test_garbage_is_a_protocol_error(self):
        header = struct.pack(">BQ", 1, 6) + b"\0\0\0\1"
        huge = struct.pack(">BQ", 1, 2**63)
        for garbage in (header + b"\xff\xff", huge, b"\2" + header[1:], header[:-1] + b"\2ab",
                        header + bytes.fromhex("0801")):
            with FakeCrewd(lambda s, g=garbage: (s.conn.sendall(g), s.conn.recv(1))) as s:
                with crewd.Client(path=s.path) as c, self.assertRaises(crewd.ProtocolError):
                    c.status()

    def test_gap_in_the_sequence_is_a_protocol_error(self):
        def script(s):
            seq, _ = s.take("get_status")
            s.seq += 1
            s.answer("status", Message("Status", crew="c"), seq)

        with FakeCrewd(script) as s, crewd.Client(path=s.path) as c, self.assertRaises(crewd.ProtocolError):
            c.status()

    def test_another_protocol_is_refused(self):
        def script(s):
            s.conn.sendall(b"HTTP/1.1 400\r\n\r\n")
            s.conn.recv(64)  # until the client has said its greeting

        with FakeCrewd(script, greet=False) as s:
            with self.assertRaises(crewd.ProtocolError):
                crewd.Client(path=s.path, timeout=60)

    def test_no_crew_is_said_so(self):
        with tempfile.TemporaryDirectory() as home:
            os.environ["CREWD_HOME"] = home
            with self.assertRaisesRegex(crewd.ConnectError, "no crew is running"):
                crewd.Client()
            for name in ("b", "a"):
                os.makedirs(os.path.join(home, "run", name))
                open(os.path.join(home, "run", name, "control.sock"), "w").close()
            with self.assertRaisesRegex(crewd.ConnectError, "several crews are running: a, b"):
                crewd.Client()

    def test_too_large_a_request_is_not_sent(self):
        def script(s):
            s.take("get_status")
            s.conn.recv(1)  # until the client leaves

        with FakeCrewd(script) as s, crewd.Client(path=s.path) as c:
            with self.assertRaises(ValueError):
                c.kill("a" * 64)
            c.timeout = 0.3
            with self.assertRaises(TimeoutError):
                c.status()  # the sequence has no gap


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1])
