# SPDX-License-Identifier: Apache-2.0
"""Start, second start, stop, and every way of dying without leaving anything behind."""

import os
import re
import signal
import socket
import subprocess
import time
from pathlib import Path

import pytest

import crewd
from crewlib import Crew, Running, agent_status, alive, cgroups_named, eventually, outside, state_of
from holdlib import spawner_of


def test_the_first_records_are_policy_and_attestation(runner):
    crew = Crew(runner).agent("a").agent("boss")
    crew.agents["boss"] = {"role": "Boss"}
    with crew.start() as running:
        status = running.client().status()
        assert [a.state for a in status.agents] == [crewd.AgentState.READY, crewd.AgentState.POLICY_ONLY]
        pid = status.agents[0].pid
    # What the program opens may be on record before it says that it is ready.
    kinds = [r["kind"] for r in crew.records("a") if r["kind"].startswith(("log.", "agent."))]
    assert kinds[:4] == ["log.opened", "agent.policy", "agent.spawned", "agent.ready"]
    spawned = crew.records("a", "agent.spawned")[0]
    assert (spawned["pid"], spawned["seccomp"], spawned["no_new_privs"]) == (pid, 2, 1)
    assert (spawned["cap_eff"], spawned["cap_bnd"], spawned["accepted"]) == (0, 0, True)
    assert spawned["uid"] != 0
    assert [r["kind"] for r in crew.records("boss")] == ["log.opened", "agent.policy"]


def test_crewd_itself_has_given_up_its_rights(runner):
    crew = Crew(runner).agent("a")
    with crew.start() as running:
        crewd_pid = running.client().pid
        if "libasan" in Path(f"/proc/{crewd_pid}/maps").read_text():
            pytest.skip("a sanitized crewd keeps what its leak checker needs")
        status = dict(line.split(":\t", 1) for line in Path(f"/proc/{crewd_pid}/status").read_text().splitlines() if ":\t" in line)
        assert status["NoNewPrivs"] == "1" and status["Seccomp"] == "2"
        keep = 1 << 2 if runner.mode == "root" else 0  # CAP_DAC_READ_SEARCH
        for name in ("CapEff", "CapPrm", "CapInh", "CapAmb"):
            assert int(status[name], 16) & ~keep == 0, name
        if runner.mode == "root":
            assert int(status["CapBnd"], 16) == keep


def test_a_second_start_names_the_first(runner):
    crew = Crew(runner).agent("a")
    with crew.start() as running:
        second = Running(crew, wait=False)
        assert second.proc.wait(60) == 1
        assert f"crew t is running already, as process {running.client().pid}" in second.log()
        assert running.client().status().state == "running"


def test_what_cannot_start_says_why_and_leaves_nothing(runner):
    crew = Crew(runner).agent("a").agent("b", command=["/nonexistent/program"])
    r = runner.run(runner.program("crewd"), crew.write())
    assert r.returncode in (1, 2)
    assert "/nonexistent/program" in r.stderr
    crew = Crew(runner, "u").agent("a")
    crew.extra = "taks: {}\n"
    r = runner.run(runner.program("crewd"), crew.write())
    assert r.returncode == 2
    assert "unknown key 'taks'" in r.stderr and "did you mean 'tasks'?" in r.stderr


def test_sigterm_ends_in_order(runner):
    crew = Crew(runner).agent("a").agent("b")
    with crew.start() as running:
        client = running.client()
        client.submit(agent="a", description="time.sleep(600)")
        eventually(lambda: state_of(client, "a") == crewd.AgentState.WORKING)
        tree = [running.proc.pid, *outside(running.proc.pid)]
        assert len(tree) >= 5
        assert running.stop() == 0
        assert not alive(tree)
    assert not (crew.run_dir / "control.sock").exists()
    assert crew.records("a", "agent.terminated")[0]["cause"] == "supervisor shutdown"
    again = crew.start()
    assert "did not end in order" not in again.log()
    again.stop()


def test_an_owner_that_hangs_up_ends_the_crew_at_once(runner):
    crew = Crew(runner).agent("a")
    path = crew.write()
    r, w = os.pipe()
    p = subprocess.Popen(runner.argv(runner.program("crewd"), "--owner-fd", r, path), env=runner.env(), cwd=crew.top,
                         pass_fds=(r,), stdin=subprocess.DEVNULL)
    runner.children.append(p)
    os.close(r)
    eventually(lambda: runner.crewctl("status").returncode == 0)
    os.close(w)
    start = time.monotonic()
    assert p.wait(60) == 0
    assert time.monotonic() - start < 20


