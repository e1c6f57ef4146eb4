# SPDX-License-Identifier: Apache-2.0
"""Bad input, part 4: no room for the audit.  What cannot be recorded is not done; nothing is done that is not recorded."""

import errno
import os
import re
import subprocess

import pytest

import crewd
from crewlib import Crew, agent_status, eventually, state_of


@pytest.fixture
def small_disk(runner):
    """<state> on a file system of its own; filled by fill()."""
    if os.geteuid() != 0:
        pytest.skip("mounting a small file system needs CAP_SYS_ADMIN")
    lib = runner.home / "lib"
    lib.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=3m,mode=0755", "tmpfs", str(lib)], check=True)
    runner.own(lib)
    yield lib
    subprocess.run(["umount", "-l", str(lib)], check=True)


MARK = """#!/bin/sh
n=$(sed 's/^{"n": *\\([0-9]*\\).*/\\1/')
echo >"$(dirname "$0")/../marks/$n" && echo 1
"""


def fill(lib, leave=0):
    with open(lib / "filler", "wb", buffering=0) as f:
        try:
            while f.write(b"x" * 4096):
                pass
        except OSError as e:
            assert e.errno == errno.ENOSPC
        f.truncate(max(0, f.tell() - leave))


def test_a_start_on_a_full_disk_is_refused_and_says_which_file(runner, small_disk):
    crew = Crew(runner).agent("a")
    path = crew.write()
    fill(small_disk)
    r = runner.run(runner.program("crewd"), path)
    assert r.returncode == 1
    assert "No space left on device" in r.stderr and str(small_disk / "t") in r.stderr, r.stderr
    assert not (crew.run_dir / "control.sock").exists()
    (small_disk / "filler").unlink()
    with crew.start() as running:
        assert running.client().submit(agent="a", description="out(1)").result(20) == 1


def test_what_is_not_recorded_is_not_done(runner, small_disk):
    """A tool with an effect is called until the disk is full: each effect has its record."""
    crew = Crew(runner).agent("a", tools=["mark"]).agent("b")
    crew.files["a.yaml"] = crew.files["a.yaml"].replace("write: []", 'write: ["${CREW_DIR}/marks/"]')
    crew.files["marks/none"] = ""
    crew.tool("mark", MARK, audit="full")
    with crew.start() as running:
        client = running.client()
        assert client.submit(agent="a", description="out(call('tool', 'mark', stdin={'n': 0})[0])").result(20) == 0
        fill(small_disk)
        task = client.submit(agent="a", timeout_ms=30000, description="""
n = 0
while True:
    n += 1
    if call("tool", "mark", stdin={"n": n, "pad": "x" * 20000})[0]: break
out(n)""")
        frozen = eventually(lambda: [w for w in [agent_status(client, "a").walls] if w.startswith("frozen")], timeout=25)
        assert frozen == ["frozen: audit cannot be written; full"], frozen
        assert "agent a is frozen: its audit stream " in running.log() and "No space left on device" in running.log()
        shown = runner.crewctl("status").stdout
        assert "frozen: audit cannot be written" in shown
        # Nothing can be given to it any more, and it can be killed; the crew is none the worse.
        with pytest.raises(crewd.CrewdError):
            client.submit(agent="a", description="out(1)").result(3)
        assert client.kill("a", "frozen").terminated.agent == "a"
        assert state_of(client, "b") == crewd.AgentState.READY
        del task
    calls = {re.match(r'{"n": ?(\d+)', r["args"])[1] for r in crew.records("a", "tool.call") if r["verdict"] == "allowed"}
    marks = {p.name for p in (crew.top / "marks").iterdir() if p.name != "none"}
    assert marks <= calls, f"done and not recorded: {sorted(marks - calls)}"
    assert len(marks) >= 2
    (small_disk / "filler").unlink()
    r = runner.crewctl("audit", "verify")
    assert r.returncode == 0, r.stdout
    with crew.start() as again:  # with room again, it goes on where it stopped
        assert again.client().submit(agent="a", description="out(2)").result(20) == 2
    assert runner.crewctl("audit", "verify").returncode == 0
