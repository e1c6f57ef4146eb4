# SPDX-License-Identifier: Apache-2.0
"""Ending in order: an agent is told, then SIGTERM, then its grace, then a kill; what it keeps is kept."""

import json
import re
import time

import pytest

import crewd
from crewlib import Crew, eventually, state_of

GRACEFUL = """
def on_term(*_):
    open(os.environ['CREW_STATE'] + '/saved', 'w').write('on term')
    time.sleep(0.3)
    os._exit(0)
signal.signal(signal.SIGTERM, on_term)
open(os.environ['CREW_STATE'] + '/up', 'w').close()
time.sleep(600)
"""

# Requests of one connection are taken in order: when the second has its answer, the first is waiting for a letter.
RECEIVE = """
import socket
signal.signal(signal.SIGTERM, signal.SIG_IGN)
s = socket.socket(socket.AF_UNIX); s.connect(os.environ['CREW_SOCKET']); f = s.makefile('rw')
for id, method in ((1, 'crew/receive'), (2, 'ping')):
    f.write(json.dumps({'jsonrpc': '2.0', 'id': id, 'method': method, 'params': {}}) + '\\n'); f.flush()
assert json.loads(f.readline())['id'] == 2
open(os.environ['CREW_STATE'] + '/up', 'w').close()
out(json.loads(f.readline()))
"""

RPC = """#!/usr/bin/python3
import json, os, sys, signal, time
signal.signal(signal.SIGTERM, lambda *_: open(os.environ['CREW_STATE'] + '/term', 'w').close())
open(os.environ['CREW_STATE'] + '/up', 'w').close()
for line in sys.stdin:
    m = json.loads(line)
    open(os.environ['CREW_STATE'] + '/heard', 'a').write(m['method'] + '\\n')
    if m['method'] == 'shutdown':
        json.dump(m['params'], open(os.environ['CREW_STATE'] + '/params', 'w'))
open(os.environ['CREW_STATE'] + '/eof', 'w').close()
"""


def kept(crew, agent, name):
    return crew.runner.home / "lib" / crew.name / "state" / agent / name


def test_an_agent_that_minds_sigterm_ends_by_itself(runner):
    crew = Crew(runner).agent("a", restart={"max": 3, "within": "60s"}).agent("b")
    with crew.start() as running:
        client = running.client()
        client.submit(agent="a", description=GRACEFUL)
        eventually(lambda: kept(crew, "a", "up").exists())
        started = time.monotonic()
        r = runner.crewctl("stop", "--agent", "a", "--reason", "maintenance")
        assert r.returncode == 0, r.stderr
        assert 0.3 <= time.monotonic() - started < 25  # of 30
        lines = r.stdout.splitlines()
        assert lines[0] == "Agent a stopped. Sandbox destroyed." and "it ended by itself" in lines[1]
        assert lines[-1] == "Crew status: b (ready)"
        assert kept(crew, "a", "saved").read_text() == "on term"
        time.sleep(0.5)
        assert state_of(client, "a") == crewd.AgentState.TERMINATED  # restart or not
        assert runner.crewctl("stop", "--agent", "a").returncode == 3
    stop, = crew.records("a", "agent.stop")
    end, = crew.records("a", "agent.terminated")
    assert stop["reason"] == "maintenance" and stop["grace_ms"] == 30000
    assert end["cause"] == "operator" and "kill_us" not in end and stop["seq"] < end["seq"]
    assert not crew.records("a", "agent.restart") and not crew.records("a", "agent.kill")


def test_an_agent_that_does_not_is_killed_after_its_grace(runner):
    crew = Crew(runner).agent("a")
    with crew.start() as running:
        client = running.client()
        task = client.submit(agent="a", description="signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
                                                    "open(os.environ['CREW_STATE'] + '/up', 'w').close(); time.sleep(600)")
        eventually(lambda: kept(crew, "a", "up").exists())
        started = time.monotonic()
        r = runner.crewctl("stop", "--agent", "a", "--grace", "1500ms", "--json")
        took = time.monotonic() - started
        assert r.returncode == 0 and 1.4 <= took < 20, (took, r.stderr)
        doc = json.loads(r.stdout)
        assert doc["terminated"]["kill_us"] > 0 and doc["terminated"]["cause"] == "operator"
        with pytest.raises(crewd.TaskFailed):
            task.result(60)


