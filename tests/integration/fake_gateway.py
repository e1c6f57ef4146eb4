#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""A crew-gateway that says what a test wants said: crewd's side of common/gate.h without the real one.

It stands in a copy of the programs as crew-gateway, and so inherits crewd's starting environment: FAKE_GATEWAY names a
directory with play.json and gets heard.jsonl.
  play.json: {"refuse": TEXT, "ca": PEM, "on_add": [MESSAGE...], "on_policy": MESSAGE (none: it dies; null: silence), "on_remove": [MESSAGE...],
              "first_dies": bool}
"""

import array
import hashlib
import json
import os
import socket
import struct
import sys

HELLO, DENIED, ALLOWED, CLOSED, HTTP, ASK, ASK_GONE, APPLIED, REJECTED, REMOVED, PONG = range(64, 75)
ADD, REMOVE, POLICY, ANSWER, PING = range(1, 6)
LISTENERS = 4
FORMAT = "=10I4Q256s64s256s160s96s"
NAMES = ["op", "id", "proto", "port", "count", "generation", "ask", "scope", "verdict", "status", "conn", "up", "down",
         "duration_us", "name", "peer", "where", "text", "why"]


def pack(**fields):
    values = []
    for i, name in enumerate(NAMES):
        v = fields.get(name, "" if i >= 14 else 0)
        values.append(v.encode() if i >= 14 else v)
    return struct.pack(FORMAT, *values)


def unpack(data):
    values = struct.unpack(FORMAT, data)
    return {n: v.split(b"\0")[0].decode() if isinstance(v, bytes) else v for n, v in zip(NAMES, values)}


def main():
    top = os.environ["FAKE_GATEWAY"]
    with open(f"{top}/play.json") as f:
        play = json.load(f)
    heard = open(f"{top}/heard.jsonl", "a", buffering=1)
    first = os.path.getsize(f"{top}/heard.jsonl") == 0
    args = sys.argv[1:]
    heard.write(json.dumps({"args": args[:1] + args[2:], "secret": os.environ.get("SECRET_TOKEN")}) + "\n")
    sock = socket.socket(fileno=int(args[1]))

    def say(message, **more):
        sock.sendmsg([pack(**{**message, **more})])

    if play.get("refuse"):
        say({"op": HELLO, "text": play["refuse"]})
        return 1
    if play.get("first_dies") and first:
        return 3
    if play.get("ca"):
        fd = os.memfd_create("ca")
        os.write(fd, play["ca"].encode())
        sock.sendmsg([pack(op=HELLO)], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [fd]))])
    else:
        say({"op": HELLO})
    kept = []
    while True:
        data, anc, _, _ = sock.recvmsg(4096, socket.CMSG_SPACE(64))
        if not data:
            return 0
        m = unpack(data)
        fds = array.array("i")
        for _, _, payload in anc:
            fds.frombytes(payload)
        kept.append(fds)
        policy = os.pread(fds[-1], 1 << 20, 0) if m["op"] in (ADD, POLICY) else b""
        heard.write(json.dumps({**{k: m[k] for k in ("op", "id", "generation", "ask", "verdict", "scope", "text")},
                                "fds": len(fds), "magic": policy[:4].decode(), "sha256": hashlib.sha256(policy).hexdigest()}) + "\n")
        if m["op"] == PING:
            say({"op": PONG})
        elif m["op"] == ADD:
            for r in play.get("on_add", []):
                say(r, id=m["id"])
        elif m["op"] == REMOVE:
            for r in play.get("on_remove", []):
                say(r, id=m["id"])
            say({"op": REMOVED, "id": m["id"]})
        elif m["op"] == POLICY and "on_policy" not in play:
            return 4
        elif m["op"] == POLICY and play["on_policy"]:
            say(play["on_policy"], id=m["id"], generation=m["generation"])


if __name__ == "__main__":
    sys.exit(main())
