# SPDX-License-Identifier: Apache-2.0
"""What the kernel saw of an agent is in its audit, whatever the agent does about it."""

import json

MUTE = '''#!/usr/bin/python3
import ctypes, json, os, sys
json.load(sys.stdin)
libc = ctypes.CDLL(None, use_errno=True)
handled = ctypes.c_uint64((1 << 13) - 1)
ruleset = libc.syscall(444, ctypes.byref(handled), 8, 0)        # landlock_create_ruleset
created = ctypes.get_errno() if ruleset < 0 else 0
restricted = 0 if libc.syscall(446, ruleset, 1) == 0 else ctypes.get_errno()   # LOG_SAME_EXEC_OFF
try:
    os.listdir("/root")
    denied = 0
except OSError as e:
    denied = e.errno
json.dump({"created": created, "restricted": restricted, "denied": denied}, sys.stdout)
'''
POLICY = '''agent: "m"
sandbox:
  mode: deny-by-default
  filesystem: {read: [], write: []}
  network: {deny_all: true}
  tools: {denied: ["*"]}
'''
CREW = '''crew: mute
process: sequential
policies: .
agents:
  m: {policy: m.yaml, role: r, goal: g, command: ["python3", "${CREW_DIR}/mute.py"], driver: exec-json}
tasks:
  t: {agent: m, description: x}
'''


def test_an_agent_cannot_mute_the_record_of_its_denials(runner):
    crew = runner.tree({"mute.py": MUTE, "m.yaml": POLICY, "crew.yaml": CREW})
    r = runner.crewctl("run", crew / "crew.yaml", "--json")
    assert r.returncode == 0, r.stdout + r.stderr
    result = json.loads((runner.home / "lib/mute/out/t.json").read_text())
    assert result["denied"] == 13
    if runner.mode == "root":
        # Without Landlock of its own it has nothing to put above ours.
        assert result["created"] == 38 and result["restricted"] == 38
    denied = [x for x in runner.records("mute", "m") if x["kind"] == "file.denied"]
    assert any(x["path"] == "/root" for x in denied), denied
