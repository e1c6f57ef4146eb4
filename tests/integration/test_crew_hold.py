# SPDX-License-Identifier: Apache-2.0
"""Freeze, thaw, kills by role and by task, snapshots: what is meant is hit, all of it, and nothing else."""

import contextlib
import io
import json
import os
import signal
import tarfile
import time
from pathlib import Path

import pytest

import crewd
from crewlib import Crew, agent_status, alive, eventually, outside, state_dir, state_of
from egresslib import Tcp, echo
from holdlib import spawner_of

TICKS = """
def ticks():
    n = 0
    while True:
        n += 1
        with open(os.environ['CREW_STATE'] + '/ticks.new', 'w') as f:
            f.write(str(n))
        os.rename(os.environ['CREW_STATE'] + '/ticks.new', os.environ['CREW_STATE'] + '/ticks')
        time.sleep(0.01)
"""


def ticks(crew, agent):
    path = state_dir(crew, agent) / "ticks"
    return int(path.read_text() or 0) if path.exists() else 0


def test_a_frozen_agent_stands_still_and_goes_on(runner):
    crew = Crew(runner).agent("a").agent("b")
    with crew.start() as running:
        client = running.client()
        task = client.submit(agent="a", description=TICKS + "subprocess.Popen(['sleep', '1000']); ticks()")
        eventually(lambda: ticks(crew, "a") > 3)
        held = client.freeze("a", "look at it")
        assert held.agent.frozen and held.agent.name == "a" and held.task == "ad-hoc"
        before = ticks(crew, "a")
        time.sleep(0.5)
        assert ticks(crew, "a") == before
        assert agent_status(client, "a").frozen and not agent_status(client, "b").frozen
        shown = runner.crewctl("status").stdout
        assert [line.split()[1] for line in shown.splitlines() if line.startswith("a ")] == ["frozen"]
        assert client.submit(agent="b", description="out(1)").result(60) == 1
        assert client.freeze("a").agent.frozen  # it is so already
        assert not client.thaw("a", "seen enough").agent.frozen
        eventually(lambda: ticks(crew, "a") > before + 3)
        with pytest.raises(crewd.Refused, match="is not frozen"):
            client.thaw("a")
        client.kill("a")
        with pytest.raises(crewd.AgentTerminated):
            task.result(60)
    frozen, = crew.records("a", "agent.frozen")
    thawed, = crew.records("a", "agent.thawed")
    assert frozen["reason"] == "look at it" and thawed["reason"] == "seen enough" and thawed["ms"] >= 500
    assert frozen["initiator"] == thawed["initiator"] and "crewd-python" in frozen["initiator"]


@pytest.mark.waits
def test_frozen_time_counts_neither_against_the_task_nor_the_heartbeat(runner):
    crew = Crew(runner).agent("a")
    crew.task("slow", "a", "time.sleep(3); out('done')", timeout="12s")
    with crew.start() as running:
        client, runs = running.client(), running.client()
        seq = runs._send("run_tasks", crewd.Message("RunTasks"))
        eventually(lambda: state_of(client, "a") == crewd.AgentState.WORKING)
        held = client.freeze(task="slow")
        assert held.agent.name == "a" and held.task == "slow"
        time.sleep(17)  # three pings, and far beyond the task's time
        assert state_of(client, "a") == crewd.AgentState.WORKING
        client.thaw("a")
        done = runs._answer(seq, ("crew_done",), 60)[1]
        assert (done.tasks_ok, done.tasks_total) == (1, 1)
    assert not crew.records("a", "agent.terminated") or crew.records("a", "agent.terminated")[0]["cause"] == "supervisor shutdown"


def test_messages_for_a_frozen_agent_wait(runner):
    crew = Crew(runner).agent("a", targets=["b"]).agent("b")
    with crew.start() as running:
        client = running.client()
        receiver = client.submit(agent="b", description="out(call('receive')[1])")
        eventually(lambda: state_of(client, "b") == crewd.AgentState.WORKING)
        client.freeze("b")
        sender = client.submit(agent="a", description="out(call('send', 'b', stdin={'n': 7}))")
        time.sleep(0.6)
        assert not crew.records("b", "message.received")
        assert state_of(client, "a") == crewd.AgentState.WORKING  # its call waits
        client.thaw("b")
        assert receiver.result(60)["payload"] == {"n": 7}
        assert sender.result(60)[0] == 0


