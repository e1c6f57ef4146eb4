# SPDX-License-Identifier: Apache-2.0
"""What the kernel saw of an agent is in its audit, whatever the agent does about it."""

import errno
import json
import platform
import shutil
from pathlib import Path

import crewd
import pytest
from crewlib import Crew, eventually

SOCKET = {"x86_64": 41, "aarch64": 198}[platform.machine()]
NETLINK_AUDIT = 9
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
    kernel = json.loads(runner.crewctl("doctor", "--json").stdout)
    if runner.mode == "root" and kernel["landlock_abi"] >= 7:
        # Without Landlock of its own it has nothing to put above ours.
        assert result["created"] == 38 and result["restricted"] == 38
    denied = [x for x in runner.records("mute", "m") if x["kind"] == "file.denied"]
    assert any(x["path"] == "/root" for x in denied), denied


def connected(p, crew):
    """A client, or None while the socket is not there, or nobody listens on it."""
    assert p.poll() is None
    try:
        return crewd.Client(path=str(crew.run_dir / "control.sock"))
    except crewd.ConnectError:
        return None


@pytest.mark.parametrize("mode", ["root"])
def test_without_the_kernels_audit_denials_are_told_as_attempts(runner):
    """As root on a kernel before 6.15, and wherever its audit is not to be had."""
    launcher = runner.tree({"without_calls.py": (Path(__file__).parent / "without_calls.py").read_text()}) / "without_calls.py"
    (runner.home / "granted").mkdir()
    (runner.home / "granted/file").write_text("x")
    crew = Crew(runner).agent("a")
    crew.files["a.yaml"] = crew.files["a.yaml"].replace("read: []", f'read: ["{runner.home}/granted/"]')
    p = runner.popen("/usr/bin/python3", "-I", launcher, f"{SOCKET}@2:{NETLINK_AUDIT}={errno.EPROTONOSUPPORT}", "--",
                     runner.program("crewd"), crew.write(), stderr=open(runner.home / "log", "w"))
    with eventually(lambda: connected(p, crew), 30) as client:
        code = (f"open('{runner.home}/granted/file').close()\nimport contextlib\n"
                "for p in ('/etc/shadow', '/root'):\n"
                "    with contextlib.suppress(OSError): open(p).close()\nout(1)")
        assert client.submit(agent="a", description=code).result(20) == 1
        tried = {"/etc/shadow", "/root"}
        eventually(lambda: tried <= {r["path"] for r in crew.records("a", "file.denied")})
        denied = {r["path"]: r for r in crew.records("a", "file.denied")}
        assert "/" not in denied  # where the worker's own look at files begins
        assert {(denied[p]["src"], denied[p]["verdict"]) for p in tried} == {("notify", "attempted")}
        assert denied["/etc/shadow"]["decoy"] is True
        opened = eventually(lambda: [r for r in crew.records("a", "file.read") if r["path"].endswith("granted/file")])
        assert [r["src"] for r in opened] == ["fanotify"]  # told once, by the one that knows that it came about
        assert "degraded" not in crew.records("a", "agent.spawned")[0]
        eventually(lambda: next(a for a in client.status().agents if a.name == "a").walls == "full")
    assert "denials are told by seccomp notification, as attempts" in (runner.home / "log").read_text()


@pytest.mark.parametrize("mode", ["root"])
@pytest.mark.parametrize("answers", [True, False])
@pytest.mark.waits
def test_the_start_waits_for_it_and_is_refused_without_it(runner, monkeypatch, answers):
    """On a busy machine it takes its time; what must not be is a crew that has less than its policies ask for."""
    stage = runner.home / "stage"
    shutil.copytree(runner.stage, stage, symlinks=True)
    program = stage / "bin" / "crew-evidence"
    program.rename(stage / "bin" / "slow")
    program.write_text(f'#!/bin/sh\nsleep 5\nexec {stage}/bin/slow "$@"\n' if answers else "#!/bin/sh\nexec sleep 60\n")
    program.chmod(0o755)
    monkeypatch.setattr(runner, "stage", stage)
    crew = Crew(runner).agent("a")
    if answers:
        with crew.start() as running:
            assert "does not answer" not in running.log()
            assert running.client().submit(agent="a", description="out(1)").result(60) == 1
    else:
        running = crew.start(wait=False)
        assert running.proc.wait(60) != 0
        assert "crew-evidence does not answer" in running.log() and "no file evidence on this host" in running.log()
        assert not crew.records("a", "agent.ready")
