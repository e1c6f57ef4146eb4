# SPDX-License-Identifier: Apache-2.0
"""A control socket that says what a test wants: the wire and the messages are real, the crew is not.

Lets tests assert output to the character (times, sizes, counts are given) and see what crewctl does with answers that a
sound crewd would not give.  Messages are made from the schema the build compiled.
"""

import os
import socket
import struct
import threading
from pathlib import Path

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

GREETING = b"\x00SP\x00\x00\x11\x00\x00"


def load_schema(build):
    files = descriptor_pb2.FileDescriptorSet()
    files.ParseFromString((Path(build) / "ipc-schema" / "crew.desc").read_bytes())
    pool = descriptor_pool.DescriptorPool()
    for f in files.file:
        pool.Add(f)
    descriptor = pool.FindMessageTypeByName("crew.Envelope")
    if hasattr(message_factory, "GetMessageClass"):
        return message_factory.GetMessageClass(descriptor)
    return message_factory.MessageFactory(pool).GetPrototype(descriptor)


class Connection:
    def __init__(self, sock, envelope):
        self.sock, self.envelope, self.seq = sock, envelope, 0

    def exactly(self, n):
        data = b""
        while len(data) < n:
            got = self.sock.recv(n - len(data))
            if not got:
                raise EOFError
            data += got
        return data

    def greet(self):
        self.sock.sendall(GREETING)
        assert self.exactly(8) == GREETING

    def receive(self):
        kind, length, hops = struct.unpack(">BQI", self.exactly(13))
        assert (kind, hops) == (1, 1)
        e = self.envelope()
        e.ParseFromString(self.exactly(length - 4))
        return e

    def send_bytes(self, data):
        self.sock.sendall(struct.pack(">BQI", 1, len(data) + 4, 1) + data)

    def send(self, body, corr=0, **fields):
        """body: name of the oneof member; fields: of its message."""
        self.seq += 1
        e = self.envelope(version=1, seq=self.seq, corr=corr)
        message = getattr(e, body)
        message.SetInParent()
        fill(message, fields)
        self.send_bytes(e.SerializeToString(deterministic=True))


def fill(message, fields):
    for key, value in fields.items():
        if isinstance(value, dict):
            getattr(message, key).SetInParent()
            fill(getattr(message, key), value)
        elif isinstance(value, list) and value and isinstance(value[0], dict):
            for item in value:
                fill(getattr(message, key).add(), item)
        elif isinstance(value, list):
            getattr(message, key).extend(value)
        else:
            setattr(message, key, value)


class FakeCrewd:
    """Listens as crew `name`; every request goes to answer(connection, envelope)."""

    def __init__(self, build, home, name, answer, crew_file="/crew.yaml"):
        self.envelope = load_schema(build)
        self.name, self.answer, self.crew_file = name, answer, crew_file
        self.requests = []
        self.dir = Path(home) / "run" / name
        self.dir.mkdir(parents=True)
        self.path = self.dir / "control.sock"
        self.listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.listener.bind(str(self.path))
        self.listener.listen(16)
        self.thread = threading.Thread(target=self.accept, daemon=True)
        self.thread.start()

    def accept(self):
        while True:
            try:
                sock, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self.serve, args=(sock,), daemon=True).start()

    def serve(self, sock):
        c = Connection(sock, self.envelope)
        try:
            c.greet()
            while True:
                e = c.receive()
                self.requests.append(e)
                if e.WhichOneof("body") == "client_hello":
                    c.send("server_hello", corr=e.seq, protocol=1, crew=self.name, version="0.1.0",
                           crew_file=self.crew_file, pid=os.getpid())
                else:
                    self.answer(c, e)
        except (EOFError, OSError):
            pass
        finally:
            sock.close()

    def close(self):
        self.listener.close()