@pytest.mark.waits
def test_what_a_frozen_agent_had_asked_for_waits_and_is_answered(runner):
    crew = Crew(runner).agent("a", tools=["slow"])
    crew.tool("slow", "#!/bin/sh\nsleep 1\necho '{\"ok\": true}'\n", timeout="5s")
    with crew.start() as running:
        client = running.client()
        task = client.submit(agent="a", description="out(call('tool', 'slow', stdin={}))")
        eventually(lambda: crew.records("a", "tool.call"))
        client.freeze("a")
        time.sleep(11)  # beyond the tool's time and crewd's own
        client.thaw("a")
        code, answer = task.result(60)
        assert code == 0, answer
    assert [r["outcome"] for r in crew.records("a", "tool.return")] == ["ok"]


def test_a_frozen_agent_can_be_killed_and_the_crew_can_end(runner):
    crew = Crew(runner).agent("a").agent("b")
    with crew.start() as running:
        client = running.client()
        client.submit(agent="a", description="subprocess.Popen(['sleep', '1000']); time.sleep(600)")
        pid = agent_status(client, "a").pid
        eventually(lambda: len(outside(pid)) >= 2)
        tree = [pid, *outside(pid)]
        client.freeze("a")
        client.freeze("b")
        with pytest.raises(crewd.Refused, match="is frozen"):
            client.stop_agent("a")
        killed = client.kill("a", "enough")
        assert killed.terminated.processes_killed >= 3 and not alive(tree)
        started = time.monotonic()
        assert runner.crewctl("down").returncode == 0
        assert time.monotonic() - started < 20  # what is frozen is not waited for


def test_one_that_is_killed_while_it_is_being_frozen_has_ended_and_did_not_resist(runner):
    crew = Crew(runner).agent("a")
    many = "for i in range(16):\n  if os.fork() == 0:\n    break\nwhile True: pass"
    with crew.start() as running:
        client, freezes, kills = (running.client() for _ in range(3))
        client.submit(agent="a", description=many)
        eventually(lambda: agent_status(client, "a").processes > 16)
        spawner = spawner_of(agent_status(client, "a").pid)
        os.kill(spawner, signal.SIGSTOP)  # it hears of both at once
        try:
            frozen = freezes._send("freeze_agent", crewd.Message("FreezeAgent", agent="a"))
            eventually(lambda: crew.records("a", "agent.frozen"))
            killed = kills._send("kill_agent", crewd.Message("KillAgent", agent="a"))
            eventually(lambda: crew.records("a", "agent.kill"))
        finally:
            os.kill(spawner, signal.SIGCONT)
        assert kills._answer(killed, ("killed",), 60)[1].terminated.cause == crewd.Cause.OPERATOR
        with contextlib.suppress(crewd.NotRunning):  # unless it stood still in that moment
            freezes._answer(frozen, ("agent_held",), 60)
    assert [r.get("verdict") for r in crew.records("a", "agent.frozen")] == [None]


def test_freezing_what_is_not_up_is_refused(runner):
    crew = Crew(runner).agent("a")
    with crew.start() as running:
        client = running.client()
        client.kill("a")
        with pytest.raises(crewd.NotRunning):
            client.freeze("a")
        with pytest.raises(crewd.UnknownAgent):
            client.freeze("x")
        with pytest.raises(crewd.UnknownTask):
            client.freeze(task="t-99")
        with pytest.raises(crewd.Refused, match="either an agent or a task"):
            client.freeze()
    assert not crew.records("a", "agent.frozen")


def test_all_of_a_role_die_and_nobody_else(runner):
    crew = Crew(runner)
    for name, role in (("r1", "Web Researcher"), ("r2", "Web Researcher"), ("w", "Writer")):
        crew.agent(name, role=role)
    with crew.start() as running:
        client = running.client()
        r = runner.crewctl("kill", "--all-of-role", "Web Researcher", "--reason", "recall", "--json")
        assert r.returncode == 0, r.stderr
        assert sorted(k["terminated"]["agent"] for k in json.loads(r.stdout)["killed"]) == ["r1", "r2"]
        assert state_of(client, "w") == crewd.AgentState.READY
        assert runner.crewctl("kill", "--all-of-role", "Web Researcher").returncode == 3
        r = runner.crewctl("kill", "--all-of-role", "nobody")
        assert r.returncode == 3 and "w: w.yaml, Writer" in r.stderr
        # The name of the policy file does as well.
        assert "Agent w terminated" in runner.crewctl("kill", "--all-of-role", "w").stdout
    assert [crew.records(n, "agent.kill")[0]["reason"] for n in ("r1", "r2")] == ["recall", "recall"]


