# SPDX-License-Identifier: Apache-2.0
"""Bad input, part 6: kill -9 of crewd, its spawner and its helpers at random moments of a busy crew's life.

test_crew_lifecycle.py has the chosen moments.  Here time decides: start, idle, tasks, tool calls, kills.  Each time
nothing is left of the crew, and the next start says what it found."""

import contextlib
import os
import random
import signal
import threading
import time
from pathlib import Path

import pytest

import crewd
from crewlib import Crew, Running, agent_status, alive, eventually, outside, walls_are_up
from holdlib import spawner_of

ROUNDS = int(os.environ.get("CREWD_KILL_ROUNDS", 12))
TOOL = "#!/bin/sh\nsleep 0.05\ncat\n"


def busy_crew(runner):
    crew = Crew(runner).agent("a", tools=["t"]).agent("b", tools=["t"])
    return crew.tool("t", TOOL)


def namespaces(pids=None):
    """The namespaces of these processes, or of every process there is."""
    found = set()
    for pid in pids if pids is not None else [p.name for p in Path("/proc").glob("[0-9]*")]:
        for kind in ("net", "mnt", "pid", "user"):
            with contextlib.suppress(OSError):
                found.add(os.readlink(f"/proc/{pid}/ns/{kind}"))
    return found


def cgroups_of(pids):
    """Paths of our own groups that these processes are in."""
    found = set()
    for pid in pids:
        with contextlib.suppress(OSError):
            for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines():
                number, controllers, path = line.split(":", 2)
                if "crew" in path:
                    roots = [f"/sys/fs/cgroup/{controllers}", "/sys/fs/cgroup/unified", "/sys/fs/cgroup"]
                    found |= {root + path for root in roots if os.path.isdir(root + path)}
    return found


def keep_busy(running, stop):
    """Tasks with tool calls on one agent, kills of the other, until it all breaks."""
    with contextlib.suppress(crewd.CrewdError, OSError):
        with running.client() as client:
            while not stop.is_set():
                task = client.submit(agent="a", description="out([call('tool', 't', stdin={})[0] for _ in range(3)])")
                if random.random() < 0.3:
                    client.kill("b", "test")
                task.wait(5)


def locks_of(pids):
    """File locks that these processes took: host uids, the run directory, the audit streams."""
    return [line for line in Path("/proc/locks").read_text().splitlines() if int(line.split()[-4]) in pids]


@pytest.mark.alone
def test_kill_9_at_any_time_leaves_nothing_and_is_found(runner):
    rng = random.Random(20)
    crew = busy_crew(runner)
    crew.write()
    mounts = Path("/proc/self/mounts").read_text()
    found = ended = 0
    for n in range(ROUNDS):
        early = n % 3 == 0
        running, stop = Running(crew, wait=not early), threading.Event()
        worker = threading.Thread(target=keep_busy, args=(running, stop))
        if not early:
            worker.start()
        time.sleep(rng.uniform(0, 0.06) if early else rng.uniform(0, 0.7))
        os.kill(running.proc.pid, signal.SIGSTOP)  # so that what is looked at is what is killed
        tree = [running.proc.pid, *outside(running.proc.pid)]
        groups = cgroups_of(tree)
        had_pid = (crew.run_dir / "pid").exists() and (crew.run_dir / "pid").read_text() != ""
        theirs = namespaces(tree) - namespaces([os.getpid()])
        running.proc.kill()
        running.proc.wait()
        stop.set()
        if not early:
            worker.join(10)
        eventually(lambda: not alive(tree), timeout=20)
        eventually(lambda: not [g for g in groups if os.path.exists(g)], timeout=20)
        assert Path("/proc/self/mounts").read_text() == mounts
        eventually(lambda: not theirs & namespaces(), timeout=20)
        assert not locks_of(tree)
        with crew.start() as again:
            if had_pid:
                found += 1
                assert f"crewd process {running.proc.pid} did not end in order" in again.log(), again.log()
                lost = [r for r in crew.records("a", "evidence.lost") if f"process {running.proc.pid} " in r["reason"]]
                assert len(lost) == 1 and "did not end in order" in lost[0]["reason"]
            assert again.client().submit(agent="a", description="out(call('tool', 't', stdin={})[0])").result(20) == 0
            assert again.stop() == 0
            ended += 1
        assert runner.crewctl("audit", "verify").returncode == 0
    assert ended == ROUNDS and found >= ROUNDS // 2


@pytest.mark.parametrize("helper", ["spawner", "crew-evidence", "crew-gateway"])
def test_kill_9_of_a_helper_under_load_fails_closed(runner, helper):
    """The spawner takes the crew along; without evidence the watched end; without a gateway there is no network until the next."""
    crew = busy_crew(runner)
    with crew.start() as running:
        client, stop = running.client(), threading.Event()
        walls_are_up(client)
        jails = [agent_status(client, name).pid for name in "ab"]
        # The uppermost of that name; numbers say nothing of age.
        pid = spawner_of(jails[0]) if helper == "spawner" else next(
            p for p, comm in outside(running.proc.pid).items() if comm == helper)
        tree = [running.proc.pid, *outside(running.proc.pid)]
        worker = threading.Thread(target=keep_busy, args=(running, stop))
        worker.start()
        time.sleep(0.3)
        os.kill(pid, signal.SIGKILL)
        if helper == "spawner":
            assert running.proc.wait(30) == 1
            stop.set()
            worker.join(10)
            assert "crewd: the spawner died" in running.log()
            eventually(lambda: not alive(tree), timeout=30)
            assert crew.records("a", "agent.terminated")[-1]["reason"] == "the spawner died, and every jail with it"
        elif helper == "crew-evidence":
            eventually(lambda: not alive(jails[:1]), timeout=30)
            stop.set()
            worker.join(10)
            assert "crew-evidence is gone: file evidence has ended" in running.log()
            # Dead is not yet on record as dead.
            eventually(lambda: "crew-evidence died: it can no longer be watched" in [
                r["reason"] for r in crew.records("a", "agent.terminated")])
            eventually(lambda: [r for r in crew.records("a", "evidence.lost") if r["src"] == "crewd"])
            with pytest.raises(crewd.CrewdError):
                client.submit(agent="a", description="out(1)").result(10)
        else:
            eventually(lambda: crew.records("a", "gateway.restarted"), timeout=30)
            stop.set()
            worker.join(10)
            eventually(lambda: [r for r in crew.records("a", "evidence.lost") if r["source"] == "gateway"])
            # The next gateway takes the connection, and resets it.
            dial = ("import socket\ntry:\n    s = socket.create_connection(('192.0.2.1', 80), 20)\n    out(s.recv(1).hex() or 'end')\n"
                    "except ConnectionError: out('refused')")
            assert client.submit(agent="a", description=dial).result(40) == "refused"
            assert running.stop() == 0
    assert runner.crewctl("audit", "verify").returncode == 0
