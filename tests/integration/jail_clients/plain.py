# SPDX-License-Identifier: Apache-2.0
"""A Python agent with the standard library only: JSON-RPC lines on $CREW_SOCKET."""

import json
import os
import socket
import sys

json.load(sys.stdin)
sock = socket.socket(socket.AF_UNIX)
sock.connect(os.environ["CREW_SOCKET"])
lines = sock.makefile("rw", encoding="utf-8", newline="\n")
counter = 0


def call(method, **params):
    global counter
    counter += 1
    lines.write(json.dumps({"jsonrpc": "2.0", "id": counter, "method": method, "params": params}) + "\n")
    lines.flush()
    answer = json.loads(lines.readline())
    assert answer["id"] == counter, answer
    return answer


def raw(line):
    lines.write(line + "\n")
    lines.flush()
    return json.loads(lines.readline())


json.dump({
    "tools": [t["name"] for t in call("tools/list")["result"]["tools"]],
    "add": call("tools/call", name="add_tool", arguments={"a": 2, "b": 3})["result"],
    "denied": call("tools/call", name="wire_transfer", arguments={})["error"],
    "bad": call("tools/call", name="add_tool", arguments={"a": "two"})["error"],
    "failing": call("tools/call", name="fail_tool")["result"],
    "ask": call("crew/ask", target="oracle", payload={"n": 20})["result"],
    "garbage": raw("}{")["error"]["code"],
    "deep": raw("[" * 10000 + "]" * 10000)["error"]["code"],
    "unknown": call("no/such")["error"]["code"],
}, sys.stdout)