def test_a_task_names_whoever_works_on_it(runner):
    crew = Crew(runner).agent("a").agent("b")
    with crew.start() as running:
        client = running.client()
        mine = client.submit(agent="a", description="time.sleep(600)")
        other = client.submit(agent="b", description="time.sleep(1); out(2)")
        eventually(lambda: state_of(client, "a") == crewd.AgentState.WORKING)
        r = runner.crewctl("kill", "--task", mine.id)
        assert r.returncode == 0 and r.stdout.startswith("Agent a terminated."), r.stderr
        with pytest.raises(crewd.AgentTerminated):
            mine.result(60)
        assert other.result(60) == 2
        r = runner.crewctl("kill", "--task", mine.id)
        assert r.returncode == 3 and "no agent works on a task" in r.stderr
    for args in (["--agent", "a", "--task", "t-1"], [], ["--task", ""]):
        assert runner.crewctl("kill", *args).returncode == 2


EVIL = TICKS + """
state = os.environ['CREW_STATE']
os.symlink('/etc/shadow', state + '/shadow')
os.symlink(state, state + '/loop')
os.mkfifo(state + '/pipe')
os.makedirs(state + '/' + 'd/' * 200)
os.mkdir(state + '/closed'); open(state + '/closed/x', 'w').write('secret'); os.chmod(state + '/closed', 0)
open(state + '/a\\nb', 'w').write('two lines')
open(state + '/note', 'w').write('kept')
with open(state + '/sparse', 'wb') as f:
    f.truncate(1 << 29)
subprocess.Popen(['sleep', '1000'])
ticks()
"""


def snapshot_of(runner, *args):
    path = runner.home / "snap.tar"
    r = runner.crewctl("kill", *args, "--snapshot", path)
    assert r.returncode == 0, r.stderr
    return r, tarfile.open(path)


def member_json(tar, name):
    return json.load(io.TextIOWrapper(tar.extractfile(name)))


def test_a_snapshot_is_whole_and_follows_nothing(runner):
    crew = Crew(runner).agent("a", limits="output: 1GiB").agent("b")
    with crew.start() as running:
        client = running.client()
        client.submit(agent="a", description=EVIL)
        eventually(lambda: ticks(crew, "a") > 0)
        r, tar = snapshot_of(runner, "--agent", "a", "--reason", "odd")
        assert "Agent a terminated." in r.stdout and "Snapshot " in r.stdout
        members = {m.name: m for m in tar.getmembers()}
        assert members["a/state/shadow"].issym() and members["a/state/shadow"].linkname == "/etc/shadow"
        assert members["a/state/loop"].issym()
        assert not any(m.isfifo() or m.isdev() for m in members.values())
        assert tar.extractfile("a/state/note").read() == b"kept"
        assert tar.extractfile("a/state/a\nb").read() == b"two lines"
        assert member_json(tar, "snapshot.json")["reason"] == "odd"
        status = member_json(tar, "a/status.json")
        assert status["frozen"] and status["name"] == "a" and status["task"] == "ad-hoc"
        commands = [p["command"] for p in member_json(tar, "a/processes.json")]
        assert ["sleep", "1000"] in commands and len(commands) >= 3
        assert b"local_address" in tar.extractfile("a/net/tcp").read()
        assert member_json(tar, "a/connections.json") == []
        records = [json.loads(line) for line in tar.extractfile("a/records.jsonl").read().splitlines()]
        kinds = [x["kind"] for x in records]
        assert "agent.frozen" in kinds and "agent.terminated" not in kinds  # before the kill
        assert kinds == [x["kind"] for x in crew.records("a")][:len(records)]
        left = {x["path"]: x["why"] for x in member_json(tar, "a/left-out.json")}
        assert left["pipe"].startswith("a socket") and left["sparse"] == "too large"
        assert any(why == "too deep" for why in left.values())
        assert tar.extractfile("a/state/closed/x").read() == b"secret"
        assert oct(os.stat(runner.home / "snap.tar").st_mode & 0o777) == "0o600"
        assert state_of(client, "b") == crewd.AgentState.READY


def test_an_agent_cannot_shut_its_directory_against_a_snapshot(runner):
    crew = Crew(runner).agent("a")
    code = ("s = os.environ['CREW_STATE']\nopen(s + '/x', 'w').write('secret')\n"
            "while True:\n    os.chmod(s, 0)\n    time.sleep(0.002)")
    with crew.start() as running:
        running.client().submit(agent="a", description=code)
        eventually(lambda: os.stat(state_dir(crew, "a")).st_mode & 0o777 == 0)
        _, tar = snapshot_of(runner, "--agent", "a")
        assert tar.extractfile("a/state/x").read() == b"secret"