@pytest.mark.alone
@pytest.mark.parametrize("when", ["idle", "working", "starting"])
def test_kill_9_leaves_nothing_and_the_next_start_says_so(runner, when):
    crew = Crew(runner).agent("a").agent("b")
    before_cgroups = set(cgroups_named("crewd"))
    running = Running(crew, wait=when != "starting")
    tree = [running.proc.pid]
    if when == "working":
        client = running.client()
        client.submit(agent="a", description="""
for _ in range(20): subprocess.Popen(["setsid", "sleep", "1000"], start_new_session=True)
time.sleep(600)""")
        pid = agent_status(client, "a").pid
        eventually(lambda: len(outside(pid)) > 15)
    elif when == "starting":
        time.sleep(0.01)
    tree += outside(running.proc.pid)
    mounts = Path("/proc/self/mounts").read_text()
    for c in running.clients:
        c.close()
    running.proc.kill()
    running.proc.wait()
    eventually(lambda: not alive(tree))
    assert Path("/proc/self/mounts").read_text() == mounts
    again = crew.start()
    try:
        if when != "starting":
            assert "did not end in order" in again.log()
            lost = crew.records("a", "evidence.lost")
            assert any("did not end in order" in r["reason"] for r in lost)  # another's groups may have been swept too
        assert again.client().submit(agent="a", description="out(1)").result(60) == 1
    finally:
        again.stop()
    eventually(lambda: set(cgroups_named("crewd")) <= before_cgroups)
    assert runner.crewctl("audit", "verify").returncode == 0


@pytest.mark.parametrize("helper", ["crew-worker", "crew-evidence"])
def test_a_helper_that_dies_takes_the_unguarded_with_it(runner, helper):
    crew = Crew(runner).agent("a")
    with crew.start() as running:
        client = running.client()
        jail = agent_status(client, "a").pid
        pid = spawner_of(jail) if helper == "crew-worker" else next(
            p for p, comm in outside(running.proc.pid).items() if comm == helper)
        os.kill(pid, signal.SIGKILL)
        eventually(lambda: not alive([jail]))
        if helper == "crew-worker":
            assert running.proc.wait(60) == 1
            assert "the spawner died" in running.log()
        else:
            eventually(lambda: state_of(client, "a") == crewd.AgentState.TERMINATED)


@pytest.mark.parametrize("mode", ["root"])
def test_an_audit_that_cannot_be_written_freezes_the_agent(runner):
    if os.geteuid() != 0:
        pytest.skip("mounting a small file system needs CAP_SYS_ADMIN")
    lib = runner.home / "lib"
    lib.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m,mode=0755", "tmpfs", str(lib)], check=True)
    try:
        crew = Crew(runner).agent("a").agent("b")
        with crew.start() as running:
            client = running.client()
            (lib / "filler").write_bytes(b"")
            with open(lib / "filler", "wb", buffering=0) as f:
                try:
                    while f.write(b"x" * 1024):
                        pass
                except OSError:
                    pass
            client.submit(agent="a", description="sys.stderr.write('x' * 900000); out(1)")
            walls = eventually(lambda: [w for w in [agent_status(client, "a").walls] if "frozen" in w])
            assert walls[0].startswith("frozen: audit cannot be written")
            assert "cannot be written" in running.log()
            # A frozen agent can still be killed.
            assert client.kill("a", "frozen").terminated.agent == "a"
            running.stop()
    finally:
        subprocess.run(["umount", "-l", str(lib)], check=True)


def test_forty_agents_come_up_and_go(runner):
    crew = Crew(runner)
    for n in range(40):
        crew.agent(f"agent-{n}")
    start = time.monotonic()
    with crew.start() as running:
        up = time.monotonic() - start
        client = running.client()
        assert all(a.state == crewd.AgentState.READY for a in client.status().agents)
        tree = [running.proc.pid, *outside(running.proc.pid)]
        assert running.stop() == 0
    assert not alive(tree)
    assert up < 60


def test_only_the_loop_thread_takes_signals(runner):
    """Another would be ended by one that comes while the loop thread holds them back."""
    crew = Crew(runner).agent("a")
    with crew.start() as running:
        running.client().submit(agent="a", description="out(1)").result(60)
        time.sleep(1.2)  # its state directory has been looked at, by a thread of libuv's
        open_to = {}
        for task in Path(f"/proc/{running.proc.pid}/task").glob("*"):
            blocked = int(re.search(r"^SigBlk:\s+(\w+)", (task / "status").read_text(), re.M)[1], 16)
            if not blocked & (1 << (signal.SIGTERM - 1)):
                open_to[int(task.name)] = (task / "comm").read_text()
        assert list(open_to) == [running.proc.pid], open_to