def test_who_came_first_has_ended_it(runner):
    crew = Crew(runner).agent("a")
    with crew.start() as running:
        client, boss = running.client(), running.client(name="planner", orchestrator=True)
        client.submit(agent="a", description="signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
                                             "open(os.environ['CREW_STATE'] + '/up', 'w').close(); time.sleep(600)")
        eventually(lambda: kept(crew, "a", "up").exists())
        client._send("stop_agent", crewd.Message("StopAgent", agent="a", grace_ms=600000, reason="maintenance"))
        eventually(lambda: state_of(client, "a") == crewd.AgentState.STOPPING)
        end = boss.kill("a", "too slow").terminated
        assert (end.cause, end.reason) == (crewd.Cause.OPERATOR, "maintenance")
    stop, kill = crew.records("a", "agent.stop")[0], crew.records("a", "agent.kill")[0]
    assert stop["reason"] == "maintenance" and kill["reason"] == "too slow" and "planner" in kill["initiator"]


def test_a_second_stop_with_less_time_counts(runner):
    crew = Crew(runner).agent("a")
    with crew.start() as running:
        client = running.client()
        client.submit(agent="a", description="signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
                                             "open(os.environ['CREW_STATE'] + '/up', 'w').close(); time.sleep(600)")
        eventually(lambda: kept(crew, "a", "up").exists())
        client._send("stop_agent", crewd.Message("StopAgent", agent="a", grace_ms=600000, reason="maintenance"))
        eventually(lambda: state_of(client, "a") == crewd.AgentState.STOPPING)
        r = runner.crewctl("stop", "--agent", "a", "--grace", "500ms", "--reason", "now", timeout=20)
        assert r.returncode == 0 and "killed" in r.stdout, r.stdout + r.stderr
        assert state_of(client, "a") == crewd.AgentState.TERMINATED
    assert [x["reason"] for x in crew.records("a", "agent.stop")] == ["maintenance", "now"]


def test_a_long_lived_agent_is_told_before_anything_else(runner):
    crew = Crew(runner).agent("a", driver="stdio-rpc", command=["${CREW_DIR}/rpc.py"])
    crew.files["rpc.py"] = RPC
    crew.files["a.yaml"] = crew.files["a.yaml"].replace("read: []", 'exec: ["${CREW_DIR}/rpc.py"], read: []')
    with crew.start() as running:
        client = running.client()
        eventually(lambda: kept(crew, "a", "up").exists())
        killed = client.stop_agent("a", 8000, "bye")
        assert killed.terminated.kill_us == 0
        assert kept(crew, "a", "heard").read_text() == "shutdown\n"
        params = json.loads(kept(crew, "a", "params").read_text())
        assert params["kind"] == "shutdown" and params["reason"] == "bye" and 7000 < params["grace_ms"] <= 8000
        assert kept(crew, "a", "eof").exists() and not kept(crew, "a", "term").exists()


def test_a_program_that_waits_for_messages_gets_the_word(runner):
    crew = Crew(runner).agent("a")
    with crew.start() as running:
        client = running.client()
        task = client.submit(agent="a", description=RECEIVE)
        eventually(lambda: kept(crew, "a", "up").exists())
        client.stop_agent("a", 30000, "time to go")
        letter = task.result(60)["result"]  # its result still counts
        assert letter["kind"] == "shutdown" and letter["reason"] == "time to go"


def test_down_waits_for_the_grace_and_then_kills(runner):
    crew = Crew(runner).agent("a").agent("b")
    with crew.start() as running:
        client = running.client()
        client.submit(agent="a", description=GRACEFUL)
        client.submit(agent="b", description="signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
                                             "open(os.environ['CREW_STATE'] + '/up', 'w').close(); time.sleep(600)")
        eventually(lambda: kept(crew, "a", "up").exists() and kept(crew, "b", "up").exists())
        started = time.monotonic()
        r = runner.crewctl("down", "--grace", "2s")
        took = time.monotonic() - started
        assert r.returncode == 0 and 1.9 <= took < 20, (took, r.stderr)
        assert kept(crew, "a", "saved").read_text() == "on term"
        assert running.proc.wait(60) == 0


def test_the_grace_is_shown_as_it_runs_on_a_terminal(runner):
    crew = Crew(runner).agent("a")
    with crew.start() as running:
        client = running.client()
        client.submit(agent="a", description="signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
                                             "open(os.environ['CREW_STATE'] + '/up', 'w').close(); time.sleep(600)")
        eventually(lambda: kept(crew, "a", "up").exists())
        r = runner.run("script", "-qec", runner.program("crewctl") + " stop --agent a --grace 3s", "/dev/null",
                       env={"TERM": "xterm"})
        assert re.search("agent a was asked to end: [0-3]s of 3s", r.stdout), r.stdout
        assert "Agent a did not end and was killed." in r.stdout