def test_a_snapshot_names_the_connections_that_are_open(runner):
    with Tcp(echo) as server:
        crew = Crew(runner).agent("a")
        crew.files["a.yaml"] = crew.files["a.yaml"].replace("{deny_all: true}", '{allowed_endpoints: ["one.hold.test:80"]}')
        crew.extra = f'endpoints:\n  "one.hold.test:80": {{connect_to: "{server.address}"}}\n'
        with crew.start() as running:
            running.client().submit(agent="a", description="import socket\nboth = [socket.create_connection(('one.hold.test', 80)) "
                                    "for _ in 'xy']\n[s.sendall(b'x') for s in both]; both[0].close(); time.sleep(600)")
            [gone] = eventually(lambda: len(crew.records("a", "network.allowed")) == 2 and crew.records("a", "network.closed"))
            _, tar = snapshot_of(runner, "--agent", "a")
            left = member_json(tar, "a/connections.json")
            assert len(left) == 1, "\n".join(f"{r}" for r in crew.records("a") if r["kind"].startswith("network."))
            [open_one] = left
            assert open_one.pop("open") == 1 and open_one in crew.records("a", "network.allowed")
            assert open_one["conn"] != gone["conn"] or open_one["seq"] > gone["seq"]


def test_a_snapshot_counts_connections_that_share_a_line(runner):
    with Tcp(echo) as server:
        crew = Crew(runner).agent("a")
        crew.files["a.yaml"] = crew.files["a.yaml"].replace(
            "{deny_all: true}", '{allowed_endpoints: ["one.hold.test:80", "two.hold.test:80"]}')
        crew.extra = f'''endpoints:
  "one.hold.test:80": {{connect_to: "{server.address}"}}
  "two.hold.test:80": {{connect_to: "{server.address}"}}
'''
        with crew.start() as running:
            running.client().submit(
                agent="a", description="import socket, concurrent.futures\n"  # all within a moment
                "dial = lambda n: socket.create_connection((n + '.hold.test', 80))\n"
                "many = list(concurrent.futures.ThreadPoolExecutor(15).map(dial, ['one'] * 12 + ['two'] * 3))\n[s.sendall(b'x') for s in many]\n"
                "[s.close() for s in many[2:9]]; time.sleep(600)")
            counted = lambda kind: sum(r.get("count", 1) for r in crew.records("a", kind))
            eventually(lambda: (counted("network.allowed"), counted("network.closed")) == (15, 7))
            closed = {r["conn"] for r in crew.records("a", "network.closed")}
            _, tar = snapshot_of(runner, "--agent", "a")
        left = member_json(tar, "a/connections.json")
        numbers = lambda host: sum(x["open"] for x in left if x["host"] == host)
        assert (numbers("one.hold.test"), numbers("two.hold.test")) == (5, 3), left
        assert any(r.get("count", 1) > 1 for r in crew.records("a", "network.allowed"))  # else it shows nothing
        assert not closed & {x.get("conn") for x in left}


def test_a_snapshot_that_cannot_be_written_kills_nobody(runner):
    crew = Crew(runner).agent("a")
    with crew.start() as running:
        client = running.client()
        r = runner.crewctl("kill", "--agent", "a", "--snapshot", "/nonexistent/x.tar")
        assert r.returncode == 1 and "nothing was killed" in r.stderr
        assert not agent_status(client, "a").frozen and agent_status(client, "a").pid
        r, tar = snapshot_of(runner, "--agent", "a", "--freeze")
        assert "terminated" not in r.stdout and agent_status(client, "a").frozen
        client.thaw("a")
        assert client.submit(agent="a", description="out(5)").result(60) == 5


def test_use_against_limit_is_shown(runner):
    crew = Crew(runner).agent("a", limits="open_files: 200")
    with crew.start() as running:
        client = running.client()
        client.submit(agent="a", description="f = [open('/dev/null') for _ in range(50)]\nwhile True: pass")
        eventually(lambda: state_of(client, "a") == crewd.AgentState.WORKING)
        most = 100 * os.cpu_count()
        for _ in range(20):
            assert agent_status(client, "a").cpu_percent <= most
            time.sleep(0.1)
        eventually(lambda: agent_status(client, "a").open_files >= 50 and agent_status(client, "a").cpu_percent)
        a = agent_status(client, "a")
        assert 0 < a.cpu_percent <= most
        assert (a.memory_max, a.processes_max, a.open_files_max) == (256 << 20, 128, 200)
        assert 0 < a.memory_bytes <= a.memory_max and 2 <= a.processes <= a.processes_max
        assert 50 <= a.open_files <= a.open_files_max
        assert " / 200" in runner.crewctl("status").stdout
